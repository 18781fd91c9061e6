"""What the command line checks and measures of a run's files."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from b2cal_caf.root_files import root_damage
from b2cal_core.errors import ConfigurationError
from b2cal_core.filters import INPUT_DATA_FILTERS
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from b2cal_core.settings import DATA_FORMATS


def problems_of(record: RunRecord, *, checksums: bool = False) -> tuple[str, ...]:
    """What is wrong with the files of a run, one sentence each; files are read only if ``checksums`` are asked for."""
    found = (_problem(file, checksums=checksums) for file in record.files)
    return tuple(problem for problem in found if problem)


def _problem(file: DataFile, *, checksums: bool) -> str | None:
    path = Path(file.path)
    if not path.is_absolute():
        return f"{path} is not an absolute path"
    try:
        size = path.stat().st_size
        if size != file.size:
            return f"{path} has {size} bytes where {file.size} are announced"
        if checksums and _sha256(path) != file.checksum:
            return f"{path} does not have the checksum that is announced"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def measured_file(text: str) -> DataFile:
    """The file described as ``TAG:FORMAT:PATH``, with its events, size and checksum.

    Raises:
        ConfigurationError: the text has not this form, or the file is no ROOT file with a ``tree``.
    """
    tag, _, rest = text.partition(":")
    data_format, _, name = rest.partition(":")
    if not name:
        raise ConfigurationError(
            f"a file is given as TAG:FORMAT:PATH, for example hadron_calib:raw:/data/f.root, got {text!r}"
        )
    _require_value("Data Tag", tag)
    if data_format not in DATA_FORMATS:
        raise ConfigurationError(f"unknown data format {data_format!r}; known are {', '.join(sorted(DATA_FORMATS))}")
    path = Path(name).absolute()
    return DataFile(str(path), tag, data_format, _events(path), path.stat().st_size, _sha256(path))


def _events(path: Path) -> int:
    import uproot

    try:
        damage = root_damage(path)
        if damage is not None:
            raise ConfigurationError(f"{path} cannot be registered: {damage}")
        with uproot.open(path) as root:
            return int(root["tree"].num_entries)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise ConfigurationError(f"{path} has no tree called 'tree', so its events cannot be counted") from error


def described_run(
    run: ExpRun,
    known: RunRecord | None,
    *,
    labels: tuple[str | None, str | None, str | None],
    quality: Sequence[str] | None,
    times: tuple[datetime | None, datetime | None],
    files: Iterable[str],
) -> RunRecord:
    """The run as described, over what is known of it; for a new run the times are needed.

    Args:
        run: its number.
        known: the record to be changed, or none.
        labels: run type, beam energy and magnet, each none to leave it as it is.
        quality: all quality tags of the run, or none to leave them.
        times: start and end in UTC, or none to leave them.
        files: described as ``measured_file`` takes them; one with the path of a known file replaces that.
    """
    record = known or _blank(run, times)
    for category, value in zip(("Run Type", "Beam Energy", "Magnet"), labels, strict=True):
        if value is not None:
            _require_value(category, value)
    for value in quality or ():
        _require_value("Data Quality Tag", value)
    given = {file.path: file for file in map(measured_file, files)}
    run_type, energy, magnet = labels
    return replace(
        record,
        run_type=record.run_type if run_type is None else run_type,
        beam_energy=record.beam_energy if energy is None else energy,
        magnet=record.magnet if magnet is None else magnet,
        quality=record.quality if quality is None else frozenset(quality),
        started=_utc(times[0]) or record.started,
        ended=_utc(times[1]) or record.ended,
        files=tuple(({file.path: file for file in record.files} | given).values()),
    )


def _blank(run: ExpRun, times: tuple[datetime | None, datetime | None]) -> RunRecord:
    started, ended = map(_utc, times)
    if started is None or ended is None:
        raise ConfigurationError(f"{run} is not registered yet; give --started and --ended with it")
    if ended < started:
        raise ConfigurationError(f"{run} cannot end ({ended}) before it starts ({started})")
    return RunRecord(run, "physics", "4S", "On", frozenset(), started, ended)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _require_value(category: str, value: str) -> None:
    known = INPUT_DATA_FILTERS[category]
    if value not in known:
        raise ConfigurationError(f"{value!r} is no {category.lower()}; known are {', '.join(map(repr, known))}")
