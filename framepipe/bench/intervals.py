"""How sure a figure is: 95 % intervals for shares and for percentiles.

Repeats of one recording resemble each other more than two recordings do, so what counts as one
observation is the recording, not the repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np

Interval: TypeAlias = tuple[float, float]
"""Lower and upper end."""

_Z: Final = 1.96
"""Of a normal distribution, 95 % lie within so many standard deviations."""

_DRAWS: Final = 1_000


def wilson(share: float, n: int) -> Interval:
    """Wilson's interval for a share of ``n`` observations; honest at 0 and 1, too.

    Args:
        share: What was observed, 0 to 1; need not be a whole number of ``n``.
        n: Independent observations, 0 or more.
    """
    if n == 0:
        return 0.0, 1.0
    z2 = _Z * _Z / n
    middle = share + z2 / 2
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n))
    return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))


def percentile_intervals(
    groups: Sequence[Sequence[float]], q: Sequence[float], *, seed: int = 1
) -> list[Interval]:
    """Bootstrap intervals of percentiles, by drawing whole groups.

    Args:
        groups: The figures of each recording; at least one is not empty.
        q: The percentiles, 0 to 100.
        seed: Of the draws.
    """
    filled = [np.asarray(group, np.float64) for group in groups if len(group)]
    draw = np.random.default_rng(seed)
    found = np.empty((_DRAWS, len(q)))
    for row in found:
        chosen: list[int] = draw.integers(0, len(filled), len(filled)).tolist()
        row[:] = np.percentile(np.concatenate([filled[i] for i in chosen]), q)
    ends = np.percentile(found, [2.5, 97.5], axis=0)
    return [(float(low), float(high)) for low, high in ends.T]
