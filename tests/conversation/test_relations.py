"""Corrections across turns, and what looks like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.conversation.relations import SpokenCorrections, relate
from framepipe.conversation.turns import Correction
from framepipe.conversation.wordlists import ENGLISH, LANGUAGES
from framepipe.realtime.booking import CITIES

FLIGHTS = ENGLISH.with_kinds(city=CITIES)


@pytest.mark.parametrize(
    ("earlier", "new", "superseded", "replacement"),
    [
        ("to Denver", "no, to Chicago", "to Denver", "to Chicago"),
        ("to Denver", "No, Chicago.", "Denver", "Chicago."),
        ("I want to fly to Denver", "wait, I meant Chicago", "Denver", "Chicago"),
        ("to Denver", "yes, no, wait, Chicago", "Denver", "Chicago"),
        ("From Oslo to Rome on Friday", "Not Rome, Milan", "Rome", "Milan"),
        ("From Oslo to Rome on Friday", "sorry from Vienna", "From Oslo", "from Vienna"),
        ("on Friday", "actually, make it Saturday", "Friday", "Saturday"),
        ("to Denver no to Chicago", "no, to Boston", "to Chicago", "to Boston"),
        ("to Denver", "no, to Chicago, no wait, to Boston", "to Denver", "to Boston"),
        ("to Denver", "to Chicago", "to Denver", "to Chicago"),
        ("two tickets please", "sorry, three", "two", "three"),
        ("to Denver", "No wait", "", ""),
    ],
)
def test_a_correction_says_what_it_takes_back(
    earlier: str, new: str, superseded: str, replacement: str
) -> None:
    found = relate(earlier, new, FLIGHTS, asked=True)
    assert (found.kind, found.superseded, found.replacement) == (
        "correction",
        superseded,
        replacement,
    )


@pytest.mark.parametrize(
    ("earlier", "new", "asked", "kind"),
    [
        ("to Denver", "Chicago", True, "answer"),
        ("to Denver", "No.", True, "answer"),
        ("to Denver", "yes please", True, "answer"),
        ("on Friday", "no thanks", True, "answer"),
        ("to Rome", "No, I'd like a window seat", True, "answer"),
        ("to Denver", "on Friday", False, "addition"),
        ("to Denver", "And from Oslo", False, "addition"),
        ("I need to fly to", "um Chicago", False, "addition"),
        ("my number is five five", "six", False, "addition"),
        ("to Denver", "Sorry, could you repeat that?", False, "request"),
        ("to Denver tomorrow", "what does it cost", False, "request"),
    ],
)
def test_what_is_no_correction_has_a_name_of_its_own(
    earlier: str, new: str, asked: bool, kind: str
) -> None:
    assert relate(earlier, new, FLIGHTS, asked=asked).kind == kind


def test_a_word_of_the_same_kind_corrects_only_while_nothing_was_asked() -> None:
    assert relate("to Denver", "Chicago", FLIGHTS, asked=False).kind == "correction"
    assert relate("to Denver", "Chicago", FLIGHTS, asked=True).kind == "answer"


def test_the_newest_utterance_that_has_it_is_the_one_that_is_corrected() -> None:
    said = ["to Rome", "from Oslo", "on Friday"]
    assert relate(said, "no, to Milan", FLIGHTS).of == 0
    assert relate(said, "no, from Vienna", FLIGHTS).of == 1
    assert relate(said, "make it Monday", FLIGHTS).of == 2


@pytest.mark.parametrize(
    ("code", "earlier", "new"),
    [
        ("de", "nach Hamburg", "nein, nach Berlin"),
        ("de", "am Montag", "ich meinte Dienstag"),
        ("es", "a Madrid", "no, perdón, a Barcelona"),
        ("fr", "lundi", "non, plutôt mardi"),
    ],
)
def test_other_languages(code: str, earlier: str, new: str) -> None:
    assert relate(earlier, new, LANGUAGES[code], asked=True).kind == "correction"


def test_while_the_words_come_in_nothing_is_said_before_the_editing_term_has_a_word_after_it() -> (
    None
):
    corrections = SpokenCorrections(FLIGHTS)
    said = ""
    told: list[Correction | None] = []
    for word in ["no", "wait", "to", "Chicago", "please"]:
        said = f"{said} {word}".strip()
        told.append(corrections.correction("to Denver", said))
    right = Correction("to Denver", "to Chicago")
    assert told == [None, None, None, right, right]


def test_half_of_what_takes_the_place_is_waited_for() -> None:
    corrections = SpokenCorrections(FLIGHTS)
    before = "from Oslo to Rome the fifth of March"
    said = ""
    told: list[str] = []
    for word in ["no", "the", "fifth", "of", "April"]:
        said = f"{said} {word}".strip()
        found = corrections.correction(before, said)
        told.append(found.new if found else "")
    assert told == ["", "", "", "", "the fifth of April"]


def test_another_flight_is_no_correction_of_the_one_before() -> None:
    corrections = SpokenCorrections(FLIGHTS)
    before = "from Oslo to Rome on Friday"
    assert corrections.correction(before, "from Rome to Oslo on Sunday") is None
    assert corrections.correction(before, "no from Rome to Oslo on Sunday") is not None


@given(
    st.lists(st.sampled_from(["to", "Denver", "from", "Oslo", "on", "Friday"]), max_size=6),
    st.lists(
        st.sampled_from(
            ["no", "wait", "to", "Chicago", "from", "Denver", "um", "Friday", "please", "what"]
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_it_always_answers_and_names_only_words_that_were_said(
    earlier: list[str], new: list[str], asked: bool
) -> None:
    found = relate(" ".join(earlier), " ".join(new), FLIGHTS, asked=asked)
    assert set(found.superseded.split()) <= set(earlier)
    assert set(found.replacement.split()) <= set(new)
    assert (found.of is not None) <= (found.kind == "correction")
