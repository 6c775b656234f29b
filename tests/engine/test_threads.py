"""`emit.from_thread`: bounded, counted, in order per thread. Real time: threads know no other."""

import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from framepipe import (
    AudioIn,
    Emit,
    EmitError,
    End,
    Frame,
    MailboxFull,
    Pipeline,
    ProcessorError,
    on,
)
from framepipe.processor import MAILBOX_CAPACITY
from tests.engine.kit import Note, Piece, Sink, Slow, dropped, notes

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Device:
    """Runs functions in threads of its own, as a sound card's driver does."""

    def __init__(self, *callbacks: Callable[[Emit[Frame]], None]) -> None:
        self.callbacks = callbacks
        self.emit: Emit[Frame] | None = None

    async def run(self, emit: Emit[Frame]) -> None:
        self.emit = emit
        async with anyio.create_task_group() as tasks:
            for callback in self.callbacks:
                tasks.start_soon(anyio.to_thread.run_sync, callback, emit)


async def test_frames_from_threads_arrive_once_in_order_per_thread() -> None:
    def callback(thread: int) -> Callable[[Emit[Frame]], None]:
        def inner(emit: Emit[Frame]) -> None:
            for n in range(100):
                emit.from_thread(Note(n=1_000 * thread + n))

        return inner

    sink = Sink()
    await Pipeline(Device(callback(0), callback(1)), sink).run()
    numbers = [frame.n for frame in sink.got if isinstance(frame, Note)]
    for thread in (0, 1):
        mine = [n for n in numbers if n // 1_000 == thread]
        assert mine == [1_000 * thread + n for n in range(100)]
    assert sink.got[-1] == End()


class Clockwatcher:
    """Asks for the time, and makes an event, for each frame."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def attach(self, emit: Emit[Frame]) -> None:
        self._emit = emit

    @on(Note)
    def ask(self, frame: Note) -> Note:
        anyio.Event().set()
        self.times.append(self._emit.now_ns())
        return frame


async def test_a_handler_that_a_frame_from_a_thread_reaches_can_ask_for_the_time() -> None:
    def callback(emit: Emit[Frame]) -> None:
        for n in range(3):
            emit.from_thread(Note(n=n))

    watcher = Clockwatcher()
    await Pipeline(Device(callback), watcher, Sink()).run()
    assert len(watcher.times) == 3
    assert all(at_ns > 0 for at_ns in watcher.times)


class Blocked:
    """Emits from a thread while the loop stands still."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self.said: list[EmitError] = []

    async def run(self, emit: Emit[Frame]) -> None:
        def callback() -> None:
            for frame in self.frames:
                try:
                    emit.from_thread(frame)
                except EmitError as error:
                    self.said.append(error)

        thread = threading.Thread(target=callback)
        thread.start()
        thread.join()  # blocks the loop on purpose: nobody takes what the thread emits
        # It returns with its frames still on their way: the end comes after them.


async def test_more_than_a_mailbox_of_frames_from_threads_is_refused() -> None:
    stage, sink = Blocked(notes(*range(MAILBOX_CAPACITY + 2))), Sink()
    await Pipeline(stage, sink).run()
    assert [type(error) for error in stage.said] == [MailboxFull] * 2
    assert sink.got == [*notes(*range(MAILBOX_CAPACITY)), End()]


async def test_microphone_audio_from_threads_sheds_its_oldest_counted() -> None:
    frames: list[Frame] = [
        AudioIn(pcm=b"", rate_hz=24_000, start_sample=n) for n in range(MAILBOX_CAPACITY + 3)
    ]
    stage, sink = Blocked(frames), Sink()
    pipeline = Pipeline(stage, sink)
    await pipeline.run()
    assert sink.got == [*frames[3:], End()]
    assert dropped(pipeline, "Blocked") == {"shed": 3}


async def test_frames_from_threads_wait_for_room_downstream() -> None:
    slow = Slow(0.005, capacity=2)
    await Pipeline(Blocked(notes(*range(8))), slow).run()
    assert slow.finished == notes(*range(8))


async def test_frames_from_threads_that_found_no_room_come_when_there_is_some() -> None:
    all_there = anyio.Event()

    class Counting:
        mailbox_capacity = 2

        def __init__(self) -> None:
            self.got: list[Frame] = []

        @on(Note)
        async def count(self, frame: Note) -> None:
            self.got.append(frame)
            if len(self.got) == 8:
                all_there.set()

    class Staying(Blocked):
        async def run(self, emit: Emit[Frame]) -> None:
            await super().run(emit)
            await all_there.wait()  # the end has not come: nothing else drives the frames on

    counting = Counting()
    with anyio.fail_after(10):
        await Pipeline(Staying(notes(*range(8))), counting).run()
    assert counting.got == notes(*range(8))


@pytest.mark.parametrize("frame", [Piece(turn=9), Frame(), 5])
async def test_a_wrong_frame_from_a_thread_ends_the_run(frame: Frame) -> None:
    with pytest.raises(ProcessorError, match="Blocked failed"):
        await Pipeline(Blocked([frame]), Sink()).run()


async def test_a_frame_from_a_thread_after_the_run_is_refused() -> None:
    device = Device()
    await Pipeline(device, Sink()).run()
    assert device.emit is not None
    for _ in range(2):
        with pytest.raises(EmitError, match="does not run"):
            device.emit.from_thread(Note())


async def test_a_frame_from_a_thread_after_the_end_is_dropped_and_counted() -> None:
    class Lingering(Blocked):
        async def run(self, emit: Emit[Frame]) -> None:
            emit(End())
            await super().run(emit)

    sink = Sink()
    pipeline = Pipeline(Lingering(notes(1)), sink)
    await pipeline.run()
    assert sink.got == [End()]
    assert dropped(pipeline, "Lingering") == {"after end": 1}
