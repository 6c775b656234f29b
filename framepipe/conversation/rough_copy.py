"""Lay the words of a repair beside the words that they may replace.

A repair is mostly a rough copy of what it takes back: it begins with the same word ("to Denver,
no, to Chicago"), or puts a word of the same kind in its place ("Denver, no, Chicago"). `align` says
which words are superseded, that the repair says nothing of the kind, or that one more word is
needed to tell.

Sans-IO.

Source: Levelt 1983, on how the first word of a repair tells where it belongs; Shriberg 1994 for
the parts of a repair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import takewhile
from typing import Final, Literal

from attrs import evolve, frozen

from framepipe.conversation.wordlists import NAME, NUMBER, Language, kind_of_word, plain

PAUSE_NS: Final = 120_000_000
"""A silence before a word that sets it off as a comma does."""


@frozen
class Word:
    """One word of a transcript.

    Attributes:
        text: As written, with its punctuation.
        start_ns: When it began, where that is known.
        end_ns: When it ended.
    """

    text: str
    start_ns: int | None = None
    end_ns: int | None = None


def words_of(text: str) -> list[Word]:
    """The words of a text, without times."""
    return [Word(word) for word in _split_dashes(text).split()]


def _split_dashes(text: str) -> str:
    """A dash between blanks is punctuation of the word before it."""
    return (
        text.replace(" \u2014 ", "\u2014 ").replace(" \u2013 ", "\u2013 ").replace(" - ", "\u2014 ")
    )


@frozen
class Unit:
    """A word, or a phrase that a list has as one ("the day after tomorrow")."""

    text: str
    bare: str
    kind: str | None
    start: int
    end: int
    after_comma: bool
    before_comma: bool
    is_fragment: bool
    is_function: bool


def units_of(words: Sequence[Word], language: Language) -> list[Unit]:
    """The words as units: listed phrases and names are one each."""
    units: list[Unit] = []
    at, begins, comma = 0, True, True
    bare = [plain(word.text) for word in words]
    while at < len(words):
        n = _phrase_at(bare, at, language) or _name_at(words, at, language, begins=begins)
        text = " ".join(word.text for word in words[at : at + n])
        joined = " ".join(bare[at : at + n])
        kind = (
            language.kind_of_phrase[tuple(bare[at : at + n])]
            if tuple(bare[at : at + n]) in language.kind_of_phrase
            else kind_of_word(words[at].text, language, begins=begins)
        )
        paused = at > 0 and _is_apart(words[at - 1], words[at])
        ends_sentence = text.rstrip("\"')").endswith((".", "?", "!"))
        units.append(
            Unit(
                text,
                joined,
                kind,
                at,
                at + n,
                after_comma=comma or paused,
                before_comma=text.endswith(
                    (",", ".", ";", ":", "?", "!", "\u2014", "\u2013", "\u2026")
                ),
                is_fragment=len(joined) > 1 and text.rstrip(",.").endswith("-"),
                is_function=joined in language.function_words and kind is None,
            )
        )
        comma, begins = units[-1].before_comma, ends_sentence
        at += n
    return units


def _is_apart(before: Word, word: Word) -> bool:
    if before.end_ns is None or word.start_ns is None:
        return False
    return word.start_ns - before.end_ns >= PAUSE_NS


def _phrase_at(bare: Sequence[str], at: int, language: Language) -> int:
    for n in range(min(language.longest_phrase, len(bare) - at), 1, -1):
        if tuple(bare[at : at + n]) in language.kind_of_phrase:
            return n
    return 0


def _name_at(words: Sequence[Word], at: int, language: Language, *, begins: bool) -> int:
    """Words of a name that begins here ("New York"); 1 where none does."""
    n = 1
    while (
        at + n < len(words)
        and kind_of_word(words[at + n - 1].text, language, begins=begins) == NAME
        and kind_of_word(words[at + n].text, language) == NAME
        and words[at + n - 1].text[-1:].isalnum()
    ):
        n += 1
    return n


def alike(one: Unit, other: Unit) -> bool:
    """Whether one may stand for the other: the same word, or the same kind."""
    if one.bare == other.bare or one.is_fragment:
        return True
    if one.kind is None or other.kind is None:
        return False
    return one.kind == other.kind or (NAME in (one.kind, other.kind) and _is_open(one, other))


def _is_open(one: Unit, other: Unit) -> bool:
    """A name that no list has may be of any kind that is made of names, not of numbers or days."""
    return not {one.kind, other.kind} & _CLOSED_KINDS


_CLOSED_KINDS: Final = frozenset(
    {NUMBER, "ordinal", "day", "month", "part of day", "time", "answer"}
)


class Strength(IntEnum):
    """How much an editing run says by itself."""

    WEAK = 1
    STRONG = 2
    RESTART = 3


@frozen
class Aligned:
    """Which of the earlier units the repair has other words for, and how long the repair is."""

    superseded: tuple[int, ...]
    n_repair: int


def align(
    before: Sequence[Unit],
    repair: Sequence[Unit],
    strength: Strength,
    language: Language,
) -> Aligned | Literal["no", "not yet"]:
    """Lay a repair beside what was said before it.

    Returns:
        Positions in ``before`` that are superseded; "not yet" when more words are needed.
    """
    repair = [*takewhile(lambda unit: bool(unit.bare), repair)]
    skipped = 0
    while skipped < len(repair) and repair[skipped].bare in language.fillers:
        skipped += 1
    found = _start_of(before, repair[skipped:], strength, language)
    if isinstance(found, str):
        return found
    aligned = _grown(before, repair[skipped:], found, language)
    return evolve(aligned, n_repair=aligned.n_repair + skipped)


def _start_of(
    before: Sequence[Unit], repair: Sequence[Unit], strength: Strength, language: Language
) -> int | Literal["no", "not yet"]:
    """Where in ``before`` the repair begins to be a copy."""
    if not repair:
        return "not yet"
    first = repair[0]
    if first.bare in language.adds | language.closers:
        return "no"
    if first.bare in language.clause_words:
        return _clause_start(before, repair, strength)
    led = [*takewhile(lambda unit: unit.is_function, repair)]
    preposition = next((u for u in reversed(led) if u.bare in language.prepositions), None)
    if len(led) == len(repair):
        same = last_same(before, first)
        if same is not None and (preposition is not None or strength > Strength.WEAK):
            return same
        return "not yet"
    head = repair[len(led)]
    if preposition is not None:
        return _phrase_start(before, preposition, head, strength, language)
    if led:
        same = last_same(before, led[0])
        if same is not None and any(alike(u, head) or _loose(u, head) for u in before[same:]):
            return same
    return _head_start(before, repair[len(led) :], strength, language)


def _clause_start(
    before: Sequence[Unit], repair: Sequence[Unit], strength: Strength
) -> int | Literal["no", "not yet"]:
    """A new start of the sentence counts as one only when it copies the old."""
    same = last_same(before, repair[0])
    if same is None:
        return "no"
    if len(repair) < 2:
        return "not yet"
    copied = same + 1 < len(before) and before[same + 1].bare == repair[1].bare
    return same if copied or strength > Strength.STRONG else "no"


def _phrase_start(
    before: Sequence[Unit],
    preposition: Unit,
    head: Unit,
    strength: Strength,
    language: Language,
) -> int | Literal["no", "not yet"]:
    """Find the phrase: "to Chicago" replaces "to Denver", and not "from Oslo"."""
    other: int | None = None
    for at in reversed(range(len(before))):
        if not alike(before[at], head) or before[at].is_function:
            continue
        lead = preposition_of(before, at, language)
        if lead is not None and before[lead].bare == preposition.bare:
            return lead
        if other is None:
            other = at if lead is None else lead
            same_word = before[at].bare == head.bare
            if same_word:
                return other
    if other is not None and strength > Strength.WEAK and _lone_phrase(before, head):
        return other
    same = last_same(before, preposition)
    if same is not None and head.kind is None and strength > Strength.WEAK:
        return same
    return "no"


def _lone_phrase(before: Sequence[Unit], head: Unit) -> bool:
    """Only one thing of this kind has been said, so it is the one that is meant."""
    return sum(alike(unit, head) and not unit.is_function for unit in before) == 1


def _head_start(
    before: Sequence[Unit], repair: Sequence[Unit], strength: Strength, language: Language
) -> int | Literal["no", "not yet"]:
    """A word without preposition replaces the last one of its kind."""
    head = repair[0]
    if head.kind == NUMBER:
        run = _number_run(before)
        if run is not None:
            return _number_start(before, run, head)
    for at in reversed(range(len(before))):
        if not before[at].is_function and alike(before[at], head):
            return at
    # Neither has a kind: a word further on may be the copy ("the red one, no, blue one").
    for n, unit in enumerate(repair[1:3], 1):
        same = None if unit.is_function else last_same(before, unit)
        if same is not None and same >= n and head.kind is None:
            return same - n
    last = next((at for at in reversed(range(len(before))) if not before[at].is_function), None)
    if last is None or before[last].kind is not None or head.kind is not None:
        known = last is not None and (before[last].kind is None) != (head.kind is None)
        if known and strength > Strength.WEAK and last is not None:
            return last
        return "no"
    if strength > Strength.WEAK:
        return last
    return "not yet" if len(repair) < 3 else "no"


def _number_run(before: Sequence[Unit]) -> tuple[int, int] | None:
    """The last numbers in a row, first and after the last."""
    end = next((at + 1 for at in reversed(range(len(before))) if before[at].kind == NUMBER), None)
    if end is None:
        return None
    start = end - 1
    while start and before[start - 1].kind == NUMBER:
        start -= 1
    return start, end


def _number_start(before: Sequence[Unit], run: tuple[int, int], head: Unit) -> int:
    """Who corrects a number says its group again, or the digit that was wrong."""
    start, end = run
    if before[start].bare == head.bare:
        return start
    for at in reversed(range(start, end)):
        if before[at].bare == head.bare:
            return at
    tens = [at for at in range(start, end) if before[at].bare.endswith("ty")]
    if tens and head.bare.endswith("ty"):
        return tens[-1]
    return end - 1


def _grown(
    before: Sequence[Unit], repair: Sequence[Unit], start: int, language: Language
) -> Aligned:
    """Go along both sides as long as they are copies of one another."""
    there, here = start, 0
    superseded: list[int] = []
    while there < len(before) and here < len(repair):
        old, new = before[there], repair[here]
        if alike(old, new) or _loose(old, new):
            superseded.append(there)
            there, here = there + 1, here + 1
        elif new.bare in language.fillers:
            here += 1
        elif here + 1 < len(repair) and alike(old, repair[here + 1]) and not old.is_function:
            here += 1  # a word more in the repair: "to sunny Chicago"
        elif old.is_function and there + 1 < len(before) and alike(before[there + 1], new):
            superseded.append(there)
            there += 1
        elif here == 0:
            superseded.append(there)
            there, here = there + 1, here + 1
        else:
            break
    if superseded and here and here == len(repair) and repair[here - 1].is_function:
        superseded += _rest_of_phrase(before, there, language)
    if superseded and before[superseded[-1]].kind == NUMBER:
        rest = range(superseded[-1] + 1, len(before))
        superseded += takewhile(lambda at: before[at].kind == NUMBER, rest)
    superseded += [
        at for at in range(there, len(before)) if before[at].is_fragment and at not in superseded
    ]
    return Aligned(tuple(superseded), max(here, 1) if repair else 0)


def _loose(old: Unit, new: Unit) -> bool:
    """Two words of which no list knows the kind."""
    return not (old.is_function or new.is_function or old.kind or new.kind)


def _rest_of_phrase(before: Sequence[Unit], start: int, language: Language) -> Iterator[int]:
    """The object of a preposition, while only the preposition was said again."""
    for at in range(start, len(before)):
        if before[at].bare in language.prepositions | language.conjunctions:
            return
        yield at


def last_same(before: Sequence[Unit], unit: Unit) -> int | None:
    """Where a word was said last."""
    return next((at for at in reversed(range(len(before))) if before[at].bare == unit.bare), None)


def preposition_of(before: Sequence[Unit], at: int, language: Language) -> int | None:
    """The preposition of the phrase that a word ends."""
    for back in reversed(range(at)):
        if before[back].bare in language.prepositions:
            return back
        if not before[back].is_function and before[back].kind != before[at].kind:
            return None
    return None
