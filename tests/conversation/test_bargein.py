"""The barge-in table, cell by cell where it matters, as scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from framepipe.conversation.backchannels import Meaning
from framepipe.conversation.bargein import BargeInCore, SecondStageReady
from framepipe.conversation.bargein_table import TABLE, Event, State
from framepipe.conversation.third_stage import TranscriptVerdict
from framepipe.errors import FrameError
from framepipe.frames import (
    ConnectionState,
    Drained,
    DropParked,
    Hold,
    Interrupt,
    Mute,
    Problem,
    Release,
    ReplyPending,
    ReplyReady,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    Undo,
    Unmute,
)

MS = 1_000_000
S = 1_000 * MS


def local(onset_sample: int = 480) -> SpeechStarted:
    return SpeechStarted(source="local", onset_sample=onset_sample)


def local_quiet(end_sample: int = 960) -> SpeechStopped:
    return SpeechStopped(source="local", end_sample=end_sample)


def server(onset_sample: int = 400, item_id: str | None = "user1") -> SpeechStarted:
    return SpeechStarted(source="server", onset_sample=onset_sample, item_id=item_id)


def server_quiet(end_sample: int = 9_600) -> SpeechStopped:
    return SpeechStopped(source="server", end_sample=end_sample)


def words(item_id: str = "user1") -> TranscriptVerdict:
    return TranscriptVerdict(item_id, Meaning.WORDS)


def backchannel(item_id: str = "user1", *, after_question: bool = False) -> TranscriptVerdict:
    return TranscriptVerdict(item_id, Meaning.BACKCHANNEL, after_question=after_question)


def nothing(item_id: str = "user1", *, after_question: bool = False) -> TranscriptVerdict:
    return TranscriptVerdict(item_id, Meaning.NOTHING, after_question=after_question)


def no_text(item_id: str = "user1") -> TranscriptVerdict:
    return TranscriptVerdict(item_id, None)


def speaking(*, two: bool = False, turn: int = 1) -> BargeInCore:
    core = BargeInCore(two=two)
    assert core.receive(ReplyPending(turn=turn), 0) == []
    assert core.receive(ReplyReady(turn=turn), 0) == []
    assert core.state is State.SPEAKING
    return core


def suspect(*, two: bool = False) -> BargeInCore:
    core = speaking(two=two)
    assert core.receive(local(), 1 * S) == [Mute(), Hold()]
    assert core.state is State.SUSPECT
    return core


def cut(*, two: bool = False) -> BargeInCore:
    core = suspect(two=two)
    core.receive(
        SpeechConfirmed(source="second", onset_sample=480, probability=0.9) if two else server(),
        1 * S + 200 * MS,
    )
    assert core.state is State.CUT
    return core


def waiting() -> BargeInCore:
    core = BargeInCore()
    core.receive(server(), 0)
    assert core.receive(ReplyReady(turn=1), 10 * MS) == [Hold(audible=False)]
    assert core.state is State.WAIT
    return core


# --- without a second stage -----------------------------------------------------------------------


def test_a_local_edge_over_the_agent_mutes_and_the_service_confirms() -> None:
    core = speaking()
    assert core.receive(local(480), 1 * S) == [Mute(), Hold()]
    assert core.deadline_ns == 1 * S + 500 * MS
    orders = core.receive(server(400), 1 * S + 200 * MS)
    assert orders == [Interrupt(turn=1, onset_sample=480, cause="server")]
    assert core.state is State.CUT


def test_a_mute_that_nobody_confirms_is_taken_back_at_the_deadline() -> None:
    core = suspect()
    deadline = core.deadline_ns
    assert deadline is not None
    assert core.deadline_reached(deadline - 1) == []
    assert core.deadline_reached(deadline) == [Release(), Unmute()]
    assert core.state is State.SPEAKING
    assert core.deadline_ns is None


def test_the_service_alone_mutes_and_cuts_at_once() -> None:
    core = speaking()
    assert core.receive(server(400), 1 * S) == [
        Interrupt(turn=1, onset_sample=400, cause="server"),
    ]


def test_a_verdict_after_the_resume_still_cuts() -> None:
    core = suspect()
    core.deadline_reached(1 * S + 500 * MS)
    assert core.receive(server(), 1 * S + 600 * MS) == [
        Interrupt(turn=1, onset_sample=480, cause="server"),
    ]


def test_speech_over_nothing_mutes_nothing() -> None:
    core = BargeInCore()
    assert core.receive(local(), 0) == []
    assert core.receive(server(), 100 * MS) == []
    assert core.state is State.IDLE


def test_a_second_edge_while_muted_changes_nothing() -> None:
    core = suspect()
    deadline = core.deadline_ns
    assert core.receive(local(900), 1 * S + 100 * MS) == []
    assert core.deadline_ns == deadline


def test_a_second_beginning_inside_the_hangover_of_a_rejected_one_mutes_again() -> None:
    core = suspect(two=True)
    core.receive(SpeechRejected(source="silero", onset_sample=480, probability=0.1), 1 * S)
    assert core.receive(local(900), 1 * S + 50 * MS) == [], "webrtcvad may hang on"
    edge = SpeechStarted(source="silero", onset_sample=1_200)
    assert core.receive(edge, 1 * S + 60 * MS) == [Mute(), Hold()]


def test_an_ear_that_was_wrong_too_often_is_not_believed_in_another_voice() -> None:
    core = speaking(two=True)
    for nth in range(3):
        at_ns = (1 + nth) * 500 * MS
        assert core.receive(SpeechStarted(source="silero", onset_sample=nth), at_ns)
        core.receive(
            SpeechRejected(source="silero", onset_sample=nth, probability=0.1), at_ns + 200 * MS
        )
    assert core.receive(SpeechStarted(source="silero", onset_sample=9), 2 * S) == []
    assert core.receive(SpeechStarted(source="silero", onset_sample=9), 8 * S) == [Mute(), Hold()]


def test_a_mute_in_the_last_moment_of_a_reply_ends_when_the_reply_does() -> None:
    core = suspect()
    assert core.receive(Drained(turn=1), 1 * S + 30 * MS) == [Release(), Unmute()]
    assert core.state is State.IDLE
    assert core.deadline_ns is None


def test_the_end_of_an_older_reply_is_not_the_end_of_this_one() -> None:
    core = speaking(turn=1)
    core.receive(ReplyReady(turn=2), 1)
    assert core.receive(Drained(turn=1), 2) == []
    assert core.state is State.SPEAKING


# --- which turns ----------------------------------------------------------------------------------


def test_a_cut_takes_what_is_pending_with_it_since_its_cause_is_older_than_the_speech() -> None:
    core = speaking()
    core.receive(ReplyPending(turn=2), 1)
    core.receive(local(), 1 * S)
    assert core.receive(server(), 1 * S + 100 * MS) == [
        Interrupt(turn=2, onset_sample=480, cause="server")
    ]


def test_an_answer_that_is_pending_is_cut_when_the_user_goes_on_speaking() -> None:
    core = BargeInCore()
    core.receive(ReplyPending(turn=1), 0)
    assert core.receive(server(400), 1) == [Interrupt(turn=1, onset_sample=400, cause="server")]
    assert core.receive(server(800), 2) == [], "named once"


def test_a_late_yes_never_cuts_the_answer_to_the_speech_it_is_about() -> None:
    core = speaking(two=True)
    core.receive(local(48_000), 1 * S)
    core.receive(server(47_000), 1 * S + 100 * MS)
    core.receive(server_quiet(55_000), 1 * S + 400 * MS)
    core.receive(ReplyPending(turn=2), 1 * S + 500 * MS)
    yes = SpeechConfirmed(source="second", onset_sample=48_000, probability=0.9)
    assert core.receive(yes, 1 * S + 550 * MS) == [
        Interrupt(turn=1, onset_sample=48_000, cause="second")
    ]
    assert core.receive(ReplyReady(turn=2), 1 * S + 600 * MS)[:1] == [DropParked()]
    assert core.receive(yes, 1 * S + 700 * MS) == []


def test_a_late_yes_about_speech_that_was_answered_holds_no_later_reply() -> None:
    core = BargeInCore(two=True)
    core.receive(server(47_000), 1 * S)
    core.receive(server_quiet(55_000), 1 * S + 400 * MS)
    core.receive(ReplyPending(turn=1), 1 * S + 500 * MS)
    core.receive(ReplyReady(turn=1), 1 * S + 600 * MS)
    yes = SpeechConfirmed(source="second", onset_sample=48_000, probability=0.9)
    assert core.receive(yes, 1 * S + 700 * MS) == []
    core.receive(Drained(turn=1), 2 * S)
    core.receive(ReplyPending(turn=2), 2 * S)
    assert core.receive(ReplyReady(turn=2), 2 * S) == [], "the user does not speak"
    assert core.state is State.SPEAKING


def test_the_committed_first_half_of_a_sentence_does_not_shield_its_answer() -> None:
    core = speaking(two=True)
    core.receive(server_quiet(40_000), 1 * S)  # ended before the onset
    core.receive(ReplyPending(turn=2), 1 * S)
    core.receive(local(48_000), 1 * S)
    yes = SpeechConfirmed(source="second", onset_sample=48_000, probability=0.9)
    assert core.receive(yes, 2 * S)[-1:] == [Interrupt(turn=2, onset_sample=48_000, cause="second")]


def test_words_of_the_item_that_caused_the_reply_do_not_cut_it() -> None:
    core = BargeInCore()
    core.receive(server(400, "user1"), 0)
    core.receive(server_quiet(), 1 * S)
    core.receive(ReplyPending(turn=1), 1 * S)
    core.receive(ReplyReady(turn=1), 2 * S)
    assert core.receive(words("user1"), 2 * S) == []
    assert core.receive(words("nobody"), 2 * S) == []


def test_its_own_interrupt_that_comes_by_changes_nothing() -> None:
    core = cut()
    deadline = core.deadline_ns
    assert core.receive(Interrupt(turn=1), 2 * S) == []
    assert (core.state, core.deadline_ns) == (State.CUT, deadline)


def test_a_cut_of_older_answers_that_only_the_service_side_knew_leaves_the_undo_possible() -> None:
    core = cut()
    core.receive(ReplyPending(turn=2), 2 * S)
    assert core.receive(Interrupt(turn=2, onset_sample=480, cause="server"), 2 * S) == []
    assert core.state is State.CUT
    assert core.receive(ReplyReady(turn=2), 2 * S) == []


@pytest.mark.parametrize("make", [speaking, suspect, waiting])
def test_the_stop_button_ends_every_state_and_drops_what_was_parked(
    make: Callable[[], BargeInCore],
) -> None:
    core = make()
    assert core.receive(Interrupt(turn=1), 2 * S) == [DropParked()]
    assert (core.state, core.deadline_ns) == (State.IDLE, None)


def test_the_stop_button_after_a_cut_drops_what_was_parked() -> None:
    core = cut()
    assert core.receive(Interrupt(turn=2), 2 * S) == [DropParked()]
    assert core.state is State.IDLE


def test_two_interruptions_fifty_milliseconds_apart_name_the_turn_once() -> None:
    core = speaking()
    first = core.receive(server(400, "user1"), 1 * S)
    second = core.receive(server(900, "user2"), 1 * S + 50 * MS)
    assert [type(order) for order in first] == [Interrupt]
    assert second == []
    assert core.deadline_ns == 3 * S + 50 * MS


def test_a_reply_of_a_turn_that_was_cut_is_not_heard_of_again() -> None:
    core = cut()
    assert core.receive(ReplyReady(turn=1), 2 * S) == []
    assert core.receive(ReplyPending(turn=1), 2 * S) == []
    assert core.state is State.CUT


# --- waiting for the user -------------------------------------------------------------------------


def test_a_reply_waits_while_the_user_certainly_speaks_and_three_seconds_at_most() -> None:
    core = waiting()
    assert core.deadline_ns == 10 * MS + 3 * S
    assert core.deadline_reached(10 * MS + 3 * S) == [Release()]
    assert core.state is State.SPEAKING


def test_a_reply_that_waited_is_cut_when_the_user_has_finished_a_new_sentence() -> None:
    core = waiting()
    assert core.receive(server_quiet(), 1 * S) == [
        Interrupt(turn=1, onset_sample=400, cause="server"),
        DropParked(),
    ]
    assert core.state is State.IDLE


def test_a_reply_after_a_cut_ends_what_was_parked_and_waits_for_the_speech() -> None:
    core = cut()
    assert core.receive(ReplyReady(turn=2), 2 * S) == [DropParked(), Hold(audible=False)]
    assert core.state is State.WAIT


def test_a_reply_after_a_cut_plays_once_the_user_is_quiet() -> None:
    core = cut()
    core.receive(server_quiet(), 2 * S)
    assert core.receive(ReplyReady(turn=2), 2 * S + 300 * MS) == [DropParked()]
    assert core.state is State.SPEAKING


def test_a_waiting_reply_that_is_empty_ends_the_wait() -> None:
    core = waiting()
    assert core.receive(Drained(turn=1), 1 * S) == [Release()]
    assert core.state is State.IDLE


# --- undo -----------------------------------------------------------------------------------------


def test_what_is_parked_is_dropped_two_seconds_after_the_speech() -> None:
    core = cut()
    core.receive(server_quiet(), 3 * S)
    assert core.deadline_reached(4 * S) == []
    assert core.deadline_reached(5 * S) == [DropParked()]
    assert core.state is State.IDLE


def test_a_backchannel_is_swallowed_and_the_reply_goes_on_as_a_new_turn() -> None:
    core = cut()
    assert core.receive(backchannel("user1"), 2 * S) == [
        Swallow(item_id="user1"),
        Undo(),
    ]
    assert core.state is State.SPEAKING
    core.receive(ReplyPending(turn=2), 2 * S)
    core.receive(ReplyReady(turn=2), 2 * S)
    assert core.receive(server(90_000, "user2"), 3 * S)[-1] == Interrupt(
        turn=2, onset_sample=90_000, cause="server"
    )


def test_an_undo_with_nothing_parked_ends_when_the_empty_turn_does() -> None:
    core = cut()
    core.receive(backchannel("user1"), 2 * S)
    core.receive(ReplyPending(turn=2), 2 * S)
    assert core.receive(Drained(turn=2), 2 * S) == []
    assert core.state is State.IDLE


def test_words_after_a_cut_make_it_final() -> None:
    core = cut()
    assert core.receive(words("user1"), 2 * S) == [DropParked()]
    assert core.state is State.IDLE


def test_yeah_into_a_silence_is_an_answer_and_is_not_swallowed() -> None:
    core = BargeInCore()
    core.receive(server(400, "user1"), 0)
    core.receive(server_quiet(), 1 * S)
    assert core.receive(backchannel("user1"), 2 * S) == []


def test_what_is_not_undone_in_time_is_answered_and_not_swallowed() -> None:
    core = cut()
    core.deadline_reached(10 * S)
    assert core.receive(backchannel(), 11 * S) == [], "else nobody would speak"


# --- with a second stage --------------------------------------------------------------------------


def test_with_a_second_stage_the_services_word_only_restarts_the_deadline() -> None:
    core = suspect(two=True)
    assert core.receive(server(), 1 * S + 100 * MS) == []
    assert core.state is State.SUSPECT
    assert core.deadline_ns == 1 * S + 600 * MS
    yes = SpeechConfirmed(source="second", onset_sample=480, probability=0.9)
    assert core.receive(yes, 1 * S + 128 * MS) == [
        Interrupt(turn=1, onset_sample=480, cause="second")
    ]


def test_with_a_second_stage_the_service_mutes_but_does_not_cut() -> None:
    core = speaking(two=True)
    assert core.receive(server(), 1 * S) == [Mute(), Hold()]
    assert core.state is State.SUSPECT


def test_a_no_of_the_second_stage_resumes_and_disarms_until_it_has_been_quiet() -> None:
    core = suspect(two=True)
    no = SpeechRejected(source="second", onset_sample=480, probability=0.1)
    assert core.receive(no, 1 * S + 192 * MS) == [Release(), Unmute()]
    core.receive(local_quiet(), 1 * S + 300 * MS)
    assert core.receive(local(), 1 * S + 350 * MS) == []
    assert core.statistics().unarmed_edges == 1
    core.receive(local_quiet(), 1 * S + 400 * MS)
    assert core.receive(local(), 1 * S + 500 * MS) == [Mute(), Hold()]


def test_a_no_ends_the_wait() -> None:
    core = waiting()
    no = SpeechRejected(source="second", onset_sample=480, probability=0.1)
    assert core.receive(no, 100 * MS) == [Release()]
    assert core.state is State.SPEAKING


# --- the local detector's credit ------------------------------------------------------------------


def mute_in_vain(core: BargeInCore, at_ns: int) -> bool:
    muted = core.receive(local(), at_ns) == [Mute(), Hold()]
    if muted:
        assert core.deadline_ns is not None
        core.deadline_reached(core.deadline_ns)
    core.receive(local_quiet(), at_ns + 600 * MS)
    return muted


def test_three_wrong_mutes_in_five_seconds_are_enough() -> None:
    core = speaking()
    assert [mute_in_vain(core, t * S) for t in (1, 2, 3, 4, 5)] == [True, True, True, False, False]
    assert mute_in_vain(core, 6 * S + 600 * MS), "five seconds after the first"


def test_a_mute_that_the_service_confirmed_late_was_not_wrong() -> None:
    core = BargeInCore()
    for k in range(8):
        core.receive(ReplyReady(turn=k + 1), k * S)
        assert core.receive(local(), k * S) == [Mute(), Hold()], f"mute {k}"
        assert core.deadline_ns is not None
        core.deadline_reached(core.deadline_ns)
        core.receive(server(), k * S + 700 * MS)
        core.receive(server_quiet(), k * S + 750 * MS)
        core.receive(local_quiet(), k * S + 750 * MS)


def late_by(core: BargeInCore, ms: int, times: int) -> int:
    for k in range(times):
        core.receive(local(), k * 10 * S)
        core.receive(server(), k * 10 * S + ms * MS)
        core.receive(server_quiet(), k * 10 * S + 2 * S)
    return core.reject_ns(0) // MS


def test_the_reject_deadline_follows_the_lateness_of_the_service() -> None:
    assert BargeInCore().reject_ns(0) == 500 * MS
    assert late_by(BargeInCore(), 300, times=20) == 360
    assert late_by(BargeInCore(), 100, times=20) == 250, "not below"
    assert late_by(BargeInCore(), 1_500, times=20) == 1_000, "not above"
    assert late_by(BargeInCore(), 600, times=1) == 660, "one is enough to wait longer"
    assert late_by(BargeInCore(), 300, times=4) == 500, "but not to wait less"


def test_one_late_verdict_in_twenty_does_not_move_the_deadline() -> None:
    core = BargeInCore()
    late_by(core, 900, times=1)
    assert late_by(core, 300, times=19) == 360


def test_a_verdict_about_something_else_is_not_measured() -> None:
    core = BargeInCore()
    core.receive(local(), 0)
    core.receive(server(7_777, "user1"), 60 * S)
    assert core.reject_ns(0) == 500 * MS


def test_with_a_second_stage_the_deadline_is_fixed() -> None:
    assert late_by(BargeInCore(two=True), 900, times=20) == 500


# --- the rest -------------------------------------------------------------------------------------


def test_a_lost_connection_leaves_a_muted_agent_to_its_deadline() -> None:
    gone = ConnectionState(state="reconnecting")
    core = suspect()
    assert core.receive(gone, 2 * S) == []
    assert core.state is State.SUSPECT
    assert cut().receive(gone, 2 * S) == [DropParked()]
    assert cut().receive(ConnectionState(state="open"), 2 * S) == []


def test_a_lost_connection_ends_the_speech_that_it_told_of() -> None:
    core = BargeInCore()
    core.receive(server(), 0)
    core.receive(ConnectionState(state="closed"), 1)
    assert core.receive(ReplyReady(turn=1), 2) == []
    assert core.state is State.SPEAKING


def test_every_order_says_when_and_the_cause_can_be_named() -> None:
    core = BargeInCore(cause="barge-in")
    core.receive(ReplyReady(turn=1), 0)
    orders = core.receive(server(), 5 * MS)
    assert {order.at_ns for order in orders} == {5 * MS}
    assert orders[-1] == Interrupt(turn=1, onset_sample=400, cause="barge-in")


def test_settings_that_make_no_sense_are_refused_by_name() -> None:
    with pytest.raises(FrameError, match="undo_ms is 0; it must be 1 or more"):
        BargeInCore(undo_ms=0)


def test_the_table_has_a_way_out_of_every_state_that_waits() -> None:
    for state in (State.SUSPECT, State.CUT, State.WAIT):
        assert TABLE[Event.DEADLINE][state].to not in (None, state)
    assert State.IDLE not in TABLE[Event.DEADLINE]
    assert State.SPEAKING not in TABLE[Event.DEADLINE]


def ready_for_two(core: BargeInCore) -> BargeInCore:
    core.receive(ReplyPending(turn=1), 0)
    core.receive(ReplyReady(turn=1), 0)
    return core


def test_a_second_stage_that_is_announced_makes_the_service_a_witness_from_the_first_word() -> None:
    core = BargeInCore()
    assert core.receive(SecondStageReady(source="silero"), 0) == []
    ready_for_two(core)
    assert core.receive(server(), 1 * S) == [Mute(), Hold()]
    assert core.state is State.SUSPECT


def test_a_second_stage_that_is_not_announced_is_known_from_its_first_verdict() -> None:
    core = BargeInCore()
    core.receive(SpeechRejected(source="mine", onset_sample=0, probability=0.1), 0)
    ready_for_two(core)
    core.receive(server(), 1 * S)
    assert core.state is State.SUSPECT


def test_whoever_says_that_there_is_no_second_stage_is_believed() -> None:
    core = BargeInCore(two=False)
    core.receive(SecondStageReady(source="silero"), 0)
    ready_for_two(core)
    core.receive(server(), 1 * S)
    assert core.state is State.CUT


# --- the third stage ------------------------------------------------------------------------------


def over(core: BargeInCore, item_id: str = "user1", *, end_sample: int = 9_600) -> BargeInCore:
    """The speech over the agent is over, as the service has it."""
    core.receive(
        SpeechStopped(source="server", end_sample=end_sample, item_id=item_id), 1 * S + 700 * MS
    )
    return core


def answered() -> BargeInCore:
    """A short interruption whose answer is ready before its words."""
    core = BargeInCore(transcripts=True)
    core.receive(ReplyPending(turn=1), 0)
    core.receive(ReplyReady(turn=1), 0)
    core.receive(server(), 1 * S)
    over(core)
    core.receive(ReplyPending(turn=2), 1 * S + 700 * MS)
    assert core.receive(ReplyReady(turn=2), 2 * S) == [Hold(audible=False)]
    assert core.state is State.DOUBT
    return core


def test_the_answer_to_a_short_interruption_waits_300_ms_for_its_words() -> None:
    core = answered()
    assert core.deadline_ns == 2 * S + 300 * MS
    assert core.deadline_reached(2 * S + 300 * MS) == [DropParked(), Release()]
    assert core.state is State.SPEAKING


def test_words_let_the_waiting_answer_go() -> None:
    core = answered()
    assert core.receive(words(), 2 * S + 100 * MS) == [DropParked(), Release()]
    assert core.state is State.SPEAKING


def test_a_backchannel_swallows_the_waiting_answer_and_lets_the_old_one_go_on() -> None:
    core = answered()
    assert core.receive(backchannel(), 2 * S + 100 * MS) == [
        Swallow(item_id="user1"),
        Undo(),
        Release(),
    ]
    core.receive(ReplyPending(turn=3), 2 * S + 100 * MS)
    core.receive(Drained(turn=2), 2 * S + 100 * MS)
    assert core.receive(server(90_000, "user2"), 4 * S)[-1] == Interrupt(
        turn=3, onset_sample=90_000, cause="server"
    )


def test_the_late_text_of_a_yeah_into_a_silence_swallows_nothing_while_an_answer_waits() -> None:
    core = BargeInCore(transcripts=True)
    core.receive(server(400, "yeah"), 0)
    core.receive(server_quiet(4_800), 200 * MS)
    core.receive(ReplyPending(turn=1), 300 * MS)
    core.receive(ReplyReady(turn=1), 300 * MS)
    core.receive(server(24_000, "user1"), 1 * S)
    over(core, end_sample=33_600)
    core.receive(ReplyPending(turn=2), 1 * S + 700 * MS)
    core.receive(ReplyReady(turn=2), 2 * S)
    assert core.state is State.DOUBT
    assert core.receive(backchannel("yeah"), 2 * S + 100 * MS) == []
    assert core.receive(words("user1"), 2 * S + 200 * MS) == [DropParked(), Release()]


def test_new_speech_while_the_answer_waits_for_words_makes_it_wait_for_the_speech() -> None:
    core = answered()
    assert core.receive(server(60_000, "user2"), 2 * S + 100 * MS) == [DropParked()]
    assert core.state is State.WAIT


def test_without_transcripts_no_answer_waits_for_words() -> None:
    core = over(cut())
    assert core.receive(ReplyReady(turn=2), 2 * S) == [DropParked()]


@pytest.mark.parametrize("verdict", [backchannel, nothing])
def test_after_a_question_a_short_word_is_an_answer(
    verdict: Callable[..., TranscriptVerdict],
) -> None:
    core = cut(two=True)
    core.receive(server(), 1 * S + 250 * MS)
    over(core)
    assert core.receive(verdict(after_question=True), 2 * S) == [DropParked()]
    assert core.state is State.IDLE


def test_noise_after_a_question_that_nobody_confirmed_is_still_noise() -> None:
    core = suspect(two=True)
    core.receive(server(), 1 * S + 100 * MS)
    core.deadline_reached(2 * S)
    over(core)
    assert core.state is State.SPEAKING
    assert core.receive(nothing(after_question=True), 2 * S) == []


def test_no_text_means_no_undo() -> None:
    core = over(cut())
    assert core.receive(no_text(), 2 * S) == [DropParked()]
    assert core.state is State.IDLE


def test_there_is_no_undo_while_more_was_said_that_is_not_known_yet() -> None:
    core = over(cut())
    core.receive(server(48_000, "user2"), 1 * S + 800 * MS)
    over(core, "user2", end_sample=60_000)
    assert core.receive(backchannel("user1"), 2 * S) == [Swallow(item_id="user1")]
    assert core.state is State.CUT
    assert core.receive(words("user2"), 2 * S + 100 * MS) == [DropParked()]


def test_there_is_no_undo_while_the_user_speaks_on() -> None:
    core = over(cut())
    core.receive(server(48_000, "user2"), 1 * S + 800 * MS)
    assert core.receive(backchannel("user1"), 2 * S) == [Swallow(item_id="user1")]
    assert core.state is State.CUT


def test_a_turn_that_nobody_believes_in_is_swallowed_when_the_service_ends_it() -> None:
    core = suspect(two=True)
    core.receive(server(), 1 * S + 100 * MS)
    core.deadline_reached(2 * S)
    stopped = SpeechStopped(source="server", end_sample=9_600, item_id="user1")
    assert core.receive(stopped, 2 * S + 100 * MS) == [Swallow(item_id="user1")]


def test_a_turn_that_ends_in_a_suspicion_is_swallowed_when_that_is_rejected() -> None:
    core = suspect(two=True)
    core.receive(server(), 1 * S + 100 * MS)
    over(core)
    no = SpeechRejected(source="second", onset_sample=480, probability=0.1)
    assert core.receive(no, 1 * S + 750 * MS) == [Release(), Unmute(), Swallow(item_id="user1")]


def test_with_transcripts_a_rejected_turn_waits_for_its_words() -> None:
    core = BargeInCore(two=True, transcripts=True)
    ready_for_two(core)
    core.receive(server(), 1 * S)
    core.deadline_reached(2 * S)
    stopped = SpeechStopped(source="server", end_sample=9_600, item_id="user1")
    assert core.receive(stopped, 2 * S) == []
    assert core.receive(words(), 2 * S + 300 * MS) == [
        Interrupt(turn=1, onset_sample=400, cause="transcript"),
        DropParked(),
    ]


def test_whether_words_come_is_known_from_the_connection() -> None:
    core = BargeInCore(two=True)
    core.receive(ConnectionState(state="open", transcripts=True), 0)
    ready_for_two(core)
    core.receive(server(), 1 * S)
    core.deadline_reached(2 * S)
    stopped = SpeechStopped(source="server", end_sample=9_600, item_id="user1")
    assert core.receive(stopped, 2 * S) == [], "the words decide"


def test_speech_that_the_service_never_heard_is_over_when_it_is_quiet_here() -> None:
    core = cut(two=True)
    assert core.receive(local_quiet(), 1 * S + 500 * MS) == []
    assert core.receive(ReplyReady(turn=2), 2 * S) == [DropParked()]
    assert core.state is State.SPEAKING, "it does not wait for three seconds"


def test_what_was_decided_is_counted() -> None:
    core = cut(two=True)
    core.receive(server(), 1 * S + 250 * MS)
    over(core)
    core.receive(backchannel(), 2 * S)
    told = core.statistics()
    assert (told.mutes, told.cuts, told.undos, told.swallows, told.resumes) == (1, 1, 1, 1, 0)


# --- which edge began it --------------------------------------------------------------------------


def test_a_speech_began_with_the_edge_that_is_nearest_to_where_the_service_heard_it() -> None:
    core = speaking()
    core.receive(local(1_000), 1 * S)  # a click
    core.deadline_reached(1 * S + 500 * MS)
    core.receive(local_quiet(), 1 * S + 600 * MS)
    core.receive(local(20_000), 1 * S + 800 * MS)  # the first word
    core.receive(local(26_000), 1 * S + 900 * MS)
    assert core.receive(server(21_000), 1 * S + 950 * MS) == [
        Interrupt(turn=1, onset_sample=20_000, cause="server")
    ]


def test_a_wrong_mute_in_an_open_segment_does_not_cost_the_detector_its_credit() -> None:
    core = BargeInCore(two=True)
    ready_for_two(core)
    core.receive(server(), 0)
    for k in range(1, 6):
        core.deadline_reached(k * S)
        core.receive(local_quiet(), k * S)
        assert core.receive(local(48_000 * k), k * S + 200 * MS) == [Mute(), Hold()]


def test_the_loss_of_the_credit_is_told_once() -> None:
    core = speaking()
    told: list[Problem] = []
    for k in range(1, 7):
        core.receive(local(), k * S)
        orders = core.deadline_reached(k * S + 500 * MS)
        told += [order for order in orders if isinstance(order, Problem)]
        core.receive(local_quiet(), k * S + 600 * MS)
    assert [problem.code for problem in told] == ["local_mutes_disarmed"]
