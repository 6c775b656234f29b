"""Corrections within one turn: what is taken back, by what, and when that is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.conversation.repair import (
    MAX_WORDS,
    Analysis,
    RepairListener,
    SelfCorrection,
    analyse,
)
from framepipe.conversation.rough_copy import Word, words_of
from framepipe.conversation.wordlists import ENGLISH, LANGUAGES
from framepipe.errors import FrameError
from framepipe.realtime.booking import CITIES

FLIGHTS = ENGLISH.with_kinds(city=[*CITIES, "San Francisco"], colour=["red", "blue"])


def parts(text: str, code: str = "en") -> list[tuple[str, str, str]]:
    """What is superseded, the editing term, the repair."""
    language = FLIGHTS if code == "en" else LANGUAGES[code]
    return [
        (made.superseded_text, made.editing_text, made.repair_text)
        for made in analyse(text, language).corrections
    ]


def counts(text: str) -> str:
    """The words as they count."""
    return analyse(text, FLIGHTS).text


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Book me a flight to Denver wait, no Chicago.", "Book me a flight to Chicago."),
        ("I'd like two tickets uh, I mean three tickets.", "I'd like three tickets."),
        ("My number is five five sorry five six, one two.", "My number is five six, one two."),
        ("Move it to Monday actually make that Wednesday.", "Move it to Wednesday."),
        ("fly to Denver, no, to Chicago please", "fly to Chicago please"),
        ("the red one no the blue one", "the blue one"),
        ("gate twenty two no thirty one", "gate thirty one"),
        ("a table for four, make that six", "a table for six"),
        ("tomorrow morning, sorry, evening", "tomorrow evening"),
        ("tomorrow no the day after tomorrow", "the day after tomorrow"),
        ("to San Francisco I mean New York", "to New York"),
        ("to Denver, not Denver, Chicago", "to Chicago"),
        ("to Rome I mean from Rome", "from Rome"),
    ],
)
def test_the_repair_takes_the_place_of_what_it_is_a_copy_of(said: str, meant: str) -> None:
    assert counts(said) == meant


def test_only_what_the_repair_has_other_words_for_is_superseded() -> None:
    said = "from Denver to Boston on Friday, no, from Chicago please"
    assert parts(said) == [("from Denver", "no,", "from Chicago")]
    assert counts(said) == "from Chicago to Boston on Friday, please"
    both = "from Oslo to Rome on Friday no wait from Vienna to Milan"
    assert counts(both) == "from Vienna to Milan on Friday"


def test_a_double_correction_takes_back_the_first_repair() -> None:
    assert parts("to Denver no to Chicago no wait Boston") == [
        ("to Denver", "no", "to Chicago"),
        ("Chicago", "no wait", "Boston"),
    ]
    assert counts("to Denver no to Chicago no wait Boston") == "to Boston"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("I want to I want to fly to Denver", "I want to fly to Denver"),
        ("to Denver to Chicago please", "to Chicago please"),
        ("Den- Denver", "Denver"),
        ("to Den- no to Chicago", "to Chicago"),
        ("on Monday uh Tuesday", "on Tuesday"),
        ("two tickets um three tickets", "three tickets"),
    ],
)
def test_a_restart_needs_no_editing_term_when_it_is_a_copy(said: str, meant: str) -> None:
    assert counts(said) == meant


@pytest.mark.parametrize(
    "said",
    [
        "to Denver with no stops",
        "No, to Chicago",  # corrects something, but nothing of this turn
        "I actually want to fly to Denver",
        "I can't wait to see Denver",
        "from Denver to Chicago",
        "to Denver and to Chicago",
        "Denver or Chicago",
        "to Denver no problem",
        "to Denver sorry could you repeat that",
        "to Denver actually Chicago too",
        "to Denver actually on Friday",
        "Yes, make it Friday",
        "four four one seven seven",
        "no thanks",
        "well I don't know",
    ],
)
def test_what_is_no_correction_stays_as_it_was_said(said: str) -> None:
    assert analyse(said, FLIGHTS).corrections == ()
    assert counts(said) == said


@pytest.mark.parametrize(
    ("code", "said", "meant"),
    [
        ("de", "Ich möchte nach Hamburg, nein, nach Berlin", "Ich möchte nach Berlin"),
        ("de", "am Montag, ich meine am Dienstag", "am Dienstag"),
        ("es", "quiero ir a Madrid, no, a Barcelona", "quiero ir a Barcelona"),
        ("es", "dos billetes, perdón, tres billetes", "tres billetes"),
        ("fr", "lundi, enfin non, mardi matin", "mardi matin"),
        ("fr", "je voudrais aller à Paris, non, à Lyon", "je voudrais aller à Lyon"),
    ],
)
def test_other_languages_have_lists_of_their_own(code: str, said: str, meant: str) -> None:
    assert analyse(said, LANGUAGES[code]).text == meant


def test_a_list_can_be_extended() -> None:
    said = "the small bucket bananas the large bucket"
    assert analyse(said, ENGLISH).corrections == ()
    extended = ENGLISH.with_terms(corrects=["bananas"])
    assert analyse(said, extended).text == "the large bucket"
    assert parts("red, sorry, blue") == [("red,", "sorry,", "blue")]
    with pytest.raises(FrameError, match="'size' has no words"):
        ENGLISH.with_kinds(size=[])


def test_scratch_that_takes_back_everything() -> None:
    said = "fly to Denver tomorrow scratch that I need a train"
    assert parts(said) == [("fly to Denver tomorrow", "scratch that", "")]
    assert counts(said) == "I need a train"


def test_saying_the_same_again_changes_nothing() -> None:
    (again,) = analyse("to Denver, I mean, Denver", FLIGHTS).corrections
    assert not again.changes
    (other,) = analyse("to Denver, I mean, Boston", FLIGHTS).corrections
    assert other.changes


def test_a_pause_sets_an_editing_term_off_as_a_comma_does() -> None:
    def said(pause_ms: int) -> Analysis:
        ends = 0
        words: list[Word] = []
        for text in ("large", "no", "medium"):
            start = ends + pause_ms * 1_000_000
            ends = start + 200_000_000
            words.append(Word(text + ("," if text == "no" else ""), start, ends))
        return analyse(words)

    assert said(300).text == "medium"
    assert said(20).corrections == ()


# --- while the words come in ----------------------------------------------------------------------


def told(text: str) -> list[tuple[int, str, str]]:
    """At which word which hypothesis changed how, and its repair then."""
    listener = RepairListener(FLIGHTS)
    changes: list[tuple[int, str, str]] = []
    for nth, word in enumerate(words_of(text)):
        changes += [
            (nth, change.state, change.correction.repair_text)
            for change in listener.feed(word, nth)
        ]
    changes += [
        (-1, change.state, change.correction.repair_text)
        for change in listener.finish(None, len(text))
    ]
    return changes


def test_the_editing_term_and_one_more_word_decide() -> None:
    assert told("to Denver wait no Chicago on Friday") == [
        (4, "added", "Chicago"),
        (-1, "committed", "Chicago"),
    ]


def test_a_hypothesis_grows_with_its_repair() -> None:
    assert told("to Denver no to Chicago please") == [
        (3, "added", "to"),
        (4, "grown", "to Chicago"),
        (-1, "committed", "to Chicago"),
    ]


def test_words_that_contradict_it_revoke_it_for_good() -> None:
    assert told("to Denver actually Chicago too please") == [
        (3, "added", "Chicago"),
        (4, "revoked", "Chicago"),
    ]


def test_an_editing_term_at_the_end_is_pending_and_decides_nothing() -> None:
    listener = RepairListener(FLIGHTS)
    assert listener.hear("to Denver, no ", 0) == []
    assert listener.is_pending
    assert listener.hypotheses == ()
    (change,) = listener.hear("Chicago ", 1)
    assert (change.state, change.at_ns) == ("added", 1)
    assert not listener.is_pending


def test_pieces_may_end_in_the_middle_of_a_word() -> None:
    listener = RepairListener(FLIGHTS)
    changes = [
        change.state
        for at, piece in enumerate(["to Den", "ver no", " Chi", "cago", " please"])
        for change in listener.hear(piece, at)
    ]
    assert changes == ["added"]
    assert [change.state for change in listener.finish(None, 9)] == ["committed"]
    assert listener.text == "to Chicago please"


def test_the_whole_transcript_has_the_last_word() -> None:
    listener = RepairListener(FLIGHTS)
    listener.hear("to Denver no Chicago ", 0)
    assert [change.state for change in listener.finish("to Denver, now Chicago", 1)] == ["revoked"]
    assert listener.finish(None, 2) == []


def test_a_very_long_turn_does_not_grow_for_ever() -> None:
    listener = RepairListener(FLIGHTS)
    changes = [
        change
        for nth in range(MAX_WORDS)
        for change in listener.hear(
            "to Denver no Chicago and " if nth % 40 == 0 else f"thing{nth} ", nth
        )
    ]
    changes += listener.finish(None, MAX_WORDS)
    committed = [change for change in changes if change.state == "committed"]
    assert len(committed) == MAX_WORDS // 40
    assert "Denver" not in listener.text


VOCABULARY = [
    "to",
    "from",
    "on",
    "the",
    "a",
    "no",
    "wait",
    "sorry",
    "actually",
    "I",
    "mean",
    "not",
    "scratch",
    "that",
    "and",
    "too",
    "make",
    "um",
    "Denver",
    "Chicago",
    "Boston",
    "Friday",
    "Monday",
    "two",
    "three",
    "five",
    "red",
    "one",
    "want",
    "fly",
    "please",
    "yes",
]


def spoken(max_words: int = 14) -> st.SearchStrategy[list[str]]:
    """Words of a turn, in any order; shrinks to fewer of them."""
    return st.lists(st.sampled_from(VOCABULARY), max_size=max_words)


@given(spoken())
def test_a_hypothesis_has_one_life(words: list[str]) -> None:
    listener = RepairListener(FLIGHTS)
    lives: dict[int, list[str]] = {}
    places: dict[int, int] = {}
    changes = [
        change for nth, word in enumerate(words) for change in listener.feed(Word(word), nth)
    ]
    changes += listener.finish(None, len(words))
    for change in changes:
        lives.setdefault(change.number, []).append(change.state)
        places.setdefault(change.number, change.correction.editing[0])
    for life in lives.values():
        assert life[0] == "added"
        assert life[-1] in ("committed", "revoked")
        assert set(life[1:-1]) <= {"grown"}
    # What was revoked does not come back under another name.
    assert len(set(places.values())) == len(places)


@given(spoken())
def test_one_pass_over_all_words_says_what_word_by_word_says(words: list[str]) -> None:
    listener = RepairListener(FLIGHTS)
    changes = [change for word in words for change in listener.feed(Word(word), 0)]
    changes += listener.finish(None, 0)
    revoked = {change.correction.editing[0] for change in changes if change.state == "revoked"}
    committed = [change.correction for change in changes if change.state == "committed"]
    found = analyse([Word(word) for word in words], FLIGHTS).corrections
    assert committed == [made for made in found if made.editing[0] not in revoked]


@given(spoken(20))
def test_no_word_is_invented_and_the_parts_lie_in_order(words: list[str]) -> None:
    analysis = analyse([Word(word) for word in words], FLIGHTS)
    left = analysis.text.split()
    for word in set(left):
        assert left.count(word) <= words.count(word)
    for made in analysis.corrections:
        _is_in_order(made, len(words))


def _is_in_order(made: SelfCorrection, n_words: int) -> None:
    assert made.superseded == tuple(sorted(set(made.superseded)))
    assert made.superseded[-1] < made.editing[0] <= made.editing[1] == made.repair[0]
    assert made.repair[0] <= made.repair[1] <= n_words


@given(spoken(), st.integers(1, 4))
def test_how_the_text_is_cut_into_pieces_makes_no_difference(words: list[str], n: int) -> None:
    text = " ".join(words)
    listener = RepairListener(FLIGHTS)
    for at in range(0, len(text), n):
        listener.hear(text[at : at + n], 0)
    listener.finish(None, 0)
    other = RepairListener(FLIGHTS)
    other.hear(text, 0)
    other.finish(None, 0)
    assert listener.text == other.text
