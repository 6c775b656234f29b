"""Take the agent's voice out of what the microphone heard."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from framepipe import Emit, on
from framepipe.conversation.late_filter import LateFilter, Piece
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.errors import FrameError, WiringError
from framepipe.frames import NS_PER_S, AudioIn, End, evolve

FRAME_MS: Final = 10
"""The only length of frame that the canceller takes."""

DELAY_SAMPLES: Final = {8_000: 88, 16_000: 128, 24_000: 225, 48_000: 432}
"""How late it gives each sound, by rate: 8 to 11 ms. It turns phases, so this is measured on the
envelope of speech; a click and noise agree to 0.1 ms."""

NOISE_SUPPRESSION_MS: Final = 6
"""What the suppression of noise adds to that."""


class EchoCanceller:
    """Cancel the echo of exactly what was played, at the time at which it was heard.

    WebRTC's AEC3 and no more: it finds the delay of the room by itself, follows clocks that
    drift, and takes some 30 dB off the echo after half a second; 40 with the suppression of
    noise. The user can be understood while the agent talks, which no gate can do.

    Stands first after the microphone. The speaker tells what it played through a `PlaybackTap`
    that both are given::

        tap = PlaybackTap()
        Pipeline(mic, EchoCanceller(tap), LocalVad(), MicGate(), …, WavSink("heard.wav", tap=tap))

    A `MicGate` behind it is for the rest: the half second in which it learns the room.

    Every sample keeps its position and its time on the capture clock, and as many leave as came
    in; each leaves 8 to 11 ms later than it came (with suppression of noise 14 to 17), and up to
    10 ms more where the blocks are not whole frames of 10 ms.

    Needs the extra ``aec``: ``pip install 'framepipe[aec]'``.

    Args:
        tap: What was played.
        noise_suppression: Take the noise of the room out as well.
        high_pass: Take out what is below the voice.

    Raises:
        WiringError: The extra ``aec`` is not installed.
        FrameError: From the handler: audio that is not mono, of a rate that it does not know, or
            not of the rate of what was played.
    """

    def __init__(
        self, tap: PlaybackTap, *, noise_suppression: bool = False, high_pass: bool = True
    ) -> None:
        self.tap = tap
        self.noise_suppression, self.high_pass = noise_suppression, high_pass
        self._rtc = _library()
        self._filter: LateFilter | None = None
        self._frame = AudioIn(pcm=b"", rate_hz=24_000)
        self._end_ns = 0
        self._emit: Emit[AudioIn] | None = None

    def attach(self, emit: Emit[AudioIn]) -> None:
        """Keep the way to the time, for audio that nobody stamped."""
        self._emit = emit

    @on(AudioIn)
    def cancel(self, frame: AudioIn) -> Iterator[AudioIn]:
        """Take the echo out; what leaves is from a little before."""
        late = self._filter
        if late is None or frame.rate_hz != self._frame.rate_hz:
            if late is not None:
                yield from self._told(late.flush())
            late = self._filter = self._new_filter(frame)
        self._frame = frame
        self._end_ns = frame.at_ns or (self._emit.now_ns() if self._emit is not None else 0)
        yield from self._told(late.feed(frame.start_sample, frame.pcm_bytes()))

    @on(End)
    def end(self, frame: End) -> Iterator[AudioIn | End]:
        """Nothing is kept back at the end."""
        if self._filter is not None:
            yield from self._told(self._filter.flush())
        yield frame

    def _told(self, pieces: list[Piece]) -> Iterator[AudioIn]:
        frame = self._frame
        for start_sample, pcm in pieces:
            end_sample = start_sample + len(pcm) // 2
            ago = frame.start_sample + frame.n_samples - end_sample
            at_ns = frame.at_ns and frame.at_ns - ago * NS_PER_S // frame.rate_hz
            yield evolve(frame, pcm=pcm, start_sample=start_sample, at_ns=at_ns)

    def _new_filter(self, frame: AudioIn) -> LateFilter:
        rate_hz = frame.rate_hz
        if frame.channels != 1:
            raise FrameError("the microphone is stereo; EchoCanceller takes mono")
        if rate_hz not in DELAY_SAMPLES:
            known = ", ".join(str(rate) for rate in DELAY_SAMPLES)
            raise FrameError(
                f"the microphone has {rate_hz} Hz; EchoCanceller takes {known}: put "
                "Resample(24000) before it"
            )
        canceller = self._rtc.AudioProcessingModule(
            echo_cancellation=True,
            noise_suppression=self.noise_suppression,
            high_pass_filter=self.high_pass,
            auto_gain_control=False,
        )
        n_samples = rate_hz * FRAME_MS // 1000
        delay = DELAY_SAMPLES[rate_hz]
        if self.noise_suppression:
            delay += rate_hz * NOISE_SUPPRESSION_MS // 1000

        def process(start_sample: int, pcm: bytes) -> bytes:
            far = self._rtc.AudioFrame(
                bytearray(self._played(start_sample, n_samples)), rate_hz, 1, n_samples
            )
            near = self._rtc.AudioFrame(bytearray(pcm), rate_hz, 1, n_samples)
            canceller.process_reverse_stream(far)
            canceller.process_stream(near)
            return bytes(near.data)

        return LateFilter(process, frame_samples=n_samples, delay_samples=delay)

    def _played(self, start_sample: int, n_samples: int) -> bytes:
        frame = self._frame
        if self.tap.rate_hz not in (None, frame.rate_hz):
            raise FrameError(
                f"the microphone has {frame.rate_hz} Hz and the speaker {self.tap.rate_hz}; "
                f"EchoCanceller needs one rate: put Resample({self.tap.rate_hz}) before it"
            )
        ago = frame.start_sample + frame.n_samples - start_sample
        return self.tap.read(self._end_ns - ago * NS_PER_S // frame.rate_hz, n_samples)


def _library() -> Any:
    try:
        return import_module("livekit.rtc")
    except ImportError as error:
        raise WiringError(
            "EchoCanceller needs the extra aec: pip install 'framepipe[aec]'; without it, "
            "MicGate() keeps the agent's voice from the service"
        ) from error
