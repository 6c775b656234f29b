"""Virtual time for asyncio: when nothing can happen now, it is at once later.

The loop never waits. Its clock stands still while callbacks run and jumps to the next timer when
none is left, so an hour of conversation takes as long as its work. Timers of the same instant
fire in the order they were made; asyncio's heap alone does not promise that.

A thread or a real socket cannot hold the clock: keep both out of virtual time.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeVar, TypeVarTuple, Unpack

import anyio

_Args = TypeVarTuple("_Args")
_T = TypeVar("_T")


class _Instant(float):
    """A time that also knows its place among equal times."""

    __slots__ = ("order",)

    order: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Instant) and float(self) == float(other):
            return self.order < other.order
        return float(self) < float(other)


class _NeverWaits(selectors.SelectSelector):
    """Asks the sockets without waiting, and skips the time the loop would have waited."""

    def __init__(self, skip: Callable[[], None]) -> None:
        super().__init__()
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        self._skip()
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock starts at 0 and jumps instead of waiting.

    Raises:
        RuntimeError: Every task waits and no timer is set: a deadlock, found at once.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._timers_made = 0
        super().__init__(_NeverWaits(self._skip))

    def time(self) -> float:
        """Seconds since the loop began, virtual."""
        return self._now_s

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Args]], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's, first-in-first-out among equal times."""
        instant = _Instant(when)
        instant.order = self._timers_made
        self._timers_made += 1
        return super().call_at(instant, callback, *args, context=context)

    def _skip(self) -> None:
        # asyncio has just dropped cancelled timers from the top of its heap, so the top is the
        # next one to fire; its own `when`, not now + timeout, which may differ in the last bit.
        timers: list[asyncio.TimerHandle] = getattr(self, "_scheduled")  # noqa: B009
        if not timers or timers[0].when() == math.inf:
            raise RuntimeError(
                "virtual time stands still: every task waits and no timer is set; something "
                "waits for a thread, a socket, or an event that nobody will set"
            )
        self._now_s = max(self._now_s, float(timers[0].when()))


def run_virtual(function: Callable[[Unpack[_Args]], Awaitable[_T]], *args: *_Args) -> _T:
    """Run an async function on asyncio in virtual time.

    Args:
        function: The async function.
        args: Its arguments.

    Returns:
        What it returns.
    """
    return anyio.run(
        function, *args, backend="asyncio", backend_options={"loop_factory": VirtualLoop}
    )
