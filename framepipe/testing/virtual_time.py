"""Virtual time: when nothing can happen now, it is at once later.

The clock stands still while tasks run and jumps to the next deadline when all of them wait, so an
hour of conversation takes as long as its work. On asyncio (`VirtualLoop`) timers of the same
instant fire in the order they were made, which asyncio's heap alone does not promise: a run is
the same every time. On trio it is trio's own autojump clock; simultaneous wake-ups may differ.

Nothing outside the event loop can hold such a clock: while a thread works for 50 ms, a timeout of
ten minutes passes at once. So whoever starts a thread or opens a socket in virtual time gets a
`VirtualTimeError` there and then. Two more mistakes that would hang in real time are errors too:
every task waits for something that nobody will do, and tasks that run for ever without waiting.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, TypeVarTuple, Unpack

import anyio

from framepipe.errors import FramepipeError

if TYPE_CHECKING:
    from trio.abc import Instrument

_Args = TypeVarTuple("_Args")
_T = TypeVar("_T")

Backend: TypeAlias = Literal["asyncio", "trio"]
"""The two event loops that anyio runs on."""

SPIN_LIMIT: Final = 500_000
"""Turns of the event loop at one instant after which the clock is taken to stand for ever: some
seconds of work. The longest honest run of the project's own tests is a hundredth of that."""

_WAY_OUT: Final = (
    "the clock cannot wait for it and would jump over every timeout; replace it (memory_pair and "
    "server_in_process for sockets), or run this in real time, with anyio.run"
)

_FORBIDDEN: Final = {
    "socket.bind": "a real socket was bound in virtual time",
    "socket.connect": "a real socket was connected in virtual time",
    "socket.getaddrinfo": "a host name was looked up in virtual time",
}
"""Audit events of the interpreter that no virtual clock can wait for."""


_START: Final = "start"


class VirtualTimeError(FramepipeError, RuntimeError):
    """Virtual time cannot go on: a thread or socket is used in it, or nothing moves any more."""


# --- what may not happen meanwhile ---------------------------------------------------------------


class _Watch:
    """Refuses threads and sockets to those threads in which a virtual clock runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_clocks: Counter[int] = Counter()
        self._start_thread = threading.Thread.start
        self._is_hooked = False

    def begin(self) -> None:
        """A virtual clock starts in this thread."""
        with self._lock:
            if not self._is_hooked:
                # There is no taking an audit hook out again, so not before it is needed.
                self._is_hooked = True
                sys.addaudithook(self._on_audit)
            if not self._n_clocks:
                # Python 3.11 has no audit event for a thread.
                self._start_thread = threading.Thread.start
                setattr(threading.Thread, _START, self._refusing(self._start_thread))
            self._n_clocks[threading.get_ident()] += 1

    def end(self) -> None:
        """It stops."""
        with self._lock:
            self._n_clocks[threading.get_ident()] -= 1
            self._n_clocks = +self._n_clocks
            if not self._n_clocks:
                setattr(threading.Thread, _START, self._start_thread)

    def _refusing(
        self, start: Callable[[threading.Thread], None]
    ) -> Callable[[threading.Thread], None]:
        def start_in_real_time(thread: threading.Thread) -> None:
            if threading.get_ident() in self._n_clocks:
                raise VirtualTimeError(f"a thread was started in virtual time: {_WAY_OUT}")
            start(thread)

        return start_in_real_time

    def _on_audit(self, event: str, _: object) -> None:
        # No clock first: at the interpreter's end the names of this module are gone.
        if self._n_clocks and event in _FORBIDDEN and threading.get_ident() in self._n_clocks:
            raise VirtualTimeError(f"{_FORBIDDEN[event]}: {_WAY_OUT}")


_watch: Final = _Watch()


# --- asyncio --------------------------------------------------------------------------------------


class _Instant(float):
    """A time that also knows its place among equal times."""

    __slots__ = ("order",)

    order: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Instant) and float(self) == float(other):
            return self.order < other.order
        return float(self) < float(other)


class _NeverWaits(selectors.SelectSelector):
    """Asks the loop's own pipe without waiting, and skips the time the loop would have waited."""

    def __init__(self, skip: Callable[[], None], turn: Callable[[], None]) -> None:
        super().__init__()
        self._skip = skip
        self._turn = turn
        self.is_sealed = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.is_sealed:
            raise VirtualTimeError(f"a real socket or file was waited for: {_WAY_OUT}")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turn()
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        self._skip()
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock starts at 0 and jumps instead of waiting.

    ``anyio.run(main, backend_options={"loop_factory": VirtualLoop})`` is what `run_virtual` does.

    Raises:
        VirtualTimeError: A thread or a socket is used; every task waits and no timer is set (a
            deadlock, found at once); or tasks run on and on without waiting.
    """

    spin_limit: int = SPIN_LIMIT
    """Turns of the loop at one instant that are too many."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._timers_made = 0
        self._n_turns = 0
        self._intruder: VirtualTimeError | None = None
        self._home = threading.get_ident()
        files = _NeverWaits(self._skip, self._turn)
        super().__init__(files)
        files.is_sealed = True  # the loop has its own pipe by now

    def time(self) -> float:
        """Seconds since the loop began, virtual."""
        return self._now_s

    def run_forever(self) -> None:
        """As asyncio's, with threads and sockets forbidden meanwhile."""
        self._home = threading.get_ident()
        _watch.begin()
        try:
            super().run_forever()
        finally:
            _watch.end()

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

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[_Args]], object],
        *args: *_Args,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """As asyncio's; from another thread it ends the run, since time may have jumped by then."""
        if threading.get_ident() != self._home and self._intruder is None:
            self._intruder = VirtualTimeError(
                f"the thread {threading.current_thread().name} called into virtual time: {_WAY_OUT}"
            )
        return super().call_soon_threadsafe(callback, *args, context=context)

    def _turn(self) -> None:
        intruder, self._intruder = self._intruder, None
        if intruder is not None:
            raise intruder
        self._n_turns += 1
        if self._n_turns > self.spin_limit:
            self._n_turns = 0
            raise VirtualTimeError(_spins(self.spin_limit, self._now_s))

    def _skip(self) -> None:
        # asyncio has just dropped cancelled timers from the top of its heap, so the top is the
        # next one to fire; its own `when`, not now + timeout, which may differ in the last bit.
        timers: list[asyncio.TimerHandle] = getattr(self, "_scheduled")  # noqa: B009
        if not timers or timers[0].when() == math.inf:
            raise VirtualTimeError(_STANDS_STILL)
        if timers[0].when() > self._now_s:
            self._n_turns = 0
            self._now_s = float(timers[0].when())


_STANDS_STILL: Final = (
    "virtual time stands still: every task waits and no timer is set; something waits for a "
    "thread, a socket, or an event that nobody will set"
)


def _spins(n_turns: int, now_s: float) -> str:
    return (
        f"virtual time stands still at {now_s:.3f} s: tasks ran on for {n_turns} turns of the "
        "event loop without waiting for a time; a loop without a sleep in it, or one that "
        "swallows its cancellation"
    )


# --- trio -----------------------------------------------------------------------------------------


def _trio_guard(stop: Callable[[VirtualTimeError], None] | None = None) -> Instrument:
    """Keeps threads and sockets out of a trio run.

    With ``stop``, also finds what was there before the run (trio keeps threads for later), and a
    clock that stands still.
    """
    import trio

    class Guard(trio.abc.Instrument):
        def __init__(self) -> None:
            self._n_turns = 0
            self._now_s = -1.0

        def before_run(self) -> None:
            _watch.begin()

        def after_run(self) -> None:
            _watch.end()

        def before_io_wait(self, timeout: float) -> None:
            if stop is None:
                return
            if trio.to_thread.current_default_thread_limiter().borrowed_tokens:
                stop(VirtualTimeError(f"a thread works in virtual time: {_WAY_OUT}"))
            run = trio.lowlevel.current_statistics()
            n_waiting = getattr(run.io_statistics, "tasks_waiting_read", 1)
            n_waiting += getattr(run.io_statistics, "tasks_waiting_write", 0)
            if n_waiting > 1:  # the first is trio's own
                stop(VirtualTimeError(f"a real socket or file was waited for: {_WAY_OUT}"))
            is_idle = run.tasks_runnable == 0 and run.run_sync_soon_queue_size == 0
            if is_idle and run.seconds_to_next_deadline == math.inf:
                stop(VirtualTimeError(_STANDS_STILL))
            self._count(trio.current_time(), stop)

        def _count(self, now_s: float, stop: Callable[[VirtualTimeError], None]) -> None:
            self._n_turns = self._n_turns + 1 if now_s == self._now_s else 0
            self._now_s = now_s
            if self._n_turns > SPIN_LIMIT:
                self._n_turns = 0
                stop(VirtualTimeError(_spins(SPIN_LIMIT, now_s)))

    return Guard()


def _run_on_trio(function: Callable[[Unpack[_Args]], Awaitable[_T]], *args: *_Args) -> _T:
    import trio
    from trio.testing import MockClock

    scope = trio.CancelScope()
    errors: list[VirtualTimeError] = []

    def stop(error: VirtualTimeError) -> None:
        errors.append(error)
        scope.cancel()

    async def guarded() -> _T:
        try:
            with scope:
                return await function(*args)
        finally:
            if errors:
                raise errors[0]
        raise AssertionError("only the guard cancels this scope, and it leaves an error")

    return anyio.run(
        guarded,
        backend="trio",
        backend_options={
            "clock": MockClock(autojump_threshold=0),
            "instruments": [_trio_guard(stop)],
        },
    )


# --- both -----------------------------------------------------------------------------------------


def run_virtual(
    function: Callable[[Unpack[_Args]], Awaitable[_T]],
    *args: *_Args,
    backend: Backend = "asyncio",
) -> _T:
    """Run an async function in virtual time.

    Args:
        function: The async function.
        args: Its arguments.
        backend: "asyncio", which is the same every time, or "trio".

    Returns:
        What it returns.

    Raises:
        VirtualTimeError: A thread or a socket is used, or nothing moves any more.
    """
    if backend == "trio":
        return _run_on_trio(function, *args)
    return anyio.run(
        function, *args, backend="asyncio", backend_options={"loop_factory": VirtualLoop}
    )


def virtual_backend(backend: Backend = "asyncio") -> tuple[str, dict[str, Any]]:
    """Virtual time for whoever runs tests with anyio's own pytest plugin.

    Args:
        backend: "asyncio" or "trio".

    Returns:
        What the fixture ``anyio_backend`` is to return. Threads and sockets are refused; on trio
        a deadlock is not found, because there anyio's plugin owns the main task.
    """
    if backend == "asyncio":
        return "asyncio", {"loop_factory": VirtualLoop}
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(autojump_threshold=0), "instruments": [_trio_guard()]}
