"""Audio as a session's formats have it on the wire, and as the embedded server works on it.

Inside, everything is 24 kHz mono PCM: positions, items and voices. The two telephone codings are
turned into it as they come and out of it as they go, three samples for one.

Sans-IO: bytes in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from framepipe import g711
from framepipe.audio import Resampler
from framepipe.realtime.speech import RATE_HZ

FORMATS: Final = ("audio/pcm", "audio/pcmu", "audio/pcma")
"""What a session may ask for: 16-bit PCM at 24 kHz, and G.711 at 8 kHz."""

_DECODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "audio/pcmu": g711.pcm_from_ulaw,
    "audio/pcma": g711.pcm_from_alaw,
}
_ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "audio/pcmu": g711.ulaw_from_pcm,
    "audio/pcma": g711.alaw_from_pcm,
}
_SAMPLES_EACH: Final = RATE_HZ // g711.RATE_HZ


class Incoming:
    """The user's stream of audio.

    Args:
        kind: One of `FORMATS`.

    Attributes:
        kind: It.
        sample_bytes: Bytes of one sample on the wire; appends are whole samples.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.sample_bytes = 1 if kind in _DECODERS else 2
        self._resampler = Resampler(g711.RATE_HZ, RATE_HZ) if kind in _DECODERS else None

    def pcm(self, wire: bytes) -> bytes:
        """The next piece at 24 kHz; exactly as long as what came."""
        if self._resampler is None:
            return wire
        return self._resampler.process(_DECODERS[self.kind](wire))


def outgoing(pcm: bytes, kind: str) -> bytes:
    """A whole recording as it goes on the wire; see `wire_place`."""
    if kind not in _ENCODERS or not pcm:
        return pcm
    resampler = Resampler(RATE_HZ, g711.RATE_HZ, aligned=True)
    return _ENCODERS[kind](resampler.process(pcm) + resampler.flush())


def wire_place(pcm_byte: int, kind: str) -> int:
    """Where in the recording of `outgoing` a place in its 24 kHz PCM is."""
    return pcm_byte if kind not in _ENCODERS else -(-pcm_byte // (2 * _SAMPLES_EACH))
