"""What the embedded server asks of a voice.

The voices themselves start programs and read files; they are in `framepipe.realtime.voice`, so
that the protocol can be imported without any of that.
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from framepipe.errors import FramepipeError

RATE_HZ = 24_000
"""Every voice speaks at the service's rate, mono, signed 16-bit little-endian."""

LONGEST_MS = 600_000
"""Longest speech that a voice is asked for; the service's own answers end far earlier."""


class VoiceError(FramepipeError):
    """A voice cannot speak: the program failed, or a shipped clip is damaged."""


@frozen(kw_only=True)
class Speech:
    """What a voice said.

    Attributes:
        text: Its words.
        pcm: 24 kHz mono, signed 16-bit little-endian.
    """

    text: str
    pcm: bytes

    @property
    def duration_ms(self) -> float:
        """Its length in milliseconds."""
        return len(self.pcm) * 500 / RATE_HZ


class Voice(Protocol):
    """Anything that can say a text, and talk for a given time."""

    def speak(self, text: str) -> bytes:
        """Say ``text``.

        Returns:
            24 kHz mono, signed 16-bit little-endian; the same bytes for the same text. Empty
            when there is nothing to say.

        Raises:
            VoiceError: It cannot.
        """
        ...

    def talk(self, duration_ms: int) -> Speech:
        """Talk, about anything, for exactly ``duration_ms`` (0 to `LONGEST_MS`).

        Raises:
            VoiceError: It cannot.
        """
        ...
