"""How many examples a property tries that is slower, or hungrier, than the others."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

USUAL: Final = 60
"""Examples of a property in ``make test``."""


def about(n: int) -> int:
    """``n`` in ``make test``, and as many times more as ``make prove`` asks for."""
    return max(n, n * settings().max_examples // USUAL)
