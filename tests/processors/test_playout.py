"""Playout: the queue in a pipeline, between a source and a file that keeps what was heard."""

from __future__ import annotations

from collections.abc import Iterable

import anyio
import pytest

from framepipe import Emit, Frame, Pipeline, on
from framepipe.frames import (
    AudioDone,
    AudioOut,
    ConnectionState,
    Drained,
    Heard,
    Hold,
    Interrupt,
    Mute,
    Played,
    Release,
    ReplyReady,
    Transcript,
    Undo,
    Unmute,
)
from framepipe.testing import run_virtual
from framepipe_processors.playout import Playout
from framepipe_processors.wav_sink import WavSink

MS = 1_000_000
RATE = 8_000


def audio(ms: int, *, start_ms: int = 0, turn: int = 1, item: str = "a") -> AudioOut:
    return AudioOut(
        turn=turn,
        item_id=item,
        start_sample=start_ms * 8,
        pcm=b"\x10\x20" * (ms * 8),
        rate_hz=RATE,
    )


def done(ms: int, *, turn: int = 1, item: str = "a") -> AudioDone:
    return AudioDone(turn=turn, item_id=item, n_samples=ms * 8)


Said = AudioOut | AudioDone | ConnectionState | Transcript


class Source:
    """Emits frames at their times, and keeps what comes up."""

    def __init__(self, *steps: tuple[int, Said], n_turns: int = 2) -> None:
        self.steps = steps
        self.n_turns = n_turns
        self.cuts: list[Interrupt] = []
        self.heard: list[Heard] = []

    async def run(self, emit: Emit[Said]) -> None:
        for _ in range(self.n_turns):
            emit.new_turn()
        for at_ms, frame in self.steps:
            while not await emit.until(at_ms * MS):
                pass
            emit(frame)

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt:
        self.cuts.append(frame)
        return frame

    @on(Heard)
    def note(self, frame: Heard) -> Heard:
        self.heard.append(frame)
        return frame


class Orders:
    """Stands where BargeIn stands: gives orders at their times, and watches what passes."""

    def __init__(self, *steps: tuple[int, Frame]) -> None:
        self.steps = steps
        self.seen: list[tuple[float, Frame]] = []

    def attach(self, emit: Emit[Frame]) -> None:
        self._emit = emit

    @on(AudioOut, AudioDone)
    def audio(self, frame: AudioOut | AudioDone) -> AudioOut | AudioDone:
        self.seen.append((self._emit.now_ns() / MS, frame))
        return frame

    @on(ReplyReady, Drained, ConnectionState)
    def note(self, frame: ReplyReady | Drained | ConnectionState) -> Iterable[Frame]:
        self.seen.append((self._emit.now_ns() / MS, frame))
        return (frame,)

    async def run(self, emit: Emit[Frame]) -> None:
        for at_ms, frame in self.steps:
            while not await emit.until(at_ms * MS):
                pass
            emit(frame)
        await anyio.sleep_forever()

    def times(self, kind: type[Frame]) -> list[float]:
        return [at for at, frame in self.seen if isinstance(frame, kind)]


def heard_ms(sink: WavSink) -> list[tuple[str | None, int, int, int]]:
    """Turn by turn: item, first millisecond, how many, and when."""
    return [
        (run.item_id, run.start_sample // 8, run.n_samples // 8, run.at_ns // MS)
        for run in sink.heard_log
    ]


def test_a_reply_is_heard_whole_and_the_pipeline_ends_when_it_was() -> None:
    source = Source((0, audio(300)), (0, audio(500, start_ms=300)), (0, done(800)))
    orders, sink = Orders(), WavSink(rate_hz=RATE)
    run_virtual(Pipeline(source, Playout(), orders, sink).run)
    assert [(item, start, n) for item, start, n, _ in heard_ms(sink)] == [("a", 0, 800)]
    at_ms = heard_ms(sink)[0][3]
    assert orders.times(Drained) == [at_ms + 800]
    assert source.heard == [
        Heard(
            item_id="a",
            content_index=0,
            heard_samples=6_400,
            received_samples=6_400,
            final=True,
            rate_hz=RATE,
            complete=True,
        )
    ]
    first = [type(frame) for _, frame in orders.seen][:2]
    assert first == [ReplyReady, AudioOut]


def test_other_ordered_frames_do_not_wait_for_the_audio() -> None:
    source = Source((0, audio(800)), (10, ConnectionState(state="open")), (20, done(800)))
    orders = Orders()
    run_virtual(Pipeline(source, Playout(), orders, WavSink()).run)
    assert orders.times(ConnectionState) == [10]


def test_a_mute_and_a_hold_lose_no_sample() -> None:
    source = Source((0, audio(500)), (0, done(500)))
    orders = Orders((203, Mute()), (203, Hold()), (777, Release()), (777, Unmute()))
    sink = WavSink(rate_hz=RATE)
    run_virtual(Pipeline(source, Playout(), orders, sink).run)
    (_, first, n, _), (_, then, rest, at_ms) = heard_ms(sink)
    assert first == 0
    assert then == n
    assert n + rest == 500
    assert 777 <= at_ms <= 790


@pytest.mark.parametrize("device_ms", [0, 30, 200])
def test_an_interrupt_carries_up_what_the_ear_got_whatever_the_device(device_ms: int) -> None:
    source = Source((0, audio(3_000)), (0, done(3_000)), (2_000, ConnectionState(state="open")))
    orders = Orders((703, Interrupt(turn=1, cause="test")))
    sink = WavSink(rate_hz=RATE, device_ms=device_ms)
    run_virtual(Pipeline(source, Playout(), orders, sink).run)
    (told,) = source.cuts[0].heard
    assert told.final
    assert told.heard_samples == sum(run.n_samples for run in sink.heard_log)
    assert 690 * 8 <= told.heard_samples <= 720 * 8
    assert told.received_samples == 24_000
    assert not told.complete
    assert len(sink.heard_log) == 1, "it did not run dry"


def test_an_undo_goes_on_with_the_very_next_sample_as_a_new_turn() -> None:
    source = Source((0, audio(500)), (0, done(500)), (1_000, ConnectionState(state="open")))
    orders = Orders((203, Interrupt(turn=2)), (500, Undo()))
    sink = WavSink(rate_hz=RATE)
    run_virtual(Pipeline(source, Playout(), orders, sink).run)
    (_, _, n, _), (_, then, rest, _) = heard_ms(sink)
    assert (then, n + rest) == (n, 500)
    assert [run.turn for run in sink.heard_log] == [1, 3]


def test_audio_that_arrives_after_its_cut_is_never_heard() -> None:
    source = Source((0, audio(100)), (250, audio(400, start_ms=100)), (300, done(500)))
    orders = Orders((80, Interrupt(turn=1)))
    sink = WavSink(rate_hz=RATE)
    run_virtual(Pipeline(source, Playout(), orders, sink).run)
    assert sum(n for _, _, n, _ in heard_ms(sink)) <= 100


@pytest.mark.anyio
async def test_it_can_be_cancelled_anywhere() -> None:
    pipeline = Pipeline(Source((0, audio(60_000))), Playout(), Orders(), WavSink())
    with anyio.move_on_after(0.02):
        await pipeline.run()


def test_reports_and_orders_go_on_up() -> None:
    playout = Playout()
    playout.attach(_Fake())
    for frame in (Release(), Played(handed_samples=0, played_samples=0, rate_hz=RATE)):
        assert playout.follow(frame) is frame
    hold = Hold()
    assert list(playout.hold(hold)) == [hold]


class _Fake:
    """An engine in which it is always zero o'clock."""

    def __call__(self, frame: Frame, /) -> None:
        raise AssertionError(f"{frame} was emitted in a handler")

    async def room(self) -> None:
        return

    async def until(self, at_ns: int | None) -> bool:
        return at_ns is not None

    def wake(self) -> None:
        return

    def from_thread(self, frame: Frame, /) -> None:
        raise AssertionError(f"{frame} came from a thread")

    def new_turn(self) -> int:
        return 1

    def is_cut(self, turn: int) -> bool:
        return turn < 1

    def now_ns(self) -> int:
        return 0
