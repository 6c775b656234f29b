"""Labelled recordings, and the microphone signals that a benchmark makes of them.

A folder with a ``MANIFEST.json``: ``{"clips": [{"file": …, "kind": …, "speech_segments_ms":
[[start, end], …]}, …]}``. A clip with segments is speech of the user; one without is something
else, and its kind says what.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from framepipe.audio import FULL_SCALE, pcm_of, samples_of
from framepipe.errors import FrameError
from framepipe.wav import WavReader

RATE_HZ: Final = 24_000
"""The microphone's."""

MANIFEST: Final = "MANIFEST.json"

AGENT: Final = "agent_reference"
"""Kind of a clip that no microphone recorded: what an echo was made from."""

SPEECH_DBFS: Final = -26.0
"""Loudness of speech while it lasts, RMS."""

EVENT_DBFS: Final = -20.0
"""Peak of everything else."""

FLOOR_DBFS: Final = -65.0
"""Noise under each clip and around it: no microphone is digitally silent."""

LEAD_MS: Final = 1_100
"""Noise before a clip, so that both detectors know the room and the agent talks."""

TAIL_MS: Final = 800
"""Noise after it: longer than any verdict takes."""


class _Clip(msgspec.Struct):
    file: str
    kind: str
    speech_segments_ms: list[tuple[float, float]] = []


class _Manifest(msgspec.Struct):
    clips: list[_Clip]


@frozen
class Clip:
    """One recording.

    Attributes:
        path: The file.
        kind: What the label says.
        speech_ms: Where the user speaks, in the file's milliseconds; empty: it is something else.
    """

    path: Path
    kind: str
    speech_ms: tuple[tuple[float, float], ...]

    @property
    def is_speech(self) -> bool:
        """Whether the user speaks in it."""
        return bool(self.speech_ms)


@frozen
class Signal:
    """What the microphone hears: a clip at a level, with silence around it.

    Attributes:
        pcm: Signed 16-bit little-endian, mono, `RATE_HZ`.
        onset_ms: Where the user's first speech begins; ``None`` without speech.
        end_ms: Where the last of it ends; of another clip, the end of the recording.
    """

    pcm: bytes
    onset_ms: float | None
    end_ms: float


def read_manifest(folder: Path) -> list[Clip]:
    """The clips of a folder that a microphone could have heard.

    Raises:
        FrameError: No manifest, one that is not understood, or a file that is not there.
    """
    manifest = folder / MANIFEST
    try:
        told = msgspec.json.decode(manifest.read_bytes(), type=_Manifest)
    except OSError as error:
        raise FrameError(
            f"{manifest}: cannot be read: {error.strerror}; --audio names a folder of WAV files "
            f"with a {MANIFEST}"
        ) from error
    except msgspec.DecodeError as error:
        raise FrameError(
            f"{manifest}: {error}; it should be "
            '{"clips": [{"file": "x.wav", "kind": "cough", "speech_segments_ms": []}, …]}'
        ) from error
    clips = [
        Clip(folder / clip.file, clip.kind, tuple(clip.speech_segments_ms))
        for clip in told.clips
        if clip.kind != AGENT
    ]
    if not clips:
        raise FrameError(f"{manifest}: names no clip to hear; add some")
    for clip in clips:
        if not clip.path.is_file():
            raise FrameError(f"{manifest}: names {clip.path.name}, which is not in {folder}")
    return clips


def signal_of(clip: Clip, *, quieter_db: float, seed: int) -> Signal:
    """Make the microphone signal of one repeat.

    Args:
        clip: The recording.
        quieter_db: Below the normal level (`SPEECH_DBFS`, `EVENT_DBFS`), 0 or more.
        seed: Of the noise, and of the phase in which the clip falls on the frames.

    Raises:
        FrameError: The file cannot be used, or its labels lie outside of it.
    """
    with WavReader(clip.path) as wav:
        sound = samples_of(b"".join(wav.read_at(RATE_HZ))).astype(np.float64)
    draw = np.random.default_rng(seed)
    # Any phase of the 32 ms windows, and so of the 10 ms frames.
    lead = LEAD_MS * RATE_HZ // 1000 + int(draw.integers(0, 32 * RATE_HZ // 1000))
    gain = 10 ** ((_wanted_db(clip) - quieter_db - _level_db(clip, sound)) / 20)
    noise = draw.normal(0.0, 10 ** (FLOOR_DBFS / 20) * FULL_SCALE, lead + len(sound) + _TAIL)
    noise[lead : lead + len(sound)] += gain * sound
    at_ms = lead * 1000 / RATE_HZ
    speech = clip.speech_ms
    return Signal(
        pcm=pcm_of(noise),
        onset_ms=at_ms + speech[0][0] if speech else None,
        end_ms=at_ms + (speech[-1][1] if speech else len(sound) * 1000 / RATE_HZ),
    )


_TAIL: Final = TAIL_MS * RATE_HZ // 1000


def _wanted_db(clip: Clip) -> float:
    return SPEECH_DBFS if clip.is_speech else EVENT_DBFS


def _level_db(clip: Clip, sound: NDArray[np.float64]) -> float:
    if not clip.is_speech:
        return _db(float(np.max(np.abs(sound))))
    length_ms = len(sound) * 1000 / RATE_HZ
    if not all(0 <= start < end <= length_ms + 1 for start, end in clip.speech_ms):
        raise FrameError(
            f"{clip.path}: its speech segments {list(clip.speech_ms)} are not within its "
            f"{length_ms:.0f} ms; correct the labels"
        )
    spoken = np.concatenate(
        [
            sound[int(start * RATE_HZ / 1000) : int(end * RATE_HZ / 1000)]
            for start, end in clip.speech_ms
        ]
    )
    return _db(float(np.sqrt(np.mean(spoken * spoken))))


def _db(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1.0) / FULL_SCALE))
