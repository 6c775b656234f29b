"""How fast, how surely and how rightly an agent falls silent: labelled clips through the chain.

Each trial is one conversation in virtual time: the agent talks, the microphone hears one clip at
one level and one phase, and the real stages do what they do in a call. What counts is read from
the outside: from the log of what was heard, and from the orders that passed. After a cut a trial
is over; what may undo it later (a transcript) is not part of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Final

import numpy as np
from attrs import field, frozen

from framepipe import Emit, Frame, Pipeline, on
from framepipe.audio import pcm_of
from framepipe.bench.clips import (
    BLOCK_MS,
    RATE_HZ,
    ROOM,
    Clip,
    Room,
    Signal,
    read_manifest,
    signal_of,
)
from framepipe.clock import now_ns
from framepipe.conversation.speaker import HeardRun
from framepipe.errors import FrameError
from framepipe.frames import (
    NS_PER_S,
    AudioDone,
    AudioIn,
    AudioOut,
    Interrupt,
    Mute,
    ReplyPending,
    ReplyReady,
    SpeechStarted,
    SpeechStopped,
    Unmute,
)
from framepipe.realtime.server_vad import SegmentOpened, ServerVad
from framepipe.realtime.window_detectors import SileroWindows
from framepipe.testing import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.wav_sink import WavSink

AGENT_STARTS_MS: Final = 700
"""When the agent begins to talk. webrtcvad takes the first noise that it ever hears for speech,
which is over by then."""

LEVELS_DB: Final = (0.0, 14.0)
"""Decibels below the normal level: a voice close by, and one across the room."""

PHASES: Final = 10
"""Repeats of each clip and level, each with noise and phase of its own."""

QUICK_PHASES: Final = 1
"""Repeats in a quick run."""

_BLOCK: Final = RATE_HZ * BLOCK_MS // 1000

_AGENT_LONGER_MS: Final = 100
"""The agent talks for so much longer than the microphone hears."""


class Policy(Enum):
    """Who mutes and who decides."""

    FULL = "two stages"
    """webrtcvad mutes, Silero confirms or rejects. No service."""
    WEBRTC = "webrtcvad only"
    """The first frame that webrtcvad takes for speech cuts."""
    SERVER = "server only"
    """The service's detector cuts (the embedded server's, no network between)."""


@frozen(kw_only=True)
class Trial:
    """What happened in one conversation. Times are milliseconds.

    Attributes:
        policy: Who decided.
        clip: Name of the recording.
        kind: Its label.
        is_speech: Whether the user speaks in it.
        is_exact: Whether its label was made with the sound, not found in it.
        quieter_db: Its level below the normal one.
        muted_after: From the onset to the order to be silent, if it led to the first silence.
        silent_after: From the onset to the first silent sample; ``None``: never, or before it.
        was_silent: The agent was silent already when the user began.
        cut_after: From the onset, or the start of the call, to the cut; ``None``: no cut.
        false_mutes: Lengths of the mutes that were taken back, where there was no speech.
        resumed: How often the agent went on while the user spoke and had not been confirmed.
        lost: Samples of the agent's that were never heard, before the cut.
        repeated: Samples that were heard twice.
    """

    policy: Policy
    clip: str
    kind: str
    is_speech: bool
    is_exact: bool
    quieter_db: float
    muted_after: float | None = None
    silent_after: float | None = None
    was_silent: bool = False
    cut_after: float | None = None
    false_mutes: tuple[float, ...] = ()
    resumed: int = 0
    lost: int = 0
    repeated: int = 0


def run_trials(
    folder: Path,
    *,
    phases: int = PHASES,
    policies: Sequence[Policy] = tuple(Policy),
    room: Room = ROOM,
    processes: int = 2,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Trial]:
    """Run every clip of a folder at each level and phase with each policy.

    Args:
        folder: Holds WAV files and their ``MANIFEST.json``.
        phases: Repeats of each clip and level.
        policies: Who decides.
        room: What else to change of the recordings.
        processes: How many work at it, 1 or more; 1 stays in this process.
        progress: Is told how many clips are done, and of how many.

    Raises:
        FrameError: A folder, a manifest or a recording that cannot be used, or a number below 1.
    """
    if phases < 1 or processes < 1:
        raise FrameError(f"phases is {phases} and processes {processes}; both must be 1 or more")
    clips = read_manifest(folder)
    trials: list[Trial] = []
    jobs = [(clip, phases, tuple(policies), room) for clip in clips]

    def collect(done: Iterable[list[Trial]]) -> list[Trial]:
        for number, some in enumerate(done, 1):
            trials.extend(some)
            progress(number, len(clips))
        return trials

    if processes == 1:
        return collect(map(_trials_of, jobs))
    with ProcessPoolExecutor(processes) as pool:
        return collect(pool.map(_trials_of, jobs))


def _trials_of(job: tuple[Clip, int, tuple[Policy, ...], Room]) -> list[Trial]:
    clip, phases, policies, room = job
    trials: list[Trial] = []
    for quieter_db in LEVELS_DB:
        for phase in range(phases):
            signal = signal_of(clip, quieter_db=quieter_db, seed=phase, room=room)
            trials += [
                run_virtual(_converse, policy, clip, quieter_db, signal) for policy in policies
            ]
    return trials


# --- one conversation ---------------------------------------------------------------------------


class _Mic:
    """Hears the signal, each block at its time, until the agent is cut."""

    def __init__(self, signal: Signal) -> None:
        self._pcm, self._late_ns = signal.pcm, signal.late_ns
        self._is_cut = False

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt:
        self._is_cut = True
        return frame

    async def run(self, emit: Emit[AudioIn]) -> None:
        for at in range(0, len(self._pcm), 2 * _BLOCK):
            pcm, start = self._pcm[at : at + 2 * _BLOCK], at // 2
            captured_ns = self._late_ns + (start + len(pcm) // 2) * NS_PER_S // RATE_HZ
            while not self._is_cut and not await emit.until(captured_ns):
                pass
            if self._is_cut:
                return
            emit(AudioIn(pcm=pcm, rate_hz=RATE_HZ, start_sample=start, at_ns=captured_ns))


class _Agent:
    """Talks for a set time, once the detectors know the room."""

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples

    async def run(self, emit: Emit[AudioOut | AudioDone | ReplyPending]) -> None:
        while not await emit.until(AGENT_STARTS_MS * 1_000_000):
            pass
        turn = emit.new_turn()
        emit(ReplyPending(turn=turn))
        pcm = pcm_of(np.full(self.n_samples, 8_000.0))
        emit(AudioOut(pcm=pcm, rate_hz=RATE_HZ, turn=turn))
        emit(AudioDone(turn=turn, n_samples=self.n_samples))


class _FirstEdgeCuts:
    """Instead of `BargeIn`: the first edge over the agent's voice cuts it."""

    def __init__(self) -> None:
        self._is_talking = False

    @on(ReplyReady)
    def begins(self, frame: ReplyReady) -> ReplyReady:
        self._is_talking = True
        return frame

    @on(SpeechStarted)
    def cut(self, frame: SpeechStarted) -> Iterable[SpeechStarted | Interrupt]:
        yield frame
        if self._is_talking:
            yield Interrupt(onset_sample=frame.onset_sample, cause="webrtcvad")


class _Service:
    """Hears what the embedded server hears, as soon as it could: no network, no wire."""

    def __init__(self) -> None:
        self._vad = ServerVad(SileroWindows())

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> Iterable[AudioIn | SpeechStarted | SpeechStopped]:
        for edge in self._vad.receive(frame.pcm_bytes()):
            if isinstance(edge, SegmentOpened):
                yield SpeechStarted(source="server", onset_sample=edge.detected_sample)
            else:
                yield SpeechStopped(source="server", end_sample=edge.end_sample)
        yield frame


@frozen
class _Orders:
    """Writes down when the agent was muted, unmuted and cut."""

    mutes_ns: list[int] = field(factory=list[int])
    unmutes_ns: list[int] = field(factory=list[int])
    cuts_ns: list[int] = field(factory=list[int])

    def __call__(self, what: str, stage: str, frame: Frame) -> None:
        if what == "cut" and isinstance(frame, Interrupt):
            self.cuts_ns.append(now_ns())
        elif what == "emitted" and isinstance(frame, Mute):
            self.mutes_ns.append(now_ns())
        elif what == "emitted" and isinstance(frame, Unmute):
            self.unmutes_ns.append(now_ns())


async def _converse(policy: Policy, clip: Clip, quieter_db: float, signal: Signal) -> Trial:
    n_samples = len(signal.pcm) // 2 + _AGENT_LONGER_MS * RATE_HZ // 1000
    sink, orders = WavSink(block_ms=BLOCK_MS), _Orders()
    decides = _FirstEdgeCuts() if policy is Policy.WEBRTC else BargeIn()
    ears = _Service() if policy is Policy.SERVER else LocalVad(second_stage=policy is Policy.FULL)
    pipeline = Pipeline(_Mic(signal), ears, _Agent(n_samples), Playout(), decides, sink)
    pipeline.observe(orders)
    await pipeline.run()
    return _account(policy, clip, quieter_db, signal, orders, sink.heard_log, n_samples)


def _account(
    policy: Policy,
    clip: Clip,
    quieter_db: float,
    signal: Signal,
    orders: _Orders,
    heard: Sequence[HeardRun],
    n_samples: int,
) -> Trial:
    # In the speaker's time, which is the engine's.
    late_ms = signal.late_ns / 1e6
    onset_ms = None if signal.onset_ms is None else signal.onset_ms + late_ms
    end_ms = signal.end_ms + late_ms
    cut_ms = orders.cuts_ns[0] / 1e6 if orders.cuts_ns else None
    sounded = [(run.at_ns / 1e6, run.at_ns / 1e6 + run.n_samples * 1e3 / RATE_HZ) for run in heard]
    muted_after, silent_after, was_silent, resumed = None, None, False, 0
    if onset_ms is not None:
        over = [end for start, end in sounded if start <= onset_ms < end]
        was_silent = not over
        if over and over[0] < end_ms:
            silent_after = over[0] - onset_ms
            ordered = [at / 1e6 for at in orders.mutes_ns + orders.cuts_ns[:1]]
            muted_after = max(at for at in ordered if at < over[0]) - onset_ms
        until_ms = end_ms if cut_ms is None else min(cut_ms, end_ms)
        resumed = sum(onset_ms < at / 1e6 < until_ms for at in orders.unmutes_ns)
    lost, repeated = _holes(heard, None if cut_ms is not None else n_samples)
    return Trial(
        policy=policy,
        clip=clip.path.name,
        kind=clip.kind,
        is_speech=clip.is_speech,
        is_exact=clip.is_exact,
        quieter_db=quieter_db,
        muted_after=muted_after,
        silent_after=silent_after,
        was_silent=was_silent,
        cut_after=None if cut_ms is None else cut_ms - (onset_ms or 0.0),
        false_mutes=() if clip.is_speech else tuple(_lengths_ms(orders)),
        resumed=resumed,
        lost=lost,
        repeated=repeated,
    )


def _lengths_ms(orders: _Orders) -> Iterable[float]:
    """Lengths of the mutes that ended in an unmute; the one that ended in the cut is none."""
    for muted, unmuted in zip(orders.mutes_ns, orders.unmutes_ns, strict=False):
        yield (unmuted - muted) / 1e6


def _holes(heard: Sequence[HeardRun], n_samples: int | None) -> tuple[int, int]:
    """Samples lost and repeated; up to ``n_samples``, if all of it should have been heard."""
    lost = repeated = 0
    due = 0
    for run in heard:
        lost += max(0, run.start_sample - due)
        repeated += max(0, due - run.start_sample)
        due = max(due, run.start_sample + run.n_samples)
    if n_samples is not None:
        lost += n_samples - due
    return lost, repeated
