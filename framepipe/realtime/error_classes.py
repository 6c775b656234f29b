"""What an error of the service means for the call: one table.

An ``error`` event leaves the session open, and most of them are lost races: the client said
something that had just stopped being true. Treating those as fatal is the commonest way in which
voice applications die.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from framepipe.realtime.events import ErrorDetail

ErrorClass: TypeAlias = Literal["harmless", "retry", "reconnect", "fatal"]
"""What to do: nothing, the same again later, a new connection, give up."""

ERROR_CLASSES: Final[Mapping[str, ErrorClass]] = {
    # Lost races.
    "response_cancel_not_active": "harmless",
    "input_audio_buffer_commit_empty": "harmless",
    "item_truncate_invalid_item_id": "harmless",
    "item_delete_invalid_item_id": "harmless",
    "item_retrieve_invalid_item_id": "harmless",
    # Ours to mend, but the call goes on without what was asked.
    "invalid_value": "harmless",
    "unsupported_content_type": "harmless",
    "cannot_update_voice": "harmless",
    "unknown_parameter": "harmless",
    "missing_required_parameter": "harmless",
    "invalid_event": "harmless",
    "string_above_max_length": "harmless",
    # The same again later.
    "conversation_already_has_active_response": "retry",
    "inference_rate_limit_exceeded": "retry",
    "server_error": "retry",
    # The session is over, the conversation need not be.
    "session_expired": "reconnect",
    # The account, or the client as a whole.
    "rate_limit_exceeded": "fatal",
    "insufficient_quota": "fatal",
    "invalid_api_key": "fatal",
    "model_not_found": "fatal",
    "beta_api_shape_disabled": "fatal",
}
"""The class of every code that was seen on the wire."""

LOST_RACES: Final = frozenset(
    {
        "response_cancel_not_active",
        "conversation_already_has_active_response",
        "input_audio_buffer_commit_empty",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
        "item_retrieve_invalid_item_id",
    }
)
"""Codes that happen in every healthy call, so nobody is told of them."""


def classify(error: ErrorDetail) -> ErrorClass:
    """The class of an error; one that is not in the table is harmless: the call goes on."""
    return ERROR_CLASSES.get(error.code or error.type, "harmless")
