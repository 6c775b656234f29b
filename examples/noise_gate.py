"""A processor in ten lines: quiet audio becomes silence, loud audio passes.

You will see the level of two frames before and after the gate. No event loop runs: a pipeline of
plain stages can be stepped, one frame at a time.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from framepipe import AudioIn, Pipeline, evolve, on
from framepipe.audio import pcm_of, rms_dbfs, silence


class NoiseGate:
    """Silence microphone audio quieter than ``floor_dbfs``."""

    def __init__(self, floor_dbfs: float = -50.0) -> None:
        self.floor_dbfs = floor_dbfs

    @on(AudioIn)
    def gate(self, frame: AudioIn) -> AudioIn:
        loud = rms_dbfs(frame.pcm_bytes()) >= self.floor_dbfs
        return frame if loud else evolve(frame, pcm=silence(frame.n_samples))


def noise(amplitude: float) -> AudioIn:
    """A tenth of a second of noise."""
    samples = np.random.default_rng(1).normal(0.0, amplitude, 2_400)
    return AudioIn(pcm=pcm_of(samples), rate_hz=24_000)


def main() -> None:
    pipeline = Pipeline(NoiseGate(floor_dbfs=-40.0))
    for name, frame in (("a voice", noise(3_000.0)), ("a fan", noise(30.0))):
        (gated,) = cast("list[AudioIn]", pipeline.step(frame))
        before, after = rms_dbfs(frame.pcm_bytes()), rms_dbfs(gated.pcm_bytes())
        print(f"{name}: {before:.0f} dBFS in, {after:.0f} dBFS out, {gated.n_samples} samples")


if __name__ == "__main__":
    main()
