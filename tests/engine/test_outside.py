"""What a program emits from outside, and what becomes of it when there is no room."""

from __future__ import annotations

import anyio
import pytest

from framepipe import AudioIn, Pipeline, Transcript, on


class Stuck:
    """Takes nothing for ever."""

    mailbox_capacity = 2

    @on(Transcript)
    async def wait(self, frame: Transcript) -> None:
        await anyio.sleep_forever()


@pytest.mark.anyio
async def test_audio_from_outside_that_finds_no_room_is_counted() -> None:
    words = Transcript(who="user", text="", final=True, item_id="")
    with anyio.CancelScope() as scope:
        async with Pipeline(Stuck()) as pipeline:
            for _ in range(2):
                pipeline.emit(words)
            for _ in range(5):
                pipeline.emit(AudioIn(pcm=b"", rate_hz=16_000))
            assert pipeline.statistics().dropped == {"shed": 5}
            scope.cancel()
