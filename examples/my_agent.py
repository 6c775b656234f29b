"""A pipeline of your own, to talk with on a page, in the terminal, or here from a recording.

You will see, here and at once, how long the agent spoke to a recorded user of an embedded server.
To talk with it yourself, with the key of the real service in OPENAI_API_KEY:

    framepipe talk --pipeline my_agent:make
    framepipe talk --pipeline my_agent:make --terminal
"""

from __future__ import annotations

from pathlib import Path

import anyio

from framepipe import AudioOut, Pipeline, evolve, on
from framepipe.audio import scaled, silence
from framepipe.realtime.connection import Connect, connect
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings
from framepipe.realtime.voice import default_voice
from framepipe.wav import WavWriter
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, WavSink, WavSource

SESSION = SessionSettings(instructions="You are a librarian, and speak softly.")


class Softly:
    """Turn the agent down by 12 dB."""

    @on(AudioOut)
    def soften(self, frame: AudioOut) -> AudioOut:
        return evolve(frame, pcm=scaled(frame.pcm_bytes(), 0.25))


def make(mic: object, speaker: object, connect: Connect = connect) -> Pipeline:
    """The stages between a microphone and a loudspeaker, whichever they are."""
    agent = Realtime(SESSION, connect=connect)
    return Pipeline(mic, LocalVad(), agent, Softly(), Playout(), BargeIn(), speaker)


async def main() -> None:
    user, heard = Path("user.wav"), WavSink()
    writer = WavWriter(user, 24_000)
    writer.write(default_voice().speak("Have you got anything about trains?"))
    writer.write(silence(24_000 * 4))
    writer.close()
    async with server_in_process(ServerSettings(mind=Talk(answer_ms=2_000))) as server:
        await make(WavSource(user, block_ms=10), heard, server.connect).run()
    print(f"the agent spoke for {sum(run.n_samples for run in heard.heard_log) / 24_000:.1f} s")


if __name__ == "__main__":
    anyio.run(main)
