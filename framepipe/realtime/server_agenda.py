"""What one session of the embedded server does later, and what leaves it.

Time is an argument: `run_until` does what is due, in order, and the events that were sent in the
meantime are taken with the time at which each of them left. Chance and names come from here too,
so that two sessions with the same seed and the same input do the same.

Sans-IO.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import TypeAlias

from msgspec.structs import replace

from framepipe.realtime.events import ErrorDetail, ErrorEvent, KnownServerEvent

Sent: TypeAlias = tuple[int, KnownServerEvent]
"""A server event and the time at which it leaves, in nanoseconds."""

MS = 1_000_000
"""Nanoseconds in a millisecond."""

_Due: TypeAlias = tuple[int, int, Callable[[], None], str]
"""When, in which order among equal times, what, and to whom it belongs."""


class Agenda:
    """Things to do, in time; events to send, in order.

    Args:
        seed: Of chance and of names.

    Attributes:
        now_ns: The time of what is being done.
        chance: The session's only source of chance.
    """

    def __init__(self, seed: int) -> None:
        self.now_ns = 0
        self.chance = Random(seed)
        self._tag = "".join(self.chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=6))
        self._ids = 0
        self._due: list[_Due] = []
        self._planned = 0
        self._out: list[Sent] = []

    @property
    def deadline_ns(self) -> int | None:
        """When the next thing is to be done; ``None``: there is none."""
        return self._due[0][0] if self._due else None

    def plan(self, at_ns: int, act: Callable[[], None], owner: str = "") -> None:
        """Do something later; `forget` takes it back by its owner."""
        self._planned += 1
        heapq.heappush(self._due, (at_ns, self._planned, act, owner))

    def forget(self, owner: str) -> None:
        """Nothing more is to be done for an owner."""
        self._due = [due for due in self._due if due[3] != owner]
        heapq.heapify(self._due)

    def run_next(self, until_ns: int) -> bool:
        """Do the next thing that is due until then. Whether there was one."""
        if not self._due or self._due[0][0] > until_ns:
            self.now_ns = max(self.now_ns, until_ns)
            return False
        at_ns, _, act, _ = heapq.heappop(self._due)
        self.now_ns = max(self.now_ns, at_ns)
        act()
        return True

    def send(self, event: KnownServerEvent) -> None:
        """Send an event now."""
        self._out.append((self.now_ns, replace(event, event_id=self.new_id("event"))))

    def send_later(self, at_ns: int, event: KnownServerEvent) -> None:
        """Send an event at its time."""
        self.plan(at_ns, lambda: self.send(event))

    def refuse(self, detail: ErrorDetail) -> None:
        """Send an error."""
        self.send(ErrorEvent(error=detail))

    def take(self) -> list[Sent]:
        """What was sent since the last call."""
        sent, self._out = self._out, []
        return sent

    def new_id(self, prefix: str) -> str:
        """A name that this session has not used."""
        self._ids += 1
        return f"{prefix}_{self._tag}{self._ids:08d}"

    def drawn_ns(self, bounds_ms: tuple[float, float]) -> int:
        """A length of time between two bounds, by chance."""
        return round(self.chance.uniform(*bounds_ms) * MS)


def padding(text: str) -> str:
    """The service hides the length of a delta by padding; here it is only there."""
    return "0" * (16 - len(text) % 16)
