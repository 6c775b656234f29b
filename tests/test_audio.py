"""Levels, silence, ramps; and a resampler that cannot be told apart from one big block."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from framepipe.audio import (
    Ramp,
    Resampler,
    mean_of,
    mixed_to_mono,
    pcm_of,
    rms_dbfs,
    samples_of,
    scaled,
    silence,
)
from framepipe.errors import FrameError

RATES_HZ = (8_000, 16_000, 24_000, 44_100, 48_000)
PAIRS = [(a, b) for a in RATES_HZ for b in RATES_HZ if a != b]


def tone(hz: float, rate_hz: int, n_samples: int, amplitude: float = 16_000.0) -> bytes:
    times = np.arange(n_samples, dtype=np.float64) / rate_hz
    return pcm_of(amplitude * np.sin(2 * np.pi * hz * times))


def middle(pcm: bytes, rate_hz: int) -> NDArray[np.float64]:
    """The samples without the 20 ms at each end, where the filter swings in."""
    edge = rate_hz // 50
    return samples_of(pcm).astype(np.float64)[edge:-edge]


def noise(n_samples: int, seed: int = 1) -> bytes:
    random = np.random.default_rng(seed)
    return random.integers(-32_768, 32_768, n_samples).astype("<i2").tobytes()


@st.composite
def cut_audio(draw: st.DrawFn, channels: int = 1, at_most: int = 600) -> list[bytes]:
    """Noise, cut into blocks of any length, empty ones too."""
    sizes = draw(st.lists(st.integers(0, at_most), max_size=8))
    pcm = noise(channels * sum(sizes), draw(st.integers(0, 99)))
    blocks: list[bytes] = []
    for size in sizes:
        blocks.append(pcm[: 2 * channels * size])
        pcm = pcm[2 * channels * size :]
    return blocks


def test_a_full_scale_sine_has_minus_3_dbfs() -> None:
    pcm = tone(1_000, 24_000, 24_000, amplitude=32_767)
    assert rms_dbfs(pcm) == pytest.approx(-3.01, abs=0.01)


def test_silence_and_nothing_have_no_level() -> None:
    assert rms_dbfs(silence(480)) == -math.inf
    assert rms_dbfs(b"") == -math.inf


def test_silence_has_both_channels() -> None:
    assert silence(3, channels=2) == bytes(12)


def test_scaling_clips_instead_of_wrapping() -> None:
    assert samples_of(scaled(pcm_of(np.array([20_000.0, -20_000.0])), 2.0)).tolist() == [
        32_767,
        -32_768,
    ]


def test_half_a_sample_is_refused_with_its_size() -> None:
    with pytest.raises(FrameError, match="3 bytes is not whole 16-bit samples"):
        samples_of(b"abc")


def test_mixing_two_loud_channels_does_not_clip() -> None:
    loud = pcm_of(np.array([32_767.0, 32_767.0, -32_768.0, -32_768.0]))
    assert samples_of(mixed_to_mono(loud, 2)).tolist() == [32_767, -32_768]


@given(st.lists(st.integers(-32_768, 32_767), max_size=60), st.integers(1, 6))
def test_the_mean_of_neighbours_is_the_floor_of_their_mean(values: list[int], n: int) -> None:
    values = values[: len(values) // n * n]
    expected = [sum(values[at : at + n]) // n for at in range(0, len(values), n)]
    assert samples_of(mean_of(np.array(values, "<i2").tobytes(), n)).tolist() == expected


def test_the_mean_refuses_a_rest() -> None:
    with pytest.raises(FrameError, match="4 samples is not a multiple of 3"):
        mean_of(silence(4), 3)


def test_a_ramp_never_reaches_its_ends_on_the_way() -> None:
    ramp = Ramp(at_sample=10, n_samples=3, start=1.0, stop=0.0)
    assert ramp.gains(10, 5).tolist() == pytest.approx([0.75, 0.5, 0.25, 0.0, 0.0])
    assert not ramp.is_over(12)
    assert ramp.is_over(13)


def test_a_ramp_without_length_jumps() -> None:
    assert Ramp(5, 0, 1.0, 0.0).gain(5) == 0.0


@given(st.integers(0, 50), st.integers(0, 50), st.floats(0, 1), st.floats(0, 1), st.integers(0, 60))
def test_a_ramp_is_the_same_in_pieces(
    at: int, n: int, start: float, stop: float, split: int
) -> None:
    ramp = Ramp(at, n, start, stop)
    whole = ramp.gains(at, 60)
    pieces = np.concatenate((ramp.gains(at, split), ramp.gains(at + split, 60 - split)))
    assert whole.tolist() == pieces.tolist()
    assert np.abs(np.diff(whole)).max() <= abs(stop - start) / (n + 1) + 1e-12


@given(st.sampled_from(PAIRS), cut_audio(), st.booleans())
def test_resampling_does_not_depend_on_the_blocks_to_the_last_bit(
    pair: tuple[int, int], blocks: list[bytes], aligned: bool
) -> None:
    whole = Resampler(*pair, aligned=aligned)
    expected = whole.process(b"".join(blocks)) + whole.flush()
    cut = Resampler(*pair, aligned=aligned)
    assert b"".join(map(cut.process, blocks)) + cut.flush() == expected


@given(st.sampled_from(PAIRS), cut_audio())
def test_the_number_of_samples_follows_the_input_exactly(
    pair: tuple[int, int], blocks: list[bytes]
) -> None:
    from_hz, to_hz = pair
    resampler = Resampler(from_hz, to_hz)
    n_in = n_out = 0
    for block in blocks:
        n_in += len(block) // 2
        n_out += len(resampler.process(block)) // 2
        assert n_out == math.ceil(n_in * to_hz / from_hz)


@given(st.sampled_from(PAIRS), cut_audio(at_most=40))
def test_an_aligned_stream_has_its_exact_length_after_the_flush(
    pair: tuple[int, int], blocks: list[bytes]
) -> None:
    from_hz, to_hz = pair
    resampler = Resampler(from_hz, to_hz, aligned=True)
    made = b"".join(map(resampler.process, blocks)) + resampler.flush()
    n_in = sum(map(len, blocks)) // 2
    assert len(made) // 2 == math.ceil(n_in * to_hz / from_hz)


@given(st.sampled_from([(24_000, 16_000), (16_000, 48_000)]), cut_audio(channels=2))
def test_channels_do_not_mix(pair: tuple[int, int], blocks: list[bytes]) -> None:
    stereo = Resampler(*pair, channels=2)
    made = samples_of(b"".join(map(stereo.process, blocks))).reshape(-1, 2)
    fed = samples_of(b"".join(blocks)).reshape(-1, 2)
    for channel in range(2):
        mono = Resampler(*pair).process(np.ascontiguousarray(fed[:, channel]).tobytes())
        assert made[:, channel].tolist() == samples_of(mono).tolist()


@pytest.mark.parametrize(("from_hz", "to_hz"), [pair for pair in PAIRS if pair[0] > pair[1]])
def test_what_the_lower_rate_cannot_carry_is_80_db_down(from_hz: int, to_hz: int) -> None:
    highest = from_hz / 2
    tones = [hz for hz in np.linspace(1.25 * to_hz / 2, 0.98 * highest, 5) if hz < highest]
    for hz in tones if 1.25 * to_hz / 2 < highest else []:
        made = Resampler(from_hz, to_hz).process(tone(hz, from_hz, from_hz // 4))
        left = rms_dbfs(pcm_of(middle(made, to_hz))) - rms_dbfs(tone(hz, from_hz, from_hz // 4))
        assert left <= -80.0, f"{hz:.0f} Hz"


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_what_both_rates_carry_keeps_its_place_and_its_level(from_hz: int, to_hz: int) -> None:
    lowest = min(from_hz, to_hz) / 2
    for part in (0.1, 0.5, 0.8):
        resampler = Resampler(from_hz, to_hz, aligned=True)
        made = resampler.process(tone(part * lowest, from_hz, from_hz // 4)) + resampler.flush()
        expected = tone(part * lowest, to_hz, len(made) // 2)
        wrong = middle(made, to_hz) - middle(expected, to_hz)
        # 0.01 of the amplitude: the pass band is flat to 0.05 dB there, and nothing is shifted.
        assert np.abs(wrong).max() <= 160


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_the_delay_is_at_most_a_millisecond_and_a_half(from_hz: int, to_hz: int) -> None:
    assert Resampler(from_hz, to_hz).delay_samples / to_hz <= 0.001_51


def test_a_constant_stays_constant() -> None:
    made = Resampler(24_000, 44_100).process(pcm_of(np.full(2_400, 12_345.0)))
    assert set(middle(made, 44_100).tolist()) == {12_345.0}


def test_the_same_rate_gives_the_same_bytes() -> None:
    resampler = Resampler(24_000, 24_000, aligned=True)
    assert resampler.process(b"\1\2\3\4") + resampler.flush() == b"\1\2\3\4"


def test_a_flush_begins_a_new_stream() -> None:
    resampler = Resampler(24_000, 16_000, aligned=True)
    first = resampler.process(noise(500)) + resampler.flush()
    assert resampler.process(noise(500)) + resampler.flush() == first


def test_odd_ratios_and_impossible_rates_are_refused_with_a_way_out() -> None:
    with pytest.raises(FrameError, match=r"12345 Hz to 24000 Hz: their ratio is 1600/823"):
        Resampler(12_345, 24_000)
    with pytest.raises(FrameError, match="rates are positive"):
        Resampler(0, 24_000)


def test_half_a_stereo_sample_is_refused() -> None:
    with pytest.raises(FrameError, match="6 bytes is not whole 2-channel samples"):
        Resampler(24_000, 16_000, channels=2).process(bytes(6))
