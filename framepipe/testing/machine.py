"""The stateful machine of the engine, for your pipeline.

Hypothesis plays with a running pipeline: it emits, waits, opens turns and cuts them, in any order,
and compares what leaves with a model that is a function from one frame to some.

    class QuietMachine(PipelineMachine):
        def stages(self, draw: Draw) -> Sequence[object]:
            return [NoiseGate(floor_dbfs=draw(st.integers(-60, -20)))]

    TestQuiet = QuietMachine.TestCase

That is a test already: frames of types that nobody knows must pass in order, urgent ones at once,
nothing of a turn that was cut. Say with `ordered` and `pieces` what else to emit, and in `model`
what becomes of it. Time is virtual and the loop is asyncio's, so what is found is found again.

Needs hypothesis: ``pip install 'framepipe[testing]'``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

import anyio
import anyio.lowlevel

from framepipe.frames import End, Frame, Interrupt, Interruptible, Ordered, evolve
from framepipe.pipeline import Pipeline
from framepipe.processor import Emit, on
from framepipe.testing.strangers import Call, Nod, Note, Piece
from framepipe.testing.virtual_time import VirtualLoop
from framepipe.testing.written import difference, written

try:
    from hypothesis import note
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
except ImportError as error:
    raise ImportError(
        "framepipe.testing.machine needs hypothesis: pip install 'framepipe[testing]'"
    ) from error

_T = TypeVar("_T")

Leaving: TypeAlias = Literal["the end", "an error", "a cancellation"]
"""How a run is left: the block around it ends, raises, or is cancelled."""


class Draw(Protocol):
    """Draws a value, for stages with random settings."""

    def __call__(self, strategy: st.SearchStrategy[_T], /) -> _T:
        """A value of the strategy."""
        ...


class Stepped:
    """A pipeline that runs in virtual time, for code that is no coroutine.

    Time stands still between two calls.

    Args:
        pipeline: It is started at once.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._loop = VirtualLoop()
        self._leave: asyncio.Future[Leaving] = self._loop.create_future()
        self._entered = asyncio.Event()
        self._run = self._loop.create_task(self._live())
        self.do(self._entered.wait)

    @property
    def is_leaving(self) -> bool:
        """Whether the run is being left, or has been."""
        return self._leave.done() or self._run.done()

    def do(self, function: Callable[..., Awaitable[_T]], *args: object) -> _T:
        """Run an async function while the pipeline runs.

        Raises:
            ProcessorError: A stage raised.
        """

        async def done() -> _T:
            return await function(*args)

        try:
            return self._loop.run_until_complete(done())
        finally:
            if self._run.done():
                self._run.result()

    def close(self, how: Leaving = "the end") -> int:
        """Leave the run.

        Returns:
            How many tasks are left, which ought to be none.

        Raises:
            ProcessorError: A stage raised.
        """
        try:
            if not self._leave.done():  # a run that fails has cancelled it
                self._leave.set_result(how)
            self._loop.run_until_complete(self._run)
            return len(asyncio.all_tasks(self._loop))
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _live(self) -> None:
        try:
            with anyio.CancelScope() as scope:
                async with self.pipeline:
                    self._entered.set()
                    how = await self._leave
                    if how == "an error":
                        raise LookupError(how)
                    if how == "a cancellation":
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
        except LookupError:
            pass
        finally:
            self._entered.set()


class _Head:
    """Where what goes up arrives."""

    def __init__(self) -> None:
        self.urgent: list[Frame] = []
        self.n_cuts = 0

    @on(Call)
    def hear(self, frame: Call) -> None:
        if frame.n >= 0:
            self.urgent.append(frame)

    @on(Interrupt)
    def cut(self, _: Interrupt) -> None:
        self.n_cuts += 1


class _Tail:
    """Where what goes down arrives."""

    def __init__(self) -> None:
        self.got: list[Frame] = []
        self.urgent: list[Frame] = []
        self.n_cuts = self.n_ends = 0

    def attach(self, emit: Emit[Frame]) -> None:
        self._emit = emit

    @on(Ordered)
    def take(self, frame: Ordered) -> None:
        assert self.n_ends == 0, f"{written(frame)} came after the end"
        if isinstance(frame, Interruptible):
            assert not self._emit.is_cut(frame.turn), f"{written(frame)} of a cut turn came"
        self.got.append(frame)

    @on(Nod)
    def hear(self, frame: Nod) -> None:
        self.urgent.append(frame)

    @on(Interrupt)
    def cut(self, _: Interrupt) -> None:
        self.n_cuts += 1

    @on(End)
    def end(self, _: End) -> None:
        self.n_ends += 1


class PipelineMachine(RuleBasedStateMachine):
    """Plays with a pipeline; override `stages`, and what else you need.

    Attributes:
        ordered: What is emitted and is never dropped.
        pieces: What is emitted and belongs to a turn; the machine chooses the turn.
        session: The pipeline while it runs.
        emitted: What was emitted and not stale by then.
    """

    ordered: ClassVar[st.SearchStrategy[Any]] = st.builds(Note, n=st.integers(0, 9))
    pieces: ClassVar[st.SearchStrategy[Any]] = st.builds(
        Piece, turn=st.just(1), n=st.integers(0, 9)
    )

    session: Stepped
    emitted: list[Frame]

    # --- to be overridden -----------------------------------------------------------------------

    def stages(self, draw: Draw) -> Sequence[object]:
        """Make the stages, afresh.

        Args:
            draw: Draws settings, if you like.
        """
        raise NotImplementedError("a PipelineMachine says in stages() what it is made of")

    def model(self, frame: Frame) -> Iterable[Frame]:
        """What becomes of one emitted frame by the time it leaves; itself, unless overridden.

        Called once for each frame, in order. May keep state.
        """
        return (frame,)

    def check_end(self, *, turns_cut: int, is_complete: bool) -> None:
        """Called when the run is over; compares what left with the model.

        Args:
            turns_cut: Every turn up to this one was cut.
            is_complete: It was left by its end, so what was not cut must have left.
        """
        expected = [made for frame in self.emitted for made in self.model(frame)]
        kept = [frame for frame in expected if not _is_of(frame, turns_cut)]
        got = [frame for frame in self._tail.got if not _is_of(frame, turns_cut)]
        if is_complete:
            assert got == kept, difference(kept, got)
        rest = iter(expected)
        for frame in self._tail.got:
            assert any(frame == other for other in rest), f"{written(frame)} came out of order"

    # --- what the machine does ------------------------------------------------------------------

    @initialize(
        data=st.data(),
        leaves_by=st.sampled_from(["the end", "the end", "the end", "an error", "a cancellation"]),
    )
    def start(self, data: st.DataObject, leaves_by: Leaving) -> None:
        """Make the pipeline and run it."""
        self.emitted = []
        self._leaves_by: Leaving = leaves_by
        self._turn = 0
        self._head, self._tail = _Head(), _Tail()
        pipeline = Pipeline(self._head, *self.stages(data.draw), self._tail)
        note(str(pipeline))
        self.session = Stepped(pipeline)
        self.open_turn()

    @rule(data=st.data())
    def emit_ordered(self, data: st.DataObject) -> None:
        """Emit a frame that is never dropped."""
        self._emit(data.draw(self.ordered))

    @rule(data=st.data(), older=st.sampled_from([0, 0, 0, 1, 2]))
    def emit_piece(self, data: st.DataObject, older: int) -> None:
        """Emit a frame of the newest turn, or of an older one."""
        piece: Interruptible = data.draw(self.pieces)
        self._emit(evolve(piece, turn=max(1, self._turn - older)))

    @rule()
    def open_turn(self) -> None:
        """Open a turn."""
        self._turn = self.session.do(self._now, self.session.pipeline.new_turn)

    @rule(n=st.integers(0, 9))
    def nod(self, n: int) -> None:
        """Emit an urgent frame that goes down: when that returns, it has arrived."""
        self.emit_urgent(Nod(n=n), self._tail.urgent)

    @rule(n=st.integers(0, 9))
    def call(self, n: int) -> None:
        """Emit an urgent frame that goes up: when that returns, it has arrived."""
        self.emit_urgent(Call(n=n), self._head.urgent)

    @rule()
    def cut(self) -> None:
        """Cut the agent: when that returns, every stage was told, once."""
        self.session.do(self._now, self.cut_now)

    @rule(ms=st.integers(0, 30))
    def cut_later(self, ms: int) -> None:
        """Cut the agent while something else happens."""

        async def later() -> None:
            asyncio.get_running_loop().call_later(ms / 1000, self._cut_if_running)

        self.session.do(later)

    @rule(ms=st.sampled_from([0, 1, 3, 20]))
    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.session.do(anyio.sleep, ms / 1000)

    def teardown(self) -> None:
        """Leave the run, and compare."""
        if not hasattr(self, "session"):
            return
        n_tasks = self.session.close(self._leaves_by)
        assert n_tasks == 0, f"{n_tasks} tasks outlive the run"
        is_complete = self._leaves_by == "the end"
        statistics = self.session.pipeline.statistics()
        for stage in statistics.stages:
            if stage.mailbox is not None and is_complete:
                assert stage.mailbox.depth == 0, f"frames wait before {stage.name} after the end"
                assert stage.mailbox.waiting_for_room == 0
        assert self._tail.n_ends == 1 or not is_complete, "the end did not arrive"
        self.check_end(turns_cut=statistics.turns_cut, is_complete=is_complete)

    # --- for machines that add to it ------------------------------------------------------------

    def cut_now(self) -> None:
        """Cut, inside the event loop; asserts that both ends are told once."""
        before = self._head.n_cuts, self._tail.n_cuts
        self.session.pipeline.interrupt()
        assert (self._head.n_cuts, self._tail.n_cuts) == (before[0] + 1, before[1] + 1)

    def emit_urgent(self, frame: Frame, arrived: list[Frame]) -> None:
        """Emit an urgent frame; asserts that it has arrived when that returns."""
        n_before = len(arrived)
        self.session.do(self._now, self.session.pipeline.emit, frame)
        assert arrived[n_before:] == [frame], "an urgent frame arrives before emit returns"

    def _emit(self, frame: Frame) -> None:
        async def emit() -> None:
            pipeline = self.session.pipeline
            await pipeline.room()
            if not _is_of(frame, pipeline.statistics().turns_cut):
                self.emitted.append(frame)
            pipeline.emit(frame)

        self.session.do(emit)

    def _cut_if_running(self) -> None:
        if not self.session.is_leaving:
            self.cut_now()

    @staticmethod
    async def _now(function: Callable[..., _T], *args: object) -> _T:
        return function(*args)


def _is_of(frame: Frame, turns: int) -> bool:
    """Whether a frame belongs to a turn up to this one."""
    return isinstance(frame, Interruptible) and frame.turn <= turns
