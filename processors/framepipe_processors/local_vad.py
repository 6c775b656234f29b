"""Hear at once that the user began to speak."""

from __future__ import annotations

from collections.abc import Iterator

from framepipe import on
from framepipe.detectors.webrtc import FrameMs, Mode, Verdict, WebrtcDetector
from framepipe.frames import AudioIn, SpeechStarted, SpeechStopped


class LocalVad:
    """Tell when the user starts and stops speaking, from the microphone audio that passes.

    The first frame that sounds like speech counts: waiting for a second one would only make it
    late, because the detector's hangover turns every click into many. Coughs and keys count as
    well; whoever acts on `SpeechStarted` must be able to take it back.

    `SpeechStopped` is no end of turn. The detector goes on for 150 to 600 ms after a sound, so
    the frame comes late; its ``end_sample`` has the usual lateness subtracted.

    Audio may be 8, 16, 24, 32 or 48 kHz, mono or stereo (mixed for listening, passed on as it
    is), in blocks of any length. The verdicts do not depend on the blocks, but a verdict cannot
    come before its block: give it blocks of ``frame_ms``.

    Args:
        frame_ms: Length of the frames it judges: 10, 20 or 30.
        mode: webrtcvad's strictness, 0 to 3; by default what was measured best for
            ``frame_ms``.

    Raises:
        FrameError: A setting webrtcvad does not have; from the handler: a rate it cannot hear.
    """

    def __init__(self, *, frame_ms: FrameMs = 10, mode: Mode | None = None) -> None:
        self.frame_ms: FrameMs = frame_ms
        self.mode: Mode | None = mode
        # Made here as well as at the first frame, so that bad settings fail where they are given.
        self._detector = WebrtcDetector(24_000, frame_ms=frame_ms, mode=mode)
        self._speaking_since: int | None = None

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> Iterator[AudioIn | SpeechStarted | SpeechStopped]:
        """Judge the audio, and pass it on."""
        detector = self._detector_for(frame)
        if detector.position != frame.start_sample:
            detector.seek(frame.start_sample)
        for verdict in detector.feed(frame.pcm_bytes()):
            if verdict.speech != (self._speaking_since is not None):
                yield self._edge(verdict, frame.at_ns)
        yield frame

    def _edge(self, verdict: Verdict, at_ns: int) -> SpeechStarted | SpeechStopped:
        since = self._speaking_since
        if since is None:
            self._speaking_since = verdict.start_sample
            return SpeechStarted(source="local", onset_sample=verdict.start_sample, at_ns=at_ns)
        self._speaking_since = None
        late = self._detector.hangover_ms * self._detector.rate_hz // 1000
        # Speech lasts a frame at least, however long the detector hung on.
        end = max(verdict.start_sample - late, since + self._detector.frame_samples)
        return SpeechStopped(source="local", end_sample=end, at_ns=at_ns)

    def _detector_for(self, frame: AudioIn) -> WebrtcDetector:
        detector = self._detector
        if (detector.rate_hz, detector.channels) != (frame.rate_hz, frame.channels):
            detector = self._detector = WebrtcDetector(
                frame.rate_hz, channels=frame.channels, frame_ms=self.frame_ms, mode=self.mode
            )
            # Positions of another rate mean nothing on this one.
            self._speaking_since = None
        return detector
