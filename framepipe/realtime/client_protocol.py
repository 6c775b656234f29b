"""The client's half of the Realtime protocol, without a socket.

Theory of operation. The shell hands in what the server sent (`ClientProtocol.receive`), what the
microphone captured (`append`), and what the pipeline decided (`cut`, `settle`, `swallow`); it
performs what comes back, in order: a frame is emitted, a `Send` is sent, an `OpenTurn` is
answered by `turn_opened`. When nothing happens until `deadline_ns`, it calls `advance`.

Three accounts are kept here. *Time*: the server counts milliseconds of audio appended, which is
the capture clock minus a constant, because every sample is appended once and gaps are filled with
silence. *Audio received*, per content part: a truncate never reaches beyond it. *Answers*: in
`framepipe.realtime.answers`.

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
from typing import Final, TypeAlias

import msgspec
from attrs import define, frozen

from framepipe.errors import LocalProtocolError
from framepipe.frames import (
    NS_PER_S,
    SAMPLE_BYTES,
    AudioDone,
    AudioOut,
    Heard,
    Interrupt,
    Problem,
    SpeechStarted,
    SpeechStopped,
    TextOut,
    ToolCall,
    Transcript,
    Usage,
)
from framepipe.realtime import events as wire
from framepipe.realtime.answers import PATIENCE_NS, Answer, AnswerBook
from framepipe.realtime.beside import BesideBook
from framepipe.realtime.calls import CallBook
from framepipe.realtime.codings import codings_of
from framepipe.realtime.conversation_record import AudioBetween, ConversationRecord
from framepipe.realtime.error_classes import LOST_RACES, ErrorClass, classify
from framepipe.realtime.events import UNSET, MalformedEventError, ServerEvent
from framepipe.realtime.items import MAX_ID_CHARACTERS, function_output

MARK: Final = "framepipe"
"""Key in the metadata of our responses; its value is the name of the ask."""

SETTLE_NS = 150_000_000
"""How long a truncate waits for a late position report; the cancel never does."""

MAX_GAP_S = 600
"""Longest hole in the microphone audio that is filled with silence. What is longer is a clock
that jumped, not audio that was lost."""

PIECE_S = 5
"""Longest append; the service takes 15 MiB, and short ones do not hold up what follows."""

REMEMBERED_PARTS = 256
"""Content parts whose received audio is still known, so that memory does not grow with a call."""

REMEMBERED_SEGMENTS = 16
"""Stretches of the user's speech that are not committed yet."""

SAY: Final = "Say the following to the user word for word, and nothing else:"
"""How a model is made to speak a given text. It replaces the session's instructions."""

RESULTS: Final = "results of tools"
"""Name of the debt to a response whose calls are answered."""

LOST_ANSWER: Final = "an answer that was lost"
"""Name of the debt that a socket takes over from the one before."""


@frozen
class Send:
    """To the shell: send this event."""

    event: wire.ClientEvent


@frozen
class OpenTurn:
    """To the shell: open a turn and answer with `ClientProtocol.turn_opened`."""

    response_id: str


@frozen
class ResponseEnded:
    """To the shell: a response of the conversation ended.

    Attributes:
        response_id: The service's name for it.
        status: As on the wire; "lost" when its end never came.
        killed: Nothing of it may be heard any more.
        late_ms: Its audio that came after it was killed, in milliseconds.
    """

    response_id: str
    status: str
    killed: bool
    late_ms: float


@frozen
class Fail:
    """To the shell: the session cannot go on like this.

    Attributes:
        error_class: "reconnect" or "fatal".
        code: The service's.
        message: The service's.
    """

    error_class: ErrorClass
    code: str
    message: str


@frozen
class Updated:
    """To the shell: an update of the session was answered.

    Attributes:
        name: Its ``event_id``.
        error: Why it was refused; ``None``: it holds.
    """

    name: str
    error: str | None = None


@frozen
class Retrieved:
    """To the shell: an item that was asked for.

    Attributes:
        item_id: Its name in the pipeline.
        item: With its audio; ``None``: there is none of this name.
    """

    item_id: str
    item: wire.Item | None


@frozen
class BesideDone:
    """To the shell: a response beside the conversation ended.

    Attributes:
        name: Of the ask, from `ClientProtocol.create_beside`.
        response: As the service told it at the end; ``None``: it was refused.
        text: What it said.
        error: Why it was refused or failed.
    """

    name: str
    response: wire.Response | None
    text: str
    error: str | None = None


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
    """

    record: ConversationRecord
    calls: CallBook
    resume_sample: int | None = None
    asks: tuple[wire.ResponseParams | None, ...] = ()
    owed: bool = False
    patience_ns: int = PATIENCE_NS
    newest_turn: int | None = None


Told: TypeAlias = (
    AudioOut
    | AudioDone
    | TextOut
    | ToolCall
    | Transcript
    | SpeechStarted
    | SpeechStopped
    | Usage
    | Problem
    | Interrupt
)
"""The frames that come out: the service's side of the conversation."""

Output: TypeAlias = Told | Send | OpenTurn | ResponseEnded | Updated | Retrieved | BesideDone | Fail
"""What the shell is to do: emit a frame, or one of the others."""


@define
class _Part:
    """One content part of the agent, in its own samples."""

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    received: int = 0
    late: int = 0
    odd_byte: bytes = b""
    shown: bool = False
    closed: bool = False
    truncated: bool = False


class ClientProtocol:
    """One session, seen by its client.

    Args:
        session: What the session shall be; sent as soon as the server greets.
        book: Keeps the account of answers; ``None`` makes one that fits the session.
        leftover: What the session before left; ``None``: this is the first.
        audio_between: Gives microphone audio that is still kept, for a service that must be told
            again what the user said.
    """

    def __init__(
        self,
        session: wire.Session | None = None,
        *,
        book: AnswerBook | None = None,
        leftover: Leftover | None = None,
        audio_between: AudioBetween = lambda start_sample, end_sample: None,
    ) -> None:
        self._session = wire.Session() if session is None else session
        self._input, self._output = codings_of(self._session)
        self._input_rate_hz = self._input.rate_hz
        self._output_rate_hz = self._output.rate_hz
        detection = _turn_detection(self._session)
        self._prefix_ms = detection.prefix_ms
        self._silence_ms = detection.silence_ms
        self._book = AnswerBook(service_answers=detection.answers) if book is None else book
        leftover = leftover or Leftover(ConversationRecord(), CallBook())
        self._record = leftover.record
        self._calls = leftover.calls
        self._resume_sample = leftover.resume_sample
        self._book.patience_ns = max(self._book.patience_ns, leftover.patience_ns)
        for params in leftover.asks:
            self._book.ask(params, leftover.resume_sample or 0)
        self._audio_between = audio_between
        self._segments: OrderedDict[str, tuple[int | None, int | None]] = OrderedDict()
        self._parts: OrderedDict[tuple[str, int], _Part] = OrderedDict()
        self._unsettled: dict[tuple[str, int], tuple[int, int]] = {}
        self._delete_after: dict[str, list[str]] = {}
        self._cancels: OrderedDict[str, str] = OrderedDict()
        self._n_cancels = 0
        self._first_sample: int | None = None
        self._next_sample = 0
        self._ready = False
        self._session_told: wire.Session | None = None
        self._update_sent_ns: int | None = None
        self._updates: OrderedDict[str, wire.Session] = OrderedDict()
        self._n_updates = 0
        self._leftover_owed = leftover.owed
        self._retrievals: OrderedDict[str, str] = OrderedDict()
        self._beside = BesideBook()
        self._newest_turn = leftover.newest_turn

    # --- what is known ---

    @property
    def ready(self) -> bool:
        """The server has greeted; what is sent will be understood."""
        return self._ready

    @property
    def settled(self) -> bool:
        """No response is active, owed or asked for, no truncate waits and no tool runs."""
        idle = not (self._unsettled or self._calls.open or self._beside.open)
        return self._book.settled and idle

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
        return self._resume_sample

    @property
    def patience_ns(self) -> int:
        """How long the service may take to answer by itself: a round trip, at least 150 ms."""
        return self._book.patience_ns

    @property
    def deadline_ns(self) -> int | None:
        """When `advance` is to be called though nothing happens."""
        if not self._ready:
            return None
        if self._unsettled:
            return min(deadline for _, deadline in self._unsettled.values())
        return self._book.deadline_ns

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
        outputs: list[Output] = []
        if self._first_sample is None:
            self._first_sample = self._next_sample = start_sample
            resume_sample, self._resume_sample = self._resume_sample, start_sample
            if resume_sample is not None and resume_sample < start_sample:
                lost = start_sample - resume_sample
                outputs.append(self._mic_problem("audio_lost", lost, "not kept long enough"))
        gap = start_sample - self._next_sample
        if gap > MAX_GAP_S * self._input_rate_hz:
            raise LocalProtocolError(
                f"microphone audio jumps from sample {self._next_sample} to {start_sample}; "
                f"at most {MAX_GAP_S} s are filled with silence"
            )
        if gap > 0:
            outputs += self._silence(gap)
            outputs.append(self._mic_problem("audio_gap", gap, "sent as silence"))
        elif gap < 0:
            pcm = pcm[-gap * SAMPLE_BYTES :]
            outputs.append(self._mic_problem("audio_overlap", -gap, "not sent again"))
        piece = PIECE_S * self._input_rate_hz * SAMPLE_BYTES
        for at in range(0, len(pcm), piece):
            audio = wire.encode_audio(self._input.code(pcm[at : at + piece]))
            outputs.append(Send(wire.InputAudioBufferAppend(audio=audio)))
        self._next_sample += len(pcm) // SAMPLE_BYTES
        return outputs

    def end_of_speech(self) -> list[Output]:
        """The microphone is gone in the middle of a user turn: the silence that ends it."""
        if not self._book.speaking:
            return []
        missing_ms = self._silence_ms + self._prefix_ms
        return self._silence(missing_ms * self._input_rate_hz // 1_000)

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
            if heard.heard_samples > 0 and (part := self._part_of(heard)) is not None
        )
        killed = self._book.cut(interrupt.turn, interrupt.onset_sample, heard_of, at_ns)
        for heard in interrupt.heard:
            outputs += self._heard(heard)
            outputs += self._account(heard, at_ns)
        for answer in killed:
            outputs += self._cancel(answer, at_ns)
        # The line of this cut may end before a response that its onset kills.
        newest = max((answer.turn for answer in killed if answer.turn is not None), default=0)
        if interrupt.turn is not None and newest > interrupt.turn:
            onset_sample = interrupt.onset_sample
            outputs.append(Interrupt(turn=newest, onset_sample=onset_sample, cause=interrupt.cause))
        return outputs + self._create(at_ns)

    def settle(self, heard: Heard, at_ns: int) -> list[Output]:
        """A position report that was late: what a cut left open can be truncated now."""
        outputs = self._heard(heard) if heard.final else []
        if (heard.item_id or "", heard.content_index) in self._unsettled:
            outputs += self._account(heard, at_ns) + self._create(at_ns)
        return outputs

    def swallow(self, item_id: str, at_ns: int) -> list[Output]:
        """A user item was no speech: cancel and delete its response, and the item."""
        answer = self._book.swallow(item_id, at_ns)
        if answer is None or answer.done:
            return [*self.delete(item_id), *self._create(at_ns)]
        self._delete_after.setdefault(answer.response_id, []).append(item_id)
        return [*self._cancel(answer, at_ns), *self._close_parts(answer, at_ns)]

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
        self._book.ask(params, self._next_sample)
        return self._create(at_ns)

    def say(self, text: str, at_ns: int) -> list[Output]:
        """Make the model say a text, in its voice, when it may speak."""
        params = wire.ResponseParams(instructions=f"{SAY}\n\n{text}", tool_choice="none")
        return self.create(params, at_ns)

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
        name = self._beside.ask()
        params = msgspec.structs.replace(params, conversation="none")
        return name, [Send(_create_event(name, params))]

    # --- what the application wants ---

    def update(self, session: wire.Session, at_ns: int) -> tuple[str, list[Output]]:
        """Change the session, whole.

        Returns:
            The name under which `Updated` will tell of it, and what to do. Before the session is
            open it is only kept, and there is no name.
        """
        if not self._ready:
            self._session = session
            return "", []
        self._n_updates += 1
        name = f"update-{self._n_updates}"
        self._updates[name] = session
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
        item_id = item.id if isinstance(item.id, str) else ""
        known = {entry.item_id for entry in self._record.entries}
        if len(item_id) > MAX_ID_CHARACTERS or item_id in known:
            rule = f"an id of your own is new and has at most {MAX_ID_CHARACTERS} characters"
            raise LocalProtocolError(f"item id {item_id!r}: {rule}")
        if after not in (None, "root") and after not in known:
            raise LocalProtocolError(f"after is {after!r}; no item of the conversation is so named")
        if not item_id:
            item_id = self._record.new_id()
            item = msgspec.structs.replace(item, id=item_id)
        self._record.added(item, after)
        if not self._ready:  # the greeting tells of it
            return item_id, []
        previous = after if after in (None, "root") else self._record.wire_id(str(after))
        return item_id, [Send(wire.ConversationItemCreate(item=item, previous_item_id=previous))]

    def delete(self, item_id: str) -> list[Output]:
        """Take an item out of the conversation; unknown ones are left to the service."""
        wire_id = self._record.wire_id(item_id)
        self._record.removed(item_id)
        if wire_id is None or not self._ready:
            return []
        return [Send(wire.ConversationItemDelete(item_id=wire_id))]

    def retrieve(self, item_id: str) -> list[Output]:
        """Ask for an item as the service has it; `Retrieved` will tell.

        Raises:
            LocalProtocolError: No session is open.
        """
        self._must_be_open("retrieve an item")
        wire_id = self._record.wire_id(item_id) or item_id
        self._retrievals[wire_id] = item_id
        event_id = f"retrieve-{item_id}"
        return [Send(wire.ConversationItemRetrieve(event_id=event_id, item_id=wire_id))]

    def answer_call(self, call_id: str, output: str, at_ns: int) -> list[Output]:
        """A tool has answered. The output goes out at once, the next response when it may.

        Calls that are not open are ignored: answered already, or never made.
        """
        if not self._calls.is_open(call_id):
            return []
        _, outputs = self.add(function_output(call_id, output))
        if self._calls.answered(call_id):
            self._book.owe(RESULTS, self._next_sample, at_ns)
        return outputs + self._create(at_ns)

    def hand_over(self, at_ns: int) -> tuple[list[Output], Leftover]:
        """The socket is gone: close what was open, and pack up for the next one.

        What is audible plays on; a response of which nothing had come is owed again.
        """
        outputs: list[Output] = []
        asks = self._book.ungranted
        owed = bool(self._book.owed) or self._calls.socket_gone() or self._leftover_owed
        for answer in self._book.active:
            given = any(part.received or part.shown for part in self._parts_of(answer))
            if not answer.killed:
                outputs += self._close_parts(answer, at_ns)
                if given:
                    message = f"{answer.response_id} broke off with the connection"
                    outputs.append(_problem("answer_incomplete", message, at_ns))
                elif answer.ask is not None and not answer.ask.for_debt:
                    asks = (answer.ask.params, *asks)
                else:
                    owed = True
            self._book.done(answer.response_id, at_ns)
            outputs += [o for o in self._ended(answer, "gone", at_ns) if not isinstance(o, Send)]
        why = "the connection is gone"
        outputs += [Updated(name, why) for name in self._updates]
        outputs += [Retrieved(item_id, None) for item_id in self._retrievals.values()]
        outputs += [BesideDone(name, None, "", why) for name in self._beside.end_all()]
        self._record.socket_gone()
        leftover = Leftover(
            record=self._record,
            calls=self._calls,
            resume_sample=self._resume_sample,
            asks=asks,
            owed=owed,
            patience_ns=self._book.patience_ns,
            newest_turn=self._newest_turn,
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
        part = self._parts.get((item_id, content_index))
        if part is None or part.truncated or part.received == 0:
            return []
        part.truncated = True
        heard = max(0, min(heard_samples, part.received))
        event = wire.ConversationItemTruncate(
            item_id=item_id,
            content_index=content_index,
            audio_end_ms=heard * 1_000 // self._output_rate_hz,
        )
        return [Send(event)]

    def turn_opened(self, response_id: str, turn: int) -> None:
        """The shell's answer to `OpenTurn`."""
        answer = self._book.answer(response_id)
        if answer is not None:
            answer.turn = turn
        self._newest_turn = turn

    def advance(self, at_ns: int) -> list[Output]:
        """Time has passed."""
        outputs: list[Output] = []
        for (item_id, content_index), (samples, deadline_ns) in list(self._unsettled.items()):
            if at_ns >= deadline_ns:
                del self._unsettled[item_id, content_index]
                outputs += self.truncate(item_id, content_index, samples)
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
                return self._audio(event, at_ns)
            case wire.ResponseOutputAudioTranscriptDelta():
                return self._agent_words(event, event.delta, final=False, at_ns=at_ns)
            case wire.ResponseOutputAudioTranscriptDone():
                return self._agent_words(event, event.transcript, final=True, at_ns=at_ns)
            case wire.ResponseOutputTextDelta():
                return self._text(event, at_ns)
            case wire.ResponseOutputAudioDone():
                answer = self._book.answer(event.response_id)
                part = self._parts.get((event.item_id, event.content_index))
                return [] if answer is None or part is None else self._close(answer, part, at_ns)
            case wire.ResponseCreated():
                return self._created(event.response, at_ns)
            case wire.ResponseDone():
                return self._done(event.response, at_ns)
            case wire.InputAudioBufferSpeechStarted():
                onset = self._capture_sample(event.audio_start_ms + self._prefix_ms)
                self._book.speech_started(event.item_id, onset)
                self._segment(event.item_id, self._capture_sample(event.audio_start_ms), None)
                return [
                    SpeechStarted(
                        source="server", onset_sample=onset, item_id=event.item_id, at_ns=at_ns
                    )
                ]
            case wire.InputAudioBufferSpeechStopped():
                end = self._capture_sample(event.audio_end_ms - self._silence_ms)
                self._book.speech_stopped(event.item_id, end, at_ns)
                self._segment(event.item_id, None, self._capture_sample(event.audio_end_ms))
                return [
                    SpeechStopped(
                        source="server", end_sample=end, item_id=event.item_id, at_ns=at_ns
                    ),
                    *self._create(at_ns),
                ]
            case wire.InputAudioBufferCommitted():
                self._committed(event.item_id, at_ns)
                return self._create(at_ns)
            case wire.InputAudioBufferCleared():
                self._book.speech_forgotten()
                return self._create(at_ns)
            case wire.InputAudioTranscriptionDelta():
                return self._user_words(event.item_id, event.delta, final=False, at_ns=at_ns)
            case wire.InputAudioTranscriptionCompleted():
                return self._user_words(event.item_id, event.transcript, final=True, at_ns=at_ns)
            case wire.InputAudioTranscriptionFailed():
                why = event.error.message or event.error.code or "no reason given"
                message = f"no transcript of {event.item_id}: {why}"
                return [_problem("transcription_failed", message, at_ns)]
            case wire.ResponseOutputItemAdded():
                return self._item_added(event)
            case wire.ResponseOutputItemDone():
                return self._item_done(event, at_ns)
            case wire.ConversationItemRetrieved():
                item_id = self._retrievals.pop(str(event.item.id), str(event.item.id))
                return [Retrieved(item_id, event.item)]
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
            self._beside.created(name, response.id)
            return []
        if self._book.answer(response.id) is not None:
            return []
        answer = self._book.created(response.id, name, self._next_sample, at_ns)
        if answer.killed:
            return self._cancel(answer, at_ns)
        return [OpenTurn(response.id)]

    def _done(self, response: wire.Response, at_ns: int) -> list[Output]:
        answer = self._book.answer(response.id)
        if answer is None:
            return self._beside_done(response, at_ns)
        if answer.done:
            return []
        outputs: list[Output] = []
        if not answer.killed:
            outputs += self._close_parts(answer, at_ns)
        if response.usage is not None:
            outputs.append(_usage(response.id, response.usage, at_ns))
        if response.status == "failed":
            outputs.append(_problem("response_failed", _why(response), at_ns))
        given = any(part.received or part.shown for part in self._parts_of(answer))
        failed = response.status == "failed" and not given
        was_killed = answer.killed
        self._book.done(response.id, at_ns, failed=failed)
        for part in self._parts_of(answer):
            self._record.agent_done(part.item_id)
        if self._calls.ended(response.id):
            self._book.owe(RESULTS, self._next_sample, at_ns)
        if was_killed:
            outputs += self._delete_unheard(response)
        outputs += self._ended(answer, response.status, at_ns)
        return outputs + self._create(at_ns)

    def _ended(self, answer: Answer, status: str, at_ns: int) -> list[Output]:
        late = sum(part.late for part in self._parts_of(answer))
        outputs: list[Output] = []
        for item_id in self._delete_after.pop(answer.response_id, ()):
            outputs += self.delete(item_id)
        if status == "lost":
            message = f"{answer.response_id} did not end after its cancel; it is given up"
            outputs.append(_problem("response_lost", message, at_ns))
        late_ms = late * 1_000 / self._output_rate_hz
        outputs.append(ResponseEnded(answer.response_id, status, answer.killed, late_ms))
        return outputs

    def _delete_unheard(self, response: wire.Response) -> list[Output]:
        """What was made but never let out: the model must not believe that it was heard."""
        outputs: list[Output] = []
        for item in response.output:
            if not isinstance(item.id, str):
                continue
            parts = [part for part in self._parts.values() if part.item_id == item.id]
            unheard = not any(part.received or part.shown for part in parts)
            # A call that is not run has no output, and must not stay either.
            unrun = item.type == "function_call" and not self._calls.was_made(str(item.call_id))
            if unrun or (item.type == "message" and unheard):
                outputs += self.delete(item.id)
        return outputs

    def _beside_done(self, response: wire.Response, at_ns: int) -> list[Output]:
        outputs: list[Output] = []
        if response.conversation_id is None and response.usage is not None:
            outputs.append(_usage(response.id, response.usage, at_ns))
        name = self._beside.name_of(response.id)
        if name is not None:
            text = self._beside.ended(name) or ""
            error = _why(response) if response.status == "failed" else None
            outputs.append(BesideDone(name, response, text, error))
        return outputs

    # --- inside: items and tools ---

    def _item_added(self, event: wire.ResponseOutputItemAdded) -> list[Output]:
        answer = self._book.answer(event.response_id)
        if answer is not None and event.item.type == "function_call":
            self._record.added(msgspec.structs.replace(event.item, status="incomplete"))
        return []

    def _item_done(self, event: wire.ResponseOutputItemDone, at_ns: int) -> list[Output]:
        item, answer = event.item, self._book.answer(event.response_id)
        if answer is None or item.type != "function_call":
            return []
        whole = item.status not in ("incomplete", "in_progress")
        texts = (item.call_id, item.name, item.arguments)
        if answer.killed or not whole or not all(isinstance(text, str) for text in texts):
            if isinstance(item.id, str):  # the next socket is not told of it
                self._record.removed(item.id)
            return []
        self._record.added(item)
        self._record.completed(item)
        call_id, name, arguments = (str(text) for text in texts)
        if answer.done or not self._calls.called(call_id, event.response_id):
            return []
        return [ToolCall(call_id=call_id, name=name, arguments=arguments, at_ns=at_ns)]

    def _committed(self, item_id: str, at_ns: int) -> None:
        start_sample, end_sample = self._segments.pop(item_id, (None, None))
        if end_sample is None:  # by hand: it holds all that was appended since the one before
            start_sample, end_sample = self._resume_sample, self._next_sample
        self._book.committed(item_id, self._next_sample, at_ns)
        self._record.user_said(item_id, start_sample, end_sample)
        self._resume_sample = max(end_sample, self._resume_sample or 0)

    def _segment(self, item_id: str, start_sample: int | None, end_sample: int | None) -> None:
        known, _ = self._segments.pop(item_id, (None, None))
        self._segments[item_id] = (known if start_sample is None else start_sample, end_sample)
        if len(self._segments) > REMEMBERED_SEGMENTS:
            self._segments.popitem(last=False)

    def _heard(self, heard: Heard) -> list[Output]:
        self._record.heard(heard)
        if not self._ready or heard.item_id is None:
            return []
        return [Send(event) for event in self._record.corrected(heard.item_id)]

    def _cancel(self, answer: Answer, at_ns: int) -> list[Output]:
        if answer.done or answer.cancelled_ns is not None:
            return []
        answer.cancelled_ns = at_ns
        self._n_cancels += 1
        name = f"cancel-{self._n_cancels}"
        self._cancels[name] = answer.response_id
        if len(self._cancels) > REMEMBERED_PARTS:
            self._cancels.popitem(last=False)
        return [Send(wire.ResponseCancel(event_id=name, response_id=answer.response_id))]

    def _create(self, at_ns: int) -> list[Output]:
        """Send the create that is due; truncates come first, so it waits for open ones."""
        if not self._ready or self._unsettled:
            return []
        ask = self._book.due(self._next_sample, at_ns)
        return [] if ask is None else [Send(_create_event(ask.name, ask.params))]

    def _error(self, error: wire.ErrorDetail, at_ns: int) -> list[Output]:
        code = error.code or error.type
        outputs: list[Output] = self._refused(error, code)
        if not outputs and code not in LOST_RACES:
            outputs.append(_problem(code, error.message, at_ns, fatal=classify(error) == "fatal"))
        collision = code == "conversation_already_has_active_response"
        of_create = error.event_id is not None and error.event_id.startswith("create-")
        if of_create or (collision and error.event_id is None):
            gave_up = self._book.refused(error.event_id, at_ns, collision=collision)
            if gave_up:
                message = f"the service refused to answer several times: {code}"
                outputs.append(_problem("unanswered", message, at_ns))
        if code == "response_cancel_not_active":
            # Events come in order, so a response that had ended by itself would have said so.
            answer = self._book.answer(self._cancels.pop(error.event_id or "", ""))
            if answer is not None and not answer.done:
                self._book.done(answer.response_id, at_ns)
                outputs += self._ended(answer, "cancelled", at_ns)
        if classify(error) in ("reconnect", "fatal"):
            outputs.append(Fail(classify(error), code, error.message))
        return outputs + self._create(at_ns)

    def _refused(self, error: wire.ErrorDetail, code: str) -> list[Output]:
        """What somebody waits for was refused: they are told, nobody else is."""
        name, why = error.event_id or "", f"{code}: {error.message}"
        if self._updates.pop(name, None) is not None:
            return [Updated(name, why)]
        if self._beside.ended(name) is not None:
            return [BesideDone(name, None, "", why)]
        if name.startswith("retrieve-"):
            item_id = name.removeprefix("retrieve-")
            wire_id = next((w for w, i in self._retrievals.items() if i == item_id), "")
            return [Retrieved(self._retrievals.pop(wire_id, item_id), None)]
        return []

    # --- inside: the voice ---

    def _audio(self, event: wire.ResponseOutputAudioDelta, at_ns: int) -> list[Output]:
        answer = self._book.answer(event.response_id)
        if answer is None or answer.done:
            return []
        part = self._part(event.response_id, event.item_id, event.output_index, event.content_index)
        try:
            data = part.odd_byte + self._output.decode(wire.decode_audio(event.delta))
        except MalformedEventError as error:
            return [_problem(error.code, str(error), at_ns)]
        whole = len(data) - len(data) % SAMPLE_BYTES
        part.odd_byte = data[whole:]
        samples = whole // SAMPLE_BYTES
        # A part that is closed or truncated has its length: nothing may follow (invariant 7).
        if answer.killed or part.closed or part.truncated:
            part.late += samples
            return []
        if not samples:
            return []
        start_sample = part.received
        part.received += samples
        self._record.agent_audio(
            part.item_id, part.content_index, part.received, self._output_rate_hz
        )
        return [
            AudioOut(
                pcm=data[:whole] if whole < len(data) else data,
                rate_hz=self._output_rate_hz,
                turn=self._turn(answer),
                response_id=event.response_id,
                item_id=event.item_id,
                output_index=event.output_index,
                content_index=event.content_index,
                start_sample=start_sample,
                at_ns=at_ns,
            )
        ]

    def _text(self, event: wire.ResponseOutputTextDelta, at_ns: int) -> list[Output]:
        answer = self._book.answer(event.response_id)
        if answer is None:
            self._beside.said(event.response_id, event.delta)
        if answer is None or answer.done or answer.killed:
            return []
        part = self._part(event.response_id, event.item_id, event.output_index, event.content_index)
        part.shown = True
        self._record.agent_words(event.item_id, event.delta, whole=False)
        return [
            TextOut(
                turn=self._turn(answer),
                text=event.delta,
                response_id=event.response_id,
                item_id=event.item_id,
                at_ns=at_ns,
            )
        ]

    def _agent_words(
        self,
        event: wire.ResponseOutputAudioTranscriptDelta | wire.ResponseOutputAudioTranscriptDone,
        text: str,
        *,
        final: bool,
        at_ns: int,
    ) -> list[Output]:
        answer = self._book.answer(event.response_id)
        if answer is None and not final:
            self._beside.said(event.response_id, text)
        if answer is None or answer.done or answer.killed:
            return []
        self._record.agent_words(event.item_id, text, whole=final)
        return [Transcript(who="agent", text=text, final=final, item_id=event.item_id, at_ns=at_ns)]

    def _user_words(self, item_id: str, text: str, *, final: bool, at_ns: int) -> list[Output]:
        if final:
            self._record.user_words(item_id, text)
        return [Transcript(who="user", text=text, final=final, item_id=item_id, at_ns=at_ns)]

    def _close(self, answer: Answer, part: _Part, at_ns: int) -> list[Output]:
        if part.closed or part.response_id != answer.response_id:
            return []
        part.closed = True
        if answer.turn is None or (answer.killed and not self._swallowed(answer)):
            return []
        return [
            AudioDone(
                turn=answer.turn,
                item_id=part.item_id,
                output_index=part.output_index,
                content_index=part.content_index,
                n_samples=part.received,
                at_ns=at_ns,
            )
        ]

    def _close_parts(self, answer: Answer, at_ns: int) -> list[Output]:
        """Nothing more will come of a response: whoever waits for it must know."""
        spoken = [part for part in self._parts_of(answer) if not part.shown]
        outputs: list[Output] = []
        for part in spoken:
            outputs += self._close(answer, part, at_ns)
        if not spoken and answer.turn is not None:
            outputs.append(AudioDone(turn=answer.turn, at_ns=at_ns))
        return outputs

    def _account(self, heard: Heard, at_ns: int) -> list[Output]:
        """Truncate a part where it was heard to, now or when the position is known."""
        part = self._part_of(heard)
        if part is None or part.truncated:
            return []
        key = (part.item_id, part.content_index)
        if not heard.final and not heard.complete:
            if part.received:
                deadline_ns = self._unsettled.get(key, (0, at_ns + SETTLE_NS))[1]
                self._unsettled[key] = (self._own_samples(heard), deadline_ns)
            return []
        self._unsettled.pop(key, None)
        return [] if heard.complete else self.truncate(*key, self._own_samples(heard))

    # --- inside: small things ---

    def _greeted(self, at_ns: int) -> list[Output]:
        if self._ready:
            return []
        self._ready = True
        self._update_sent_ns = at_ns
        outputs: list[Output] = [Send(wire.SessionUpdate(session=self._session))]
        seeds, lost = self._record.seed(self._coded_between)
        outputs += [Send(event) for event in seeds]
        if lost:
            message = f"{lost} things that the user said have no text; the new session lacks them"
            outputs.append(_problem("conversation_lost", message, at_ns))
        if self._leftover_owed:
            self._leftover_owed = False
            self._book.owe(LOST_ANSWER, self._resume_sample or 0, at_ns)
        return outputs + self._create(at_ns)

    def _updated(self, session: wire.Session, at_ns: int) -> list[Output]:
        # What the service says it does counts, not what we asked for.
        self._session_told = session
        detection = _turn_detection(session)
        self._prefix_ms, self._silence_ms = detection.prefix_ms, detection.silence_ms
        if self._update_sent_ns is not None:
            round_trip_ns = at_ns - self._update_sent_ns
            self._book.patience_ns = max(PATIENCE_NS, min(round_trip_ns, NS_PER_S))
            self._update_sent_ns = None
            return []
        if not self._updates:
            return []
        name, self._session = self._updates.popitem(last=False)  # answered in order
        return [Updated(name)]

    def _must_be_open(self, what: str) -> None:
        if not self._ready:
            raise LocalProtocolError(f"no session is open; {what} when ConnectionState says so")

    def _part(self, response_id: str, item_id: str, output_index: int, content: int) -> _Part:
        key = (item_id, content)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = _Part(response_id, item_id, output_index, content)
            if len(self._parts) > REMEMBERED_PARTS:
                self._unsettled.pop(self._parts.popitem(last=False)[0], None)
        return part

    def _part_of(self, heard: Heard) -> _Part | None:
        if heard.item_id is None:
            return None
        return self._parts.get((heard.item_id, heard.content_index))

    def _parts_of(self, answer: Answer) -> list[_Part]:
        return [part for part in self._parts.values() if part.response_id == answer.response_id]

    def _swallowed(self, answer: Answer) -> bool:
        return answer.response_id in self._delete_after

    def _own_samples(self, heard: Heard) -> int:
        return heard.heard_samples * self._output_rate_hz // heard.rate_hz

    def _turn(self, answer: Answer) -> int:
        if answer.turn is None:
            raise LocalProtocolError(
                f"OpenTurn({answer.response_id!r}) was not answered; call turn_opened first"
            )
        return answer.turn

    def _capture_sample(self, audio_ms: int) -> int:
        first_sample = self._first_sample or 0
        return first_sample + max(0, audio_ms) * self._input_rate_hz // 1_000

    def _silence(self, n_samples: int) -> list[Output]:
        outputs: list[Output] = []
        self._next_sample += n_samples
        second = self._silent_append(self._input_rate_hz)  # one text for all of them
        outputs += [second] * (n_samples // self._input_rate_hz)
        if n_samples % self._input_rate_hz:
            outputs.append(self._silent_append(n_samples % self._input_rate_hz))
        return outputs

    def _silent_append(self, n_samples: int) -> Send:
        audio = wire.encode_audio(self._input.code(bytes(SAMPLE_BYTES * n_samples)))
        return Send(wire.InputAudioBufferAppend(audio=audio))

    def _coded_between(self, start_sample: int, end_sample: int) -> bytes | None:
        pcm = self._audio_between(start_sample, end_sample)
        return None if pcm is None else self._input.code(pcm)

    def _mic_problem(self, code: str, n_samples: int, fate: str) -> Problem:
        ms = n_samples * 1_000 / self._input_rate_hz
        return _problem(code, f"{ms:g} ms of microphone audio: {fate}", 0)


def _create_event(name: str, params: wire.ResponseParams | None) -> wire.ResponseCreate:
    params = wire.ResponseParams() if params is None else params
    said = {} if params.metadata is UNSET or params.metadata is None else params.metadata
    marked = msgspec.structs.replace(params, metadata={**said, MARK: name})
    return wire.ResponseCreate(event_id=name, response=marked)


def _problem(code: str, message: str, at_ns: int, *, fatal: bool = False) -> Problem:
    return Problem(where="realtime", code=code, message=message, fatal=fatal, at_ns=at_ns)


def _why(response: wire.Response) -> str:
    error = response.status_details.error if response.status_details is not None else UNSET
    if not isinstance(error, wire.FailureDetail):
        return f"{response.id} failed; the service gave no reason"
    return f"{response.id} failed: {error.message or error.code or error.type}"


def _usage(response_id: str, usage: wire.ResponseUsage, at_ns: int) -> Usage:
    read, made = usage.input_token_details, usage.output_token_details
    return Usage(
        response_id=response_id,
        input_text_tokens=read.text_tokens,
        input_audio_tokens=read.audio_tokens,
        input_cached_tokens=_number(read.cached_tokens),
        output_text_tokens=made.text_tokens,
        output_audio_tokens=made.audio_tokens,
        at_ns=at_ns,
    )


def _number(value: int | wire.UnsetType) -> int:
    return value if isinstance(value, int) else 0


@frozen
class _Detection:
    """What of a session's turn detection matters here; the service's defaults."""

    prefix_ms: int = 300
    silence_ms: int = 500
    answers: bool = True


def _turn_detection(session: wire.Session) -> _Detection:
    if session.audio is UNSET or session.audio.input is UNSET:
        return _Detection()
    detection = session.audio.input.turn_detection
    if detection is None:  # the application commits, and asks for answers
        return _Detection(prefix_ms=0, silence_ms=0, answers=False)
    if detection is UNSET:
        return _Detection()
    answers = detection.create_response is not False
    if detection.type != "server_vad":  # it does not say how long it waits
        return _Detection(prefix_ms=0, silence_ms=0, answers=answers)
    prefix_ms, silence_ms = detection.prefix_padding_ms, detection.silence_duration_ms
    return _Detection(
        prefix_ms=300 if prefix_ms is UNSET else prefix_ms,
        silence_ms=500 if silence_ms is UNSET else silence_ms,
        answers=answers,
    )
