"""WAV files, read and written block by block: 16-bit PCM, mono.

Whatever is wrong with a file is one `FrameError` of one line: what was found, what is wanted, and
how to get there. The caller need not know the ways in which ``wave`` and the operating system
complain.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, TypeAlias

from framepipe.audio import Resampler
from framepipe.errors import FrameError
from framepipe.frames import SAMPLE_BYTES

WavTarget: TypeAlias = str | Path | BinaryIO
"""A path, or a binary file that can seek."""

_READ_SAMPLES: Final = 4_096
"""Samples read at a time."""

_WRITE_BYTES: Final = 32_768
"""Bytes collected before they are written: 0.7 s at 24 kHz, which is all that a killed process
can lose of its recording."""


class WavReader:
    """An open WAV file. A context manager; the file is open from the constructor on.

    Args:
        path: The file.

    Attributes:
        rate_hz: Samples per second.
        n_samples: Length.

    Raises:
        FrameError: It cannot be opened, is no WAV, not 16-bit PCM, not mono, empty, or cut short.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        try:
            self._file = Path(path).open("rb")  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise FrameError(f"{path}: cannot be read: {_reason(error)}") from error
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise

    def _check(self) -> None:
        path = self.path
        try:
            self._wave = wave.open(self._file, "rb")  # noqa: SIM115
        except OSError as error:
            raise FrameError(f"{path}: cannot be read: {_reason(error)}") from error
        except EOFError as error:
            size = Path(path).stat().st_size
            raise FrameError(
                f"{path}: its {size} bytes end before the first sample; it is empty or was cut "
                "short, record it again"
            ) from error
        except wave.Error as error:
            why = str(error)
            if why.startswith("unknown format"):
                raise FrameError(
                    f"{path}: WAV format {why.rpartition(' ')[2]} is not plain PCM; framepipe "
                    "reads 16-bit mono PCM, convert it: sox IN.wav -e signed -b 16 -c 1 OUT.wav"
                ) from error
            raise FrameError(
                f"{path}: not a WAV file ({why}); framepipe reads 16-bit mono PCM, convert it: "
                "ffmpeg -i IN -ac 1 -c:a pcm_s16le OUT.wav"
            ) from error
        bits, channels = 8 * self._wave.getsampwidth(), self._wave.getnchannels()
        self.rate_hz, self.n_samples = self._wave.getframerate(), self._wave.getnframes()
        if bits != 16:
            raise FrameError(
                f"{path}: samples of {bits} bits; framepipe reads 16-bit PCM, convert it: "
                "sox IN.wav -b 16 OUT.wav"
            )
        if channels != 1:
            raise FrameError(
                f"{path}: {channels} channels; a recording of the user is mono, mix it: "
                "sox IN.wav -c 1 OUT.wav"
            )
        if self.rate_hz <= 0:
            raise FrameError(f"{path}: a rate of {self.rate_hz} Hz; it must be positive")
        if self.n_samples == 0:
            raise FrameError(f"{path}: no samples; a recording needs at least one")
        start = self._file.tell()
        promised, there = 2 * self.n_samples, self._file.seek(0, 2) - start
        self._file.seek(start)
        if there < promised:
            raise FrameError(
                f"{path}: cut short: its header promises {promised} bytes of audio and {there} are "
                "there; copy it again, or mend it: sox --ignore-length IN.wav OUT.wav"
            )
        self._wave.setpos(self.n_samples - 1)
        last = len(self._wave.readframes(_READ_SAMPLES))
        self._wave.rewind()
        if last != SAMPLE_BYTES:
            raise FrameError(
                f"{path}: {promised - SAMPLE_BYTES + last} bytes of audio is not whole 16-bit "
                "samples; it was cut short, copy it again"
            )

    def read(self, n_samples: int) -> bytes:
        """The next samples, fewer at the end, none after it."""
        return self._wave.readframes(n_samples)

    def read_at(self, rate_hz: int) -> Iterator[bytes]:
        """All samples, converted to another rate, in pieces of any length.

        Each sound stays at its time; the length is ``n_samples`` scaled and rounded up.

        Raises:
            FrameError: The rates have no ratio of small whole numbers.
        """
        resampler = Resampler(self.rate_hz, rate_hz, aligned=True)
        while pcm := self.read(_READ_SAMPLES):
            yield resampler.process(pcm)
        yield resampler.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class WavWriter:
    """A WAV file that grows. What is on the disk is a valid WAV at any time.

    Args:
        target: A path, which is overwritten, or a binary file that can seek, which stays open.
        rate_hz: Samples per second.

    Attributes:
        n_samples: Samples taken so far.

    Raises:
        FrameError: The file cannot be written.
    """

    def __init__(self, target: WavTarget, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.n_samples = 0
        self._collected = bytearray()
        self._owned: BinaryIO | None = None
        self._name = str(target) if isinstance(target, str | Path) else "the file"
        try:
            if isinstance(target, str | Path):
                self._owned = Path(target).open("wb")  # noqa: SIM115 (closed by `close`)
            self._file: BinaryIO = self._owned or target  # type: ignore[assignment]
            self._wave = wave.open(self._file, "wb")  # noqa: SIM115
            self._wave.setparams((1, 2, rate_hz, 0, "NONE", "not compressed"))
        except OSError as error:
            raise FrameError(f"{self._name}: cannot be written: {_reason(error)}") from error
        try:
            self.flush()  # a header from the first moment on
        except FrameError:
            self._let_go()
            raise

    def write(self, pcm: bytes) -> None:
        """Append samples.

        Raises:
            FrameError: The file cannot be written.
        """
        self.n_samples += len(pcm) // 2
        self._collected += pcm
        if len(self._collected) >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Bring everything to the file, and its header up to date.

        Raises:
            FrameError: The file cannot be written.
        """
        try:
            self._wave.writeframes(bytes(self._collected))
            self._collected.clear()
            self._file.flush()
        except OSError as error:
            raise FrameError(f"{self._name}: cannot be written: {_reason(error)}") from error

    def close(self) -> None:
        """Write what is left, and close the file if it was opened here.

        Raises:
            FrameError: The file cannot be written. It is closed all the same.
        """
        try:
            self.flush()
            self._wave.close()
            if self._owned is not None:
                self._owned.close()
        except OSError as error:
            raise FrameError(f"{self._name}: cannot be written: {_reason(error)}") from error
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Close what is still open. What could not be written before cannot be now."""
        with suppress(OSError):
            self._wave.close()  # else its destructor would write, whenever that comes
        if self._owned is not None:
            with suppress(OSError):
                self._owned.close()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
