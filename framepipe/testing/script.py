"""Frames in at one end, frames out at the other.

A `Script` is a first stage that emits what it is told, when it is told; a `Collector` is a last
stage that keeps what arrives. `collect` puts your stages between the two and runs the whole in
virtual time: ``assert collect(Gain(2.0), steps=[quiet]) == [louder]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias, TypeVar

import anyio
from attrs import field, frozen

from framepipe.clock import now_ns
from framepipe.errors import FrameError
from framepipe.frames import (
    NS_PER_S,
    End,
    Frame,
    Interrupt,
    Ordered,
    UrgentDown,
    UrgentUp,
)
from framepipe.pipeline import Pipeline
from framepipe.processor import Emit, on
from framepipe.testing.virtual_time import Backend, run_virtual

_F = TypeVar("_F", bound=Frame)

_NS_PER_MS = 1_000_000


@frozen
class Wait:
    """Nothing happens for a while.

    Attributes:
        ms: Milliseconds, 0 or more.

    Raises:
        FrameError: ``ms`` is negative.
    """

    ms: int = field()

    def __attrs_post_init__(self) -> None:
        if self.ms < 0:
            raise FrameError(f"Wait({self.ms}); time goes forward only")


Step: TypeAlias = Frame | Wait
"""One line of a script: emit this frame, or wait. An ``Interrupt`` is emitted like any other frame
and cuts the agent."""


class Script:
    """A first stage that emits frames at their times, and keeps what comes up.

    It waits where there is no room. Turns are opened as the frames need them. When the script is
    over, the pipeline ends.

    Args:
        steps: Frames, and the waits between them.

    Attributes:
        up: Every urgent frame that has come up to it, and each ``Interrupt`` with what the stages
            have added, in order.
    """

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.up: list[Frame] = []

    async def run(self, emit: Emit[Frame]) -> None:
        """Play the script."""
        at_ns = emit.now_ns()
        newest_turn = 0
        for step in self.steps:
            if isinstance(step, Wait):
                at_ns += step.ms * _NS_PER_MS
                while not await emit.until(at_ns):
                    pass
                continue
            while newest_turn < _turn_of(step):
                newest_turn = emit.new_turn()
            if isinstance(step, Ordered):
                await emit.room()
            emit(step)

    @on(UrgentUp)
    def keep(self, frame: UrgentUp) -> None:
        """Keep what comes up."""
        self.up.append(frame)

    @on(Interrupt)
    def keep_cut(self, frame: Interrupt) -> None:
        """Keep the cut: the first stage is told last, so nothing will be added any more."""
        self.up.append(frame)


class Collector:
    """A last stage that keeps what arrives, in order, and lets none of it on.

    Attributes:
        frames: What has arrived: all that goes down, ``End`` included. An ``Interrupt`` too, as it
            began: a last stage is told first.
        times_ns: When each of them arrived, in engine time.
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.times_ns: list[int] = []
        self._emit: Emit[Frame] | None = None

    def attach(self, emit: Emit[Frame]) -> None:
        """Take the clock."""
        self._emit = emit

    @on(Ordered, UrgentDown)
    def keep(self, frame: Ordered | UrgentDown) -> None:
        """Keep a frame."""
        self._keep(frame)

    @on(Interrupt, End)
    def keep_named(self, frame: Interrupt | End) -> None:
        """Keep the two that a handler for everything never sees."""
        self._keep(frame)

    def of(self, kind: type[_F]) -> list[_F]:
        """The frames of one type, in the order in which they arrived."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def _keep(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.times_ns.append(0 if self._emit is None else self._emit.now_ns())


def _turn_of(frame: Frame) -> int:
    """The agent's turn that a frame speaks of; 0 is none."""
    turn: object = getattr(frame, "turn", None)
    return turn if isinstance(turn, int) else 0


async def play(pipeline: Pipeline, steps: Iterable[Step]) -> None:
    """Play a script to a pipeline that runs, from outside.

    What goes down enters at the head, what is urgent and goes up at the tail. Waits where there is
    no room; opens turns as the frames need them.

    Args:
        pipeline: It runs.
        steps: Frames, and the waits between them.
    """
    at_ns = now_ns()
    newest_turn = pipeline.statistics().turns_opened
    for step in steps:
        if isinstance(step, Wait):
            at_ns += step.ms * _NS_PER_MS
            await anyio.sleep_until(at_ns / NS_PER_S)
            continue
        while newest_turn < _turn_of(step):
            newest_turn = pipeline.new_turn()
        if isinstance(step, Ordered):
            await pipeline.room()
        pipeline.emit(step)


def collect(*stages: object, steps: Sequence[Step], backend: Backend = "asyncio") -> list[Frame]:
    """Run stages on a script in virtual time.

    Args:
        stages: Stages, forks and pipelines, as for `framepipe.Pipeline`.
        steps: Frames, and waits; see `play`.
        backend: "asyncio", which is the same every time, or "trio".

    Returns:
        Every frame that left at either end, in the order in which they did; not ``End``. An
        ``Interrupt`` leaves at the head, with all that the stages have added.

    Raises:
        WiringError: The stages do not fit together.
        ProcessorError: A stage raised.
        VirtualTimeError: A stage uses a thread or a socket, or nothing moves any more.
    """
    left: list[Frame] = []
    kinds = {type(step) for step in steps if isinstance(step, Frame)}
    pipeline = Pipeline(_Head(left), *stages, _Tail(left), accepts=tuple(kinds))

    async def call() -> None:
        async with pipeline:
            await play(pipeline, steps)

    run_virtual(call, backend=backend)
    return left


class _Head:
    def __init__(self, left: list[Frame]) -> None:
        self._left = left

    @on(UrgentUp)
    def keep(self, frame: UrgentUp) -> None:
        self._left.append(frame)

    @on(Interrupt)
    def keep_cut(self, frame: Interrupt) -> None:
        self._left.append(frame)


class _Tail:
    def __init__(self, left: list[Frame]) -> None:
        self._left = left

    @on(Ordered, UrgentDown)
    def keep(self, frame: Ordered | UrgentDown) -> None:
        self._left.append(frame)
