"""A demo that is killed again and again ends with the same tags as one that nobody disturbed."""

from pathlib import Path
from typing import Any

import pytest
from demo_process import buckets_of, complete_demo, decisions_of, run_until, start_demo, tags_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FIRST, SECOND = "e0012r00001-e0012r00003", "e0012r00004-e0012r00006"
KILLS = (
    "simulating runs: 2 of 6",
    "simulating runs: 6 of 6",
    "6 runs in 2 buckets",
    f"{FIRST}: tz0 running collector",
    f"{FIRST}: tz0 running algorithms, iteration 1",
    f"{FIRST}: tz0 completed",
    f"{FIRST}: svd_time collector completed",
    rf"{FIRST}: cdst \d of 6 jobs done",
    f"{FIRST}: wiregain0 running algorithms",
    f"{FIRST}: ecl_energy_merge completed",
    f"{FIRST}: publishing, open IoVs closed",
    f"{SECOND}: tz0 running collector",
    f"{SECOND}: publishing, new IoVs created",
)
"""In the order of the work: each demo is killed when it says this."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A demo that ran in one go."""
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    return home, complete_demo(home)


def test_the_undisturbed_demo_closes_and_publishes_every_bucket(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    _, answer = undisturbed
    assert answer["closed"]
    assert [bucket["published"] for bucket in answer["buckets"]] == [True, True]
    assert len(answer["buckets"][0]["calibrations"]) == 8
    assert not answer["repeated_nothing"]


def test_a_second_demo_on_the_same_home_repeats_nothing(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    home, _ = undisturbed
    before = tags_of(home)
    answer = complete_demo(home)
    assert answer["repeated_nothing"]
    assert answer["closed"]
    assert answer["seconds"]["collectors"] == answer["seconds"]["fits"] == answer["seconds"]["validation"] == 0
    assert tags_of(home) == before


def test_a_demo_killed_at_many_points_ends_with_the_same_tags(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    reference, _ = undisturbed
    home = tmp_path / "killed" / "home"
    for marker in KILLS:
        process = start_demo(home)
        lines = run_until(process, marker)
        assert process.returncode == -9, f"{marker!r} was not seen:\n" + "\n".join(lines[-20:])
    answer = complete_demo(home)
    assert answer["closed"]
    assert tags_of(home) == tags_of(reference)
    assert buckets_of(home) == buckets_of(reference) == [FIRST, SECOND]
    assert decisions_of(home) == decisions_of(reference)


def test_two_demos_on_one_home_do_not_mix(tmp_path: Path) -> None:
    home = tmp_path / "shared" / "home"
    first = start_demo(home)
    assert first.stderr is not None
    with first.stderr:
        for line in first.stderr:
            if "simulating runs: 0 of 6" in line:
                break
        second = start_demo(home)
        lines = run_until(second, None)
        assert second.returncode == 1
        assert lines == [
            f"b2cal: a demo is running on {home} (process {first.pid}); wait for its end or choose another --home"
        ]
        first.kill()
        first.wait()
