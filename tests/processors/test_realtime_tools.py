"""Tools in a call, in virtual time: when they run, and when their results are spoken."""

from __future__ import annotations

import anyio
import pytest

from framepipe import Pipeline
from framepipe.errors import LocalProtocolError
from framepipe.frames import AudioOut, Problem, ToolCall, ToolResult
from framepipe.realtime import events as wire
from framepipe.realtime.session import SessionSettings
from framepipe.realtime.tools import tool
from framepipe.testing import run_virtual
from framepipe_processors.realtime import Realtime
from tests.realtime_service import Ear, Mic, Service, call


@tool
async def weather(city: str) -> str:
    """Tell the weather."""
    await anyio.sleep(1.0)
    return f"sunny in {city}"


@tool(time_limit_s=2)
async def stuck() -> None:
    """Never end."""
    await anyio.sleep_forever()


async def calls(
    service: Service, response_id: str, *asked: tuple[str, str, str], status: str = "completed"
) -> None:
    """Tool calls of one response: call id, name, arguments."""
    for index, (call_id, name, arguments) in enumerate(asked):
        item = wire.Item(
            type="function_call",
            id=f"F-{call_id}",
            call_id=call_id,
            name=name,
            arguments=arguments,
            status=status,
        )
        await service.send(
            wire.ResponseOutputItemAdded(response_id=response_id, output_index=index, item=item),
            wire.ResponseOutputItemDone(response_id=response_id, output_index=index, item=item),
        )


async def output(service: Service) -> tuple[str, str]:
    """The next tool output: call id and text."""
    create = await service.until(wire.ConversationItemCreate)
    assert create.item.type == "function_call_output"
    return str(create.item.call_id), str(create.item.output)


async def grant(service: Service, response_id: str) -> None:
    """Wait for a create, and grant it."""
    create = await service.until(wire.ResponseCreate)
    assert create.response is not None
    assert isinstance(create.response.metadata, dict)
    await service.begin(response_id, **create.response.metadata)


async def asked_for_weather(service: Service, *asked: tuple[str, str, str]) -> None:
    await service.greet()
    await service.user_turn(500, 1_500)
    await service.begin("R1")
    await calls(service, "R1", *(asked or (("c1", "weather", '{"city": "Oslo"}'),)))
    await service.finish("R1")


async def spoken_result(service: Service) -> None:
    await asked_for_weather(service)
    assert await output(service) == ("c1", "sunny in Oslo")
    await grant(service, "R2")
    await service.speak("R2")
    await service.finish("R2")
    await service.read_on()


def test_a_result_is_sent_at_once_and_starts_the_next_response() -> None:
    service, ear = call(spoken_result, mic=Mic(4.0), tools=(weather, stuck))

    update = service.got[0]
    assert isinstance(update, wire.SessionUpdate)
    assert update.session.tools == [weather.wire, stuck.wire]
    assert ear.of(ToolCall) == [
        ToolCall(call_id="c1", name="weather", arguments='{"city": "Oslo"}', turn=1)
    ]
    (result,) = ear.of(ToolResult)
    assert result == ToolResult(call_id="c1", name="weather", output="sunny in Oslo")
    assert result.at_ns - ear.of(ToolCall)[0].at_ns == 1_000_000_000
    assert [out.response_id for out in ear.of(AudioOut)] == ["R2"]


def test_calls_of_one_response_run_side_by_side_and_are_answered_together() -> None:
    async def three(service: Service) -> None:
        await asked_for_weather(
            service,
            ("c1", "weather", '{"city": "Oslo"}'),
            ("c2", "stuck", ""),
            ("c3", "weather", '{"town": "Rome"}'),
            ("c4", "horoscope", "{}"),
            ("c1", "weather", '{"city": "Oslo"}'),  # said twice
        )
        told = dict([await output(service) for _ in range(4)])
        assert told["c1"] == "sunny in Oslo"
        assert told["c2"] == "error: stuck took longer than 2 s"
        assert "unknown field `town`" in told["c3"]
        assert told["c4"] == "error: there is no tool named horoscope"
        await grant(service, "R2")
        await service.finish("R2")
        await service.read_on()

    service, ear = call(three, mic=Mic(6.0), tools=(weather, stuck))

    assert sum(isinstance(event, wire.ResponseCreate) for event in service.got) == 1
    assert [result.call_id for result in ear.of(ToolResult)] == ["c3", "c4", "c1", "c2"]
    assert ear.of(Problem) == []


def test_a_result_waits_for_the_end_of_the_users_speech_and_its_answer_may_tell_it() -> None:
    async def speaks_meanwhile(service: Service) -> None:
        await asked_for_weather(service)
        await service.send(wire.InputAudioBufferSpeechStarted(item_id="U2", audio_start_ms=2_000))
        assert await output(service) == ("c1", "sunny in Oslo")
        await service.until(wire.InputAudioBufferAppend, audio_ms=4_000)
        await service.send(
            wire.InputAudioBufferSpeechStopped(item_id="U2", audio_end_ms=4_000),
            wire.InputAudioBufferCommitted(item_id="U2"),
        )
        await service.begin("R2")  # by itself: it has seen the output
        await service.finish("R2")
        await service.read_on()

    service, _ = call(speaks_meanwhile, mic=Mic(6.0), tools=(weather,))

    assert not any(isinstance(event, wire.ResponseCreate) for event in service.got)


def test_cutting_the_voice_leaves_a_running_tool_alone() -> None:
    async def cut_while_running(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await calls(service, "R1", ("c1", "weather", '{"city": "Oslo"}'))
        await service.speak("R1")  # "one moment, please": the ear cuts it
        await service.until(wire.ResponseCancel)
        await service.finish("R1", "cancelled")
        assert await output(service) == ("c1", "sunny in Oslo")
        await grant(service, "R2")
        await service.speak("R2")
        await service.finish("R2")
        await service.read_on()

    ear = Ear(cut_at=1, onset_sample=2_000 * 24)
    service, _ = call(cut_while_running, mic=Mic(5.0), ear=ear, tools=(weather,))

    assert [result.output for result in ear.of(ToolResult)] == ["sunny in Oslo"]
    assert [out.response_id for out in ear.of(AudioOut)] == ["R1", "R2"]
    assert not any(isinstance(e, wire.ConversationItemDelete) for e in service.got)


def test_a_call_that_is_not_whole_never_runs() -> None:
    async def broken_off(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await calls(service, "R1", ("c1", "weather", '{"city": "Os'), status="incomplete")
        await service.finish("R1", "incomplete")
        await service.read_on()

    service, ear = call(broken_off, mic=Mic(4.0), tools=(weather,))

    assert ear.of(ToolCall) == []
    assert not any(isinstance(event, wire.ConversationItemCreate) for event in service.got)


def test_a_call_of_a_response_that_was_cut_is_taken_out_of_the_conversation() -> None:
    async def late_call(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await service.speak("R1")
        await service.until(wire.ResponseCancel)
        item = wire.Item(
            type="function_call",
            id="F1",
            call_id="c1",
            name="weather",
            arguments='{"city": "Oslo"}',
            status="completed",
        )
        await service.send(
            wire.ResponseOutputItemDone(response_id="R1", item=item),
            wire.ResponseDone(
                response=wire.Response(
                    id="R1", status="cancelled", conversation_id="c", output=[item]
                )
            ),
        )
        await service.read_on()

    ear = Ear(cut_at=1, onset_sample=2_000 * 24)
    service, _ = call(late_call, mic=Mic(4.0), ear=ear, tools=(weather,))

    assert ear.of(ToolCall) == []
    assert wire.ConversationItemDelete(item_id="F1") in service.got


def test_a_tool_outlives_its_socket_and_its_result_reaches_the_next_one() -> None:
    async def lost(service: Service) -> None:
        if service.n_sockets == 1:
            await asked_for_weather(service)
            await service.hang_up()
            return
        await service.greet()
        said = await service.until(wire.ConversationItemCreate)
        assert said.item.content is not wire.UNSET
        assert said.item.content[0].type == "input_audio"  # transcription is off
        create = await service.until(wire.ConversationItemCreate)
        assert (create.item.type, create.item.call_id) == ("function_call", "c1")
        assert await output(service) == ("c1", "sunny in Oslo")
        await grant(service, "R2")
        await service.speak("R2")
        await service.finish("R2")
        await service.read_on()

    _, ear = call(lost, mic=Mic(5.0), tools=(weather,))

    assert [out.response_id for out in ear.of(AudioOut)] == ["R2"]


def test_a_tool_that_the_application_runs_is_answered_by_a_frame() -> None:
    declared = {"type": "function", "name": "lights", "parameters": {"type": "object"}}

    async def session() -> tuple[Service, Ear]:
        ear = Ear()
        service = Service(script)
        stage = Realtime(SessionSettings(tools=(declared,)), key="k", connect=service.connect)
        pipeline = Pipeline(Mic(5.0), stage, ear)

        def answer(what: str, stage: str, frame: object) -> None:
            if what == "emitted" and isinstance(frame, ToolCall):
                asked.set()

        asked = anyio.Event()
        pipeline.observe(answer)
        async with pipeline:
            await asked.wait()
            assert stage.statistics().tools_running == 1
            pipeline.emit(ToolResult(call_id="c1", name="lights", output="on"))
            await anyio.sleep(4)
            assert stage.statistics().tools_running == 0
        return service, ear

    async def script(service: Service) -> None:
        await asked_for_weather(service, ("c1", "lights", "{}"))
        assert await output(service) == ("c1", "on")
        await grant(service, "R2")
        await service.finish("R2")
        await service.read_on()

    service, _ = run_virtual(session)

    assert sum(isinstance(event, wire.ResponseCreate) for event in service.got) == 1


def test_two_tools_of_one_name_are_refused_when_the_stage_is_made() -> None:
    with pytest.raises(LocalProtocolError, match="two tools"):
        Realtime(tools=(weather, weather))
