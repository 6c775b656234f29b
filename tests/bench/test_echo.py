"""The bench in which the agent hears itself, on a small folder made here."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from framepipe.audio import pcm_of, scaled, silence
from framepipe.bench.echo import Defence, EchoTrial, Room, echo_table, run_echo_trials
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.wav import WavReader, WavWriter

CLIPS = Path(__file__).parents[2] / "framepipe" / "realtime" / "clips"
RETURNS_DB = (-20.0, -40.0)


def write(path: Path, pcm: bytes) -> None:
    wav = WavWriter(path, 24_000)
    wav.write(pcm)
    wav.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an agent said, what came back of it, and a word of a user."""
    path = tmp_path_factory.mktemp("echo")
    with WavReader(CLIPS / "tell.wav") as wav:
        said = b"".join(wav.read_at(24_000))
    with WavReader(CLIPS / "hello.wav") as wav:
        word = b"".join(wav.read_at(24_000))[: 2 * 24_000]
    came_back = silence(960) + scaled(said, 0.1)
    write(path / "agent.wav", said)
    write(path / "echo.wav", came_back)
    write(path / "word.wav", silence(4_800) + word + silence(4_800))
    clips: list[dict[str, object]] = [
        {"file": "agent.wav", "kind": "agent_reference"},
        {"file": "echo.wav", "kind": "echo", "reference": "agent.wav"},
        {"file": "word.wav", "kind": "speech", "speech_segments_ms": [[200, 200 + len(word) / 48]]},
    ]
    (path / "MANIFEST.json").write_text(json.dumps({"clips": clips}))
    return path


@pytest.fixture(scope="module")
def trials(folder: Path) -> list[EchoTrial]:
    return run_echo_trials(folder, returns_db=RETURNS_DB, processes=1)


def of(trials: list[EchoTrial], defence: Defence) -> list[EchoTrial]:
    some = [trial for trial in trials if trial.defence is defence]
    assert len(some) == 3 * len(RETURNS_DB), "alone, with a user, with an early user"
    return some


def test_the_room_is_found_from_what_was_played_and_what_came_back() -> None:
    draw = np.random.default_rng(1)
    played = draw.normal(0, 3_000, 24_000)
    heard = np.concatenate((np.zeros(480), 0.1 * played))
    room = Room.measured(played, heard, return_db=-30.0)
    tap = PlaybackTap()
    tap.write(pcm_of(played), 24_000, 0)
    echo = room.echo(tap, 500_000_000, 240)
    wanted = 10 ** (-30 / 20) * played[12_000 - 480 : 12_000 - 240]
    assert np.max(np.abs(echo - wanted)) < 20


def test_without_a_gate_the_agent_mutes_itself_and_with_it_it_does_not(
    trials: list[EchoTrial],
) -> None:
    alone = [trial for trial in of(trials, Defence.NONE) if trial.clip is None]
    assert any(trial.suspects for trial in alone)
    for trial in of(trials, Defence.GATE):
        assert (trial.suspects, trial.cuts) == (0, 0)


def test_a_user_over_the_agent_cuts_it_and_no_word_is_lost(trials: list[EchoTrial]) -> None:
    spoken = [trial for trial in of(trials, Defence.GATE) if trial.clip and not trial.early]
    for trial in spoken:
        assert trial.silent_after is not None
        assert trial.silent_after < 300
        assert trial.cut_after is not None
        assert trial.lost == 0.0


def test_no_sample_is_missing_doubled_or_moved(trials: list[EchoTrial]) -> None:
    assert all(trial.is_whole for trial in trials)


def test_the_table_shows_each_defence_and_level(trials: list[EchoTrial]) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(echo_table(trials))
    shown = console.export_text()
    for wanted in ("nothing, -20 dB", "gate, -40 dB", "cuts by its own voice", "words lost, ms"):
        assert wanted in shown


def test_a_folder_without_an_echo_has_no_trials(folder: Path, tmp_path: Path) -> None:
    told = json.loads((folder / "MANIFEST.json").read_text())
    clips = [clip for clip in told["clips"] if clip["kind"] == "speech"]
    (tmp_path / "word.wav").symlink_to(folder / "word.wav")
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"clips": clips}))
    assert run_echo_trials(tmp_path, processes=1) == []


def test_in_the_recorded_room_no_word_over_the_agent_is_lost(
    audio_dir: Path, tmp_path: Path
) -> None:
    told = json.loads((audio_dir / "MANIFEST.json").read_text())
    wanted = ("echo_reference.wav", "echo_minus20dB.wav", "fsdd_7_george.wav")
    clips = [clip for clip in told["clips"] if clip["file"] in wanted]
    for clip in clips:
        (tmp_path / clip["file"]).symlink_to(audio_dir / clip["file"])
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"clips": clips}))
    found = run_echo_trials(tmp_path, returns_db=(-30.0,), defences=[Defence.GATE], processes=1)
    for trial in found:
        assert (trial.suspects, trial.cuts) == (0, 0)
        if trial.clip is not None and not trial.early:
            assert trial.cut_after is not None
            assert trial.lost == 0.0
