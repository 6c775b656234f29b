"""What an audio event costs to read and to write, beside ``json`` and ``base64``."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Figure, best_of
from framepipe.realtime.events import (
    InputAudioBufferAppend,
    ResponseOutputAudioDelta,
    decode_audio,
    decode_server,
    encode,
    encode_audio,
)

_DELTA_MS, _APPEND_MS = 200, 20
_TIMES = 2_000


def figures() -> list[Figure]:
    """Measure the codec."""
    voice, microphone = os.urandom(48 * _DELTA_MS), os.urandom(48 * _APPEND_MS)
    text = json.dumps(
        {
            "type": "response.output_audio.delta",
            "event_id": "event_0123456789abcdef01234",
            "response_id": "resp_0123456789abcdef01234",
            "item_id": "item_0123456789abcdef01234",
            "output_index": 0,
            "content_index": 0,
            "delta": base64.b64encode(voice).decode(),
        }
    )

    def decode_ours() -> bytes:
        event: Any = decode_server(text)
        return decode_audio(event.delta)

    def decode_plain() -> bytes:
        return base64.b64decode(json.loads(text)["delta"])

    def encode_ours() -> str:
        return encode(InputAudioBufferAppend(audio=encode_audio(microphone)))

    def encode_plain() -> str:
        audio = base64.b64encode(microphone).decode()
        return json.dumps({"type": "input_audio_buffer.append", "audio": audio})

    assert decode_ours() == decode_plain() == voice
    assert json.loads(encode_ours()) == json.loads(encode_plain())
    assert isinstance(decode_server(text), ResponseOutputAudioDelta)
    return [
        Figure(f"decode a {_DELTA_MS} ms delta, json + base64", _each_us(decode_plain), "µs"),
        Figure(f"decode a {_DELTA_MS} ms delta", _each_us(decode_ours), "µs", 10.0),
        Figure(f"encode a {_APPEND_MS} ms append, json + base64", _each_us(encode_plain), "µs"),
        Figure(f"encode a {_APPEND_MS} ms append", _each_us(encode_ours), "µs", 4.0),
    ]


def _each_us(function: Callable[[], object]) -> float:
    def many() -> None:
        for _ in range(_TIMES):
            function()

    return best_of(many) * 1e6 / _TIMES
