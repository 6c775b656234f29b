"""What a loudspeaker does with the agent's audio, and what the user has heard of it.

Sans-IO: audio and orders go in with the time at which they come, blocks of sound come out.

Theory of operation. Three lines of samples, all at the rate of the frames:

- the *sink line*: the samples handed over, numbered since the call began;
- the *ear line*: what reaches the ear, numbered from the start of the call on, silence included;
  sample ``i`` is heard ``device_ms`` after the moment ``i / rate``;
- each part's own samples, which only the log of what was heard speaks of.

Time is cut into blocks. At the *boundary* where a block begins, the next samples of the sink line
are *committed* to it: nothing can stop them any more. An order therefore acts on the first sample
that is not committed yet, and where the sound ends (`SpeakerCore.mute_point`) is known in the
same call: fade out from there, or from less if less is queued, then silence.

Nothing ticks. A boundary at which there is nothing to play is skipped, and the position is
computed from the time when somebody asks.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np
from attrs import define, evolve, frozen

from framepipe.audio import Ramp, Samples, mixed_to_mono, pcm_of, rms_dbfs, samples_of
from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S, AudioOut, Played

CUT_FADE_MS: Final = 8
"""Fade at a cut that no ``Mute`` came before. 5 to 12 ms click on no loudspeaker (promise P1)."""

QUEUE_S: Final = 600
"""Audio that may wait here, in seconds. Far more than ``Playout`` hands over at a time; without
``Playout`` a whole reply waits."""

HEARD_RUNS: Final = 4_096
"""Stretches that the log of what was heard keeps: an hour of a conversation in which somebody
interrupts every second."""

_NS_PER_MS: Final = 1_000_000

_UNITY: Final = Ramp(0, 0, 1.0, 1.0)


@frozen
class HeardRun:
    """A stretch of one part that was heard without a gap, fades included.

    Attributes:
        at_ns: Engine time at which its first sample reached the ear.
        turn: The agent's turn.
        item_id: The service's item, ``None`` for local audio.
        content_index: Place of the part within its item.
        start_sample: First sample heard, in the part's own samples.
        n_samples: How many.
    """

    at_ns: int
    turn: int
    item_id: str | None
    content_index: int
    start_sample: int
    n_samples: int


@frozen
class Block:
    """One block of sound. Blocks that are silence are not made.

    Attributes:
        index: Number of the block since the start of the call, 0 first.
        pcm: Its samples, mono.
    """

    index: int
    pcm: bytes


@define
class _Chunk:
    """Samples that wait, and the frame they came in."""

    frame: AudioOut
    samples: Samples
    start_sample: int
    line: int

    def split(self, n: int) -> _Chunk:
        """Take the first ``n`` samples away."""
        taken = _Chunk(self.frame, self.samples[:n], self.start_sample, self.line)
        self.samples = self.samples[n:]
        self.start_sample += n
        self.line += n
        return taken


@frozen
class _Committed:
    """Samples under way to the ear: ``n`` from ``ear`` on are those from ``line`` on."""

    ear: int
    line: int
    n: int
    level_dbfs: float


class SpeakerCore:
    """A loudspeaker with a queue that can be frozen, in blocks of ``block_ms``.

    Args:
        start_ns: Engine time of the first boundary.
        rate_hz: Rate of the line until the first audio tells its own.
        block_ms: Length of a block.
        device_ms: How long a committed block takes to the ear.

    Attributes:
        rate_hz: Samples per second of the line.
        block_samples: Samples of a block at that rate.
        handed_samples: Samples taken so far.
        mute_point: While muted, the first sample that was replaced by silence.
        silent_since_ns: When the latest silence that was ordered reached the ear.
        heard_log: What was heard last, in the order it was heard: one entry for each stretch, at
            most `HEARD_RUNS`.

    Raises:
        FrameError: A length is not positive, or a block is not whole samples.
    """

    def __init__(
        self, *, start_ns: int, rate_hz: int = 24_000, block_ms: int = 10, device_ms: int = 0
    ) -> None:
        if block_ms <= 0 or device_ms < 0:
            raise FrameError(
                f"block_ms is {block_ms} and device_ms {device_ms}; the first must be 1 or more, "
                "the second 0 or more"
            )
        self.start_ns = start_ns
        self.block_ms = block_ms
        self.device_ms = device_ms
        self.handed_samples = 0
        self.mute_point: int | None = None
        self.silent_since_ns: int | None = None
        self.heard_log: deque[HeardRun] = deque(maxlen=HEARD_RUNS)
        self._block_ns = block_ms * _NS_PER_MS
        self._ear_start_ns = start_ns + device_ms * _NS_PER_MS
        self._set_rate(rate_hz)
        self._next_block = 0
        self._queue: deque[_Chunk] = deque()
        self._queued = 0
        # The fade of a cut, gain already applied: no order can stop or change it any more.
        self._fade: deque[_Chunk] = deque()
        self._faded = 0
        self._ramp = _UNITY
        self._is_fresh = True
        self._under_way: deque[_Committed] = deque()
        self._played = 0
        self._audible_until = 0  # ear line; one past the last sample that was not silence
        self._blocks: list[Block] = []
        self._reported: tuple[int, int | None] | None = (0, None)

    def _set_rate(self, rate_hz: int) -> None:
        if rate_hz <= 0 or rate_hz * self.block_ms % 1000:
            raise FrameError(
                f"{self.block_ms} ms at {rate_hz} Hz is not whole samples; choose another block_ms"
            )
        self.rate_hz = rate_hz
        self.block_samples = rate_hz * self.block_ms // 1000

    # --- orders -------------------------------------------------------------------------------

    def hand(self, frame: AudioOut, now_ns: int) -> None:
        """Take audio; it follows what waits already.

        Raises:
            FrameError: Another rate than before, or more than `QUEUE_S` seconds wait.
        """
        self.advance(now_ns)
        if frame.rate_hz != self.rate_hz:
            if self.handed_samples:
                raise FrameError(
                    f"audio of {frame.rate_hz} Hz after {self.rate_hz} Hz; a speaker plays one "
                    f"rate a call, put Resample({self.rate_hz}) before it"
                )
            self._set_rate(frame.rate_hz)
        n = frame.n_samples
        if not n:
            return
        if self._queued + n > QUEUE_S * self.rate_hz:
            raise FrameError(
                f"{self._queued + n} samples wait for the speaker; at most {QUEUE_S} s may, put "
                "Playout() before it"
            )
        if self._is_fresh:
            self._is_fresh = False
            if frame.start_sample and self._ramp.stop != 0.0:
                # The first audio after a cut begins in the middle of a word.
                self._fade_to(self._ramp.stop, CUT_FADE_MS, start=0.0)
        samples = samples_of(mixed_to_mono(frame.pcm_bytes(), frame.channels))
        self._queue.append(_Chunk(frame, samples, frame.start_sample, self.handed_samples))
        self._queued += n
        self.handed_samples += n

    def mute(self, now_ns: int, *, gain_db: float = -math.inf, fade_ms: int = CUT_FADE_MS) -> None:
        """Fade to silence and freeze the queue, or, with a finite gain, go on more quietly.

        A second silencing while silent changes nothing.
        """
        self.advance(now_ns)
        gain = min(1.0, 10.0 ** (gain_db / 20))
        if gain == 0.0 and self.mute_point is None:
            self._silence(fade_ms)
        elif gain > 0.0:
            self._fade_to(gain, fade_ms)
            self.mute_point = None

    def unmute(self, now_ns: int, *, fade_ms: int = CUT_FADE_MS) -> None:
        """Go on with the very next sample, fading in from where the gain is."""
        self.advance(now_ns)
        self._fade_to(1.0, fade_ms)
        self.mute_point = None

    def cut(self, now_ns: int) -> int:
        """Fade out unless silent already, throw away what waits, and be unmuted.

        From here on everything handed over counts as played: it was heard or thrown away.

        Returns:
            The mute point: the first sample of the line that will not be heard.
        """
        self.advance(now_ns)
        if self.mute_point is None:
            self._silence(CUT_FADE_MS)
        mute_point = self.mute_point
        assert mute_point is not None, "just silenced"
        for chunk in self._take(mute_point - self._next_line):
            self._fade.append(chunk)
            self._faded += len(chunk.samples)
        self._queue.clear()
        self._queued = 0
        self._played = self.handed_samples
        self.mute_point = None
        self._ramp = _UNITY
        self._is_fresh = True
        self._reported = None  # worth telling, even when nothing sounds
        return mute_point

    # --- time ---------------------------------------------------------------------------------

    def advance(self, now_ns: int) -> None:
        """Commit every block whose boundary has come. All orders do this first."""
        while self._boundary_ns(self._next_block) <= now_ns:
            if not self._is_playing:
                self._next_block = (now_ns - self.start_ns) // self._block_ns + 1
                return
            self._commit()

    def n_blocks(self, now_ns: int) -> int:
        """How many blocks have begun, silent ones included."""
        self.advance(now_ns)
        return self._next_block

    def take_blocks(self) -> list[Block]:
        """The blocks committed since the last call."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def heard_ns(self, block: Block) -> int:
        """When a block's first sample reaches the ear."""
        return self._ear_ns(block.index * self.block_samples)

    def next_ns(self) -> int | None:
        """The next time at which something happens by itself; ``None``: nothing will."""
        if self._is_playing or self._under_way:
            return self._boundary_ns(self._next_block)
        return None

    def is_idle(self, now_ns: int) -> bool:
        """Whether everything handed over was heard or thrown away."""
        self.advance(now_ns)
        self._settle(now_ns)
        return not (self._queued or self._faded or self._under_way)

    def position(self, now_ns: int, *, final: bool = False) -> Played:
        """Where the ear is at ``now_ns``, to the sample."""
        self.advance(now_ns)
        ear = self._settle(now_ns)
        played, level = self._played, -math.inf
        if self._under_way and self._under_way[0].ear <= ear:
            now = self._under_way[0]
            played, level = max(played, now.line + ear - now.ear), now.level_dbfs
        return Played(
            handed_samples=self.handed_samples,
            played_samples=played,
            rate_hz=self.rate_hz,
            level_dbfs=level,
            mute_point=self.mute_point,
            final=final,
            at_ns=now_ns,
        )

    def report(self, now_ns: int) -> Played | None:
        """The position, if it is another than at the last report."""
        played = self.position(now_ns)
        news = (played.played_samples, played.mute_point)
        if news == self._reported:
            return None
        self._reported = news
        return played

    # --- inside -------------------------------------------------------------------------------

    @property
    def _next_line(self) -> int:
        """The first sample that an order can still act on."""
        return self.handed_samples - self._queued

    @property
    def _is_playing(self) -> bool:
        if self._faded:
            return True
        return self._queued > 0 and not self._is_faded_out

    @property
    def _is_faded_out(self) -> bool:
        return self.mute_point == self._next_line

    def _boundary_ns(self, block: int) -> int:
        return self.start_ns + block * self._block_ns

    def _silence(self, fade_ms: int) -> None:
        # A fade longer than what waits would break off in the middle: an audible click.
        n = min(self._samples(fade_ms), self._queued)
        # Where nothing waits it is silent already; what comes after an unmute fades in from there.
        self._fade_to(0.0, n=n, start=None if n else 0.0)
        self.mute_point = self._next_line + n
        sounding = self._faded + n
        ear = self._next_block * self.block_samples + sounding if sounding else self._audible_until
        self.silent_since_ns = self._ear_ns(ear)

    def _fade_to(
        self, gain: float, fade_ms: int = 0, *, n: int | None = None, start: float | None = None
    ) -> None:
        at = self._next_line
        if start is None:
            # From the gain of the sample before, which is silence when the fade out is over: two
            # orders in one block are one ramp, not two steps.
            start = 0.0 if self._is_faded_out else self._ramp.gain(at - 1)
        self._ramp = Ramp(at, self._samples(fade_ms) if n is None else n, start, gain)

    def _samples(self, ms: int) -> int:
        return max(0, self.rate_hz * ms // 1000)

    def _ear_ns(self, ear: int) -> int:
        return self._ear_start_ns + ear * NS_PER_S // self.rate_hz

    def _settle(self, now_ns: int) -> int:
        """Forget what was heard; say how much of the ear line was."""
        ear = max(0, now_ns - self._ear_start_ns) * self.rate_hz // NS_PER_S
        while self._under_way and self._under_way[0].ear + self._under_way[0].n <= ear:
            heard = self._under_way.popleft()
            self._played = max(self._played, heard.line + heard.n)
        return ear

    def _take(self, n: int) -> list[_Chunk]:
        """The next ``n`` samples of the queue, with their gain."""
        taken: list[_Chunk] = []
        while n > 0:
            chunk = self._queue[0].split(min(n, len(self._queue[0].samples)))
            if not len(self._queue[0].samples):
                self._queue.popleft()
            size = len(chunk.samples)
            if not (self._ramp.stop == 1.0 and self._ramp.is_over(chunk.line)):
                gains = self._ramp.gains(chunk.line, size)
                chunk.samples = samples_of(pcm_of(chunk.samples * gains))
            self._queued -= size
            n -= size
            taken.append(chunk)
        return taken

    def _take_fade(self, n: int) -> list[_Chunk]:
        taken: list[_Chunk] = []
        while n > 0:
            taken.append(self._fade[0].split(min(n, len(self._fade[0].samples))))
            if not len(self._fade[0].samples):
                self._fade.popleft()
            self._faded -= len(taken[-1].samples)
            n -= len(taken[-1].samples)
        return taken

    def _commit(self) -> None:
        chunks = self._take_fade(min(self.block_samples, self._faded))
        room = self.block_samples - sum(len(chunk.samples) for chunk in chunks)
        last = self.handed_samples if self.mute_point is None else self.mute_point
        chunks += self._take(min(room, last - self._next_line))
        sound = np.zeros(self.block_samples, np.int16)
        first_ear = self._next_block * self.block_samples
        at = 0
        for chunk in chunks:
            size = len(chunk.samples)
            sound[at : at + size] = chunk.samples
            self._note(chunk, first_ear + at)
            at += size
        pcm = sound.astype("<i2").tobytes()
        level = rms_dbfs(pcm)
        ear = first_ear
        for chunk in chunks:
            self._under_way.append(_Committed(ear, chunk.line, len(chunk.samples), level))
            ear += len(chunk.samples)
        self._blocks.append(Block(self._next_block, pcm))
        self._next_block += 1

    def _note(self, chunk: _Chunk, ear: int) -> None:
        """Write down that a chunk is heard from ``ear`` on."""
        run = HeardRun(
            self._ear_ns(ear),
            chunk.frame.turn,
            chunk.frame.item_id,
            chunk.frame.content_index,
            chunk.start_sample,
            len(chunk.samples),
        )
        last = self.heard_log[-1] if self.heard_log else None
        goes_on = last is not None and run == evolve(
            last,
            at_ns=run.at_ns,
            start_sample=last.start_sample + last.n_samples,
            n_samples=run.n_samples,
        )
        if last is not None and goes_on and ear == self._audible_until:
            self.heard_log[-1] = evolve(last, n_samples=last.n_samples + run.n_samples)
        else:
            self.heard_log.append(run)
        self._audible_until = ear + run.n_samples
