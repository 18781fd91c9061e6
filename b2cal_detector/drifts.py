"""How true constants change from run to run: smooth drifts, jumps, and scatter, each a pure function of seed and run.

Every random number is drawn from a generator made of what it belongs to, so that the truth of a run does not depend on
which other runs were asked for.
"""

import zlib

import numpy as np

from b2cal_core.ranges import ExpRun


def generator(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """The random generator that belongs to a name and some numbers, and to nothing else."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode()), *numbers]))


def smooth_drift(seed: int, name: str, run: ExpRun) -> float:
    """A slow wave of unit amplitude: two sines with periods of about 60 and 25 runs."""
    rng = generator(seed, f"{name}/drift", run.exp)
    phases = rng.uniform(0, 2 * np.pi, 2)
    periods = rng.uniform(50, 70), rng.uniform(20, 30)
    waves = [np.sin(2 * np.pi * run.run / period + phase) for period, phase in zip(periods, phases, strict=True)]
    return float(0.7 * waves[0] + 0.3 * waves[1])


def scatter(seed: int, name: str, run: ExpRun) -> float:
    """A standard normal number of its own for every run."""
    return float(generator(seed, f"{name}/scatter", *run).normal())


def jump_level(seed: int, name: str, run: ExpRun, *, every: int) -> float:
    """A level that alternates in sign and stays the same between jumps.

    There is one jump in every block of ``every`` runs, near the block's middle, so that levels last; they have a size
    from 0.7 to 1.3.
    """
    block, place = divmod(run.run, every)
    jump_at = int(generator(seed, f"{name}/jump", run.exp, block).integers(2 * every // 5, 3 * every // 5 + 1))
    level = block + (place >= jump_at)
    size = generator(seed, f"{name}/level", run.exp, level).uniform(0.7, 1.3)
    return float(size if level % 2 else -size)
