"""Withdrawing what basf2 has handed to a batch system and can no longer look after.

basf2 keeps the ids of its jobs in memory only, but says them in its log.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from b2cal_core.errors import CalibrationError
from b2cal_core.ports import CafObserver
from resources.caf.basf2_environment import Basf2Environment
from resources.caf.basf2_subjobs import SubJob, subjobs_of

_SAID = re.compile(r"Job ID of (?:Sub)?Job\((?P<name>.+)\) recorded as: (?P<id>\S+)\s*$", re.MULTILINE)
_COMMANDS: Mapping[str, str] = {"LSF": "bkill", "PBS": "qdel", "HTCondor": "condor_rm"}
_TOGETHER = 200


def withdraw_jobs(
    backend: str, environment: Basf2Environment, *, output: Path, results: Path, observer: CafObserver
) -> None:
    """Remove the jobs that the tool has said it submitted and that have not ended, and tell the observer.

    The commands of the batch system run in the release's environment. A job that ended meanwhile is no failure; one
    that cannot be removed is told of, with its id.

    ``output`` is the tool's standard output, ``results`` its ``calibration_results``.
    """
    ids = _open_ids(output, results) if backend in _COMMANDS else []
    if not ids:
        return
    command = _COMMANDS[backend]
    groups = [ids[start : start + _TOGETHER] for start in range(0, len(ids), _TOGETHER)]
    try:
        answers = environment.answers([[command, *group] for group in groups])
    except CalibrationError as error:
        observer.log(f"the jobs {' '.join(ids)} may still be in {backend}, remove them with {command}: {error}")
        return
    for group, answer in zip(groups, answers, strict=True):
        if answer.code == 0:
            observer.log(f"{len(group)} jobs were withdrawn from {backend}")
        else:
            observer.log(f"{command} {' '.join(group)} ended with exit code {answer.code}: {answer.problem}")


def _open_ids(output: Path, results: Path) -> list[str]:
    """The ids that the tool has said, but for those of sub-jobs that have left an exit code."""
    try:
        text = output.read_text(errors="replace")
    except FileNotFoundError:
        return []
    ended = {_job_name(iteration, subjob) for iteration, subjob in _subjobs(results) if subjob.state().status.is_final}
    return [said["id"] for said in _SAID.finditer(text) if said["name"] not in ended]


def _subjobs(results: Path) -> Iterator[tuple[Path, SubJob]]:
    for iteration in results.glob("*/[0-9]*"):
        for subjob in subjobs_of(iteration):
            yield iteration, subjob


def _job_name(iteration: Path, subjob: SubJob) -> str:
    """As basf2 calls the sub-job."""
    return f"{iteration.parent.name}_{subjob.collection}_Iteration_{iteration.name}_{subjob.number}"
