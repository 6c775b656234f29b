"""What goes to a page, in an order that survives its socket.

Every message carries a number. The page says which one it had last; what it has not had is kept,
and is sent again on the next socket. So a call goes on where it was when a laptop changes its
network. Three lanes: orders go before sound, sound before news.

On the wire: sound is binary, ``number, line, flags`` as unsigned 32-bit little-endian and then
signed 16-bit samples; everything else is a JSON object with a ``seq``. Microphone audio comes as
``start_sample``, unsigned 32-bit, and then samples.

Sans-IO.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from framepipe.conversation.remote_speaker import (
    CutOrder,
    MuteOrder,
    Order,
    Sound,
    UnmuteOrder,
)
from framepipe.errors import TransportBroken

MAX_UNHEARD_OF_BYTES: Final = 4 * 1024 * 1024
"""Bytes sent and not acknowledged, at most: over a minute of sound. A page that says nothing for
that long is gone."""

MAX_NEWS: Final = 1_000
"""News that wait; the oldest go first. They are for people to read, and a page that is away for
so long has been given up."""

IN_THE_MIDDLE: Final = 1
"""Flag of sound that does not begin with the first sample of its part."""

_SOUND_HEADER: Final = struct.Struct("<III")
_MIC_HEADER: Final = struct.Struct("<I")

Wire: TypeAlias = bytes | str
"""One message of a WebSocket."""


class PageLink:
    """Numbers, keeps and repeats what a page is told."""

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()
        self._sounds: deque[Sound] = deque()
        self._news: deque[Mapping[str, Any]] = deque(maxlen=MAX_NEWS)
        self._seq = 0
        self._sent: deque[tuple[int, Wire]] = deque()
        self._sent_bytes = 0
        self._repeat: deque[Wire] = deque()

    def order(self, order: Order) -> None:
        """An order for the speaker; a cut takes back the sound that was not sent yet."""
        if isinstance(order, CutOrder):
            self._sounds.clear()
        self._orders.append(order)

    def sound(self, sound: Sound) -> None:
        """Sound for the speaker."""
        self._sounds.append(sound)

    def news(self, news: Mapping[str, Any]) -> None:
        """Something to show."""
        self._news.append(news)

    def next(self) -> Wire | None:
        """The next message to send; ``None``: there is none.

        Raises:
            TransportBroken: The page has not said for too long what it has had.
        """
        if self._repeat:
            return self._repeat.popleft()
        self._seq += 1
        wire: Wire
        if self._orders:
            wire = _json(self._seq, _order(self._orders.popleft()))
        elif self._sounds:
            wire = _sound(self._seq, self._sounds.popleft())
        elif self._news:
            wire = _json(self._seq, self._news.popleft())
        else:
            self._seq -= 1
            return None
        self._sent.append((self._seq, wire))
        self._sent_bytes += len(wire)
        if self._sent_bytes > MAX_UNHEARD_OF_BYTES:
            raise TransportBroken(
                f"the page has not said for {self._sent_bytes} bytes what it has had; at most "
                f"{MAX_UNHEARD_OF_BYTES} wait for that"
            )
        return wire

    def acknowledged(self, seq: int) -> None:
        """The page has had everything up to number ``seq``."""
        while self._sent and self._sent[0][0] <= seq:
            self._sent_bytes -= len(self._sent.popleft()[1])

    def resume(self, seq: int) -> None:
        """A new socket of the same page, which has had everything up to number ``seq``."""
        self.acknowledged(seq)
        self._repeat = deque(wire for _, wire in self._sent)


def mic_audio(message: bytes) -> tuple[int, bytes]:
    """Microphone audio from the page: position of its first sample, and samples.

    Raises:
        ValueError: It is not whole samples.
    """
    n_bytes = len(message) - _MIC_HEADER.size
    if n_bytes <= 0 or n_bytes % 2:
        raise ValueError(f"{len(message)} bytes are no position and whole 16-bit samples")
    (start_sample,) = _MIC_HEADER.unpack_from(message)
    return start_sample, message[_MIC_HEADER.size :]


def _sound(seq: int, sound: Sound) -> bytes:
    flags = IN_THE_MIDDLE if sound.in_the_middle else 0
    return _SOUND_HEADER.pack(seq, sound.line & 0xFFFF_FFFF, flags) + sound.pcm


def _json(seq: int, message: Mapping[str, Any]) -> str:
    return msgspec.json.encode({"seq": seq, **message}).decode()


def _order(order: Order) -> Mapping[str, Any]:
    match order:
        case MuteOrder():
            kind = "mute"
        case UnmuteOrder():
            kind = "unmute"
        case CutOrder():
            kind = "cut"
    fields = {name: getattr(order, name) for name in type(order).__match_args__}
    return {"type": kind, **fields}
