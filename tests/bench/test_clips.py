"""Labelled recordings: what is read, what is made of it, and what is said of a bad folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from framepipe.audio import pcm_of, rms_dbfs, samples_of
from framepipe.bench.clips import (
    FLOOR_DBFS,
    LEAD_MS,
    RATE_HZ,
    SPEECH_DBFS,
    Room,
    noise_called,
    read_manifest,
    signal_of,
)
from framepipe.errors import FrameError
from framepipe.wav import WavWriter


def write(folder: Path, name: str, *, ms: int = 500, rate_hz: int = 16_000) -> None:
    times = np.arange(rate_hz * ms // 1000) / rate_hz
    wav = WavWriter(folder / name, rate_hz)
    wav.write(pcm_of(3_000 * np.sin(2 * np.pi * 200 * times)))
    wav.close()


def manifest(folder: Path, *clips: dict[str, object]) -> Path:
    (folder / "MANIFEST.json").write_text(json.dumps({"format": 1, "clips": clips}))
    return folder


def test_speech_has_its_level_and_its_onset(tmp_path: Path) -> None:
    write(tmp_path, "a.wav")
    folder = manifest(
        tmp_path, {"file": "a.wav", "kind": "speech", "speech_segments_ms": [[100, 400]]}
    )
    (clip,) = read_manifest(folder)
    signal = signal_of(clip, quieter_db=14.0, seed=3)
    assert signal.onset_ms is not None
    assert LEAD_MS + 100 <= signal.onset_ms < LEAD_MS + 132
    first, last = (int(ms * RATE_HZ / 1000) for ms in (signal.onset_ms, signal.end_ms))
    assert abs(rms_dbfs(signal.pcm[2 * first : 2 * last]) - (SPEECH_DBFS - 14)) < 0.2
    assert abs(rms_dbfs(signal.pcm[: 2 * RATE_HZ]) - FLOOR_DBFS) < 0.5


def test_another_seed_is_another_phase_and_the_same_seed_the_same_signal(tmp_path: Path) -> None:
    write(tmp_path, "a.wav")
    (clip,) = read_manifest(manifest(tmp_path, {"file": "a.wav", "kind": "cough"}))
    signals = [signal_of(clip, quieter_db=0.0, seed=seed) for seed in range(5)]
    assert len({len(signal.pcm) for signal in signals}) == 5
    assert signal_of(clip, quieter_db=0.0, seed=0) == signals[0]
    assert signals[0].onset_ms is None
    peak = np.max(np.abs(samples_of(signals[0].pcm).astype(float)))
    assert abs(20 * np.log10(peak / 32_768) + 20) < 0.3


def test_a_label_is_exact_only_if_it_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a.wav")
    label: dict[str, object] = {"file": "a.wav", "kind": "speech", "speech_segments_ms": [[0, 9]]}
    folder = manifest(
        tmp_path,
        {**label, "label_method": "exact: placed by construction"},
        {**label, "label_method": "energy"},
        label,
    )
    assert [clip.is_exact for clip in read_manifest(folder)] == [True, False, False]


def test_a_clip_played_faster_is_shorter_and_so_are_its_labels(tmp_path: Path) -> None:
    write(tmp_path, "a.wav", ms=500)
    label: dict[str, object] = {"file": "a.wav", "kind": "x", "speech_segments_ms": [[100, 400]]}
    (clip,) = read_manifest(manifest(tmp_path, label))
    plain = signal_of(clip, quieter_db=0.0, seed=1)
    fast = signal_of(clip, quieter_db=0.0, seed=1, room=Room(speed=1.25))
    assert plain.onset_ms is not None
    assert fast.onset_ms is not None
    assert fast.end_ms - fast.onset_ms == pytest.approx(300 / 1.25)
    assert plain.onset_ms - fast.onset_ms == pytest.approx(100 - 80)
    assert (len(plain.pcm) - len(fast.pcm)) / 48 == pytest.approx(100, abs=1.5)


def test_another_noise_is_as_loud_as_asked(tmp_path: Path) -> None:
    write(tmp_path, "a.wav")
    (clip,) = read_manifest(manifest(tmp_path, {"file": "a.wav", "kind": "cough"}))
    room = Room(noise=noise_called("pink"), floor_dbfs=-50.0)
    heard = signal_of(clip, quieter_db=0.0, seed=0, room=room).pcm
    assert abs(rms_dbfs(heard[: 2 * RATE_HZ]) - -50.0) < 2.0
    lead = np.abs(np.fft.rfft(samples_of(heard[: 2 * RATE_HZ]).astype(float)))
    low, high = (float(np.mean(lead[a:b] ** 2)) for a, b in ((50, 500), (5_000, 10_000)))
    assert low > 5 * high


def test_the_microphone_begins_anywhere_within_a_block_of_the_speaker(tmp_path: Path) -> None:
    write(tmp_path, "a.wav")
    (clip,) = read_manifest(manifest(tmp_path, {"file": "a.wav", "kind": "cough"}))
    late = [signal_of(clip, quieter_db=0.0, seed=seed).late_ns for seed in range(8)]
    assert len(set(late)) == 8
    assert all(0 <= ns < 10_000_000 for ns in late)
    assert signal_of(clip, quieter_db=0.0, seed=1, room=Room(in_step=True)).late_ns == 0


@pytest.mark.parametrize("speed", [0.4, 2.1])
def test_a_speed_out_of_range_is_refused(speed: float) -> None:
    with pytest.raises(FrameError, match=f"speed is {speed}"):
        Room(speed=speed)


def test_an_unknown_noise_is_refused() -> None:
    with pytest.raises(FrameError, match="noise is brown; there is white and pink"):
        noise_called("brown")


def test_what_no_microphone_heard_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "a.wav")
    folder = manifest(
        tmp_path,
        {"file": "a.wav", "kind": "agent_reference"},
        {"file": "a.wav", "kind": "cough"},
    )
    assert [clip.kind for clip in read_manifest(folder)] == ["cough"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "MANIFEST.json: cannot be read: .*--audio names a folder"),
        ("{", "MANIFEST.json: .*it should be"),
        ('{"clips": [{"file": 3, "kind": "x"}]}', "MANIFEST.json: .*clips.*it should be"),
        ('{"clips": []}', "names no clip"),
        ('{"clips": [{"file": "gone.wav", "kind": "x"}]}', "names gone.wav, which is not in"),
    ],
)
def test_a_bad_folder_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "MANIFEST.json").write_text(text)
    with pytest.raises(FrameError, match=message) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("segment", [[900, 950], [400, 100], [-50, 100]])
def test_labels_outside_of_the_recording_are_refused(tmp_path: Path, segment: list[float]) -> None:
    write(tmp_path, "a.wav")
    label: dict[str, object] = {"file": "a.wav", "kind": "x", "speech_segments_ms": [segment]}
    (clip,) = read_manifest(manifest(tmp_path, label))
    with pytest.raises(FrameError, match=r"a\.wav: its speech segments"):
        signal_of(clip, quieter_db=0.0, seed=0)
