"""The ledger against a loudspeaker that is a list, and an ear that is a list of samples.

One sample lasts one millisecond here, so the world can be stepped sample by sample. The world
calls the ledger only after facts and at its deadlines: a deadline that is missing is a silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import hypothesis.strategies as st
import pytest
from attrs import define, evolve, field
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from framepipe.conversation.playout import Fact, PlayoutLedger
from framepipe.frames import (
    AudioDone,
    AudioOut,
    Drained,
    DropParked,
    End,
    Heard,
    Hold,
    Interrupt,
    Played,
    Release,
    ReplyReady,
    Withdrawn,
)

MS = 1_000_000
AHEAD = 60
TOLERANCE = 120

Ident = tuple[str, int]


def _pcm(item: int, start: int, n: int) -> bytes:
    return b"".join(
        ((item * 7919 + i) % 65536).to_bytes(2, "little") for i in range(start, start + n)
    )


@define(eq=False)
class Part:
    turn: int
    item: int
    output_index: int
    received: int = 0
    done: bool = False
    withdrawn: bool = False

    @property
    def item_id(self) -> str:
        return f"item{self.item}"


@define(eq=False)
class Speaker:
    """Takes one sample a millisecond; the ear gets it `latency` later."""

    latency: int
    queue: deque[tuple[int, Ident]] = field(factory=deque[tuple[int, Ident]])
    pipe: deque[tuple[int, int, Ident]] = field(factory=deque[tuple[int, int, Ident]])
    ear: dict[str, list[int]] = field(factory=dict[str, list[int]])
    muted: bool = False
    handed: int = 0
    taken: int = 0
    played: int = 0

    def tick(self, now: int) -> None:
        if self.queue and not self.muted:
            line, ident = self.queue.popleft()
            self.taken = line + 1
            self.pipe.append((now + 1 + self.latency, line, ident))
        while self.pipe and self.pipe[0][0] <= now + 1:
            _, line, ident = self.pipe.popleft()
            self.ear.setdefault(ident[0], []).append(ident[1])
            self.played = max(self.played, line + 1)

    def cut(self) -> int:
        mute_point = self.taken
        self.queue.clear()
        self.taken = self.played = self.handed
        self.muted = False
        return mute_point

    def coming(self, item_id: str) -> int:
        piped = sum(1 for _, _, (item, _) in self.pipe if item == item_id)
        return len(self.ear.get(item_id, ())) + piped


class PlayoutMachine(RuleBasedStateMachine):
    def make_ledger(self) -> PlayoutLedger:
        return PlayoutLedger()

    @initialize(
        latency=st.sampled_from([0, 30, 200]),
        report_late=st.sampled_from([0, 0, 120]),
        report_every=st.sampled_from([10, 100_000]),
    )
    def begin(self, latency: int, report_late: int, report_every: int) -> None:
        self.ledger = self.make_ledger()
        self.speaker = Speaker(latency)
        self.report_late = report_late
        self.report_every = report_every
        self.now = 1  # a stamp of 0 means: not stamped
        self.mail: deque[tuple[int, Played]] = deque()
        self.parts: list[Part] = []
        self.turn = 0
        self.cut_turn = 0
        self.held = False
        self.announced: set[int] = set()
        self.begun: set[int] = set()
        self.drained: set[int] = set()
        self.expected: dict[str, int] = {}  # item -> final account that must follow
        self.n_heard = 0
        self.undone: dict[int, list[Part]] = {}
        self.parked: list[Part] = []
        self.ended = False

    # --- the world ------------------------------------------------------------------------------

    def tell(self, fact: Fact) -> None:
        self.ledger.receive(fact, self.now * MS)

    def report(self, mute_point: int | None = None) -> None:
        played = Played(
            handed_samples=self.speaker.handed,
            played_samples=self.speaker.played,
            rate_hz=1_000,
            mute_point=mute_point,
            at_ns=self.now * MS,
        )
        self.mail.append((self.now + self.report_late, played))
        self.deliver()

    def deliver(self) -> None:
        while self.mail and self.mail[0][0] <= self.now:
            self.tell(self.mail.popleft()[1])
            self.pump()

    def pump(self) -> None:
        while (frame := self.ledger.next_frame(self.now * MS)) is not None:
            match frame:
                case AudioOut():
                    self.check_handed(frame)
                    self.begun.add(frame.turn)
                    for i in range(frame.n_samples):
                        ident = (str(frame.item_id), frame.start_sample + i)
                        self.speaker.queue.append((self.speaker.handed + i, ident))
                    self.speaker.handed += frame.n_samples
                case ReplyReady(turn=turn):
                    assert turn not in self.announced
                    self.announced.add(turn)
                case Drained(turn=turn):
                    assert turn not in self.drained
                    self.drained.add(turn)
                    self.check_drained(turn)
                case Heard():
                    assert frame.final
                    wanted = self.expected.pop(str(frame.item_id), None)
                    if wanted is not None:
                        assert frame.heard_samples == wanted
                case _:
                    pass
        deadline = self.ledger.deadline_ns
        assert deadline is None or deadline > self.now * MS, "a deadline that is never reached"

    def check_handed(self, frame: AudioOut) -> None:
        assert frame.turn > self.cut_turn, "no sample of a cut turn"
        assert frame.turn in self.announced, "announced before its first sample"
        assert not self.held
        item = int(str(frame.item_id).removeprefix("item"))
        assert frame.pcm_bytes() == _pcm(item, frame.start_sample, frame.n_samples)
        if frame.turn not in self.undone:
            self.parked = []  # something newer is heard
            mine = next(p for p in self.parts if p.item == item)
            before = [
                p for p in self.parts if p.turn == mine.turn and p.output_index < mine.output_index
            ]
            begun = frame.start_sample > 0
            assert begun or self.ended or all(p.done for p in before), "in the order of the output"

    def check_drained(self, turn: int) -> None:
        assert (
            self.speaker.handed == self.speaker.played
            or self.speaker.latency
            or not any(
                ident[0] in {p.item_id for p in self.parts if p.turn == turn}
                for _, ident in self.speaker.queue
            )
        )

    def step(self) -> None:
        self.speaker.tick(self.now)
        self.now += 1
        self.deliver()
        if self.now % self.report_every == 0:
            self.report(self.speaker.taken if self.speaker.muted else None)
        deadline = self.ledger.deadline_ns
        if deadline is not None and deadline <= self.now * MS:
            self.pump()
        ahead = self.speaker.handed - self.speaker.taken
        assert ahead <= AHEAD + 1, f"{ahead} ms ahead of what the device took"
        if self.can_play() and not self.held and not self.speaker.muted:
            assert self.speaker.queue, "the speaker ran dry while audio waited"

    def can_play(self) -> bool:
        if not self.ledger.waiting_bytes:
            return False
        live = [
            p
            for p in self.parts
            if p.turn > self.cut_turn and p.turn not in self.drained and not p.withdrawn
        ]
        if not live or self.undone:
            return False
        first = min(live, key=lambda p: (p.turn, p.output_index))
        queued = sum(1 for _, (item, _) in self.speaker.queue if item == first.item_id)
        return self.speaker.coming(first.item_id) + queued < first.received

    # --- what the service does ------------------------------------------------------------------

    def open_parts(self) -> list[Part]:
        return [p for p in self.parts if not p.done and p.turn > self.cut_turn]

    def close(self, part: Part) -> None:
        part.done = True
        self.tell(
            AudioDone(
                turn=part.turn,
                item_id=part.item_id,
                output_index=part.output_index,
                n_samples=part.received,
            )
        )
        self.pump()

    @rule(n_parts=st.integers(1, 2))
    def response_begins(self, n_parts: int) -> None:
        for part in self.open_parts():
            self.close(part)
        self.turn += 1
        for k in range(n_parts):
            self.parts.append(Part(self.turn, len(self.parts), k))
            self.send(self.parts[-1], 1)

    @precondition(lambda self: self.open_parts())
    @rule(n=st.integers(1, 300), which=st.integers(0, 1))
    def delta(self, n: int, which: int) -> None:
        parts = self.open_parts()
        self.send(parts[which % len(parts)], n)

    def send(self, part: Part, n: int) -> None:
        self.tell(
            AudioOut(
                turn=part.turn,
                item_id=part.item_id,
                output_index=part.output_index,
                start_sample=part.received,
                pcm=_pcm(part.item, part.received, n),
                rate_hz=1_000,
            )
        )
        part.received += n
        self.pump()

    @precondition(lambda self: self.open_parts())
    @rule(which=st.integers(0, 1))
    def part_is_done(self, which: int) -> None:
        parts = self.open_parts()
        self.close(parts[which % len(parts)])

    # --- what the conversation does -------------------------------------------------------------

    @rule(ms=st.integers(1, 150))
    def time_passes(self, ms: int) -> None:
        for _ in range(ms):
            self.step()

    @precondition(lambda self: not self.held)
    @rule()
    def mute_and_hold(self) -> None:
        self.held = self.speaker.muted = True
        self.tell(Hold())
        self.pump()
        self.report(self.speaker.taken)

    @precondition(lambda self: self.held)
    @rule()
    def release_and_unmute(self) -> None:
        self.held = self.speaker.muted = False
        self.tell(Release())
        self.pump()

    @precondition(lambda self: self.turn > self.cut_turn)
    @rule(older=st.booleans())
    def interrupt(self, older: bool) -> None:
        turn = max(self.cut_turn, self.turn - 1) if older else self.turn
        if not turn:
            return
        live = [n for n in range(self.cut_turn + 1, turn + 1) if n not in self.drained]
        gone = [part for n in live for part in self.undone.get(n, ())]
        gone += [p for p in self.parts if p.turn in live]
        audible = bool(set(live) & self.announced)
        heard_of = [part for n in live if n in self.begun for part in self.undone.get(n, ())]
        heard_of += [p for p in self.parts if p.turn in live and p.turn in self.begun]
        parked = list(self.contiguous(heard_of))
        mute_point = self.speaker.cut()
        told = self.ledger.cut(
            Interrupt(turn=turn, mute_point=None if self.report_late else mute_point),
            self.now * MS,
        )
        self.cut_turn = turn
        self.held = False
        by_item = {str(h.item_id): h for h in told.heard}
        assert set(by_item) == {p.item_id for p in gone}, "each item has one account"
        for part in gone:
            account = by_item[part.item_id]
            truth = self.speaker.coming(part.item_id)
            if account.final:
                assert account.heard_samples == truth
            else:
                self.expected[part.item_id] = truth
            assert 0 <= account.heard_samples <= account.received_samples
            if part.turn not in self.undone and not self.was_undone(part):
                assert account.received_samples == part.received
                missing = account.received_samples - account.heard_samples
                assert account.complete == (part.done and missing <= TOLERANCE)
        if audible:
            self.parked = parked
        self.announced = set()
        if self.report_late:
            self.mail.append(
                (
                    self.now + self.report_late,
                    Played(
                        handed_samples=self.speaker.handed,
                        played_samples=self.speaker.handed,
                        rate_hz=1_000,
                        mute_point=mute_point,
                        at_ns=self.now * MS,
                    ),
                )
            )
        self.pump()

    def contiguous(self, gone: list[Part]) -> Iterator[Part]:
        """What the ear would still have got: it ends where a part is not complete."""
        stopped = False
        for part in gone:
            queued = sum(1 for _, (item, _) in self.speaker.queue if item == part.item_id)
            waits = self.speaker.coming(part.item_id) + queued < part.received
            if queued or (waits and not stopped):
                yield part
            closed = part.done or (self.was_undone(part) and not waits)
            stopped = stopped or not closed

    def was_undone(self, part: Part) -> bool:
        return any(part in parts for parts in self.undone.values())

    @precondition(lambda self: not self.report_late)
    @rule()
    def undo(self) -> None:
        for part in self.open_parts():
            self.close(part)
        self.turn += 1
        self.undone[self.turn] = self.parked
        self.parked = []
        self.ledger.undo(self.turn)
        self.pump()

    @precondition(lambda self: not (self.held or self.report_late))
    @rule(muted_ms=st.integers(1, 100), heard_ms=st.integers(0, 100))
    def an_interruption_that_was_none(self, muted_ms: int, heard_ms: int) -> None:
        self.response_begins(n_parts=1)
        self.send(self.parts[-1], 300)
        self.time_passes(30)
        self.mute_and_hold()
        self.time_passes(muted_ms)
        self.interrupt(older=False)
        self.undo()
        self.time_passes(heard_ms)

    @precondition(lambda self: self.turn > max(self.announced, default=0) and not self.undone)
    @rule()
    def withdrawn(self) -> None:
        """The newest turn answers what was no user turn; nothing of it was heard."""
        if self.turn <= self.cut_turn or self.turn in self.drained:
            return
        parts = [part for part in self.parts if part.turn == self.turn]
        # A cut of the turn before lets it be announced again, even where it was heard already.
        if any(self.speaker.coming(part.item_id) for part in parts):
            return
        for part in parts:
            part.done, part.withdrawn = True, True
        self.tell(Withdrawn(turn=self.turn))
        self.pump()

    @precondition(lambda self: self.parts)
    @rule(n=st.integers(1, 50))
    def late_delta(self, n: int) -> None:
        part = self.parts[-1]
        if part.turn > self.cut_turn:
            return
        was, waiting = self.ledger.late_samples, self.ledger.waiting_bytes
        pcm = _pcm(part.item, part.received, n)
        self.tell(
            AudioOut(
                turn=part.turn,
                item_id=part.item_id,
                output_index=part.output_index,
                start_sample=part.received,
                pcm=pcm,
                rate_hz=1_000,
            )
        )
        assert self.ledger.late_samples == was + n, "dropped and counted"
        assert self.ledger.waiting_bytes == waiting, "and never kept"

    @rule()
    def drop_parked(self) -> None:
        self.parked = []
        self.tell(DropParked())

    # --- what must hold -------------------------------------------------------------------------

    def the_ear_gets_every_sample_once_and_in_order(self) -> None:
        for item, samples in self.speaker.ear.items():
            assert samples == list(range(len(samples))), f"{item}: {samples}"

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.held = self.speaker.muted = False
        self.tell(Release())
        self.tell(End())
        self.ended = True
        self.pump()
        for _ in range(20_000):
            if self.ledger.is_over:
                break
            self.step()
        assert self.ledger.is_over, "everything is heard in the end"
        assert not self.expected, "each account is settled"
        for _ in range(300):
            self.step()
        if self.report_late:
            return  # after an estimate nobody can go on to the sample
        self.the_ear_gets_every_sample_once_and_in_order()
        for part in self.parts:
            if part.withdrawn:
                assert self.speaker.coming(part.item_id) == 0, "never heard"
            elif part.turn > self.cut_turn:
                assert self.speaker.coming(part.item_id) == part.received


def test_the_ear_and_the_ledger_agree_whatever_happens() -> None:
    run_state_machine_as_test(
        PlayoutMachine, settings=settings(stateful_step_count=25, report_multiple_bugs=False)
    )


# --- the model can fail -----------------------------------------------------------------------


class NeverReleases(PlayoutLedger):
    """Goes on holding."""

    def receive(self, fact: Fact, at_ns: int) -> None:
        if not isinstance(fact, Release):
            super().receive(fact, at_ns)


class ForgetsItsDeadline(PlayoutLedger):
    """Waits for facts only."""

    @property
    def deadline_ns(self) -> int | None:
        return None


class GoesOnFromTheOldClock(PlayoutLedger):
    """Takes the time of a hold for time in which was played."""

    def receive(self, fact: Fact, at_ns: int) -> None:
        if not isinstance(fact, Hold):
            super().receive(fact, at_ns)


class ForgetsTheMutePoint(PlayoutLedger):
    """Believes that all that was handed over was heard."""

    def cut(self, interrupt: Interrupt, at_ns: int) -> Interrupt:
        return super().cut(evolve(interrupt, mute_point=10**9), at_ns)


class NeverWithdraws(PlayoutLedger):
    """Lets be heard what shall not be."""

    def receive(self, fact: Fact, at_ns: int) -> None:
        if not isinstance(fact, Withdrawn):
            super().receive(fact, at_ns)


class KeepsLateAudio(PlayoutLedger):
    """Plays what comes after the cut."""

    def receive(self, fact: Fact, at_ns: int) -> None:
        super().receive(fact, at_ns)
        if isinstance(fact, AudioOut) and fact.turn <= self._cut_turn:
            self.waiting_bytes += 2 * fact.n_samples


class RepeatsTheFade(PlayoutLedger):
    """Goes back to where the mute was ordered, not to where it was silent."""

    def undo(self, turn: int) -> None:
        if self._parked is not None:
            self._parked.mute_point -= 5
        super().undo(turn)


class UndoesTwice(PlayoutLedger):
    """Lets the remainder go on although something newer was heard."""

    def _unpark(self) -> None:
        return


def _one_interruption_that_was_none(machine: PlayoutMachine) -> None:
    machine.an_interruption_that_was_none(muted_ms=10, heard_ms=0)


def _a_hold_before_the_reply(machine: PlayoutMachine) -> None:
    machine.mute_and_hold()
    machine.release_and_unmute()
    machine.an_interruption_that_was_none(muted_ms=1, heard_ms=0)


def _a_turn_that_is_withdrawn_unheard(machine: PlayoutMachine) -> None:
    machine.mute_and_hold()
    machine.response_begins(n_parts=1)
    machine.withdrawn()


def _a_delta_behind_its_cut(machine: PlayoutMachine) -> None:
    machine.an_interruption_that_was_none(muted_ms=1, heard_ms=0)
    machine.late_delta(n=1)


def _an_undo_after_the_remainder_was_dropped(machine: PlayoutMachine) -> None:
    machine.an_interruption_that_was_none(muted_ms=1, heard_ms=0)
    machine.interrupt(older=False)
    machine.drop_parked()
    machine.undo()
    machine.interrupt(older=False)


Schedule = Callable[[PlayoutMachine], None]

# A hunt by chance finds these bugs on most days; a schedule that shows the bug finds it on all.
_SHOWN_BY: dict[type[PlayoutLedger], Schedule] = {
    NeverReleases: _a_hold_before_the_reply,
    ForgetsItsDeadline: _one_interruption_that_was_none,
    GoesOnFromTheOldClock: _one_interruption_that_was_none,
    ForgetsTheMutePoint: _one_interruption_that_was_none,
    NeverWithdraws: _a_turn_that_is_withdrawn_unheard,
    KeepsLateAudio: _a_delta_behind_its_cut,
    RepeatsTheFade: _one_interruption_that_was_none,
    UndoesTwice: _an_undo_after_the_remainder_was_dropped,
}


def _play(schedule: Schedule, ledger: type[PlayoutLedger], report_every: int) -> None:
    class Machine(PlayoutMachine):
        def make_ledger(self) -> PlayoutLedger:
            return ledger()

    machine = Machine()
    machine.begin(latency=0, report_late=0, report_every=report_every)
    schedule(machine)
    machine.teardown()


@pytest.mark.parametrize("mutant", _SHOWN_BY)
def test_a_ledger_that_is_wrong_is_noticed(mutant: type[PlayoutLedger]) -> None:
    # Where the speaker reports often, its reports hide a wrong clock and a lost deadline.
    report_every = 100_000 if mutant in (ForgetsItsDeadline, GoesOnFromTheOldClock) else 10
    _play(_SHOWN_BY[mutant], PlayoutLedger, report_every)
    with pytest.raises(AssertionError):
        _play(_SHOWN_BY[mutant], mutant, report_every)
