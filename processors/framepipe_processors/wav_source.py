"""A recording as the microphone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from framepipe.audio import silence
from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S, AudioIn
from framepipe.processor import Emit
from framepipe.wav import WavReader


class WavSource:
    """Play a WAV file into the pipeline at the speed at which it was recorded.

    A block is emitted at the moment at which a microphone would have captured its last sample, by
    the engine's clock, real or virtual. Lateness of one block does not move the next. When the
    recording and the silence after it are over, the pipeline is told `End`.

    Args:
        path: 16-bit mono PCM of any usual rate.
        rate_hz: Rate of what is emitted; the file is converted.
        block_ms: Length of a block.
        lead_ms: Silence before the recording.
        tail_ms: Silence after it, so that a conversation can finish.

    Raises:
        FrameError: The file is not what it should be, or a length is negative.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        rate_hz: int = 24_000,
        block_ms: int = 20,
        lead_ms: int = 0,
        tail_ms: int = 0,
    ) -> None:
        if block_ms <= 0 or lead_ms < 0 or tail_ms < 0:
            raise FrameError(
                f"block_ms is {block_ms}, lead_ms {lead_ms}, tail_ms {tail_ms}; the first must be "
                "1 or more, the others 0 or more"
            )
        block_samples = rate_hz * block_ms // 1000
        if block_samples * 1000 != rate_hz * block_ms:
            raise FrameError(
                f"{block_ms} ms at {rate_hz} Hz is not whole samples; choose another block_ms"
            )
        self.path = path
        self.rate_hz = rate_hz
        self.block_ms = block_ms
        self.lead_samples = rate_hz * lead_ms // 1000
        self.tail_samples = rate_hz * tail_ms // 1000
        self.made_rates_hz = {AudioIn: rate_hz}
        self._block_samples = block_samples
        # A bad file is told where it is named, not from inside a running call.
        with WavReader(path) as wav:
            recorded = -(-wav.n_samples * rate_hz // wav.rate_hz)
            next(wav.read_at(rate_hz))
        self.n_samples = self.lead_samples + recorded + self.tail_samples

    async def run(self, emit: Emit[AudioIn]) -> None:
        """Emit the blocks, each at its time. Cancellation leaves no file open."""
        start_ns = emit.now_ns()
        with WavReader(self.path) as wav:
            position = 0
            for pcm in self._blocks(wav):
                n_samples = len(pcm) // 2
                captured_ns = start_ns + (position + n_samples) * NS_PER_S // self.rate_hz
                while not await emit.until(captured_ns):
                    pass
                emit(
                    AudioIn(
                        pcm=pcm,
                        rate_hz=self.rate_hz,
                        start_sample=position,
                        at_ns=captured_ns,
                    )
                )
                position += n_samples

    def _blocks(self, wav: WavReader) -> Iterator[bytes]:
        size = 2 * self._block_samples
        waiting = b""
        for piece in self._pieces(wav):
            waiting += piece
            while len(waiting) >= size:
                yield waiting[:size]
                waiting = waiting[size:]
        if waiting:
            yield waiting

    def _pieces(self, wav: WavReader) -> Iterator[bytes]:
        yield from self._quiet(self.lead_samples)
        yield from wav.read_at(self.rate_hz)
        yield from self._quiet(self.tail_samples)

    def _quiet(self, n_samples: int) -> Iterator[bytes]:
        for at in range(0, n_samples, self._block_samples):
            yield silence(min(self._block_samples, n_samples - at))
