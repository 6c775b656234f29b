"""What is believed of the way from the loudspeaker to the microphone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.detectors.echo_level import DELAYS_MS, EchoLevel

FRAME_NS = 10_000_000
ROOM_FALLS_DB = 2.0
"""A frame: 60 dB in 0.3 s, which is a furnished room."""


def speech(seed: int, n_frames: int) -> list[float]:
    """Levels like those of words: loud for a fifth of a second, then soft for half as long."""
    draw = Random(seed)
    levels: list[float] = []
    while len(levels) < n_frames:
        levels += [draw.uniform(-30, -20)] * draw.randint(10, 25)
        levels += [draw.uniform(-70, -60)] * draw.randint(5, 15)
    return levels[:n_frames]


def echoes(played: Sequence[float], delay_ms: int, loss_db: float) -> list[float]:
    """What comes back, with the tail of a room, over a noise of -65 dBFS."""
    heard: list[float] = []
    sounding = -math.inf
    for number in range(len(played)):
        came = number - delay_ms // 10
        sounding = max(sounding - ROOM_FALLS_DB, played[came] if came >= 0 else -math.inf)
        heard.append(max(sounding - loss_db, -65.0))
    return heard


class Call:
    """Plays and hears frame by frame."""

    def __init__(self) -> None:
        self.echo = EchoLevel(reach_ms=300, learn_ms=500, span_ms=4_000, least_loss_db=10.0)
        self.at = 0

    def go(self, played: Sequence[float], heard: Sequence[float]) -> list[float]:
        """How far each frame was over what was expected, in dB."""
        over: list[float] = []
        for level_dbfs, heard_dbfs in zip(played, heard, strict=True):
            self.echo.played(level_dbfs, self.at * FRAME_NS)
            expected_dbfs = self.echo.expected_dbfs((self.at + 1) * FRAME_NS)
            over.append(heard_dbfs - (-math.inf if expected_dbfs is None else expected_dbfs))
            self.echo.learn(heard_dbfs)
            self.at += 1
        return over


@pytest.mark.parametrize("delay_ms", [20, 60, 120, 200])
@pytest.mark.parametrize("loss_db", [12.0, 20.0, 30.0])
def test_delay_and_loss_are_learned_from_speech(delay_ms: int, loss_db: float) -> None:
    call = Call()
    played = speech(1, 600)
    call.go(played, echoes(played, delay_ms, loss_db))
    assert call.echo.delay_ms is not None
    assert delay_ms - 10 <= call.echo.delay_ms <= delay_ms + 40
    assert call.echo.return_loss_db == pytest.approx(loss_db, abs=2.5)


def test_with_the_delay_a_user_is_heard_between_the_agent_s_words() -> None:
    call = Call()
    played = [-20.0] * 20 + [-70.0] * 20
    heard = echoes(played * 20, 40, 12.0)
    call.go(played * 20, heard)
    quiet = (call.at + 14 + 20) * FRAME_NS  # the last word has died away, and the next comes soon
    call.go(played[:20] + [-70.0] * 14, heard[-40:-6])
    expected_dbfs = call.echo.expected_dbfs(quiet)
    assert expected_dbfs is not None
    assert expected_dbfs < -20.0 - 12.0 - 6.0, "any sound of the word before would be louder"


@given(
    seed=st.integers(0, 1_000),
    delay_ms=st.integers(0, 24).map(lambda n: 10 * n),
    loss_db=st.floats(10.0, 50.0),
)
def test_after_a_second_no_echo_is_louder_than_expected_by_6_db(
    seed: int, delay_ms: int, loss_db: float
) -> None:
    call = Call()
    played = speech(seed, 800)
    over = call.go(played, echoes(played, delay_ms, loss_db))
    echo = echoes(played, delay_ms, loss_db)
    # The first second is for learning, and the noise of the room is the gate's business.
    late = [d for d, heard in zip(over[100:], echo[100:], strict=True) if heard > -64]
    assert all(d <= 6.0 for d in late)


def test_an_echo_that_is_louder_than_is_believed_chooses_no_delay() -> None:
    call = Call()
    played = speech(3, 600)
    call.go(played, echoes(played, 100, 4.0))
    assert call.echo.return_loss_db == 10.0
    assert call.echo.delay_ms is None


def test_without_a_change_of_level_there_is_no_reason_for_a_delay() -> None:
    call = Call()
    call.go([-20.0] * 300, [-45.0] * 300)
    assert call.echo.delay_ms is None
    assert call.echo.return_loss_db == pytest.approx(25.0)


def test_until_half_a_second_was_learned_10_db_are_believed() -> None:
    call = Call()
    call.go([-20.0] * 49, [-60.0] * 49)
    assert call.echo.return_loss_db == 10.0
    call.go([-20.0], [-60.0])
    assert call.echo.return_loss_db == pytest.approx(40.0)


def test_a_report_holds_until_the_next_one_or_for_100_ms() -> None:
    echo = EchoLevel(reach_ms=50, learn_ms=500, span_ms=4_000, least_loss_db=10.0)
    echo.played(-20.0, 0)
    assert echo.expected_dbfs(100_000_000) == -30.0
    assert echo.expected_dbfs(140_000_000) == -30.0, "it is 50 ms on its way"
    assert echo.expected_dbfs(160_000_000) is None
    echo.played(-math.inf, 50_000_000)
    assert echo.expected_dbfs(80_000_000) == -30.0
    assert echo.expected_dbfs(90_000_000) is None


def test_a_late_report_counts_and_makes_nothing_softer() -> None:
    echo = EchoLevel(reach_ms=300, learn_ms=500, span_ms=4_000, least_loss_db=10.0)
    echo.played(-30.0, 100_000_000)
    assert echo.expected_dbfs(110_000_000) == -40.0
    echo.played(-20.0, 50_000_000)
    echo.played(-90.0, 50_000_000)
    assert echo.expected_dbfs(110_000_000) == -30.0


def test_delays_are_whole_frames_and_the_longest_is_first() -> None:
    assert sorted(DELAYS_MS, reverse=True) == list(DELAYS_MS)
    assert all(delay_ms % 10 == 0 for delay_ms in DELAYS_MS)
