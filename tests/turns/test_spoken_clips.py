"""Spoken corrections and pauses, as audio: real detectors, words given for the parts of a clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from framepipe import AudioIn, Emit, Frame, Pipeline, UserTurn
from framepipe.audio import silence
from framepipe.conversation.endpointing import GrowingSilence
from framepipe.conversation.relations import SpokenCorrections
from framepipe.conversation.repair import analyse
from framepipe.conversation.speaker import HeardRun
from framepipe.conversation.wordlists import ENGLISH
from framepipe.frames import NS_PER_S
from framepipe.realtime.booking import CITIES, Booking
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import ServerVad, SessionSettings, Transcription
from framepipe.realtime.voice import ShippedClips
from framepipe.testing import run_virtual
from framepipe.wav import WavReader
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, WavSink
from framepipe_processors.turns import Turns

RATE_HZ = 24_000
BLOCK = RATE_HZ // 50
AFTER_S = 4
WORDS = ENGLISH.with_kinds(city=[*CITIES, "San Francisco"])

MEANT = {
    "tts_selfcorrection_00.wav": "Book me a flight to Chicago.",
    "tts_selfcorrection_01.wav": "I'd like three tickets please.",
    "tts_selfcorrection_02.wav": "My number is five six, one two.",
    "tts_selfcorrection_03.wav": "Move it to Wednesday.",
    "tts_midpause_00.wav": "My account number is four four one seven seven nine two.",
    "tts_midpause_01.wav": "I want to go to San Francisco.",
}
"""What counts of what is said in each clip."""


class Clip:
    """One recording, its words and where they are."""

    def __init__(self, folder: Path, file: str) -> None:
        clips = json.loads((folder / "MANIFEST.json").read_text("utf-8"))["clips"]
        told: dict[str, Any] = next(clip for clip in clips if clip["file"] == file)
        with WavReader(folder / file) as wav:
            self.pcm = b"".join(wav.read_at(RATE_HZ)) + silence(AFTER_S * RATE_HZ)
        self.segments_ms: list[tuple[float, float]] = told["speech_segments_ms"]
        texts: list[str] = (
            [part["text"] for part in told["parts_ms"]]
            if "parts_ms" in told
            else [text.strip() for text in told["text"].split("...")]
        )
        self.parts = list(zip(self.segments_ms, texts, strict=True))

    def hear(self, _nth: int, pcm: bytes, /) -> str | None:
        """Ears: the words whose middle lies in this piece of the recording."""
        start = self.pcm.find(pcm)
        assert start >= 0, "the service got audio that the microphone did not hear"
        from_ms, to_ms = start / 48, (start + len(pcm)) / 48
        words = [text for (a, b), text in self.parts if from_ms < (a + b) / 2 < to_ms]
        return " ".join(words) or None


class Mic:
    """Plays a clip."""

    def __init__(self, pcm: bytes) -> None:
        self.pcm = pcm

    async def run(self, emit: Emit[AudioIn]) -> None:
        for at in range(0, len(self.pcm) // 2, BLOCK):
            pcm = self.pcm[2 * at : 2 * (at + BLOCK)]
            captured_ns = (at + len(pcm) // 2) * NS_PER_S // RATE_HZ
            while not await emit.until(captured_ns):
                pass
            emit(AudioIn(pcm=pcm, rate_hz=RATE_HZ, start_sample=at, at_ns=captured_ns))


async def listen(clip: Clip) -> tuple[list[UserTurn], list[HeardRun]]:
    """The committed turns of a call with this clip, and what was heard of the agent."""
    turns: list[UserTurn] = []
    sink = WavSink(block_ms=20)

    def watch(what: str, _: str, frame: Frame) -> None:
        if what == "emitted" and isinstance(frame, UserTurn) and frame.state == "committed":
            turns.append(frame)

    settings = ServerSettings(mind=Booking(), voice=ShippedClips(), ears=clip.hear)
    session = SessionSettings(
        turn_detection=ServerVad(silence_duration_ms=500), transcription=Transcription()
    )
    async with server_in_process(settings) as server:
        pipeline = Pipeline(
            Mic(clip.pcm),
            LocalVad(),
            Realtime(session, url="ws://127.0.0.1/v1/realtime", connect=server.connect, seed=1),
            Turns(
                corrections=SpokenCorrections(WORDS),
                end_of_turn=GrowingSilence(WORDS),
                hold="always",
                fallback=False,
            ),
            Playout(),
            BargeIn(),
            sink,
        )
        pipeline.observe(watch)
        await pipeline.run()
    return turns, sink.heard_log


@pytest.mark.parametrize("file", sorted(MEANT))
def test_a_spoken_correction_and_a_pause_are_one_turn_that_nobody_cut_off(
    audio_dir: Path, file: str
) -> None:
    clip = Clip(audio_dir, file)
    turns, heard = run_virtual(listen, clip)
    (turn,) = turns
    assert analyse(turn.text, WORDS).text == MEANT[file]
    first_ms = heard[0].at_ns / 1e6
    assert first_ms > clip.segments_ms[-1][1]
