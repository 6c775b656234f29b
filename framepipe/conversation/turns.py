"""Whose turn is it, and which answer belongs to it?

A user turn is a hypothesis. It begins with speech, grows with every word and with every item of
the service that the user's voice becomes, and ends in one of two ways: *committed*, after which
it never changes, or *revoked*, and with it everything that was grounded in it: the answer, its
queued and audible voice, its tool calls that run or wait. The words of a revoked turn are not
lost: they belong to the turn that supersedes it.

Sans-IO: facts go in through `TurnCore.receive`, frames to emit come out as its return value. Time
is an argument, and `TurnCore.deadline_ns` the only timer. The rules are `TABLE`: one cell for
each state of the newest turn and each event, nothing for what changes nothing. The rest of the
file decides which event a fact is, and spells the orders out.

Four rules are not in the table, because they say what an event is:

- A turn is committed when nothing was said for a while after its *last word*, not after its
  answer was ready: most calls of tools come late enough to wait for nothing.
- Speech over the agent's voice is the barge-in's to judge. Only when it has cut the voice is the
  speech a turn, or the rest of the one before if little was heard.
- A sound that only may be speech (a local edge that nobody has confirmed) postpones everything
  by a second, and changes nothing.
- After the voice was cut, the turn before it stays undecided until the words are known that cut
  it: they may correct it, and "thanks" must not stop a booking.

Two questions are left to others: `Corrections` says whether words take back earlier words, and
`EndOfTurn` after how much silence words are a whole turn.

Source: the incremental units (add, revoke, commit) of Schlangen and Skantze (2009).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import Final, Literal, Protocol, TypeAlias, TypeGuard

from attrs import define, evolve, field, frozen

from framepipe.conversation import endpointing
from framepipe.conversation.endpointing import EndOfTurnPolicy
from framepipe.conversation.objections import is_thanks, objects
from framepipe.errors import FrameError
from framepipe.frames import (
    NS_PER_S,
    SAMPLE_BYTES,
    AudioDone,
    AudioOut,
    ConnectionState,
    End,
    Heard,
    Interrupt,
    Played,
    Proceed,
    ReplyPending,
    Revoke,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    TextOut,
    ToolCall,
    Transcript,
    TurnAmended,
    UserTurn,
)

# --- what others answer -----------------------------------------------------------------------


@frozen
class Correction:
    """A part of what was said is taken back.

    Attributes:
        old: The words that are void, as they were said; "" if it cannot be said which.
        new: The words in their place; "" if there are none ("scratch that").
    """

    old: str
    new: str


class Corrections(Protocol):
    """Tells a correction from an answer, an addition and a new request."""

    def correction(self, earlier: str, later: str, /) -> Correction | None:
        """Whether ``later`` takes back a part of ``earlier``.

        Called with every piece of the transcript: the answer may change from ``None`` to a
        correction, and shall not change back.

        Args:
            earlier: The words of a user turn before, as far as its transcript goes.
            later: The words that follow it, as far as they have come.
        """
        ...


class EndOfTurn(Protocol):
    """Tells how much silence ends a turn.

    An `EndOfTurnPolicy` may stand in its place: it is told what it asks for, and its judgement
    ends the turn. One that is both is told, and asked for the silence.
    """

    def silence_ms(self, text: str, /) -> int | None:
        """Silence in milliseconds after which these words are a whole turn.

        Short for "to Denver on Friday", long for "to um" or "and"; ``None``: it cannot tell.

        Args:
            text: All words of the user turn until now.
        """
        ...


# --- the table --------------------------------------------------------------------------------


class State(Enum):
    """Where the newest user turn is."""

    NONE = auto()
    """There is none: the last one is committed or revoked."""
    SPEAKING = auto()
    """The user is speaking."""
    OPEN = auto()
    """The user is silent, and has heard nothing of an answer."""
    COOLING = auto()
    """As OPEN, and answers are held: the user has just interrupted."""
    ANSWERED = auto()
    """An answer was let through. The turn is not committed yet."""


class Event(Enum):
    """What can happen."""

    SPEECH = auto()
    """The user certainly speaks, and no voice of the agent is on its way to the ear; or types."""
    SPEECH_OVER_VOICE = auto()
    """The user certainly speaks, over the agent or just before its first sample."""
    PAUSE = auto()
    """The user has stopped speaking."""
    PAUSE_TO_COOL = auto()
    """The user has stopped speaking after an interruption."""
    CUT_EARLY = auto()
    """The voice was cut by speech, and little of it had been heard."""
    CUT_LATE = auto()
    """The voice was cut by speech after more of it."""
    REPLY = auto()
    """The first sound or text of an answer to this turn is there."""
    COMPLETE = auto()
    """The cool-down is over: there was silence enough for these words."""
    SILENCE = auto()
    """There was silence long enough to commit."""
    READ_BACK = auto()
    """The user has listened to the answer, and has not objected."""
    NOISE = auto()
    """What was taken for the turn's words was none, and there was nothing before it."""
    NOISE_BACK = auto()
    """What was taken for words was none, and the answer before it goes on."""
    ANSWER_LOST = auto()
    """What was let through answered a noise, and the answer before it is withdrawn already."""
    END = auto()
    """The call ends."""


class Do(Enum):
    """What can be done about it."""

    BEGIN = auto()
    """A turn begins."""
    BEGIN_NEXT = auto()
    """A turn begins, and the one before is undecided until its words are known."""
    JOIN = auto()
    """The speech is the rest of the turn before. Its answer is void if the speech has words."""
    WITHDRAW = auto()
    """Nobody has heard the answer: cut it, and revoke it on the service."""
    COOL = auto()
    """When the speech is over, hold answers."""
    RELEASE = auto()
    """Let go what is held."""
    COMMIT = auto()
    """The turn is committed, and its waiting tools go ahead."""
    FORGET = auto()
    """The turn is revoked: it had no words."""
    RESTORE = auto()
    """The turn is as it was before the noise."""


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
    Event.SPEECH: {
        State.NONE: _cell(Do.BEGIN, to=State.SPEAKING),
        State.OPEN: _cell(Do.WITHDRAW, to=State.SPEAKING),
        State.COOLING: _cell(Do.WITHDRAW, Do.COOL, to=State.SPEAKING),
        State.ANSWERED: _cell(Do.BEGIN_NEXT, to=State.SPEAKING),
    },
    Event.SPEECH_OVER_VOICE: {
        State.NONE: _cell(Do.BEGIN, to=State.SPEAKING),
        State.OPEN: _cell(Do.WITHDRAW, to=State.SPEAKING),
        State.COOLING: _cell(Do.WITHDRAW, Do.COOL, to=State.SPEAKING),
    },
    Event.PAUSE: {
        State.SPEAKING: _cell(to=State.OPEN),
        # The barge-in has let the agent speak on, but the service will answer all the same.
        State.ANSWERED: _cell(Do.BEGIN_NEXT, to=State.OPEN),
    },
    Event.PAUSE_TO_COOL: {
        State.SPEAKING: _cell(to=State.COOLING),
        State.ANSWERED: _cell(Do.BEGIN_NEXT, to=State.COOLING),
    },
    Event.CUT_EARLY: {
        State.SPEAKING: _cell(Do.COOL),
        State.OPEN: _cell(to=State.COOLING),
        State.ANSWERED: _cell(Do.JOIN, Do.COOL, to=State.SPEAKING),
    },
    Event.CUT_LATE: {
        State.SPEAKING: _cell(Do.COOL),
        State.OPEN: _cell(to=State.COOLING),
        State.ANSWERED: _cell(Do.BEGIN_NEXT, Do.COOL, to=State.SPEAKING),
    },
    Event.REPLY: {
        State.OPEN: _cell(to=State.ANSWERED),
    },
    Event.COMPLETE: {
        State.COOLING: _cell(Do.RELEASE, to=State.OPEN),
    },
    Event.SILENCE: {
        State.OPEN: _cell(Do.COMMIT, to=State.NONE),
        State.ANSWERED: _cell(Do.COMMIT, to=State.NONE),
    },
    Event.READ_BACK: {
        State.ANSWERED: _cell(Do.COMMIT, to=State.NONE),
    },
    Event.NOISE: {
        State.SPEAKING: _cell(Do.FORGET, to=State.NONE),
        State.OPEN: _cell(Do.FORGET, to=State.NONE),
        State.COOLING: _cell(Do.FORGET, Do.RELEASE, to=State.NONE),
        State.ANSWERED: _cell(Do.FORGET, to=State.NONE),
    },
    Event.NOISE_BACK: {
        State.SPEAKING: _cell(Do.RESTORE, to=State.ANSWERED),
        State.OPEN: _cell(Do.RESTORE, to=State.ANSWERED),
        State.COOLING: _cell(Do.RESTORE, Do.RELEASE, to=State.ANSWERED),
        State.ANSWERED: _cell(Do.RESTORE),
    },
    Event.ANSWER_LOST: {
        State.ANSWERED: _cell(to=State.OPEN),
    },
    Event.END: {
        State.OPEN: _cell(Do.COMMIT, to=State.NONE),
        State.COOLING: _cell(Do.RELEASE, Do.COMMIT, to=State.NONE),
        State.ANSWERED: _cell(Do.COMMIT, to=State.NONE),
    },
}
"""What to do in each state when something happens. A missing cell: nothing."""

# --- settings -----------------------------------------------------------------------------------

_NS_PER_MS: Final = 1_000_000

COMMIT_MS: Final = 1_500
"""Silence after the last word that commits a turn. Calls of tools come about so late anyway."""

COOL_DOWN_MS: Final = 1_500
"""Silence after an interruption before an answer is heard, where nobody knows better. Always to
wait so long brings dead air into a third of the conversations: give it an `EndOfTurn`."""

JOIN_MS: Final = 1_000
"""Less heard of an answer than this: the user had not finished when it began."""

READ_BACK_MS: Final = 600
"""An answer heard for so long without an objection is understood: people object sooner."""

MAYBE_NS: Final = NS_PER_S
"""How long a sound that nobody confirms or rejects postpones what is due."""

CAUSE: Final = "turns"
"""The cause of the cuts that are made here."""

HELD_BYTES: Final = 600 * 24_000 * 2
"""What is held at most: ten minutes of audio, as much as may wait before the speaker. An answer
that is longer is heard too early rather than in part."""

FRAME_BYTES: Final = 512
"""What a frame takes beside its audio."""

_REPLIES_KEPT: Final = 16
_TURNS_KEPT: Final = 4
_ITEMS_KEPT: Final = 256

Fact: TypeAlias = (
    SpeechStarted
    | SpeechStopped
    | SpeechConfirmed
    | SpeechRejected
    | Transcript
    | ReplyPending
    | AudioOut
    | AudioDone
    | TextOut
    | ToolCall
    | Interrupt
    | Swallow
    | Heard
    | Played
    | ConnectionState
    | End
)
"""What the core is told. All but `AudioOut`, `AudioDone`, `TextOut` and `Interrupt` go their own
way; those four come back when they may pass."""

Command: TypeAlias = (
    UserTurn | TurnAmended | AudioOut | AudioDone | TextOut | Interrupt | Revoke | Proceed
)
"""What the core wants emitted, in this order."""


def english_hint(correction: Correction) -> str:
    """What the model is told of a correction that it may have answered already."""
    if correction.old and correction.new:
        return (
            f'The user has corrected themselves: "{correction.new}" takes the place of '
            f'"{correction.old}". Answer the corrected request only.'
        )
    if correction.old:
        return f'The user has taken back "{correction.old}". Do not act on it.'
    return "The user has corrected themselves. What they say last is what counts."


@frozen
class Floor:
    """Who has the floor, and what the user waits for.

    Attributes:
        user_speaks: Certainly.
        agent_speaks: A voice was let through and is not wholly heard or cut yet.
        waits_since_ns: The user waits for an answer since then; ``None``: for nothing.
        item_ids: The user items that wait for it.
        answers: Answers of the service that were let through so far.
    """

    user_speaks: bool = False
    agent_speaks: bool = False
    waits_since_ns: int | None = None
    item_ids: tuple[str, ...] = ()
    answers: int = 0


@define(eq=False)
class _Turn:
    """A user turn.

    Attributes:
        end_ns: When its last word was over, as far as is known.
        joined: Its items before the speech that went on with it; the rest may correct them.
        voice_was_cut: That speech cut an answer that the user heard.
        revoked: Items of which the service was told that their answer is void.
        is_undecided: Its answer was cut, and the words that did it are not known yet.
        is_typed: Its last words were typed, so nobody has silenced the agent for them.
        disturbed: When it began, the answer before it was not wholly heard.
        went_ahead: Calls with effects that were let go for it.
    """

    turn_id: str
    end_ns: int
    revision: int = 0
    is_told: bool = False
    is_committed: bool = False
    supersedes: str | None = None
    items: list[str] = field(factory=list[str])
    joined: list[str] = field(factory=list[str])
    voice_was_cut: bool = False
    revoked: set[str] = field(factory=set[str])
    is_undecided: bool = False
    is_corrected: bool = False
    is_typed: bool = False
    disturbed: bool = False
    went_ahead: list[ToolCall] = field(factory=list[ToolCall])

    @property
    def rest(self) -> list[str]:
        return [item_id for item_id in self.items if item_id not in self.joined]


_Voice: TypeAlias = AudioOut | AudioDone | TextOut


@define(eq=False)
class _Reply:
    """An agent's turn, and the user turn that it answers; ``None``: nobody's, as a greeting.

    ``parts``: what was let through and is not wholly heard or cut yet.
    """

    turn: int
    user: _Turn | None
    item_ids: tuple[str, ...] = ()
    is_void: bool = False
    is_cut: bool = False
    passed: bool = False
    parts: set[tuple[str | None, int]] = field(factory=set[tuple[str | None, int]])
    heard_ms: int = 0
    base_sample: int = 0
    held: deque[_Voice] = field(factory=deque[_Voice])
    calls: list[ToolCall] = field(factory=list[ToolCall])

    @property
    def is_alive(self) -> bool:
        return not (self.is_void or self.is_cut)

    @property
    def is_audible(self) -> bool:
        return self.is_alive and bool(self.parts)


class TurnCore:
    """Keeps the user's turns, and decides which answers are heard and which tools act.

    Args:
        corrections: Tells a correction across turns; ``None``: there are none, and only speech
            before an answer was heard belongs to the turn before.
        end_of_turn: Ends a cool-down before its time, or a policy that decides when an answer may
            be heard; ``None``: a cool-down lasts ``cool_down_ms``.
        rate_hz: Samples per second of the capture clock.
        commit_ms: Silence after the last word that commits a turn.
        cool_down_ms: Silence after an interruption before an answer is heard, when
            ``end_of_turn`` cannot tell.
        join_ms: If less of an answer was heard when it was cut, the speech goes on with the
            turn that it answered.
        read_back_ms: An answer heard for so long without objection commits its turn.
        hold: After which speech answers are held: after an interruption, or always; the answer
            is then prepared early and heard when ``end_of_turn`` says so.
        asks: The service does not answer by itself (``create_response=False``): the answer is
            asked for when the turn is over. Needs ``hold="always"``.
        objects: Whether words may be an objection; they then withdraw a call that waits.
        hint: What the model is told of a correction.

    Attributes:
        state: Where the newest user turn is.
        withdrawn: Answers that were cut before anything of them was heard.
        revoked: Turns that were revoked for a correction.

    Raises:
        FrameError: A number is out of its range.
    """

    def __init__(
        self,
        *,
        corrections: Corrections | None = None,
        end_of_turn: EndOfTurn | EndOfTurnPolicy | None = None,
        rate_hz: int = 24_000,
        commit_ms: int = COMMIT_MS,
        cool_down_ms: int = COOL_DOWN_MS,
        join_ms: int = JOIN_MS,
        read_back_ms: int = READ_BACK_MS,
        hold: Literal["interruption", "always"] = "interruption",
        asks: bool = False,
        objects: Callable[[str], bool] = objects,
        hint: Callable[[Correction], str] = english_hint,
    ) -> None:
        for name, value, least in (
            ("rate_hz", rate_hz, 1),
            ("commit_ms", commit_ms, 0),
            ("join_ms", join_ms, 0),
            ("read_back_ms", read_back_ms, 1),
        ):
            if value < least:
                raise FrameError(f"{name} is {value}; it must be {least} or more")
        if asks and hold != "always":
            raise FrameError('asks=True needs hold="always": nobody else ends the turn')
        self.state = State.NONE
        self.withdrawn = 0
        self.revoked = 0
        self._corrections = corrections
        self._policy = end_of_turn if _is_policy(end_of_turn) else None
        self._end_of_turn = end_of_turn if _tells_silence(end_of_turn) else None
        self._asks = asks
        self._rate_hz = rate_hz
        self._commit_ns = commit_ms * _NS_PER_MS
        self.cool_down_ms = cool_down_ms
        self._join_ms = join_ms
        self._read_back_ms = read_back_ms
        self._always = hold == "always"
        self._objects = objects
        self._hint = hint
        # The ears.
        self._base_ns: int | None = None  # engine time of the capture clock's sample 0, at most
        self._maybe_until_ns = -MAYBE_NS
        self._local_end: int | None = None  # the local detector's last word; None: it hears one
        self._server_end = 0
        self._by_server = False
        self._by_second_stage = False
        self._cools = False
        # The turns: the newest, and the one before while it is undecided.
        self._n_turns = 0
        self._newest: _Turn | None = None
        self._earlier: _Turn | None = None
        self._recent: deque[_Turn] = deque(maxlen=_TURNS_KEPT)
        # The items: whose they are, their words, and those of speech over a voice that goes on.
        self._turn_of: OrderedDict[str, _Turn] = OrderedDict()
        self._words: OrderedDict[str, str] = OrderedDict()
        self._whole: set[str] = set()
        self._loose: list[str] = []
        self._judge_at_ns: int | None = None
        # The answers.
        self._replies: OrderedDict[int, _Reply] = OrderedDict()
        self._cut_reply: _Reply | None = None
        self._unclaimed: list[ToolCall] = []
        self._waits: _Turn | None = None  # the turn whose answer has not come
        self._answers = 0
        self._played_samples = 0
        self._held_bytes = 0

    @property
    def cool_down_ms(self) -> int:
        """Silence after an interruption before an answer is heard; may be set at any time.

        Raises:
            FrameError: It is negative.
        """
        return self._cool_down_ns // _NS_PER_MS

    @cool_down_ms.setter
    def cool_down_ms(self, cool_down_ms: int) -> None:
        if cool_down_ms < 0:
            raise FrameError(f"cool_down_ms is {cool_down_ms}; it must be 0 or more")
        self._cool_down_ns = cool_down_ms * _NS_PER_MS

    # --- in -------------------------------------------------------------------------------------

    def receive(self, fact: Fact, at_ns: int) -> list[Command]:
        """Take note of a fact.

        Args:
            fact: A frame that passes, in either direction.
            at_ns: Engine time.

        Returns:
            What to emit, in this order; an `Interrupt` comes back first, with what was held.
        """
        match fact:
            case AudioOut() | AudioDone() | TextOut():
                return self._voice(fact, at_ns)
            case SpeechStarted() | SpeechConfirmed():
                return self._sound(fact, at_ns)
            case SpeechRejected():
                self._maybe_until_ns = min(self._maybe_until_ns, at_ns)
            case SpeechStopped():
                return self._stopped(fact, at_ns)
            case Transcript(who="user"):
                typed = self._typed(fact, at_ns) if fact.typed else []
                return [*typed, *self._transcribed(fact, at_ns)]
            case Transcript():
                pass
            case ReplyPending():
                return self._reply_pending(fact, at_ns)
            case ToolCall():
                return self._called(fact, at_ns)
            case Interrupt():
                return self._interrupted(fact, at_ns)
            case Swallow():
                return self._swallowed(fact.item_id, at_ns)
            case Heard():
                self._heard(fact)
            case Played():
                return self._played(fact, at_ns)
            case ConnectionState(state="reconnecting" | "closed"):
                self._by_server = self._by_second_stage = False
                return self._paused(at_ns, at_ns)
            case ConnectionState():
                pass
            case End():
                return [*self._paused(at_ns, at_ns), *self._happens(Event.END, at_ns)]
        return []

    @property
    def deadline_ns(self) -> int | None:
        """When to call `deadline_reached`; ``None``: not by itself."""
        times: list[int] = [] if self._judge_at_ns is None else [self._judge_at_ns]
        earlier, turn = self._earlier, self._newest
        if earlier is not None and not earlier.is_undecided:
            times.append(earlier.end_ns + self._commit_ns)
        if turn is not None and self.state is not State.SPEAKING and not self._speaks_over:
            due_ns: int | None = turn.end_ns + self._commit_ns
            if self.state is State.COOLING:
                due_ns = self._release_ns(turn)
            if due_ns is not None:
                times.append(max(due_ns, self._maybe_until_ns))
        return min(times, default=None)

    def deadline_reached(self, at_ns: int) -> list[Command]:
        """The time has come.

        Args:
            at_ns: Engine time; too early is no matter.

        Returns:
            As `receive`.
        """
        made: list[Command] = []
        if self._judge_at_ns is not None and at_ns >= self._judge_at_ns:
            self._judge_at_ns = None
            made += self._judge(at_ns, words_are_whole=True)
        earlier, turn = self._earlier, self._newest
        is_due = earlier is not None and at_ns >= earlier.end_ns + self._commit_ns
        if earlier is not None and is_due and not earlier.is_undecided:
            self._earlier = None
            made += self._committed(earlier, at_ns)
        if turn is None or self._speaks_over or at_ns < self._maybe_until_ns:
            return made
        release_ns = self._release_ns(turn) if self.state is State.COOLING else None
        if release_ns is not None and at_ns >= release_ns:
            made += self._happens(Event.COMPLETE, at_ns)
        if self.state is not State.COOLING and at_ns >= turn.end_ns + self._commit_ns:
            made += self._happens(Event.SILENCE, at_ns)
        return made

    @property
    def is_speaking(self) -> bool:
        """Whether the user certainly speaks."""
        return self._by_server or self._by_second_stage

    @property
    def is_audible(self) -> bool:
        """Whether a voice was let through and is not wholly heard or cut yet."""
        return any(reply.is_audible for reply in self._replies.values())

    @property
    def floor(self) -> Floor:
        """Who has the floor now."""
        waits = self._waits if not any(r.held for r in self._replies.values()) else None
        return Floor(
            user_speaks=self.is_speaking,
            agent_speaks=self.is_audible,
            waits_since_ns=None if waits is None else waits.end_ns,
            item_ids=() if waits is None else tuple(waits.items),
            answers=self._answers,
        )

    @property
    def _speaks_over(self) -> bool:
        return self.is_speaking or bool(self._loose)

    # --- the ears -------------------------------------------------------------------------------

    def _sound(self, fact: SpeechStarted | SpeechConfirmed, at_ns: int) -> list[Command]:
        self._capture_ns(fact.onset_sample, at_ns)
        if isinstance(fact, SpeechConfirmed):
            if fact.onset_sample < self._server_end or self._by_server:
                return []  # of speech that the service knows about
            self._by_second_stage = True
            made = self._speech(None, fact.onset_sample, at_ns)
            if self._local_end is not None:  # a short word, and it is over
                self._by_second_stage = False
                made += self._paused(self._capture_ns(self._local_end, at_ns), at_ns)
            return made
        if fact.source != "server":
            self._local_end = None
            if at_ns >= self._maybe_until_ns + MAYBE_NS:  # a noise that goes on postpones once
                self._maybe_until_ns = at_ns + MAYBE_NS
            return []
        self._by_server, self._by_second_stage = True, False
        return self._speech(fact.item_id, fact.onset_sample, at_ns)

    def _stopped(self, fact: SpeechStopped, at_ns: int) -> list[Command]:
        end_ns = self._capture_ns(fact.end_sample, at_ns)
        if fact.source == "server":
            self._server_end = fact.end_sample
            made: list[Command] = []
            if not self._by_server and fact.item_id is not None:  # its beginning was missed
                made = self._speech(fact.item_id, fact.end_sample, at_ns)
            self._by_server = self._by_second_stage = False
            made += self._paused(end_ns, at_ns)
            self._inform(endpointing.ServiceCommitted(at_ns=at_ns))  # it does both at once
            return made
        self._local_end = fact.end_sample
        if not self._by_second_stage or self._by_server:
            return []
        self._by_second_stage = False
        return self._paused(end_ns, at_ns)

    def _speech(self, item_id: str | None, onset_sample: int, at_ns: int) -> list[Command]:
        event = Event.SPEECH_OVER_VOICE if self.is_audible else Event.SPEECH
        made = self._happens(event, at_ns, onset_sample)
        self._waits = None
        self._inform(endpointing.SpeechBegan(at_ns=min(at_ns, self._ns(onset_sample, at_ns))))
        if item_id is None or self._is_known(item_id):
            return made + self._told_if_new()
        if self.state is State.ANSWERED:
            self._loose.append(item_id)
            return made
        return made + self._attach(item_id)

    def _paused(self, end_ns: int, at_ns: int) -> list[Command]:
        is_over = self.state is State.SPEAKING or (self.state is State.ANSWERED and self._loose)
        if not is_over:
            return []
        cools = self._cools or self._always
        made = self._happens(Event.PAUSE_TO_COOL if cools else Event.PAUSE, at_ns)
        self._cools = False
        if self._newest is not None:
            self._newest.end_ns = end_ns
            self._waits = self._newest
        self._inform(endpointing.SpeechEnded(at_ns=at_ns, last_ns=end_ns))
        return made

    def _item(self, item_id: str, at_ns: int) -> list[Command]:
        """An item that no detector has told of, as one committed by hand: whole at once."""
        if self._is_known(item_id):
            return []
        if self.is_speaking:
            return self._attach(item_id) if self.state is State.SPEAKING else []
        return [*self._speech(item_id, 0, at_ns), *self._paused(at_ns, at_ns)]

    def _typed(self, fact: Transcript, at_ns: int) -> list[Command]:
        """Typed words are whole at once: nobody waits for more, and no pause is learned."""
        if self._is_known(fact.item_id):
            return []
        self._words[fact.item_id] = fact.text
        made = [*self._happens(Event.SPEECH, at_ns), *self._attach(fact.item_id)]
        if self.is_speaking:
            return made
        made += self._happens(Event.PAUSE, at_ns)
        turn, self._cools = self._open(), False
        turn.end_ns, turn.is_typed, self._waits = at_ns, True, turn
        # The account of what is held and withdrawn now comes back with its interrupt.
        cuts = [told.turn for told in made if isinstance(told, Interrupt) and told.turn is not None]
        held = [reply for reply in self._replies.values() if reply.turn > max(cuts, default=0)]
        return [*made, *self._let_go(held, at_ns)]

    def _is_known(self, item_id: str) -> bool:
        return item_id in self._turn_of or item_id in self._loose

    def _inform(self, fact: endpointing.Fact) -> None:
        if self._policy is not None:
            self._policy.receive(fact)

    def _ns(self, sample: int, at_ns: int) -> int:
        """When a sample was captured, as far as is known; now, if that is not."""
        base_ns = at_ns if self._base_ns is None else self._base_ns
        return base_ns + sample * NS_PER_S // self._rate_hz

    def _capture_ns(self, sample: int, at_ns: int) -> int:
        """When a sample was captured, or a little later."""
        since_ns = sample * NS_PER_S // self._rate_hz
        base_ns = at_ns - since_ns
        self._base_ns = base_ns if self._base_ns is None else min(self._base_ns, base_ns)
        return self._base_ns + since_ns

    # --- the words ------------------------------------------------------------------------------

    def _transcribed(self, fact: Transcript, at_ns: int) -> list[Command]:
        item_id = fact.item_id
        made = self._item(item_id, at_ns)
        self._words[item_id] = fact.text if fact.final else self._text([item_id]) + fact.text
        if fact.final:
            self._whole.add(item_id)
        if len(self._words) > _ITEMS_KEPT:
            self._whole.discard(self._words.popitem(last=False)[0])
        turn = self._turn_of.get(item_id)
        if turn is None:
            return made
        if fact.final and not fact.typed:
            made += self._tell(turn)
        newest = self._newest
        if newest is None or turn not in (newest, self._earlier):
            return made
        self._inform(endpointing.WordsCame(at_ns=at_ns, text=self._text(newest.items)))
        made += self._judge(at_ns, words_are_whole=False)
        if self._is_transcribed(newest):
            # Not now: whoever stands below may still call them no words (`Swallow`).
            self._judge_at_ns = at_ns
        return made

    def _judge(self, at_ns: int, *, words_are_whole: bool) -> list[Command]:
        """What the newest turn's words mean for what was said before it."""
        turn = self._newest
        if turn is None:
            return []
        if not turn.is_corrected:
            found, target = self._correction(turn)
            if found is not None:
                turn.is_corrected = True
                return self._correct(turn, target, found, at_ns)
        if not words_are_whole or not self._is_transcribed(turn):
            return []
        if turn.joined and self._has_waiting_calls(turn) and is_thanks(self._text(turn.rest)):
            turn.joined, turn.voice_was_cut = [], False  # the call is what the thanks are for
        made = self._close_joint(turn)
        earlier = self._earlier
        if earlier is not None and earlier.is_undecided:
            if self._has_waiting_calls(earlier) and self._objects(self._text(turn.rest)):
                return made + self._supersede(turn, earlier, "")
            earlier.is_undecided = False
        return made

    def _has_waiting_calls(self, turn: _Turn) -> bool:
        return any(r.calls and r.user is turn and not r.is_void for r in self._replies.values())

    def _correction(self, turn: _Turn) -> tuple[Correction | None, _Turn]:
        """What is corrected: the nearest words before, of this turn or of an earlier one."""
        later, earlier = self._text(turn.rest), self._earlier
        if self._corrections is None or not later:
            return None, turn
        if earlier is not None and not earlier.is_undecided:
            return None, turn
        before: list[tuple[_Turn, list[str]]] = [(turn, turn.joined)] if turn.joined else []
        before += [] if earlier is None else [(earlier, earlier.items)]
        before += [(past, past.items) for past in reversed(self._recent)]
        for target, items in before:
            found = self._corrections.correction(self._text(items), later)
            if found is not None:
                return found, target
        return None, turn

    def _correct(self, turn: _Turn, target: _Turn, found: Correction, at_ns: int) -> list[Command]:
        hint = self._hint(found)
        if target is turn:
            answered = any(
                r.is_alive and {*r.item_ids} & {*turn.rest} for r in self._replies.values()
            )
            # The model has answered all of it by now, and has heard the correction itself.
            return self._close_joint(turn, "" if answered else hint)
        earlier, made = self._earlier, self._close_joint(turn)
        if earlier is not None:
            made += self._supersede(turn, earlier, hint if target is earlier else "")
        if target is earlier:
            return made
        turn.supersedes = turn.supersedes or target.turn_id
        later = list(self._recent)[self._recent.index(target) :]
        if turn.is_typed:
            made += self._silence(later, at_ns)
        amended = TurnAmended(
            turn_id=target.turn_id,
            amended_by=turn.turn_id,
            old=found.old,
            new=found.new,
            calls=tuple(call for past in later for call in past.went_ahead),
            at_ns=at_ns,
        )
        # Who has heard the whole answer corrects it in the open, and the model understands.
        hints = self._revoke(turn, (), hint) if turn.disturbed else []
        return [*made, *self._tell(turn), amended, *hints]

    def _silence(self, turns: Iterable[_Turn], at_ns: int) -> list[Command]:
        """Nobody wants to hear any more what answers these turns."""
        audible = [reply for reply in self._replies.values() if reply.is_audible]
        outdated = [reply.turn for turn in turns for reply in audible if reply.user is turn]
        if not outdated:
            return []
        return [Interrupt(turn=max(outdated), cause=CAUSE, at_ns=at_ns)]

    def _supersede(self, turn: _Turn, old: _Turn, hint: str) -> list[Command]:
        """The earlier turn is revoked, and its words belong to the newer one."""
        self._earlier = None
        self.revoked += 1
        turn.supersedes = old.turn_id
        made = [*self._revoke(old, old.items, hint), self._frame(old, "revoked")]
        for item_id in old.items:
            self._turn_of[item_id] = turn
        turn.items[:0] = old.items
        turn.joined[:0] = old.items
        turn.revoked |= old.revoked
        made += self._close_joint(turn)
        return [*made, *self._tell(turn)]

    def _close_joint(self, turn: _Turn, hint: str = "") -> list[Command]:
        """The speech that went on with a turn had words: the answer before it is void."""
        joined, turn.joined, turn.voice_was_cut = turn.joined, [], False
        return self._revoke(turn, joined, hint)

    def _text(self, items: Iterable[str]) -> str:
        said = (self._words.get(item_id, "").strip() for item_id in items)
        return " ".join(words for words in said if words)

    def _is_transcribed(self, turn: _Turn) -> bool:
        """Whether the words since the turn was gone on with are all known."""
        rest = turn.rest
        return bool(rest) and self._whole.issuperset(rest)

    # --- the answers ----------------------------------------------------------------------------

    def _reply_pending(self, fact: ReplyPending, at_ns: int) -> list[Command]:
        made = [told for item_id in fact.item_ids for told in self._item(item_id, at_ns)]
        if not self._loose_are_over(fact.item_ids):
            made += self._paused(at_ns, at_ns)
        owners = [self._turn_of[i] for i in reversed(fact.item_ids) if i in self._turn_of]
        # What is answered late, together with an older turn, is committed with the newer one.
        owners.sort(key=lambda turn: turn is not self._newest)
        if not owners and self._newest is not None and fact.response_id is not None:
            owners = [self._newest]  # it goes on with what a tool answered
        reply = _Reply(fact.turn, owners[0] if owners else None, fact.item_ids)
        if reply.user is not None and fact.item_ids:
            reply.is_void = reply.user.revoked.issuperset(fact.item_ids)
        self._add(reply)
        return made

    def _loose_are_over(self, item_ids: Iterable[str]) -> bool:
        return self.is_speaking or not any(item_id in self._loose for item_id in item_ids)

    def _add(self, reply: _Reply) -> _Reply:
        self._replies[reply.turn] = reply
        if len(self._replies) > _REPLIES_KEPT:
            self._taken(self._replies.popitem(last=False)[1])
        return reply

    def _voice(self, frame: _Voice, at_ns: int) -> list[Command]:
        reply = self._replies.get(frame.turn) or self._add(_Reply(frame.turn, self._newest))
        if not reply.is_alive:
            return []
        if reply.held or (not reply.passed and self._must_wait(frame)):
            reply.held.append(frame)
            self._held_bytes += _n_bytes(frame)
            return [] if self._held_bytes <= HELD_BYTES else self._let_go([reply], at_ns)
        return self._pass(reply, frame, at_ns)

    def _must_wait(self, frame: _Voice) -> bool:
        is_ours = frame.item_id is None  # a clip, or the end of a response without a voice
        return self.state is State.COOLING and not is_ours

    def _pass(self, reply: _Reply, frame: _Voice, at_ns: int) -> list[Command]:
        if isinstance(frame, AudioOut):
            reply.parts.add((frame.item_id, frame.content_index))
        if reply.passed or isinstance(frame, AudioDone):
            return [frame]
        reply.passed, reply.base_sample = True, self._played_samples
        if frame.item_id is not None:
            self._answers += 1
            self._waits = None
        if reply.user is None or reply.user is not self._newest:
            return [frame]
        return [*self._happens(Event.REPLY, at_ns), frame]

    def _let_go(self, replies: Iterable[_Reply], at_ns: int) -> list[Command]:
        made: list[Command] = []
        for reply in replies:
            held = self._taken(reply)
            if reply.is_alive:
                made += [told for frame in held for told in self._pass(reply, frame, at_ns)]
        return made

    def _release(self, at_ns: int) -> list[Command]:
        made, turn = self._let_go(list(self._replies.values()), at_ns), self._newest
        if self._asks and turn is not None and turn.items and self.state is State.OPEN:
            made.append(Revoke(item_ids=tuple(turn.items), respond=True, at_ns=at_ns))
        return made

    def _taken(self, reply: _Reply) -> list[_Voice]:
        held = list(reply.held)
        reply.held.clear()
        self._held_bytes -= sum(_n_bytes(frame) for frame in held)
        return held

    def _heard(self, fact: Heard) -> None:
        """A part is over, heard or cut."""
        part = (fact.item_id, fact.content_index)
        for reply in self._replies.values():
            if fact.final and part in reply.parts:
                reply.parts.discard(part)
                reply.heard_ms += _heard_ms(fact)

    def _played(self, fact: Played, at_ns: int) -> list[Command]:
        self._played_samples = fact.played_samples
        if self.state is not State.ANSWERED or self._speaks_over or at_ns < self._maybe_until_ns:
            return []
        reply = next(reversed(self._replies.values()), None)
        if reply is None or reply.user is not self._newest or not reply.is_audible:
            return []
        heard_ms = (fact.played_samples - reply.base_sample) * 1_000 // fact.rate_hz
        return self._happens(Event.READ_BACK, at_ns) if heard_ms >= self._read_back_ms else []

    def _called(self, call: ToolCall, at_ns: int) -> list[Command]:
        reply = self._replies.get(call.turn) if call.turn is not None else None
        if not call.effects or (reply is not None and reply.is_void):
            return []
        user = self._newest if reply is None else reply.user
        if user is None or user.is_committed:
            return self._go_ahead(user, call, at_ns)
        waiting = self._unclaimed if reply is None else reply.calls
        waiting.append(call)
        return []

    def _go_ahead(self, user: _Turn | None, call: ToolCall, at_ns: int) -> list[Command]:
        if user is not None:
            user.went_ahead.append(call)
        return [Proceed(call_id=call.call_id, at_ns=at_ns)]

    def _interrupted(self, frame: Interrupt, at_ns: int) -> list[Command]:
        accounts: list[Heard] = []
        audible: _Reply | None = None
        heard_ms = 0
        for reply in self._replies.values():
            if reply.is_cut or (frame.turn is not None and reply.turn > frame.turn):
                continue
            accounts += _unheard(self._taken(reply))
            if reply.is_audible:
                audible = reply
                parts = [h for h in frame.heard if (h.item_id, h.content_index) in reply.parts]
                heard_ms = reply.heard_ms + sum(_heard_ms(heard) for heard in parts)
            reply.is_cut = True
        told: list[Command] = [evolve(frame, heard=(*frame.heard, *accounts))]
        if audible is None or frame.cause == CAUSE or frame.onset_sample is None:
            return told
        self._cut_reply = audible
        is_early = heard_ms < self._join_ms and audible.user is self._newest
        told += self._happens(Event.CUT_EARLY if is_early else Event.CUT_LATE, at_ns)
        if not self.is_speaking:  # it was short, and is over
            told += self._paused(at_ns, at_ns)
        return told

    def _swallowed(self, item_id: str, at_ns: int) -> list[Command]:
        """What was heard was no speech to the agent."""
        if item_id in self._loose:
            self._loose.remove(item_id)
        turn = self._turn_of.get(item_id)
        if turn is None or turn.is_committed:
            return []
        del self._turn_of[item_id]
        turn.items.remove(item_id)
        was_answered = False
        for reply in self._replies.values():
            if reply.item_ids == (item_id,):
                was_answered = was_answered or reply.passed
                reply.is_void = True
                self._taken(reply)
        if turn is not self._newest or turn.rest:
            return self._tell(turn)
        self._judge_at_ns = self._waits = None
        if turn.voice_was_cut or (self._earlier is not None and not turn.items):
            return self._happens(Event.NOISE_BACK, at_ns)
        if not turn.items:
            return [*self._happens(Event.NOISE, at_ns), *self._take_loose(at_ns)]
        if was_answered:
            self._happens(Event.ANSWER_LOST, at_ns)
            if self._loose:
                return [*self._tell(turn), *self._take_loose(at_ns)]
        if self.state not in (State.OPEN, State.COOLING):
            return self._tell(turn)
        # It had made an answer void of which nothing was heard: that is owed again.
        turn.joined, turn.end_ns = [], at_ns
        turn.revoked.clear()
        owed = Revoke(item_ids=tuple(turn.items), respond=True, at_ns=at_ns)
        return [*self._tell(turn), owed]

    def _take_loose(self, at_ns: int) -> list[Command]:
        """Speech over the answer to a noise is over nothing now: it begins a turn, or goes on."""
        if not self._loose:
            return []
        made = [*self._happens(Event.SPEECH, at_ns), *self._attach_loose()]
        return made if self.is_speaking else [*made, *self._paused(at_ns, at_ns)]

    # --- what to do about it --------------------------------------------------------------------

    def _happens(self, event: Event, at_ns: int, onset_sample: int | None = None) -> list[Command]:
        cell = TABLE[event].get(self.state)
        if cell is None:
            return []
        if cell.to is not None:
            self.state = cell.to
        made: list[Command] = []
        for do in cell.actions:
            made += self._perform(do, at_ns, onset_sample)
        return made

    def _perform(self, do: Do, at_ns: int, onset_sample: int | None) -> list[Command]:
        match do:
            case Do.BEGIN:
                self._begin(at_ns)
            case Do.BEGIN_NEXT:
                made = self._park(at_ns)
                self._begin(at_ns)
                return made + self._attach_loose()
            case Do.JOIN:
                self._join(voice_was_cut=True)
                return self._attach_loose()
            case Do.WITHDRAW:
                return self._withdraw(at_ns, onset_sample)
            case Do.COOL:
                self._cools = True
            case Do.RELEASE:
                return self._release(at_ns)
            case Do.COMMIT:
                return self._commit(at_ns)
            case Do.FORGET:
                turn, self._newest = self._newest, None
                return [] if turn is None or not turn.is_told else [self._frame(turn, "revoked")]
            case Do.RESTORE:
                return self._restore()
        return []

    def _begin(self, at_ns: int) -> None:
        self._n_turns += 1
        self._cools = False
        last = next(reversed(self._replies.values()), None)
        self._newest = _Turn(
            f"turn-{self._n_turns}",
            at_ns,
            disturbed=last is not None and (last.is_cut or last.is_audible or not last.passed),
        )

    def _park(self, at_ns: int) -> list[Command]:
        """The newest turn waits for the words that cut its answer."""
        turn = self._open()
        self._inform(endpointing.TurnTaken(at_ns=at_ns))
        made = self._close_joint(turn)
        if self._earlier is not None:
            made += self._settle(self._earlier, turn, at_ns)
        turn.is_undecided, self._earlier = True, turn
        return made

    def _settle(self, earlier: _Turn, turn: _Turn, at_ns: int) -> list[Command]:
        """There is no more time to find out what the words after a turn meant for it."""
        if earlier.is_undecided and not self._is_transcribed(turn):
            # Nobody knows what was said over its answer. What has effects is better asked twice.
            return self._supersede(turn, earlier, "")
        self._earlier = None
        return self._committed(earlier, at_ns)

    def _join(self, *, voice_was_cut: bool) -> None:
        turn = self._open()
        turn.joined = list(turn.items)
        turn.voice_was_cut, turn.is_corrected = voice_was_cut, False

    def _withdraw(self, at_ns: int, onset_sample: int | None) -> list[Command]:
        turn = self._open()
        self._join(voice_was_cut=False)
        made: list[Command] = []
        waiting = [r.turn for r in self._replies.values() if r.is_alive and r.user is turn]
        if waiting:
            self.withdrawn += 1
            made.append(
                Interrupt(turn=max(waiting), onset_sample=onset_sample, cause=CAUSE, at_ns=at_ns)
            )
        return made + self._revoke(turn, turn.items)

    def _revoke(self, turn: _Turn, item_ids: Iterable[str], hint: str = "") -> list[Command]:
        """All that is grounded in these items is void."""
        fresh = tuple(item_id for item_id in item_ids if item_id not in turn.revoked)
        turn.revoked.update(fresh)
        for reply in self._replies.values():
            if fresh and reply.user is turn and turn.revoked.issuperset(reply.item_ids):
                reply.is_void = True
                reply.calls.clear()
        if fresh:
            self._unclaimed.clear()
        return [Revoke(item_ids=fresh, hint=hint, respond=False)] if fresh or hint else []

    def _commit(self, at_ns: int) -> list[Command]:
        turn = self._open()
        self._inform(endpointing.TurnTaken(at_ns=at_ns))
        made = self._close_joint(turn)
        if self._earlier is not None:
            made += self._settle(self._earlier, turn, at_ns)
        self._newest = None
        self._judge_at_ns = None
        return made + self._committed(turn, at_ns)

    def _committed(self, turn: _Turn, at_ns: int) -> list[Command]:
        if not turn.items:
            return [self._frame(turn, "revoked")] if turn.is_told else []
        turn.is_committed, turn.is_undecided = True, False
        self._recent.append(turn)
        made: list[Command] = [self._frame(turn, "committed")]
        calls, self._unclaimed = self._unclaimed, []
        for reply in self._replies.values():
            if reply.user is turn and not reply.is_void:
                calls += reply.calls
                reply.calls.clear()
        return made + [told for call in calls for told in self._go_ahead(turn, call, at_ns)]

    def _restore(self) -> list[Command]:
        turn = self._open()
        made: list[Command] = []
        if turn.voice_was_cut:
            turn.joined, turn.voice_was_cut = [], False
            made += self._tell(turn)
        elif self._earlier is not None:
            made += [self._frame(turn, "revoked")] if turn.is_told else []
            self._newest, self._earlier = self._earlier, None
            self._newest.is_undecided = False
        self._cools = False
        if self._cut_reply is not None:
            self._cut_reply.is_cut = False  # it goes on, under another number
        return made

    # --- small things ---------------------------------------------------------------------------

    def _open(self) -> _Turn:
        assert self._newest is not None, f"there is a turn in state {self.state}"
        return self._newest

    def _attach(self, item_id: str) -> list[Command]:
        turn = self._open()
        turn.items.append(item_id)
        turn.is_corrected = turn.is_typed = False
        self._turn_of[item_id] = turn
        if len(self._turn_of) > _ITEMS_KEPT:
            self._turn_of.popitem(last=False)
        return self._tell(turn)

    def _attach_loose(self) -> list[Command]:
        loose, self._loose = self._loose, []
        return [told for item_id in loose for told in self._attach(item_id)]

    def _told_if_new(self) -> list[Command]:
        turn = self._newest
        return [] if turn is None or turn.is_told else self._tell(turn)

    def _tell(self, turn: _Turn) -> list[Command]:
        if turn.is_committed:
            return [self._frame(turn, "committed")]
        return [self._frame(turn, "revised" if turn.is_told else "provisional")]

    def _frame(
        self, turn: _Turn, state: Literal["provisional", "revised", "committed", "revoked"]
    ) -> UserTurn:
        turn.revision += turn.is_told
        turn.is_told = True
        return UserTurn(
            turn_id=turn.turn_id,
            revision=turn.revision,
            state=state,
            supersedes=turn.supersedes,
            text=self._text(turn.items),
            item_ids=tuple(turn.items),
        )

    def _release_ns(self, turn: _Turn) -> int | None:
        """When the turn counts as over; ``None``: not by time."""
        if self._end_of_turn is not None and self._whole.issuperset(turn.items):
            silence_ms = self._end_of_turn.silence_ms(self._text(turn.items))
            if silence_ms is not None:
                return turn.end_ns + silence_ms * _NS_PER_MS
        if self._policy is not None and self._end_of_turn is None:
            judgement = self._policy.judgement
            return turn.end_ns if judgement.ended else judgement.deadline_ns
        return turn.end_ns + self._cool_down_ns


def _is_policy(value: object) -> TypeGuard[EndOfTurnPolicy]:
    return hasattr(value, "judgement")


def _tells_silence(value: object) -> TypeGuard[EndOfTurn]:
    return callable(getattr(value, "silence_ms", None))


def _heard_ms(heard: Heard) -> int:
    return heard.heard_samples * 1_000 // heard.rate_hz


def _n_bytes(frame: _Voice) -> int:
    n_samples = frame.n_samples * frame.channels if isinstance(frame, AudioOut) else 0
    return FRAME_BYTES + SAMPLE_BYTES * n_samples


def _unheard(held: Iterable[_Voice]) -> list[Heard]:
    """The account of what was held: received, and not heard."""
    received: dict[tuple[str, int], tuple[int, int]] = {}
    for frame in held:
        if isinstance(frame, AudioOut) and frame.item_id is not None:
            end = frame.start_sample + frame.n_samples
            received[frame.item_id, frame.content_index] = end, frame.rate_hz
    return [
        Heard(
            item_id=item_id,
            content_index=content_index,
            heard_samples=0,
            received_samples=samples,
            final=True,
            rate_hz=rate_hz,
        )
        for (item_id, content_index), (samples, rate_hz) in received.items()
    ]
