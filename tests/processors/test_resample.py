"""Resample: the sound, and everything that counts samples, at the other rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import Resampler, pcm_of, samples_of, silence
from framepipe.errors import FrameError
from framepipe.frames import (
    AudioDone,
    AudioIn,
    AudioOut,
    Frame,
    Interrupt,
    Played,
    SpeechStarted,
    SpeechStopped,
)
from framepipe_processors.resample import Resample

PAIRS = [(24_000, 48_000), (24_000, 16_000), (24_000, 44_100), (8_000, 24_000)]


def noise(n_samples: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).integers(-9_000, 9_000, n_samples).astype("<i2").tobytes()


def mic(n_samples: int, start: int, rate_hz: int = 24_000, channels: int = 1) -> AudioIn:
    return AudioIn(
        pcm=noise(n_samples * channels),
        rate_hz=rate_hz,
        channels=channels,
        start_sample=start,
        at_ns=7,
    )


def agent(
    n_samples: int, start: int = 0, rate_hz: int = 24_000, turn: int = 1, item: str = "a"
) -> AudioOut:
    return AudioOut(
        pcm=noise(n_samples), rate_hz=rate_hz, turn=turn, item_id=item, start_sample=start
    )


def audio(frames: Iterable[Frame]) -> list[AudioOut]:
    return [frame for frame in frames if isinstance(frame, AudioOut)]


@given(st.sampled_from(PAIRS), st.lists(st.integers(0, 700), max_size=8), st.integers(0, 999))
def test_the_microphone_keeps_its_clock(pair: tuple[int, int], sizes: list[int], at: int) -> None:
    from_hz, to_hz = pair
    stage = Resample(to_hz)
    expected, fed = Resampler(from_hz, to_hz), b""
    made: list[AudioIn] = []
    first = at
    for size in sizes:
        frame = mic(size, at, from_hz)
        fed += frame.pcm_bytes()
        out = stage.microphone(frame)
        made += [] if out is None else [out]
        at += size
    assert b"".join(frame.pcm_bytes() for frame in made) == expected.process(fed)
    position = math.ceil(first * to_hz / from_hz)
    for frame in made:
        assert (frame.start_sample, frame.rate_hz, frame.at_ns) == (position, to_hz, 7)
        position += frame.n_samples


def test_a_gap_in_the_microphone_stays_a_gap_and_empties_the_filter() -> None:
    stage = Resample(48_000)
    stage.microphone(mic(240, 0))
    made = stage.microphone(mic(240, 1_000))
    assert made is not None
    assert made.start_sample == 2_000
    assert made.pcm == Resampler(24_000, 48_000).process(noise(240))


def test_stereo_stays_stereo() -> None:
    made = Resample(48_000).microphone(mic(240, 0, channels=2))
    assert made is not None
    assert (made.channels, made.n_samples) == (2, 480)


def test_positions_of_speech_follow_the_microphone() -> None:
    stage = Resample(16_000)
    assert stage.speech_started(SpeechStarted(source="local", onset_sample=9)).onset_sample == 9
    stage.microphone(mic(240, 0))
    assert stage.speech_started(SpeechStarted(source="local", onset_sample=2_400)) == (
        SpeechStarted(source="local", onset_sample=1_600)
    )
    assert stage.speech_stopped(SpeechStopped(source="local", end_sample=4_800)).end_sample == 3_200
    assert stage.interrupted(Interrupt(onset_sample=1_600)).onset_sample == 2_400


@given(st.sampled_from(PAIRS), st.lists(st.integers(1, 700), min_size=1, max_size=8))
def test_a_part_keeps_its_exact_length_and_its_place(
    pair: tuple[int, int], sizes: list[int]
) -> None:
    from_hz, to_hz = pair
    stage = Resample(to_hz)
    frames: list[Frame] = []
    at = 0
    for size in sizes:
        frames += stage.agent(agent(size, at, from_hz))
        at += size
    frames += stage.agent_done(AudioDone(turn=1, item_id="a", n_samples=at))
    assert sum(frame.n_samples for frame in audio(frames)) == math.ceil(at * to_hz / from_hz)
    position = 0
    for frame in audio(frames):
        assert frame.start_sample == position
        position += frame.n_samples
    assert frames[-1] == AudioDone(turn=1, item_id="a", n_samples=position)


def test_the_sound_of_a_part_is_not_shifted() -> None:
    impulse = np.zeros(480)
    impulse[240] = 20_000
    stage = Resample(48_000)
    frame = AudioOut(pcm=pcm_of(impulse), rate_hz=24_000, turn=1)
    frames = [*stage.agent(frame), *stage.agent_done(AudioDone(turn=1, n_samples=480))]
    sound = samples_of(b"".join(frame.pcm_bytes() for frame in audio(frames)))
    assert int(np.argmax(np.abs(sound))) == 480


def test_another_part_begins_with_the_rest_of_the_one_before() -> None:
    stage = Resample(48_000)
    first = list(stage.agent(agent(240)))
    both = list(stage.agent(agent(240, item="b")))
    assert [frame.item_id for frame in both] == ["a", "b"]
    assert first[0].n_samples + both[0].n_samples == 480
    assert both[1].start_sample == 0


def test_a_cut_empties_the_filter_and_counts_as_played() -> None:
    stage = Resample(48_000)
    list(stage.agent(agent(480)))
    told = stage.interrupted(Interrupt(mute_point=200))
    assert told.mute_point == 100
    later = list(stage.agent(agent(240, turn=2, item="b")))
    assert [frame.item_id for frame in later] == ["b"]
    below = Played(handed_samples=936 + 456, played_samples=936, rate_hz=48_000)
    assert stage.played(below) == Played(handed_samples=720, played_samples=480, rate_hz=24_000)


@given(
    st.sampled_from(PAIRS),
    st.lists(st.tuples(st.integers(1, 900), st.booleans()), min_size=1, max_size=8),
)
def test_the_speakers_position_comes_back_on_the_line_above(
    pair: tuple[int, int], parts: list[tuple[int, bool]]
) -> None:
    from_hz, to_hz = pair
    stage = Resample(to_hz)
    above = below = 0
    for n, (size, is_done) in enumerate(parts):
        frames: list[Frame] = [*stage.agent(agent(size, rate_hz=from_hz, item=f"{n}"))]
        if is_done:
            frames += stage.agent_done(AudioDone(turn=1, item_id=f"{n}", n_samples=size))
        above += size
        below += sum(frame.n_samples for frame in audio(frames))
    before = -1
    held = 24 if not parts[-1][1] else 0  # still in the filter
    for position in range(0, below + 1, max(1, below // 50)):
        played = stage.played(Played(handed_samples=below, played_samples=position, rate_hz=to_hz))
        assert played.handed_samples == above
        assert played.rate_hz == from_hz
        assert before <= played.played_samples <= above
        # Not drifting: each part adds its own rounding and no more.
        assert abs(played.played_samples - position * from_hz / to_hz) <= len(parts) + 1
        before = played.played_samples
    end = stage.played(Played(handed_samples=below, played_samples=below, rate_hz=to_hz))
    assert above - held <= end.played_samples <= above


def test_a_rate_that_cannot_be_converted_is_refused() -> None:
    with pytest.raises(FrameError, match="12345 Hz to 24000 Hz"):
        Resample(24_000).microphone(AudioIn(pcm=silence(10), rate_hz=12_345))


def test_it_declares_the_rate_it_makes() -> None:
    assert Resample(16_000).made_rates_hz == {AudioIn: 16_000, AudioOut: 16_000}
