"""A socket that is lost, in virtual time: what the next one is told, and what the user notices."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from framepipe import Pipeline
from framepipe.errors import ProcessorError, TransportBroken
from framepipe.frames import (
    NS_PER_S,
    AudioDone,
    AudioIn,
    AudioOut,
    ConnectionState,
    Problem,
    ReplyPending,
    SpeechStarted,
    TextIn,
    Transcript,
)
from framepipe.realtime import events as wire
from framepipe.realtime.client_protocol import MARK
from framepipe.realtime.connection import Connection, HandshakeRefused
from framepipe.realtime.reconnect import RetryPolicy
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.testing import run_virtual
from framepipe_processors.realtime import Realtime
from tests.interruption_call import Outside
from tests.realtime_service import Ear, Mic, Service, call

SETTINGS = SessionSettings(instructions="Be brief.", transcription=Transcription())


def scripts(
    *one_per_socket: Callable[[Service], Awaitable[None]],
) -> Callable[[Service], Awaitable[None]]:
    async def play(service: Service) -> None:
        await one_per_socket[min(service.n_sockets, len(one_per_socket)) - 1](service)

    return play


def states(ear: Ear) -> list[str]:
    return [state.state for state in ear.of(ConnectionState)]


def orders(service: Service, socket: int) -> list[wire.ClientEvent]:
    return [e for e in service.got_on[socket] if not isinstance(e, wire.InputAudioBufferAppend)]


def seeded(service: Service, socket: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for event in orders(service, socket):
        if isinstance(event, wire.ConversationItemCreate) and isinstance(event.item.content, list):
            found.append((str(event.item.role), str(event.item.content[0].text)))
    return found


async def words(service: Service, item_id: str, text: str) -> None:
    await service.send(wire.InputAudioTranscriptionCompleted(item_id=item_id, transcript=text))


async def says(service: Service, response_id: str, text: str, ms: int) -> None:
    await service.send(
        wire.ResponseOutputAudioTranscriptDelta(
            response_id=response_id, item_id=f"A-{response_id}", delta=text
        )
    )
    await service.speak(response_id, ms)


async def answered_and_lost(service: Service) -> None:
    await service.greet()
    await service.user_turn(500, 1_500)
    await service.begin("R1")
    await words(service, "U1", "what is the time")
    await says(service, "R1", "It is noon.", 1_000)
    await service.finish("R1")
    await service.until(wire.InputAudioBufferAppend, audio_ms=3_000)
    await service.hang_up()


async def greets_and_listens(service: Service) -> None:
    await service.greet()
    await service.read_on()


def test_a_new_socket_has_the_session_the_conversation_and_the_audio_since_the_last_words() -> None:
    service, ear = call(
        scripts(answered_and_lost, greets_and_listens), mic=Mic(5.0), settings=SETTINGS
    )

    assert states(ear) == ["connecting", "open", "reconnecting", "open", "closed"]
    reason = ear.of(ConnectionState)[2].reason
    assert reason == "the peer closed the connection with code 1001: on purpose"
    first, second = (service.got_on[n][0] for n in (0, 1))
    assert first == second
    assert seeded(service, 1) == [("user", "what is the time"), ("assistant", "It is noon.")]
    # 2.0 s is where the item was committed; the rest of the call follows without a gap.
    assert service.audio_ms == 3_000
    assert ear.of(Problem) == []


def test_what_the_new_service_hears_has_the_position_of_the_capture_clock() -> None:
    async def hears(service: Service) -> None:
        await service.greet()
        await service.until(wire.InputAudioBufferAppend, audio_ms=1_500)
        await service.send(
            wire.InputAudioBufferSpeechStarted(item_id="U1", audio_start_ms=700),
            wire.InputAudioBufferSpeechStopped(item_id="U1", audio_end_ms=1_900),
            wire.InputAudioBufferCommitted(item_id="U1"),
        )
        await service.begin("R1")
        await service.speak("R1")
        await service.finish("R1")
        await service.read_on()

    _, ear = call(scripts(answered_and_lost, hears), mic=Mic(5.0))

    assert [started.onset_sample // 24 for started in ear.of(SpeechStarted)] == [500, 3_000]


def test_ids_of_the_old_socket_mean_nothing_on_the_new_one() -> None:
    async def speaks_on(service: Service) -> None:
        await service.greet()
        await service.speak("R1")  # of the socket before
        await service.send(wire.ResponseDone(response=wire.Response(id="R1", conversation_id="c")))
        await service.begin("R1")  # a new one, whatever it is called
        await service.speak("R1", 400)
        await service.finish("R1")
        await service.read_on()

    _, ear = call(scripts(answered_and_lost, speaks_on), mic=Mic(5.0))

    assert [(out.turn, out.n_samples // 24, out.start_sample) for out in ear.of(AudioOut)] == [
        (1, 1_000, 0),
        (2, 400, 0),
    ]


async def breaks_off(service: Service) -> None:
    await service.greet()
    await service.user_turn(500, 1_500)
    await words(service, "U1", "tell a story")
    await service.begin("R1")
    await says(service, "R1", "Once upon a time there was a king who had no crown.", 1_000)
    await service.hang_up(1011)


def test_an_answer_that_breaks_off_plays_on_and_is_told_as_far_as_it_had_come() -> None:
    service, ear = call(scripts(breaks_off, greets_and_listens), mic=Mic(4.0), settings=SETTINGS)

    assert [pending.turn for pending in ear.of(ReplyPending)] == [1]
    assert ear.of(AudioDone) == [AudioDone(turn=1, item_id="A-R1", n_samples=24_000)]
    assert [problem.code for problem in ear.of(Problem)] == ["answer_incomplete"]
    assert seeded(service, 1) == [("user", "tell a story"), ("assistant", "Once upon a")]
    assert not any(isinstance(event, wire.ResponseCreate) for event in orders(service, 1))


def test_an_answer_of_which_nothing_had_come_is_asked_for_again() -> None:
    async def silent(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await words(service, "U1", "hello")
        await service.begin("R1")
        await service.hang_up()

    async def answers(service: Service) -> None:
        await service.greet()
        create = await service.until(wire.ResponseCreate)
        assert create.response is not None
        assert isinstance(create.response.metadata, dict)
        await service.begin("R2", **create.response.metadata)
        await service.speak("R2")
        await service.finish("R2")
        await service.read_on()

    _, ear = call(scripts(silent, answers), mic=Mic(4.0), settings=SETTINGS)

    assert ear.of(AudioDone)[0] == AudioDone(turn=1)
    assert [out.turn for out in ear.of(AudioOut)] == [2]
    assert ear.of(Problem) == []


def test_the_middle_of_a_sentence_reaches_the_new_service_whole() -> None:
    async def lost_in_speech(service: Service) -> None:
        await service.greet()
        await service.until(wire.InputAudioBufferAppend, audio_ms=1_000)
        await service.send(wire.InputAudioBufferSpeechStarted(item_id="U1", audio_start_ms=500))
        await service.until(wire.InputAudioBufferAppend, audio_ms=3_000)
        await service.hang_up()

    service, ear = call(scripts(lost_in_speech, greets_and_listens), mic=Mic(5.0))

    assert service.audio_ms == 5_000
    assert ear.of(Problem) == []


def test_what_the_ring_does_not_hold_any_more_is_told_as_lost() -> None:
    async def late(service: Service) -> None:
        await service.greet()
        await service.until(wire.InputAudioBufferAppend, audio_ms=40_000)
        await service.hang_up()

    service, ear = call(scripts(late, greets_and_listens), mic=Mic(41.0))

    (problem,) = ear.of(Problem)
    assert problem.code == "audio_lost"
    # 40 s captured and 30 s kept; everything after 10 s and the pause is there.
    lost_ms = int(problem.message.split()[0])
    assert 10_000 < lost_ms < 10_400
    assert lost_ms + service.audio_ms == 41_000


class Gate(Service):
    """A service whose door is shut for a while."""

    def __init__(
        self, script: Callable[[Service], Awaitable[None]], *refusals: TransportBroken
    ) -> None:
        super().__init__(script)
        self.refusals = list(refusals)
        self.knocked_ns: list[int] = []

    @asynccontextmanager
    async def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Connection, None]:
        self.knocked_ns.append(round(anyio.current_time() * NS_PER_S))
        if self.n_sockets and self.refusals:
            raise self.refusals.pop(0)
        async with super().connect(url, headers) as connection:
            yield connection


def knock(
    gate: Service, mic: Mic | None = None, stages: Sequence[object] = (), **options: object
) -> Ear:
    ear = Ear()
    stage = Realtime(key="sk-secret", seed=1, connect=gate.connect, **options)  # type: ignore[arg-type]
    run_virtual(Pipeline(mic or Mic(20.0), *stages, stage, ear).run)
    return ear


class Jammed:
    """A socket that takes nothing any more from the first truncate on."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner

    async def send(self, text: str) -> None:
        if "conversation.item.truncate" in text:
            await anyio.sleep_forever()
        await self._inner.send(text)

    async def receive(self) -> str:
        return await self._inner.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._inner.aclose(code, reason)


class JammedFirst(Service):
    """A service whose first socket is jammed."""

    @asynccontextmanager
    async def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Connection, None]:
        async with super().connect(url, headers) as connection:
            yield Jammed(connection) if self.n_sockets == 1 else connection


def test_orders_that_a_lost_socket_did_not_take_are_not_for_the_next_one() -> None:
    async def is_lost_after_a_cut(service: Service) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await service.speak("R1", 400)
        await anyio.sleep(1)
        await service.hang_up()

    service = JammedFirst(scripts(is_lost_after_a_cut, greets_and_listens))
    ear = Ear(cut_at=1)
    stage = Realtime(SETTINGS, key="sk-secret", seed=1, connect=service.connect)
    run_virtual(Pipeline(Mic(6.0), stage, ear).run)

    assert service.n_sockets == 2
    old = (wire.ConversationItemTruncate, wire.ResponseCancel)
    assert not [order for order in orders(service, 1) if isinstance(order, old)]


def test_a_service_that_is_away_for_a_while_is_knocked_at_with_growing_pauses() -> None:
    away = [TransportBroken("nobody listens there")] * 4
    gate = Gate(scripts(answered_and_lost, greets_and_listens), *away)

    ear = knock(gate)

    assert states(ear).count("reconnecting") == 5
    pauses = [(b - a) / 1e6 for a, b in zip(gate.knocked_ns[1:], gate.knocked_ns[2:], strict=False)]
    assert len(pauses) == 4
    for pause, longest in zip(pauses, (500, 1_000, 2_000, 4_000), strict=True):
        assert longest / 2 <= pause <= longest
    assert ear.of(Problem) == []


def test_what_is_typed_while_the_service_is_away_is_answered_when_it_is_back() -> None:
    async def answers(service: Service) -> None:
        await service.greet()
        create = await service.until(wire.ResponseCreate)
        await service.begin("R2", **{MARK: str(create.event_id)})
        await service.speak("R2", 400)
        await service.finish("R2")
        await service.read_on()

    gate = Gate(scripts(answered_and_lost, answers), *[TransportBroken("nobody there")] * 2)
    ear = knock(gate, stages=(Outside((3_300, TextIn(text="and in Rome?"))),))

    asked = [told.at_ns for told in ear.of(Transcript) if told.typed]
    back = [state.at_ns for state in ear.of(ConnectionState) if state.state == "open"][1]
    assert len(asked) == 1
    assert asked[0] < back
    assert seeded(gate, 1)[-1] == ("user", "and in Rome?")
    assert len([event for event in orders(gate, 1) if isinstance(event, wire.ResponseCreate)]) == 1
    assert sum(out.n_samples for out in ear.of(AudioOut) if out.turn == 2) == 400 * 24


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_service_that_refuses_the_client_is_not_asked_again(status: int) -> None:
    refusal = HandshakeRefused(f"it refused with {status}", status)
    gate = Gate(answered_and_lost, refusal)

    with pytest.raises(ProcessorError) as caught:
        knock(gate)

    assert caught.value.__cause__ is refusal
    assert len(gate.knocked_ns) == 2


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_service_that_is_busy_is_asked_again(status: int) -> None:
    refusal = HandshakeRefused(f"it refused with {status}", status)
    gate = Gate(scripts(answered_and_lost, greets_and_listens), refusal)

    assert states(knock(gate))[-2:] == ["open", "closed"]


@pytest.mark.parametrize("status", [200, 302])
def test_a_web_page_where_the_service_should_be_ends_the_beginning(status: int) -> None:
    refusal = HandshakeRefused(f"it refused with {status}", status)
    gate = Gate(greets_and_listens, refusal)
    gate.n_sockets = 1  # the first knock is refused, too

    with pytest.raises(ProcessorError) as caught:
        knock(gate)

    assert caught.value.__cause__ is refusal
    assert len(gate.knocked_ns) == 1


def test_patience_ends_with_the_reason_of_the_last_failure() -> None:
    gate = Gate(answered_and_lost, *[TransportBroken("nobody listens there")] * 100)

    with pytest.raises(ProcessorError) as caught:
        knock(gate, Mic(60.0), retry=RetryPolicy(limit_s=5))

    assert str(caught.value.__cause__) == "nobody listens there"
    assert gate.knocked_ns[-1] - gate.knocked_ns[1] < 5 * NS_PER_S


def test_an_expired_session_is_a_new_socket_and_a_fatal_error_the_end() -> None:
    async def expires(service: Service) -> None:
        await service.greet()
        detail = wire.ErrorDetail(code="session_expired", message="60 minutes.")
        await service.send(wire.ErrorEvent(error=detail))
        await service.read_on()

    service, ear = call(scripts(expires, greets_and_listens))

    assert service.n_sockets == 2
    assert ear.of(ConnectionState)[2].reason.endswith("session_expired: 60 minutes.")

    async def broke(service: Service) -> None:
        await service.greet()
        detail = wire.ErrorDetail(code="insufficient_quota", message="Pay.")
        await service.send(wire.ErrorEvent(error=detail))
        await service.read_on()

    with pytest.raises(ProcessorError, match="insufficient_quota: Pay"):
        call(broke)


def hour(expires_at: int) -> Callable[[Service], Awaitable[None]]:
    async def keeps_time(service: Service) -> None:
        session = wire.Session(expires_at=expires_at)
        await service.send(wire.SessionCreated(session=session))
        await service.until(wire.SessionUpdate)
        await service.send(wire.SessionUpdated(session=session))
        await service.read_on()

    return keeps_time


def test_a_session_is_renewed_before_it_expires() -> None:
    service, ear = call(
        scripts(hour(1_000_040), greets_and_listens), mic=Mic(60.0), unix_s=lambda: 1_000_000.0
    )

    assert states(ear) == ["connecting", "open", "reconnecting", "open", "closed"]
    state = ear.of(ConnectionState)[2]
    assert state.reason == "the session is renewed before it expires"
    assert state.at_ns == 30 * NS_PER_S
    assert service.n_sockets == 2


def test_a_renewal_waits_for_the_end_of_the_answer_but_not_for_ever() -> None:
    async def talks(service: Service, seconds: float) -> None:
        await service.send(wire.SessionCreated(session=wire.Session(expires_at=1_000_080)))
        await service.until(wire.SessionUpdate)
        await service.until(wire.InputAudioBufferAppend, audio_ms=50_000)
        await service.begin("R1")
        await service.speak("R1")
        await anyio.sleep(seconds)
        await service.finish("R1")
        await service.read_on()

    def renewed_s(seconds: float) -> float:
        async def first(service: Service) -> None:
            await talks(service, seconds)

        _, ear = call(scripts(first, greets_and_listens), mic=Mic(90.0), unix_s=lambda: 1_000_000.0)
        return ear.of(ConnectionState)[2].at_ns / NS_PER_S

    assert renewed_s(15.0) == pytest.approx(65.0, abs=0.1)
    assert renewed_s(60.0) == pytest.approx(70.0, abs=0.1)


def test_a_clock_that_disagrees_with_the_service_is_not_believed() -> None:
    service, _ = call(hour(100), mic=Mic(60.0), unix_s=lambda: 1_000_000.0)
    assert service.n_sockets == 1


def test_a_call_that_is_over_needs_no_new_socket() -> None:
    async def goes(service: Service) -> None:
        await service.greet()
        await service.until(wire.InputAudioBufferAppend, audio_ms=2_980)
        await anyio.sleep(0.05)
        await service.hang_up()

    service, ear = call(goes, mic=Mic(3.0))

    assert service.n_sockets == 1
    assert states(ear)[-1] == "closed"


def test_the_agent_may_be_cut_between_two_sockets() -> None:
    async def away(service: Service) -> None:
        await anyio.sleep(3)
        await greets_and_listens(service)

    async def lost(service: Service) -> None:
        await breaks_off(service)

    ear = Ear(cut_at=1, onset_sample=2_100 * 24)
    service, _ = call(scripts(lost, away), mic=Mic(8.0), ear=ear, settings=SETTINGS)

    assert seeded(service, 1) == [("user", "tell a story")]


def test_a_transcript_of_the_agent_is_not_told_twice() -> None:
    _, ear = call(scripts(answered_and_lost, greets_and_listens), mic=Mic(5.0), settings=SETTINGS)
    assert [line.text for line in ear.of(Transcript)] == ["what is the time", "It is noon."]


def test_every_sample_of_the_microphone_has_one_fate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last socket got, and what it was told, is the whole call."""
    service, ear = call(scripts(answered_and_lost, greets_and_listens), mic=Mic(5.0))
    n_heard = sum(frame.n_samples for frame in ear.of(AudioIn))
    assert n_heard == 0  # consumed
    appended = [e for e in service.got_on[1] if isinstance(e, wire.InputAudioBufferAppend)]
    assert sum(len(wire.decode_audio(e.audio)) for e in appended) == 3_000 * 48
