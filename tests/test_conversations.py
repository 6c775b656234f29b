"""Whole conversations: nothing of a cut answer is heard, and the server is told the truth.

``make prove`` holds some thousand of them.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from framepipe.testing import run_virtual
from tests.conversations import BLOCK_MS, converse, late_audio_ms, worst_truncation_ms
from tests.examples import about


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=about(12))
def test_a_cut_answer_is_not_heard_and_is_truncated_where_it_was_heard(
    record_property: Callable[[str, object], None], seed: int
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
