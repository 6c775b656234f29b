"""The account of an interruption, as a script of facts."""

from __future__ import annotations

from framepipe.conversation.report import MAX_OPEN, InterruptionLog
from framepipe.frames import (
    AudioIn,
    Heard,
    Interrupt,
    InterruptionReport,
    InterruptionTotals,
    SpeechStarted,
)

MS = 1_000_000


def heard(samples: int, *, final: bool = True, complete: bool = False, item: str = "A1") -> Heard:
    return Heard(
        item_id=item,
        content_index=0,
        heard_samples=samples,
        received_samples=48_000,
        final=final,
        complete=complete,
    )


def muted_log() -> InterruptionLog:
    """Speech from sample 24,000 (1,000 ms), the agent silent at 1,030 ms."""
    log = InterruptionLog()
    log.audio_in(AudioIn(pcm=bytes(960), rate_hz=24_000, start_sample=24_000, at_ns=1_020 * MS))
    log.speech_started(SpeechStarted(source="local", onset_sample=24_000))
    log.held(3, 1_030 * MS)
    return log


def test_a_cut_is_reported_when_its_last_figure_is_known() -> None:
    log = muted_log()
    log.speech_started(SpeechStarted(source="server", onset_sample=24_100))

    cut = Interrupt(turn=3, onset_sample=24_000, cause="server", heard=(heard(12_000),))
    log.cut(cut, 1_130 * MS)
    log.truncate_sent("A1", 0, 500)
    log.cancel_sent("R1", 1_130 * MS)
    assert log.finished() == []
    log.response_ended("R1", 700.0, 1_330 * MS)
    assert log.finished() == [], "the words may undo it"
    log.dropped()

    assert log.finished() == [
        InterruptionReport(
            cause="server",
            verdict="cut",
            turn=3,
            onset_sample=24_000,
            onset_to_mute_ns=30 * MS,
            mute_to_verdict_ns=100 * MS,
            cancel_to_ack_ns=200 * MS,
            late_audio_dropped_ms=700.0,
            heard_ms=500.0,
            received_ms=2_000.0,
            audio_end_ms=500,
        )
    ]
    assert log.finished() == []


def test_a_mute_that_was_undone_is_a_false_alarm() -> None:
    log = muted_log()

    (report,) = log.released(1_530 * MS)

    assert report == InterruptionReport(
        cause="local",
        verdict="rejected",
        turn=3,
        onset_sample=24_000,
        onset_to_mute_ns=30 * MS,
        mute_to_verdict_ns=500 * MS,
        false_alarm=True,
    )
    assert log.released(1_600 * MS) == []


def test_a_position_that_was_an_estimate_keeps_the_account_open() -> None:
    log = muted_log()
    log.cut(Interrupt(turn=3, heard=(heard(12_000, final=False),)), 1_130 * MS)
    assert log.finished() == []

    log.settled(heard(12_240))

    (report,) = log.finished()
    assert report.heard_ms == 510.0


def test_a_button_is_reported_without_an_onset() -> None:
    log = InterruptionLog()

    log.cut(Interrupt(turn=1), 500 * MS)

    assert log.finished() == [
        InterruptionReport(cause="caller", verdict="cut", turn=1, mute_to_verdict_ns=0)
    ]


def test_the_audible_item_is_the_one_begun_and_not_finished() -> None:
    log = muted_log()
    account = (heard(48_000, complete=True, item="A0"), heard(2_400), heard(0, item="A2"))

    log.cut(Interrupt(turn=3, heard=account), 1_130 * MS)

    (report,) = log.finished()
    assert report.heard_ms == 100.0


def test_an_account_that_never_gets_its_last_figure_does_not_stay_for_ever() -> None:
    log = InterruptionLog()
    for number in range(MAX_OPEN + 2):
        log.cut(Interrupt(turn=number + 1), number * MS)
        log.cancel_sent(f"R{number}", number * MS)

    assert [report.turn for report in log.finished()] == [1, 2]
    assert len(log.close()) == MAX_OPEN
    assert log.close() == []


# --- what the words made of it --------------------------------------------------------------------


def cut_log() -> InterruptionLog:
    log = muted_log()
    cut = Interrupt(turn=3, onset_sample=24_000, cause="silero", heard=(heard(12_000),))
    log.cut(cut, 1_210 * MS)
    return log


def test_a_cut_that_is_taken_back_is_undone_and_a_false_alarm() -> None:
    log = cut_log()
    log.undone(1_900 * MS)
    (report,) = log.finished()
    assert (report.verdict, report.false_alarm) == ("undone", True)
    assert report.mute_to_verdict_ns == 180 * MS, "to the cut"


def test_only_the_cut_that_could_still_go_on_is_undone() -> None:
    log = cut_log()
    log.dropped()
    log.undone(1_900 * MS)
    assert [report.verdict for report in log.finished()] == ["cut"]


def test_going_on_while_the_user_speaks_is_a_wrong_undo() -> None:
    log = muted_log()
    log.released(1_530 * MS)
    log.speech_started(SpeechStarted(source="server", onset_sample=24_000))
    log.cut(Interrupt(turn=3, onset_sample=24_000, cause="server"), 1_700 * MS)
    (report,) = log.finished()
    assert report.wrong_undo
    assert not report.false_alarm


def test_going_on_before_the_user_speaks_is_none() -> None:
    log = muted_log()
    log.released(1_530 * MS)
    log.cut(Interrupt(turn=3, onset_sample=60_000, cause="server"), 2_600 * MS)
    (report,) = log.finished()
    assert not report.wrong_undo


def test_microphone_audio_that_was_skipped_after_the_onset_is_words_lost() -> None:
    log = cut_log()
    log.audio_sent(0, 12_000)
    log.audio_sent(14_400, 12_000)  # 100 ms before the onset
    log.audio_sent(28_800, 12_000)  # 100 ms after it
    log.dropped()
    (report,) = log.finished()
    assert report.words_lost_ms == 100.0


def test_audio_that_is_sent_again_is_not_lost() -> None:
    log = cut_log()
    for start_sample in (0, 24_000, 12_000, 36_000):
        log.audio_sent(start_sample, 24_000)
    log.dropped()
    assert log.finished()[0].words_lost_ms == 0.0


def test_the_totals_add_up_what_was_reported() -> None:
    log = muted_log()
    assert log.totals == InterruptionTotals()
    log.released(1_530 * MS)
    log.cut(Interrupt(turn=3, onset_sample=24_000, heard=(heard(12_000),)), 1_700 * MS)
    log.cancel_sent("R1", 1_700 * MS)
    log.response_ended("R1", 400.0, 1_950 * MS)
    log.dropped()
    log.finished()
    log.cut(Interrupt(turn=4, onset_sample=72_000, heard=(heard(12_000),)), 3_100 * MS)
    log.undone(3_800 * MS)
    log.finished()
    assert log.totals == InterruptionTotals(
        cut=1,
        rejected=1,
        undone=1,
        wrong_undos=1,
        late_audio_dropped_ms=400.0,
        longest_onset_to_mute_ns=700 * MS,
        longest_mute_to_verdict_ns=500 * MS,
        longest_cancel_to_ack_ns=250 * MS,
    )
