"""Is the user still there?

When nobody has spoken for a while the agent asks, a few times at most. The service has a timer of
its own for this, but it counts audio that it has sent, not audio that is heard; here nothing is
counted while anything plays.

Sans-IO: facts go in through `IdleCore.receive`, orders come out of `IdleCore.deadline_reached`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from framepipe.conversation.turns import Floor
from framepipe.errors import FrameError
from framepipe.frames import ConnectionState, Escalate, Speak

_NS_PER_MS: Final = 1_000_000

Fact: TypeAlias = Floor | ConnectionState
"""What the core is told."""

Command: TypeAlias = Speak | Escalate
"""What the core orders."""


class IdleCore:
    """Nudges a user who has been silent.

    Args:
        text: What the model is asked to say.
        idle_ms: Silence of both sides after which it is said.
        nudges: How often before a person is asked for, 0 or more. The user's voice begins the
            count anew.

    Raises:
        FrameError: A number is out of its range.
    """

    def __init__(self, text: str, *, idle_ms: int, nudges: int = 2) -> None:
        for name, value, least in (("idle_ms", idle_ms, 1), ("nudges", nudges, 0)):
            if value < least:
                raise FrameError(f"{name} is {value}; it must be {least} or more")
        self._text = text
        self._idle_ns = idle_ms * _NS_PER_MS
        self._nudges = nudges
        self._floor = Floor()
        self._is_open = False
        self._said = 0
        self._since_ns: int | None = None

    def receive(self, fact: Fact, at_ns: int) -> None:
        """Take note of a fact.

        Args:
            fact: Who has the floor now, or whether the service is there.
            at_ns: Engine time.
        """
        was_idle = self._is_idle
        if isinstance(fact, Floor):
            self._floor = fact
            if fact.user_speaks:
                self._said = 0
        else:
            self._is_open = fact.state == "open"
        if not self._is_idle:
            self._since_ns = None
        elif not was_idle:
            self._since_ns = at_ns

    @property
    def deadline_ns(self) -> int | None:
        """When to call `deadline_reached`; ``None``: not by itself."""
        if self._since_ns is None or self._said > self._nudges:
            return None
        return self._since_ns + self._idle_ns

    def deadline_reached(self, at_ns: int) -> list[Command]:
        """The time has come.

        Args:
            at_ns: Engine time; too early is no matter.
        """
        due_ns = self.deadline_ns
        if due_ns is None or at_ns < due_ns:
            return []
        self._said += 1
        self._since_ns = at_ns
        if self._said > self._nudges:
            return [Escalate(reason="idle", attempts=self._nudges, at_ns=at_ns)]
        return [Speak(text=self._text, at_ns=at_ns)]

    @property
    def _is_idle(self) -> bool:
        floor = self._floor
        waits = floor.user_speaks or floor.agent_speaks or floor.waits_since_ns is not None
        return self._is_open and not waits
