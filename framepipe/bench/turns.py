"""What each step of turn-taking buys: scripted dialogues with the flight desk, policy by policy.

Every dialogue of a corpus (`framepipe.bench.corpus`) is a whole call in virtual time: the scripted
user's microphone, the real stages, the client half and the embedded server with the `Booking` mind
over a connection in memory. The transcripts are given beside the audio
(`framepipe.bench.scripted_user`). What counts is read from the outside: which flights were booked,
what was read back, what was heard when.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import Enum
from functools import partial
from typing import Any, Final
from zlib import crc32

import anyio
from attrs import define, field, frozen

from framepipe import Frame, Pipeline
from framepipe.bench.corpus import Dialogue, Trip
from framepipe.bench.scripted_user import QUIET_MS, CorpusUser, Said, ears_for, ms_of
from framepipe.bench.service import Service
from framepipe.clock import now_ns
from framepipe.conversation.endpointing import GrowingSilence
from framepipe.conversation.relations import SpokenCorrections
from framepipe.conversation.speaker import HeardRun
from framepipe.conversation.wordlists import ENGLISH
from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S, Revoke, ToolCall, Transcript, TurnAmended
from framepipe.realtime.booking import CITIES, TOOL, Booking
from framepipe.realtime.connection import Connect
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import ServerVad, SessionSettings, Transcription
from framepipe.realtime.tools import tool
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import run_virtual
from framepipe_processors.bargein import BargeIn
from framepipe_processors.local_vad import LocalVad
from framepipe_processors.playout import Playout
from framepipe_processors.realtime import Realtime
from framepipe_processors.turns import Turns
from framepipe_processors.wav_sink import WavSink

TOOL_MS: Final = 200
"""How long a booking takes, once it has begun."""

QUICK: Final = 6
"""A quick run takes every sixth dialogue."""

CUT_OFF_MS: Final = 200
"""The agent began inside the user's turn and stayed for at least so long."""

_READ_BACK: Final = re.compile(r"A flight from (.+) to (.+), (.+)\. Shall I book it\?")


class Policy(Enum):
    """How turns are taken. Each one from the third on is the one before it and something more."""

    SERVER_500 = "500 ms"
    """The service's silence timer; nothing falls silent here when the user speaks."""
    SERVER_800 = "800 ms"
    """The same with a longer silence."""
    MUTE_AND_CANCEL = "+ mute, cancel"
    """800 ms, and the local detector mutes, the service's word cuts (`BargeIn`)."""
    COOL_DOWN = "+ cool-down"
    """And turns are kept (`Turns`): 1,500 ms after an interruption before an answer is heard, an
    answer to half a turn is withdrawn, tools with effects wait for the end of the turn."""
    CORRECTIONS = "+ corrections"
    """And what takes back an earlier turn is known for it (`SpokenCorrections`)."""
    GROWING = "+ growing"
    """And every answer is prepared after 500 ms and heard when the words are a whole turn
    (`GrowingSilence`)."""


@frozen(kw_only=True)
class Call:
    """What came of one dialogue. Times are milliseconds.

    Attributes:
        policy: How turns were taken.
        dialogue: Its name.
        kind: What it is an example of.
        held_out: No rule was made for it.
        is_right: What was booked, or read back where nothing is to be booked, is what the user
            wanted, and nothing else.
        wrong_bookings: Flights that are booked in the end and not wanted.
        undone_bookings: Flights that were booked, corrected later, and taken back for that.
        user_turns: Steps of the script.
        revocations: Answers that were withdrawn because of what the user said next.
        unneeded: Those among them that should have stood.
        cut_offs: Turns of the user inside which the agent began to speak.
        hellos: How often the user waited in vain for an answer.
        gaps_ms: From the user's last word to the first sound of the answer, for each turn that
            wants one and got one.
        tool_waits_ms: From the model's call of the tool to its beginning.
        lasted_ms: The length of the call, up to the last sound of either side.
    """

    policy: Policy
    dialogue: str
    kind: str
    held_out: bool
    is_right: bool
    wrong_bookings: int
    undone_bookings: int
    user_turns: int
    revocations: int
    unneeded: int
    cut_offs: int
    hellos: int
    gaps_ms: tuple[float, ...]
    tool_waits_ms: tuple[float, ...]
    lasted_ms: float


def run_calls(
    dialogues: Sequence[Dialogue],
    *,
    policies: Sequence[Policy] = tuple(Policy),
    service: Service = Service.USUAL,
    seed: int = 0,
    processes: int = 2,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Call]:
    """Hold every dialogue with each policy.

    Args:
        dialogues: What is said.
        policies: How turns are taken.
        service: How fast it answers.
        seed: Of its pace, which is the same with each policy.
        processes: How many work at it, 1 or more; 1 stays in this process.
        progress: Is told how many dialogues are done, and of how many.

    Raises:
        FrameError: ``processes`` is below 1.
    """
    if processes < 1:
        raise FrameError(f"processes is {processes}; it must be 1 or more")
    calls: list[Call] = []
    hold_each = partial(hold_all, policies=tuple(policies), service=service, seed=seed)

    def collect(done: Iterable[list[Call]]) -> list[Call]:
        for number, some in enumerate(done, 1):
            calls.extend(some)
            progress(number, len(dialogues))
        return calls

    if processes == 1:
        return collect(map(hold_each, dialogues))
    with ProcessPoolExecutor(processes) as pool:
        return collect(pool.map(hold_each, dialogues))


def hold_all(
    dialogue: Dialogue, policies: Sequence[Policy], service: Service, seed: int
) -> list[Call]:
    """Hold one dialogue with each policy."""
    return [hold(dialogue, policy, service, seed) for policy in policies]


def hold(
    dialogue: Dialogue, policy: Policy, service: Service = Service.USUAL, seed: int = 0
) -> Call:
    """Hold one dialogue with one policy, in virtual time."""
    return run_virtual(_converse, dialogue, policy, service, seed)


# --- one call -----------------------------------------------------------------------------------


@define
class _Office:
    """Books flights, takes bookings back, and remembers when it was asked to."""

    booked: list[Trip] = field(factory=list[Trip])
    begun_ns: list[int] = field(factory=list[int])
    undone: int = 0

    def book(self) -> Any:
        """The tool."""

        async def book_flight(origin: str, destination: str, day: str) -> str:
            """Book a flight."""
            self.begun_ns.append(now_ns())
            await anyio.sleep(TOOL_MS / 1_000)
            self.booked.append(Trip(origin=origin, to=destination, day=day))
            return f"Reference {len(self.booked)}."

        assert book_flight.__name__ == TOOL
        return tool(effects=True)(book_flight)

    def amended(self, what: TurnAmended) -> None:
        """The user corrects what is booked already: take the booking back."""
        for call in what.calls:
            made = json.loads(call.arguments)
            trip = Trip(origin=made["origin"], to=made["destination"], day=made["day"])
            if trip in self.booked:
                self.booked.remove(trip)
                self.undone += 1


@define
class _Watcher:
    """Writes down what is worth knowing of a call."""

    read_back: list[Trip] = field(factory=list[Trip])
    called_ns: list[int] = field(factory=list[int])
    revoked_ns: list[int] = field(factory=list[int])

    def __call__(self, what: str, stage: str, frame: Frame) -> None:
        if what != "emitted":
            return
        if isinstance(frame, Transcript) and frame.who == "agent" and frame.final:
            found = _READ_BACK.search(frame.text)
            if found:
                self.read_back.append(Trip(origin=found[1], to=found[2], day=found[3]))
        elif isinstance(frame, ToolCall):
            self.called_ns.append(now_ns())
        elif isinstance(frame, Revoke) and frame.item_ids:
            self.revoked_ns.append(now_ns())


async def _converse(dialogue: Dialogue, policy: Policy, service: Service, seed: int) -> Call:
    office, watcher = _Office(), _Watcher()
    user, sink = CorpusUser(dialogue), WavSink(block_ms=40)
    settings = ServerSettings(
        mind=Booking(),
        voice=ShippedClips(),
        detector=LoudWindows,
        ears=ears_for(dialogue),
        pace=service.pace,
        seed=crc32(f"{dialogue.name} {seed}".encode()),
    )
    async with server_in_process(settings) as server:
        pipeline = Pipeline(user, *_stages(policy, server.connect, office), sink)
        pipeline.observe(watcher)
        await pipeline.run()
    return _account(dialogue, policy, user, office, watcher, sink.heard_log)


def _stages(policy: Policy, connect: Connect, office: _Office) -> list[object]:
    is_short = policy in (Policy.SERVER_500, Policy.GROWING)
    has_ears = policy not in (Policy.SERVER_500, Policy.SERVER_800)
    session = SessionSettings(
        turn_detection=ServerVad(silence_duration_ms=500 if is_short else 800),
        transcription=Transcription(),
    )
    realtime = Realtime(
        session,
        url="ws://127.0.0.1/v1/realtime",
        connect=connect,
        owner="client" if has_ears else "server",
        tools=(office.book(),),
        seed=1,
    )
    if not has_ears:
        return [realtime, Playout()]
    # The second stage would call the noise that stands for speech what it is.
    ears = LocalVad(second_stage=False, frame_ms=20)
    if policy is Policy.MUTE_AND_CANCEL:
        return [ears, realtime, Playout(), BargeIn()]
    return [ears, realtime, _kept(policy, office), Playout(), BargeIn()]


FLIGHTS: Final = ENGLISH.with_kinds(city=CITIES)
"""The words that the desk's customers use: cities can stand for one another."""


def _kept(policy: Policy, office: _Office) -> Turns:
    corrects = policy is not Policy.COOL_DOWN
    grows = policy is Policy.GROWING
    return Turns(
        corrections=SpokenCorrections(FLIGHTS) if corrects else None,
        end_of_turn=GrowingSilence(FLIGHTS) if grows else None,
        hold="always" if grows else "interruption",
        on_amended=office.amended,
        fallback=False,
    )


def _account(
    dialogue: Dialogue,
    policy: Policy,
    user: CorpusUser,
    office: _Office,
    watcher: _Watcher,
    heard: Sequence[HeardRun],
) -> Call:
    said, sounded = user.script.said, _stretches(heard)
    wanted = [trip.folded() for trip in dialogue.wants]
    booked = [trip.folded() for trip in office.booked]
    left = list(wanted)
    wrong = 0
    for trip in booked:
        if trip in left:
            left.remove(trip)
        else:
            wrong += 1
    is_right = booked == wanted
    if dialogue.trip is not None:
        last = watcher.read_back[-1].folded() if watcher.read_back else None
        is_right = not booked and last == dialogue.trip.folded()
    revoked = [at / 1e6 for at in watcher.revoked_ns]
    last_ms = max([one.end_ms for one in said] + [end for _, end in sounded])
    return Call(
        policy=policy,
        dialogue=dialogue.name,
        kind=dialogue.kind,
        held_out=dialogue.held_out,
        is_right=is_right,
        wrong_bookings=wrong,
        undone_bookings=office.undone,
        user_turns=len(dialogue.steps),
        revocations=len(revoked),
        unneeded=sum(_is_unneeded(at_ms, dialogue, said) for at_ms in revoked),
        cut_offs=_cut_offs(dialogue, said, sounded),
        hellos=user.script.hellos,
        gaps_ms=tuple(_gaps(dialogue, said, sounded)),
        tool_waits_ms=tuple(_waits(watcher.called_ns, office.begun_ns)),
        lasted_ms=last_ms,
    )


def _stretches(heard: Sequence[HeardRun]) -> list[tuple[float, float]]:
    """When the agent was audible, holes of less than `QUIET_MS` closed."""
    stretches: list[tuple[float, float]] = []
    for run in heard:
        start = ms_of(run.at_ns)
        end = start + run.n_samples * 1_000 / 24_000
        if stretches and start - stretches[-1][1] < QUIET_MS:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((start, end))
    return stretches


def _is_unneeded(at_ms: float, dialogue: Dialogue, said: Sequence[Said]) -> bool:
    """An answer was withdrawn although the user neither went on nor corrected himself."""
    begun = [one for one in said if one.start_ms <= at_ms]
    if not begun:
        return True
    step = dialogue.steps[begun[-1].step]
    went_on = sum(one.step == begun[-1].step for one in begun) > 1
    return not (went_on or step.corrects or step.goes_on)


def _turns(dialogue: Dialogue, said: Sequence[Said]) -> Iterable[tuple[float, float]]:
    """Begin and end of each turn of the user, whatever it is made of."""
    begin: float | None = None
    for nth, one in enumerate(said):
        begin = one.start_ms if begin is None else begin
        following = said[nth + 1] if nth + 1 < len(said) else None
        goes_on = following is not None and (
            not one.is_last or dialogue.steps[following.step].goes_on
        )
        if not goes_on:
            yield begin, one.end_ms
            begin = None


def _cut_offs(
    dialogue: Dialogue, said: Sequence[Said], sounded: Sequence[tuple[float, float]]
) -> int:
    return sum(
        any(begin < start < end and min(stop, end) - start >= CUT_OFF_MS for start, stop in sounded)
        for begin, end in _turns(dialogue, said)
    )


def _gaps(
    dialogue: Dialogue, said: Sequence[Said], sounded: Sequence[tuple[float, float]]
) -> Iterable[float]:
    ends = [end for _, end in _turns(dialogue, said)]
    begins = [begin for begin, _ in _turns(dialogue, said)]
    silent = {one.end_ms for one in said if dialogue.steps[one.step].is_backchannel}
    for nth, end in enumerate(ends):
        until = begins[nth + 1] if nth + 1 < len(begins) else float("inf")
        begun = next((start for start, _ in sounded if start > end), None)
        if end not in silent and begun is not None and begun < until:
            yield begun - end


def _waits(called_ns: Sequence[int], begun_ns: Sequence[int]) -> Iterable[float]:
    """Each beginning belongs to the newest call before it."""
    for begun in begun_ns:
        called = [at for at in called_ns if at <= begun]
        if called:
            yield (begun - called[-1]) * 1_000 / NS_PER_S
