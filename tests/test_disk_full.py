"""A disk that is full costs the recording, never the call."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from framepipe import Pipeline
from framepipe.errors import FrameError
from framepipe.frames import Transcript
from framepipe.realtime.wire_trace import WireTrace
from framepipe.recorder.trace import Trace, TraceError
from framepipe.wav import WavWriter
from tests.engine.kit import Sink

FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def words(n: int) -> Transcript:
    return Transcript(who="user", text=f"{n} " * 200, final=True, item_id="a")


def test_a_trace_that_cannot_be_written_leaves_the_pipeline_alone_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Sink()
    pipeline = Pipeline(sink)
    trace = Trace(FULL, lambda: 0)
    pipeline.observe(trace)
    for n in range(100):
        pipeline.step(words(n))
    with suppress(TraceError):
        trace.close()
    assert sink.got == [words(n) for n in range(100)]
    assert [line for line in caplog.messages if "removed" in line] == [
        "an observer raised and was removed"
    ]


def test_a_trace_whose_end_is_missing_says_so_when_it_is_closed() -> None:
    trace = Trace(FULL, lambda: 0)
    trace("emitted", "Stage", words(1))
    with pytest.raises(TraceError, match="/dev/full: No space left on device; its end is missing"):
        trace.close()


def test_a_wire_trace_that_cannot_be_written_ends_and_the_sessions_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with WireTrace(FULL) as tap:
        for _ in range(3):
            tap("session", "client", '{"type": "input_audio_buffer.clear"}')
    assert caplog.messages == ["/dev/full: No space left on device; the trace ends here"]


def test_a_recording_that_cannot_be_written_is_one_clear_error_and_no_open_file() -> None:
    with pytest.raises(FrameError, match="/dev/full: cannot be written: No space left on device"):
        WavWriter(FULL, 24_000)


def test_a_recording_whose_disk_fills_up_is_closed_all_the_same(tmp_path: Path) -> None:
    class Filling:
        """A file on a disk that is about to be full."""

        def __init__(self) -> None:
            self.inner = (tmp_path / "a.wav").open("wb")
            self.is_full = False

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def write(self, data: bytes) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return self.inner.write(data)

    file = Filling()
    wav = WavWriter(file, 24_000)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wav.write(bytes(4_800))
    file.is_full = True
    with pytest.raises(FrameError, match="the file: cannot be written: No space left on device"):
        wav.close()
    file.inner.close()
    del wav  # its destructor has nothing more to write
