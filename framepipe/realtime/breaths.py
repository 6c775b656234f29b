"""What the user of the flight desk said, as the desk remembers it.

Items of the conversation become *breaths*: what was said without a whole sentence of the desk in
between is one breath, in pieces where the desk had begun to speak and was cut. Messages of the
system that say what takes the place of what are believed, and change what is remembered.

Sans-IO.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import evolve, frozen

from framepipe.realtime.mind import Question, text_of

EDITING: Final = (
    r"no|nope|wait|sorry|actually|i mean|i meant|or rather|rather|make (?:it|that)|hold on|"
    r"hang on|scratch that|correction|oops"
)
"""Words that take something back, as a regular expression."""

_EDITING_WORDS: Final = re.compile(
    rf"\b(?:{EDITING}|um|uh|er|oh|not|and|but)\b|[^\w\s]", re.IGNORECASE
)
_CORRECTED: Final = re.compile(r'"(?P<new>[^"]+)" takes the place of "(?P<old>[^"]+)"')
_TAKEN_BACK: Final = re.compile(r'taken back "(?P<old>[^"]+)"')


@frozen
class Piece:
    """The words of one or more items with nothing in between.

    Attributes:
        words: All of them; "" where nobody made them out.
        after_question: The desk has said something before them, and perhaps was cut.
    """

    words: str
    after_question: bool = False


@frozen
class Breath:
    """What the user said while the desk said no whole sentence.

    Attributes:
        pieces: At least one.
        after_booking: What was agreed on before it has been done.
    """

    pieces: tuple[Piece, ...]
    after_booking: bool = True

    @property
    def words(self) -> str:
        """All of it."""
        return " ".join(piece.words for piece in self.pieces if piece.words)


def breaths_of(question: Question) -> list[Breath]:
    """What was said so far, oldest first; each of ``said`` is a breath where items do not tell."""
    n_messages = sum(item.type == "message" and item.role == "user" for item in question.items)
    if n_messages != len(question.said):
        return [Breath((Piece(words),)) for words in question.said]
    breaths: list[Breath] = []
    said = iter(question.said)
    ended, began, booked = True, False, False
    for item in question.items:
        if item.type == "function_call_output":
            booked |= "error" not in str(item.output or "error").lower()
        elif item.type == "message" and item.role == "assistant":
            began = True
            ended |= text_of(item) is not None  # a truncated item has no words any more
        elif item.type == "message" and item.role == "system":
            breaths = _corrected(breaths, text_of(item) or "")
        elif item.type == "message":
            words = next(said)
            piece = Piece(words, after_question=began)
            # What was not made out is a breath of its own: the desk asks again.
            if ended or booked or not (words and breaths and breaths[-1].words):
                breaths.append(Breath((evolve(piece, after_question=False),), booked))
            else:
                breaths[-1] = evolve(breaths[-1], pieces=_joined(breaths[-1].pieces, piece))
            ended, began, booked = False, False, False
    return breaths


def _joined(pieces: tuple[Piece, ...], piece: Piece) -> tuple[Piece, ...]:
    if piece.after_question:
        return (*pieces, piece)
    return (*pieces[:-1], evolve(pieces[-1], words=f"{pieces[-1].words} {piece.words}"))


def _corrected(breaths: list[Breath], message: str) -> list[Breath]:
    """What is remembered after a message of the system that corrects it."""
    found = _CORRECTED.search(message)
    taken = found or _TAKEN_BACK.search(message)
    if taken is None:
        return breaths
    new, old = found["new"] if found else "", taken["old"]
    places = [(nth, at) for nth, breath in enumerate(breaths) for at in range(len(breath.pieces))]
    words = [breaths[nth].pieces[at].words for nth, at in places]
    # The newest words are the correction itself, and may name what they take back.
    which = next((k for k in reversed(range(len(words) - 1)) if old in words[k]), None)
    if which is None:
        which = len(words) - 1
        if which < 0 or old not in words[which]:
            return breaths
    before, _, after = words[which].rpartition(old)
    words[which] = f"{before}{new}{after}"
    for later in range(which + 1, len(words)):
        if new and new in words[later]:
            # What is left says something else, and its "no" has been dealt with.
            left = words[later].replace(new, "", 1).replace(old, "", 1)
            words[later] = " ".join(_EDITING_WORDS.sub(" ", left).split()) or _GONE
            break
    changed = list(breaths)
    for (nth, at), text in zip(places, words, strict=True):
        pieces = changed[nth].pieces
        changed[nth] = evolve(
            changed[nth], pieces=(*pieces[:at], evolve(pieces[at], words=text), *pieces[at + 1 :])
        )
    kept = [
        evolve(breath, pieces=tuple(piece for piece in breath.pieces if piece.words != _GONE))
        for breath in changed
    ]
    return [breath for breath in kept if breath.pieces]


_GONE: Final = "\0"
"""Words that were nothing but a correction that has been made."""
