"""Which samples of which item the user has heard, and which come next.

The service sends a reply much faster than it can be spoken. The rest waits here, in order, and is
handed to the speaker a little ahead of the ear. When the user interrupts, this is the only place
that knows what was heard (promise P2), and what was not is kept for a while, so that an
interruption which was none can be undone to the sample (promise P3).

Sans-IO: facts go in through `PlayoutLedger.receive`, `PlayoutLedger.cut` and
`PlayoutLedger.undo`, frames come out of `PlayoutLedger.next_frame` one at a time, because the
answer to one frame (a hold, a cut) may change which is the next. Time is an argument, and
`PlayoutLedger.deadline_ns` the only timer.

Theory of operation. A turn has parts, one for each ``(output_index, content_index)``. A part's
samples are received, then handed, then heard. Handed samples stay in a short log of blocks until
they are heard for certain. A cut takes its *mute point*, the first sample that the speaker
replaced by silence, and splits that log there: blocks before it were heard; those behind it go,
with everything that still waited, to the parking place, or back into their queue if their turn
is newer than the cut.

Order of output: an undone remainder first, as it was parked, then by turn, output index and
content index, although parts interleave on the wire. A part that has begun is finished first, and a
part that is not done keeps the ones behind it waiting.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from attrs import define, evolve, field, frozen

from framepipe.conversation.sinkline import SinkLine
from framepipe.errors import FrameError
from framepipe.frames import (
    SAMPLE_BYTES,
    AudioDone,
    AudioOut,
    Drained,
    DropParked,
    End,
    Heard,
    Hold,
    Interrupt,
    Played,
    Problem,
    Release,
    ReplyReady,
    Withdrawn,
)

AHEAD_MS: Final = 60
"""Audio handed over before the speaker needs it. Less runs dry on a busy machine; more would be
audio that no longer waits here but in a device."""

BLOCK_MS: Final = 20
"""Shortest piece that audio is split into. Single samples would be as exact, and dearer."""

TOLERANCE_MS: Final = 120
"""A part that is done and lacks no more than this counts as wholly heard. The service's audio was
measured 85 ms shorter than its bytes suggest, and a needless truncate loses the transcript."""

SETTLE_NS: Final = 150_000_000
"""How long a truncate may wait for the speaker's word on the mute point; then an estimate will
have to do."""

CAPACITY_BYTES: Final = 600 * 24_000 * SAMPLE_BYTES
"""Ten minutes of the service's audio. Nobody listens that long; a runaway response is refused."""

_FORGET_MS: Final = 1_000
"""A handed block may be forgotten this long after it must have been heard, which is longer than
any estimate of the ear can be wrong."""

Fact: TypeAlias = AudioOut | AudioDone | Withdrawn | Played | Hold | Release | DropParked | End
"""What the ledger is told through `PlayoutLedger.receive`."""

Output: TypeAlias = AudioOut | AudioDone | ReplyReady | Drained | Heard | Problem
"""What the ledger makes."""


@define(eq=False)
class _Part:
    """One content part of one item. Positions are the part's own samples."""

    item_id: str | None
    output_index: int
    content_index: int
    received: int = 0
    handed: int = 0
    queue: deque[AudioOut] = field(factory=deque[AudioOut])
    done: AudioDone | None = None
    done_passed: bool = False
    refused: int = 0

    def key(self) -> tuple[int, int]:
        return (self.output_index, self.content_index)


@define(eq=False)
class _Turn:
    """One turn that is not over.

    ``sealed``: nothing more will come, done or not. ``begun``: the speaker was handed some of it.
    ``parts``: in the order in which they are heard.
    """

    number: int
    sealed: bool = False
    is_undone: bool = False
    announced: bool = False
    begun: bool = False
    parts: list[_Part] = field(factory=list[_Part])
    end: int = 0  # sink line, behind its last handed sample

    def rank(self) -> tuple[bool, int]:
        # An undone remainder goes before every survivor.
        return (not self.is_undone, self.number)


@frozen(eq=False)
class _Block:
    """A frame handed over, and where on the sink line it begins."""

    turn: _Turn
    part: _Part
    frame: AudioOut
    start: int

    @property
    def end(self) -> int:
        return self.start + self.frame.n_samples


@define(eq=False)
class _Cut:
    """What a cut left behind: for the account until it is settled, and for an undo."""

    parts: list[_Part]
    waiting: list[_Part]  # those that have more to hand over, in the order of the output
    blocks: list[_Block]
    mute_point: int
    at_ns: int

    def heard(self, part: _Part) -> int:
        behind = (_samples_behind(b, self.mute_point) for b in self.blocks if b.part is part)
        return part.handed - sum(behind)

    def unheard(self) -> Iterator[tuple[_Part, AudioOut]]:
        """The contiguous remainder: it ends where a part is not complete."""
        for block in self.blocks:
            n = _samples_behind(block, self.mute_point)
            if n:
                yield block.part, _tail(block.frame, n)
        for part in self.waiting:
            yield from ((part, frame) for frame in part.queue)
            if part.done is None:
                return


class PlayoutLedger:
    """Hands a reply to the speaker just in time, and accounts for what was heard of it.

    After each fact call `next_frame` until it returns ``None``; then wait until `deadline_ns`
    or the next fact.

    Between here and the speaker no stage may hold audio back, and nothing may change its rate:
    the positions of both must mean the same samples.

    Args:
        ahead_ms: Audio the speaker may have in advance, beside what its device holds.
        block_ms: Shortest piece that audio is split into, at most ``ahead_ms``.
        tolerance_ms: What may be missing of a part that is done and counts as wholly heard.
        capacity_bytes: Audio that may wait, parked audio included.

    Attributes:
        late_samples: Came after their turn was cut, and were dropped.
        refused_samples: Did not fit, and were refused.
        waiting_bytes: Audio that waits to be handed over, or is parked.

    Raises:
        FrameError: The two lengths make no sense.
    """

    def __init__(
        self,
        *,
        ahead_ms: int = AHEAD_MS,
        block_ms: int = BLOCK_MS,
        tolerance_ms: int = TOLERANCE_MS,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> None:
        if not 0 < block_ms <= ahead_ms:
            raise FrameError(
                f"block_ms is {block_ms} and ahead_ms {ahead_ms}; it must be 0 < block_ms <= "
                "ahead_ms, or no block would ever fit"
            )
        self.late_samples = 0
        self.refused_samples = 0
        self.waiting_bytes = 0
        self._ahead_ms = ahead_ms
        self._block_ms = block_ms
        self._tolerance_ms = tolerance_ms
        self._capacity_bytes = capacity_bytes
        self._line = SinkLine(24_000)
        self._channels = 1
        self._turns: list[_Turn] = []
        self._begun: tuple[_Turn, _Part] | None = None
        self._blocks: deque[_Block] = deque()
        self._said: deque[Output] = deque()
        self._held_since_ns: int | None = None
        self._mute_point: int | None = None
        self._cut_turn = 0
        self._cut_at = 0  # sink line: all before it is over
        self._parked: _Cut | None = None
        self._unsettled: _Cut | None = None
        self._ended = False

    # --- facts ----------------------------------------------------------------------------------

    def receive(self, fact: Fact, at_ns: int) -> None:
        """Take note of a fact.

        Args:
            fact: A frame. A `Played` that is stamped counts for the time of its stamp.
            at_ns: Engine time.

        Raises:
            FrameError: Audio that breaks the sequence of its part, or the format of the call.
        """
        match fact:
            case AudioOut():
                self._receive_audio(fact)
            case AudioDone():
                self._receive_done(fact)
            case Withdrawn():
                self._withdraw(fact.turn)
            case Played():
                self._receive_report(fact, at_ns)
            case Hold():
                if self._held_since_ns is None:
                    self._held_since_ns = at_ns
                    self._line.stop(at_ns)
            case Release():
                self._held_since_ns = self._mute_point = None
                self._line.release(at_ns)
            case DropParked():
                self._unpark()
            case End():
                self._ended = True

    def cut(self, interrupt: Interrupt, at_ns: int) -> Interrupt:
        """Cut everything up to a turn: account for it, park what was not heard, end a hold.

        Audio of newer turns that the speaker has thrown away is queued again, and such a turn is
        announced again by a `ReplyReady`.

        Args:
            interrupt: With the speaker's mute point, if that knows it.
            at_ns: Engine time.

        Returns:
            The interrupt with what was heard of every part that was not over. The accounts are
            final if the mute point is known; otherwise a final `Heard` follows for each within
            150 ms.
        """
        self._settle()
        newest = max((turn.number for turn in self._turns), default=self._cut_turn)
        line = newest if interrupt.turn is None else interrupt.turn
        self._cut_turn = max(self._cut_turn, line)
        mute_point = self._mute_point if interrupt.mute_point is None else interrupt.mute_point
        self._forget_heard(at_ns)
        self._forget_unbegun(line)
        gone = [turn for turn in self._turns if turn.number <= line]
        cut = _Cut(
            parts=[part for turn in gone for part in turn.parts],
            waiting=[part for turn, part in self._unspent() if turn in gone and turn.begun],
            blocks=[block for block in self._blocks if block.turn in gone],
            mute_point=self._clamped(self._line.taken(at_ns) if mute_point is None else mute_point),
            at_ns=at_ns,
        )
        is_final = mute_point is not None or all(b.end <= self._line.floor for b in cut.blocks)
        self._turns = [turn for turn in self._turns if turn not in gone]
        if self._begun is not None and self._begun[0] in gone:
            self._begun = None
        self._requeue(cut.mute_point)
        self._line.cut(at_ns)
        self._cut_at = self._line.handed
        self._held_since_ns = self._mute_point = None
        if any(turn.begun for turn in gone):  # else what the user was listening to stays parked
            self._unpark()
            self._parked = cut
        if not is_final:
            self._unsettled = cut
        heard = tuple(self._account(part, cut.heard(part), final=is_final) for part in cut.parts)
        return evolve(interrupt, heard=(*interrupt.heard, *heard))

    def heard_so_far(self, at_ns: int) -> tuple[Heard, ...]:
        """Where the ear is in the parts of the turn that is being heard; not settled."""
        mute_point = self._clamped(self._line.taken(at_ns))
        audible = [turn for turn in self._turns if turn.begun][:1]
        return tuple(
            self._account(part, self._heard_at(part, mute_point), final=False)
            for turn in audible
            for part in turn.parts
        )

    def undo(self, turn: int) -> None:
        """Let the parked remainder go on as a new turn, before everything else.

        The turn is `Drained` at once if nothing is parked. A turn that was announced and has not
        begun is announced again when it is due.

        Args:
            turn: A turn just opened for it.
        """
        undone = _Turn(turn, sealed=True, is_undone=True)
        for waiting in self._turns:
            waiting.announced = waiting.begun
        parked, self._parked = self._parked, None
        copies: dict[_Part, _Part] = {}
        if parked is not None:
            self.waiting_bytes -= sum(_n_bytes(part.queue) for part in parked.parts)
            for old, frame in parked.unheard():
                part = copies.get(old)
                if part is None:
                    done = None if old.done is None else evolve(old.done, turn=turn)
                    part = evolve(
                        old,
                        received=frame.start_sample,
                        handed=frame.start_sample,
                        queue=deque(),
                        done=done,
                        done_passed=False,
                    )
                    copies[old] = part
                    undone.parts.append(part)
                part.queue.append(evolve(frame, turn=turn))
                part.received += frame.n_samples
                self.waiting_bytes += _n_bytes([frame])
        self._add(undone)

    # --- what comes next ------------------------------------------------------------------------

    def next_frame(self, at_ns: int) -> Output | None:
        """The next frame to emit at ``at_ns``; ``None``: wait for `deadline_ns` or a fact."""
        if self._unsettled is not None and at_ns >= self._unsettled.at_ns + SETTLE_NS:
            self._settle()
        self._drain(at_ns)
        if self._said:
            return self._said.popleft()
        current = self._current()
        if current is None:
            return None
        turn, part = current
        if not part.queue:
            return self._pass_done(turn, part)
        if self._held_since_ns is not None or self._room(at_ns) < self._wanted(part):
            return None
        if not turn.announced:
            turn.announced = True
            return ReplyReady(turn=turn.number, at_ns=at_ns)
        return self._hand(turn, part, at_ns)

    @property
    def deadline_ns(self) -> int | None:
        """When `next_frame` may have something to say by itself; ``None``: only after a fact."""
        times = [None if self._unsettled is None else self._unsettled.at_ns + SETTLE_NS]
        current = self._current()
        if current is not None and current[1].queue and self._held_since_ns is None:
            ahead = self._samples(self._ahead_ms) - self._wanted(current[1])
            times.append(self._line.when_taken(self._line.handed - ahead))
        times += [self._line.when_heard(turn.end) for turn in self._turns if self._is_handed(turn)]
        return min((time for time in times if time is not None), default=None)

    @property
    def is_over(self) -> bool:
        """Whether the end has come and everything received was heard or cut."""
        return self._ended and not (self._turns or self._said or self._unsettled)

    # --- receiving ------------------------------------------------------------------------------

    def _receive_audio(self, frame: AudioOut) -> None:
        if frame.turn <= self._cut_turn:
            self.late_samples += frame.n_samples
            return
        self._check_format(frame)
        part = self._part_of(frame)
        n = frame.n_samples
        if part.refused or self.waiting_bytes + _n_bytes([frame]) > self._capacity_bytes:
            self._refuse(part, n)
            return
        if part.done is not None or frame.start_sample != part.received:
            raise FrameError(
                f"AudioOut of item {part.item_id!r} starts at sample {frame.start_sample}, but "
                f"{part.received} have come{' and it was done' if part.done else ''}; the frames "
                "of a part follow one another without a gap, and AudioDone is the last"
            )
        if n:
            part.queue.append(frame)
            part.received += n
            self.waiting_bytes += _n_bytes([frame])

    def _check_format(self, frame: AudioOut) -> None:
        if self._line.handed == 0 and not self._turns:
            self._line.rate_hz = frame.rate_hz
            self._channels = frame.channels
        if (frame.rate_hz, frame.channels) != (self._line.rate_hz, self._channels):
            raise FrameError(
                f"AudioOut of {frame.rate_hz} Hz and {frame.channels} channels after "
                f"{self._line.rate_hz} Hz and {self._channels}; a call has one format, put "
                f"Resample({self._line.rate_hz}) before Playout"
            )

    def _receive_done(self, frame: AudioDone) -> None:
        if frame.turn <= self._cut_turn:
            return
        part = self._part_of(frame)
        if part.done is None:
            part.done = frame

    def _part_of(self, frame: AudioOut | AudioDone) -> _Part:
        """Where a frame belongs; made if it is new."""
        turn = next((turn for turn in self._turns if turn.number == frame.turn), None)
        if turn is None:
            turn = _Turn(frame.turn)
            self._add(turn)
        for part in turn.parts:
            if part.item_id == frame.item_id and part.key() == _key(frame):
                return part
        part = _Part(frame.item_id, frame.output_index, frame.content_index)
        insort(turn.parts, part, key=_Part.key)
        return part

    def _add(self, turn: _Turn) -> None:
        turn.end = self._line.handed
        self._turns.append(turn)
        self._turns.sort(key=_Turn.rank)

    def _refuse(self, part: _Part, n_samples: int) -> None:
        # The rest of the part goes, too: what comes after a gap must not be heard.
        if not part.refused:
            self._said.append(
                Problem(
                    where="Playout",
                    code="playout_full",
                    message=f"{self.waiting_bytes} bytes of audio wait and {self._capacity_bytes} "
                    f"may; the rest of item {part.item_id!r} is refused from sample "
                    f"{part.received} on: interrupt it, or ask for shorter answers",
                )
            )
        part.refused += n_samples
        self.refused_samples += n_samples

    def _receive_report(self, report: Played, at_ns: int) -> None:
        measured_ns = min(report.at_ns or at_ns, at_ns)
        self._line.report(report.played_samples, measured_ns)
        mute_point = report.mute_point
        if mute_point is None:
            return
        # What a cut threw away ends where the audio of a later hold begins.
        cut, held_since_ns = self._unsettled, self._held_since_ns
        if cut is not None and measured_ns >= cut.at_ns and mute_point <= self._cut_at:
            cut.mute_point = mute_point
            self._settle()
        if held_since_ns is None or measured_ns < held_since_ns or mute_point < self._cut_at:
            return
        if self._mute_point is None:  # fixed until the release
            self._mute_point = mute_point
            self._line.stop_at(mute_point)

    # --- handing --------------------------------------------------------------------------------

    def _current(self) -> tuple[_Turn, _Part] | None:
        return next(self._unspent(), None)

    def _unspent(self) -> Iterator[tuple[_Turn, _Part]]:
        """What has more to hand over, or may get more: what has begun, then in order."""
        begun = self._begun
        if begun is not None and not self._is_spent(*begun):
            yield begun
        for turn in self._turns:
            for part in turn.parts:
                if not self._is_spent(turn, part) and (begun is None or part is not begun[1]):
                    yield turn, part

    def _is_spent(self, turn: _Turn, part: _Part) -> bool:
        """Whether nothing of a part is left to hand over, and nothing will come."""
        if part.queue:
            return False
        return part.done_passed if part.done is not None else self._ended or turn.sealed

    def _is_handed(self, turn: _Turn) -> bool:
        return all(self._is_spent(turn, part) for part in turn.parts)

    def _pass_done(self, turn: _Turn, part: _Part) -> AudioDone | None:
        if part.done is None:
            return None  # an underrun, or the part has just begun
        part.done_passed = True
        turn.end = self._line.handed
        return part.done

    def _room(self, at_ns: int) -> int:
        return self._samples(self._ahead_ms) - (self._line.handed - self._line.taken(at_ns))

    def _wanted(self, part: _Part) -> int:
        return min(self._samples(self._block_ms), part.queue[0].n_samples)

    def _hand(self, turn: _Turn, part: _Part, at_ns: int) -> AudioOut:
        turn.begun = True
        if not turn.is_undone:
            self._unpark()  # a newer turn is heard: the older one cannot go on any more
        frame = part.queue.popleft()
        room = self._room(at_ns)
        if frame.n_samples > room:
            part.queue.appendleft(_tail(frame, frame.n_samples - room))
            frame = _head(frame, room)
        self._forget_heard(at_ns)
        self._blocks.append(_Block(turn, part, frame, self._line.handed))
        self._line.hand(frame.n_samples, at_ns)
        self.waiting_bytes -= _n_bytes([frame])
        part.handed += frame.n_samples
        turn.end = self._line.handed
        self._begun = turn, part
        return frame

    def _drain(self, at_ns: int) -> None:
        heard = self._line.heard(at_ns)
        for turn in list(self._turns):
            if self._is_handed(turn) and turn.end <= heard:
                self._turns.remove(turn)
                for part in turn.parts:
                    if part.received:
                        self._said.append(self._account(part, part.handed, final=True))
                self._said.append(Drained(turn=turn.number, at_ns=at_ns))

    def _withdraw(self, number: int) -> None:
        """What is not handed of a turn will not be; it is over when the rest is heard."""
        if number <= self._cut_turn:
            return
        turn = next((turn for turn in self._turns if turn.number == number), None)
        if turn is None:
            turn = _Turn(number)
            self._add(turn)
        for part in turn.parts:
            self.waiting_bytes -= _n_bytes(part.queue)
            part.queue.clear()
            part.done = None
        turn.sealed = True
        if not turn.begun:
            turn.end = 0
        if self._begun is not None and self._begun[0] is turn:
            self._begun = None

    def _heard_at(self, part: _Part, mute_point: int) -> int:
        behind = (_samples_behind(b, mute_point) for b in self._blocks if b.part is part)
        return part.handed - sum(behind)

    # --- cutting --------------------------------------------------------------------------------

    def _clamped(self, mute_point: int) -> int:
        return min(max(mute_point, self._line.floor), self._line.handed)

    def _forget_unbegun(self, line: int) -> None:
        """What a cut takes before the first sample was heard is not parked: it is answered anew."""
        for turn in self._turns:
            for part in turn.parts if turn.number <= line and not turn.begun else ():
                self.waiting_bytes -= _n_bytes(part.queue)
                part.queue.clear()

    def _requeue(self, mute_point: int) -> None:
        """Take back what the speaker threw away of turns that survive."""
        for block in reversed(self._blocks):
            n = _samples_behind(block, mute_point)
            if n and block.turn in self._turns:
                block.part.queue.appendleft(_tail(block.frame, n))
                block.part.handed -= n
                self.waiting_bytes += _n_bytes([block.part.queue[0]])
                self._begun = block.turn, block.part
        for turn in self._turns:
            turn.announced = False
        self._blocks.clear()

    def _settle(self) -> None:
        cut, self._unsettled = self._unsettled, None
        if cut is not None:
            self._said += [self._account(part, cut.heard(part), final=True) for part in cut.parts]

    def _account(self, part: _Part, heard: int, *, final: bool) -> Heard:
        missing = part.received - heard
        is_done = part.done is not None and not part.refused
        return Heard(
            item_id=part.item_id,
            content_index=part.content_index,
            heard_samples=heard,
            received_samples=part.received,
            final=final,
            rate_hz=self._line.rate_hz,
            complete=is_done and missing <= self._samples(self._tolerance_ms),
        )

    def _unpark(self) -> None:
        parked, self._parked = self._parked, None
        if parked is not None:
            self.waiting_bytes -= sum(_n_bytes(part.queue) for part in parked.parts)

    def _forget_heard(self, at_ns: int) -> None:
        long_heard = self._line.heard(at_ns) - self._samples(_FORGET_MS)
        while self._blocks and self._blocks[0].end <= long_heard:
            self._blocks.popleft()

    def _samples(self, ms: int) -> int:
        return self._line.rate_hz * ms // 1000


def _key(frame: AudioOut | AudioDone) -> tuple[int, int]:
    return (frame.output_index, frame.content_index)


def _n_bytes(frames: Iterable[AudioOut]) -> int:
    return sum(frame.n_samples * SAMPLE_BYTES * frame.channels for frame in frames)


def _samples_behind(block: _Block, mute_point: int) -> int:
    return min(max(block.end - mute_point, 0), block.frame.n_samples)


def _head(frame: AudioOut, n_samples: int) -> AudioOut:
    return evolve(frame, pcm=frame.pcm_bytes()[: n_samples * SAMPLE_BYTES * frame.channels])


def _tail(frame: AudioOut, n_samples: int) -> AudioOut:
    if n_samples == frame.n_samples:
        return frame
    skipped = frame.n_samples - n_samples
    pcm = frame.pcm_bytes()[skipped * SAMPLE_BYTES * frame.channels :]
    return evolve(frame, pcm=pcm, start_sample=frame.start_sample + skipped)
