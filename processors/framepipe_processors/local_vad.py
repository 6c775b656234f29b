"""Hear at once that the user began to speak, and a moment later whether it was speech."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from framepipe import Emit, on
from framepipe.conversation.bargein import SecondStageReady
from framepipe.detectors.automatic_gain import AutomaticGain
from framepipe.detectors.availability import Availability
from framepipe.detectors.level_gate import LevelGate
from framepipe.detectors.second_stage import EVIDENCE, Evidence, SecondStage, Told
from framepipe.detectors.silero import HopMs, SileroDetector, Window, models_for
from framepipe.detectors.webrtc import FrameMs, Mode, Verdict, WebrtcDetector
from framepipe.frames import (
    AudioIn,
    EchoReference,
    Problem,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
)

_Told: TypeAlias = (
    SpeechStarted | SpeechStopped | SpeechConfirmed | SpeechRejected | SecondStageReady | Problem
)

DISARMED: Final = "first_stage_disarmed"
"""Code of the `Problem` that says that the fast detector is not listened to any more."""


class LocalVad:
    """Tell when the user starts and stops speaking, from the microphone audio that passes.

    Two stages. The first frame that sounds like speech counts (`SpeechStarted`): waiting for a
    second one would only make it late, because webrtcvad's hangover turns every click into many.
    Coughs and keys count as well; whoever acts on it must be able to take it back. The second
    stage, the Silero model, says some 170 ms after the onset whether it was speech
    (`SpeechConfirmed`) or not (`SpeechRejected`). Where the first stage hears no beginning,
    because it hangs on after a noise or is not listened to, the second tells of one, 30 to 60 ms
    later, and of the end. See `SecondStage`.

    Where the first stage calls most of the last five seconds speech and the second does not, its
    edges mean nothing: it is not listened to until the room is quieter, and a `Problem` says so.

    With a `MicGate` below, which tells what the loudspeaker plays, both stages hear only what is
    louder than the agent's own voice can be after its way through the room: see `LevelGate`.

    `SpeechStopped` is no end of turn. The detector goes on for 150 to 600 ms after a sound, so
    the frame comes late; its ``end_sample`` has the usual lateness subtracted.

    Audio may be 8, 16, 24, 32 or 48 kHz, mono or stereo (mixed for listening, passed on as it
    is), in blocks of any length. The verdicts do not depend on the blocks, but a verdict cannot
    come before its block: give it blocks of ``frame_ms``.

    Args:
        frame_ms: Length of the frames it judges: 10, 20 or 30.
        mode: webrtcvad's strictness, 0 to 3; by default what was measured best for
            ``frame_ms``.
        second_stage: Whether to judge again; 0.2 ms of work for each 32 ms of audio.
        hop_ms: How often the second stage judges the last 32 ms: every 16, or every 32 for half
            the work. With 32, halve the windows in ``confirm``.
        gain_db: The most decibels by which the second stage hears a quiet voice louder, see
            `AutomaticGain`. With 0 it misses one in six short words spoken across the room.
        confirm: How many of the last windows must be how probable; each of these is enough.
        reject_p: A window at or above it may be speech, above 0 to the least of ``confirm``.
        reject_ms: After so many milliseconds without such a window it was none.

    Raises:
        FrameError: A setting that makes no sense; from the handler: a rate it cannot hear.
    """

    def __init__(
        self,
        *,
        frame_ms: FrameMs = 10,
        mode: Mode | None = None,
        second_stage: bool = True,
        hop_ms: HopMs = 16,
        gain_db: float = 9.0,
        confirm: Sequence[Evidence] = EVIDENCE,
        reject_p: float = 0.6,
        reject_ms: int = 192,
    ) -> None:
        self.frame_ms: FrameMs = frame_ms
        self.mode: Mode | None = mode
        self.second_stage = second_stage
        self.hop_ms: HopMs = hop_ms
        self.gain_db = gain_db
        self.confirm, self.reject_p, self.reject_ms = tuple(confirm), reject_p, reject_ms
        # Made here as well as at the first frame, so that bad settings fail where they are given.
        self._detector = WebrtcDetector(24_000, frame_ms=frame_ms, mode=mode)
        self._rule = self._new_rule(24_000)
        self._level_gate = LevelGate(24_000)
        models_for(hop_ms)
        AutomaticGain(gain_db)
        self._silero: SileroDetector | None = None
        self._availability = Availability(frame_ms)
        self._speaking_since: int | None = None
        self._is_on = False  # whoever listens believes that the user speaks
        self._emit: Emit[_Told] | None = None

    def attach(self, emit: Emit[_Told]) -> None:
        """Keep the way to the time, for audio that nobody stamped."""
        self._emit = emit

    @on(EchoReference)
    def compare(self, frame: EchoReference) -> EchoReference:
        """Know how loud the agent is."""
        self._level_gate.played(frame.level_dbfs, frame.at_ns)
        return frame

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> Iterator[AudioIn | _Told]:
        """Judge the audio, and pass it on."""
        self._listen_at(frame.rate_hz, frame.channels)
        if self.second_stage and self._silero is None:
            self._silero = self._new_silero(frame.rate_hz, frame.channels)
            yield SecondStageReady(source="silero", at_ns=frame.at_ns)
        if self._detector.position != frame.start_sample:
            self._seek(frame.start_sample)
        pcm = frame.pcm_bytes()
        self._level_gate.hear(pcm, frame.start_sample, self._end_ns(frame))
        judgements: list[Verdict | Window] = [*self._detector.feed(pcm)]
        if self._silero is not None:
            judgements += self._silero.feed(pcm)
            # In the order in which they end, so that nothing depends on the blocks.
            judgements.sort(key=_end_sample)
        for heard in judgements:
            yield from self._judge(heard, frame.at_ns)
        yield frame

    def _judge(self, heard: Verdict | Window, at_ns: int) -> Iterator[_Told]:
        told: _Told | None
        if isinstance(heard, Window):
            told = self._second(heard, at_ns)
        else:
            heard = self._level_gate.verdict(heard, speaking=self._speaking_since is not None)
            told = self._first(heard, at_ns)
        if told is not None:
            self._is_on = isinstance(told, SpeechStarted | SpeechConfirmed)
            yield told
        if isinstance(heard, Verdict):
            yield from self._doubt(heard, at_ns)

    def _first(self, verdict: Verdict, at_ns: int) -> SpeechStarted | SpeechStopped | None:
        speech = verdict.speech and self._availability.is_usable
        if speech == (self._speaking_since is not None):
            return None
        return self._started(verdict, at_ns) if speech else self._stopped(verdict, at_ns)

    def _second(self, window: Window, at_ns: int) -> Told | None:
        told = self._rule.judge(self._level_gate.window(window), at_ns)
        # The first stage tells the end itself where it hears one.
        is_ended = not self._is_on or self._speaking_since is not None
        return None if isinstance(told, SpeechStopped) and is_ended else told

    def _started(self, verdict: Verdict, at_ns: int) -> SpeechStarted:
        self._speaking_since = verdict.start_sample
        self._rule.suspect(verdict.start_sample)
        return SpeechStarted(source="local", onset_sample=verdict.start_sample, at_ns=at_ns)

    def _stopped(self, verdict: Verdict, at_ns: int) -> SpeechStopped:
        since, self._speaking_since = self._speaking_since or 0, None
        late = self._detector.hangover_ms * self._detector.rate_hz // 1000
        # Speech lasts a frame at least, however long the detector hung on.
        end = max(verdict.start_sample - late, since + self._detector.frame_samples)
        return SpeechStopped(source="local", end_sample=end, at_ns=at_ns)

    def _doubt(self, verdict: Verdict, at_ns: int) -> Iterator[Problem]:
        """Ask whether the first stage is of any use here, where the second one can tell."""
        if self._silero is None:
            return
        changed = self._availability.note(verdict.speech and not self._rule.may_be_speech)
        if changed and not self._availability.is_usable:
            yield Problem(
                where="LocalVad",
                code=DISARMED,
                message="webrtcvad calls most of the last 5 s speech and Silero does not; until "
                "the room is quieter only Silero is listened to, some 50 ms later",
                at_ns=at_ns,
            )

    def _seek(self, sample: int) -> None:
        self._detector.seek(sample)
        if self._silero is not None:
            self._silero.reset(sample)
        self._rule.seek(sample)

    def _listen_at(self, rate_hz: int, channels: int) -> None:
        if (self._detector.rate_hz, self._detector.channels) == (rate_hz, channels):
            return
        self._detector = WebrtcDetector(
            rate_hz, channels=channels, frame_ms=self.frame_ms, mode=self.mode
        )
        # Positions of another rate mean nothing on this one.
        self._speaking_since = None
        self._silero = None
        self._rule = self._new_rule(rate_hz)
        self._level_gate = LevelGate(rate_hz, channels=channels)

    def _end_ns(self, frame: AudioIn) -> int:
        return frame.at_ns or (self._emit.now_ns() if self._emit is not None else 0)

    def _new_silero(self, rate_hz: int, channels: int) -> SileroDetector:
        return SileroDetector(
            rate_hz, channels=channels, hop_ms=self.hop_ms, gain=AutomaticGain(self.gain_db)
        )

    def _new_rule(self, rate_hz: int) -> SecondStage:
        return SecondStage(
            rate_hz,
            confirm=self.confirm,
            reject_p=self.reject_p,
            reject_ms=self.reject_ms,
        )


def _end_sample(heard: Verdict | Window) -> int:
    return heard.end_sample
