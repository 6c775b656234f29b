"""A call of a day, and ten thousand calls one after another: does anything grow, is anything lost?

    python -m benchmarks.soak [--hours 24] [--calls 10000]

Both run in virtual time, against the embedded server in the same process. The day is made of
turns: somebody speaks for a second, is answered for two, and is silent for half a minute; the
silence is one run-length `Sound`, so that a day takes minutes. The service's session ends after an
hour, so the day is also two dozen connections. What is counted must be exact and
memory flat, else the run fails.

The service is in the same process, and holds the audio of its session's conversation, some 20 MiB
at the end of an hour. So memory is read at the same moment of each session, after its first answer
and with the garbage of the one before collected. The process does not give back what it has freed,
so the first session's end is in the second reading; what grows from there on is the client's.
Of the calls one after another, memory is read after each twentieth.
"""

from __future__ import annotations

import argparse
import gc
import json
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import process_time
from typing import Final

import numpy as np
from attrs import field, frozen

from benchmarks.measure import Figure, show
from framepipe import Emit, Frame, Pipeline, on
from framepipe.frames import NS_PER_S, AudioIn, AudioOut, Drained, Problem, ReplyPending, TextIn
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.mind import Talk
from framepipe.realtime.reconnect import RetryPolicy
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import SessionSettings, Transcription
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.wav_sink import WavSink

RATE_HZ: Final = 24_000
ANSWER_MS: Final = 2_000
SPEECH_MS: Final = 1_000
TURN_S: Final = 30
"""From one turn of the user to the next."""

BLOCK_MS: Final = 100
"""Of the microphone while somebody speaks."""

LULL_MS: Final = 5_000
"""Of the microphone while nobody does."""

GROWTH_MIB: Final = 8
"""What a soak may grow by once it is warm: the allocator's fragments, and logs of a fixed length
that are not full yet."""


@frozen
class Silence:
    """So many samples of nothing, made when somebody asks."""

    n_samples: int

    def pcm_bytes(self) -> bytes:
        """The samples."""
        return bytes(2 * self.n_samples)


class Mic:
    """Somebody who speaks for a second twice a minute, ``turns`` times."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        noise = np.random.default_rng(1).standard_normal(RATE_HZ * SPEECH_MS // 1000) * 3_000
        self._speech = noise.astype("<i2").tobytes()
        self.made_samples = 0

    async def run(self, emit: Emit[AudioIn]) -> None:
        """Speak, and be silent."""
        start_ns = emit.now_ns()
        size = 2 * RATE_HZ * BLOCK_MS // 1000
        blocks = [self._speech[at : at + size] for at in range(0, len(self._speech), size)]
        n_lull = RATE_HZ * LULL_MS // 1000
        n_after = RATE_HZ * (TURN_S * 1000 - SPEECH_MS) // 1000
        for _ in range(self.turns):
            for pcm in blocks:
                await self._capture(emit, start_ns, pcm, len(pcm) // 2)
            # The end of a turn is heard in time; the long silence after it comes in long blocks.
            left = n_after
            while left:
                n = min(left, n_lull if left < n_after - RATE_HZ else RATE_HZ // 10)
                await self._capture(emit, start_ns, Silence(n), n)
                left -= n

    async def _capture(
        self, emit: Emit[AudioIn], start_ns: int, pcm: bytes | Silence, n_samples: int
    ) -> None:
        at = self.made_samples
        self.made_samples += n_samples
        due_ns = start_ns + self.made_samples * NS_PER_S // RATE_HZ
        while not await emit.until(due_ns):
            pass
        emit(AudioIn(pcm=pcm, rate_hz=RATE_HZ, start_sample=at, at_ns=emit.now_ns()))


class Writer:
    """Somebody who writes one line and waits for the answer."""

    async def run(self, emit: Emit[TextIn | AudioIn]) -> None:
        """Write."""
        emit(TextIn(text="Hello."))
        await emit.until(emit.now_ns() + 100_000_000)


class Tally:
    """Counts what passes on its way to the loudspeaker, and keeps none of it."""

    def __init__(self) -> None:
        self.answers = self.drained = self.samples = 0
        self.problems: dict[str, int] = {}

    @on(ReplyPending)
    def begins(self, frame: ReplyPending) -> ReplyPending:
        """An answer begins."""
        self.answers += 1
        return frame

    @on(Drained)
    def ends(self, frame: Drained) -> Drained:
        """An answer was heard to its end."""
        self.drained += 1
        return frame

    @on(AudioOut)
    def sounds(self, frame: AudioOut) -> AudioOut:
        """A piece of it."""
        self.samples += frame.n_samples
        return frame

    @on(Problem)
    def complain(self, frame: Problem) -> Problem:
        """Something went wrong."""
        self.problems[frame.code] = self.problems.get(frame.code, 0) + 1
        return frame


@frozen(kw_only=True)
class Soaked:
    """What a soak came to.

    Attributes:
        turns: Turns of the user, or calls.
        answers: Responses that began.
        drained: Answers that were heard to their end.
        heard_samples: Samples that reached the ear.
        made_samples: Samples that were handed to the loudspeaker.
        mic_samples: Samples of the microphone.
        appended_samples: Samples of it that the sessions took, all together.
        sessions: Connections.
        problems: Their codes, and how often.
        memory_kib: Memory of the process after the first answer of each session and at the end,
            or after each part of the calls.
        peak_kib: The most of it after any answer, garbage included.
        cpu_s: Processor time.
    """

    turns: int
    answers: int
    drained: int
    heard_samples: int
    made_samples: int
    mic_samples: int
    appended_samples: int
    sessions: int
    problems: dict[str, int]
    memory_kib: tuple[int, ...] = field(repr=False)
    peak_kib: int = field(repr=False)
    cpu_s: float = field(eq=False)

    @property
    def growth_kib(self) -> int:
        """Memory at the end beyond that after the first fifth, when all is warm."""
        warm = self.memory_kib[len(self.memory_kib) // 5 :]
        return warm[-1] - warm[0]


def memory_kib() -> int:
    """What the process holds now."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text("ascii").split()[1]) * 4
    return getrusage(RUSAGE_SELF).ru_maxrss


def _collected_kib() -> int:
    """What the process holds when the garbage is gone."""
    gc.collect()
    return memory_kib()


def _settings(answer_ms: int, limit_s: float = 3_600) -> ServerSettings:
    return ServerSettings(
        mind=Talk(answer_ms),
        voice=ShippedClips(),
        detector=LoudWindows,
        pace=Pace(first_audio_ms=(250, 250), generation_speed=(10, 10)),
        limit_s=limit_s,
    )


async def _long_call(turns: int, session_s: float) -> Soaked:
    began_s, memory, peak_kib = process_time(), list[int](), 0
    async with server_in_process(_settings(ANSWER_MS, session_s)) as server:
        mic, tally, speaker = Mic(turns), Tally(), WavSink(None, block_ms=50)
        # With the words known, a new session can be told all of the conversation.
        session = SessionSettings(transcription=Transcription())
        retry = RetryPolicy(first_pause_ms=10)
        realtime = Realtime(session, connect=server.connect, seed=1, retry=retry)
        pipeline = Pipeline(mic, realtime, Playout(), BargeIn(), tally, speaker)
        appended = sessions = 0

        def forget(keep: int) -> None:
            """The server keeps its sessions, and their audio, for who wants to look at them."""
            nonlocal appended, sessions
            while len(server.sessions) > keep:
                appended += round(server.sessions.popleft().appended_ms * RATE_HZ / 1_000)
                sessions += 1

        def watch(what: str, stage: str, frame: Frame) -> None:
            nonlocal peak_kib
            if what == "emitted" and isinstance(frame, Drained):
                peak_kib = max(peak_kib, memory_kib())
                forget(keep=1)
                if len(memory) <= sessions:
                    memory.append(_collected_kib())

        pipeline.observe(watch)
        await pipeline.run()
        forget(keep=0)
        memory.append(_collected_kib())
        return Soaked(
            turns=turns,
            answers=tally.answers,
            drained=tally.drained,
            heard_samples=sum(run.n_samples for run in speaker.heard_log),
            made_samples=tally.samples,
            mic_samples=mic.made_samples,
            appended_samples=appended,
            sessions=sessions,
            problems=tally.problems,
            memory_kib=tuple(memory),
            peak_kib=max(peak_kib, *memory),
            cpu_s=process_time() - began_s,
        )


async def _many_calls(calls: int, parts: int) -> Soaked:
    began_s, memory = process_time(), list[int]()
    answers = drained = heard = made = sessions = 0
    problems: dict[str, int] = {}
    settings = _settings(200)
    for number in range(calls):
        async with server_in_process(settings) as server:
            tally, speaker = Tally(), WavSink(None)
            realtime = Realtime(connect=server.connect, seed=number)
            await Pipeline(Writer(), realtime, Playout(), BargeIn(), tally, speaker).run()
            sessions += len(server.sessions)
        answers += tally.answers
        drained += tally.drained
        made += tally.samples
        heard += sum(run.n_samples for run in speaker.heard_log)
        problems |= tally.problems
        if number % max(1, calls // parts) == 0:
            memory.append(_collected_kib())
    memory.append(_collected_kib())
    return Soaked(
        turns=calls,
        answers=answers,
        drained=drained,
        heard_samples=heard,
        made_samples=made,
        mic_samples=0,
        appended_samples=0,
        sessions=sessions,
        problems=problems,
        memory_kib=tuple(memory),
        peak_kib=max(memory),
        cpu_s=process_time() - began_s,
    )


def long_call(hours: float, session_s: float = 3_600) -> Soaked:
    """A call of so many hours, over sessions of ``session_s`` at most."""
    return run_virtual(partial(_long_call, round(hours * 3_600 / TURN_S), session_s))


def many_calls(calls: int, parts: int = 20) -> Soaked:
    """So many calls, one after another, in one event loop."""
    return run_virtual(partial(_many_calls, calls, parts))


def inexact(soaked: Soaked, answer_ms: int) -> list[str]:
    """What does not add up."""
    wanted = soaked.turns * answer_ms * RATE_HZ // 1000
    checks = {
        f"{soaked.answers} answers to {soaked.turns} turns": soaked.answers == soaked.turns,
        f"{soaked.drained} heard to their end": soaked.drained == soaked.turns,
        f"{soaked.made_samples} samples of {wanted}": soaked.made_samples == wanted,
        f"{soaked.heard_samples} samples heard of {wanted}": soaked.heard_samples == wanted,
        f"{soaked.problems}": not soaked.problems,
        # A new session is told again what was said since the last turn: never less.
        f"{soaked.appended_samples} samples appended of {soaked.mic_samples}": (
            soaked.appended_samples >= soaked.mic_samples
        ),
    }
    return [what for what, holds in checks.items() if not holds]


def grown(soaked: Soaked) -> list[str]:
    """What is too much to be called flat."""
    if soaked.growth_kib <= GROWTH_MIB * 1024:
        return []
    return [f"memory grew by {soaked.growth_kib / 1024:.1f} MiB, at most {GROWTH_MIB} are flat"]


def _figures(soaked: Soaked, per: str) -> list[Figure]:
    return [
        Figure(per, soaked.turns, ""),
        Figure("answers heard to their end", soaked.drained, ""),
        Figure("connections", soaked.sessions, ""),
        Figure("memory when warm", soaked.memory_kib[len(soaked.memory_kib) // 5] / 1024, "MiB"),
        Figure("memory at the end", soaked.memory_kib[-1] / 1024, "MiB"),
        Figure("growth since it was warm", soaked.growth_kib / 1024, "MiB", GROWTH_MIB),
        Figure("memory at most, after any answer", soaked.peak_kib / 1024, "MiB"),
        Figure("CPU", soaked.cpu_s, "s"),
    ]


def _by_part(soaked: Soaked) -> str:
    return " ".join(f"{kib / 1024:.1f}" for kib in soaked.memory_kib)


def _report(soaked: Soaked) -> dict[str, float]:
    return {
        "count": soaked.turns,
        "MiB grown": round(soaked.growth_kib / 1024, 1),
        "MiB at most": round(soaked.peak_kib / 1024, 1),
        "answers missing": soaked.turns - soaked.drained,
        "samples missing": soaked.made_samples - soaked.heard_samples,
    }


def main() -> int:
    """Both, with what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--report", type=Path, help="JSON file for the figures")
    asked = parser.parse_args()
    wrong: list[str] = []
    report: dict[str, float] = {}
    if asked.hours:
        day = long_call(asked.hours)
        show(f"A call of {asked.hours:g} hours", _figures(day, "turns"))
        print(f"memory at each session's first answer and at the end, MiB: {_by_part(day)}")
        wrong += inexact(day, ANSWER_MS) + grown(day)
        report = _report(day)
    if asked.calls:
        calls = many_calls(asked.calls)
        show(f"{asked.calls} calls one after another", _figures(calls, "calls"))
        print(f"memory after each part, MiB: {_by_part(calls)}")
        wrong += inexact(calls, 200) + grown(calls)
        report = _report(calls)
    if asked.report is not None:
        asked.report.write_text(json.dumps(report), "utf-8")
    for what in wrong:
        print(f"wrong: {what}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
