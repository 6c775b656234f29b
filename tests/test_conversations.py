"""Whole conversations: nothing of a cut answer is heard, and the server is told the truth.

``make prove`` holds a thousand of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from framepipe.testing import run_virtual
from tests.conversations import BLOCK_MS, converse, late_audio_ms, worst_truncation_ms

ASKED = os.environ.get("FRAMEPIPE_EXAMPLES", "")
N_CONVERSATIONS = min(int(ASKED), 10_000) // 2 if ASKED.isdigit() else 12


@pytest.mark.parametrize("seed", range(N_CONVERSATIONS))
def test_a_cut_answer_is_not_heard_and_is_truncated_where_it_was_heard(
    seed: int, record_property: Callable[[str, object], None]
) -> None:
    conversation = run_virtual(converse, seed)
    record_property("late ms", late_audio_ms(conversation))
    record_property("truncate off by ms", round(worst_truncation_ms(conversation), 3))
    assert late_audio_ms(conversation) == 0
    assert worst_truncation_ms(conversation) <= BLOCK_MS
    items = [(cut.item_id, cut.content_index) for cut in conversation.truncations]
    assert len(items) == len(set(items)), "an item is truncated once at most"


def test_the_generated_conversations_do_have_cuts_to_check() -> None:
    conversations = [run_virtual(converse, seed) for seed in range(4)]
    assert sum(len(conversation.cuts) for conversation in conversations) >= 4
    assert sum(len(conversation.truncations) for conversation in conversations) >= 2
    assert all(conversation.heard for conversation in conversations)


def test_a_conversation_is_the_same_every_time() -> None:
    assert run_virtual(converse, 3) == run_virtual(converse, 3)
