"""Scripts for the client's half, without a loop: facts in, orders out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.errors import LocalProtocolError
from framepipe.frames import (
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
    Withdrawn,
)
from framepipe.realtime import events as wire
from framepipe.realtime.client_outputs import Fail, OpenTurn, Output, ResponseEnded, Send
from framepipe.realtime.client_protocol import MARK, ClientProtocol
from framepipe.realtime.error_classes import ERROR_CLASSES
from framepipe.realtime.session import ServerVad, SessionSettings

MS = 1_000_000
SETTINGS = SessionSettings()


def delta(response_id: str, ms: int, item_id: str = "A1") -> wire.ResponseOutputAudioDelta:
    pcm = bytes(ms * 48)
    return wire.ResponseOutputAudioDelta(
        response_id=response_id, item_id=item_id, delta=wire.encode_audio(pcm)
    )


def created(response_id: str, **fields: object) -> wire.ResponseCreated:
    return wire.ResponseCreated(
        response=wire.Response(id=response_id, conversation_id="conv", **fields)  # type: ignore[arg-type]
    )


def done(
    response_id: str,
    status: str = "completed",
    output: list[wire.Item] | None = None,
    reason: str | None = None,
) -> wire.ResponseDone:
    return wire.ResponseDone(
        response=wire.Response(
            id=response_id,
            status=status,
            status_details=None if reason is None else wire.StatusDetails(reason=reason),
            conversation_id="conv",
            output=output or [],
        )
    )


def error(code: str, event_id: str | None = None) -> wire.ErrorEvent:
    return wire.ErrorEvent(error=wire.ErrorDetail(code=code, message="m", event_id=event_id))


def heard(
    samples: int,
    received: int,
    *,
    final: bool = True,
    complete: bool = False,
    item_id: str = "A1",
) -> Heard:
    return Heard(
        item_id=item_id,
        content_index=0,
        heard_samples=samples,
        received_samples=received,
        final=final,
        complete=complete,
    )


class Call:
    """A protocol with a shell that answers `OpenTurn`, and a clock that is set by hand."""

    def __init__(
        self,
        settings: SessionSettings = SETTINGS,
        has_effects: Callable[[str], bool] = lambda tool: False,
    ) -> None:
        self.protocol = ClientProtocol(settings.wire("client"), has_effects=has_effects)
        self.now_ms = 0
        self.turn = 0
        self.receive(wire.SessionCreated(session=wire.Session()))

    def receive(self, *events: wire.ServerEvent) -> list[Output]:
        outputs: list[Output] = []
        for event in events:
            outputs += self.performed(self.protocol.receive(event, self.now_ms * MS))
        return outputs

    def performed(self, outputs: list[Output]) -> list[Output]:
        for output in outputs:
            if isinstance(output, OpenTurn):
                self.turn += 1
                self.protocol.turn_opened(output.response_id, self.turn)
        return outputs

    def mic(self, ms: int) -> None:
        self.protocol.append(self.now_ms * 24, bytes(ms * 48))
        self.now_ms += ms

    def user_turn(self, item_id: str, start_ms: int, end_ms: int) -> list[Output]:
        """The service's account of speech from ``start_ms`` to ``end_ms``."""
        return self.receive(
            wire.InputAudioBufferSpeechStarted(item_id=item_id, audio_start_ms=start_ms - 300),
            wire.InputAudioBufferSpeechStopped(item_id=item_id, audio_end_ms=end_ms + 500),
            wire.InputAudioBufferCommitted(item_id=item_id),
        )

    def cut(self, onset_ms: int | None, *account: Heard, turn: int | None = None) -> list[Output]:
        onset = None if onset_ms is None else onset_ms * 24
        frame = Interrupt(turn=turn or self.turn, onset_sample=onset, heard=account)
        return self.performed(self.protocol.cut(frame, self.now_ms * MS))

    def wait(self, ms: int) -> list[Output]:
        self.now_ms += ms
        return self.performed(self.protocol.advance(self.now_ms * MS))


def sent(outputs: list[Output]) -> list[wire.ClientEvent]:
    return [output.event for output in outputs if isinstance(output, Send)]


def answering_call() -> Call:
    """The user spoke from 1,000 to 2,000 ms; R1 answers, and 400 ms of it have come."""
    call = Call()
    call.mic(4_000)
    call.user_turn("U1", 1_000, 2_000)
    call.receive(created("R1"), delta("R1", 400))
    return call


def test_the_session_is_asked_for_as_soon_as_the_server_greets() -> None:
    protocol = ClientProtocol(SETTINGS.wire("client"))

    outputs = protocol.receive(wire.SessionCreated(session=wire.Session()), 0)

    assert outputs == [Send(wire.SessionUpdate(session=SETTINGS.wire("client")))]
    assert protocol.receive(wire.SessionCreated(session=wire.Session()), 0) == []


def test_an_answer_opens_a_turn_and_its_audio_counts_its_own_samples() -> None:
    call = Call()
    assert call.receive(created("R1")) == [OpenTurn("R1")]

    first, second = call.receive(delta("R1", 100), delta("R1", 200))
    closed = call.receive(wire.ResponseOutputAudioDone(response_id="R1", item_id="A1"))

    assert isinstance(first, AudioOut)
    assert isinstance(second, AudioOut)
    assert (first.turn, first.start_sample, first.n_samples) == (1, 0, 2_400)
    assert (second.start_sample, second.n_samples) == (2_400, 4_800)
    assert closed == [AudioDone(turn=1, item_id="A1", n_samples=7_200)]


def test_items_that_come_interleaved_are_counted_each_for_itself() -> None:
    call = Call()
    call.receive(created("R1"))

    def piece(item_id: str, index: int, ms: int) -> wire.ResponseOutputAudioDelta:
        audio = wire.encode_audio(bytes(ms * 48))
        return wire.ResponseOutputAudioDelta(
            response_id="R1", item_id=item_id, output_index=index, delta=audio
        )

    outputs = call.receive(
        piece("A1", 0, 100), piece("A2", 1, 50), piece("A1", 0, 20), piece("A2", 1, 30)
    )
    ended = call.receive(done("R1"))

    audio = [out for out in outputs if isinstance(out, AudioOut)]
    assert [(out.item_id, out.output_index, out.start_sample) for out in audio] == [
        ("A1", 0, 0),
        ("A2", 1, 0),
        ("A1", 0, 2_400),
        ("A2", 1, 1_200),
    ]
    closed = [out for out in ended if isinstance(out, AudioDone)]
    assert [(out.item_id, out.n_samples) for out in closed] == [("A1", 2_880), ("A2", 1_920)]


def test_odd_bytes_of_a_delta_wait_for_the_next_one() -> None:
    call = Call()
    call.receive(created("R1"))

    def piece(data: bytes) -> wire.ResponseOutputAudioDelta:
        return wire.ResponseOutputAudioDelta(
            response_id="R1", item_id="A1", delta=wire.encode_audio(data)
        )

    (first,) = call.receive(piece(b"\x01\x02\x03"))
    (second,) = call.receive(piece(b"\x04\x05\x06"))

    assert isinstance(first, AudioOut)
    assert isinstance(second, AudioOut)
    assert first.pcm_bytes() + second.pcm_bytes() == b"\x01\x02\x03\x04\x05\x06"


def test_a_response_without_audio_still_closes_its_turn() -> None:
    call = Call()
    call.receive(created("R1"))

    assert call.receive(done("R1")) == [
        AudioDone(turn=1),
        ResponseEnded("R1", "completed", killed=False, late_ms=0),
    ]


def test_a_response_that_ends_early_closes_its_open_parts() -> None:
    call = answering_call()

    assert AudioDone(turn=1, item_id="A1", n_samples=9_600) in call.receive(done("R1", "failed"))


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        ("incomplete", "max_output_tokens", ["answer_incomplete"]),
        ("cancelled", None, ["answer_incomplete"]),
        ("cancelled", "turn_detected", []),
        ("completed", None, []),
    ],
)
def test_an_answer_that_broke_off_by_itself_is_reported_when_it_was_heard_to_there(
    status: str, reason: str | None, said: list[str]
) -> None:
    call = answering_call()
    call.receive(delta("R1", 400), done("R1", status, reason=reason))
    outputs = call.protocol.settle(heard(9_600, 9_600, complete=True), 0)
    assert [one.code for one in outputs if isinstance(one, Problem)] == said


def test_server_positions_become_capture_samples() -> None:
    call = Call()
    call.now_ms = 5_000  # the first sample appended is at 5 s of the capture clock
    call.mic(3_000)

    started, stopped, *_ = call.user_turn("U1", 1_000, 1_800)

    assert started == SpeechStarted(source="server", onset_sample=6_000 * 24, item_id="U1")
    assert stopped == SpeechStopped(source="server", end_sample=6_800 * 24, item_id="U1")


def test_a_gap_in_the_microphone_is_sent_as_silence_and_reported() -> None:
    call = Call()
    call.mic(100)

    outputs = call.protocol.append(48_000 + 2_400, b"\x01\x00" * 240)

    audio = b"".join(
        wire.decode_audio(event.audio)
        for event in sent(outputs)
        if isinstance(event, wire.InputAudioBufferAppend)
    )
    assert audio == bytes(2 * 48_000) + b"\x01\x00" * 240
    assert any(isinstance(out, Problem) and out.code == "audio_gap" for out in outputs)


def test_microphone_audio_that_was_sent_is_not_sent_again() -> None:
    call = Call()
    call.protocol.append(0, bytes(200))

    outputs = call.protocol.append(90, b"\x01\x00" * 20)

    assert sent(outputs) == [wire.InputAudioBufferAppend(audio=wire.encode_audio(b"\x01\x00" * 10))]


def test_a_clock_that_jumps_is_the_callers_bug() -> None:
    call = Call()
    call.mic(100)

    with pytest.raises(LocalProtocolError, match="at most 600 s"):
        call.protocol.append(24_000 * 3_600, bytes(2))


def test_a_cut_truncates_before_it_cancels_and_names_what_it_cancels() -> None:
    call = answering_call()

    outputs = call.cut(3_000, heard(4_800, 9_600))

    assert sent(outputs) == [
        wire.ConversationItemTruncate(item_id="A1", content_index=0, audio_end_ms=200),
        wire.ResponseCancel(event_id="cancel-1", response_id="R1"),
    ]


def test_late_deltas_of_a_cut_response_are_counted_and_go_nowhere() -> None:
    call = answering_call()
    call.cut(3_000, heard(4_800, 9_600))

    assert call.receive(delta("R1", 300), delta("R1", 200)) == []
    ended = call.receive(done("R1", "cancelled"))

    assert ResponseEnded("R1", "cancelled", killed=True, late_ms=500) in ended


def test_after_response_done_a_cut_truncates_and_has_nothing_to_cancel() -> None:
    call = answering_call()
    call.receive(done("R1"))

    outputs = call.cut(3_000, heard(4_800, 9_600))

    assert [type(event) for event in sent(outputs)] == [wire.ConversationItemTruncate]


@pytest.mark.parametrize(
    ("account", "why"),
    [
        (heard(9_600, 9_600, complete=True), "it was wholly heard"),
        (Heard(item_id="X", content_index=0, heard_samples=1, received_samples=1, final=True), ""),
        (Heard(item_id=None, content_index=0, heard_samples=1, received_samples=1, final=True), ""),
    ],
)
def test_what_was_wholly_heard_or_never_came_is_not_truncated(account: Heard, why: str) -> None:
    call = answering_call()
    call.receive(done("R1"))

    assert sent(call.cut(3_000, account)) == [], why


def test_a_truncate_is_clamped_to_what_was_received_and_sent_once() -> None:
    call = answering_call()

    first = call.cut(3_000, heard(99_999, 99_999))
    again = call.cut(3_500, heard(0, 9_600))

    assert wire.ConversationItemTruncate(item_id="A1", content_index=0, audio_end_ms=400) in sent(
        first
    )
    assert sent(again) == []


def test_a_truncate_by_hand_is_sent_once_and_the_one_that_waited_is_not() -> None:
    call = answering_call()
    call.cut(3_000, heard(4_800, 9_600, final=False))

    assert sent(call.protocol.truncate("A1", 0, 2_400)) == [
        wire.ConversationItemTruncate(item_id="A1", content_index=0, audio_end_ms=100)
    ]
    assert sent(call.protocol.truncate("A1", 0, 4_800)) == []
    assert sent(call.wait(150)) == []


def test_a_truncate_waits_150_ms_for_a_late_position_and_the_cancel_does_not() -> None:
    call = answering_call()

    now = call.cut(3_000, heard(4_800, 9_600, final=False))
    assert [type(event) for event in sent(now)] == [wire.ResponseCancel]
    settled = call.protocol.settle(heard(6_000, 9_600), call.now_ms * MS)

    assert sent(settled) == [
        wire.ConversationItemTruncate(item_id="A1", content_index=0, audio_end_ms=250)
    ]


def test_without_a_better_position_the_estimate_is_used_after_150_ms() -> None:
    call = answering_call()
    call.cut(3_000, heard(4_800, 9_600, final=False))

    assert call.protocol.deadline_ns == (call.now_ms + 150) * MS
    assert sent(call.wait(149)) == []
    assert sent(call.wait(1)) == [
        wire.ConversationItemTruncate(item_id="A1", content_index=0, audio_end_ms=200)
    ]


def test_an_answer_that_was_never_let_out_is_deleted_after_its_end() -> None:
    call = Call()
    call.mic(4_000)
    call.user_turn("U1", 1_000, 2_000)
    call.cut(3_000)
    cancelled = call.receive(created("R1"), delta("R1", 300))

    item = wire.Item(type="message", id="A1", role="assistant", status="incomplete")
    ended = call.receive(done("R1", "cancelled", [item]))

    assert sent(cancelled) == [wire.ResponseCancel(event_id="cancel-1", response_id="R1")]
    assert sent(ended)[0] == wire.ConversationItemDelete(item_id="A1")


def test_a_late_verdict_does_not_kill_the_answer_to_the_interrupting_speech() -> None:
    call = answering_call()
    call.receive(done("R1"))
    call.user_turn("U2", 3_000, 3_200)
    call.receive(created("R2"))

    outputs = call.cut(3_000, heard(4_800, 9_600), turn=1)

    assert [type(event) for event in sent(outputs)] == [wire.ConversationItemTruncate]
    assert len(call.receive(delta("R2", 100, "A2"))) == 1


def test_a_second_edge_inside_one_utterance_does_not_kill_its_answer() -> None:
    call = answering_call()
    call.receive(done("R1"))
    call.cut(3_500, heard(4_800, 9_600))
    call.user_turn("U2", 3_000, 3_900)  # the service heard one utterance around that edge

    assert OpenTurn("R2", item_ids=("U2",)) in call.receive(created("R2"))


def test_the_answer_to_the_earlier_half_of_an_utterance_is_killed_though_it_comes_later() -> None:
    call = Call()
    call.mic(4_000)
    call.cut(2_600)  # the user went on speaking at 2,600 ms
    call.user_turn("U1", 1_000, 2_000)  # the service had ended the turn before

    outputs = call.receive(created("R1"))

    assert [type(event) for event in sent(outputs)] == [wire.ResponseCancel]


def test_a_cut_takes_a_newer_turn_with_it_when_its_cause_is_older_than_the_onset() -> None:
    call = answering_call()
    call.receive(done("R1"))
    call.user_turn("U2", 2_200, 2_400)
    call.receive(created("R2"))

    outputs = call.cut(3_000, heard(4_800, 9_600), turn=1)

    assert outputs[-1] == Interrupt(turn=2, onset_sample=72_000)
    assert wire.ResponseCancel(event_id="cancel-1", response_id="R2") in sent(outputs)


def test_an_answer_that_the_line_took_with_it_is_owed_again() -> None:
    call = answering_call()
    call.receive(done("R1"))
    call.user_turn("U2", 3_000, 3_200)
    call.receive(created("R2"))

    call.cut(3_000, heard(4_800, 9_600), turn=2)

    assert call.protocol.owed == ("U2",)


def test_a_turn_that_the_service_did_not_answer_is_answered_on_our_request() -> None:
    call = answering_call()
    call.cut(3_000, heard(4_800, 9_600))
    call.user_turn("U2", 3_000, 3_200)
    assert call.receive(error("conversation_already_has_active_response")) == []
    call.receive(done("R1", "cancelled"))

    assert sent(call.wait(149)) == []
    (create,) = sent(call.wait(1))

    assert isinstance(create, wire.ResponseCreate)
    assert create.event_id == "create-1"
    assert create.response is not None
    assert create.response.metadata == {MARK: "create-1"}
    call.receive(created("R2", metadata={MARK: "create-1"}))
    assert call.protocol.owed == ()
    call.receive(done("R2"))
    assert call.protocol.settled


def typed_while_an_answer_begins(*told: wire.ServerEvent) -> list[Output]:
    """The user has spoken and types, while the service answers. What follows its answer."""
    call = Call()
    call.mic(4_000)
    call.user_turn("U1", 2_000, 3_000)
    call.protocol.typed("to Chicago", call.now_ms * MS)
    outputs = call.receive(*told, created("R1"), delta("R1", 400), done("R1"))
    return [*outputs, *call.wait(200)]


def test_typed_words_that_the_service_had_are_answered_with_what_was_said() -> None:
    item = wire.Item(type="message", id="ours_1", role="user")
    (text,) = Call().protocol.typed("to Chicago", 0)[:1]
    assert isinstance(text, Transcript)
    assert (text.item_id, text.text, text.typed) == ("ours_1", "to Chicago", True)

    assert sent(typed_while_an_answer_begins(wire.ConversationItemAdded(item=item))) == []


def test_typed_words_that_came_too_late_for_an_answer_get_one_of_their_own() -> None:
    (create,) = sent(typed_while_an_answer_begins())

    assert isinstance(create, wire.ResponseCreate)


def test_typed_words_are_asked_for_with_the_next_advance_and_once() -> None:
    call = Call()
    outputs = call.performed(call.protocol.typed("to Chicago", 0))
    assert [type(event) for event in sent(outputs)] == [wire.ConversationItemCreate]

    (create,) = sent(call.wait(0))
    assert isinstance(create, wire.ResponseCreate)
    (opened,) = call.receive(created("R1", metadata={MARK: create.event_id}))
    assert opened == OpenTurn("R1", item_ids=("ours_1",))
    call.receive(done("R1"))
    assert call.wait(5_000) == []


def test_typed_words_are_not_asked_for_where_the_service_is_about_to_answer_by_itself() -> None:
    call = Call()
    call.mic(4_000)
    call.receive(wire.InputAudioBufferSpeechStarted(item_id="U1", audio_start_ms=1_700))
    call.protocol.typed("AB-123", call.now_ms * MS)
    assert sent(call.wait(100)) == [], "the user speaks"
    outputs = call.receive(
        wire.InputAudioBufferSpeechStopped(item_id="U1", audio_end_ms=3_500),
        wire.ConversationItemAdded(item=wire.Item(type="message", id="ours_1", role="user")),
        wire.InputAudioBufferCommitted(item_id="U1"),
        created("R1"),
    )

    assert sent(outputs) == []
    assert OpenTurn("R1", item_ids=("ours_1", "U1")) in outputs
    call.receive(done("R1"))
    assert sent(call.wait(5_000)) == []


def test_no_words_are_an_ask_for_an_answer_and_no_transcript() -> None:
    call = Call()
    outputs = call.performed(call.protocol.typed("  ", 0))

    assert [type(event) for event in sent(outputs)] == [wire.ConversationItemCreate]
    assert len(outputs) == 1
    assert len(sent(call.wait(0))) == 1


def test_the_service_has_150_ms_from_the_commit_to_answer_by_itself() -> None:
    call = Call()
    call.mic(4_000)
    call.receive(
        wire.InputAudioBufferSpeechStarted(item_id="U1", audio_start_ms=1_700),
        wire.InputAudioBufferSpeechStopped(item_id="U1", audio_end_ms=3_500),
    )
    call.wait(200)

    assert sent(call.receive(wire.InputAudioBufferCommitted(item_id="U1"))) == []
    assert sent(call.wait(149)) == []
    assert [type(event) for event in sent(call.wait(1))] == [wire.ResponseCreate]


def test_a_collision_keeps_the_debt() -> None:
    call = Call()
    call.mic(3_000)
    call.user_turn("U1", 1_000, 2_000)
    call.wait(150)
    call.receive(error("conversation_already_has_active_response", "create-1"))

    (again,) = sent(call.wait(5_000))

    assert isinstance(again, wire.ResponseCreate)


def test_a_create_that_crossed_the_services_own_is_taken_back() -> None:
    call = Call()
    call.mic(3_000)
    call.user_turn("U1", 1_000, 2_000)
    call.wait(150)
    call.receive(created("R1"), delta("R1", 100), done("R1"))

    outputs = call.receive(created("R2", metadata={MARK: "create-1"}))

    assert sent(outputs) == [wire.ResponseCancel(event_id="cancel-1", response_id="R2")]


def test_a_create_waits_until_the_user_is_silent_and_the_response_is_done() -> None:
    call = answering_call()
    call.receive(wire.InputAudioBufferSpeechStarted(item_id="U2", audio_start_ms=3_000))
    asked = call.protocol.create(wire.ResponseParams(instructions="Greet."), call.now_ms * MS)
    assert sent(asked) == []
    assert sent(call.receive(done("R1"))) == []

    outputs = call.receive(wire.InputAudioBufferSpeechStopped(item_id="U2", audio_end_ms=3_900))

    (create,) = sent(outputs)
    assert isinstance(create, wire.ResponseCreate)
    assert create.response is not None
    assert create.response.instructions == "Greet."


def test_the_end_of_a_response_beside_the_conversation_releases_no_create() -> None:
    call = answering_call()
    call.protocol.create(None, call.now_ms * MS)
    beside = wire.Response(id="R9", conversation_id=None)

    assert call.receive(wire.ResponseCreated(response=beside), delta("R9", 100, "A9")) == []
    assert sent(call.receive(wire.ResponseDone(response=beside))) == []


def test_a_rejected_user_item_is_deleted_after_its_answer_has_ended() -> None:
    call = answering_call()
    call.receive(done("R1"))
    call.user_turn("cough", 3_000, 3_200)
    call.receive(created("R2"))

    swallowed = call.protocol.swallow("cough", call.now_ms * MS)
    ended = call.receive(done("R2", "cancelled"))

    assert sent(swallowed) == [wire.ResponseCancel(event_id="cancel-1", response_id="R2")]
    assert Withdrawn(turn=2) in swallowed, "what came of it is not heard"
    assert sent(ended) == [wire.ConversationItemDelete(item_id="cough")]
    assert call.protocol.owed == ()


def test_a_swallow_opens_the_debt_of_what_the_answer_had_paid_besides() -> None:
    call = Call()
    call.mic(4_000)
    call.user_turn("U1", 1_000, 2_000)
    call.user_turn("cough", 2_600, 2_700)
    call.receive(created("R1"))

    call.protocol.swallow("cough", call.now_ms * MS)

    assert call.protocol.owed == ("U1",)


def test_a_cancel_that_found_nothing_frees_what_waited_for_it() -> None:
    call = answering_call()
    call.cut(3_000, heard(4_800, 9_600))

    outputs = call.receive(error("response_cancel_not_active", "cancel-1"))

    assert outputs == [ResponseEnded("R1", "cancelled", killed=True, late_ms=0)]


def test_a_cancelled_response_that_never_ends_is_given_up() -> None:
    call = answering_call()
    call.cut(3_000, heard(4_800, 9_600))

    outputs = call.wait(5_000)

    assert ResponseEnded("R1", "lost", killed=True, late_ms=0) in outputs
    assert call.protocol.settled


def test_a_create_waits_for_the_end_of_the_response_that_is_active() -> None:
    call = answering_call()
    assert sent(call.protocol.create(None, call.now_ms * MS)) == []
    assert sent(call.wait(10_000)) == []
    (create,) = sent(call.receive(done("R1")))
    assert isinstance(create, wire.ResponseCreate)


def test_the_end_of_a_truncate_is_never_later_than_what_was_heard() -> None:
    call = answering_call()
    outputs = call.cut(3_500, heard(4_823, 9_600))
    ends = [e.audio_end_ms for e in sent(outputs) if isinstance(e, wire.ConversationItemTruncate)]
    assert ends == [200], "4,823 samples are 200.96 ms"


def test_a_create_waits_for_a_truncate_that_waits_for_its_position() -> None:
    call = answering_call()
    call.cut(None, heard(4_800, 9_600, final=False))
    assert sent(call.protocol.create(None, call.now_ms * MS)) == []
    assert sent(call.receive(done("R1", "cancelled"))) == []
    orders = call.performed(call.protocol.settle(heard(4_900, 9_600), call.now_ms * MS))
    kinds = [type(event) for event in sent(orders)]
    assert kinds == [wire.ConversationItemTruncate, wire.ResponseCreate]


def test_an_ask_that_was_lost_on_the_way_is_made_again_after_three_seconds() -> None:
    call = Call()
    call.mic(3_000)
    call.user_turn("U1", 1_000, 2_000)
    assert len(sent(call.wait(150))) == 1
    assert sent(call.wait(2_999)) == []
    call.wait(1)
    (again,) = sent(call.wait(1_000))
    assert isinstance(again, wire.ResponseCreate)


def test_a_response_that_failed_without_a_word_is_asked_for_again_with_growing_pauses() -> None:
    call = Call()
    call.mic(3_000)
    call.user_turn("U1", 1_000, 2_000)
    call.receive(created("R1"), done("R1", "failed"))
    pauses: list[int] = []
    for attempt in range(1, 4):
        start_ms = call.now_ms
        while not sent(call.wait(10)):
            assert call.now_ms < start_ms + 1_000, "nobody asks again"
        pauses.append(call.now_ms - start_ms)
        name = f"create-{attempt}"
        call.receive(created(name, metadata={MARK: name}), done(name, "failed"))

    assert pauses == [150, 300, 600]


def test_a_service_that_always_refuses_is_reported_and_not_asked_for_ever() -> None:
    call = Call()
    call.mic(3_000)
    call.user_turn("U1", 1_000, 2_000)
    problems: list[str] = []
    for _ in range(10):
        for create in sent(call.wait(10_000)):
            outputs = call.receive(error("server_error", create.event_id))
            problems += [out.code for out in outputs if isinstance(out, Problem)]

    assert problems == ["server_error"] * 6 + ["unanswered"]
    assert call.protocol.settled


@pytest.mark.parametrize("code", sorted(ERROR_CLASSES))
def test_every_error_code_has_a_class_that_decides_whether_the_session_ends(code: str) -> None:
    outputs = Call().receive(error(code))

    ends = [out.error_class for out in outputs if isinstance(out, Fail)]
    expected = ERROR_CLASSES[code]
    assert ends == ([expected] if expected in ("reconnect", "fatal") else [])


def test_an_unknown_error_is_reported_and_the_call_goes_on() -> None:
    (problem,) = Call().receive(error("brand_new"))

    assert problem == Problem(where="realtime", code="brand_new", message="m")


def test_words_of_both_sides_and_the_cost_come_out_as_frames() -> None:
    call = Call()
    part: dict[str, Any] = {"response_id": "R1", "item_id": "A1"}
    usage = wire.ResponseUsage(
        input_token_details=wire.InputTokens(text_tokens=1, audio_tokens=2, cached_tokens=3),
        output_token_details=wire.OutputTokens(text_tokens=4, audio_tokens=5),
    )
    ended = wire.Response(id="R1", status="completed", conversation_id="c", usage=usage)

    outputs = call.receive(
        created("R1"),
        wire.InputAudioTranscriptionDelta(item_id="U1", delta="Hel"),
        wire.InputAudioTranscriptionCompleted(item_id="U1", transcript="Hello."),
        wire.ResponseOutputAudioTranscriptDelta(**part, delta="Hi"),
        wire.ResponseOutputAudioTranscriptDone(**part, transcript="Hi there."),
        wire.ResponseOutputTextDelta(**part, delta="Written."),
        wire.ResponseDone(response=ended),
    )

    assert outputs[1:6] == [
        Transcript(who="user", text="Hel", final=False, item_id="U1"),
        Transcript(who="user", text="Hello.", final=True, item_id="U1"),
        Transcript(who="agent", text="Hi", final=False, item_id="A1"),
        Transcript(who="agent", text="Hi there.", final=True, item_id="A1"),
        TextOut(turn=1, text="Written.", response_id="R1", item_id="A1"),
    ]
    assert (
        Usage(
            response_id="R1",
            input_text_tokens=1,
            input_audio_tokens=2,
            input_cached_tokens=3,
            output_text_tokens=4,
            output_audio_tokens=5,
        )
        in outputs
    )


def test_when_the_application_answers_nothing_is_owed() -> None:
    call = Call(SessionSettings(turn_detection=ServerVad(create_response=False)))
    call.mic(3_000)
    call.user_turn("U1", 1_000, 2_000)

    assert call.protocol.owed == ()
    assert call.protocol.deadline_ns is None


def test_the_microphone_that_ends_in_mid_word_is_followed_by_the_silence_that_ends_the_turn() -> (
    None
):
    call = Call()
    call.mic(1_000)
    assert call.protocol.end_of_speech() == []
    call.receive(wire.InputAudioBufferSpeechStarted(item_id="U1", audio_start_ms=400))

    outputs = call.protocol.end_of_speech()

    assert [type(event) for event in sent(outputs)] == [wire.InputAudioBufferAppend]


def test_the_recordings_of_the_real_service_are_understood_and_leave_nothing_owed(
    golden_dir: Path,
) -> None:
    for recording in sorted(golden_dir.glob("*.jsonl")):
        entries = [json.loads(line) for line in recording.read_text().splitlines()]
        heard_by_server = [e["event"] for e in entries if e["dir"] == "server"]
        call = Call()
        outputs: list[Output] = []
        for event in heard_by_server:
            call.now_ms += 10
            said = call.receive(wire.decode_server(json.dumps(event)))
            outputs += said
            for tool_call in said:
                if isinstance(tool_call, ToolCall):
                    call.protocol.answer_call(tool_call.call_id, "sunny", call.now_ms * MS)

        turns = [event for event in heard_by_server if event["type"] == "response.created"]
        audio = [e for e in heard_by_server if e["type"] == "response.output_audio.done"]
        assert sum(isinstance(out, OpenTurn) for out in outputs) == len(turns)
        assert sum(isinstance(out, AudioDone) and out.n_samples > 0 for out in outputs) == len(
            audio
        )
        assert [out for out in outputs if isinstance(out, Problem)] == []
        assert call.protocol.settled, recording.name


@given(st.data())
def test_recorded_events_in_any_order_are_never_more_than_a_problem(
    golden_dir: Path, data: st.DataObject
) -> None:
    recording = data.draw(st.sampled_from(sorted(golden_dir.glob("*.jsonl"))))
    entries = [json.loads(line) for line in recording.read_text().splitlines()]
    events = [wire.decode_server(json.dumps(e["event"])) for e in entries if e["dir"] == "server"]
    call = Call()

    for event in data.draw(st.lists(st.sampled_from(events), max_size=60)):
        call.receive(event)
        if data.draw(st.integers(0, 9)) == 0:
            call.cut(call.now_ms, heard(10, 20))
        call.wait(data.draw(st.sampled_from([0, 20, 5_000])))


def test_a_long_call_leaves_no_more_behind_than_a_short_one() -> None:
    def size(n_responses: int) -> int:
        call = Call()
        for number in range(n_responses):
            call.receive(created(f"R{number}"), delta(f"R{number}", 1, f"A{number}"))
            call.receive(wire.InputAudioBufferCommitted(item_id=f"U{number}"))
            call.receive(done(f"R{number}"))
        return sum(n_held(account) for account in vars(call.protocol).values())

    assert size(2_000) <= size(1_000)


def n_held(account: object) -> int:
    """Entries in the containers of an account."""
    values: list[object] = list(getattr(account, "__dict__", {}).values())
    return sum(len(value) for value in values if isinstance(value, Sized))
