"""What a short transcript means: words, a backchannel, or nothing.

People say "mm-hm" and "yeah" about a thousand times an hour without wanting the floor. By sound
alone these are speech like any other; only the text tells. A text is a backchannel if listed
phrases and fillers are all there is in it, or if it is one word without content. It is nothing
if no word is left, which is what transcription makes of a cough.

The lists are per language and meant to be extended. A phrase in them is one that may be said
*while another speaks*, without a wish to speak oneself: "yes" is one, "no", "stop" and "what?" are
not. After a question even "yes" is an answer; who asks about that is
`framepipe.conversation.third_stage`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, auto
from typing import Final

from framepipe.errors import FrameError


class Meaning(Enum):
    """What a transcript of user speech says."""

    WORDS = auto()
    """Something."""
    BACKCHANNEL = auto()
    """Only that the user is listening."""
    NOTHING = auto()
    """No word at all."""


PHRASES: Final[Mapping[str, tuple[str, ...]]] = {
    "en": (
        *("mm", "mhm", "mm hm", "mm hmm", "mmhm", "mmhmm", "uh huh", "uhhuh", "hm", "hmm", "m"),
        *("ah", "aha", "oh", "ooh", "wow", "huh", "yeah", "yea", "yep", "yup", "yes", "ok", "okay"),
        *("right", "alright", "all right", "sure", "of course", "indeed", "exactly", "true"),
        *("i see", "i know", "i understand", "got it", "gotcha", "good", "great", "nice", "cool"),
        *("fine", "perfect", "lovely", "fair enough", "makes sense", "that makes sense", "really"),
        *("go on", "go ahead", "interesting", "absolutely", "definitely", "oh yeah", "oh really"),
    ),
    "de": (
        *("mhm", "mmh", "hm", "hmm", "ah", "aha", "oh", "ach", "ach so", "achso", "ja", "jo"),
        *(
            "jaja",
            "jawohl",
            "okay",
            "ok",
            "genau",
            "stimmt",
            "richtig",
            "klar",
            "na klar",
            "alles klar",
        ),
        *("gut", "sehr gut", "schön", "verstehe", "ich verstehe", "verstanden", "ich weiß"),
        *("natürlich", "sicher", "eben", "super", "toll", "prima", "echt", "wirklich", "ach ja"),
        *("interessant", "wahnsinn", "na gut", "weiter"),
    ),
    "es": (
        *("mm", "mhm", "ajá", "aja", "ah", "oh", "sí", "si", "sip", "ya", "ya veo", "okay", "ok"),
        *("vale", "claro", "claro que sí", "bueno", "bien", "muy bien", "perfecto", "exacto"),
        *("exactamente", "de acuerdo", "entiendo", "entendido", "comprendo", "cierto", "verdad"),
        *("eso", "eso es", "así es", "genial", "qué bien", "ah sí", "en serio", "interesante"),
        *("por supuesto", "desde luego", "sigue", "siga"),
    ),
    "fr": (
        *("mm", "mhm", "hm", "ah", "oh", "ouais", "oui", "ouip", "ok", "okay", "d'accord"),
        *("bien", "très bien", "bien sûr", "bon", "ah bon", "ah oui", "exact", "exactement"),
        *("c'est ça", "voilà", "je vois", "je comprends", "compris", "entendu", "tout à fait"),
        *("absolument", "parfait", "super", "génial", "vraiment", "c'est vrai", "en effet"),
        *("évidemment", "intéressant", "continuez", "vas-y"),
    ),
}
"""Backchannels by language, ISO 639-1."""

FILLERS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("um", "uh", "uhm", "er", "erm", "eh"),
    "de": ("äh", "ähm", "öh", "eh", "tja"),
    "es": ("eh", "em"),
    "fr": ("euh", "heu", "ben", "bah", "eh"),
}
"""Sounds of hesitation by language: they may stand anywhere in a backchannel."""

EMPTY_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "en": ("the", "a", "an", "to", "of", "is", "so", "well", "like", "you"),
    "de": ("der", "die", "das", "ein", "zu", "von", "ist", "so", "also", "na", "du"),
    "es": ("el", "la", "un", "una", "de", "es", "y", "este", "pues", "tú"),
    "fr": ("le", "la", "un", "une", "de", "et", "est", "donc", "alors", "tu"),
}
"""Words without content by language: one that stands alone is no turn. "But" is not among them: who
says that wants to go on."""

_NOTES: Final = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|<[^>]*>|♪[^♪]*♪?")
"""What transcription writes beside words: ``[cough]``, ``(laughs)``, ``*sneezes*``, music."""

_LONG: Final = re.compile(r"(\w)\1{2,}")
_WORD: Final = re.compile(r"\w+")


class Backchannels:
    """Tells a backchannel from words.

    Args:
        languages: Of the lists to use, of `PHRASES`. All of them by default: people mix, and
            transcription guesses the language of a single "mm" badly.
        more: Phrases of your own, in any language, as they are written in a transcript.

    Raises:
        FrameError: A language that has no list, or a phrase without a word.
    """

    def __init__(
        self, languages: Iterable[str] = tuple(PHRASES), *, more: Iterable[str] = ()
    ) -> None:
        phrases = list(more)
        languages = tuple(languages)
        for language in languages:
            if language not in PHRASES:
                known = ", ".join(sorted(PHRASES))
                raise FrameError(
                    f"no list of backchannels for {language!r}; there is one for {known}, and "
                    "more=(…) takes phrases of any language"
                )
            phrases += [*PHRASES[language], *FILLERS[language]]
        self._alone = {word for language in languages for word in EMPTY_WORDS[language]}
        self._phrases: set[tuple[str, ...]] = set()
        for phrase in phrases:
            words = tuple(_words(phrase))
            if not words:
                raise FrameError(f"{phrase!r} has no word in it; it cannot be a backchannel")
            self._phrases.add(words)
        self._longest = max(map(len, self._phrases), default=0)

    def meaning(self, text: str) -> Meaning:
        """What a transcript means.

        Args:
            text: The whole of one user item.
        """
        words = tuple(_words(text))
        if not words:
            return Meaning.NOTHING
        is_alone = len(words) == 1 and words[0] in self._alone
        return Meaning.BACKCHANNEL if is_alone or self._is_listed(words) else Meaning.WORDS

    def _is_listed(self, words: tuple[str, ...]) -> bool:
        """Whether the words are a row of listed phrases."""
        ends = {0}  # where such a row may end
        for end in range(1, len(words) + 1):
            first = max(0, end - self._longest)
            if any(at in ends and words[at:end] in self._phrases for at in range(first, end)):
                ends.add(end)
        return len(words) in ends


def _words(text: str) -> Iterator[str]:
    """The words, folded: no case, no marks, no drawn-out letters; apostrophes and hyphens split."""
    plain = unicodedata.normalize("NFKC", _NOTES.sub(" ", text)).casefold()
    yield from _WORD.findall(_LONG.sub(r"\1", plain))
