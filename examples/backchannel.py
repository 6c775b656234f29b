"""The user says "mm-hm" over the agent, and the agent goes on as if nothing had been.

You will see how it is muted, cut, and goes on at the very next sample once the
words are known: a detector cannot tell "mm-hm" from "stop". Then the same with "Wait, stop.". The
user is a synthesised voice, the service an embedded server in this process.
"""

from __future__ import annotations

from pathlib import Path

import anyio

from framepipe import Frame, InterruptionReport, Mute, Pipeline, Undo
from framepipe.audio import silence
from framepipe.conversation.backchannels import Backchannels
from framepipe.realtime.mind import Talk, given_words
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.realtime.voice import default_voice
from framepipe.wav import WavWriter
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, WavSink, WavSource

OUT = Path("out")


def user(path: Path, says: str) -> Path:
    """Somebody who asks, and says something two seconds later, while the agent answers."""
    voice = default_voice()
    path.parent.mkdir(exist_ok=True)
    writer = WavWriter(path, 24_000)
    writer.write(voice.speak("Tell me a story."))
    writer.write(silence(48_000))
    writer.write(voice.speak(says))
    writer.close()
    return path


def barge_in() -> BargeIn:
    """English only, and one word more than the usual list has."""
    return BargeIn(backchannels=Backchannels(["en"], more=("righto",)))


async def converse(says: str) -> None:
    recording = user(OUT / "user.wav", says)
    server_settings = ServerSettings(
        mind=Talk(answer_ms=3_000), ears=given_words(["Tell me a story.", says])
    )
    async with server_in_process(server_settings) as server:
        session = SessionSettings(transcription=Transcription())  # no words, no undo
        sink = WavSink()
        pipeline = Pipeline(
            WavSource(recording, block_ms=10, tail_ms=4_500),
            LocalVad(),
            Realtime(session, connect=server.connect),
            Playout(),
            barge_in(),
            sink,
        )

        def watch(what: str, stage: str, frame: Frame) -> None:
            if what == "cut" or (what == "emitted" and isinstance(frame, Mute | Undo)):
                print(f"  {type(frame).__name__}")
            elif what == "emitted" and isinstance(frame, InterruptionReport):
                print(f"  {frame.verdict}")

        print(says)
        pipeline.observe(watch)
        await pipeline.run()
    heard = [run for run in sink.heard_log if run.item_id == sink.heard_log[0].item_id]
    pieces = [f"{run.start_sample} to {run.start_sample + run.n_samples}" for run in heard]
    print(f"  heard of the first answer: samples {' and '.join(pieces)} of 72000")


async def main() -> None:
    await converse("Mm-hm.")
    await converse("Wait, stop.")


if __name__ == "__main__":
    anyio.run(main)
