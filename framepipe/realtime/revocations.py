"""What becomes of everything that was said and begun because of a user turn that is void.

A turn can turn out void after it was answered: the user corrects themselves, goes on, or it was
no speech at all. The user's items stay, because they were said (a swallowed item, which was not,
goes too). The responses they caused, and the tool calls of those, are taken back in this order:

1. each response that is active is cancelled by id, and calls that run or wait are withdrawn;
2. what is audible is cut by an `Interrupt`, whose account of what was heard truncates it;
3. every cancelled response is awaited, and every truncate that waits for a position;
4. what was never heard is deleted, and so are the calls, each output before its call;
5. the hint is added as a system item, so that the session's instructions still stand;
6. an answer is owed for the user's items, if one is wanted. The account of answers asks for it
   when nothing is active and the user is silent, once.

A call of a tool with effects that has its output was committed by somebody; it happened, and
stays.

Sans-IO.

Source: interruption semantics, section 6.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from framepipe.realtime.agent_parts import AgentParts
from framepipe.realtime.answers import Answer, AnswerBook
from framepipe.realtime.calls import CallBook
from framepipe.realtime.client_outputs import Withdraw
from framepipe.realtime.conversation_record import ConversationRecord

MAX_OPEN = 64
"""Revocations that may wait for their end; the oldest is then not waited for any more."""


@define
class Revocation:
    """One user turn that is void, on its way through the order.

    Attributes:
        item_ids: The user items.
        answers: The responses that they caused, oldest first.
        withdrawn: The calls that were withdrawn.
        hint: What the model shall know; "" if nothing.
        again: Those of them that shall be answered again.
        swallowed: The items were no speech: they go, and what was said to them was not heard.
        cut_turn: An interrupt up to this turn is on its way.
    """

    item_ids: frozenset[str]
    answers: list[Answer]
    withdrawn: list[Withdraw] = field(factory=list[Withdraw])
    hint: str = ""
    again: frozenset[str] = frozenset()
    swallowed: bool = False
    cut_turn: int | None = None


class Revocations:
    """Keeps the account of user turns that are void.

    Args:
        book: Knows which responses are grounded in which user items.
        parts: Knows what of them was let out and heard.
        calls: Knows their tool calls.
        record: Knows the items of the conversation.
        has_effects: Whether a tool changes something in the world, by its name.
    """

    def __init__(
        self,
        book: AnswerBook,
        parts: AgentParts,
        calls: CallBook,
        record: ConversationRecord,
        has_effects: Callable[[str], bool],
    ) -> None:
        self._book = book
        self._parts = parts
        self._calls = calls
        self._record = record
        self._has_effects = has_effects
        self._open: list[Revocation] = []

    @property
    def open(self) -> bool:
        """Whether something waits."""
        return bool(self._open)

    def begin(
        self, item_ids: frozenset[str], hint: str, at_ns: int, *, respond: bool
    ) -> Revocation:
        """A user turn is void.

        Returns:
            What is to be cancelled, withdrawn and cut now.
        """
        silent = self._book.killed
        revocation = Revocation(item_ids, self._book.revoke(item_ids, at_ns), hint=hint)
        for earlier in self._open:
            earlier.again -= item_ids  # what is said last of an item counts
        if respond:
            revocation.again = item_ids
        turns = [
            answer.turn
            for answer in revocation.answers
            if answer.turn is not None
            and answer.response_id not in silent
            and (not answer.done or self._parts.is_audible(answer.response_id))
        ]
        revocation.cut_turn = max(turns, default=None)
        self._enter(revocation)
        return revocation

    def swallow(self, item_id: str, answer: Answer | None) -> Revocation:
        """A user item was no speech; ``answer`` is the response that it caused."""
        answers = [] if answer is None else [answer]
        revocation = Revocation(frozenset({item_id}), answers, swallowed=True)
        self._enter(revocation)
        return revocation

    def late(self, answer: Answer) -> None:
        """The service answered what is void by itself; it goes unheard, like the others."""
        self._enter(Revocation(frozenset(), [answer], swallowed=True))

    def cut(self, turn: int | None) -> None:
        """An interrupt has come by, with its account."""
        for one in self._open:
            if one.cut_turn is not None and (turn is None or turn >= one.cut_turn):
                one.cut_turn = None

    def ready(self) -> list[Revocation]:
        """The revocations that have waited for everything."""
        ready = [
            one
            for one in self._open
            if one.cut_turn is None and all(answer.done for answer in one.answers)
        ]
        self._open = [one for one in self._open if one not in ready]
        return ready

    def end_all(self) -> list[Revocation]:
        """The socket is gone: there is nothing to wait for."""
        open_ones, self._open = self._open, []
        return open_ones

    def doomed(self, revocation: Revocation) -> list[str]:
        """The items that are to be deleted, in order."""
        made = [item for answer in revocation.answers for item in answer.items.items()]
        # Calls of the socket before are known by what they are grounded in.
        known = self._calls.grounded_in(revocation.item_ids)
        calls = {call.call_id: call.item_id for call in known}
        calls |= {call_id: item_id for item_id, call_id in made if call_id is not None}
        gone = [call_id for call_id in calls if not self._has_happened(call_id)]
        outputs = (self._record.output_of(call_id) for call_id in gone)
        unheard = [
            item_id
            for item_id, call_id in made
            if call_id is None and (revocation.swallowed or not self._parts.item_was_heard(item_id))
        ]
        said = sorted(revocation.item_ids) if revocation.swallowed else []
        return [
            *(output_id for output_id in outputs if output_id is not None),
            *(calls[call_id] for call_id in gone),
            *unheard,
            *said,
        ]

    def _has_happened(self, call_id: str) -> bool:
        call = self._calls.call(call_id)
        answered = self._record.output_of(call_id) is not None
        return call is not None and answered and self._has_effects(call.name)

    def _enter(self, revocation: Revocation) -> None:
        for call in self._calls.grounded_in(revocation.item_ids):
            if self._calls.is_open(call.call_id):
                self._calls.withdraw(call.call_id)
                revocation.withdrawn.append(Withdraw(call.call_id, call.name))
        self._open.append(revocation)
        del self._open[:-MAX_OPEN]
