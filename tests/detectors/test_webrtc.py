"""webrtcvad: the same verdicts whatever the blocks, and early ones on real speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import pcm_of, samples_of, silence
from framepipe.detectors.webrtc import RATES_HZ, FrameMs, Mode, WebrtcDetector
from framepipe.errors import FrameError


def buzz(rate_hz: int, ms: int, *, channels: int = 1) -> bytes:
    """Something that webrtcvad takes for speech: harmonics of 150 Hz that come and go."""
    times = np.arange(rate_hz * ms // 1000) / rate_hz
    sound = sum(np.sin(2 * np.pi * 150 * k * times) / k for k in range(1, 12))
    sound = 6_000 * sound * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times))
    return pcm_of(np.repeat(np.asarray(sound, np.float64), channels))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frame_ms", [10, 20, 30])
def test_silence_is_no_speech_and_a_voice_is(
    rate_hz: int, channels: int, frame_ms: FrameMs
) -> None:
    detector = WebrtcDetector(rate_hz, channels=channels, frame_ms=frame_ms)
    quiet = detector.feed(silence(rate_hz * 300 // 1000, channels))
    loud = detector.feed(buzz(rate_hz, 300, channels=channels))
    assert not any(verdict.speech for verdict in quiet)
    assert all(verdict.speech for verdict in loud[1:])
    assert loud[0].start_sample == rate_hz * 300 // 1000
    assert loud[-1].end_sample == rate_hz * 600 // 1000 == detector.position


@given(
    st.sampled_from(RATES_HZ),
    st.sampled_from([1, 2]),
    st.sampled_from([10, 20, 30]),
    st.lists(st.integers(0, 900), max_size=20),
)
def test_the_verdicts_do_not_depend_on_the_blocks(
    rate_hz: int, channels: int, frame_ms: FrameMs, sizes: list[int]
) -> None:
    sound = buzz(rate_hz, 60, channels=channels) + silence(rate_hz // 5, channels)
    whole = WebrtcDetector(rate_hz, channels=channels, frame_ms=frame_ms)
    expected = whole.feed(sound)
    cut = WebrtcDetector(rate_hz, channels=channels, frame_ms=frame_ms)
    verdicts = cut.feed(b"")
    at = 0
    for size in sizes:
        verdicts += cut.feed(sound[at : at + 2 * channels * size])
        at += 2 * channels * size
    verdicts += cut.feed(sound[at:])
    assert verdicts == expected


@given(st.sampled_from(RATES_HZ), st.lists(st.integers(1, 700), max_size=15))
def test_within_the_horizon_at_most_one_verdict_falls_and_only_at_its_end(
    rate_hz: int, sizes: list[int]
) -> None:
    detector = WebrtcDetector(rate_hz)
    for size in sizes:
        n = detector.horizon(size)
        assert 1 <= n <= size
        frame_ends = (detector.position + n) % detector.frame_samples == 0
        assert len(detector.feed(silence(n))) == frame_ends


def test_seeking_drops_the_frame_under_way() -> None:
    detector = WebrtcDetector(16_000)
    detector.feed(silence(100))
    detector.seek(5_000)
    assert [v.start_sample for v in detector.feed(silence(320))] == [5_000, 5_160]


def test_what_webrtcvad_cannot_do_is_refused_with_a_way_out() -> None:
    with pytest.raises(FrameError, match=r"rate_hz is 44100; .* put Resample\(24000\) before it"):
        WebrtcDetector(44_100)
    with pytest.raises(FrameError, match="frame_ms is 15; webrtcvad takes"):
        WebrtcDetector(24_000, frame_ms=cast("FrameMs", 15))
    with pytest.raises(FrameError, match="mode is 4; webrtcvad has"):
        WebrtcDetector(24_000, mode=cast("Mode", 4))
    with pytest.raises(FrameError, match="6 bytes is not whole 2-channel samples"):
        WebrtcDetector(24_000, channels=2).feed(bytes(6))


def test_the_mode_follows_the_frame_length_unless_it_is_given() -> None:
    assert [WebrtcDetector(8_000, frame_ms=ms).mode for ms in (10, 20, 30)] == [1, 2, 2]
    assert WebrtcDetector(8_000, mode=3).mode == 3


def test_the_falling_edge_after_labelled_speech_is_late_by_about_the_hangover(
    audio_dir: Path,
) -> None:
    import wave

    clips = json.loads((audio_dir / "MANIFEST.json").read_text())["clips"]
    late: list[float] = []
    for clip in clips:
        if clip["kind"] not in ("speech", "backchannel") or clip["duration_ms"] > 5_000:
            continue
        with wave.open(str(audio_dir / clip["file"])) as file:
            rate_hz = file.getframerate()
            pcm = file.readframes(file.getnframes()) + silence(rate_hz)
        # Digital silence after a clip is no room: webrtcvad would fall at once.
        room = np.random.default_rng(1).normal(0, 18, len(pcm) // 2)
        pcm = pcm_of(samples_of(pcm) + room)
        detector = WebrtcDetector(rate_hz)
        last = [v.end_sample for v in detector.feed(pcm) if v.speech][-1]
        late.append(1000 * last / rate_hz - clip["speech_segments_ms"][-1][1])
    assert abs(float(np.median(late)) - WebrtcDetector(24_000).hangover_ms) <= 40
