"""The second opinion: every question gets one answer, at the right window."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from framepipe.detectors.second_stage import Evidence, SecondStage, Told
from framepipe.detectors.silero import Window
from framepipe.errors import FrameError
from framepipe.frames import SpeechConfirmed, SpeechRejected, SpeechStarted, SpeechStopped

RATE = 16_000
N = 512  # samples of a window


def second_stage() -> SecondStage:
    """The published rule, for windows that follow one another: easy to count."""
    return SecondStage(RATE, confirm=[Evidence(0.9, 4, 6)], reject_p=0.3)


def windows(*probabilities: float, first: int = 0) -> list[Window]:
    return [Window(p, (first + i) * N, (first + i + 1) * N) for i, p in enumerate(probabilities)]


def told_by(stage: SecondStage, heard: list[Window]) -> list[tuple[int, Told]]:
    """All that is told, with the number of the window that brought it."""
    told = [(window.start_sample // N, stage.judge(window)) for window in heard]
    return [(number, what) for number, what in told if what is not None]


def answers(stage: SecondStage, heard: list[Window]) -> list[tuple[int, Told]]:
    """Each answer to a question, with the number of the window that brought it."""
    return [
        (number, what)
        for number, what in told_by(stage, heard)
        if isinstance(what, SpeechConfirmed | SpeechRejected)
    ]


def confirmed(onset: int, probability: float = 0.95) -> SpeechConfirmed:
    return SpeechConfirmed(source="silero", onset_sample=onset, probability=probability)


def test_four_sure_windows_of_six_confirm_from_the_onset_that_was_asked_about() -> None:
    stage = second_stage()
    stage.suspect(100)
    heard = windows(0.5, 0.95, 0.95, 0.2, 0.95, 0.95)
    assert answers(stage, heard) == [(5, confirmed(0))]


def test_the_earlier_of_both_onsets_is_told() -> None:
    stage = second_stage()
    stage.suspect(100)
    heard = windows(0.0, 0.95, 0.95, 0.95, 0.95)
    assert answers(stage, heard) == [(4, confirmed(100))]


def test_three_sure_windows_of_six_do_not_confirm() -> None:
    stage = second_stage()
    assert answers(stage, windows(*[0.95, 0.5] * 10)) == []


def test_an_utterance_is_confirmed_once() -> None:
    stage = second_stage()
    stage.suspect(0)
    assert len(answers(stage, windows(*[0.95] * 50))) == 1


def test_speech_nobody_asked_about_is_confirmed_from_its_first_window() -> None:
    stage = second_stage()
    heard = windows(0.0, 0.0, 0.4, 0.95, 0.95, 0.95, 0.95)
    assert answers(stage, heard) == [(6, confirmed(2 * N))]


def test_after_192_ms_of_quiet_the_next_utterance_is_confirmed_again() -> None:
    stage = second_stage()
    word = [0.95] * 4
    assert len(answers(stage, windows(*word, *[0.0] * 5, *word))) == 1
    stage = second_stage()
    assert len(answers(stage, windows(*word, *[0.0] * 6, *word))) == 2


def test_192_ms_without_a_moderate_window_reject() -> None:
    stage = second_stage()
    stage.suspect(3 * N)
    ((number, told),) = answers(stage, windows(*[0.29] * 20))
    assert number == 8, "windows 3 to 8 are 192 ms"
    assert told == SpeechRejected(source="silero", onset_sample=3 * N, probability=0.29)


def test_a_moderate_window_begins_the_192_ms_anew() -> None:
    stage = second_stage()
    stage.suspect(0)
    ((number, told),) = answers(stage, windows(0.0, 0.0, 0.0, 0.3, *[0.0] * 20))
    assert number == 9
    assert isinstance(told, SpeechRejected)


def test_after_a_reject_speech_is_still_confirmed() -> None:
    stage = second_stage()
    stage.suspect(0)
    heard = windows(*[0.0] * 6, *[0.95] * 4)
    assert [type(told) for _, told in answers(stage, heard)] == [SpeechRejected, SpeechConfirmed]


def test_a_second_question_inside_confirmed_speech_is_answered_as_well() -> None:
    stage = second_stage()
    stage.suspect(0)
    assert len(answers(stage, windows(*[0.95] * 10))) == 1
    stage.suspect(9 * N + 10)
    ((number, told),) = answers(stage, windows(*[0.95] * 10, first=10))
    assert number == 10
    assert isinstance(told, SpeechConfirmed)


def test_a_beginning_that_nobody_asked_about_asks_by_itself_and_is_answered() -> None:
    stage = second_stage()
    heard = windows(0.0, 0.4, *[0.0] * 6)
    assert told_by(stage, heard) == [
        (1, SpeechStarted(source="silero", onset_sample=N)),
        (7, SpeechRejected(source="silero", onset_sample=N, probability=0.0)),
    ]


def test_a_second_beginning_after_a_reject_is_told() -> None:
    """The fast detector hangs on after the first sound, and hears nothing begin."""
    stage = second_stage()
    stage.suspect(0)
    told = told_by(stage, windows(*[0.0] * 6, *[0.95] * 4))
    assert [(number, type(what)) for number, what in told] == [
        (5, SpeechRejected),
        (6, SpeechStarted),
        (9, SpeechConfirmed),
    ]


def test_what_the_fast_detector_asked_about_is_not_asked_about_again() -> None:
    stage = second_stage()
    stage.suspect(0)
    assert [type(what) for _, what in told_by(stage, windows(0.4, 0.0, 0.4, 0.4))] == []


def test_the_end_of_confirmed_speech_is_told_once_at_its_last_moderate_window() -> None:
    stage = second_stage()
    stage.suspect(0)
    told = told_by(stage, windows(*[0.95] * 4, 0.3, *[0.0] * 20))
    assert [(number, type(what)) for number, what in told] == [
        (3, SpeechConfirmed),
        (10, SpeechStopped),
    ]
    assert told[1][1] == SpeechStopped(source="silero", end_sample=5 * N)


def test_what_was_before_a_gap_does_not_confirm() -> None:
    stage = second_stage()
    assert answers(stage, windows(0.95, 0.95, 0.95)) == []
    stage.seek(100 * N)
    ((_, told),) = answers(stage, windows(0.95, *[0.0] * 10, first=100))
    assert isinstance(told, SpeechRejected), "what was asked before it is still answered"


@given(
    st.lists(st.sampled_from([0.0, 0.29, 0.3, 0.6, 0.9, 1.0]), max_size=60),
    st.sets(st.integers(0, 59)),
)
def test_every_question_is_answered_once_when_quiet_comes(
    probabilities: list[float], asked: set[int]
) -> None:
    stage = second_stage()
    open_questions = 0
    for window in windows(*probabilities, *[0.0] * 6):
        if window.start_sample // N in asked and window.start_sample // N < len(probabilities):
            stage.suspect(window.start_sample)
            open_questions = 1
        told = stage.judge(window)
        if isinstance(told, SpeechRejected):
            assert open_questions == 1, "a reject answers a question"
        if isinstance(told, SpeechStarted):
            assert open_questions == 0, "it asks where nobody has asked"
            open_questions = 1
        elif told is not None:
            open_questions = 0
    assert open_questions == 0
    assert not stage.may_be_speech


def overlapping(*probabilities: float) -> list[Window]:
    return [Window(p, i * N // 2, i * N // 2 + N) for i, p in enumerate(probabilities)]


def first_yes(heard: list[Window]) -> int | None:
    """The number of the window that confirms."""
    stage = SecondStage(RATE)
    stage.suspect(0)
    told = (stage.judge(window) for window in heard)
    return next((i for i, what in enumerate(told) if isinstance(what, SpeechConfirmed)), None)


def test_by_default_six_sure_windows_of_ten_that_overlap_by_half_confirm() -> None:
    assert first_yes(overlapping(*[0.94, 0.94, 0.7] * 5)) == 7, "the sixth at or above 0.93"
    assert first_yes(overlapping(*[0.94, 0.7] * 20)) is None, "five of ten"


def test_by_default_ten_likely_windows_of_sixteen_confirm_as_well() -> None:
    """A soft voice, or one in noise, of which the model is never sure."""
    assert first_yes(overlapping(*[0.85, 0.7] * 4, *[0.85] * 10)) == 13, "the tenth at 0.8"
    assert first_yes(overlapping(*[0.85, 0.7] * 40)) is None, "eight of sixteen"


@pytest.mark.parametrize(("p", "n", "of"), [(1.1, 4, 6), (0.0, 4, 6), (0.9, 0, 6), (0.9, 7, 6)])
def test_evidence_out_of_range_is_refused(p: float, n: int, of: int) -> None:
    with pytest.raises(FrameError, match=f"{n} of {of} windows at {p}"):
        Evidence(p, n, of)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"confirm": []}, "no evidence would confirm"),
        ({"reject_p": 0.85}, "reject_p is 0.85"),
        ({"reject_p": 0.0}, "reject_p is 0.0"),
        ({"reject_ms": 0}, "reject_ms is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        SecondStage(RATE, **settings)  # type: ignore[arg-type]


def covered(heard: list[Window]) -> list[Window]:
    return [evolve(window, is_covered=True) for window in heard]


def test_what_an_echo_covers_neither_confirms_nor_rejects_while_it_may_be_speech() -> None:
    stage = second_stage()
    stage.suspect(0)
    heard = windows(0.95, *[0.95] * 9, *[0.0] * 6)
    # 192 ms are six windows, and count from the last one that may have been speech.
    assert answers(stage, [heard[0], *covered(heard[1:])]) == [
        (15, SpeechRejected(source="silero", onset_sample=0, probability=0.0))
    ]


def test_what_an_echo_covers_is_rejected_like_anything_else_where_it_is_no_speech() -> None:
    stage = second_stage()
    stage.suspect(0)
    heard = windows(0.95, *[0.1] * 9)
    assert [number for number, _ in answers(stage, [heard[0], *covered(heard[1:])])] == [6]


def test_nothing_begins_under_an_echo() -> None:
    stage = second_stage()
    assert told_by(stage, covered(windows(*[0.95] * 20))) == []


def test_who_is_heard_again_when_the_echo_is_over_is_confirmed() -> None:
    stage = second_stage()
    stage.suspect(0)
    heard = windows(*[0.95] * 12)
    told = answers(stage, [heard[0], *covered(heard[1:7]), *heard[7:]])
    assert told == [(10, confirmed(0))]
