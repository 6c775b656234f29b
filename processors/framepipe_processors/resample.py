"""Change the rate of the audio that passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, TypeVar

from attrs import frozen

from framepipe import on
from framepipe.audio import Resampler
from framepipe.frames import (
    AudioDone,
    AudioIn,
    AudioOut,
    Interrupt,
    Played,
    SpeechStarted,
    SpeechStopped,
    evolve,
)

_REMEMBERED_PARTS: Final = 1_024
"""Parts between here and the speaker whose positions can be translated back. `Playout` has two
or three under way; without it a few replies' worth may wait in the speaker."""

_Audio = TypeVar("_Audio", AudioIn, AudioOut)


class Resample:
    """Convert passing audio to ``rate_hz``, in both directions of the conversation.

    Everything that counts samples is converted with it: the positions of the audio and of
    `SpeechStarted`, the lengths in `AudioDone`, and, on their way up, the speaker's `Played` and
    the points on `Interrupt`. So the stages above need not know that it is there.

    The microphone comes out 0.3 to 1.5 ms late and nothing is held back. A part of the agent
    keeps its sounds in place and its exact length: its last `Resampler.delay_samples` come with
    its `AudioDone`. Each part and each gap begins with an empty filter.

    Args:
        rate_hz: The rate to make.

    Raises:
        FrameError: From a handler: a rate that cannot be converted.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.made_rates_hz = {AudioIn: rate_hz, AudioOut: rate_hz}
        self._mic: _Stretch | None = None
        self._mic_resampler = Resampler(rate_hz, rate_hz)
        self._part: _Part | None = None
        self._agent_hz = rate_hz
        # The sink line on both sides of this stage.
        self._handed_above = self._handed_below = 0
        self._stretches: deque[_Stretch] = deque(maxlen=_REMEMBERED_PARTS)

    # --- the microphone -----------------------------------------------------------------------

    @on(AudioIn)
    def microphone(self, frame: AudioIn) -> AudioIn | None:
        """Convert the user's audio."""
        kind = (frame.rate_hz, frame.channels)
        if kind != (self._mic_resampler.from_hz, self._mic_resampler.channels):
            self._mic_resampler = Resampler(frame.rate_hz, self.rate_hz, channels=frame.channels)
            self._mic = None
        mic = self._mic
        if mic is None or frame.start_sample != mic.above_end:
            self._mic_resampler.reset()
            below = _scaled_up(frame.start_sample, frame.rate_hz, self.rate_hz)
            mic = _Stretch(frame.start_sample, below, 0, 0)
        pcm = self._mic_resampler.process(frame.pcm_bytes())
        made = self._converted(frame, pcm, mic.below_end)
        self._mic = mic.longer(frame.n_samples, len(pcm) // (2 * frame.channels))
        return made if pcm else None

    @on(SpeechStarted)
    def speech_started(self, frame: SpeechStarted) -> SpeechStarted:
        """Convert the position of the onset, if the microphone's audio passes here."""
        return evolve(frame, onset_sample=self._on_mic(frame.onset_sample))

    @on(SpeechStopped)
    def speech_stopped(self, frame: SpeechStopped) -> SpeechStopped:
        """Convert the position of the end, if the microphone's audio passes here."""
        return evolve(frame, end_sample=self._on_mic(frame.end_sample))

    def _on_mic(self, sample: int) -> int:
        return _scaled_down(sample, self._mic_resampler.from_hz, self.rate_hz)

    # --- the agent ----------------------------------------------------------------------------

    @on(AudioOut)
    def agent(self, frame: AudioOut) -> Iterator[AudioOut]:
        """Convert the agent's audio."""
        part = self._part
        if part is None or not part.goes_on(frame):
            yield from self._end_part()
            part = self._part = _Part(frame, self.rate_hz)
            self._agent_hz = frame.rate_hz
        pcm = part.resampler.process(frame.pcm_bytes())
        part.last, part.above_end = frame, part.above_end + frame.n_samples
        yield from self._handed(part, pcm, frame.n_samples)

    @on(AudioDone)
    def agent_done(self, frame: AudioDone) -> Iterator[AudioOut | AudioDone]:
        """Give the rest of the part, and convert its length."""
        yield from self._end_part()
        yield evolve(frame, n_samples=_scaled_up(frame.n_samples, self._agent_hz, self.rate_hz))

    def _end_part(self) -> Iterator[AudioOut]:
        part, self._part = self._part, None
        if part is not None:
            yield from self._handed(part, part.resampler.flush(), 0)

    def _handed(self, part: _Part, pcm: bytes, n_above: int) -> Iterator[AudioOut]:
        n_below = len(pcm) // (2 * part.last.channels)
        if part.stretch is None or not self._stretches:
            self._stretches.append(_Stretch(self._handed_above, self._handed_below, 0, 0))
        part.stretch = self._stretches[-1] = self._stretches[-1].longer(n_above, n_below)
        self._handed_above += n_above
        self._handed_below += n_below
        made = self._converted(part.last, pcm, part.below_end)
        part.below_end += n_below
        if pcm:
            yield made

    # --- the way back -------------------------------------------------------------------------

    @on(Played)
    def played(self, frame: Played) -> Played:
        """Convert the speaker's position to the line of the stages above."""
        while len(self._stretches) > 1 and self._stretches[0].below_end <= frame.played_samples:
            self._stretches.popleft()
        point = frame.mute_point
        return evolve(
            frame,
            handed_samples=self._handed_above,
            played_samples=self._above(frame.played_samples),
            rate_hz=self._agent_hz,
            mute_point=None if point is None else self._above(point),
        )

    @on(Interrupt)
    def interrupted(self, frame: Interrupt) -> Interrupt:
        """Convert the points on it, and forget the part that was cut."""
        point, onset = frame.mute_point, frame.onset_sample
        frame = evolve(
            frame,
            mute_point=None if point is None else self._above(point),
            onset_sample=None
            if onset is None
            else _scaled_down(onset, self.rate_hz, self._mic_resampler.from_hz),
        )
        self._part = None
        self._stretches.clear()
        return frame

    def _above(self, below: int) -> int:
        for stretch in self._stretches:
            if below < stretch.below_end or stretch is self._stretches[-1]:
                ahead = max(0, below - stretch.below)
                above = stretch.above + _scaled_down(ahead, self.rate_hz, self._agent_hz)
                return min(above, stretch.above_end)
        return self._handed_above  # all that was handed over was thrown away by a cut

    def _converted(self, frame: _Audio, pcm: bytes, start_sample: int) -> _Audio:
        return evolve(frame, pcm=pcm, rate_hz=self.rate_hz, start_sample=start_sample)


@frozen
class _Stretch:
    """Samples without a gap, on the lines above and below this stage."""

    above: int
    below: int
    n_above: int
    n_below: int

    @property
    def above_end(self) -> int:
        return self.above + self.n_above

    @property
    def below_end(self) -> int:
        return self.below + self.n_below

    def longer(self, n_above: int, n_below: int) -> _Stretch:
        return evolve(self, n_above=self.n_above + n_above, n_below=self.n_below + n_below)


class _Part:
    """The part of the agent's audio that is being converted."""

    def __init__(self, first: AudioOut, rate_hz: int) -> None:
        self.last = first
        self.resampler = Resampler(first.rate_hz, rate_hz, channels=first.channels, aligned=True)
        self.above_end = first.start_sample
        self.below_end = _scaled_up(first.start_sample, first.rate_hz, rate_hz)
        self.stretch: _Stretch | None = None

    def goes_on(self, frame: AudioOut) -> bool:
        """Whether ``frame`` is the next of this part."""
        expected = evolve(
            self.last, pcm=frame.pcm, start_sample=self.above_end, response_id=frame.response_id
        )
        return frame == expected


def _scaled_up(n: int, from_hz: int, to_hz: int) -> int:
    return -(-n * to_hz // from_hz)


def _scaled_down(n: int, from_hz: int, to_hz: int) -> int:
    return n * to_hz // from_hz
