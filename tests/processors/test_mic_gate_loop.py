"""The closed loop: what the speaker plays is what the microphone hears."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from attrs import define, field

from framepipe import Emit, Frame, Pipeline, evolve, on
from framepipe.audio import FULL_SCALE, pcm_of, rms_dbfs, samples_of, scaled, silence
from framepipe.clock import now_ns
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.frames import (
    NS_PER_S,
    AudioDone,
    AudioIn,
    AudioOut,
    Interrupt,
    Mute,
    Problem,
    ReplyPending,
    SpeechStarted,
    Unmute,
)
from framepipe.realtime.mind import Talk
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.testing import run_virtual
from framepipe.wav import WavReader, WavWriter
from framepipe_processors import (
    BargeIn,
    LocalVad,
    MicGate,
    Playout,
    Realtime,
    WavSink,
    WavSource,
)

RATE_HZ = 24_000
CLIPS = Path(__file__).parents[2] / "framepipe" / "realtime" / "clips"
AGENT_MS = 700
"""When the agent begins."""


def speech(name: str, level_dbfs: float) -> bytes:
    """A clip from its first sound on."""
    with WavReader(CLIPS / name) as wav:
        pcm = b"".join(wav.read_at(RATE_HZ))
    loud = np.flatnonzero(np.abs(samples_of(pcm)) > 300)
    said = pcm[2 * int(loud[0]) : 2 * int(loud[-1])]
    return scaled(said, 10 ** ((level_dbfs - rms_dbfs(said)) / 20))


@define
class Room:
    """A wall 40 ms away, and the floor of a quiet room."""

    tap: PlaybackTap
    return_db: float
    draw: np.random.Generator = field(factory=lambda: np.random.default_rng(1))

    @on(AudioIn)
    def echo(self, frame: AudioIn) -> AudioIn:
        start_ns = frame.at_ns - frame.n_samples * NS_PER_S // frame.rate_hz
        played = samples_of(self.tap.read(start_ns - 40_000_000, frame.n_samples))
        floor = self.draw.normal(0, FULL_SCALE * 10 ** (-65 / 20), frame.n_samples)
        near = samples_of(frame.pcm_bytes())
        return evolve(frame, pcm=pcm_of(near + floor + 10 ** (self.return_db / 20) * played))


class Agent:
    """Talks from `AGENT_MS` on."""

    def __init__(self, pcm: bytes) -> None:
        self.pcm = pcm

    async def run(self, emit: Emit[AudioOut | AudioDone | ReplyPending]) -> None:
        starts_ns = emit.now_ns() + AGENT_MS * 1_000_000
        while not await emit.until(starts_ns):
            pass
        turn = emit.new_turn()
        emit(ReplyPending(turn=turn))
        emit(AudioOut(pcm=self.pcm, rate_hz=RATE_HZ, turn=turn))
        emit(AudioDone(turn=turn, n_samples=len(self.pcm) // 2))


class Tape:
    """Keeps the audio that passes."""

    def __init__(self) -> None:
        self.pcm = b""

    @on(AudioIn)
    def keep(self, frame: AudioIn) -> AudioIn:
        assert frame.start_sample * 2 == len(self.pcm)
        self.pcm += frame.pcm_bytes()
        return frame


@define
class Story:
    """What happened when, in milliseconds."""

    began_ns: int = field(factory=now_ns)
    mutes: list[float] = field(factory=list[float])
    unmutes: list[float] = field(factory=list[float])
    cuts: list[float] = field(factory=list[float])
    onsets: list[float] = field(factory=list[float])
    problems: list[Problem] = field(factory=list[Problem])

    def __call__(self, what: str, stage: str, frame: Frame) -> None:
        at_ms = (now_ns() - self.began_ns) / 1e6
        if what == "cut" and isinstance(frame, Interrupt):
            self.cuts.append(at_ms)
        elif what != "emitted":
            return
        elif isinstance(frame, Mute):
            self.mutes.append(at_ms)
        elif isinstance(frame, Unmute):
            self.unmutes.append(at_ms)
        elif isinstance(frame, Problem):
            self.problems.append(frame)
        elif isinstance(frame, SpeechStarted) and frame.source == "server":
            self.onsets.append(frame.onset_sample * 1_000 / RATE_HZ)


def recorded(path: Path, pieces: Sequence[tuple[int, bytes]], *, length_ms: int) -> Path:
    """A user who says each piece at its millisecond."""
    tape = bytearray(silence(RATE_HZ * length_ms // 1000))
    for at_ms, said in pieces:
        at = 2 * (RATE_HZ * at_ms // 1000)
        tape[at : at + len(said)] = said
    writer = WavWriter(path, RATE_HZ)
    writer.write(bytes(tape))
    writer.close()
    return path


def converse(
    recording: Path, *, return_db: float, agent: bytes, ears: LocalVad
) -> tuple[Story, bytes, bytes]:
    """What happened, what the microphone heard, and what passed the gate."""

    async def call() -> tuple[Story, bytes, bytes]:
        tap = PlaybackTap()
        before, after = Tape(), Tape()
        pipeline = Pipeline(
            WavSource(recording, block_ms=10),
            Room(tap, return_db),
            ears,
            before,
            MicGate(),
            after,
            Agent(agent),
            Playout(),
            BargeIn(),
            WavSink(tap=tap),
        )
        story = Story()
        pipeline.observe(story)
        await pipeline.run()
        return story, before.pcm, after.pcm

    return run_virtual(call)


@pytest.mark.parametrize("second_stage", [True, False])
def test_an_agent_alone_with_its_echo_says_what_it_has_to_say(
    tmp_path: Path, second_stage: bool
) -> None:
    agent = speech("tell.wav", -22) * 2
    user = recorded(tmp_path / "user.wav", [], length_ms=6_000)
    for return_db in (-10.0, -30.0):
        ears = LocalVad(second_stage=second_stage)
        story, mic, passed = converse(user, return_db=return_db, agent=agent, ears=ears)
        assert (story.mutes, story.cuts) == ([], [])
        assert len(passed) == len(mic)


def test_an_echo_that_is_too_loud_for_the_gate_does_not_make_the_agent_stutter(
    tmp_path: Path,
) -> None:
    # Mute, the echo is gone, go on, the echo is back: two to three times a second for ever.
    agent = speech("tell.wav", -22) * 4
    user = recorded(tmp_path / "user.wav", [], length_ms=12_000)
    ears = LocalVad(second_stage=False)
    story, _, _ = converse(user, return_db=0.0, agent=agent, ears=ears)
    assert story.mutes
    for muted in story.mutes:
        assert sum(muted <= other < muted + 5_000 for other in story.mutes) <= 3
    assert len(story.unmutes) == len(story.mutes)


def test_a_user_who_interrupts_in_the_first_100_ms_is_heard_to_the_first_sample(
    tmp_path: Path,
) -> None:
    # The gate has learned nothing yet, and what it hears now is the user.
    said = speech("hello.wav", -20)
    onset_ms = AGENT_MS + 80
    user = recorded(tmp_path / "user.wav", [(onset_ms, said)], length_ms=3_500)
    story, mic, passed = converse(
        user, return_db=-20.0, agent=speech("tell.wav", -22), ears=LocalVad()
    )
    assert onset_ms < story.cuts[0] < onset_ms + 1_000
    words = slice(2 * RATE_HZ * onset_ms // 1000, 2 * RATE_HZ * onset_ms // 1000 + len(said))
    assert passed[words] == mic[words]


def test_the_services_clock_stays_the_microphones(tmp_path: Path) -> None:
    # It counts samples: 600 ms that waited, or silence too many, would show in every onset.
    hello, trains = speech("hello.wav", -26), speech("trains.wav", -26)
    spoken = [(500, hello), (500 + len(hello) // 48 + 2_500, trains)]
    user = recorded(tmp_path / "user.wav", spoken, length_ms=12_000)

    async def call() -> Story:
        tap = PlaybackTap()
        async with server_in_process(ServerSettings(mind=Talk(answer_ms=6_000))) as server:
            pipeline = Pipeline(
                WavSource(user, block_ms=10),
                Room(tap, -45.0),
                LocalVad(),
                MicGate(),
                Realtime(connect=server.connect),
                Playout(),
                BargeIn(),
                WavSink(tap=tap),
            )
            story = Story()
            pipeline.observe(story)
            await pipeline.run()
            return story

    story = run_virtual(call)
    assert story.cuts, "the second thing that the user says is said over the agent"
    assert not story.problems
    for (at_ms, _), onset in zip(spoken, story.onsets, strict=False):
        # The service puts 300 ms of prefix before what it heard; the echo is too soft for it.
        assert at_ms - 400 < onset < at_ms + 150
