"""What the two ears cost, beside webrtcvad and the model called bare."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any, TypeVar

import numpy as np
import webrtcvad  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from benchmarks.measure import Figure
from framepipe.audio import pcm_of
from framepipe.detectors.automatic_gain import AutomaticGain
from framepipe.detectors.silero import WINDOW_SAMPLES, SileroDetector
from framepipe.detectors.silero_model import SileroVoiceActivityDetector
from framepipe.detectors.webrtc import WebrtcDetector
from framepipe.frames import AudioIn, EchoReference
from framepipe_processors.local_vad import LocalVad

_T = TypeVar("_T")

_RATE_HZ, _BLOCK_MS = 24_000, 20
_BLOCK = _RATE_HZ * _BLOCK_MS // 1000
_N_BLOCKS = 500


def figures() -> list[Figure]:
    """Measure the detectors on ten seconds of a voice in noise, in blocks of 20 ms at 24 kHz."""
    sound = _sound()
    blocks = [pcm_of(block) for block in sound.reshape(-1, _BLOCK)]
    bare: Any = webrtcvad.Vad(1)
    frames_8k = [pcm_of(frame) for frame in sound[::3].reshape(-1, 80)]
    detector = WebrtcDetector(_RATE_HZ)
    frames = [
        AudioIn(pcm=block, rate_hz=_RATE_HZ, start_sample=index * _BLOCK)
        for index, block in enumerate(blocks)
    ]
    windows = [window.tolist() for window in _windows_16k(sound)]
    model = SileroVoiceActivityDetector()
    two = SileroDetector(_RATE_HZ, hop_ms=16, gain=AutomaticGain())
    model_us = _each_us(model.process_samples, windows)

    def judge_bare(frame: bytes) -> object:
        return bare.is_speech(frame, 8_000)

    floor_us = 2 * _each_us(judge_bare, frames_8k)
    one_stage = LocalVad(second_stage=False)
    return [
        Figure("webrtcvad bare, two frames of 10 ms at 8 kHz", floor_us, "µs"),
        Figure("first stage with its rate conversion", _each_us(detector.feed, blocks), "µs", 20.0),
        Figure("LocalVad, first stage alone", _each_us(_listen(one_stage), frames), "µs"),
        Figure(
            "the same while the agent talks, with MicGate",
            _each_us(_listen_over(LocalVad(second_stage=False)), frames),
            "µs",
        ),
        Figure("the Silero model bare, 32 ms", model_us, "µs"),
        Figure("second stage, 1.25 windows", _each_us(two.feed, blocks), "µs", 200.0),
    ]


def _sound() -> NDArray[np.float64]:
    n = _N_BLOCKS * _BLOCK
    times = np.arange(n) / _RATE_HZ
    voice = np.sin(2 * np.pi * 150 * times) * (1 + np.sin(2 * np.pi * 3 * times))
    sound: NDArray[np.float64] = 3_000 * voice + np.random.default_rng(1).normal(0, 300, n)
    return sound


def _windows_16k(sound: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    samples = np.interp(np.arange(0, len(sound), 1.5), np.arange(len(sound)), sound) / 32_768
    for at in range(0, len(samples) - WINDOW_SAMPLES, WINDOW_SAMPLES):
        yield samples[at : at + WINDOW_SAMPLES]


def _listen(vad: LocalVad) -> Callable[[AudioIn], object]:
    return lambda frame: list(vad.listen(frame))


def _listen_over(vad: LocalVad) -> Callable[[AudioIn], object]:
    """The same over an agent whose level is told every 10 ms, on a clock that goes on."""
    at_ns = frame_ns = 10_000_000
    levels = cycle([-20.0, -25.0, -22.0, -60.0, -70.0])
    start_sample = 0

    def listen(frame: AudioIn) -> None:
        nonlocal at_ns, start_sample
        for _ in range(_BLOCK_MS // 10):
            vad.compare(EchoReference(level_dbfs=next(levels), at_ns=at_ns))
            at_ns += frame_ns
        heard = AudioIn(pcm=frame.pcm, rate_hz=_RATE_HZ, start_sample=start_sample, at_ns=at_ns)
        list(vad.listen(heard))
        start_sample += _BLOCK

    return listen


def _each_us(function: Callable[[_T], object], inputs: Sequence[_T]) -> float:
    """The best of several passes, in processor time: others use this machine as well."""
    passes: list[float] = []
    for _ in range(7):
        began = time.process_time()
        for each in inputs:
            function(each)
        passes.append(time.process_time() - began)
    return min(passes) * 1e6 / len(inputs)
