"""Look into a running pipeline: counts at any time, and every step while you watch.

You will see what happens to three frames of an agent's turn when the turn is cut while the first
one is being handled, and the counts that remain.
"""

from __future__ import annotations

import anyio

from framepipe import AudioOut, Frame, Pipeline, on
from framepipe.audio import silence


class Speak:
    """Takes its time over each frame."""

    @on(AudioOut)
    async def speak(self, frame: AudioOut) -> AudioOut:
        await anyio.sleep(0.1)
        return frame


def watch(what: str, stage: str, frame: Frame) -> None:
    print(f"{what:>8}  {stage:<9}  {type(frame).__name__}")


async def main() -> None:
    async with Pipeline(Speak()) as pipeline:
        stop_watching = pipeline.observe(watch)
        turn = pipeline.new_turn()
        for number in range(3):
            start_sample = 480 * number
            pipeline.emit(
                AudioOut(pcm=silence(480), rate_hz=24_000, turn=turn, start_sample=start_sample)
            )
        await anyio.sleep(0.01)  # the first frame is in hand now, two wait
        pipeline.interrupt()
        await anyio.sleep(0.01)
        stop_watching()

        statistics = pipeline.statistics()
        print(f"turns opened {statistics.turns_opened}, cut up to {statistics.turns_cut}")
        for stage in statistics.stages:
            assert stage.mailbox is not None, "its handler is async"
            waited = f"{stage.mailbox.depth} wait now, {stage.mailbox.peak} did at most"
            print(f"{stage.name}: dropped {dict(stage.dropped)}; {waited}")


if __name__ == "__main__":
    anyio.run(main)
