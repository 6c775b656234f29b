"""Recordings of the real service: their client half gets the events of their server half."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

import pytest

from framepipe.realtime.events import encode, encode_audio
from framepipe.realtime.mind import Scripted, ToolUse, Words, given_words
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import SileroWindows
from tests.realtime import golden_differences
from tests.realtime.golden_differences import KEYS, MERGED, OPTIONAL, UNORDERED
from tests.realtime.test_server_protocol import Client

WEATHER = ToolUse(name="get_weather", arguments='{"city": "London"}')

# What the mind answers, and what the user says in each recording.
SCRIPTS: dict[str, tuple[list[Any], list[str]]] = {
    "voice-turn-server-vad": (["Hello, good to meet you."], ["Hello, I am here."]),
    "three-voice-turns-server-vad": (["Hi there.", "Hello.", "Hey."], ["One.", "Two.", "Three."]),
    "text-in-audio-out": (["Hi there!"], []),
    "history-seeding-gpt-realtime-2.1": (["You told me your name."], []),
    "tool-call-round": ([[WEATHER], "It is foggy."], []),
    "tool-call-round-gpt-realtime-2.1": (
        [[Words(text="Let me look."), WEATHER], "It is foggy."],
        [],
    ),
}


def spoken() -> bytes:
    """One sentence without a pause, silence around it."""
    clip = resources.files("framepipe.realtime").joinpath("clips", "look.wav")
    with clip.open("rb") as file, wave.open(file) as recording:
        words: bytes = recording.readframes(1_000_000)
    return bytes(48 * 500) + words + bytes(48 * 800)


def replay(client: Client, lines: Sequence[Any]) -> None:
    """Send the client's half; each run of audio becomes one spoken turn, waited for."""
    turns_left = sum(line["event"]["type"].endswith("speech_started") for line in lines)
    answered = True
    for line in lines:
        event = line["event"]
        if line["dir"] == "server":
            answered = answered or event["type"] == "response.done"
            if event["type"].endswith(".done"):
                client.wait(5_000)
        elif event["type"] != "input_audio_buffer.append":
            client.send_text(json.dumps(event))
        elif answered and turns_left:
            answered = False
            turns_left -= 1
            pcm = spoken()
            for begin in range(0, len(pcm), 4_800):
                client.wait(100)
                piece = encode_audio(pcm[begin : begin + 4_800])
                client.send(event["type"], audio=piece)
            client.wait(5_000)
    client.wait(5_000)


def outline(events: Iterable[Any]) -> list[str]:
    """Types in order, as far as the service orders them; a run of deltas counts once."""
    steps: list[str] = []
    for event in events:
        kind: str = event["type"]
        if kind in UNORDERED or kind in OPTIONAL:
            continue
        step = "deltas" if kind in MERGED else kind
        if not (steps and steps[-1] == step and step.endswith(("deltas", ".delta"))):
            steps.append(step)
    return steps


def names(value: Any) -> Any:
    """The names in an event, without its values."""
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return {name: names(inner) for name, inner in named.items() if name not in KEYS}
    if isinstance(value, list):
        return list(map(names, cast("Iterable[Any]", value)))
    return None


def shapes(events: Iterable[Any]) -> dict[str, set[str]]:
    """Every set of keys in which the events of each type came."""
    found: dict[str, set[str]] = {}
    for event in events:
        found.setdefault(event["type"], set()).add(json.dumps(names(event), sort_keys=True))
    return found


def differences(ours: list[Any], theirs: list[Any]) -> list[str]:
    """In what two server halves differ; nothing, when a client could not tell them apart."""
    found: list[str] = []
    if outline(ours) != outline(theirs):
        found.append(f"order: {outline(ours)} instead of {outline(theirs)}")
    our_shapes, their_shapes = shapes(ours), shapes(theirs)
    for kind in our_shapes.keys() | their_shapes.keys():
        mine, their = our_shapes.get(kind), their_shapes.get(kind)
        if mine != their and not (kind in OPTIONAL and None in (mine, their)):
            found.append(f"keys of {kind}: {mine} instead of {their}")
    return found


def halves(golden_dir: Path, recording: str) -> tuple[list[Any], list[Any]]:
    """Our server half for the client half of a recording, and the recorded one."""
    text = (golden_dir / f"{recording}.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    theirs = [line["event"] for line in lines if line["dir"] == "server"]
    answers, words = SCRIPTS[recording]
    client = Client(
        mind=Scripted(answers),
        voice=ShippedClips(),
        detector=SileroWindows(),
        ears=given_words(words),
        model=theirs[0]["session"]["model"],
    )
    replay(client, lines)
    return [json.loads(encode(event)) for _, event in client.sent], theirs


@pytest.mark.parametrize("recording", SCRIPTS)
def test_a_client_could_not_tell_the_embedded_server_from_the_recording(
    golden_dir: Path, recording: str
) -> None:
    assert differences(*halves(golden_dir, recording)) == []


def test_every_recording_is_replayed(golden_dir: Path) -> None:
    assert {path.stem for path in golden_dir.glob("*.jsonl")} == set(SCRIPTS)


@pytest.mark.parametrize("allowed", ["UNORDERED", "OPTIONAL", "MERGED", "KEYS"])
def test_every_kind_of_difference_that_is_allowed_exists(
    golden_dir: Path, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    both = [halves(golden_dir, recording) for recording in SCRIPTS]
    for name in getattr(golden_differences, allowed):
        fewer: dict[str, str] = dict(getattr(golden_differences, allowed))
        assert fewer.pop(name), "a reason"
        with monkeypatch.context() as patched:
            patched.setattr(f"{__name__}.{allowed}", fewer)
            assert any(differences(*pair) for pair in both), f"{name} need not be allowed"
