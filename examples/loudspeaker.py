"""An agent on a loudspeaker: its own voice comes back into the microphone.

You will see the same conversation twice, within fifteen seconds. Without a gate the agent takes
its own echo for the user and falls silent after a word. With `MicGate` it says what it has to say,
and the user can still talk over it. The room is made here: what the speaker played, 40 ms later
and 20 dB softer. ``--aec`` adds a third time, with an echo canceller (the extra ``aec``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from framepipe import AudioIn, Pipeline, evolve, on
from framepipe.audio import pcm_of, samples_of, silence
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.frames import NS_PER_S
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.voice import default_voice
from framepipe.wav import WavWriter
from framepipe_processors import (
    BargeIn,
    EchoCanceller,
    LocalVad,
    MicGate,
    Playout,
    Realtime,
    WavSink,
    WavSource,
)


class Room:
    """Adds the echo of what the speaker played to what the microphone hears."""

    def __init__(self, tap: PlaybackTap) -> None:
        self.tap = tap

    @on(AudioIn)
    def echo(self, frame: AudioIn) -> AudioIn:
        heard_ns = frame.at_ns - frame.n_samples * NS_PER_S // frame.rate_hz
        played = samples_of(self.tap.read(heard_ns - 40_000_000, frame.n_samples))
        return evolve(frame, pcm=pcm_of(samples_of(frame.pcm_bytes()) + 0.1 * played))


def user(path: Path) -> Path:
    """Somebody who asks, listens for two seconds, and then does not want to hear more."""
    voice = default_voice()
    path.parent.mkdir(exist_ok=True)
    writer = WavWriter(path, 24_000)
    writer.write(voice.speak("Tell me a story.") + silence(72_000) + voice.speak("Wait, stop."))
    writer.close()
    return path


async def converse(recording: Path, *, gate: bool, canceller: bool) -> float:
    """How much of its first answer the agent could say, in seconds."""
    tap = PlaybackTap()
    sink = WavSink(tap=tap)
    async with server_in_process(ServerSettings(mind=Talk(answer_ms=4_000))) as server:
        pipeline = Pipeline(
            WavSource(recording, block_ms=10, tail_ms=500),
            Room(tap),
            *([EchoCanceller(tap)] if canceller else []),
            LocalVad(),
            *([MicGate()] if gate else []),
            Realtime(connect=server.connect),
            Playout(),
            BargeIn(),
            sink,
        )
        await pipeline.run()
    return sum(run.n_samples for run in sink.heard_log if run.turn == 1) / 24_000


async def main() -> None:
    recording = user(Path("out") / "user.wav")
    ways = {"no gate": (False, False), "MicGate": (True, False)}
    if "--aec" in sys.argv:
        ways["EchoCanceller and MicGate"] = (True, True)
    for name, (gate, canceller) in ways.items():
        heard_s = await converse(recording, gate=gate, canceller=canceller)
        print(f"with {name}, {heard_s:.1f} s of the answer were heard")


if __name__ == "__main__":
    anyio.run(main)
