"""A whole conversation in virtual time, and what it must keep.

A `Conversation` is a value: what the user does, how the embedded server behaves, what the device
adds. `hold` holds it, through the real processors, detector, protocol and server, over memory.
What came of it is `Held`, which knows how to answer the two questions that matter: was anything
of a cut answer heard, and was the server told the truth about what was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeAlias

from attrs import field, frozen

from framepipe.clock import now_ns
from framepipe.conversation.speaker import HeardRun
from framepipe.frames import NS_PER_S, Frame, Interrupt
from framepipe.pipeline import Pipeline
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.connection import Connect
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import Faults, ServerSettings, server_in_process
from framepipe.realtime.server_protocol import Truncation
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing.people import Act, Pause, ScriptedUser, Speech
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink

RATE_HZ: Final = 24_000
BLOCK_MS: Final = 10
"""Of the microphone and of the loudspeaker."""

FADE_MS: Final = 8
"""Of a cut, unless the stages say otherwise."""

URL: Final = "ws://127.0.0.1/v1/realtime"
"""What a client is told to connect to; in memory only the query of it matters."""

_VOICE = ShippedClips()


@frozen(kw_only=True)
class Conversation:
    """Who says what, how fast, and what goes wrong.

    Attributes:
        user: What the user does.
        answer_ms: Length of each answer.
        first_audio_ms: From the beginning of a response to its first audio: least and most.
        generation_speed: How many times faster than it plays an answer is made: least and most.
        cancel_latency_ms: From a cancel to the closing events.
        device_ms: From the loudspeaker's block to the ear.
        drop_after_s: Length at which each connection breaks; ``None`` is never.
        seed: For the rest of the server's chance.
    """

    user: tuple[Act, ...]
    answer_ms: int = 2_500
    first_audio_ms: tuple[int, int] = (250, 500)
    generation_speed: tuple[float, float] = (3.0, 3.6)
    cancel_latency_ms: int = 100
    device_ms: int = 0
    drop_after_s: float | None = None
    seed: int = 0

    @classmethod
    def from_seed(cls, seed: int) -> Conversation:
        """One of many: bursts of four lengths at random times, and a server of random traits.

        Args:
            seed: The same seed is the same conversation.
        """
        draw = Random(seed)
        acts: list[Act] = []
        acts.append(Pause(draw.randrange(200, 1_000, 10)))
        for _ in range(draw.randint(2, 5)):
            acts.append(Speech(draw.choice([60, 250, 600, 1_200])))
            acts.append(Pause(draw.randrange(100, 4_000, 10)))
        acts.append(Pause(500))
        speed = draw.choice([1.1, 1.5, 3.0, 10.0])
        return cls(
            user=tuple(acts),
            answer_ms=draw.choice([600, 2_500, 6_000]),
            first_audio_ms=(draw.choice([20, 250]), 500),
            generation_speed=(speed, speed * 1.2),
            cancel_latency_ms=draw.choice([0, 100, 200, 600]),
            seed=seed,
            device_ms=draw.choice([0, 0, 30, 200]),
        )

    def server(self) -> ServerSettings:
        """The embedded server of this conversation; it judges speech by loudness."""
        return ServerSettings(
            mind=Talk(self.answer_ms),
            voice=_VOICE,
            detector=LoudWindows,
            pace=Pace(
                first_audio_ms=self.first_audio_ms,
                generation_speed=self.generation_speed,
                cancel_latency_ms=self.cancel_latency_ms,
                late_deltas=True,
            ),
            faults=Faults(drop_after_s=self.drop_after_s),
            seed=self.seed,
        )


@frozen(kw_only=True)
class Held:
    """What happened in one conversation.

    Attributes:
        device_ms: From the loudspeaker's block to the ear.
        cuts: When (engine time in nanoseconds) which turn was cut.
        heard: What reached the ear, and when.
        truncations: What the server was told.
        frames: Every frame that a stage emitted, with its engine time and its stage.
    """

    device_ms: int
    cuts: tuple[tuple[int, int], ...]
    heard: tuple[HeardRun, ...]
    truncations: tuple[Truncation, ...]
    frames: tuple[tuple[int, str, Frame], ...] = field(repr=False)

    def late_audio_ms(self) -> float:
        """Milliseconds of cut turns that sounded after the cut had reached the ear.

        It reaches the ear when the loudspeaker's current block, what the device holds and the
        fade are over.
        """
        grace_ns = (BLOCK_MS + FADE_MS + self.device_ms) * 1_000_000
        late_ns = 0
        for run in self.heard:
            end_ns = run.at_ns + run.n_samples * NS_PER_S // RATE_HZ
            for cut_ns, turn in self.cuts:
                if run.turn <= turn:
                    late_ns += max(0, end_ns - max(run.at_ns, cut_ns + grace_ns))
        return late_ns / 1e6

    def worst_truncation_ms(self) -> float:
        """How far the worst ``audio_end_ms`` is from what was really heard of its item."""
        worst = 0.0
        for cut in self.truncations:
            heard = max(
                (
                    run.start_sample + run.n_samples
                    for run in self.heard
                    if (run.item_id, run.content_index) == (cut.item_id, cut.content_index)
                ),
                default=0,
            )
            worst = max(worst, abs(cut.audio_end_ms - heard * 1000 / RATE_HZ))
        return worst


Chain: TypeAlias = Callable[[Connect], Sequence[object]]
"""Makes the stages between the microphone and the loudspeaker, given the way to the server."""


def usual_chain(connect: Connect) -> Sequence[object]:
    """`LocalVad` (without a second stage: it would call noise what it is) to `BargeIn`."""
    return (
        LocalVad(second_stage=False),
        Realtime(url=URL, connect=connect),
        Playout(),
        BargeIn(),
    )


async def hold(conversation: Conversation, *, chain: Chain = usual_chain) -> Held:
    """Hold a conversation: ``run_virtual(hold, Conversation(user=(Speech(800), Pause(4_000))))``.

    Args:
        conversation: The conversation.
        chain: Makes the stages between microphone and loudspeaker.

    Raises:
        ProcessorError: A stage raised.
    """
    speaker = WavSink(None, block_ms=BLOCK_MS, device_ms=conversation.device_ms)
    cuts: list[tuple[int, int]] = []
    frames: list[tuple[int, str, Frame]] = []

    def watch(what: str, stage: str, frame: Frame) -> None:
        if what == "cut" and isinstance(frame, Interrupt) and frame.turn:
            cuts.append((now_ns(), frame.turn))
        elif what == "emitted":
            frames.append((now_ns(), stage, frame))

    async with server_in_process(conversation.server()) as server:
        user = ScriptedUser(*conversation.user, rate_hz=RATE_HZ, block_ms=BLOCK_MS)
        pipeline = Pipeline(user, *chain(server.connect), speaker)
        pipeline.observe(watch)
        await pipeline.run()
        truncations = [cut for session in server.sessions for cut in session.truncations]
    return Held(
        device_ms=conversation.device_ms,
        cuts=tuple(cuts),
        heard=tuple(speaker.heard_log),
        truncations=tuple(truncations),
        frames=tuple(frames),
    )
