"""The client's half of the Realtime protocol, without a socket.

Theory of operation. The shell hands in what the server sent (`ClientProtocol.receive`), what the
microphone captured (`append`), and what the pipeline decided (`cut`, `settle`, `undo`, `swallow`,
`revoke`); it performs what comes back, in order: a frame is emitted, a `Send` is sent, an
`OpenTurn` is answered by `turn_opened`. When nothing happens until `deadline_ns`, it calls
`advance`.

What is known stands in accounts of their own, and here is what they have to do with each other:
the microphone's audio and the server's clock (`uplink`), which answers are owed and which of them
a cut kills (`answers`), what came of each part of the voice and where it was truncated
(`agent_parts`), the conversation as heard (`conversation_record`, `client_items`), tool calls
(`calls`), what the application waits for (`requests`), and user turns that turn out void
(`revocations`).

A socket that breaks ends the session and not the conversation: `hand_over` closes what was open
and gives what the next `ClientProtocol` needs to go on (`Leftover`). That one greets its server
with the session, the conversation as heard, and what is owed; nothing else crosses over, so an id
of the old socket means nothing to it.

What is never done: truncate what was wholly heard, truncate an item twice, let a sample of a
killed response out, cancel before the truncate, create while a response is active, run a tool for
a response that was killed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec
from attrs import frozen

from framepipe.errors import LocalProtocolError
from framepipe.frames import (
    NS_PER_S,
    Heard,
    Interrupt,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    Withdrawn,
    evolve,
)
from framepipe.realtime import events as wire
from framepipe.realtime.agent_parts import AgentParts
from framepipe.realtime.agent_voice import AgentVoice
from framepipe.realtime.answers import PATIENCE_NS, Answer, AnswerBook, Wish
from framepipe.realtime.calls import CallBook
from framepipe.realtime.client_items import ClientItems, note_item
from framepipe.realtime.client_outputs import (
    BesideDone,
    Fail,
    OpenTurn,
    Output,
    ResponseEnded,
    Send,
    Updated,
    broke_off,
    problem,
    usage_of,
    why_failed,
)
from framepipe.realtime.codings import codings_of
from framepipe.realtime.conversation_record import AudioBetween, ConversationRecord
from framepipe.realtime.error_classes import LOST_RACES, classify
from framepipe.realtime.events import UNSET, ServerEvent
from framepipe.realtime.items import function_output, system_text, user_text
from framepipe.realtime.requests import Requests
from framepipe.realtime.revocations import Revocation, Revocations
from framepipe.realtime.uplink import Uplink, detection_of

MARK: Final = "framepipe"
"""Key in the metadata of our responses; its value is the name of the ask."""

REMEMBERED_CANCELS = 64
"""Cancels whose refusal may still come."""

SAY: Final = "Say the following to the user word for word, and nothing else:"
"""How a model is made to speak a given text. It replaces the session's instructions."""

REVOKED: Final = "revoked"
"""Cause of the `Interrupt` that silences what was said because of a revoked user turn."""

RESULTS: Final = "results of tools"
"""Name of the debt to a response whose calls are answered."""

LOST_ANSWER: Final = "an answer that was lost"
"""Name of the debt that a socket takes over from the one before."""


@frozen
class Leftover:
    """What one session leaves to the next.

    Attributes:
        record: The conversation as heard.
        calls: The tools that still run.
        resume_sample: Where the microphone audio that the service may lack begins, on the
            capture clock; ``None``: with the first.
        asks: What the application asked for and did not get.
        owed: The user waits for an answer.
        patience_ns: As far as the round trip is known.
        newest_turn: The turn that was opened last.
        commit: The application ended the user's turn, and whether it wants an answer; ``None``:
            it did not.
    """

    record: ConversationRecord
    calls: CallBook
    resume_sample: int | None = None
    asks: tuple[Wish, ...] = ()
    owed: bool = False
    patience_ns: int = PATIENCE_NS
    newest_turn: int | None = None
    commit: bool | None = None


class ClientProtocol:
    """One session, seen by its client.

    Args:
        session: What the session shall be; sent as soon as the server greets.
        book: Keeps the account of answers; ``None`` makes one that fits the session.
        leftover: What the session before left; ``None``: this is the first.
        audio_between: Gives microphone audio that is still kept, for a service that must be told
            again what the user said.
        has_effects: Whether a tool changes something in the world, by its name.
    """

    def __init__(
        self,
        session: wire.Session | None = None,
        *,
        book: AnswerBook | None = None,
        leftover: Leftover | None = None,
        audio_between: AudioBetween = lambda start_sample, end_sample: None,
        has_effects: Callable[[str], bool] = lambda tool: False,
    ) -> None:
        self._session = wire.Session() if session is None else session
        leftover = leftover or Leftover(ConversationRecord(), CallBook())
        self._heard, self._spoken = codings_of(self._session)
        detection = detection_of(self._session)
        self._uplink = Uplink(self._heard, detection, leftover.resume_sample)
        self._parts = AgentParts(self._spoken)
        self._requests = Requests()
        self._book = AnswerBook(service_answers=detection.answers) if book is None else book
        self._record = leftover.record
        self._calls = leftover.calls
        self._book.patience_ns = max(self._book.patience_ns, leftover.patience_ns)
        for wish in leftover.asks:
            self._book.ask(wish, leftover.resume_sample or 0)
        self._audio_between = audio_between
        self._items = ClientItems(self._book, self._parts, self._calls, self._record)
        self._voice = AgentVoice(self._book, self._parts, self._record, self._requests.beside)
        self._revocations = Revocations(
            self._book, self._parts, self._calls, self._record, has_effects
        )
        self._cancels: OrderedDict[str, str] = OrderedDict()
        self._n_cancels = 0
        self._commits: OrderedDict[str, bool] = OrderedDict()
        self._n_commits = 0
        self._leftover_commit = leftover.commit
        self._ready = False
        self._session_told: wire.Session | None = None
        self._update_sent_ns: int | None = None
        self._leftover_owed = leftover.owed
        self._newest_turn = leftover.newest_turn

    # --- what is known ---

    @property
    def ready(self) -> bool:
        """The server has greeted; what is sent will be understood."""
        return self._ready

    @property
    def settled(self) -> bool:
        """No response is active, owed or asked for, no truncate waits and no tool runs."""
        idle = not (self._parts.unsettled or self._calls.open or self._requests.beside.open)
        owes_nothing = self._book.settled and not self._leftover_owed
        return owes_nothing and idle and not (self._revocations.open or self._commits)

    @property
    def speaking(self) -> bool:
        """The service has the user in the middle of a turn."""
        return self._book.speaking

    @property
    def owed(self) -> tuple[str, ...]:
        """User items that wait for an answer, oldest first."""
        return self._book.owed

    @property
    def newest_turn(self) -> int | None:
        """The turn that was opened last."""
        return self._newest_turn

    @property
    def session(self) -> wire.Session:
        """What the session was asked to be, all updates included."""
        return self._session

    @property
    def session_told(self) -> wire.Session | None:
        """What the server says that the session is; ``None`` before it greets."""
        return self._session_told

    @property
    def transcribes(self) -> bool:
        """Whether the user's words are asked for as text."""
        audio = self._session.audio
        heard = UNSET if audio is UNSET else audio.input
        return heard is not UNSET and heard.transcription not in (UNSET, None)

    @property
    def record(self) -> ConversationRecord:
        """The conversation as heard."""
        return self._record

    @property
    def tools_running(self) -> int:
        """Tool calls without an output."""
        return len(self._calls.open)

    @property
    def resume_sample(self) -> int | None:
        """Where the microphone audio begins that a new service would lack."""
        return self._uplink.resume_sample

    @property
    def patience_ns(self) -> int:
        """How long the service may take to answer by itself: a round trip, at least 150 ms."""
        return self._book.patience_ns

    @property
    def deadline_ns(self) -> int | None:
        """When `advance` is to be called though nothing happens."""
        if not self._ready:
            return None
        return self._parts.deadline_ns if self._parts.unsettled else self._book.deadline_ns

    # --- the microphone ---

    def append(self, start_sample: int, pcm: bytes) -> list[Output]:
        """Microphone audio.

        Args:
            start_sample: Position of its first sample on the capture clock. A gap after what
                was appended before is filled with silence; an overlap is not sent again.
            pcm: Mono, signed 16-bit little-endian, of any length.

        Raises:
            LocalProtocolError: A gap of more than 10 minutes.
        """
        return self._uplink.append(start_sample, pcm)

    def end_of_speech(self) -> list[Output]:
        """The microphone is gone in the middle of a user turn: the silence that ends it."""
        return self._uplink.end_of_speech() if self._book.speaking else []

    # --- what the pipeline decided ---

    def cut(self, interrupt: Interrupt, at_ns: int) -> list[Output]:
        """The agent was interrupted: truncate what was not heard, then cancel.

        Args:
            interrupt: With the turn, the onset, and what was heard of which part.
            at_ns: Now.
        """
        outputs: list[Output] = []
        heard_of = frozenset(
            part.response_id
            for heard in interrupt.heard
            if heard.heard_samples > 0
            and (part := self._parts.find(heard.item_id, heard.content_index)) is not None
        )
        if interrupt.cause == REVOKED:
            killed = self._book.silence(interrupt.turn)
        else:
            heard_of |= self._parts.heard_responses  # those that were over, too: nothing is owed
            killed = self._book.cut(interrupt.turn, interrupt.onset_sample, heard_of, at_ns)
        for heard in interrupt.heard:
            outputs += self._items.heard(heard)
            outputs += [Send(event) for event in self._parts.account(heard, at_ns)]
        self._parts.cut(interrupt.heard)
        for answer in killed:
            outputs += self._cancel(answer, at_ns)
        self._revocations.cut(interrupt.turn)
        # The line of this cut may end before a response that its onset kills.
        newest = max((answer.turn for answer in killed if answer.turn is not None), default=0)
        if interrupt.turn is not None and newest > interrupt.turn:
            onset_sample = interrupt.onset_sample
            outputs.append(Interrupt(turn=newest, onset_sample=onset_sample, cause=interrupt.cause))
        return outputs + self._create(at_ns)

    def settle(self, heard: Heard, at_ns: int) -> list[Output]:
        """A position report that was late: what a cut left open can be truncated now."""
        outputs = self._items.heard(heard) if heard.final else []
        part = self._parts.find(heard.item_id, heard.content_index)
        if part is not None and part.broke_off and heard.complete:
            part.broke_off = False
            message = f"{part.response_id} was ended by the service, and heard as far as it came"
            outputs.append(problem("answer_incomplete", message, at_ns))
        if self._parts.waits_for(heard):
            outputs += [Send(event) for event in self._parts.account(heard, at_ns)]
            outputs += self._create(at_ns)
        return outputs

    def swallow(self, item_id: str, at_ns: int) -> list[Output]:
        """A user item was no speech: cancel and delete its response, and the item."""
        answer = self._book.swallow(item_id, at_ns)
        outputs: list[Output] = [*self._revocations.swallow(item_id, answer).withdrawn]
        if answer is not None:
            if answer.turn is not None:
                outputs.append(Withdrawn(turn=answer.turn, at_ns=at_ns))
            outputs += self._cancel(answer, at_ns)
        return outputs + self._create(at_ns)

    def revoke(
        self, item_ids: tuple[str, ...], at_ns: int, *, hint: str = "", respond: bool = True
    ) -> list[Output]:
        """A user turn is void: all that was said and begun because of it is taken back.

        The order is that of `framepipe.realtime.revocations`. What is audible of it is cut by an
        `Interrupt` that comes out here; `cut` is to be told of it, with what was heard.

        Args:
            item_ids: The user's items; they stay.
            at_ns: Now.
            hint: A word to the model of what became of them.
            respond: They shall be answered again.
        """
        items = frozenset(item_ids)
        revocation = self._revocations.begin(items, hint, at_ns, respond=respond)
        outputs: list[Output] = []
        for answer in revocation.answers:
            outputs += self._cancel(answer, at_ns)
        outputs += revocation.withdrawn
        if revocation.cut_turn is not None:
            outputs.append(Interrupt(turn=revocation.cut_turn, cause=REVOKED, at_ns=at_ns))
        return outputs + self._create(at_ns)

    def undo(self, at_ns: int) -> list[Output]:
        """What was cut last goes on: what is heard of it from now on is told as text.

        What was never generated, because its response was cancelled, is lost, and reported.
        """
        answers = (self._book.answer(response_id) for response_id in self._parts.undo())
        broken = [a.response_id for a in answers if a is not None and a.cancelled_ns is not None]
        message = "{} was cancelled before it was whole; what is there of it goes on"
        return [problem("answer_incomplete", message.format(name), at_ns) for name in broken]

    def words_heard(self, heard: Heard) -> str | None:
        """What the agent said of a part up to a position: an estimate, ending with a word.

        Returns:
            ``None`` for a part that the service did not make.
        """
        return self._record.words_heard(heard)

    def create(self, params: wire.ResponseParams | None, at_ns: int) -> list[Output]:
        """Ask for a response. It waits for the active one to end and for the user's silence.

        Args:
            params: What it shall be; ``None`` is the session's own.
            at_ns: Now.

        Raises:
            LocalProtocolError: It is for beside the conversation; see `create_beside`.
        """
        if params is not None and params.conversation == "none":
            raise LocalProtocolError("conversation is 'none'; ask for it with create_beside")
        self._book.ask(Wish(params), self._uplink.next_sample)
        return self._create(at_ns)

    def say(self, text: str, at_ns: int, *, interruptible: bool = True) -> list[Output]:
        """Make the model say a text, in its voice, when it may speak.

        It answers nothing: what is owed to the user is still owed.

        Args:
            text: What to say.
            at_ns: Now.
            interruptible: The user's voice may cut it.
        """
        params = wire.ResponseParams(instructions=f"{SAY}\n\n{text}", tool_choice="none")
        wish = Wish(params, answers=False, interruptible=interruptible)
        self._book.ask(wish, self._uplink.next_sample)
        return self._create(at_ns)

    def create_beside(self, params: wire.ResponseParams) -> tuple[str, list[Output]]:
        """Ask for a response beside the conversation. It waits for nothing.

        Args:
            params: What it shall be; ``conversation`` is set here.

        Returns:
            The name under which `BesideDone` will tell of it, and what to do.

        Raises:
            LocalProtocolError: No session is open, or too many of them wait.
        """
        self._must_be_open("ask beside the conversation")
        name = self._requests.beside.ask()
        params = msgspec.structs.replace(params, conversation="none")
        return name, [Send(_create_event(name, params))]

    # --- what the application wants ---

    def commit(self, *, respond: bool = True) -> list[Output]:
        """The user's turn has ended, says the application; it goes out behind the audio.

        Args:
            respond: The agent shall answer it.

        Raises:
            LocalProtocolError: No session is open.
        """
        self._must_be_open("commit")
        self._n_commits += 1
        name = f"commit-{self._n_commits}"
        self._commits[name] = respond
        return [Send(wire.InputAudioBufferCommit(event_id=name))]

    def clear(self) -> list[Output]:
        """The service shall forget what it heard since the last commit.

        Raises:
            LocalProtocolError: No session is open.
        """
        self._must_be_open("clear the buffer")
        return [Send(wire.InputAudioBufferClear())]

    def update(self, session: wire.Session, at_ns: int) -> tuple[str, list[Output]]:
        """Change the session, whole.

        Returns:
            The name under which `Updated` will tell of it, and what to do. Before the session is
            open it is only kept, and there is no name.
        """
        if not self._ready:
            self._session = session
            return "", []
        name = self._requests.update(session)
        return name, [Send(wire.SessionUpdate(event_id=name, session=session))]

    def add(self, item: wire.Item, after: str | None = None) -> tuple[str, list[Output]]:
        """Put an item into the conversation.

        Args:
            item: See `framepipe.realtime.items`; one without an id is given one.
            after: The item that it follows; "root": none; ``None``: the last one.

        Returns:
            Its id, and what to do. Before the session is open it is only kept.

        Raises:
            LocalProtocolError: The id is too long, or taken, or ``after`` is not known.
        """
        return self._items.add(item, after)

    def typed(self, text: str, at_ns: int) -> list[Output]:
        """The user has typed something, and is owed an answer: one, with what else is owed then.

        It is asked for with the next `advance`: whoever reads the words may first take back what
        they correct.

        Args:
            text: The words; none at all still want an answer.
            at_ns: Now.
        """
        item_id, outputs = self.add(user_text(text))
        self._book.typed(item_id, self._uplink.next_sample, at_ns)
        told: list[Output] = []
        if text.strip():
            told.append(
                Transcript(
                    who="user", text=text, final=True, item_id=item_id, typed=True, at_ns=at_ns
                )
            )
        return [*told, *outputs]

    def delete(self, item_id: str) -> list[Output]:
        """Take an item out of the conversation; unknown ones are left to the service."""
        return self._items.delete(item_id)

    def retrieve(self, item_id: str) -> list[Output]:
        """Ask for an item as the service has it; `Retrieved` will tell.

        Raises:
            LocalProtocolError: No session is open.
        """
        self._must_be_open("retrieve an item")
        wire_id = self._record.wire_id(item_id) or item_id
        event_id = self._requests.retrieve(item_id, wire_id)
        return [Send(wire.ConversationItemRetrieve(event_id=event_id, item_id=wire_id))]

    def answer_call(self, call_id: str, output: str, at_ns: int) -> list[Output]:
        """A tool has answered. The output goes out at once, the next response when it may.

        Calls that are not open are ignored: answered already, or never made.
        """
        if not self._calls.is_open(call_id):
            return []
        _, outputs = self.add(function_output(call_id, output))
        call = self._calls.call(call_id)
        grounded_in = frozenset[str]() if call is None else call.grounded_in
        if self._calls.answered(call_id):
            position_sample = self._uplink.next_sample
            self._book.owe(RESULTS, position_sample, at_ns, grounded_in=grounded_in)
        return outputs + self._create(at_ns)

    def hand_over(self, at_ns: int) -> tuple[list[Output], Leftover]:
        """The socket is gone: close what was open, and pack up for the next one.

        What is audible plays on; a response of which nothing had come is owed again.
        """
        outputs: list[Output] = []
        asks = self._book.ungranted
        owed = bool(self._book.owed) or self._calls.socket_gone() or self._leftover_owed
        for answer in self._book.active:
            given = self._parts.was_given(answer.response_id)
            if not answer.killed:
                outputs += self._voice.close_all(answer, at_ns)
                if given:
                    message = f"{answer.response_id} broke off with the connection"
                    outputs.append(problem("answer_incomplete", message, at_ns))
                elif answer.ask is not None and not answer.ask.for_debt:
                    asks = (answer.ask.wish, *asks)
                else:
                    owed = True
            self._book.done(answer.response_id, at_ns)
            outputs += [o for o in self._ended(answer, "gone", at_ns) if not isinstance(o, Send)]
        for revocation in self._revocations.end_all():
            for item_id in self._revocations.doomed(revocation):
                self._record.removed(item_id)
            if revocation.hint:
                item = system_text(revocation.hint)
                self._record.added(msgspec.structs.replace(item, id=self._record.new_id()))
            owed = owed or bool(revocation.again)
        outputs += self._requests.end_all("the connection is gone")
        self._record.socket_gone()
        leftover = Leftover(
            record=self._record,
            calls=self._calls,
            resume_sample=self._uplink.resume_sample,
            asks=asks,
            owed=owed,
            patience_ns=self._book.patience_ns,
            newest_turn=self._newest_turn,
            commit=next(reversed(self._commits.values()), self._leftover_commit),
        )
        return outputs, leftover

    def cancel(self, response_id: str, at_ns: int) -> list[Output]:
        """End one response; nothing of it will come out any more. Unknown ones are ignored."""
        answer = self._book.answer(response_id)
        if answer is None or answer.done:
            return []
        answer.killed = True
        return self._cancel(answer, at_ns)

    def truncate(self, item_id: str, content_index: int, heard_samples: int) -> list[Output]:
        """Make the service forget what was not heard of a part.

        At most once a part, never beyond what was received, and not before anything was.
        """
        events = self._parts.truncate(item_id, content_index, heard_samples)
        return [Send(event) for event in events]

    def turn_opened(self, response_id: str, turn: int) -> None:
        """The shell's answer to `OpenTurn`."""
        answer = self._book.answer(response_id)
        if answer is not None:
            answer.turn = turn
        self._newest_turn = turn

    def advance(self, at_ns: int) -> list[Output]:
        """Time has passed."""
        outputs: list[Output] = [Send(event) for event in self._parts.due(at_ns)]
        before = self._book.active
        outputs += self._create(at_ns)
        for answer in before:
            if answer.done:  # the book gave it up
                outputs += self._ended(answer, "lost", at_ns)
        return outputs

    # --- what the server sent ---

    def receive(self, event: ServerEvent, at_ns: int) -> list[Output]:
        """What the server sent.

        Nothing in an event makes this raise: what makes no sense is a `Problem` frame or is
        passed over, and what is not known is passed over.
        """
        match event:
            case wire.ResponseOutputAudioDelta():
                return self._voice.audio(event, at_ns)
            case wire.ResponseOutputAudioTranscriptDelta():
                return self._voice.words(event, event.delta, final=False, at_ns=at_ns)
            case wire.ResponseOutputAudioTranscriptDone():
                return self._voice.words(event, event.transcript, final=True, at_ns=at_ns)
            case wire.ResponseOutputTextDelta():
                return self._voice.text(event, at_ns)
            case wire.ResponseOutputAudioDone():
                answer = self._book.answer(event.response_id)
                part = self._parts.find(event.item_id, event.content_index)
                return (
                    [] if answer is None or part is None else self._voice.close(answer, part, at_ns)
                )
            case wire.ResponseCreated():
                return self._created(event.response, at_ns)
            case wire.ResponseDone():
                return self._done(event.response, at_ns)
            case wire.InputAudioBufferSpeechStarted():
                onset = self._uplink.speech_started(event.item_id, event.audio_start_ms)
                self._book.speech_started(event.item_id, onset)
                return [
                    SpeechStarted(
                        source="server", onset_sample=onset, item_id=event.item_id, at_ns=at_ns
                    )
                ]
            case wire.InputAudioBufferSpeechStopped():
                end = self._uplink.speech_stopped(event.item_id, event.audio_end_ms)
                self._book.speech_stopped(event.item_id, end, at_ns)
                return [
                    SpeechStopped(
                        source="server", end_sample=end, item_id=event.item_id, at_ns=at_ns
                    ),
                    *self._create(at_ns),
                ]
            case wire.ConversationItemAdded():
                self._book.arrived(str(event.item.id))
                return []
            case wire.InputAudioBufferCommitted():
                self._committed(event.item_id, at_ns)
                return self._create(at_ns)
            case wire.InputAudioBufferCleared():
                self._book.speech_forgotten()
                self._uplink.forget()
                return self._create(at_ns)
            case wire.InputAudioTranscriptionDelta():
                return self._user_words(event.item_id, event.delta, final=False, at_ns=at_ns)
            case wire.InputAudioTranscriptionCompleted():
                return self._user_words(event.item_id, event.transcript, final=True, at_ns=at_ns)
            case wire.InputAudioTranscriptionFailed():
                why = event.error.message or event.error.code or "no reason given"
                message = f"no transcript of {event.item_id}: {why}"
                failed = problem("transcription_failed", message, at_ns)
                return [evolve(failed, item_id=event.item_id)]
            case wire.ResponseOutputItemAdded():
                return self._items.added(event)
            case wire.ResponseOutputItemDone():
                return self._items.done(event, at_ns)
            case wire.ConversationItemRetrieved():
                return [self._requests.retrieved(event.item)]
            case wire.SessionCreated():
                self._session_told = event.session
                return self._greeted(at_ns)
            case wire.SessionUpdated():
                return self._updated(event.session, at_ns)
            case wire.ErrorEvent():
                return self._error(event.error, at_ns)
            case _:
                return []

    # --- inside: responses ---

    def _created(self, response: wire.Response, at_ns: int) -> list[Output]:
        # Beside the conversation: never active, never the answer to anything.
        name = (response.metadata or {}).get(MARK)
        if response.conversation_id is None:
            self._requests.beside.created(name, response.id)
            return []
        if self._book.answer(response.id) is not None:
            return []
        answer = self._book.created(response.id, name, self._uplink.next_sample, at_ns)
        if answer.revoked:
            self._revocations.late(answer)
        if answer.killed:
            return self._cancel(answer, at_ns)
        items = tuple(item.item_id for item in answer.pays if item.ordinal)
        return [OpenTurn(response.id, interruptible=answer.interruptible, item_ids=items)]

    def _done(self, response: wire.Response, at_ns: int) -> list[Output]:
        answer = self._book.answer(response.id)
        if answer is None:
            return self._beside_done(response, at_ns)
        if answer.done:
            return []
        outputs: list[Output] = []
        if not answer.killed:
            outputs += self._voice.close_all(answer, at_ns)
        if response.usage is not None:
            outputs.append(usage_of(response.id, response.usage, at_ns))
        if response.status == "failed":
            outputs.append(problem("response_failed", why_failed(response), at_ns))
        failed = response.status == "failed" and not self._parts.was_given(response.id)
        was_killed = answer.killed
        if response.status == "cancelled" and answer.cancelled_ns is None:
            answer.cancelled_ns = at_ns  # by the service itself
        self._book.done(response.id, at_ns, failed=failed)
        if not was_killed:  # its words ran ahead of a sound that ends somewhere
            for part in self._parts.of_response(response.id):
                self._record.agent_done(part.item_id)
                part.broke_off = broke_off(response)
        for item in response.output:
            note_item(answer, item)
        if self._calls.ended(response.id):
            position_sample, grounded_in = self._uplink.next_sample, answer.grounded_in
            self._book.owe(RESULTS, position_sample, at_ns, grounded_in=grounded_in)
        if was_killed and not answer.revoked:
            outputs += self._items.unheard(response)
        outputs += self._ended(answer, response.status, at_ns)
        return outputs + self._create(at_ns)

    def _ended(self, answer: Answer, status: str, at_ns: int) -> list[Output]:
        late = sum(part.late for part in self._parts.of_response(answer.response_id))
        outputs: list[Output] = []
        if status == "lost":
            message = f"{answer.response_id} did not end after its cancel; it is given up"
            outputs.append(problem("response_lost", message, at_ns))
        late_ms = late * 1_000 / self._spoken.rate_hz
        outputs.append(ResponseEnded(answer.response_id, status, answer.killed, late_ms))
        return outputs

    def _beside_done(self, response: wire.Response, at_ns: int) -> list[Output]:
        outputs: list[Output] = []
        if response.conversation_id is None and response.usage is not None:
            outputs.append(usage_of(response.id, response.usage, at_ns))
        name = self._requests.beside.name_of(response.id)
        if name is not None:
            text = self._requests.beside.ended(name) or ""
            error = why_failed(response) if response.status == "failed" else None
            outputs.append(BesideDone(name, response, text, error))
        return outputs

    # --- inside: the user ---

    def _committed(self, item_id: str, at_ns: int) -> None:
        start_sample, end_sample = self._uplink.committed(item_id)
        self._book.committed(item_id, self._uplink.next_sample, at_ns)
        if self._commits and self._commits.popitem(last=False)[1]:
            self._book.owe_again(frozenset({item_id}), at_ns)
        self._record.user_said(item_id, start_sample, end_sample)

    def _user_words(self, item_id: str, text: str, *, final: bool, at_ns: int) -> list[Output]:
        if final:
            self._record.user_words(item_id, text)
        return [Transcript(who="user", text=text, final=final, item_id=item_id, at_ns=at_ns)]

    def _cancel(self, answer: Answer, at_ns: int) -> list[Output]:
        if answer.done or answer.cancelled_ns is not None:
            return []
        answer.cancelled_ns = at_ns
        self._n_cancels += 1
        name = f"cancel-{self._n_cancels}"
        self._cancels[name] = answer.response_id
        if len(self._cancels) > REMEMBERED_CANCELS:
            self._cancels.popitem(last=False)
        return [Send(wire.ResponseCancel(event_id=name, response_id=answer.response_id))]

    def _create(self, at_ns: int) -> list[Output]:
        """Send the create that is due; what is taken back goes first, and open truncates."""
        if self._parts.unsettled:
            return []
        outputs: list[Output] = []
        for revocation in self._revocations.ready():
            outputs += self._taken_back(revocation, at_ns)
        ask = self._book.due(self._uplink.next_sample, at_ns) if self._ready else None
        return (
            outputs if ask is None else [*outputs, Send(_create_event(ask.name, ask.wish.params))]
        )

    def _taken_back(self, revocation: Revocation, at_ns: int) -> list[Output]:
        outputs: list[Output] = []
        for item_id in self._revocations.doomed(revocation):
            outputs += self.delete(item_id)
        if revocation.hint:
            outputs += self.add(system_text(revocation.hint))[1]
        if revocation.again:
            self._book.owe_again(revocation.again, at_ns)
        return outputs

    def _error(self, error: wire.ErrorDetail, at_ns: int) -> list[Output]:
        code = error.code or error.type
        why = f"{code}: {error.message}"
        outputs = self._requests.refused(error.event_id or "", why)
        if not outputs and code not in LOST_RACES:
            outputs.append(problem(code, error.message, at_ns, fatal=classify(error) == "fatal"))
        collision = code == "conversation_already_has_active_response"
        of_create = error.event_id is not None and error.event_id.startswith("create-")
        if of_create or (collision and error.event_id is None):
            gave_up = self._book.refused(error.event_id, at_ns, collision=collision)
            if gave_up:
                message = f"the service refused to answer several times: {code}"
                outputs.append(problem("unanswered", message, at_ns))
        if code == "input_audio_buffer_commit_empty":
            self._commits.pop(error.event_id or next(iter(self._commits), ""), None)
        if code == "response_cancel_not_active":
            # Events come in order, so a response that had ended by itself would have said so.
            answer = self._book.answer(self._cancels.pop(error.event_id or "", ""))
            if answer is not None and not answer.done:
                self._book.done(answer.response_id, at_ns)
                outputs += self._ended(answer, "cancelled", at_ns)
        if classify(error) in ("reconnect", "fatal"):
            outputs.append(Fail(classify(error), code, error.message))
        return outputs + self._create(at_ns)

    # --- inside: small things ---

    def _greeted(self, at_ns: int) -> list[Output]:
        if self._ready:
            return []
        self._ready = self._items.open = True
        self._update_sent_ns = at_ns
        outputs: list[Output] = [Send(wire.SessionUpdate(session=self._session))]
        seeds, lost = self._record.seed(self._coded_between)
        outputs += [Send(event) for event in seeds]
        if lost:
            message = f"{lost} things that the user said have no text; the new session lacks them"
            outputs.append(problem("conversation_lost", message, at_ns))
        if self._leftover_commit is not None:
            outputs += self.commit(respond=self._leftover_commit)
            self._leftover_commit = None
        if self._leftover_owed:
            self._leftover_owed = False
            self._book.owe(LOST_ANSWER, self._uplink.resume_sample or 0, at_ns)
        return outputs + self._create(at_ns)

    def _updated(self, session: wire.Session, at_ns: int) -> list[Output]:
        # What the service says it does counts, not what we asked for.
        self._session_told = session
        self._uplink.detection = detection_of(session)
        if self._update_sent_ns is not None:
            round_trip_ns = at_ns - self._update_sent_ns
            self._book.patience_ns = max(PATIENCE_NS, min(round_trip_ns, NS_PER_S))
            self._update_sent_ns = None
            return []
        update = self._requests.updated()
        if update is None:
            return []
        name, self._session = update
        return [Updated(name)]

    def _must_be_open(self, what: str) -> None:
        if not self._ready:
            raise LocalProtocolError(f"no session is open; {what} when ConnectionState says so")

    def _coded_between(self, start_sample: int, end_sample: int) -> bytes | None:
        pcm = self._audio_between(start_sample, end_sample)
        return None if pcm is None else self._heard.code(pcm)


def _create_event(name: str, params: wire.ResponseParams | None) -> wire.ResponseCreate:
    params = wire.ResponseParams() if params is None else params
    said = {} if params.metadata is UNSET or params.metadata is None else params.metadata
    marked = msgspec.structs.replace(params, metadata={**said, MARK: name})
    return wire.ResponseCreate(event_id=name, response=marked)
