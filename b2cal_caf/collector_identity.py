"""What a collector is: written down for a job in another process, and hashed for the cache.

Its identity is its class, the source of every module of ours or the expert's that the class leans on, and its fields.
"""

import hashlib
import importlib
import sys
import sysconfig
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError

from b2cal_caf.calibration import Collector
from b2cal_caf.scripts import is_script, load_script
from b2cal_core.errors import ConfigurationError

_PLATFORM = ("b2cal_core", "b2cal_caf")
"""Packages whose changes are told by the format version instead."""


def describe(collector: Collector) -> dict[str, Any]:
    """The collector as JSON holds it.

    Raises:
        ConfigurationError: its class cannot be found again by name, or a field cannot be written as JSON.
    """
    kind = type(collector)
    if "<locals>" in kind.__qualname__:
        msg = f"collector {kind.__qualname__} is defined inside a function; define it at the top level of its module"
        raise ConfigurationError(msg)
    module = sys.modules[kind.__module__]
    script = str(_file_of(module)) if is_script(kind.__module__) or kind.__module__ == "__main__" else None
    described = {"module": kind.__module__, "script": script, "class": kind.__qualname__, "fields": _fields(collector)}
    if _fields(_revive_fields(kind, described["fields"])) != described["fields"]:
        msg = (
            f"the fields of collector {kind.__qualname__} do not survive JSON: {described['fields']}; use plainer types"
        )
        raise ConfigurationError(msg)
    return described


def revive(described: dict[str, Any]) -> Collector:
    """The collector that was described."""
    script = described["script"]
    module = importlib.import_module(described["module"]) if script is None else load_script(Path(script))
    kind: Any = module
    for part in described["class"].split("."):
        kind = getattr(kind, part)
    return _revive_fields(kind, described["fields"])


def code_hash(thing: type | ModuleType) -> str:
    """A hash of the sources that a class, or a module, leans on: its own and those of the expert's modules it uses."""
    kinds = thing.__mro__ if isinstance(thing, type) else ()
    modules = {kind.__module__ for kind in kinds} if kinds else {getattr(thing, "__name__", "")}
    return _hash_of_modules(frozenset(modules))


def _hash_of_modules(names: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(_closure(names).items(), key=lambda item: item[1].name):
        digest.update(
            f"{file.name if is_script(name) else name}\n".encode() + hashlib.sha256(file.read_bytes()).digest()
        )
    return digest.hexdigest()


def _closure(names: frozenset[str]) -> dict[str, Path]:
    """The expert's modules among these and those whose contents they use, with their files."""
    found: dict[str, Path] = {}
    todo = [name for name in names if name not in _PLATFORM]
    owners = {name.partition(".")[0] for name in names}
    while todo:
        name = todo.pop()
        module = sys.modules.get(name)
        file = _file_of(module) if module is not None else None
        if file is None or name in found or not _is_experts(name, file, owners):
            continue
        found[name] = file
        for value in list(vars(module).values()):
            used = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if isinstance(used, str):
                todo.append(used)
    return found


def _is_experts(name: str, file: Path, owners: set[str]) -> bool:
    package = name.partition(".")[0]
    if package in _PLATFORM or package in sys.stdlib_module_names:
        return False
    return package in owners or not any(file.is_relative_to(place) for place in _installed())


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib", "platstdlib")})


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file and file.endswith(".py") else None


def _fields(collector: Collector) -> Any:  # noqa: ANN401 (JSON)
    kind = type(collector)
    if not is_dataclass(collector):
        msg = f"collector {kind.__qualname__} must be a frozen dataclass, so that its configuration can be written down"
        raise ConfigurationError(msg)
    try:
        return TypeAdapter(kind).dump_python(collector, mode="json", warnings="none")
    except (PydanticSchemaGenerationError, PydanticUserError, PydanticSerializationError, NameError) as error:
        msg = f"the fields of collector {kind.__qualname__} cannot be written as JSON: {error}"
        raise ConfigurationError(msg) from error


def _revive_fields(kind: type, fields: Any) -> Collector:  # noqa: ANN401 (JSON)
    try:
        collector: Collector = TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        msg = f"collector {kind.__qualname__} cannot be made from its written fields: {error}"
        raise ConfigurationError(msg) from error
    return collector
