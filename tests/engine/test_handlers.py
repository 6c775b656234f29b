"""DESIGN section 4: what a handler may be, and what becomes of what it returns."""

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from framepipe import (
    End,
    Frame,
    Interrupt,
    Ordered,
    Pipeline,
    ProcessorError,
    UrgentDown,
    UrgentUp,
    WiringError,
    evolve,
    on,
)
from tests.engine.kit import Call, Nod, Note, Other, Piece, Sink, Slow, SlowStream, notes


class Doubler:
    @on(Note)
    def double(self, frame: Note) -> Note:
        return evolve(frame, n=2 * frame.n)


def through(*stages: object, frame: Frame) -> list[Frame]:
    return Pipeline(*stages).step(frame)


def test_what_a_handler_returns_goes_on_instead_of_the_frame() -> None:
    assert through(Doubler(), Doubler(), frame=Note(n=3)) == notes(12)


def test_a_frame_that_no_method_handles_passes_untouched_in_its_own_direction() -> None:
    other, nod, call = Other(n=1), Nod(n=2), Call(n=3)
    pipeline = Pipeline(Doubler(), Doubler())
    assert [pipeline.step(f)[0] for f in (other, nod, call)] == [other, nod, call]
    assert pipeline.step(other)[0] is other


def test_none_consumes_the_frame() -> None:
    class Ear:
        @on(Note)
        def hear(self, frame: Note) -> None:
            pass

    assert through(Ear(), frame=Note()) == []


@pytest.mark.parametrize("make", [list, tuple, iter, lambda frames: (f for f in frames)])  # type: ignore[misc,unused-ignore]
def test_an_iterable_of_any_kind_is_several_frames(
    make: Callable[[list[Frame]], Iterable[Frame]],
) -> None:
    class Several:
        @on(Note)
        def several(self, frame: Note) -> Iterable[Frame]:
            return make(notes(1, 2))

    assert through(Several(), frame=Note()) == notes(1, 2)


def test_a_generator_yields_in_either_direction() -> None:
    class Both:
        @on(Note)
        def both(self, frame: Note) -> Iterator[Frame]:
            yield Call(n=frame.n)
            yield frame
            yield Nod(n=frame.n)

    above, below = Sink(), Sink()

    class Above:
        @on(Call)
        def hear(self, frame: Call) -> None:
            above.got.append(frame)

    Pipeline(Above(), Both(), below).step(Note(n=1))
    assert above.got == [Call(n=1)]
    assert below.got == [Nod(n=1), Note(n=1)]


def test_a_generator_behind_a_decorator_is_known_by_what_it_returns() -> None:
    def logged(function: Callable[[Any, Note], Iterator[Frame]]) -> Any:
        @functools.wraps(function)
        def inner(self: Any, frame: Note) -> Iterator[Frame]:
            return function(self, frame)

        return inner

    class Twice:
        @on(Note)
        @logged
        def twice(self, frame: Note) -> Iterator[Frame]:
            yield frame
            yield frame

    assert through(Twice(), frame=Note(n=1)) == notes(1, 1)


def test_a_coroutine_hidden_by_a_decorator_is_refused_with_the_way_out() -> None:
    def hidden(function: Callable[[Any, Note], Any]) -> Any:
        def inner(self: Any, frame: Note) -> Any:
            return function(self, frame)

        return inner

    class Hidden:
        @on(Note)
        @hidden
        async def later(self, frame: Note) -> Note:
            return frame

    with pytest.raises(ProcessorError, match="declare that async"):
        through(Hidden(), frame=Note())


def test_what_is_no_frame_is_an_error_of_the_stage() -> None:
    class Wrong:
        @on(Note)
        def wrong(self, frame: Note) -> Any:
            return 5

        @on(Other)
        def wrong_in_a_list(self, frame: Other) -> Any:
            return [frame, "words"]

        @on(Piece)
        def a_bare_frame(self, frame: Piece) -> Any:
            return frame

        @on(Nod)
        def bare(self, frame: Nod) -> Any:
            return Frame()

    for frame, named in ((Note(), "5"), (Other(), "words"), (Nod(), "Ordered, Interruptible")):
        with pytest.raises(ProcessorError, match=named) as caught:
            through(Wrong(), frame=frame)
        assert caught.value.stage == "Wrong"
        assert caught.value.frame == frame
        assert isinstance(caught.value.__cause__, TypeError)


def test_one_method_handles_several_types() -> None:
    class Counter:
        def __init__(self) -> None:
            self.seen: list[type] = []

        @on(Note, Other, Nod)
        def count(self, frame: Note | Other | Nod) -> None:
            self.seen.append(type(frame))

    counter = Counter()
    pipeline = Pipeline(counter)
    for frame in (Note(), Other(), Nod()):
        assert pipeline.step(frame) == []
    assert counter.seen == [Note, Other, Nod]


def test_a_base_class_stands_for_what_has_no_handler_of_its_own() -> None:
    class Bases:
        @on(Note)
        def note(self, frame: Note) -> Frame:
            return Note(n=1)

        @on(Ordered)
        def ordered(self, frame: Ordered) -> Frame:
            return Note(n=2)

        @on(UrgentDown)
        def down(self, frame: UrgentDown) -> Frame:
            return Note(n=3)

        @on(Frame)
        def rest(self, frame: Frame) -> Frame:
            return Note(n=4)

    pipeline = Pipeline(Bases())
    assert [pipeline.step(f) for f in (Note(), Other(), Nod(), Call())] == [
        notes(1),
        notes(2),
        notes(3),
        notes(4),
    ]


def test_a_base_class_catches_neither_the_end_nor_an_interrupt() -> None:
    class Everything:
        def __init__(self) -> None:
            self.seen: list[Frame] = []

        @on(Frame)
        def swallow(self, frame: Frame) -> None:
            self.seen.append(frame)

    class UpsOnly(Everything):
        @on(UrgentUp, Ordered)
        def swallow_too(self, frame: UrgentUp | Ordered) -> None:
            self.seen.append(frame)

    first, second, sink = Everything(), UpsOnly(), Sink()
    pipeline = Pipeline(first, second, sink)
    pipeline.step(Interrupt())
    pipeline.step(End())
    assert first.seen == second.seen == []
    assert sink.got == [Interrupt(turn=0), End()]


def test_an_overridden_handler_stays_marked() -> None:
    class Quadrupler(Doubler):
        def double(self, frame: Note) -> Note:
            return evolve(frame, n=4 * frame.n)

    assert through(Quadrupler(), frame=Note(n=1)) == notes(4)


def test_an_overridden_handler_may_be_marked_anew() -> None:
    class Changed(Doubler):
        @on(Other)
        def double(self, frame: Other) -> Other:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            return evolve(frame, n=5)

    pipeline = Pipeline(Changed())
    assert pipeline.step(Note(n=1)) == notes(1)
    assert pipeline.step(Other(n=1)) == [Other(n=5)]


def test_a_handler_may_come_from_a_mixin() -> None:
    class Own:
        @on(Other)
        def other(self, frame: Other) -> None:
            pass

    class Mixed(Own, Doubler):
        pass

    pipeline = Pipeline(Mixed())
    assert pipeline.step(Note(n=1)) == notes(2)
    assert pipeline.step(Other()) == []


def test_two_methods_for_one_frame_are_refused() -> None:
    class Twofold:
        @on(Note)
        def one(self, frame: Note) -> None: ...

        @on(Note)
        def two(self, frame: Note) -> None: ...

    with pytest.raises(WiringError, match=r"Twofold handles Note in both one and two"):
        Pipeline(Twofold()).check()


@pytest.mark.parametrize("wrong", [int, Note(), "Note"])
def test_on_takes_frame_classes_only(wrong: Any) -> None:
    with pytest.raises(WiringError, match="frame classes"):
        on(wrong)


def test_on_names_a_frame() -> None:
    with pytest.raises(WiringError, match="names no frame"):
        on(*())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def test_a_handler_is_ordinary_python() -> None:
    assert Doubler().double(Note(n=3)) == Note(n=6)


# --- async ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_async_stage_keeps_all_ordered_frames_in_order_handled_or_not() -> None:
    class OnlyNotes:
        @on(Note)
        async def slowly(self, frame: Note) -> Note:
            await anyio.sleep(1)
            return frame

        @on(Piece)
        def quickly(self, frame: Piece) -> Piece:
            return frame

    sink = Sink()
    async with Pipeline(OnlyNotes(), sink) as pipeline:
        turn = pipeline.new_turn()
        frames = [Note(n=1), Other(n=2), Piece(turn=turn, n=3), Note(n=4), Other(n=5)]
        for frame in frames:
            pipeline.emit(frame)
    assert sink.got == [*frames, End()]


@pytest.mark.anyio
async def test_urgent_frames_pass_the_mailbox_by_even_while_the_handler_waits() -> None:
    slow, sink = Slow(1.0), Sink()
    async with Pipeline(slow, sink) as pipeline:
        pipeline.emit(Note(n=1))
        await anyio.sleep(0.5)
        pipeline.emit(Nod(n=2))
        assert slow.began == notes(1)
        assert sink.got == [Nod(n=2)]
    assert sink.got == [Nod(n=2), Note(n=1), End()]


@pytest.mark.anyio
async def test_an_async_handler_returns_nothing_one_frame_or_several() -> None:
    class Stage:
        @on(Note)
        async def some(self, frame: Note) -> list[Frame] | Frame | None:
            await anyio.lowlevel.checkpoint()
            if frame.n == 0:
                return None
            several: list[Frame] = [frame] * frame.n
            return frame if frame.n == 1 else several

    sink = Sink()
    async with Pipeline(Stage(), sink) as pipeline:
        for n in (0, 1, 2, 3):
            pipeline.emit(Note(n=n))
    assert sink.got == [*notes(1, 2, 2, 3, 3, 3), End()]


@pytest.mark.anyio
async def test_what_an_async_generator_yields_goes_on_at_once() -> None:
    stream, sink = SlowStream(1.0), Sink()
    async with Pipeline(stream, sink) as pipeline:
        pipeline.emit(Note(n=1))
        await anyio.sleep(0.5)
        assert sink.got == notes(1)
    assert sink.got == [*notes(1, 1), End()]


@pytest.mark.anyio
async def test_of_several_frames_of_an_async_handler_the_urgent_ones_go_first() -> None:
    class Stage:
        @on(Note)
        async def some(self, frame: Note) -> list[Frame]:
            return [Note(n=1), Nod(n=2), Note(n=3), Nod(n=4)]

        @on(Other)
        def plainly(self, frame: Other) -> list[Frame]:
            return [Note(n=5), Nod(n=6)]

    sink = Sink()
    async with Pipeline(Stage(), sink) as pipeline:
        pipeline.emit(Note())
        pipeline.emit(Other())
    assert sink.got == [
        Nod(n=2), Nod(n=4), Note(n=1), Note(n=3), Nod(n=6), Note(n=5), End(),
    ]  # fmt: skip


@pytest.mark.anyio
async def test_the_output_of_an_async_handler_that_is_no_frame_ends_the_run() -> None:
    class Wrong:
        @on(Note)
        async def wrong(self, frame: Note) -> Any:
            return [5]

    with pytest.raises(ProcessorError, match="Wrong failed on Note"):
        async with Pipeline(Wrong()) as pipeline:
            pipeline.emit(Note())


@pytest.mark.anyio
async def test_an_async_handler_may_be_overridden() -> None:
    class Quick(Slow):
        async def handle(self, frame: Note | Other | Piece) -> Frame:
            return Note(n=9)

    class QuickStream(Slow):
        async def handle(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
            self, frame: Note | Other | Piece
        ) -> AsyncIterator[Frame]:
            yield Note(n=8)

    for stage, expected in ((Quick(), 9), (QuickStream(), 8)):
        sink = Sink()
        async with Pipeline(stage, sink) as pipeline:
            pipeline.emit(Note(n=1))
        assert sink.got == [Note(n=expected), End()]
