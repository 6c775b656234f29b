"""The gate between the user's voice and the agent's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import FULL_SCALE, pcm_of
from framepipe.detectors.level_gate import LevelGate
from framepipe.detectors.silero import Window
from framepipe.detectors.webrtc import Verdict
from framepipe.errors import FrameError

RATE_HZ = 8_000
FRAME = 80
FRAME_NS = 10_000_000


def tone(level_dbfs: float, n_samples: int = FRAME) -> bytes:
    """Samples of equal size: their level is what it says, in any stretch of them."""
    return pcm_of(np.full(n_samples, FULL_SCALE * 10 ** (level_dbfs / 20)))


class Call:
    """Feeds a gate frame by frame of 10 ms."""

    def __init__(self, gate: LevelGate | None = None) -> None:
        self.gate = gate or LevelGate(RATE_HZ)
        self.at = 0

    def go(self, n_frames: int, heard_dbfs: float, played_dbfs: float = -math.inf) -> list[bool]:
        """Frames that all have one level, heard and played; which of them count."""
        found: list[bool] = []
        for _ in range(n_frames):
            self.gate.played(played_dbfs, self.at * FRAME_NS)
            self.gate.hear(tone(heard_dbfs), self.at * FRAME, (self.at + 1) * FRAME_NS)
            found.append(self.gate.near_end(self.at * FRAME, (self.at + 1) * FRAME))
            self.at += 1
        return found


def test_while_nothing_is_played_everything_counts() -> None:
    call = Call()
    assert all(call.go(5, -60.0))
    assert call.gate.echo.return_loss_db == 10.0


def test_an_echo_does_not_count_and_what_is_louder_by_the_margin_does() -> None:
    call = Call()
    call.go(20, -65.0)
    assert not any(call.go(100, -50.0, played_dbfs=-20.0))
    assert call.gate.echo.return_loss_db == pytest.approx(30.0, abs=1.5)
    expected_dbfs = call.gate.echo.expected_dbfs(call.at * FRAME_NS)
    assert expected_dbfs is not None
    assert expected_dbfs == pytest.approx(-47.0, abs=1.5), "3 dB more than the shares say"
    assert call.go(2, expected_dbfs + 5.5, played_dbfs=-20.0) == [False, False]
    assert call.go(2, expected_dbfs + 6.5, played_dbfs=-20.0) == [True, True]


def test_an_echo_may_come_back_for_300_ms_after_it_was_played() -> None:
    call = Call()
    call.go(20, -65.0)
    call.go(40, -40.0, played_dbfs=-20.0)
    assert not any(call.go(28, -40.0))
    assert call.go(1, -40.0) == [True]


def test_after_the_last_echo_the_room_alone_does_not_count() -> None:
    # A detector hangs on to the echo, and would take the silence after it for the user.
    call = Call()
    call.go(100, -40.0, played_dbfs=-20.0)
    call.go(30, -60.0)
    assert not any(call.go(60, -60.0))
    assert call.go(1, -50.0) == [True]


def test_a_second_after_the_last_sound_everything_counts_again() -> None:
    call = Call()
    call.go(100, -40.0, played_dbfs=-20.0)
    call.go(101, -60.0)
    assert call.go(1, -60.0) == [True]


def test_a_louder_echo_is_learned_after_less_than_half_a_second_of_it() -> None:
    call = Call()
    call.go(400, -60.0, played_dbfs=-20.0)
    after_volume_up = call.go(60, -40.0, played_dbfs=-20.0)
    assert after_volume_up[0]
    assert not any(after_volume_up[45:])


def test_who_talks_over_the_first_words_of_the_agent_is_heard_when_loud_and_later_as_well() -> None:
    # The trap of a gate that learns in its first half second: it learns the user.
    call = Call()
    call.go(20, -65.0)
    assert all(call.go(100, -12.0, played_dbfs=-20.0))
    assert call.go(1, -21.0, played_dbfs=-20.0) == [True], "as loud as the agent"
    call.go(10, -50.0, played_dbfs=-20.0)
    assert not any(call.go(500, -50.0, played_dbfs=-20.0))
    assert call.go(1, -30.0, played_dbfs=-20.0) == [True]


def test_what_was_played_softly_teaches_nothing() -> None:
    # At the end of a reply the microphone hears the room: 5 dB below what is played.
    call = Call()
    call.go(110, -50.0, played_dbfs=-20.0)
    call.go(31, -65.0)
    before = call.gate.echo.return_loss_db
    call.go(400, -65.0, played_dbfs=-60.0)
    assert call.gate.echo.return_loss_db == pytest.approx(before, abs=1.0)


def test_who_is_a_little_louder_than_the_echo_counts_after_a_while() -> None:
    call = Call()
    call.go(20, -65.0)
    call.go(200, -40.0, played_dbfs=-20.0)
    expected_dbfs = call.gate.echo.expected_dbfs(call.at * FRAME_NS)
    assert expected_dbfs is not None
    found = call.go(12, expected_dbfs + 4.0, played_dbfs=-20.0)
    assert not any(found[:10])
    assert found[11]


def test_softer_sounds_belong_to_the_speech_just_before_them() -> None:
    call = Call()
    call.go(100, -40.0, played_dbfs=-20.0)
    gate = call.gate

    def verdict(*, speaking: bool, heard_dbfs: float) -> bool:
        call.go(1, heard_dbfs, played_dbfs=-20.0)
        start = (call.at - 1) * FRAME
        return gate.verdict(Verdict(True, start, start + FRAME), speaking=speaking).speech

    assert not verdict(speaking=True, heard_dbfs=-40.0)
    assert verdict(speaking=False, heard_dbfs=-30.0)
    assert not verdict(speaking=False, heard_dbfs=-40.0), "no edge by a softer sound"
    assert verdict(speaking=True, heard_dbfs=-40.0)
    call.go(18, -40.0, played_dbfs=-20.0)
    assert not verdict(speaking=True, heard_dbfs=-40.0), "192 ms later it is an echo again"


def test_the_echo_of_speech_has_no_probability() -> None:
    call = Call()
    call.go(100, -40.0, played_dbfs=-20.0)
    window = Window(0.99, (call.at - 3) * FRAME, call.at * FRAME)
    assert call.gate.window(window).probability == 0.0
    call.go(1, -30.0, played_dbfs=-20.0)
    window = Window(0.99, (call.at - 3) * FRAME, call.at * FRAME)
    assert call.gate.window(window) == window


def test_a_click_over_the_agent_lets_fewer_windows_count_than_confirm_speech() -> None:
    call = Call()
    call.go(100, -40.0, played_dbfs=-20.0)
    click = call.at
    for frame in range(60):
        call.go(1, -20.0 if frame < 2 else -40.0, played_dbfs=-20.0)
        call.gate.verdict(Verdict(True, (call.at - 1) * FRAME, call.at * FRAME), speaking=True)
    windows = [
        Window(0.99, start, start + 32 * 8)
        for start in range((click - 10) * FRAME, (click + 50) * FRAME, 16 * 8)
    ]
    heard = [call.gate.window(window) for window in windows]
    assert sum(not window.is_covered and window.probability > 0 for window in heard) < 6


def test_for_as_long_as_an_echo_can_last_who_spoke_may_speak_on_under_it() -> None:
    call = Call()
    call.go(100, -40.0, played_dbfs=-20.0)

    def heard() -> Window:
        call.gate.verdict(Verdict(True, (call.at - 1) * FRAME, call.at * FRAME), speaking=True)
        return call.gate.window(Window(0.99, (call.at - 3) * FRAME, call.at * FRAME))

    assert heard().probability == 0.0, "nobody has spoken"
    call.go(1, -20.0, played_dbfs=-20.0)
    assert not heard().is_covered
    call.go(6, -40.0, played_dbfs=-20.0)
    assert (heard().probability, heard().is_covered) == (0.99, True)
    call.go(30, -40.0, played_dbfs=-20.0)
    assert (heard().probability, heard().is_covered) == (0.0, False), "300 ms later"


def test_a_gap_in_the_microphone_is_no_matter() -> None:
    gate = LevelGate(RATE_HZ)
    gate.played(-20.0, 0)
    gate.hear(tone(-40.0, 100), 0, FRAME_NS)
    gate.hear(tone(-40.0, 100), 1_000, 2 * FRAME_NS)
    assert not gate.near_end(1_000, 1_080)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_the_answers_do_not_depend_on_the_blocks(lengths: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    levels = draw.uniform(-70, -10, -(-sum(lengths) // FRAME))
    pcm = b"".join(tone(float(level)) for level in levels)[: 2 * sum(lengths)]

    def answers(blocks: list[int]) -> list[bool]:
        gate = LevelGate(RATE_HZ)
        gate.played(-20.0, 0)
        at = 0
        for n_samples in blocks:
            end = at + n_samples
            gate.hear(pcm[2 * at : 2 * end], at, end * 1_000_000_000 // RATE_HZ)
            at = end
        return [gate.near_end(start, start + FRAME) for start in range(0, at - FRAME, FRAME)]

    if sum(lengths) < RATE_HZ:
        assert answers(lengths) == answers([1] * sum(lengths))


def test_stereo_is_mixed() -> None:
    gate = LevelGate(RATE_HZ, channels=2)
    gate.played(-20.0, 0)
    left = np.frombuffer(tone(-20.0), "<i2")
    gate.hear(np.stack((left, -left), axis=1).tobytes(), 0, FRAME_NS)
    assert not gate.near_end(0, FRAME)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"reach_ms": -1}, "reach_ms is -1"),
        ({"span_ms": 400}, "span_ms is 400"),
        ({"rate_hz": 11_025}, "10 ms at 11025 Hz"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(FrameError, match=words):
        LevelGate(**{"rate_hz": RATE_HZ, **settings})
