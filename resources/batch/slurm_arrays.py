"""Job arrays of Slurm: the files that make one, and what an element of it leaves in the directory of its job.

An array has a directory of its own beside that of its first job, ``.slurm/<submission>/``, with its script, the list of
job directories and what Slurm itself has to say (``slurm.log``). It is the array's working directory, which tells the
array from others, and stands in each ``job.json``; an element whose ``job.json`` names another submission was replaced,
and does nothing.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import resources
from b2cal_caf.atomic_files import write_atomically
from b2cal_core.jobs import Cause, JobSpec

LOG = "slurm.log"
PLACE = "slurm"
"""File in the job's directory: the submission, Slurm's own job id and the machine of the element that was started."""
_NOTED = (
    ("exceeded memory limit", (Cause.memory, "it took more memory than it was given")),
    ("oom", (Cause.memory, "it took more memory than it was given")),
    ("DUE TO TIME LIMIT", (Cause.time, "it took longer than Slurm allowed")),
    ("DUE TO NODE FAILURE", (Cause.node, "its machine failed")),
    ("DUE TO PREEMPTION", (Cause.node, "another job took its place")),
)
"""What Slurm writes into the output of a job that it ends, and what that means."""
_URGENT = 100
"""Priority from which on jobs are not put behind others: users of Slurm can lower theirs only, and little is enough."""
_GRACE_SECONDS = 30
_MINUTE = 60

_SCRIPT = """#!/bin/bash
# One element of a job array of b2cal, submission {submission}.
directory=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {list})
[ -n "$directory" ] && cd "$directory" || exit 1

# Replaced by another submission, which its submitter made because it could not tell whether this one had succeeded?
is_wanted() {{ grep -qF '"submission": "{submission}"' job.json; }}
is_wanted || exit 0

# A controller that crashed may start an element again that still runs: the second waits for the first.
exec 9>>.lock
flock 9
if [ -e exit_code ]; then exit "$(($(cat exit_code) & 255))"; fi

rm -f host
printf '%s %s %s\\n' {submission} "$SLURM_JOB_ID" "$SLURMD_NODENAME" > {place}
export PYTHONPATH={packages}${{PYTHONPATH:+:$PYTHONPATH}}
SECONDS=0
{limit}{python} -P -m resources.batch.run_job "$directory" > stdout 2> stderr < /dev/null
code=$?

put() {{ printf '%s\\n' "$2" > ".$1.$SLURM_JOB_ID" && mv -f ".$1.$SLURM_JOB_ID" "$1"; }}
if is_wanted && [ ! -e exit_code ]; then
    if [ {seconds} -ge 0 ] && [ "$SECONDS" -ge {seconds} ] && {{ [ "$code" = 124 ] || [ "$code" = 137 ]; }}; then
        put verdict.json '{{"cause": "time", "reason": "took longer than the {seconds} s it was given"}}'
        code=143
    elif [ "$code" -ne 0 ] && [ ! -e host ]; then
        put verdict.json '{{"cause": "start", "reason": "could not be started, see stderr beside its exit code"}}'
    fi
    put exit_code "$code"
fi
exit "$code"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an element was started: Slurm's own id of it, and the machine."""

    native: str
    node: str


def place_of(directory: Path, submission: str) -> Place | None:
    """Where the job of this submission was started; ``None`` when it was not."""
    try:
        words = (directory / PLACE).read_text().split()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Place(words[1], words[2]) if len(words) == 3 and words[0] == submission else None  # noqa: PLR2004


def noted_end(home: Path, place: Place) -> tuple[Cause, str] | None:
    """Why Slurm ended the element, as it noted in the array's log; that outlives what it remembers."""
    try:
        lines = (home / LOG).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    marks = f"StepId={place.native}.", f"JOB {place.native} ON "
    own = [line for line in lines if any(mark in line for mark in marks)]
    return next((end for words, end in _NOTED if any(words in line for line in own)), None)


def home_of(specs: Sequence[JobSpec], submission: str) -> Path:
    """The directory of the array that these jobs make."""
    return specs[0].directory.parent / ".slurm" / submission


def arrays(specs: Iterable[JobSpec], largest: int) -> Iterator[list[JobSpec]]:
    """The jobs in arrays of at most ``largest`` whose elements ask for the same; the most urgent first, in order."""

    def wants(spec: JobSpec) -> tuple[object, ...]:
        seconds = -1 if spec.seconds is None else spec.seconds
        return -spec.priority, spec.collection, spec.memory, spec.cpus, seconds, sorted(spec.avoid)

    for _, alike in groupby(sorted(specs, key=wants), key=wants):
        together = list(alike)
        for start in range(0, len(together), largest):
            yield together[start : start + largest]


def write_array(specs: Sequence[JobSpec], submission: str, python: str) -> Path:
    """Write the files of an array of these jobs, which ask for the same; returns its script."""
    home = home_of(specs, submission)
    listed = home / "directories"
    write_atomically(listed, "".join(f"{spec.directory}\n" for spec in specs).encode())
    seconds = specs[0].seconds
    script = _SCRIPT.format(
        submission=submission,
        list=shlex.quote(str(listed)),
        place=PLACE,
        packages=shlex.quote(str(Path(next(iter(resources.__path__))).parent)),
        limit="" if seconds is None else f"timeout --kill-after={_GRACE_SECONDS} {max(seconds, 1)} ",
        seconds=-1 if seconds is None else seconds,
        python=shlex.quote(python),
    )
    write_atomically(home / "array.sh", script.encode())
    return home / "array.sh"


def wishes(spec: JobSpec) -> list[str]:
    """What a job asks for, as options of ``sbatch``."""
    options = [f"--job-name={spec.collection}", f"--mem={spec.memory}M", f"--cpus-per-task={spec.cpus}", "--nodes=1"]
    options.append(f"--nice={max(0, _URGENT - spec.priority)}")
    if spec.seconds is not None:  # Slurm counts whole minutes; the script itself is exact
        options.append(f"--time={spec.seconds // _MINUTE + 2}")
    return options


def ranges(natives: Iterable[str]) -> list[str]:
    """``<id>_<index>`` of many elements as Slurm's commands take them: ``<id>_[0-3,7]``, one for each array."""
    indices: dict[str, list[int]] = {}
    for native in natives:
        array, _, index = native.partition("_")
        indices.setdefault(array, []).append(int(index))
    return [f"{array}_[{','.join(_runs(sorted(set(numbers))))}]" for array, numbers in indices.items()]


def _runs(numbers: Sequence[int]) -> Iterator[str]:
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}"
