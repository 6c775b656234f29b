"""Shall the agent fall silent, go on, or stop for good?

Two ears listen to the user: a detector here, which is fast and takes a cough for speech, and the
service, which is slow and right more often. The first to hear something silences the agent at
once, which can be taken back; only a confirmation cuts it, which cannot. What is neither confirmed
nor rejected in time goes on at the very next sample.

Sans-IO: facts go in through `BargeInCore.receive`, orders come out as its return value. Time is an
argument, and `BargeInCore.deadline_ns` the only timer. The rules are `TABLE`: one cell for each
state and event, nothing for what changes nothing. The rest of the file decides which event a fact
is, and spells the orders out.

Which turns a cut names: an answer belongs to speech that ended before it. So a cut names the
newest turn that was opened before the speech that interrupts had ended, and never the answer to
that speech itself (promise P5).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import Final, TypeAlias

from attrs import frozen

from framepipe.errors import FrameError
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
    UrgentDown,
)

# --- the table --------------------------------------------------------------------------------


class State(Enum):
    """What the agent is doing."""

    IDLE = auto()
    """Nothing is audible."""
    SPEAKING = auto()
    """A reply is audible."""
    SUSPECT = auto()
    """Muted and held: the user may have spoken. The only muted state."""
    CUT = auto()
    """A reply was cut, and its remainder is parked for a while. Not muted."""
    WAIT = auto()
    """A reply is ready and held before its first sample, because the user speaks."""


class Event(Enum):
    """What can happen."""

    LOCAL_EDGE = auto()
    """The local detector heard something, and may mute."""
    LOCAL_EDGE_UNARMED = auto()
    """It heard something, and has been wrong too often to mute now."""
    SECOND_YES = auto()
    """The second stage says that it is speech."""
    SECOND_NO = auto()
    """The second stage says that it is none."""
    SERVER_VERDICT = auto()
    """The service heard speech, and there is no second stage to ask."""
    SERVER_EVIDENCE = auto()
    """The service heard speech, but it takes every cough for it: the second stage decides."""
    SERVER_STOPPED = auto()
    """The service heard the end of the speech."""
    WORDS = auto()
    """The transcript has words that mean something."""
    NO_WORDS = auto()
    """The transcript is empty, or says "yeah" while the agent talks."""
    DEADLINE = auto()
    """The time is up."""
    READY = auto()
    """The first sample of a reply is there, and the user is quiet."""
    READY_OVER_SPEECH = auto()
    """The first sample of a reply is there while the user certainly speaks."""
    DRAINED = auto()
    """All of the reply was heard."""
    INTERRUPTED = auto()
    """Somebody else cut the reply: the stop button, the caller's own rule."""
    SOCKET_GONE = auto()
    """The connection to the service is lost."""


class Do(Enum):
    """What can be done about it."""

    MUTE = auto()
    """`Mute` down, `Hold` up."""
    RESUME = auto()
    """`Release` up, `Unmute` down."""
    INTERRUPT = auto()
    """`Interrupt` up. It unmutes the speaker and ends a hold by itself."""
    INTERRUPT_PENDING = auto()
    """`Interrupt` up if an answer is pending."""
    HOLD = auto()
    """`Hold` up, without muting: nothing is audible."""
    RELEASE = auto()
    """`Release` up."""
    SWALLOW = auto()
    """`Swallow` up: the response to the item, and the item."""
    UNDO = auto()
    """`Undo` up: what is parked goes on."""
    DROP = auto()
    """`DropParked` up."""
    REJECT_TIMER = auto()
    """Go on unless it is confirmed in time."""
    UNDO_TIMER = auto()
    """Forget what is parked a while after the speech."""
    WAIT_TIMER = auto()
    """Do not wait for the user for ever."""
    DISARM = auto()
    """No mute by the local detector until it has been quiet."""
    MAYBE = auto()
    """The user may be speaking."""
    SURE = auto()
    """The user is certainly speaking."""
    QUIET = auto()
    """The user is not speaking."""


@frozen
class Cell:
    """One cell of the table.

    Attributes:
        actions: What to do, in this order.
        to: The next state; ``None`` stays.
    """

    actions: tuple[Do, ...]
    to: State | None


def _cell(*actions: Do, to: State | None = None) -> Cell:
    return Cell(actions, to)


TABLE: Final[Mapping[Event, Mapping[State, Cell]]] = {
    Event.LOCAL_EDGE: {
        State.IDLE: _cell(Do.MAYBE),
        State.SPEAKING: _cell(Do.MUTE, Do.REJECT_TIMER, Do.MAYBE, to=State.SUSPECT),
        State.CUT: _cell(Do.MAYBE),
    },
    Event.LOCAL_EDGE_UNARMED: {
        State.IDLE: _cell(Do.MAYBE),
        State.SPEAKING: _cell(Do.MAYBE),
        State.CUT: _cell(Do.MAYBE),
    },
    Event.SECOND_YES: {
        State.IDLE: _cell(Do.SURE, Do.INTERRUPT_PENDING),
        State.SPEAKING: _cell(Do.MUTE, Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.SUSPECT: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.CUT: _cell(Do.SURE),
        State.WAIT: _cell(Do.SURE),
    },
    Event.SECOND_NO: {
        State.IDLE: _cell(Do.QUIET),
        State.SPEAKING: _cell(Do.QUIET),
        State.SUSPECT: _cell(Do.RESUME, Do.QUIET, Do.DISARM, to=State.SPEAKING),
        State.CUT: _cell(Do.QUIET),
        State.WAIT: _cell(Do.RELEASE, Do.QUIET, to=State.SPEAKING),
    },
    Event.SERVER_VERDICT: {
        State.IDLE: _cell(Do.SURE, Do.INTERRUPT_PENDING),
        State.SPEAKING: _cell(Do.MUTE, Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.SUSPECT: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.CUT: _cell(Do.SURE, Do.UNDO_TIMER),
        State.WAIT: _cell(Do.SURE),
    },
    Event.SERVER_EVIDENCE: {
        State.IDLE: _cell(Do.SURE, Do.INTERRUPT_PENDING),
        State.SPEAKING: _cell(Do.MUTE, Do.REJECT_TIMER, Do.SURE, to=State.SUSPECT),
        State.SUSPECT: _cell(Do.SURE, Do.REJECT_TIMER),
        State.CUT: _cell(Do.SURE, Do.UNDO_TIMER),
        State.WAIT: _cell(Do.SURE),
    },
    Event.SERVER_STOPPED: {
        State.IDLE: _cell(Do.QUIET),
        State.SPEAKING: _cell(Do.QUIET),
        State.SUSPECT: _cell(Do.QUIET),
        State.CUT: _cell(Do.QUIET, Do.UNDO_TIMER),
        State.WAIT: _cell(Do.INTERRUPT, Do.DROP, Do.QUIET, to=State.IDLE),
    },
    Event.WORDS: {
        State.SPEAKING: _cell(Do.MUTE, Do.INTERRUPT, Do.DROP, to=State.IDLE),
        State.SUSPECT: _cell(Do.INTERRUPT, Do.DROP, to=State.IDLE),
        State.CUT: _cell(Do.DROP, to=State.IDLE),
        State.WAIT: _cell(Do.INTERRUPT, Do.DROP, to=State.IDLE),
    },
    Event.NO_WORDS: {
        State.IDLE: _cell(Do.SWALLOW),
        State.SPEAKING: _cell(Do.SWALLOW),
        State.SUSPECT: _cell(Do.RESUME, Do.SWALLOW, Do.QUIET, to=State.SPEAKING),
        # If nothing is parked, the new turn is drained at once, and that leads to IDLE.
        State.CUT: _cell(Do.SWALLOW, Do.UNDO, Do.QUIET, to=State.SPEAKING),
        State.WAIT: _cell(Do.RELEASE, Do.SWALLOW, Do.QUIET, to=State.SPEAKING),
    },
    Event.DEADLINE: {
        State.SUSPECT: _cell(Do.RESUME, Do.DISARM, to=State.SPEAKING),
        State.CUT: _cell(Do.DROP, to=State.IDLE),
        State.WAIT: _cell(Do.RELEASE, to=State.SPEAKING),
    },
    Event.READY: {
        State.IDLE: _cell(to=State.SPEAKING),
        State.CUT: _cell(Do.DROP, to=State.SPEAKING),
    },
    Event.READY_OVER_SPEECH: {
        State.IDLE: _cell(Do.HOLD, Do.WAIT_TIMER, to=State.WAIT),
        State.CUT: _cell(Do.DROP, Do.HOLD, Do.WAIT_TIMER, to=State.WAIT),
    },
    Event.DRAINED: {
        State.SPEAKING: _cell(to=State.IDLE),
        State.SUSPECT: _cell(Do.RESUME, to=State.IDLE),
        State.WAIT: _cell(Do.RELEASE, to=State.IDLE),
    },
    Event.INTERRUPTED: {
        State.SPEAKING: _cell(Do.DROP, to=State.IDLE),
        State.SUSPECT: _cell(Do.DROP, to=State.IDLE),
        State.CUT: _cell(Do.DROP, to=State.IDLE),
        State.WAIT: _cell(Do.DROP, to=State.IDLE),
    },
    Event.SOCKET_GONE: {
        State.IDLE: _cell(Do.QUIET),
        State.CUT: _cell(Do.DROP, Do.QUIET, to=State.IDLE),
    },
}
"""What to do in each state when something happens. A missing cell: nothing."""

# --- settings -----------------------------------------------------------------------------------

_NS_PER_MS: Final = 1_000_000

REJECT_START_MS: Final = 500
"""Reject deadline until the service's own lateness is known, and with a second stage."""

REJECT_LEAST_MS: Final = 250
"""Shortest reject deadline: a service on the same machine is late by its own detector."""

REJECT_MOST_MS: Final = 1_000
"""Longest reject deadline: a longer silence would be an interruption of its own."""

REJECT_MARGIN_MS: Final = 60
"""Added to the lateness that nine of ten verdicts keep."""

_PAIRS_KEPT: Final = 20
_PAIRS_TRUSTED: Final = 5  # fewer may lengthen the deadline, but not shorten it

PAIR_NS: Final = 2_000_000_000
"""A service that answers later than this to a local edge answers to something else."""

QUIET_NS: Final = 100_000_000
"""Silence of the local detector after which it may mute again."""

MUTES_WINDOW_NS: Final = 5_000_000_000
"""Span in which wrong mutes are counted. An echo mutes itself two to three times a second."""

_SPEECHES_KEPT: Final = 16


@frozen(kw_only=True)
class SecondStageReady(UrgentDown):
    """From here on, somebody judges every sound that a detector takes for speech.

    Comes before the first sound that could be judged, so that the first barge-in of a call is
    already decided by the right rule.

    Attributes:
        source: Who judges; the ``source`` of its `SpeechConfirmed` and `SpeechRejected`.
    """

    source: str


@frozen
class TranscriptVerdict:
    """What a transcript of user speech means for the agent's voice.

    Attributes:
        item_id: The user item.
        has_words: It says something. ``False``: it is empty, or a backchannel such as "yeah"
            that does not answer a question.
    """

    item_id: str
    has_words: bool


Fact: TypeAlias = (
    SpeechStarted
    | SpeechStopped
    | SpeechConfirmed
    | SpeechRejected
    | ReplyPending
    | ReplyReady
    | Drained
    | Interrupt
    | ConnectionState
    | SecondStageReady
    | TranscriptVerdict
)
"""What the core is told."""

Command: TypeAlias = Mute | Unmute | Hold | Release | Interrupt | Swallow | Undo | DropParked
"""What the core orders."""


class _User(IntEnum):
    QUIET = 0
    MAYBE = 1
    SURE = 2


@frozen
class _Speech:
    """Speech of the user that the service noticed.

    ``newest_turn`` is the newest that was open then: all its answers are newer.
    """

    onset_sample: int
    newest_turn: int
    over_agent: bool


@frozen
class _Said:
    """What an event says beside that it happened."""

    turn: int = 0
    onset_sample: int | None = None
    cause: str = ""
    item_id: str = ""


class BargeInCore:
    """Decides when the agent falls silent, goes on, or is cut.

    Args:
        two: A second stage is present (`SpeechConfirmed`, `SpeechRejected`): the service's word
            is then evidence, not a verdict. ``None``: as soon as one is heard of, by
            `SecondStageReady` or by a verdict.
        cause: Written on every `Interrupt`; by default the source that decided it.
        mutes_per_5_s: After so many wrong mutes within five seconds the local detector does not
            mute; the others still do.
        undo_ms: How long after the user's speech a cut reply can still go on.
        wait_ms: How long a new reply waits for a user who speaks.

    Attributes:
        state: What the agent is doing.
        deadline_ns: When to call `deadline_reached`; ``None``: not by itself.
        unarmed_edges: Local edges that did not mute because the detector had been wrong.

    Raises:
        FrameError: A number is not positive.
    """

    def __init__(
        self,
        *,
        two: bool | None = None,
        cause: str | None = None,
        mutes_per_5_s: int = 3,
        undo_ms: int = 2_000,
        wait_ms: int = 3_000,
    ) -> None:
        for name, value in (
            ("mutes_per_5_s", mutes_per_5_s),
            ("undo_ms", undo_ms),
            ("wait_ms", wait_ms),
        ):
            if value <= 0:
                raise FrameError(f"{name} is {value}; it must be 1 or more")
        self.state = State.IDLE
        self.deadline_ns: int | None = None
        self.unarmed_edges = 0
        self._two = bool(two)
        self._learns_two = two is None
        self._cause = cause
        self._mutes_per_5_s = mutes_per_5_s
        self._undo_ns = undo_ms * _NS_PER_MS
        self._wait_ns = wait_ms * _NS_PER_MS
        self._user = _User.QUIET
        # Turns.
        self._newest = 0
        self._audible: int | None = None
        self._pending: set[int] = set()
        self._cut_turn = 0
        # The local detector.
        self._edge: tuple[int, int] | None = None  # when, onset; until the service heard it, too
        self._quiet_since_ns: int | None = None
        self._is_disarmed = False
        self._rejected_ns: deque[int] = deque()
        self._late_ns: deque[int] = deque(maxlen=_PAIRS_KEPT)
        # The service's: speech by item, oldest first; and what was open when speech had ended.
        self._speeches: dict[str, _Speech] = {}
        self._last_onset: int | None = None
        self._stops: deque[tuple[int, int]] = deque(maxlen=_SPEECHES_KEPT)

    # --- in -------------------------------------------------------------------------------------

    def receive(self, fact: Fact, at_ns: int) -> list[Command]:
        """Take note of a fact.

        Args:
            fact: A frame, or what became of a transcript. An `Interrupt` of its own that comes
                back changes nothing.
            at_ns: Engine time.

        Returns:
            Orders, in the order to give them.
        """
        if self._learns_two and isinstance(
            fact, SecondStageReady | SpeechConfirmed | SpeechRejected
        ):
            self._two = True
        match fact:
            case SpeechStarted(source="server"):
                return self._server_started(fact, at_ns)
            case SpeechStarted():
                return self._local_edge(fact, at_ns)
            case SpeechStopped(source="server"):
                self._stops.append((fact.end_sample, self._newest))
                waiting = self._audible or 0
                return self._happens(
                    Event.SERVER_STOPPED, at_ns, _Said(waiting, self._last_onset, fact.source)
                )
            case SpeechStopped():
                self._quiet_since_ns = at_ns
                return []
            case SpeechConfirmed():
                said = _Said(self._before(fact.onset_sample), fact.onset_sample, fact.source)
                return [] if self._is_answer(said) else self._happens(Event.SECOND_YES, at_ns, said)
            case SpeechRejected():
                return self._happens(Event.SECOND_NO, at_ns)
            case TranscriptVerdict():
                return self._transcribed(fact, at_ns)
            case ReplyPending():
                return self._reply_pending(fact)
            case ReplyReady():
                return self._reply_ready(fact, at_ns)
            case Drained():
                self._pending.discard(fact.turn)
                return self._happens(Event.DRAINED, at_ns) if fact.turn == self._audible else []
            case Interrupt():
                return self._interrupted(fact, at_ns)
            case ConnectionState():
                is_gone = fact.state in ("reconnecting", "closed")
                return self._happens(Event.SOCKET_GONE, at_ns) if is_gone else []
            case SecondStageReady():
                return []

    def deadline_reached(self, at_ns: int) -> list[Command]:
        """The time has come.

        Args:
            at_ns: Engine time; too early is no matter.

        Returns:
            As `receive`.
        """
        if self.deadline_ns is None or at_ns < self.deadline_ns:
            return []
        self.deadline_ns = None
        return self._happens(Event.DEADLINE, at_ns)

    @property
    def reject_ns(self) -> int:
        """How long a mute waits for its confirmation, in nanoseconds.

        Without a second stage it follows the service: what nine of ten of its last twenty
        verdicts kept, and a margin.
        """
        start_ns = REJECT_START_MS * _NS_PER_MS
        if self._two or not self._late_ns:
            return start_ns
        late = sorted(self._late_ns)
        p90_ns = late[math.ceil(0.9 * len(late)) - 1]
        wanted_ns = p90_ns + REJECT_MARGIN_MS * _NS_PER_MS
        if len(late) < _PAIRS_TRUSTED:
            wanted_ns = max(wanted_ns, start_ns)
        return min(max(wanted_ns, REJECT_LEAST_MS * _NS_PER_MS), REJECT_MOST_MS * _NS_PER_MS)

    # --- which event is it? ---------------------------------------------------------------------

    def _local_edge(self, fact: SpeechStarted, at_ns: int) -> list[Command]:
        self._edge = at_ns, fact.onset_sample
        quiet_since_ns, self._quiet_since_ns = self._quiet_since_ns, None
        if quiet_since_ns is not None and at_ns - quiet_since_ns >= QUIET_NS:
            self._is_disarmed = False
        while self._rejected_ns and self._rejected_ns[0] <= at_ns - MUTES_WINDOW_NS:
            self._rejected_ns.popleft()
        if not self._is_disarmed and len(self._rejected_ns) < self._mutes_per_5_s:
            return self._happens(Event.LOCAL_EDGE, at_ns)
        self.unarmed_edges += self.state is State.SPEAKING
        return self._happens(Event.LOCAL_EDGE_UNARMED, at_ns)

    def _server_started(self, fact: SpeechStarted, at_ns: int) -> list[Command]:
        onset = fact.onset_sample
        if self._edge is not None and at_ns - self._edge[0] <= PAIR_NS:
            # The local onset is the better one: the service's includes what it put before.
            edge_ns, onset = self._edge
            self._late_ns.append(at_ns - edge_ns)
            while self._rejected_ns and self._rejected_ns[-1] >= edge_ns:
                self._rejected_ns.pop()  # it was speech: the service was late, not the mute wrong
        self._edge = None
        self._last_onset = onset
        if fact.item_id is not None:
            over_agent = self.state in (State.SPEAKING, State.SUSPECT, State.CUT)
            self._speeches[fact.item_id] = _Speech(onset, self._newest, over_agent)
            if len(self._speeches) > _SPEECHES_KEPT:
                del self._speeches[next(iter(self._speeches))]
        event = Event.SERVER_EVIDENCE if self._two else Event.SERVER_VERDICT
        # No answer to this speech can be open yet: the service tells of the speech first.
        return self._happens(event, at_ns, _Said(self._newest, onset, fact.source))

    def _transcribed(self, fact: TranscriptVerdict, at_ns: int) -> list[Command]:
        speech = self._speeches.pop(fact.item_id, None)
        if speech is None:
            return []
        said = _Said(speech.newest_turn, speech.onset_sample, "transcript", fact.item_id)
        if self._is_answer(said) or (self.state is State.IDLE and not speech.over_agent):
            return []
        # "Yeah" into a silence is an answer.
        has_words = fact.has_words or not speech.over_agent
        return self._happens(Event.WORDS if has_words else Event.NO_WORDS, at_ns, said)

    def _is_answer(self, said: _Said) -> bool:
        """Whether what is audible is newer than the speech: nothing to cut for it."""
        is_on = self.state in (State.SPEAKING, State.SUSPECT, State.WAIT)
        return is_on and self._audible is not None and said.turn < self._audible

    def _before(self, onset_sample: int) -> int:
        """The newest turn that cannot be the answer to the speech with this onset."""
        return next((turn for end, turn in self._stops if end > onset_sample), self._newest)

    def _reply_pending(self, fact: ReplyPending) -> list[Command]:
        if fact.turn <= self._cut_turn:
            return []
        self._newest = max(self._newest, fact.turn)
        if self.state is State.SPEAKING and self._audible is None:
            self._audible = fact.turn  # the undone remainder has got its number
        else:
            self._pending.add(fact.turn)
        return []

    def _reply_ready(self, fact: ReplyReady, at_ns: int) -> list[Command]:
        if fact.turn <= self._cut_turn:
            return []
        self._newest = max(self._newest, fact.turn)
        self._pending.discard(fact.turn)
        self._audible = fact.turn
        speaks = self._user is _User.SURE
        return self._happens(Event.READY_OVER_SPEECH if speaks else Event.READY, at_ns)

    def _interrupted(self, fact: Interrupt, at_ns: int) -> list[Command]:
        turn = self._newest if fact.turn is None else fact.turn
        # In CUT it may be our own that comes by, or one that extends it: the service's side knows
        # better which responses are older than an onset. In the other states it is somebody
        # else's: the speaker has just unmuted and the hold is over, whichever turn was meant.
        # A newer one that goes on is announced again.
        is_ours = turn <= self._cut_turn or fact.onset_sample is not None
        is_own = self.state is State.CUT and is_ours
        self._note_cut(turn)
        return [] if is_own else self._happens(Event.INTERRUPTED, at_ns)

    def _note_cut(self, turn: int) -> None:
        self._cut_turn = max(self._cut_turn, turn)
        self._pending = {pending for pending in self._pending if pending > turn}

    # --- what to do about it --------------------------------------------------------------------

    def _happens(self, event: Event, at_ns: int, said: _Said | None = None) -> list[Command]:
        cell = TABLE[event].get(self.state)
        if cell is None:
            return []
        if cell.to is not None:
            self.state = cell.to
            self.deadline_ns = None
        orders: list[Command] = []
        for do in cell.actions:
            orders += self._perform(do, at_ns, said or _Said())
        return orders

    def _perform(self, do: Do, at_ns: int, said: _Said) -> list[Command]:
        match do:
            case Do.MUTE:
                return [Mute(at_ns=at_ns), Hold(at_ns=at_ns)]
            case Do.RESUME:
                return [Release(at_ns=at_ns), Unmute(at_ns=at_ns)]
            case Do.INTERRUPT:
                return [self._interrupt(said, at_ns)]
            case Do.INTERRUPT_PENDING:
                if any(pending <= said.turn for pending in self._pending):
                    return [self._interrupt(said, at_ns)]
            case Do.HOLD:
                return [Hold(at_ns=at_ns)]
            case Do.RELEASE:
                return [Release(at_ns=at_ns)]
            case Do.SWALLOW:
                return [Swallow(item_id=said.item_id, at_ns=at_ns)]
            case Do.UNDO:
                self._audible = None
                return [Undo(at_ns=at_ns)]
            case Do.DROP:
                return [DropParked(at_ns=at_ns)]
            case Do.REJECT_TIMER:
                self.deadline_ns = at_ns + self.reject_ns
            case Do.UNDO_TIMER:
                self.deadline_ns = at_ns + self._undo_ns
            case Do.WAIT_TIMER:
                self.deadline_ns = at_ns + self._wait_ns
            case Do.DISARM:
                self._is_disarmed = True
                self._rejected_ns.append(at_ns)
            case Do.MAYBE:
                self._user = max(self._user, _User.MAYBE)  # it does not unsay what is certain
            case Do.SURE:
                self._user = _User.SURE
            case Do.QUIET:
                self._user = _User.QUIET
        return []

    def _interrupt(self, said: _Said, at_ns: int) -> Interrupt:
        self._note_cut(said.turn)
        return Interrupt(
            turn=said.turn,
            onset_sample=said.onset_sample,
            cause=said.cause if self._cause is None else self._cause,
            at_ns=at_ns,
        )
