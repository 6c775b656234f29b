"""How the samples of a session are coded: 16-bit PCM as it is, or G.711 for telephones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from framepipe import g711
from framepipe.realtime import events as wire
from framepipe.realtime.events import UNSET


@frozen
class Coding:
    """One way to code audio.

    Attributes:
        rate_hz: Samples per second.
        code: Signed 16-bit little-endian samples to what goes on the wire, before base64.
        decode: The way back.
    """

    rate_hz: int
    code: Callable[[bytes], bytes]
    decode: Callable[[bytes], bytes]


def _same(data: bytes) -> bytes:
    return data


CODINGS: Final = {
    "audio/pcm": Coding(24_000, _same, _same),
    "audio/pcmu": Coding(g711.RATE_HZ, g711.ulaw_from_pcm, g711.pcm_from_ulaw),
    "audio/pcma": Coding(g711.RATE_HZ, g711.alaw_from_pcm, g711.pcm_from_alaw),
}
"""Every coding, by the name that the wire has for it."""


def codings_of(session: wire.Session) -> tuple[Coding, Coding]:
    """How a session codes the microphone and the voice; 16-bit PCM where it does not say."""
    audio = wire.Audio() if session.audio is UNSET else session.audio
    said = (
        UNSET if audio.input is UNSET else audio.input.format,
        UNSET if audio.output is UNSET else audio.output.format,
    )
    heard, spoken = (
        CODINGS.get("audio/pcm" if one is UNSET else one.type, CODINGS["audio/pcm"]) for one in said
    )
    return heard, spoken
