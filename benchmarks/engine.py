"""The engine: hops, cuts, starting and stopping, beside what the same machine does bare."""

from __future__ import annotations

import asyncio
import time

import anyio
import anyio.lowlevel

from benchmarks.measure import Figure, best_of, medians, run_async
from framepipe import AudioIn, AudioOut, Fork, Interrupt, Pipeline, Transcript, on

N_FRAMES = 20_000
N_STAGES = 10


class Plain:
    """Hands the frame on."""

    @on(AudioIn)
    def handle(self, frame: AudioIn) -> AudioIn:
        return frame


class Queued:
    """Hands the frame on from a task of its own."""

    mailbox_capacity = N_FRAMES + 1

    @on(AudioIn)
    async def handle(self, frame: AudioIn) -> AudioIn:
        return frame


class Counter:
    """The end of the line."""

    def __init__(self) -> None:
        self.n_frames = 0
        self.wanted = 0
        self.arrived = anyio.Event()

    @on(AudioIn)
    def count(self, frame: AudioIn) -> None:
        self.n_frames += 1
        if self.n_frames == self.wanted:
            self.arrived.set()


class Holding:
    """Holds what it gets until it is cut."""

    mailbox_capacity = 600

    def __init__(self) -> None:
        self.emptied = anyio.Event()

    @on(AudioOut)
    async def hold(self, frame: AudioOut) -> AudioOut:
        await anyio.sleep_forever()
        return frame

    @on(Transcript)
    async def after(self, frame: Transcript) -> None:
        self.emptied.set()


FRAME = AudioIn(pcm=bytes(640), rate_hz=16_000)


def bare_call_us() -> float:
    """What a programmer would write by hand: each stage's method, called in a loop."""
    handlers = [Plain().handle for _ in range(50)]

    def calls() -> None:
        for _ in range(N_FRAMES // 5):
            frame = FRAME
            for handle in handlers:
                frame = handle(frame)

    return best_of(calls) / (N_FRAMES // 5 * 50) * 1e6


def inline_hop_us() -> float:
    """What each further plain stage adds to an emit."""

    def seconds(n_stages: int) -> float:
        pipeline = Pipeline(*(Plain() for _ in range(n_stages)))
        pipeline.step(FRAME)
        step = pipeline.step

        def emit_all() -> None:
            for _ in range(N_FRAMES):
                step(FRAME)

        return best_of(emit_all)

    return (seconds(52) - seconds(2)) / (N_FRAMES * 50) * 1e6


async def _batched_hop_us(n_stages: int) -> float:
    counter = Counter()
    counter.wanted = N_FRAMES
    async with Pipeline(*(Queued() for _ in range(n_stages)), counter) as pipeline:
        await anyio.sleep(0.01)
        began = time.perf_counter()
        for _ in range(N_FRAMES):
            pipeline.emit(FRAME)
        await counter.arrived.wait()
        return time.perf_counter() - began


def batched_hop_us(backend: str) -> float:
    """What each further mailbox adds when frames come in batches."""

    async def few() -> float:
        return await _batched_hop_us(2)

    async def many() -> float:
        return await _batched_hop_us(12)

    difference = min(run_async(many, backend) for _ in range(7)) - min(
        run_async(few, backend) for _ in range(7)
    )
    return difference / (N_FRAMES * 10) * 1e6


def single_hop_us(backend: str) -> float:
    """A frame through mailboxes, the next one only when it has arrived."""
    n_frames = 2_000

    async def measure() -> float:
        counter = Counter()
        async with Pipeline(*(Queued() for _ in range(N_STAGES)), counter) as pipeline:
            await anyio.sleep(0.01)
            began = time.perf_counter()
            for number in range(n_frames):
                counter.wanted = number + 1
                counter.arrived = anyio.Event()
                pipeline.emit(FRAME)
                await counter.arrived.wait()
            return time.perf_counter() - began

    return min(run_async(measure, backend) for _ in range(7)) / (n_frames * N_STAGES) * 1e6


def asyncio_queue_us() -> tuple[float, float]:
    """asyncio.Queue in the same chain: in batches, and one at a time."""

    async def chain(n_frames: int, *, one_at_a_time: bool) -> float:
        queues: list[asyncio.Queue[AudioIn]] = [asyncio.Queue() for _ in range(N_STAGES + 1)]

        async def hand_on(number: int) -> None:
            while True:
                queues[number + 1].put_nowait(await queues[number].get())

        tasks = [asyncio.create_task(hand_on(number)) for number in range(N_STAGES)]
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        for _ in range(n_frames):
            queues[0].put_nowait(FRAME)
            if one_at_a_time:
                await queues[-1].get()
        for _ in range(0 if one_at_a_time else n_frames):
            await queues[-1].get()
        took = time.perf_counter() - began
        for task in tasks:
            task.cancel()
        return took / (n_frames * N_STAGES) * 1e6

    async def batched() -> float:
        return await chain(N_FRAMES, one_at_a_time=False)

    async def single() -> float:
        return await chain(2_000, one_at_a_time=True)

    return min(run_async(batched) for _ in range(7)), min(run_async(single) for _ in range(7))


def anyio_stream_us() -> float:
    """An anyio memory stream in the same chain, one at a time."""
    n_frames = 1_000

    async def measure() -> float:
        streams = [anyio.create_memory_object_stream[AudioIn](16) for _ in range(N_STAGES + 1)]

        async def hand_on(number: int) -> None:
            async for frame in streams[number][1]:
                await streams[number + 1][0].send(frame)

        took = 0.0
        async with anyio.create_task_group() as tasks:
            for number in range(N_STAGES):
                tasks.start_soon(hand_on, number)
            await anyio.sleep(0.01)
            began = time.perf_counter()
            for _ in range(n_frames):
                await streams[0][0].send(FRAME)
                await streams[-1][1].receive()
            took = time.perf_counter() - began
            tasks.cancel_scope.cancel()
        for sender, receiver in streams:
            sender.close()
            receiver.close()
        return took / (n_frames * N_STAGES) * 1e6

    return min(run_async(measure) for _ in range(3))


def cut_ms(backend: str) -> tuple[float, float]:
    """``Interrupt`` across ten mailboxes that each hold 500 frames: the call, and all empty."""
    emptied: list[float] = []

    async def measure() -> float:
        stages = [Holding() for _ in range(N_STAGES)]
        side = [Pipeline(stage) for stage in stages[1:]]
        pipeline = Pipeline(Fork(stages[0], *side))
        async with pipeline:
            turn = pipeline.new_turn()
            frame = AudioOut(pcm=bytes(640), rate_hz=16_000, turn=turn)
            for _ in range(501):  # one in hand, 500 waiting, in each of the ten
                pipeline.emit(frame)
            await anyio.sleep(0.01)
            held = [s.mailbox.depth for s in pipeline.statistics().stages if s.mailbox]
            assert held == [500] * N_STAGES, held
            began = time.perf_counter()
            pipeline.emit(Interrupt())
            took = time.perf_counter() - began
            # Whatever waited before this frame is gone when it is handled.
            pipeline.emit(Transcript(who="user", text="", final=True, item_id=""))
            for stage in stages:
                await stage.emptied.wait()
            emptied.append((time.perf_counter() - began) * 1e3)
        return took * 1e3

    call = medians(measure, 15, backend)
    emptied.sort()
    return call, emptied[len(emptied) // 2]


def start_stop_ms(backend: str) -> float:
    """Ten stages with tasks of their own, started and stopped."""

    async def measure() -> float:
        began = time.perf_counter()
        async with Pipeline(*(Queued() for _ in range(N_STAGES))):
            pass
        return (time.perf_counter() - began) * 1e3

    return medians(measure, 31, backend)


def bare_start_stop_ms(backend: str) -> float:
    """A task group with ten tasks that wait for an event: the floor of the above."""

    async def measure() -> float:
        began = time.perf_counter()
        stop = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for _ in range(N_STAGES):
                tasks.start_soon(stop.wait)
            await anyio.lowlevel.checkpoint()
            stop.set()
        return (time.perf_counter() - began) * 1e3

    return medians(measure, 31, backend)


def figures() -> list[Figure]:
    """Measure everything about the engine."""
    bare = bare_call_us()
    hop = inline_hop_us()
    queue_batched, queue_single = asyncio_queue_us()
    measured = [
        Figure("bare method call", bare, "µs"),
        Figure("inline hop, marginal", hop, "µs", 0.2),
        Figure("inline hop in bare calls", hop / bare, "calls", 3.0),
        Figure("asyncio.Queue hop, in batches", queue_batched, "µs"),
        Figure("asyncio.Queue hop, one at a time", queue_single, "µs"),
        Figure("anyio stream hop, one at a time", anyio_stream_us(), "µs"),
    ]
    for backend in ("asyncio", "trio"):
        measured += _figures_on(backend, queue_batched, queue_single)
    return measured


def _figures_on(backend: str, queue_batched: float, queue_single: float) -> list[Figure]:
    """The goals are for asyncio; trio is reported."""
    call, empty = cut_ms(backend)
    batched, single = batched_hop_us(backend), single_hop_us(backend)
    rows: list[tuple[str, float, str, float | None]] = [
        ("mailbox hop, in batches", batched, "µs", 1.0),
        ("the same in asyncio.Queue hops", batched / queue_batched, "hops", 1.5),
        ("mailbox hop, one at a time", single, "µs", 8.0),
        ("the same in asyncio.Queue hops", single / queue_single, "hops", 2.3),
        ("cut of 10 × 500 frames, the call", call, "ms", 0.3),
        ("cut, all mailboxes empty", empty, "ms", 2.0),
        ("task group of 10 start and stop", bare_start_stop_ms(backend), "ms", None),
        ("10 stages start and stop", start_stop_ms(backend), "ms", 1.0),
    ]
    return [
        Figure(f"{backend}: {name}", value, unit, goal if backend == "asyncio" else None)
        for name, value, unit, goal in rows
    ]
