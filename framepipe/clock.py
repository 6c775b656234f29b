"""One clock for all that wait for a time.

A timer of the event loop costs several times what a place in a heap does, and hundreds of calls
in one process each have a few. So all pipelines of one event loop share a heap and one task that
sleeps until its top. The task belongs to one of the running pipelines; when that one ends,
another takes over, so it never lacks a parent.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import anyio
from anyio.lowlevel import RunVar, checkpoint

from framepipe.frames import NS_PER_S


def now_ns() -> int:
    """Engine time: the event loop's clock in integer nanoseconds."""
    return round(anyio.current_time() * NS_PER_S)


class _Sleeper:
    __slots__ = ("event", "is_over", "reached")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.reached = False
        self.is_over = False


class Clock:
    """Wakes those who wait for a time. Get the event loop's one from `shared_clock`."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, _Sleeper]] = []
        self._order = 0
        self._n_over = 0
        self._changed: anyio.Event | None = None
        self._driver = anyio.Lock()

    async def until(self, at_ns: int | None, sleepers: list[Callable[[], object]]) -> bool:
        """Wait for a time, or to be woken.

        Args:
            at_ns: Engine time in nanoseconds; ``None`` waits to be woken only.
            sleepers: Holds, while this waits, a function that wakes it.

        Returns:
            Whether the time was reached.

        Cancellation leaves nothing behind. Needs a task in `serve`.
        """
        if at_ns is not None and at_ns <= now_ns():
            await checkpoint()
            return True
        sleeper = _Sleeper()
        if at_ns is not None:
            self._order += 1
            heapq.heappush(self._heap, (at_ns, self._order, sleeper))
            if self._heap[0][2] is sleeper and self._changed is not None:
                self._changed.set()
        sleepers.append(sleeper.event.set)
        try:
            await sleeper.event.wait()
        finally:
            sleepers.remove(sleeper.event.set)
            sleeper.is_over = True
            if at_ns is not None and not sleeper.reached:
                self._forget_one()
        return sleeper.reached

    async def serve(self) -> None:
        """Drive the clock, or stand by until the one who does has ended. Never returns."""
        async with self._driver:
            while True:
                self._changed = anyio.Event()
                deadline_s = self._wake_due()
                with anyio.CancelScope(deadline=deadline_s):
                    await self._changed.wait()

    def _wake_due(self) -> float:
        now = now_ns()
        while self._heap:
            at_ns, _, sleeper = self._heap[0]
            if at_ns > now and not sleeper.is_over:
                return at_ns / NS_PER_S
            heapq.heappop(self._heap)
            if sleeper.is_over:
                self._n_over -= 1
            else:
                sleeper.reached = True
                sleeper.event.set()
        return math.inf

    def _forget_one(self) -> None:
        # A far deadline whose sleeper was woken early stays in the heap; without this a stage
        # that is woken often would leave thousands.
        self._n_over += 1
        if self._n_over > 64 and self._n_over > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if not entry[2].is_over]
            heapq.heapify(self._heap)
            self._n_over = 0


_shared: RunVar[Clock] = RunVar("framepipe clock")


def shared_clock() -> Clock:
    """The one clock of the running event loop."""
    try:
        return _shared.get()
    except LookupError:
        clock = Clock()
        _shared.set(clock)
        return clock
