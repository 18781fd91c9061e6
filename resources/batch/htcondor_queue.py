"""The daemon that has HTCondor's queue, and the bindings that talk to it. Every failure is a ``BackendError``."""

import importlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from b2cal_core.errors import BackendError, ConfigurationError
from resources.batch.htcondor_states import ATTRIBUTES

Number = tuple[int, int]
"""A job's cluster and its place in it."""
_NOT_UNDERSTOOD = "errmsg=Submit:"
_NO_CONFIGURATION, _IN_ENVIRONMENT = "/dev/null", "ONLY_ENV"
_HISTORY_SLACK_SECONDS = 3600
"""How far the clocks of two machines may be apart."""


def bindings() -> ModuleType:
    """HTCondor's own Python bindings, with the configuration that ``CONDOR_CONFIG`` names now.

    Raises:
        ConfigurationError: they are not installed, or this machine belongs to no pool.
    """
    try:
        found = importlib.import_module("htcondor2")
    except ImportError as error:
        raise ConfigurationError(
            f"jobs cannot be given to HTCondor: its Python bindings cannot be imported ({error}); install them with"
            " pip install 'b2cal-assets[htcondor]'"
        ) from error
    named = os.environ.get("CONDOR_CONFIG")
    if named == _NO_CONFIGURATION:  # the bindings set this where they find none
        raise ConfigurationError(
            "this machine belongs to no HTCondor pool: there is no /etc/condor/condor_config; work on a submit machine,"
            " or name the configuration file in CONDOR_CONFIG"
        )
    if named and named != _IN_ENVIRONMENT and not Path(named).is_file():
        raise ConfigurationError(f"CONDOR_CONFIG names {named}, which is no file; name HTCondor's configuration file")
    found.reload_config()
    return found


class Queue:
    """The queue of this machine, or of the ``schedd`` with a name, and those that earlier ids name.

    Addresses are looked up for every call, which takes less than a millisecond: a restarted daemon has another.
    """

    def __init__(self, schedd: str | None = None) -> None:
        self._wanted = schedd
        self._htcondor = bindings()

    def submit(self, lines: Mapping[str, str], items: Sequence[Mapping[str, str]]) -> tuple[str, int, int]:
        """Hand over one cluster with a job for every item; returns the queue's name, the cluster and its first place.

        Raises:
            ConfigurationError: a line cannot be understood; it has taken none.
            BackendError: it does not answer, or refuses; whether it has the jobs is not known.
        """
        with self._answers("take jobs"):
            location = self._locate(self._wanted)
            schedd = self._htcondor.Schedd(location)
            try:
                result = schedd.submit(self._htcondor.Submit(dict(lines)), itemdata=iter(list(map(dict, items))))
            except self._htcondor.HTCondorException as error:
                if _NOT_UNDERSTOOD in str(error):
                    raise ConfigurationError(
                        f"HTCondor does not understand the description of the jobs: {error}; see to the site's lines"
                    ) from error
                raise
            return str(location["Name"]), int(result.cluster()), int(result.first_proc())

    def name(self) -> str:
        """What the queue is called."""
        with self._answers("be found"):
            return str(self._locate(self._wanted)["Name"])

    def clusters(self, name: str, clusters: Iterable[int]) -> dict[Number, Mapping[str, Any]]:
        """The jobs of these clusters that are in the queue."""
        found = self._query(name, f"member(ClusterId, {_list_of(map(str, sorted(set(clusters))))})", ATTRIBUTES)
        return {_number(ad): ad for ad in found}

    def left(self, name: str, clusters: Iterable[int], since: float) -> dict[Number, Mapping[str, Any]]:
        """The jobs of these clusters that have left the queue, after ``since`` (seconds since 1970) at the earliest."""
        found = self._history(
            name, f"member(ClusterId, {_list_of(map(str, sorted(set(clusters))))})", ATTRIBUTES, since
        )
        return {_number(ad): ad for ad in found}

    def find(self, keys: Sequence[str], since: float) -> dict[tuple[str, str], tuple[str, Number]]:
        """Where the jobs with these keys are, in the queue or in the history: (key, directory) to queue and number."""
        with self._answers("be found"):
            name = str(self._locate(self._wanted)["Name"])
        rule = f"member(B2calKey, {_list_of(map(json.dumps, keys))})"
        wanted = ("ClusterId", "ProcId", "B2calKey", "Iwd")
        queued = self._query(name, rule, wanted)  # first, or one that leaves the queue just now would be in neither
        found = [*self._history(name, rule, wanted, since), *queued]
        return {(str(ad["B2calKey"]), str(ad["Iwd"])): (name, _number(ad)) for ad in found}

    def remove(self, name: str, numbers: Sequence[Number], reason: str) -> None:
        """Withdraw the jobs; those that are not there are passed over. It does not wait until they are gone."""
        self._act(name, self._htcondor.JobAction.Remove, numbers, reason)

    def release(self, name: str, numbers: Sequence[Number], reason: str) -> None:
        """Let held jobs go on; others are passed over."""
        self._act(name, self._htcondor.JobAction.Release, numbers, reason)

    def _act(self, name: str, action: object, numbers: Sequence[Number], reason: str) -> None:
        with self._answers("be asked to act on jobs"):
            schedd = self._htcondor.Schedd(self._locate(name))
            # a plain string as reason is dropped by the bindings of 25.14, one with a code is not
            done = schedd.act(action, [f"{cluster}.{place}" for cluster, place in numbers], reason=(reason, 0))
        if denied := int(done["TotalPermissionDenied"]) if done is not None else 0:
            raise BackendError(
                f"HTCondor's queue {name} does not let us act on {denied} of our jobs; whoever administers the pool"
                " must allow it for the user who submitted them",
                transient=False,
            )

    def _query(self, name: str, rule: str, attributes: Sequence[str]) -> list[Mapping[str, Any]]:
        with self._answers("tell about jobs"):
            return list(self._htcondor.Schedd(self._locate(name)).query(rule, list(attributes)))

    def _history(self, name: str, rule: str, attributes: Sequence[str], since: float) -> list[Mapping[str, Any]]:
        end = f"EnteredCurrentStatus < {int(since) - _HISTORY_SLACK_SECONDS}"  # read backwards, until this is true
        with self._answers("tell about former jobs"):
            return list(self._htcondor.Schedd(self._locate(name)).history(rule, list(attributes), since=end))

    def _locate(self, name: str | None) -> Mapping[str, Any]:
        """The daemon of a queue: that of this machine is found without asking the collector."""
        collector, kind = self._htcondor.Collector(), self._htcondor.DaemonType.Schedd
        local: Mapping[str, Any] | None = collector.locate(kind) if self._wanted is None else None
        if local is not None and name in {None, local["Name"]}:
            return local
        found: Mapping[str, Any] | None = collector.locate(kind, name) if name is not None else None
        if found is None:
            raise BackendError(
                f"the collector of HTCondor knows no queue {name or 'here'} at the moment; ask again, and see"
                " condor_status -schedd",
                transient=True,
            )
        return found

    @contextmanager
    def _answers(self, what: str) -> Iterator[None]:
        try:
            yield
        except (self._htcondor.HTCondorException, RuntimeError, OSError) as error:
            raise BackendError(
                f"HTCondor's queue {self._wanted or 'of this machine'} could not {what}: {error}; ask again when"
                " condor_q works",
                transient=True,
            ) from error


def _number(ad: Mapping[str, Any]) -> Number:
    return int(ad["ClusterId"]), int(ad["ProcId"])


def _list_of(values: Iterable[str]) -> str:
    return "{" + ", ".join(values) + "}"
