"""The gain of the second stage: quiet windows louder, loud ones as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import FULL_SCALE, Samples
from framepipe.detectors.automatic_gain import AutomaticGain
from framepipe.errors import FrameError


def window(dbfs: float) -> Samples:
    """A square wave of that level."""
    amplitude = min(FULL_SCALE - 1, round(FULL_SCALE * 10 ** (dbfs / 20)))
    return np.resize(np.array([amplitude, -amplitude], np.int16), 512)


def db(factor: float) -> float:
    return 20 * float(np.log10(factor))


def test_a_loud_window_is_heard_as_it_is() -> None:
    gain = AutomaticGain(9.0, level_dbfs=-26.0)
    assert gain.factor(window(-26.0), 32) == pytest.approx(1.0, abs=0.01)
    assert gain.factor(window(-10.0), 32) == 1.0


def test_a_quiet_window_comes_up_to_the_level_and_no_further_than_the_most() -> None:
    assert db(AutomaticGain(9.0).factor(window(-31.0), 32)) == pytest.approx(5.0, abs=0.01)
    assert db(AutomaticGain(9.0).factor(window(-60.0), 32)) == pytest.approx(9.0)
    assert AutomaticGain(9.0).factor(np.zeros(512, np.int16), 32) == pytest.approx(10 ** (9 / 20))


def test_after_a_loud_window_the_gain_comes_back_slowly() -> None:
    gain = AutomaticGain(9.0, level_dbfs=-26.0, release_db_per_s=20.0)
    gain.factor(window(-26.0), 32)
    assert db(gain.factor(window(-60.0), 100)) == pytest.approx(2.0, abs=0.01)
    assert db(gain.factor(window(-60.0), 100)) == pytest.approx(4.0, abs=0.01)
    assert gain.factor(window(-26.0), 32) == pytest.approx(1.0, abs=0.01), "and goes at once"


def test_a_reset_forgets_the_loud_window() -> None:
    gain = AutomaticGain(9.0)
    gain.factor(window(-10.0), 32)
    gain.reset()
    assert db(gain.factor(window(-60.0), 32)) == pytest.approx(9.0)


@given(st.lists(st.tuples(st.floats(-90, 0), st.floats(0, 1_000)), max_size=20), st.floats(0, 60))
def test_it_never_makes_anything_softer_nor_louder_than_the_most(
    heard: list[tuple[float, float]], most_db: float
) -> None:
    gain = AutomaticGain(most_db)
    for dbfs, elapsed_ms in heard:
        assert 0.0 <= db(gain.factor(window(dbfs), elapsed_ms)) <= most_db + 1e-9


@pytest.mark.parametrize(
    ("most_db", "level_dbfs", "release"), [(-1.0, -26.0, 20.0), (9.0, 1.0, 20.0), (9.0, -26.0, 0.0)]
)
def test_numbers_out_of_range_are_refused(
    most_db: float, level_dbfs: float, release: float
) -> None:
    with pytest.raises(FrameError, match="most_db is"):
        AutomaticGain(most_db, level_dbfs=level_dbfs, release_db_per_s=release)
