"""The gate in a pipeline: what is told to the detectors, and what passes."""

from __future__ import annotations

import math

import pytest

from framepipe import Pipeline
from framepipe.audio import silence
from framepipe.conversation.mic_gate import State
from framepipe.frames import (
    AudioIn,
    EchoReference,
    End,
    Frame,
    Played,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
)
from framepipe_processors import MicGate

RATE_HZ = 24_000
MS = 1_000_000


def audio(start_ms: int, n_ms: int = 10) -> AudioIn:
    n = 24 * n_ms
    pcm = b"\x01\x02" * n
    at_ns = (start_ms + n_ms) * MS
    return AudioIn(pcm=pcm, rate_hz=RATE_HZ, start_sample=24 * start_ms, at_ns=at_ns)


def played(at_ms: int, level_dbfs: float = -20.0) -> Played:
    return Played(
        handed_samples=0,
        played_samples=0,
        rate_hz=RATE_HZ,
        level_dbfs=level_dbfs,
        at_ns=at_ms * MS,
    )


def test_the_detectors_are_told_before_the_first_sound_and_with_each_report() -> None:
    gate = MicGate()
    first = [*gate.hear(audio(0))]
    assert first == [EchoReference(level_dbfs=-math.inf), audio(0)]
    assert [*gate.hear(audio(10))] == [audio(10)]
    report = played(15, -23.0)
    told = [*gate.listen(report)]
    assert told == [report, EchoReference(level_dbfs=-23.0)]
    assert told[1].at_ns == report.at_ns


def test_with_headphones_everything_passes_and_nothing_is_told() -> None:
    gate = MicGate(headphones=True)
    for at_ms in range(0, 1_000, 10):
        assert [*gate.listen(played(at_ms))] == [played(at_ms)]
        assert [*gate.hear(audio(at_ms))] == [audio(at_ms)]


def test_headphones_may_be_put_on_in_mid_call() -> None:
    gate = MicGate()
    for at_ms in range(0, 500, 10):
        gate.listen(played(at_ms))
        assert [f for f in gate.hear(audio(at_ms)) if isinstance(f, AudioIn)] == []
    gate.headphones = True
    passed: list[Frame] = []
    for at_ms in range(500, 900, 10):
        passed += gate.listen(played(at_ms))
        passed += gate.hear(audio(at_ms))
    heard = [frame for frame in passed if isinstance(frame, AudioIn)]
    assert [frame.start_sample for frame in heard] == [24 * ms for ms in range(0, 900, 10)]
    assert gate.core.state is State.FREE
    assert heard[-1] == audio(890)


def test_speech_passes_before_the_audio_that_waited_for_it() -> None:
    gate = MicGate()
    for at_ms in range(0, 300, 10):
        gate.listen(played(at_ms))
        assert len([*gate.hear(audio(at_ms))]) <= 1
    onset = SpeechStarted(source="local", onset_sample=24 * 290)
    told, *waiting = gate.open(onset)
    assert told == onset
    assert waiting == [audio(at_ms) for at_ms in range(0, 300, 10)]
    stop = SpeechStopped(source="local", end_sample=24 * 300)
    assert [*gate.close(stop)] == [stop]
    no = SpeechRejected(source="silero", onset_sample=24 * 290, probability=0.1)
    assert [*gate.close(no)] == [no]
    yes = SpeechConfirmed(source="silero", onset_sample=24 * 290, probability=0.9)
    assert [*gate.open(yes)] == [yes]


def test_in_a_pipeline_what_waits_comes_before_the_end() -> None:
    pipeline = Pipeline(MicGate(), accepts=(AudioIn, SpeechStarted))
    found: list[Frame] = []
    found += pipeline.step(played(0))
    for at_ms in range(0, 100, 10):
        found += pipeline.step(audio(at_ms))
    found += pipeline.step(End())
    heard = [frame for frame in found if isinstance(frame, AudioIn)]
    assert [frame.start_sample for frame in heard] == [24 * ms for ms in range(0, 100, 10)]
    assert {frame.pcm for frame in heard} == {silence(240)}


@pytest.mark.parametrize("at_ms", [0, 500])
def test_audio_without_a_stamp_is_heard_at_its_arrival(at_ms: int) -> None:
    pipeline = Pipeline(MicGate(), accepts=(AudioIn, SpeechStarted))
    pipeline.step(played(0))
    frame = AudioIn(pcm=silence(240), rate_hz=RATE_HZ, start_sample=24 * at_ms)
    assert not [one for one in pipeline.step(frame) if isinstance(one, AudioIn)]
