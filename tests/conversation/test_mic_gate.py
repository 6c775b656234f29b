"""What the service hears of the microphone while the agent talks. Blocks of 10 ms, 1 kHz."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import samples_of, silence
from framepipe.conversation.mic_gate import TABLE, Event, MicGateCore, State
from framepipe.errors import FrameError
from framepipe.frames import (
    AudioIn,
    Played,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
)

RATE_HZ = 1_000
"""A sample is a millisecond."""

MS = 1_000_000


def said(first: int, n: int) -> bytes:
    """Samples that say their position, and are never silence."""
    return b"".join((1 + at % 30_000).to_bytes(2, "little") for at in range(first, first + n))


@define
class Call:
    """Feeds a gate, and keeps what left it."""

    gate: MicGateCore = field(factory=lambda: MicGateCore(pre_roll_ms=600, prefix_ms=300))
    at: int = 0
    left: list[AudioIn] = field(factory=list[AudioIn])

    def mic(self, ms: int, *, block_ms: int = 10, agent: bool = False) -> None:
        """Microphone audio, with or without the agent's voice in the room."""
        end = self.at + ms
        while self.at < end:
            n = min(block_ms, end - self.at)
            if agent:
                self.agent()
            frame = AudioIn(pcm=said(self.at, n), rate_hz=RATE_HZ, start_sample=self.at)
            self.at += n
            self.left += self.gate.hear(frame, self.at * MS)

    def agent(self, level_dbfs: float = -20.0) -> None:
        self.left += self.gate.receive(
            Played(
                handed_samples=0,
                played_samples=0,
                rate_hz=RATE_HZ,
                level_dbfs=level_dbfs,
                at_ns=self.at * MS,
            )
        )

    def tell(
        self, fact: SpeechStarted | SpeechStopped | SpeechConfirmed | SpeechRejected
    ) -> list[AudioIn]:
        leaving = self.gate.receive(fact)
        self.left += leaving
        return leaving

    @property
    def sound(self) -> list[tuple[int, int]]:
        """Stretches that left as themselves, silence between them."""
        self.check()
        found: list[tuple[int, int]] = []
        at = 0
        for frame in self.left:
            for sample in samples_of(frame.pcm_bytes()):
                if sample:
                    if found and found[-1][1] == at:
                        found[-1] = (found[-1][0], at + 1)
                    else:
                        found.append((at, at + 1))
                at += 1
        return found

    @property
    def lag(self) -> int:
        return self.at - sum(frame.n_samples for frame in self.left)

    def check(self) -> None:
        """Promise P4: once, in order, at its own position, as itself or as silence."""
        at = 0
        for frame in self.left:
            assert frame.start_sample == at
            pcm, whole = frame.pcm_bytes(), said(at, frame.n_samples)
            n_silent = next(
                (n for n in range(frame.n_samples + 1) if pcm == silence(n) + whole[2 * n :]),
                None,
            )
            assert n_silent is not None, f"{frame} is neither itself nor silence"
            at += frame.n_samples
        assert at <= self.at


def started(onset: int) -> SpeechStarted:
    return SpeechStarted(source="local", onset_sample=onset)


def confirmed(onset: int) -> SpeechConfirmed:
    return SpeechConfirmed(source="silero", onset_sample=onset, probability=0.95)


def rejected(onset: int) -> SpeechRejected:
    return SpeechRejected(source="silero", onset_sample=onset, probability=0.05)


def stopped(end: int) -> SpeechStopped:
    return SpeechStopped(source="local", end_sample=end)


def test_while_the_agent_is_silent_everything_passes_at_once() -> None:
    call = Call()
    call.mic(500)
    assert (call.lag, call.sound) == (0, [(0, 500)])


def test_while_the_agent_talks_silence_leaves_600_ms_late() -> None:
    call = Call()
    call.mic(100)
    call.mic(590, agent=True)
    assert (call.lag, call.sound) == (590, [(0, 100)])
    call.mic(410, agent=True)
    assert (call.lag, call.sound) == (600, [(0, 100)])


def test_speech_opens_at_once_with_what_was_before_its_onset() -> None:
    call = Call()
    call.mic(1_000, agent=True)
    leaving = call.tell(started(980))
    assert sum(frame.n_samples for frame in leaving) == 600
    call.mic(200, agent=True)
    assert (call.lag, call.sound) == (0, [(680, 1_200)])


def test_a_prefix_of_none_begins_at_the_onset_in_the_middle_of_a_block() -> None:
    call = Call(MicGateCore(prefix_ms=0))
    call.mic(1_000, agent=True)
    call.tell(started(983))
    assert call.sound == [(983, 1_000)]


def test_a_late_confirmation_still_finds_its_beginning() -> None:
    # The first stage heard nothing; the second is 290 ms late.
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(confirmed(710))
    assert call.sound == [(410, 1_000)]


def test_an_onset_older_than_the_pre_roll_loses_its_beginning_only() -> None:
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(confirmed(500))
    assert call.sound == [(400, 1_000)]


def test_it_does_not_close_before_192_ms_without_speech() -> None:
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(started(990))
    call.mic(300, agent=True)
    call.tell(stopped(1_290))
    call.mic(190, agent=True)
    assert call.lag == 0
    call.mic(10, agent=True)
    assert call.lag == 10, "closed, and the choice on it is open again"
    assert call.sound[-1][1] == 1_490


def test_it_does_not_close_while_the_agent_is_muted() -> None:
    # What was played before still hides soft words from the detector.
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(started(990))
    call.mic(20, agent=True)
    call.tell(stopped(1_010))
    call.mic(280)
    assert call.lag == 0
    call.mic(10, agent=True)
    assert call.lag == 10, "the agent goes on"
    assert call.sound == [(690, 1_300)]


def test_speech_that_goes_on_in_time_keeps_it_open() -> None:
    # A pause that the gate makes would be the end of a turn to the service.
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(started(990))
    for _ in range(5):
        call.mic(200, agent=True)
        call.tell(stopped(call.at - 50))
        call.mic(130, agent=True)
        call.tell(started(call.at - 10))
    assert call.sound == [(690, call.at)]


def test_a_burst_holds_silence_only_before_the_words() -> None:
    # The service ends a turn inside a burst as it would in real time.
    call = Call()
    call.mic(2_000, agent=True)
    leaving = call.tell(confirmed(1_900))
    call.mic(300, agent=True)
    heard = b"".join(frame.pcm_bytes() for frame in leaving)
    first = next(n for n, sample in enumerate(samples_of(heard)) if sample)
    assert all(samples_of(heard)[first:])
    assert call.sound == [(1_600, 2_300)]


def test_a_rejection_closes_it_at_once_and_nothing_leaves_twice() -> None:
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(started(990))
    call.mic(200, agent=True)
    call.tell(rejected(990))
    call.mic(100, agent=True)
    assert (call.lag, call.sound) == (100, [(690, 1_200)])


def test_the_end_of_what_was_rejected_does_not_open_it() -> None:
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(started(990))
    call.mic(100, agent=True)
    call.tell(rejected(990))
    call.tell(stopped(1_090))
    call.mic(1_000, agent=False)
    call.mic(100, agent=True)
    assert call.gate.state is State.CLOSED


def test_what_is_confirmed_after_its_rejection_opens_it_again_without_a_hole() -> None:
    # The rule of the second stage stays armed.
    call = Call()
    call.mic(1_000, agent=True)
    call.tell(started(990))
    call.mic(200, agent=True)
    call.tell(rejected(990))
    call.mic(150, agent=True)
    call.tell(confirmed(1_100))
    assert call.sound == [(690, 1_350)]


def test_who_speaks_when_the_agent_begins_is_not_cut_off() -> None:
    call = Call()
    call.mic(200)
    call.tell(started(190))
    call.mic(300)
    call.mic(300, agent=True)
    assert (call.gate.state, call.lag) == (State.OPEN, 0)
    call.tell(stopped(800))
    call.mic(210, agent=True)
    assert call.gate.state is State.CLOSED
    assert call.sound == [(0, 1_000)]


def test_the_gate_is_free_300_ms_after_the_last_sound_of_the_agent() -> None:
    call = Call()
    call.mic(100)
    call.mic(1_000, agent=True)
    call.mic(290)
    assert call.lag == 600
    call.mic(10)
    assert (call.gate.state, call.lag) == (State.FREE, 0)
    call.mic(50)
    assert call.sound == [(0, 100), (1_390, 1_450)]


def test_digital_silence_of_the_agent_is_not_heard() -> None:
    call = Call()
    for _ in range(20):
        call.agent(-math.inf)
        call.mic(10)
    assert call.sound == [(0, 200)]


def test_at_the_end_what_waits_leaves_as_silence() -> None:
    call = Call()
    call.mic(500, agent=True)
    call.left += call.gate.end()
    assert (call.lag, call.sound) == (0, [])


def test_stereo_is_silenced_and_split_as_a_whole() -> None:
    gate = MicGateCore(prefix_ms=0, pre_roll_ms=20)
    gate.receive(Played(handed_samples=0, played_samples=0, rate_hz=RATE_HZ, level_dbfs=-20.0))
    frame = AudioIn(pcm=said(0, 20), rate_hz=RATE_HZ, channels=2)
    assert gate.hear(frame, 10 * MS) == []
    (left,) = gate.receive(started(4))
    assert left.pcm_bytes() == silence(8) + said(8, 12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prefix_ms": 901}, "prefix_ms is 901 and pre_roll_ms 900"),
        ({"close_ms": -1}, "close_ms is -1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(FrameError, match=words):
        MicGateCore(**settings)


def test_every_state_can_be_left() -> None:
    for state in State:
        assert any(state in row and row[state].to is not state for row in TABLE.values()), state
    assert all(cell.do is not None for cell in TABLE[Event.SPEECH].values())


# --- any schedule -------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("mic"), st.integers(1, 700), st.integers(1, 120)),
        st.tuples(st.just("agent"), st.integers(1, 700), st.integers(1, 120)),
        st.tuples(
            st.sampled_from(["started", "confirmed", "rejected", "stopped"]),
            st.integers(0, 900),
            st.just(0),
        ),
    ),
    max_size=25,
)
"""Audio with and without the agent, and what the detectors say of some moment in the past."""

FACTS: dict[
    str, Callable[[int], SpeechStarted | SpeechConfirmed | SpeechRejected | SpeechStopped]
] = {
    "started": started,
    "confirmed": confirmed,
    "rejected": rejected,
    "stopped": stopped,
}


@given(
    steps=steps,
    pre_roll_ms=st.integers(0, 700),
    prefix=st.floats(0, 1),
    close_ms=st.integers(0, 300),
    tail_ms=st.integers(0, 400),
)
def test_every_sample_leaves_once_in_order_as_itself_or_as_silence(
    steps: list[tuple[str, int, int]],
    pre_roll_ms: int,
    prefix: float,
    close_ms: int,
    tail_ms: int,
) -> None:
    prefix_ms = int(prefix * pre_roll_ms)
    call = Call(
        MicGateCore(
            pre_roll_ms=pre_roll_ms, prefix_ms=prefix_ms, close_ms=close_ms, tail_ms=tail_ms
        )
    )
    opened: list[tuple[int, int]] = []
    longest = 0
    for kind, ms, block_ms in steps:
        if kind in ("mic", "agent"):
            longest = max(longest, block_ms)
            call.mic(ms, block_ms=block_ms, agent=kind == "agent")
            continue
        at = max(0, call.at - ms)
        lag = call.lag
        call.tell(FACTS[kind](at))
        if kind in ("started", "confirmed"):
            assert call.lag == 0
            opened.append((max(at - prefix_ms, call.at - lag, 0), call.at))
    assert call.lag == call.gate.waiting_samples
    assert call.lag < pre_roll_ms + longest or call.lag == 0
    call.left += call.gate.end()
    call.check()
    assert sum(frame.n_samples for frame in call.left) == call.at
    for first, last in opened:
        assert first >= last or any(a <= first and last <= b for a, b in call.sound)
