"""The input files of a request as ``b2caf-prompt-run`` takes them: directories, of which it takes every ``*.root``.

Files that would make a collector job fail (missing, damaged, without events) are left out first. Files that are all
that lies below their directory are given by it; where some of a directory are not asked for, the tool is given a
directory of links to those that are. Scripts then see the names of the links.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.root_files import open_root, root_damage
from b2cal_core.ports import CafRequest
from b2cal_core.ranges import ExpRun

_SUFFIX = ".root"


@dataclass(frozen=True, slots=True)
class OfferedFile:
    """A file that the script may use: its own path, the run it belongs to, and its number of events."""

    path: str
    run: ExpRun
    events: int


@dataclass(frozen=True)
class OfferedInputs:
    """What the tool is given.

    Attributes:
        directories: input name to (directory, run), in the order of the request.
        files: path as the tool sees it, absolute, to the file.
        rejected: file to the reason it was left out.
    """

    directories: Mapping[str, tuple[tuple[str, ExpRun], ...]]
    files: Mapping[str, OfferedFile]
    rejected: Mapping[str, str]

    def find(self, name: str) -> OfferedFile | None:
        """The file that basf2 calls by this path, that of the link or its own."""
        return self.files.get(name) or self._by_own_path.get(name)

    def own_path(self, name: str) -> Path:
        """The path of the file itself that basf2 calls by this one."""
        found = self.find(name)
        return Path(name if found is None else found.path)

    @cached_property
    def _by_own_path(self) -> Mapping[str, OfferedFile]:
        return {file.path: file for file in self.files.values()}

    def as_json(self) -> dict[str, list[list[object]]]:
        """``input_data.json``."""
        return {name: [[place, list(run)] for place, run in places] for name, places in self.directories.items()}


def offer_inputs(request: CafRequest, links: Path) -> OfferedInputs:
    """Look at the files, and make the directories of links that are needed below ``links``, which is made anew."""
    shutil.rmtree(links, ignore_errors=True)
    directories: dict[str, tuple[tuple[str, ExpRun], ...]] = {}
    offered: dict[str, OfferedFile] = {}
    rejected: dict[str, str] = {}
    for name, pairs in request.input_data.items():
        places = []
        for number, ((parent, run), files) in enumerate(_grouped(_usable(pairs, rejected)).items()):
            linked = links / quote(name, safe="") / f"e{run.exp:04d}r{run.run:05d}_{number}"
            place = parent if _is_all_below(parent, files) else _link(files, linked)
            places.append((str(place), run))
            offered |= {str(place / file.name): OfferedFile(str(file), run, events) for file, events in files.items()}
        directories[name] = tuple(places)
    return OfferedInputs(directories, offered, rejected)


def keep_inputs(file: Path, inputs: OfferedInputs) -> None:
    """Write down what the tool is given."""
    files = {seen: [given.path, *given.run, given.events] for seen, given in inputs.files.items()}
    write_json(file, {"files": files, "rejected": dict(inputs.rejected), "directories": inputs.as_json()})


def kept_inputs(file: Path) -> OfferedInputs:
    """What a predecessor gave to the tool; nothing when it is not written down."""
    kept = read_json(file) or {"files": {}, "rejected": {}, "directories": {}}
    return OfferedInputs(
        {n: tuple((place, ExpRun(*run)) for place, run in places) for n, places in kept["directories"].items()},
        {seen: OfferedFile(path, ExpRun(exp, run), events) for seen, (path, exp, run, events) in kept["files"].items()},
        kept["rejected"],
    )


def requested_files(pairs: Iterable[tuple[Path, ExpRun]]) -> Iterator[tuple[Path, ExpRun]]:
    """Every file with its run; a directory stands for every ``*.root`` in it."""
    for path, run in pairs:
        absolute = path.absolute()
        for file in sorted(absolute.glob(f"*{_SUFFIX}")) if absolute.is_dir() else (absolute,):
            yield file, run


def _usable(pairs: Iterable[tuple[Path, ExpRun]], rejected: dict[str, str]) -> dict[Path, tuple[ExpRun, int]]:
    """File to run and events of those that can be used; the others go to ``rejected``."""
    usable: dict[Path, tuple[ExpRun, int]] = {}
    for file, run in requested_files(pairs):
        if file in usable:
            rejected[str(file)] = "it is listed twice"
            continue
        reason, events = _look_at(file)
        if reason is None:
            usable[file] = run, events
        else:
            rejected[str(file)] = reason
    return usable


def _look_at(file: Path) -> tuple[str | None, int]:
    """Why the file cannot be used, if so, and how many events it holds."""
    if file.suffix != _SUFFIX:
        return f"b2caf-prompt-run takes files called *{_SUFFIX} only", 0
    try:
        damage = root_damage(file)
    except FileNotFoundError:
        return "it does not exist", 0
    except OSError as error:
        return f"it cannot be read: {error.strerror}", 0
    if damage is not None:
        return damage, 0
    try:
        with open_root(file) as root:
            events = int(root["tree"].num_entries)
    except Exception as error:  # noqa: BLE001 (one unreadable file among thousands is reported, not fatal)
        return f"its events cannot be counted: {type(error).__name__}: {error}", 0
    return (None, events) if events else ("it holds no events", 0)


def _grouped(usable: Mapping[Path, tuple[ExpRun, int]]) -> dict[tuple[Path, ExpRun], dict[Path, int]]:
    """The files of one directory and run together, in the order of their first ones."""
    groups: dict[tuple[Path, ExpRun], dict[Path, int]] = {}
    for file, (run, events) in usable.items():
        groups.setdefault((file.parent, run), {})[file] = events
    return groups


def _is_all_below(directory: Path, files: Mapping[Path, int]) -> bool:
    return all(found in files for found in directory.rglob(f"*{_SUFFIX}"))


def _link(files: Iterable[Path], directory: Path) -> Path:
    directory.mkdir(parents=True)
    for file in files:
        (directory / file.name).symlink_to(file)
    return directory
