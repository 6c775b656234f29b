"""Two recordings side by side in one file."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from framepipe.errors import FrameError
from framepipe.wav import WavReader

RATE_HZ = 24_000


def write_stereo(path: Path, left: Path, right: Path) -> None:
    """Write a 24 kHz stereo file from two mono files that begin together.

    Args:
        path: The file to write.
        left: A 16-bit mono WAV of any rate.
        right: Another.

    Raises:
        FrameError: A file cannot be read, or ``path`` cannot be written.
    """
    channels: list[np.ndarray[tuple[int], np.dtype[np.int16]]] = []
    for source in (left, right):
        with WavReader(source) as wav:
            channels.append(np.frombuffer(b"".join(wav.read_at(RATE_HZ)), dtype="<i2"))
    both = np.zeros((max(channel.size for channel in channels), 2), dtype="<i2")
    for number, channel in enumerate(channels):
        both[: channel.size, number] = channel
    try:
        with wave.open(str(path), "wb") as writer:
            writer.setnchannels(2)
            writer.setsampwidth(2)
            writer.setframerate(RATE_HZ)
            writer.writeframes(both.tobytes())
    except OSError as error:
        raise FrameError(f"{path}: {error.strerror}; choose another folder") from error
