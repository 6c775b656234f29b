"""The playout ledger, as scripts. Ten samples are 1.25 ms here: audio of 8 kHz."""

from __future__ import annotations

import tracemalloc

import pytest
from attrs import evolve, frozen

from framepipe.conversation.playout import Output, PlayoutLedger
from framepipe.errors import FrameError
from framepipe.frames import (
    AudioDone,
    AudioOut,
    Drained,
    DropParked,
    End,
    Heard,
    Hold,
    Interrupt,
    Played,
    Problem,
    Release,
    ReplyReady,
)

MS = 1_000_000
RATE = 8_000
SAMPLES_PER_MS = 8


def audio(
    ms: int, *, start_ms: int = 0, turn: int = 1, item: str = "a", output: int = 0
) -> AudioOut:
    n, start = ms * SAMPLES_PER_MS, start_ms * SAMPLES_PER_MS
    pcm = b"".join((i % 30_000).to_bytes(2, "little") for i in range(start, start + n))
    return AudioOut(
        turn=turn, item_id=item, output_index=output, start_sample=start, pcm=pcm, rate_hz=RATE
    )


def done(ms: int, *, turn: int = 1, item: str | None = "a", output: int = 0) -> AudioDone:
    return AudioDone(turn=turn, item_id=item, output_index=output, n_samples=ms * SAMPLES_PER_MS)


def played(ms: int, *, handed_ms: int = 0, mute_ms: int | None = None, at_ms: int = 0) -> Played:
    return Played(
        handed_samples=handed_ms * SAMPLES_PER_MS,
        played_samples=ms * SAMPLES_PER_MS,
        rate_hz=RATE,
        mute_point=None if mute_ms is None else mute_ms * SAMPLES_PER_MS,
        at_ns=at_ms * MS,
    )


def cut(turn: int = 1, *, mute_ms: int | None = None) -> Interrupt:
    return Interrupt(turn=turn, mute_point=None if mute_ms is None else mute_ms * SAMPLES_PER_MS)


def heard(
    ms: int, received_ms: int, *, item: str | None = "a", final: bool = True, complete: bool = False
) -> Heard:
    return Heard(
        item_id=item,
        content_index=0,
        heard_samples=ms * SAMPLES_PER_MS,
        received_samples=received_ms * SAMPLES_PER_MS,
        final=final,
        rate_hz=RATE,
        complete=complete,
    )


def frames(ledger: PlayoutLedger, at_ms: int) -> list[Output]:
    out: list[Output] = []
    while (frame := ledger.next_frame(at_ms * MS)) is not None:
        out.append(frame)
    return out


@frozen
class Run:
    """Audio handed over, in milliseconds of its item."""

    turn: int
    item: str | None
    start_ms: int
    ms: int


def told(ledger: PlayoutLedger, at_ms: int) -> list[Output | Run]:
    return [
        Run(f.turn, f.item_id, f.start_sample // SAMPLES_PER_MS, f.n_samples // SAMPLES_PER_MS)
        if isinstance(f, AudioOut)
        else f
        for f in frames(ledger, at_ms)
    ]


def deadline_ms(ledger: PlayoutLedger) -> float | None:
    return None if ledger.deadline_ns is None else ledger.deadline_ns / MS


def play(ledger: PlayoutLedger, from_ms: int, to_ms: int) -> list[Output | Run]:
    out: list[Output | Run] = []
    for at_ms in range(from_ms, to_ms + 1):
        out += told(ledger, at_ms)
    return out


# --- pacing ---------------------------------------------------------------------------------------


def test_the_speaker_gets_sixty_milliseconds_and_then_twenty_at_a_time() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(200), 0)
    assert told(ledger, 0) == [ReplyReady(turn=1), Run(1, "a", 0, 60)]
    assert deadline_ms(ledger) == 20
    assert told(ledger, 19) == []
    assert told(ledger, 20) == [Run(1, "a", 60, 20)]
    assert deadline_ms(ledger) == 40
    assert told(ledger, 75) == [Run(1, "a", 80, 55)], "late, and no more than there is room for"


def test_what_is_handed_over_is_what_came_byte_for_byte() -> None:
    ledger = PlayoutLedger()
    whole = audio(500)
    ledger.receive(whole, 0)
    got = [f for at in range(500) for f in frames(ledger, at) if isinstance(f, AudioOut)]
    assert b"".join(f.pcm_bytes() for f in got) == whole.pcm_bytes()
    assert [f.start_sample for f in got][:3] == [0, 480, 640]


def test_a_frame_that_fits_passes_as_it_is() -> None:
    ledger = PlayoutLedger()
    short = audio(20)
    ledger.receive(short, 0)
    assert frames(ledger, 0)[1] is short


def test_a_report_that_the_card_is_slow_delays_the_next_block() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    ledger.receive(played(10, at_ms=10), 10 * MS)
    ledger.receive(played(12, at_ms=20), 20 * MS)
    assert told(ledger, 20) == []
    assert deadline_ms(ledger) == 28


def test_a_report_that_comes_late_counts_for_the_time_it_was_made() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    ledger.receive(played(10, at_ms=10), 18 * MS)
    assert deadline_ms(ledger) == 20


def test_a_device_slower_than_the_queue_is_long_does_not_run_dry() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(2_000), 0)
    handed = 0
    for at_ms in range(1_000):
        taken, ear = at_ms, max(0, at_ms - 200)
        if at_ms and at_ms % 10 == 0:
            ledger.receive(played(ear, at_ms=at_ms), at_ms * MS)
        handed += sum(run.ms for run in told(ledger, at_ms) if isinstance(run, Run))
        assert taken < handed <= taken + 61


def test_a_reply_that_stalls_goes_on_without_a_burst() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(100), 0)
    play(ledger, 0, 400)  # dry since 100
    ledger.receive(audio(500, start_ms=100), 400 * MS)
    assert told(ledger, 400) == [Run(1, "a", 100, 60)]
    assert deadline_ms(ledger) == 420


# --- the beginning and the end of a reply ---------------------------------------------------------


def test_a_reply_is_drained_when_its_last_sample_was_heard_and_its_parts_are_closed() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(40), 0)
    assert told(ledger, 0) == [ReplyReady(turn=1), Run(1, "a", 0, 40)]
    assert play(ledger, 1, 50) == [], "an underrun: more may come"
    ledger.receive(done(40), 50 * MS)
    assert told(ledger, 50) == [done(40), heard(40, 40, complete=True), Drained(turn=1)]


def test_the_end_of_a_part_passes_behind_its_last_sample() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(80), 0)
    ledger.receive(done(80), 0)
    assert told(ledger, 0)[-1] == Run(1, "a", 0, 60)
    assert told(ledger, 20) == [Run(1, "a", 60, 20), done(80)]
    assert deadline_ms(ledger) == 80
    assert told(ledger, 79) == []
    assert told(ledger, 80)[-1] == Drained(turn=1)


def test_a_response_without_audio_is_drained_at_once() -> None:
    ledger = PlayoutLedger()
    ledger.receive(done(0, item=None), 0)
    assert told(ledger, 0) == [done(0, item=None), Drained(turn=1)]


def test_the_next_turn_follows_without_a_gap_and_is_announced() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(30), 0)
    ledger.receive(done(30), 0)
    ledger.receive(audio(30, turn=2, item="b"), 0)
    assert told(ledger, 0) == [
        ReplyReady(turn=1),
        Run(1, "a", 0, 30),
        done(30),
        ReplyReady(turn=2),
        Run(2, "b", 0, 30),
    ]
    assert told(ledger, 30) == [heard(30, 30, complete=True), Drained(turn=1)]


def test_parts_that_interleave_on_the_wire_are_played_one_after_the_other() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(10, item="a", output=0), 0)
    ledger.receive(audio(10, item="b", output=1), 0)
    ledger.receive(audio(10, item="a", output=0, start_ms=10), 0)
    ledger.receive(done(20, item="a", output=0), 0)
    runs = [run for run in told(ledger, 0) if isinstance(run, Run)]
    assert runs == [Run(1, "a", 0, 10), Run(1, "a", 10, 10), Run(1, "b", 0, 10)]


def test_parts_are_played_in_their_place_and_not_by_arrival() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(10, item="b", output=1), 0)
    ledger.receive(audio(10, item="a", output=0), 0)
    ledger.receive(done(10, item="a", output=0), 0)
    runs = [run for run in told(ledger, 0) if isinstance(run, Run)]
    assert runs == [Run(1, "a", 0, 10), Run(1, "b", 0, 10)]


def test_the_end_waits_until_everything_was_heard() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(50), 0)
    told(ledger, 0)
    ledger.receive(End(), 0)
    assert told(ledger, 49) == []
    assert not ledger.is_over
    assert told(ledger, 50) == [heard(50, 50), Drained(turn=1)]
    assert ledger.is_over


# --- mute and go on -------------------------------------------------------------------------------


def test_a_hold_keeps_the_very_next_sample_and_the_clock_begins_anew() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(1_000), 0)
    told(ledger, 0)
    ledger.receive(Hold(), 10 * MS)
    ledger.receive(played(10, mute_ms=18, at_ms=10), 10 * MS)
    assert play(ledger, 10, 410) == []
    assert deadline_ms(ledger) is None
    ledger.receive(Release(), 410 * MS)
    assert told(ledger, 410) == [], "42 ms are still in the speaker"
    assert deadline_ms(ledger) == 412
    assert told(ledger, 412) == [Run(1, "a", 60, 20)]


def test_a_reply_that_is_held_at_its_announcement_keeps_its_first_sample() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(100), 0)
    assert ledger.next_frame(0) == ReplyReady(turn=1)
    ledger.receive(Hold(), 0)
    assert told(ledger, 500) == []
    ledger.receive(Release(), 600 * MS)
    assert told(ledger, 600) == [Run(1, "a", 0, 60)]


def test_a_mute_within_the_last_thirty_milliseconds_ends_with_the_reply() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(100), 0)
    ledger.receive(done(100), 0)
    play(ledger, 0, 80)
    ledger.receive(Hold(), 80 * MS)
    ledger.receive(played(80, mute_ms=100, at_ms=80), 80 * MS)  # the device had it all
    assert told(ledger, 99) == []
    assert told(ledger, 100) == [heard(100, 100, complete=True), Drained(turn=1)]


# --- cut ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device_ms", [0, 30, 200])
def test_what_the_device_had_at_the_cut_is_heard(device_ms: int) -> None:
    ledger = PlayoutLedger(ahead_ms=300)
    ledger.receive(audio(1_000), 0)
    told(ledger, 0)
    ledger.receive(played(50, at_ms=50), 50 * MS)
    frame = ledger.cut(cut(mute_ms=50 + device_ms), 50 * MS)
    assert frame.heard == (heard(50 + device_ms, 1_000),)
    assert told(ledger, 500) == []


def test_the_audible_item_is_cut_and_the_later_ones_were_never_heard() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(40, item="a"), 0)
    ledger.receive(done(40, item="a"), 0)
    ledger.receive(audio(400, item="b", output=1), 0)
    ledger.receive(audio(70, item="c", output=2), 0)
    play(ledger, 0, 100)
    frame = ledger.cut(cut(mute_ms=100), 100 * MS)
    assert frame.heard == (
        heard(40, 40, item="a", complete=True),
        heard(60, 400, item="b"),
        heard(0, 70, item="c"),
    )


def test_done_and_a_little_unheard_is_complete_but_an_underrun_is_not() -> None:
    for close in (True, False):
        ledger = PlayoutLedger()
        ledger.receive(audio(200), 0)
        if close:
            ledger.receive(done(200), 0)
        play(ledger, 0, 80)
        assert ledger.cut(cut(mute_ms=80), 80 * MS).heard == (heard(80, 200, complete=close),)
    ledger = PlayoutLedger()
    ledger.receive(audio(201), 0)
    ledger.receive(done(201), 0)
    play(ledger, 0, 80)
    assert ledger.cut(cut(mute_ms=80), 80 * MS).heard == (heard(80, 201),)


def test_an_unknown_mute_point_is_estimated_and_settled_by_the_report() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    frame = ledger.cut(cut(), 30 * MS)
    assert frame.heard == (heard(30, 500, final=False),)
    assert deadline_ms(ledger) == 180
    ledger.receive(played(60, mute_ms=37, at_ms=30), 120 * MS)
    assert told(ledger, 120) == [heard(37, 500)]
    assert deadline_ms(ledger) is None


def test_an_unknown_mute_point_is_settled_by_the_clock_when_the_report_is_lost() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    ledger.cut(cut(), 30 * MS)
    assert told(ledger, 179) == []
    assert told(ledger, 180) == [heard(30, 500)]


def test_a_mute_point_told_while_held_is_good_for_the_cut() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    ledger.receive(Hold(), 20 * MS)
    ledger.receive(played(20, mute_ms=28, at_ms=20), 20 * MS)
    assert ledger.cut(cut(), 300 * MS).heard == (heard(28, 500),)


def test_the_first_mute_point_told_while_held_stands() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    ledger.receive(Hold(), 20 * MS)
    ledger.receive(played(20, mute_ms=28, at_ms=20), 20 * MS)
    ledger.receive(played(28, mute_ms=40, at_ms=60), 60 * MS)
    assert ledger.cut(cut(), 300 * MS).heard == (heard(28, 500),)


def test_a_cut_ends_a_hold() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    ledger.receive(Hold(), 20 * MS)
    ledger.cut(cut(mute_ms=20), 200 * MS)
    ledger.receive(played(20, mute_ms=20, at_ms=200), 200 * MS)  # the stale report of the mute
    ledger.receive(audio(100, turn=2, item="b"), 300 * MS)
    assert told(ledger, 300) == [ReplyReady(turn=2), Run(2, "b", 0, 60)]


def test_a_cut_of_an_older_turn_takes_back_what_the_speaker_threw_away_of_the_newer() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(30), 0)
    ledger.receive(done(30), 0)
    ledger.receive(audio(300, turn=2, item="b"), 0)
    play(ledger, 0, 10)  # 30 ms of each are in the speaker, 10 are heard
    frame = ledger.cut(cut(turn=1, mute_ms=10), 10 * MS)
    assert frame.heard == (heard(10, 30, complete=True),)
    assert told(ledger, 10) == [ReplyReady(turn=2), Run(2, "b", 0, 30), Run(2, "b", 30, 30)]


def test_a_second_cut_has_nothing_more_to_say() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    told(ledger, 0)
    ledger.cut(cut(mute_ms=20), 20 * MS)
    assert ledger.cut(cut(), 70 * MS).heard == ()


def test_what_comes_after_its_cut_is_dropped_and_counted() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(500), 0)
    ledger.cut(cut(), 20 * MS)
    ledger.receive(audio(300, start_ms=500), 30 * MS)
    ledger.receive(done(800), 30 * MS)
    assert told(ledger, 30) == []
    assert ledger.late_samples == 300 * SAMPLES_PER_MS


def test_speech_after_the_response_is_done_cuts_what_still_plays() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(3_000), 0)
    ledger.receive(done(3_000), 0)
    play(ledger, 0, 700)
    assert ledger.cut(cut(mute_ms=700), 700 * MS).heard == (heard(700, 3_000),)


# --- undo -----------------------------------------------------------------------------------------


def test_an_undo_goes_on_with_the_very_next_sample_as_a_new_turn() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(100), 0)
    ledger.receive(done(100), 0)
    told(ledger, 0)
    ledger.cut(cut(mute_ms=25), 25 * MS)
    ledger.undo(2)
    assert told(ledger, 900) == [ReplyReady(turn=2), Run(2, "a", 25, 35), Run(2, "a", 60, 25)]
    assert told(ledger, 920) == [Run(2, "a", 85, 15), done(100, turn=2)]
    assert told(ledger, 975)[-1] == Drained(turn=2)


def test_an_undo_ends_where_a_part_is_not_complete() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(100, item="a", output=0), 0)
    ledger.receive(audio(100, item="b", output=1), 0)
    ledger.receive(done(100, item="b", output=1), 0)
    told(ledger, 0)
    ledger.cut(cut(mute_ms=50), 50 * MS)
    ledger.undo(2)
    said = play(ledger, 60, 400)
    runs = [run for run in said if isinstance(run, Run)]
    assert {run.item for run in runs} == {"a"}, "what follows a gap must not be heard"
    assert (runs[0].start_ms, sum(run.ms for run in runs)) == (50, 50)
    assert said[-1] == Drained(turn=2)


def test_an_undone_remainder_of_two_turns_keeps_its_order() -> None:
    ledger = PlayoutLedger()
    for item, output in (("a", 0), ("b", 1)):
        ledger.receive(audio(10, item=item, output=output), 0)
        ledger.receive(done(10, item=item, output=output), 0)
    ledger.receive(audio(100, turn=2, item="c", output=0), 0)
    told(ledger, 0)
    ledger.cut(cut(turn=2, mute_ms=5), 5 * MS)
    ledger.undo(3)
    runs = [run for run in play(ledger, 10, 300) if isinstance(run, Run)]
    items = [run.item for run in runs]
    assert (items[:2], set(items[2:])) == (["a", "b"], {"c"})


def test_an_undone_remainder_goes_before_a_newer_turn_and_can_be_cut_again() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(100), 0)
    told(ledger, 0)
    ledger.cut(cut(mute_ms=25), 25 * MS)
    ledger.receive(Hold(), 30 * MS)
    ledger.receive(audio(10, turn=2, item="b"), 30 * MS)
    ledger.undo(3)
    ledger.receive(Release(), 40 * MS)
    assert told(ledger, 40)[:2] == [ReplyReady(turn=3), Run(3, "a", 25, 35)]
    frame = ledger.cut(cut(turn=3, mute_ms=70), 50 * MS)
    assert frame.heard == (heard(35, 100), heard(0, 10, item="b"))


def test_an_undo_with_nothing_parked_is_an_empty_turn() -> None:
    ledger = PlayoutLedger()
    ledger.undo(1)
    assert told(ledger, 0) == [Drained(turn=1)]


def test_what_is_parked_goes_when_it_is_dropped_or_something_newer_is_heard() -> None:
    for drop in (True, False):
        ledger = PlayoutLedger()
        ledger.receive(audio(100), 0)
        told(ledger, 0)
        ledger.cut(cut(mute_ms=25), 25 * MS)
        assert ledger.waiting_bytes == 40 * SAMPLES_PER_MS * 2
        if drop:
            ledger.receive(DropParked(), 30 * MS)
        else:
            ledger.receive(audio(10, turn=2, item="b"), 30 * MS)
            told(ledger, 30)
        assert ledger.waiting_bytes == 0
        ledger.undo(3)
        assert not [run for run in told(ledger, 40) if isinstance(run, Run)]


# --- limits and errors ----------------------------------------------------------------------------


def test_more_than_the_capacity_is_refused_aloud_and_the_rest_of_the_part_with_it() -> None:
    ledger = PlayoutLedger(capacity_bytes=100 * SAMPLES_PER_MS * 2)
    ledger.receive(audio(100), 0)
    ledger.receive(audio(50, start_ms=100), 0)
    ledger.receive(audio(1, start_ms=150), 0)
    problem = ledger.next_frame(0)
    assert isinstance(problem, Problem)
    assert problem.code == "playout_full"
    assert "1600 bytes of audio wait and 1600 may; the rest of item 'a'" in problem.message
    assert ledger.refused_samples == 51 * SAMPLES_PER_MS
    ledger.receive(done(151), 0)
    assert play(ledger, 0, 100)[-2:] == [heard(100, 100), Drained(turn=1)], "not complete"


def test_a_gap_in_a_part_is_the_senders_fault() -> None:
    ledger = PlayoutLedger()
    with pytest.raises(FrameError, match=r"'a' starts at sample 80, but 0 have come"):
        ledger.receive(audio(10, start_ms=10), 0)


def test_a_second_format_is_refused_with_the_way_out() -> None:
    ledger = PlayoutLedger()
    ledger.receive(audio(10), 0)
    with pytest.raises(FrameError, match=r"put Resample\(8000\) before Playout"):
        ledger.receive(evolve(audio(10, turn=2), rate_hz=16_000), 0)


def test_a_block_longer_than_the_queue_is_refused() -> None:
    with pytest.raises(FrameError, match="block_ms is 20 and ahead_ms 10"):
        PlayoutLedger(ahead_ms=10)


def test_memory_does_not_grow_with_the_length_of_a_call() -> None:
    ledger = PlayoutLedger()

    def turns(first: int, last: int) -> None:
        for turn in range(first, last):
            at_ms = turn * 100
            ledger.receive(audio(80, turn=turn), at_ms * MS)
            ledger.receive(done(80, turn=turn), at_ms * MS)
            for step in range(0, 100, 20):
                frames(ledger, at_ms + step)

    turns(1, 50)
    tracemalloc.start()
    turns(50, 300)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 50_000
