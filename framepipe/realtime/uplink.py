"""The microphone's way to the service: what was appended, and what its milliseconds mean.

The service counts milliseconds of audio appended in its session. Every captured sample is
appended once and gaps are filled with silence, so that its count is the capture clock minus a
constant; here one becomes the other. The service tells where it *detected* speech minus the
prefix, and where the silence that ended it was *over*: the settings of its turn detection turn
that into where the speech began and ended.

Sans-IO: positions are samples of the capture clock.

Source: realtime reference, section 3.2.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import frozen

from framepipe.errors import LocalProtocolError
from framepipe.frames import SAMPLE_BYTES, Problem
from framepipe.realtime import events as wire
from framepipe.realtime.client_outputs import Output, Send, problem
from framepipe.realtime.codings import Coding
from framepipe.realtime.events import UNSET

MAX_GAP_S = 600
"""Longest hole in the microphone audio that is filled with silence. What is longer is a clock
that jumped, not audio that was lost."""

PIECE_S = 5
"""Longest append; the service takes 15 MiB, and short ones do not hold up what follows."""

REMEMBERED_SEGMENTS = 16
"""Stretches of the user's speech that are not committed yet."""


@frozen
class Detection:
    """What of a session's turn detection matters to a client; the service's defaults.

    Attributes:
        prefix_ms: Audio before the detection that belongs to the turn.
        silence_ms: Silence that ends a turn.
        answers: The service answers each turn by itself.
    """

    prefix_ms: int = 300
    silence_ms: int = 500
    answers: bool = True


def detection_of(session: wire.Session) -> Detection:
    """The turn detection of a session, as far as it says."""
    if session.audio is UNSET or session.audio.input is UNSET:
        return Detection()
    detection = session.audio.input.turn_detection
    if detection is None:  # the application commits, and asks for answers
        return Detection(prefix_ms=0, silence_ms=0, answers=False)
    if detection is UNSET:
        return Detection()
    answers = detection.create_response is not False
    if detection.type != "server_vad":  # it does not say how long it waits
        return Detection(prefix_ms=0, silence_ms=0, answers=answers)
    prefix_ms, silence_ms = detection.prefix_padding_ms, detection.silence_duration_ms
    return Detection(
        prefix_ms=300 if prefix_ms is UNSET else prefix_ms,
        silence_ms=500 if silence_ms is UNSET else silence_ms,
        answers=answers,
    )


class Uplink:
    """Keeps the account of the microphone audio of one session.

    Args:
        coding: How the samples go on the wire.
        detection: When the service sees a turn begin and end.
        resume_sample: Where the audio begins that the service may lack; ``None``: with the first.

    Attributes:
        detection: As it is.
        resume_sample: Where the audio begins that a new service would lack.
        next_sample: Where the microphone is: everything before it was appended.
    """

    def __init__(self, coding: Coding, detection: Detection, resume_sample: int | None) -> None:
        self.detection = detection
        self.resume_sample = resume_sample
        self.next_sample = 0
        self._coding = coding
        self._first_sample: int | None = None
        self._segments: OrderedDict[str, tuple[int | None, int | None]] = OrderedDict()

    def append(self, start_sample: int, pcm: bytes) -> list[Output]:
        """As `framepipe.realtime.client_protocol.ClientProtocol.append`."""
        outputs: list[Output] = []
        if self._first_sample is None:
            self._first_sample = self.next_sample = start_sample
            resume_sample, self.resume_sample = self.resume_sample, start_sample
            if resume_sample is not None and resume_sample < start_sample:
                lost = start_sample - resume_sample
                outputs.append(self._problem("audio_lost", lost, "not kept long enough"))
        gap = start_sample - self.next_sample
        if gap > MAX_GAP_S * self._coding.rate_hz:
            raise LocalProtocolError(
                f"microphone audio jumps from sample {self.next_sample} to {start_sample}; "
                f"at most {MAX_GAP_S} s are filled with silence"
            )
        if gap > 0:
            outputs += self.silence(gap)
            outputs.append(self._problem("audio_gap", gap, "sent as silence"))
        elif gap < 0:
            pcm = pcm[-gap * SAMPLE_BYTES :]
            outputs.append(self._problem("audio_overlap", -gap, "not sent again"))
        piece = PIECE_S * self._coding.rate_hz * SAMPLE_BYTES
        for at in range(0, len(pcm), piece):
            audio = wire.encode_audio(self._coding.code(pcm[at : at + piece]))
            outputs.append(Send(wire.InputAudioBufferAppend(audio=audio)))
        self.next_sample += len(pcm) // SAMPLE_BYTES
        return outputs

    def silence(self, n_samples: int) -> list[Output]:
        """So much silence after what was appended."""
        outputs: list[Output] = []
        self.next_sample += n_samples
        second = self._silent_append(self._coding.rate_hz)  # one text for all of them
        outputs += [second] * (n_samples // self._coding.rate_hz)
        if n_samples % self._coding.rate_hz:
            outputs.append(self._silent_append(n_samples % self._coding.rate_hz))
        return outputs

    def end_of_speech(self) -> list[Output]:
        """The silence that ends a turn."""
        missing_ms = self.detection.silence_ms + self.detection.prefix_ms
        return self.silence(missing_ms * self._coding.rate_hz // 1_000)

    # --- what the service says of it ---

    def speech_started(self, item_id: str, audio_start_ms: int) -> int:
        """The user began to speak. Where, without the prefix."""
        self._segment(item_id, self._capture_sample(audio_start_ms), None)
        return self._capture_sample(audio_start_ms + self.detection.prefix_ms)

    def speech_stopped(self, item_id: str, audio_end_ms: int) -> int:
        """The user ended. Where, without the silence."""
        self._segment(item_id, None, self._capture_sample(audio_end_ms))
        return self._capture_sample(audio_end_ms - self.detection.silence_ms)

    def committed(self, item_id: str) -> tuple[int | None, int]:
        """An item holds audio: from where to where. What follows is what the service may lack."""
        start_sample, end_sample = self._segments.pop(item_id, (None, None))
        if end_sample is None:  # by hand: it holds all that was appended since the one before
            start_sample, end_sample = self.resume_sample, self.next_sample
        self.resume_sample = max(end_sample, self.resume_sample or 0)
        return start_sample, end_sample

    def forget(self) -> None:
        """The service has forgotten what was not committed; a new one need not hear it."""
        self.resume_sample = self.next_sample

    # --- inside ---

    def _segment(self, item_id: str, start_sample: int | None, end_sample: int | None) -> None:
        known, _ = self._segments.pop(item_id, (None, None))
        self._segments[item_id] = (known if start_sample is None else start_sample, end_sample)
        if len(self._segments) > REMEMBERED_SEGMENTS:
            self._segments.popitem(last=False)

    def _capture_sample(self, audio_ms: int) -> int:
        first_sample = self._first_sample or 0
        return first_sample + max(0, audio_ms) * self._coding.rate_hz // 1_000

    def _silent_append(self, n_samples: int) -> Send:
        audio = wire.encode_audio(self._coding.code(bytes(SAMPLE_BYTES * n_samples)))
        return Send(wire.InputAudioBufferAppend(audio=audio))

    def _problem(self, code: str, n_samples: int, fate: str) -> Problem:
        ms = n_samples * 1_000 / self._coding.rate_hz
        return problem(code, f"{ms:g} ms of microphone audio: {fate}", 0)
