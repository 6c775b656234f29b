"""A loudspeaker at the other end of a line: what it was ordered, and what it says it did.

A speaker in a browser obeys within milliseconds, but its word on where the sound ended comes only
after that. So an order is given at once and numbered; what the speaker reports counts for the
newest order that silenced it, and for no older one. A cut that comes before the speaker's word
leaves the mute point open: the account is settled by the report that follows.

Sans-IO: frames go in, orders and sound for the other end come out; reports go in, `Played` comes
out. The other end must do with the sound what `SpeakerCore` does, sample by sample.
"""

from __future__ import annotations

import math
from typing import Final, TypeAlias

from attrs import frozen

from framepipe.audio import mixed_to_mono
from framepipe.errors import FrameError
from framepipe.frames import AudioOut, Mute, Played, Unmute

CUT_FADE_MS: Final = 8
"""Fade at a cut that no ``Mute`` came before. 5 to 12 ms click on no loudspeaker (promise P1)."""


@frozen
class Sound:
    """Samples for the other end.

    Attributes:
        line: Sink-line position of the first.
        pcm: Signed 16-bit little-endian, mono.
        in_the_middle: It does not begin with the first sample of its part: after a cut it must be
            faded in.
    """

    line: int
    pcm: bytes
    in_the_middle: bool


@frozen
class MuteOrder:
    """Fade to ``gain`` within ``fade_samples``; 0 freezes the queue behind the fade."""

    order: int
    gain: float
    fade_samples: int


@frozen
class UnmuteOrder:
    """Go on with the very next sample, faded in."""

    order: int
    fade_samples: int


@frozen
class CutOrder:
    """Fade out unless silent, throw away all before ``line``, be unmuted."""

    order: int
    line: int
    fade_samples: int


Order: TypeAlias = MuteOrder | UnmuteOrder | CutOrder
"""What the other end is told; ``order`` numbers them from 1 on."""


@frozen
class Report:
    """What the other end says.

    Attributes:
        played: First sample of the sink line that the ear has not heard yet.
        order: Newest order that it has obeyed; 0: none yet.
        mute_point: First sample that was replaced by silence, while it is silent or right after a
            cut; ``None`` while it sounds.
        level_dbfs: Loudness of what is being heard.
    """

    played: int
    order: int = 0
    mute_point: int | None = None
    level_dbfs: float = -math.inf


class RemoteSpeakerCore:
    """Keeps the account of a speaker that is somewhere else.

    Args:
        rate_hz: Samples per second of the sink line.

    Attributes:
        handed: Samples given to it so far.
        played: Samples that were heard, or thrown away by a cut.
        mute_point: Where it fell silent, as soon as it said so; ``None`` while it sounds.
    """

    def __init__(self, rate_hz: int = 24_000) -> None:
        self.rate_hz = rate_hz
        self.handed = 0
        self.played = 0
        self.mute_point: int | None = None
        self._orders = 0
        # The newest order that silences, until the other end has said where the sound ended.
        self._silencing: int | None = None
        self._is_silenced = False

    @property
    def is_idle(self) -> bool:
        """Whether everything handed over was heard or thrown away."""
        return self.played >= self.handed

    def hand(self, frame: AudioOut) -> Sound:
        """The sound to send.

        Raises:
            FrameError: Another rate than the line's.
        """
        if frame.rate_hz != self.rate_hz:
            raise FrameError(
                f"audio of {frame.rate_hz} Hz for a speaker of {self.rate_hz} Hz; put "
                f"Resample({self.rate_hz}) before it"
            )
        sound = Sound(
            self.handed, mixed_to_mono(frame.pcm_bytes(), frame.channels), frame.start_sample > 0
        )
        self.handed += frame.n_samples
        return sound

    def mute(self, frame: Mute) -> MuteOrder | None:
        """Silence it, or make it quieter; ``None``: it is silent already."""
        gain = min(1.0, 10.0 ** (frame.gain_db / 20))
        if gain == 0.0 and self._is_silenced:
            return None
        order = MuteOrder(self._number(), gain, self._samples(frame.fade_ms))
        self._is_silenced = gain == 0.0
        self.mute_point = None
        self._silencing = order.order if self._is_silenced else None
        return order

    def unmute(self, frame: Unmute) -> UnmuteOrder:
        """Let it go on."""
        self._is_silenced = False
        self._silencing = self.mute_point = None
        return UnmuteOrder(self._number(), self._samples(frame.fade_ms))

    def cut(self) -> tuple[CutOrder, int | None]:
        """Throw away what it holds.

        Returns:
            The order, and the mute point if it is known already.
        """
        mute_point = self.mute_point
        order = CutOrder(self._number(), self.handed, self._samples(CUT_FADE_MS))
        self.played = self.handed
        self._is_silenced = False
        self.mute_point = None
        self._silencing = order.order if mute_point is None else None
        return order, mute_point

    def reported(self, report: Report, at_ns: int) -> Played | None:
        """The other end has said something.

        Args:
            report: What.
            at_ns: When it came, engine time.

        Returns:
            What goes up; ``None``: it was said of an older order, or is nothing new.
        """
        news = report.played > self.played
        self.played = max(self.played, min(report.played, self.handed))
        mute_point = self.mute_point
        if report.order == self._silencing and report.mute_point is not None:
            mute_point = min(report.mute_point, self.handed)
            self._silencing = None
            if self._is_silenced:
                self.mute_point = mute_point
            news = True
        return self.position(at_ns, report.level_dbfs, mute_point) if news else None

    def position(
        self,
        at_ns: int,
        level_dbfs: float = -math.inf,
        mute_point: int | None = None,
        *,
        final: bool = False,
    ) -> Played:
        """Where the ear is, as far as the other end has told."""
        return Played(
            handed_samples=self.handed,
            played_samples=self.played,
            rate_hz=self.rate_hz,
            level_dbfs=level_dbfs,
            mute_point=mute_point,
            final=final,
            at_ns=at_ns,
        )

    def _number(self) -> int:
        self._orders += 1
        return self._orders

    def _samples(self, ms: int) -> int:
        return max(0, self.rate_hz * ms // 1000)
