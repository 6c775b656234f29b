"""A user who says what a script says, in words that the embedded server can hear.

His voice is noise, which webrtcvad and a loudness detector take for speech. The low byte of every
sample is the number of the word that is being spoken, so that ears which are given the words make
them out from the audio of an item, wherever a policy cuts it: a word counts as heard when more
than half of it is there. Nothing else depends on it.

The user does not listen to what the agent says, only to whether he speaks. He says "yes" to a
flight that he does not want, which is the point: it shows what was understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from attrs import define, field, frozen

from framepipe import AudioIn, Emit, Played, on
from framepipe.audio import samples_of, silence
from framepipe.bench.corpus import Dialogue, Step
from framepipe.frames import NS_PER_S

RATE_HZ: Final = 24_000

BLOCK_MS: Final = 40
"""Blocks of the microphone; words and pauses are whole blocks."""

FIRST_MS: Final = 1_000
"""When the user begins: webrtcvad takes the first noise that it ever hears for speech."""

QUIET_MS: Final = 150
"""The agent has stopped when nothing was heard of him for so long."""

PATIENCE_MS: Final = 6_000
"""Silence after which the user goes on with his script, answered or not."""

HANG_UP_MS: Final = 5_000
"""Silence after the last step that ends the call: longer than the longest way to an answer."""

LIMIT_MS: Final = 180_000
"""A call that does not end by itself ends here."""

_BLOCK: Final = RATE_HZ * BLOCK_MS // 1000
_NS_PER_MS: Final = 1_000_000
_NOISE: Final = (np.random.default_rng(1).standard_normal(4 * RATE_HZ) * 3_000).astype(np.int16)


@frozen
class Said:
    """A stretch of the user's speech without a pause.

    Attributes:
        step: Which step of the script.
        start_ms: When it began.
        end_ms: When it ended.
        is_last: The step ends with it.
    """

    step: int
    start_ms: int
    end_ms: int
    is_last: bool


@define
class Script:
    """Decides when the user says what. Times are milliseconds of the call.

    Sans-IO: ``agent_heard`` and ``word_at`` are told the time.
    """

    dialogue: Dialogue
    said: list[Said] = field(factory=list[Said])
    hellos: int = 0
    _next: int = 0
    _number: int = 0  # words before the next step
    _planned: dict[int, int] = field(factory=dict[int, int])  # block -> word
    _end_ms: int = 0
    _heard_ms: int | None = None
    _reply_ms: int | None = None  # when the reply to the last step began

    def agent_heard(self, at_ms: int) -> None:
        """Something of the agent was heard now."""
        begins = self._heard_ms is None or at_ms - self._heard_ms > QUIET_MS
        if at_ms >= self._end_ms and (self._reply_ms is None or begins):
            self._reply_ms = self._reply_ms if self._reply_ms is not None else at_ms
        self._heard_ms = at_ms

    def word_at(self, at_ms: int) -> int:
        """The number of the word that is spoken in the block that begins now; 0: none."""
        if at_ms >= self._end_ms and self._next < len(self.dialogue.steps):
            step = self.dialogue.steps[self._next]
            if self._is_time(step, at_ms):
                self._plan(step, at_ms)
        return self._planned.get(at_ms // BLOCK_MS, 0)

    def is_over(self, at_ms: int) -> bool:
        """All was said, and nobody has said anything since."""
        if at_ms >= LIMIT_MS:
            return True
        everything = self._next >= len(self.dialogue.steps)
        return everything and at_ms - max(self._end_ms, self._heard_ms or 0) >= HANG_UP_MS

    def _is_time(self, step: Step, at_ms: int) -> bool:
        if self._next == 0:
            return at_ms >= FIRST_MS
        if step.after_ms is not None:
            return at_ms >= self._end_ms + step.after_ms
        quiet_ms = at_ms - max(self._end_ms, self._heard_ms or 0)
        if quiet_ms >= PATIENCE_MS:
            self.hellos += 1
            return True
        if self._reply_ms is None:
            return False
        if step.over_ms is not None:
            return at_ms >= self._reply_ms + step.over_ms
        return quiet_ms >= max(step.gap_ms, QUIET_MS)

    def _plan(self, step: Step, at_ms: int) -> None:
        start = end = at_ms // BLOCK_MS
        stretches: list[tuple[int, int]] = []
        for part in step.spoken:
            n_blocks = max(1, round(part.ms / BLOCK_MS))
            if part.text:
                self._number += 1
                self._planned.update((end + nth, self._number) for nth in range(n_blocks))
            else:
                stretches.append((start, end))
                start = end + n_blocks
            end += n_blocks
        stretches.append((start, end))
        self.said += [
            Said(self._next, first * BLOCK_MS, last * BLOCK_MS, is_last=last == end)
            for first, last in stretches
        ]
        self._next += 1
        self._end_ms = end * BLOCK_MS
        self._reply_ms = None


class CorpusUser:
    """The microphone of a scripted user.

    Args:
        dialogue: What he says.

    Attributes:
        script: What he has said, and when.
        made_rates_hz: The microphone's rate.
    """

    made_rates_hz: Final = {AudioIn: RATE_HZ}

    def __init__(self, dialogue: Dialogue) -> None:
        self.script = Script(dialogue)
        self._played = 0

    def attach(self, emit: Emit[AudioIn]) -> None:
        """Keep the way to the time."""
        self._emit = emit

    @on(Played)
    def listen(self, frame: Played) -> Played:
        """Something of the agent was heard."""
        if frame.played_samples > self._played:
            self._played = frame.played_samples
            self.script.agent_heard(self._emit.now_ns() // _NS_PER_MS)
        return frame

    async def run(self, emit: Emit[AudioIn]) -> None:
        """Emit block by block, each at its time, until the call is over."""
        at_ms = 0
        while not self.script.is_over(at_ms):
            word = self.script.word_at(at_ms)
            captured_ns = (at_ms + BLOCK_MS) * _NS_PER_MS
            while not await emit.until(captured_ns):
                pass
            start = at_ms * RATE_HZ // 1000
            emit(
                AudioIn(
                    pcm=_spoken(start, word) if word else silence(_BLOCK),
                    rate_hz=RATE_HZ,
                    start_sample=start,
                    at_ns=captured_ns,
                )
            )
            at_ms += BLOCK_MS


def ears_for(dialogue: Dialogue) -> WordEars:
    """Ears that know the words of a dialogue."""
    words = [part for step in dialogue.steps for part in step.spoken if part.text]
    return WordEars([part.text for part in words], [part.ms for part in words])


class WordEars:
    """Makes the words out from the numbers in the audio; see `framepipe.realtime.mind.Ears`.

    Args:
        words: The words, in the order of their numbers.
        lengths_ms: How long each of them is spoken.
    """

    def __init__(self, words: Sequence[str], lengths_ms: Sequence[int]) -> None:
        self._words, self._lengths_ms = words, lengths_ms

    def __call__(self, _nth: int, pcm: bytes, /) -> str | None:
        """The words in a recording (24 kHz mono s16le); ``None``: there are none."""
        numbers = samples_of(pcm).astype(np.int64) & 0xFF
        counts = np.bincount(numbers, minlength=len(self._words) + 1)
        heard = [
            word
            for number, (word, ms) in enumerate(zip(self._words, self._lengths_ms, strict=True), 1)
            if counts[number] * 2_000 > ms * RATE_HZ
        ]
        return " ".join(heard) or None


def _spoken(start_sample: int, word: int) -> bytes:
    at = start_sample % (len(_NOISE) - _BLOCK)
    return ((_NOISE[at : at + _BLOCK] & ~0xFF) | word).astype("<i2").tobytes()


def ms_of(at_ns: int) -> float:
    """Nanoseconds as milliseconds."""
    return at_ns * 1_000 / NS_PER_S
