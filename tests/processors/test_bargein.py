"""BargeIn in a pipeline with a real queue and a speaker that keeps what was heard."""

from __future__ import annotations

import inspect
from itertools import groupby

import anyio
import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import example, given

from framepipe import Emit, Frame, Pipeline, on
from framepipe.conversation.bargein import SecondStageReady
from framepipe.frames import (
    AudioDone,
    AudioOut,
    ConnectionState,
    Hold,
    Interrupt,
    Release,
    ReplyPending,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Transcript,
)
from framepipe.processor import handlers_of
from framepipe.testing import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.playout import Playout
from framepipe_processors.wav_sink import WavSink

MS = 1_000_000
RATE = 8_000


def reply(ms: int, *, turn: int = 1) -> list[tuple[int, Frame]]:
    item = f"item{turn}"
    pcm = b"\x10\x20" * (ms * 8)
    return [
        (0, ReplyPending(turn=turn)),
        (0, AudioOut(turn=turn, item_id=item, pcm=pcm, rate_hz=RATE)),
        (0, AudioDone(turn=turn, item_id=item, n_samples=ms * 8)),
    ]


def later(ms: int, frames: list[tuple[int, Frame]]) -> list[tuple[int, Frame]]:
    return [(at + ms, frame) for at, frame in frames]


def local(onset_ms: int) -> SpeechStarted:
    return SpeechStarted(source="local", onset_sample=onset_ms * 24)


def server(onset_ms: int) -> SpeechStarted:
    return SpeechStarted(source="server", onset_sample=onset_ms * 24, item_id=f"u{onset_ms}")


class Script:
    """Emits frames at their times, and writes down what comes up, and when."""

    def __init__(self, *steps: tuple[int, Frame]) -> None:
        self.steps = sorted(steps, key=lambda step: step[0])
        self.up: list[tuple[int, Frame]] = []

    def attach(self, emit: Emit[Frame]) -> None:
        self._emit = emit

    async def run(self, emit: Emit[Frame]) -> None:
        for _ in range(4):
            emit.new_turn()
        for at_ms, frame in self.steps:
            while not await emit.until(at_ms * MS):
                pass
            emit(frame)

    @on(Hold, Release, Interrupt)
    def note(self, frame: Hold | Release | Interrupt) -> Hold | Release | Interrupt:
        self.up.append((self._emit.now_ns() // MS, frame))
        return frame

    def cuts(self) -> list[tuple[int, Interrupt]]:
        return [(at, frame) for at, frame in self.up if isinstance(frame, Interrupt)]


def call(*steps: tuple[int, Frame], device_ms: int = 0) -> tuple[Script, WavSink]:
    script, sink = Script(*steps), WavSink(rate_hz=RATE, device_ms=device_ms)
    run_virtual(Pipeline(script, Playout(), BargeIn(), sink).run)
    return script, sink


def test_a_sneeze_mutes_and_the_voice_goes_on_at_the_very_next_sample() -> None:
    script, sink = call(*reply(2_000), (403, local(390)))
    assert script.up == [(403, Hold()), (903, Release())]
    first, second = sink.heard_log
    assert second.start_sample == first.n_samples
    assert first.n_samples + second.n_samples == 2_000 * 8
    assert first.n_samples <= (403 + 20) * 8
    assert second.at_ns >= 903 * MS


def test_a_confirmed_word_cuts_at_what_was_heard() -> None:
    script, sink = call(*reply(2_000), (403, local(390)), (603, server(380)))
    ((at_ms, cut),) = script.cuts()
    assert (at_ms, cut.turn, cut.onset_sample, cut.cause) == (603, 1, 390 * 24, "server")
    (run,) = sink.heard_log
    (told,) = cut.heard
    assert (told.item_id, told.heard_samples, told.final) == ("item1", run.n_samples, True)
    assert run.n_samples <= (403 + 20) * 8


def test_the_service_alone_mutes_and_cuts_at_once() -> None:
    script, sink = call(*reply(2_000), (500, server(380)))
    ((at_ms, cut),) = script.cuts()
    assert at_ms == 500
    assert cut.heard[0].heard_samples == sink.heard_log[0].n_samples


def test_speech_after_the_response_is_done_interrupts_what_still_plays() -> None:
    script, sink = call(*reply(10_000), (5_000, server(4_900)))
    ((at_ms, cut),) = script.cuts()
    assert at_ms == 5_000
    assert cut.heard[0].received_samples == 80_000
    assert sum(run.n_samples for run in sink.heard_log) == cut.heard[0].heard_samples


def test_the_next_reply_is_heard_after_a_cut() -> None:
    _, sink = call(
        *reply(2_000),
        (403, local(390)),
        (503, server(380)),
        (900, SpeechStopped(source="server", end_sample=880 * 24)),
        *later(1_200, reply(300, turn=2)),
    )
    assert [(run.turn, run.start_sample) for run in sink.heard_log] == [(1, 0), (2, 0)]
    assert sink.heard_log[1].n_samples == 300 * 8


def test_two_interruptions_fifty_milliseconds_apart_cut_once() -> None:
    script, _ = call(*reply(2_000), (500, server(490)), (550, server(540)))
    assert len(script.cuts()) == 1


@pytest.mark.parametrize("device_ms", [0, 30, 200])
def test_a_mute_in_the_last_thirty_milliseconds_is_not_left_behind(device_ms: int) -> None:
    script, sink = call(
        *reply(500),
        (480 + device_ms, local(470)),
        *later(2_000, reply(100, turn=2)),
        device_ms=device_ms,
    )
    assert not script.cuts()
    holds = [type(frame) for _, frame in script.up]
    assert holds in ([], [Hold, Release])
    assert sum(run.n_samples for run in sink.heard_log) == 600 * 8, "both replies, whole"


def test_the_stop_button_ends_a_mute() -> None:
    class Button:
        def attach(self, emit: Emit[Frame]) -> None:
            self._emit = emit

        @on(ConnectionState)
        def press(self, frame: ConnectionState) -> Interrupt:
            return Interrupt(cause=frame.reason)

    script, sink = (
        Script(
            *reply(2_000),
            (403, local(390)),
            (500, ConnectionState(state="open", reason="button")),
            *later(2_000, reply(100, turn=4)),
        ),
        WavSink(rate_hz=RATE),
    )
    barge_in = BargeIn()
    run_virtual(Pipeline(script, Playout(), barge_in, Button(), sink).run)
    ((_, cut),) = script.cuts()
    assert cut.cause == "button"
    assert cut.heard[0].item_id == "item1"
    assert [run.turn for run in sink.heard_log] == [1], "4 was the newest open turn"


def second(onset_ms: int, *, is_speech: bool) -> SpeechConfirmed | SpeechRejected:
    said = SpeechConfirmed if is_speech else SpeechRejected
    return said(source="silero", onset_sample=onset_ms * 24, probability=0.9)


READY = (0, SecondStageReady(source="silero"))


def test_with_a_second_stage_the_first_word_of_the_service_does_not_cut() -> None:
    script, sink = call(
        READY,
        *reply(2_000),
        (403, local(390)),
        (500, server(380)),
        (603, second(390, is_speech=False)),
    )
    assert script.up == [(403, Hold()), (603, Release())]
    assert sum(run.n_samples for run in sink.heard_log) == 2_000 * 8


def test_with_a_second_stage_its_word_cuts() -> None:
    script, _ = call(READY, *reply(2_000), (403, local(390)), (590, second(390, is_speech=True)))
    ((at_ms, cut),) = script.cuts()
    assert (at_ms, cut.turn, cut.cause) == (590, 1, "silero")


def said(text: str) -> Transcript:
    return Transcript(who="user", text=text, final=True, item_id="u0")


FACTS: dict[str, Frame] = {
    "local": local(0),
    "quiet": SpeechStopped(source="local", end_sample=0),
    "server": server(0),
    "done": SpeechStopped(source="server", end_sample=10, item_id="u0"),
    "yes": second(0, is_speech=True),
    "no": second(0, is_speech=False),
    "words": said("no, the other one"),
    "mm-hm": said("mm-hm"),
    "nothing": said(""),
}


@given(
    facts=st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from(sorted(FACTS))), max_size=10),
    device_ms=st.sampled_from([0, 30, 200]),
    ducks=st.booleans(),
)
@example(
    facts=[(400, "local"), (500, "server"), (600, "yes"), (700, "done"), (800, "mm-hm")],
    device_ms=30,
    ducks=False,
)
@example(
    facts=[(400, "server"), (500, "yes"), (700, "done"), (800, "nothing"), (1_200, "local")],
    device_ms=200,
    ducks=True,
)
def test_whatever_the_ears_and_the_words_say_the_account_is_what_the_ear_got(
    facts: list[tuple[int, str]], device_ms: int, ducks: bool
) -> None:
    script = Script(
        *reply(1_500),
        *[(at, evolve(FACTS[what])) for at, what in facts],
        *later(9_000, reply(100, turn=4)),
    )
    sink = WavSink(rate_hz=RATE, device_ms=device_ms)
    barge_in = BargeIn(suspect="duck" if ducks else "mute")
    run_virtual(Pipeline(script, Playout(), barge_in, sink).run)
    heard = 0
    for run in sink.heard_log:
        if run.item_id == "item1":
            assert run.start_sample == heard, "no gap, and nothing twice, over every undo"
            heard += run.n_samples
    accounts = [told for _, cut in script.cuts() for told in cut.heard if told.item_id == "item1"]
    cut_and_left = accounts and barge_in.statistics().undos < len(accounts)
    assert heard == (accounts[-1].heard_samples if cut_and_left else 1_500 * 8)
    turns = [turn for turn, _ in groupby(run.turn for run in sink.heard_log)]
    assert len(turns) == len(set(turns)), "a turn that was cut never sounds again"


@pytest.mark.anyio
async def test_it_can_be_cancelled_anywhere() -> None:
    with anyio.move_on_after(0.02):
        await Pipeline(Script(*reply(60_000)), Playout(), BargeIn(), WavSink()).run()


def test_every_handler_is_plain_and_says_what_it_makes() -> None:
    for stage in (BargeIn(), Playout()):
        for handler in handlers_of(stage):
            assert not handler.is_async
            assert inspect.signature(handler.call).return_annotation is not inspect.Signature.empty
