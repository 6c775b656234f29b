"""Promises G2 to G4, as plain examples: urgent frames, the cut, and turns."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import evolve

from framepipe import (
    Emit,
    EmitError,
    End,
    Fork,
    Frame,
    Heard,
    Interrupt,
    Pipeline,
    ProcessorError,
    on,
)
from tests.engine.kit import (
    Call,
    Nod,
    Note,
    Other,
    Piece,
    Plain,
    Sink,
    Slow,
    SlowStream,
    Ups,
    dropped,
    notes,
)

pytestmark = pytest.mark.anyio


# --- the walk ---------------------------------------------------------------------------------


async def test_an_interrupt_is_told_to_every_stage_once_last_to_first_wherever_it_was_emitted() -> (
    None
):
    told: list[str] = []

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        @on(Interrupt)
        def cut(self, frame: Interrupt) -> None:
            told.append(self.name)

    class Cutter(Told):
        @on(Note)
        def now(self, frame: Note) -> Interrupt:
            return Interrupt()

    fork = Fork(Pipeline(Cutter("c"), Told("d")), Told("e"))
    async with Pipeline(Told("a"), Slow(), fork, Told("f")) as pipeline:
        pipeline.emit(Note())
        await anyio.sleep(1)
        assert told == ["f", "e", "d", "c", "a"]
        pipeline.interrupt()
        assert told == ["f", "e", "d", "c", "a"] * 2


async def test_stages_add_to_an_interrupt_and_cannot_swallow_it_or_change_its_turn() -> None:
    heard = Heard(item_id="i", content_index=0, heard_samples=1, received_samples=2, final=True)
    seen: list[Interrupt] = []

    class First:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> None:
            seen.append(frame)

    class Playout:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> Iterator[Frame]:
            yield evolve(frame, heard=(heard,), turn=17)
            yield Note(n=1)
            yield Call(n=2)

    class Swallower:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> None:
            seen.append(frame)

    class Speaker:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> Interrupt:
            return evolve(frame, mute_point=480)

    above = Ups()
    async with Pipeline(above, First(), Playout(), Swallower(), Speaker()) as pipeline:
        turn = pipeline.new_turn()
        answer = pipeline.interrupt(cause="test")
        assert above.got == [Call(n=2)]
    muted = Interrupt(turn=turn, cause="test", mute_point=480)
    assert seen == [muted, evolve(muted, heard=(heard,))]
    assert answer == evolve(muted, heard=(heard,))


async def test_other_frames_that_a_handler_returns_go_out_after_the_walk() -> None:
    story: list[str] = []

    class First:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> None:
            story.append("cut")

        @on(Call)
        def call(self, frame: Call) -> None:
            story.append("call")

    class Last:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> Call:
            return Call()

    async with Pipeline(First(), Last()) as pipeline:
        pipeline.interrupt()
    assert story == ["cut", "call"]


async def test_a_stage_that_raises_does_not_stop_the_walk() -> None:
    story: list[str] = []

    class First:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> None:
            story.append("first")

    class Last:
        @on(Interrupt)
        def cut(self, frame: Interrupt) -> Interrupt:
            raise ValueError("no")

    with pytest.raises(ProcessorError) as caught:
        async with Pipeline(First(), Last()) as pipeline:
            pipeline.interrupt()
    assert story == ["first"]
    assert caught.value.stage == "Last"
    assert isinstance(caught.value.frame, Interrupt)


async def test_the_answer_of_interrupt_is_its_own_even_if_a_stage_cuts_again() -> None:
    class Again:
        def __init__(self) -> None:
            self.n = 0

        @on(Interrupt)
        def cut(self, frame: Interrupt) -> list[Frame]:
            self.n += 1
            more: list[Frame] = [Call()] if self.n == 1 else []
            return [evolve(frame, mute_point=self.n), *more]

    class Above:
        @on(Call)
        def call(self, frame: Call) -> Interrupt:
            return Interrupt(cause="again")

    async with Pipeline(Above(), Again()) as pipeline:
        assert pipeline.interrupt() == Interrupt(turn=0, mute_point=1)


async def test_a_handler_for_an_urgent_base_is_not_told_of_interrupts() -> None:
    ups = Ups()
    async with Pipeline(ups) as pipeline:
        pipeline.interrupt()
    assert ups.got == []


# --- what is cut ------------------------------------------------------------------------------


async def test_everything_that_waits_is_cut_and_what_is_not_interruptible_stays() -> None:
    first, second, sink = Slow(1.0), Slow(1.0), Sink()
    pipeline = Pipeline(first, second, sink)
    async with pipeline:
        one, two = pipeline.new_turn(), pipeline.new_turn()
        for frame in (Piece(turn=one), Note(n=1), Piece(turn=two), Note(n=2), Piece(turn=one)):
            pipeline.emit(frame)
        pipeline.interrupt()
        three = pipeline.new_turn()
        pipeline.emit(Piece(turn=three))
    assert sink.got == [Interrupt(turn=two), *notes(1, 2), Piece(turn=three), End()]
    assert dropped(pipeline, "Slow") == {"cut": 3}


async def test_a_cut_of_an_older_turn_leaves_the_newer_one_alone() -> None:
    slow, sink = Slow(1.0), Sink()
    async with Pipeline(slow, sink) as pipeline:
        one, two = pipeline.new_turn(), pipeline.new_turn()
        pipeline.emit(Piece(turn=one))
        pipeline.emit(Piece(turn=two))
        pipeline.interrupt(turn=one)
    assert sink.got == [Interrupt(turn=one), Piece(turn=two), End()]


async def test_a_handler_that_works_on_a_cut_frame_is_cancelled_at_its_await() -> None:
    slow, sink = Slow(1.0), Sink()
    pipeline = Pipeline(slow, sink)
    async with pipeline:
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        await anyio.sleep(0.5)
        pipeline.interrupt()
    assert slow.began == [Piece(turn=1)]
    assert slow.finished == []
    assert sink.got == [Interrupt(turn=1), End()]
    assert dropped(pipeline, "Slow") == {"cut": 1}


class Stubborn:
    """Does not let itself be cancelled, and returns something all the same."""

    def __init__(self) -> None:
        self.was_cancelled = False

    @on(Piece)
    async def piece(self, frame: Piece) -> list[Frame]:
        try:
            await anyio.sleep(1)
        except BaseException:
            self.was_cancelled = True
            if frame.n:
                raise
        return [Note(n=1), frame]

    @on(Note)
    async def note(self, frame: Note) -> Note:
        await checkpoint()
        return frame


async def test_what_a_cut_handler_returns_is_discarded_and_the_next_frame_is_not_lost() -> None:
    # Trap 2: the scope was cancelled although the handler came to its end; the next innocent
    # frame must not pay for it.
    stubborn, sink = Stubborn(), Sink()
    async with Pipeline(stubborn, sink) as pipeline:
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        pipeline.emit(Note(n=2))
        await anyio.sleep(0.5)
        pipeline.interrupt()
    assert stubborn.was_cancelled
    assert sink.got == [Interrupt(turn=1), Note(n=2), End()]


async def test_a_handler_that_cuts_its_own_turn_at_its_end_does_not_harm_the_next_frame() -> None:
    # The cut comes from inside the handler, which then returns without another await.
    class Suicidal(Stubborn):
        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit

        async def piece(self, frame: Piece) -> list[Frame]:
            self.emit(Interrupt(turn=frame.turn))
            return [Note(n=1)]

    sink = Sink()
    async with Pipeline(Suicidal(), sink) as pipeline:
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        for n in (2, 3):
            pipeline.emit(Note(n=n))
    assert sink.got == [Interrupt(turn=1), *notes(2, 3), End()]


async def test_a_cut_generator_stops_and_what_it_yielded_before_stays() -> None:
    stream, sink = SlowStream(1.0), Sink()

    class Noted(Sink):
        @on(Piece)
        def note(self, frame: Piece) -> Note:
            return Note(n=1)

    pipeline = Pipeline(stream, Noted(), sink)
    async with pipeline:
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        pipeline.emit(Other(n=3))
        await anyio.sleep(0.5)
        pipeline.interrupt()
    assert sink.got == [Note(n=1), Interrupt(turn=2), End()]
    assert stream.finished == [Other(n=3)]
    assert dropped(pipeline, "SlowStream") == {"cut": 2}


class Stream:
    """A generator that will not be stopped, and takes its time when it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    @on(Piece)
    async def stream(self, frame: Piece) -> AsyncIterator[Frame]:
        try:
            yield Note(n=1)
            with contextlib.suppress(BaseException):
                await anyio.sleep(1)
            yield Note(n=2)
            yield Note(n=3)
        finally:
            await anyio.sleep(0.1)
            self.closed += 1


async def test_a_cut_generator_is_closed_even_if_closing_waits() -> None:
    # Trap 4: it hangs at a yield, and the scope around it is cancelled.
    stream, sink = Stream(), Sink()
    async with Pipeline(stream, sink) as pipeline:
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        pipeline.emit(Other(n=4))
        await anyio.sleep(0.5)
        pipeline.interrupt()
    assert sink.got == [Note(n=1), Interrupt(turn=1), Other(n=4), End()]
    assert stream.closed == 1


async def test_a_generator_whose_own_frame_causes_the_cut_is_closed() -> None:
    class Alarm:
        @on(Note)
        def alarm(self, frame: Note) -> Interrupt:
            return Interrupt()

    stream, sink = Stream(), Sink()
    pipeline = Pipeline(stream, Alarm(), sink)
    async with pipeline:
        pipeline.emit(Piece(turn=pipeline.new_turn()))
    assert stream.closed == 1
    assert sink.got == [Interrupt(turn=1), End()]
    assert dropped(pipeline, "Stream") == {"cut": 1}


async def test_what_a_plain_handler_makes_of_a_cut_turn_reaches_no_later_stage() -> None:
    sink = Sink()
    maker = Plain(lambda frame: Piece(turn=1))
    pipeline = Pipeline(maker, Plain(lambda frame: frame), sink)
    async with pipeline:
        pipeline.new_turn()
        pipeline.emit(Note())
        pipeline.interrupt()
        pipeline.emit(Note())
    assert sink.got == [Piece(turn=1), Interrupt(turn=1), End()]
    assert dropped(pipeline, "Plain") == {"stale": 1}


async def test_a_handler_of_a_frame_of_no_turn_goes_on_and_its_stale_output_drops() -> None:
    class Speaker:
        @on(Note)
        async def speak(self, frame: Note) -> list[Frame]:
            await anyio.sleep(1)
            return [Piece(turn=1), Note(n=5)]

    sink = Sink()
    pipeline = Pipeline(Speaker(), sink)
    async with pipeline:
        pipeline.new_turn()
        pipeline.emit(Note())
        await anyio.sleep(0.5)
        pipeline.interrupt()
    assert sink.got == [Interrupt(turn=1), Note(n=5), End()]
    assert dropped(pipeline, "Speaker") == {"stale": 1}


async def test_a_cut_does_not_eat_output_that_waits_for_room_and_is_not_interruptible() -> None:
    # Trap 3: while a stage waits for room it is not working on the frame any more.
    class Mixed:
        @on(Piece)
        async def mixed(self, frame: Piece) -> list[Frame]:
            return [Note(n=1), frame, Note(n=2)]

    slow, sink = Slow(1.0, capacity=1), Sink()
    pipeline = Pipeline(Mixed(), slow, sink)
    async with pipeline:
        pipeline.emit(Note(n=8))
        await anyio.sleep(0.1)
        pipeline.emit(Note(n=9))
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        await anyio.sleep(0.1)
        pipeline.interrupt()
    assert sink.got == [Interrupt(turn=1), *notes(8, 9, 1, 2), End()]
    assert dropped(pipeline, "Mixed") == {"stale": 1}


async def test_a_cut_wakes_those_who_wait_for_room() -> None:
    # Trap 8.
    slow, sink = Slow(1.0, capacity=2), Sink()
    async with Pipeline(slow, sink) as pipeline:
        turn = pipeline.new_turn()
        pipeline.emit(Note(n=1))
        await anyio.sleep(0.1)
        for n in (2, 3):
            pipeline.emit(Piece(turn=turn, n=n))
        with anyio.move_on_after(0.5) as waiting:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pipeline.room)
                await anyio.sleep(0.1)
                pipeline.interrupt()
        assert not waiting.cancelled_caught
        pipeline.emit(Note(n=4))
    assert sink.got == [Interrupt(turn=1), *notes(1, 4), End()]


async def test_who_waits_with_a_cut_frame_does_not_wait_for_room_any_longer() -> None:
    relay, slow = Slow(), Slow(10.0, capacity=1)
    pipeline = Pipeline(relay, slow)
    async with pipeline:
        for n in (1, 2):
            pipeline.emit(Note(n=n))
            await anyio.sleep(0.1)
        pipeline.emit(Piece(turn=pipeline.new_turn()))
        pipeline.emit(Other())
        await anyio.sleep(0.1)
        assert relay.finished == [*notes(1, 2), Piece(turn=1)]
        pipeline.interrupt()
        await anyio.sleep(0.1)
        assert relay.finished == [*notes(1, 2), Piece(turn=1), Other()]
    assert dropped(pipeline, "Slow") == {"stale": 1}


async def test_stale_frames_are_dropped_before_the_fullness_test() -> None:
    # Trap 9.
    pipeline = Pipeline(Slow(1.0, capacity=1))
    async with pipeline:
        turn = pipeline.new_turn()
        pipeline.emit(Note(n=1))
        pipeline.interrupt()
        pipeline.emit(Piece(turn=turn))  # full, and nobody complains
    assert pipeline.statistics().stages[0].dropped == {}


async def test_cut_frames_do_not_count_against_capacity() -> None:
    slow = Slow(1.0, capacity=3)
    pipeline = Pipeline(slow)
    async with pipeline:
        pipeline.emit(Note(n=1))
        await anyio.sleep(0.1)
        for _ in range(10):
            turn = pipeline.new_turn()
            for n in range(3):
                pipeline.emit(Piece(turn=turn, n=n))
            pipeline.interrupt()
            mailbox = pipeline.statistics().stages[0].mailbox
            assert mailbox is not None
            assert (mailbox.depth, mailbox.peak) == (0, 3)
        for n in (2, 3, 4):
            pipeline.emit(Note(n=n))
    assert slow.finished == notes(1, 2, 3, 4)
    assert dropped(pipeline, "Slow") == {"cut": 30}


async def test_a_frame_that_waits_in_the_same_call_is_cut_too() -> None:
    class Speaker:
        @on(Note)
        def speak(self, frame: Note) -> list[Frame]:
            return [Piece(turn=1, n=1), Piece(turn=1, n=2)]

    class Alarm:
        @on(Piece)
        def alarm(self, frame: Piece) -> list[Frame]:
            return [frame, Interrupt()]

    sink = Sink()
    pipeline = Pipeline(Speaker(), Alarm(), sink)
    async with pipeline:
        pipeline.new_turn()
        pipeline.emit(Note())
    assert sink.got == [Interrupt(turn=1), End()]
    assert dropped(pipeline, "Alarm") == {"stale": 1}


# --- turns ------------------------------------------------------------------------------------


async def test_turns_are_one_growing_line_from_1_for_all_producers() -> None:
    class Producer:
        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit

        @on(Note)
        def note(self, frame: Note) -> Frame:
            return Piece(turn=self.emit.new_turn(), n=frame.n)

    inner, sink = Producer(), Sink()
    outer = Producer()
    async with Pipeline(outer, Pipeline(inner), sink) as pipeline:
        pipeline.emit(Note())
        assert inner.emit.new_turn() == 2
        assert pipeline.new_turn() == 3
        pipeline.interrupt()
        assert inner.emit.is_cut(3)
        assert not inner.emit.is_cut(4)
    assert sink.got[0] == Piece(turn=1)


@pytest.mark.parametrize("turn", [-1, 0, 2, 99])
async def test_a_frame_of_a_turn_never_opened_is_an_error(turn: int) -> None:
    sink = Sink()
    async with Pipeline(sink) as pipeline:
        pipeline.new_turn()
        with pytest.raises(EmitError, match=rf"Piece of turn {turn}, which was never opened"):
            pipeline.emit(Piece(turn=turn))
        pipeline.interrupt()
        with pytest.raises(EmitError, match=r"never opened \(the newest is 1\)"):
            pipeline.emit(Piece(turn=turn))
    assert sink.got == [Interrupt(turn=1), End()]


@pytest.mark.parametrize("make", [lambda f: Piece(turn=5), lambda f: [f, Piece(turn=5)]])  # type: ignore[misc,unused-ignore]
async def test_a_stage_that_makes_up_a_turn_is_to_blame(make: object) -> None:
    with pytest.raises(ProcessorError, match=r"Plain failed on Note: .* never opened"):
        async with Pipeline(Plain(make), Sink()) as pipeline:  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            pipeline.emit(Note())


async def test_an_interrupt_of_a_turn_never_opened_is_an_error_and_cuts_nothing() -> None:
    sink = Sink()
    async with Pipeline(sink) as pipeline:
        turn = pipeline.new_turn()
        with pytest.raises(EmitError, match="Interrupt of turn 2, which was never opened"):
            pipeline.interrupt(turn=2)
        pipeline.emit(Piece(turn=turn))
    assert sink.got == [Piece(turn=1), End()]


async def test_a_late_frame_of_a_cut_turn_is_dropped_and_counted() -> None:
    class Late:
        async def run(self, emit: Emit[Piece]) -> None:
            turn = emit.new_turn()
            emit(Piece(turn=turn, n=1))
            await emit.until(emit.now_ns() + 10**9)
            emit(Piece(turn=turn, n=2))

    sink = Sink()
    pipeline = Pipeline(Late(), sink)
    async with pipeline:
        await anyio.sleep(0.5)
        pipeline.interrupt()
        await anyio.sleep(5)
    assert sink.got == [Piece(turn=1, n=1), Interrupt(turn=1), End()]
    assert dropped(pipeline, "Late") == {"stale": 1}


# --- urgent (G2) ------------------------------------------------------------------------------


async def test_when_emit_returns_every_stage_on_the_way_has_handled_an_urgent_frame() -> None:
    seen: list[tuple[str, Frame]] = []

    class Ear:
        def __init__(self, name: str) -> None:
            self.name = name

        @on(Nod, Call)
        def hear(self, frame: Nod | Call) -> Frame:
            seen.append((self.name, frame))
            return frame

    slow = Slow(5.0)
    async with Pipeline(Ear("a"), slow, Ear("b"), Slow(5.0), Ear("c")) as pipeline:
        for n in range(5):
            pipeline.emit(Note(n=n))
        pipeline.emit(Nod())
        assert seen == [("a", Nod()), ("b", Nod()), ("c", Nod())]
        seen.clear()
        pipeline.emit(Call())
        assert seen == [("c", Call()), ("b", Call()), ("a", Call())]
