"""The barge-in rules in a world that does whatever it likes, with a speaker of two flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from framepipe.conversation.bargein import (
    TABLE,
    BargeInCore,
    Cell,
    Command,
    Do,
    Event,
    Fact,
    State,
    TranscriptVerdict,
)
from framepipe.frames import (
    ConnectionState,
    Drained,
    DropParked,
    Hold,
    Interrupt,
    Mute,
    Release,
    ReplyPending,
    ReplyReady,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    Undo,
    Unmute,
)

MS = 1_000_000


class BargeInMachine(RuleBasedStateMachine):
    two = False
    speaker_unmutes_at_a_cut = True

    def __init__(self) -> None:
        super().__init__()
        self.core = BargeInCore(two=self.two)
        self.now = 0
        self.muted = False
        self.held = False
        self.opened = 0
        self.cut_turn = 0
        self.waiting: list[int] = []  # opened, and not announced
        self.audible: list[int] = []  # announced, and not drained
        self.parked = False
        self.n_items = 0
        self.n_mutes = 0
        self.n_ends = 0

    # --- the world ------------------------------------------------------------------------------

    def tell(self, fact: Fact) -> None:
        self.obey(self.core.receive(fact, self.now))

    def obey(self, orders: list[Command]) -> None:
        for order in orders:
            match order:
                case Mute():
                    assert not self.muted
                    self.muted = True
                    self.n_mutes += 1
                case Unmute():
                    assert self.muted
                    self.muted = False
                    self.n_ends += 1
                case Hold():
                    assert not self.held
                    self.held = True
                case Release():
                    assert self.held
                    self.held = False
                case Interrupt():
                    assert order.turn is not None
                    assert self.cut_turn < order.turn <= self.opened, "a cut names a turn once"
                    self.n_ends += self.muted
                    self.cut_everywhere(order.turn)
                    assert self.core.receive(order, self.now) == [], "its own"
                case Undo():
                    self.opened += 1
                    self.tell(ReplyPending(turn=self.opened))
                    if self.parked:
                        self.waiting.insert(0, self.opened)
                    else:
                        self.tell(Drained(turn=self.opened))
                    self.parked = False
                case DropParked():
                    self.parked = False
                case Swallow(item_id=item_id):
                    assert item_id

    def cut_everywhere(self, turn: int) -> None:
        self.cut_turn = max(self.cut_turn, turn)
        if self.speaker_unmutes_at_a_cut:
            self.muted = False
        self.held = False
        self.parked = self.parked or any(t <= turn for t in self.audible)
        # What survives was thrown away by the speaker, and is announced again.
        self.waiting = [t for t in (*self.audible, *self.waiting) if t > self.cut_turn]
        self.audible = []

    # --- the agent ------------------------------------------------------------------------------

    @rule()
    def response_begins(self) -> None:
        self.opened += 1
        self.waiting.append(self.opened)
        self.tell(ReplyPending(turn=self.opened))

    @precondition(lambda self: self.waiting and not self.held)
    @rule()
    def first_sample(self) -> None:
        turn = self.waiting.pop(0)
        self.audible.append(turn)
        self.parked = False
        self.tell(ReplyReady(turn=turn))

    @precondition(lambda self: not (self.audible or self.waiting or self.held))
    @rule()
    def a_reply_comes(self) -> None:
        self.response_begins()
        self.first_sample()

    @precondition(lambda self: self.audible)
    @rule()
    def drained(self) -> None:
        self.tell(Drained(turn=self.audible.pop(0)))

    # --- the user -------------------------------------------------------------------------------

    @rule(quiet_ms=st.sampled_from([50, 100, 400]))
    def local_edge(self, quiet_ms: int) -> None:
        self.tell(SpeechStopped(source="local", end_sample=self.sample))
        self.now += quiet_ms * MS
        self.late()
        self.tell(SpeechStarted(source="local", onset_sample=self.sample))

    @rule()
    def server_started(self) -> None:
        self.n_items += 1
        item = f"user{self.n_items}"
        self.tell(SpeechStarted(source="server", onset_sample=self.sample, item_id=item))

    @rule()
    def server_stopped(self) -> None:
        self.tell(SpeechStopped(source="server", end_sample=self.sample))

    @rule(yes=st.booleans(), ms_ago=st.sampled_from([0, 200, 1_000]))
    def second_stage(self, yes: bool, ms_ago: int) -> None:
        verdict = SpeechConfirmed if yes else SpeechRejected
        onset = max(0, self.sample - ms_ago)
        self.tell(verdict(source="second", onset_sample=onset, probability=0.5))

    @precondition(lambda self: self.n_items)
    @rule(back=st.integers(0, 3), has_words=st.booleans())
    def transcript(self, back: int, has_words: bool) -> None:
        item = f"user{max(1, self.n_items - back)}"
        self.tell(TranscriptVerdict(item, has_words=has_words))

    @precondition(lambda self: self.opened > self.cut_turn)
    @rule(older=st.booleans())
    def stop_button(self, older: bool) -> None:
        turn = self.cut_turn + 1 if older else self.opened
        self.n_ends += self.muted
        self.cut_everywhere(turn)
        self.tell(Interrupt(turn=turn))

    @rule(state=st.sampled_from(["open", "reconnecting", "closed"]))
    def connection(self, state: Any) -> None:
        self.tell(ConnectionState(state=state))

    # --- time -----------------------------------------------------------------------------------

    @property
    def sample(self) -> int:
        return self.now // MS

    @rule(ms=st.sampled_from([1, 30, 250, 700, 2_500]))
    def time_passes(self, ms: int) -> None:
        self.now += ms * MS
        self.late()

    @precondition(lambda self: self.core.deadline_ns is not None)
    @rule()
    def time_is_up(self) -> None:
        self.now = max(self.now, self.core.deadline_ns or 0)
        self.late()

    def late(self) -> None:
        deadline = self.core.deadline_ns
        if deadline is not None and deadline <= self.now:
            self.obey(self.core.deadline_reached(self.now))

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def muted_is_suspect(self) -> None:
        assert self.muted == (self.core.state is State.SUSPECT)
        assert self.held == (self.core.state in (State.SUSPECT, State.WAIT))

    @invariant()
    def every_mute_ends_in_a_cut_or_a_resume(self) -> None:
        assert self.n_mutes == self.n_ends + self.muted

    @invariant()
    def what_waits_has_a_deadline(self) -> None:
        waits = self.core.state in (State.SUSPECT, State.CUT, State.WAIT)
        assert (self.core.deadline_ns is not None) == waits

    @invariant()
    def an_audible_agent_can_be_interrupted(self) -> None:
        if self.audible:
            assert self.core.state in (State.SPEAKING, State.SUSPECT, State.WAIT)

    def teardown(self) -> None:
        for _ in range(3):
            deadline = self.core.deadline_ns
            if deadline is not None:
                self.now = deadline
                self.obey(self.core.deadline_reached(deadline))
        assert self.core.state in (State.IDLE, State.SPEAKING), "stuck"
        assert not self.muted, "stuck"
        assert not self.held, "stuck"


class TwoStages(BargeInMachine):
    two = True


STEPS = settings(stateful_step_count=40, report_multiple_bugs=False)


@pytest.mark.parametrize("machine", [BargeInMachine, TwoStages])
def test_it_never_stays_muted_whatever_happens(machine: type[BargeInMachine]) -> None:
    run_state_machine_as_test(machine, settings=STEPS)


# --- the model can fail -----------------------------------------------------------------------

# No shrinking and no database: that it fails is all we want to know.
HUNT = settings(STEPS, phases=[Phase.generate], max_examples=1_000, derandomize=True, database=None)


def hunt(machine: type[BargeInMachine]) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=HUNT)


def without(*actions: Do) -> Callable[[Cell], Cell]:
    return lambda cell: Cell(tuple(do for do in cell.actions if do not in actions), cell.to)


def nothing(cell: Cell) -> Cell:
    return Cell((), None)


MUTANTS = [
    (BargeInMachine, Event.DEADLINE, State.SUSPECT, nothing),
    (BargeInMachine, Event.DEADLINE, State.WAIT, nothing),
    (BargeInMachine, Event.DEADLINE, State.CUT, nothing),
    (BargeInMachine, Event.DEADLINE, State.SUSPECT, without(Do.RESUME)),
    (BargeInMachine, Event.DEADLINE, State.WAIT, without(Do.RELEASE)),
    (BargeInMachine, Event.LOCAL_EDGE, State.SPEAKING, without(Do.REJECT_TIMER)),
    (TwoStages, Event.SERVER_EVIDENCE, State.SPEAKING, without(Do.REJECT_TIMER)),
    (TwoStages, Event.SECOND_NO, State.SUSPECT, without(Do.RESUME)),
    (BargeInMachine, Event.READY_OVER_SPEECH, State.IDLE, without(Do.WAIT_TIMER)),
    (BargeInMachine, Event.SERVER_VERDICT, State.SPEAKING, without(Do.UNDO_TIMER)),
    (BargeInMachine, Event.SERVER_STOPPED, State.WAIT, without(Do.INTERRUPT)),
    (BargeInMachine, Event.DRAINED, State.SUSPECT, without(Do.RESUME)),
    (BargeInMachine, Event.INTERRUPTED, State.SUSPECT, nothing),
    (BargeInMachine, Event.READY, State.CUT, nothing),
]


@pytest.mark.parametrize(("machine", "event", "state", "mutate"), MUTANTS)
def test_a_rule_that_is_missing_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    machine: type[BargeInMachine],
    event: Event,
    state: State,
    mutate: Callable[[Cell], Cell],
) -> None:
    row = cast("dict[State, Cell]", TABLE[event])
    monkeypatch.setitem(row, state, mutate(row[state]))
    hunt(machine)


def test_a_speaker_that_stays_muted_at_a_cut_is_noticed() -> None:
    class Silent(BargeInMachine):
        speaker_unmutes_at_a_cut = False

    hunt(Silent)
