"""The embedded server's voice, its speech detector, and when it thinks that speech begins."""

from __future__ import annotations

import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import pcm_of, rms_dbfs, samples_of
from framepipe.realtime.server_vad import (
    WINDOW_SAMPLES,
    SegmentClosed,
    SegmentOpened,
    ServerVad,
    VadSettings,
)
from framepipe.realtime.speech import LONGEST_MS, Speech, Voice, VoiceError
from framepipe.realtime.voice import REMEMBERED_TEXTS, Espeak, ShippedClips, default_voice
from framepipe.realtime.window_detectors import LoudWindows, SileroWindows

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs the program espeak-ng; CI has it"
)
VOICES = [
    pytest.param(ShippedClips, id="clips"),
    pytest.param(Espeak, id="espeak", marks=needs_espeak),
]


def longest_level_jump(pcm: bytes) -> int:
    """The largest step between neighbouring samples: a click is a large one."""
    return int(np.abs(np.diff(samples_of(pcm).astype(np.int32))).max())


@pytest.mark.parametrize("make", VOICES)
def test_a_voice_says_the_same_text_with_the_same_bytes(make: type[Voice]) -> None:
    first, again = (
        make().speak("The train leaves at nine."),
        make().speak("The train leaves at nine."),
    )
    assert first == again
    assert 1.0 < len(first) / 48_000 < 3.5
    assert rms_dbfs(first) > -35


@pytest.mark.parametrize("make", VOICES)
@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_to_say_makes_no_sound(make: type[Voice], text: str) -> None:
    assert make().speak(text) == b""


@pytest.mark.parametrize("make", VOICES)
@pytest.mark.parametrize("duration_ms", [0, 1, 1_000, 31_000])
def test_a_voice_talks_for_exactly_as_long_as_it_is_asked_to(
    make: type[Voice], duration_ms: int
) -> None:
    speech = make().talk(duration_ms)
    assert len(speech.pcm) == 48 * duration_ms
    assert speech.duration_ms == duration_ms
    assert bool(speech.text) == bool(duration_ms)


@pytest.mark.parametrize("make", VOICES)
def test_the_words_of_a_talk_grow_with_its_length(make: type[Voice]) -> None:
    voice = make()
    texts = [voice.talk(duration_ms).text for duration_ms in (500, 2_000, 6_000)]
    assert all(len(short) < len(long) for short, long in pairwise(texts))


@pytest.mark.parametrize("make", VOICES)
@pytest.mark.parametrize("duration_ms", [-1, LONGEST_MS + 1])
def test_a_talk_out_of_range_is_refused_with_the_range(make: type[Voice], duration_ms: int) -> None:
    with pytest.raises(VoiceError, match=f"{duration_ms} ms .* 0 to {LONGEST_MS}"):
        make().talk(duration_ms)


def test_a_talk_ends_without_a_click() -> None:
    speech: Speech = ShippedClips().talk(1_234)
    whole = ShippedClips().talk(2_000)
    assert abs(int(samples_of(speech.pcm)[-1])) <= 1
    assert longest_level_jump(speech.pcm[-2_400:]) <= longest_level_jump(whole.pcm)


def test_different_texts_are_said_with_different_clips() -> None:
    clips = ShippedClips()
    assert len({clips.speak(f"Sentence number {n}.") for n in range(20)}) > 1


@needs_espeak
def test_a_text_cannot_be_an_option_of_the_program() -> None:
    spoken = Espeak().speak("--version -f /dev/null \0 <b>&")
    assert len(spoken) > 48_000


@needs_espeak
def test_a_voice_remembers_what_it_said_and_forgets_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bytes] = []
    run = subprocess.run
    voice = Espeak()
    canned = run(["espeak-ng", "--stdout", "hi"], capture_output=True, check=True)

    def counted(command: list[str], *, input: bytes, **_: object) -> object:  # noqa: A002
        calls.append(input)
        return canned

    monkeypatch.setattr(subprocess, "run", counted)
    for n in range(REMEMBERED_TEXTS):
        voice.speak(str(n))
    voice.speak("0")
    assert len(calls) == REMEMBERED_TEXTS
    voice.speak("one more")  # forgets "1", for "0" was just asked for
    voice.speak("0")
    assert len(calls) == REMEMBERED_TEXTS + 1
    voice.speak("1")
    assert len(calls) == REMEMBERED_TEXTS + 2


def test_a_machine_without_the_program_speaks_with_the_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(VoiceError, match=r"not installed; install it, or use ShippedClips"):
        Espeak()
    assert isinstance(default_voice(), ShippedClips)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script as a program")
@pytest.mark.parametrize(
    ("script", "why"),
    [("echo broken >&2; exit 3", "broken"), ("exit 3", "exit code 3"), ("echo no wav", "no WAV")],
)
def test_a_program_that_fails_is_one_line_with_its_reason(
    tmp_path: Path, script: str, why: str
) -> None:
    program = tmp_path / "speaker"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(VoiceError, match=why) as caught:
        Espeak(program=str(program)).speak("hello")
    assert "\n" not in str(caught.value)


def test_the_shipped_clips_are_small_speech() -> None:
    clips = ShippedClips()
    total = sum(len(clip.pcm) for clip in clips.clips)
    assert total < 700_000
    for clip in clips.clips:
        vad = ServerVad(SileroWindows())
        edges = list(vad.receive(clip.pcm[: 48 * 1_000]))
        assert edges[:1] != [], clip.text
        assert isinstance(edges[0], SegmentOpened)


# --- detectors --------------------------------------------------------------------------------


def test_silero_hears_speech_and_neither_silence_nor_noise() -> None:
    noise = pcm_of(np.random.default_rng(0).normal(0, 300, WINDOW_SAMPLES * 25))
    vad = ServerVad(SileroWindows())
    assert list(vad.receive(bytes(2 * WINDOW_SAMPLES * 25))) == []
    assert list(vad.receive(noise)) == []
    edges = list(vad.receive(ShippedClips().talk(1_900).pcm + bytes(48 * 900)))
    assert isinstance(edges[0], SegmentOpened)
    assert isinstance(edges[-1], SegmentClosed)


def test_silero_begins_afresh_after_a_reset() -> None:
    speech = ShippedClips().talk(640).pcm
    silero = SileroWindows()

    def judged() -> list[float]:
        step = 2 * WINDOW_SAMPLES
        return [silero.probability(speech[at : at + step]) for at in range(0, len(speech), step)]

    first = judged()
    assert judged() != first
    silero.reset()
    assert judged() == first


@pytest.mark.parametrize(("level", "verdict"), [(0, 0.0), (100, 0.0), (1_000, 1.0)])
def test_loudness_alone_is_enough_for_generated_calls(level: int, verdict: float) -> None:
    window = pcm_of(np.full(WINDOW_SAMPLES, float(level)))
    assert LoudWindows(floor_dbfs=-45).probability(window) == verdict


class Prepared:
    """A detector with prepared probabilities."""

    def __init__(self, probabilities: list[float]) -> None:
        self._probabilities = probabilities
        self.asked = 0
        self.resets = 0

    def probability(self, window: bytes, /) -> float:
        assert len(window) == 2 * WINDOW_SAMPLES
        self.asked += 1
        return self._probabilities[(self.asked - 1) % len(self._probabilities)]

    def reset(self) -> None:
        self.resets += 1


def test_only_silence_without_a_break_closes_a_segment() -> None:
    vad = ServerVad(Prepared([0.9, 0.0, 0.9, 0.0, 0.4, 0.0, 0.0]))
    vad.configure(VadSettings(silence_duration_ms=64))
    assert list(vad.receive(bytes(2 * WINDOW_SAMPLES * 7))) == [
        SegmentOpened(detected_sample=WINDOW_SAMPLES),
        SegmentClosed(end_sample=7 * WINDOW_SAMPLES),
    ]


@given(
    runs=st.lists(
        st.tuples(st.sampled_from([0.0, 0.9, 0.3, 0.4, 0.5]), st.integers(1, 4)),
        min_size=4,
        max_size=30,
    ),
    silence_ms=st.sampled_from([0, 32, 64, 100, 200]),
)
def test_segments_open_and_close_in_turn_and_only_on_the_grid(
    runs: list[tuple[float, int]], silence_ms: int
) -> None:
    probabilities = [probability for probability, n in runs for _ in range(n)]
    vad = ServerVad(Prepared(probabilities))
    vad.configure(VadSettings(threshold=0.5, silence_duration_ms=silence_ms))
    edges = list(vad.receive(bytes(2 * WINDOW_SAMPLES * len(probabilities))))

    # The model: an open segment is closed by a run of windows below 0.35, long enough.
    expected: list[SegmentOpened | SegmentClosed] = []
    run, is_open = 0, False
    for n, probability in enumerate(probabilities, start=1):
        if not is_open and probability >= 0.5:
            is_open, run = True, 0
            expected.append(SegmentOpened(detected_sample=n * WINDOW_SAMPLES))
        elif is_open:
            run = 0 if probability >= 0.35 else run + 32
            if run and run >= silence_ms:
                is_open = False
                expected.append(SegmentClosed(end_sample=n * WINDOW_SAMPLES))
    assert edges == expected
    assert vad.speaking == is_open


def test_while_detection_is_off_audio_is_counted_and_nobody_asked() -> None:
    detector = Prepared([0.9])
    vad = ServerVad(detector)
    vad.configure(None)
    assert list(vad.receive(bytes(2 * WINDOW_SAMPLES * 3 + 100))) == []
    assert (vad.appended_samples, detector.asked) == (WINDOW_SAMPLES * 3 + 50, 0)
    vad.configure(VadSettings())
    assert list(vad.receive(bytes(2 * WINDOW_SAMPLES))) == [
        SegmentOpened(detected_sample=4 * WINDOW_SAMPLES)
    ]
    assert detector.resets == 2, "once when it was switched off, once when on"
