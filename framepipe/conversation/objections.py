"""Does the user object? Asked only when a tool with effects waits for the answer.

It is better asked once too often: a call that was withdrawn can be made again, and one that was
run cannot be taken back. So whatever sounds like "no" or "wait" is an objection, wherever it
stands in the sentence. What exactly is to be different is not decided here, but by
`framepipe.conversation.relations`.

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from framepipe.conversation.wordlists import ENGLISH, Language, plain


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


STOPS: Final[Mapping[str, frozenset[str]]] = {
    "en": _set("stop cancel don't dont never wrong different undo abort"),
    "de": _set("stopp stornieren abbrechen nicht nie falsch anders storno"),
    "es": _set("pare alto cancela cancele cancelar nunca mal espera espere"),
    "fr": _set("arrête arrêtez stop annule annulez annuler jamais faux attends"),
}
"""Words beside the editing terms that ask to stop, by language."""

HARMLESS: Final = frozenset({"well", "better", "also"})
"""Editing terms with which people begin a sentence that objects to nothing."""


def objects(text: str, language: Language = ENGLISH) -> bool:
    """Whether these words may be an objection.

    Args:
        text: What the user said.
        language: Whose words they are.
    """
    words = [bare for word in text.split() if (bare := plain(word))]
    stops = language.no | language.negates | STOPS.get(language.code, frozenset())
    return any(
        word in stops or (word not in HARMLESS and language.term_at(words, at))
        for at, word in enumerate(words)
    )


_SOFT: Final = _set("a lot so very much many bye oh vielen dank schön muchas beaucoup")
"""Words with which thanks are given."""


def is_thanks(text: str, language: Language = ENGLISH) -> bool:
    """Whether these words are nothing but thanks and consent ("yes, thanks a lot").

    Args:
        text: What the user said.
        language: Whose words they are.
    """
    words = [bare for word in text.split() if (bare := plain(word))]
    kind = language.closers | language.yes | language.fillers | _SOFT
    return bool(words) and not objects(text, language) and kind.issuperset(words)
