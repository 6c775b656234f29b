"""The machine's own microphone and loudspeaker, as one duplex stream.

One stream for both, because two drift apart, and because some systems stall when one program has
two. The device asks for a block from a thread of its own. What it gets is decided by
`framepipe.conversation.speaker.SpeakerCore`, whose clock here is the number of blocks that the
device has taken: so an order acts on the next block, and where the sound ends is known in the
same call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from typing import Any, Final, Protocol, Self, TypeAlias, cast

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

from framepipe import Emit, on
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.conversation.speaker import SpeakerCore
from framepipe.errors import EmitError, MailboxFull, TransportBroken, TransportError
from framepipe.frames import (
    NS_PER_S,
    AudioIn,
    AudioOut,
    End,
    Interrupt,
    Mute,
    Played,
    Problem,
    Unmute,
    evolve,
)

RATE_HZ: Final = 24_000
"""The service's rate; the sound system converts to the device's own."""

BLOCK_MS: Final = 10
"""Length of a block. The local detector judges frames of 10 ms, so a longer one is later."""

Callback: TypeAlias = Callable[[bytes, str], bytes]
"""Called with one block from the microphone and what went wrong ("" nothing); returns one for the
loudspeaker. Signed 16-bit little-endian, mono."""


class Stream(Protocol):
    """A duplex stream that runs while its context lasts."""

    @property
    def output_latency_s(self) -> float:
        """From a block that was handed over to the ear, in seconds."""
        ...


OpenStream: TypeAlias = Callable[[Callback, Callable[[], None]], AbstractContextManager[Stream]]
"""Opens a stream: called with what to do for each block, and when the device is gone."""


def open_stream(
    callback: Callback,
    gone: Callable[[], None],
    *,
    input_device: int | str | None = None,
    output_device: int | str | None = None,
) -> AbstractContextManager[Stream]:
    """Open a stream on the machine's devices, through sounddevice.

    Args:
        callback: What to do for each block.
        gone: Called when the device stops by itself.
        input_device: Number or name; ``None``: the system's choice.
        output_device: The same for the loudspeaker.

    Raises:
        TransportError: There is no such device, or it cannot be opened.
    """
    sounddevice = library()

    def each_block(pcm: Any, out: Any, _frames: int, _time: Any, status: Any) -> None:
        out[:] = callback(bytes(pcm), str(status) if status else "")

    try:
        stream: Any = sounddevice.RawStream(
            samplerate=RATE_HZ,
            blocksize=RATE_HZ * BLOCK_MS // 1000,
            dtype="int16",
            channels=1,
            latency="low",
            device=(input_device, output_device),
            callback=each_block,
            finished_callback=gone,
        )
    except (sounddevice.PortAudioError, ValueError, OSError) as error:
        raise TransportError(f"{_one_line(error)}; {_NO_DEVICE}") from error
    return cast("AbstractContextManager[Stream]", _SoundDeviceStream(stream))


_NO_DEVICE: Final = (
    "is a microphone and a loudspeaker connected? `framepipe talk --list-devices` lists them, and "
    "`framepipe talk` without --terminal uses the browser's"
)


class _SoundDeviceStream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def output_latency_s(self) -> float:
        return float(self._stream.latency[1])

    def __enter__(self) -> Self:
        try:
            self._stream.start()
        except Exception as error:
            self._stream.close()
            raise TransportError(f"{_one_line(error)}; {_NO_DEVICE}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def library() -> Any:
    """The sounddevice library.

    Raises:
        TransportError: It is not installed, or has no PortAudio; the message says what to do.
    """
    try:
        return import_module("sounddevice")
    except ImportError as error:
        raise TransportError(
            "the sound card needs sounddevice: install framepipe[audio]"
        ) from error
    except OSError as error:
        raise TransportError(
            f"{_one_line(error)}; sounddevice needs the PortAudio library (Debian: libportaudio2)"
        ) from error


def list_devices() -> list[str]:
    """The machine's devices, a line each: number, name, channels in and out.

    Raises:
        TransportError: They cannot be listed.
    """
    devices: list[dict[str, Any]] = list(library().query_devices())
    return [
        f"{number:3}  {device['name']}  ({device['max_input_channels']} in, "
        f"{device['max_output_channels']} out)"
        for number, device in enumerate(devices)
    ]


class SoundCard:
    """The machine's microphone and loudspeaker: ``card.mic`` and ``card.speaker``.

    Both must stand in the same pipeline. The stream is open while that runs.

    Args:
        input_device: Number or name of the microphone; ``None``: the system's choice.
        output_device: The same for the loudspeaker.
        opener: Opens the stream; for another sound library.

    Attributes:
        tap: What was played, for an `EchoCanceller`.
        mic: The first stage; makes `AudioIn`, 24 kHz mono in blocks of 10 ms.
        speaker: The last stage.
    """

    def __init__(
        self,
        *,
        input_device: int | str | None = None,
        output_device: int | str | None = None,
        opener: OpenStream | None = None,
    ) -> None:
        def usual(callback: Callback, gone: Callable[[], None]) -> AbstractContextManager[Stream]:
            return open_stream(
                callback, gone, input_device=input_device, output_device=output_device
            )

        self.tap: PlaybackTap = _SharedTap()
        self.speaker = SoundCardSpeaker(self.tap)
        self.mic = SoundCardMic(self.speaker, opener or usual)


class _SharedTap(PlaybackTap):
    """Written by the device's thread, read by the event loop's."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def write(self, pcm: bytes, rate_hz: int, at_ns: int) -> None:
        with self._lock:
            super().write(pcm, rate_hz, at_ns)

    def read(self, at_ns: int, n_samples: int) -> bytes:
        with self._lock:
            return super().read(at_ns, n_samples)


class SoundCardMic:
    """The microphone of a `SoundCard`; its ``run`` holds the stream."""

    def __init__(self, speaker: SoundCardSpeaker, opener: OpenStream) -> None:
        self.made_rates_hz = {AudioIn: RATE_HZ}
        self._speaker = speaker
        self._open = opener
        self._position = 0
        self._n_faults = 0

    async def run(self, emit: Emit[AudioIn | Problem]) -> None:
        """Capture until cancelled.

        Raises:
            TransportError: The devices cannot be opened, or have gone.

        Cancellation closes the stream.
        """
        # The device's thread may not ask the event loop for the time, and both count monotonic
        # nanoseconds.
        ahead_ns = emit.now_ns() - time.monotonic_ns()

        def block(pcm: bytes, fault: str) -> bytes:
            at_ns = time.monotonic_ns() + ahead_ns
            sound = self._speaker.next_block(at_ns)
            start, self._position = self._position, self._position + len(pcm) // 2
            frame = AudioIn(pcm=pcm, rate_hz=RATE_HZ, start_sample=start, at_ns=at_ns)
            try:
                emit.from_thread(frame)
                if fault:
                    self._tell(emit, fault)
            except EmitError:
                pass  # the pipeline is over, and the stream is about to be
            return sound

        token = current_token()
        has_gone = anyio.Event()
        is_closing = False

        def gone() -> None:
            if not is_closing:
                from_thread.run_sync(has_gone.set, token=token)

        with self._open(block, gone) as stream:
            self._speaker.begin(stream.output_latency_s)
            try:
                await has_gone.wait()
            finally:
                is_closing = True
        raise TransportBroken(f"the sound device has gone; {_NO_DEVICE}")

    def _tell(self, emit: Emit[AudioIn | Problem], fault: str) -> None:
        self._n_faults += 1
        if self._n_faults & (self._n_faults - 1):  # 1, 2, 4, 8, …
            return
        with suppress(MailboxFull):  # the next one says how many there were
            emit.from_thread(
                Problem(
                    where="SoundCard",
                    code="device_fault",
                    message=f"{fault}, {self._n_faults} times so far: the machine is too busy for "
                    f"blocks of {BLOCK_MS} ms",
                )
            )


class SoundCardSpeaker:
    """The loudspeaker of a `SoundCard`, the last stage."""

    def __init__(self, tap: PlaybackTap | None = None) -> None:
        self.rates_hz = {AudioOut: RATE_HZ}
        self._tap = tap
        self._device_ns = 0
        self._lock = threading.Lock()
        self._core = SpeakerCore(start_ns=0, rate_hz=RATE_HZ, block_ms=BLOCK_MS)
        self._block_ns = BLOCK_MS * 1_000_000
        self._n_blocks = 0
        self._silence = bytes(2 * RATE_HZ * BLOCK_MS // 1000)
        self._emit: Emit[Played] | None = None

    def attach(self, emit: Emit[Played]) -> None:
        """Keep the way up."""
        self._emit = emit

    def begin(self, output_latency_s: float) -> None:
        """The stream is open; nothing was handed over yet.

        Args:
            output_latency_s: From a block that the device has taken to the ear, in seconds.
        """
        with self._lock:
            self._device_ns = max(0, round(output_latency_s * NS_PER_S))
            if self._core.handed_samples == 0:
                self._core = SpeakerCore(
                    start_ns=0,
                    rate_hz=RATE_HZ,
                    block_ms=BLOCK_MS,
                    device_ms=max(0, round(output_latency_s * 1000)),
                )

    def next_block(self, at_ns: int) -> bytes:
        """The next block for the device; called from its thread.

        Args:
            at_ns: Engine time.
        """
        with self._lock:
            boundary_ns = self._n_blocks * self._block_ns
            self._core.advance(boundary_ns)
            blocks = self._core.take_blocks()
            report = self._core.report(boundary_ns)
            self._n_blocks += 1
        if report is not None and self._emit is not None:
            with suppress(EmitError):  # the pipeline is over, or has so many reports already
                self._emit.from_thread(evolve(report, at_ns=at_ns))
        if not blocks:
            return self._silence
        if self._tap is not None:
            self._tap.write(blocks[-1].pcm, RATE_HZ, at_ns + self._device_ns)
        return blocks[-1].pcm

    @on(AudioOut)
    def hand(self, frame: AudioOut) -> None:
        """Queue the audio."""
        with self._lock:
            self._core.hand(frame, self._now_ns)

    @on(Mute)
    def mute(self, frame: Mute) -> Played:
        """Fade out, or duck, and tell at once where the sound ends."""
        with self._lock:
            self._core.mute(self._now_ns, gain_db=frame.gain_db, fade_ms=frame.fade_ms)
            return evolve(self._core.position(self._now_ns), at_ns=self._engine_ns)

    @on(Unmute)
    def unmute(self, frame: Unmute) -> None:
        """Go on with the very next sample."""
        with self._lock:
            self._core.unmute(self._now_ns, fade_ms=frame.fade_ms)

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt:
        """Throw away what waits, and say where the sound ends."""
        with self._lock:
            return evolve(frame, mute_point=self._core.cut(self._now_ns))

    @on(End)
    def end(self, _: End) -> Played:
        """The stream is closed by now: nothing more can be heard."""
        with self._lock:
            return evolve(self._core.position(self._now_ns, final=True), at_ns=self._engine_ns)

    @property
    def _now_ns(self) -> int:
        """On the device's clock: before the next boundary, so that an order commits nothing."""
        return self._n_blocks * self._block_ns - 1

    @property
    def _engine_ns(self) -> int:
        return 0 if self._emit is None else self._emit.now_ns()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
