"""When something breaks: one clear error that says what to do; the rest goes on; nothing published changes."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from failing_home import OPEN, FailingHome, prepare

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> FailingHome:
    return prepare(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def place(prepared: FailingHome, tmp_path: Path) -> FailingHome:
    return prepared.copy(tmp_path)


def only_error(text: str) -> str:
    """What follows ``b2cal:``; fails unless there is exactly one error and no trace of the program."""
    assert text.count("b2cal: ") == 1, text
    assert "Traceback" not in text
    return text[text.index("b2cal: ") :]


def test_without_a_failure_the_bucket_is_published(place: FailingHome) -> None:
    before = place.target()
    assert place.work().code == 0
    assert place.is_published()
    assert place.target() != before


def test_a_broken_script_fails_alone_with_file_and_line(place: FailingHome) -> None:
    before = place.target()
    script = place.scripts / "caf_top.py"
    whole = script.read_text()
    script.write_text("import nothing_of_this_name\n" + whole)
    answer = place.work()
    assert answer.code == 1
    error = only_error(answer.err)
    assert f"script {script} cannot be imported: line 1: ModuleNotFoundError" in error
    assert place.payloads_exist("caf_svd_time")
    assert not place.payloads_exist("TOP common T0")
    assert place.target() == before
    script.write_text(whole)
    assert place.work().code == 0
    assert place.is_published()


def test_a_dependency_cycle_is_refused_and_the_former_catalogue_stays(place: FailingHome) -> None:
    script = place.scripts / "caf_cdc.py"
    script.write_text(
        script.read_text().replace('    subsystem="cdc",', '    subsystem="cdc",\n    depends_on=("caf_svd_time",),')
    )
    answer = place.b2cal("catalogue", "import", place.scripts, "--release", "reference")
    assert answer.code == 1
    assert "dependencies form a cycle: CDC Tracking -> caf_svd_time -> CDC Tracking" in only_error(answer.err)
    assert "remove one of these from depends_on" in answer.err
    assert place.work().code == 0
    assert place.is_published()


def test_a_calibration_without_enough_data_waits_alone_until_somebody_chooses(place: FailingHome) -> None:
    before = place.target()
    place.change_campaign(expert_config={"TOP common T0": {"min_entries": 10_000_000}})
    answer = place.work()
    assert answer.code == 0
    assert "TOP common T0 has not enough data" in answer.out
    command = f"bucket data prompt {OPEN} top_common_t0 merge|extend|reuse"
    assert f"b2cal {command}" in answer.out
    assert place.payloads_exist("caf_svd_time")
    assert place.target() == before
    place.ok(*command.replace("merge|extend|", "").split(), "--reason", "beam off")
    assert place.work().code == 0
    assert place.payloads_exist("TOP common T0")


def test_corrupt_input_files_are_left_out_by_name_and_the_rest_goes_on(place: FailingHome) -> None:
    place.change_campaign(expert_config={"caf_svd_time": {"min_hits": 1}})
    run = place.home.data / "e0012" / "r00005"
    truncated, foreign = (min((run / tag).rglob("*.root")) for tag in ("hadron_calib", "mumu_tight_or_highm_calib"))
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    foreign.write_bytes(b"no ROOT file")
    answer = place.work()
    assert answer.code == 0, answer.err
    assert re.search(f"{truncated}.*truncated", answer.err), answer.err
    assert re.search(f"{foreign}.*this is no ROOT file", answer.err), answer.err
    assert place.is_published()


def test_input_files_that_are_all_corrupt_fail_with_their_names(place: FailingHome) -> None:
    before = place.target()
    for file in place.home.data.rglob("*.root"):
        if file.parts[-4] in {"r00004", "r00005", "r00006"}:
            file.write_bytes(b"no ROOT file")
    answer = place.work()
    assert answer.code == 1
    error = only_error(answer.err)
    assert "hadron_calib" in error
    assert "this is no ROOT file" in error
    assert place.target() == before


def small_disk(directory: Path, size: str) -> list[str]:
    """A command that starts another with a small disk at ``directory`` of its own; skips where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("there is no unshare")
    maps = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    start = [
        unshare,
        *maps,
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size={size} none "{directory}" && exec "$@"',
        "-",
    ]
    if subprocess.run([*start, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    return start


@pytest.mark.parametrize("size", ["60k", "400k"])
def test_a_full_disk_is_told_and_the_same_command_goes_on_when_there_is_room(place: FailingHome, size: str) -> None:
    before = place.target()
    directory = place.home.work("prompt", OPEN)
    directory.mkdir(parents=True)
    answer = place.b2cal("bucket", "run", "prompt", OPEN, before=small_disk(directory, size))
    assert answer.code == 1
    error = only_error(answer.err)
    assert re.search("disk is full|No space left|no room left", error), error
    assert re.search("free some space|make room", error), error
    assert place.target() == before
    assert place.work().code == 0
    assert place.is_published()


def test_a_registry_that_is_down_is_told_and_nothing_is_lost(place: FailingHome) -> None:
    before = place.target()
    away = place.home.path / "registry.away"
    shutil.move(place.home.registry, away)
    for rest in place.home.path.glob("registry.db-*"):
        rest.unlink()
    place.home.registry.write_bytes(b"this is no database, whatever it once was" * 200)
    answer = place.work()
    assert answer.code == 1
    error = only_error(answer.err)
    assert f"{place.home.registry}" in error
    assert "the file is no database; put back a copy" in error
    shutil.move(away, place.home.registry)
    assert place.target() == before
    assert place.work().code == 0
    assert place.is_published()
