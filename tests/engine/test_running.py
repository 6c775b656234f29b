"""DESIGN sections 4 and 5: a run from its first frame to its end, and what may go wrong in it."""

import itertools
import logging
from collections.abc import Callable, Iterator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from framepipe import (
    AudioIn,
    Emit,
    EmitError,
    End,
    Fork,
    Frame,
    Interrupt,
    MailboxFull,
    Ordered,
    Pipeline,
    ProcessorError,
    WiringError,
    on,
    supervised,
)
from framepipe.testing import run_virtual
from tests.engine.kit import Call, Nod, Note, Other, Piece, Plain, Sink, Slow, Ups, dropped, notes

pytestmark = pytest.mark.anyio


class Source:
    """Emits notes 0, 1, … with room, one every ``every_ns``."""

    def __init__(self, n: int, every_ns: int = 0) -> None:
        self.n = n
        self.every_ns = every_ns

    async def run(self, emit: Emit[Note]) -> None:
        at_ns = emit.now_ns()
        for n in range(self.n):
            await emit.until(at_ns + n * self.every_ns)
            await emit.room()
            emit(Note(n=n))


def audio(n: int) -> AudioIn:
    return AudioIn(pcm=b"ab", rate_hz=24_000, start_sample=n)


# --- run, stop, async with --------------------------------------------------------------------


async def test_a_run_is_over_when_the_first_stage_is_and_everything_was_delivered() -> None:
    sink = Sink()
    await Pipeline(Source(5), Slow(1.0, capacity=2), Plain(lambda f: f), sink).run()
    assert sink.got == [*notes(0, 1, 2, 3, 4), End()]


async def test_the_same_pipeline_runs_again() -> None:
    sink = Sink()
    pipeline = Pipeline(Source(2), Slow(), sink)
    await pipeline.run()
    await pipeline.run()
    assert sink.got == [*notes(0, 1), End()] * 2


async def test_a_pipeline_runs_once_at_a_time() -> None:
    pipeline = Pipeline(Sink())
    async with pipeline:
        with pytest.raises(WiringError, match="runs already"):
            await pipeline.run()
        pipeline.emit(Note())


async def test_leaving_the_block_normally_ends_it() -> None:
    sink = Sink()
    async with Pipeline(Slow(1.0), sink) as pipeline:
        pipeline.emit(Note())
    assert sink.got == [Note(), End()]


async def test_leaving_the_block_by_an_exception_cancels_it() -> None:
    slow, sink = Slow(1.0), Sink()
    with pytest.raises(LookupError, match="mine"):  # noqa: PT012 the block is the point
        async with Pipeline(slow, sink) as pipeline:
            pipeline.emit(Note())
            await anyio.sleep(0.5)
            raise LookupError("mine")
    assert slow.began == notes(0)
    assert slow.finished == []
    assert sink.got == []


async def test_stop_sends_the_end_after_everything_emitted_before_it() -> None:
    sink = Sink()
    pipeline = Pipeline(Slow(1.0), Plain(lambda f: f), sink)
    async with pipeline:
        for frame in notes(1, 2, 3):
            pipeline.emit(frame)
        pipeline.stop()
        pipeline.stop()
        with pytest.raises(EmitError, match="after its End"):
            pipeline.emit(Note(n=4))
        pipeline.emit(Nod())
    assert sink.got == [Nod(), *notes(1, 2, 3), End()]


async def test_stop_inside_a_handler_lets_what_was_emitted_through() -> None:
    class Stopper:
        pipeline: Pipeline

        @on(Note)
        def note(self, frame: Note) -> list[Frame]:
            self.pipeline.stop()
            return [frame, frame]

    stopper, sink = Stopper(), Sink()
    stopper.pipeline = Pipeline(stopper, sink)
    async with stopper.pipeline as pipeline:
        pipeline.emit(Note())
        assert sink.got == [Note(), Note(), End()]


async def test_outside_of_a_run_nothing_can_be_emitted() -> None:
    pipeline = Pipeline(Sink())
    attempts: list[Callable[[], object]] = [
        lambda: pipeline.emit(Note()),
        pipeline.interrupt,
        pipeline.stop,
        pipeline.new_turn,
    ]
    for _ in range(2):
        for attempt in attempts:
            with pytest.raises(EmitError, match="does not run"):
                attempt()
        async with pipeline:
            pass


async def test_frames_from_outside_enter_at_the_head_or_the_tail() -> None:
    above, below = Ups(), Sink()
    async with Pipeline(above, Plain(lambda f: f), below) as pipeline:
        for frame in (Note(n=1), Nod(n=2), Call(n=3)):
            pipeline.emit(frame)
        assert below.got == [Note(n=1), Nod(n=2)]
        assert above.got == [Call(n=3)]


async def test_a_frame_of_a_kind_that_does_not_travel_is_refused() -> None:
    async with Pipeline(Sink()) as pipeline:
        with pytest.raises(TypeError, match="no frame that travels"):
            pipeline.emit(Frame())


# --- end (G6) ---------------------------------------------------------------------------------


async def test_a_later_run_that_knows_the_end_is_told_and_the_end_goes_on_after_it() -> None:
    story: list[object] = []

    class Player:
        def __init__(self) -> None:
            self.is_ending = False

        @on(End)
        def end(self, frame: End) -> None:
            self.is_ending = True

        async def run(self, emit: Emit[Note]) -> None:
            while not self.is_ending:
                story.append(await emit.until(10**18))
            emit(Note(n=9))
            story.append("over")

    sink = Sink()
    await Pipeline(Source(2), Player(), sink).run()
    assert sink.got == [*notes(0, 1, 9), End()]
    assert story == [False, "over"]


async def test_a_later_run_that_does_not_know_the_end_is_cancelled() -> None:
    story: list[str] = []

    class Player:
        async def run(self, emit: Emit[Note]) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                story.append("cancelled")

    sink = Sink()
    await Pipeline(Source(1, 5), Player(), sink).run()
    assert story == ["cancelled"]
    assert sink.got == [Note(), End()]


async def test_an_end_that_comes_before_a_run_has_begun_is_not_forgotten() -> None:
    # Trap 11: the scope of the run does not exist yet.
    class Player:
        async def run(self, emit: Emit[Note]) -> None:
            await anyio.sleep_forever()

    pipeline = Pipeline(Plain(lambda f: f), Player())
    async with pipeline:
        pipeline.stop()


async def test_a_later_run_that_returns_early_ends_nothing() -> None:
    class Brief:
        async def run(self, emit: Emit[Note]) -> None:
            return

    sink = Sink()
    await Pipeline(Source(3, 5), Brief(), sink).run()
    assert sink.got == [*notes(0, 1, 2), End()]


async def test_after_a_fork_the_end_waits_for_all_branches_that_merge() -> None:
    sink = Sink()
    fork = Fork(Plain(lambda f: f), Slow(5.0), Slow(1.0), keep=(Note,))
    await Pipeline(Source(1), fork, sink).run()
    assert sink.got == [Note(), Note(), Note(), End()]


async def test_the_end_takes_no_slot() -> None:
    slow = Slow(1.0, capacity=1)
    async with Pipeline(slow) as pipeline:
        pipeline.emit(Note(n=1))
        await checkpoint()
        await pipeline.room()
        pipeline.emit(Note(n=2))
        pipeline.stop()
    assert slow.finished == notes(1, 2)


async def test_the_end_cannot_be_swallowed_and_comes_once() -> None:
    class Swallower:
        @on(End)
        def swallow(self, frame: End) -> None: ...

    class AsyncSwallower:
        @on(End)
        async def swallow(self, frame: End) -> None:
            await anyio.sleep(1)

    class Repeater:
        @on(End)
        def repeat(self, frame: End) -> list[Frame]:
            return [Note(n=7), frame, frame]

    class AsyncRepeater:
        @on(End)
        async def repeat(self, frame: End) -> list[Frame]:
            return [Note(n=8), frame, frame]

    sink = Sink()
    await Pipeline(
        Source(1), Swallower(), AsyncSwallower(), Repeater(), AsyncRepeater(), sink
    ).run()
    assert sink.got == [*notes(0, 7, 8), End()]


async def test_ordered_frames_after_ones_own_end_raise() -> None:
    class Chatty:
        async def run(self, emit: Emit[Note | End | Nod]) -> None:
            emit(Note(n=1))
            emit(End())
            emit(Nod())
            emit(Note(n=2))

    sink = Sink()
    with pytest.raises(ProcessorError, match=r"Chatty failed on run: EmitError: .* after its End"):
        await Pipeline(Chatty(), sink).run()
    assert sink.got == [Note(n=1), End(), Nod()]


async def test_a_stage_that_ended_itself_gets_no_second_end() -> None:
    class Own:
        async def run(self, emit: Emit[Note | End]) -> None:
            emit(End())
            await anyio.sleep(5)

    sink = Sink()
    await Pipeline(Own(), sink).run()
    assert sink.got == [End()]


async def test_an_async_stage_whose_run_ends_it_still_ends() -> None:
    class Own(Slow):
        async def run(self, emit: Emit[Note | End]) -> None:
            await emit.until(emit.now_ns() + 5)
            emit(End())

    for above in ((), (Source(20, 1),)):
        sink = Sink()
        await Pipeline(*above, Own(), sink).run()
        assert sink.got == [*notes(0, 1, 2, 3, 4)[: 5 * len(above)], End()]


async def test_nothing_passes_a_stage_that_has_ended_itself() -> None:
    # The async stage below is done; frames that went on would fill its mailbox for ever.
    class Ender:
        async def run(self, emit: Emit[End]) -> None:
            await emit.until(emit.now_ns() + 5)
            emit(End())

    slow = Slow(capacity=2)
    await Pipeline(Source(20, 2), Ender(), slow).run()
    assert slow.finished == notes(0, 1, 2)


async def test_urgent_frames_still_pass_after_the_end_and_what_they_cause_is_dropped() -> None:
    class Late:
        @on(Nod)
        def nod(self, frame: Nod) -> Iterator[Frame]:
            yield frame
            yield Note()

    sink = Sink()
    pipeline = Pipeline(Late(), sink)
    async with pipeline:
        pipeline.stop()
        pipeline.emit(Nod())
        assert sink.got == [End(), Nod()]
    assert dropped(pipeline, "Late") == {"after end": 1}


async def test_after_the_run_a_kept_emit_is_refused() -> None:
    class Keeper(Sink):
        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit

    keeper = Keeper()
    with pytest.raises(LookupError):
        async with Pipeline(keeper, Sink()):
            raise LookupError
    with pytest.raises(EmitError, match="after the run"):
        keeper.emit(Note())
    with pytest.raises(EmitError, match="does not run"):
        keeper.emit.from_thread(Note())


# --- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.0, 0.4, 1.0, 1.5, 2.3])
async def test_a_cancelled_run_leaves_nothing_behind(after_s: float) -> None:
    slow, sink = Slow(1.0, capacity=1), Sink()
    pipeline = Pipeline(Source(9, 10**8), slow, Slow(0.5, capacity=1), sink)
    with anyio.move_on_after(after_s) as scope:
        await pipeline.run()
    assert scope.cancelled_caught
    seen = list(sink.got)
    await anyio.sleep(10)
    assert sink.got == seen
    assert End() not in seen
    with pytest.raises(EmitError):
        pipeline.emit(Note())


async def test_who_waits_for_room_from_outside_is_sent_away_at_the_end() -> None:
    pipeline = Pipeline(Slow(100.0, capacity=1))

    async def wait() -> None:
        await pipeline.room()

    async with anyio.create_task_group() as tasks:
        with pytest.raises(LookupError):  # noqa: PT012 the block is the point
            async with pipeline:
                pipeline.emit(Note())
                await anyio.sleep(0.1)
                pipeline.emit(Note())
                tasks.start_soon(wait)
                await anyio.sleep(0.1)
                raise LookupError


# --- failure (G7) -----------------------------------------------------------------------------


def burst(frame: Frame) -> Frame:
    raise ValueError("no")


class AsyncBurst:
    @on(Note)
    async def burst(self, frame: Note) -> Note:
        await checkpoint()
        raise ValueError("no")


class StreamBurst:
    @on(Note)
    async def burst(self, frame: Note):  # type: ignore[no-untyped-def]
        yield frame
        raise ValueError("no")


class RunBurst:
    async def run(self, emit: Emit[Note]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._burst)

    async def _burst(self) -> None:
        await checkpoint()
        raise ValueError("no")


class AttachBurst(Sink):
    def attach(self, emit: Emit[Frame]) -> None:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("make", "frame"),
    [
        (lambda: Plain(burst), Note()),
        (AsyncBurst, Note()),
        (StreamBurst, Note()),
        (RunBurst, None),
        (AttachBurst, None),
    ],
)  # type: ignore[misc,unused-ignore]
async def test_an_exception_in_a_stage_ends_the_run_as_a_processor_error(
    make: Callable[[], object], frame: Frame | None
) -> None:
    stage = make()
    with pytest.raises(ProcessorError) as caught:
        await Pipeline(Source(3, 5), stage, Sink()).run()
    assert caught.value.stage == type(stage).__name__
    assert caught.value.frame == frame
    assert isinstance(caught.value.__cause__, ValueError)


async def test_the_emitter_is_not_blamed_and_does_not_see_it() -> None:
    story: list[str] = []

    class Emitter:
        async def run(self, emit: Emit[Note]) -> None:
            emit(Note())
            story.append("emitted")
            emit(Note())
            story.append("emitted")

    with pytest.raises(ProcessorError) as caught:
        await Pipeline(Emitter(), Plain(burst)).run()
    assert caught.value.stage == "Plain"
    assert story == ["emitted", "emitted"]


async def test_a_wrong_turn_from_a_plain_handler_of_an_async_stage_is_its_own_error() -> None:
    class Mixed(Slow):
        @on(Nod)
        def unused(self, frame: Nod) -> None: ...

        @on(End)
        def lie(self, frame: End) -> Frame:
            return Piece(turn=9)

    with pytest.raises(ProcessorError, match=r"Mixed failed on End: .* never opened"):
        async with Pipeline(Mixed()):
            pass


async def test_a_failure_cancels_the_block_and_leaves_it_as_a_processor_error() -> None:
    with pytest.raises(ProcessorError):  # noqa: PT012 the block is the point
        async with Pipeline(Slow(0.5), Plain(burst)) as pipeline:
            pipeline.emit(Note())
            await anyio.sleep_forever()


class Fragile:
    """Raises on odd notes, having yielded one frame."""

    @on(Note)
    def some(self, frame: Note) -> Iterator[Frame]:
        yield Other(n=frame.n)
        if frame.n % 2:
            raise ValueError("odd")
        yield frame


class FragileSlow:
    @on(Note)
    async def some(self, frame: Note):  # type: ignore[no-untyped-def]
        yield Other(n=frame.n)
        await anyio.sleep(0.1)
        if frame.n % 2:
            raise ValueError("odd")
        yield frame


@pytest.mark.parametrize("make", [Fragile, FragileSlow])
async def test_a_supervised_stage_goes_on(make: Callable[[], object]) -> None:
    sink = Sink()
    pipeline = Pipeline(supervised(make(), restarts=2), sink)
    async with pipeline:
        for frame in notes(0, 1, 2, 3, 4):
            pipeline.emit(frame)
    assert sink.got == [
        Other(n=0), Note(n=0), Other(n=1), Other(n=2), Note(n=2), Other(n=3), Other(n=4),
        Note(n=4), End(),
    ]  # fmt: skip
    name = make.__name__
    assert dropped(pipeline, name) == {"failed": 2}
    assert pipeline.statistics().stages[0].restarts == 2


@pytest.mark.parametrize("make", [Fragile, FragileSlow])
async def test_a_supervised_stage_fails_once_too_often(make: Callable[[], object]) -> None:
    with pytest.raises(ProcessorError) as caught:  # noqa: PT012 the block is the point
        async with Pipeline(supervised(make(), restarts=1)) as pipeline:
            for frame in notes(1, 2, 3):
                pipeline.emit(frame)
            await anyio.sleep(10)
    assert caught.value.frame == Note(n=3)


async def test_a_supervised_run_is_called_again() -> None:
    class Reconnecting:
        def __init__(self) -> None:
            self.calls = 0

        async def run(self, emit: Emit[Note]) -> None:
            self.calls += 1
            emit(Note(n=self.calls))
            if self.calls < 3:
                raise OSError("gone")

    stage, sink = Reconnecting(), Sink()
    await Pipeline(supervised(stage), sink).run()
    assert sink.got == [*notes(1, 2, 3), End()]


def test_restarts_are_not_negative() -> None:
    with pytest.raises(WiringError, match="restarts is -1"):
        supervised(Sink(), -1)


# --- room and capacity (G5) -------------------------------------------------------------------


async def test_a_full_mailbox_refuses_and_nothing_happened() -> None:
    before, slow = Sink(), Slow(1.0, capacity=2)

    class Watcher:
        @on(Ordered)
        def watch(self, frame: Ordered) -> Ordered:
            before.got.append(frame)
            return frame

    async with Pipeline(Watcher(), slow) as pipeline:
        for frame in notes(1, 2):
            pipeline.emit(frame)
        with pytest.raises(MailboxFull, match=r"2 of 2 frames wait downstream; await emit.room"):
            pipeline.emit(Note(n=3))
        assert before.got == notes(1, 2)
        pipeline.emit(Nod())
    assert slow.finished == notes(1, 2)


async def test_room_waits_until_downstream_has_room() -> None:
    slow = Slow(1.0, capacity=2)
    at: list[float] = []

    class Timed:
        async def run(self, emit: Emit[Note]) -> None:
            start_ns = emit.now_ns()
            for n in range(5):
                await emit.room()
                at.append(round((emit.now_ns() - start_ns) / 1e9))
                emit(Note(n=n))

    await Pipeline(Timed(), slow).run()
    assert at == [0, 0, 0, 1, 2] or at == [0, 0, 1, 2, 3]
    assert slow.finished == notes(0, 1, 2, 3, 4)


async def test_a_source_that_always_finds_room_lets_others_run() -> None:
    slow = Slow(0.0, capacity=100_000)

    class Eager:
        async def run(self, emit: Emit[Note]) -> None:
            for n in range(1_000):
                await emit.room()
                emit(Note(n=n))
            assert slow.finished

    await Pipeline(Eager(), slow).run()


async def test_a_stage_with_much_to_drain_lets_others_run() -> None:
    # Trap 7: a mailbox that never runs empty, and a handler that never waits.
    class Busy:
        mailbox_capacity = 10_000

        def __init__(self) -> None:
            self.n = 0

        @on(Note)
        async def note(self, frame: Note) -> None:
            self.n += 1

    busy = Busy()
    async with Pipeline(busy) as pipeline:
        for n in range(5_000):
            pipeline.emit(Note(n=n))
        seen = [0]
        while busy.n < 5_000:
            await checkpoint()
            seen.append(busy.n)
        assert max(b - a for a, b in itertools.pairwise(seen)) < 1_000


async def test_microphone_audio_sheds_its_oldest_counted_and_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Ear:
        mailbox_capacity = 3

        def __init__(self) -> None:
            self.got: list[Frame] = []

        @on(AudioIn, Note)
        async def hear(self, frame: AudioIn | Note) -> None:
            await anyio.sleep(1)
            self.got.append(frame)

    ear = Ear()
    pipeline = Pipeline(ear)
    with caplog.at_level(logging.WARNING, "framepipe"):
        async with pipeline:
            pipeline.emit(Note(n=1))
            for n in range(6):
                pipeline.emit(audio(n))
    assert ear.got == [Note(n=1), audio(4), audio(5)]
    assert dropped(pipeline, "Ear") == {"shed": 4}
    assert "microphone audio shed" in caplog.text


async def test_the_output_of_async_stages_waits_even_when_it_is_microphone_audio() -> None:
    class Relay:
        @on(AudioIn)
        async def relay(self, frame: AudioIn) -> list[Frame]:
            return [frame, frame]

    class Ear:
        mailbox_capacity = 1

        def __init__(self) -> None:
            self.got: list[Frame] = []

        @on(AudioIn)
        async def hear(self, frame: AudioIn) -> None:
            await anyio.sleep(1)
            self.got.append(frame)

    ear = Ear()
    async with Pipeline(Relay(), ear) as pipeline:
        for n in range(4):
            pipeline.emit(audio(n))
    assert ear.got == [audio(n) for n in (0, 0, 1, 1, 2, 2, 3, 3)]


async def test_what_one_mailbox_passes_to_the_next_waits_for_room_there() -> None:
    slow = Slow(1.0, capacity=2)
    pipeline = Pipeline(Slow(), slow)
    async with pipeline:
        for n in range(10):
            pipeline.emit(Note(n=n))
        await anyio.sleep(0.5)
        mailbox = pipeline.statistics().stages[1].mailbox
        assert mailbox is not None
        assert (mailbox.depth, mailbox.peak, mailbox.waiting_for_room) == (2, 2, 1)
    assert slow.finished == notes(*range(10))


async def test_what_plain_stages_make_of_an_admitted_frame_always_fits() -> None:
    slow = Slow(1.0, capacity=1)
    pipeline = Pipeline(Plain(lambda f: [f] * 5), slow)
    async with pipeline:
        pipeline.emit(Note(n=1))
        mailbox = pipeline.statistics().stages[1].mailbox
        assert mailbox is not None
        assert mailbox.depth == mailbox.peak == 5
        with pytest.raises(MailboxFull):
            pipeline.emit(Note(n=2))
    assert slow.finished == notes(1, 1, 1, 1, 1)


async def test_who_waits_is_in_the_statistics() -> None:
    pipeline = Pipeline(Slow(1.0, capacity=1))
    async with pipeline, anyio.create_task_group() as tasks:
        await anyio.sleep(0.1)
        mailbox = pipeline.statistics().stages[0].mailbox
        assert mailbox is not None
        assert mailbox.reader_waits
        pipeline.emit(Note())
        await anyio.sleep(0.1)
        pipeline.emit(Note())
        tasks.start_soon(pipeline.room)
        await anyio.sleep(0.1)
        mailbox = pipeline.statistics().stages[0].mailbox
        assert mailbox is not None
        assert (mailbox.waiting_for_room, mailbox.reader_waits) == (1, False)


# --- until, attach ----------------------------------------------------------------------------


class Sleeper:
    """Sleeps to a time again and again and notes why it woke."""

    def __init__(self, *, tasks: int = 1) -> None:
        self.n_tasks = tasks
        self.woke: list[tuple[bool, int]] = []

    @on(Nod)
    def nod(self, frame: Nod) -> Nod:
        return frame

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> None: ...

    @on(Other)
    def other(self, frame: Other) -> None:
        self.emit.wake()

    def attach(self, emit: Emit[Frame]) -> None:
        self.emit = emit

    async def run(self, emit: Emit[Frame]) -> None:
        start_ns = emit.now_ns()

        async def sleep() -> None:
            reached = await emit.until(start_ns + 1_000_000_000)
            self.woke.append((reached, (emit.now_ns() - start_ns) // 1_000_000))

        async with anyio.create_task_group() as tasks:
            for _ in range(self.n_tasks):
                tasks.start_soon(sleep)


@pytest.mark.parametrize("frame", [Nod(), Interrupt(), Other()])
async def test_until_wakes_on_the_stages_own_urgent_frames_and_on_wake(frame: Frame) -> None:
    sleeper = Sleeper()
    async with Pipeline(sleeper) as pipeline:
        await anyio.sleep(0.25)
        pipeline.emit(frame)
        await anyio.sleep(5)
    assert [reached for reached, _ in sleeper.woke] == [False]
    assert 245 <= sleeper.woke[0][1] <= 255


async def test_until_returns_true_when_the_time_is_reached_and_others_frames_do_not_wake_it() -> (
    None
):
    sleeper = Sleeper()
    async with Pipeline(sleeper, Ups()) as pipeline:
        await anyio.sleep(0.25)
        pipeline.emit(Call())
        pipeline.emit(Note())
        await anyio.sleep(5)
    assert [reached for reached, _ in sleeper.woke] == [True]
    assert 999 <= sleeper.woke[0][1] <= 1001


async def test_until_a_time_that_is_past_is_reached_and_lets_others_run() -> None:
    class Past:
        async def run(self, emit: Emit[Frame]) -> None:
            for _ in range(3):
                assert await emit.until(emit.now_ns() - 5)

    await Pipeline(Past(), Sink()).run()


async def test_all_tasks_of_a_stage_that_sleep_are_woken() -> None:
    sleeper = Sleeper(tasks=3)
    async with Pipeline(sleeper) as pipeline:
        await anyio.sleep(0.25)
        pipeline.emit(Nod())
        await anyio.sleep(5)
    assert [reached for reached, _ in sleeper.woke] == [False] * 3


async def test_a_cancelled_sleep_leaves_nothing_behind() -> None:
    class Impatient:
        async def run(self, emit: Emit[Frame]) -> None:
            for _ in range(500):
                with anyio.move_on_after(0.001):
                    await emit.until(emit.now_ns() + 10**15)
            assert await emit.until(emit.now_ns() + 10**6)

    await Pipeline(Impatient(), Sink()).run()


def test_in_virtual_time_sleepers_of_one_instant_wake_in_the_order_they_lay_down() -> None:
    woke: list[int] = []

    class Early:
        def __init__(self, n: int) -> None:
            self.n = n

        async def run(self, emit: Emit[Frame]) -> None:
            await anyio.sleep(0.01 * self.n)
            await emit.until(1_000_000_000)
            woke.append(self.n)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for n in (3, 1, 4, 2, 5):
                tasks.start_soon(Pipeline(Early(n)).run)

    run_virtual(all_of_them)
    assert woke == [1, 2, 3, 4, 5]


async def test_pipelines_of_one_loop_share_a_clock_and_the_first_to_end_hands_it_on() -> None:
    first, second = Sleeper(), Sleeper()
    async with anyio.create_task_group() as tasks:

        async def briefly() -> None:
            async with Pipeline(first) as pipeline:
                await anyio.sleep(0.1)
                pipeline.emit(Nod())

        tasks.start_soon(briefly)
        await anyio.sleep(0.01)
        async with Pipeline(second):
            await anyio.sleep(2)
    assert [reached for reached, _ in second.woke] == [True]
    assert 999 <= second.woke[0][1] <= 1001


async def test_an_async_handler_may_wait_for_a_time_with_the_emit_of_attach() -> None:
    class Delay:
        def attach(self, emit: Emit[Frame]) -> None:
            self.emit = emit

        @on(Note)
        async def delay(self, frame: Note) -> Note:
            assert await self.emit.until(self.emit.now_ns() + 10**9)
            return frame

    sink = Sink()
    async with Pipeline(Delay(), sink) as pipeline:
        pipeline.emit(Note())
    assert sink.got == [Note(), End()]


async def test_attach_is_called_before_any_frame_and_without_a_run() -> None:
    story: list[str] = []

    class Attached:
        def attach(self, emit: Emit[Frame]) -> None:
            story.append("attached")
            self.emit = emit

        @on(Note)
        def note(self, frame: Note) -> Piece:
            story.append("note")
            return Piece(turn=self.emit.new_turn())

    sink = Sink()
    await Pipeline(Source(2), Attached(), sink).run()
    assert story == ["attached", "note", "note"]
    assert sink.got == [Piece(turn=1), Piece(turn=2), End()]


async def test_a_stage_may_be_handed_frames_before_its_run_has_begun() -> None:
    # Trap 18: the order in which tasks start is not the order of the stages.
    class Late:
        def __init__(self) -> None:
            self.got: list[Frame] = []
            self.before_run: list[Frame] = []

        @on(Note)
        def note(self, frame: Note) -> None:
            self.got.append(frame)

        async def run(self, emit: Emit[Frame]) -> None:
            self.before_run = list(self.got)

    late = Late()
    async with Pipeline(Plain(lambda f: f), late) as pipeline:
        pipeline.emit(Note())
        await anyio.sleep(1)
    assert late.before_run == notes(0)


async def test_own_urgent_handlers_may_run_inside_emit_of_run() -> None:
    story: list[str] = []

    class Talker:
        @on(Call)
        def call(self, frame: Call) -> None:
            story.append("handled")

        async def run(self, emit: Emit[Note]) -> None:
            emit(Note())
            story.append("emitted")

    await Pipeline(Talker(), Plain(lambda _: Call())).run()
    assert story == ["handled", "emitted"]


async def test_two_answering_stages_end_a_run_too() -> None:
    class Ping:
        @on(Call)
        def ping(self, frame: Call) -> Nod:
            return Nod()

    class Pong:
        @on(Nod)
        def pong(self, frame: Nod) -> Call:
            return Call()

    with pytest.raises(ProcessorError, match="10,000"):
        async with Pipeline(Ping(), Pong()) as pipeline:
            pipeline.emit(Nod())
