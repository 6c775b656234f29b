"""The table of errors, read: every code has a class, and every class has its effect."""

from __future__ import annotations

from typing import get_args

import pytest

from framepipe.frames import Problem
from framepipe.realtime import events as wire
from framepipe.realtime.client_outputs import Fail, Send
from framepipe.realtime.client_protocol import ClientProtocol
from framepipe.realtime.error_classes import ERROR_CLASSES, LOST_RACES, ErrorClass, classify
from framepipe.realtime.session import SessionSettings

OF_THE_REFERENCE = {
    "response_cancel_not_active": "harmless",
    "conversation_already_has_active_response": "retry",
    "input_audio_buffer_commit_empty": "harmless",
    "invalid_value": "harmless",
    "unsupported_content_type": "harmless",
    "item_truncate_invalid_item_id": "harmless",
    "item_delete_invalid_item_id": "harmless",
    "item_retrieve_invalid_item_id": "harmless",
    "cannot_update_voice": "harmless",
    "unknown_parameter": "harmless",
    "missing_required_parameter": "harmless",
    "invalid_event": "harmless",
    "session_expired": "reconnect",
    "rate_limit_exceeded": "fatal",
    "insufficient_quota": "fatal",
    "invalid_api_key": "fatal",
    "model_not_found": "fatal",
}
"""What the service was seen to say, and what each means."""


def heard(code: str, event_id: str | None = None) -> list[object]:
    protocol = ClientProtocol(SessionSettings().wire())
    protocol.receive(wire.SessionCreated(session=wire.Session()), 0)
    error = wire.ErrorDetail(code=code, message="m", event_id=event_id)
    return list(protocol.receive(wire.ErrorEvent(error=error), 0))


def test_every_code_that_was_seen_has_its_class() -> None:
    assert OF_THE_REFERENCE.items() <= ERROR_CLASSES.items()
    assert set(ERROR_CLASSES.values()) == set(get_args(ErrorClass))


@pytest.mark.parametrize("code", [*ERROR_CLASSES, "brand_new"])
def test_an_error_has_the_effect_of_its_class(code: str) -> None:
    error_class = classify(wire.ErrorDetail(code=code))
    outputs = heard(code)

    fails = [output.error_class for output in outputs if isinstance(output, Fail)]
    problems = [output for output in outputs if isinstance(output, Problem)]
    assert fails == ([error_class] if error_class in ("reconnect", "fatal") else [])
    assert [problem.code for problem in problems] == ([] if code in LOST_RACES else [code])
    assert [problem.fatal for problem in problems] == [error_class == "fatal"] * len(problems)


def test_an_error_without_a_code_goes_by_its_type() -> None:
    assert classify(wire.ErrorDetail(type="server_error")) == "retry"
    assert classify(wire.ErrorDetail(type="never_seen")) == "harmless"


@pytest.mark.parametrize("code", [c for c, kind in ERROR_CLASSES.items() if kind == "retry"])
def test_a_create_that_may_be_tried_again_is_tried_again(code: str) -> None:
    protocol = ClientProtocol(SessionSettings().wire())
    protocol.receive(wire.SessionCreated(session=wire.Session()), 0)
    (first,) = protocol.create(None, 0)
    assert isinstance(first, Send)
    error = wire.ErrorDetail(code=code, message="m", event_id=first.event.event_id)
    protocol.receive(wire.ErrorEvent(error=error), 1)

    deadline_ns = protocol.deadline_ns
    assert deadline_ns is not None
    assert protocol.advance(deadline_ns) == [first]
