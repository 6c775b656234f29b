"""User turns in whole calls: against the embedded server, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from framepipe import Pipeline, WiringError
from framepipe.conversation.endpointing import ButtonPressed
from framepipe.frames import (
    AudioOut,
    Escalate,
    Interrupt,
    Proceed,
    Revoke,
    Speak,
    ToolCall,
    TurnAmended,
    UserTurn,
)
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.mind import Scripted, Talk
from framepipe.realtime.session import SessionSettings
from framepipe.testing import Pause, ScriptedUser
from framepipe_processors import BargeIn, Playout, Realtime, Turns, WavSink
from tests.turns_service import Said, call

REQUEST: Said = (500, 2_000, "I want to fly from Oslo to Denver on Friday")


def test_denver_no_chicago_books_chicago_only() -> None:
    made = call(
        REQUEST, (3_300, 600, "no, to Chicago"), (11_000, 400, "yes please"), length_ms=18_000
    )

    assert [(origin, to) for _, origin, to in made.bookings] == [("Oslo", "Chicago")]
    first = made.of(UserTurn)[0]
    turns = {turn.turn_id: turn for turn in made.of(UserTurn)}
    assert turns[first.turn_id].state == "committed"
    assert len(turns[first.turn_id].item_ids) == 2
    assert "A flight from Oslo to Denver, Friday. Shall I book it?" not in [
        text for _, text in made.items
    ]


def test_a_correction_after_the_yes_and_before_the_commit_books_nothing() -> None:
    made = call(
        REQUEST,
        (8_500, 400, "yes please"),
        (10_000, 600, "no wait, to Chicago"),
        length_ms=15_000,
    )

    assert made.of(ToolCall), made.timeline()
    assert made.bookings == []
    assert made.of(Proceed) == []
    assert "function_call" not in [role for role, _ in made.items]


def test_a_correction_over_the_answer_is_told_to_the_service_and_answered_once() -> None:
    made = call(
        REQUEST, (5_000, 600, "no, to Chicago"), (11_000, 400, "yes please"), length_ms=18_000
    )

    assert [(origin, to) for _, origin, to in made.bookings] == [("Oslo", "Chicago")]
    assert [role for role, _ in made.items].count("system") == 1
    answers = [text for role, text in made.items if role == "assistant" and "Shall" in text]
    assert answers == ["A flight from Oslo to Chicago, Friday. Shall I book it?"]


def test_a_typed_correction_silences_the_answer_that_it_corrects_and_is_answered_once() -> None:
    made = call(
        REQUEST,
        (11_000, 400, "yes please"),
        typed=[(5_000, "no, to Chicago")],
        length_ms=18_000,
    )

    assert [(origin, to) for _, origin, to in made.bookings] == [("Oslo", "Chicago")]
    assert {at for at, frame in made.frames if isinstance(frame, Interrupt)} == {5_000}
    (first_ms, first_long_ms), (second_ms, _) = made.heard_ms[:2]
    assert first_ms + first_long_ms <= 5_030
    assert second_ms <= 5_400, "and nobody waits for a silence"
    answers = [text for role, text in made.items if role == "assistant" and "Shall" in text]
    assert answers == ["A flight from Oslo to Chicago, Friday. Shall I book it?"]


def test_a_typed_request_may_be_corrected_aloud_and_confirmed_by_typing() -> None:
    made = call(
        (4_000, 600, "no, to Chicago"),
        typed=[(500, "I want to fly from Oslo to Denver on Friday"), (11_000, "yes please")],
        length_ms=18_000,
    )

    assert [(origin, to) for _, origin, to in made.bookings] == [("Oslo", "Chicago")]
    turns = {turn.turn_id: turn for turn in made.of(UserTurn)}
    words = " ".join(turn.text for turn in turns.values() if turn.state == "committed")
    assert words.count("Oslo") == words.count("Chicago") == words.count("yes please") == 1


def test_a_change_of_mind_after_the_booking_is_reported_with_the_call() -> None:
    amended: list[TurnAmended] = []
    made = call(
        REQUEST,
        (8_500, 400, "yes please"),
        (13_500, 1_000, "no sorry, I meant to Chicago"),
        length_ms=18_000,
        on_amended=amended.append,
    )

    assert [(origin, to) for _, origin, to in made.bookings] == [("Oslo", "Denver")]
    [one] = amended
    assert (one.old, one.new) == ("to Denver", "to Chicago")
    assert [tool.name for tool in one.calls] == ["book_flight"]
    assert "revoked" not in {turn.state for turn in made.of(UserTurn)}


def test_a_tool_with_effects_waits_for_the_silence_after_the_last_word() -> None:
    made = call(REQUEST, (8_500, 400, "yes please"), length_ms=15_000)

    [(booked_ms, _, _)] = made.bookings
    called_ms = next(at for at, frame in made.frames if isinstance(frame, ToolCall))
    assert called_ms < booked_ms
    assert 8_900 + 1_500 - 60 <= booked_ms <= 8_900 + 1_500 + 60


def test_without_turns_nothing_would_wait_and_with_them_late_calls_do_not() -> None:
    slow = Pace(first_audio_ms=(1_500, 1_500))
    made = call(REQUEST, (9_500, 400, "yes please"), length_ms=16_000, pace=slow)

    [(booked_ms, _, _)] = made.bookings
    called_ms = next(at for at, frame in made.frames if isinstance(frame, ToolCall))
    assert booked_ms == called_ms


@pytest.mark.parametrize(
    ("options", "least_ms", "most_ms"),
    [({"end_of_turn": None}, 1_500, 1_600), ({}, 500, 1_200)],
    ids=["a fixed cool-down", "ended by the words"],
)
def test_after_an_interruption_the_answer_waits(
    options: dict[str, Any], least_ms: int, most_ms: int
) -> None:
    made = call(
        (500, 1_000, "tell me about Oslo"),
        (5_000, 1_000, "what about Rome"),
        length_ms=14_000,
        mind=Talk(6_000),
        **options,
    )

    answer_ms = next(at for at, _ in made.heard_ms if at > 5_500)
    assert least_ms <= answer_ms - 6_000 <= most_ms, made.timeline()


def test_speech_in_the_cool_down_withdraws_the_answer_that_nobody_heard() -> None:
    made = call(
        (500, 1_000, "tell me about Oslo"),
        (5_000, 1_000, "what about Rome and"),
        (7_200, 800, "Milan"),
        length_ms=18_000,
        mind=Talk(3_000),
    )

    assert made.heard_turns == [1, 3], made.timeline()
    last = made.of(UserTurn)[-1]
    assert (last.state, last.text) == ("committed", "what about Rome and Milan")
    assert [role for role, _ in made.items] == ["user", "assistant", "user", "user", "assistant"]


def test_a_service_that_does_not_answer_by_itself_is_asked_when_the_turn_is_over() -> None:
    made = call(
        (500, 1_000, "tell me about Oslo and"),
        (2_400, 1_000, "about Rome"),
        length_ms=9_000,
        mind=Talk(1_000),
        silence_ms=300,
        create_response=False,
        hold="always",
        asks=True,
    )

    assert [role for role, _ in made.items] == ["user", "user", "assistant"]
    assert len(made.heard_turns) == 1
    assert 3_900 <= made.heard_ms[0][0] <= 5_000, made.timeline()


def test_a_backchannel_stops_neither_the_answer_nor_the_booking() -> None:
    made = call(
        REQUEST,
        (8_500, 400, "yes please"),
        (10_100, 250, "mm-hm"),
        length_ms=16_000,
    )

    assert [(origin, to) for _, origin, to in made.bookings] == [("Oslo", "Denver")]
    assert "mm-hm" not in [text for _, text in made.items], made.timeline()
    assert {turn.text for turn in made.of(UserTurn) if turn.state == "committed"} == {
        REQUEST[2],
        "yes please",
    }


def test_thanks_over_the_answer_does_not_stop_the_booking() -> None:
    made = call(
        REQUEST,
        (8_500, 400, "yes please"),
        (10_100, 500, "thank you so much"),
        length_ms=17_000,
        join_ms=0,
    )

    assert [(origin, to) for _, origin, to in made.bookings] == [("Oslo", "Denver")]


def test_a_session_without_transcripts_is_refused_before_the_call() -> None:
    pipeline = Pipeline(
        ScriptedUser(Pause(100)),
        Realtime(SessionSettings(), key="sk-none"),
        Turns(),
        Playout(),
        BargeIn(),
        WavSink(),
    )
    with pytest.raises(WiringError, match="Turns needs the user's words as text"):
        pipeline.check()


def test_a_policy_that_cannot_be_told_says_so() -> None:
    with pytest.raises(WiringError, match=r"give it PushToTalk\(\)"):
        Turns(end_of_turn=None).note(ButtonPressed(at_ns=0))


# --- fallback and idle --------------------------------------------------------------------------


def test_a_slow_service_is_announced_by_a_clip() -> None:
    made = call(
        (500, 1_000, "hello"),
        length_ms=12_000,
        mind=Talk(1_000),
        pace=Pace(first_audio_ms=(5_000, 5_000)),
    )

    clip, answer = made.heard_ms[0], made.heard_ms[-1]
    assert 3_900 <= clip[0] <= 4_200, made.heard_ms
    assert answer[0] > 6_900
    assert next(frame.item_id for frame in made.of(AudioOut)) is None


def test_an_answer_that_never_comes_ends_in_a_question_and_then_in_a_person() -> None:
    made = call(
        (500, 1_000, "hello"),
        (15_000, 1_000, "hello?"),
        (30_000, 1_000, "hello!"),
        length_ms=45_000,
        mind=Talk(1_000),
        pace=Pace(first_audio_ms=(60_000, 60_000)),
        slow_ms=None,
        answer_ms=8_000,
    )

    assert len(made.heard_ms) == 2, made.timeline()
    assert {(one.reason, one.attempts) for one in made.of(Escalate)} == {("no_answer", 2)}


def test_what_nobody_understood_is_asked_again_by_the_model() -> None:
    made = call((500, 1_000, ""), length_ms=9_000, mind=Scripted(["first", "second"]))

    asked = [revoke for revoke in made.of(Revoke) if revoke.respond]
    assert "Could you repeat" in asked[0].hint
    assert [text for role, text in made.items if role == "assistant"] == ["second"]


def test_a_silent_user_is_asked_when_nothing_plays() -> None:
    made = call((500, 1_000, "hello"), length_ms=14_000, mind=Talk(3_000), idle_ms=5_000, nudges=1)

    spoken = [at for at, frame in made.frames if isinstance(frame, Speak)]
    end_ms = made.heard_ms[0][0] + 3_000
    assert len(spoken) == 1
    assert end_ms + 5_000 <= spoken[0] <= end_ms + 5_300
