"""A user turn that is void: what was said and begun because of it is taken back, in order."""

from __future__ import annotations

from framepipe.frames import AudioOut, Interrupt, ToolCall
from framepipe.realtime import events as wire
from framepipe.realtime.client_outputs import OpenTurn, Output, Send, Withdraw
from framepipe.realtime.client_protocol import REVOKED, ClientProtocol, Leftover
from framepipe.realtime.session import SessionSettings
from tests.realtime.test_client_protocol import (
    MS,
    Call,
    answering_call,
    created,
    delta,
    done,
    heard,
    sent,
)


def revoke(call: Call, *items: str, hint: str = "", respond: bool = True) -> list[Output]:
    outputs = call.protocol.revoke(items, call.now_ms * MS, hint=hint, respond=respond)
    return call.performed(outputs)


def silenced(call: Call, turn: int, heard_samples: int, received: int) -> list[Output]:
    """The engine has told the interrupt to everybody: this is what `Playout` added."""
    account = heard(heard_samples, received)
    frame = Interrupt(turn=turn, cause=REVOKED, heard=(account,))
    return call.performed(call.protocol.cut(frame, call.now_ms * MS))


def message(item_id: str, response_id: str) -> wire.ResponseOutputItemAdded:
    item = wire.Item(id=item_id, type="message", role="assistant")
    return wire.ResponseOutputItemAdded(response_id=response_id, item=item)


def calling(item_id: str, call_id: str, response_id: str) -> list[wire.ServerEvent]:
    item = wire.Item(
        id=item_id,
        type="function_call",
        status="completed",
        call_id=call_id,
        name="book",
        arguments="{}",
    )
    return [
        wire.ResponseOutputItemAdded(response_id=response_id, item=item),
        wire.ResponseOutputItemDone(response_id=response_id, item=item),
    ]


def kinds(outputs: list[Output]) -> list[str]:
    return [str(type(event).__struct_config__.tag) for event in sent(outputs)]


def test_a_void_turn_is_taken_back_in_the_order_of_the_rules() -> None:
    call = answering_call()

    begun = revoke(call, "U1", hint="Not Denver: Chicago.")
    cut = silenced(call, 1, 4_800, 9_600)
    late = call.receive(delta("R1", 500))
    after = call.receive(done("R1", "cancelled"))

    assert sent(begun) == [wire.ResponseCancel(event_id="cancel-1", response_id="R1")]
    assert begun[-1] == Interrupt(turn=1, cause=REVOKED)
    assert kinds(cut) == ["conversation.item.truncate"]
    assert late == []
    hint, create = sent(after)
    assert isinstance(hint, wire.ConversationItemCreate)
    assert hint.item.role == "system"
    assert isinstance(create, wire.ResponseCreate)
    assert create.response is not None
    assert create.response.instructions is wire.UNSET, "the session's instructions still stand"


def test_what_was_never_heard_is_deleted_and_what_was_heard_stays() -> None:
    call = answering_call()
    call.receive(message("A2", "R1"), delta("R1", 300, "A2"))

    revoke(call, "U1")
    frame = Interrupt(
        turn=1,
        cause=REVOKED,
        heard=(heard(9_600, 9_600, complete=True), heard(0, 7_200, item_id="A2")),
    )
    call.protocol.cut(frame, call.now_ms * MS)
    after = call.receive(done("R1", "cancelled"))

    assert kinds(after) == ["conversation.item.delete", "response.create"]
    assert sent(after)[0] == wire.ConversationItemDelete(item_id="A2")


def test_the_user_goes_on_so_nothing_is_asked_for() -> None:
    call = answering_call()

    revoke(call, "U1", respond=False)
    silenced(call, 1, 0, 9_600)
    after = call.receive(done("R1", "cancelled"))

    assert "response.create" not in kinds(after)
    assert "response.create" not in kinds(call.wait(10_000))
    assert call.protocol.settled
    call.user_turn("U2", 15_000, 16_000)
    assert call.protocol.owed == ("U2",)


def test_the_answer_waits_until_the_user_is_silent() -> None:
    call = answering_call()
    call.receive(done("R1"), wire.InputAudioBufferSpeechStarted(item_id="U2", audio_start_ms=3_000))

    begun = revoke(call, "U1")
    cut = silenced(call, 1, 4_800, 9_600)

    assert kinds(begun) == []
    assert kinds(cut) == ["conversation.item.truncate"]
    call.receive(
        wire.InputAudioBufferSpeechStopped(item_id="U2", audio_end_ms=4_000),
        wire.InputAudioBufferCommitted(item_id="U2"),
    )
    assert set(call.protocol.owed) == {"U1", "U2"}
    call.receive(created("R2"))  # the service sees both
    assert call.protocol.owed == ()


def test_the_services_own_late_answer_to_a_void_turn_goes_unheard() -> None:
    call = Call()
    call.mic(4_000)
    call.user_turn("U1", 1_000, 2_000)
    revoke(call, "U1", respond=True)  # asks at once, and the service's answer was on its way

    crossed = call.receive(created("R1"))
    assert kinds(crossed) == ["response.cancel"]
    assert call.receive(message("A1", "R1"), delta("R1", 100)) == []
    after = call.receive(done("R1", "cancelled"))
    assert "conversation.item.delete" in kinds(after)


def test_a_create_of_ours_that_was_on_its_way_is_void_and_its_debt_is_paid_once() -> None:
    call = Call()
    call.mic(4_000)
    call.user_turn("U1", 1_000, 2_000)
    (create,) = sent(call.wait(200))
    assert isinstance(create, wire.ResponseCreate)

    revoke(call, "U1", hint="no")
    void = call.receive(created("R1", metadata={"framepipe": str(create.event_id)}))
    after = call.receive(done("R1", "cancelled"))
    again = [event for event in sent(after) if isinstance(event, wire.ResponseCreate)]

    assert kinds(void) == ["response.cancel"]
    assert len(again) == 1
    call.receive(created("R2", metadata={"framepipe": str(again[0].event_id)}), delta("R2", 20))
    call.receive(done("R2"))
    assert kinds(call.wait(10_000)) == []
    assert call.protocol.settled


def test_a_create_that_was_on_its_way_is_void_though_the_service_was_quicker() -> None:
    call = Call()
    call.mic(4_000)
    call.user_turn("U1", 1_000, 2_000)
    (create,) = sent(call.wait(200))
    assert isinstance(create, wire.ResponseCreate)
    call.receive(created("R1"))  # by itself, late

    revoke(call, "U1", hint="no")
    silenced(call, 1, 0, 0)
    call.receive(done("R1", "cancelled"))
    void = call.receive(created("R2", metadata={"framepipe": str(create.event_id)}))

    assert kinds(void) == ["response.cancel"], "it was asked for before the model had the hint"
    after = call.receive(done("R2", "cancelled"))
    assert kinds([*after, *call.wait(200)])[-1] == "response.create"


def test_what_is_said_last_of_a_void_turn_counts() -> None:
    call = answering_call()

    revoke(call, "U1", respond=True)
    revoke(call, "U1", respond=False)
    silenced(call, 1, 4_800, 9_600)
    after = call.receive(done("R1", "cancelled"))

    assert "response.create" not in kinds([*after, *call.wait(10_000)])
    assert call.protocol.settled


def test_a_tool_that_runs_for_a_void_turn_is_withdrawn_and_its_call_deleted() -> None:
    call = answering_call()
    call.receive(*calling("F1", "c1", "R1"), done("R1"))

    begun = revoke(call, "U1")
    after = silenced(call, 1, 9_600, 9_600)

    assert Withdraw("c1", "book") in begun
    assert kinds(after)[-2:] == ["conversation.item.delete", "response.create"]
    assert wire.ConversationItemDelete(item_id="F1") in sent(after)
    assert call.protocol.answer_call("c1", "booked", call.now_ms * MS) == [], "nobody waits for it"


def test_cutting_the_voice_leaves_a_running_tool_alone() -> None:
    call = answering_call()
    call.receive(*calling("F1", "c1", "R1"), done("R1"))

    assert not any(isinstance(out, Withdraw) for out in call.cut(3_000, heard(4_800, 9_600)))
    outputs = call.protocol.answer_call("c1", "booked", call.now_ms * MS)
    assert kinds(outputs)[0] == "conversation.item.create"


def test_an_output_goes_before_its_call_and_the_answer_to_it_is_void_too() -> None:
    call = answering_call()
    call.receive(*calling("F1", "c1", "R1"), done("R1"))
    call.protocol.answer_call("c1", "flights to Denver", call.now_ms * MS)
    call.wait(200)
    call.receive(created("R2", metadata={"framepipe": "create-1"}), delta("R2", 200, "A2"))

    begun = revoke(call, "U1")
    silenced(call, 2, 9_600, 9_600)
    after = call.receive(done("R2", "cancelled"))

    assert wire.ResponseCancel(event_id="cancel-1", response_id="R2") in sent(begun)
    deleted = [e.item_id for e in sent(after) if isinstance(e, wire.ConversationItemDelete)]
    assert deleted[:2] == ["ours_1", "F1"]


def test_what_a_tool_with_effects_has_done_stays_known() -> None:
    call = Call(has_effects=lambda name: name == "book")
    call.mic(4_000)
    call.user_turn("U1", 1_000, 2_000)
    call.receive(created("R1"), *calling("F1", "c1", "R1"), done("R1"))
    call.protocol.answer_call("c1", "booked", call.now_ms * MS)

    outputs = revoke(call, "U1") + call.performed(call.protocol.cut(Interrupt(turn=1), 0))

    assert not any(isinstance(e, wire.ConversationItemDelete) for e in sent(outputs))


def test_a_killed_response_calls_no_tool_any_more() -> None:
    call = answering_call()
    revoke(call, "U1", respond=False)

    outputs = call.receive(*calling("F1", "c1", "R1"), done("R1", "cancelled"))

    assert not any(isinstance(out, ToolCall) for out in outputs)


def test_other_turns_are_left_alone() -> None:
    call = answering_call()
    call.receive(done("R1"))
    call.user_turn("U2", 2_600, 3_000)
    call.receive(created("R2"))

    outputs = revoke(call, "U1", respond=False)

    assert sent(outputs) == []
    assert any(isinstance(out, AudioOut) for out in call.receive(delta("R2", 20, "A2")))
    assert sent(revoke(call, "nobody", respond=False)) == []


def test_a_text_that_the_application_wants_said_answers_nothing_and_is_not_taken_back() -> None:
    call = answering_call()
    call.protocol.say("One moment.", call.now_ms * MS)
    (create,) = sent(call.receive(done("R1", "failed")))
    assert isinstance(create, wire.ResponseCreate)

    said = call.receive(created("R2", metadata={"framepipe": str(create.event_id)}))

    assert said == [OpenTurn("R2")]
    assert sent(revoke(call, "U1")) == []


def test_a_socket_that_breaks_in_between_takes_the_rest_along() -> None:
    call = answering_call()
    call.receive(*calling("F1", "c1", "R1"))
    revoke(call, "U1", hint="Not Denver.")

    _, leftover = call.protocol.hand_over(call.now_ms * MS)

    assert isinstance(leftover, Leftover)
    assert leftover.owed
    next_one = ClientProtocol(SessionSettings().wire("client"), leftover=leftover)
    greeted = next_one.receive(wire.SessionCreated(session=wire.Session()), 0)
    told = [e.item for e in sent(greeted) if isinstance(e, wire.ConversationItemCreate)]
    assert [item.role for item in told] == ["system"]
    assert not any(isinstance(out, Send) and "F1" in str(out) for out in greeted)


def test_a_swallowed_item_goes_with_all_that_was_made_for_it() -> None:
    call = answering_call()
    call.receive(done("R1"))
    call.user_turn("cough", 3_000, 3_200)
    call.receive(created("R2"), message("A2", "R2"), delta("R2", 100, "A2"), done("R2"))

    outputs = call.protocol.swallow("cough", call.now_ms * MS)

    assert sent(outputs) == [
        wire.ConversationItemDelete(item_id="A2"),
        wire.ConversationItemDelete(item_id="cough"),
    ]
