"""The flight desk, as conversations."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.realtime.booking import CITIES, TOOL, Booking
from framepipe.realtime.events import Item, Part
from framepipe.realtime.mind import Question, ToolUse, Words


def desk(*said: str, tools: tuple[str, ...] = (TOOL,)) -> tuple[str, dict[str, str] | None]:
    """What the desk says after all this, and the trip that it books."""
    outputs = Booking().answer(Question(said=said, tools=tools))
    words = " ".join(output.text for output in outputs if isinstance(output, Words))
    trips = [json.loads(output.arguments) for output in outputs if isinstance(output, ToolUse)]
    return words, trips[0] if trips else None


def test_it_asks_for_what_is_missing_and_books_after_a_yes() -> None:
    said: list[str] = []
    for words, answer in (
        ("Hello, I need a flight.", "Where would you like to fly to?"),
        ("To Rome please.", "Where do you want to leave from?"),
        ("Oslo.", "On which day?"),
        ("The third of May.", "A flight from Oslo to Rome, The third of May. Shall I book it?"),
    ):
        said.append(words)
        assert desk(*said) == (answer, None)
    words, trip = desk(*said, "Yes, please.")
    assert trip == {"origin": "Oslo", "destination": "Rome", "day": "The third of May"}
    assert words == "One moment."


@pytest.mark.parametrize(
    ("correction", "trip"),
    [
        ("No, to Milan.", ("Oslo", "Milan", "Friday")),
        ("Not Rome, Milan.", ("Oslo", "Milan", "Friday")),
        ("I meant from Vienna.", ("Vienna", "Rome", "Friday")),
        ("Not Oslo, Bergamo, no, Vienna.", ("Vienna", "Rome", "Friday")),
        ("Make it Sunday.", ("Oslo", "Rome", "Sunday")),
        ("Not on Friday, on next Monday.", ("Oslo", "Rome", "next Monday")),
    ],
)
def test_a_correction_replaces_one_thing_and_is_confirmed_again(
    correction: str, trip: tuple[str, str, str]
) -> None:
    said = ("From Oslo to Rome on Friday.", correction)
    words, booked = desk(*said)
    assert booked is None
    origin, destination, day = trip
    assert words == f"A flight from {origin} to {destination}, {day}. Shall I book it?"
    assert desk(*said, "Yes.")[1] == {"origin": origin, "destination": destination, "day": day}


@pytest.mark.parametrize(
    ("said", "trip"),
    [
        ("to Rome from Denver wait no Chicago on Friday", ("Chicago", "Rome", "Friday")),
        ("from Oslo to Denver, I mean, um, Chicago on Friday", ("Oslo", "Chicago", "Friday")),
        ("from Oslo to Rome on Friday no Sunday", ("Oslo", "Rome", "Sunday")),
        ("from Oslo to um Rome, June um third", ("Oslo", "Rome", "June third")),
    ],
)
def test_a_correction_in_one_breath_takes_the_place_of_the_last_city(
    said: str, trip: tuple[str, str, str]
) -> None:
    origin, destination, day = trip
    assert desk(said)[0] == f"A flight from {origin} to {destination}, {day}. Shall I book it?"


def test_items_without_an_answer_between_them_are_one_breath() -> None:
    def message(role: str) -> Item:
        return Item(type="message", role=role)

    def asked(*roles: str) -> str:
        items = tuple(message(role) for role in roles)
        said = ("from Oslo on Friday to Denver", "wait no Chicago")
        (words,) = Booking().answer(Question(items=items, said=said))
        assert isinstance(words, Words)
        return words.text

    assert asked("user", "user") == "A flight from Oslo to Chicago, Friday. Shall I book it?"
    assert asked("user", "system", "user").startswith("A flight from Oslo to Chicago")


def conversed(*turns: tuple[str, str]) -> tuple[str, dict[str, str] | None]:
    """What the desk says after a conversation: roles, or "output", and their words."""
    items = tuple(
        Item(type="function_call_output", output=text)
        if role == "output"
        else Item(type="message", role=role, content=[Part(type="input_text", text=text)])
        for role, text in turns
    )
    said = tuple(text for role, text in turns if role == "user")
    outputs = Booking().answer(Question(items=items, said=said, tools=(TOOL,)))
    words = " ".join(output.text for output in outputs if isinstance(output, Words))
    trips = [json.loads(output.arguments) for output in outputs if isinstance(output, ToolUse)]
    return words, trips[0] if trips else None


def test_a_message_of_the_system_says_what_takes_the_place_of_what() -> None:
    words, _ = conversed(
        ("user", "to Denver on Friday"),
        ("assistant", "Where do you"),
        ("user", "wait no Chicago"),
        ("system", '"Chicago" takes the place of "Denver".'),
        ("user", "from Oslo"),
    )
    assert words == "A flight from Oslo to Chicago, Friday. Shall I book it?"
    words, _ = conversed(
        ("user", "from Oslo to Denver on Friday"),
        ("assistant", "A flight"),
        ("user", "not on Friday"),
        ("system", 'The user has taken back "on Friday". Do not act on it.'),
    )
    assert words == "On which day?"
    words, _ = conversed(
        ("user", "from Oslo to Rome on Friday"),
        ("assistant", "Shall I book it?"),
        ("user", "and not on Friday, on Sunday"),
        ("system", '"on Sunday" takes the place of "on Friday".'),
        ("assistant", "A flight from Oslo to Rome, Sunday. Shall I book it?"),
        ("user", "yes"),
    )
    assert words == "One moment."


def test_a_question_that_was_cut_is_asked_and_ends_no_breath() -> None:
    cut = ("assistant", "")
    words, _ = conversed(
        ("user", "from Oslo to Rome the tenth of"), cut, ("user", "September"), cut, ("user", "yes")
    )
    assert words == "One moment."
    words, _ = conversed(("user", "to Rome"), cut, ("user", "Oslo"), cut, ("user", "on Friday"))
    assert words == "A flight from Oslo to Rome, Friday. Shall I book it?"
    words, _ = conversed(("user", "to Rome"), cut, ("user", "no Milan"), ("user", "Oslo, Friday"))
    assert words == "A flight from Oslo to Milan, Friday. Shall I book it?"


def test_what_was_agreed_on_can_still_be_corrected() -> None:
    trip = (
        ("user", "from Oslo to Rome on Friday"),
        ("assistant", "Shall I book it?"),
        ("user", "yes"),
        ("assistant", "One moment."),
    )
    no = ("user", "no on Sunday")
    assert conversed(*trip, no)[0].startswith("A flight from Oslo to Rome, Sunday")
    failed = conversed(*trip, ("output", "error: withdrawn"), no)
    assert failed[0].startswith("A flight from Oslo to Rome, Sunday")
    booked = (*trip, ("output", "K7"))
    assert conversed(*booked, no)[0].startswith("A flight from Oslo to Rome, Sunday")
    assert conversed(*booked, ("user", "on Sunday"))[0] == "Where would you like to fly to?"


def test_a_no_without_a_correction_is_asked_about() -> None:
    said = ("From Oslo to Rome tomorrow.", "No.")
    assert desk(*said) == ("What should I change?", None)
    assert desk(*said, "To Paris.")[0].startswith("A flight from Oslo to Paris")


def test_a_yes_books_once_and_the_next_trip_begins_afresh() -> None:
    said = ("From Oslo to Rome tomorrow.", "Yes.", "Now to Lima.")
    assert desk(*said) == ("Where do you want to leave from?", None)


def test_the_output_of_the_tool_is_the_last_word() -> None:
    def outcome(output: str) -> str:
        item = Item(type="function_call_output", call_id="call_1", output=output)
        (words,) = Booking().answer(Question(items=(item,), said=("Yes.",)))
        assert isinstance(words, Words)
        return words.text

    assert outcome("Reference K7.") == "Your flight is booked. Reference K7."
    assert outcome('{"error": "sold out"}').startswith("I am sorry")


def test_without_the_tool_it_says_so() -> None:
    words, trip = desk("From Oslo to Rome tomorrow.", "Yes.", tools=())
    assert trip is None
    assert "nobody gave me the tool book_flight" in words


def test_what_was_not_made_out_is_asked_again() -> None:
    assert desk("")[0] == "I did not catch that. Where would you like to fly to?"


@given(
    said=st.lists(
        st.lists(
            st.sampled_from(
                [*CITIES[:4], "from", "to", "not", "no", "yes", "Friday", "May 3", "uh"]
            ),
            max_size=6,
        ).map(" ".join),
        max_size=6,
    )
)
def test_it_always_answers_and_never_books_an_incomplete_trip(said: list[str]) -> None:
    words, trip = desk(*said)
    assert words
    assert trip is None or all(trip.values())
