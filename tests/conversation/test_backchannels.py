"""What short transcripts mean."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from framepipe.conversation.backchannels import PHRASES, Backchannels, Meaning
from framepipe.errors import FrameError

ANY = Backchannels()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "mm-hm",
            "Mm-hmm.",
            "Uh-huh",
            "Yeah.",
            "yeah, yeah",
            "Okay",
            "OK!",
            "Right, I see.",
            "Hmmm",
        ),
        *("Yeahhh", "Um, okay.", "Oh, wow", "Got it, sure.", "Of course!", "the", "So..."),
        *("Ja, genau.", "Ach so", "Alles klar!", "Mhm, verstehe.", "Äh, ja", "Schön.", "also"),
        *("Sí, claro.", "Vale, vale", "De acuerdo", "¿En serio?", "Ya veo...", "Ajá"),
        *(
            "D'accord.",
            "d’accord",
            "Oui, oui.",
            "Très bien",
            "C'est ça !",
            "Ah bon ?",
            "Euh, ouais",
        ),
    ],
)
def test_these_are_backchannels(text: str) -> None:
    assert ANY.meaning(text) is Meaning.BACKCHANNEL


@pytest.mark.parametrize(
    "text",
    [
        *(
            "No.",
            "Stop!",
            "Wait",
            "What?",
            "Yes, but",
            "Okay, cancel it.",
            "Yeah I want two",
            "Monday",
        ),
        *("Nein", "Warte mal", "Ja, aber", "Moment", "Genau das nicht", "Wie bitte?"),
        *("No, espera", "Sí, pero", "Para", "¿Cómo?", "Quiero dos"),
        *("Non", "Attendez", "Oui, mais", "Pardon ?", "Je veux changer"),
        *("the flight", "I see a problem", "right now", "うん"),
    ],
)
def test_these_are_words(text: str) -> None:
    assert ANY.meaning(text) is Meaning.WORDS


@pytest.mark.parametrize(
    "text", ["", "  ", "...", "[cough]", "(laughs)", "*sneezes* ♪", "<noise>", "—"]
)
def test_these_are_nothing(text: str) -> None:
    assert ANY.meaning(text) is Meaning.NOTHING


def test_a_list_can_be_chosen_and_extended() -> None:
    english = Backchannels(["en"], more=("righto", "うん"))
    assert english.meaning("Righto, yeah") is Meaning.BACKCHANNEL
    assert english.meaning("うん") is Meaning.BACKCHANNEL
    assert english.meaning("genau") is Meaning.WORDS


def test_without_any_list_every_word_counts() -> None:
    assert Backchannels([]).meaning("yeah") is Meaning.WORDS
    assert Backchannels([]).meaning("") is Meaning.NOTHING


def test_a_language_without_a_list_is_refused_by_name() -> None:
    with pytest.raises(FrameError, match="'tlh'; there is one for de, en, es, fr"):
        Backchannels(["tlh"])


def test_a_phrase_without_a_word_is_refused() -> None:
    with pytest.raises(FrameError, match=r"'\.\.\.' has no word"):
        Backchannels(more=("...",))


phrases = st.sampled_from([phrase for row in PHRASES.values() for phrase in row])


@given(st.lists(phrases, min_size=1, max_size=6), st.sampled_from([" ", ", ", ". ", " … "]))
def test_any_row_of_listed_phrases_is_a_backchannel_however_it_is_written(
    row: list[str], between: str
) -> None:
    text = between.join(row)
    assert ANY.meaning(text) is Meaning.BACKCHANNEL
    assert ANY.meaning(text.upper()) is Meaning.BACKCHANNEL
    assert ANY.meaning(text + " window") is Meaning.WORDS


@given(st.text(max_size=80))
def test_every_text_has_a_meaning_and_only_texts_without_a_word_have_none(text: str) -> None:
    has_word = any(c.isalnum() or c == "_" for c in text)
    if not has_word:
        assert ANY.meaning(text) is Meaning.NOTHING
    assert ANY.meaning(text) in Meaning
