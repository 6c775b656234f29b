"""The client's half of the Realtime protocol, without a socket.

Theory of operation. The shell hands in what the server sent (`ClientProtocol.receive`), what the
microphone captured (`append`), and what the pipeline decided (`cut`, `settle`, `swallow`); it
performs what comes back, in order: a frame is emitted, a `Send` is sent, an `OpenTurn` is
answered by `turn_opened`. When nothing happens until `deadline_ns`, it calls `advance`.

Three accounts are kept here. *Time*: the server counts milliseconds of audio appended, which is
the capture clock minus a constant, because every sample is appended once and gaps are filled with
silence. *Audio received*, per content part: a truncate never reaches beyond it. *Answers*: in
`framepipe.realtime.answers`.

What is never done: truncate what was wholly heard, truncate an item twice, let a sample of a
killed response out, cancel before the truncate, create while a response is active.
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
    Transcript,
    Usage,
)
from framepipe.realtime import events as wire
from framepipe.realtime.answers import PATIENCE_NS, Answer, AnswerBook, Ask
from framepipe.realtime.error_classes import LOST_RACES, ErrorClass, classify
from framepipe.realtime.events import UNSET, MalformedEventError, ServerEvent

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


Told: TypeAlias = (
    AudioOut
    | AudioDone
    | TextOut
    | Transcript
    | SpeechStarted
    | SpeechStopped
    | Usage
    | Problem
    | Interrupt
)
"""The frames that come out: the service's side of the conversation."""

Output: TypeAlias = Told | Send | OpenTurn | ResponseEnded | Fail
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
        input_rate_hz: Samples per second of what is appended.
        output_rate_hz: Samples per second of the voice.
        book: Keeps the account of answers; ``None`` makes one that fits the session.
    """

    def __init__(
        self,
        session: wire.Session | None = None,
        *,
        input_rate_hz: int = 24_000,
        output_rate_hz: int = 24_000,
        book: AnswerBook | None = None,
    ) -> None:
        self._session = wire.Session() if session is None else session
        self._input_rate_hz = input_rate_hz
        self._output_rate_hz = output_rate_hz
        detection = _turn_detection(self._session)
        self._prefix_ms = detection.prefix_ms
        self._silence_ms = detection.silence_ms
        self._book = AnswerBook(service_answers=detection.answers) if book is None else book
        self._parts: OrderedDict[tuple[str, int], _Part] = OrderedDict()
        self._unsettled: dict[tuple[str, int], tuple[int, int]] = {}
        self._delete_after: dict[str, list[str]] = {}
        self._cancels: OrderedDict[str, str] = OrderedDict()
        self._n_cancels = 0
        self._first_sample: int | None = None
        self._next_sample = 0
        self._ready = False
        self._update_sent_ns: int | None = None
        self._newest_turn: int | None = None

    # --- what is known ---

    @property
    def ready(self) -> bool:
        """The server has greeted; what is sent will be understood."""
        return self._ready

    @property
    def settled(self) -> bool:
        """No response is active, owed or asked for, and no truncate waits."""
        return self._book.settled and not self._unsettled

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
            audio = wire.encode_audio(pcm[at : at + piece])
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
        if (heard.item_id or "", heard.content_index) not in self._unsettled:
            return []
        return self._account(heard, at_ns) + self._create(at_ns)

    def swallow(self, item_id: str, at_ns: int) -> list[Output]:
        """A user item was no speech: cancel and delete its response, and the item."""
        answer = self._book.swallow(item_id, at_ns)
        delete_item = wire.ConversationItemDelete(item_id=item_id)
        if answer is None or answer.done:
            return [Send(delete_item), *self._create(at_ns)]
        self._delete_after.setdefault(answer.response_id, []).append(item_id)
        return [*self._cancel(answer, at_ns), *self._close_parts(answer, at_ns)]

    def create(self, params: wire.ResponseParams | None, at_ns: int) -> list[Output]:
        """Ask for a response. It waits for the active one to end and for the user's silence.

        Args:
            params: What it shall be; ``None`` is the session's own.
            at_ns: Now.

        Raises:
            LocalProtocolError: It is for beside the conversation, which is not supported here.
        """
        if params is not None and params.conversation == "none":
            raise LocalProtocolError("conversation is 'none'; only answers within it are asked for")
        self._book.ask(params, self._next_sample)
        return self._create(at_ns)

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
                return [
                    SpeechStarted(
                        source="server", onset_sample=onset, item_id=event.item_id, at_ns=at_ns
                    )
                ]
            case wire.InputAudioBufferSpeechStopped():
                end = self._capture_sample(event.audio_end_ms - self._silence_ms)
                self._book.speech_stopped(event.item_id, end, at_ns)
                return [
                    SpeechStopped(
                        source="server", end_sample=end, item_id=event.item_id, at_ns=at_ns
                    ),
                    *self._create(at_ns),
                ]
            case wire.InputAudioBufferCommitted():
                self._book.committed(event.item_id, self._next_sample, at_ns)
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
            case wire.SessionCreated():
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
        if response.conversation_id is None or self._book.answer(response.id) is not None:
            return []
        name = (response.metadata or {}).get(MARK)
        answer = self._book.created(response.id, name, self._next_sample, at_ns)
        if answer.killed:
            return self._cancel(answer, at_ns)
        return [OpenTurn(response.id)]

    def _done(self, response: wire.Response, at_ns: int) -> list[Output]:
        answer = self._book.answer(response.id)
        if answer is None or answer.done:
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
        if was_killed:
            outputs += self._delete_unheard(response)
        outputs += self._ended(answer, response.status, at_ns)
        return outputs + self._create(at_ns)

    def _ended(self, answer: Answer, status: str, at_ns: int) -> list[Output]:
        late = sum(part.late for part in self._parts_of(answer))
        outputs: list[Output] = [
            Send(wire.ConversationItemDelete(item_id=item_id))
            for item_id in self._delete_after.pop(answer.response_id, ())
        ]
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
            if item.type != "message" or not isinstance(item.id, str):
                continue
            parts = [part for part in self._parts.values() if part.item_id == item.id]
            if not any(part.received or part.shown for part in parts):
                outputs.append(Send(wire.ConversationItemDelete(item_id=item.id)))
        return outputs

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
        return [] if ask is None else [Send(_create_event(ask))]

    def _error(self, error: wire.ErrorDetail, at_ns: int) -> list[Output]:
        code = error.code or error.type
        outputs: list[Output] = []
        if code not in LOST_RACES:
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

    # --- inside: the voice ---

    def _audio(self, event: wire.ResponseOutputAudioDelta, at_ns: int) -> list[Output]:
        answer = self._book.answer(event.response_id)
        if answer is None or answer.done:
            return []
        part = self._part(event.response_id, event.item_id, event.output_index, event.content_index)
        try:
            data = part.odd_byte + wire.decode_audio(event.delta)
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
        if answer is None or answer.done or answer.killed:
            return []
        part = self._part(event.response_id, event.item_id, event.output_index, event.content_index)
        part.shown = True
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
        if answer is None or answer.done or answer.killed:
            return []
        return [Transcript(who="agent", text=text, final=final, item_id=event.item_id, at_ns=at_ns)]

    def _user_words(self, item_id: str, text: str, *, final: bool, at_ns: int) -> list[Output]:
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
        return [Send(wire.SessionUpdate(session=self._session)), *self._create(at_ns)]

    def _updated(self, session: wire.Session, at_ns: int) -> list[Output]:
        # What the service says it does counts, not what we asked for.
        detection = _turn_detection(session)
        self._prefix_ms, self._silence_ms = detection.prefix_ms, detection.silence_ms
        if self._update_sent_ns is not None:
            round_trip_ns = at_ns - self._update_sent_ns
            self._book.patience_ns = max(PATIENCE_NS, min(round_trip_ns, NS_PER_S))
            self._update_sent_ns = None
        return []

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
        second = Send(_silent_append(self._input_rate_hz))  # one text for all of them
        outputs += [second] * (n_samples // self._input_rate_hz)
        if n_samples % self._input_rate_hz:
            outputs.append(Send(_silent_append(n_samples % self._input_rate_hz)))
        return outputs

    def _mic_problem(self, code: str, n_samples: int, fate: str) -> Problem:
        ms = n_samples * 1_000 / self._input_rate_hz
        return _problem(code, f"{ms:g} ms of microphone audio: {fate}", 0)


def _silent_append(n_samples: int) -> wire.InputAudioBufferAppend:
    return wire.InputAudioBufferAppend(audio=wire.encode_audio(bytes(SAMPLE_BYTES * n_samples)))


def _create_event(ask: Ask) -> wire.ResponseCreate:
    params = wire.ResponseParams() if ask.params is None else ask.params
    said = {} if params.metadata is UNSET or params.metadata is None else params.metadata
    marked = msgspec.structs.replace(params, metadata={**said, MARK: ask.name})
    return wire.ResponseCreate(event_id=ask.name, response=marked)


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
