"""The echo canceller: what it takes away, and what it leaves in its place."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from framepipe import Pipeline
from framepipe.audio import Resampler, pcm_of, rms_dbfs, samples_of, silence
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.errors import FrameError, ProcessorError, WiringError
from framepipe.frames import NS_PER_S, AudioIn, End, Frame
from framepipe.wav import WavReader
from framepipe_processors import EchoCanceller
from framepipe_processors.echo_canceller import DELAY_SAMPLES

CLIPS = Path(__file__).parents[2] / "framepipe" / "realtime" / "clips"

Floats = NDArray[np.float64]


@pytest.fixture
def _aec() -> None:
    pytest.importorskip("livekit.rtc", reason="needs the extra: pip install 'framepipe[aec]'")


needs_aec = pytest.mark.usefixtures("_aec")


def clip(name: str, rate_hz: int = 24_000) -> Floats:
    with WavReader(CLIPS / name) as wav:
        pcm = b"".join(wav.read_at(24_000))
    resampler = Resampler(24_000, rate_hz, aligned=True)
    return samples_of(resampler.process(pcm) + resampler.flush()).astype(np.float64)


def through(
    canceller: EchoCanceller,
    near: Floats,
    *,
    rate_hz: int = 24_000,
    played: Floats | None = None,
    block_ms: int = 10,
) -> list[AudioIn]:
    """What the pipeline gives for a microphone and a speaker that began at the same moment."""
    pipeline = Pipeline(canceller, accepts=(AudioIn,))
    found: list[Frame] = []
    n = rate_hz * block_ms // 1000
    for at in range(0, len(near), n):
        at_ns = at * NS_PER_S // rate_hz
        if played is not None:
            canceller.tap.write(pcm_of(played[at : at + n]), rate_hz, at_ns)
        pcm = pcm_of(near[at : at + n])
        end_ns = at_ns + len(pcm) // 2 * NS_PER_S // rate_hz
        frame = AudioIn(pcm=pcm, rate_hz=rate_hz, start_sample=at, at_ns=end_ns)
        found += pipeline.step(frame, at_ns=end_ns)
    found += pipeline.step(End())
    return [frame for frame in found if isinstance(frame, AudioIn)]


def _convolved(samples: Floats, answer: Floats) -> Floats:
    return np.convolve(samples, answer).astype(np.float64)


def envelope(samples: Floats) -> Floats:
    """How loud it is from sample to sample; the canceller turns phases, but moves no loudness."""
    size = 1 << len(samples).bit_length()
    spectrum = np.fft.fft(samples, size)
    spectrum[size // 2 :] = 0
    loud: Floats = np.abs(np.fft.ifft(spectrum))[: len(samples)].astype(np.float64)
    return loud - float(loud.mean())


def shift_of(before: Floats, after: Floats) -> int:
    """By how many samples a sound is late, where it is most alike."""
    size = 1 << (2 * len(before)).bit_length()
    spectrum = np.fft.rfft(envelope(after), size) * np.fft.rfft(envelope(before), size).conj()
    shift = int(np.argmax(np.fft.irfft(spectrum, size)))
    return shift - size if shift > size // 2 else shift


def pcm_at_its_place(frames: list[AudioIn]) -> bytes:
    """The samples; none is missing, doubled or at another position or time."""
    at = 0
    for frame in frames:
        assert frame.start_sample == at
        at += frame.n_samples
        assert abs(frame.at_ns - at * NS_PER_S // frame.rate_hz) < 50_000
    return b"".join(frame.pcm_bytes() for frame in frames)


@needs_aec
@pytest.mark.parametrize("noise_suppression", [False, True])
@pytest.mark.parametrize("rate_hz", sorted(DELAY_SAMPLES))
def test_what_it_leaves_is_where_it_was(rate_hz: int, noise_suppression: bool) -> None:
    near = clip("trains.wav", rate_hz)
    canceller = EchoCanceller(PlaybackTap(), noise_suppression=noise_suppression)
    left = samples_of(pcm_at_its_place(through(canceller, near, rate_hz=rate_hz)))
    assert len(left) == len(near)
    shift = shift_of(near, left.astype(np.float64))
    assert abs(shift) <= 1 + rate_hz // 10_000, f"{shift} samples of shift"


@needs_aec
@pytest.mark.parametrize("block_ms", [10, 15])
def test_it_takes_what_was_played_out_of_what_was_heard(block_ms: int) -> None:
    draw = np.random.default_rng(1)
    played = np.tile(clip("tell.wav"), 3)[: 24_000 * 6]
    room = draw.normal(0, 1, 24 * 120) * np.exp(-np.arange(24 * 120) / (24 * 25))
    room *= 0.3 / np.sqrt(np.sum(room**2))
    echo = np.concatenate((np.zeros(24 * 40), _convolved(played, room)))[: len(played)]
    near = echo + draw.normal(0, 5, len(echo))
    left = pcm_at_its_place(
        through(EchoCanceller(PlaybackTap()), near, played=played, block_ms=block_ms)
    )
    later = slice(2 * 24_000 * 2, None)
    taken_db = rms_dbfs(pcm_of(near)[later]) - rms_dbfs(left[later])
    assert taken_db > 20


@needs_aec
def test_a_user_who_talks_over_the_agent_is_still_there() -> None:
    played = np.tile(clip("tell.wav"), 3)[: 24_000 * 6]
    echo = np.concatenate((np.zeros(24 * 40), 0.2 * played))[: len(played)]
    user = np.zeros(len(played))
    said = clip("hello.wav")[: 24_000 * 2]
    user[24_000 * 4 : 24_000 * 4 + len(said)] = said
    left = pcm_at_its_place(through(EchoCanceller(PlaybackTap()), echo + user, played=played))
    during = slice(2 * 24_000 * 4, 2 * (24_000 * 4 + len(said)))
    assert rms_dbfs(left[during]) > rms_dbfs(pcm_of(user)[during]) - 6


@needs_aec
def test_rates_that_do_not_fit_are_refused_and_the_way_out_is_named() -> None:
    frame = AudioIn(pcm=silence(240), rate_hz=24_000)
    tap = PlaybackTap()
    tap.write(silence(480), 48_000, 0)
    pipeline = Pipeline(EchoCanceller(tap), accepts=(AudioIn,))
    with pytest.raises(ProcessorError) as failed:
        pipeline.step(frame)
    assert isinstance(failed.value.__cause__, FrameError)
    assert "put Resample(48000) before it" in str(failed.value.__cause__)
    for wrong, words in (
        (AudioIn(pcm=silence(110), rate_hz=11_000), "11000 Hz; EchoCanceller takes 8000"),
        (AudioIn(pcm=silence(240, 2), rate_hz=24_000, channels=2), "takes mono"),
    ):
        canceller = EchoCanceller(PlaybackTap())
        with pytest.raises(FrameError, match=words):
            list(canceller.cancel(wrong))


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "livekit.rtc", None)
    monkeypatch.setitem(sys.modules, "livekit", None)
    with pytest.raises(WiringError, match=r"pip install 'framepipe\[aec\]'"):
        EchoCanceller(PlaybackTap())
