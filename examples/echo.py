"""You say something, and the loudspeaker says it back.

A tone stands in for your voice, one second of it. It enters the pipeline at the speed of a
microphone, `Echo` makes agent audio of it, and a file is the loudspeaker. You will see how much was
heard, and find it in out/echo.wav. With a path you hear your own recording instead:

    python examples/echo.py RECORDING.wav
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import numpy as np

from framepipe import AudioIn, AudioOut, Emit, Pipeline, on
from framepipe.audio import pcm_of
from framepipe.wav import WavWriter
from framepipe_processors import WavSink, WavSource


class Echo:
    """Give the user's voice back as the agent's."""

    def attach(self, emit: Emit[AudioOut]) -> None:
        self.turn = emit.new_turn()

    @on(AudioIn)
    def echo(self, frame: AudioIn) -> AudioOut:
        return AudioOut(
            pcm=frame.pcm, rate_hz=frame.rate_hz, turn=self.turn, start_sample=frame.start_sample
        )


def tone(path: Path, *, rate_hz: int = 24_000, duration_s: float = 1.0) -> Path:
    """Write a quiet A."""
    times_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    writer = WavWriter(path, rate_hz)
    writer.write(pcm_of(3_000 * np.sin(2 * np.pi * 440 * times_s)))
    writer.close()
    return path


def main() -> None:
    out = Path("out")
    out.mkdir(exist_ok=True)
    recording = sys.argv[1] if len(sys.argv) > 1 else tone(out / "tone.wav")
    speaker = WavSink(out / "echo.wav")

    anyio.run(Pipeline(WavSource(recording), Echo(), speaker).run)

    heard = sum(run.n_samples for run in speaker.heard_log)
    print(f"heard {heard / 24_000:.2f} s of audio, kept in {speaker.target}")


if __name__ == "__main__":
    main()
