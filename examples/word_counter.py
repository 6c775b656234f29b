"""A processor that waits: it counts words and saves each count in a slow place.

You will see five sentences counted in order, although the pipeline took them all at once: an
``async def`` handler gives its stage a mailbox and a task, and nobody else waits for it.
"""

from __future__ import annotations

import anyio

from framepipe import Pipeline, Transcript, on

SENTENCES = ("Hello.", "How are you?", "I would like a table.", "For two.", "At eight, please.")


class WordCounter:
    """Count the words of finished transcripts."""

    mailbox_capacity = 32

    def __init__(self) -> None:
        self.n_words = 0

    @on(Transcript)
    async def count(self, frame: Transcript) -> Transcript:
        if frame.final:
            await self._save(len(frame.text.split()))
        return frame

    async def _save(self, n_words: int) -> None:
        await anyio.sleep(0.05)  # a database, perhaps
        self.n_words += n_words
        print(f"{n_words} more words, {self.n_words} so far")


async def main() -> None:
    counter = WordCounter()
    async with Pipeline(counter) as pipeline:
        for number, text in enumerate(SENTENCES):
            pipeline.emit(Transcript(who="user", text=text, final=True, item_id=f"item{number}"))
        waiting = pipeline.statistics().stages[0].mailbox
        assert waiting is not None
        print(f"{waiting.depth} of {waiting.capacity} places taken; the emitter goes on")
    print(f"done: {counter.n_words} words")  # leaving the block let the stage finish


if __name__ == "__main__":
    anyio.run(main)
