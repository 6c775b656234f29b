"""How long the embedded server waits for the user to go on, where words decide (semantic_vad).

The service asks a model whether what was said sounds finished. Here the ears are asked for the
words so far when the user falls silent, and the words are judged as an end-of-turn policy judges
them: "a flight to Denver please" is whole, "a flight to um" is not. Words that are whole get the
short silence of the setting, words that are half of a turn its longest, and others one between.
Where the ears make out nothing, a silence in the middle stands in.

An approximation: the three longest silences are the documented ones, everything else is ours.

Source: realtime reference, section 2: ``eagerness`` waits at most 8, 4 and 2 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from framepipe.conversation.endpointing import COMPLETE_P, INCOMPLETE_P, completeness

SHORT_MS: Final[Mapping[str, int]] = {"low": 800, "medium": 500, "auto": 500, "high": 300}
"""Silence after words that are a whole turn."""

UNKNOWN_MS: Final[Mapping[str, int]] = {"low": 2_000, "medium": 1_000, "auto": 1_000, "high": 500}
"""Silence after words that nobody made out."""

LONGEST_MS: Final[Mapping[str, int]] = {
    "low": 8_000,
    "medium": 4_000,
    "auto": 4_000,
    "high": 2_000,
}
"""Silence after words that are no whole turn."""

FIRST_LOOK_MS: Final = 192
"""Silence after which the words are looked at: six windows, shorter than any wait."""


def silence_ms(words: str | None, eagerness: str) -> int:
    """Silence that ends a turn with these words.

    Args:
        words: All of the turn until now; ``None``: nobody made them out.
        eagerness: "low", "medium", "high" or "auto".
    """
    if words is None:
        return UNKNOWN_MS[eagerness]
    short_ms, longest_ms = SHORT_MS[eagerness], LONGEST_MS[eagerness]
    missing = (COMPLETE_P - completeness(words).sure) / (COMPLETE_P - INCOMPLETE_P)
    doubt = min(max(missing, 0.0), 1.0) ** 2  # most words that may be all are all
    return round(short_ms + doubt * (longest_ms - short_ms))
