"""The whole path: a user asks, the agent answers, the user talks over the answer.

You will see, within eight seconds, who heard the user first, when the agent fell silent, when it
was cut, and how much of its answer had been heard by then. The user is a synthesised voice, the
service an embedded server in this process. The agent as it was heard is in out/agent.wav.
"""

from __future__ import annotations

from pathlib import Path

import anyio

from framepipe import (
    Frame,
    InterruptionReport,
    Mute,
    Pipeline,
    ReplyReady,
    SpeechStarted,
    Unmute,
)
from framepipe.audio import silence
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import ServerVad, SessionSettings
from framepipe.realtime.voice import default_voice
from framepipe.wav import WavWriter
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, WavSink, WavSource

OUT = Path("out")
INTERESTING = (SpeechStarted, ReplyReady, Mute, Unmute)


def user(path: Path) -> Path:
    """Somebody who asks, listens for a moment, and then does not want to hear more."""
    voice = default_voice()
    path.parent.mkdir(exist_ok=True)
    writer = WavWriter(path, 24_000)
    writer.write(voice.speak("Tell me a story."))
    writer.write(silence(36_000))
    writer.write(voice.speak("Wait, stop."))
    writer.close()
    return path


async def converse(recording: Path) -> None:
    settings = SessionSettings(turn_detection=ServerVad(silence_duration_ms=300))
    async with server_in_process(ServerSettings(mind=Talk(answer_ms=2_500))) as server:
        pipeline = Pipeline(
            WavSource(recording, block_ms=10, tail_ms=1_000),
            LocalVad(),
            Realtime(settings, connect=server.connect),
            Playout(),
            BargeIn(),
            WavSink(OUT / "agent.wav"),
        )
        began_s = anyio.current_time()

        def watch(what: str, stage: str, frame: Frame) -> None:
            if what == "cut" or (what == "emitted" and isinstance(frame, INTERESTING)):
                source = f" ({frame.source})" if isinstance(frame, SpeechStarted) else ""
                time_s = anyio.current_time() - began_s
                print(f"{time_s:6.3f} s  {stage:<8}  {type(frame).__name__}{source}")
            elif what == "emitted" and isinstance(frame, InterruptionReport):
                print(f"{frame.verdict}: {frame.heard_ms} of {frame.received_ms} ms were heard")

        pipeline.observe(watch)
        await pipeline.run()


if __name__ == "__main__":
    anyio.run(converse, user(OUT / "user.wav"))
