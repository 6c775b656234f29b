"""Generated conversations through the whole chain, in virtual time, and what they must keep.

A user of noise bursts (webrtcvad and a loudness detector take them for speech) talks with the
embedded server over a memory connection; how fast answers are made, how slowly they are
cancelled, and how late late deltas come is drawn from the seed.
"""

from __future__ import annotations

from random import Random

import numpy as np
from attrs import field, frozen

from framepipe import AudioIn, Emit, Frame, Interrupt, Pipeline
from framepipe.clock import now_ns
from framepipe.conversation.speaker import HeardRun
from framepipe.frames import NS_PER_S
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.server_protocol import Truncation
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, WavSink

RATE_HZ = 24_000
BLOCK_MS = 10
BLOCK_SAMPLES = RATE_HZ * BLOCK_MS // 1000
FADE_MS = 8

_NOISE = (np.random.default_rng(1).standard_normal(RATE_HZ * 4) * 3000).astype("<i2").tobytes()
_VOICE = ShippedClips()


class NoisyUser:
    """Emits silence and bursts, each at the time at which a microphone would."""

    def __init__(self, bursts_ms: list[tuple[int, int]], length_ms: int) -> None:
        self.bursts_ms = bursts_ms
        self.length_ms = length_ms

    async def run(self, emit: Emit[AudioIn]) -> None:
        start_ns = emit.now_ns()
        for number in range(self.length_ms // BLOCK_MS):
            captured_ns = start_ns + (number + 1) * BLOCK_MS * 1_000_000
            while not await emit.until(captured_ns):
                pass
            at_ms = number * BLOCK_MS
            loud = any(start <= at_ms < start + length for start, length in self.bursts_ms)
            first = 2 * BLOCK_SAMPLES * (number % 300)
            pcm = _NOISE[first : first + 2 * BLOCK_SAMPLES] if loud else bytes(2 * BLOCK_SAMPLES)
            emit(
                AudioIn(
                    pcm=pcm,
                    rate_hz=RATE_HZ,
                    start_sample=number * BLOCK_SAMPLES,
                    at_ns=captured_ns,
                )
            )


@frozen(kw_only=True)
class Conversation:
    """What happened in one conversation.

    Attributes:
        cuts: When which turn was cut.
        heard: What reached the ear, and when.
        truncations: What the server was told.
        device_ms: From the sink's block to the ear.
    """

    device_ms: int
    cuts: list[tuple[int, int]] = field(factory=list[tuple[int, int]])
    heard: list[HeardRun]
    truncations: list[Truncation]


async def converse(seed: int) -> Conversation:
    """Hold the conversation of a seed."""
    draw = Random(seed)
    bursts: list[tuple[int, int]] = []
    at_ms = draw.randrange(200, 1_000, 10)
    for _ in range(draw.randint(2, 5)):
        length = draw.choice([60, 250, 600, 1_200])
        bursts.append((at_ms, length))
        at_ms += length + draw.randrange(100, 4_000, 10)
    speed = draw.choice([1.1, 1.5, 3.0, 10.0])
    settings = ServerSettings(
        mind=Talk(draw.choice([600, 2_500, 6_000])),
        voice=_VOICE,
        detector=LoudWindows,
        pace=Pace(
            first_audio_ms=(draw.choice([20, 250]), 500),
            generation_speed=(speed, speed * 1.2),
            cancel_latency_ms=draw.choice([0, 100, 200, 600]),
            late_deltas=True,
        ),
        seed=seed,
    )
    device_ms = draw.choice([0, 0, 30, 200])
    sink = WavSink(None, block_ms=BLOCK_MS, device_ms=device_ms)
    cuts: list[tuple[int, int]] = []

    def watch(what: str, _: str, frame: Frame) -> None:
        if what == "cut" and isinstance(frame, Interrupt) and frame.turn:
            cuts.append((now_ns(), frame.turn))

    async with server_in_process(settings) as server:
        pipeline = Pipeline(
            NoisyUser(bursts, at_ms + 500),
            LocalVad(second_stage=False),  # it would call the bursts what they are
            Realtime(url="ws://127.0.0.1/v1/realtime", connect=server.connect),
            Playout(),
            BargeIn(),
            sink,
        )
        pipeline.observe(watch)
        await pipeline.run()
        truncations = [cut for session in server.sessions for cut in session.truncations]
    return Conversation(
        device_ms=device_ms, cuts=cuts, heard=sink.heard_log, truncations=truncations
    )


def late_audio_ms(conversation: Conversation) -> float:
    """Milliseconds of cut turns that sounded after the cut had reached the ear.

    It reaches the ear when the sink's current block, what the device holds and the fade are over.
    """
    grace_ns = (BLOCK_MS + FADE_MS + conversation.device_ms) * 1_000_000
    late_ns = 0
    for run in conversation.heard:
        end_ns = run.at_ns + run.n_samples * NS_PER_S // RATE_HZ
        for cut_ns, turn in conversation.cuts:
            if run.turn <= turn:
                late_ns += max(0, end_ns - max(run.at_ns, cut_ns + grace_ns))
    return late_ns / 1e6


def worst_truncation_ms(conversation: Conversation) -> float:
    """How far the worst ``audio_end_ms`` is from what was really heard of its item."""
    worst = 0.0
    for cut in conversation.truncations:
        heard = max(
            (
                run.start_sample + run.n_samples
                for run in conversation.heard
                if (run.item_id, run.content_index) == (cut.item_id, cut.content_index)
            ),
            default=0,
        )
        worst = max(worst, abs(cut.audio_end_ms - heard * 1000 / RATE_HZ))
    return worst
