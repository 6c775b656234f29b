"""What the user hears when there is no answer.

"Sorry, I missed that. Could you repeat?" is said by the model when it can, and by a prepared clip
when it cannot: the service is gone, a response failed, none came in time. A wait that gets long
is announced, because a silence of three seconds is taken for a crash.

Each reason has one place in `REASONS`. A fallback is never said over the user or the agent, at
most a few times in a row and in a call, and then a person is asked for (`Escalate`): whatever
happens, it cannot loop.

Sans-IO: facts go in through `FallbackCore.receive`, orders come out as its return value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

from attrs import frozen

from framepipe.conversation.turns import Floor
from framepipe.errors import FrameError
from framepipe.frames import ConnectionState, Escalate, Problem, Revoke, Transcript

Reason: TypeAlias = Literal["missed", "failed", "no_answer", "offline"]
"""Why there is no answer: nobody understood the user, the response failed, none came, the service
is out of reach."""

LineName: TypeAlias = Literal["missed", "one_moment", "offline", "idle"]
"""The lines that are said: see `LINES`."""

LINES: Final[Mapping[LineName, str]] = {
    "missed": "Sorry, I missed that. Could you repeat?",
    "one_moment": "One moment, please.",
    "offline": "I have lost the connection. One moment, please.",
    "idle": "Are you still there?",
}
"""Their English texts."""


@frozen
class Rule:
    """What is done about one reason.

    Attributes:
        line: What is said.
        by_model: The model says it, if it is there, in place of its answer.
        gives_up: An answer that comes after all is not wanted any more.
    """

    line: LineName
    by_model: bool
    gives_up: bool


REASONS: Final[Mapping[Reason, Rule]] = {
    "missed": Rule("missed", by_model=True, gives_up=True),
    "failed": Rule("missed", by_model=False, gives_up=True),
    "no_answer": Rule("missed", by_model=False, gives_up=True),
    "offline": Rule("offline", by_model=False, gives_up=False),
}
"""What is done about each reason."""

FAILED_NS: Final = 1_500_000_000
"""After a failed response the client asks again by itself; so long that may take."""

_NS_PER_MS: Final = 1_000_000


@frozen
class PlayLine:
    """To the shell: play the clip of this line."""

    name: LineName


Fact: TypeAlias = Floor | Transcript | Problem | ConnectionState
"""What the core is told."""

Command: TypeAlias = PlayLine | Revoke | Escalate
"""What the core orders."""


def has_words(text: str) -> bool:
    """Whether a transcript says anything: a letter or a digit is enough."""
    return any(character.isalnum() for character in text)


class FallbackCore:
    """Decides when the user hears a line instead of an answer.

    Args:
        texts: Texts of the lines that the model is asked to say.
        slow_ms: A wait this long is announced, once a turn; ``None``: never.
        answer_ms: After this the answer is given up.
        offline_ms: A service out of reach for so long is told to the user, once each time.
        in_a_row: Fallbacks without a good exchange between them, before a person is asked for.
        per_call: Fallbacks in the whole call.
        is_intelligible: Whether a user's transcript can be understood.

    Attributes:
        said: Fallbacks so far, announcements not counted.

    Raises:
        FrameError: A number is out of its range.
    """

    def __init__(
        self,
        *,
        texts: Mapping[LineName, str] = LINES,
        slow_ms: int | None = 2_500,
        answer_ms: int = 10_000,
        offline_ms: int = 4_000,
        in_a_row: int = 2,
        per_call: int = 6,
        is_intelligible: Callable[[str], bool] = has_words,
    ) -> None:
        for name, value in (
            ("slow_ms", 1 if slow_ms is None else slow_ms),
            ("answer_ms", answer_ms),
            ("offline_ms", offline_ms),
            ("in_a_row", in_a_row),
            ("per_call", per_call),
        ):
            if value < 1:
                raise FrameError(f"{name} is {value}; it must be 1 or more")
        self.said = 0
        self._texts = texts
        self._slow_ns = None if slow_ms is None else slow_ms * _NS_PER_MS
        self._answer_ns = answer_ms * _NS_PER_MS
        self._offline_ns = offline_ms * _NS_PER_MS
        self._limit = in_a_row
        self._per_call = per_call
        self._is_intelligible = is_intelligible
        self._floor = Floor()
        self._in_a_row = 0
        self._escalated = False
        self._understood = False
        self._is_open = True
        self._announced_ns: int | None = None  # the wait that was announced, and the one given up
        self._given_up_ns: int | None = None
        self._failed_at_ns: int | None = None
        self._offline_at_ns: int | None = None
        self._missed = False

    def receive(self, fact: Fact, at_ns: int) -> list[Command]:
        """Take note of a fact.

        Args:
            fact: A frame, or who has the floor now.
            at_ns: Engine time.
        """
        match fact:
            case Floor():
                return self._floor_changed(fact, at_ns)
            case Transcript(who="user", final=True):
                if self._is_intelligible(fact.text):
                    self._understood = True
                elif fact.item_id in self._floor.item_ids:
                    self._missed = True
            case Transcript():
                pass
            case Problem(code="response_failed"):
                self._failed_at_ns = at_ns + FAILED_NS
            case Problem(code="unanswered"):
                self._failed_at_ns = at_ns
            case Problem():
                pass
            case ConnectionState(state="reconnecting"):
                if self._is_open:
                    self._offline_at_ns = at_ns + self._offline_ns
                self._is_open = False
            case ConnectionState():
                self._is_open = fact.state != "closed"
                self._offline_at_ns = None
        return []

    @property
    def deadline_ns(self) -> int | None:
        """When to call `deadline_reached`; ``None``: not by itself."""
        if self._floor.user_speaks or self._floor.agent_speaks:
            return None
        times = [self._offline_at_ns]
        since_ns = self._floor.waits_since_ns
        if since_ns is not None and since_ns != self._given_up_ns:
            times += [since_ns + self._answer_ns, self._failed_at_ns, 0 if self._missed else None]
            if self._slow_ns is not None and since_ns != self._announced_ns:
                times.append(since_ns + self._slow_ns)
        return min((time for time in times if time is not None), default=None)

    def deadline_reached(self, at_ns: int) -> list[Command]:
        """The time has come.

        Args:
            at_ns: Engine time; too early is no matter.
        """
        due_ns = self.deadline_ns
        if due_ns is None or at_ns < due_ns:
            return []
        if self._offline_at_ns is not None and at_ns >= self._offline_at_ns:
            self._offline_at_ns = None
            return self._fall_back("offline", at_ns)
        since_ns = self._floor.waits_since_ns
        assert since_ns is not None, "nothing else is due while nobody waits"
        if self._missed:
            return self._fall_back("missed", at_ns)
        if self._failed_at_ns is not None and at_ns >= self._failed_at_ns:
            return self._fall_back("failed", at_ns)
        if at_ns >= since_ns + self._answer_ns:
            return self._fall_back("no_answer", at_ns)
        self._announced_ns = since_ns
        return [PlayLine("one_moment")]

    def _floor_changed(self, floor: Floor, at_ns: int) -> list[Command]:
        before, self._floor = self._floor, floor
        if floor.answers > before.answers:
            self._failed_at_ns = None
            self._missed = False
            if self._understood:
                self._in_a_row, self._escalated, self._understood = 0, False, False
        if floor.user_speaks:  # what was missed is being said again
            self._failed_at_ns = None
            self._missed = False
        return []

    def _fall_back(self, reason: Reason, at_ns: int) -> list[Command]:
        rule, floor = REASONS[reason], self._floor
        self._understood = self._missed = False
        self._failed_at_ns = None
        if rule.gives_up:
            self._given_up_ns = floor.waits_since_ns
        if self._in_a_row >= self._limit or self.said >= self._per_call:
            if self._escalated:
                return []
            self._escalated = True
            return [Escalate(reason=reason, attempts=self._in_a_row, at_ns=at_ns)]
        self._in_a_row += 1
        self.said += 1
        if rule.by_model and self._is_open and floor.item_ids:
            text = self._texts[rule.line]
            hint = f'You could not understand the user\'s last words. Say exactly: "{text}"'
            newest = floor.item_ids[-1:]
            return [Revoke(item_ids=newest, hint=hint, respond=True, at_ns=at_ns)]
        made: list[Command] = [PlayLine(rule.line)]
        if rule.gives_up and floor.item_ids:
            made.insert(0, Revoke(item_ids=floor.item_ids, respond=False, at_ns=at_ns))
        return made
