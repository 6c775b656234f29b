"""WavSource: a recording at the speed at which it was recorded."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe import Pipeline, on
from framepipe.audio import samples_of
from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S, AudioIn
from framepipe.testing import run_virtual
from framepipe_processors.wav_source import WavSource


def recording(path: Path, n_samples: int, rate_hz: int = 24_000) -> Path:
    values = np.random.default_rng(1).integers(-9_000, 9_000, n_samples).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(values.tobytes())
    return path


class Ear:
    """Keeps what it is given, and when."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, AudioIn]] = []

    def attach(self, emit: object) -> None:
        self.now_ns = getattr(emit, "now_ns")  # noqa: B009

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> None:
        self.heard.append((self.now_ns(), frame))


def heard_from(source: WavSource) -> list[tuple[int, AudioIn]]:
    ear = Ear()
    run_virtual(Pipeline(source, ear).run)
    return ear.heard


@given(
    st.integers(1, 3_000),
    st.sampled_from([5, 10, 20, 37]),
    st.sampled_from([0, 3, 40]),
    st.sampled_from([0, 3, 40]),
)
def test_each_block_comes_when_its_last_sample_was_captured(
    tmp_path: Path, n_samples: int, block_ms: int, lead_ms: int, tail_ms: int
) -> None:
    source = WavSource(
        recording(tmp_path / "a.wav", n_samples),
        block_ms=block_ms,
        lead_ms=lead_ms,
        tail_ms=tail_ms,
    )
    position = 0
    for now_ns, frame in heard_from(source):
        assert frame.start_sample == position
        position += frame.n_samples
        assert frame.at_ns == position * NS_PER_S // 24_000
        assert abs(now_ns - frame.at_ns) <= 1
    assert position == n_samples + 24 * (lead_ms + tail_ms) == source.n_samples


def test_the_samples_are_those_of_the_file_with_silence_around(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 1_000)
    heard = heard_from(WavSource(path, lead_ms=1, tail_ms=2))
    pcm = b"".join(frame.pcm_bytes() for _, frame in heard)
    with wave.open(str(path)) as file:
        assert pcm == bytes(48) + file.readframes(1_000) + bytes(96)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_the_file_is_converted_and_stays_in_its_place(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    n_samples = rate_hz // 2
    times = np.arange(n_samples) / rate_hz
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes((9_000 * np.sin(2 * np.pi * 440 * times)).astype("<i2").tobytes())
    source = WavSource(path, rate_hz=24_000)
    sound = samples_of(b"".join(frame.pcm_bytes() for _, frame in heard_from(source)))
    assert len(sound) == source.n_samples == math.ceil(n_samples * 24_000 / rate_hz)
    expected = 9_000 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / 24_000)
    assert np.abs(sound - expected)[480:-480].max() <= 30


def test_a_bad_file_is_told_where_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="No such file"):
        WavSource(tmp_path / "no.wav")
    with pytest.raises(FrameError, match="12345 Hz to 24000 Hz"):
        WavSource(recording(tmp_path / "a.wav", 10, rate_hz=12_345))


def test_lengths_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", 10)
    with pytest.raises(FrameError, match="block_ms is 0"):
        WavSource(path, block_ms=0)
    with pytest.raises(FrameError, match="tail_ms -1"):
        WavSource(path, tail_ms=-1)
    with pytest.raises(FrameError, match="1 ms at 44100 Hz is not whole samples"):
        WavSource(path, rate_hz=44_100, block_ms=1)
