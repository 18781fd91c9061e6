"""The environment of a basf2 release, and commands run in it.

Every command is part of a bash script: set-up, a look whether the tool is there, the tool, and at the end how it ended
in a file, so that a later process can tell what happened also when nobody waited for it.
"""

import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.job_failures import failing_lines
from b2cal_core.errors import BackendError, ConfigurationError
from resources.caf.basf2_process import GO, start_script

_SET_UP, _MISSING, _TOOL = "set-up", "missing", "tool"
_KILLED = 143
_LOOK_SECONDS = 0.05
_SCRIPT = """\
#!/bin/bash
# Written by b2cal. By hand: echo {go} | bash THIS_FILE
read -r b2cal_go || exit 0
[ "$b2cal_go" = {go} ] || exit 0
exec < /dev/null
b2cal_end={end} b2cal_stage={set_up} b2cal_code=
trap 'echo "$b2cal_stage ${{b2cal_code:-$?}}" > "$b2cal_end.part" && mv "$b2cal_end.part" "$b2cal_end"' EXIT
trap 'exit {killed}' TERM
{setup}
b2cal_code=$?
[ $b2cal_code -eq 0 ] || exit $b2cal_code
command -v {tool} > /dev/null || {{ b2cal_stage={missing} b2cal_code=127; exit 127; }}
b2cal_stage={tool_stage} b2cal_code={killed}
{lines}
exit $b2cal_code
"""


@dataclass(frozen=True, slots=True)
class End:
    """How a script ended: in which stage, and with which exit code; 128 and the signal when one killed the tool."""

    stage: str
    code: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answered; ``problem``: the lines of its errors that say most."""

    code: int
    stdout: str
    problem: str


@dataclass(frozen=True, slots=True)
class Basf2Environment:
    """The environment of a release.

    Attributes:
        setup: shell lines that set it up, for example ``source /cvmfs/belle.cern.ch/tools/b2setup release-09-00-00``;
            empty when the tools are found as it is. Their last command must succeed.
    """

    setup: str = ""

    def script(self, command: Sequence[str], end: Path) -> str:
        """A bash script that sets the release up and runs the command; ``read_end`` reads the file ``end``."""
        return self._script([f"{shlex.join(command)} && b2cal_code=0 || b2cal_code=$?"], command[0], end)

    def check(self, end: End, tool: str, stderr: Path) -> None:
        """Raise ``ConfigurationError`` when the tool was not even started."""
        if end.stage == _MISSING:
            where = f"after {self.setup!r}" if self.setup else "on PATH, and no set-up command is configured"
            msg = f"{tool} is not found {where}; give a set-up command of a basf2 release that has it"
            raise ConfigurationError(msg)
        if end.stage != _TOOL:
            msg = (
                f"the basf2 release cannot be set up: {self.setup!r} ended with exit code {end.code}: "
                f"{failing_lines(stderr) or 'it said nothing'}; mend the set-up command, or look whether the release "
                "can be reached from this machine"
            )
            raise ConfigurationError(msg)

    def answers(self, commands: Sequence[Sequence[str]], *, check: Callable[[], None] = lambda: None) -> list[Answer]:
        """What commands of one tool answer, run one after another after one set-up.

        Args:
            commands: program and arguments of each.
            check: called again and again; may raise to end them.

        Raises:
            ConfigurationError: the release cannot be set up, or does not have the tool.
            BackendError: the commands were killed.
        """
        tool = commands[0][0]
        with tempfile.TemporaryDirectory(prefix="b2cal_basf2_") as place:
            directory = Path(place)
            end, errors, script = directory / "end", directory / "stderr", directory / "script.sh"
            lines = [_kept(command, directory, number) for number, command in enumerate(commands)]
            script.write_text(self._script([*lines, "b2cal_code=0"], tool, end))
            process = start_script(script, directory, stdout=directory / "stdout", stderr=errors)
            try:
                process.go()
                process.wait(_LOOK_SECONDS, check)
            finally:
                process.stop()
            ended = read_end(end)
            if ended is None or ended.code == _KILLED:
                msg = f"{tool} was killed before it answered; ask again"
                raise BackendError(msg, transient=True)
            self.check(ended, tool, errors)
            return [_answer(directory, number) for number in range(len(commands))]

    def _script(self, lines: Sequence[str], tool: str, end: Path) -> str:
        return _SCRIPT.format(
            go=GO,
            set_up=_SET_UP,
            missing=_MISSING,
            tool_stage=_TOOL,
            killed=_KILLED,
            end=shlex.quote(str(end)),
            setup=self.setup.strip() or "true",
            tool=shlex.quote(tool),
            lines="\n".join(lines),
        )


def read_end(file: Path) -> End | None:
    """How the script ended; ``None`` while it runs, or when it was killed."""
    try:
        stage, code = file.read_text().split()
        return End(stage, int(code))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _kept(command: Sequence[str], directory: Path, number: int) -> str:
    """The shell line that runs a command and keeps its output and exit code in files."""
    stdout, stderr, code = (shlex.quote(str(directory / f"{number}_{what}")) for what in ("stdout", "stderr", "code"))
    return f"{{ {shlex.join(command)} > {stdout} 2> {stderr} && echo 0 || echo $?; }} > {code}"


def _answer(directory: Path, number: int) -> Answer:
    stdout, stderr, code = (directory / f"{number}_{what}" for what in ("stdout", "stderr", "code"))
    return Answer(int(code.read_text()), stdout.read_text(errors="replace"), failing_lines(stderr))
