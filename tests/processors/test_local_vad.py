"""LocalVad: what it tells, when, and how soon the agent is silent after a real voice begins."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framepipe import Emit, Pipeline, on
from framepipe.audio import pcm_of, silence
from framepipe.conversation.bargein import SecondStageReady
from framepipe.detectors.webrtc import FrameMs
from framepipe.errors import FrameError
from framepipe.frames import (
    NS_PER_S,
    AudioIn,
    AudioOut,
    Frame,
    Mute,
    Played,
    Problem,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Unmute,
)
from framepipe.testing import run_virtual
from framepipe.wav import WavReader
from framepipe_processors.local_vad import DISARMED, LocalVad
from framepipe_processors.wav_sink import WavSink
from framepipe_processors.wav_source import WavSource

HELLO = Path(__file__).parents[2] / "framepipe" / "realtime" / "clips" / "hello.wav"


def voice(rate_hz: int, ms: int, channels: int = 1) -> bytes:
    times = np.arange(rate_hz * ms // 1000) / rate_hz
    sound = sum(np.sin(2 * np.pi * 150 * k * times) / k for k in range(1, 12))
    return pcm_of(np.repeat(6_000 * np.asarray(sound, np.float64), channels))


def call(rate_hz: int, channels: int = 1) -> bytes:
    """Half a second of silence, as much voice, a second of silence."""
    quiet = silence(rate_hz // 2, channels)
    return quiet + voice(rate_hz, 500, channels) + quiet + quiet


def heard_by(
    vad: LocalVad, pcm: bytes, sizes: list[int], rate_hz: int, channels: int = 1
) -> list[Frame]:
    """Feed it in blocks of these sizes, over and over; everything that comes out."""
    frames: list[Frame] = []
    position = 0
    for n in (size for _ in range(len(pcm)) for size in sizes):
        block, pcm = pcm[: 2 * channels * n], pcm[2 * channels * n :]
        frame = AudioIn(
            pcm=block,
            rate_hz=rate_hz,
            channels=channels,
            start_sample=position,
            at_ns=(position + n) * NS_PER_S // rate_hz,
        )
        frames += vad.listen(frame)
        position += frame.n_samples
        if not pcm:
            break
    return frames


def edges(frames: list[Frame]) -> list[SpeechStarted | SpeechStopped]:
    return [frame for frame in frames if isinstance(frame, SpeechStarted | SpeechStopped)]


def test_speech_is_told_before_the_frame_in_which_it_was_found() -> None:
    frames = heard_by(LocalVad(), call(24_000), [240], 24_000)
    started, stopped = edges(frames)
    assert started == SpeechStarted(source="local", onset_sample=12_000)
    assert started.at_ns == 510_000_000
    behind = frames[frames.index(started) + 1]
    assert isinstance(behind, AudioIn)
    assert behind.start_sample == 12_000
    assert isinstance(stopped, SpeechStopped)
    assert abs(stopped.end_sample - 24_000) <= 24_000 * 0.2


def test_the_audio_passes_as_it_is() -> None:
    pcm = call(16_000, channels=2)
    frames = heard_by(LocalVad(), pcm, [317], 16_000, channels=2)
    audio = [frame for frame in frames if isinstance(frame, AudioIn)]
    assert b"".join(frame.pcm_bytes() for frame in audio) == pcm
    assert {(frame.rate_hz, frame.channels) for frame in audio} == {(16_000, 2)}


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 32_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_rate_and_both_channel_counts_are_heard(rate_hz: int, channels: int) -> None:
    frames = heard_by(LocalVad(), call(rate_hz, channels), [rate_hz // 50], rate_hz, channels)
    started = edges(frames)[0]
    assert isinstance(started, SpeechStarted)
    assert started.onset_sample == rate_hz // 2


@given(
    st.sampled_from([8_000, 24_000, 48_000]),
    st.sampled_from([10, 20, 30]),
    st.lists(st.integers(1, 5_000), min_size=1, max_size=6),
)
def test_what_is_told_does_not_depend_on_the_blocks(
    rate_hz: int, frame_ms: FrameMs, sizes: list[int]
) -> None:
    pcm = call(rate_hz)
    whole = heard_by(LocalVad(frame_ms=frame_ms, second_stage=False), pcm, [len(pcm)], rate_hz)
    cut = heard_by(LocalVad(frame_ms=frame_ms, second_stage=False), pcm, sizes, rate_hz)
    assert edges(cut) == edges(whole)
    assert len(edges(cut)) == 2


def test_a_gap_in_the_capture_clock_moves_the_positions() -> None:
    vad = LocalVad(second_stage=False)
    quiet = AudioIn(pcm=silence(100), rate_hz=24_000)
    assert list(vad.listen(quiet)) == [quiet]
    late = AudioIn(pcm=voice(24_000, 200), rate_hz=24_000, start_sample=9_000)
    started = next(iter(vad.listen(late)))
    assert started == SpeechStarted(source="local", onset_sample=9_000)


def test_speech_never_ends_before_it_began() -> None:
    click = silence(6_000) + voice(24_000, 5) + silence(24_000)
    told = edges(heard_by(LocalVad(), click, [240], 24_000))
    for started, stopped in zip(told[::2], told[1::2], strict=True):
        assert isinstance(started, SpeechStarted)
        assert isinstance(stopped, SpeechStopped)
        assert stopped.end_sample >= started.onset_sample + 240


# --- the second stage -------------------------------------------------------------------------


def word(rate_hz: int = 24_000) -> bytes:
    """Half a second of silence, a spoken word, a second of silence."""
    with WavReader(HELLO) as wav:
        said = b"".join(wav.read_at(rate_hz))
    return silence(rate_hz // 2) + said + silence(rate_hz)


def hiss(rate_hz: int, ms: int) -> bytes:
    return pcm_of(np.random.default_rng(1).normal(0, 2_000, rate_hz * ms // 1000))


def told(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if not isinstance(frame, AudioIn | SpeechStopped)]


def test_a_word_is_confirmed_once_a_moment_after_it_was_suspected() -> None:
    ready, started, *confirmed = told(heard_by(LocalVad(), word(), [240], 24_000))
    assert ready == SecondStageReady(source="silero")
    assert isinstance(started, SpeechStarted)
    confirmed = [frame for frame in confirmed if not isinstance(frame, SpeechStarted)]
    assert isinstance(confirmed[0], SpeechConfirmed)
    assert 4 * 32 <= (confirmed[0].at_ns - started.at_ns) / 1e6 <= 300
    assert abs(confirmed[0].onset_sample - started.onset_sample) <= 768


def test_a_burst_of_noise_is_suspected_and_rejected() -> None:
    burst = silence(24_000) + hiss(24_000, 150) + silence(24_000)
    _, started, rejected = told(heard_by(LocalVad(), burst, [240], 24_000))
    assert isinstance(started, SpeechStarted)
    assert isinstance(rejected, SpeechRejected)
    assert rejected.onset_sample == started.onset_sample
    assert 160 <= (rejected.at_ns - started.at_ns) / 1e6 <= 230


@settings(max_examples=8)
@given(
    st.sampled_from([8_000, 24_000, 48_000]),
    st.lists(st.integers(1, 5_000), min_size=1, max_size=4),
)
def test_the_verdicts_do_not_depend_on_the_blocks(rate_hz: int, sizes: list[int]) -> None:
    pcm = word(rate_hz)
    whole = told(heard_by(LocalVad(), pcm, [len(pcm)], rate_hz))
    assert told(heard_by(LocalVad(), pcm, sizes, rate_hz)) == whole
    assert any(isinstance(frame, SpeechConfirmed) for frame in whole)


def test_every_suspicion_of_a_stereo_call_is_answered() -> None:
    pcm = np.repeat(np.frombuffer(word(16_000), "<i2"), 2).astype("<i2").tobytes()
    frames = told(heard_by(LocalVad(), pcm, [320], 16_000, channels=2))
    assert any(isinstance(frame, SpeechConfirmed) for frame in frames)


def test_without_a_second_stage_nothing_is_judged() -> None:
    frames = heard_by(LocalVad(second_stage=False), word(), [240], 24_000)
    assert {type(frame) for frame in frames} == {AudioIn, SpeechStarted, SpeechStopped}


def test_noise_that_never_ends_disarms_the_first_stage_and_it_says_so() -> None:
    rattle = (hiss(24_000, 300) + silence(24_000 // 4)) * 20
    told_of = told(heard_by(LocalVad(), rattle, [240], 24_000))
    problems = [frame for frame in told_of if isinstance(frame, Problem)]
    assert [problem.code for problem in problems] == [DISARMED]
    after = told_of[told_of.index(problems[0]) + 1 :]
    assert not [frame for frame in after if isinstance(frame, SpeechStarted)]


def test_a_disarmed_first_stage_leaves_the_second_and_comes_back_when_it_is_quiet() -> None:
    noise = (hiss(24_000, 300) + silence(24_000 // 4)) * 12
    quiet = silence(24_000 * 6)
    told_of = told(heard_by(LocalVad(), noise + word() + quiet + word(), [240], 24_000))
    at = [isinstance(frame, Problem) for frame in told_of].index(True)
    # The suspicion that was open then has still been answered.
    first, second, *rest = [
        frame for frame in told_of[at + 1 :] if not isinstance(frame, SpeechRejected)
    ]
    assert isinstance(first, SpeechStarted)
    assert first.source == "silero", "the first stage is disarmed"
    assert isinstance(second, SpeechConfirmed)
    assert any(isinstance(frame, SpeechStarted) and frame.source == "local" for frame in rest)


def test_where_the_first_stage_is_disarmed_the_second_tells_the_end() -> None:
    noise = (hiss(24_000, 300) + silence(24_000 // 4)) * 12
    frames = heard_by(LocalVad(), noise + word(), [240], 24_000)
    at = [isinstance(frame, Problem) for frame in frames].index(True)
    slow = [edge for edge in edges(frames[at:]) if edge.source == "silero"]
    assert [type(edge).__name__ for edge in slow] == ["SpeechStarted", "SpeechStopped"]


def test_a_word_that_begins_while_the_first_stage_hangs_on_is_heard_to_begin() -> None:
    """A click is rejected after 192 ms, and webrtcvad calls what follows it the same sound."""
    with WavReader(HELLO) as wav:
        said = b"".join(wav.read_at(24_000))
    burst = silence(24_000) + hiss(24_000, 300)
    frames = told(heard_by(LocalVad(), burst + said + silence(12_000), [240], 24_000))
    _, first, rejected, second, confirmed, *_ = frames
    assert isinstance(first, SpeechStarted)
    assert isinstance(rejected, SpeechRejected)
    assert isinstance(second, SpeechStarted)
    assert (first.source, second.source) == ("local", "silero")
    assert isinstance(confirmed, SpeechConfirmed)
    assert confirmed.onset_sample == second.onset_sample


def test_no_end_is_told_twice() -> None:
    """The first stage tells the end where it has heard the beginning."""
    heard = edges(heard_by(LocalVad(), word() * 3, [240], 24_000))
    assert {edge.source for edge in heard} == {"local"}
    kinds = [type(edge).__name__ for edge in heard]
    assert kinds == ["SpeechStarted", "SpeechStopped"] * (len(heard) // 2)


def test_a_long_turn_of_the_user_does_not_disarm_the_first_stage() -> None:
    with WavReader(HELLO) as wav:
        said = b"".join(wav.read_at(24_000))
    frames = told(heard_by(LocalVad(), said * 40, [240], 24_000))
    assert not [frame for frame in frames if isinstance(frame, Problem)]


def test_a_gap_in_the_capture_clock_moves_the_second_stage_too() -> None:
    vad = LocalVad()
    list(vad.listen(AudioIn(pcm=silence(100), rate_hz=24_000)))
    pcm = word()
    late = AudioIn(pcm=pcm, rate_hz=24_000, start_sample=90_000)
    (confirmed,) = [f for f in vad.listen(late) if isinstance(f, SpeechConfirmed)][:1]
    assert 90_000 + 11_000 <= confirmed.onset_sample <= 90_000 + len(pcm) // 2


def test_a_rate_it_cannot_hear_is_refused_with_a_way_out() -> None:
    frame = AudioIn(pcm=silence(441), rate_hz=44_100)
    with pytest.raises(FrameError, match=r"rate_hz is 44100; .* put Resample\(24000\) before it"):
        list(LocalVad().listen(frame))


def test_bad_settings_fail_where_they_are_given() -> None:
    with pytest.raises(FrameError, match="frame_ms is 25"):
        LocalVad(frame_ms=cast("FrameMs", 25))


# --- how soon the agent is silent -------------------------------------------------------------


class _Agent:
    """Talks without end, and is muted while the user speaks."""

    def __init__(self, sink: WavSink) -> None:
        self.sink = sink
        self.silences_ns: list[int] = []

    def attach(self, emit: Emit[AudioOut]) -> None:
        self.turn = 0
        self.new_turn = emit.new_turn

    @on(AudioIn)
    def talk(self, frame: AudioIn) -> AudioOut:
        if not self.turn:
            self.turn = self.new_turn()
        n = frame.n_samples
        return AudioOut(
            pcm=pcm_of(np.full(n, 8_000.0)),
            rate_hz=24_000,
            turn=self.turn,
            start_sample=frame.start_sample,
        )

    @on(SpeechStarted)
    def mute(self, frame: SpeechStarted) -> Iterator[SpeechStarted | Mute]:
        yield frame
        yield Mute()

    @on(SpeechStopped)
    def unmute(self, frame: SpeechStopped) -> Iterator[SpeechStopped | Unmute]:
        yield frame
        yield Unmute()

    @on(Played)
    def note(self, frame: Played) -> None:
        if frame.mute_point is not None and self.sink.silent_since_ns is not None:
            self.silences_ns.append(self.sink.silent_since_ns)


def onset_to_silence_ms(path: Path, onset_ms: float, lead_ms: int) -> float | None:
    """From the labelled onset to the first silent sample; ``None``: it was silent before."""
    sink = WavSink()
    agent = _Agent(sink)
    source = WavSource(path, block_ms=10, lead_ms=lead_ms)
    run_virtual(Pipeline(source, LocalVad(), agent, sink).run)
    onset_ns = (onset_ms + lead_ms) * 1e6
    early = [at for at in agent.silences_ns if onset_ns - 3e8 < at <= onset_ns]
    after = [at for at in agent.silences_ns if at > onset_ns]
    return None if early else (min(after, default=math.inf) - onset_ns) / 1e6


def test_the_agent_is_silent_within_milliseconds_of_a_real_voice(audio_dir: Path) -> None:
    clips = json.loads((audio_dir / "MANIFEST.json").read_text())["clips"]
    clips = [c for c in clips if c["kind"] in ("speech", "backchannel", "self_correction")]
    clips = [c for c in clips if c["duration_ms"] < 8_000 and c["speech_segments_ms"][0][0] > 300]
    assert len(clips) >= 30
    took = [
        # Leads of odd lengths, so that the onsets fall on all phases of the blocks.
        onset_to_silence_ms(
            audio_dir / clip["file"], clip["speech_segments_ms"][0][0], 200 + 7 * n % 10
        )
        for n, clip in enumerate(clips)
    ]
    known = [ms for ms in took if ms is not None]
    p50, p95 = np.percentile(known, [50, 95])
    print(f"onset to silence: n {len(known)} p50 {p50:.1f} p95 {p95:.1f} ms")  # noqa: T201
    assert len(known) >= 0.85 * len(took)
    assert p50 <= 30
    assert p95 <= 80
