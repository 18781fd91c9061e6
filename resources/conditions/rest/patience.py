"""How often and how long apart something is asked again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Pauses that double, each drawn at random from its upper half so that many clients do not come back at once.

    Attributes:
        attempts: how often something is tried in all.
        first: seconds of the first pause at most; ``longest``: of any.
    """

    attempts: int = 5
    first: float = 0.5
    longest: float = 20.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self, number: int) -> None:
        """Wait after the attempt of this number, counted from 0."""
        self.sleep(min(self.longest, self.first * 2**number) * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
