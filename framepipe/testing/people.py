"""Scripted users: a microphone with somebody before it.

A `ScriptedUser` is a first stage that emits audio as a microphone does, block after block, each
when its last sample has been captured. What it says is a row of acts.

Without a recording, speech and coughs are noise. ``LocalVad`` takes both for speech; a server that
judges by loudness hears the speech and not the cough, so a cough mutes the agent and does not cut
it. A model of speech (the second stage of ``LocalVad``, the embedded server's usual detector)
rejects both; give it `Recorded` speech.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TypeAlias

import numpy as np
from attrs import field, frozen

from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S, SAMPLE_BYTES, AudioIn
from framepipe.processor import Emit

_SPEECH_RMS = 3_000
_COUGH_RMS = 50
"""Still loud enough for webrtcvad, and far below the loudness at which the server listens."""

_NOISE_S = 3


def _check_ms(ms: int) -> None:
    if ms < 0:
        raise FrameError(f"an act of {ms} ms; it lasts 0 ms or longer")


@frozen
class Pause:
    """Silence.

    Attributes:
        ms: Its length in milliseconds.
    """

    ms: int = field()

    def __attrs_post_init__(self) -> None:
        _check_ms(self.ms)


@frozen
class Speech:
    """Noise as long and as loud as speech (−21 dBFS).

    Attributes:
        ms: Its length in milliseconds.
    """

    ms: int = field()

    def __attrs_post_init__(self) -> None:
        _check_ms(self.ms)


@frozen
class Cough:
    """Short noise, which only the local detector hears (−56 dBFS).

    Attributes:
        ms: Its length in milliseconds.
    """

    ms: int = 150

    def __attrs_post_init__(self) -> None:
        _check_ms(self.ms)


@frozen
class Recorded:
    """Sound from a recording.

    Attributes:
        pcm: Mono, signed 16-bit little-endian, at the rate of the user who plays it.
    """

    pcm: bytes = field(repr=lambda pcm: f"<{len(pcm)} bytes>")

    def __attrs_post_init__(self) -> None:
        if len(self.pcm) % SAMPLE_BYTES:
            raise FrameError(f"{len(self.pcm)} bytes is not whole 16-bit samples")


Act: TypeAlias = Pause | Speech | Cough | Recorded
"""What a scripted user does next."""


class ScriptedUser:
    """A microphone with a user before it who does one act after the other.

    The last block is filled up with silence. When the acts are over, the pipeline ends.

    Args:
        acts: What the user does.
        rate_hz: Samples per second; mono.
        block_ms: Length of a block; ``rate_hz * block_ms`` must be whole samples.
        lost: Numbers of blocks that the device loses: they are never emitted, and the capture
            clock jumps over them.

    Raises:
        FrameError: A block is not whole samples.
    """

    def __init__(
        self,
        *acts: Act,
        rate_hz: int = 24_000,
        block_ms: int = 10,
        lost: Container[int] = (),
    ) -> None:
        if block_ms < 1 or rate_hz * block_ms % 1000:
            raise FrameError(f"{block_ms} ms at {rate_hz} Hz is not one or more whole samples")
        self.acts = acts
        self.rate_hz = rate_hz
        self.block_ms = block_ms
        self.lost = lost

    @property
    def length_ms(self) -> int:
        """How long the acts take, in milliseconds, rounded up."""
        return -(-sum(self._n_samples(act) for act in self.acts) * 1000 // self.rate_hz)

    async def run(self, emit: Emit[AudioIn]) -> None:
        """Be the microphone, from now until the acts are over."""
        start_ns = emit.now_ns()
        n_samples = self.rate_hz * self.block_ms // 1000
        sound = self._sound()
        for number in range(-(-len(sound) // (SAMPLE_BYTES * n_samples))):
            captured_ns = start_ns + (number + 1) * n_samples * NS_PER_S // self.rate_hz
            while not await emit.until(captured_ns):
                pass
            if number in self.lost:
                continue
            first = SAMPLE_BYTES * n_samples * number
            block = sound[first : first + SAMPLE_BYTES * n_samples]
            emit(
                AudioIn(
                    pcm=block.ljust(SAMPLE_BYTES * n_samples, b"\0"),
                    rate_hz=self.rate_hz,
                    start_sample=number * n_samples,
                    at_ns=captured_ns,
                )
            )

    def _n_samples(self, act: Act) -> int:
        if isinstance(act, Recorded):
            return len(act.pcm) // SAMPLE_BYTES
        return act.ms * self.rate_hz // 1000

    def _sound(self) -> bytes:
        made = bytearray()
        speech, cough = _noise(self.rate_hz, _SPEECH_RMS), _noise(self.rate_hz, _COUGH_RMS)
        for act in self.acts:
            n_bytes = SAMPLE_BYTES * self._n_samples(act)
            if isinstance(act, Recorded):
                made += act.pcm
            elif isinstance(act, Pause):
                made += bytes(n_bytes)
            else:  # the noise goes on where it would be, so that two bursts are not alike
                noise = cough if isinstance(act, Cough) else speech
                first = len(made) % len(noise)
                repeats = -(-(first + n_bytes) // len(noise))
                made += (noise * repeats)[first : first + n_bytes]
        return bytes(made)


def _noise(rate_hz: int, rms: int) -> bytes:
    random = np.random.default_rng(1)
    return (random.standard_normal(rate_hz * _NOISE_S) * rms).astype("<i2").tobytes()
