import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from b2cal_caf.local_database import LocalDatabase
from b2cal_cli.main import main
from b2cal_core.payloads import TagState
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.embedded import EmbeddedConditionsDB

ALWAYS = IoV(0, 0, -1, -1)
RECORD = json.dumps(
    {
        "code": "release-09, caf_p.py",
        "inputs": ["run1.root"],
        "runs": [[1, 1]],
        "tags": ["online"],
        "upstream": [],
        "config": {},
        "validation": {"verdict": "pass"},
    }
)


class Cli:
    """Runs ``b2cal cdb`` on a home of its own."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys = home, capsys
        home.mkdir()

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output, error stream."""
        with pytest.raises(SystemExit) as ended:
            main(["--home", str(self.home), "cdb", *words])
        captured = self.capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    def says(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert code == 0, err
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self.says(*words, "--json"))

    def fails(self, code: int, *words: str) -> str:
        ended, _, err = self.run(*words)
        assert ended == code, err
        return err

    @property
    def conditions(self) -> EmbeddedConditionsDB:
        return EmbeddedConditionsDB(self.home / "conditions")


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tmp_path / "home", capsys)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., str]:
    """Writes a testing payload storage with lines (name, content, IoV), and gives its text file."""

    def stored(where: str, *lines: tuple[str, str, IoV]) -> str:
        for number, (name, text, iov) in enumerate(lines):
            file = tmp_path / f"{where}{number}"
            file.write_text(text)
            LocalDatabase(tmp_path / where).add(name, file, iov)
        return str(tmp_path / where / "database.txt")

    return stored


@pytest.fixture
def published(cli: Cli, stored: Callable[..., str]) -> Cli:
    """A RUNNING tag ``online`` and a VALIDATED tag ``staging``, both with payload p."""
    cli.says("upload", stored("old", ("p", "old", ALWAYS)), "online", "--create")
    cli.says("state", "online", "RUNNING", "--yes")
    validated(cli, stored("new", ("p", "new", ALWAYS)), "staging")
    return cli


def validated(cli: Cli, storage: str, tag: str) -> None:
    """A VALIDATED tag with what is in a storage, its provenance complete."""
    record = cli.home / "record.json"
    record.write_text(RECORD)
    cli.says("upload", storage, tag, "--create", "--provenance", str(record))
    for state in ("TESTING", "validated"):
        cli.says("state", tag, state)


def approved(cli: Cli, plan: str) -> str:
    """The plan file, approved."""
    cli.says("approve", plan, "--approver", "bert")
    return plan


def test_tags_are_listed_with_state_and_size(published: Cli) -> None:
    assert [(tag["name"], tag["state"], tag["iovs"]) for tag in published.json("tags")] == [
        ("online", "RUNNING", 1),
        ("staging", "VALIDATED", 1),
    ]
    assert [tag["name"] for tag in published.json("tags", "on*")] == ["online"]
    assert "RUNNING" in published.says("tags")


def test_iovs_are_listed_all_or_those_of_a_run(cli: Cli, stored: Callable[..., str]) -> None:
    database = stored("one", ("p", "1", IoV(0, 0, 0, -1)), ("p", "2", IoV(1, 0, -1, -1)))
    cli.says("upload", database, "a", "--create")
    assert [link["iov"] for link in cli.json("iovs", "a")] == [[0, 0, 0, -1], [1, 0, -1, -1]]
    assert [link["revision"] for link in cli.json("iovs", "a", "--run", "1", "7")] == [2]
    assert [link["revision"] for link in cli.json("iovs", "a", "--within", "0", "3", "0", "-1")] == [1]
    table = cli.says("iovs", "a")
    assert "0/last" in table
    assert "open" in table
    assert cli.says("iovs", "a", "--within", "0", "0", "0", "0").count("\n") > 1


def test_an_upload_can_be_tried_before(cli: Cli, stored: Callable[..., str]) -> None:
    cli.says("create", "a", "--description", "for a test")
    database = stored("one", ("p", "1", ALWAYS))
    assert [entry["revision"] for entry in cli.json("upload", database, "a", "--dry-run")] == [None]
    assert "new" in cli.says("upload", database, "a", "--dry-run")
    assert cli.conditions.payload("p", 1) is None
    cli.says("upload", database, "a")
    assert "revision 1" in cli.says("upload", database, "a", "--dry-run")


def test_a_difference_is_what_runs_see(cli: Cli, stored: Callable[..., str]) -> None:
    cli.says("upload", stored("one", ("p", "1", ALWAYS)), "a", "--create")
    halves = stored("two", ("p", "1", IoV(0, 0, 0, -1)), ("p", "1", IoV(1, 0, 1, 5)), ("p", "2", IoV(1, 6, -1, -1)))
    cli.says("upload", halves, "b", "--create")
    assert cli.json("diff", "a", "b") == [{"name": "p", "iov": [1, 6, -1, -1], "before": 1, "after": 2}]
    assert cli.json("diff", "a", "b", "--within", "0", "0", "1", "5") == []
    assert "same payload" in cli.says("diff", "a", "a")


def test_tags_are_merged_by_priority_and_again_without_change(cli: Cli, stored: Callable[..., str]) -> None:
    cli.says("upload", stored("one", ("p", "1", IoV(1, 0, 1, 10))), "a", "--create")
    cli.says("upload", stored("two", ("p", "2", IoV(1, 5, 1, 30))), "b", "--create")
    expected = [(1, [1, 0, 1, 10]), (2, [1, 11, 1, 30])]
    tried = cli.json("merge", "c", "a", "b", "--dry-run")
    assert [(link["revision"], link["iov"]) for link in tried] == expected
    assert cli.conditions.get_tag("c") is None
    for _ in range(2):
        merged = cli.json("merge", "c", "a", "b")
        assert [(link["revision"], link["iov"]) for link in merged] == expected
    assert "already" in cli.fails(1, "merge", "a", "b")


def test_a_plan_is_made_looked_at_applied_and_read_back(published: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "plan.json")
    published.says("plan", "online", "staging", "--run", "5", "1", "-o", file)
    assert json.loads(Path(file).read_text())["fingerprint"] == published.conditions.fingerprint("online")
    assert "never applied" in published.fails(1, "verify", file)
    assert "keep until" in published.says("apply", file, "--dry-run")
    assert "nobody has approved" in published.fails(2, "apply", file)
    seen = published.json("review", file)
    assert (seen["applies"], seen["provenance_lacks"]) == (True, [])
    assert [(c["name"], c["iov"], c["before"]["revision"], c["after"]["revision"]) for c in seen["changes"]] == [
        ("p", [5, 1, -1, -1], 1, 2)
    ]
    assert "what changes for readers" in published.says("review", file)
    assert len(published.json("iovs", "online")) == 1
    approved(published, file)
    applied = published.json("apply", file, "--reason", "bucket 12", "--author", "anna")
    assert [link["iov"] for link in applied["iovs"]] == [[0, 0, 5, 0], [5, 1, -1, -1]]
    assert published.json("verify", file) == {
        "plan_hash": applied["plan_hash"],
        "discrepancies": [],
        "as_predicted": True,
    }
    published.says("apply", file)  # again, as after a lost reply
    assert published.json("review", file)["applies"] is False
    assert "it was applied" in published.says("review", file)
    (last,) = [entry for entry in published.json("audit", "online") if entry["action"] == "apply"]
    assert (last["author"], last["approver"], last["reason"]) == ("anna", "bert", "bucket 12")
    assert last["plan_hash"] == applied["plan_hash"]
    assert "bucket 12" in published.says("audit")


def test_verifying_reads_the_content_too_and_knows_later_updates(
    published: Cli, tmp_path: Path, stored: Callable[..., str]
) -> None:
    first, second = str(tmp_path / "1.json"), str(tmp_path / "2.json")
    published.says("plan", "online", "staging", "--run", "5", "1", "-o", first)
    published.says("apply", approved(published, first))
    validated(published, stored("newer", ("p", "newer", ALWAYS)), "staging2")
    published.says("plan", "online", "staging2", "--run", "6", "0", "-o", second)
    published.says("apply", approved(published, second))
    assert "updated again since" in published.says("verify", first)
    payload = published.conditions.resolve(["online"], ExpRun(6, 0))["p"].payload
    stored_file = published.conditions.payload_file(payload)
    stored_file.chmod(0o644)
    stored_file.write_text("rubbish")
    assert "damaged" in published.fails(1, "verify", second)


def test_payloads_are_published_with_provenance_only(cli: Cli, stored: Callable[..., str], tmp_path: Path) -> None:
    cli.says("upload", stored("old", ("p", "old", ALWAYS)), "online", "--create")
    cli.says("state", "online", "RUNNING", "--yes")
    cli.says("upload", stored("new", ("p", "new", ALWAYS)), "staging", "--create")
    for state in ("TESTING", "VALIDATED"):
        cli.says("state", "staging", state)
    plan = str(tmp_path / "plan.json")
    cli.says("plan", "online", "staging", "--run", "5", "1", "-o", plan)
    assert "b2cal cdb provenance" in cli.fails(1, "apply", approved(cli, plan))
    record = tmp_path / "record.json"
    record.write_text('{"code": "by hand", "unheard": 1}')
    assert "unheard" in cli.fails(2, "provenance", "staging", str(record))
    record.write_text(RECORD)
    assert cli.json("provenance", "staging")[0]["record"] is None
    assert cli.json("provenance", "staging", str(record))[0]["record"]["code"] == "release-09, caf_p.py"
    assert "release-09" in cli.says("provenance", "staging")
    cli.says("apply", plan)


def test_a_publish_is_taken_back_or_made_up_for_once_it_is_final(published: Cli, tmp_path: Path) -> None:
    first, second, back = (str(tmp_path / f"{name}.json") for name in ("first", "second", "back"))
    before = published.json("iovs", "online")
    published.says("plan", "online", "staging", "--run", "5", "1", "-o", first)
    plan_hash = published.json("apply", approved(published, first))["plan_hash"]
    line = published.json("audit", "online")[0]["id"]
    assert len(published.json("iovs", "online", "--as-of", str(published.json("audit")[-1]["id"]))) == 2
    assert len(published.json("iovs", "online", "--as-of", "2999-01-01T00:00")) == 2
    assert published.json("iovs", "online", "--as-of", "2001-01-01T00:00+02:00") == []
    assert "2026-05-17" in published.fails(2, "iovs", "online", "--as-of", "yesterday")
    published.says("rollback", plan_hash[:10], "--reason", "spoiled", "--approver", "bert", "--dry-run")
    published.says("rollback", plan_hash[:10], "--reason", "spoiled", "--approver", "bert")
    strip = [(link["name"], link["iov"]) for link in before]
    assert [(link["name"], link["iov"]) for link in published.json("iovs", "online")] == strip
    published.says("plan", "online", "staging", "--run", "6", "1", "-o", second)
    again = published.json("apply", approved(published, second))["plan_hash"]
    final = published.json("finalize", again[:10], "--reason", "seen by all", "--approver", "bert")
    assert final == {"plan_hash": again, "state": "final"}
    assert "final" in published.fails(1, "rollback", again, "--reason", "too late", "--approver", "bert")
    noted = published.json("processed", "online", "--run", "7", "3")
    assert noted == {"tag": "online", "last_processed": [7, 3]}
    assert "exp 7 run 4" in published.fails(1, "compensate", again, "--run", "7", "0", "-o", back)
    published.says("compensate", again, "-o", back)
    assert "no record" in published.fails(1, "apply", approved(published, back))
    published.says("provenance", "online", str(published.home / "record.json"))
    published.says("apply", back)
    assert published.json("resolve", "online", "--run", "7", "3")[0]["revision"] == 2
    assert published.json("resolve", "online", "--run", "8", "0")[0]["revision"] == 1
    assert "revision" in published.says("resolve", "online", "--run", "8", "0")
    assert line < published.json("audit", "--check")[-1]["id"]
    assert [plan["state"] for plan in published.json("history", "online")] == [
        "taken back",
        "applied",
        "final",
        "applied",
    ]
    assert "bert" in published.says("history", "online")


def test_the_log_tells_when_it_was_tampered_with(published: Cli) -> None:
    published.says("audit", "--check")
    with published.conditions.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER cdb_audit_no_update")
        connection.exec_driver_sql("UPDATE cdb_audit SET author='nobody' WHERE id=2")
    assert "line 2" in published.fails(1, "audit", "--check")


def test_open_tags_are_edited_by_plans_that_can_be_tried(cli: Cli, stored: Callable[..., str], tmp_path: Path) -> None:
    database = stored("one", ("p", "1", IoV(1, 0, 1, 4)), ("p", "2", IoV(1, 7, 1, 9)), ("q", "3", IoV(1, 0, 1, 9)))
    cli.says("upload", database, "a", "--create")
    within = ("--within", "1", "0", "1", "9")
    assert "add" in cli.says("fill-gaps", "a", *within, "--dry-run")
    assert len(cli.json("coverage", "a")[0]["gaps"]) == 1
    cli.says("fill-gaps", "a", *within)
    assert cli.json("coverage", "a")[0]["gaps"] == []
    plan = str(tmp_path / "open.json")
    cli.says("open-last", "a", "--name", "p", "-o", plan)
    cli.says("apply", plan, "--approver", "bert")
    assert [link["iov"] for link in cli.json("iovs", "a")][-2:] == [[1, 7, -1, -1], [1, 0, 1, 9]]
    cli.says("upload", stored("local", ("r", "9", ALWAYS)), "local_top", "--create")
    cli.says("copy-local", "local_top", "a", "--within", "1", "2", "1", "5")
    assert [link["iov"] for link in cli.json("iovs", "a") if link["name"] == "r"] == [[1, 2, 1, 5]]
    assert "nobody" in cli.fails(2, "open-last", "a", "--name", "nobody")
    cli.says("clone", "a", "snapshot", "--state", "PUBLISHED")
    assert "snapshot is PUBLISHED" in cli.fails(1, "open-last", "snapshot")
    assert "same payload" in cli.says("diff", "a", "snapshot")


def test_tags_go_out_as_a_metadata_file_and_come_back(published: Cli, tmp_path: Path) -> None:
    file = str(tmp_path / "out" / "tags.sqlite")
    assert "online" in published.says("export", file, "online", "staging", "--format", "sqlite")
    assert "whole tags" in published.fails(2, "export", file, "online", "--format", "sqlite", "--name", "p")
    made = published.json("import", file, "--prefix", "copy_", "--states")
    assert made == [{"name": "copy_online", "state": "RUNNING"}, {"name": "copy_staging", "state": "VALIDATED"}]
    assert "same payload" in published.says("diff", "online", "copy_online")
    (tmp_path / "rubbish.sqlite").write_text("no database at all")
    assert "rubbish" in published.fails(1, "import", str(tmp_path / "rubbish.sqlite"))


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_coverage_is_drawn_before_and_after_a_plan(published: Cli, tmp_path: Path, ending: str) -> None:
    plan, picture = str(tmp_path / "plan.json"), tmp_path / f"coverage.{ending}"
    published.says("plan", "online", "staging", "--run", "5", "1", "-o", plan)
    shown = published.json("coverage", "online", "--plan", plan, "--picture", str(picture))
    assert shown[0]["covered"] == [[0, 0, -1, -1]]
    assert picture.stat().st_size > 1000
    assert "not for staging" in published.fails(2, "coverage", "staging", "--plan", plan)


def test_an_up_to_date_database_needs_no_upgrade(published: Cli) -> None:
    assert "of version 0002" in published.says("upgrade")
    assert published.json("upgrade") == {"before": "0002", "after": "0002"}


def test_a_plan_for_a_tag_that_changed_is_refused(published: Cli, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{number}.json") for number in range(2)]
    for number, file in enumerate(files):
        published.says("plan", "online", "staging", "--run", "5", str(number), "-o", file)
    published.says("apply", approved(published, files[0]))
    assert "was changed" in published.fails(1, "apply", files[1], "--dry-run")
    assert "online" in published.fails(1, "apply", approved(published, files[1]))
    assert len(published.json("iovs", "online")) == 2


def test_a_plan_that_breaks_a_rule_or_was_edited_is_refused(published: Cli, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert "exp 0 run 1" in published.fails(1, "plan", "online", "staging", "--run", "0", "0", "-o", str(file))
    assert not file.exists()
    published.says("plan", "online", "staging", "--run", "5", "1", "-o", str(file))
    file.write_text(file.read_text().replace("online", "another"))
    assert "changed after it was made" in published.fails(2, "apply", str(file))
    assert "cannot be read" in published.fails(2, "apply", str(tmp_path / "absent.json"))
    assert "-o" in published.fails(2, "plan", "online", "staging", "--run", "5", "1")


def test_coverage_shows_gaps_and_can_fail(cli: Cli, stored: Callable[..., str]) -> None:
    database = stored("one", ("p", "1", IoV(1, 0, 1, 4)), ("p", "2", IoV(1, 7, 1, 9)), ("q", "3", IoV(1, 0, 1, 9)))
    cli.says("upload", database, "a", "--create")
    found = {name["name"]: name for name in cli.json("coverage", "a")}
    assert (found["p"]["gaps"], found["q"]["gaps"]) == ([[1, 5, 1, 6]], [])
    assert "1/5 to 1/6" in cli.says("coverage", "a")
    assert "in p" in cli.fails(1, "coverage", "a", "--check")
    cli.says("coverage", "a", "--check", "--runs")  # no registered run lies in the gap
    cli.says("coverage", "a", "--check", "--within", "1", "0", "1", "4")


def test_an_export_is_read_by_last_line_wins(cli: Cli, stored: Callable[..., str], tmp_path: Path) -> None:
    cli.says("upload", stored("one", ("p", "1", ALWAYS), ("q", "2", ALWAYS)), "base", "--create")
    cli.says("upload", stored("two", ("p", "3", IoV(1, 0, 1, 5))), "top", "--create")
    out = tmp_path / "out"
    assert cli.json("export", str(out), "base", "top", "--name", "p") == {
        "database": str(out / "database.txt"),
        "lines": 3,
    }
    found = LocalDatabase(out).find("p", ExpRun(1, 3))
    assert found is not None
    assert found.file.read_text() == "3"
    assert "has 3 lines, with 2 payload files" in cli.says("export", str(out), "base", "top", "--name", "p")


def test_what_cannot_be_undone_is_typed_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, stored: Callable[..., str]
) -> None:
    cli.says("upload", stored("one", ("p", "1", ALWAYS)), "a", "--create")
    monkeypatch.setattr("sys.stdin", _Typed("yes\n"))
    assert "a stays OPEN" in cli.fails(2, "state", "a", "RUNNING")
    monkeypatch.setattr("sys.stdin", _Typed("RUNNING\n"))
    assert "tag a is RUNNING\n" in cli.says("state", "a", "RUNNING")
    assert [tag.state for tag in cli.conditions.list_tags()] == [TagState.RUNNING]
    assert "no other state" in cli.fails(1, "state", "a", "OPEN")


class _Typed:
    """A keyboard on which these lines are typed."""

    encoding = "utf-8"

    def __init__(self, text: str) -> None:
        self._lines = iter(text.splitlines(keepends=True))

    def readline(self, *_: object) -> str:
        return next(self._lines, "")

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize(
    "words",
    [
        ("iovs", "nobody"),
        ("coverage", "nobody"),
        ("diff", "nobody", "nobody"),
        ("state", "nobody", "TESTING"),
        ("create", "a/b"),
        ("iovs", "nobody", "--run", "-1", "0"),
        ("iovs", "nobody", "--within", "5", "0", "1", "0"),
        ("export", "out", "nobody"),
        ("plan", "nobody", "nobody", "--run", "1", "1", "--dry-run"),
        ("unheard-of",),
    ],
)
def test_wrong_usage_ends_with_2(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli.fails(2, *words)


def test_a_storage_that_is_malformed_ends_with_1_and_names_the_line(cli: Cli, stored: Callable[..., str]) -> None:
    database = Path(stored("one", ("p", "1", ALWAYS)))
    database.write_text(database.read_text() + "rubbish\n")
    assert "line 2" in cli.fails(1, "upload", str(database), "a", "--create")
    assert cli.conditions.get_tag("a") is None
