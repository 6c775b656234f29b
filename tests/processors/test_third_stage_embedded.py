"""From sound to undo: recorded speech, both detectors, the embedded server, every stage real."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from framepipe import Emit, Pipeline
from framepipe.audio import silence
from framepipe.conversation.speaker import HeardRun
from framepipe.frames import NS_PER_S, AudioIn, Frame, InterruptionReport, Problem
from framepipe.realtime.events import UNSET, Item
from framepipe.realtime.mind import Talk, given_words
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.realtime.voice import ShippedClips
from framepipe.testing import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink

RATE = 24_000
REPLY_MS = 6_000
SPEECH = ShippedClips().clips[0].pcm


def said(ms: int) -> bytes:
    return SPEECH[: 48 * ms]


def pause(ms: int) -> bytes:
    return silence(24 * ms)


class Mic:
    def __init__(self, *sounds: bytes) -> None:
        self.pcm = b"".join(sounds)

    async def run(self, emit: Emit[AudioIn]) -> None:
        block = RATE // 100
        for start in range(0, len(self.pcm) // 2, block):
            pcm = self.pcm[2 * start : 2 * (start + block)]
            captured_ns = (start + len(pcm) // 2) * NS_PER_S // RATE
            while not await emit.until(captured_ns):
                pass
            emit(AudioIn(pcm=pcm, rate_hz=RATE, start_sample=start, at_ns=captured_ns))


@define
class Held:
    heard: list[HeardRun] = field(factory=list[HeardRun])
    reports: list[InterruptionReport] = field(factory=list[InterruptionReport])
    problems: list[Problem] = field(factory=list[Problem])
    items: list[Item] = field(factory=list[Item])


async def hold(mic: Mic, words: Sequence[str]) -> Held:
    held, sink = Held(), WavSink()
    settings = ServerSettings(
        mind=Talk(REPLY_MS), voice=ShippedClips(), ears=given_words(list(words))
    )

    def watch(what: str, stage: str, frame: Frame) -> None:
        if what == "emitted" and isinstance(frame, InterruptionReport):
            held.reports.append(frame)
        if what == "emitted" and isinstance(frame, Problem):
            held.problems.append(frame)

    async with server_in_process(settings) as server:
        realtime = Realtime(
            SessionSettings(transcription=Transcription()), seed=1, connect=server.connect
        )
        pipeline = Pipeline(mic, LocalVad(), realtime, Playout(), BargeIn(), sink)
        pipeline.observe(watch)
        await pipeline.run()
        held.items = [item for session in server.sessions for item in session.conversation.items]
    held.heard = sink.heard_log
    return held


def texts(items: Sequence[Item]) -> list[tuple[str, str]]:
    """Who said what, as the server has it; what was truncated has no text there."""
    told: list[tuple[str, str]] = []
    for item in items:
        parts = item.content if isinstance(item.content, list) else []
        words = [w for part in parts for w in (part.text, part.transcript) if w is not UNSET]
        told.append((str(item.role), " ".join(str(word) for word in words)))
    return told


def test_mm_hm_over_a_reply_from_sound_to_undo() -> None:
    mic = Mic(pause(500), said(1_200), pause(3_500), said(500), pause(8_000))

    held = run_virtual(hold, mic, ["hello", "Mm-hm."])

    first, second = held.heard
    assert (first.start_sample, second.start_sample) == (0, first.n_samples)
    assert first.n_samples + second.n_samples == REPLY_MS * 24, "0 samples lost or repeated"
    (report,) = held.reports
    assert (report.verdict, report.cause) == ("undone", "silero")
    assert report.heard_ms == first.n_samples / 24
    assert held.problems == []
    told = texts(held.items)
    assert [who for who, _ in told] == ["user", "assistant", "assistant"]
    assert told[0] == ("user", "hello")
    assert told[1] == ("assistant", ""), "truncated, which cannot be taken back"
    assert len(told[2][1].split()) > 5, "so what was heard of the rest is told as text"


def test_after_an_undone_mm_hm_the_next_turn_stands_alone() -> None:
    mic = Mic(
        *(pause(500), said(1_200), pause(3_500), said(500), pause(6_000)),
        *(said(1_800), pause(8_000)),
    )

    held = run_virtual(hold, mic, ["hello", "okay", "and the price"])

    users = [text for who, text in texts(held.items) if who == "user"]
    assert users == ["hello", "and the price"]
    assert len({run.item_id for run in held.heard}) == 2
    assert sum(run.n_samples for run in held.heard) == 2 * REPLY_MS * 24
    assert held.problems == []


def test_words_over_a_reply_stand() -> None:
    mic = Mic(pause(500), said(1_200), pause(3_500), said(900), pause(9_000))

    held = run_virtual(hold, mic, ["hello", "no, the other one"])

    (report,) = held.reports
    assert report.verdict == "cut"
    assert [who for who, _ in texts(held.items)] == ["user", "assistant", "user", "assistant"]
    assert len({run.item_id for run in held.heard}) == 2
