"""A WAV file as the loudspeaker: it holds what was heard, silence included."""

from __future__ import annotations

from framepipe import on
from framepipe.audio import Resampler, silence
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.conversation.speaker import Block, HeardRun, SpeakerCore
from framepipe.errors import FrameError
from framepipe.frames import AudioOut, End, Interrupt, Mute, Played, Unmute, evolve
from framepipe.processor import Emit
from framepipe.wav import WavTarget, WavWriter


class WavSink:
    """Play the agent's audio in real or virtual time, and keep exactly what was heard.

    It behaves as a sound device does: at the boundary of each block it takes what is queued, and
    what it took cannot be taken back. `Mute` fades out and freezes the queue, `Unmute` goes on
    with the very next sample, `Interrupt` fades out and throws the queue away. All three act
    without waiting for ``run``. `Played` goes up whenever the position has moved over a block.

    The file is mono and begins when the pipeline begins, so it can be laid beside the recording
    of the user. It is valid at any time, also after an abort.

    Args:
        target: A path, which is overwritten, a binary file that can seek, or ``None`` to keep the
            log only.
        rate_hz: Rate of the file; the audio is converted.
        block_ms: Length of a block.
        device_ms: Time from a block's boundary to the ear.
        tap: Is given every block that is heard, with its time.

    Raises:
        FrameError: A setting makes no sense, or, from ``run``, the file cannot be written.
    """

    def __init__(
        self,
        target: WavTarget | None = None,
        *,
        rate_hz: int = 24_000,
        block_ms: int = 10,
        device_ms: int = 0,
        tap: PlaybackTap | None = None,
    ) -> None:
        self.target = target
        self.tap = tap
        self.rate_hz = rate_hz
        self.block_ms = block_ms
        self.device_ms = device_ms
        self._core = self._new_core(0)  # bad settings fail here
        self._emit: Emit[Played] | None = None
        self._is_ended = False

    def _new_core(self, start_ns: int) -> SpeakerCore:
        return SpeakerCore(
            start_ns=start_ns,
            rate_hz=self.rate_hz,
            block_ms=self.block_ms,
            device_ms=self.device_ms,
        )

    @property
    def heard_log(self) -> list[HeardRun]:
        """What was heard of which part, and when, in the order it was heard.

        The last `framepipe.conversation.speaker.HEARD_RUNS` stretches.
        """
        return list(self._core.heard_log)

    @property
    def silent_since_ns(self) -> int | None:
        """When the latest silence that a `Mute` or a cut ordered reached the ear."""
        return self._core.silent_since_ns

    def attach(self, emit: Emit[Played]) -> None:
        """Begin the call: the first block begins now."""
        self._emit = emit
        self._is_ended = False
        self._core = self._new_core(emit.now_ns())

    @on(AudioOut)
    def hand(self, frame: AudioOut) -> None:
        """Queue the audio."""
        was_asleep = self._core.next_ns() is None
        self._core.hand(frame, self._engine.now_ns())
        if was_asleep:
            self._engine.wake()

    @on(Mute)
    def mute(self, frame: Mute) -> Played:
        """Fade out, or duck, and tell at once where the sound ends."""
        now_ns = self._engine.now_ns()
        self._core.mute(now_ns, gain_db=frame.gain_db, fade_ms=frame.fade_ms)
        return self._core.report(now_ns) or self._core.position(now_ns)

    @on(Unmute)
    def unmute(self, frame: Unmute) -> None:
        """Go on with the very next sample."""
        self._core.unmute(self._engine.now_ns(), fade_ms=frame.fade_ms)

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt:
        """Throw away what waits, and say where the sound ends."""
        return evolve(frame, mute_point=self._core.cut(self._engine.now_ns()))

    @on(End)
    def end(self, _: End) -> None:
        """Play out what waits; then ``run`` returns."""
        self._is_ended = True

    async def run(self, emit: Emit[Played]) -> None:
        """Play until `End` has come and everything was heard or thrown away.

        Cancellation leaves a valid file with everything played so far.
        """
        tape = None if self.target is None else _Tape(self.target, self.rate_hz, self._core)
        try:
            while True:
                now_ns = emit.now_ns()
                report = self._core.report(now_ns)
                self._record(tape, now_ns)
                if report is not None:
                    emit(report)
                if self._is_ended and self._core.is_idle(now_ns):
                    break
                next_ns = self._core.next_ns()
                await emit.until(next_ns)
            emit(self._core.position(now_ns, final=True))
        finally:
            try:
                self._record(tape, emit.now_ns())
            finally:
                if tape is not None:
                    tape.close()

    def _record(self, tape: _Tape | None, now_ns: int) -> None:
        n_blocks = self._core.n_blocks(now_ns)
        blocks = self._core.take_blocks()
        if tape is not None:
            tape.record(blocks, n_blocks)
        if self.tap is not None:
            for block in blocks:
                self.tap.write(block.pcm, self._core.rate_hz, self._core.heard_ns(block))

    @property
    def _engine(self) -> Emit[Played]:
        if self._emit is None:
            raise FrameError("WavSink got a frame before attach(); run it in a Pipeline")
        return self._emit


class _Tape:
    """Writes the blocks of a speaker, and the silence between them, into a file."""

    def __init__(self, target: WavTarget, rate_hz: int, core: SpeakerCore) -> None:
        self._core = core
        self._wav = WavWriter(target, rate_hz)
        self._n_blocks = 0
        self._resampler = Resampler(core.rate_hz, rate_hz)
        self._wav.write(silence(rate_hz * core.device_ms // 1000))

    def record(self, blocks: list[Block], n_blocks: int) -> None:
        """Bring the file up to the block that sounds now, of ``n_blocks`` that have begun."""
        if self._resampler.from_hz != self._core.rate_hz:
            # The speaker learned its rate from the first audio; there was only silence before.
            self._resampler = Resampler(self._core.rate_hz, self._wav.rate_hz)
        for block in blocks:
            self._pause(block.index)
            self._wav.write(self._resampler.process(block.pcm))
            self._n_blocks += 1
        self._pause(n_blocks)

    def close(self) -> None:
        self._wav.close()

    def _pause(self, until_block: int) -> None:
        """Silence up to a block; a second at a time, since a pause may last an hour."""
        missing = until_block - self._n_blocks
        while missing > 0:
            n = min(missing, 100)
            self._wav.write(self._resampler.process(silence(n * self._core.block_samples)))
            self._n_blocks += n
            missing -= n
