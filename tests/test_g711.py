"""G.711, to the bit."""

from __future__ import annotations

import sys
import warnings
from array import array
from typing import Any

import pytest

from framepipe.errors import FrameError
from framepipe.g711 import alaw_from_pcm, pcm_from_alaw, pcm_from_ulaw, ulaw_from_pcm

EVERY_SAMPLE = array("h", range(-32768, 32768)).tobytes()
EVERY_CODE = bytes(range(256))
BOTH = [
    pytest.param(ulaw_from_pcm, pcm_from_ulaw, "ulaw", id="pcmu"),
    pytest.param(alaw_from_pcm, pcm_from_alaw, "alaw", id="pcma"),
]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python 3.13 has no audioop any more")
@pytest.mark.parametrize(("encode", "decode", "name"), BOTH)
def test_every_sample_and_every_code_are_those_of_the_standard_library(
    encode: Any, decode: Any, name: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop: Any = __import__("audioop")
    assert decode(EVERY_CODE) == getattr(audioop, f"{name}2lin")(EVERY_CODE, 2)
    assert encode(EVERY_SAMPLE) == getattr(audioop, f"lin2{name}")(EVERY_SAMPLE, 2)


@pytest.mark.parametrize(("encode", "decode", "name"), BOTH)
def test_a_decoded_sample_is_as_near_as_four_bits_of_mantissa_allow(
    encode: Any, decode: Any, name: str
) -> None:
    samples = array("h", EVERY_SAMPLE)
    back = array("h", decode(encode(EVERY_SAMPLE)))
    for was, is_ in zip(samples, back, strict=True):
        clipped = max(-32124, min(was, 32124))
        assert abs(is_ - clipped) <= max(16, abs(clipped) / 16)


@pytest.mark.parametrize(("encode", "decode", "name"), BOTH)
def test_half_a_sample_is_refused(encode: Any, decode: Any, name: str) -> None:
    with pytest.raises(FrameError, match="3 bytes is not whole 16-bit samples"):
        encode(b"abc")
