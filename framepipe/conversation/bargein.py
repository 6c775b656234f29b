"""Shall the agent fall silent, go on, or stop for good?

Two ears listen to the user: a detector here, which is fast and takes a cough for speech, and the
service, which is slow and right more often. The first to hear something silences the agent at
once, which can be taken back; only a confirmation cuts it, which cannot. What is neither confirmed
nor rejected in time goes on at the very next sample. After a cut the words have the last say: if
there are none, or only "mm-hm", the cut is undone.

Sans-IO: facts go in through `BargeInCore.receive`, orders come out as its return value. Time is an
argument, and `BargeInCore.deadline_ns` the only timer. The rules are `TABLE` in
`framepipe.conversation.bargein_table`: one cell for each state and event, nothing for what changes
nothing. This file decides which event a fact is, and spells the orders out.

Which turns a cut names: an answer belongs to speech that ended before it. So a cut names the
newest turn that was opened before the speech that interrupts had ended, and never the answer to
that speech itself (promise P5). It ends before a turn that may not be interrupted.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeAlias

from attrs import frozen

from framepipe.conversation.backchannels import Meaning
from framepipe.conversation.bargein_table import TABLE, Do, Event, State
from framepipe.conversation.local_credit import LocalCredit
from framepipe.conversation.profiles import (
    PROFILES,
    Needs,
    Profile,
    Profiles,
    Situation,
    UseProfile,
)
from framepipe.conversation.third_stage import TranscriptVerdict
from framepipe.conversation.user_speech import REJECT_START_MS, Speech, UserSpeech
from framepipe.errors import FrameError
from framepipe.frames import (
    NS_PER_S,
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
    UrgentDown,
)

DUCK_DB: Final = -26.0
"""How much quieter the agent goes on while it is ducked: audible, and no match for a voice."""

FIRST_NS: Final = NS_PER_S
"""How long a reply counts as just begun."""

DISARMED: Final = "local_mutes_disarmed"
"""Code of the `Problem` that says that the local detector does not mute for a while."""

_NS_PER_MS: Final = 1_000_000
_TOOLS_KEPT: Final = 64


@frozen(kw_only=True)
class SecondStageReady(UrgentDown):
    """From here on, somebody judges every sound that a detector takes for speech.

    Comes before the first sound that could be judged, so that the first barge-in of a call is
    already decided by the right rule.

    Attributes:
        source: Who judges; the ``source`` of its `SpeechConfirmed` and `SpeechRejected`.
    """

    source: str


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
    | UseProfile
    | ToolCall
    | ToolResult
    | TranscriptVerdict
)
"""What the core is told."""

Command: TypeAlias = (
    Mute | Unmute | Hold | Release | Interrupt | Swallow | Undo | DropParked | Problem
)
"""What the core orders."""


class _User(IntEnum):
    QUIET = 0
    MAYBE = 1
    SURE = 2


@frozen
class _Said:
    """What an event says beside that it happened."""

    turn: int = 0
    onset_sample: int | None = None
    cause: str = ""
    item_id: str = ""


@frozen(kw_only=True)
class BargeInStatistics:
    """How often what was decided, so far in the call.

    Attributes:
        mutes: The agent fell silent for a suspicion.
        ducks: It went on quietly for one.
        resumes: It was no speech: the agent went on as before.
        cuts: The agent was cut, by the user or by the program.
        undos: A cut was taken back because of the words, or for want of them.
        swallows: User turns of the service's that were none.
        unarmed_edges: The local detector heard something over the agent, and might not mute.
        refused: Attempts to interrupt what must be heard.
    """

    mutes: int = 0
    ducks: int = 0
    resumes: int = 0
    cuts: int = 0
    undos: int = 0
    swallows: int = 0
    unarmed_edges: int = 0
    refused: int = 0


_AUDIBLE: Final = (State.SPEAKING, State.SUSPECT, State.DUCKED)


class BargeInCore:
    """Decides when the agent falls silent, goes on, or is cut.

    Args:
        two: A second stage is present (`SpeechConfirmed`, `SpeechRejected`): the service's word
            is then evidence, not a verdict. ``None``: as soon as one is heard of, by
            `SecondStageReady` or by a `SpeechRejected`. A `SpeechConfirmed` alone is somebody's own
            rule, which confirms beside the others.
        transcripts: The user's words come as text. ``None``: as `ConnectionState` says.
        profiles: How easily the agent is interrupted in each situation.
        cause: Written on every `Interrupt`; by default the source that decided it.
        mutes_per_5_s: After so many wrong mutes within five seconds the local detector does not
            mute; the others still do.
        undo_ms: How long after the user's speech a cut reply can still go on.
        wait_ms: How long a new reply waits for a user who speaks.
        words_ms: How long the answer to a short interruption waits for the transcript.
        rate_hz: Samples per second of the microphone.

    Attributes:
        state: What the agent is doing.
        deadline_ns: When to call `deadline_reached`; ``None``: not by itself.

    Raises:
        FrameError: A number is not positive, or a situation has no profile.
    """

    def __init__(
        self,
        *,
        two: bool | None = None,
        transcripts: bool | None = None,
        profiles: Profiles = PROFILES,
        cause: str | None = None,
        mutes_per_5_s: int = 3,
        undo_ms: int = 2_000,
        wait_ms: int = 3_000,
        words_ms: int = 300,
        rate_hz: int = 24_000,
    ) -> None:
        for name, value in (
            ("mutes_per_5_s", mutes_per_5_s),
            ("undo_ms", undo_ms),
            ("wait_ms", wait_ms),
            ("words_ms", words_ms),
            ("rate_hz", rate_hz),
        ):
            if value <= 0:
                raise FrameError(f"{name} is {value}; it must be 1 or more")
        self.state = State.IDLE
        self.deadline_ns: int | None = None
        self.profiles = profiles
        self._profile: Profile | None = None
        self._two = bool(two)
        self._learns_two = two is None
        self._transcripts = bool(transcripts)
        self._learns_transcripts = transcripts is None
        self._cause = cause
        self._undo_ns = undo_ms * _NS_PER_MS
        self._wait_ns = wait_ms * _NS_PER_MS
        self._words_ns = words_ms * _NS_PER_MS
        # The user.
        self._user = _User.QUIET
        self._speech = UserSpeech(rate_hz)
        self._credit = LocalCredit(mutes_per_5_s)
        # The agent's turns, and what it does beside speaking.
        self._newest = 0
        self._audible: int | None = None
        self._audible_since_ns = 0
        self._pending: set[int] = set()
        self._protected: set[int] = set()
        self._cut_turn = 0
        self._tools: dict[str, None] = {}
        self._counts = dict.fromkeys(_COUNTED, 0)

    @property
    def profiles(self) -> Profiles:
        """How easily the agent is interrupted in each situation. May be replaced at any time."""
        return self._profiles

    @profiles.setter
    def profiles(self, profiles: Profiles) -> None:
        missing = [situation.name for situation in Situation if situation not in profiles]
        if missing:
            raise FrameError(
                f"no profile for {', '.join(missing)}; framepipe.conversation.profiles.profiles() "
                "makes a whole table of a few changes"
            )
        self._profiles = profiles

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
        if self._learns_two and isinstance(fact, SecondStageReady | SpeechRejected):
            self._two = True
        match fact:
            case SpeechStarted(source="server"):
                return self._server_started(fact, at_ns)
            case SpeechStarted():
                return self._local_edge(fact, at_ns)
            case SpeechStopped(source="server"):
                return self._server_stopped(fact, at_ns)
            case SpeechStopped():
                return self._local_quiet(fact, at_ns)
            case SpeechConfirmed():
                return self._confirmed(fact, at_ns)
            case SpeechRejected():
                return self._then_swallow(self._happens(Event.SECOND_NO, at_ns), at_ns)
            case TranscriptVerdict():
                return self._transcribed(fact, at_ns)
            case ReplyPending():
                return self._reply_pending(fact)
            case ReplyReady():
                return self._reply_ready(fact, at_ns)
            case Drained():
                return self._drained(fact, at_ns)
            case Interrupt():
                return self._interrupted(fact, at_ns)
            case ConnectionState():
                return self._connection(fact, at_ns)
            case UseProfile():
                self._profile = fact.profile
            case ToolCall():
                self._tools[fact.call_id] = None
                if len(self._tools) > _TOOLS_KEPT:  # one that is never answered runs for ever
                    del self._tools[next(iter(self._tools))]
            case ToolResult():
                self._tools.pop(fact.call_id, None)
            case SecondStageReady():
                pass
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
        return self._then_swallow(self._happens(Event.DEADLINE, at_ns), at_ns)

    # --- what is known --------------------------------------------------------------------------

    def situation(self, at_ns: int) -> Situation:
        """What the agent is doing, as far as it matters to who interrupts it."""
        is_on = self.state in (*_AUDIBLE, State.WAIT, State.DOUBT)
        next_turn = self._audible if is_on else min(self._pending, default=None)
        if next_turn in self._protected:
            return Situation.UNINTERRUPTIBLE
        if self.state not in _AUDIBLE:
            return Situation.THINKING
        if at_ns - self._audible_since_ns < FIRST_NS:
            return Situation.FIRST_SECOND
        return Situation.TOOL if self._tools else Situation.SPEAKING

    def profile(self, at_ns: int) -> Profile:
        """How easily the agent is interrupted now."""
        return self._profiles[self.situation(at_ns)] if self._profile is None else self._profile

    def reject_ns(self, at_ns: int) -> int:
        """How long a suspicion that begins now waits for its confirmation, in nanoseconds."""
        reject_ms = self.profile(at_ns).reject_ms
        if reject_ms is not None:
            return reject_ms * _NS_PER_MS
        return REJECT_START_MS * _NS_PER_MS if self._two else self._speech.lateness_ns

    def statistics(self) -> BargeInStatistics:
        """What was decided so far."""
        return BargeInStatistics(**self._counts)

    # --- which event is it? ---------------------------------------------------------------------

    def _local_edge(self, fact: SpeechStarted, at_ns: int) -> list[Command]:
        self._speech.edge(fact, at_ns, over_agent=self._is_over_agent)
        is_fast = fact.source == "local"  # it hangs on; others hear a second beginning as such
        may_mute = self._credit.edge(at_ns) if is_fast else self._credit.is_good(at_ns)
        profile = self.profile(at_ns)
        if may_mute and profile.armed and profile.interruptible:
            ducks = profile.suspect == "duck"
            return self._happens(Event.LOCAL_EDGE_DUCKS if ducks else Event.LOCAL_EDGE, at_ns)
        self._counts["unarmed_edges"] += self.state is State.SPEAKING
        return self._happens(Event.LOCAL_EDGE_UNARMED, at_ns)

    def _local_quiet(self, fact: SpeechStopped, at_ns: int) -> list[Command]:
        if fact.source == "local":
            self._credit.quiet(at_ns)
        # The service says itself when what it hears is over; but it may have heard nothing.
        is_over = self._user is _User.SURE and not self._speech.is_open
        return self._happens(Event.SPEECH_OVER, at_ns) if is_over else []

    def _server_started(self, fact: SpeechStarted, at_ns: int) -> list[Command]:
        edge = self._speech.started(
            fact, at_ns, newest_turn=self._newest, over_agent=self._is_over_agent
        )
        if edge is not None:
            self._credit.right_since(edge.at_ns)
        # No answer to this speech can be open yet: the service tells of the speech first.
        said = _Said(self._newest, self._speech.onset_sample, fact.source)
        needs = self.profile(at_ns).needs
        heard_by_both = needs is Needs.BOTH and self._speech.is_confirmed
        counts = not self._two or needs is Needs.EITHER or heard_by_both
        if counts:
            self._speech.confirmed(at_ns, self._speech.onset_sample)
        return self._user_speaks(Event.SERVER_VERDICT if counts else Event.EVIDENCE, at_ns, said)

    def _server_stopped(self, fact: SpeechStopped, at_ns: int) -> list[Command]:
        self._speech.stopped(fact, newest_turn=self._newest)
        waiting = _Said(self._audible or 0, self._speech.onset_sample, fact.source)
        is_kept = self.state is State.WAIT and self._is_refused(waiting, at_ns)
        event = Event.SPEECH_OVER if is_kept else Event.SERVER_STOPPED
        return self._then_swallow(self._happens(event, at_ns, waiting), at_ns)

    def _confirmed(self, fact: SpeechConfirmed, at_ns: int) -> list[Command]:
        turn = self._speech.newest_before(fact.onset_sample, self._newest)
        said = _Said(turn, fact.onset_sample, fact.source)
        self._speech.confirmed(at_ns, fact.onset_sample)
        if self._is_answer(said):
            return []
        both = self.profile(at_ns).needs is Needs.BOTH
        event = Event.EVIDENCE if both and not self._speech.is_open else Event.SECOND_YES
        return self._user_speaks(event, at_ns, said)

    def _user_speaks(self, event: Event, at_ns: int, said: _Said) -> list[Command]:
        if self._is_refused(said, at_ns):
            event = Event.REFUSED
        elif event is Event.EVIDENCE and self.profile(at_ns).suspect == "duck":
            event = Event.EVIDENCE_DUCKS
        return self._happens(event, at_ns, said)

    def _transcribed(self, fact: TranscriptVerdict, at_ns: int) -> list[Command]:
        if self._learns_transcripts:
            self._transcripts = True
        was_open = self._speech.is_open
        speech = self._speech.take(fact.item_id)
        if speech is None:
            return []
        if was_open and not self._speech.is_open:
            self._user = _User.QUIET  # a service that tells the words before the end
        said = _Said(speech.newest_turn, speech.onset_sample, "transcript", fact.item_id)
        if self._is_answered(speech) and self.state is not State.DOUBT:
            return []  # it caused what is heard
        was_none = self._two and speech.over_agent and not speech.confirmed
        if fact.meaning is None:
            orders = self._happens(Event.TURN_REJECTED, at_ns, said) if was_none else []
            return orders + self._happens(Event.NO_VERDICT, at_ns)
        has_words = fact.meaning is Meaning.WORDS or (
            # An answer; or, where no word was made out, one that somebody will ask for again.
            fact.after_question and (fact.meaning is Meaning.BACKCHANNEL or speech.confirmed)
        )
        # "Yeah" into a silence is an answer, and words into one belong to no reply; but one that
        # waits for them must not begin.
        if not (speech.over_agent or (self.state is State.WAIT and has_words)):
            return []
        if has_words:
            return self._words(said, at_ns)
        # More was said than this, and is not known yet: no undo before it is.
        goes_on = self._user is _User.SURE or self._speech.is_untold
        left_alone = was_none if self.state is State.IDLE else goes_on
        return self._happens(Event.TURN_REJECTED if left_alone else Event.NO_WORDS, at_ns, said)

    def _words(self, said: _Said, at_ns: int) -> list[Command]:
        if self.state in (*_AUDIBLE, State.WAIT) and self._is_refused(said, at_ns):
            self._counts["refused"] += 1
            return []
        return self._happens(Event.WORDS, at_ns, said)

    def _then_swallow(self, orders: list[Command], at_ns: int) -> list[Command]:
        """What the second stage took for no speech is no user turn, where no text can save it."""
        can_tell = self._two and not self._transcripts
        if not can_tell or self.state in (State.SUSPECT, State.DUCKED):
            return orders
        for speech in self._speech.take_rejected():
            if not self._is_answered(speech):
                orders += self._happens(Event.TURN_REJECTED, at_ns, _Said(item_id=speech.item_id))
        return orders

    def _is_answered(self, speech: Speech) -> bool:
        """Whether what is or was heard last is newer than the speech, as its answer is."""
        return self._audible is not None and speech.newest_turn < self._audible

    def _is_answer(self, said: _Said) -> bool:
        """Whether what is audible is newer than the speech: nothing to cut for it."""
        is_on = self.state in (*_AUDIBLE, State.WAIT)
        return is_on and self._audible is not None and said.turn < self._audible

    def _is_refused(self, said: _Said, at_ns: int) -> bool:
        """Whether a cut is not allowed, or would stop before what is audible."""
        if not self.profile(at_ns).interruptible:
            return True
        is_on = self.state in (*_AUDIBLE, State.WAIT)
        return is_on and self._audible is not None and self._line(said) < self._audible

    def _line(self, said: _Said) -> int:
        """The newest turn that a cut may name."""
        return min([said.turn, *(turn - 1 for turn in self._protected)])

    @property
    def _is_over_agent(self) -> bool:
        """Whether speech that is noticed now began while the agent was audible."""
        return self.state in (*_AUDIBLE, State.CUT)

    def _reply_pending(self, fact: ReplyPending) -> list[Command]:
        if fact.turn <= self._cut_turn:
            return []
        self._newest = max(self._newest, fact.turn)
        if not fact.interruptible:
            self._protected.add(fact.turn)
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
        self._audible_since_ns = at_ns
        if self._user is _User.SURE:
            return self._happens(Event.READY_OVER_SPEECH, at_ns)
        waits = self._transcripts and self._speech.is_short_and_untold(fact.turn)
        return self._happens(Event.READY_BEFORE_WORDS if waits else Event.READY, at_ns)

    def _drained(self, fact: Drained, at_ns: int) -> list[Command]:
        self._pending.discard(fact.turn)
        orders = self._happens(Event.DRAINED, at_ns) if fact.turn == self._audible else []
        self._protected.discard(fact.turn)
        return self._then_swallow(orders, at_ns)

    def _interrupted(self, fact: Interrupt, at_ns: int) -> list[Command]:
        turn = self._newest if fact.turn is None else fact.turn
        # In CUT it may be our own that comes by, or one that extends it: the service's side knows
        # better which responses are older than an onset. In the other states it is somebody
        # else's: the speaker has just unmuted and the hold is over, whichever turn was meant.
        # A newer one that goes on is announced again.
        is_ours = turn <= self._cut_turn or fact.onset_sample is not None
        is_own = self.state is State.CUT and is_ours
        if turn > self._cut_turn and not is_own:
            self._counts["cuts"] += 1
            self._speech.confirmed(at_ns)
        self._note_cut(turn)
        return [] if is_own else self._happens(Event.INTERRUPTED, at_ns)

    def _connection(self, fact: ConnectionState, at_ns: int) -> list[Command]:
        if fact.state == "open" and self._learns_transcripts:
            self._transcripts = fact.transcripts
        if fact.state not in ("reconnecting", "closed"):
            return []
        self._speech.forget()
        return self._happens(Event.SOCKET_GONE, at_ns)

    def _note_cut(self, turn: int) -> None:
        self._cut_turn = max(self._cut_turn, turn)
        self._pending = {pending for pending in self._pending if pending > turn}
        self._protected = {protected for protected in self._protected if protected > turn}

    # --- what to do about it --------------------------------------------------------------------

    def _happens(self, event: Event, at_ns: int, said: _Said | None = None) -> list[Command]:
        cell = TABLE[event].get(self.state)
        if cell is None:
            return []
        # Before the state changes: it says which profile was meant.
        reject_ns = self.reject_ns(at_ns)
        if cell.to is not None:
            self.state = cell.to
            self.deadline_ns = None
        orders: list[Command] = []
        for do in cell.actions:
            if do is Do.REJECT_TIMER:
                self.deadline_ns = at_ns + reject_ns
            else:
                orders += self._perform(do, at_ns, said or _Said())
        return orders

    def _perform(self, do: Do, at_ns: int, said: _Said) -> list[Command]:
        if do in _COUNTED_DOS:
            self._counts[_COUNTED_DOS[do]] += 1
        match do:
            case Do.MUTE:
                return [Mute(at_ns=at_ns), Hold(at_ns=at_ns)]
            case Do.RESUME:
                return [Release(at_ns=at_ns), Unmute(at_ns=at_ns)]
            case Do.DUCK:
                return [Mute(gain_db=DUCK_DB, at_ns=at_ns)]
            case Do.UNDUCK:
                return [Unmute(at_ns=at_ns)]
            case Do.INTERRUPT:
                return [self._interrupt(said, at_ns)]
            case Do.INTERRUPT_PENDING:
                if any(pending <= self._line(said) for pending in self._pending):
                    return [self._interrupt(said, at_ns)]
            case Do.HOLD:
                return [Hold(audible=False, at_ns=at_ns)]
            case Do.RELEASE:
                return [Release(at_ns=at_ns)]
            case Do.SWALLOW:
                return [Swallow(item_id=said.item_id, at_ns=at_ns)]
            case Do.UNDO:
                if self._audible is not None and self._audible > self._cut_turn:
                    self._pending.add(self._audible)  # it was held, and comes after the remainder
                self._audible = None
                return [Undo(at_ns=at_ns)]
            case Do.DROP:
                return [DropParked(at_ns=at_ns)]
            case Do.DISARM:
                return self._disarm(at_ns)
            case _:
                self._note(do, at_ns)
        return []

    def _note(self, do: Do, at_ns: int) -> None:
        match do:
            case Do.UNDO_TIMER:
                self.deadline_ns = at_ns + self._undo_ns
            case Do.WAIT_TIMER:
                self.deadline_ns = at_ns + self._wait_ns
            case Do.WORDS_TIMER:
                self.deadline_ns = at_ns + self._words_ns
            case Do.MAYBE:
                self._user = max(self._user, _User.MAYBE)  # it does not unsay what is certain
            case Do.SURE:
                self._user = _User.SURE
            case Do.QUIET:
                self._user = _User.QUIET
            case _:
                pass

    def _disarm(self, at_ns: int) -> list[Command]:
        # Where the service hears speech the mute was not wrong, only unconfirmed.
        if not self._credit.wrong(at_ns, counts=not self._speech.is_open):
            return []
        return [
            Problem(
                where="BargeIn",
                code=DISARMED,
                message="the local detector muted the agent in vain too often within 5 s; until "
                "that is over only the second stage and the service do",
                at_ns=at_ns,
            )
        ]

    def _interrupt(self, said: _Said, at_ns: int) -> Interrupt:
        turn = self._line(said)
        self._note_cut(turn)
        self._counts["cuts"] += 1
        return Interrupt(
            turn=turn,
            onset_sample=said.onset_sample,
            cause=said.cause if self._cause is None else self._cause,
            at_ns=at_ns,
        )


_COUNTED_DOS: Final = {
    Do.MUTE: "mutes",
    Do.DUCK: "ducks",
    Do.RESUME: "resumes",
    Do.UNDUCK: "resumes",
    Do.UNDO: "undos",
    Do.SWALLOW: "swallows",
    Do.COUNT: "refused",
}

_COUNTED: Final = (*dict.fromkeys(_COUNTED_DOS.values()), "cuts", "unarmed_edges")
