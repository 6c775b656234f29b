"""DESIGN section 4: handlers run to completion, and the order in which their output goes out."""

from collections.abc import Iterator

import pytest

from framepipe import (
    Emit,
    EmitError,
    End,
    Fork,
    Frame,
    Interrupt,
    Pipeline,
    ProcessorError,
    WiringError,
    on,
    supervised,
)
from tests.engine.kit import Call, Nod, Note, Other, Piece, Plain, Sink, Slow, Ups, notes


def test_a_generator_is_exhausted_before_its_first_frame_is_delivered() -> None:
    story: list[str] = []

    class Teller:
        @on(Note)
        def tell(self, frame: Note) -> Iterator[Frame]:
            story.append("begins")
            yield frame
            yield Nod()
            story.append("ends")

    class Listener:
        @on(Note)
        def note(self, frame: Note) -> None:
            story.append("note")

        @on(Nod)
        def nod(self, frame: Nod) -> None:
            story.append("nod")

    Pipeline(Teller(), Listener()).step(Note())
    assert story == ["begins", "ends", "nod", "note"]


def test_urgent_frames_go_first_oldest_first_then_ordered_ones_oldest_first() -> None:
    class Mixed:
        @on(Note)
        def mixed(self, frame: Note) -> list[Frame]:
            return [Note(n=1), Nod(n=2), Note(n=3), Nod(n=4)]

    sink = Sink()
    Pipeline(Mixed(), sink).step(Note())
    assert sink.got == [Nod(n=2), Nod(n=4), Note(n=1), Note(n=3)]


def test_passing_many_stages_does_not_make_an_urgent_frame_younger() -> None:
    story: list[Frame] = []

    class Ears:
        @on(Call, Nod)
        def hear(self, frame: Call | Nod) -> None:
            story.append(frame)

    class Mixed:
        @on(Note)
        def mixed(self, frame: Note) -> list[Frame]:
            return [Call(n=1), Nod(n=2)]

    far = [Plain(lambda f: f) for _ in range(5)]
    Pipeline(Ears(), *far, Mixed(), Ears()).step(Note())
    assert story == [Call(n=1), Nod(n=2)]


def test_ordered_frames_go_furthest_downstream_first() -> None:
    # First-in-first-out over all stages would deliver 2 to the middle before 10 to the sink.
    story: list[tuple[str, int]] = []

    class Middle:
        @on(Note)
        def pass_on(self, frame: Note) -> list[Frame]:
            story.append(("middle", frame.n))
            return [Note(n=10 * frame.n), Note(n=10 * frame.n + 1)]

    class Last:
        @on(Note)
        def last(self, frame: Note) -> None:
            story.append(("last", frame.n))

    Pipeline(Plain(lambda _: notes(1, 2)), Middle(), Last()).step(Note())
    assert story == [
        ("middle", 1), ("last", 10), ("last", 11), ("middle", 2), ("last", 20), ("last", 21),
    ]  # fmt: skip


def test_an_urgent_answer_upstream_goes_before_the_frames_that_wait() -> None:
    # Trap 16: a depth-first engine delivers the answer's consequences too late, or the rest of
    # the first stage's frames too early; only the identity of each frame shows it.
    story: list[tuple[str, Frame]] = []

    class First:
        @on(Note)
        def first(self, frame: Note) -> list[Frame]:
            return notes(1, 2)

        @on(Call)
        def answer(self, frame: Call) -> Note:
            story.append(("first", frame))
            return Note(n=10 + frame.n)

    class Second:
        @on(Note)
        def second(self, frame: Note) -> Iterator[Frame]:
            story.append(("second", frame))
            if frame.n < 10:
                yield Call(n=frame.n)
            yield frame

    class Third:
        @on(Note)
        def third(self, frame: Note) -> None:
            story.append(("third", frame))

    Pipeline(First(), Second(), Third()).step(Note())
    assert story == [
        ("second", Note(n=1)),
        ("first", Call(n=1)),
        ("third", Note(n=1)),
        ("second", Note(n=2)),
        ("first", Call(n=2)),
        ("third", Note(n=2)),
        ("second", Note(n=11)),
        ("third", Note(n=11)),
        ("second", Note(n=12)),
        ("third", Note(n=12)),
    ]


def test_no_stage_is_entered_inside_its_own_handler() -> None:
    class Echo:
        def __init__(self) -> None:
            self.inside = False
            self.depth = 0

        @on(Note)
        def note(self, frame: Note) -> Iterator[Frame]:
            assert not self.inside
            self.inside = True
            yield frame
            self.inside = False

        @on(Call)
        def call(self, frame: Call) -> Frame | None:
            assert not self.inside
            self.depth += 1
            return Note() if self.depth < 1_000 else None

    class Answer:
        @on(Note)
        def answer(self, frame: Note) -> Call:
            return Call()

    echo = Echo()
    Pipeline(echo, Answer()).step(Note())
    assert echo.depth == 1_000


def test_two_types_from_one_stage_stay_in_order_although_only_one_of_them_forks() -> None:
    main = Sink()

    class Side:
        @on(Note)
        def note(self, frame: Note) -> None: ...

    made: list[Frame] = [Note(n=1), Other(n=2), Note(n=3), Other(n=4)]
    Pipeline(Plain(lambda _: made), Fork(main, Side())).step(Note())
    assert main.got == made


class Misuser:
    """Emits inside a plain handler."""

    def attach(self, emit: Emit[Frame]) -> None:
        self.emit = emit

    @on(Note)
    def note(self, frame: Note) -> None:
        self.emit(frame)


def test_emit_inside_a_plain_handler_raises_and_says_what_to_do() -> None:
    with pytest.raises(ProcessorError, match="return or yield it instead") as caught:
        Pipeline(Misuser()).step(Note())
    assert isinstance(caught.value.__cause__, EmitError)


def test_after_a_refused_emit_the_pipeline_still_delivers() -> None:
    class Careful(Misuser):
        def note(self, frame: Note) -> None:
            with pytest.raises(EmitError):
                self.emit(frame)

    sink = Sink()
    pipeline = Pipeline(Careful(), sink)
    pipeline.step(Note())
    pipeline.step(Other())
    assert sink.got == [Other()]


def test_emitting_into_the_pipeline_from_inside_a_handler_raises() -> None:
    class Outsider:
        pipeline: Pipeline

        @on(Note)
        def note(self, frame: Note) -> None:
            self.pipeline.step(Other())

    stage = Outsider()
    stage.pipeline = Pipeline(stage)
    with pytest.raises(ProcessorError, match="inside a plain handler"):
        stage.pipeline.step(Note())


class Ping:
    @on(Call)
    def ping(self, frame: Call) -> Nod:
        return Nod()


class Pong:
    @on(Nod)
    def pong(self, frame: Nod) -> Call:
        return Call()


def test_two_stages_that_answer_each_other_are_a_processor_error() -> None:
    with pytest.raises(ProcessorError, match=r"10,000 deliveries in one emit"):
        Pipeline(Ping(), Pong()).step(Nod())


def test_the_answering_is_stopped_after_ten_thousand_steps() -> None:
    class Counting(Ping):
        n = 0

        @on(Call)
        def ping(self, frame: Call) -> Nod:
            self.n += 1
            return Nod()

    counting = Counting()
    with pytest.raises(ProcessorError):
        Pipeline(counting, Pong()).step(Nod())
    assert counting.n == 5_000  # and as many answers


def test_supervision_does_not_let_two_stages_answer_each_other_for_ever() -> None:
    with pytest.raises(ProcessorError, match=r"10,000 deliveries in one emit"):
        Pipeline(supervised(Ping(), 5), supervised(Pong(), 5)).step(Nod())


def test_stages_that_answer_each_other_with_ordered_frames_are_stopped_too() -> None:
    class Above:
        @on(Call)
        def call(self, frame: Call) -> Note:
            return Note()

    class Below:
        @on(Note)
        def note(self, frame: Note) -> Call:
            return Call()

    with pytest.raises(ProcessorError, match=r"10,000 deliveries"):
        Pipeline(Above(), Below()).step(Note())


@pytest.mark.parametrize("frame", [Note(), Nod()])
def test_a_generator_without_an_end_is_stopped(frame: Frame) -> None:
    class Endless:
        @on(Note, Nod)
        def endless(self, frame: Note | Nod) -> Iterator[Frame]:
            while True:
                yield frame

    with pytest.raises(ProcessorError, match=r"10,000 frames; does its generator end"):
        Pipeline(Endless()).step(frame)


@pytest.mark.anyio
async def test_a_generator_without_an_end_is_stopped_in_an_async_stage() -> None:
    class Endless(Slow):
        @on(Interrupt)
        def unused(self, frame: Interrupt) -> None: ...

        @on(End)
        def endless(self, frame: End) -> Iterator[Frame]:
            while True:
                yield Note()

    with pytest.raises(ProcessorError, match=r"10,000 frames"):
        async with Pipeline(Endless()):
            pass


def test_nine_thousand_frames_from_one_emit_are_fine() -> None:
    sink = Sink()
    Pipeline(Plain(lambda _: notes(*range(9_000))), sink).step(Note())
    assert sink.got == notes(*range(9_000))


# --- step -------------------------------------------------------------------------------------


def test_step_answers_with_the_frames_that_left_at_either_end_in_order() -> None:
    class Both:
        @on(Note)
        def both(self, frame: Note) -> list[Frame]:
            return [Note(n=1), Call(n=2), Nod(n=3), Other(n=4)]

    assert Pipeline(Both()).step(Note()) == [Call(n=2), Nod(n=3), Note(n=1), Other(n=4)]


def test_step_enters_urgent_up_at_the_tail_and_all_else_at_the_head() -> None:
    seen: list[tuple[str, Frame]] = []

    class A:
        @on(Frame)
        def see(self, frame: Frame) -> Frame:
            seen.append(("A", frame))
            return frame

    class B:
        @on(Frame)
        def see(self, frame: Frame) -> Frame:
            seen.append(("B", frame))
            return frame

    pipeline = Pipeline(A(), B())
    for frame in (Note(), Nod(), Call()):
        pipeline.step(frame)
    assert seen == [
        ("A", Note()), ("B", Note()), ("A", Nod()), ("B", Nod()), ("B", Call()), ("A", Call()),
    ]  # fmt: skip


def test_step_lends_time_and_turns() -> None:
    class Speaker:
        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit

        @on(Note)
        def speak(self, frame: Note) -> list[Frame]:
            turn = self.emit.new_turn()
            assert not self.emit.is_cut(turn)
            return [Piece(turn=turn, n=self.emit.now_ns())]

    pipeline = Pipeline(Speaker())
    assert pipeline.step(Note(), at_ns=7) == [Piece(turn=1, n=7)]
    assert pipeline.step(Note(), at_ns=8) == [Piece(turn=2, n=8)]


def test_step_cuts_like_a_run() -> None:
    class Late:
        """Keeps a piece of turn 1 and yields it after the cut."""

        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit
            emit.new_turn()

        @on(Note)
        def note(self, frame: Note) -> Piece:
            return Piece(turn=1)

    sink = Sink()
    pipeline = Pipeline(Late(), sink)
    pipeline.step(Note())
    pipeline.step(Interrupt())
    pipeline.step(Note())
    assert sink.got == [Piece(turn=1), Interrupt(turn=1)]
    assert pipeline.statistics().turns_cut == 1


def test_step_is_for_plain_stages_only_and_names_the_other() -> None:
    class Source:
        async def run(self, emit: Emit[Note]) -> None: ...

    with pytest.raises(WiringError, match="Slow is async"):
        Pipeline(Plain(lambda f: f), Slow()).step(Note())
    with pytest.raises(WiringError, match="Source has a run"):
        Pipeline(Source(), Sink()).step(Note())


def test_step_raises_what_a_stage_raised() -> None:
    def burst(frame: Frame) -> Frame:
        raise ValueError("no")

    with pytest.raises(ProcessorError, match="Plain failed on Note: ValueError: no"):
        Pipeline(Plain(burst)).step(Note())


@pytest.mark.anyio
async def test_step_is_refused_while_the_pipeline_runs() -> None:
    sink = Sink()
    async with Pipeline(sink) as pipeline:
        with pytest.raises(EmitError, match="the pipeline runs"):
            pipeline.step(Note())
        pipeline.emit(Note())
        assert sink.got == [Note()]


def test_after_the_end_a_step_raises() -> None:
    pipeline = Pipeline(Sink())
    pipeline.step(End())
    with pytest.raises(EmitError, match="after its End"):
        pipeline.step(Note())


def test_waiting_is_refused_without_a_loop() -> None:
    class Keeper(Ups):
        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit

    stage = Keeper()
    Pipeline(stage).step(Note())
    stage.emit.wake()
    for coroutine in (stage.emit.room(), stage.emit.until(5)):
        with pytest.raises(EmitError, match="without an event loop"):
            coroutine.send(None)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    with pytest.raises(EmitError, match="without a loop"):
        stage.emit.from_thread(Note())
