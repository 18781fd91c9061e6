"""Loading calibration and validation scripts: Python files with ``settings`` and one function of a known name."""

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from b2cal_core.errors import ConfigurationError
from b2cal_core.settings import CalibrationSettings, Catalogue, ValidationSettings

_PREFIX = "b2cal_script_"
_Settings = TypeVar("_Settings", CalibrationSettings, ValidationSettings)


def load_script(path: Path) -> ModuleType:
    """Import the script, once per content, so that classes defined in it stay the same while it is unchanged.

    Raises:
        ConfigurationError: it cannot be read or imported; the message names file, line and exception.
    """
    path = path.resolve()
    try:
        source = path.read_bytes()
    except OSError as error:
        msg = f"script {path} cannot be read: {error.strerror}"
        raise ConfigurationError(msg) from error
    name = _module_name(path, source)
    return sys.modules[name] if name in sys.modules else _import(path, source, name)


def is_script(module_name: str) -> bool:
    """Whether a module of this name was loaded by ``load_script``."""
    return module_name.startswith(_PREFIX)


def read_settings(path: Path) -> CalibrationSettings:
    """The ``settings`` of a calibration script, which must have ``get_calibrations`` too."""
    _function(load_script(path), path, "get_calibrations")
    return _settings(path, CalibrationSettings)


def read_validation(path: Path) -> ValidationSettings:
    """The ``settings`` of a validation script, which must have ``run_validation`` too."""
    _function(load_script(path), path, "run_validation")
    return _settings(path, ValidationSettings)


def script_function(path: Path, name: str) -> Callable[..., Any]:
    """The function of that name in the script."""
    return _function(load_script(path), path, name)


def read_catalogue(directory: Path) -> Catalogue:
    """The catalogue of all ``caf_*.py`` in the directory, by file name.

    Raises:
        ConfigurationError: the directory holds none, or one of them cannot be used.
        CatalogueError: they do not fit together.
    """
    scripts = sorted(directory.glob("caf_*.py"))
    if not scripts:
        msg = f"directory {directory} holds no calibration script (caf_*.py)"
        raise ConfigurationError(msg)
    return Catalogue({path.stem: read_settings(path) for path in scripts})


def _module_name(path: Path, source: bytes) -> str:
    digest = hashlib.sha256(str(path).encode() + b"\0" + source).hexdigest()[:16]
    return f"{_PREFIX}{re.sub(r'[^0-9A-Za-z_]', '_', path.stem)}_{digest}"


def _import(path: Path, source: bytes, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        msg = f"script {path} is no Python file; its name must end in .py"
        raise ConfigurationError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # The bytes just hashed are the ones that run; a cached bytecode file might belong to other ones.
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 (running the expert's script is the purpose)
    except Exception as error:
        del sys.modules[name]
        msg = f"script {path} cannot be imported: {_where(error, path)}{type(error).__name__}: {error}"
        raise ConfigurationError(msg) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _where(error: Exception, path: Path) -> str:
    """The line of the script in which the error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""


def _function(module: ModuleType, path: Path, name: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        msg = f"script {path} must define a function {name}(...)"
        raise ConfigurationError(msg)
    return function  # type: ignore[no-any-return]


def _settings(path: Path, kind: type[_Settings]) -> _Settings:
    settings = getattr(load_script(path), "settings", None)
    if not isinstance(settings, kind):
        found = "none" if settings is None else f"a {type(settings).__name__}"
        msg = f"script {path} must define settings as a {kind.__name__}, it has {found}"
        raise ConfigurationError(msg)
    return settings
