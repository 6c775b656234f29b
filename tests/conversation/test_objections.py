"""What sounds like "no" or "wait" while a tool waits."""

from __future__ import annotations

import pytest

from framepipe.conversation.objections import is_thanks, objects
from framepipe.conversation.wordlists import ENGLISH, FRENCH, GERMAN, SPANISH, Language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("no", ENGLISH),
        ("wait, stop", ENGLISH),
        ("please don\u2019t book it", ENGLISH),
        ("cancel that", ENGLISH),
        ("make that Chicago", ENGLISH),
        ("halt, nicht buchen", GERMAN),
        ("espera", SPANISH),
        ("non, attends", FRENCH),
    ],
)
def test_it_objects(text: str, language: Language) -> None:
    assert objects(text, language)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", ENGLISH),
        ("thanks", ENGLISH),
        ("well thank you", ENGLISH),
        ("yes, on Friday", ENGLISH),
        ("ja danke", GERMAN),
        ("para el viernes", SPANISH),
        ("oui merci", FRENCH),
    ],
)
def test_it_objects_to_nothing(text: str, language: Language) -> None:
    assert not objects(text, language)


@pytest.mark.parametrize(
    ("text", "language", "thanks"),
    [
        ("thanks a lot", ENGLISH, True),
        ("yes, thank you very much", ENGLISH, True),
        ("vielen Dank", GERMAN, True),
        ("oui merci", FRENCH, True),
        ("", ENGLISH, False),
        ("no thanks", ENGLISH, False),
        ("thanks and a window seat", ENGLISH, False),
    ],
)
def test_thanks_are_nothing_but_thanks(text: str, language: Language, thanks: bool) -> None:
    assert is_thanks(text, language) is thanks
