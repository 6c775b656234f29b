"""What sounds like "no" or "wait" while a tool waits."""

from __future__ import annotations

import pytest

from framepipe.conversation.objections import objects
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
