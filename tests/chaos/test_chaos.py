"""Every fault at every state of a conversation: the call goes on, or ends with one clear error.

``make test`` holds a sample in which each fault and each state occurs; ``make prove`` all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.chaos.call import cells, hold
from tests.chaos.weather import FAULTS, MOMENTS, SILENT

N_CELLS = None if os.environ.get("FRAMEPIPE_EXAMPLES", "").isdigit() else 32


@pytest.mark.parametrize(("fault", "moment"), cells(1, N_CELLS))
def test_whatever_happens_the_call_goes_on_or_ends_with_one_clear_error(
    fault: str, moment: str, record_property: Callable[[str, object], None]
) -> None:
    outcome = hold(fault, moment)
    record_property("late ms", outcome.held.late_audio_ms())

    assert outcome.struck, "the conversation never came to this state"
    assert outcome.left == ()
    assert outcome.held.late_audio_ms() == 0, "the agent talked over a cut"
    if outcome.error is not None:
        message = str(outcome.error)
        assert "\n" not in message
        assert len(message) < 400
    elif not (fault in SILENT and outcome.ended_unaware):
        assert outcome.unaccounted_ms <= 0, "audio of the user is nowhere, and nobody said so"


def test_the_sample_has_every_fault_and_every_state() -> None:
    sample = cells(1, 32)
    assert {fault for fault, _ in sample} == set(FAULTS)
    assert {moment for _, moment in sample} == set(MOMENTS)
