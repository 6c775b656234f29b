"""G.711, the coding of telephones: one byte a sample, µ-law (pcmu) or A-law (pcma), at 8 kHz.

Both are floating point with three bits of exponent and four of mantissa, so a sample of 13 or 14
bits is a row of a table and back. Encoding is exact to the bit with the tables of the standard:
the sample is cut to 14 bits (µ-law) or 13 (A-law) towards minus infinity, as telephones do it.

Sans-IO: bytes in, bytes out. Rates are nobody's business here.

Source: ITU-T Recommendation G.711.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from framepipe.errors import FrameError

RATE_HZ: Final = 8_000
"""Samples per second of both."""

_ULAW_BIAS: Final = 33
_ULAW_CLIP: Final = 8158
"""The largest magnitude of 14 bits that µ-law can say, before the bias."""


def pcm_from_ulaw(coded: bytes) -> bytes:
    """Signed 16-bit little-endian samples of µ-law bytes."""
    pcm: bytes = _FROM_ULAW[np.frombuffer(coded, np.uint8)].tobytes()
    return pcm


def pcm_from_alaw(coded: bytes) -> bytes:
    """Signed 16-bit little-endian samples of A-law bytes."""
    pcm: bytes = _FROM_ALAW[np.frombuffer(coded, np.uint8)].tobytes()
    return pcm


def ulaw_from_pcm(pcm: bytes) -> bytes:
    """µ-law bytes of signed 16-bit little-endian samples.

    Raises:
        FrameError: ``pcm`` ends in the middle of a sample.
    """
    coded: bytes = _TO_ULAW[_rows(pcm) >> 2].tobytes()
    return coded


def alaw_from_pcm(pcm: bytes) -> bytes:
    """A-law bytes of signed 16-bit little-endian samples.

    Raises:
        FrameError: ``pcm`` ends in the middle of a sample.
    """
    coded: bytes = _TO_ALAW[_rows(pcm) >> 3].tobytes()
    return coded


def _rows(pcm: bytes) -> NDArray[np.uint16]:
    """Samples as rows of a table of all 16-bit numbers: the negative ones in its upper half."""
    if len(pcm) % 2:
        raise FrameError(f"{len(pcm)} bytes is not whole 16-bit samples")
    return np.frombuffer(pcm, "<u2")


def _from_ulaw() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int64) & 0xFF
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = ((mantissa << 1) + _ULAW_BIAS << exponent) - _ULAW_BIAS
    samples: NDArray[np.int16] = (np.where(code & 0x80, -magnitude, magnitude) << 2).astype("<i2")
    return samples


def _to_ulaw() -> NDArray[np.uint8]:
    sample = _signed(14)
    biased = np.minimum(np.abs(sample), _ULAW_CLIP) + _ULAW_BIAS
    exponent = _log2(biased) - 5
    code = exponent << 4 | biased >> exponent + 1 & 15
    return (code ^ np.where(sample < 0, 0x7F, 0xFF)).astype(np.uint8)


def _from_alaw() -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.int64) ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    # The lowest two segments have the same step; the half step puts the sample in its middle.
    magnitude = (mantissa << 1) + 1 + np.where(exponent > 0, 32, 0) << np.maximum(exponent - 1, 0)
    samples: NDArray[np.int16] = (np.where(code & 0x80, magnitude, -magnitude) << 3).astype("<i2")
    return samples


def _to_alaw() -> NDArray[np.uint8]:
    sample = _signed(13)
    # Of the negative ones the complement: -1 is as small as 0.
    magnitude = np.where(sample < 0, -sample - 1, sample)
    exponent = np.maximum(_log2(np.maximum(magnitude, 1)) - 4, 0)
    code = exponent << 4 | magnitude >> np.maximum(exponent, 1) & 15
    return (code ^ np.where(sample < 0, 0x55, 0xD5)).astype(np.uint8)


def _signed(bits: int) -> NDArray[np.int64]:
    """All numbers of so many bits in the order of their unsigned rows."""
    rows = np.arange(1 << bits)
    return np.where(rows < 1 << bits - 1, rows, rows - (1 << bits))


def _log2(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The position of the highest bit; exact, for the values are far below 2**53."""
    return np.frexp(values)[1].astype(np.int64) - 1


_FROM_ULAW, _TO_ULAW = _from_ulaw(), _to_ulaw()
_FROM_ALAW, _TO_ALAW = _from_alaw(), _to_alaw()
