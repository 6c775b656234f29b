"""What is believed of the way from the loudspeaker to the microphone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.detectors.echo_level import EchoLevel

FRAME_NS = 10_000_000
ROOM_DBFS = -65.0


def speech(seed: int, n_frames: int) -> list[float]:
    """Levels like those of words: loud for a fifth of a second, then soft for half as long."""
    draw = Random(seed)
    levels: list[float] = []
    while len(levels) < n_frames:
        levels += [draw.uniform(-30, -20) for _ in range(draw.randint(10, 25))]
        levels += [draw.uniform(-70, -60)] * draw.randint(5, 15)
    return levels[:n_frames]


def echoes(
    played: Sequence[float], delay_ms: int, loss_db: float, *, falls_db: float = 2.5
) -> list[float]:
    """What comes back, with the tail of a room, over its noise."""
    tail = [10 ** (-falls_db * age / 10) for age in range(30 - delay_ms // 10)]
    shares = [10 ** (-loss_db / 10) * part / sum(tail) for part in tail]
    powers = [10 ** (level / 10) for level in played]
    heard: list[float] = []
    for at in range(len(played)):
        first = at - delay_ms // 10
        echo = sum(share * powers[first - n] for n, share in enumerate(shares) if first >= n)
        heard.append(10 * math.log10(echo + 10 ** (ROOM_DBFS / 10)))
    return heard


class Call:
    """Plays and hears frame by frame."""

    def __init__(self) -> None:
        self.echo = EchoLevel(reach_ms=300, learn_ms=1_000, span_ms=4_000, first_loss_db=10.0)
        self.at = 0

    def go(self, played: Sequence[float], heard: Sequence[float]) -> list[float]:
        """How far each frame was over what was expected, in dB."""
        over: list[float] = []
        for level_dbfs, heard_dbfs in zip(played, heard, strict=True):
            self.echo.played(level_dbfs, self.at * FRAME_NS)
            expected_dbfs = self.echo.expected_dbfs((self.at + 1) * FRAME_NS - 1)
            over.append(heard_dbfs - (-math.inf if expected_dbfs is None else expected_dbfs))
            self.echo.learn(heard_dbfs, ROOM_DBFS)
            self.at += 1
        return over


@pytest.mark.parametrize("delay_ms", [0, 20, 60, 120, 200])
@pytest.mark.parametrize("loss_db", [12.0, 20.0, 30.0])
def test_delay_and_loss_are_learned_from_speech(delay_ms: int, loss_db: float) -> None:
    call = Call()
    played = speech(1, 600)
    call.go(played, echoes(played, delay_ms, loss_db))
    assert call.echo.delay_ms == delay_ms
    assert call.echo.return_loss_db == pytest.approx(loss_db, abs=0.5)


def test_once_learned_a_user_is_heard_between_the_agent_s_words() -> None:
    call = Call()
    played = ([-20.0] * 20 + [-70.0] * 20) * 10
    heard = echoes(played, 40, 12.0)
    call.go(played, heard)
    over = call.go(played[:34], [-38.0] * 34)
    assert over[33] > 6.0, "6 dB softer than the loudest echo, 140 ms after the word"


@given(
    seed=st.integers(0, 1_000),
    delay_ms=st.integers(0, 24).map(lambda n: 10 * n),
    loss_db=st.floats(10.0, 50.0),
    falls_db=st.floats(0.8, 6.0),
)
def test_no_echo_is_louder_than_expected_by_6_db(
    seed: int, delay_ms: int, loss_db: float, falls_db: float
) -> None:
    call = Call()
    played = speech(seed, 800)
    echo = echoes(played, delay_ms, loss_db, falls_db=falls_db)
    over = call.go(played, echo)
    # The noise of the room is the gate's business.
    assert all(d <= 6.0 for d, heard in zip(over, echo, strict=True) if heard > ROOM_DBFS + 3)


def test_a_room_is_never_believed_to_go_silent_at_once() -> None:
    call = Call()
    played = ([-20.0] * 20 + [-70.0] * 20) * 10
    heard = echoes(played, 0, 12.0, falls_db=30.0)
    call.go(played, heard)
    over = call.go(played[:25], heard[:25])
    expected = [h - o for h, o in zip(heard, over, strict=False)]
    falls = [before - after for before, after in pairwise(expected[19:])]
    assert falls == pytest.approx([0.0, 0.9, *[2.0] * 3], abs=0.3), "2 dB a frame, not 14 at once"


def test_the_room_is_not_learned_as_an_echo() -> None:
    call = Call()
    played = speech(5, 600)
    call.go(played, [ROOM_DBFS] * 600)
    assert call.echo.return_loss_db > 45.0


def test_no_echo_is_believed_to_be_louder_than_8_db_below_what_was_played() -> None:
    call = Call()
    call.go([-20.0] * 300, [-20.0] * 300)
    assert call.echo.return_loss_db < 1.0
    assert call.echo.expected_dbfs(call.at * FRAME_NS) == pytest.approx(-28.0)


def test_10_db_are_believed_for_half_a_second_and_no_delay_for_a_whole_one() -> None:
    call = Call()
    believed: list[tuple[int, bool]] = []
    for n_frames in (49, 1, 50):
        call.go([-20.0] * n_frames, [-60.0] * n_frames)
        believed.append((round(call.echo.return_loss_db), call.echo.delay_ms is not None))
    assert believed[:2] == [(10, False), (34, False)], "6 dB less than it showed"
    assert believed[2] == (40, True)
    loud = Call()
    loud.go([-20.0] * 50, [-24.0] * 50)
    assert loud.echo.return_loss_db == 10.0, "nor less, however loud the echo"


def test_what_is_often_louder_than_its_shares_say_is_expected() -> None:
    call = Call()
    played = speech(7, 600)
    heard = echoes(played, 40, 20.0)
    draw = Random(7)
    call.go(played, [level + draw.choice([-5.0, 0.0, 5.0]) for level in heard])
    over = call.go(played, heard)
    assert max(over) < 0.0, "what is 5 dB louder in a third of the frames is expected"


def test_a_report_holds_until_the_next_one_or_for_100_ms() -> None:
    echo = EchoLevel(reach_ms=50, learn_ms=500, span_ms=4_000, first_loss_db=10.0)
    echo.played(-20.0, 0)
    assert echo.expected_dbfs(100_000_000) == pytest.approx(-30.0)
    assert echo.expected_dbfs(140_000_000) == pytest.approx(-30.0), "it is 50 ms on its way"
    assert echo.expected_dbfs(160_000_000) is None
    echo.played(-math.inf, 50_000_000)
    assert echo.expected_dbfs(80_000_000) == pytest.approx(-30.0)
    assert echo.expected_dbfs(90_000_000) is None


def test_a_late_report_counts_and_makes_nothing_softer() -> None:
    echo = EchoLevel(reach_ms=300, learn_ms=500, span_ms=4_000, first_loss_db=10.0)
    echo.played(-30.0, 100_000_000)
    assert echo.expected_dbfs(110_000_000) == pytest.approx(-40.0)
    echo.played(-20.0, 50_000_000)
    echo.played(-90.0, 50_000_000)
    assert echo.expected_dbfs(110_000_000) == pytest.approx(-30.0)


def test_a_long_silence_in_mid_batch_teaches_nothing_wrong() -> None:
    call = Call()
    for seed in range(40):
        played = speech(seed, 54)  # not whole batches
        call.go(played, echoes(played, 60, 20.0))
        call.go([-math.inf] * 400, [ROOM_DBFS] * 400)
    assert call.echo.delay_ms == 60
    assert call.echo.return_loss_db == pytest.approx(20.0, abs=1.0)
