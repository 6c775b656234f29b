"""What `BargeInCore` does in each state when something happens: the rules of barge-in, as a table.

A suspicion silences the agent and holds what it says, or, by another policy, ducks it while it goes
on; the two are different states and never mix. A confirmation cuts. What was cut stays parked for a
while, because the words may show that the interruption was none.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from attrs import frozen


class State(Enum):
    """What the agent is doing."""

    IDLE = auto()
    """Nothing is audible."""
    SPEAKING = auto()
    """A reply is audible."""
    SUSPECT = auto()
    """Muted and held: the user may have spoken. The only muted state."""
    DUCKED = auto()
    """The agent goes on quietly: the user may have spoken. Not held."""
    CUT = auto()
    """A reply was cut, and its remainder is parked for a while. Not muted."""
    DOUBT = auto()
    """The answer to a short interruption is ready and held: its words are not known yet, and what
    was cut may still go on."""
    WAIT = auto()
    """A reply is ready and held before its first sample, because the user speaks."""


class Event(Enum):
    """What can happen."""

    LOCAL_EDGE = auto()
    """The local detector heard something, and may mute."""
    LOCAL_EDGE_DUCKS = auto()
    """The same, where a suspicion ducks."""
    LOCAL_EDGE_UNARMED = auto()
    """It heard something, and may not mute now: it was wrong too often, or the profile says so."""
    SECOND_YES = auto()
    """The second stage says that it is speech."""
    SECOND_NO = auto()
    """The second stage says that it is none."""
    SERVER_VERDICT = auto()
    """The service heard speech, and its word counts: there is no second stage to ask."""
    EVIDENCE = auto()
    """Somebody heard speech whose word is not enough. The service takes every cough for it."""
    EVIDENCE_DUCKS = auto()
    """The same, where a suspicion ducks."""
    REFUSED = auto()
    """The user speaks, and may not interrupt what is audible."""
    SERVER_STOPPED = auto()
    """The service heard the end of the speech."""
    SPEECH_OVER = auto()
    """The ears here heard the end of speech that the service never noticed."""
    WORDS = auto()
    """The transcript has words that mean something."""
    NO_WORDS = auto()
    """The transcript is empty, or says "yeah" while the agent talks."""
    NO_VERDICT = auto()
    """There is no transcript, and none will come."""
    TURN_REJECTED = auto()
    """What the service took for a user turn was none; the voice is not touched."""
    DEADLINE = auto()
    """The time is up."""
    READY = auto()
    """The first sample of a reply is there, and the user is quiet."""
    READY_OVER_SPEECH = auto()
    """The first sample of a reply is there while the user certainly speaks."""
    READY_BEFORE_WORDS = auto()
    """The first sample of the answer to a short interruption is there before its transcript."""
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
    DUCK = auto()
    """`Mute` down, with a gain that leaves the agent audible."""
    UNDUCK = auto()
    """`Unmute` down."""
    INTERRUPT = auto()
    """`Interrupt` up. It reaches the speaker first, fades out by itself if the agent was not muted,
    unmutes the speaker and ends a hold."""
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
    WORDS_TIMER = auto()
    """Do not wait for the words for long."""
    COUNT = auto()
    """Count an attempt to interrupt what must be heard."""
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
        State.DOUBT: _cell(Do.MAYBE),
    },
    Event.LOCAL_EDGE_DUCKS: {
        State.IDLE: _cell(Do.MAYBE),
        State.SPEAKING: _cell(Do.DUCK, Do.REJECT_TIMER, Do.MAYBE, to=State.DUCKED),
        State.CUT: _cell(Do.MAYBE),
        State.DOUBT: _cell(Do.MAYBE),
    },
    Event.LOCAL_EDGE_UNARMED: {
        State.IDLE: _cell(Do.MAYBE),
        State.SPEAKING: _cell(Do.MAYBE),
        State.CUT: _cell(Do.MAYBE),
        State.DOUBT: _cell(Do.MAYBE),
    },
    Event.SECOND_YES: {
        State.IDLE: _cell(Do.SURE, Do.INTERRUPT_PENDING),
        State.SPEAKING: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.SUSPECT: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.DUCKED: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.CUT: _cell(Do.SURE),
        State.DOUBT: _cell(Do.DROP, Do.SURE, Do.WAIT_TIMER, to=State.WAIT),
        State.WAIT: _cell(Do.SURE),
    },
    Event.SECOND_NO: {
        State.IDLE: _cell(Do.QUIET),
        State.SPEAKING: _cell(Do.QUIET),
        State.SUSPECT: _cell(Do.RESUME, Do.QUIET, Do.DISARM, to=State.SPEAKING),
        State.DUCKED: _cell(Do.UNDUCK, Do.QUIET, Do.DISARM, to=State.SPEAKING),
        State.CUT: _cell(Do.QUIET),
        State.DOUBT: _cell(Do.QUIET),
        State.WAIT: _cell(Do.RELEASE, Do.QUIET, to=State.SPEAKING),
    },
    Event.SERVER_VERDICT: {
        State.IDLE: _cell(Do.SURE, Do.INTERRUPT_PENDING),
        State.SPEAKING: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.SUSPECT: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.DUCKED: _cell(Do.INTERRUPT, Do.SURE, Do.UNDO_TIMER, to=State.CUT),
        State.CUT: _cell(Do.SURE, Do.UNDO_TIMER),
        State.DOUBT: _cell(Do.DROP, Do.SURE, Do.WAIT_TIMER, to=State.WAIT),
        State.WAIT: _cell(Do.SURE),
    },
    Event.EVIDENCE: {
        State.IDLE: _cell(Do.SURE),
        State.SPEAKING: _cell(Do.MUTE, Do.REJECT_TIMER, Do.SURE, to=State.SUSPECT),
        State.SUSPECT: _cell(Do.SURE, Do.REJECT_TIMER),
        State.DUCKED: _cell(Do.SURE, Do.REJECT_TIMER),
        State.CUT: _cell(Do.SURE, Do.UNDO_TIMER),
        State.DOUBT: _cell(Do.DROP, Do.SURE, Do.WAIT_TIMER, to=State.WAIT),
        State.WAIT: _cell(Do.SURE),
    },
    Event.EVIDENCE_DUCKS: {
        State.IDLE: _cell(Do.SURE),
        State.SPEAKING: _cell(Do.DUCK, Do.REJECT_TIMER, Do.SURE, to=State.DUCKED),
        State.SUSPECT: _cell(Do.SURE, Do.REJECT_TIMER),
        State.DUCKED: _cell(Do.SURE, Do.REJECT_TIMER),
        State.CUT: _cell(Do.SURE, Do.UNDO_TIMER),
        State.DOUBT: _cell(Do.DROP, Do.SURE, Do.WAIT_TIMER, to=State.WAIT),
        State.WAIT: _cell(Do.SURE),
    },
    Event.REFUSED: {
        State.IDLE: _cell(Do.SURE),
        State.SPEAKING: _cell(Do.SURE, Do.COUNT),
        State.SUSPECT: _cell(Do.SURE, Do.COUNT),
        State.DUCKED: _cell(Do.SURE, Do.COUNT),
        State.CUT: _cell(Do.SURE),
        State.DOUBT: _cell(Do.SURE),
        State.WAIT: _cell(Do.SURE),
    },
    Event.SERVER_STOPPED: {
        State.IDLE: _cell(Do.QUIET),
        State.SPEAKING: _cell(Do.QUIET),
        State.SUSPECT: _cell(Do.QUIET),
        State.DUCKED: _cell(Do.QUIET),
        State.CUT: _cell(Do.QUIET, Do.UNDO_TIMER),
        State.DOUBT: _cell(Do.QUIET),
        State.WAIT: _cell(Do.INTERRUPT, Do.DROP, Do.QUIET, to=State.IDLE),
    },
    Event.SPEECH_OVER: {
        State.IDLE: _cell(Do.QUIET),
        State.SPEAKING: _cell(Do.QUIET),
        State.SUSPECT: _cell(Do.QUIET),
        State.DUCKED: _cell(Do.QUIET),
        State.CUT: _cell(Do.QUIET, Do.UNDO_TIMER),
        State.DOUBT: _cell(Do.QUIET),
        State.WAIT: _cell(Do.RELEASE, Do.QUIET, to=State.SPEAKING),
    },
    Event.WORDS: {
        State.SPEAKING: _cell(Do.INTERRUPT, Do.DROP, to=State.IDLE),
        State.SUSPECT: _cell(Do.INTERRUPT, Do.DROP, to=State.IDLE),
        State.DUCKED: _cell(Do.INTERRUPT, Do.DROP, to=State.IDLE),
        State.CUT: _cell(Do.DROP, to=State.IDLE),
        State.DOUBT: _cell(Do.DROP, Do.RELEASE, to=State.SPEAKING),
        State.WAIT: _cell(Do.INTERRUPT, Do.DROP, to=State.IDLE),
    },
    Event.NO_WORDS: {
        State.SPEAKING: _cell(Do.SWALLOW),
        State.SUSPECT: _cell(Do.RESUME, Do.SWALLOW, Do.QUIET, to=State.SPEAKING),
        State.DUCKED: _cell(Do.UNDUCK, Do.SWALLOW, Do.QUIET, to=State.SPEAKING),
        # If nothing is parked, the new turn is drained at once, and that leads to IDLE.
        State.CUT: _cell(Do.SWALLOW, Do.UNDO, Do.QUIET, to=State.SPEAKING),
        State.DOUBT: _cell(Do.SWALLOW, Do.UNDO, Do.RELEASE, Do.QUIET, to=State.SPEAKING),
        State.WAIT: _cell(Do.RELEASE, Do.SWALLOW, Do.QUIET, to=State.SPEAKING),
    },
    Event.NO_VERDICT: {
        State.CUT: _cell(Do.DROP, to=State.IDLE),
        State.DOUBT: _cell(Do.DROP, Do.RELEASE, to=State.SPEAKING),
    },
    Event.TURN_REJECTED: {
        State.IDLE: _cell(Do.SWALLOW),
        State.SPEAKING: _cell(Do.SWALLOW),
        State.SUSPECT: _cell(Do.SWALLOW),
        State.DUCKED: _cell(Do.SWALLOW),
        State.CUT: _cell(Do.SWALLOW),
        State.DOUBT: _cell(Do.SWALLOW),
        State.WAIT: _cell(Do.SWALLOW),
    },
    Event.DEADLINE: {
        State.SUSPECT: _cell(Do.RESUME, Do.DISARM, to=State.SPEAKING),
        State.DUCKED: _cell(Do.UNDUCK, Do.DISARM, to=State.SPEAKING),
        State.CUT: _cell(Do.DROP, to=State.IDLE),
        State.DOUBT: _cell(Do.DROP, Do.RELEASE, to=State.SPEAKING),
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
    Event.READY_BEFORE_WORDS: {
        State.IDLE: _cell(Do.HOLD, Do.WORDS_TIMER, to=State.DOUBT),
        State.CUT: _cell(Do.HOLD, Do.WORDS_TIMER, to=State.DOUBT),
    },
    Event.DRAINED: {
        State.SPEAKING: _cell(to=State.IDLE),
        State.SUSPECT: _cell(Do.RESUME, to=State.IDLE),
        State.DUCKED: _cell(Do.UNDUCK, to=State.IDLE),
        State.DOUBT: _cell(Do.DROP, Do.RELEASE, to=State.IDLE),
        State.WAIT: _cell(Do.RELEASE, to=State.IDLE),
    },
    Event.INTERRUPTED: {
        State.SPEAKING: _cell(Do.DROP, to=State.IDLE),
        State.SUSPECT: _cell(Do.DROP, to=State.IDLE),
        State.DUCKED: _cell(Do.DROP, to=State.IDLE),
        State.CUT: _cell(Do.DROP, to=State.IDLE),
        State.DOUBT: _cell(Do.DROP, to=State.IDLE),
        State.WAIT: _cell(Do.DROP, to=State.IDLE),
    },
    Event.SOCKET_GONE: {
        State.IDLE: _cell(Do.QUIET),
        State.CUT: _cell(Do.DROP, Do.QUIET, to=State.IDLE),
        State.DOUBT: _cell(Do.DROP, Do.RELEASE, Do.QUIET, to=State.SPEAKING),
    },
}
"""What to do in each state when something happens. A missing cell: nothing."""
