"""What a new utterance is to the ones before it: a correction, an addition, an answer, a request.

"No, to Chicago" takes back "to Denver", also when the agent has begun to answer; "no" after a
question is an answer; "on Friday" goes on; "what does it cost?" is something new. The words decide
as they do within one turn (`framepipe.conversation.repair`): the editing terms at the beginning,
and whether what follows is a rough copy of something that was said before.

Sans-IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from attrs import frozen

from framepipe.conversation.repair import analyse
from framepipe.conversation.rough_copy import (
    Aligned,
    Strength,
    Unit,
    align,
    alike,
    preposition_of,
    units_of,
    words_of,
)
from framepipe.conversation.turns import Correction
from framepipe.conversation.wordlists import ENGLISH, NAME, NUMBER, Language


@frozen(kw_only=True)
class Relation:
    """What a new utterance is to earlier ones.

    Attributes:
        kind: "correction": it takes something back. "addition": it goes on, or adds something.
            "answer": to what the agent asked. "request": something of its own.
        of: Which of the earlier utterances it corrects; ``None``: none.
        superseded: The words there that are taken back; "" when it is not said which.
        replacement: The words that count instead; "" when none have been said yet.
        decided: More words of the utterance would not change ``kind``.
    """

    kind: Literal["correction", "addition", "answer", "request"]
    of: int | None = None
    superseded: str = ""
    replacement: str = ""
    decided: bool = True


def relate(
    earlier: str | Sequence[str],
    new: str,
    language: Language = ENGLISH,
    *,
    asked: bool = False,
    final: bool = True,
    copies: bool = True,
) -> Relation:
    """Say what a new utterance of the user is to the ones before it.

    Args:
        earlier: What was said before, the newest last. Only what may still be corrected.
        new: The new words, complete or not.
        language: Whose words they are.
        asked: The agent has asked a question in between, and the user has heard it.
        final: ``new`` is complete.
        copies: A copy with another value in it ("to Chicago" after "to Denver") is a correction
            without an editing term, too. It may also be another request.
    """
    before = [earlier] if isinstance(earlier, str) else list(earlier)
    own = analyse(new, language, final=final)
    units = [unit for unit in units_of(words_of(own.text), language) if unit.bare]
    opening = _opening(units, language)
    rest = units[opening.n :]
    if not rest:
        return _bare_opening(opening, len(before), asked=asked, final=final)
    if opening.strength is None:
        found = _without_opening(before, rest, language, asked=asked, final=final)
        if found.kind == "correction" and not copies:
            return Relation(kind="answer" if asked else "request", decided=final)
        return found
    if not final and all(unit.is_function or unit.is_fragment for unit in rest):
        return Relation(kind="answer" if asked else "request", decided=False)
    waiting = False
    for number in reversed(range(len(before))):
        living = _living_units(before[number], language)
        aligned = align(living, rest, opening.strength, language)
        if isinstance(aligned, Aligned) and not final and _is_half(rest, aligned):
            waiting = True
        elif isinstance(aligned, Aligned):
            corrected = _corrected(living, rest, aligned, number)
            if corrected is not None:
                return corrected
        waiting |= aligned == "not yet"
    if waiting and not final:
        return Relation(kind="answer" if asked else "request", decided=False)
    if opening.strength is Strength.RESTART:
        return Relation(
            kind="correction",
            of=len(before) - 1,
            superseded=before[-1],
            replacement=_text_of(rest),
        )
    content = rest[0].bare not in language.clause_words | language.adds | language.closers
    if opening.strength is Strength.STRONG and content and not asked and before:
        return Relation(kind="correction", of=len(before) - 1, replacement=_text_of(rest))
    if rest[0].bare in language.adds:
        return Relation(kind="addition")
    return Relation(kind="answer" if asked else "request")


@frozen
class _Opening:
    """The editing terms that an utterance begins with: how many units, how strong, which."""

    n: int
    strength: Strength | None
    says_no: bool = False
    negated: str = ""


def _opening(units: Sequence[Unit], language: Language) -> _Opening:
    bare = [unit.bare for unit in units]
    at, terms, strong, restart, says_no = 0, list[str](), False, False, False
    while at < len(units):
        term = language.term_at(bare, at)
        if term:
            named = " ".join(term)
            terms.append(named)
            strong |= named in language.corrects
            restart |= named in language.restarts
            says_no |= term[0] in language.no
            at += len(term)
        elif units[at].bare in language.fillers or (not terms and _is_soft(units[at], language)):
            at += 1
        else:
            break
    negated = units[at].bare in language.negates if at < len(units) else False
    if negated and at + 1 < len(units):
        return _Opening(at + 1, Strength.STRONG, says_no, negated=units[at].bare)
    if not terms:
        return _Opening(0, None)
    strong |= len(set(terms)) > 1
    strength = Strength.RESTART if restart else Strength.STRONG if strong else Strength.WEAK
    return _Opening(at, strength, says_no)


def _is_soft(unit: Unit, language: Language) -> bool:
    """Say nothing before an editing term: "oh", "but", "yes"."""
    return unit.bare in language.yes or unit.bare in (
        "oh",
        "but",
        "ach",
        "ah",
        "aber",
        "pero",
        "mais",
        "and",
    )


def _bare_opening(opening: _Opening, n: int, *, asked: bool, final: bool) -> Relation:
    """Nothing but "no", "wait"."""
    if opening.strength is None:
        return Relation(kind="answer" if asked else "addition", decided=final)
    if opening.says_no and asked and opening.strength is Strength.WEAK:
        return Relation(kind="answer", decided=final)
    if not final:
        return Relation(kind="answer" if asked else "addition", decided=False)
    return Relation(kind="correction", of=n - 1 if n else None)


def _living_units(text: str, language: Language) -> list[Unit]:
    analysis = analyse(text, language)
    return [unit for unit in units_of(words_of(analysis.text), language) if unit.bare]


def _text_of(units: Sequence[Unit]) -> str:
    return " ".join(unit.text for unit in units)


def _corrected(
    living: Sequence[Unit], rest: Sequence[Unit], aligned: Aligned, number: int
) -> Relation | None:
    repair = rest[: aligned.n_repair]
    old = [living[at] for at in aligned.superseded]
    if [unit.bare for unit in old] == [unit.bare for unit in repair]:
        following = rest[aligned.n_repair :]
        # "Not Denver, Chicago": what is named first is what was wrong.
        other = next((u for u in following if not u.is_function), None)
        if other is None:
            return None
        if not any(alike(unit, other) and unit.bare != other.bare for unit in old):
            return None
        repair = following
    return Relation(
        kind="correction", of=number, superseded=_text_of(old), replacement=_text_of(repair)
    )


def _is_half(rest: Sequence[Unit], aligned: Aligned) -> bool:
    """What takes the place of what is not said yet: "no, the fifth of"."""
    return aligned.n_repair == len(rest) and rest[-1].is_function


def _without_opening(
    before: Sequence[str],
    rest: Sequence[Unit],
    language: Language,
    *,
    asked: bool,
    final: bool,
) -> Relation:
    """No editing term: a copy with another value in it is a correction all the same."""
    first = rest[0]
    if first.bare in language.adds or first.bare in language.conjunctions:
        return Relation(kind="addition")
    if first.bare in language.yes | language.no | language.closers:
        return Relation(kind="answer", decided=final or len(rest) > 1)
    if not before:
        return Relation(kind="answer" if asked else "request")
    living = _living_units(before[-1], language)
    if not living:
        return Relation(kind="answer" if asked else "request")
    if first.kind == NUMBER and living[-1].kind == NUMBER:
        return Relation(kind="answer" if asked else "addition")
    last = living[-1]
    if last.is_function or last.bare in language.fillers or last.is_fragment:
        return Relation(kind="answer" if asked else "addition")
    if first.bare in language.prepositions:
        if len(rest) < 2 and not final:
            return Relation(kind="request", decided=False)
        return _second_phrase(living, rest, len(before) - 1, language, asked=asked)
    short = len(rest) <= 2 and final
    same_kind = first.kind == last.kind and first.kind not in (None, NUMBER, NAME, "answer")
    if short and not asked and same_kind and first.bare != last.bare:
        return Relation(
            kind="correction",
            of=len(before) - 1,
            superseded=last.text,
            replacement=_text_of(rest),
        )
    if asked:
        return Relation(kind="answer", decided=final or len(rest) > 2)
    return Relation(kind="request", decided=final or len(rest) > 2)


def _second_phrase(
    living: Sequence[Unit],
    rest: Sequence[Unit],
    number: int,
    language: Language,
    *,
    asked: bool,
) -> Relation:
    """Compare a phrase: "to Chicago" after "to Denver" corrects it; "on Friday" goes on."""
    head = next((unit for unit in rest if not unit.is_function), None)
    if head is not None and head.kind not in (None, NUMBER):
        for at in reversed(range(len(living))):
            if living[at].is_function or not alike(living[at], head):
                continue
            lead = preposition_of(living, at, language)
            if lead is None or living[lead].bare != rest[0].bare:
                continue
            if living[at].bare == head.bare:
                break
            return Relation(
                kind="correction",
                of=number,
                superseded=_text_of(living[lead : at + 1]),
                replacement=_text_of(rest[: rest.index(head) + 1]),
            )
    return Relation(kind="answer" if asked else "addition")


class SpokenCorrections:
    """Tells `TurnCore` which words take back earlier ones; see its ``Corrections``.

    It does not know what the agent asked in between, nor whether more words come, so it calls
    nothing a correction that does not begin with an editing term.

    Args:
        language: Whose words they are.
    """

    def __init__(self, language: Language = ENGLISH) -> None:
        self.language = language

    def correction(self, earlier: str, later: str, /) -> Correction | None:
        """Whether ``later``, as far as it has come, takes back a part of ``earlier``."""
        found = relate(earlier, later, self.language, asked=True, final=False, copies=False)
        if found.kind != "correction":
            return None
        return Correction(old=found.superseded, new=found.replacement)
