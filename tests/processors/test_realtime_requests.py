"""What an application asks of the session in the middle of a call, in virtual time."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from framepipe import Pipeline
from framepipe.errors import (
    LocalProtocolError,
    ProcessorError,
    RemoteProtocolError,
    TransportBroken,
)
from framepipe.frames import Problem, ReplyPending, Say, TextIn, Usage
from framepipe.realtime import events as wire
from framepipe.realtime.address import azure_url
from framepipe.realtime.client_protocol import MARK, SAY
from framepipe.realtime.items import system_text, user_image, user_text
from framepipe.realtime.session import SessionSettings
from framepipe.testing import run_virtual
from framepipe_processors.realtime import Realtime, RealtimeStatistics
from tests.realtime_service import Ear, Mic, Service

KEY = "sk-secret"


def during(
    script: Callable[[Service], Awaitable[None]],
    act: Callable[[Realtime, Pipeline], Awaitable[object]],
    **options: Any,
) -> tuple[Service, Ear, object]:
    """A call in which the application does something after half a second."""
    service, ear = Service(script), Ear()
    stage = Realtime(key=KEY, seed=1, connect=service.connect, **options)

    async def session() -> object:
        pipeline = Pipeline(Mic(5.0), stage, ear)
        async with pipeline:
            await anyio.sleep(0.5)
            result = await act(stage, pipeline)
            await anyio.sleep(2)
            return result

    return service, ear, run_virtual(session)


async def nothing(stage: Realtime, pipeline: Pipeline) -> None:
    """Only listen."""


async def listens(service: Service) -> None:
    await service.greet()
    await service.read_on()


def creates(service: Service) -> list[wire.ResponseCreate]:
    """What was asked for; a service that says nothing is asked again after a while."""
    found = {e.event_id: e for e in service.got if isinstance(e, wire.ResponseCreate)}
    return list(found.values())


def items(service: Service) -> list[wire.ConversationItemCreate]:
    return [event for event in service.got if isinstance(event, wire.ConversationItemCreate)]


def test_the_greeting_is_the_first_thing_that_is_asked_for() -> None:
    service, _, _ = during(listens, nothing, greeting="Hello!")

    assert [event.type for event in service.got[:2]] == ["session.update", "response.create"]
    (create,) = creates(service)
    assert create.response is not None
    assert create.response.instructions == f"{SAY}\n\nHello!"
    assert create.response.tool_choice == "none"


def test_typed_words_become_an_item_and_are_answered_unless_they_need_not_be() -> None:
    async def types(stage: Realtime, pipeline: Pipeline) -> None:
        pipeline.emit(TextIn(text="by the way", respond=False))
        pipeline.emit(TextIn(text="what time is it?"))
        pipeline.emit(Say(text="One moment."))

    service, _, _ = during(listens, types)

    texts = [item.item.content[0].text for item in items(service) if item.item.content]
    assert texts == ["by the way", "what time is it?"]
    assert len(creates(service)) == 1  # the second waits for the first


def test_a_text_that_must_be_heard_is_announced_as_uninterruptible() -> None:
    async def grants(service: Service) -> None:
        await service.greet()
        create = await service.until(wire.ResponseCreate)
        await service.begin("R1", **{MARK: str(create.event_id)})
        await service.read_on()

    async def says(stage: Realtime, pipeline: Pipeline) -> None:
        pipeline.emit(Say(text="This call is recorded.", interruptible=False))

    _, ear, _ = during(grants, says)

    assert ear.of(ReplyPending) == [ReplyPending(turn=1, interruptible=False, response_id="R1")]


def test_items_are_added_in_a_place_and_deleted() -> None:
    async def edits(stage: Realtime, pipeline: Pipeline) -> None:
        first = stage.add(user_text("one"))
        stage.add(system_text("zero"), after="root")
        stage.add(user_image(b"\x89PNG", text="look"), after=first, respond=True)
        stage.delete(first)
        with pytest.raises(LocalProtocolError, match="no item of the conversation"):
            stage.add(user_text("x"), after=first)
        with pytest.raises(LocalProtocolError, match="at most 32 characters"):
            stage.add(wire.Item(type="message", id="x" * 33))

    service, _, _ = during(listens, edits)

    assert [event.previous_item_id for event in items(service)] == [None, "root", "ours_1"]
    picture = items(service)[2].item
    assert picture.content is not wire.UNSET
    assert [part.type for part in picture.content] == ["input_text", "input_image"]
    assert str(picture.content[1].image_url).startswith("data:image/png;base64,iVBORw")
    assert wire.ConversationItemDelete(item_id="ours_1") in service.got
    assert len(creates(service)) == 1


def test_an_update_returns_when_the_service_has_taken_it_and_later_sockets_have_it_too() -> None:
    async def takes(service: Service) -> None:
        await service.greet()
        if service.n_sockets == 1:
            update = await service.until(wire.SessionUpdate)
            await anyio.sleep(0.3)
            await service.send(wire.SessionUpdated(session=update.session))
            await anyio.sleep(0.1)
            return await service.hang_up()
        return await service.read_on()

    async def update(stage: Realtime, pipeline: Pipeline) -> float:
        began = anyio.current_time()
        await stage.update(SessionSettings(instructions="Be brief."))
        return anyio.current_time() - began

    service, _, took = during(takes, update)

    assert took == pytest.approx(0.3)
    again = service.got_on[1][0]
    assert isinstance(again, wire.SessionUpdate)
    assert again.session.instructions == "Be brief."


def test_an_update_that_is_refused_raises_and_changes_nothing() -> None:
    async def refuses(service: Service) -> None:
        await service.greet()
        update = await service.until(wire.SessionUpdate)
        detail = wire.ErrorDetail(
            code="cannot_update_voice", message="No.", event_id=update.event_id
        )
        await service.send(wire.ErrorEvent(error=detail))
        await service.read_on()

    async def update(stage: Realtime, pipeline: Pipeline) -> None:
        with pytest.raises(RemoteProtocolError, match="not updated: cannot_update_voice: No"):
            await stage.update(SessionSettings(voice="other"))
        with pytest.raises(LocalProtocolError, match="input_format or output_format"):
            await stage.update(SessionSettings(output_format="audio/pcmu"))

    _, ear, _ = during(refuses, update)

    assert ear.of(Problem) == []  # who asked was told


def test_an_item_is_retrieved_with_its_audio_or_not_at_all() -> None:
    async def knows_one(service: Service) -> None:
        await service.greet()
        asked = await service.until(wire.ConversationItemRetrieve)
        part = wire.Part(type="input_audio", audio="AAAA")
        item = wire.Item(type="message", role="user", id=asked.item_id, content=[part])
        await service.send(wire.ConversationItemRetrieved(item=item))
        asked = await service.until(wire.ConversationItemRetrieve)
        detail = wire.ErrorDetail(
            code="item_retrieve_invalid_item_id", message="No.", event_id=asked.event_id
        )
        await service.send(wire.ErrorEvent(error=detail))
        await service.read_on()

    async def retrieve(stage: Realtime, pipeline: Pipeline) -> object:
        found = await stage.retrieve("U1")
        assert found is not None
        assert found.content is not wire.UNSET
        assert found.content[0].audio == "AAAA"
        return await stage.retrieve("nobody")

    _, _, missing = during(knows_one, retrieve)
    assert missing is None


def test_a_response_beside_the_conversation_is_given_to_who_asked_and_not_heard() -> None:
    async def answers_beside(service: Service) -> None:
        await service.greet()
        create = await service.until(wire.ResponseCreate)
        assert create.response is not None
        assert create.response.conversation == "none"
        assert isinstance(create.response.metadata, dict)
        assert create.response.metadata["topic"] == "mood"
        metadata = create.response.metadata
        assert MARK in metadata
        await service.send(
            wire.ResponseCreated(response=wire.Response(id="B1", metadata=metadata)),
            wire.ResponseOutputTextDelta(response_id="B1", item_id="I1", delta="hap"),
            wire.ResponseOutputTextDelta(response_id="B1", item_id="I1", delta="py"),
            wire.ResponseDone(
                response=wire.Response(
                    id="B1",
                    status="completed",
                    metadata=metadata,
                    usage=wire.ResponseUsage(
                        input_token_details=wire.InputTokens(text_tokens=7),
                        output_token_details=wire.OutputTokens(text_tokens=2),
                    ),
                )
            ),
        )
        create = await service.until(wire.ResponseCreate)
        detail = wire.ErrorDetail(code="invalid_value", message="No.", event_id=create.event_id)
        await service.send(wire.ErrorEvent(error=detail))
        await service.read_on()

    async def ask(stage: Realtime, pipeline: Pipeline) -> object:
        params = wire.ResponseParams(
            instructions="In one word: the user's mood?",
            output_modalities=["text"],
            metadata={"topic": "mood"},
        )
        mood = await stage.ask_beside(params)
        with pytest.raises(RemoteProtocolError, match="invalid_value: No"):
            await stage.ask_beside(params)
        assert stage.statistics() == RealtimeStatistics(
            responses=1, input_text_tokens=7, output_text_tokens=2
        )
        return mood

    _, ear, mood = during(answers_beside, ask)

    assert mood == "happy"
    assert ear.of(Usage) == [Usage(response_id="B1", input_text_tokens=7, output_text_tokens=2)]
    assert ear.n_audio == 0


def test_who_waits_when_the_socket_goes_is_told() -> None:
    async def goes(service: Service) -> None:
        await service.greet()
        if service.n_sockets == 1:
            await service.until(wire.ResponseCreate)
            return await service.hang_up()
        return await service.read_on()

    async def ask(stage: Realtime, pipeline: Pipeline) -> None:
        with pytest.raises(RemoteProtocolError, match="the connection is gone"):
            await stage.ask_beside(wire.ResponseParams(instructions="?"))

    during(goes, ask)


def test_nothing_is_asked_of_a_session_that_is_not_open() -> None:
    stage = Realtime(key=KEY)
    with pytest.raises(LocalProtocolError, match="no session is open"):
        run_virtual(stage.retrieve, "U1")
    assert stage.add(user_text("early")) == "ours_1"
    assert stage.statistics() == RealtimeStatistics()


def test_who_waits_at_the_end_of_the_call_is_told() -> None:
    service = Service(listens)
    stage = Realtime(key=KEY, connect=service.connect)

    async def session() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Pipeline(Mic(1.0), stage, Ear()).run)
            await anyio.sleep(0.5)
            with pytest.raises(TransportBroken, match="the call ended"):
                await stage.retrieve("U1")

    run_virtual(session)


# --- where the service is, and keys -----------------------------------------------------------


def address(**options: Any) -> tuple[str, dict[str, str]]:
    service = Service(listens)
    run_virtual(Pipeline(Mic(0.1), Realtime(connect=service.connect, **options), Ear()).run)
    return service.url, dict(service.headers)


def test_azure_has_its_own_form_and_its_own_header() -> None:
    url, headers = address(url=azure_url("mine"), model="my-deployment", key=KEY)

    assert url == "wss://mine.openai.azure.com/openai/v1/realtime?model=my-deployment"
    assert headers == {"api-key": KEY}
    assert address(base_url="https://mine.openai.azure.com", key=KEY, model="my-deployment") == (
        url,
        headers,
    )


def test_an_ephemeral_key_goes_as_a_bearer_everywhere() -> None:
    assert address(key="ek_1")[1] == {"Authorization": "Bearer ek_1"}
    assert address(url=azure_url("mine"), key="ek_1")[1] == {"Authorization": "Bearer ek_1"}


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.example.org/v1", "wss://api.example.org/v1/realtime?model=m"),
        ("http://localhost:8765/v1/", "ws://localhost:8765/v1/realtime?model=m"),
    ],
)
def test_a_base_url_is_what_other_clients_take(base_url: str, url: str) -> None:
    assert address(base_url=base_url, model="m", key="k")[0] == url


@pytest.mark.parametrize("options", [{"url": "ftp://x"}, {"url": "x"}, {"base_url": "https://"}])
def test_a_url_that_is_none_is_refused_when_the_stage_is_made(options: dict[str, str]) -> None:
    with pytest.raises(LocalProtocolError, match="is no URL of a service; write wss://host/path"):
        Realtime(**options)  # type: ignore[arg-type]


def test_two_urls_are_one_too_many() -> None:
    with pytest.raises(LocalProtocolError, match="give one of them"):
        Realtime(url="wss://a", base_url="https://b")


def test_a_key_is_in_no_log_no_frame_no_error_and_no_repr(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    shown: list[str] = []

    async def indiscreet(service: Service) -> None:
        await service.greet()
        said = f"you sent {KEY} and sk-of-the-environment"
        await service.send(
            wire.ErrorEvent(error=wire.ErrorDetail(code="invalid_value", message=said)),
            wire.ErrorEvent(error=wire.ErrorDetail(code="invalid_api_key", message=said)),
        )
        await service.read_on()

    service, ear = Service(indiscreet), Ear()
    stage = Realtime(
        url=f"wss://user:{KEY}@host/v1?api_key={KEY}", key=KEY, connect=service.connect
    )
    pipeline = Pipeline(Mic(5.0), stage, ear)
    pipeline.observe(lambda what, stage, frame: shown.append(repr(frame)))
    with caplog.at_level(logging.DEBUG), pytest.raises(ProcessorError) as caught:
        run_virtual(pipeline.run)

    assert ear.of(Problem)
    shown += [repr(stage), repr(pipeline), str(caught.value), repr(caught.value.__cause__)]
    shown += [repr(frame) for frame in ear.frames] + [caplog.text]
    assert not [text for text in shown if KEY in text or "sk-of-the-environment" in text]
