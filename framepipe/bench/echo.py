"""An agent that hears itself: the loudspeaker's sound comes back into the microphone.

Each trial is one conversation in virtual time through the real stages (`LocalVad`, `MicGate`,
`Playout`, `BargeIn`, a speaker). The loop is closed: what the speaker really plays, mutes and
fades included, is heard by the microphone through a room, at a chosen return level. Alone, it
must not mute the agent; with a user who talks over it, it must not hide a word of his.

    trials = run_echo_trials(folder)            # a folder as `framepipe.bench.clips` reads it
    console.print(echo_table(trials))

The folder needs a clip of kind "echo" with a ``reference``: what was played and what came back
tell the room. Without one there are no trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray
from rich.table import Table

from framepipe import Emit, Frame, Pipeline, on
from framepipe.audio import FULL_SCALE, pcm_of, samples_of
from framepipe.bench.clips import FLOOR_DBFS, MANIFEST, RATE_HZ, Clip, read_manifest, signal_of
from framepipe.clock import now_ns
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.frames import (
    NS_PER_S,
    SAMPLE_BYTES,
    AudioDone,
    AudioIn,
    AudioOut,
    Interrupt,
    Mute,
    ReplyPending,
)
from framepipe.testing import run_virtual
from framepipe.wav import WavReader
from framepipe_processors.bargein import BargeIn
from framepipe_processors.echo_canceller import EchoCanceller
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.mic_gate import MicGate
from framepipe_processors.playout import Playout
from framepipe_processors.wav_sink import WavSink

RETURNS_DB: Final = (-10.0, -20.0, -30.0, -40.0)
"""How loud the agent comes back, against what is played."""

ECHO_PHASES: Final = 3
"""Repeats at each return level, where the other clips have ten."""

BLOCK_MS: Final = 10
"""Blocks of microphone and speaker."""

EARLY_MS: Final = 100
"""A user who interrupts early begins at most so long after the agent's first sound."""

_BLOCK: Final = RATE_HZ * BLOCK_MS // 1000

_ROOM_MS: Final = 300
"""Length of a room's answer: the echoes of the measured rooms are over by then."""

_AGENT_DBFS: Final = -22.0

_FAINT: Final = 1e-3
"""Where what was played has less power than this part of its strongest frequency, it cannot tell
the room's answer."""

Floats = NDArray[np.float64]


class Defence(Enum):
    """What keeps the agent's voice from being taken for the user's."""

    NONE = "nothing"
    """`LocalVad` alone."""
    GATE = "gate"
    """`MicGate`, and the level gate that it brings."""
    CANCELLER = "canceller"
    """`EchoCanceller` before them; needs the extra ``aec``."""


@frozen
class EchoTrial:
    """What happened in one conversation. Times are milliseconds.

    Attributes:
        return_db: How loud the agent came back.
        defence: What was there against it.
        clip: Name of the user's recording; ``None``: nobody spoke.
        early: The user began within the agent's first `EARLY_MS`.
        agent_s: How long the agent was heard, in seconds.
        suspects: Mutes before the user spoke.
        cuts: Cuts before the user spoke.
        silent_after: From the onset to the mute; ``None``: never.
        cut_after: From the onset to the cut; ``None``: never.
        lost: User's speech that went on as silence, or not at all.
        is_whole: What went on had every sample once, and at its place.
    """

    return_db: float
    defence: Defence
    clip: str | None
    early: bool
    agent_s: float
    suspects: int
    cuts: int
    silent_after: float | None
    cut_after: float | None
    lost: float
    is_whole: bool


class Room:
    """The way from a loudspeaker to a microphone.

    Args:
        answer: What the microphone hears of a single sample of 1, at `RATE_HZ`.
    """

    def __init__(self, answer: Floats) -> None:
        self.n_samples = len(answer)
        self._size = 1 << (len(answer) + _BLOCK).bit_length()
        self._answer = np.fft.rfft(answer, self._size)

    @classmethod
    def measured(cls, played: Floats, heard: Floats, return_db: float) -> Room:
        """The room that makes one recording of another, at a return level of one's own."""
        size = 1 << (len(heard) + len(played)).bit_length()
        went, came = np.fft.rfft(played, size), np.fft.rfft(heard, size)
        power = np.abs(went) ** 2
        answer = np.fft.irfft(came * went.conj() / (power + _FAINT * power.max()), size)
        answer = answer[: RATE_HZ * _ROOM_MS // 1000]
        echo = np.convolve(played, answer)
        gain = 10 ** (return_db / 20) * np.linalg.norm(played) / np.linalg.norm(echo)
        return cls(answer * float(gain))

    def echo(self, tap: PlaybackTap, start_ns: int, n_samples: int) -> Floats:
        """What comes back of what was played, from a moment on."""
        before_ns = self.n_samples * NS_PER_S // RATE_HZ
        played = samples_of(tap.read(start_ns - before_ns, self.n_samples + n_samples))
        spectrum = np.fft.rfft(played.astype(np.float64), self._size)
        whole = np.fft.irfft(spectrum * self._answer, self._size)
        return whole[self.n_samples : self.n_samples + n_samples]


# --- many conversations ---------------------------------------------------------------------------


class _Echo(msgspec.Struct):
    file: str
    kind: str
    reference: str | None = None


class _Echoes(msgspec.Struct):
    clips: list[_Echo]


def run_echo_trials(
    folder: Path,
    *,
    returns_db: Sequence[float] = RETURNS_DB,
    phases: int = 1,
    defences: Sequence[Defence] = (Defence.NONE, Defence.GATE),
    processes: int = 2,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[EchoTrial]:
    """Let the agent hear itself, alone and with each speech clip of a folder over it.

    Args:
        folder: Holds WAV files and their ``MANIFEST.json``.
        returns_db: Return levels.
        phases: Repeats, each with noise, phase and place in the agent's words of its own.
        defences: What shall be there against it.
        processes: How many work at it, 1 or more; 1 stays in this process.
        progress: Is told how many parts are done, and of how many.

    Raises:
        FrameError: A folder, a manifest or a recording that cannot be used.
    """
    clips = [clip for clip in read_manifest(folder) if clip.is_speech]
    echo = _first_echo(folder)
    if echo is None:
        return []
    jobs = [
        (echo, clip, return_db, defence, phases)
        for clip in (None, *clips)
        for return_db in returns_db
        for defence in defences
    ]
    trials: list[EchoTrial] = []

    def collect(done: Iterable[list[EchoTrial]]) -> list[EchoTrial]:
        for number, some in enumerate(done, 1):
            trials.extend(some)
            progress(number, len(jobs))
        return trials

    if processes == 1:
        return collect(map(_trials_of, jobs))
    with ProcessPoolExecutor(processes) as pool:
        return collect(pool.map(_trials_of, jobs, chunksize=4))


def _first_echo(folder: Path) -> tuple[Path, Path] | None:
    told = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Echoes)
    for clip in told.clips:
        if clip.kind == "echo" and clip.reference is not None:
            return folder / clip.reference, folder / clip.file
    return None


_Job = tuple[tuple[Path, Path], Clip | None, float, Defence, int]


def _trials_of(job: _Job) -> list[EchoTrial]:
    (reference, came_back), clip, return_db, defence, phases = job
    played = _read(reference)
    played *= 10 ** (_AGENT_DBFS / 20) * FULL_SCALE / _rms(played)
    room = Room.measured(played, _read(came_back), return_db)
    return [
        run_virtual(_converse, room, played, clip, return_db, defence, early, seed)
        for seed in range(phases)
        for early in ((False,) if clip is None else (False, True))
    ]


def _read(path: Path) -> Floats:
    with WavReader(path) as wav:
        return samples_of(b"".join(wav.read_at(RATE_HZ))).astype(np.float64)


def _rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(samples * samples))) or 1.0


# --- one conversation -----------------------------------------------------------------------------


class _RoomMic:
    """Hears the user, and what comes back from the speaker, until the recording is over."""

    def __init__(self, near: Floats, room: Room, tap: PlaybackTap) -> None:
        self._near, self._room, self._tap = near, room, tap

    async def run(self, emit: Emit[AudioIn]) -> None:
        began_ns = emit.now_ns()
        for start in range(0, len(self._near) - _BLOCK + 1, _BLOCK):
            captured_ns = began_ns + (start + _BLOCK) * NS_PER_S // RATE_HZ
            while not await emit.until(captured_ns):
                pass
            start_ns = began_ns + start * NS_PER_S // RATE_HZ
            echo = self._room.echo(self._tap, start_ns, _BLOCK)
            pcm = pcm_of(self._near[start : start + _BLOCK] + echo)
            emit(AudioIn(pcm=pcm, rate_hz=RATE_HZ, start_sample=start, at_ns=captured_ns))


class _Listener:
    """Keeps what passes."""

    def __init__(self) -> None:
        self.heard = b""
        self.is_whole = True

    @on(AudioIn)
    def hear(self, frame: AudioIn) -> AudioIn:
        self.is_whole &= frame.start_sample * SAMPLE_BYTES == len(self.heard)
        self.heard += frame.pcm_bytes()
        return frame


class _Agent:
    """Talks from a moment on."""

    def __init__(self, pcm: bytes, starts_ms: float) -> None:
        self._pcm, self._starts_ms = pcm, starts_ms

    async def run(self, emit: Emit[AudioOut | AudioDone | ReplyPending]) -> None:
        starts_ns = emit.now_ns() + round(self._starts_ms * 1e6)
        while not await emit.until(starts_ns):
            pass
        turn = emit.new_turn()
        emit(ReplyPending(turn=turn))
        emit(AudioOut(pcm=self._pcm, rate_hz=RATE_HZ, turn=turn))
        emit(AudioDone(turn=turn, n_samples=len(self._pcm) // SAMPLE_BYTES))


@frozen
class _Orders:
    mutes_ns: list[int] = field(factory=list[int])
    cuts_ns: list[int] = field(factory=list[int])

    def __call__(self, what: str, stage: str, frame: Frame) -> None:
        if what == "cut" and isinstance(frame, Interrupt):
            self.cuts_ns.append(now_ns())
        elif what == "emitted" and isinstance(frame, Mute):
            self.mutes_ns.append(now_ns())

    def since_ms(self, began_ns: int) -> tuple[list[float], list[float]]:
        """Mutes and cuts, in milliseconds of the conversation."""
        both = self.mutes_ns, self.cuts_ns
        mutes, cuts = ([(at_ns - began_ns) / 1e6 for at_ns in some] for some in both)
        return mutes, cuts


async def _converse(
    room: Room,
    played: Floats,
    clip: Clip | None,
    return_db: float,
    defence: Defence,
    early: bool,
    seed: int,
) -> EchoTrial:
    # Each clip falls on another place in the agent's words.
    draw = np.random.default_rng((seed, 0 if clip is None else crc32(clip.path.name.encode())))
    words: list[tuple[float, float]] = []
    if clip is None:
        near = draw.normal(0.0, 10 ** (FLOOR_DBFS / 20) * FULL_SCALE, 2 * len(played) + RATE_HZ)
        starts_ms, n_agent = 500.0, 2 * len(played)
    else:
        signal = signal_of(clip, quieter_db=0.0, seed=seed)
        near = samples_of(signal.pcm).astype(np.float64)
        assert signal.onset_ms is not None
        offset_ms = signal.onset_ms - clip.speech_ms[0][0]
        words = [(start + offset_ms, end + offset_ms) for start, end in clip.speech_ms]
        starts_ms = signal.onset_ms - draw.uniform(0, EARLY_MS) if early else 50.0
        n_agent = len(near)
    # Another place in the agent's words each time; one that is early begins with its first.
    place = 0 if early or clip is None else int(draw.integers(0, len(played)))
    voice = np.resize(np.roll(played, -place), n_agent)
    tap = PlaybackTap()
    before, service = _Listener(), _Listener()
    sink = WavSink(tap=tap, block_ms=BLOCK_MS)
    pipeline = Pipeline(
        _RoomMic(near, room, tap),
        *([EchoCanceller(tap)] if defence is Defence.CANCELLER else []),
        LocalVad(),
        before,
        *([MicGate()] if defence is not Defence.NONE else []),
        service,
        _Agent(pcm_of(voice), starts_ms),
        Playout(),
        BargeIn(),
        sink,
    )
    orders = _Orders()
    pipeline.observe(orders)
    began_ns = now_ns()
    await pipeline.run()
    onset_ms = words[0][0] if words else len(near) * 1e3 / RATE_HZ
    mutes, cuts = orders.since_ms(began_ns)
    return EchoTrial(
        return_db=return_db,
        defence=defence,
        clip=None if clip is None else clip.path.name,
        early=early,
        agent_s=sum(run.n_samples for run in sink.heard_log) / RATE_HZ,
        suspects=sum(at < onset_ms for at in mutes),
        cuts=sum(at < onset_ms for at in cuts),
        silent_after=next((at - onset_ms for at in mutes if at >= onset_ms), None),
        cut_after=next((at - onset_ms for at in cuts if at >= onset_ms), None),
        lost=_lost_ms(before.heard, service.heard, words),
        is_whole=service.is_whole and len(service.heard) == len(near) // _BLOCK * _BLOCK * 2,
    )


def _lost_ms(heard: bytes, sent: bytes, words: Sequence[tuple[float, float]]) -> float:
    n = min(len(heard), len(sent)) // SAMPLE_BYTES
    differs = samples_of(heard[: 2 * n]) != samples_of(sent[: 2 * n])
    at_ms = RATE_HZ / 1000
    lost = sum(
        int(np.count_nonzero(differs[int(start * at_ms) : int(end * at_ms)]))
        + max(0, int(end * at_ms) - max(n, int(start * at_ms)))
        for start, end in words
    )
    return lost * 1000 / RATE_HZ


# --- the table ------------------------------------------------------------------------------------


def echo_table(trials: Sequence[EchoTrial]) -> Table:
    """What the agent's own voice does, and what it hides."""
    table = Table(title="The agent's own voice in the microphone", title_justify="left")
    table.add_column("")
    columns = [
        (defence, return_db)
        for defence in Defence
        for return_db in sorted({t.return_db for t in trials}, reverse=True)
        if any((t.defence, t.return_db) == (defence, return_db) for t in trials)
    ]
    for defence, return_db in columns:
        table.add_column(f"{defence.value}, {return_db:.0f} dB", justify="right", no_wrap=True)
    for name, figure in _FIGURES:
        cells = [[t for t in trials if (t.defence, t.return_db) == column] for column in columns]
        table.add_row(name, *[figure(cell) for cell in cells])
    return table


_Figure = Callable[[Sequence[EchoTrial]], str]


def _alone(trials: Sequence[EchoTrial]) -> list[EchoTrial]:
    return [trial for trial in trials if trial.clip is None]


def _spoken(trials: Sequence[EchoTrial], *, early: bool) -> list[EchoTrial]:
    return [trial for trial in trials if trial.clip is not None and trial.early is early]


def _seconds(trials: Sequence[EchoTrial]) -> str:
    return f"{sum(trial.agent_s for trial in _alone(trials)):.0f}"


def _mutes(trials: Sequence[EchoTrial]) -> str:
    return str(sum(trial.suspects for trial in _alone(trials)))


def _cuts(trials: Sequence[EchoTrial]) -> str:
    return str(sum(trial.cuts for trial in _alone(trials)))


def _before(trials: Sequence[EchoTrial]) -> str:
    return str(sum(trial.suspects + trial.cuts for trial in _spoken(trials, early=False)))


def _after(name: str, q: float, early: bool, trials: Sequence[EchoTrial]) -> str:
    spoken = _spoken(trials, early=early)
    found = [getattr(trial, name) for trial in spoken if getattr(trial, name) is not None]
    return f"{np.percentile(found, q):.0f}" if found else "–"


def _missed(early: bool, trials: Sequence[EchoTrial]) -> str:
    spoken = _spoken(trials, early=early)
    return f"{sum(trial.cut_after is None for trial in spoken)} of {len(spoken)}"


def _lost(early: bool, trials: Sequence[EchoTrial]) -> str:
    spoken = _spoken(trials, early=early)
    cut = [trial.lost for trial in spoken if trial.cut_after is not None]
    missed = [trial.lost for trial in spoken if trial.cut_after is None]
    return f"{sum(cut):.0f}" + (f" (+ {sum(missed):.0f} never heard)" if any(missed) else "")


def _broken(trials: Sequence[EchoTrial]) -> str:
    return str(sum(not trial.is_whole for trial in trials))


_FIGURES: Final[tuple[tuple[str, _Figure], ...]] = (
    ("agent alone, s", _seconds),
    ("mutes by its own voice", _mutes),
    ("cuts by its own voice", _cuts),
    ("mutes and cuts before the user spoke", _before),
    ("user over it: onset → mute p50, ms", partial(_after, "silent_after", 50, False)),
    ("onset → mute p95, ms", partial(_after, "silent_after", 95, False)),
    ("onset → cut p50, ms", partial(_after, "cut_after", 50, False)),
    ("onset → cut p95, ms", partial(_after, "cut_after", 95, False)),
    ("never cut", partial(_missed, False)),
    ("words lost, ms", partial(_lost, False)),
    (f"in its first {EARLY_MS} ms: never cut", partial(_missed, True)),
    ("onset → cut p50, ms (early)", partial(_after, "cut_after", 50, True)),
    ("words lost, ms (early)", partial(_lost, True)),
    ("conversations with a sample missing or doubled", _broken),
)
