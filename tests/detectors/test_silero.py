"""Silero: the same probabilities whatever the blocks, and the right ones for speech and noise."""

from __future__ import annotations

import json
import math
import wave
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framepipe.audio import pcm_of, silence
from framepipe.detectors.automatic_gain import AutomaticGain
from framepipe.detectors.silero import HopMs, SileroDetector
from framepipe.errors import FrameError


def hiss(n_samples: int) -> bytes:
    return pcm_of(np.random.default_rng(1).normal(0, 1_000, n_samples))


@settings(max_examples=10)
@given(
    st.sampled_from([8_000, 16_000, 24_000, 44_100]),
    st.lists(st.integers(0, 2_000), max_size=5),
    st.sampled_from([16, 32]),
)
def test_the_probabilities_do_not_depend_on_the_blocks(
    rate_hz: int, sizes: list[int], hop_ms: HopMs
) -> None:
    sound = hiss(rate_hz // 8)
    expected = SileroDetector(rate_hz, hop_ms=hop_ms, gain=AutomaticGain()).feed(sound)
    cut = SileroDetector(rate_hz, hop_ms=hop_ms, gain=AutomaticGain())
    windows, at = cut.feed(b""), 0
    for size in sizes:
        windows += cut.feed(sound[at : at + 2 * size])
        at += 2 * size
    assert windows + cut.feed(sound[at:]) == expected
    assert len(expected) == (3 if hop_ms == 32 else 6), "within 125 ms"
    assert [window.end_sample for window in expected] == [
        (512 + 16 * hop_ms * n) * rate_hz // 16_000 for n in range(len(expected))
    ]


@settings(max_examples=10)
@given(
    st.sampled_from([16_000, 24_000, 44_100]),
    st.lists(st.integers(1, 2_000), max_size=6),
    st.sampled_from([16, 32]),
)
def test_within_the_horizon_at_most_one_window_ends_and_only_at_its_end(
    rate_hz: int, sizes: list[int], hop_ms: HopMs
) -> None:
    detector = SileroDetector(rate_hz, hop_ms=hop_ms)
    fed = n_windows = 0
    for size in sizes:
        ends_at_the_horizon = n_windows + 1
        n = detector.horizon(size)
        assert 1 <= n <= size
        assert detector.feed(silence(n - 1)) == []
        fed += n
        n_windows += len(detector.feed(silence(1)))
        heard = math.ceil(fed * 16_000 / rate_hz)
        assert n_windows == max(0, (heard - 512) // (16 * hop_ms) + 1)
        assert n == size or n_windows == ends_at_the_horizon


def test_of_two_models_each_hears_every_second_window_as_one_alone_would() -> None:
    sound = hiss(16_000)
    both = SileroDetector(16_000, hop_ms=16).feed(sound)
    assert both[::2] == SileroDetector(16_000).feed(sound)
    late = SileroDetector(16_000)
    late.reset(256)
    assert both[1::2] == late.feed(sound[2 * 256 :])


def test_quiet_sound_is_judged_as_if_it_were_louder() -> None:
    def probabilities(sound: bytes, gain: AutomaticGain | None) -> list[float]:
        return [window.probability for window in SileroDetector(16_000, gain=gain).feed(sound)]

    quiet = np.random.default_rng(2).normal(0, 10, 16_000)
    loud = probabilities(pcm_of(np.rint(quiet) * 2), None)
    doubled = AutomaticGain(20 * math.log10(2))
    assert probabilities(pcm_of(quiet), doubled) == pytest.approx(loud, abs=1e-3)


def test_another_hop_is_refused() -> None:
    with pytest.raises(FrameError, match="hop_ms is 10"):
        SileroDetector(16_000, hop_ms=cast("HopMs", 10))


def test_a_reset_forgets_what_was_heard() -> None:
    detector = SileroDetector(16_000)
    first = detector.feed(hiss(1_024))
    detector.feed(hiss(300))
    detector.reset()
    assert detector.feed(hiss(1_024)) == first


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(FrameError, match="3 bytes is not whole 1-channel samples"):
        SileroDetector(16_000).feed(b"abc")


def test_it_hears_speech_and_no_keyboard(audio_dir: Path) -> None:
    clips = json.loads((audio_dir / "MANIFEST.json").read_text())["clips"]
    for kind, is_speech in (("speech", True), ("keyboard", False)):
        clip = next(clip for clip in clips if clip["kind"] == kind)
        with wave.open(str(audio_dir / clip["file"])) as file:
            detector = SileroDetector(file.getframerate())
            windows = detector.feed(file.readframes(4 * file.getframerate()))
        assert (max(window.probability for window in windows) >= 0.9) == is_speech
