"""The embedded server's decisions as scripts: client events in, server events out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.realtime import server_conversation, server_hearing
from framepipe.realtime.answer_plan import Content, LogNormal, Pace, PaceError, Say, paced
from framepipe.realtime.events import (
    CLIENT_EVENT_TYPES,
    KnownServerEvent,
    decode_audio,
    decode_server,
    encode,
    encode_audio,
)
from framepipe.realtime.mind import (
    Ears,
    Echo,
    Mind,
    Output,
    Question,
    Recording,
    Scripted,
    Talk,
    TalkFor,
    ToolUse,
    Words,
    given_words,
)
from framepipe.realtime.semantic_end import silence_ms
from framepipe.realtime.server_agenda import Sent
from framepipe.realtime.server_protocol import ServerProtocol
from framepipe.realtime.server_session import turn_detection
from framepipe.realtime.server_vad import WINDOW_MS, WINDOW_SAMPLES, SpeechDetector
from framepipe.realtime.speech import Speech, VoiceError

MS = 1_000_000
END_OF_SESSION_MS = 3_600_000
SPEECH = b"\x00\x40" * WINDOW_SAMPLES  # one window that the scripted detector takes for speech
SILENCE = bytes(2 * WINDOW_SAMPLES)

CLOSING = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]
USER_TURN = [
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]


class LoudIsSpeech:
    """A detector that believes its samples: 1.0 for anything but digital silence."""

    def probability(self, window: bytes, /) -> float:
        return float(any(window))

    def reset(self) -> None:
        pass


class Likely:
    """A detector with prepared probabilities."""

    def __init__(self, probabilities: Iterable[float]) -> None:
        self._probabilities = iter(probabilities)

    def probability(self, window: bytes, /) -> float:
        return next(self._probabilities, 0.0)

    def reset(self) -> None:
        pass


class Tone:
    """A voice that is quick to make: 50 ms a character."""

    def speak(self, text: str) -> bytes:
        return b"\x10\x00" * (1_200 * len(text))

    def talk(self, duration_ms: int) -> Speech:
        return Speech(text="la " * (duration_ms // 300), pcm=b"\x10\x00" * (24 * duration_ms))


class Mute:
    """A voice that cannot."""

    def speak(self, text: str) -> bytes:
        raise VoiceError("no breath")

    def talk(self, duration_ms: int) -> Speech:
        raise VoiceError("no breath")


class Client:
    """A client that is always served at once, and keeps what it was told."""

    def __init__(
        self,
        *,
        mind: Mind | None = None,
        detector: SpeechDetector | None = None,
        pace: Pace | None = None,
        ears: Ears | None = None,
        voice: Any = None,
        seed: int = 0,
        model: str = "gpt-realtime",
        limit_s: float = 3_600,
    ) -> None:
        self.server = ServerProtocol(
            mind=mind or Talk(4_000),
            voice=voice or Tone(),
            detector=detector or LoudIsSpeech(),
            pace=pace,
            ears=ears,
            seed=seed,
            model=model,
            limit_s=limit_s,
        )
        self.now_ms = 0.0
        self.sent: list[Sent] = self.server.open(0)

    def send(self, type_: str, /, **fields: Any) -> list[KnownServerEvent]:
        """Send an event; returns what came at once."""
        return self.send_text(json.dumps({"type": type_, **fields}))

    def send_text(self, text: str) -> list[KnownServerEvent]:
        answer = self.server.receive_text(text, round(self.now_ms * MS))
        self.sent += answer
        return [event for _, event in answer]

    def wait(self, duration_ms: float) -> list[KnownServerEvent]:
        """Let time pass; returns what came."""
        until_ns = round((self.now_ms + duration_ms) * MS)
        self.now_ms += duration_ms
        came: list[Sent] = []
        while (due := self.server.deadline_ns) is not None and due <= until_ns:
            came += self.server.advance(due)
        came += self.server.advance(until_ns)
        self.sent += came
        return [event for _, event in came]

    def say(self, *windows: bytes) -> list[KnownServerEvent]:
        """Append windows in real time."""
        came: list[KnownServerEvent] = []
        for window in windows:
            came += self.wait(WINDOW_MS)
            came += self.send("input_audio_buffer.append", audio=encode_audio(window))
        return came

    def settings(self, **fields: Any) -> list[KnownServerEvent]:
        return self.send("session.update", session={"type": "realtime", **fields})

    def turns(self, **fields: Any) -> list[KnownServerEvent]:
        detection = {"type": "server_vad", **fields}
        return self.settings(audio={"input": {"turn_detection": detection}})

    def time_of(self, type_: str) -> float:
        """When the first event of a type came, in milliseconds."""
        return next(at_ns / MS for at_ns, event in self.sent if event.type == type_)


def types(events: Sequence[KnownServerEvent]) -> list[str]:
    return [event.type for event in events]


def only(events: Sequence[KnownServerEvent], type_: str) -> list[Any]:
    return [event for event in events if event.type == type_]


def without_deltas(events: Sequence[KnownServerEvent]) -> list[str]:
    return [kind for kind in types(events) if not kind.endswith(".delta")]


def error_of(events: Sequence[KnownServerEvent]) -> Any:
    assert types(events) == ["error"]
    error: Any = only(events, "error")[0].error
    return error


def a_turn(client: Client, n_windows: int = 10) -> list[KnownServerEvent]:
    """The user speaks and is silent until the turn has ended (200 ms for gpt-realtime)."""
    return client.say(*[SPEECH] * n_windows, *[SILENCE] * 7)


# --- orders -----------------------------------------------------------------------------------


def test_a_spoken_turn_is_answered_in_the_order_of_the_service() -> None:
    client = Client()
    came = a_turn(client) + client.wait(3_000)
    assert without_deltas(came) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        *USER_TURN,
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        *CLOSING,
    ]
    deltas = [kind for kind in types(came) if kind.endswith("delta")]
    assert deltas[0] == "response.output_audio_transcript.delta"
    assert deltas[-1] == "response.output_audio.delta"
    assert only(came, "response.done")[0].response.status == "completed"


def test_the_user_item_has_one_id_from_the_onset_to_the_conversation() -> None:
    came = a_turn(Client())
    ids: set[str] = {
        only(came, "input_audio_buffer.speech_started")[0].item_id,
        only(came, "input_audio_buffer.speech_stopped")[0].item_id,
        only(came, "input_audio_buffer.committed")[0].item_id,
        only(came, "conversation.item.done")[0].item.id,
    }
    assert len(ids) == 1


def test_speech_during_generation_ends_the_response_before_the_turn_it_begins() -> None:
    client = Client(pace=Pace(first_audio_ms=(250, 250), generation_speed=(1, 1)))
    a_turn(client)
    client.wait(600)
    came = client.say(*[SPEECH] * 10)
    onset = types(came).index("input_audio_buffer.speech_started")
    assert types(came)[onset + 1 :] == CLOSING, "no audio follows the onset, as in the recording"
    done = only(came, "response.done")[0].response
    assert (done.status, done.status_details.reason) == ("cancelled", "turn_detected")
    item = done.output[0]
    assert item.status == "incomplete"
    assert 0 < len(item.content[0].transcript) < len("la " * 13)
    assert done.usage.output_token_details.audio_tokens > 0
    later = client.say(*[SILENCE] * 7)
    assert types(later)[-5:] == [
        "input_audio_buffer.speech_stopped",
        *USER_TURN,
        "response.created",
    ]
    assert only(later, "input_audio_buffer.committed")[0].previous_item_id == item.id


def test_a_false_end_of_turn_leaves_a_cancelled_response_without_output() -> None:
    client = Client(pace=Pace(first_audio_ms=(500, 500)))
    first = a_turn(client)
    came = client.say(*[SPEECH] * 10)
    assert types(came) == [
        "input_audio_buffer.speech_started",
        "response.done",
        "rate_limits.updated",
    ]
    done = only(came, "response.done")[0].response
    assert (done.status, done.output, done.usage.total_tokens) == ("cancelled", [], 0)
    later = client.say(*[SILENCE] * 7)
    committed = only(later, "input_audio_buffer.committed")[0]
    assert committed.previous_item_id == only(first, "input_audio_buffer.committed")[0].item_id


def test_speech_after_response_done_is_only_announced() -> None:
    client = Client()
    a_turn(client)
    client.wait(2_000)
    assert types(client.say(*[SPEECH] * 5)) == ["input_audio_buffer.speech_started"]


def test_typed_words_are_answered_when_a_response_is_asked_for() -> None:
    client = Client()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    added = client.send("conversation.item.create", item=item)
    assert types(added) == ["conversation.item.added", "conversation.item.done"]
    assert client.wait(1_000) == []
    assert types(client.send("response.create")) == ["response.created"]
    assert types(client.wait(3_000))[-1] == "rate_limits.updated"


def test_a_written_answer_has_text_events() -> None:
    client = Client(mind=Scripted(["Good morning to you"]))
    client.settings(output_modalities=["text"])
    client.send("response.create")
    came = client.wait(2_000)
    assert without_deltas(came) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    assert "".join(only_delta.delta for only_delta in only(came, "response.output_text.delta")) == (
        "Good morning to you"
    )


def test_a_tool_is_called_and_its_output_is_an_item() -> None:
    client = Client(mind=Scripted([[ToolUse(name="clock", arguments='{"zone": "UTC"}')], "Noon."]))
    client.send("response.create")
    came = client.wait(2_000)
    assert without_deltas(came) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    done = only(came, "response.function_call_arguments.done")[0]
    assert (done.name, done.arguments) == ("clock", '{"zone": "UTC"}')
    output = {"type": "function_call_output", "call_id": done.call_id, "output": "12:00"}
    added = client.send("conversation.item.create", item=output)
    assert types(added) == ["conversation.item.added", "conversation.item.done"]
    assert '"status"' not in encode(added[0])


def test_a_response_beside_the_conversation_runs_in_parallel_and_leaves_no_item() -> None:
    client = Client(pace=Pace(generation_speed=(1, 1)))
    a_turn(client)
    beside = client.send(
        "response.create", response={"conversation": "none", "metadata": {"topic": "summary"}}
    )
    created = only(beside, "response.created")[0].response
    assert created.conversation_id is None
    assert created.metadata == {"topic": "summary"}
    came = client.say(*[SPEECH] * 10) + client.wait(6_000)
    done = {event.response.id: event.response for event in only(came, "response.done")}
    assert done[created.id].status == "completed", "speech interrupts only the conversation's own"
    assert sorted(response.status for response in done.values()) == ["cancelled", "completed"]
    assert done[created.id].output[0].id not in {
        item.id for item in client.server.conversation.items
    }


# --- turn detection ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix_ms", "silence_ms", "start_ms", "end_ms"),
    [(300, 200, 52, 576), (0, 500, 352, 864), (1_000, 32, 0, 384)],
)
def test_positions_count_appended_audio_on_a_grid_of_32_ms(
    prefix_ms: int, silence_ms: int, start_ms: int, end_ms: int
) -> None:
    client = Client()
    client.turns(prefix_padding_ms=prefix_ms, silence_duration_ms=silence_ms)
    came = client.say(*[SILENCE] * 10, SPEECH, *[SILENCE] * 20)
    assert only(came, "input_audio_buffer.speech_started")[0].audio_start_ms == start_ms
    assert only(came, "input_audio_buffer.speech_stopped")[0].audio_end_ms == end_ms
    item = only(came, "conversation.item.done")[0].item
    retrieved = client.send("conversation.item.retrieve", item_id=item.id)
    pcm = decode_audio(only(retrieved, "conversation.item.retrieved")[0].item.content[0].audio)
    assert len(pcm) == (end_ms - start_ms) * 48


def test_the_threshold_decides_what_is_speech() -> None:
    quiet, loud = Likely([0.5] * 20), Likely([0.5] * 20)
    deaf, sharp = Client(detector=quiet), Client(detector=loud)
    deaf.turns(threshold=0.6)
    sharp.turns(threshold=0.5)
    assert deaf.say(*[SPEECH] * 10) == []
    assert types(sharp.say(*[SPEECH] * 10)) == ["input_audio_buffer.speech_started"]


@given(cuts=st.lists(st.integers(1, 9_000), max_size=8))
def test_what_is_found_does_not_depend_on_how_the_audio_was_cut(cuts: list[int]) -> None:
    audio = SILENCE * 5 + SPEECH * 6 + SILENCE * 9 + SPEECH * 4 + SILENCE * 8
    edges = sorted({0, len(audio), *(min(2 * cut, len(audio)) for cut in cuts)})
    whole, pieces = Client(), Client()
    for client in (whole, pieces):
        client.turns(create_response=False, silence_duration_ms=200)
    for begin, end in pairwise(edges):
        pieces.send("input_audio_buffer.append", audio=encode_audio(audio[begin:end]))
    whole.send("input_audio_buffer.append", audio=encode_audio(audio))
    assert [event for _, event in whole.sent] == [event for _, event in pieces.sent]
    assert len(only([e for _, e in whole.sent], "input_audio_buffer.committed")) == 2


def test_a_segment_may_begin_before_the_end_of_the_one_before() -> None:
    client = Client()
    client.turns(create_response=False)
    client.say(SPEECH, *[SILENCE] * 7)
    came = client.say(SPEECH)
    started = only(came, "input_audio_buffer.speech_started")[0]
    assert started.audio_start_ms < client.server.appended_ms - WINDOW_MS


def test_without_interrupt_response_the_answer_runs_on_and_the_create_at_turn_end_fails() -> None:
    client = Client(pace=Pace(generation_speed=(1, 1)))
    client.turns(interrupt_response=False)
    a_turn(client)
    client.wait(600)
    came = a_turn(client)
    assert only(came, "response.done") == []
    assert only(came, "response.output_audio.delta")
    errors = only(came, "error")
    assert [error.error.code for error in errors] == ["conversation_already_has_active_response"]
    assert errors[0].error.event_id is None


def test_without_create_response_a_turn_is_committed_and_not_answered() -> None:
    client = Client()
    client.turns(create_response=False)
    assert types(a_turn(client))[-3:] == USER_TURN
    assert client.wait(5_000) == []


def test_without_turn_detection_audio_is_only_buffered_until_the_client_commits() -> None:
    client = Client()
    client.settings(audio={"input": {"turn_detection": None}})
    assert client.say(*[SPEECH] * 10, *[SILENCE] * 20) == []
    assert types(client.send("input_audio_buffer.commit")) == USER_TURN
    error = error_of(client.send("input_audio_buffer.commit"))
    assert error.code == "input_audio_buffer_commit_empty"
    assert error.message.endswith("but buffer only has 0.00ms of audio.")


def test_a_commit_of_less_than_100_ms_is_refused() -> None:
    client = Client()
    client.settings(audio={"input": {"turn_detection": None}})
    client.say(SPEECH, SPEECH, SPEECH)
    error = error_of(client.send("input_audio_buffer.commit", event_id="mine"))
    assert (error.code, error.event_id) == ("input_audio_buffer_commit_empty", "mine")
    assert "96.00ms" in error.message


def test_a_clear_forgets_the_open_segment_and_the_onset() -> None:
    client = Client()
    client.say(*[SPEECH] * 5)
    assert types(client.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert client.say(*[SILENCE] * 20) == []


def test_a_semantic_vad_ends_turns_later_for_patient_listeners() -> None:
    ends: list[float] = []
    for eagerness in ("high", "low"):
        client = Client()
        detection = {"type": "semantic_vad", "eagerness": eagerness}
        assert types(client.settings(audio={"input": {"turn_detection": detection}})) == [
            "session.updated"
        ]
        came = client.say(SPEECH, *[SILENCE] * 100)
        ends.append(only(came, "input_audio_buffer.speech_stopped")[0].audio_end_ms)
    assert ends[0] < ends[1]


@pytest.mark.parametrize(
    ("words", "silence_ms"),
    [("a flight to Denver please", 512), ("a flight to um", 4_000), ("I want to fly to", 4_000)],
)
def test_a_semantic_vad_waits_for_words_that_are_no_whole_turn(words: str, silence_ms: int) -> None:
    client = Client(ears=given_words([words]))
    client.settings(audio={"input": {"turn_detection": {"type": "semantic_vad"}}})

    came = client.say(*[SPEECH] * 10, *[SILENCE] * 130)

    stopped = only(came, "input_audio_buffer.speech_stopped")[0]
    assert stopped.audio_end_ms == 320 + silence_ms


@pytest.mark.parametrize("eagerness", ["low", "medium", "high", "auto"])
def test_no_words_make_a_semantic_vad_wait_longer_than_is_documented(eagerness: str) -> None:
    longest_ms = {"low": 8_000, "medium": 4_000, "high": 2_000, "auto": 4_000}[eagerness]
    waits = [silence_ms(words, eagerness) for words in (None, "", "um", "yes", "to", "go home")]
    assert max(waits) == longest_ms
    assert waits[3] == min(waits)


def test_who_goes_on_after_a_pause_is_one_turn_to_a_semantic_vad() -> None:
    client = Client(ears=given_words(["I want to fly to um"]))
    client.settings(audio={"input": {"turn_detection": {"type": "semantic_vad"}}})

    came = client.say(*[SPEECH] * 10, *[SILENCE] * 60, *[SPEECH] * 10)

    assert types(came) == ["input_audio_buffer.speech_started"]


def test_two_turns_in_one_append_keep_all_of_their_audio() -> None:
    client = Client()
    turn = SPEECH * 20 + SILENCE * 40
    client.turns(create_response=False)
    came = client.send("input_audio_buffer.append", audio=encode_audio(turn * 2))

    assert types(came).count("input_audio_buffer.committed") == 2
    assert client.server.conversation.user_audio_ms >= 2 * 20 * WINDOW_MS


def test_a_long_turn_is_committed_whole() -> None:
    client = Client()
    client.say(*[SILENCE] * 60)
    came = client.say(*[SPEECH] * 120, *[SILENCE] * 7)
    assert recorded_ms(client, came) == 300 - WINDOW_MS + 127 * WINDOW_MS


def test_a_turn_right_after_a_clear_begins_at_the_clear() -> None:
    client = Client()
    client.say(*[SILENCE] * 20)
    client.send("input_audio_buffer.clear")
    came = client.say(*[SPEECH] * 20, *[SILENCE] * 7)
    assert recorded_ms(client, came) == 27 * WINDOW_MS


def test_a_turn_that_never_ends_keeps_its_newest_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_hearing, "_LONGEST_BUFFER_MS", 2_000)
    client = Client()
    assert recorded_ms(client, client.say(*[SPEECH] * 100, *[SILENCE] * 7)) == (
        2_000 + WINDOW_MS  # the window that ended it came on top
    )


def test_a_commit_in_mid_speech_ends_the_segment_without_a_stop() -> None:
    client = Client()
    client.say(*[SPEECH] * 5)
    assert types(client.send("input_audio_buffer.commit")) == USER_TURN
    assert client.say(*[SILENCE] * 20) == []
    assert types(client.say(SPEECH)) == ["input_audio_buffer.speech_started"]


def test_old_audio_is_forgotten_and_its_length_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_conversation, "RETAINED_AUDIO_MS", 1_000)
    client = Client(mind=Talk(400))
    spoken_ids = [spoken_item(client).id for _ in range(4)]
    audible: list[bool] = []
    for item_id in spoken_ids:
        retrieved: Any = client.send("conversation.item.retrieve", item_id=item_id)[0]
        audible.append(isinstance(retrieved.item.content[0].audio, str))
    assert audible == [False, False, True, True]
    cut = {"content_index": 0, "audio_end_ms": 401}
    error = error_of(client.send("conversation.item.truncate", item_id=spoken_ids[0], **cut))
    assert error.message == "Audio content of 400ms is already shorter than 401ms"


def recorded_ms(client: Client, came: Sequence[KnownServerEvent]) -> float:
    """Length of the audio of the user item that was committed."""
    item_id = only(came, "input_audio_buffer.committed")[0].item_id
    retrieved: Any = client.send("conversation.item.retrieve", item_id=item_id)[0]
    return len(decode_audio(retrieved.item.content[0].audio)) / 48


# --- answers in time --------------------------------------------------------------------------


@given(seed=st.integers(0, 1_000))
def test_an_answer_comes_as_fast_as_the_service_and_faster_than_it_plays(seed: int) -> None:
    client = Client(seed=seed, mind=Talk(6_000))
    client.send("response.create")
    client.wait(2_000)
    deltas = [
        (at_ns / MS, len(decode_audio(event.delta)))  # type: ignore[union-attr]
        for at_ns, event in client.sent
        if event.type == "response.output_audio.delta"
    ]
    first_ms, last_ms = deltas[0][0], deltas[-1][0]
    assert 250 <= first_ms <= 500
    assert deltas[0][1] == 100 * 48
    assert all(249 * 48 <= n_bytes <= 400 * 48 for _, n_bytes in deltas[1:-1])
    assert sum(n_bytes for _, n_bytes in deltas) == 6_000 * 48
    assert 6_000 / 12.5 <= last_ms - first_ms <= 6_000 / 7.5
    words = [at for at, event in client.sent if "transcript.delta" in event.type]
    assert words[0] / MS < first_ms
    assert words[-1] / MS < last_ms


@pytest.mark.parametrize(
    "wrong",
    [{"first_audio_ms": (500, 250)}, {"generation_speed": (0, 8)}, {"cancel_latency_ms": -1}],
)
def test_a_pace_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PaceError, match=next(iter(wrong))):
        Pace(**wrong)


@pytest.mark.parametrize(("median_ms", "spread"), [(0, 0.3), (900, -0.1)])
def test_a_log_normal_length_that_cannot_be_is_refused(median_ms: float, spread: float) -> None:
    with pytest.raises(PaceError, match=f"median of {median_ms}"):
        LogNormal(median_ms=median_ms, spread=spread)


def test_a_first_sound_that_is_log_normal_comes_about_its_median() -> None:
    def first_ms(seed: int) -> float:
        pace = Pace(first_audio_ms=LogNormal(median_ms=900, spread=0.35))
        return next(
            one.after_ns / 1e6
            for one in paced([Content(kind="text", text="Hi.")], pace, Random(seed))
            if isinstance(one.step, Say)
        )

    drawn = sorted(first_ms(seed) for seed in range(400))
    assert 850 < drawn[200] < 950
    assert 1_400 < drawn[380] < 1_800, "exp(1.645 x 0.35) = 1.78 medians"


def test_the_same_seed_gives_the_same_session_and_another_seed_another() -> None:
    def session(seed: int) -> list[Sent]:
        client = Client(seed=seed)
        a_turn(client)
        client.wait(3_000)
        return client.sent

    assert session(1) == session(1)
    assert session(1) != session(2)


def test_after_a_cancel_deltas_still_come_until_the_closing_events() -> None:
    client = Client(pace=Pace(generation_speed=(1, 1), cancel_latency_ms=200))
    created = only(client.send("response.create"), "response.created")[0].response
    client.wait(1_500)
    assert client.send("response.cancel", response_id=created.id) == []
    late = client.wait(199)
    assert set(types(late)) <= {
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
    }
    assert late, "late deltas are the point of the latency"
    came = client.wait(100)
    assert [kind for kind in types(came) if not kind.endswith(".delta")] == CLOSING
    done = only(came, "response.done")[0].response
    assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")
    assert client.time_of("response.done") == 1_700


def test_a_create_between_cancel_and_done_is_refused_and_one_after_it_is_not() -> None:
    client = Client(pace=Pace(generation_speed=(1, 1)))
    first = only(client.send("response.create"), "response.created")[0].response
    client.wait(500)
    client.send("response.cancel")
    error = error_of(client.send("response.create", event_id="again"))
    assert error.code == "conversation_already_has_active_response"
    assert first.id in error.message
    assert error.event_id == "again"
    client.wait(200)
    assert types(client.send("response.create")) == ["response.created"]


def test_a_cancel_that_comes_too_late_for_its_latency_loses_the_race() -> None:
    client = Client(pace=Pace(first_audio_ms=(300, 300), generation_speed=(8, 8)), mind=Talk(1_000))
    client.send("response.create")
    client.wait(350)
    client.send("response.cancel")
    done = only(client.wait(200), "response.done")[0].response
    assert (done.status, done.status_details) == ("completed", None)


def test_speech_just_before_the_end_of_generation_still_cancels() -> None:
    client = Client(pace=Pace(first_audio_ms=(300, 300), generation_speed=(8, 8)), mind=Talk(1_000))
    a_turn(client)
    client.wait(310)
    came = client.say(*[SPEECH] * 10)
    assert only(came, "response.done")[0].response.status == "cancelled"


def test_speech_after_a_clients_cancel_changes_neither_its_time_nor_its_reason() -> None:
    client = Client(pace=Pace(generation_speed=(1, 1)))
    client.send("response.create")
    client.wait(1_000)
    client.send("response.cancel")
    client.wait(100)
    done = only(client.say(*[SPEECH] * 10), "response.done")[0].response
    assert done.status_details.reason == "client_cancelled"
    assert client.time_of("response.done") == 1_200


def test_a_cancel_with_nothing_active_is_refused_also_the_second_time() -> None:
    client = Client()
    assert error_of(client.send("response.cancel")).code == "response_cancel_not_active"
    client.send("response.create")
    client.send("response.cancel")
    assert error_of(client.send("response.cancel")).code == "response_cancel_not_active"
    assert error_of(client.send("response.cancel", response_id="resp_other")).code == (
        "response_cancel_not_active"
    )


def test_an_answer_is_cut_at_its_token_limit() -> None:
    client = Client(mind=Talk(4_000))
    client.send("response.create", response={"max_output_tokens": 10})
    came = client.wait(2_000)
    done = only(came, "response.done")[0].response
    assert (done.status, done.status_details.reason) == ("incomplete", "max_output_tokens")
    assert sum(len(decode_audio(d.delta)) for d in only(came, "response.output_audio.delta")) == (
        500 * 48
    )


def test_a_voice_that_cannot_speak_fails_the_response_and_not_the_session() -> None:
    client = Client(voice=Mute())
    client.send("response.create")
    done = only(client.wait(2_000), "response.done")[0].response
    assert (done.status, done.status_details.error.message) == ("failed", "no breath")
    assert types(client.send("response.create")) == ["response.created"]


# --- truncate, delete, retrieve, insert -------------------------------------------------------


def spoken_item(client: Client) -> Any:
    client.send("response.create")
    came = client.wait(3_000)
    return only(came, "response.output_item.done")[0].item


def test_a_truncate_cuts_the_audio_and_deletes_the_transcript() -> None:
    client = Client()
    item = spoken_item(client)
    came = client.send(
        "conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=1_234
    )
    assert types(came) == ["conversation.item.truncated"]
    assert [cut.audio_end_ms for cut in client.server.truncations] == [1_234]
    assert client.server.truncations[0].received_ms == 4_000
    retrieved: Any = client.send("conversation.item.retrieve", item_id=item.id)[0]
    part = retrieved.item.content[0]
    assert len(decode_audio(part.audio)) == 1_234 * 48
    assert "transcript" not in json.loads(encode(retrieved))["item"]["content"][0]


@pytest.mark.parametrize("audio_end_ms", [0, 4_000])
def test_a_truncate_at_either_end_is_accepted(audio_end_ms: int) -> None:
    client = Client()
    item = spoken_item(client)
    came = client.send(
        "conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=audio_end_ms
    )
    assert types(came) == ["conversation.item.truncated"]


def test_a_truncate_before_response_done_is_accepted_and_kept() -> None:
    client = Client(pace=Pace(generation_speed=(1, 1), cancel_latency_ms=1_000))
    client.send("response.create")
    opened = only(client.wait(1_500), "response.output_item.added")[0].item
    client.send("conversation.item.truncate", item_id=opened.id, content_index=0, audio_end_ms=300)
    client.send("response.cancel")
    late = client.wait(1_300)
    assert only(late, "response.output_audio.delta"), "what was cut does not grow any more"
    done = only(late, "response.done")[0].response
    assert done.output[0].content[0].transcript, "the events tell what was generated"
    (kept,) = client.server.conversation.items
    assert (
        "transcript"
        not in json.loads(
            encode(client.send("conversation.item.retrieve", item_id=str(kept.id))[0])
        )["item"]["content"][0]
    )
    error = error_of(
        client.send(
            "conversation.item.truncate", item_id=opened.id, content_index=0, audio_end_ms=301
        )
    )
    assert error.message == "Audio content of 300ms is already shorter than 301ms"


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        (
            {"audio_end_ms": 4_001},
            "invalid_value",
            "Audio content of 4000ms is already shorter than 4001ms",
        ),
        ({"audio_end_ms": -1}, "invalid_value", "Invalid value: -1. Expected 0 or more."),
        (
            {"content_index": 1},
            "invalid_value",
            "Invalid value: 1. The item has one content part, 0.",
        ),
        (
            {"item_id": "x"},
            "item_truncate_invalid_item_id",
            "Error truncating item: the item with id 'x' does not exist.",
        ),
    ],
)
def test_a_wrong_truncate_is_refused_in_the_words_of_the_service(
    fields: dict[str, Any], code: str, message: str
) -> None:
    client = Client()
    item = spoken_item(client)
    wanted = {"item_id": item.id, "content_index": 0, "audio_end_ms": 10, **fields}
    error = error_of(client.send("conversation.item.truncate", **wanted))
    assert (error.code, error.message) == (code, message)
    assert client.server.truncations == []


def test_only_the_models_audio_can_be_truncated() -> None:
    client = Client(pace=Pace(first_audio_ms=(500, 500)))
    user = only(a_turn(client), "conversation.item.done")[0].item
    fresh = only(client.wait(480), "response.output_item.added")[0].item
    for item in (user, fresh):
        error = error_of(
            client.send(
                "conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=0
            )
        )
        assert error.code == "unsupported_content_type"


def test_items_are_inserted_deleted_and_missed_by_id() -> None:
    client = Client()

    def add(id_: str, **where: str) -> list[KnownServerEvent]:
        content = [{"type": "input_text", "text": id_}]
        item = {"id": id_, "type": "message", "role": "user", "content": content}
        return client.send("conversation.item.create", item=item, **where)

    add("b")
    assert only(add("c"), "conversation.item.added")[0].previous_item_id == "b"
    assert (
        only(add("a", previous_item_id="root"), "conversation.item.added")[0].previous_item_id
        is None
    )
    add("between", previous_item_id="a")
    assert [item.id for item in client.server.conversation.items] == ["a", "between", "b", "c"]
    assert error_of(add("d", previous_item_id="nobody")).param == "previous_item_id"
    assert error_of(add("a")).message == "Item with id 'a' already exists."
    assert error_of(add("x" * 33)).code == "string_above_max_length"
    assert types(client.send("conversation.item.delete", item_id="b")) == [
        "conversation.item.deleted"
    ]
    error = error_of(client.send("conversation.item.delete", item_id="b"))
    assert (error.code, error.message) == (
        "item_delete_invalid_item_id",
        "Error deleting item: the item with id 'b' does not exist.",
    )
    assert error_of(client.send("conversation.item.retrieve", item_id="b")).code == (
        "item_retrieve_invalid_item_id"
    )


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ({"type": "message", "content": []}, "missing_required_parameter"),
        ({"type": "message", "role": "user"}, "missing_required_parameter"),
        ({"type": "message", "role": "robot", "content": []}, "invalid_value"),
        (
            {"type": "message", "role": "assistant", "content": [{"type": "output_audio"}]},
            "invalid_value",
        ),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
            "missing_required_parameter",
        ),
        (
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_audio", "audio": "AAAA"}],
            },
            "invalid_value",
        ),
        ({"type": "function_call_output", "output": "1"}, "missing_required_parameter"),
        ({"type": "song"}, "invalid_value"),
    ],
)
def test_an_item_that_may_not_be_is_refused(item: dict[str, Any], code: str) -> None:
    client = Client()
    assert error_of(client.send("conversation.item.create", item=item)).code == code
    assert client.server.conversation.items == ()


# --- the session ------------------------------------------------------------------------------


def test_an_update_changes_only_what_it_says() -> None:
    client = Client()
    client.turns(threshold=0.8)
    updated = client.settings(instructions="Be brief.", audio={"output": {"speed": 1.2}})
    session = json.loads(encode(updated[0]))["session"]
    assert session["instructions"] == "Be brief."
    assert session["audio"]["output"]["voice"] == "alloy"
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.8,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 200,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }


def test_an_update_of_the_same_turn_detection_keeps_what_it_does_not_say() -> None:
    client = Client()
    client.turns(threshold=0.8)
    client.turns(silence_duration_ms=700)
    detection = turn_detection(client.server.session)
    assert detection is not None
    assert (detection.threshold, detection.silence_duration_ms) == (0.8, 700)
    client.settings(audio={"input": {"turn_detection": None}})
    client.turns()
    detection = turn_detection(client.server.session)
    assert detection is not None
    assert (detection.threshold, detection.silence_duration_ms) == (0.5, 200)


def test_newer_models_wait_longer_for_the_end_of_a_turn() -> None:
    session = json.loads(encode(Client(model="gpt-realtime-2.1").sent[0][1]))["session"]
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({}, "missing_required_parameter", "session.type"),
        ({"type": "transcription"}, "invalid_value", "session.type"),
        ({"type": "realtime", "modalities": ["text"]}, "unknown_parameter", "session.modalities"),
        (
            {"type": "realtime", "audio": {"input": {"turns": None}}},
            "unknown_parameter",
            "session.audio.input.turns",
        ),
        (
            {"type": "realtime", "output_modalities": ["audio", "text"]},
            "invalid_value",
            "session.output_modalities",
        ),
        ({"type": "realtime", "model": "other"}, "invalid_value", "session.model"),
        (
            {"type": "realtime", "max_output_tokens": 0},
            "invalid_value",
            "session.max_output_tokens",
        ),
        ({"type": "realtime", "id": "sess_1"}, "unknown_parameter", "session.id"),
        (
            {"type": "realtime", "audio": {"output": {"speed": 3}}},
            "invalid_value",
            "session.audio.output.speed",
        ),
        (
            {"type": "realtime", "audio": {"input": {"format": {"type": "audio/mp3"}}}},
            "invalid_value",
            "session.audio.input.format.type",
        ),
        (
            {
                "type": "realtime",
                "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}},
            },
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            {
                "type": "realtime",
                "audio": {"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}},
            },
            "unknown_parameter",
            "session.audio.input.turn_detection.threshold",
        ),
    ],
)
def test_a_wrong_update_is_refused_whole(session: dict[str, Any], code: str, param: str) -> None:
    client = Client()
    before = client.server.session
    wrong = {**session, "instructions": "changed"}
    error = error_of(client.send("session.update", event_id="u1", session=wrong))
    assert (error.code, error.param, error.event_id) == (code, param, "u1")
    assert client.server.session == before


def test_the_voice_is_settled_once_it_has_spoken() -> None:
    client = Client()
    assert types(client.settings(audio={"output": {"voice": "cedar"}})) == ["session.updated"]
    spoken_item(client)
    assert (
        error_of(client.settings(audio={"output": {"voice": "ash"}})).code == "cannot_update_voice"
    )
    assert types(client.settings(audio={"output": {"voice": "cedar"}})) == ["session.updated"]


def test_the_session_ends_itself_after_its_limit() -> None:
    client = Client(limit_s=60)
    (error,) = client.wait(60_000)
    assert error.type == "error"
    assert client.server.ended is not None
    assert client.server.ended.code == 1001
    assert client.send("response.create") == []


# --- transcripts and minds --------------------------------------------------------------------


def transcription(client: Client) -> None:
    client.settings(audio={"input": {"transcription": {"model": "gpt-realtime-whisper"}}})


def test_transcripts_are_told_only_to_a_session_that_asked() -> None:
    plain, asking = Client(ears=given_words(["Good day."])), Client(ears=given_words(["Good day."]))
    transcription(asking)
    for client in (plain, asking):
        a_turn(client)
        client.wait(3_000)
    told = [event for _, event in asking.sent if "input_audio_transcription" in event.type]
    assert [event for _, event in plain.sent if "input_audio_transcription" in event.type] == []
    assert types(told)[-1] == "conversation.item.input_audio_transcription.completed"
    assert "".join(event.delta for event in told[:-1]) == "Good day."  # type: ignore[union-attr]
    completed: Any = told[-1]
    assert (completed.transcript, completed.usage.type) == ("Good day.", "duration")


def test_what_nobody_made_out_is_told_as_speech() -> None:
    client = Client()
    transcription(client)
    a_turn(client)
    came = client.wait(1_000)
    completed = only(came, "conversation.item.input_audio_transcription.completed")[0]
    assert completed.transcript == "[speech]"


def test_a_mind_is_asked_with_the_conversation_and_the_words() -> None:
    asked: list[Question] = []

    class Curious:
        def answer(self, question: Question, /) -> Sequence[Output]:
            asked.append(question)
            return [Words(text="Yes.")]

    client = Client(mind=Curious(), ears=given_words(["One.", "Two."]))
    client.settings(instructions="Say yes.")
    for _ in range(2):
        a_turn(client)
        client.wait(2_000)
    assert [(question.heard, question.answered) for question in asked] == [("One.", 0), ("Two.", 1)]
    assert asked[1].instructions == "Say yes."
    assert [item.role for item in asked[1].items] == ["user", "assistant", "user"]
    assert len(asked[1].recording) > 300 * 48


def test_an_echo_repeats_words_or_else_the_sound() -> None:
    assert Echo().answer(Question(heard="Hello")) == [Words(text="Hello")]
    (sound,) = Echo().answer(Question(recording=b"\x01\x00"))
    assert isinstance(sound, Recording)
    assert sound.pcm == b"\x01\x00"


def test_a_script_repeats_its_last_answer() -> None:
    script = Scripted(["one", 500])
    assert [script.answer(Question(answered=n)) for n in range(3)] == [
        (Words(text="one"),),
        (TalkFor(duration_ms=500),),
        (TalkFor(duration_ms=500),),
    ]


# --- what a client may send wrongly -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", "invalid_event"),
        ("[]", "invalid_event"),
        ("{}", "invalid_event"),
        ('{"type": "scooby.dooby.doo"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter"),
        ('{"type": "input_audio_buffer.append", "audio": "!"}', "invalid_value"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "invalid_value"),
        ('{"type": "output_audio_buffer.clear"}', "invalid_value"),
        ('{"type": "session.update", "session": []}', "invalid_type"),
        ('{"type": "response.create", "response": {"conversation": "mine"}}', "invalid_value"),
        (
            (
                '{"type": "response.create", "response": {"input": '
                '[{"type": "item_reference", "id": "x"}]}}'
            ),
            "item_retrieve_invalid_item_id",
        ),
    ],
)
def test_a_wrong_event_is_answered_with_an_error_and_the_session_goes_on(
    text: str, code: str
) -> None:
    client = Client()
    assert error_of(client.send_text(text)).code == code
    assert types(a_turn(client))[-1] == "response.created"


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10_000) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
_fields = st.sampled_from(
    [
        "session",
        "audio",
        "item",
        "item_id",
        "content_index",
        "audio_end_ms",
        "response",
        "response_id",
        "event_id",
        "previous_item_id",
    ]
)
_parts = st.sampled_from(
    [
        {"type": "realtime", "output_modalities": ["text"]},
        {"type": "realtime", "audio": {"input": {"turn_detection": None}}},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"conversation": "none", "max_output_tokens": 3},
        encode_audio(SPEECH * 4),
        encode_audio(SILENCE * 16),
        0,
        700,
    ]
)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(sorted(CLIENT_EVENT_TYPES)),
            st.dictionaries(_fields, _parts | _json, max_size=3),
            st.integers(0, 400),
        ),
        max_size=12,
    )
)
def test_no_sequence_of_events_breaks_the_session(
    steps: list[tuple[str, dict[str, Any], int]],
) -> None:
    client = Client(mind=Scripted(["Hello there.", [ToolUse(name="t")], 700]))
    known: list[str] = []
    for type_, fields, wait_ms in steps:
        if known and "item_id" in fields:
            fields = {**fields, "item_id": known[-1]}
        client.send(type_, **fields)
        client.wait(wait_ms)
        known = [str(item.id) for item in client.server.conversation.items]
    client.wait(20_000)
    assert client.server.active_response_ids == (), "every response ends"
    ids = [event.event_id for _, event in client.sent]
    assert len(set(ids)) == len(ids)
    times = [at_ns for at_ns, _ in client.sent]
    assert times == sorted(times)
    for _, event in client.sent:
        assert decode_server(encode(event)) == event
    events = [event for _, event in client.sent]
    created: list[str] = [event.response.id for event in only(events, "response.created")]
    done: list[str] = [event.response.id for event in only(events, "response.done")]
    assert sorted(created) == sorted(done)
