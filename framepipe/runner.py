"""The shell: tasks for the stages that wait, and the way in from threads.

Every async stage has one task that takes from its mailbox; every ``run`` has one. All live in one
task group, so that none outlives the pipeline. What is delivered to whom is the engine's business
(`framepipe.engine`); this module only waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, TypeAlias, cast

import anyio
from anyio.lowlevel import checkpoint, current_token

from framepipe.clock import Clock, now_ns, shared_clock
from framepipe.engine import Engine
from framepipe.errors import EmitError, MailboxFull
from framepipe.frames import AudioIn, End, Frame, Interruptible, UrgentDown, UrgentUp
from framepipe.graph import Node
from framepipe.mailbox import Mailbox
from framepipe.processor import MAILBOX_CAPACITY

BATCH_FRAMES = 64
"""Frames that a task takes before it lets others run: a drain loop without a checkpoint starves
everybody and never sees its own cancellation; one for each frame costs ten times the hop."""


CallSoon: TypeAlias = Callable[[Callable[[], object]], object]
"""Runs a function in the event loop's thread; safe to call from any thread."""


class _StageEmit:
    """`framepipe.processor.Emit` for one stage of a running pipeline."""

    __slots__ = ("_clock", "_engine", "_inbox", "_n_without_wait", "_node")

    def __init__(self, engine: Engine, node: Node, clock: Clock, call_soon: CallSoon) -> None:
        self._engine = engine
        self._node = node
        self._clock = clock
        self._inbox = _ThreadInbox(engine, node, call_soon)
        self._n_without_wait = 0

    def __call__(self, frame: Frame, /) -> None:
        self._engine.emit(self._node, frame)

    async def room(self) -> None:
        self._n_without_wait += 1
        if self._n_without_wait == BATCH_FRAMES or self._engine.room_needed(self._node):
            # A source that always finds room must still let the others run now and then.
            self._n_without_wait = 0
            await checkpoint()
            await wait_for_room(self._engine, self._node)

    async def until(self, at_ns: int | None) -> bool:
        return await self._clock.until(at_ns, self._node.sleepers)

    def wake(self) -> None:
        self._node.wake()

    def from_thread(self, frame: Frame, /) -> None:
        self._inbox.put(frame)

    async def flush(self) -> None:
        """Send what threads have emitted: it comes before the stage's ``End``."""
        await self._inbox.flush()

    def new_turn(self) -> int:
        return self._engine.new_turn()

    def is_cut(self, turn: int) -> bool:
        return self._engine.is_cut(turn)

    def now_ns(self) -> int:
        return now_ns()


class _ThreadInbox:
    """Frames from device callbacks, until the event loop takes them."""

    __slots__ = ("_call_soon", "_engine", "_frames", "_is_scheduled", "_lock", "_node")

    def __init__(self, engine: Engine, node: Node, call_soon: CallSoon) -> None:
        self._engine = engine
        self._node = node
        self._call_soon = call_soon
        self._frames: deque[Frame] = deque()
        self._lock = threading.Lock()
        self._is_scheduled = False

    def put(self, frame: Frame) -> None:
        if self._engine.is_over:
            raise EmitError(f"{self._node.name}: the pipeline does not run any more")
        with self._lock:
            if len(self._frames) >= MAILBOX_CAPACITY:
                if not isinstance(frame, AudioIn):
                    raise MailboxFull(
                        f"{self._node.name}: {MAILBOX_CAPACITY} frames from threads wait for "
                        "the event loop; emit less often"
                    )
                oldest = next((f for f in self._frames if isinstance(f, AudioIn)), None)
                self._node.dropped["shed"] += 1
                if oldest is None:
                    return
                self._frames.remove(oldest)
            self._frames.append(frame)
            if self._is_scheduled:
                return
            self._is_scheduled = True
        try:
            self._call_soon(self._drain)
        except RuntimeError as error:  # asyncio: loop is closed; trio: RunFinishedError
            with self._lock:
                self._frames.clear()
                self._is_scheduled = False
            raise EmitError(f"{self._node.name}: the pipeline does not run any more") from error

    async def flush(self) -> None:
        while self._frames and self._engine.failure is None:
            await wait_for_room(self._engine, self._node)
            self._drain()

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._frames:
                    self._is_scheduled = False
                    return
                frame = self._frames.popleft()
            try:
                self._engine.emit(self._node, frame)
            except MailboxFull:
                with self._lock:
                    self._frames.appendleft(frame)
                full = next(m for m in self._node.gates if m.depth >= m.capacity)
                full.room_waiters.append(lambda: self._call_soon(self._drain))
                return
            except Exception as error:
                # The thread has gone on long ago: the run hears of it.
                if self._node.ended or self._engine.is_over:
                    self._node.dropped["after end"] += 1
                else:
                    self._engine.fail(self._node, frame, error)


async def wait_for_room(engine: Engine, node: Node, frame: Frame | None = None) -> None:
    """Wait until every mailbox that a frame from ``node`` can reach first has room.

    Not longer than ``frame`` is wanted: one of a cut turn is dropped, room or not.
    """
    while engine.failure is None and not engine.is_over and not engine.is_stale(frame):
        full: Mailbox | None = next((m for m in node.gates if m.depth >= m.capacity), None)
        if full is None:
            return
        event = anyio.Event()
        full.room_waiters.append(event.set)
        try:
            await event.wait()
        finally:
            if event.set in full.room_waiters:
                full.room_waiters.remove(event.set)


class _FutureSignal:
    """An event for one waiter on asyncio: half the price of `anyio.Event`."""

    __slots__ = ("_future",)

    def __init__(self, loop: Any) -> None:
        self._future = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


def _call_now(function: Callable[[], object]) -> object:
    return function()


def _context_of_asyncio() -> Context:
    """A context in which anyio knows its backend, though no task of asyncio runs.

    Where sniffio is installed, anyio asks it, and it looks for a task or for this variable.
    Handlers that a frame from a thread reaches must be able to ask for the time.
    """
    context = copy_context()
    try:
        from sniffio import current_async_library_cvar
    except ImportError:
        return context  # anyio then asks asyncio itself
    context.run(current_async_library_cvar.set, "asyncio")
    return context


class _Backend:
    """What the running backend does cheaper than anyio, behind one face.

    Attributes:
        signal: Makes an event for one waiter.
        call_soon: Runs a function before the loop waits again (asyncio), or at once (trio).
        call_soon_from_threads: The way in from another thread; anyio has none that does not wait.
    """

    def __init__(self) -> None:
        native = cast("Any", current_token().native_token)
        if hasattr(native, "create_future"):  # asyncio
            self.signal: Callable[[], anyio.Event | _FutureSignal] = partial(_FutureSignal, native)
            # anyio words a reason for each cancel with the repr of the current task, which costs
            # more than the cancelling; in a callback there is no current task.
            self.call_soon = cast("CallSoon", native.call_soon)
            self.call_soon_from_threads = cast(
                "CallSoon", partial(native.call_soon_threadsafe, context=_context_of_asyncio())
            )
        else:
            self.signal = anyio.Event
            self.call_soon = _call_now
            self.call_soon_from_threads = cast("CallSoon", native.run_sync_soon)


_Plan: TypeAlias = tuple[Callable[[Any], Any] | None, bool, bool]
"""What a worker does with a frame type: what to call, whether to await it, whether the frame
belongs to a turn."""


class _Worker:
    """The task of one async stage: takes from its mailbox, handles, sends on."""

    def __init__(self, engine: Engine, node: Node, mailbox: Mailbox, backend: _Backend) -> None:
        self._engine = engine
        self._node = node
        self._mailbox = mailbox
        self._backend = backend
        self._plans: dict[type, _Plan] = {}
        self._cut_short = False
        self._scope: anyio.CancelScope

    async def work(self) -> None:
        # One scope for the stage, reopened after a cut: one for each frame costs microseconds.
        self._node.cancel_work = self._cancel_work
        while not self._node.told_end and self._engine.failure is None:
            self._cut_short = False
            with anyio.CancelScope() as self._scope:
                await self._drain()

    def _cancel_work(self) -> None:
        self._cut_short = True
        self._backend.call_soon(self._scope.cancel)

    async def _drain(self) -> None:
        engine, node, plans, take = self._engine, self._node, self._plans, self._mailbox.take
        signal = self._backend.signal
        n_taken = 0
        while engine.failure is None and not self._cut_short:
            if n_taken == BATCH_FRAMES:
                n_taken = 0
                await checkpoint()
            frame = take()
            if frame is None:
                n_taken = 0
                ready = signal()
                self._mailbox.wake_reader = ready.set
                await ready.wait()
                continue
            n_taken += 1
            handle, is_async, of_a_turn = plans.get(frame.__class__) or self._plan(frame)
            try:
                if handle is None:
                    await self._send(frame, passing=True)
                elif not is_async:
                    await self._send_all(engine.call(node, handle, frame))
                elif of_a_turn or engine.is_observed:
                    turn = cast("Interruptible", frame).turn if of_a_turn else 0
                    await self._handle(handle, frame, turn)
                else:  # no cut concerns it and nobody looks: the short way
                    result = handle(frame)
                    if result.__class__ is CoroutineType:
                        output = await result
                        if output is not None and not engine.relay(node, output):
                            await self._send_output(output)
                    else:
                        await self._stream(frame, result, 0)
            except Exception as error:
                engine.fail(node, frame, error)
            if frame.__class__ is End:
                engine.end_reached(node)
                return

    def _plan(self, frame: Frame) -> _Plan:
        handler = self._node.pick(type(frame))
        plan: _Plan = (
            None if handler is None else handler.call,
            handler is not None and handler.is_async,
            isinstance(frame, Interruptible),
        )
        self._plans[type(frame)] = plan
        return plan

    async def _handle(self, handle: Callable[[Any], Any], frame: Frame, turn: int) -> None:
        engine, node = self._engine, self._node
        if engine.is_observed:
            engine.handled(node, frame)
        finished = False
        try:
            result = handle(frame)
            if result.__class__ is CoroutineType:
                node.working_turn = turn
                output = await result
                # Neither waiting for room nor sending is working: a cut must not eat output
                # that is not interruptible. (The engine drops the rest.)
                node.working_turn = 0
                if engine.is_observed and output is not frame and not self._cut_short:
                    engine.decided(node, frame)
                if self._cut_short or output is None:
                    pass
                elif not engine.relay(node, output):
                    await self._send_output(output)
            else:
                await self._stream(frame, cast("AsyncGenerator[Frame, None]", result), turn)
            finished = True
        except Exception:
            finished = True
            raise
        finally:
            node.working_turn = 0
            if turn and (self._cut_short or not finished):
                engine.drop(node, frame, "cut")

    async def _stream(self, frame: Frame, frames: AsyncGenerator[Frame, None], turn: int) -> None:
        passed_on = False
        try:
            while True:
                self._node.working_turn = turn
                try:
                    made = await anext(frames)
                except StopAsyncIteration:
                    if self._engine.is_observed and not passed_on:
                        self._engine.decided(self._node, frame)
                    return
                finally:
                    self._node.working_turn = 0
                if self._cut_short:
                    return
                passed_on = passed_on or made is frame
                await self._send(made)
                if turn and self._engine.is_cut(turn):
                    self._node.dropped["cut"] += 1
                    return
        finally:
            with anyio.CancelScope(shield=True):
                if hasattr(frames, "aclose"):
                    await frames.aclose()

    async def _send_output(self, output: Any) -> None:
        await self._send_all([output] if isinstance(output, Frame) else list(output))

    async def _send_all(self, frames: list[Frame]) -> None:
        for frame in sorted(frames, key=_is_ordered) if len(frames) > 1 else frames:
            await self._send(frame)

    async def _send(self, frame: Frame, *, passing: bool = False) -> None:
        if isinstance(frame, End):
            return  # the engine sends it when the stage is done
        if _is_ordered(frame):
            if self._engine.room_needed(self._node):
                await wait_for_room(self._engine, self._node, frame)
            if self._node.ended:
                self._engine.drop(self._node, frame, "after end")
                return
        self._engine.emit(self._node, frame, passing=passing)


def _is_ordered(frame: Frame) -> bool:
    return not isinstance(frame, UrgentDown | UrgentUp)


async def _live(engine: Engine, node: Node, emit: _StageEmit) -> None:
    """Call a stage's ``run``, again after a failure that it may have."""
    assert node.run is not None, "only stages with a run live"
    again = True
    while again:
        again = False
        with anyio.CancelScope() as scope:
            node.cancel_run = scope.cancel
            if node.told_end and node.pick(End) is None:
                break  # End came before this task had begun
            try:
                await node.run(emit)
            except Exception as error:
                again = engine.fail(node, None, error)
    node.cancel_run = None
    await emit.flush()
    engine.run_is_over(node)


def _may_sleep(node: Node) -> bool:
    # An async handler can wait for a time with the `emit` that `attach` was lent.
    return node.run is not None or (node.is_async and hasattr(node.stage, "attach"))


@asynccontextmanager
async def running(engine: Engine, *, wait_for_end: bool = False) -> AsyncGenerator[None, None]:
    """Run the stages of an engine's graph.

    Leaving normally sends ``End`` and waits until every stage is done; leaving by an exception
    cancels them. No task outlives it.

    Args:
        engine: The engine.
        wait_for_end: Do not send ``End``: wait until it comes by itself.

    Raises:
        ProcessorError: A stage raised.
    """
    clock = shared_clock()
    backend = _Backend()
    emits = {
        node.index: _StageEmit(engine, node, clock, backend.call_soon_from_threads)
        for node in engine.graph.nodes
    }
    for node in engine.graph.nodes:
        attach = getattr(node.stage, "attach", None)
        if attach is not None:
            try:
                attach(emits[node.index])
            except Exception as error:
                engine.fail(node, None, error)
    if engine.failure is not None:
        raise engine.failure
    all_ended = anyio.Event()
    engine.on_all_ended = all_ended.set
    body_error: Exception | None = None
    try:
        async with anyio.create_task_group() as services:
            if any(_may_sleep(node) for node in engine.graph.nodes):
                services.start_soon(clock.serve)
            async with anyio.create_task_group() as stages:
                engine.on_failure = stages.cancel_scope.cancel
                for node in reversed(engine.graph.nodes):
                    if node.mailbox is not None:
                        stages.start_soon(
                            _Worker(engine, node, node.mailbox, backend).work,
                            name=f"{node.name} mailbox",
                        )
                    if node.run is not None:
                        stages.start_soon(_live, engine, node, emits[node.index], name=node.name)
                try:
                    yield
                except Exception as error:
                    body_error = error
                    stages.cancel_scope.cancel()
                else:
                    if not wait_for_end:
                        engine.stop()
                    await all_ended.wait()
            services.cancel_scope.cancel()
    finally:
        engine.close()
    if body_error is not None:
        raise body_error
    if engine.failure is not None:
        raise engine.failure
