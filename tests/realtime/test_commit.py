"""Turns that the application ends: push-to-talk."""

from __future__ import annotations

import pytest

from framepipe import Pipeline, on
from framepipe.errors import LocalProtocolError
from framepipe.frames import AudioIn, ReplyPending
from framepipe.realtime import events as wire
from framepipe.realtime.client_protocol import ClientProtocol
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings
from framepipe.testing import run_virtual
from framepipe_processors.realtime import Realtime
from tests.realtime.test_client_protocol import Call, created, error, sent
from tests.realtime_service import Mic

BY_HAND = SessionSettings(turn_detection=None)


def kinds(events: list[wire.ClientEvent]) -> list[str]:
    return [str(type(event).__struct_config__.tag) for event in events]


def test_a_turn_that_was_committed_by_hand_is_answered_at_once_and_once() -> None:
    call = Call(BY_HAND)
    call.mic(1_000)

    assert sent(call.protocol.commit()) == [wire.InputAudioBufferCommit(event_id="commit-1")]
    outputs = call.receive(wire.InputAudioBufferCommitted(item_id="U1"))

    assert kinds(sent(outputs)) == ["response.create"]
    call.receive(created("R1", metadata={"framepipe": "create-1"}))
    assert kinds(sent(call.wait(10_000))) == []


def test_a_turn_may_be_committed_without_an_answer() -> None:
    call = Call(BY_HAND)
    call.mic(1_000)
    call.protocol.commit(respond=False)

    assert sent(call.receive(wire.InputAudioBufferCommitted(item_id="U1"))) == []
    assert call.protocol.settled


def test_a_button_that_was_pressed_for_nothing_does_nothing() -> None:
    call = Call(BY_HAND)
    call.protocol.commit()

    assert call.receive(error("input_audio_buffer_commit_empty", "commit-1")) == []
    assert call.protocol.settled
    call.mic(1_000)
    call.protocol.commit(respond=False)
    assert sent(call.receive(wire.InputAudioBufferCommitted(item_id="U1"))) == []


def test_a_commit_that_was_lost_with_its_socket_is_made_on_the_next_one() -> None:
    call = Call(BY_HAND)
    call.mic(1_000)
    call.protocol.commit()

    _, leftover = call.protocol.hand_over(0)
    again = ClientProtocol(BY_HAND.wire("client"), leftover=leftover)

    assert leftover.resume_sample == 0
    greeted = sent(again.receive(wire.SessionCreated(session=wire.Session()), 0))
    assert kinds(greeted) == ["session.update", "input_audio_buffer.commit"]


def test_what_was_cleared_is_not_said_again_to_a_new_socket() -> None:
    call = Call(BY_HAND)
    call.mic(1_000)
    assert sent(call.protocol.clear()) == [wire.InputAudioBufferClear()]
    call.receive(wire.InputAudioBufferCleared())
    assert call.protocol.resume_sample == 24_000


def test_before_a_session_is_open_there_is_nothing_to_commit() -> None:
    with pytest.raises(LocalProtocolError, match="no session is open"):
        Realtime(BY_HAND).commit()


class Watch:
    """Counts the replies."""

    def __init__(self) -> None:
        self.replies = 0

    @on(ReplyPending)
    def note(self, frame: ReplyPending) -> ReplyPending:
        self.replies += 1
        return frame


class Button:
    """Stands before the model, and is released after a second of audio."""

    def __init__(self, model: Realtime) -> None:
        self.model = model
        self.released = False

    @on(AudioIn)
    def hear(self, frame: AudioIn) -> AudioIn:
        if frame.start_sample >= 24_000 and not self.released:
            self.released = True
            self.model.commit()
        return frame


async def push_to_talk() -> tuple[int, float]:
    settings = ServerSettings(mind=Talk(500))
    async with server_in_process(settings) as server:
        model = Realtime(BY_HAND, connect=server.connect)
        watch = Watch()
        await Pipeline(Mic(3.0), Button(model), model, watch).run()
    (session,) = server.sessions
    return watch.replies, session.conversation.user_audio_ms


def test_a_commit_goes_behind_the_audio_that_it_is_about() -> None:
    replies, user_ms = run_virtual(push_to_talk)
    assert replies == 1
    assert 980 <= user_ms <= 1_020
