import subprocess
import sys

import pytest
import typer
from cli_answers import CommandLine

from b2cal_cli import main as command_line
from b2cal_cli.main import globals_first, main
from b2cal_core.errors import BackendError
from resources.home import Home

HEAVY = ("dagster", "numpy", "uproot", "matplotlib", "sqlalchemy", "pydantic.main", "scipy")


def test_help_imports_nothing_that_is_slow() -> None:
    program = (
        "import sys; sys.argv = ['b2cal', '--help']\n"
        "from b2cal_cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"sys.exit(str([name for name in {HEAVY!r} if name in sys.modules] or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr == "\n"
    assert "demo" in ended.stdout
    assert "cdb" in ended.stdout


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (["runs", "list", "--home", "x"], ["--home", "x", "runs", "list"]),
        (["runs", "list", "--home=x", "--json"], ["--home=x", "runs", "list", "--json"]),
        (["demo", "--debug", "--seed", "2"], ["--debug", "demo", "--seed", "2"]),
        (["a", "--", "--home", "x"], ["a", "--", "--home", "x"]),
        (["demo", "--home"], ["--home", "demo"]),
    ],
)
def test_options_of_all_commands_may_stand_anywhere(given: list[str], ordered: list[str]) -> None:
    assert globals_first(given) == ordered


@pytest.mark.parametrize("args", [("nonsense",), ("runs", "list", "--nonsense"), ("runs", "show", "twelve", "1")])
def test_wrong_usage_ends_with_2(b2cal: CommandLine, args: tuple[str, ...]) -> None:
    answer = b2cal(*args)
    assert answer.code == 2
    assert answer.out == ""


def test_a_command_that_reads_does_not_make_a_home(b2cal: CommandLine, home: Home) -> None:
    answer = b2cal("runs", "list")
    assert answer.code == 2
    assert f"there is no home directory {home.path}" in answer.err
    assert not home.path.exists()


def test_a_failure_is_one_sentence_without_a_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_options: object) -> None:
        raise BackendError("the registry does not answer; start it", transient=True)

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main(["runs", "list"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "b2cal: the registry does not answer; start it\n"


def test_debug_shows_where_an_error_arose(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(ZeroDivisionError):
        main(["runs", "list", "--debug"])


def test_a_bug_is_told_as_such(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main(["runs", "list"])
    assert ended.value.code == 1
    assert "unexpected ZeroDivisionError: a bug; please report it" in capsys.readouterr().err


def test_a_full_disk_is_told_as_such(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_options: object) -> None:
        raise OSError(28, "No space left on device", "/data/x")

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit) as ended:
        main(["runs", "list"])
    assert ended.value.code == 1
    assert "the disk is full" in capsys.readouterr().err


def test_an_interrupt_says_that_work_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "app", app)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 130
    assert "finished work is kept" in capsys.readouterr().err
