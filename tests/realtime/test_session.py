"""Session settings: the documented defaults, and errors that name the field and the rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from framepipe.errors import LocalProtocolError
from framepipe.realtime import events as wire
from framepipe.realtime.session import SemanticVad, ServerVad, SessionSettings, Transcription


def sent(settings: SessionSettings, owner: Any = "client") -> Any:
    return json.loads(wire.encode(wire.SessionUpdate(session=settings.wire(owner))))["session"]


def test_the_defaults_are_the_documented_ones_and_the_client_owns_interruption() -> None:
    assert sent(SessionSettings()) == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "transcription": None,
                "noise_reduction": None,
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.5,
                    "prefix_padding_ms": 300,
                    "silence_duration_ms": 500,
                    "create_response": True,
                    "interrupt_response": False,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "speed": 1.0},
        },
    }


def test_a_server_that_owns_interruption_is_told_to_interrupt() -> None:
    detection = sent(SessionSettings(), "server")["audio"]["input"]["turn_detection"]

    assert detection["interrupt_response"] is True


def test_everything_that_is_set_is_sent() -> None:
    session = sent(
        SessionSettings(
            instructions="",
            output_modality="text",
            output_format="audio/pcmu",
            turn_detection=SemanticVad(eagerness="low", create_response=False),
            noise_reduction="far_field",
            noise_reduction_strength=0.5,
            transcription=Transcription(
                language="en",
                prompt="names",
                languages=("en", "de"),
                keywords=("Ada",),
                delay="low",
            ),
            voice="marin",
            speed=1.25,
            tools=({"type": "function", "name": "book"},),
            tool_choice={"type": "function", "name": "book"},
            parallel_tool_calls=False,
            max_output_tokens=100,
            truncation={"type": "retention_ratio", "retention_ratio": 0.8},
            reasoning={"effort": "low"},
            prompt={"id": "p"},
            tracing="auto",
            include=("item.input_audio_transcription.logprobs",),
        )
    )

    assert session["instructions"] == ""
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "low",
        "create_response": False,
        "interrupt_response": False,
    }
    assert session["audio"]["input"]["noise_reduction"] == {"type": "far_field", "strength": 0.5}
    assert session["audio"]["input"]["transcription"] == {
        "model": "gpt-realtime-whisper",
        "language": "en",
        "prompt": "names",
        "languages": ["en", "de"],
        "keywords": ["Ada"],
        "delay": "low",
    }
    assert session["audio"]["output"] == {
        "format": {"type": "audio/pcmu"},
        "voice": "marin",
        "speed": 1.25,
    }
    assert session["tools"] == [{"type": "function", "name": "book"}]
    assert session["include"] == ["item.input_audio_transcription.logprobs"]
    assert session["max_output_tokens"] == 100


def test_turn_detection_that_is_off_is_null() -> None:
    session = sent(SessionSettings(turn_detection=None))

    assert session["audio"]["input"]["turn_detection"] is None


# Callers that no type checker has seen.
_server_vad: Any = ServerVad
_semantic_vad: Any = SemanticVad
_settings: Any = SessionSettings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _server_vad(threshold=1.5), r"threshold is 1\.5; it must be 0 to 1"),
        (lambda: _server_vad(threshold="loud"), "threshold is 'loud'; it must be 0 to 1"),
        (lambda: _server_vad(silence_duration_ms=0.5), "silence_duration_ms is 0.5; .* whole"),
        (lambda: _server_vad(prefix_padding_ms=-1), "prefix_padding_ms is -1; .* 0 to 5000 ms"),
        (lambda: _server_vad(idle_timeout_ms=10), "idle_timeout_ms is 10; .* 5000 to 30000 ms"),
        (lambda: _server_vad(create_response=1), "create_response is 1; it must be bool"),
        (lambda: _semantic_vad(eagerness="very"), "eagerness is 'very'; .* 'low', 'medium'"),
        (lambda: Transcription(model=""), "model is ''"),
        (lambda: _settings(speed=2), r"speed is 2; it must be 0\.25 to 1\.5"),
        (lambda: _settings(speed=True), "speed is True"),
        (lambda: _settings(output_modality="both"), "output_modality is 'both'"),
        (lambda: _settings(input_format="pcm"), "input_format is 'pcm'; .* 'audio/pcm'"),
        (lambda: _settings(max_output_tokens=0), r"max_output_tokens is 0; .* \(or \"inf"),
        (lambda: _settings(tool_choice="maybe"), "tool_choice is 'maybe'"),
        (lambda: _settings(truncation="never"), "truncation is 'never'"),
        (lambda: _settings(turn_detection="server_vad"), "turn_detection is 'server_vad'"),
        (lambda: _settings(tools=[]), r"tools is \[\]; it must be tuple"),
    ],
)
def test_a_setting_that_breaks_its_rule_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        make()
