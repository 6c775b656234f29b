"""Whose turn is it, and which answer belongs to it?

A user turn is a hypothesis. It begins with speech, grows with every word and every item of the
service that the user's voice becomes, and ends in one of two ways: *committed*, after which it
never changes, or *revoked*, and with it everything that was grounded in it: the answer, its
queued and audible voice, its tool calls that run or wait.

Sans-IO: facts go in through `TurnCore.receive`, orders come out as its return value. Time is an
argument, and `TurnCore.deadline_ns` the only timer.

What the others may rely on, and what this file relies on:

- `Corrections` says whether words take back earlier words, and which.
- `EndOfTurn` says after how much silence words are a whole turn.

Source: the incremental units (add, revoke, commit) of Schlangen and Skantze (2009).
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen


@frozen
class Correction:
    """A part of what was said is taken back.

    Attributes:
        old: The words that are void, as they were said; "" if it cannot be said which.
        new: The words in their place; "" if there are none ("scratch that").
    """

    old: str
    new: str


class Corrections(Protocol):
    """Tells a correction from an answer, an addition and a new request."""

    def correction(self, earlier: str, later: str, /) -> Correction | None:
        """Whether ``later`` takes back a part of ``earlier``.

        Called with every piece of the transcript: the answer may change from ``None`` to a
        correction, and shall not change back.

        Args:
            earlier: The words of a user turn before, as far as its transcript goes.
            later: The words that follow it, as far as they have come.
        """
        ...


class EndOfTurn(Protocol):
    """Tells how much silence ends a turn."""

    def silence_ms(self, text: str, /) -> int | None:
        """Silence in milliseconds after which these words are a whole turn.

        Short for "to Denver on Friday", long for "to um" or "and"; ``None``: it cannot tell.

        Args:
            text: All words of the user turn until now.
        """
        ...
