"""What assets and sensors work with: the ports, as one resource."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from b2cal_core.buckets import Bucket
from b2cal_core.campaigns import Site
from b2cal_core.ports import (
    Caf,
    CafObserver,
    CampaignStore,
    CdstProducer,
    ConditionsDB,
    RunRegistry,
    SignOffLog,
    ValidationRequest,
)
from b2cal_core.verdicts import Figure


class Workplaces(Protocol):
    """Where the work on a bucket lies on disk."""

    def work(self, campaign: str, bucket: Bucket | str) -> Path:
        """The work directory of one bucket."""

    def request(self, campaign: str, bucket: Bucket | str, *, calibration: str) -> Path:
        """The CAF request directory of one calibration."""

    def validation(self, campaign: str, bucket: Bucket | str, *, calibration: str) -> Path:
        """Plots and figures of one calibration."""

    def cdst(self, campaign: str, bucket: Bucket | str) -> Path:
        """The bucket's cDST files."""


class SilentObserver(CafObserver):
    """Hears everything and tells nobody."""

    def state(self, calibration: str, state: str, iteration: int) -> None:
        """Nothing is done with it."""

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        """Nothing is done with it."""

    def log(self, message: str) -> None:
        """Nothing is done with it."""


@dataclass(frozen=True)
class Workshop:
    """The ports of one installation.

    Attributes:
        caf, cdst: make the adapter for a campaign's site.
        validate: runs a validation script and returns its figures.
        listener: hears, besides Dagster, what happens in long work; for the command line.
    """

    places: Workplaces
    campaigns: CampaignStore
    runs: RunRegistry
    conditions: ConditionsDB
    sign_offs: SignOffLog
    caf: Callable[[Site], Caf]
    cdst: Callable[[Site], CdstProducer]
    validate: Callable[[ValidationRequest], Sequence[Figure]]
    listener: CafObserver = field(default_factory=SilentObserver)
