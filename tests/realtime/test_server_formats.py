"""What a session's audio settings do: telephone codings, speed, the idle timeout."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from framepipe.audio import Resampler, pcm_of, samples_of
from framepipe.g711 import alaw_from_pcm, pcm_from_alaw, pcm_from_ulaw, ulaw_from_pcm
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.events import decode_audio, encode, encode_audio
from framepipe.realtime.mind import Scripted, given_words
from framepipe.realtime.speech import Speech
from framepipe.realtime.speed import at_speed
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from tests.realtime.test_server_protocol import (
    SILENCE,
    SPEECH,
    USER_TURN,
    Client,
    a_turn,
    error_of,
    only,
    transcription,
    types,
)

CODINGS = [
    pytest.param("audio/pcmu", ulaw_from_pcm, pcm_from_ulaw, id="pcmu"),
    pytest.param("audio/pcma", alaw_from_pcm, pcm_from_alaw, id="pcma"),
]


class Hum:
    """A voice that hums at 440 Hz, 50 ms a character."""

    def speak(self, text: str) -> bytes:
        return hum(50 * len(text))

    def talk(self, duration_ms: int) -> Speech:
        return Speech(text="hum", pcm=hum(duration_ms))


def hum(duration_ms: int) -> bytes:
    return pcm_of(8_000 * np.sin(np.arange(24 * duration_ms) * 2 * np.pi * 440 / 24_000))


def loudest_hz(pcm: bytes, rate_hz: int = 24_000) -> float:
    samples = samples_of(pcm).astype(np.float64)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate_hz / len(samples))


def audio_of(came: Any) -> bytes:
    return b"".join(
        decode_audio(event.delta) for event in only(came, "response.output_audio.delta")
    )


# --- telephone codings ------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "code", "decode"), CODINGS)
def test_a_telephone_speaks_and_is_answered_in_its_coding(
    kind: str, code: Any, decode: Any
) -> None:
    client = Client(mind=Scripted(["Good day, you."]), voice=Hum(), detector=LoudWindows())
    sound = {"format": {"type": kind}}
    (updated,) = client.settings(audio={"input": sound, "output": sound})
    echoed = json.loads(encode(updated))["session"]["audio"]
    assert echoed["input"]["format"] == echoed["output"]["format"] == {"type": kind}
    down = Resampler(24_000, 8_000)
    wire = code(down.process(SILENCE * 10 + hum(640) + SILENCE * 10))
    came: list[Any] = []
    for begin in range(0, len(wire), 160):  # 20 ms, one telephone packet
        came += client.send(
            "input_audio_buffer.append", audio=encode_audio(wire[begin : begin + 160])
        )
    assert client.server.appended_ms == 40 * 32
    assert types(came)[:2] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
    ]
    # 32 ms for the window, one more for the delay of two filters.
    assert 320 <= only(came, "input_audio_buffer.speech_started")[0].audio_start_ms + 300 <= 384
    came = client.wait(3_000)
    created = only(client_events(client), "response.created")[0].response
    assert created.audio.output.format.type == kind
    answer = decode(audio_of(came))
    assert len(answer) == 2 * 8 * 50 * len("Good day, you.")
    assert abs(loudest_hz(answer, 8_000) - 440) < 5


def client_events(client: Client) -> list[Any]:
    return [event for _, event in client.sent]


def test_positions_of_a_telephones_answer_are_milliseconds_like_any_other() -> None:
    client = Client(voice=Hum())
    client.settings(audio={"output": {"format": {"type": "audio/pcmu"}}})
    client.send("response.create")
    item = only(client.wait(3_000), "response.output_item.done")[0].item
    wanted = {"item_id": item.id, "content_index": 0}
    assert types(client.send("conversation.item.truncate", **wanted, audio_end_ms=3_999)) == [
        "conversation.item.truncated"
    ]
    error = error_of(client.send("conversation.item.truncate", **wanted, audio_end_ms=4_000))
    assert error.message == "Audio content of 3999ms is already shorter than 4000ms"


def test_one_response_may_have_a_coding_of_its_own() -> None:
    client = Client(voice=Hum())
    other = {"audio": {"output": {"format": {"type": "audio/pcma"}}}}
    client.send("response.create", response=other)
    assert len(audio_of(client.wait(3_000))) == 8 * 4_000
    client.send("response.create")
    assert len(audio_of(client.wait(3_000))) == 48 * 4_000


@pytest.mark.parametrize(
    ("sound", "param"),
    [
        ({"type": "audio/mp3"}, "format.type"),
        ({"type": "audio/pcm", "rate": 16_000}, "format.rate"),
        ({"type": "audio/pcmu", "rate": 24_000}, "format.rate"),
    ],
)
def test_a_format_that_the_service_does_not_have_is_refused(
    sound: dict[str, Any], param: str
) -> None:
    client = Client()
    error = error_of(client.settings(audio={"input": {"format": sound}}))
    assert (error.code, error.param) == ("invalid_value", f"session.audio.input.{param}")
    beside = {"audio": {"output": {"format": sound}}}
    assert error_of(client.send("response.create", response=beside)).param.endswith(param)


# --- speed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.25, 0.8, 1.0, 1.2, 1.5])
def test_speed_changes_the_length_and_not_the_pitch(speed: float) -> None:
    pcm = hum(2_000)
    other = at_speed(pcm, speed)
    assert len(other) == 2 * round(48_000 / speed)
    assert abs(loudest_hz(other) - 440) < 3
    level = np.sqrt(np.mean(samples_of(other[9_600:-9_600]).astype(np.float64) ** 2))
    assert 0.8 < level / (8_000 / np.sqrt(2)) < 1.2


@pytest.mark.parametrize("n_bytes", [0, 2, 1_000])
def test_next_to_nothing_can_be_said_at_any_speed(n_bytes: int) -> None:
    for speed in (0.25, 1.5):
        assert len(at_speed(bytes(n_bytes), speed)) <= 4 * n_bytes


def test_what_is_said_is_said_at_the_speed_of_the_session() -> None:
    client = Client(mind=Scripted(["A sentence of some length."]), voice=Hum())
    client.settings(audio={"output": {"speed": 1.25}})
    client.send("response.create")
    assert len(audio_of(client.wait(3_000))) == pytest.approx(48 * 50 * 26 / 1.25, abs=4)


def test_real_speech_is_as_loud_at_another_speed() -> None:
    pcm = ShippedClips().talk(2_000).pcm
    levels = [
        float(np.sqrt(np.mean(samples_of(at_speed(pcm, speed)).astype(np.float64) ** 2)))
        for speed in (1.0, 0.7, 1.4)
    ]
    assert max(levels) / min(levels) < 1.15


# --- the user who says nothing ----------------------------------------------------------------


def waiting(**fields: Any) -> Client:
    client = Client(
        mind=Scripted(["Hello."]), pace=Pace(first_audio_ms=(100, 100)), ears=given_words(["Hi."])
    )
    client.turns(idle_timeout_ms=5_000, **fields)
    return client


def pass_time(client: Client, duration_ms: int) -> list[Any]:
    return client.say(*[SILENCE] * (duration_ms // 32))


def test_a_user_who_says_nothing_after_an_answer_is_asked() -> None:
    client = waiting()
    transcription(client)
    a_turn(client)
    came = pass_time(client, 8_000)
    fired = only(came, "input_audio_buffer.timeout_triggered")[0]
    order = types(came)[types(came).index("input_audio_buffer.timeout_triggered") :]
    assert order[:7] == [
        "input_audio_buffer.timeout_triggered",
        "conversation.item.added",
        "conversation.item.done",
        *USER_TURN,
        "response.created",
    ]
    assert fired.audio_start_ms % 32 == fired.audio_end_ms % 32 == 0
    assert 4_960 <= fired.audio_end_ms - fired.audio_start_ms <= 5_024
    added = only(came, "conversation.item.added")
    roles = {event.item.id: event.item.role for event in added}
    assert list(roles.values())[-3:] == ["system", "user", "assistant"]
    assert roles[fired.item_id] == "user"
    transcripts = only(came, "conversation.item.input_audio_transcription.completed")
    assert [event.transcript for event in transcripts] == ["Hi.", ""]
    (retrieved,) = client.send("conversation.item.retrieve", item_id=fired.item_id)
    item: Any = retrieved
    assert len(decode_audio(item.item.content[0].audio)) == 48 * (
        fired.audio_end_ms - fired.audio_start_ms
    )


def test_the_wait_begins_when_the_answer_was_played() -> None:
    client = waiting()
    a_turn(client)
    came = pass_time(client, 10_000)
    done_ms = client.time_of("response.done")
    fired_ms = client.time_of("input_audio_buffer.timeout_triggered")
    assert fired_ms == pytest.approx(done_ms + 50 * len("Hello.") + 5_000, abs=1)
    assert only(came, "response.created")


def test_speech_ends_the_wait() -> None:
    client = waiting()
    a_turn(client)
    pass_time(client, 4_000)
    came = client.say(*[SPEECH] * 60)
    assert types(came) == ["input_audio_buffer.speech_started"]
    assert not only(client.say(*[SILENCE] * 100), "input_audio_buffer.timeout_triggered")


def test_a_client_that_sends_no_audio_is_not_asked() -> None:
    client = waiting()
    a_turn(client)
    assert not only(client.wait(30_000), "input_audio_buffer.timeout_triggered")


def test_without_the_setting_nobody_is_asked() -> None:
    client = Client(mind=Scripted(["Hello."]))
    a_turn(client)
    assert not only(pass_time(client, 20_000), "input_audio_buffer.timeout_triggered")
    error = error_of(client.turns(idle_timeout_ms=10))
    assert error.param == "session.audio.input.turn_detection.idle_timeout_ms"
