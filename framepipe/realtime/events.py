"""The words of the OpenAI Realtime protocol: every event of both directions, as typed values.

Field names are the wire's. An event is a frozen struct whose class stands for its ``type``:
`decode_server` and `decode_client` turn JSON text into one of them, `encode` turns it back.

Three ways in which a field can be absent, and what they mean here:

- A field without a default must be there, or the text is a `MalformedEventError`.
- ``UNSET`` is *not on the wire*. In a ``session.update`` that is "leave it as it is", which is
  not the same as ``None``, the wire's ``null`` ("switch it off").
- A field of a client event whose default is ``None`` or 0 is left off the wire while it has it.

Nothing that the service may add breaks a call: a type that is not known here comes back as
`UnknownEvent` with its text, extra fields are ignored, and what is an enumeration on the wire
stays ``str``. Audio stays base64 text until somebody wants the samples (`decode_audio`), because
most of what arrives late is thrown away unread.

Source: reference types of the Realtime API, GA shape, November 2026; beta names are gone.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

import msgspec
import pybase64
from msgspec import UNSET as UNSET
from msgspec import Struct
from msgspec import UnsetType as UnsetType

from framepipe.errors import LocalProtocolError, RemoteProtocolError

Json: TypeAlias = Any
"""JSON data that framepipe hands on without looking inside: a tool's schema, a stored prompt."""


class MalformedEventError(RemoteProtocolError):
    """Text that is no event of the protocol.

    Attributes:
        code: What a server answers: "invalid_event" (no JSON object with a ``type``),
            "missing_required_parameter", or "invalid_type".
        param: Path of the field that is wrong, as in "session.audio.input", where it is known.
        event_id: The event's own id, where it could be read.
    """

    def __init__(
        self, message: str, *, code: str, param: str | None = None, event_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.event_id = event_id


# --- shapes inside events ---------------------------------------------------------------------


class Shape(Struct, frozen=True, kw_only=True):
    """A part of an event. ``UNSET`` fields are not on the wire."""


class AudioFormat(Shape, frozen=True, kw_only=True):
    """How audio is coded.

    Attributes:
        type: "audio/pcm" (signed 16-bit little-endian, mono), "audio/pcmu" or "audio/pcma".
        rate: Hz; 24000 for pcm, not on the wire for the other two (8 kHz).
    """

    type: str = "audio/pcm"
    rate: int | UnsetType = UNSET


class NoiseReduction(Shape, frozen=True, kw_only=True):
    """What the service does to the microphone before it listens.

    Attributes:
        type: "near_field" (headset) or "far_field" (laptop, room).
        strength: 0 to 1.
    """

    type: str
    strength: float | UnsetType = UNSET


class Transcription(Shape, frozen=True, kw_only=True):
    """How the user's words become text.

    Attributes:
        model: The transcription model.
        language: ISO 639-1.
        languages: Several of them, where the model allows it.
        prompt: Words to expect.
        keywords: Names to expect.
        delay: How long the model may wait for certainty.
    """

    model: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET
    languages: list[str] | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET
    keywords: list[str] | UnsetType | None = UNSET
    delay: str | UnsetType | None = UNSET


class TurnDetection(Shape, frozen=True, kw_only=True):
    """When a user turn begins and ends.

    Attributes:
        type: "server_vad" or "semantic_vad".
        threshold: 0 to 1, higher needs louder speech; server_vad only.
        prefix_padding_ms: Audio kept before the detected start; server_vad only.
        silence_duration_ms: Silence that ends the turn; server_vad only.
        idle_timeout_ms: Silence after which the model speaks up; server_vad only.
        eagerness: "low", "medium", "high" or "auto"; semantic_vad only.
        create_response: The service answers when the turn ends.
        interrupt_response: The service cancels its answer when the user speaks.
    """

    type: str
    threshold: float | UnsetType = UNSET
    prefix_padding_ms: int | UnsetType = UNSET
    silence_duration_ms: int | UnsetType = UNSET
    idle_timeout_ms: int | UnsetType | None = UNSET
    eagerness: str | UnsetType = UNSET
    create_response: bool | UnsetType = UNSET
    interrupt_response: bool | UnsetType = UNSET


class AudioInput(Shape, frozen=True, kw_only=True):
    """The microphone's side of a session; ``None`` switches a thing off."""

    format: AudioFormat | UnsetType = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    noise_reduction: NoiseReduction | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class AudioOutput(Shape, frozen=True, kw_only=True):
    """The voice's side of a session or of one response.

    Attributes:
        format: Coding of the deltas.
        voice: Its name, or an object that names a custom voice.
        speed: 0.25 to 1.5 times the voice's own.
    """

    format: AudioFormat | UnsetType = UNSET
    voice: str | dict[str, Json] | UnsetType = UNSET
    speed: float | UnsetType = UNSET


class Audio(Shape, frozen=True, kw_only=True):
    """Both sides."""

    input: AudioInput | UnsetType = UNSET
    output: AudioOutput | UnsetType = UNSET


class Session(Shape, frozen=True, kw_only=True):
    """A session, whole (as the server tells it) or in part (as an update).

    Attributes:
        type: "realtime" or "transcription"; required in every update.
        object: "realtime.session"; server only.
        id: Server only.
        expires_at: Unix seconds; server only.
        max_output_tokens: A number, or "inf".
    """

    type: str = "realtime"
    object: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    output_modalities: list[str] | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    tools: list[dict[str, Json]] | UnsetType = UNSET
    tool_choice: str | dict[str, Json] | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    max_output_tokens: int | str | UnsetType = UNSET
    reasoning: dict[str, Json] | UnsetType | None = UNSET
    tracing: str | dict[str, Json] | UnsetType | None = UNSET
    truncation: str | dict[str, Json] | UnsetType = UNSET
    prompt: dict[str, Json] | UnsetType | None = UNSET
    expires_at: int | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    include: list[str] | UnsetType | None = UNSET


class Part(Shape, frozen=True, kw_only=True):
    """One content part of an item, or of a response that is being made.

    Attributes:
        type: In items "input_text", "input_audio", "input_image", "output_text",
            "output_audio"; in ``response.content_part.*`` "audio" or "text".
        audio: Base64.
        transcript: ``None`` while a user's audio has none.
    """

    type: str
    text: str | UnsetType = UNSET
    audio: str | UnsetType | None = UNSET
    transcript: str | UnsetType | None = UNSET
    image_url: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Item(Shape, frozen=True, kw_only=True):
    """An item of the conversation; ``type`` says which fields it has.

    Attributes:
        type: "message", "function_call", "function_call_output", "item_reference" (only in
            ``response.create``), or one of the service's "mcp_…".
        id: At most 32 characters when the client makes it.
        status: "in_progress", "completed" or "incomplete".
        role: "user", "assistant" or "system"; messages only.
        phase: "commentary" or "final_answer"; newer models only.
        name: Tool; function calls only.
        call_id: Function calls and their outputs.
        arguments: JSON text; function calls only.
        output: Text; function call outputs and MCP calls.
        server_label: The MCP server; MCP items only.
        tools: What it offers; lists of MCP tools only.
        error: Why an MCP call failed.
        approval_request_id: The ask for approval of an MCP call.
    """

    type: str
    id: str | UnsetType = UNSET
    object: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    content: list[Part] | UnsetType = UNSET
    phase: str | UnsetType | None = UNSET
    name: str | UnsetType = UNSET
    call_id: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    output: str | UnsetType | None = UNSET
    server_label: str | UnsetType = UNSET
    tools: list[dict[str, Json]] | UnsetType = UNSET
    error: dict[str, Json] | UnsetType | None = UNSET
    approval_request_id: str | UnsetType | None = UNSET


class ResponseParams(Shape, frozen=True, kw_only=True):
    """What a ``response.create`` may say; everything else is the session's.

    Attributes:
        conversation: "auto", or "none" for an answer beside the conversation.
        input: Instead of the conversation; ``[]`` is an empty context.
        instructions: Replace the session's, for this response.
        metadata: At most 16 pairs; the way to recognise the response later.
    """

    conversation: str | UnsetType = UNSET
    input: list[Item] | UnsetType = UNSET
    instructions: str | UnsetType = UNSET
    output_modalities: list[str] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET
    tools: list[dict[str, Json]] | UnsetType = UNSET
    tool_choice: str | dict[str, Json] | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType = UNSET
    max_output_tokens: int | str | UnsetType = UNSET
    reasoning: dict[str, Json] | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType | None = UNSET
    prompt: dict[str, Json] | UnsetType | None = UNSET


class CachedTokens(Shape, frozen=True, kw_only=True):
    """Part of the input that the service had at hand."""

    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0


class InputTokens(Shape, frozen=True, kw_only=True):
    """Input by kind."""

    text_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int | UnsetType = UNSET
    cached_tokens: int | UnsetType = UNSET
    cached_tokens_details: CachedTokens | UnsetType = UNSET


class OutputTokens(Shape, frozen=True, kw_only=True):
    """Output by kind; ``reasoning_tokens`` on newer models only."""

    text_tokens: int = 0
    audio_tokens: int = 0
    reasoning_tokens: int | UnsetType = UNSET


class ResponseUsage(Shape, frozen=True, kw_only=True):
    """What a response cost, in tokens."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_token_details: InputTokens = InputTokens()
    output_token_details: OutputTokens = OutputTokens()


class TranscriptionUsage(Shape, frozen=True, kw_only=True):
    """What a transcription cost: "tokens" or "duration", by ``type``."""

    type: str = "tokens"
    seconds: float | UnsetType = UNSET
    total_tokens: int | UnsetType = UNSET
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    input_token_details: InputTokens | UnsetType = UNSET


class ErrorDetail(Shape, frozen=True, kw_only=True):
    """An error in words.

    Attributes:
        type: "invalid_request_error" in nearly all cases.
        code: For programs; see `framepipe.realtime.client_protocol.ERROR_CLASSES`.
        message: For people.
        param: The field that is wrong.
        event_id: The client's event that caused it. Some errors of operations do not say it.
    """

    type: str = "invalid_request_error"
    code: str | None = None
    message: str = ""
    param: str | None = None
    event_id: str | None = None


class FailureDetail(Shape, frozen=True, kw_only=True):
    """Why a response or a transcription failed."""

    type: str | UnsetType = UNSET
    code: str | UnsetType | None = UNSET
    message: str | UnsetType | None = UNSET
    param: str | UnsetType | None = UNSET


class StatusDetails(Shape, frozen=True, kw_only=True):
    """Why a response did not complete.

    Attributes:
        type: "cancelled", "incomplete" or "failed".
        reason: "turn_detected", "client_cancelled", "max_output_tokens", "content_filter".
        error: Of a failed one.
    """

    type: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    error: FailureDetail | UnsetType | None = UNSET


class Response(Shape, frozen=True, kw_only=True):
    """A response as ``response.created`` and ``response.done`` tell it.

    Attributes:
        status: "in_progress", then "completed", "cancelled", "incomplete" or "failed".
        status_details: ``None`` while in progress and when completed.
        output: Its items; empty in ``response.created``. Never holds audio.
        conversation_id: ``None`` for a response beside the conversation.
        metadata: What the ``response.create`` said.
    """

    object: str = "realtime.response"
    id: str
    status: str = "in_progress"
    status_details: StatusDetails | None = None
    output: list[Item] = []
    conversation_id: str | None = None
    output_modalities: list[str] | None = None
    max_output_tokens: int | str | None = None
    audio: Audio | None = None
    usage: ResponseUsage | None = None
    metadata: dict[str, str] | None = None


class RateLimit(Shape, frozen=True, kw_only=True):
    """What is left of one allowance."""

    name: str
    limit: int
    remaining: int
    reset_seconds: float


class Conversation(Shape, frozen=True, kw_only=True):
    """The conversation as ``conversation.created`` tells it."""

    id: str
    object: str = "realtime.conversation"


# --- client events ----------------------------------------------------------------------------


class _Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """What both directions share."""

    @property
    def type(self) -> str:
        """The event's type on the wire."""
        return str(self.__struct_config__.tag)


class _Client(_Event, frozen=True, kw_only=True, omit_defaults=True):
    """An event that a client sends.

    Attributes:
        event_id: Comes back in the ``error`` event that this event causes, if any.
    """

    event_id: str | None = None


class SessionUpdate(_Client, frozen=True, kw_only=True, tag="session.update"):
    """Change the session: only what is set. Answered by ``session.updated``."""

    session: Session


class InputAudioBufferAppend(_Client, frozen=True, kw_only=True, tag="input_audio_buffer.append"):
    """Microphone audio, base64, at most 15 MiB an event. No answer."""

    audio: str


class InputAudioBufferCommit(_Client, frozen=True, kw_only=True, tag="input_audio_buffer.commit"):
    """Make what is buffered a user item. Needs 100 ms. Creates no response."""


class InputAudioBufferClear(_Client, frozen=True, kw_only=True, tag="input_audio_buffer.clear"):
    """Forget what is buffered, an open speech segment included."""


class ConversationItemCreate(_Client, frozen=True, kw_only=True, tag="conversation.item.create"):
    """Add an item.

    Attributes:
        previous_item_id: Put it after this one; "root" is the start, ``None`` the end.
    """

    previous_item_id: str | None = None
    item: Item


class ConversationItemRetrieve(
    _Client, frozen=True, kw_only=True, tag="conversation.item.retrieve"
):
    """Ask for an item with its audio."""

    item_id: str


class ConversationItemTruncate(
    _Client, frozen=True, kw_only=True, tag="conversation.item.truncate"
):
    """Forget an assistant's audio from ``audio_end_ms`` on, and its whole transcript."""

    item_id: str
    content_index: int
    audio_end_ms: int


class ConversationItemDelete(_Client, frozen=True, kw_only=True, tag="conversation.item.delete"):
    """Remove an item."""

    item_id: str


class ResponseCreate(_Client, frozen=True, kw_only=True, tag="response.create"):
    """Ask for a response. One at a time may write to the conversation."""

    response: ResponseParams | None = None


class ResponseCancel(_Client, frozen=True, kw_only=True, tag="response.cancel"):
    """End a response. Its ``response.done`` is the only answer."""

    response_id: str | None = None


class OutputAudioBufferClear(_Client, frozen=True, kw_only=True, tag="output_audio_buffer.clear"):
    """WebRTC and SIP only: throw away what the service has not played yet."""


KnownClientEvent: TypeAlias = (
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemRetrieve
    | ConversationItemTruncate
    | ConversationItemDelete
    | ResponseCreate
    | ResponseCancel
    | OutputAudioBufferClear
)
"""Every client event of the protocol."""


# --- server events ----------------------------------------------------------------------------


class _Server(_Event, frozen=True, kw_only=True):
    """An event that a server sends.

    Attributes:
        event_id: Unique; a server fills it in.
    """

    event_id: str = ""


class _OfItem(_Server, frozen=True, kw_only=True):
    item_id: str


class _OfUserPart(_OfItem, frozen=True, kw_only=True):
    content_index: int = 0


class _OfOutputItem(_Server, frozen=True, kw_only=True):
    response_id: str
    item_id: str
    output_index: int = 0


class _OfOutputPart(_OfOutputItem, frozen=True, kw_only=True):
    content_index: int = 0


class SessionCreated(_Server, frozen=True, kw_only=True, tag="session.created"):
    """The first event, always."""

    session: Session


class SessionUpdated(_Server, frozen=True, kw_only=True, tag="session.updated"):
    """The whole session after an update."""

    session: Session


class ConversationCreated(_Server, frozen=True, kw_only=True, tag="conversation.created"):
    """Not sent by OpenAI; some compatible services do."""

    conversation: Conversation


class _OfPlacedItem(_Server, frozen=True, kw_only=True):
    previous_item_id: str | None = None
    item: Item


class ConversationItemAdded(
    _OfPlacedItem, frozen=True, kw_only=True, tag="conversation.item.added"
):
    """An item is in the conversation, perhaps not finished."""


class ConversationItemDone(_OfPlacedItem, frozen=True, kw_only=True, tag="conversation.item.done"):
    """An item is finished. ``previous_item_id`` of an assistant's item is not to be trusted."""


class ConversationItemCreated(
    _OfPlacedItem, frozen=True, kw_only=True, tag="conversation.item.created"
):
    """Legacy; not sent any more."""


class ConversationItemRetrieved(
    _Server, frozen=True, kw_only=True, tag="conversation.item.retrieved"
):
    """The item, with its audio."""

    item: Item


class ConversationItemDeleted(_OfItem, frozen=True, kw_only=True, tag="conversation.item.deleted"):
    """It is gone."""


class ConversationItemTruncated(
    _OfUserPart, frozen=True, kw_only=True, tag="conversation.item.truncated"
):
    """It is cut. May come after other events."""

    audio_end_ms: int


class InputAudioTranscriptionDelta(
    _OfUserPart,
    frozen=True,
    kw_only=True,
    tag="conversation.item.input_audio_transcription.delta",
):
    """A piece of the user's words; may start while the user still speaks."""

    delta: str = ""
    logprobs: Json | UnsetType = UNSET
    obfuscation: str | UnsetType = UNSET


class InputAudioTranscriptionCompleted(
    _OfUserPart,
    frozen=True,
    kw_only=True,
    tag="conversation.item.input_audio_transcription.completed",
):
    """All of the user's words. Ordered against no other item: match by ``item_id``."""

    transcript: str
    usage: TranscriptionUsage = TranscriptionUsage()
    logprobs: Json | UnsetType = UNSET
    languages: Json | UnsetType = UNSET


class InputAudioTranscriptionFailed(
    _OfUserPart,
    frozen=True,
    kw_only=True,
    tag="conversation.item.input_audio_transcription.failed",
):
    """There will be no transcript of this item."""

    error: FailureDetail


class InputAudioTranscriptionSegment(
    _OfUserPart,
    frozen=True,
    kw_only=True,
    tag="conversation.item.input_audio_transcription.segment",
):
    """Who said what, from a model that tells speakers apart. Times in seconds."""

    id: str
    text: str
    speaker: str
    start: float
    end: float


class InputAudioBufferSpeechStarted(
    _OfItem, frozen=True, kw_only=True, tag="input_audio_buffer.speech_started"
):
    """The user speaks.

    Attributes:
        audio_start_ms: Milliseconds of audio appended in this session up to the start, less
            the padding. May be smaller than the end of the segment before.
        item_id: The user item that it will become.
    """

    audio_start_ms: int


class InputAudioBufferSpeechStopped(
    _OfItem, frozen=True, kw_only=True, tag="input_audio_buffer.speech_stopped"
):
    """The user stopped. ``audio_end_ms`` includes the silence that told."""

    audio_end_ms: int


class InputAudioBufferCommitted(
    _OfItem, frozen=True, kw_only=True, tag="input_audio_buffer.committed"
):
    """The buffer became a user item."""

    previous_item_id: str | None = None


class InputAudioBufferCleared(_Server, frozen=True, kw_only=True, tag="input_audio_buffer.cleared"):
    """The client's clear was done."""


class InputAudioBufferTimeoutTriggered(
    _OfItem, frozen=True, kw_only=True, tag="input_audio_buffer.timeout_triggered"
):
    """The user was silent for ``idle_timeout_ms``; a response follows."""

    audio_start_ms: int
    audio_end_ms: int


class InputAudioBufferDtmfEventReceived(
    _Server,
    frozen=True,
    kw_only=True,
    omit_defaults=True,  # the one server event without an event_id
    tag="input_audio_buffer.dtmf_event_received",
):
    """SIP only: a key was pressed. ``received_at`` in Unix seconds."""

    event: str
    received_at: int


class ResponseCreated(_Server, frozen=True, kw_only=True, tag="response.created"):
    """A response began."""

    response: Response


class ResponseDone(_Server, frozen=True, kw_only=True, tag="response.done"):
    """A response ended. Always sent, whatever became of it."""

    response: Response


class _OfOutput(_Server, frozen=True, kw_only=True):
    response_id: str
    output_index: int = 0
    item: Item


class ResponseOutputItemAdded(
    _OfOutput, frozen=True, kw_only=True, tag="response.output_item.added"
):
    """A response opened an item. Items of one response may interleave."""


class ResponseOutputItemDone(_OfOutput, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item of a response is finished; ``item.status`` tells how."""


class ResponseContentPartAdded(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.content_part.added"
):
    """An item of a response opened a part: "audio" or "text"."""

    part: Part


class ResponseContentPartDone(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.content_part.done"
):
    """A part is finished."""

    part: Part


class ResponseOutputAudioDelta(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.output_audio.delta"
):
    """A piece of the agent's voice, base64 in ``delta``."""

    delta: str


class ResponseOutputAudioDone(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.output_audio.done"
):
    """No more audio of this part."""


class ResponseOutputAudioTranscriptDelta(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.output_audio_transcript.delta"
):
    """A piece of what the voice says; runs ahead of the audio."""

    delta: str
    obfuscation: str | UnsetType = UNSET


class ResponseOutputAudioTranscriptDone(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.output_audio_transcript.done"
):
    """All of what the part's audio says."""

    transcript: str


class ResponseOutputTextDelta(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.output_text.delta"
):
    """A piece of a written answer."""

    delta: str
    obfuscation: str | UnsetType = UNSET


class ResponseOutputTextDone(
    _OfOutputPart, frozen=True, kw_only=True, tag="response.output_text.done"
):
    """All of a written part."""

    text: str


class ResponseFunctionCallArgumentsDelta(
    _OfOutputItem, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"
):
    """A piece of a tool call's JSON."""

    call_id: str
    delta: str
    obfuscation: str | UnsetType = UNSET


class ResponseFunctionCallArgumentsDone(
    _OfOutputItem, frozen=True, kw_only=True, tag="response.function_call_arguments.done"
):
    """A tool call's whole JSON. Also sent, in part, for a response that was cancelled."""

    call_id: str
    name: str | UnsetType = UNSET
    arguments: str


class RateLimitsUpdated(_Server, frozen=True, kw_only=True, tag="rate_limits.updated"):
    """What is left; comes after ``response.done``."""

    rate_limits: list[RateLimit]


class _OfOutputBuffer(_Server, frozen=True, kw_only=True):
    response_id: str


class OutputAudioBufferStarted(
    _OfOutputBuffer, frozen=True, kw_only=True, tag="output_audio_buffer.started"
):
    """WebRTC and SIP only: the voice is being played."""


class OutputAudioBufferStopped(
    _OfOutputBuffer, frozen=True, kw_only=True, tag="output_audio_buffer.stopped"
):
    """WebRTC and SIP only: all of it was played."""


class OutputAudioBufferCleared(
    _OfOutputBuffer, frozen=True, kw_only=True, tag="output_audio_buffer.cleared"
):
    """WebRTC and SIP only: the rest was thrown away."""


class McpListToolsInProgress(_OfItem, frozen=True, kw_only=True, tag="mcp_list_tools.in_progress"):
    """The service asks an MCP server for its tools."""


class McpListToolsCompleted(_OfItem, frozen=True, kw_only=True, tag="mcp_list_tools.completed"):
    """It has them."""


class McpListToolsFailed(_OfItem, frozen=True, kw_only=True, tag="mcp_list_tools.failed"):
    """It has not."""


class ResponseMcpCallArgumentsDelta(
    _OfOutputItem, frozen=True, kw_only=True, tag="response.mcp_call_arguments.delta"
):
    """A piece of an MCP call's JSON."""

    delta: str
    obfuscation: str | UnsetType | None = UNSET


class ResponseMcpCallArgumentsDone(
    _OfOutputItem, frozen=True, kw_only=True, tag="response.mcp_call_arguments.done"
):
    """An MCP call's whole JSON."""

    arguments: str


class _OfMcpCall(_OfItem, frozen=True, kw_only=True):
    output_index: int = 0


class ResponseMcpCallInProgress(
    _OfMcpCall, frozen=True, kw_only=True, tag="response.mcp_call.in_progress"
):
    """The service calls an MCP tool."""


class ResponseMcpCallCompleted(
    _OfMcpCall, frozen=True, kw_only=True, tag="response.mcp_call.completed"
):
    """It answered."""


class ResponseMcpCallFailed(_OfMcpCall, frozen=True, kw_only=True, tag="response.mcp_call.failed"):
    """It did not."""


class ErrorEvent(_Server, frozen=True, kw_only=True, tag="error"):
    """Something went wrong; the session stays open unless the socket closes."""

    error: ErrorDetail


KnownServerEvent: TypeAlias = (
    SessionCreated
    | SessionUpdated
    | ConversationCreated
    | ConversationItemAdded
    | ConversationItemDone
    | ConversationItemCreated
    | ConversationItemRetrieved
    | ConversationItemDeleted
    | ConversationItemTruncated
    | InputAudioTranscriptionDelta
    | InputAudioTranscriptionCompleted
    | InputAudioTranscriptionFailed
    | InputAudioTranscriptionSegment
    | InputAudioBufferSpeechStarted
    | InputAudioBufferSpeechStopped
    | InputAudioBufferCommitted
    | InputAudioBufferCleared
    | InputAudioBufferTimeoutTriggered
    | InputAudioBufferDtmfEventReceived
    | ResponseCreated
    | ResponseDone
    | ResponseOutputItemAdded
    | ResponseOutputItemDone
    | ResponseContentPartAdded
    | ResponseContentPartDone
    | ResponseOutputAudioDelta
    | ResponseOutputAudioDone
    | ResponseOutputAudioTranscriptDelta
    | ResponseOutputAudioTranscriptDone
    | ResponseOutputTextDelta
    | ResponseOutputTextDone
    | ResponseFunctionCallArgumentsDelta
    | ResponseFunctionCallArgumentsDone
    | RateLimitsUpdated
    | OutputAudioBufferStarted
    | OutputAudioBufferStopped
    | OutputAudioBufferCleared
    | McpListToolsInProgress
    | McpListToolsCompleted
    | McpListToolsFailed
    | ResponseMcpCallArgumentsDelta
    | ResponseMcpCallArgumentsDone
    | ResponseMcpCallInProgress
    | ResponseMcpCallCompleted
    | ResponseMcpCallFailed
    | ErrorEvent
)
"""Every server event of the protocol."""


class UnknownEvent(Struct, frozen=True):
    """An event of a type that is not known here: handed on, never an exception.

    Attributes:
        type: What it calls itself.
        raw: Its JSON text.
        event_id: Its own id, where it has one.
    """

    type: str
    raw: str
    event_id: str | None = None


ClientEvent: TypeAlias = KnownClientEvent | UnknownEvent
"""What `decode_client` returns."""

ServerEvent: TypeAlias = KnownServerEvent | UnknownEvent
"""What `decode_server` returns."""


# --- the codec --------------------------------------------------------------------------------


class _Head(Struct):
    """As much of an event as can be read when the rest is wrong."""

    type: Json = None
    event_id: Json = None


_server_decoder: Final = msgspec.json.Decoder(KnownServerEvent)
_client_decoder: Final = msgspec.json.Decoder(KnownClientEvent)
_head_decoder: Final = msgspec.json.Decoder(_Head)
_encoder: Final = msgspec.json.Encoder()

_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")


def _tags(union: Any) -> frozenset[str]:
    return frozenset(str(cls.__struct_config__.tag) for cls in union.__args__)


SERVER_EVENT_TYPES: Final = _tags(KnownServerEvent)
"""Every ``type`` that a server may send and that is known here."""

CLIENT_EVENT_TYPES: Final = _tags(KnownClientEvent)
"""Every ``type`` that a client may send and that is known here."""


def decode_server(text: str) -> ServerEvent:
    """Read what a server sent.

    Args:
        text: One message of the socket.

    Returns:
        The event; `UnknownEvent` when its type is not known.

    Raises:
        MalformedEventError: No JSON, no ``type``, or a field that is missing or of the wrong type.
    """
    try:
        event: KnownServerEvent = _server_decoder.decode(text)
    except _UNREADABLE as error:
        return _explain(text, error, SERVER_EVENT_TYPES)
    return event


def decode_client(text: str) -> ClientEvent:
    """Read what a client sent. As `decode_server`."""
    try:
        event: KnownClientEvent = _client_decoder.decode(text)
    except _UNREADABLE as error:
        return _explain(text, error, CLIENT_EVENT_TYPES)
    return event


def encode(event: ClientEvent | ServerEvent) -> str:
    """The JSON text of an event; that of an `UnknownEvent` is what had come.

    Raises:
        LocalProtocolError: A string in it is no Unicode, or a value is no JSON.
    """
    if isinstance(event, UnknownEvent):
        return event.raw
    try:
        return _encoder.encode(event).decode()
    except (UnicodeError, TypeError, msgspec.MsgspecError) as error:
        raise LocalProtocolError(f"{event.type} cannot be written as JSON: {error}") from error


def decode_audio(text: str) -> bytes:
    """The samples in an ``audio`` or ``delta`` field.

    Args:
        text: Base64.

    Raises:
        MalformedEventError: It is not base64.
    """
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedEventError(
            f"audio of {len(text)} characters is not base64: {error}", code="invalid_value"
        ) from error


def encode_audio(pcm: bytes) -> str:
    """Samples as the wire wants them: base64."""
    return pybase64.b64encode_as_string(pcm)


# RecursionError: arrays nested a thousand deep, where any JSON is allowed.
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


def _explain(text: str, error: Exception, known: frozenset[str]) -> UnknownEvent:
    """Tell a type that we do not know from an event that is wrong.

    Only here, because reading the head costs a second scan of the text.
    """
    try:
        head = _head_decoder.decode(text)
    except _UNREADABLE:
        raise MalformedEventError(
            f"{_shortened(text)} is no event: {error}; an event is a JSON object",
            code="invalid_event",
        ) from error
    event_id = head.event_id if isinstance(head.event_id, str) else None
    if not isinstance(head.type, str) or not head.type:
        raise MalformedEventError(
            f"{_shortened(text)} is no event: the 'type' field is missing or no string",
            code="invalid_event",
            param="type",
            event_id=event_id,
        ) from error
    if head.type not in known:
        return UnknownEvent(head.type, text, event_id)
    message = str(error)
    at = _AT.search(message)
    param = at["path"] if at else ""
    missing = _MISSING.search(message)
    if missing:
        param = f"{param}.{missing['name']}" if param else missing["name"]
    raise MalformedEventError(
        f"{head.type} is malformed: {message}",
        code="missing_required_parameter" if missing else "invalid_type",
        param=param or None,
        event_id=event_id,
    ) from error


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
