import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from cli_answers import CommandLine
from dagster._core.execution.backfill import BulkActionStatus

from b2cal_assets.bucket_runs import quiet_instance
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile, RunRecord
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry

SCRIPT = """
from b2cal_core.settings import CalibrationSettings
settings = CalibrationSettings(name="{name}", input_data_formats={{"raw"}}, input_data_names={{"hadron_calib"}},
                               depends_on={needs}, produced_payloads=("{name}Constants",))
def get_calibrations(input_data, **kwargs):
    return []
"""
CAMPAIGN = """
name: prompt
catalogue: r1
base_tags: [main]
target_tag: data_prompt
buckets: {runs: 2}
"""


def write_scripts(directory: Path, needs: dict[str, tuple[str, ...]]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, needed in needs.items():
        (directory / f"caf_{name.lower()}.py").write_text(SCRIPT.format(name=name, needs=needed))
    return directory


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    return write_scripts(tmp_path / "scripts", {"A": (), "B": ("A",)})


@pytest.fixture
def campaign_file(tmp_path: Path) -> Path:
    (tmp_path / "prompt.yaml").write_text(CAMPAIGN)
    return tmp_path / "prompt.yaml"


@pytest.fixture
def release(b2cal: CommandLine, scripts: Path) -> str:
    """What a campaign needs: scripts, and a tag with constants to start from."""
    b2cal.ok("catalogue", "import", scripts, "--release", "r1")
    b2cal.ok("cdb", "create", "main")
    return "r1"


@pytest.fixture
def campaign(b2cal: CommandLine, release: str, campaign_file: Path) -> str:
    b2cal.ok("campaign", "create", campaign_file)
    return "prompt"


def register_runs(b2cal: CommandLine, *runs: int, exp: int = 12) -> None:
    """Runs with a file each, without which they would not count towards a bucket."""
    started = datetime(2026, 1, 1, tzinfo=UTC)
    file = DataFile("/data/f.root", "hadron_calib", "raw", 10, 100, "ab" * 32)
    described = ("physics", "4S", "On", frozenset({"Good"}), started, started + timedelta(days=1), (file,))
    records = [RunRecord(ExpRun(exp, run), *described) for run in runs]
    EmbeddedRunRegistry(b2cal._home.create().registry_url).add(records)


def test_a_catalogue_is_imported_and_shown_in_order(b2cal: CommandLine, scripts: Path) -> None:
    answer = b2cal.ok("catalogue", "import", scripts, "--release", "r1", "--json")
    assert answer.json == {"release": "r1", "order": ["A", "B"]}
    assert "BConstants" in b2cal.ok("catalogue", "show").out
    assert b2cal.ok("catalogue", "show", "r1", "--script", "caf_b", "--json").json["depends_on"] == ["A"]
    assert "produced_payloads" in b2cal.ok("catalogue", "show", "r1", "--script", "b").out
    assert list(b2cal.ok("catalogue", "show", "r1", "--json").json) == ["caf_a", "caf_b"]


def test_a_catalogue_is_checked_without_a_home(b2cal: CommandLine, scripts: Path) -> None:
    assert b2cal.ok("catalogue", "check", scripts, "--json").json == {"valid": True, "order": ["A", "B"]}
    assert "2 calibrations fit together" in b2cal.ok("catalogue", "check", scripts).out


def test_a_dependency_cycle_is_told_with_its_path(b2cal: CommandLine, tmp_path: Path) -> None:
    broken = write_scripts(tmp_path / "broken", {"A": ("C",), "B": ("A",), "C": ("B",)})
    for command in (("check", broken), ("import", broken, "--release", "r2")):
        answer = b2cal("catalogue", *command)
        assert answer.code == 1
        assert "dependencies form a cycle: A -> C -> B -> A" in answer.err
    assert b2cal("catalogue", "show", "r2").code == 2


def test_a_broken_script_is_told_with_file_and_line(b2cal: CommandLine, scripts: Path) -> None:
    (scripts / "caf_b.py").write_text("import nothing_of_this_name\n")
    answer = b2cal("catalogue", "check", scripts)
    assert answer.code == 1
    assert "caf_b.py cannot be imported: line 1: ModuleNotFoundError" in answer.err


def test_a_validation_must_name_its_calibration(b2cal: CommandLine, scripts: Path) -> None:
    (scripts / "val_b.py").write_text(
        "from b2cal_core.settings import ValidationSettings\n"
        "settings = ValidationSettings(name='A')\n"
        "def run_validation(*args, **kwargs):\n    return []\n"
    )
    answer = b2cal("catalogue", "check", scripts)
    assert answer.code == 1
    assert "validates 'A', but should validate 'B'" in answer.err


def test_a_directory_without_scripts_is_told(b2cal: CommandLine, tmp_path: Path) -> None:
    assert "holds no calibration script" in b2cal("catalogue", "check", tmp_path).err
    assert b2cal("catalogue", "check", tmp_path / "absent").code == 2


def test_a_campaign_is_created_listed_and_shown(b2cal: CommandLine, campaign: str) -> None:
    (entry,) = b2cal.ok("campaign", "list", "--json").json
    assert (entry["campaign"], entry["target_tag"], entry["buckets"]) == ("prompt", "data_prompt", 0)
    shown = b2cal.ok("campaign", "show", "prompt", "--json").json
    assert shown["order"] == ["A", "B"]
    assert shown["update_mode"] == "allow_closed"
    assert "staging_{campaign}_{bucket}" in b2cal.ok("campaign", "show", "prompt").out


def test_a_spoiled_campaign_is_listed_with_what_is_wrong(b2cal: CommandLine, campaign: str, tmp_path: Path) -> None:
    (tmp_path / "home" / "campaigns" / "other.yaml").write_text("name: [")
    listed = b2cal.ok("campaign", "list", "--json").json
    assert [entry["campaign"] for entry in listed] == ["other", "prompt"]
    assert "is not YAML" in listed[0]["problem"]


def test_a_campaign_whose_scripts_are_gone_is_listed_with_what_is_wrong(
    b2cal: CommandLine, campaign: str, scripts: Path
) -> None:
    assert "problem" not in b2cal.ok("campaign", "list", "--json").json[0]
    scripts.rename(scripts.parent / "elsewhere")
    (entry,) = b2cal.ok("campaign", "list", "--json").json
    assert (entry["campaign"], entry["target_tag"]) == ("prompt", "data_prompt")
    assert "which is gone" in entry["problem"]


def test_a_campaign_file_is_checked_and_not_kept(b2cal: CommandLine, release: str, campaign_file: Path) -> None:
    checked = b2cal.ok("campaign", "check", campaign_file, "--json").json
    assert checked == {"valid": True, "campaign": "prompt", "warnings": []}
    assert b2cal.ok("campaign", "list", "--json").json == []


@pytest.mark.parametrize("command", ["check", "create"])
def test_a_campaign_that_cannot_work_is_refused_by_key(
    b2cal: CommandLine, scripts: Path, campaign_file: Path, command: str
) -> None:
    b2cal.ok("catalogue", "import", scripts, "--release", "r1")
    campaign_file.write_text(CAMPAIGN + "thresholds: {C: {x: {high_fail: 1}}}\n")
    answer = b2cal("campaign", command, campaign_file)
    assert answer.code in {1, 2}
    assert "thresholds: no calibration is called 'C'; the catalogue has A, B" in answer.err


@pytest.mark.parametrize("command", ["check", "create"])
def test_tags_that_cannot_serve_are_refused_before_any_work(
    b2cal: CommandLine, release: str, campaign_file: Path, home: Home, command: str
) -> None:
    campaign_file.write_text(CAMPAIGN.replace("[main]", "[main, no_such_tag]"))
    answer = b2cal("campaign", command, campaign_file)
    assert answer.code in {1, 2}
    assert "prompt.yaml, base_tags: there is no global tag 'no_such_tag'" in answer.err
    b2cal.ok("cdb", "create", "data_prompt")
    for state in ("testing", "validated", "published"):
        campaign_file.write_text(CAMPAIGN)
        warned = b2cal("campaign", "check", campaign_file)
        assert ("open it: b2cal cdb state data_prompt OPEN" in warned.err) == (state != "testing")
        b2cal.ok("cdb", "state", "data_prompt", state, "--yes")
    assert "target_tag: data_prompt is PUBLISHED, for good" in b2cal("campaign", command, campaign_file).err
    assert list(home.campaigns.glob("*")) == []


def test_a_base_tag_that_another_campaign_will_make_is_awaited(
    b2cal: CommandLine, campaign: str, campaign_file: Path, home: Home
) -> None:
    second = CAMPAIGN.replace("name: prompt", "name: second").replace("[main]", "[main, data_prompt]")
    campaign_file.write_text(second.replace("target_tag: data_prompt", "target_tag: data_second"))
    (home.campaigns / "broken.yaml").write_text("name: [")
    (warning,) = b2cal.ok("campaign", "check", campaign_file, "--json").json["warnings"]
    assert warning == "base tag data_prompt is not there before campaign prompt publishes to it"
    b2cal.ok("campaign", "archive", campaign, "--reason", "over")
    assert "there is no global tag 'data_prompt'" in b2cal("campaign", "check", campaign_file).err


def test_a_server_that_does_not_answer_leaves_the_tags_unseen_with_a_warning(
    b2cal: CommandLine, scripts: Path, campaign_file: Path, home: Home
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        port = nobody.getsockname()[1]
    home.create()
    deployment = f"conditions: {{kind: belle2, server: 'http://127.0.0.1:{port}/'}}\n"
    (home.path / "deployment.yaml").write_text(deployment)
    b2cal.ok("catalogue", "import", scripts, "--release", "r1")
    (warning,) = b2cal.ok("campaign", "check", campaign_file, "--json").json["warnings"]
    assert warning.startswith("the tags were not looked up: ")


def test_an_unknown_campaign_is_wrong_usage(b2cal: CommandLine, campaign: str) -> None:
    for command in (("campaign", "show"), ("bucket", "list"), ("bucket", "close"), ("signoff", "list")):
        answer = b2cal(*command, "promt")
        assert answer.code == 2
        assert "there are prompt" in answer.err


def test_buckets_are_closed_by_hand_and_listed(b2cal: CommandLine, campaign: str) -> None:
    register_runs(b2cal, 1, 2, 3, 4, 5)
    listed = b2cal.ok("bucket", "list", campaign)
    assert "2 more are full" in listed.out
    assert "1 runs wait for the next bucket" in listed.out
    closed = b2cal.ok("bucket", "close", campaign, "--label", "first light", "--json").json["buckets"]
    assert closed == ["e0012r00001-e0012r00002", "e0012r00003-e0012r00004", "e0012r00005-e0012r00005"]
    book = b2cal.ok("bucket", "list", campaign, "--json").json
    assert [entry["label"] for entry in book["buckets"]] == ["", "", "first light"]
    assert (book["waiting"], book["late"]) == ([], [])
    answer = b2cal("bucket", "close", campaign)
    assert answer.code == 2
    assert "no run of campaign prompt waits for a bucket after exp 12 run 5" in answer.err


def test_a_bucket_ends_at_the_run_that_was_given(b2cal: CommandLine, campaign: str) -> None:
    register_runs(b2cal, 1, 4, 9)
    assert b2cal.ok("bucket", "close", campaign, "--last", 12, 3, "--json").json["buckets"] == [
        "e0012r00001-e0012r00003"
    ]
    assert b2cal.ok("bucket", "list", campaign, "--json").json["waiting"] == []
    assert b2cal("bucket", "close", campaign, "--last", 12, 3).code == 2


def test_a_bucket_never_reaches_into_an_experiment_without_its_runs(b2cal: CommandLine, campaign: str) -> None:
    register_runs(b2cal, 1)
    closed = b2cal.ok("bucket", "close", campaign, "--last", 13, 3, "--json").json["buckets"]
    assert closed == ["e0012r00001-e0012r00001"]


def test_a_bucket_is_found_by_its_label(b2cal: CommandLine, campaign: str) -> None:
    register_runs(b2cal, 1)
    b2cal.ok("bucket", "close", campaign, "--label", "first light")
    found = b2cal.ok("bucket", "status", campaign, "first light", "--json").json
    assert found["bucket"] == "e0012r00001-e0012r00001"
    answer = b2cal("bucket", "status", campaign, "second light")
    assert answer.code == 2
    assert "its buckets are e0012r00001-e0012r00001" in answer.err


def test_the_status_of_an_untouched_bucket_says_what_comes_first(b2cal: CommandLine, campaign: str) -> None:
    register_runs(b2cal, 1)
    b2cal.ok("bucket", "close", campaign)
    found = b2cal.ok("bucket", "status", campaign, "e0012r00001-e0012r00001", "--json").json
    first, second = found["calibrations"]
    assert (first["payloads"], first["verdict"], first["sign_off"], first["waits_for"]) == ([], None, None, [])
    assert second["waits_for"] == [
        "A has no payloads yet in prompt e0012r00001-e0012r00001; it must be calibrated first"
    ]
    assert (found["cdst"], found["published"]) == (None, False)
    assert "published: no" in b2cal.ok("bucket", "status", campaign, "e0012r00001-e0012r00001").out


def test_a_decision_needs_payloads_a_calibration_and_a_reason(b2cal: CommandLine, campaign: str) -> None:
    register_runs(b2cal, 1)
    b2cal.ok("bucket", "close", campaign)
    place = ("signoff", "accept", campaign, "e0012r00001-e0012r00001")
    answer = b2cal(*place, "A", "--reason", "looks fine")
    assert answer.code == 2
    assert "A has no payloads in e0012r00001-e0012r00001 to decide over" in answer.err
    assert "no calibration is called 'Z'" in b2cal(*place, "Z", "--reason", "looks fine").err
    assert "needs a reason" in b2cal(*place, "A", "--reason", " ").err
    assert b2cal(*place, "A").code == 2
    assert b2cal.ok("signoff", "list", campaign, "--json").json == []
    assert "no decision yet" in b2cal.ok("signoff", "list", campaign).out


def record_run(instance: dg.DagsterInstance, bucket: str, status: dg.DagsterRunStatus) -> str:
    """The id of a Dagster run of the campaign that Dagster has on record."""
    tags = {"dagster/partition": bucket, "b2cal/campaign": "prompt"}
    job = dg.Definitions(jobs=[empty_job]).resolve_job_def("empty")
    return instance.create_run_for_job(job, status=status, tags=tags).run_id


@dg.job(name="empty")
def empty_job() -> None:
    """No steps."""


# Dagster warns of its own use of a function that it means to remove.
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning")
def test_a_backfill_is_asked_for_over_all_buckets_or_some(b2cal: CommandLine, campaign: str, home: Home) -> None:
    assert "has no bucket yet" in b2cal("bucket", "backfill", campaign).err
    register_runs(b2cal, 1, 2, 3)
    first, second = b2cal.ok("bucket", "close", campaign, "--json").json["buckets"]
    with quiet_instance(home.dagster_home) as instance:
        record_run(instance, first, dg.DagsterRunStatus.SUCCESS)
        record_run(instance, second, dg.DagsterRunStatus.FAILURE)
    asked = b2cal.ok("bucket", "backfill", campaign, second, "--json").json
    assert asked["buckets"] == [second]
    again = b2cal.ok("bucket", "backfill", campaign).out
    assert f"{second} is left out: backfill {asked['backfill']} is asked for already" in again
    assert "over 1 buckets is asked for" in again
    with quiet_instance(home.dagster_home) as instance:
        assert sorted(instance.get_dynamic_partitions("prompt_buckets")) == [first, second]
        newest, oldest = instance.get_backfills()
    assert (oldest.backfill_id, oldest.status) == (asked["backfill"], BulkActionStatus.REQUESTED)
    assert newest.tags["b2cal/campaign"] == "prompt"


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources` is deprecated:DeprecationWarning")
def test_a_backfill_leaves_out_what_is_at_work_or_starts_by_itself(
    b2cal: CommandLine, campaign: str, home: Home
) -> None:
    register_runs(b2cal, 1, 2, 3, 4, 5)
    queued, working, new = b2cal.ok("bucket", "close", campaign, "--json").json["buckets"]
    with quiet_instance(home.dagster_home) as instance:
        waits = record_run(instance, queued, dg.DagsterRunStatus.NOT_STARTED)
        works = record_run(instance, working, dg.DagsterRunStatus.STARTED)
    asked = b2cal.ok("bucket", "backfill", campaign, "--json").json
    assert (asked["backfill"], asked["buckets"]) == (None, [])
    assert [waits in asked["left_out"][queued], works in asked["left_out"][working]] == [True, True]
    assert "no backfill is asked for" in b2cal.ok("bucket", "backfill", campaign, new).out
    b2cal.ok("campaign", "pause", campaign, "--reason", "by hand")
    assert b2cal.ok("bucket", "backfill", campaign, "--json").json["buckets"] == [new]


def test_a_campaign_is_paused_archived_and_taken_up_again_and_the_log_says_why(
    b2cal: CommandLine, campaign: str
) -> None:
    assert "Dagster follows" in b2cal.ok("campaign", "pause", campaign, "--reason", "shutdown", "--author", "ada").out
    assert [entry["state"] for entry in b2cal.ok("campaign", "list", "--json").json] == ["paused"]
    b2cal.ok("campaign", "archive", campaign, "--reason", "over")
    answer = b2cal.ok("campaign", "resume", campaign, "--reason", "one more experiment", "--json")
    assert answer.json == {"campaign": campaign, "state": "active"}
    shown = b2cal.ok("campaign", "show", campaign, "--json").json
    assert shown["state"] == "active"
    assert [(change["state"], change["reason"]) for change in shown["changes"]] == [
        ("paused", "shutdown"),
        ("archived", "over"),
        ("active", "one more experiment"),
    ]
    assert shown["changes"][0]["author"] == "ada"
    assert b2cal("campaign", "pause", "promt", "--reason", "?").code == 2


@pytest.mark.parametrize("command", ["pause", "resume", "archive"])
@pytest.mark.parametrize(
    ("options", "says"),
    [(("--reason", " "), "needs a reason"), (("--reason", "?", "--author", "rule:x"), "is the name of a rule")],
)
def test_a_campaign_is_stopped_by_a_person_with_a_reason(
    b2cal: CommandLine, campaign: str, command: str, options: tuple[str, ...], says: str
) -> None:
    answer = b2cal("campaign", command, campaign, *options)
    assert (answer.code, says in answer.err) == (2, True)
    assert b2cal.ok("campaign", "show", campaign, "--json").json["changes"] == []


def test_the_log_of_a_campaign_has_every_text_of_its_file_and_every_change_of_its_state(
    b2cal: CommandLine, campaign: str, campaign_file: Path, home: Home
) -> None:
    b2cal.ok("campaign", "pause", campaign, "--reason", "shutdown", "--author", "ada")
    campaign_file.write_text(CAMPAIGN + "managers: [eve]\n")
    assert b2cal("campaign", "create", campaign_file, "--author", "rule:x").code == 2
    b2cal.ok("campaign", "create", campaign_file, "--author", "eve")
    first, paused, second = b2cal.ok("campaign", "log", campaign, "--json").json
    assert (first["change"], first["text"]) == ("file", CAMPAIGN)
    assert (paused["change"], paused["author"], paused["reason"]) == ("paused", "ada", "shutdown")
    assert (second["author"], second["text"], len(second["sha256"])) == ("eve", campaign_file.read_text(), 64)
    assert "+managers: [eve]" in second["diff"]
    shown = b2cal.ok("campaign", "log", campaign)
    assert second["sha256"][:12] in shown.out
    assert "+managers" not in shown.out
    assert "edited since by hand" not in shown.err
    assert "+managers: [eve]\n" in b2cal.ok("campaign", "log", campaign, "--diff").out
    (home.campaigns / "prompt.yaml").write_text(CAMPAIGN)
    assert "edited since by hand" in b2cal.ok("campaign", "log", campaign).err
    (home.campaigns / "prompt.yaml").unlink()
    assert len(b2cal.ok("campaign", "log", campaign, "--json").json) == 3
    assert b2cal("campaign", "log", "promt").code == 2
