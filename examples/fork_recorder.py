"""Record a call beside the pipeline, so that a slow disk can never hold the call up.

You will see the audio arrive at the end of the pipeline in full while the disk keeps up with a
part of it only: a fork gives every frame to both branches, and the lossy one drops its oldest
frames instead of making anybody wait. The recording is out/call.wav.
"""

from __future__ import annotations

from pathlib import Path

import anyio

from framepipe import AudioIn, End, Fork, Pipeline, lossy, on
from framepipe.audio import silence
from framepipe.wav import WavWriter


class Recorder:
    """Write the microphone to a file, slowly."""

    mailbox_capacity = 8

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self.file = WavWriter(path, 24_000)

    @on(AudioIn)
    async def record(self, frame: AudioIn) -> None:
        await anyio.sleep(0.02)  # a disk that is busy with something else
        self.file.write(frame.pcm_bytes())

    @on(End)
    def close(self, _: End) -> None:
        self.file.close()


class Counter:
    """The call itself, as far as this example cares."""

    def __init__(self) -> None:
        self.n_frames = 0

    @on(AudioIn)
    def count(self, frame: AudioIn) -> AudioIn:
        self.n_frames += 1
        return frame


async def main() -> None:
    counter, recorder = Counter(), Recorder(Path("out") / "call.wav")
    pipeline = Pipeline(Fork(counter, lossy(recorder)))
    print(pipeline)
    async with pipeline:
        for number in range(100):
            frame = AudioIn(pcm=silence(480), rate_hz=24_000, start_sample=480 * number)
            pipeline.emit(frame)
            await anyio.sleep(0.005)
    print(f"the call had {counter.n_frames} frames, of which")
    for stage in pipeline.statistics().stages:
        print(f"  {stage.name} dropped {sum(stage.dropped.values())} {dict(stage.dropped)}")


if __name__ == "__main__":
    anyio.run(main)
