"""SoundCard: a device's thread on one side, a pipeline on the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pytest

from framepipe import Emit, Pipeline, on
from framepipe.audio import samples_of
from framepipe.errors import ProcessorError, TransportBroken, TransportError
from framepipe.frames import AudioIn, AudioOut, Interrupt, Mute, Played, Problem, Unmute
from framepipe_processors.transports import sound_card
from framepipe_processors.transports.sound_card import Callback, SoundCard

pytestmark = pytest.mark.anyio
BLOCK = 240


class FakeStream:
    """A device whose thread asks for a block when the test says so."""

    def __init__(self, *, latency_s: float = 0.0, fails: bool = False) -> None:
        self.output_latency_s = latency_s
        self.fails = fails
        self.is_open = False
        self.opened = threading.Event()
        self.callback: Callback
        self.gone: Callable[[], None]

    def opener(self, callback: Callback, gone: Callable[[], None]) -> FakeStream:
        if self.fails:
            raise TransportError("Error querying device -1; is a microphone connected?")
        self.callback, self.gone = callback, gone
        return self

    def __enter__(self) -> Self:
        self.is_open = True
        self.opened.set()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_open = False
        self.gone()

    async def block(self, value: int = 0, fault: str = "") -> list[int]:
        """One block each way, from another thread."""
        await anyio.to_thread.run_sync(self.opened.wait)
        pcm = np.full(BLOCK, value, "<i2").tobytes()
        sound = await anyio.to_thread.run_sync(self.callback, pcm, fault)
        await anyio.lowlevel.checkpoint()
        return [int(sample) for sample in samples_of(sound)]


class Middle:
    def __init__(self) -> None:
        self.heard: list[AudioIn] = []
        self.problems: list[Problem] = []
        self.played: list[Played] = []

    def attach(self, emit: Emit[AudioOut | Mute | Unmute]) -> None:
        self.emit = emit

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> None:
        self.heard.append(frame)

    @on(Problem)
    def worry(self, frame: Problem) -> None:
        self.problems.append(frame)

    @on(Played)
    def note(self, frame: Played) -> None:
        self.played.append(frame)


def assembled(stream: FakeStream) -> tuple[Pipeline, Middle]:
    card = SoundCard(opener=stream.opener)
    middle = Middle()
    return Pipeline(card.mic, middle, card.speaker, accepts=(AudioOut,)), middle


def audio(n: int, value: int = 9_000) -> AudioOut:
    return AudioOut(pcm=np.full(n, value, "<i2").tobytes(), rate_hz=24_000, turn=1, item_id="a")


async def test_blocks_go_both_ways_in_order_with_their_positions() -> None:
    stream = FakeStream()
    pipeline, middle = assembled(stream)
    async with pipeline:
        pipeline.new_turn()
        assert await stream.block(1) == [0] * BLOCK
        middle.emit(audio(300))
        assert await stream.block(2) == [9_000] * BLOCK
        assert await stream.block(3) == [9_000] * 60 + [0] * 180
        assert await stream.block(4) == [0] * BLOCK
    assert [(f.start_sample, samples_of(f.pcm_bytes())[0]) for f in middle.heard] == [
        (0, 1),
        (240, 2),
        (480, 3),
        (720, 4),
    ]
    assert [p.played_samples for p in middle.played] == [240, 300, 300]
    assert middle.played[-1].final
    assert not stream.is_open


async def test_an_order_acts_on_the_next_block_and_knows_where_the_sound_ends() -> None:
    stream = FakeStream()
    pipeline, middle = assembled(stream)
    async with pipeline:
        pipeline.new_turn()
        middle.emit(audio(2_400))
        await stream.block()
        middle.emit(Mute())
        assert middle.played[-1].mute_point == 240 + 192
        assert (await stream.block())[192:] == [0] * 48
        middle.emit(Unmute())
        assert (await stream.block())[192:] == [9_000] * 48
        assert pipeline.interrupt().mute_point == 240 + 192 + 240 + 192
        assert (await stream.block())[192:] == [0] * 48


async def test_the_devices_latency_is_not_heard_yet() -> None:
    stream = FakeStream(latency_s=0.02)
    pipeline, middle = assembled(stream)
    async with pipeline:
        pipeline.new_turn()
        await stream.block()
        middle.emit(audio(2_400))
        for _ in range(5):
            await stream.block()
        assert middle.played[-1].played_samples == 480


async def test_what_was_played_is_known_at_its_time() -> None:
    stream = FakeStream(latency_s=0.03)
    card = SoundCard(opener=stream.opener)
    middle = Middle()
    pipeline = Pipeline(card.mic, middle, card.speaker, accepts=(AudioOut,))
    async with pipeline:
        pipeline.new_turn()
        await stream.block()
        middle.emit(audio(240))
        await stream.block()
        heard_ns = middle.heard[-1].at_ns + 30_000_000
        assert samples_of(card.tap.read(heard_ns, 240)).tolist() == [9_000] * 240


async def test_what_goes_wrong_in_the_device_is_told_and_not_too_often() -> None:
    stream = FakeStream()
    pipeline, middle = assembled(stream)
    async with pipeline:
        for _ in range(5):
            await stream.block(fault="output underflow")
    assert [p.message.split(":")[0] for p in middle.problems] == [
        "output underflow, 1 times so far",
        "output underflow, 2 times so far",
        "output underflow, 4 times so far",
    ]


async def test_a_machine_without_a_microphone_is_one_clear_error() -> None:
    pipeline, _ = assembled(FakeStream(fails=True))
    with pytest.raises(ProcessorError, match="querying device") as raised:
        await pipeline.run()
    assert isinstance(raised.value.__cause__, TransportError)


async def test_a_device_that_goes_ends_the_call_with_its_reason() -> None:
    stream = FakeStream()
    pipeline, _ = assembled(stream)
    why: list[ProcessorError] = []
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            with pytest.raises(ProcessorError) as raised:
                await pipeline.run()
            why.append(raised.value)

        tasks.start_soon(call)
        await stream.block()
        await anyio.to_thread.run_sync(stream.gone)
    assert isinstance(why[0].__cause__, TransportBroken)
    assert "has gone" in str(why[0].__cause__)


async def test_blocks_after_the_end_of_the_pipeline_are_silence() -> None:
    stream = FakeStream()
    pipeline, middle = assembled(stream)
    async with pipeline:
        pipeline.new_turn()
        middle.emit(audio(2_400))
        await stream.block()
    heard = len(middle.heard)
    assert len(stream.callback(bytes(480), "late")) == 480
    assert len(middle.heard) == heard


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sounddevice", None)
    with pytest.raises(TransportError, match=r"install framepipe\[audio\]"):
        sound_card.library()


def test_a_machine_without_devices_lists_none_or_says_what_is_missing() -> None:
    try:
        lines = sound_card.list_devices()
    except TransportError as error:
        pytest.skip(f"needs sounddevice and PortAudio; CI has them ({error})")
    assert all("in, " in line for line in lines)
    if not lines:
        with pytest.raises(TransportError, match="--list-devices"):
            sound_card.open_stream(lambda pcm, fault: pcm, lambda: None)


def test_interrupts_of_nothing_have_a_mute_point() -> None:
    assert SoundCard().speaker.cut(Interrupt(turn=1)).mute_point == 0
