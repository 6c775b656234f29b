"""WavSink: the loudspeaker in a pipeline, and the file that holds what was heard."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import anyio
import numpy as np
import pytest

from framepipe import Emit, Pipeline, on
from framepipe.audio import samples_of
from framepipe.conversation.speaker import HeardRun
from framepipe.errors import FrameError, ProcessorError
from framepipe.frames import AudioOut, Interrupt, Mute, Played, Unmute
from framepipe.testing import run_virtual
from framepipe.wav import WavReader
from framepipe_processors.resample import Resample
from framepipe_processors.wav_sink import WavSink

MS = 1_000_000


class Script:
    """A first stage that does what it is told at the times it is told."""

    def __init__(self, *steps: tuple[int, AudioOut | Mute | Unmute | Interrupt]) -> None:
        self.steps = steps
        self.reports: list[Played] = []
        self.cuts: list[Interrupt] = []

    async def run(self, emit: Emit[AudioOut | Mute | Unmute | Interrupt]) -> None:
        for _ in range(9):
            emit.new_turn()
        for at_ms, frame in self.steps:
            while not await emit.until(at_ms * MS):
                pass
            emit(frame)

    @on(Played)
    def note(self, frame: Played) -> None:
        self.reports.append(frame)

    @on(Interrupt)
    def note_cut(self, frame: Interrupt) -> None:
        self.cuts.append(frame)


def audio(n_samples: int, *, start: int = 0, turn: int = 1, rate_hz: int = 24_000) -> AudioOut:
    pcm = np.full(n_samples, 12_000, "<i2").tobytes()
    return AudioOut(pcm=pcm, rate_hz=rate_hz, turn=turn, item_id="a", start_sample=start)


def played(sink: WavSink, *steps: tuple[int, AudioOut | Mute | Unmute | Interrupt]) -> Script:
    script = Script(*steps)
    run_virtual(Pipeline(script, sink).run)
    return script


def samples_in(file: io.BytesIO) -> list[int]:
    file.seek(0)
    with wave.open(file) as wav:
        return [int(sample) for sample in samples_of(wav.readframes(wav.getnframes()))]


def test_the_file_holds_the_silence_and_the_sound_at_their_times() -> None:
    file = io.BytesIO()
    sink = WavSink(file)
    script = played(sink, (5, audio(480)), (95, audio(100, start=480)))
    assert samples_in(file) == [0] * 240 + [12_000] * 480 + [0] * 1_680 + [12_000] * 100 + [0] * 380
    assert sink.heard_log == [
        HeardRun(10 * MS, 1, "a", 0, 0, 480),
        HeardRun(100 * MS, 1, "a", 0, 480, 100),
    ]
    assert script.reports[-1].final
    assert script.reports[-1].played_samples == 580


def test_device_latency_moves_the_sound_and_the_reports() -> None:
    file = io.BytesIO()
    sink = WavSink(file, device_ms=30)
    script = played(sink, (0, audio(240)))
    assert samples_in(file)[: 960 + 240] == [0] * 960 + [12_000] * 240
    assert sink.heard_log[0].at_ns == 40 * MS
    done = next(report for report in script.reports if report.played_samples == 240)
    assert done.at_ns == 50 * MS


def test_the_positions_are_reported_at_the_boundaries_and_only_while_it_sounds() -> None:
    script = played(WavSink(), (0, audio(600)), (500, audio(240, start=600)))
    assert [(r.at_ns // MS, r.played_samples) for r in script.reports] == [
        (20, 240),
        (30, 480),
        (40, 600),
        (520, 840),
        (520, 840),
    ]


def test_a_mute_answers_with_the_mute_point_in_the_same_call() -> None:
    sink = WavSink()
    script = played(sink, (0, audio(2_400)), (24, Mute()), (80, Unmute()))
    muted = next(report for report in script.reports if report.mute_point is not None)
    assert muted.at_ns == 24 * MS
    assert muted.mute_point == 480 + 192
    assert sink.silent_since_ns == 38 * MS
    first, second = sink.heard_log
    assert first.n_samples == 672
    assert (second.start_sample, second.n_samples) == (672, 1_728)
    assert second.at_ns == 90 * MS


def test_an_interrupt_gets_its_mute_point_and_nothing_more_of_the_turn_sounds() -> None:
    sink = WavSink()
    script = played(sink, (0, audio(24_000)), (24, Interrupt(turn=1)), (60, audio(240, turn=9)))
    assert [cut.mute_point for cut in script.cuts] == [672]
    assert [(run.turn, run.n_samples) for run in sink.heard_log] == [(1, 672), (9, 240)]


def test_the_end_waits_while_muted_and_a_cut_lets_it_go() -> None:
    sink = WavSink()
    script = Script((0, audio(2_400)), (24, Mute()))

    async def call() -> float:
        async with anyio.create_task_group() as tasks:
            pipeline = Pipeline(script, sink)
            tasks.start_soon(pipeline.run)
            await anyio.sleep(5)
            assert not any(report.final for report in script.reports)
            pipeline.interrupt()
        return anyio.current_time()

    assert run_virtual(call) == pytest.approx(5)
    assert script.reports[-1].final
    assert script.reports[-1].played_samples == 2_400


def test_another_rate_is_converted_for_the_file_only() -> None:
    file = io.BytesIO()
    script = played(WavSink(file), (100, audio(1_600, rate_hz=16_000)))
    sound = samples_in(file)
    assert len(sound) == 24 * 220
    assert script.reports[-1].rate_hz == 16_000
    assert script.reports[-1].played_samples == 1_600
    assert {12_000} == set(sound[24 * 115 : 24 * 205])
    assert not any(sound[: 24 * 110])


def test_a_stage_that_resamples_before_it_is_not_noticed_above() -> None:
    script = Script((0, audio(2_400)), (24, Mute()), (80, Interrupt(turn=1)))
    run_virtual(Pipeline(script, Resample(48_000), WavSink(rate_hz=48_000)).run)
    assert script.cuts[0].mute_point == 672
    assert {report.rate_hz for report in script.reports} == {24_000}
    assert script.reports[-1].played_samples == 2_400


def test_an_aborted_call_leaves_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "heard.wav"

    async def call() -> None:
        with anyio.move_on_after(1):
            await Pipeline(Script((0, audio(24_000 * 9))), WavSink(path)).run()

    run_virtual(call)
    with WavReader(path) as wav:
        assert wav.n_samples == pytest.approx(24_000, abs=480)


def test_a_file_that_cannot_be_written_ends_the_call_with_one_line(tmp_path: Path) -> None:
    sink = WavSink(tmp_path / "no" / "a.wav")
    with pytest.raises(ProcessorError, match="cannot be written: No such file or directory") as e:
        run_virtual(Pipeline(Script((0, audio(10))), sink).run)
    assert isinstance(e.value.__cause__, FrameError)


def test_settings_that_make_no_sense_fail_where_they_are_given() -> None:
    with pytest.raises(FrameError, match="block_ms is 0"):
        WavSink(block_ms=0)
    with pytest.raises(FrameError, match="7 ms at 22050 Hz is not whole samples"):
        WavSink(rate_hz=22_050, block_ms=7)


def test_a_sink_outside_a_pipeline_says_what_it_needs() -> None:
    with pytest.raises(FrameError, match="run it in a Pipeline"):
        WavSink().hand(audio(10))


@pytest.mark.anyio
async def test_it_plays_on_both_backends_in_real_time() -> None:
    script, sink = Script((0, audio(240))), WavSink()
    await Pipeline(script, sink).run()
    assert sink.heard_log[0].n_samples == 240
    assert script.reports[-1].final
