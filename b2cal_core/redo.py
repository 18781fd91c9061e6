"""What a rejection asks to be done otherwise when the result is made again."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from b2cal_core.one_line import OneLine
from b2cal_core.ranges import ExpRun

BOUNDARIES_KEY = "payload_boundaries"
"""The key of ``expert_config`` by which scripts take boundaries, as ``[[experiment, run], ...]``."""
_Pair = tuple[int, int]


class Redo(OneLine):
    """What is done otherwise; without anything the same is made once more.

    Attributes:
        expert_config: keys that replace those of campaign and script.
        excluded_runs: runs whose data are left out.
        boundaries: first runs of payloads; ``None`` leaves them as they are, none at all means one payload.
        anew: what earlier rejections asked for no longer counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    what = "instruction for a redo"

    expert_config: dict[str, Any] = Field(default_factory=dict)
    excluded_runs: tuple[_Pair, ...] = ()
    boundaries: tuple[_Pair, ...] | None = None
    anew: bool = False

    @field_validator("excluded_runs", "boundaries")
    @classmethod
    def _sorted_runs(cls, value: tuple[_Pair, ...] | None) -> tuple[_Pair, ...] | None:
        return None if value is None else tuple(sorted({ExpRun(*pair).edge for pair in value}))

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing."""
        return self == Redo()

    @property
    def config(self) -> Mapping[str, Any]:
        """The keys of ``expert_config`` that are replaced, boundaries among them."""
        if self.boundaries is None:
            return self.expert_config
        return self.expert_config | {BOUNDARIES_KEY: [list(pair) for pair in self.boundaries]}

    def leaves_out(self, run: ExpRun) -> bool:
        """Whether the data of a run are left out."""
        return run.edge in self.excluded_runs

    def then(self, later: "Redo") -> "Redo":
        """Both, the later one winning where they differ; that one alone when it starts anew."""
        if later.anew:
            return later.model_copy(update={"anew": False})
        return Redo(
            expert_config=self.expert_config | later.expert_config,
            excluded_runs=(*self.excluded_runs, *later.excluded_runs),
            boundaries=self.boundaries if later.boundaries is None else later.boundaries,
        )

    def in_words(self) -> str:
        """What is asked for, in one line; empty for nothing."""
        parts = [f"{key}={json.dumps(value, sort_keys=True)}" for key, value in self.config.items()]
        if self.excluded_runs:
            parts.append(f"without {', '.join(str(ExpRun(*pair)) for pair in self.excluded_runs)}")
        return "; ".join([*parts, *(["nothing of what was asked for before"] if self.anew else [])])
