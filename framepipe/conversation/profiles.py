"""How ready the agent is to be interrupted, by what it is doing.

A `Profile` says how easily the agent falls silent and what it takes to cut it; `PROFILES` has one
for each `Situation`. Both are values: a program that wants other ones makes a table of its own, at
the start or in the middle of a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, Literal, TypeAlias

from attrs import evolve, frozen

from framepipe.errors import FrameError
from framepipe.frames import UrgentDown


class Situation(Enum):
    """What the agent is doing, as far as it matters to who interrupts it."""

    THINKING = auto()
    """Nothing is audible; an answer may be on its way."""
    FIRST_SECOND = auto()
    """A reply has been audible for less than a second."""
    SPEAKING = auto()
    """A reply is audible."""
    TOOL = auto()
    """A reply is audible while a tool runs: "one moment, please"."""
    UNINTERRUPTIBLE = auto()
    """What is audible, or waits to be, must be heard: a legal notice."""


class Needs(Enum):
    """Whose word confirms that the user interrupts, where there is a second stage."""

    EITHER = auto()
    """Whoever says it first: the second stage or the service. Eager; the service takes most
    coughs for speech."""
    SECOND = auto()
    """The second stage. The service's word mutes, and no more."""
    BOTH = auto()
    """The second stage and the service. Slower, and hard to fool."""


OnSuspicion: TypeAlias = Literal["mute", "duck"]
"""What a suspicion does: silence the agent and hold what it says, or let it go on quietly."""


@frozen(kw_only=True)
class Profile:
    """How easily the agent is interrupted.

    Attributes:
        armed: The local detector's first sound may silence or duck the agent.
        suspect: What a suspicion does. "mute" holds, and nothing is lost if it was wrong. With
            "duck" the agent goes on 26 dB quieter; what it says meanwhile counts as heard.
        needs: Whose word cuts. Without a second stage it is the service's.
        reject_ms: How long a suspicion waits for its confirmation; ``None``: 500 ms with a second
            stage, else as late as the service has been.
        interruptible: ``False``: nothing that the user says cuts the agent, nor mutes it; attempts
            are counted.

    Raises:
        FrameError: ``reject_ms`` is not positive.
    """

    armed: bool = True
    suspect: OnSuspicion = "mute"
    needs: Needs = Needs.SECOND
    reject_ms: int | None = None
    interruptible: bool = True

    def __attrs_post_init__(self) -> None:
        if self.reject_ms is not None and self.reject_ms <= 0:
            raise FrameError(f"reject_ms is {self.reject_ms}; it must be 1 or more, or None")
        if self.suspect not in ("mute", "duck"):
            raise FrameError(f"suspect is {self.suspect!r}; it must be 'mute' or 'duck'")


Profiles: TypeAlias = Mapping[Situation, Profile]
"""A profile for each situation."""

PROFILES: Final[Profiles] = {
    # Nothing is audible, so a false alarm costs no word; an answer to half a question does.
    Situation.THINKING: Profile(needs=Needs.EITHER),
    Situation.FIRST_SECOND: Profile(),
    Situation.SPEAKING: Profile(),
    # What is said over a filler is "okay" and "thanks" more often than an interruption.
    Situation.TOOL: Profile(suspect="duck"),
    Situation.UNINTERRUPTIBLE: Profile(armed=False, interruptible=False),
}
"""What is done unless the program says otherwise."""


def profiles(
    changed: Mapping[Situation, Profile] | None = None, *, suspect: OnSuspicion | None = None
) -> Profiles:
    """`PROFILES` with changes.

    Args:
        changed: Profiles that replace the usual ones.
        suspect: What a suspicion does in every situation that ``changed`` does not name;
            ``None``: as in `PROFILES`.

    Raises:
        FrameError: ``suspect`` is neither "mute" nor "duck".
    """
    made = dict(PROFILES)
    if suspect is not None:
        made = {situation: evolve(profile, suspect=suspect) for situation, profile in made.items()}
    return {**made, **(changed or {})}


@frozen(kw_only=True)
class UseProfile(UrgentDown):
    """From now on the agent is interrupted like this, whatever it is doing.

    Emit it from above, or from outside with ``pipeline.emit``: it takes effect before any frame
    that waits.

    Attributes:
        profile: For every situation; ``None``: as the table says again.
    """

    profile: Profile | None = None
