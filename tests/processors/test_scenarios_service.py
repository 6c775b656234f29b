"""Interruptions and what the service does meanwhile: one timeline a test.

In each the user asks at 0.5 s and is answered from 1.5 s on, unless it says otherwise.
"""

from __future__ import annotations

import pytest

from framepipe.frames import (
    ConnectionState,
    Interrupt,
    InterruptionReport,
    Mute,
    Problem,
    ToolResult,
    Unmute,
)
from framepipe.realtime import events as wire
from framepipe.realtime.tools import tool
from tests.interruption_call import (
    Ears,
    call,
    cancelled,
    commits,
    edge,
    first_turn,
    hears,
    no,
    quiet,
    writes,
    yes,
)
from tests.realtime_service import Service

R1 = 3_000 * 24


async def answers(service: Service, response_id: str, ms: int = 500, **metadata: str) -> None:
    await service.begin(response_id, **metadata)
    await service.speak(response_id, ms)
    await service.finish(response_id)


def test_no_that_is_answered_before_a_late_yes_keeps_its_answer() -> None:
    # 2,000 muted · 2,080 server · 2,480 committed and answered · 2,540 yes: cuts the old reply only
    async def service(service: Service) -> None:
        await first_turn(service)
        await hears(service, 1_980, "U2")
        await commits(service, 2_280, "U2", silence_ms=200)
        await answers(service, "R2")
        await writes(service, "U2", "No.")
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), yes(2_540, 1_980)), seconds=5)

    (cut,) = held.of(Interrupt)
    assert (cut.turn, cut.cause) in [(1, "silero"), (1, "transcript")]
    assert held.lossless("A-R2") == 500 * 24, "the answer to the speech itself"
    assert held.lossless("A-R1") in range(500 * 24, 520 * 24)
    assert held.sent_of(wire.ResponseCreate) == [], "answered once"


def test_an_automatic_answer_that_failed_because_the_old_response_was_active_is_asked_for() -> None:
    # 2,180 cancel · 2,600 committed, the old one not ended: no answer · 2,700 ended: asked for
    async def service(service: Service) -> None:
        await first_turn(service, done=False)
        await hears(service, 1_980, "U2")
        await commits(service, 2_100, "U2")
        await service.send(
            wire.ErrorEvent(
                error=wire.ErrorDetail(
                    type="invalid_request_error",
                    code="conversation_already_has_active_response",
                    message="Conversation already has an active response",
                )
            )
        )
        await cancelled(service, "R1")
        ask = await service.until(wire.ResponseCreate)
        await answers(service, "R2", framepipe=str(ask.event_id))
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), yes(2_180, 1_980)), seconds=5)

    assert len(held.sent_of(wire.ResponseCreate)) == 1
    assert held.lossless("A-R2") == 500 * 24
    assert held.of(Problem) == []


def test_what_the_server_cancelled_for_a_cough_plays_on_as_far_as_it_came() -> None:
    # The server owns interruption: it cancels at 2,080; rejected here at 2,200
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=2_000, done=False)
        await hears(service, 1_980, "U2")
        await service.finish("R1", "cancelled")
        await commits(service, 2_200, "U2")
        await writes(service, "U2", "")
        await service.read_on()

    held = call(
        service, ears=Ears(edge(2_000), no(2_200, 1_980), quiet(2_500)), owner="server", seconds=6
    )

    assert held.of(Interrupt) == []
    assert held.lossless("A-R1") == 2_000 * 24
    assert held.sent_of(wire.ConversationItemTruncate) == [], "it matches the server's item"
    codes = [problem.code for problem in held.of(Problem)]
    assert codes == ["answer_incomplete"], "the rest was never made"


def test_deltas_right_behind_speech_started_are_dropped_as_a_suffix() -> None:
    # 2,080 server, and three seconds of audio in the same breath; the cancel is answered at 2,300
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=1_000, done=False)
        await hears(service, 1_980, "U2")
        for _ in range(3):
            await service.speak("R1", 1_000)
        await cancelled(service, "R1")
        await commits(service, 2_400, "U2")
        await writes(service, "U2", "no, the other one")
        await answers(service, "R2")
        await service.read_on()

    held = call(service, ears=Ears(two=False), seconds=5)

    assert held.lossless("A-R1") in range(580 * 24, 600 * 24)
    assert held.lossless("A-R2") == 500 * 24
    (report,) = held.of(InterruptionReport)
    assert report.late_audio_dropped_ms == 3_000
    assert report.received_ms == 1_000
    assert report.cancel_to_ack_ns is not None


def test_a_false_end_of_turn_whose_commit_comes_after_the_user_went_on() -> None:
    # 900 a pause · 1,300 the user goes on · 1,400 the first half is committed and answered
    async def service(service: Service) -> None:
        await service.greet()
        await hears(service, 500, "U1")
        await commits(service, 900, "U1")
        await service.begin("R1")
        await hears(service, 1_280, "U2", late_ms=160)
        await service.speak("R1", 2_000)
        await cancelled(service, "R1")
        await commits(service, 1_900, "U2")
        await answers(service, "R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(520), yes(700, 500), edge(1_300)), seconds=5)

    assert held.samples("A-R1") == [], "it answers half a sentence"
    assert held.lossless("A-R2") == 500 * 24


def test_a_commentary_and_an_answer_that_interleave_are_cut_in_the_order_of_playing() -> None:
    # Two items of one response, 300 ms each at a time; the first lasts 1,200; the cut is at 2,180
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=0, done=False)
        for _ in range(4):
            for index, item_id in enumerate(("note", "answer")):
                await service.send(
                    wire.ResponseOutputAudioDelta(
                        response_id="R1",
                        item_id=item_id,
                        output_index=index,
                        delta=wire.encode_audio(bytes(300 * 48)),
                    )
                )
        await service.finish("R1")
        await hears(service, 1_980, "U2")
        await commits(service, 2_400, "U2")
        await answers(service, "R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), yes(2_180, 1_980)), seconds=5)

    truncates = {e.item_id: e.audio_end_ms for e in held.sent_of(wire.ConversationItemTruncate)}
    assert truncates == {"note": held.lossless("note") // 24, "answer": 0}
    assert held.samples("answer") == []


def test_a_commentary_that_was_wholly_heard_is_not_truncated_when_the_answer_is_cut() -> None:
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=0, done=False)
        for index, (item_id, ms) in enumerate((("note", 300), ("answer", 2_000))):
            await service.send(
                wire.ResponseOutputAudioDelta(
                    response_id="R1",
                    item_id=item_id,
                    output_index=index,
                    delta=wire.encode_audio(bytes(ms * 48)),
                )
            )
        await service.finish("R1")
        await hears(service, 1_980, "U2")
        await commits(service, 2_400, "U2")
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), yes(2_180, 1_980)), seconds=5)

    (truncate,) = held.sent_of(wire.ConversationItemTruncate)
    assert truncate.item_id == "answer"
    assert held.lossless("note") == 300 * 24
    assert truncate.audio_end_ms == held.lossless("answer") // 24


# --- tools, and what is beside the conversation ---------------------------------------------------


async def calls_a_tool(service: Service, name: str) -> None:
    item = wire.Item(
        type="function_call",
        id="F1",
        status="completed",
        call_id="call1",
        name=name,
        arguments="{}",
    )
    await service.send(wire.ResponseOutputItemDone(response_id="R1", output_index=1, item=item))


def test_a_tool_that_runs_goes_on_when_only_the_voice_is_cut() -> None:
    # 1,500 filler and call · 2,180 "thanks" cuts the filler · the tool answers all the same
    @tool
    async def look() -> str:
        """Look it up."""
        import anyio

        await anyio.sleep(1.5)
        return "found"

    async def service(service: Service) -> None:
        await first_turn(service, done=False)
        await calls_a_tool(service, "look")
        await service.finish("R1")
        await hears(service, 1_980, "U2")
        await commits(service, 2_300, "U2")
        await answers(service, "R2")
        await writes(service, "U2", "and quickly please")
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), yes(2_180, 1_980)), seconds=6, tools=(look,))

    assert held.when(Interrupt) == [2_180]
    (result,) = held.of(ToolResult)
    assert (result.output, result.error) == ("found", None)
    outputs = [e.item for e in held.sent_of(wire.ConversationItemCreate)]
    assert [item.call_id for item in outputs if item.type == "function_call_output"] == ["call1"]


def test_the_result_of_a_tool_while_the_user_speaks_is_told_at_once_and_answered_later() -> None:
    @tool
    async def look() -> str:
        """Look it up."""
        import anyio

        await anyio.sleep(0.7)
        return "found"

    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=300, done=False)
        await calls_a_tool(service, "look")
        await service.finish("R1")
        await hears(service, 1_980, "U2")
        await service.until(wire.ConversationItemCreate)
        assert service.audio_ms < 2_400, "at once"
        await commits(service, 3_000, "U2")
        await answers(service, "R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), yes(2_180, 1_980)), seconds=6, tools=(look,))

    assert held.sent_of(wire.ResponseCreate) == [], "the answer to the user sees the result, too"
    assert held.lossless("A-R2") == 500 * 24


def test_a_response_beside_the_conversation_is_left_alone_at_a_cut() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await service.send(
            wire.ResponseCreated(response=wire.Response(id="B1", conversation_id=None))
        )
        await hears(service, 1_980, "U2")
        await commits(service, 2_400, "U2")
        await answers(service, "R2")
        await service.send(
            wire.ResponseDone(
                response=wire.Response(id="B1", status="completed", conversation_id=None)
            )
        )
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), yes(2_180, 1_980)), seconds=5)

    assert held.sent_of(wire.ResponseCancel) == []
    assert held.lossless("A-R2") == 500 * 24


def test_a_hold_during_an_idle_timeout_keeps_the_nudge_behind_the_reply() -> None:
    # 2,000 muted · 2,100 the service believes that nobody speaks, and nudges · 2,200 rejected
    async def service(service: Service) -> None:
        await first_turn(service)
        await service.until(wire.InputAudioBufferAppend, audio_ms=2_100)
        await service.send(wire.InputAudioBufferCommitted(item_id="idle"))
        await answers(service, "R2", 400)
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), no(2_200, 1_980), quiet(2_500)), seconds=6)

    assert held.when(Mute) == [2_000]
    assert held.when(Unmute) == [2_200]
    assert held.lossless("A-R1") == R1
    assert held.lossless("A-R2") == 400 * 24
    assert [run.item_id for run in held.heard] == ["A-R1", "A-R1", "A-R2"]


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pause_ms", [700, 1_500])
def test_a_reconnect_in_the_middle_of_an_8_s_utterance_with_pauses(pause_ms: int) -> None:
    # 2,000 interrupted · 4,000 the socket breaks in mid-sentence · 10,000 the user has finished
    async def service(service: Service) -> None:
        if service.n_sockets == 1:
            await first_turn(service)
            await hears(service, 1_980, "U2")
            await service.until(wire.InputAudioBufferAppend, audio_ms=4_000)
            await service.hang_up()
            return
        await service.greet()
        # The audio since the last item that was committed comes again, pauses and all.
        await service.until(wire.InputAudioBufferAppend, audio_ms=2_600)
        await service.send(
            wire.InputAudioBufferSpeechStarted(item_id="V1", audio_start_ms=300),
            wire.InputAudioBufferSpeechStopped(item_id="V1", audio_end_ms=1_900 + pause_ms // 2),
            wire.InputAudioBufferCommitted(item_id="V1"),
        )
        await service.begin("S1")
        await service.speak("S1", 2_000)
        await hears(service, 2_300, "V2", late_ms=100)
        await cancelled(service, "S1")
        await commits(service, 8_000, "V2")
        await answers(service, "S2")
        await service.read_on()

    held = call(
        service,
        ears=Ears(edge(2_000), yes(2_180, 1_980), edge(4_400), yes(4_580, 4_380)),
        seconds=14,
    )

    assert held.when(Interrupt)[0] == 2_180
    assert held.lossless("A-S2") == 500 * 24, "the whole of it is answered"
    assert [s.state for s in held.of(ConnectionState)].count("reconnecting") == 1
    first, second = held.service.got_on[:2]
    appended = sum(
        len(wire.decode_audio(event.audio)) // 48
        for event in second
        if isinstance(event, wire.InputAudioBufferAppend)
    )
    assert appended >= 14_000 - 1_400 - 100, "nothing since the first turn is lacking"
    assert any(isinstance(event, wire.InputAudioBufferAppend) for event in first)
    assert not any(problem.code == "audio_lost" for problem in held.of(Problem))
