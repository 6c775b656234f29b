"""What did they mean? Corrections that people make of their own words.

"To Denver, wait, no, Chicago." A correction has four parts (Shriberg 1994): what is taken back
(the reparandum), the point where the speaker stops, often an editing term ("wait, no"), and the
repair, which is a rough copy of what it replaces (`framepipe.conversation.rough_copy`). A list of
editing terms and that alignment tell a correction from a "no" that is an answer. The editing term
and one more word mostly decide (Levelt 1983), and nothing is decided before.

What is superseded is what the repair gives other words for, and no more: after "from Oslo to Rome
on Friday, no, from Vienna" the user still wants to go to Rome on Friday.

`analyse` judges words as they stand. `RepairListener` does it word by word while a transcript
comes in and says what changed: a hypothesis is added, grows with its repair, and is committed at
the end or revoked; one that was revoked does not come back, and further words revoke only what
they contradict ("… actually Chicago *too*"). Two utterances are compared in
`framepipe.conversation.relations`.

Sans-IO: words in, hypotheses out; times are nanoseconds and only passed on or compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from attrs import define, frozen

from framepipe.conversation.rough_copy import (
    Aligned,
    Strength,
    Unit,
    Word,
    align,
    alike,
    units_of,
    words_of,
)
from framepipe.conversation.wordlists import ENGLISH, NAME, NUMBER, Language, plain

MAX_WORDS: Final = 240
"""Words of one turn that are looked at together: a minute and a half. Corrections further back are
settled."""

_REPAIR_WORDS: Final = 12
"""A repair is not longer than this; what comes after goes on with the sentence."""

_LONGEST_COPY: Final = 5
"""Words that are said again when a sentence is begun anew."""


@frozen(kw_only=True)
class SelfCorrection:
    """Some words that take the place of others.

    Positions count the words of the turn.

    Attributes:
        superseded: Positions of the words that are taken back.
        editing: First position of the editing term, and the one after its last.
        repair: First position of the repair, and the one after its last.
        superseded_text: The words that are taken back.
        editing_text: The editing term; "" for a restart without one.
        repair_text: The words that count instead; "" if there are none.
    """

    superseded: tuple[int, ...]
    editing: tuple[int, int]
    repair: tuple[int, int]
    superseded_text: str
    editing_text: str
    repair_text: str

    @property
    def changes(self) -> bool:
        """Whether it says something else, and not the same again."""
        return _spoken(self.superseded_text) != _spoken(self.repair_text)


@frozen(kw_only=True)
class Analysis:
    """What is known of the words of a turn so far.

    Attributes:
        corrections: In the order in which they were made.
        text: The words as they count: what was superseded and the editing terms left out, each
            repair in the place of what it replaces.
        is_pending: The last words may be the beginning of a correction ("… to Denver, no").
    """

    corrections: tuple[SelfCorrection, ...]
    text: str
    is_pending: bool


def analyse(
    words: str | Sequence[Word], language: Language = ENGLISH, *, final: bool = True
) -> Analysis:
    """Find the corrections within one turn.

    Args:
        words: What was said.
        language: Whose words they are.
        final: Nothing more will come: what is undecided is no correction.
    """
    listed = words_of(words) if isinstance(words, str) else list(words)
    reader = _Reader(listed, language, final)
    reader.read()
    return Analysis(
        corrections=tuple(reader.corrections),
        text=" ".join(reader.units[at].text for at in reader.order),
        is_pending=reader.is_pending,
    )


def _spoken(text: str) -> tuple[str, ...]:
    return tuple(filter(None, map(plain, text.split())))


@frozen
class _Run:
    """Editing terms and fillers in a row, ``units[start:end]``."""

    start: int
    end: int
    strength: Strength


_Verdict: TypeAlias = "_Yes | Literal['no', 'not yet']"


@frozen
class _Yes:
    """It is a correction: of which living units, by how many units after the editing term."""

    superseded: tuple[int, ...]
    n_repair: int


class _Reader:
    """Reads the units of one turn from left to right, once."""

    def __init__(self, words: Sequence[Word], language: Language, final: bool) -> None:
        self.units = units_of(words, language)
        self.corrections: list[SelfCorrection] = []
        self.order: list[int] = []  # living units, as they count
        self.is_pending = False
        self._language, self._final = language, final
        self._words = words
        self._bare = [unit.bare for unit in self.units]
        self._n_lead = 0  # units of the editing terms that the turn begins with

    def read(self) -> None:
        run = self._run_at(0)
        at = self._n_lead = run.end if run is not None else 0
        self.order += range(at)
        while at < len(self.units):
            at = self._read_at(at)

    def _read_at(self, at: int) -> int:
        unit = self.units[at]
        run = self._run_at(at) if self._has_content() else None
        if run is not None:
            verdict = self._judge(run)
            if isinstance(verdict, _Yes):
                return self._correct(run.start, run.end, verdict)
            if verdict == "not yet" and not self._final:
                self.is_pending = True
                self.order += range(run.start, len(self.units))
                return len(self.units)
            if verdict == "not yet" and run.end == len(self.units):
                self.is_pending = True
            self.order += range(run.start, run.end)
            return run.end
        if unit.bare in self._language.fillers or not unit.bare:
            return at + 1
        plainly = self._without_term(at)
        if plainly is not None:
            return self._correct(at, at, plainly)
        self.order.append(at)
        return at + 1

    def _has_content(self) -> bool:
        return len(self.order) > self._n_lead

    def _living(self) -> list[Unit]:
        return [self.units[at] for at in self.order[self._n_lead :]]

    def _correct(self, start: int, end: int, verdict: _Yes) -> int:
        repair = range(end, end + verdict.n_repair)
        place = self.order.index(verdict.superseded[0]) if verdict.superseded else len(self.order)
        gone = set(verdict.superseded)
        before = [at for at in self.order[:place] if at not in gone]
        after = [at for at in self.order[place:] if at not in gone]
        self.order = [*before, *repair, *after]
        positions = tuple(
            position
            for at in sorted(verdict.superseded)
            for position in range(self.units[at].start, self.units[at].end)
        )
        first = self.units[start].start
        repair_first = self.units[end].start if end < len(self.units) else len(self._words)
        repair_last = self.units[repair[-1]].end if repair else repair_first
        self.corrections.append(
            SelfCorrection(
                superseded=positions,
                editing=(first, repair_first),
                repair=(repair_first, repair_last),
                superseded_text=self._text(positions),
                editing_text=self._text(range(first, repair_first)),
                repair_text=self._text(range(repair_first, repair_last)),
            )
        )
        return end + verdict.n_repair

    def _text(self, positions: Sequence[int]) -> str:
        return " ".join(self._words[at].text for at in positions)

    # --- editing terms ---

    def _run_at(self, start: int) -> _Run | None:
        """The longest run of editing terms and fillers that begins here."""
        units, language = self.units, self._language
        at, terms, strong, restart = start, list[str](), False, False
        while at < len(units):
            term = self._term_at(at)
            if term:
                named = " ".join(term)
                strong |= named in language.corrects
                restart |= named in language.restarts
                terms.append(named)
                at += len(term)
                continue
            negated = self._negated_at(at)
            if negated:
                strong = True
                terms.append("not")
                at += negated
            elif units[at].bare in language.fillers and not units[at].is_fragment:
                at += 1
            else:
                break
        if not terms:
            return None
        before = units[start - 1] if start else None
        lone = len(terms) == 1 and not (strong or restart)
        set_off = units[start].after_comma
        bound = before is not None and before.bare in (
            language.prepositions | language.determiners | {"can't", "cannot", "can"}
        )
        if lone and bound and not set_off:
            return None
        strong |= len(set(terms)) > 1 or (set_off and units[at - 1].before_comma)
        strength = Strength.RESTART if restart else Strength.STRONG if strong else Strength.WEAK
        return _Run(start, at, strength)

    def _term_at(self, at: int) -> tuple[str, ...]:
        return self._language.term_at(self._bare, at)

    def _negated_at(self, at: int) -> int:
        """Units of "not Denver, but" where Denver has been said; 0: none."""
        units, language = self.units, self._language
        if units[at].bare not in language.negates or at + 1 >= len(units):
            return 0
        n = 1
        while at + n < len(units) and units[at + n].is_function:
            n += 1
        if at + n >= len(units):
            return 0
        named = units[at + n]
        if all(named.bare != unit.bare for unit in self._living()):
            return 0
        n += 1
        if at + n < len(units) and units[at + n].bare in ("but", "sondern", "sino", "mais"):
            n += 1
        return n

    # --- is it a correction, and of what? ---

    def _judge(self, run: _Run) -> _Verdict:
        living = self._living()
        if run.strength is Strength.RESTART:
            return _Yes(tuple(self.order[self._n_lead :]), 0)
        found = align(living, self._repair_from(run.end), run.strength, self._language)
        if not isinstance(found, Aligned):
            return found
        if self._is_added(run.end + found.n_repair):
            return "no"
        living_at = self.order[self._n_lead :]
        return _Yes(tuple(living_at[at] for at in found.superseded), found.n_repair)

    def _repair_from(self, start: int) -> list[Unit]:
        """What may be the repair: up to the next editing term, or as long as one can be."""
        repair: list[Unit] = []
        for at in range(start, min(len(self.units), start + _REPAIR_WORDS)):
            if self._term_at(at) and repair:
                break
            repair.append(self.units[at])
        return repair

    def _is_added(self, at: int) -> bool:
        """Both are wanted: "Chicago too"."""
        following = [unit.bare for unit in self.units[at : at + 2]]
        last = {"too", "also", "both", "auch", "también", "aussi"}
        return bool(following) and (following[0] in last or following == ["as", "well"])

    def _without_term(self, at: int) -> _Yes | None:
        """Restarts that have no editing term: a copy says that it is one."""
        units, living = self.units, self._living()
        if not living:
            return None
        last, unit = living[-1], units[at]
        if last.is_fragment:
            return _Yes((self.order[-1],), 1)
        for n in range(_LONGEST_COPY, 1, -1):
            said, again = living[-n:], units[at : at + n]
            copied = [one.bare for one in said] == [other.bare for other in again]
            if copied and said[0].is_function and len(again) == n:
                return _Yes(tuple(self.order[-n:]), n)
        here = units[at : at + 2]
        if len(here) == 2 and len(living) >= 2 and unit.bare in self._language.prepositions:
            other = here[1]
            replaces = (
                living[-2].bare == unit.bare
                and last.kind not in (None, NUMBER)
                and last.bare != other.bare
                and alike(last, other)
            )
            if replaces:
                return _Yes(tuple(self.order[-2:]), 2)
        hesitated = at > 0 and units[at - 1].bare in self._language.fillers
        if hesitated and len(here) == 2 and len(living) >= 2:
            copied = last.bare == here[1].bare and not last.is_function and last.kind is None
            if copied and living[-2].kind is not None and alike(living[-2], unit):
                return _Yes(tuple(self.order[-2:]), 2)
        if hesitated and last.kind not in (None, NUMBER, "ordinal", "answer", NAME):
            led = len(living) < 2 or living[-2].is_function
            if led and last.kind == unit.kind and last.bare != unit.bare:
                return _Yes((self.order[-1],), 1)
        return None


# --- while the words come in ------------------------------------------------------------------


@frozen(kw_only=True)
class Hypothesis:
    """A correction that is believed in, for now.

    Attributes:
        number: Names it within its turn, from 0.
        state: "added", "grown" (its repair is longer now), "revoked" or "committed"; the last two
            are the end of it.
        correction: What it is about.
        at_ns: When this was known.
    """

    number: int
    state: Literal["added", "grown", "revoked", "committed"]
    correction: SelfCorrection
    at_ns: int


@define
class _Held:
    number: int
    correction: SelfCorrection


class RepairListener:
    """Finds corrections in one turn while its transcript comes in.

    Args:
        language: Whose words are listened for.
    """

    def __init__(self, language: Language = ENGLISH) -> None:
        self._language = language
        self._words: list[Word] = []
        self._settled = 0  # words that are not looked at any more
        self._settled_text = ""
        self._piece = ""
        self._held: dict[int, _Held] = {}
        self._revoked: set[int] = set()
        self._number = 0
        self._analysis = Analysis(corrections=(), text="", is_pending=False)
        self._finished = False

    @property
    def text(self) -> str:
        """The words as they count now."""
        return " ".join(filter(None, (self._settled_text, self._analysis.text)))

    @property
    def is_pending(self) -> bool:
        """The last words may be the beginning of a correction."""
        return self._analysis.is_pending

    @property
    def hypotheses(self) -> tuple[SelfCorrection, ...]:
        """The corrections that are believed in now, in the order in which they were made."""
        return tuple(held.correction for held in self._held.values())

    def feed(self, word: Word, at_ns: int) -> list[Hypothesis]:
        """Take one whole word.

        Returns:
            What changed by it.
        """
        self._words.append(word)
        return [*self._settle(at_ns), *self._judged(at_ns, final=False)]

    def hear(self, delta: str, at_ns: int) -> list[Hypothesis]:
        """Take a piece of a transcript, which may end in the middle of a word."""
        self._piece += delta
        *whole, rest = self._piece.split(" ") if self._piece else [""]
        if self._piece.endswith(("\n", "\t")):
            whole, rest = [*whole, rest], ""
        self._piece = rest
        return [change for word in words_of(" ".join(whole)) for change in self.feed(word, at_ns)]

    def finish(self, text: str | None, at_ns: int) -> list[Hypothesis]:
        """The transcript is complete: everything is decided, and what is left is committed.

        Args:
            text: The whole transcript, where it differs from its pieces; ``None``: it does not.
            at_ns: Now.
        """
        if self._finished:
            return []
        if text is not None and not self._settled:
            self._words = words_of(text)
        elif self._piece:
            self._words += words_of(self._piece)
        self._piece = ""
        changes = self._judged(at_ns, final=True)
        self._finished = True
        changes += [
            Hypothesis(
                number=held.number, state="committed", correction=held.correction, at_ns=at_ns
            )
            for held in self._held.values()
        ]
        return changes

    def _settle(self, at_ns: int) -> list[Hypothesis]:
        """Let go of the oldest words of a very long turn; their corrections stand."""
        if len(self._words) <= MAX_WORDS:
            return []
        analysis = analyse(self._words, self._language)
        committed = [
            Hypothesis(
                number=held.number, state="committed", correction=held.correction, at_ns=at_ns
            )
            for held in self._held.values()
        ]
        self._settled += len(self._words)
        self._settled_text = " ".join(filter(None, (self._settled_text, analysis.text)))
        self._words.clear()
        self._held.clear()
        self._revoked.clear()
        return committed

    def _judged(self, at_ns: int, *, final: bool) -> list[Hypothesis]:
        self._analysis = analyse(self._words, self._language, final=final)
        found = {correction.editing[0]: correction for correction in self._analysis.corrections}
        changes: list[Hypothesis] = []
        for place in [place for place in self._held if place not in found]:
            gone = self._held.pop(place)
            self._revoked.add(place)
            changes.append(
                Hypothesis(
                    number=gone.number, state="revoked", correction=gone.correction, at_ns=at_ns
                )
            )
        for place, correction in found.items():
            held = self._held.get(place)
            if held is None and place not in self._revoked:
                self._held[place] = _Held(self._number, correction)
                changes.append(
                    Hypothesis(
                        number=self._number, state="added", correction=correction, at_ns=at_ns
                    )
                )
                self._number += 1
            elif held is not None and held.correction != correction:
                held.correction = correction
                changes.append(
                    Hypothesis(
                        number=held.number, state="grown", correction=correction, at_ns=at_ns
                    )
                )
        return changes
