"""What the client's half of the protocol wants done, and the frames that it tells.

`framepipe.realtime.client_protocol` says what to do by returning these; its shell does it.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

from framepipe.frames import (
    AudioDone,
    AudioOut,
    Interrupt,
    Problem,
    SpeechStarted,
    SpeechStopped,
    TextOut,
    ToolCall,
    Transcript,
    Usage,
    Withdrawn,
)
from framepipe.realtime import events as wire
from framepipe.realtime.error_classes import ErrorClass
from framepipe.realtime.events import UNSET


@frozen
class Send:
    """To the shell: send this event."""

    event: wire.ClientEvent


@frozen
class OpenTurn:
    """To the shell: open a turn and answer with `ClientProtocol.turn_opened`.

    Attributes:
        response_id: The service's response.
        interruptible: The user's voice may cut it.
        item_ids: The user items that it answers, oldest first.
    """

    response_id: str
    interruptible: bool = True
    item_ids: tuple[str, ...] = ()


@frozen
class Withdraw:
    """To the shell: a tool call is void. Cancel it if it runs; nobody waits for it."""

    call_id: str
    name: str


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
    | Withdrawn
)
"""The frames that come out: the service's side of the conversation."""

Output: TypeAlias = (
    Told | Send | OpenTurn | Withdraw | ResponseEnded | Updated | Retrieved | BesideDone | Fail
)
"""What the shell is to do: emit a frame, or one of the others."""


def problem(code: str, message: str, at_ns: int, *, fatal: bool = False) -> Problem:
    """An error that did not end the call, as a frame."""
    return Problem(where="realtime", code=code, message=message, fatal=fatal, at_ns=at_ns)


def broke_off(response: wire.Response) -> bool:
    """The service ended it in the middle, and not because the user spoke: that is no fault."""
    details = response.status_details
    interrupted = details is not None and details.reason == "turn_detected"
    return response.status in ("cancelled", "incomplete") and not interrupted


def why_failed(response: wire.Response) -> str:
    """What the service says of a response that failed."""
    error = response.status_details.error if response.status_details is not None else UNSET
    if not isinstance(error, wire.FailureDetail):
        return f"{response.id} failed; the service gave no reason"
    return f"{response.id} failed: {error.message or error.code or error.type}"


def usage_of(response_id: str, usage: wire.ResponseUsage, at_ns: int) -> Usage:
    """What a response cost, as a frame."""
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
