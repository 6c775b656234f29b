"""Was that the end? Policies that say when the user's turn is over.

One policy decides; whatever else has an opinion advises. All of them take the same facts and
give the same kind of answer, so that one can take the place of another:

| policy | ends the turn |
|---|---|
| `ServiceDecides` | when the service commits it: its silence timer, or its semantic detector |
| `LocalSilence` | after a silence in the microphone, always the same |
| `GrowingSilence` | after a silence that depends on the words and on the speaker |
| `PushToTalk` | when the button is released |
| `Advised` | as the policy that it wraps, sooner or later by the advice of others |

A silence timer alone is a bad judge: half of the pauses inside a turn are longer than 300 ms and
one in twenty longer than 1.6 s, while people answer one another after 200 ms. What tells a pause
from an end is mostly in the words ("to um", "and", "four four one"), and for the rest in how long
this speaker's pauses are.

Sans-IO: facts go in with the time at which they are known, a `Judgement` comes out. It is a
decision, or a deadline at which the decision is due unless something is said before. Times are
nanoseconds of one clock; facts come in the order of ``at_ns``.

Source: pauses in turns, eot-bench as its model cards tell it (a 300 ms timer cuts off 56 % of
pauses, 600 ms 22 %, 1600 ms 5 %); "um" announces a major delay, Clark and Fox Tree 2002.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum, auto
from statistics import NormalDist
from typing import Final, Protocol, TypeAlias

from attrs import define, evolve, frozen

from framepipe.conversation.repair import analyse
from framepipe.conversation.rough_copy import words_of
from framepipe.conversation.wordlists import ENGLISH, NUMBER, Language, kind_of_word, plain
from framepipe.errors import FrameError

_MS: Final = 1_000_000

SHORT_MS: Final = 500
"""Silence after words that are certainly a whole turn. Less is not worth it: the services need
that long to make the first sound of an answer, and the user sees the agent as quick already."""

LONG_MS: Final = 1_600
"""Silence after words that are certainly none. People take more than 3 s for a crash; with the
time that the first sound needs, this stays below."""

COMPLETE_P: Final = 0.8
"""From here on the words count as a whole turn."""

INCOMPLETE_P: Final = 0.35
"""Up to here they count as half of one."""


# --- facts and judgements ---------------------------------------------------------------------


@frozen
class SpeechBegan:
    """The user speaks.

    Attributes:
        at_ns: When the speech began.
    """

    at_ns: int


@frozen
class SpeechEnded:
    """The user is silent.

    Attributes:
        at_ns: When this is known.
        last_ns: When the last sample of speech was; earlier than ``at_ns`` by what the detector
            hangs on.
    """

    at_ns: int
    last_ns: int


@frozen
class WordsCame:
    """What the user said in this turn until now, as text.

    Attributes:
        at_ns: When it came.
        text: All of it, from the beginning of the turn.
    """

    at_ns: int
    text: str


@frozen
class ServiceCommitted:
    """The service took what it heard for a turn.

    Attributes:
        at_ns: When it said so.
    """

    at_ns: int


@frozen
class ButtonPressed:
    """Push-to-talk: the user holds the button.

    Attributes:
        at_ns: Since when.
    """

    at_ns: int


@frozen
class ButtonReleased:
    """Push-to-talk: the user let go.

    Attributes:
        at_ns: When.
    """

    at_ns: int


@frozen
class TurnTaken:
    """Somebody ended the turn, whoever it was: what comes is the next one.

    Attributes:
        at_ns: When.
        too_early: The user had not finished: he went on at once.
    """

    at_ns: int
    too_early: bool = False


Fact: TypeAlias = (
    SpeechBegan
    | SpeechEnded
    | WordsCame
    | ServiceCommitted
    | ButtonPressed
    | ButtonReleased
    | TurnTaken
)
"""What a policy is told."""


@frozen(kw_only=True)
class Judgement:
    """What a policy thinks now.

    Attributes:
        ended: The turn is over.
        deadline_ns: When it will be, unless something is said before; ``None``: not by time.
        sure: How sure it is that all was said, 0 to 1. A cool-down may end early at `COMPLETE_P`.
        why: In a word or two, for logs.
    """

    ended: bool = False
    deadline_ns: int | None = None
    sure: float = 0.5
    why: str = ""


class EndOfTurnPolicy(Protocol):
    """Decides when a user's turn is over.

    ``receive`` and ``advance`` return what is thought after them; ``judgement`` is the same.
    """

    @property
    def judgement(self) -> Judgement:
        """What it thinks now."""
        ...

    def receive(self, fact: Fact, /) -> Judgement:
        """Take a fact."""
        ...

    def advance(self, at_ns: int, /) -> Judgement:
        """Time has passed: a deadline that is over ends the turn."""
        ...


# --- what the words say -----------------------------------------------------------------------


class Ending(Enum):
    """What the last words are."""

    NOTHING = auto()
    """There are none yet."""
    FILLER = auto()
    """A filled pause, "um": the user keeps the turn."""
    FRAGMENT = auto()
    """A word that was broken off."""
    OPEN = auto()
    """A conjunction, a preposition, an article: something must follow."""
    CORRECTING = auto()
    """An editing term, "no, wait": a correction must follow."""
    NUMBER = auto()
    """Digits in a row, of which there may be more."""
    PLAIN = auto()
    """Words that may be all."""
    CLOSED = auto()
    """A word that ends turns, "please", or a lone "yes"."""


_SURE: Final = {
    Ending.NOTHING: 0.5,
    Ending.FILLER: 0.05,
    Ending.FRAGMENT: 0.05,
    Ending.OPEN: 0.1,
    Ending.CORRECTING: 0.1,
    Ending.NUMBER: 0.3,
    Ending.PLAIN: 0.65,
    Ending.CLOSED: 0.9,
}
"""How sure it is after each ending that all was said. An ordering, not probabilities that were
measured: nothing here depends on more than which of the two limits they pass."""


@frozen(kw_only=True)
class Completeness:
    """Whether some words are a whole turn.

    Attributes:
        ending: What the last words are.
        sure: 0 (certainly not) to 1 (certainly).
    """

    ending: Ending
    sure: float


def completeness(text: str, language: Language = ENGLISH, *, n_digits: int = 0) -> Completeness:
    """Say whether these words are a whole turn.

    Args:
        text: All words of the turn until now.
        language: Whose words they are.
        n_digits: Digits of the number that is being asked for, when there is one: fewer are
            half of it, so many are all of it. 0: nobody knows.
    """
    ending = _ending(text, language)
    if ending is Ending.NUMBER and n_digits:
        said = _digits_at_end(text, language)
        if said >= n_digits:
            ending = Ending.CLOSED
    return Completeness(ending=ending, sure=_SURE[ending])


def _ending(text: str, language: Language) -> Ending:
    words = words_of(text)
    bare = [plain(word.text) for word in words]
    while bare and not bare[-1]:
        bare.pop()
    if not bare:
        return Ending.NOTHING
    last = bare[-1]
    if last in language.fillers or text.rstrip().endswith(("\u2026", "...")):
        return Ending.FILLER
    if len(last) > 1 and last.endswith("-"):
        return Ending.FRAGMENT
    if len(bare) == 1 and last in language.yes | language.no:
        return Ending.CLOSED
    if analyse(text, language, final=False).is_pending or _is_all_editing(bare, language):
        return Ending.CORRECTING
    if last in language.closers or last in language.yes:
        return Ending.CLOSED
    open_words = language.prepositions | language.determiners | language.conjunctions
    if last in open_words or (last in language.clause_words - _ENDS and len(bare) > 1):
        return Ending.CLOSED if text.rstrip().endswith("?") else Ending.OPEN
    if kind_of_word(words[len(bare) - 1].text, language) == NUMBER and len(bare) > 1:
        before = kind_of_word(words[len(bare) - 2].text, language)
        if before == NUMBER or bare[-2] in language.determiners or _is_asked_for(bare):
            return Ending.NUMBER
    return Ending.CLOSED if text.rstrip().endswith("?") else Ending.PLAIN


def _is_all_editing(bare: Sequence[str], language: Language) -> bool:
    """Nothing but "wait, no": the correction of something earlier."""
    at = 0
    while at < len(bare):
        term = language.term_at(bare, at)
        if not term and bare[at] not in language.fillers:
            return False
        at += max(1, len(term))
    return True


_ENDS: Final = frozenset({"it", "you", "do", "have", "bitte", "gern", "gerne"})
"""Words that begin a clause and may also end one."""


def _is_asked_for(bare: Sequence[str]) -> bool:
    """Digits that were announced, "my number is five": more of them come."""
    named = {"number", "code", "nummer", "n\u00famero", "num\u00e9ro", "pin", "zip", "account"}
    return bool(named & set(bare[-5:-1]))


def _digits_at_end(text: str, language: Language) -> int:
    """Digits in the numbers that the text ends with; "forty two" are two."""
    said = 0
    for word in reversed(words_of(text)):
        bare = plain(word.text)
        if bare in language.fillers or not bare:
            continue
        if kind_of_word(word.text, language) != NUMBER:
            break
        digits = sum(letter.isdigit() for letter in bare)
        said += digits or 1
    return said


# --- how long this speaker's pauses are -------------------------------------------------------


class PauseEstimate:
    """Learns how long the pauses of a speaker are, from few of them.

    Pauses are taken for log-normal. It begins with what people do on average, as if
    ``prior_weight`` pauses of that kind had been heard; each pause that the user goes on after is
    one more. What is old counts less, since people change while they talk.

    Args:
        median_ms: The median pause before any was heard.
        spread: Standard deviation of the logarithm.
        prior_weight: So many pauses is that worth.

    Raises:
        FrameError: A number that is not positive.

    Source: 0.83 log-normal(287 ms, 0.5) + 0.17 log-normal(1208 ms, 0.5) fits the three public
    points of eot-bench; one log-normal of the same 50th and 95th percentile is used here.
    """

    def __init__(
        self, median_ms: float = 340.0, spread: float = 0.9, prior_weight: float = 6.0
    ) -> None:
        for name, value in (
            ("median_ms", median_ms),
            ("spread", spread),
            ("prior_weight", prior_weight),
        ):
            if not value > 0:
                raise FrameError(f"{name} is {value}; it must be more than 0")
        self._mean = math.log(median_ms)
        self._variance = spread * spread
        self._weight = prior_weight

    def heard(self, pause_ms: float) -> None:
        """The user went on after a pause of ``pause_ms`` milliseconds, more than 0."""
        value = math.log(max(pause_ms, 1.0))
        self._weight = min(self._weight + 1.0, _REMEMBERED_PAUSES)
        share = 1.0 / self._weight
        off = value - self._mean
        self._mean += share * off
        self._variance = max(_LEAST_VARIANCE, (1.0 - share) * (self._variance + share * off * off))

    def quantile_ms(self, share: float) -> float:
        """The pause that ``share`` (0 to 1, both excluded) of this speaker's pauses are below."""
        return math.exp(NormalDist(self._mean, math.sqrt(self._variance)).inv_cdf(share))


_REMEMBERED_PAUSES: Final = 24.0
"""The estimate follows a speaker who changes, at the pace of so many pauses."""

_LEAST_VARIANCE: Final = 0.1
"""Nobody's pauses are all alike."""


# --- the policies -----------------------------------------------------------------------------


class LocalSilence:
    """Ends the turn after a silence, always the same one.

    Args:
        silence_ms: From the last sample of speech, 1 or more.

    Raises:
        FrameError: ``silence_ms`` is not positive.
    """

    def __init__(self, silence_ms: int = 800) -> None:
        _check_ms("silence_ms", silence_ms)
        self.silence_ms = silence_ms
        self._silence = _Silence()

    @property
    def judgement(self) -> Judgement:
        """What it thinks now."""
        return self._silence.judged(self.silence_ms, 0.5, "silence")

    def receive(self, fact: Fact, /) -> Judgement:
        """Take a fact."""
        self._silence.receive(fact)
        return self.judgement

    def advance(self, at_ns: int, /) -> Judgement:
        """Time has passed."""
        self._silence.now_ns = max(self._silence.now_ns, at_ns)
        return self.judgement


class GrowingSilence:
    """Ends the turn after a silence that fits the words and the speaker.

    After a whole sentence or a "yes" it waits ``short_ms``; after "um", a trailing conjunction or
    preposition, an editing term, or half of a number ``long_ms``; in between, as long as
    ``share`` of this speaker's pauses last, within those two. It learns from every pause that the
    user goes on after, the more from one that was taken for the end.

    Args:
        language: Whose words they are.
        short_ms: Least silence in milliseconds.
        long_ms: Most.
        share: Of the speaker's pauses that shall not end a turn, 0 to 1.
        pauses: What is known of the speaker's pauses; it learns.
        n_digits: Digits of the number that is being asked for; may be set at any time.

    Raises:
        FrameError: The numbers are out of order.
    """

    def __init__(
        self,
        language: Language = ENGLISH,
        *,
        short_ms: int = SHORT_MS,
        long_ms: int = LONG_MS,
        share: float = 0.85,
        pauses: PauseEstimate | None = None,
        n_digits: int = 0,
    ) -> None:
        _check_ms("short_ms", short_ms)
        if not short_ms <= long_ms:
            raise FrameError(f"short_ms is {short_ms} and long_ms {long_ms}; short <= long")
        if not 0 < share < 1:
            raise FrameError(f"share is {share}; it must lie between 0 and 1")
        self.language = language
        self.short_ms, self.long_ms, self.share = short_ms, long_ms, share
        self.pauses = pauses if pauses is not None else PauseEstimate()
        self.n_digits = n_digits
        self._silence = _Silence()
        self._complete = _NOTHING_SAID

    @property
    def judgement(self) -> Judgement:
        """What it thinks now."""
        complete = self._complete
        return self._silence.judged(
            self._silence_ms(complete), complete.sure, complete.ending.name.lower()
        )

    def silence_ms(self, text: str, /) -> int:
        """Silence in milliseconds after which these words are a whole turn."""
        return self._silence_ms(completeness(text, self.language, n_digits=self.n_digits))

    def receive(self, fact: Fact, /) -> Judgement:
        """Take a fact."""
        match fact:
            case SpeechBegan(at_ns=at_ns):
                self._learn(at_ns)
            case WordsCame(text=text):
                self._complete = completeness(text, self.language, n_digits=self.n_digits)
            case TurnTaken(too_early=False):
                self._complete = _NOTHING_SAID
            case _:
                pass
        self._silence.receive(fact)
        return self.judgement

    def advance(self, at_ns: int, /) -> Judgement:
        """Time has passed."""
        self._silence.now_ns = max(self._silence.now_ns, at_ns)
        return self.judgement

    def _learn(self, began_ns: int) -> None:
        pause_ms = self._silence.pause_ms(began_ns)
        if pause_ms is not None and 0 < pause_ms <= _LONGEST_PAUSE_MS:
            self.pauses.heard(pause_ms)

    def _silence_ms(self, complete: Completeness) -> int:
        if complete.sure >= COMPLETE_P:
            return self.short_ms
        if complete.sure <= INCOMPLETE_P:
            return self.long_ms
        usual_ms = self.pauses.quantile_ms(self.share)
        return round(min(max(usual_ms, self.short_ms), self.long_ms))


_NOTHING_SAID: Final = Completeness(ending=Ending.NOTHING, sure=_SURE[Ending.NOTHING])

_LONGEST_PAUSE_MS: Final = 3_000
"""Whoever is silent for longer has finished, whatever he says next."""


class ServiceDecides:
    """Ends the turn when the service commits it.

    For a service that ends turns by silence or by its semantic detector and answers by itself.

    Args:
        settle_ms: How long to wait after the commit for the user to go on; 0 takes the service's
            word. With ``create_response=False`` this is how one's own time is added to a service
            that commits early.
        of: With a policy here, the commit is only where its silence begins to count: it decides
            from the last sample of speech, but never before the service has committed.

    Raises:
        FrameError: ``settle_ms`` is negative.
    """

    def __init__(self, settle_ms: int = 0, *, of: EndOfTurnPolicy | None = None) -> None:
        if settle_ms < 0:
            raise FrameError(f"settle_ms is {settle_ms}; it must be 0 or more")
        self.settle_ms = settle_ms
        self._of = of
        self._committed_ns: int | None = None
        self._now_ns = 0

    @property
    def judgement(self) -> Judgement:
        """What it thinks now."""
        inner = self._of.judgement if self._of is not None else Judgement()
        if self._committed_ns is None:
            return evolve(inner, ended=False, deadline_ns=None, why="not committed")
        due_ns = self._committed_ns + self.settle_ms * _MS
        if self._of is not None:
            if inner.deadline_ns is None:
                return evolve(inner, ended=False)
            due_ns = max(due_ns, inner.deadline_ns)
        return evolve(
            inner, ended=self._now_ns >= due_ns, deadline_ns=due_ns, why=inner.why or "committed"
        )

    def receive(self, fact: Fact, /) -> Judgement:
        """Take a fact."""
        self._now_ns = max(self._now_ns, fact.at_ns)
        match fact:
            case ServiceCommitted(at_ns=at_ns):
                self._committed_ns = at_ns
            case SpeechBegan() | TurnTaken():
                self._committed_ns = None
            case _:
                pass
        if self._of is not None:
            self._of.receive(fact)
        return self.judgement

    def advance(self, at_ns: int, /) -> Judgement:
        """Time has passed."""
        self._now_ns = max(self._now_ns, at_ns)
        if self._of is not None:
            self._of.advance(at_ns)
        return self.judgement


class PushToTalk:
    """The button decides: what is said while it is held is one turn."""

    def __init__(self) -> None:
        self._held = False
        self._released_ns: int | None = None

    @property
    def judgement(self) -> Judgement:
        """What it thinks now."""
        if self._released_ns is None:
            return Judgement(sure=0.0, why="held" if self._held else "idle")
        return Judgement(ended=True, deadline_ns=self._released_ns, sure=1.0, why="released")

    def receive(self, fact: Fact, /) -> Judgement:
        """Take a fact; only the button counts."""
        match fact:
            case ButtonPressed():
                self._held, self._released_ns = True, None
            case ButtonReleased(at_ns=at_ns) if self._held:
                self._held, self._released_ns = False, at_ns
            case TurnTaken():
                self._released_ns = None
            case _:
                pass
        return self.judgement

    def advance(self, at_ns: int, /) -> Judgement:
        """Time does not matter."""
        return self.judgement


class Advised:
    """One policy decides, others may hurry or hold it.

    The decider's deadline is moved by how sure the advisers are: when their mean is at
    `COMPLETE_P` or more it comes ``sooner_ms`` earlier, at `INCOMPLETE_P` or less ``later_ms``
    later. Advisers never end a turn, and never keep a decision without a deadline from being made.

    Args:
        decider: Decides.
        advisers: Are asked how sure they are.
        sooner_ms: 0 or more.
        later_ms: 0 or more.

    Raises:
        FrameError: A negative time, or no adviser.
    """

    def __init__(
        self,
        decider: EndOfTurnPolicy,
        *advisers: EndOfTurnPolicy,
        sooner_ms: int = 200,
        later_ms: int = 800,
    ) -> None:
        if sooner_ms < 0 or later_ms < 0:
            raise FrameError(
                f"sooner_ms is {sooner_ms} and later_ms {later_ms}; both must be 0 or more"
            )
        if not advisers:
            raise FrameError("nobody advises; use the policy itself")
        self._decider, self._advisers = decider, advisers
        self._sooner_ns, self._later_ns = sooner_ms * _MS, later_ms * _MS
        self._now_ns = 0
        self._spoke_ns = 0

    @property
    def judgement(self) -> Judgement:
        """What it thinks now."""
        decided = self._decider.judgement
        sure = sum(adviser.judgement.sure for adviser in self._advisers) / len(self._advisers)
        if decided.deadline_ns is None:
            return evolve(decided, sure=sure)
        due_ns = decided.deadline_ns
        if sure >= COMPLETE_P:
            due_ns = max(due_ns - self._sooner_ns, self._spoke_ns)
        elif sure <= INCOMPLETE_P:
            due_ns += self._later_ns
        return evolve(decided, ended=self._now_ns >= due_ns, deadline_ns=due_ns, sure=sure)

    def receive(self, fact: Fact, /) -> Judgement:
        """Tell everybody."""
        self._now_ns = max(self._now_ns, fact.at_ns)
        if isinstance(fact, SpeechEnded):
            self._spoke_ns = fact.last_ns
        for policy in (self._decider, *self._advisers):
            policy.receive(fact)
        return self.judgement

    def advance(self, at_ns: int, /) -> Judgement:
        """Time has passed, for everybody."""
        self._now_ns = max(self._now_ns, at_ns)
        for policy in (self._decider, *self._advisers):
            policy.advance(at_ns)
        return self.judgement


@define
class _Silence:
    """Since when the user is silent."""

    now_ns: int = 0
    last_ns: int | None = None
    is_speaking: bool = False
    has_spoken: bool = False

    def receive(self, fact: Fact) -> None:
        self.now_ns = max(self.now_ns, fact.at_ns)
        match fact:
            case SpeechBegan():
                self.is_speaking = self.has_spoken = True
            case SpeechEnded(last_ns=last_ns):
                self.is_speaking = False
                self.last_ns = max(last_ns, self.last_ns or last_ns)
            case TurnTaken(too_early=too_early):
                # After an end that came too early the silence before it was a pause.
                self.has_spoken = self.is_speaking
                if not too_early:
                    self.last_ns = None
            case _:
                pass

    def judged(self, silence_ms: int, sure: float, why: str) -> Judgement:
        if self.is_speaking or not self.has_spoken or self.last_ns is None:
            return Judgement(sure=sure, why="speaking" if self.is_speaking else "nothing said")
        due_ns = self.last_ns + silence_ms * _MS
        return Judgement(ended=self.now_ns >= due_ns, deadline_ns=due_ns, sure=sure, why=why)

    def pause_ms(self, began_ns: int) -> float | None:
        """How long the user was silent before he went on; ``None``: this is a beginning."""
        if self.is_speaking or self.last_ns is None:
            return None
        return (began_ns - self.last_ns) / _MS


def _check_ms(name: str, value: int) -> None:
    if value < 1:
        raise FrameError(f"{name} is {value}; it must be 1 or more")
