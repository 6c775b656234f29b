"""How ready the agent is to be interrupted, situation by situation."""

from __future__ import annotations

from typing import Any, cast

import pytest

from framepipe.conversation.bargein import BargeInCore
from framepipe.conversation.bargein_table import State
from framepipe.conversation.profiles import (
    PROFILES,
    Needs,
    Profile,
    Profiles,
    Situation,
    UseProfile,
    profiles,
)
from framepipe.errors import FrameError
from framepipe.frames import (
    Drained,
    Hold,
    Interrupt,
    Mute,
    Release,
    ReplyPending,
    ReplyReady,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    ToolResult,
    Unmute,
)

MS = 1_000_000
S = 1_000 * MS
DUCK = Mute(gain_db=-26.0)


def local(onset_sample: int = 480) -> SpeechStarted:
    return SpeechStarted(source="local", onset_sample=onset_sample)


def server(onset_sample: int = 480) -> SpeechStarted:
    return SpeechStarted(source="server", onset_sample=onset_sample, item_id="user1")


def yes(onset_sample: int = 480) -> SpeechConfirmed:
    return SpeechConfirmed(source="second", onset_sample=onset_sample, probability=0.95)


def no(onset_sample: int = 480) -> SpeechRejected:
    return SpeechRejected(source="second", onset_sample=onset_sample, probability=0.05)


CALL = ToolCall(call_id="call1", name="look", arguments="{}")
RESULT = ToolResult(call_id="call1", name="look", output="")


def speaking(
    table: Profiles = PROFILES, *, two: bool = True, interruptible: bool = True
) -> BargeInCore:
    core = BargeInCore(two=two, profiles=table)
    core.receive(ReplyPending(turn=1, interruptible=interruptible), 0)
    core.receive(ReplyReady(turn=1), 0)
    return core


def only(situation: Situation, profile: Profile) -> Profiles:
    return profiles({situation: profile})


# --- which situation it is ------------------------------------------------------------------------


def test_the_situation_follows_what_the_agent_does() -> None:
    core = BargeInCore()
    assert core.situation(0) is Situation.THINKING
    core.receive(ReplyPending(turn=1), 0)
    core.receive(ReplyReady(turn=1), 1 * S)
    assert core.situation(1 * S) is Situation.FIRST_SECOND
    assert core.situation(2 * S - 1) is Situation.FIRST_SECOND
    assert core.situation(2 * S) is Situation.SPEAKING
    core.receive(CALL, 3 * S)
    assert core.situation(3 * S) is Situation.TOOL
    core.receive(RESULT, 4 * S)
    assert core.situation(4 * S) is Situation.SPEAKING
    core.receive(Drained(turn=1), 5 * S)
    assert core.situation(5 * S) is Situation.THINKING


def test_a_turn_that_must_be_heard_is_uninterruptible_from_its_announcement_to_its_end() -> None:
    core = BargeInCore()
    core.receive(ReplyPending(turn=1, interruptible=False), 0)
    assert core.situation(0) is Situation.UNINTERRUPTIBLE
    core.receive(ReplyReady(turn=1), 0)
    assert core.situation(0) is Situation.UNINTERRUPTIBLE
    core.receive(Drained(turn=1), 1)
    assert core.situation(1) is Situation.THINKING


# --- what a profile changes -----------------------------------------------------------------------


def test_each_situation_has_a_sensitivity_of_its_own() -> None:
    quiet = Profile(armed=False)
    table = only(Situation.FIRST_SECOND, quiet)
    assert speaking(table).receive(local(), 500 * MS) == []
    assert speaking(table).receive(local(), 2 * S) == [Mute(), Hold()]


def test_over_the_filler_of_a_tool_a_suspicion_ducks() -> None:
    core = speaking()
    core.receive(CALL, 1)
    assert core.receive(local(), 2 * S) == [DUCK]
    assert core.state is State.DUCKED


def test_a_profile_that_is_not_armed_leaves_the_second_stage_and_the_service_in_charge() -> None:
    table = only(Situation.SPEAKING, Profile(armed=False))
    core = speaking(table)
    assert core.receive(local(), 2 * S) == []
    assert core.receive(server(), 2 * S + 100 * MS) == [Mute(), Hold()]
    assert core.receive(yes(), 2 * S + 180 * MS) == [
        Interrupt(turn=1, onset_sample=480, cause="second")
    ]


def test_a_profile_may_let_the_service_decide_as_well() -> None:
    core = speaking(only(Situation.SPEAKING, Profile(needs=Needs.EITHER)))
    assert core.receive(server(), 2 * S) == [Interrupt(turn=1, onset_sample=480, cause="server")]


@pytest.mark.parametrize("first", ["second", "server"])
def test_a_profile_may_need_both_in_any_order(first: str) -> None:
    core = speaking(only(Situation.SPEAKING, Profile(needs=Needs.BOTH)))
    core.receive(local(), 2 * S)
    facts: list[SpeechConfirmed | SpeechStarted] = [server(), yes()]
    if first == "second":
        facts.reverse()
    assert core.receive(facts[0], 2 * S + 100 * MS) == []
    assert core.state is State.SUSPECT
    orders = core.receive(facts[1], 2 * S + 200 * MS)
    assert [type(order) for order in orders] == [Interrupt]


def test_a_profile_has_a_deadline_of_its_own() -> None:
    core = speaking(only(Situation.SPEAKING, Profile(reject_ms=250)))
    core.receive(local(), 2 * S)
    assert core.deadline_ns == 2 * S + 250 * MS


def test_a_suspicion_keeps_the_way_it_began_when_the_profile_changes() -> None:
    core = speaking()
    assert core.receive(local(), 2 * S) == [Mute(), Hold()]
    core.receive(UseProfile(profile=Profile(suspect="duck")), 2 * S)
    assert core.receive(no(), 2 * S + 192 * MS) == [Release(), Unmute()]
    core.receive(SpeechStopped(source="local", end_sample=0), 2 * S + 300 * MS)
    assert core.receive(local(), 3 * S) == [DUCK]
    core.receive(UseProfile(profile=None), 3 * S)
    assert core.receive(no(), 3 * S + 192 * MS) == [Unmute()]


# --- ducking --------------------------------------------------------------------------------------


def ducked() -> BargeInCore:
    core = speaking(profiles(suspect="duck"))
    assert core.receive(local(), 2 * S) == [DUCK]
    return core


def test_a_ducked_agent_is_cut_at_the_confirm() -> None:
    assert ducked().receive(yes(), 2 * S + 180 * MS) == [
        Interrupt(turn=1, onset_sample=480, cause="second")
    ]


def test_a_ducked_agent_is_loud_again_after_a_no_or_at_the_deadline() -> None:
    assert ducked().receive(no(), 2 * S + 192 * MS) == [Unmute()]
    core = ducked()
    assert core.deadline_reached(2 * S + 500 * MS) == [Unmute()]
    assert core.state is State.SPEAKING


def test_a_ducked_agent_may_come_to_its_end() -> None:
    core = ducked()
    assert core.receive(Drained(turn=1), 2 * S + 30 * MS) == [Unmute()]
    assert core.state is State.IDLE


def test_the_word_of_the_service_ducks_too() -> None:
    core = speaking(profiles(suspect="duck"))
    assert core.receive(server(), 2 * S) == [DUCK]


# --- what must be heard ---------------------------------------------------------------------------


def test_what_must_be_heard_is_neither_muted_nor_cut_and_attempts_are_counted() -> None:
    core = speaking(interruptible=False)
    for fact in (local(), server(), yes()):
        assert core.receive(fact, 2 * S) == []
    assert core.state is State.SPEAKING
    assert core.statistics().refused == 2
    assert core.statistics().unarmed_edges == 1


def test_a_cut_of_what_is_audible_spares_what_must_be_heard_after_it() -> None:
    core = speaking()
    core.receive(ReplyPending(turn=2, interruptible=False), 1 * S)
    core.receive(ReplyPending(turn=3), 1 * S)
    core.receive(local(), 2 * S)
    assert core.receive(yes(), 2 * S + 180 * MS) == [
        Interrupt(turn=1, onset_sample=480, cause="second")
    ]


def test_a_notice_waits_for_the_user_and_is_not_cut_when_they_have_finished() -> None:
    core = BargeInCore()
    core.receive(server(), 0)
    core.receive(ReplyPending(turn=1, interruptible=False), 1)
    assert core.receive(ReplyReady(turn=1), 2) == [Hold(audible=False)]
    stopped = SpeechStopped(source="server", end_sample=9_600)
    assert core.receive(stopped, 1 * S) == [Release()]
    assert core.state is State.SPEAKING


def test_the_stop_button_cuts_what_must_be_heard_for_the_program_knows_best() -> None:
    core = speaking(interruptible=False)
    core.receive(Interrupt(turn=1), 2 * S)
    assert core.state is State.IDLE


# --- settings -------------------------------------------------------------------------------------


def test_a_table_that_lacks_a_situation_is_refused_by_name() -> None:
    with pytest.raises(FrameError, match="no profile for THINKING, FIRST_SECOND, TOOL, UNINT"):
        BargeInCore(profiles={Situation.SPEAKING: Profile()})


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(FrameError, match="reject_ms is 0; it must be 1 or more"):
        Profile(reject_ms=0)
    with pytest.raises(FrameError, match="suspect is 'hush'; it must be 'mute' or 'duck'"):
        Profile(suspect=cast("Any", "hush"))


def test_a_table_is_made_of_the_usual_one_and_a_few_changes() -> None:
    mine = Profile(reject_ms=300)
    table = profiles({Situation.SPEAKING: mine}, suspect="duck")
    assert table[Situation.SPEAKING] is mine
    assert table[Situation.FIRST_SECOND].suspect == "duck"
    assert not table[Situation.UNINTERRUPTIBLE].interruptible
