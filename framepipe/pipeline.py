"""A pipeline: stages in a row, as data until it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from attrs import frozen

from framepipe.engine import Engine, Observer
from framepipe.errors import EmitError, WiringError
from framepipe.frames import Frame, Interrupt
from framepipe.graph import Fork, Graph, Group, Lossy, Node, check, flatten, unwrapped
from framepipe.mailbox import MailboxStatistics, frozen_counts
from framepipe.policy import Policy
from framepipe.processor import Supervised
from framepipe.runner import running, wait_for_room


@frozen(kw_only=True)
class StageStatistics:
    """What a stage answers when asked.

    Attributes:
        name: Its name in the pipeline.
        mailbox: Its mailbox, or ``None`` for a plain stage.
        dropped: How many frames it lost, by reason: "cut" (worked on or waiting when their turn
            was cut), "stale" (came after the cut), "shed" and "lossy" (no room), "failed" (the
            stage raised), "after end".
        restarts: How often it failed and went on.
    """

    name: str
    mailbox: MailboxStatistics | None
    dropped: Mapping[str, int]
    restarts: int


@frozen(kw_only=True)
class PipelineStatistics:
    """What a pipeline answers when asked.

    Attributes:
        stages: Its stages, in order.
        dropped: How many frames that were emitted from outside found no room, by reason.
        turns_opened: The newest turn of the agent.
        turns_cut: Every turn up to this one was cut.
    """

    stages: tuple[StageStatistics, ...]
    dropped: Mapping[str, int]
    turns_opened: int
    turns_cut: int


class Pipeline(Group):
    """Stages in a row.

    ``await pipeline.run()`` runs it to its end; ``async with pipeline:`` runs it around your
    code. Leaving the block normally ends the pipeline, leaving it by an exception cancels it.

    Args:
        stages: Stages, forks, and pipelines (which are flattened). With a ``policy``, also
            classes: the pipeline makes them with the keywords of their table.
        accepts: Frame types that the program emits from outside; the check of missing producers
            counts them as made.
        policy: Settings for the stages that are given as classes.

    Raises:
        WiringError: The policy does not fit.
    """

    def __init__(
        self, *stages: object, accepts: tuple[type[Frame], ...] = (), policy: Policy | None = None
    ) -> None:
        self.stages = stages if policy is None else _made(stages, policy)
        self.accepts = accepts
        self._observers: list[Observer] = []
        self._engine: Engine | None = None
        self._is_running = False
        self._context: AbstractAsyncContextManager[None] | None = None
        self._step_now_ns = 0

    # --- running ----------------------------------------------------------------------------

    def check(self) -> None:
        """Check the graph without running it; running does so by itself.

        Raises:
            WiringError: It cannot run; the message names the stages and the way out.
        """
        self._graph()

    async def run(self) -> None:
        """Run until every stage is done: the first stage's ``run`` returned, or `stop`.

        Raises:
            WiringError: The graph cannot run; nothing was started.
            ProcessorError: A stage raised.

        Cancellation leaves nothing behind.
        """
        engine = self._start()
        try:
            async with running(engine, wait_for_end=True):
                pass
        finally:
            self._is_running = False

    async def __aenter__(self) -> Self:
        self._context = running(self._start())
        try:
            await self._context.__aenter__()
        except BaseException:
            self._is_running = False
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._context is not None, "entered before"
        try:
            return await self._context.__aexit__(kind, error, traceback)
        finally:
            self._is_running = False

    def stop(self) -> None:
        """Send ``End`` at the head: what was emitted before it is still delivered.

        Raises:
            EmitError: The pipeline does not run.
        """
        self._running().stop()

    # --- from outside -----------------------------------------------------------------------

    def emit(self, frame: Frame) -> None:
        """Emit a frame from outside: at the head if it goes down, at the tail if it goes up.

        Raises:
            MailboxFull: No room; nothing happened. `room` waits for it.
            EmitError: The pipeline does not run, has ended, or a stage is being called.
        """
        engine = self._running()
        if isinstance(frame, Interrupt):
            engine.interrupt(frame)
        else:
            engine.emit(engine.entry(frame), frame)

    async def room(self) -> None:
        """Wait until a frame that is emitted from outside has room."""
        engine = self._running()
        await wait_for_room(engine, engine.graph.head)

    def new_turn(self) -> int:
        """Open a turn of the agent, for frames that come from outside, by `emit` or `step`."""
        return self._live().new_turn()

    def interrupt(self, *, cause: str = "caller", turn: int | None = None) -> Interrupt:
        """Cut the agent: the stop button.

        Args:
            cause: Who decided.
            turn: The turn up to which to cut; ``None`` is the newest.

        Returns:
            The ``Interrupt`` with what the stages added: the mute point, what was heard.

        Raises:
            EmitError: The pipeline neither runs nor steps, or ``turn`` was never opened.
        """
        return self._live().interrupt(Interrupt(cause=cause, turn=turn))

    def step(self, frame: Frame, *, at_ns: int = 0) -> list[Frame]:
        """Deliver one frame without an event loop; for plain stages only.

        Args:
            frame: Enters as with `emit`.
            at_ns: What ``emit.now_ns()`` says meanwhile.

        Returns:
            The frames that left the pipeline, at either end, in the order in which they did.

        Raises:
            WiringError: A stage is async or has a ``run``.
            ProcessorError: A stage raised.
        """
        if self._is_running:
            raise EmitError("the pipeline runs; step() is for one that does not, so emit() instead")
        engine = self._stepping()
        self._step_now_ns = at_ns
        engine.emit(engine.entry(frame), frame)
        left, engine.left = engine.left, []
        if engine.failure is not None:
            raise engine.failure
        return left

    # --- looking ----------------------------------------------------------------------------

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call ``observer(what, stage, frame)`` for everything that happens.

        ``what`` is "emitted", "handled", "dropped", "cut" or "decided" (a handler put something
        else in the place of its frame). Without an observer this costs nothing. An observer may
        not emit; one that raises is removed with a warning. An observer of a nested pipeline sees
        all of the run that it is part of.

        Returns:
            A function that detaches it.
        """
        self._observers.append(observer)
        if self._engine is not None:
            self._engine.observe(observer)

        def detach() -> None:
            if observer in self._observers:
                self._observers.remove(observer)
            if self._engine is not None:
                self._engine.stop_observing(observer)

        return detach

    def statistics(self) -> PipelineStatistics:
        """How full the mailboxes are and what was dropped, of this pipeline's own stages."""
        graph = flatten(self.stages) if self._engine is None else self._engine.graph
        own = {id(stage) for stage in _leaves(self.stages)}
        return PipelineStatistics(
            stages=tuple(_statistics(node) for node in graph.nodes if id(node.stage) in own),
            dropped=frozen_counts(graph.head.dropped),
            turns_opened=graph.line.opened,
            turns_cut=graph.line.cut,
        )

    def __str__(self) -> str:
        return " ─▶ ".join(_drawn(item) for item in self.stages)

    def __repr__(self) -> str:
        return f"<Pipeline {self}>"

    # --- inside -----------------------------------------------------------------------------

    def _graph(self) -> Graph:
        graph = flatten(self.stages)
        check(graph, self.accepts)
        return graph

    def _start(self) -> Engine:
        if self._is_running:
            raise WiringError("this pipeline runs already; make a second one")
        engine = Engine(self._graph())
        self._lend(engine)
        self._is_running = True
        return engine

    def _lend(self, engine: Engine) -> None:
        self._engine = engine
        for observer in self._observers:
            engine.observe(observer)
        for item in self.stages:
            for group in _groups(item):
                group._lend(engine)

    def _running(self) -> Engine:
        if self._engine is None or not self._is_running:
            raise EmitError("the pipeline does not run; emit inside `async with pipeline:`")
        return self._engine

    @property
    def _is_stepping(self) -> bool:
        return self._engine is not None and self._engine.keeps_left and not self._is_running

    def _live(self) -> Engine:
        return self._stepping() if self._is_stepping else self._running()

    def _stepping(self) -> Engine:
        if self._engine is None or not self._is_stepping:
            self._engine = self._stepping_engine()
        return self._engine

    def _stepping_engine(self) -> Engine:
        graph = self._graph()
        for node in graph.nodes:
            if node.mailbox is not None or node.run is not None:
                why = "is async" if node.mailbox is not None else "has a run"
                raise WiringError(
                    f"{node.name} {why}, and step() calls plain stages only; use "
                    "`async with pipeline:`"
                )
        engine = Engine(graph)
        engine.keeps_left = True
        for observer in self._observers:
            engine.observe(observer)
        for node in graph.nodes:
            attach = getattr(node.stage, "attach", None)
            if attach is not None:
                attach(_StepEmit(engine, node, lambda: self._step_now_ns))
        return engine


class _StepEmit:
    """`framepipe.processor.Emit` without an event loop: it cannot wait."""

    def __init__(self, engine: Engine, node: Node, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._node = node
        self.now_ns = now_ns
        self.new_turn = engine.new_turn
        self.is_cut = engine.is_cut

    def __call__(self, frame: Frame, /) -> None:
        self._engine.emit(self._node, frame)

    def wake(self) -> None:
        pass  # nobody sleeps

    async def room(self) -> None:
        raise EmitError("room() waits, and step() runs without an event loop")

    async def until(self, at_ns: int | None) -> bool:
        raise EmitError(f"until({at_ns}) waits, and step() runs without an event loop")

    def from_thread(self, frame: Frame, /) -> None:
        raise EmitError(f"{type(frame).__name__} from a thread, but step() runs without a loop")


def _statistics(node: Node) -> StageStatistics:
    mailbox = None if node.mailbox is None else node.mailbox.statistics()
    dropped = Counter(node.dropped)
    dropped.update({} if mailbox is None else mailbox.dropped)
    return StageStatistics(
        name=node.name, mailbox=mailbox, dropped=frozen_counts(dropped), restarts=node.restarts
    )


def _made(stages: tuple[object, ...], policy: Policy) -> tuple[object, ...]:
    counts: Counter[str] = Counter()
    made: list[str] = []
    given: list[str] = []
    result: list[object] = []
    for item in stages:
        leaves = (item,) if isinstance(item, type) else tuple(_leaves((item,)))
        for leaf in leaves:
            base = leaf.__name__ if isinstance(leaf, type) else type(leaf).__name__
            counts[base] += 1
            name = base if counts[base] == 1 else f"{base}{counts[base]}"
            (made if isinstance(leaf, type) else given).append(name)
        result.append(policy.make(made[-1], item) if isinstance(item, type) else item)
    policy.check_names(made, given)
    return tuple(result)


def _leaves(items: tuple[object, ...]) -> Iterator[object]:
    for item in items:
        if isinstance(item, Group):
            yield from _leaves(item.stages)
        elif isinstance(item, Fork):
            yield from _leaves(item.branches)
        elif isinstance(item, Lossy):
            yield from _leaves((item.branch,))
        else:
            yield unwrapped(item)[0]


def _groups(item: object) -> Iterator[Pipeline]:
    if isinstance(item, Pipeline):
        yield item
    elif isinstance(item, Fork):
        for branch in item.branches:
            yield from _groups(branch)
    elif isinstance(item, Lossy):
        yield from _groups(item.branch)


def _drawn(item: object) -> str:
    if isinstance(item, Pipeline):
        return f"({item})"
    if isinstance(item, Fork):
        branches = " | ".join(_drawn(branch) for branch in item.branches)
        kept = ", ".join(t.__name__ for t in item.keep)
        return f"Fork[{branches}]" + (f" keeping {kept}" if kept else "")
    if isinstance(item, Lossy):
        return f"lossy {_drawn(item.branch)}"
    if isinstance(item, Supervised):
        return f"supervised {type(unwrapped(item)[0]).__name__}"
    return type(item).__name__
