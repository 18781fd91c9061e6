"""Sub-jobs fail, our process is killed, the batch system goes away for a while: the payloads are those of a quiet day.

Twenty collections; one sub-job in two hundred fails by itself, one in a hundred takes more memory than it was given,
each once, which requires that it is run again. Whatever else runs again is work repeated. On the local batch system
that is what was running when our process was killed, since its jobs die with it: at most as many as there are places,
and they are counted like all others.

``B2CAL_CHAOS_SUBJOBS`` is the number of sub-jobs in a collection, where it is not to be that of the tests.
"""

import os
import time
from pathlib import Path

import psutil
import pytest
from chaos_script import FAILURES, MEMORY, trouble_of
from chaos_world import Place, World, kill, supervise
from servers.htcondor import HTCondorPool

from b2cal_caf.job_book import Stage
from b2cal_caf.operations import CafDesk

CALIBRATIONS = ("alpha", "beta", "gamma", "delta")
COLLECTIONS = ("hadron", "mumu", "bhabha", "cosmic", "offres")
SEED = 65
REPEATED = 0.02
SILENT_SECONDS = 10.0
PATIENCE = 7000.0

pytestmark = [pytest.mark.system, pytest.mark.timeout(PATIENCE + 200)]


def test_chaos_on_this_machine(tmp_path: Path) -> None:
    place = laid_out(tmp_path, subjobs=400)
    supervise(place, "local", [(0.3, kill), (0.6, kill)], patience=PATIENCE)
    check(place)


def test_chaos_on_htcondor(tmp_path: Path, htcondor: HTCondorPool) -> None:
    place = laid_out(tmp_path, subjobs=25)
    disturbances = [
        (0.15, lambda _: silence(htcondor.daemon("condor_schedd"))),
        (0.3, kill),
        (0.5, lambda _: htcondor.kill_schedd()),
        (0.5, kill),  # the next process finds no queue for a while
    ]
    supervise(place, "htcondor", disturbances, patience=PATIENCE)
    check(place)
    assert htcondor.run("condor_q", "-af", "ClusterId") == ""


def laid_out(directory: Path, *, subjobs: int) -> Place:
    """The request; its troubles are known beforehand, and there are some of every kind."""
    number = int(os.environ.get("B2CAL_CHAOS_SUBJOBS") or subjobs)
    world = World(directory / "world", CALIBRATIONS, COLLECTIONS, number)
    assert {trouble_of(key, SEED) for key in world.keys} == {"", MEMORY, *FAILURES}
    world.lay_out()
    return world.place("disturbed", files_per_job=1, seed=SEED)


def silence(daemon: psutil.Process) -> None:
    """Let the daemon be there, but answer nobody for a while."""
    daemon.suspend()
    try:
        time.sleep(SILENT_SECONDS)
    finally:
        daemon.resume()


def check(place: Place) -> None:
    """What must be true in the end, whatever happened on the way."""
    world, diary = place.world, place.diary
    assert not place.left_over()
    assert diary.failures() == troubles(world)
    assert diary.side_by_side() == []
    assert {line.key for line in diary.of("end")} == set(world.keys)
    assert len(diary.repeated()) <= REPEATED * len(world.keys)
    counts = {
        (calibration, 0, name): {Stage.completed: world.files} for calibration in CALIBRATIONS for name in COLLECTIONS
    }
    assert CafDesk(place.request.directory).counts() == counts
    numbers = range(world.files)
    wanted = len(numbers), sum(numbers), sum(number**2 for number in numbers)
    assert place.totals() == {calibration: [wanted] * len(COLLECTIONS) for calibration in CALIBRATIONS}
    quiet = world.place("undisturbed", files_per_job=world.files)
    supervise(quiet, "local", patience=PATIENCE)
    assert place.payloads() == quiet.payloads()


def troubles(world: World) -> dict[str, int]:
    """How many sub-jobs have each kind of trouble."""
    found = [trouble_of(key, SEED) for key in world.keys]
    return {trouble: found.count(trouble) for trouble in (MEMORY, *FAILURES)}
