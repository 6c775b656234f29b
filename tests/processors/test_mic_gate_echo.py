"""`LocalVad` and `MicGate` against the agent's own voice, block by block, without a loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attrs import define, field
from numpy.typing import NDArray

from framepipe import Pipeline
from framepipe.audio import FULL_SCALE, pcm_of, rms_dbfs, samples_of
from framepipe.frames import (
    AudioIn,
    Frame,
    Played,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
)
from framepipe.wav import WavReader
from framepipe_processors import LocalVad, MicGate

RATE_HZ = 24_000
BLOCK = 240
LEAD_MS = 600
"""The room alone, first: webrtcvad takes the first noise it ever hears for speech."""

CLIPS = Path(__file__).parents[2] / "framepipe" / "realtime" / "clips"

Floats = NDArray[np.float64]


def recording(path: Path) -> Floats:
    with WavReader(path) as wav:
        return samples_of(b"".join(wav.read_at(RATE_HZ))).astype(np.float64)


def at_dbfs(samples: Floats, level_dbfs: float) -> Floats:
    return samples * 10 ** ((level_dbfs - rms_dbfs(pcm_of(samples))) / 20)


def in_a_room(samples: Floats, return_db: float) -> Floats:
    """A wall 40 ms away, and a decay of 30 ms."""
    draw = np.random.default_rng(7)
    answer = draw.normal(0, 1, 24 * 150) * np.exp(-np.arange(24 * 150) / (24 * 30))
    answer[0] = 5.0
    answer /= np.sqrt(np.sum(answer * answer))
    echo = np.concatenate((np.zeros(24 * 40), np.convolve(samples, answer).astype(np.float64)))
    return at_dbfs(echo, rms_dbfs(pcm_of(samples)) + return_db)


@define
class Heard:
    """What the detectors told, and what passed the gate."""

    mic: bytes
    facts: list[SpeechStarted | SpeechConfirmed | SpeechRejected] = field(
        factory=list[SpeechStarted | SpeechConfirmed | SpeechRejected]
    )
    sent: bytes = b""

    def told(self, kind: type[Frame], after_ms: float = LEAD_MS) -> list[float]:
        """When, in milliseconds after the agent began."""
        return [
            fact.at_ns / 1e6 - LEAD_MS
            for fact in self.facts
            if isinstance(fact, kind) and fact.at_ns / 1e6 > after_ms
        ]


def hear(agent: Floats, near: Floats) -> Heard:
    """The agent begins after `LEAD_MS`; ``near`` is what the microphone hears from then on."""
    draw = np.random.default_rng(3)
    n = RATE_HZ * LEAD_MS // 1000 + max(len(agent), len(near))
    mic = draw.normal(0, FULL_SCALE * 10 ** (-65 / 20), n)
    mic[RATE_HZ * LEAD_MS // 1000 :][: len(near)] += near
    pcm = pcm_of(mic[: len(mic) // BLOCK * BLOCK])
    heard = Heard(pcm)
    pipeline = Pipeline(LocalVad(), MicGate(), accepts=(AudioIn,))
    for at in range(0, len(pcm) // 2, BLOCK):
        start_ms = at * 1000 // RATE_HZ
        spoken = agent[max(0, at - RATE_HZ * LEAD_MS // 1000) :][:BLOCK]
        frames: list[Frame] = []
        if start_ms >= LEAD_MS and len(spoken):
            frames += pipeline.step(
                Played(
                    handed_samples=0,
                    played_samples=0,
                    rate_hz=RATE_HZ,
                    level_dbfs=rms_dbfs(pcm_of(spoken)),
                    at_ns=start_ms * 1_000_000,
                )
            )
        block = pcm[2 * at : 2 * (at + BLOCK)]
        end_ns = (start_ms + 10) * 1_000_000
        frames += pipeline.step(
            AudioIn(pcm=block, rate_hz=RATE_HZ, start_sample=at, at_ns=end_ns), at_ns=end_ns
        )
        for frame in frames:
            if isinstance(frame, AudioIn):
                assert frame.start_sample * 2 == len(heard.sent)
                heard.sent += frame.pcm_bytes()
            elif isinstance(frame, SpeechStarted | SpeechConfirmed | SpeechRejected):
                heard.facts.append(frame)
    return heard


@pytest.mark.parametrize("return_db", [-10.0, -20.0, -30.0, -40.0])
def test_the_agents_own_voice_is_nobody(return_db: float) -> None:
    agent = at_dbfs(recording(CLIPS / "tell.wav"), -22)
    heard = hear(agent, in_a_room(agent, return_db))
    assert heard.told(SpeechStarted) == []
    assert heard.told(SpeechConfirmed) == []
    lead = RATE_HZ * LEAD_MS // 1000 * 2
    assert not any(heard.sent[lead + 480 : 2 * len(agent)]), "the service hears silence"


def test_without_the_gate_it_would_be_somebody() -> None:
    agent = at_dbfs(recording(CLIPS / "tell.wav"), -22)
    pipeline = Pipeline(LocalVad(), accepts=(AudioIn,))
    pcm = pcm_of(in_a_room(agent, -20.0))
    found: list[Frame] = []
    for at in range(0, len(pcm) // 2 - BLOCK, BLOCK):
        pcm_block = pcm[2 * at : 2 * (at + BLOCK)]
        found += pipeline.step(AudioIn(pcm=pcm_block, rate_hz=RATE_HZ, start_sample=at))
    assert any(isinstance(frame, SpeechConfirmed) for frame in found)


@pytest.mark.parametrize("return_db", [-20.0, -30.0, -40.0])
def test_a_user_who_talks_over_the_agent_is_heard_to_the_first_sample(return_db: float) -> None:
    onset_ms = 2_000
    agent = at_dbfs(np.tile(recording(CLIPS / "tell.wav"), 2), -22)
    near = in_a_room(agent, return_db)
    user = at_dbfs(recording(CLIPS / "trains.wav"), -26)[: RATE_HZ * 2]
    first = int(np.argmax(np.abs(user) > 300))
    at = RATE_HZ * onset_ms // 1000
    near[at : at + len(user) - first] += user[first:]
    heard = hear(agent, near)
    (started, *_), (confirmed, *_) = heard.told(SpeechStarted), heard.told(SpeechConfirmed)
    assert onset_ms < started < onset_ms + 300
    assert started < confirmed < onset_ms + 600
    begin = at + RATE_HZ * LEAD_MS // 1000
    said = slice(2 * begin, 2 * (begin + RATE_HZ))
    assert heard.sent[said] == heard.mic[said], "no word is lost, none is moved"


def test_a_click_over_the_agent_is_rejected_and_closes_the_gate_again() -> None:
    agent = at_dbfs(recording(CLIPS / "tell.wav"), -22)
    near = in_a_room(agent, -30.0)
    at = RATE_HZ * 1_500 // 1000
    near[at : at + 240] += np.random.default_rng(5).normal(0, 6_000, 240)
    heard = hear(agent, near)
    assert len(heard.told(SpeechStarted)) == 1
    assert heard.told(SpeechConfirmed) == []
    assert len(heard.told(SpeechRejected)) == 1
    later = slice(2 * RATE_HZ * (LEAD_MS + 2_000) // 1000, 2 * RATE_HZ * (LEAD_MS + 2_400) // 1000)
    assert not any(heard.sent[later])


@pytest.mark.parametrize("return_db", [-10.0, -20.0, -30.0, -40.0])
def test_recorded_echoes_are_nobody(audio_dir: Path, return_db: float) -> None:
    agent = recording(audio_dir / "echo_reference.wav")
    recorded_db = min(return_db, -20.0)
    echo = recording(audio_dir / f"echo_minus{-recorded_db:.0f}dB.wav")
    echo *= 10 ** ((return_db - recorded_db) / 20)
    heard = hear(agent, echo)
    assert heard.told(SpeechStarted) == []
    assert heard.told(SpeechConfirmed) == []


@pytest.mark.parametrize("return_db", [-20.0, -30.0, -40.0])
def test_over_recorded_echoes_the_user_is_heard_to_the_first_sample(
    audio_dir: Path, return_db: float
) -> None:
    agent = recording(audio_dir / "echo_reference.wav")
    for name in ("tts_speech_02.wav", "fsdd_7_george.wav"):
        near = recording(audio_dir / f"echo_minus{-return_db:.0f}dB.wav")
        clip = recording(audio_dir / name)
        loud = np.flatnonzero(np.abs(clip) > 0.02 * np.max(np.abs(clip)))
        user = at_dbfs(clip[loud[0] : loud[-1]], -26)
        at = RATE_HZ * 2_200 // 1000
        near[at : at + len(user)] += user[: len(near) - at]
        heard = hear(agent, near)
        assert 2_200 < heard.told(SpeechStarted)[0] < 2_500, name
        assert heard.told(SpeechConfirmed), name
        begin = at + RATE_HZ * LEAD_MS // 1000
        said = slice(2 * begin, 2 * (begin + min(len(user), RATE_HZ // 2)))
        assert heard.sent[said] == heard.mic[said], name
