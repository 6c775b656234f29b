"""A sound card calls back in a thread of its own: hand its audio to the pipeline from there.

You will see fifty blocks from a thread arrive in the event loop, in order. `Device` is a sound
card that is not one; a real one calls `Microphone.captured` just like it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import anyio

from framepipe import AudioIn, Emit, Pipeline, on
from framepipe.audio import silence

N_BLOCKS = 50


class Device(threading.Thread):
    """Calls back with a block of samples every two milliseconds."""

    def __init__(self, callback: Callable[[bytes], None]) -> None:
        super().__init__(daemon=True)
        self.callback = callback

    def run(self) -> None:
        for _ in range(N_BLOCKS):
            time.sleep(0.002)
            self.callback(silence(48))


class Microphone:
    """A device as the source of a pipeline."""

    def __init__(self) -> None:
        self.start_sample = 0

    async def run(self, emit: Emit[AudioIn]) -> None:
        self.emit = emit
        device = Device(self.captured)
        device.start()
        await anyio.to_thread.run_sync(device.join)  # also when cancelled: no callback after it

    def captured(self, pcm: bytes) -> None:
        """Called by the device, in its thread. Never waits."""
        frame = AudioIn(pcm=pcm, rate_hz=24_000, start_sample=self.start_sample)
        self.start_sample += frame.n_samples
        self.emit.from_thread(frame)


class Check:
    """Notices a sample that is missing."""

    def __init__(self) -> None:
        self.n_samples = 0

    @on(AudioIn)
    def check(self, frame: AudioIn) -> None:
        assert frame.start_sample == self.n_samples, "a block is missing or out of order"
        self.n_samples += frame.n_samples


def main() -> None:
    check = Check()
    anyio.run(Pipeline(Microphone(), check).run)
    print(f"{check.n_samples} samples in {N_BLOCKS} blocks arrived in order")


if __name__ == "__main__":
    main()
