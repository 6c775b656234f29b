"""Synthesise the user of the demo: ``framepipe/demo/user.wav`` (16 kHz mono).

What happens in it is a table below. Needs espeak-ng; the result is shipped, so nobody else does.
"""

from __future__ import annotations

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from framepipe.audio import Resampler

RATE_HZ = 16_000
LENGTH_S = 20.5
PEAK = 0.25
"""About -12 dBFS at the loudest sample: a person at a laptop."""

SCRIPT: tuple[tuple[float, str], ...] = (
    (0.5, "Hello. Please tell me about Chicago."),
    (7.0, "Wait, stop. Tell me about the lake."),
    (13.0, "*cough*"),
    (16.5, "Thank you, that is enough."),
)
"""When (seconds from the start) the user says what."""


def spoken(text: str) -> NDArray[np.float64]:
    """One sentence at 16 kHz, peak 1."""
    command = ["espeak-ng", "-v", "en-us+f3", "-s", "165", "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(wav)) as reader:
        rate_hz = reader.getframerate()
        pcm = reader.readframes(reader.getnframes())
    pcm = pcm[: len(pcm) // 2 * 2]
    resampled = Resampler(rate_hz, RATE_HZ).process(pcm)
    return _to_peak_1(np.frombuffer(resampled, dtype="<i2").astype(np.float64))


def cough() -> NDArray[np.float64]:
    """Two bursts of low noise: loud enough for the local detector, no word to the server's."""
    noise = np.random.default_rng(7).standard_normal(int(0.3 * RATE_HZ))
    low = np.convolve(noise, np.hanning(24), "same")
    time_s = np.arange(low.size) / RATE_HZ
    envelope = np.exp(-time_s / 0.05) + 0.5 * np.exp(-np.clip(time_s - 0.18, 0, None) / 0.03) * (
        time_s > 0.18
    )
    return _to_peak_1(low * envelope)


def _to_peak_1(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = samples / np.abs(samples).max()
    return scaled


def main() -> None:
    """Write the file."""
    line = np.zeros(int(LENGTH_S * RATE_HZ))
    for at_s, text in SCRIPT:
        sound = cough() if text == "*cough*" else spoken(text)
        start = int(at_s * RATE_HZ)
        line[start : start + sound.size] += PEAK * sound
    target = Path(__file__).parents[1] / "framepipe" / "demo" / "user.wav"
    with wave.open(str(target), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes((line * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
