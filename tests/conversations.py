"""Generated conversations, by the names under which the tests know them."""

from __future__ import annotations

from framepipe.testing import Conversation, Held, hold
from framepipe.testing.conversation import BLOCK_MS as BLOCK_MS


async def converse(seed: int) -> Held:
    """Hold the conversation of a seed."""
    return await hold(Conversation.from_seed(seed))


def late_audio_ms(conversation: Held) -> float:
    """See `Held`."""
    return conversation.late_audio_ms()


def worst_truncation_ms(conversation: Held) -> float:
    """See `Held`."""
    return conversation.worst_truncation_ms()
