"""What the service says when it refuses a client's event.

The session stays open. Wording and codes are the service's own where a recording or its
documentation has them, for clients match on both.

Source: realtime reference, "Errors seen".
"""

from __future__ import annotations

from framepipe.realtime.events import ErrorDetail


class RefusedError(Exception):
    """A client's event cannot be done; nothing of it was done. Becomes an ``error`` event."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param

    def detail(self, event_id: str | None) -> ErrorDetail:
        """The error for the wire; ``event_id`` is the client's, where it gave one."""
        return ErrorDetail(
            code=self.code, message=self.message, param=self.param, event_id=event_id
        )


def invalid_value(message: str, param: str | None = None) -> RefusedError:
    """A field holds what it may not hold."""
    return RefusedError("invalid_value", message, param)


def unknown_parameter(param: str) -> RefusedError:
    """A field that the protocol does not have (or not any more)."""
    return RefusedError("unknown_parameter", f"Unknown parameter: '{param}'.", param)


def missing_parameter(param: str) -> RefusedError:
    """A field that must be there is not."""
    return RefusedError(
        "missing_required_parameter", f"Missing required parameter: '{param}'.", param
    )


def unknown_item(verb: str, item_id: str) -> RefusedError:
    """An item that is not in the conversation. ``verb``: delete, truncate or retrieve."""
    doing = verb.removesuffix("e") + "ing"
    return RefusedError(
        f"item_{verb}_invalid_item_id",
        f"Error {doing} item: the item with id '{item_id}' does not exist.",
        "item_id",
    )


def not_active() -> RefusedError:
    """Nothing to cancel, or the race against its end is lost."""
    return RefusedError(
        "response_cancel_not_active", "Cancellation failed: no active response found"
    )


def already_active(response_id: str) -> RefusedError:
    """Only one response at a time writes to the conversation, until its ``response.done``."""
    return RefusedError(
        "conversation_already_has_active_response",
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
    )


def buffer_too_small(buffered_ms: float) -> RefusedError:
    """A commit of less than the service takes."""
    return RefusedError(
        "input_audio_buffer_commit_empty",
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of "
        f"audio, but buffer only has {buffered_ms:.2f}ms of audio.",
    )


def voice_is_settled() -> RefusedError:
    """The voice cannot change once it has spoken; the whole update is refused."""
    return RefusedError(
        "cannot_update_voice",
        "Cannot update a conversation's voice if assistant audio is present.",
        "session.audio.output.voice",
    )


def no_model_audio() -> RefusedError:
    """A truncate of what the model did not say."""
    return RefusedError(
        "unsupported_content_type", "Only model output audio messages can be truncated"
    )


def already_shorter(has_ms: int, asked_ms: int) -> RefusedError:
    """A truncate past the end."""
    return invalid_value(
        f"Audio content of {has_ms}ms is already shorter than {asked_ms}ms", "audio_end_ms"
    )


def id_too_long(param: str) -> RefusedError:
    """An id of a client's own may have 32 characters."""
    return RefusedError(
        "string_above_max_length",
        f"Invalid '{param}': string too long. Expected a string with maximum length 32",
        param,
    )
