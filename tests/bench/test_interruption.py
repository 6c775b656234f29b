"""The interruption benchmark: on a small folder made here, and on real recordings if they are."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from rich.console import Console
from typer.testing import CliRunner

from framepipe.audio import pcm_of, silence
from framepipe.bench.cli import bench_app
from framepipe.bench.interruption import Policy, Trial, run_trials
from framepipe.bench.table import clip_table, other_table, speech_table
from framepipe.errors import FrameError
from framepipe.wav import WavReader, WavWriter

HELLO = Path(__file__).parents[2] / "framepipe" / "realtime" / "clips" / "hello.wav"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spoken word after 200 ms, and a burst of noise."""
    path = tmp_path_factory.mktemp("clips")
    with WavReader(HELLO) as wav:
        said = b"".join(wav.read_at(24_000))
    burst = pcm_of(np.random.default_rng(1).normal(0, 3_000, 24_000 * 150 // 1000))
    for name, sound in (("word.wav", said), ("burst.wav", burst)):
        wav_file = WavWriter(path / name, 24_000)
        wav_file.write(silence(4_800) + sound + silence(4_800))
        wav_file.close()
    spoken_ms = 200 + len(said) / 48
    clips: list[dict[str, object]] = [
        {
            "file": "word.wav",
            "kind": "speech",
            "speech_segments_ms": [[200, spoken_ms]],
            "label_method": "exact: placed by construction",
        },
        {"file": "burst.wav", "kind": "cough", "speech_segments_ms": []},
    ]
    (path / "MANIFEST.json").write_text(json.dumps({"clips": clips}))
    return path


@pytest.fixture(scope="module")
def trials(folder: Path) -> list[Trial]:
    return run_trials(folder, phases=2, processes=1)


def of(trials: list[Trial], policy: Policy, kind: str) -> list[Trial]:
    some = [trial for trial in trials if (trial.policy, trial.kind) == (policy, kind)]
    assert len(some) == 4, "two levels, two phases"
    return some


def test_two_stages_silence_at_once_and_cut_a_moment_later(trials: list[Trial]) -> None:
    for trial in of(trials, Policy.FULL, "speech"):
        assert trial.silent_after is not None
        assert trial.cut_after is not None
        assert trial.muted_after is not None
        assert 0 < trial.muted_after < trial.silent_after < trial.cut_after < 400
        # What is left of the block that sounds, and the fade.
        assert 8 <= trial.silent_after - trial.muted_after <= 18.1
        assert trial.is_exact


def test_two_stages_take_a_burst_back_and_lose_nothing(trials: list[Trial]) -> None:
    for trial in of(trials, Policy.FULL, "cough"):
        assert trial.cut_after is None
        assert trial.false_mutes
        assert all(150 < length < 500 for length in trial.false_mutes)
        assert (trial.lost, trial.repeated) == (0, 0)


def test_webrtcvad_alone_cuts_for_everything(trials: list[Trial]) -> None:
    for kind in ("speech", "cough"):
        assert all(t.cut_after is not None for t in of(trials, Policy.WEBRTC, kind))


def test_the_service_alone_is_silent_later_than_two_stages(trials: list[Trial]) -> None:
    def silent(policy: Policy) -> float:
        return sum(trial.silent_after or 0.0 for trial in of(trials, policy, "speech"))

    assert silent(Policy.SERVER) > silent(Policy.FULL)


def test_the_same_seeds_give_the_same_figures(folder: Path, trials: list[Trial]) -> None:
    again = run_trials(folder, phases=2, policies=[Policy.FULL], processes=1)
    assert again == [trial for trial in trials if trial.policy is Policy.FULL]


def test_the_tables_show_each_policy_and_kind(trials: list[Trial]) -> None:
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(speech_table(trials))
    console.print(other_table(trials))
    shown = console.export_text()
    for wanted in (*(policy.value for policy in Policy), "cut by cough, 1 clips", "samples lost"):
        assert wanted in shown
    assert "exact labels" not in shown, "all labels are"
    assert "100.0% (21%–100%)" in shown, "one clip is one observation, however often it was run"


def test_two_kinds_of_labels_have_rows_of_their_own(trials: list[Trial]) -> None:
    found = [evolve(trial, clip="found.wav", is_exact=False) for trial in trials]
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(speech_table([*trials, *found]))
    shown = console.export_text()
    assert shown.count("exact labels, 1 clips") == shown.count("labels by loudness, 1 clips") == 6


def test_the_worst_clips_are_shown_first_and_one_never_cut_is_the_worst(
    trials: list[Trial],
) -> None:
    never = [evolve(t, clip="deaf.wav", cut_after=None) for t in trials if t.is_speech]
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(clip_table([*trials, *never], most=1))
    shown = console.export_text()
    assert "deaf.wav" in shown
    assert "0 of 4" in shown
    assert "word.wav" not in shown
    console.print(clip_table([*trials, *never]))
    assert "word.wav" in console.export_text()


def test_the_command_prints_the_tables(folder: Path) -> None:
    words = ["interruption", "--audio", str(folder), "--quick", "--processes", "1"]
    result = CliRunner().invoke(bench_app, words)
    assert result.exit_code == 0, result.output
    assert "onset → silence p50" in result.output


def test_a_folder_without_recordings_is_an_error_of_ours(tmp_path: Path) -> None:
    result = CliRunner().invoke(bench_app, ["interruption", "--audio", str(tmp_path)])
    assert isinstance(result.exception, FrameError)
    with pytest.raises(FrameError, match="phases is 0"):
        run_trials(tmp_path, phases=0)


def test_real_coughs_and_keys_do_not_cut_and_real_words_do(audio_dir: Path, tmp_path: Path) -> None:
    told = json.loads((audio_dir / "MANIFEST.json").read_text())
    wanted = ("speech", "cough", "keyboard")
    clips = [c for c in told["clips"] if c["kind"] in wanted and c["duration_ms"] < 3_000]
    for clip in clips:
        (tmp_path / clip["file"]).symlink_to(audio_dir / clip["file"])
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"clips": clips}))
    found = run_trials(tmp_path, phases=1, policies=[Policy.FULL], processes=1)
    words = [trial for trial in found if trial.is_speech]
    others = [trial for trial in found if not trial.is_speech]
    assert len(words) >= 20
    assert others
    cut = [trial.cut_after for trial in words if trial.cut_after is not None]
    assert len(cut) >= 0.95 * len(words)
    assert np.percentile(cut, 50) <= 230
    assert sum(trial.cut_after is not None for trial in others) <= 0.2 * len(others)
    assert not any(trial.lost or trial.repeated for trial in found)
