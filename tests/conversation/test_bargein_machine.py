"""The barge-in rules in a world that does whatever it likes, with a speaker of three flags."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, cast

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

from framepipe.conversation.backchannels import Meaning
from framepipe.conversation.bargein import BargeInCore, Command, Fact
from framepipe.conversation.bargein_table import TABLE, Cell, Do, Event, State
from framepipe.conversation.profiles import Needs, Profile, Profiles, UseProfile, profiles
from framepipe.conversation.third_stage import TranscriptVerdict
from framepipe.frames import (
    ConnectionState,
    Drained,
    DropParked,
    Hold,
    Interrupt,
    Mute,
    Problem,
    Release,
    ReplyPending,
    ReplyReady,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    ToolCall,
    ToolResult,
    Undo,
    Unmute,
    evolve,
)

MS = 1_000_000


class BargeInMachine(RuleBasedStateMachine):
    two = False
    transcripts = False
    profiles: Profiles = profiles()
    speaker_unmutes_at_a_cut = True

    def __init__(self) -> None:
        super().__init__()
        self.core = BargeInCore(
            two=self.two, transcripts=self.transcripts, profiles=self.profiles, rate_hz=1_000
        )
        self.now = 0
        self.muted = False
        self.ducked = False
        self.held = False
        self.opened = 0
        self.cut_turn = 0
        self.waiting: list[int] = []  # opened, and not announced
        self.audible: list[int] = []  # announced, and not drained
        self.sounded: set[int] = set()  # some of it was heard
        self.protected: set[int] = set()  # may not be cut by what the user says
        self.parked = False
        self.n_items = 0
        self.open_item: str | None = None
        self.untold: list[str] = []  # committed, and not transcribed
        self.answers: dict[str, int] = {}  # item -> the turn of its automatic response
        self.withdrawn: list[int] = []
        self.n_mutes = 0
        self.n_ends = 0

    # --- the world ------------------------------------------------------------------------------

    def tell(self, fact: Fact) -> None:
        self.obey(self.core.receive(fact, self.now))

    def obey(self, orders: list[Command]) -> None:
        for order in orders:
            self.do(order)
        # In order, so behind what is urgent.
        while self.withdrawn:
            turn = self.withdrawn.pop()
            self.waiting = [t for t in self.waiting if t != turn]
            self.audible = [t for t in self.audible if t != turn]
            self.protected.discard(turn)
            self.tell(Drained(turn=turn))

    def do(self, order: Command) -> None:
        match order:
            case Mute(gain_db=gain_db):
                assert not self.muted, "the two never mix"
                assert not self.ducked, "the two never mix"
                self.muted = gain_db == -math.inf
                self.ducked = not self.muted
                self.n_mutes += 1
            case Unmute():
                assert self.muted or self.ducked
                self.muted = self.ducked = False
                self.n_ends += 1
            case Hold():
                assert not self.held
                self.held = True
            case Release():
                assert self.held
                self.held = False
                self.sounded |= set(self.audible)
            case Interrupt():
                assert order.turn is not None
                assert self.cut_turn < order.turn <= self.opened, "a cut names a turn once"
                spared = {t for t in self.protected if self.cut_turn < t <= order.turn}
                assert not spared, "what must be heard is not cut"
                self.cut_everywhere(order.turn)
                assert self.core.receive(order, self.now) == [], "its own"
            case Undo():
                # What was announced and not begun is announced again, behind what goes on.
                self.waiting = [t for t in self.audible if t not in self.sounded] + self.waiting
                self.audible = [t for t in self.audible if t in self.sounded]
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
                answer = self.answers.pop(item_id, 0)
                assert answer not in self.sounded, "what was heard is not swallowed"
                if answer > self.cut_turn:
                    self.withdrawn.append(answer)
            case Problem():
                pass

    def cut_everywhere(self, turn: int) -> None:
        self.cut_turn = max(self.cut_turn, turn)
        self.n_ends += self.muted or self.ducked
        if self.speaker_unmutes_at_a_cut:
            self.muted = self.ducked = False
        self.held = False
        self.parked = self.parked or any(t <= turn and t in self.sounded for t in self.audible)
        # What survives was thrown away by the speaker, and is announced again.
        self.waiting = [t for t in (*self.audible, *self.waiting) if t > self.cut_turn]
        self.audible = []

    # --- the agent ------------------------------------------------------------------------------

    @rule(must_be_heard=st.sampled_from([False, False, True]))
    def response_begins(self, must_be_heard: bool = False) -> None:
        self.opened += 1
        self.waiting.append(self.opened)
        if must_be_heard:
            self.protected.add(self.opened)
        self.tell(ReplyPending(turn=self.opened, interruptible=not must_be_heard))

    @precondition(lambda self: self.untold and not self.open_item)
    @rule()
    def automatic_response(self) -> None:
        item = self.untold[-1]
        if item not in self.answers:
            self.response_begins()
            self.answers[item] = self.opened

    @precondition(lambda self: self.waiting and not self.held)
    @rule()
    def first_sample(self) -> None:
        turn = self.waiting.pop(0)
        self.audible.append(turn)
        self.tell(ReplyReady(turn=turn))
        if not self.held and turn in self.audible:
            self.parked = False
            self.sounded.add(turn)

    @precondition(lambda self: not (self.audible or self.waiting or self.held))
    @rule()
    def a_reply_comes(self) -> None:
        self.response_begins()
        self.first_sample()

    @precondition(lambda self: self.audible)
    @rule()
    def drained(self) -> None:
        turn = self.audible.pop(0)
        self.protected.discard(turn)
        self.tell(Drained(turn=turn))

    @rule(begins=st.booleans())
    def tool(self, begins: bool) -> None:
        call = ToolCall(call_id="call", name="look", arguments="{}")
        self.tell(call if begins else ToolResult(call_id="call", name="look", output=""))

    # --- the user -------------------------------------------------------------------------------

    @rule(quiet_ms=st.sampled_from([50, 100, 400]))
    def local_edge(self, quiet_ms: int) -> None:
        self.tell(SpeechStopped(source="local", end_sample=self.sample))
        self.now += quiet_ms * MS
        self.late()
        self.tell(SpeechStarted(source="local", onset_sample=self.sample))

    @rule(begins=st.booleans())
    def second_edge(self, begins: bool) -> None:
        """The second stage hears what begins inside the hangover of the first, and its end."""
        if begins:
            self.tell(SpeechStarted(source="silero", onset_sample=self.sample))
        else:
            self.tell(SpeechStopped(source="silero", end_sample=self.sample))

    @precondition(lambda self: not self.open_item)
    @rule()
    def server_started(self) -> None:
        self.n_items += 1
        self.open_item = f"user{self.n_items}"
        self.tell(SpeechStarted(source="server", onset_sample=self.sample, item_id=self.open_item))

    @precondition(lambda self: self.open_item)
    @rule()
    def server_stopped(self) -> None:
        item, self.open_item = self.open_item, None
        self.untold = [*self.untold, str(item)][-8:]
        self.tell(SpeechStopped(source="server", end_sample=self.sample, item_id=item))

    @precondition(lambda self: self.audible and not (self.held or self.open_item))
    @rule(
        is_answered=st.booleans(),
        meaning=st.sampled_from(["late", Meaning.WORDS, Meaning.BACKCHANNEL, None]),
    )
    def a_short_interruption(self, is_answered: bool, meaning: Any) -> None:
        self.server_started()
        self.now += 300 * MS
        self.late()
        self.server_stopped()
        if is_answered:
            self.automatic_response()
            if self.waiting and not self.held:
                self.first_sample()
        if self.transcripts and meaning != "late":
            self.transcript(back=0, meaning=meaning, after_question=False)

    @rule(yes=st.booleans(), ms_ago=st.sampled_from([0, 200, 1_000]))
    def second_stage(self, yes: bool, ms_ago: int) -> None:
        verdict = SpeechConfirmed if yes else SpeechRejected
        if self.core.state is State.IDLE and not (yes or self.two):
            return
        onset = max(0, self.sample - ms_ago)
        self.tell(verdict(source="second", onset_sample=onset, probability=0.5))

    @precondition(lambda self: self.untold and self.transcripts)
    @rule(
        back=st.integers(0, 3),
        meaning=st.sampled_from([*Meaning, None]),
        after_question=st.booleans(),
    )
    def transcript(self, back: int, meaning: Meaning | None, after_question: bool) -> None:
        item = self.untold.pop(max(0, len(self.untold) - 1 - back))
        self.tell(TranscriptVerdict(item, meaning, after_question=after_question))

    @precondition(lambda self: self.opened > self.cut_turn)
    @rule(older=st.booleans())
    def stop_button(self, older: bool) -> None:
        turn = self.cut_turn + 1 if older else self.opened
        self.protected = {t for t in self.protected if t > turn}
        self.cut_everywhere(turn)
        self.tell(Interrupt(turn=turn))

    @rule(state=st.sampled_from(["open", "reconnecting", "closed"]))
    def connection(self, state: Any) -> None:
        if state != "open":
            self.open_item = None
        self.tell(ConnectionState(state=state, transcripts=self.transcripts))

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
    def what_the_speaker_does_is_the_state(self) -> None:
        assert self.muted == (self.core.state is State.SUSPECT)
        assert self.ducked == (self.core.state is State.DUCKED)
        assert self.held == (self.core.state in (State.SUSPECT, State.WAIT, State.DOUBT))

    @invariant()
    def every_mute_ends_in_a_cut_or_a_resume(self) -> None:
        assert self.n_mutes == self.n_ends + (self.muted or self.ducked)

    @invariant()
    def what_waits_has_a_deadline(self) -> None:
        waits = self.core.state not in (State.IDLE, State.SPEAKING)
        assert (self.core.deadline_ns is not None) == waits

    @invariant()
    def an_audible_agent_can_be_interrupted(self) -> None:
        if self.audible:
            assert self.core.state not in (State.IDLE, State.CUT)

    @invariant()
    def what_is_parked_can_be_dropped(self) -> None:
        if self.core.state is State.IDLE:
            assert not self.parked, "entering IDLE drops what is parked"

    def teardown(self) -> None:
        for _ in range(3):
            deadline = self.core.deadline_ns
            if deadline is not None:
                self.now = deadline
                self.obey(self.core.deadline_reached(deadline))
        assert self.core.state in (State.IDLE, State.SPEAKING), "stuck"
        assert not self.muted, "stuck"
        assert not self.ducked, "stuck"
        assert not self.held, "stuck"


class TwoStages(BargeInMachine):
    two = True


class ThreeStages(BargeInMachine):
    two = True
    transcripts = True


class Words(BargeInMachine):
    transcripts = True


class Ducking(ThreeStages):
    profiles = profiles(suspect="duck")


CHOICE = [
    None,
    Profile(),
    Profile(suspect="duck", reject_ms=100),
    Profile(needs=Needs.BOTH, armed=False),
    Profile(needs=Needs.EITHER),
    Profile(interruptible=False),
]


class ChangingProfiles(ThreeStages):
    @rule(profile=st.sampled_from(CHOICE))
    def another_profile(self, profile: Profile | None) -> None:
        self.tell(UseProfile(profile=profile))


STEPS = settings(stateful_step_count=40, report_multiple_bugs=False)

MACHINES = [BargeInMachine, TwoStages, ThreeStages, Words, Ducking, ChangingProfiles]


@pytest.mark.parametrize("machine", MACHINES)
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
    (BargeInMachine, Event.DEADLINE, State.WAIT, without(Do.RELEASE)),
    (Words, Event.DEADLINE, State.DOUBT, without(Do.RELEASE)),
    (Ducking, Event.DEADLINE, State.DUCKED, nothing),
    (Ducking, Event.DEADLINE, State.DUCKED, without(Do.UNDUCK)),
    (BargeInMachine, Event.LOCAL_EDGE, State.SPEAKING, without(Do.REJECT_TIMER)),
    (Ducking, Event.LOCAL_EDGE_DUCKS, State.SPEAKING, without(Do.REJECT_TIMER)),
    (TwoStages, Event.EVIDENCE, State.SPEAKING, without(Do.REJECT_TIMER)),
    (TwoStages, Event.SECOND_NO, State.SUSPECT, without(Do.RESUME)),
    (Ducking, Event.SECOND_NO, State.DUCKED, without(Do.UNDUCK)),
    (BargeInMachine, Event.READY_OVER_SPEECH, State.IDLE, without(Do.WAIT_TIMER)),
    (Words, Event.READY_BEFORE_WORDS, State.CUT, without(Do.WORDS_TIMER)),
    (BargeInMachine, Event.SERVER_VERDICT, State.SPEAKING, without(Do.UNDO_TIMER)),
    (Ducking, Event.DRAINED, State.DUCKED, without(Do.UNDUCK)),
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


# Chance seldom needs these rules, so each has a schedule that does.

Step = Callable[[BargeInMachine], None]


def edge(machine: BargeInMachine) -> None:
    machine.local_edge(quiet_ms=400)


def brief(*, is_answered: bool, meaning: Meaning | Literal["late"] | None) -> Step:
    return lambda machine: machine.a_short_interruption(is_answered=is_answered, meaning=meaning)


def connection_lost(machine: BargeInMachine) -> None:
    machine.connection(state="reconnecting")


REPLY = BargeInMachine.a_reply_comes
STARTED = BargeInMachine.server_started
STOPPED = BargeInMachine.server_stopped
DRAINED = BargeInMachine.drained
TIME_IS_UP = BargeInMachine.time_is_up

Case = tuple[type[BargeInMachine], Event, State, Callable[[Cell], Cell], tuple[Step, ...]]

SELDOM: list[Case] = [
    (
        BargeInMachine,
        Event.DEADLINE,
        State.SUSPECT,
        without(Do.RESUME),
        (REPLY, edge, TIME_IS_UP),
    ),
    (
        Words,
        Event.DEADLINE,
        State.DOUBT,
        nothing,
        (REPLY, brief(is_answered=True, meaning="late"), TIME_IS_UP),
    ),
    (
        BargeInMachine,
        Event.SERVER_STOPPED,
        State.WAIT,
        without(Do.INTERRUPT),
        (STARTED, REPLY, STOPPED),
    ),
    (BargeInMachine, Event.DRAINED, State.SUSPECT, without(Do.RESUME), (REPLY, edge, DRAINED)),
    (
        Words,
        Event.NO_WORDS,
        State.DOUBT,
        without(Do.RELEASE),
        (REPLY, brief(is_answered=True, meaning=Meaning.BACKCHANNEL)),
    ),
    (
        Words,
        Event.WORDS,
        State.CUT,
        without(Do.DROP),
        (REPLY, brief(is_answered=False, meaning=Meaning.WORDS)),
    ),
    (
        Words,
        Event.NO_VERDICT,
        State.DOUBT,
        without(Do.RELEASE),
        (REPLY, brief(is_answered=True, meaning=None)),
    ),
    (
        ThreeStages,
        Event.SPEECH_OVER,
        State.WAIT,
        without(Do.RELEASE),
        (REPLY, STARTED, DRAINED, REPLY, connection_lost, edge),
    ),
]


def play(kind: type[BargeInMachine], steps: tuple[Step, ...]) -> None:
    machine = kind()
    for step in steps:
        step(machine)
        machine.what_the_speaker_does_is_the_state()
        machine.every_mute_ends_in_a_cut_or_a_resume()
        machine.what_waits_has_a_deadline()
        machine.an_audible_agent_can_be_interrupted()
        machine.what_is_parked_can_be_dropped()
    machine.teardown()


@pytest.mark.parametrize(("machine", "event", "state", "mutate", "steps"), SELDOM)
def test_a_rule_that_is_missing_and_seldom_needed_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    machine: type[BargeInMachine],
    event: Event,
    state: State,
    mutate: Callable[[Cell], Cell],
    steps: tuple[Step, ...],
) -> None:
    play(machine, steps)
    row = cast("dict[State, Cell]", TABLE[event])
    monkeypatch.setitem(row, state, mutate(row[state]))
    with pytest.raises(AssertionError):
        play(machine, steps)


def test_a_speaker_that_stays_muted_at_a_cut_is_noticed() -> None:
    class Silent(BargeInMachine):
        speaker_unmutes_at_a_cut = False

    hunt(Silent)


def test_a_rule_that_cuts_what_must_be_heard_is_noticed() -> None:
    class Deaf(BargeInMachine):
        def tell(self, fact: Fact) -> None:
            if isinstance(fact, ReplyPending):
                fact = evolve(fact, interruptible=True)
            super().tell(fact)

    hunt(Deaf)
