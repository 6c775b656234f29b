"""The loudspeaker: each sample heard once, in order, and the end of the sound known at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from framepipe.audio import samples_of
from framepipe.conversation.speaker import CUT_FADE_MS, HEARD_RUNS, Block, SpeakerCore
from framepipe.errors import FrameError
from framepipe.frames import AudioOut

MS = 1_000_000
RATE_HZ = 24_000
BLOCK = 240
FADE = RATE_HZ * CUT_FADE_MS // 1000
LOUD = 16_000


def audio(
    n_samples: int,
    *,
    start: int = 0,
    turn: int = 1,
    item: str = "a",
    rate_hz: int = RATE_HZ,
    channels: int = 1,
) -> AudioOut:
    """A constant, so that every step in what is heard is the speaker's own."""
    pcm = np.full(n_samples * channels, LOUD, "<i2").tobytes()
    return AudioOut(
        pcm=pcm, rate_hz=rate_hz, channels=channels, turn=turn, item_id=item, start_sample=start
    )


def speaker(device_ms: int = 0) -> SpeakerCore:
    return SpeakerCore(start_ns=0, rate_hz=RATE_HZ, block_ms=10, device_ms=device_ms)


def sound_of(blocks: list[Block], n_blocks: int) -> NDArray[np.int16]:
    """What the ear got, silence included."""
    sound = np.zeros(n_blocks * BLOCK, np.int16)
    for block in blocks:
        sound[block.index * BLOCK : (block.index + 1) * BLOCK] = samples_of(block.pcm)
    return sound


# --- plain examples ---------------------------------------------------------------------------


def test_audio_begins_at_the_next_boundary_and_is_played_when_its_last_sample_was_heard() -> None:
    core = speaker()
    core.hand(audio(480), 3 * MS)
    assert core.next_ns() == 10 * MS
    assert core.position(10 * MS).played_samples == 0
    assert core.position(15 * MS).played_samples == 120
    assert core.position(20 * MS).played_samples == 240
    assert not core.is_idle(29 * MS)
    assert core.is_idle(30 * MS)
    assert core.next_ns() is None
    assert [block.index for block in core.take_blocks()] == [1, 2]


def test_a_speaker_with_nothing_to_play_has_nothing_to_wait_for() -> None:
    core = speaker()
    assert core.next_ns() is None
    core.advance(3_600_000 * MS)
    assert core.take_blocks() == []
    assert core.n_blocks(3_600_000 * MS) == 360_001


def test_the_level_is_that_of_what_is_being_heard() -> None:
    core = speaker()
    core.hand(audio(240), 0)
    assert core.position(9 * MS).level_dbfs == -math.inf
    assert core.position(12 * MS).level_dbfs == pytest.approx(-6.2, abs=0.1)
    assert core.position(20 * MS).level_dbfs == -math.inf


@pytest.mark.parametrize("device_ms", [0, 5, 30, 200])
def test_a_mute_acts_on_the_first_sample_that_is_not_committed(device_ms: int) -> None:
    core = speaker(device_ms)
    core.hand(audio(2_400), 0)
    core.mute(24 * MS)  # blocks 1 and 2 are committed
    assert core.mute_point == 480 + FADE
    assert core.silent_since_ns == (30 + CUT_FADE_MS + device_ms) * MS
    assert core.position((30 + CUT_FADE_MS + device_ms) * MS - 1).played_samples == 479 + FADE
    assert core.position((30 + CUT_FADE_MS + device_ms) * MS).played_samples == 480 + FADE
    assert core.position(5_000 * MS).played_samples == 480 + FADE
    assert core.next_ns() is None, "a frozen queue ticks"


def test_an_unmute_goes_on_with_the_sample_at_the_mute_point() -> None:
    core = speaker()
    core.hand(audio(2_400), 0)
    core.mute(24 * MS)
    core.unmute(101 * MS)
    assert core.mute_point is None
    assert core.position(110 * MS).played_samples == 480 + FADE
    assert core.position(120 * MS).played_samples == 480 + FADE + BLOCK
    first, second = core.heard_log
    assert (first.start_sample, first.n_samples) == (0, 480 + FADE)
    assert (second.start_sample, second.at_ns) == (480 + FADE, 110 * MS)


def test_a_second_mute_changes_nothing() -> None:
    core = speaker()
    core.hand(audio(2_400), 0)
    core.mute(24 * MS)
    before = (core.mute_point, core.silent_since_ns)
    core.mute(33 * MS)
    core.mute(300 * MS)
    assert (core.mute_point, core.silent_since_ns) == before


def test_a_fade_gets_shorter_when_less_audio_waits() -> None:
    core = speaker()
    core.hand(audio(BLOCK + 50), 0)
    core.mute(12 * MS)
    assert core.mute_point == BLOCK + 50
    core.advance(100 * MS)
    assert core.take_blocks()[-1].pcm[2 * 49 : 2 * 50] != bytes(2)
    assert core.take_blocks() == []


def test_a_mute_in_silence_says_since_when_it_is_silent() -> None:
    core = speaker()
    core.hand(audio(100), 0)
    core.mute(500 * MS)
    assert core.mute_point == 100
    assert core.silent_since_ns == 10 * MS + 100 * 1_000_000_000 // RATE_HZ


def test_audio_that_comes_while_muted_waits_behind_what_is_frozen() -> None:
    core = speaker()
    core.hand(audio(BLOCK), 0)
    core.mute(0)
    core.hand(audio(BLOCK, start=BLOCK), 5 * MS)
    core.advance(200 * MS)
    core.unmute(200 * MS)
    assert core.is_idle(300 * MS)
    assert [(run.start_sample, run.n_samples) for run in core.heard_log] == [
        (0, FADE),
        (FADE, 2 * BLOCK - FADE),
    ]


def test_a_duck_goes_on_playing_more_quietly() -> None:
    core = speaker()
    core.hand(audio(2_400), 0)
    core.mute(12 * MS, gain_db=-20.0)
    assert core.mute_point is None
    assert core.position(60 * MS).played_samples == 5 * BLOCK
    assert samples_of(core.take_blocks()[-1].pcm)[-1] == LOUD // 10
    core.unmute(60 * MS)
    core.advance(100 * MS)
    assert samples_of(core.take_blocks()[-1].pcm)[-1] == LOUD


def test_a_cut_throws_away_what_waits_and_is_ready_for_the_next_reply() -> None:
    core = speaker()
    core.hand(audio(4_800), 0)
    assert core.cut(24 * MS) == 480 + FADE
    played = core.position(24 * MS)
    assert played.played_samples == played.handed_samples == 4_800
    assert played.mute_point is None
    core.hand(audio(BLOCK, turn=2, item="b"), 25 * MS)
    assert core.position(300 * MS).played_samples == 4_800 + BLOCK
    old, new = core.heard_log
    assert (old.item_id, old.n_samples) == ("a", 480 + FADE)
    assert (new.item_id, new.n_samples) == ("b", BLOCK)
    assert new.at_ns == (30 + CUT_FADE_MS) * MS


def test_a_cut_after_a_mute_keeps_the_mute_point_and_its_time() -> None:
    core = speaker()
    core.hand(audio(4_800), 0)
    core.mute(24 * MS)
    point, since = core.mute_point, core.silent_since_ns
    assert core.cut(31 * MS) == point
    assert core.silent_since_ns == since
    assert core.is_idle(60 * MS)


def test_a_cut_with_nothing_waiting_ends_at_what_was_handed() -> None:
    core = speaker()
    core.hand(audio(100), 0)
    assert core.cut(100 * MS) == 100


def test_a_cut_is_worth_a_report_even_in_silence() -> None:
    core = speaker()
    assert core.report(0) is None
    assert core.report(10 * MS) is None
    core.cut(10 * MS)
    assert core.report(10 * MS) is not None


def test_a_reply_that_goes_on_in_mid_word_after_a_cut_is_faded_in() -> None:
    for start, first in ((0, LOUD), (7, round(LOUD / (FADE + 1)))):
        core = speaker()
        core.cut(0)
        core.hand(audio(480, start=start), 0)
        core.advance(10 * MS)
        assert samples_of(core.take_blocks()[0].pcm)[0] == first


def test_stereo_is_mixed() -> None:
    core = speaker()
    core.hand(audio(BLOCK, channels=2), 0)
    assert core.handed_samples == BLOCK


def test_the_first_audio_sets_the_rate_and_another_one_is_refused() -> None:
    core = speaker()
    core.hand(audio(160, rate_hz=16_000), 0)
    assert core.position(20 * MS).rate_hz == 16_000
    with pytest.raises(FrameError, match=r"24000 Hz after 16000 Hz; .* put Resample\(16000\)"):
        core.hand(audio(BLOCK), 30 * MS)


def test_a_rate_without_whole_blocks_is_refused() -> None:
    with pytest.raises(FrameError, match="10 ms at 22050 Hz is not whole samples"):
        speaker().hand(audio(100, rate_hz=22_050), 0)


def test_more_than_ten_minutes_are_refused() -> None:
    core = speaker()
    for _ in range(10):
        core.hand(audio(60 * RATE_HZ), 0)
    with pytest.raises(FrameError, match=r"at most 600 s may, put Playout\(\) before it"):
        core.hand(audio(1), 0)


@pytest.mark.parametrize(("block_ms", "device_ms"), [(0, 0), (10, -1)])
def test_lengths_that_make_no_sense_are_refused(block_ms: int, device_ms: int) -> None:
    with pytest.raises(FrameError, match="must be 1 or more"):
        SpeakerCore(start_ns=0, block_ms=block_ms, device_ms=device_ms)


# --- any orders at any time -------------------------------------------------------------------

Step = tuple[int, str, int]

steps = st.lists(
    st.tuples(
        st.integers(0, 25_000_000),
        st.sampled_from(["hand", "hand", "mute", "unmute", "duck", "cut", "look"]),
        st.integers(1, 1_200),
    ),
    max_size=25,
)


class Conversation:
    """Drives a speaker and remembers what an obviously right one would have done."""

    def __init__(self, device_ms: int) -> None:
        self.core = speaker(device_ms)
        self.now_ns = 0
        self.blocks: list[Block] = []
        self.turn = 1
        self.in_turn = 0
        self.cut_turns: dict[int, int] = {}  # turn: samples of it that may be heard
        self.turn_begins = 0
        self.is_muted = False
        self.jumps: list[int] = []

    def step(self, wait_ns: int, what: str, n: int) -> None:
        self.now_ns += wait_ns
        do: Callable[[int], None] = getattr(self, what)
        do(n)
        self.blocks += self.core.take_blocks()
        played = self.core.position(self.now_ns)
        assert 0 <= played.played_samples <= played.handed_samples == self.core.handed_samples
        assert (self.core.mute_point is not None) == self.is_muted
        if self.core.mute_point is not None:
            assert played.played_samples <= self.core.mute_point

    def hand(self, n: int) -> None:
        self.core.hand(audio(n, start=self.in_turn, turn=self.turn), self.now_ns)
        self.in_turn += n

    def mute(self, n: int) -> None:
        point = self.core.mute_point
        self.core.mute(self.now_ns, fade_ms=5 + n % 8)
        self.is_muted = True
        assert point in (None, self.core.mute_point)

    def duck(self, n: int) -> None:
        self.core.mute(self.now_ns, gain_db=-float(n % 40), fade_ms=5 + n % 8)
        self.is_muted = False

    def unmute(self, n: int) -> None:
        self.core.unmute(self.now_ns, fade_ms=5 + n % 8)
        self.is_muted = False

    def cut(self, _: int) -> None:
        point = self.core.cut(self.now_ns)
        self.is_muted = False
        self.cut_turns[self.turn] = max(0, point - self.turn_begins)
        assert self.core.position(self.now_ns).played_samples == self.core.handed_samples
        self.turn, self.in_turn, self.turn_begins = self.turn + 1, 0, self.core.handed_samples

    def look(self, _: int) -> None:
        self.core.report(self.now_ns)

    def finish(self) -> None:
        if self.is_muted:
            self.unmute(8)
        while (next_ns := self.core.next_ns()) is not None:
            self.now_ns = next_ns
            self.core.position(self.now_ns)
        assert self.core.is_idle(self.now_ns)
        self.blocks += self.core.take_blocks()


def played_through(script: list[Step], device_ms: int = 0) -> Conversation:
    talk = Conversation(device_ms)
    for step in script:
        talk.step(*step)
    talk.finish()
    return talk


@given(steps, st.sampled_from([0, 5, 30]))
def test_every_sample_is_heard_once_and_in_order_up_to_the_mute_point_of_its_cut(
    script: list[Step], device_ms: int
) -> None:
    talk = played_through(script, device_ms)
    heard: dict[int, int] = {}
    for run in talk.core.heard_log:
        assert run.start_sample == heard.get(run.turn, 0)
        heard[run.turn] = run.start_sample + run.n_samples
    for turn, n in talk.cut_turns.items():
        assert heard.get(turn, 0) == n
    assert heard.get(talk.turn, 0) == talk.in_turn
    assert talk.core.position(talk.now_ns).played_samples == talk.core.handed_samples


@given(steps)
def test_the_log_says_where_in_the_sound_each_sample_is(script: list[Step]) -> None:
    talk = played_through(script)
    sound = sound_of(talk.blocks, talk.core.n_blocks(talk.now_ns))
    logged = np.zeros(len(sound), np.bool_)
    for run in talk.core.heard_log:
        first = -(-run.at_ns * RATE_HZ // 1_000_000_000)
        assert not logged[first : first + run.n_samples].any(), "two samples at one time"
        logged[first : first + run.n_samples] = True
    assert not sound[~logged].any(), "a sound that the log does not know"


orders = st.lists(
    st.tuples(
        st.integers(0, 25_000_000),
        st.sampled_from(["mute", "unmute", "duck", "cut"]),
        st.integers(0, 39),
    ),
    max_size=15,
)


@given(orders)
def test_no_orders_make_a_step_larger_than_the_shortest_ramp_allows(script: list[Step]) -> None:
    """Audio is always there, and begins in mid-word after a cut, so every step is an order's."""
    talk = Conversation(0)
    talk.step(0, "hand", RATE_HZ)
    for wait_ns, what, n in script:
        talk.step(wait_ns, what, n)
        if what == "cut":
            talk.in_turn = 1
            talk.step(0, "hand", RATE_HZ)
    talk.step(100 * MS, "look", 0)
    sound = sound_of(talk.blocks, talk.core.n_blocks(talk.now_ns)).astype(int)
    steps_made = np.abs(np.diff(sound))
    begun = int(np.argmax(sound != 0)) if script[:1] and sound.any() else BLOCK
    steps_made[:begun] = 0
    assert steps_made.max() <= LOUD / (RATE_HZ * 5 // 1000 + 1) + 1


@given(
    st.integers(0, 60_000_000),
    st.integers(5, 12),
    st.sampled_from(["mute", "cut", "mute and unmute", "mute and cut"]),
    st.integers(0, 40_000_000),
)
def test_a_fade_has_no_step_larger_than_its_ramp(
    record_property: Callable[[str, object], None],
    at_ns: int,
    fade_ms: int,
    what: str,
    later_ns: int,
) -> None:
    core = speaker()
    core.hand(audio(RATE_HZ), 0)
    core.advance(10 * MS)
    fade_ms = CUT_FADE_MS if what == "cut" else fade_ms
    if what.startswith("mute"):
        core.mute(10 * MS + at_ns, fade_ms=fade_ms)
    if what == "mute and unmute":
        core.unmute(10 * MS + at_ns + later_ns, fade_ms=fade_ms)
    elif what != "mute":
        core.cut(10 * MS + at_ns + (later_ns if what == "mute and cut" else 0))
    core.advance(200 * MS)
    sound = sound_of(core.take_blocks(), 21).astype(int)[BLOCK:]
    step, ramp = int(np.abs(np.diff(sound)).max()), LOUD / (RATE_HZ * fade_ms // 1000 + 1)
    record_property("steps beyond the ramp", max(0, step - ramp - 1))
    assert step <= ramp + 1


@given(steps, st.lists(st.integers(0, 700_000_000), max_size=20))
def test_looking_at_the_speaker_changes_nothing(script: list[Step], looks: list[int]) -> None:
    watched = Conversation(0)
    for step in script:
        until = watched.now_ns + step[0]
        for look_ns in sorted(looks):
            if watched.now_ns < look_ns <= until:
                watched.core.position(look_ns)
                watched.core.is_idle(look_ns)
        watched.step(*step)
    watched.finish()
    assert watched.core.heard_log == played_through(script).core.heard_log


def test_the_log_of_what_was_heard_is_bounded() -> None:
    core = SpeakerCore(start_ns=0)
    for turn in range(HEARD_RUNS + 10):
        core.hand(audio(10, turn=turn + 1), turn * 20 * MS)
        core.advance(turn * 20 * MS + 10 * MS)
    assert len(core.heard_log) == HEARD_RUNS
    assert core.heard_log[-1].turn == HEARD_RUNS + 10, "the oldest goes"
