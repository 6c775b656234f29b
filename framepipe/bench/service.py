"""How long a service takes from the beginning of a response to its first sound.

Source: the lab reference, section 1 ("first delta"): 0.43 and 0.49 s in recordings of the service,
one to three seconds from the end of speech elsewhere. None of the three is a certain model's.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framepipe.realtime.answer_plan import Pace


class Service(Enum):
    """How fast the service answers."""

    FAST = "fast"
    """0.45 s, and 0.7 s once in twenty."""
    USUAL = "usual"
    """0.9 s, and 1.6 s once in twenty."""
    SLOW = "slow"
    """1.8 s, and 3.2 s once in twenty."""

    @property
    def pace(self) -> Pace:
        """For the embedded server."""
        # The command line names these profiles, and its help must not wait for the server.
        from framepipe.realtime.answer_plan import LogNormal, Pace

        median_ms, spread = _FIRST_SOUND[self]
        return Pace(first_audio_ms=LogNormal(median_ms=median_ms, spread=spread))


_FIRST_SOUND = {Service.FAST: (450, 0.30), Service.USUAL: (900, 0.35), Service.SLOW: (1_800, 0.35)}
