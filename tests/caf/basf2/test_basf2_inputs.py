"""Which directories the tool is given for which files."""

from pathlib import Path

import pytest
from basf2_workbench import Basf2Workbench

from b2cal_core.ports import CafRequest
from b2cal_core.ranges import ExpRun, IoV
from resources.caf.basf2_inputs import OfferedInputs, keep_inputs, kept_inputs, offer_inputs

RUN = ExpRun(7, 1)


def offered(basf2: Basf2Workbench, **inputs: list[tuple[Path, ExpRun]]) -> OfferedInputs:
    listed = {name: tuple(pairs) for name, pairs in inputs.items()}
    request = CafRequest(basf2.place / "request", Path("caf_x.py"), (), IoV(7, 1, 7, 9), listed)
    return offer_inputs(request, basf2.place / "links")


def taken(inputs: OfferedInputs, name: str) -> list[str]:
    """What the tool finds below the directories it is given, as it looks for it."""
    return [
        str(path.resolve()) for place, _ in inputs.directories[name] for path in sorted(Path(place).glob("**/*.root"))
    ]


def test_a_whole_directory_is_given_by_itself(basf2: Basf2Workbench) -> None:
    one, two = (basf2.file(f"run/raw/{name}.root", 3) for name in "ab")
    for pairs in ([(one.parent, RUN)], [(one, RUN), (two, RUN)]):
        inputs = offered(basf2, beam=pairs)
        assert inputs.directories == {"beam": ((str(one.parent), RUN),)}
        assert taken(inputs, "beam") == [str(one), str(two)]
    assert not (basf2.place / "links").exists()


def test_some_files_of_a_directory_are_given_by_links_to_them(basf2: Basf2Workbench) -> None:
    files = [basf2.file(f"run/{name}.root", 3) for name in "abc"]
    inputs = offered(basf2, beam=[(files[2], RUN), (files[0], RUN)])
    assert taken(inputs, "beam") == [str(files[0]), str(files[2])]
    assert {file.path for file in inputs.files.values()} == {str(files[0]), str(files[2])}
    (place, run) = inputs.directories["beam"][0]
    assert Path(place).is_relative_to(basf2.place / "links")
    assert run == RUN
    assert inputs.own_path(f"{place}/a.root") == files[0]
    assert inputs.own_path(str(files[0])) == files[0]
    assert inputs.own_path("/elsewhere.root") == Path("/elsewhere.root")


def test_a_directory_does_not_stand_for_what_lies_deeper(basf2: Basf2Workbench) -> None:
    above = basf2.file("run/a.root", 3)
    basf2.file("run/deeper/b.root", 3)
    assert taken(offered(basf2, beam=[(above.parent, RUN)]), "beam") == [str(above)]


def test_files_of_several_runs_in_one_directory_are_told_apart(basf2: Basf2Workbench) -> None:
    one, two = (basf2.file(f"all/{name}.root", 3) for name in "ab")
    inputs = offered(basf2, beam=[(one, ExpRun(7, 1)), (two, ExpRun(7, 2))])
    assert [run for _, run in inputs.directories["beam"]] == [ExpRun(7, 1), ExpRun(7, 2)]
    assert taken(inputs, "beam") == [str(one), str(two)]


def test_files_of_one_name_in_two_directories_do_not_get_into_each_others_way(basf2: Basf2Workbench) -> None:
    files = [basf2.file(f"{folder}/{name}.root", 3) for folder in ("x", "y") for name in "ab"]
    inputs = offered(basf2, beam=[(files[0], RUN), (files[2], RUN)], other=[(files[0], RUN)])
    assert taken(inputs, "beam") == [str(files[0]), str(files[2])]
    assert taken(inputs, "other") == [str(files[0])]


def test_files_that_would_make_a_job_fail_are_left_out_with_the_reason(basf2: Basf2Workbench) -> None:
    good, empty, cut, odd = (
        basf2.file(f"run/{name}", n)
        for name, n in (("good.root", 5), ("empty.root", 0), ("cut.root", 100), ("odd.dat", 5))
    )
    cut.write_bytes(cut.read_bytes()[:400])
    missing = basf2.place / "run" / "missing.root"
    inputs = offered(basf2, beam=[(file, RUN) for file in (good, empty, cut, odd, missing, good)], none=[])
    assert taken(inputs, "beam") == [str(good)]
    assert inputs.directories["none"] == ()
    reasons = {Path(file).name: reason for file, reason in inputs.rejected.items()}
    assert reasons.pop("cut.root").startswith("truncated, 400 of ")
    assert reasons == {
        "empty.root": "it holds no events",
        "missing.root": "it does not exist",
        "odd.dat": "b2caf-prompt-run takes files called *.root only",
        "good.root": "it is listed twice",
    }


def test_what_was_given_is_written_down_and_read_again(basf2: Basf2Workbench) -> None:
    files = [basf2.file(f"run/{name}.root", 3) for name in "ab"]
    inputs = offered(basf2, beam=[(files[0], RUN)])
    keep_inputs(basf2.place / "kept.json", inputs)
    assert kept_inputs(basf2.place / "kept.json") == inputs


@pytest.mark.parametrize("text", [None, "{"])
def test_nothing_is_known_of_inputs_that_are_not_written_down(basf2: Basf2Workbench, text: str | None) -> None:
    if text is not None:
        (basf2.place / "kept.json").write_text(text)
    assert kept_inputs(basf2.place / "kept.json") == OfferedInputs({}, {}, {})
