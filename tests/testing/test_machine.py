"""The machine that is subclassed: an honest pipeline passes, a broken one is shown in few steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from framepipe import End, Frame, Interruptible, Ordered, ProcessorError, TextIn, evolve, on
from framepipe.testing.machine import Draw, PipelineMachine
from framepipe.testing.strangers import Note, Piece
from framepipe.testing.strategies import text_in_frames

ONCE = settings(
    max_examples=100,
    stateful_step_count=6,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)


class Counter:
    """Numbers the words, as fast as its disk."""

    def __init__(self, delay_ms: int) -> None:
        self.delay_ms = delay_ms
        self.n = 0

    @on(TextIn)
    async def number(self, frame: TextIn) -> TextIn:
        await anyio.sleep(self.delay_ms / 1000)
        self.n += 1
        return evolve(frame, text=f"{self.n} {frame.text}")


class CounterMachine(PipelineMachine):
    """What a user would write: the settings, what to emit, and what becomes of it."""

    ordered = st.one_of(PipelineMachine.ordered, text_in_frames())
    n = 0

    def stages(self, draw: Draw) -> Sequence[object]:
        return [Counter(delay_ms=draw(st.integers(0, 30)))]

    def model(self, frame: Frame) -> Iterable[Frame]:
        if isinstance(frame, TextIn):
            self.n += 1
            frame = evolve(frame, text=f"{self.n} {frame.text}")
        return (frame,)


TestCounter = CounterMachine.TestCase
TestCounter.settings = settings(max_examples=20, stateful_step_count=15)


class Jumbler:
    """Lets notes wait for the next one."""

    def __init__(self) -> None:
        self.kept: Note | None = None

    @on(Note)
    def keep(self, frame: Note) -> list[Note]:
        if self.kept is None:
            self.kept = frame
            return []
        pair, self.kept = [frame, self.kept], None
        return pair

    @on(End)
    def flush(self, _: End) -> list[Note]:
        return [] if self.kept is None else [self.kept]


class Forger:
    """Brings a cut turn back under a new number."""

    @on(Piece)
    def forge(self, frame: Piece) -> Piece:
        return evolve(frame, n=99)


class Burglar:
    """Falls over the second note."""

    def __init__(self) -> None:
        self.n = 0

    @on(Ordered)
    def count(self, frame: Ordered) -> Ordered:
        self.n += not isinstance(frame, Interruptible)
        if self.n == 2:
            raise LookupError("two")
        return frame


@pytest.mark.parametrize(
    ("stage", "error", "words"),
    [
        (Jumbler, AssertionError, "the rows part at frame 0"),
        (Forger, AssertionError, "Piece(turn=1, n=99)"),
        (Burglar, ProcessorError, "two"),
    ],
)
def test_a_broken_pipeline_is_found(stage: type, error: type[Exception], words: str) -> None:
    class Machine(PipelineMachine):
        def stages(self, draw: Draw) -> Sequence[object]:
            return [stage()]

    with pytest.raises(error) as caught:
        run_state_machine_as_test(Machine, settings=ONCE)
    assert words in str(caught.value)


def test_a_machine_without_stages_says_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError, match="says in stages"):
        run_state_machine_as_test(PipelineMachine, settings=ONCE)
