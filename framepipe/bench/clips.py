"""Labelled recordings, and the microphone signals that a benchmark makes of them.

A folder with a ``MANIFEST.json``: ``{"clips": [{"file": …, "kind": …, "speech_segments_ms":
[[start, end], …], "label_method": …}, …]}``. A clip with segments is speech of the user; one
without is something else, and its kind says what. How the segments were found matters: a label
that was made with the sound is exact, one that was found by loudness may begin before the first
word does, or after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from framepipe.audio import FULL_SCALE, Resampler, pcm_of, samples_of
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

QUIETEST_DBFS: Final = -120.0
"""Far below half a step of 16 bits (-96): as good as no noise."""

LEAD_MS: Final = 1_100
"""Noise before a clip, so that both detectors know the room and the agent talks."""

TAIL_MS: Final = 600
"""Noise after it: longer than any verdict takes."""

BLOCK_MS: Final = 10
"""Blocks of microphone and speaker."""

EXACT: Final = "exact"
"""A ``label_method`` that begins so says that the sound was put where the label is."""

Noise: TypeAlias = Literal["white", "pink"]


class _Clip(msgspec.Struct):
    file: str
    kind: str
    speech_segments_ms: list[tuple[float, float]] = []
    label_method: str = ""


class _Manifest(msgspec.Struct):
    clips: list[_Clip]


@frozen
class Clip:
    """One recording.

    Attributes:
        path: The file.
        kind: What the label says.
        speech_ms: Where the user speaks, in the file's milliseconds; empty: it is something else.
        label_method: How that was found.
    """

    path: Path
    kind: str
    speech_ms: tuple[tuple[float, float], ...]
    label_method: str = ""

    @property
    def is_speech(self) -> bool:
        """Whether the user speaks in it."""
        return bool(self.speech_ms)

    @property
    def is_exact(self) -> bool:
        """Whether its speech was put where the label is, not searched for."""
        return self.label_method.startswith(EXACT)


@frozen(kw_only=True)
class Room:
    """What makes other microphone signals of the same recordings.

    Attributes:
        speed: A recording is played so many times as fast, and so much higher, 0.5 to 2.
        noise: What is under it.
        floor_dbfs: How loud that is, RMS, -120 to 0.
        first_seed: Of the first repeat; each further one has the next.
        in_step: The blocks of microphone and speaker begin at the same moments, as those of one
            duplex device do. Otherwise they have any phase to one another.

    Raises:
        FrameError: ``speed`` or ``floor_dbfs`` is out of its range.
    """

    speed: float = 1.0
    noise: Noise = "white"
    floor_dbfs: float = FLOOR_DBFS
    first_seed: int = 0
    in_step: bool = False

    def __attrs_post_init__(self) -> None:
        if not 0.5 <= self.speed <= 2.0:
            raise FrameError(f"speed is {self.speed}; it must be 0.5 to 2")
        if not QUIETEST_DBFS <= self.floor_dbfs <= 0:
            raise FrameError(
                f"floor_dbfs is {self.floor_dbfs}; it must be {QUIETEST_DBFS:g} to 0, where 0 is "
                "full scale"
            )


ROOM: Final = Room()
"""The recordings as they are."""


@frozen
class Signal:
    """What the microphone hears: a clip at a level, with silence around it.

    Attributes:
        pcm: Signed 16-bit little-endian, mono, `RATE_HZ`.
        onset_ms: Where the user's first speech begins; ``None`` without speech.
        end_ms: Where the last of it ends; of another clip, the end of the recording.
        late_ns: The microphone's first block begins so much later than the speaker's, up to a
            block.
    """

    pcm: bytes
    onset_ms: float | None
    end_ms: float
    late_ns: int = 0


def noise_called(name: str) -> Noise:
    """The noise of that name.

    Raises:
        FrameError: There is none.
    """
    match name:
        case "white" | "pink":
            return name
        case _:
            raise FrameError(f"noise is {name}; there is white and pink")


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
        Clip(folder / clip.file, clip.kind, tuple(clip.speech_segments_ms), clip.label_method)
        for clip in told.clips
        if clip.kind != AGENT
    ]
    if not clips:
        raise FrameError(f"{manifest}: names no clip to hear; add some")
    for clip in clips:
        if not clip.path.is_file():
            raise FrameError(f"{manifest}: names {clip.path.name}, which is not in {folder}")
    return clips


def signal_of(clip: Clip, *, quieter_db: float, seed: int, room: Room = ROOM) -> Signal:
    """Make the microphone signal of one repeat.

    Args:
        clip: The recording.
        quieter_db: Below the normal level (`SPEECH_DBFS`, `EVENT_DBFS`), 0 or more.
        seed: Of the noise, and of the phase in which the clip falls on the frames.
        room: What else to change.

    Raises:
        FrameError: The file cannot be used, or its labels lie outside of it.
    """
    with WavReader(clip.path) as wav:
        recorded = b"".join(wav.read_at(RATE_HZ))
    gain = 10 ** ((_wanted_db(clip) - quieter_db - _level_db(clip, _floats(recorded))) / 20)
    if room.speed != 1.0:
        recorded = Resampler(round(RATE_HZ * room.speed), RATE_HZ, aligned=True).process(recorded)
    sound = _floats(recorded)
    draw = np.random.default_rng(room.first_seed + seed)
    # Any phase of the 32 ms windows, and so of the 10 ms frames.
    lead = LEAD_MS * RATE_HZ // 1000 + int(draw.integers(0, 32 * RATE_HZ // 1000))
    heard = _noise(draw, room, lead + len(sound) + _TAIL)
    heard[lead : lead + len(sound)] += gain * sound
    late_ns = 0 if room.in_step else int(draw.integers(0, BLOCK_MS * 1_000_000))
    at_ms = lead * 1000 / RATE_HZ
    speech = clip.speech_ms
    length_ms = len(sound) * 1000 / RATE_HZ
    return Signal(
        pcm=pcm_of(heard),
        onset_ms=at_ms + speech[0][0] / room.speed if speech else None,
        end_ms=at_ms + (speech[-1][1] / room.speed if speech else length_ms),
        late_ns=late_ns,
    )


_TAIL: Final = TAIL_MS * RATE_HZ // 1000


def _floats(pcm: bytes) -> NDArray[np.float64]:
    return samples_of(pcm).astype(np.float64)


def _noise(draw: np.random.Generator, room: Room, n: int) -> NDArray[np.float64]:
    level = 10 ** (room.floor_dbfs / 20) * FULL_SCALE
    white = draw.normal(0.0, level, n)
    if room.noise == "white":
        return white
    spectrum = np.fft.rfft(white)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0.0
    pink: NDArray[np.float64] = np.fft.irfft(spectrum, n)
    return pink * (level / float(np.sqrt(np.mean(pink * pink))))


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
