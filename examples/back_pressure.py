"""Who waits when a stage is slow, and what is thrown away.

You will see three answers to a full mailbox: a refusal, which changes nothing; waiting for room;
and, for microphone audio, because nobody can ask a microphone to wait, shedding the oldest.
"""

from __future__ import annotations

import logging

import anyio

from framepipe import AudioIn, MailboxFull, Pipeline, Transcript, on
from framepipe.audio import silence


class Slow:
    """Takes a hundredth of a second for whatever comes."""

    mailbox_capacity = 4

    @on(Transcript, AudioIn)
    async def handle(self, frame: Transcript | AudioIn) -> None:
        await anyio.sleep(0.01)


def words(number: int) -> Transcript:
    return Transcript(who="user", text="word", final=False, item_id=f"item{number}")


def sound(number: int) -> AudioIn:
    return AudioIn(pcm=silence(240), rate_hz=24_000, start_sample=240 * number)


def emit_until_full(pipeline: Pipeline) -> None:
    for number in range(100):
        try:
            pipeline.emit(words(number))
        except MailboxFull as error:
            print(f"frame {number} was refused: {error}")
            return


async def emit_with_room(pipeline: Pipeline, frames: list[Transcript]) -> None:
    for frame in frames:
        await pipeline.room()
        pipeline.emit(frame)
    print(f"{len(frames)} frames were taken, each as soon as there was room")


async def main() -> None:
    async with Pipeline(Slow()) as pipeline:
        emit_until_full(pipeline)
        await emit_with_room(pipeline, [words(number) for number in range(10)])
    async with Pipeline(Slow()) as pipeline:
        for number in range(10):
            pipeline.emit(sound(number))
        print(
            f"of 10 blocks of sound were dropped: {dict(pipeline.statistics().stages[0].dropped)}"
        )


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    anyio.run(main)
