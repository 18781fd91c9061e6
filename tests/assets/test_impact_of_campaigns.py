"""What is affected, asked of a campaign whose buckets were really worked."""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from asset_fakes import BASE, BUCKET_1, BUCKET_2, TARGET, Laboratory
from lab_commands import CommandLine
from test_redos import HonestCaf

from b2cal_assets.bucket_runs import BucketRunner
from b2cal_assets.definitions import build_definitions
from b2cal_core.errors import BackendError
from b2cal_core.impact import Sample
from b2cal_core.payloads import Release
from b2cal_core.ports import ConditionsDB
from b2cal_core.ranges import IoV
from resources.conditions.publisher import Publisher
from resources.impact.cells import Cells
from resources.impact.opened import open_search, tables
from resources.impact.simulation import all_samples
from sensors.impact_tables import impact_tables_sensor

MakeLaboratory = Callable[..., Laboratory]
EVERYTHING = ["BeamSpot", "CDCTimeZeros", "CollisionEnergy", "SVDTimes", "TOPCommonT0"]


@pytest.fixture
def worked(laboratory: MakeLaboratory) -> Laboratory:
    return work_two(laboratory())


@pytest.fixture
def simulated(laboratory: MakeLaboratory) -> Laboratory:
    return work_two(laboratory(caf=HonestCaf(), campaign={"kind": "run_dependent_mc"}))


def work_two(lab: Laboratory) -> Laboratory:
    """Both buckets calibrated, the first one published."""
    lab.book(BUCKET_1, BUCKET_2)
    runner = BucketRunner(lab.plan, lab.workshop(), instance=lab.instance)
    assert runner.work(BUCKET_1).ok
    assert runner.work(BUCKET_2, only=list(lab.plan.calibrations[:2])).ok
    return lab


def ask(lab: Laboratory, name: str, iov: IoV, **choice: Any) -> dict[str, Any]:
    search = open_search(lab.home, lab.store, lab.conditions, left_out=pytest.fail)
    return search.ask(name, iov, **choice).to_json()


def test_a_constant_of_the_first_bucket_affects_that_bucket_only(worked: Laboratory) -> None:
    found = ask(worked, "CDCTimeZeros", IoV(12, 2, 12, 3))
    assert {line["name"]: line["tags"] for line in found["payloads"]} == {name: [TARGET] for name in EVERYTHING}
    assert all(line["iovs"] == [[12, 1, 12, 4]] for line in found["payloads"])
    # of two runs the constant is another, in the other two SVDTimes, which is made anew from all four
    assert [(line["cells"], line["iovs"]) for line in found["cdst"]] == [(4, [[12, 1, 12, 4]])]


def test_what_is_not_published_yet_is_found_in_its_staging_tag(worked: Laboratory) -> None:
    found = ask(worked, "CDCTimeZeros", BUCKET_2.iov)
    staging = worked.plan.staging_tag(BUCKET_2)
    assert {line["name"]: line["tags"] for line in found["payloads"]} == {
        "CDCTimeZeros": [staging],
        "SVDTimes": [staging],
    }
    assert found["cdst"] == []


def test_what_comes_last_affects_nothing_else(worked: Laboratory) -> None:
    found = ask(worked, "CollisionEnergy", IoV(0, 0, -1, -1))
    assert [(line["name"], line["through"]) for line in found["payloads"]] == [("CollisionEnergy", [])]
    assert found["cdst"] == []


def evaluated(lab: Laboratory, sensor: dg.SensorDefinition, cursor: str | None = None) -> tuple[str | None, str]:
    """The cursor after one tick, and what the tick says."""
    resources = {"workshop": lab.workshop()}
    with dg.build_sensor_context(instance=lab.instance, cursor=cursor, resources=resources) as context:
        answer = sensor(context)
    assert isinstance(answer, dg.SensorResult)
    return answer.cursor, str(answer.skip_reason)


def test_after_a_publish_the_service_makes_the_table_ready_once(worked: Laboratory) -> None:
    definitions = build_definitions(worked.home, plans=[worked.plan], workshop=worked.workshop())
    (sensor,) = (one for one in definitions.sensors or () if one.name == "impact_tables")
    assert isinstance(sensor, dg.SensorDefinition)
    cursor, said = evaluated(worked, sensor)
    assert "the tables have what was published" in said
    (file,) = tables(worked.home).glob("tag_*.npz")
    kept = Cells.load(file)
    assert kept is not None
    assert kept.version == worked.conditions.fingerprint(TARGET)
    file.unlink()
    assert "nothing was published since" in evaluated(worked, sensor, cursor)[1]
    assert not file.exists()


def test_a_table_that_could_not_be_made_is_made_by_the_next_tick(worked: Laboratory) -> None:
    grown: list[str] = []

    def grow(_: ConditionsDB, tag: str) -> None:
        grown.append(tag)
        if len(grown) == 1:
            raise BackendError("the database does not answer", transient=True)

    sensor = impact_tables_sensor([worked.plan], grow)
    cursor, said = evaluated(worked, sensor)
    assert "the database does not answer" in said
    cursor, _ = evaluated(worked, sensor, cursor)
    evaluated(worked, sensor, cursor)
    assert grown == [TARGET, TARGET]


def test_a_campaign_that_cannot_be_read_is_left_out_and_said_so(worked: Laboratory) -> None:
    (worked.home.campaigns / "spoiled.yaml").write_text("name: [")
    told: list[str] = []
    search = open_search(worked.home, worked.store, worked.conditions, left_out=told.append)
    assert len(search.ask("CDCTimeZeros", IoV(0, 0, -1, -1)).payloads) == 5
    assert len(told) == 1
    assert told[0].startswith("campaign spoiled is left out: ")


def test_the_command_lists_payloads_files_and_samples(worked: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    b2cal = CommandLine(worked, capsys)
    b2cal("impact", "sample", "add", "mc16", "--runs", "12", "1", "12", "2", "--tag", TARGET)
    b2cal("impact", "sample", "add", "mc17", "--runs", "12", "3", "12", "4", "--tag", TARGET)
    assert [one["sample"] for one in json.loads(b2cal("impact", "sample", "list", "--json"))] == ["mc16", "mc17"]
    change = ("CDCTimeZeros", "--iov", "12", "1", "12", "1")
    shown = b2cal("impact", "show", *change)
    assert "it changes itself" in shown
    assert "CDC Tracking" in shown
    found = json.loads(b2cal("impact", "show", *change, "--campaign", "prompt", "--json"))
    assert sorted(line["name"] for line in found["payloads"]) == EVERYTHING
    reached = {one["sample"]: one["through"] for one in found["samples"]}
    # the second sample stands for runs in which CDCTimeZeros stays; what was made anew from it is valid there, too
    assert reached == {"mc16": EVERYTHING, "mc17": [name for name in EVERYTHING if name != "CDCTimeZeros"]}
    b2cal("impact", "sample", "remove", "mc17")
    assert "mc17" not in b2cal("impact", "sample", "list")
    assert tables(worked.home).is_dir()


SAMPLE = f"prompt_{BUCKET_1.key}"


def test_the_runs_of_a_published_bucket_are_a_sample_where_a_campaign_is_for_simulation(simulated: Laboratory) -> None:
    (affected,) = ask(simulated, "CDCTimeZeros", IoV(12, 1, 12, 1))["samples"]
    assert affected == {"sample": SAMPLE, "tag": TARGET, "iov": [12, 1, 12, 4], "through": EVERYTHING}
    assert ask(simulated, "CDCTimeZeros", BUCKET_2.iov)["samples"] == []


def test_only_campaigns_for_simulation_have_samples_by_themselves(worked: Laboratory) -> None:
    assert ask(worked, "CDCTimeZeros", BUCKET_1.iov)["samples"] == []


def test_a_publish_that_is_taken_back_takes_its_sample_along(simulated: Laboratory) -> None:
    (simulated.home.campaigns / "spoiled.yaml").write_text("name: [")
    samples = all_samples(simulated.home, simulated.store, simulated.conditions)
    assert samples == (Sample(SAMPLE, TARGET, BUCKET_1.iov),)
    publisher = Publisher(simulated.conditions)
    (plan,) = publisher.history(TARGET)
    publisher.rollback(plan.plan_hash, Release("ada", "bob", "wrong runs"))
    assert all_samples(simulated.home, simulated.store, simulated.conditions) == ()


def test_what_a_person_noted_of_a_sample_stands_before_what_its_bucket_says(
    simulated: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    b2cal = CommandLine(simulated, capsys)
    assert SAMPLE in b2cal("impact", "sample", "list")
    b2cal("impact", "sample", "add", SAMPLE, "--runs", "12", "1", "12", "3", "--tag", TARGET)
    (sample,) = json.loads(b2cal("impact", "sample", "list", "--json"))
    assert sample == {"sample": SAMPLE, "tag": TARGET, "iov": [12, 1, 12, 3]}


def test_a_name_that_is_only_in_the_base_tag_affects_all_that_was_made_on_it(
    worked: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    b2cal = CommandLine(worked, capsys)
    link = worked.conditions.list_iovs(BASE)[0]
    b2cal("impact", "sample", "add", "mc", "--runs", "0", "0", "-1", "-1", "--tag", BASE)
    assert link.name in EVERYTHING  # the base tag has what the campaign makes, and that is not what is asked for
    assert json.loads(b2cal("impact", "show", link.name, "--json"))["samples"] == []


def test_what_cannot_be_answered_is_wrong_usage(worked: Laboratory, capsys: pytest.CaptureFixture[str]) -> None:
    b2cal = CommandLine(worked, capsys)
    assert "'nonsense'" in b2cal("impact", "show", "nonsense", code=2)
    assert "no campaign is called" in b2cal("impact", "show", "BeamSpot", "--campaign", "nonsense", code=2)
    assert "--iov" in b2cal("impact", "show", "BeamSpot", "--iov", "5", "0", "4", "0", code=2)
    assert "there is no global tag" in b2cal(
        "impact", "sample", "add", "mc", "--runs", "0", "0", "-1", "-1", "--tag", "nowhere", code=2
    )
    assert "no sample is called" in b2cal("impact", "sample", "remove", "mc", code=2)
    assert "no sample yet" in b2cal("impact", "sample", "list")
