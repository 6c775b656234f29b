"""The Realtime stage against a scripted service, in virtual time, over memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import pytest

from framepipe import Pipeline
from framepipe.errors import (
    FrameError,
    ProcessorError,
    RemoteProtocolError,
    TransportBroken,
)
from framepipe.frames import (
    NS_PER_S,
    AudioDone,
    AudioIn,
    AudioOut,
    ConnectionState,
    Hold,
    InterruptionReport,
    Problem,
    Release,
    ReplyPending,
    SpeechStarted,
)
from framepipe.realtime import events as wire
from framepipe.realtime.connection import Connection
from framepipe.realtime.session import SessionSettings
from framepipe.testing import run_virtual
from framepipe_processors.realtime import Realtime
from tests.realtime_service import Ear, Mic, Service, call, one_turn


def test_a_spoken_turn_is_answered_in_a_turn_of_the_engine() -> None:
    service, ear = call(one_turn)

    assert [state.state for state in ear.of(ConnectionState)] == ["connecting", "open", "closed"]
    pending = ReplyPending(turn=1, response_id="R1", item_ids=("U1",))
    assert ear.of(ReplyPending) == [pending]
    assert [(out.turn, out.n_samples) for out in ear.of(AudioOut)] == [(1, 4_800)]
    assert ear.of(AudioDone) == [AudioDone(turn=1, item_id="A-R1", n_samples=4_800)]
    assert ear.of(SpeechStarted) == [
        SpeechStarted(source="server", onset_sample=12_000, item_id="U1")
    ]
    assert service.audio_ms == 3_000


def test_the_session_goes_out_before_any_audio_and_the_key_in_a_header_only() -> None:
    service, ear = call(one_turn)

    assert isinstance(service.got[0], wire.SessionUpdate)
    assert service.headers == {"Authorization": "Bearer sk-secret"}
    assert service.url == "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"
    assert "secret" not in repr(ear.frames)
    assert "secret" not in repr(Realtime(key="sk-secret"))


def test_audio_from_before_the_connection_is_open_is_not_lost() -> None:
    async def slow(service: Service) -> None:
        await anyio.sleep(2)
        await one_turn(service)

    service, _ = call(slow)

    assert service.audio_ms == 3_000


def test_a_hole_in_the_microphone_audio_is_silence_on_the_wire_and_a_problem_here() -> None:
    service, ear = call(one_turn, mic=Mic(3.0, lost=range(10, 15)))

    assert service.audio_ms == 3_000
    assert [problem.code for problem in ear.of(Problem)] == ["audio_gap"]


def test_an_interruption_truncates_cancels_and_is_reported() -> None:
    async def interrupted(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await service.speak("R1")
        await service.speak("R1")
        cancel = await service.until(wire.ResponseCancel)
        assert cancel.response_id == "R1"
        await service.speak("R1", 300)  # late
        await anyio.sleep(0.2)
        await service.finish("R1", "cancelled")
        await service.read_on()

    service, ear = call(interrupted, mic=Mic(4.0), ear=Ear(cut_at=2, onset_sample=2_100 * 24))

    orders = [e for e in service.got if not isinstance(e, wire.InputAudioBufferAppend)]
    assert orders[1:] == [
        wire.ConversationItemTruncate(item_id="A-R1", content_index=0, audio_end_ms=200),
        wire.ResponseCancel(event_id="cancel-1", response_id="R1"),
    ]
    assert sum(out.n_samples for out in ear.of(AudioOut)) == 400 * 24
    (report,) = ear.of(InterruptionReport)
    assert report.verdict == "cut"
    assert report.late_audio_dropped_ms == 300
    assert report.heard_ms == 200
    assert report.audio_end_ms == 200
    assert report.cancel_to_ack_ns == NS_PER_S // 5


def test_an_answer_that_the_service_owes_is_asked_for() -> None:
    async def forgetful(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        create = await service.until(wire.ResponseCreate)
        assert create.response is not None
        assert isinstance(create.response.metadata, dict)
        await service.begin("R1", **create.response.metadata)
        await service.speak("R1")
        await service.finish("R1")
        await service.read_on()

    _, ear = call(forgetful)

    assert len(ear.of(AudioOut)) == 1


def test_the_end_of_the_microphone_waits_for_the_answer_to_the_last_words() -> None:
    async def slow_to_answer(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 2_500)  # 500 ms of silence are exactly the last
        await anyio.sleep(0.1)
        await service.begin("R1")
        await anyio.sleep(5)
        await service.speak("R1")
        await service.finish("R1")
        await service.read_on()

    _, ear = call(slow_to_answer)

    assert len(ear.of(AudioOut)) == 1
    assert ear.of(Problem) == []


def test_a_microphone_that_ends_in_mid_word_is_followed_by_silence() -> None:
    async def patient(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 2_990)
        await service.begin("R1")
        await service.speak("R1")
        await service.finish("R1")
        await service.read_on()

    service, ear = call(patient)

    assert len(ear.of(AudioOut)) == 1
    assert service.audio_ms == 3_800


def test_an_answer_that_never_ends_is_not_waited_for_for_ever() -> None:
    async def endless(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await service.read_on()

    _, ear = call(endless)

    assert [problem.code for problem in ear.of(Problem)] == ["unfinished"]


def test_text_that_is_no_event_is_a_problem_and_the_call_goes_on() -> None:
    async def babbling(service: Service) -> None:
        await service.greet()
        await service.connection.send("babble")
        await service.connection.send('{"type": "response.created"}')
        await service.connection.send('{"type": "brand.new"}')
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await service.speak("R1")
        await service.finish("R1")
        await service.read_on()

    _, ear = call(babbling)

    assert [problem.code for problem in ear.of(Problem)] == ["malformed_event"] * 2
    assert len(ear.of(AudioOut)) == 1


def failure(script: Callable[[Service], Awaitable[None]]) -> BaseException:
    with pytest.raises(ProcessorError) as caught:
        call(script, mic=Mic(200.0))
    cause = caught.value.__cause__
    assert cause is not None
    assert "\n" not in str(cause)
    assert "secret" not in str(caught.value)
    return cause


def test_a_service_that_closes_again_and_again_ends_the_call_with_its_reason() -> None:
    async def closes(service: Service) -> None:
        await service.greet()
        await service.connection.aclose(1001, "The session is over.")

    cause = failure(closes)

    assert isinstance(cause, TransportBroken)
    assert str(cause) == "the peer closed the connection with code 1001: The session is over."


def test_a_service_that_says_nothing_is_left_after_ten_seconds() -> None:
    cause = failure(Service.read_on)

    assert isinstance(cause, TransportBroken)
    assert "said nothing for 10 s" in str(cause)


def test_a_service_that_refuses_the_key_is_quoted_without_it() -> None:
    async def refuses(service: Service) -> None:
        detail = wire.ErrorDetail(code="invalid_api_key", message="Bad key: sk-secret")
        await service.send(wire.ErrorEvent(error=detail))
        await service.read_on()

    cause = failure(refuses)

    assert isinstance(cause, RemoteProtocolError)
    assert str(cause) == "the service refuses to go on: invalid_api_key: Bad key: …"


def test_an_hour_that_is_over_at_once_every_time_is_a_broken_transport() -> None:
    async def expires(service: Service) -> None:
        await service.greet()
        detail = wire.ErrorDetail(code="session_expired", message="60 minutes.")
        await service.send(wire.ErrorEvent(error=detail))
        await service.read_on()

    assert isinstance(failure(expires), TransportBroken)


def test_without_a_key_the_service_is_not_even_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    with pytest.raises(ProcessorError, match=r"no key for api\.openai\.com: set OPENAI_API_KEY"):
        run_virtual(Pipeline(Mic(1.0), Realtime(), Ear()).run)


def test_a_model_in_the_url_is_left_alone() -> None:
    assert "model=mine&x=1'" in repr(Realtime(url="ws://localhost/v1?model=mine&x=1"))
    assert "?x=1&model=gpt-realtime-2.1'" in repr(Realtime(url="ws://localhost/v1?x=1"))


@pytest.mark.parametrize("coding", ["audio/pcmu", "audio/pcma"])
def test_a_telephone_call_takes_and_makes_8_khz_and_sends_one_byte_a_sample(
    coding: Literal["audio/pcmu", "audio/pcma"],
) -> None:
    async def telephone(service: Service) -> None:
        await service.greet()
        append = await service.until(wire.InputAudioBufferAppend)
        assert len(wire.decode_audio(append.audio)) == 160
        await service.begin("R1")
        await service.speak("R1", ms=10)  # 480 bytes
        await service.finish("R1")
        await service.read_on()

    settings = SessionSettings(input_format=coding, output_format=coding)
    stage = Realtime(settings, key="k")
    assert (stage.rates_hz, stage.made_rates_hz) == ({AudioIn: 8_000}, {AudioOut: 8_000})
    _, ear = call(telephone, mic=Mic(1.0, rate_hz=8_000), settings=settings)

    (audio,) = ear.of(AudioOut)
    assert (audio.rate_hz, audio.n_samples) == (8_000, 480)


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (24_000, 2)])
def test_audio_of_another_rate_or_in_stereo_is_the_callers_bug(rate_hz: int, channels: int) -> None:
    with pytest.raises(FrameError, match=r"takes 24000 Hz mono: put Resample\(24000\)"):
        Realtime().hear(AudioIn(pcm=bytes(8), rate_hz=rate_hz, channels=channels))


class Narrow(Service):
    """A service whose line takes half a second for each message."""

    @asynccontextmanager
    async def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Connection, None]:
        async with super().connect(url, headers) as connection:
            yield _Narrow(connection)


class _Narrow:
    def __init__(self, inner: Connection) -> None:
        self._inner = inner

    async def send(self, text: str) -> None:
        await anyio.sleep(0.5)
        await self._inner.send(text)

    async def receive(self) -> str:
        return await self._inner.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.aclose(code, reason)


def test_on_a_narrow_line_a_cancel_does_not_wait_behind_the_audio() -> None:
    async def speaks_into_the_silence(service: Service) -> None:
        await service.greet()
        await service.until(wire.InputAudioBufferAppend, audio_ms=3_000)
        await service.begin("R1")
        await service.speak("R1")
        await service.finish("R1")
        await service.read_on()

    service = Narrow(speaks_into_the_silence)
    # After the hole comes a minute of silence, second by second.
    mic = Mic(70.0, lost=range(5, 3_005))
    stage = Realtime(key="k", seed=1, connect=service.connect)
    run_virtual(Pipeline(mic, stage, Ear(cut_at=1)).run)

    kinds = [type(event) for event in service.got]
    cancelled = kinds.index(wire.ResponseCancel)
    assert kinds[:cancelled].count(wire.InputAudioBufferAppend) < 12
    assert kinds[cancelled:].count(wire.InputAudioBufferAppend) > 50


def test_a_stuck_socket_costs_the_oldest_audio_only() -> None:
    stage = Realtime()
    for second in range(100):
        stage.hear(AudioIn(pcm=bytes(48_000), rate_hz=24_000, start_sample=second * 24_000))

    ring = stage._sockets.ring  # pyright: ignore[reportPrivateUsage]
    assert ring.start_sample == 70 * 24_000
    assert ring.take()[0] == 70 * 24_000


def test_a_mute_that_was_undone_is_reported() -> None:
    stage = Realtime()
    stage.note_onset(SpeechStarted(source="local", onset_sample=100))
    stage.note_hold(Hold())

    release, report = stage.note_release(Release())

    assert release == Release()
    assert isinstance(report, InterruptionReport)
    assert report.verdict == "rejected"


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_closes_its_connection_on_both_backends() -> None:
    service = Service(Service.read_on)
    pipeline = Pipeline(Mic(60.0), Realtime(key="k", connect=service.connect), Ear())
    with anyio.move_on_after(0.05) as scope:
        await pipeline.run()

    assert scope.cancelled_caught
