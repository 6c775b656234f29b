"""The command line: what it writes, and what it says when something is wrong."""

from __future__ import annotations

import json
import socket
import struct
import sys
import wave
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from framepipe.cli import app, main
from framepipe.demo import USER_WAV, run_demo


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str | int | None:
    """Run ``framepipe`` with arguments; what it exits with."""
    monkeypatch.setattr(sys, "argv", ["framepipe", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    return exit_info.value.code


def wav(path: Path, *, width: int = 2, channels: int = 1, n_frames: int = 2_400) -> str:
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(24_000)
        writer.writeframes(bytes(width * channels * n_frames))
    return str(path)


def not_a_wav(path: Path) -> str:
    path.write_bytes(b"this is no sound at all, just text that somebody renamed")
    return str(path)


def half_a_sample(path: Path) -> str:
    data = bytes(961)
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16,
                         1, 1, 24_000, 48_000, 2, 16, b"data", len(data))  # fmt: skip
    path.write_bytes(header + data)
    return str(path)


BAD_RECORDINGS: dict[str, tuple[Callable[[Path], str], str]] = {
    "no WAV": (not_a_wav, "WAV"),
    "24 bits": (lambda path: wav(path, width=3), "24"),
    "stereo": (lambda path: wav(path, channels=2), "channels"),
    "empty": (lambda path: wav(path, n_frames=0), "sample"),
    "half a sample": (half_a_sample, "961"),
    "missing": (str, "such file"),
    "a folder": (lambda path: str(path.parent), "directory"),
}


@pytest.mark.parametrize("case", BAD_RECORDINGS)
def test_a_bad_recording_is_one_line_with_the_value_and_no_traceback(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, word = BAD_RECORDINGS[case]
    out = str(tmp_path / "out")
    said = call(monkeypatch, "demo", "--fast", "--out", out, "--user", make(tmp_path / "user.wav"))
    assert isinstance(said, str)
    assert said.startswith("framepipe: ")
    assert "\n" not in said
    assert word in said
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    said = call(monkeypatch, "demo", "--fast", "--out", str(tmp_path / "file" / "out"))
    assert isinstance(said, str)
    assert "choose another folder" in said


def test_a_port_that_is_taken_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = call(monkeypatch, "serve", "--port", str(port))
    assert isinstance(said, str)
    assert str(port) in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "70000"),
        ("--host", "0.0.0.0"),
        ("--answer-ms", "-5"),
        ("--refuse-status", "200"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(
    arguments: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call(monkeypatch, "serve", *arguments)
    assert isinstance(said, str)
    assert arguments[1] in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("arguments", "way_out"),
    [
        (("--mic", "3"), "--terminal"),
        (("--aec",), "--terminal"),
        (("--greeting", "Hello."), "--openai or --url"),
        (("--pipeline", "own:make", "--model", "large"), "own:make"),
        (("--openai", "--url", "ws://127.0.0.1:1/"), "one of them"),
        (("--url", "wss://service.example/v1/realtime"), "OPENAI_API_KEY"),
        (("--url", "ws://127.0.0.1:99999/"), "wss://host:port/path"),
        (("--port", "99999"), "65535"),
    ],
)
def test_a_talk_that_could_not_do_what_it_was_told_does_not_begin(
    arguments: tuple[str, ...], way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    said = call(monkeypatch, "talk", "--no-open", *arguments)
    assert isinstance(said, str)
    assert way_out in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--key", ""),
        ("call", "--mic", "m.wav", "--speaker", "s.wav", "--url", " "),
        ("talk", "--url", ""),
    ],
)
def test_an_option_that_is_empty_is_refused(arguments: tuple[str, ...]) -> None:
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 2
    assert "it is empty" in ran.output


def test_the_command_tells_its_version() -> None:
    ran = CliRunner().invoke(app, ["--version"])
    assert (ran.exit_code, ran.output) == (0, f"framepipe {version('framepipe')}\n")


def test_noise_louder_than_full_scale_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = call(monkeypatch, "bench", "interruption", "--audio", ".", "--floor-dbfs", "nan")
    assert isinstance(said, str)
    assert "nan" in said
    assert "-120 to 0" in said


def test_what_a_stage_says_of_a_call_is_told_without_the_names_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mic, out = wav(tmp_path / "mic.wav"), str(tmp_path / "none" / "out.wav")
    url = "ws://127.0.0.1:1/v1/realtime"
    said = call(monkeypatch, "call", "--mic", mic, "--speaker", out, "--url", url)
    assert isinstance(said, str)
    assert said.startswith(f"framepipe: WavSink: {out}: cannot be written")


def test_a_user_over_whom_nobody_talks_gets_a_sentence_and_no_empty_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    user, out = wav(tmp_path / "silent.wav"), str(tmp_path / "out")
    assert call(monkeypatch, "demo", "--fast", "--user", user, "--out", out) in (0, None)
    said = capsys.readouterr().out
    assert "never silenced" in said
    assert "verdict" not in said


def test_an_unknown_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "dmeo") == 2
    assert "dmeo" in capsys.readouterr().err


def test_the_demo_tells_of_two_cuts_and_a_false_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "demo", "--fast", "--out", str(tmp_path / "out")) in (0, None)
    said = capsys.readouterr().out
    assert "3 times silenced: 2 cut, 1 taken back" in said
    assert "audio_end_ms" in said


def test_the_demo_leaves_a_recording_and_a_trace(tmp_path: Path) -> None:
    told: list[str] = []
    result = run_demo(out=tmp_path, fast=True, tell=told.append)
    with wave.open(str(result.wav)) as stereo, wave.open(str(USER_WAV)) as user:
        assert (stereo.getnchannels(), stereo.getframerate()) == (2, 24_000)
        length_s = stereo.getnframes() / 24_000
        assert user.getnframes() / user.getframerate() < length_s <= 30
    lines = [json.loads(line) for line in result.trace.read_text().splitlines()]
    assert {"AudioIn", "AudioOut", "SpeechStarted", "Mute", "Interrupt", "InterruptionReport"} <= {
        line["frame"] for line in lines
    }
    assert [report.verdict for report in result.reports] == ["cut", "rejected", "cut"]
    first = result.reports[0]
    assert first.audio_end_ms is not None
    assert first.heard_ms is not None
    assert abs(first.audio_end_ms - first.heard_ms) <= 1
    assert first.cancel_to_ack_ns is not None
    assert first.late_audio_dropped_ms > 0
    assert any("agent muted" in line for line in told)
