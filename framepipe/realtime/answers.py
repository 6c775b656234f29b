"""Which answers are owed, which are given, and which of them a cut kills (promise P5).

Theory of operation. The service answers a user turn by itself when the turn ends, and fails to
do so when its previous response is still active: after a barge-in that is the rule, because a
cancelled response takes some 200 ms to end. So every committed user item is entered here as an
answer *owed*. A response of the conversation that is created pays what is owed at that moment,
because it sees all of it. What is still owed when nothing is active, the user is silent, and the
service had time to do it by itself, is asked for by us.

A cut carries the onset of the speech that interrupted. It kills the responses whose *cause*
began before that onset: the ones that exist, and the ones that are created later, which is why
cuts are remembered. The cause is the last user item committed before the response was created,
or our own ask made after the cut. Causes and onsets are compared in audio time, on the capture
clock: events arrive late, audio does not. An item counts as before a cut when its last word is,
so that a second edge inside one utterance does not kill the answer to that utterance.

A user item can be *revoked*: it stays in the conversation, and whatever was said because of it is
void, also what the service still says because of it by itself. What is asked for later may answer
it again.

Sans-IO: positions are samples of the capture clock, times are engine nanoseconds.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from attrs import define, field, frozen

from framepipe.frames import NS_PER_S
from framepipe.realtime.events import ResponseParams

PATIENCE_NS = 150_000_000
"""How long the service may take to answer by itself, unless the round trip is longer. It creates
its response in the same breath as it commits the item."""

LOST_NS = 3 * NS_PER_S
"""After this an ask that was neither granted nor refused was lost on the way."""

STUCK_NS = 5 * NS_PER_S
"""After this a cancelled response that did not end will not; cancels take 0.1 to 0.3 s."""

MAX_BACK_OFF_NS = 5 * NS_PER_S
"""Longest pause between two asks."""

MAX_FAILURES = 6
"""Refused or failed answers in a row after which the debt is given up: with the back-off, some
ten seconds, longer than anybody waits for an answer."""

REMEMBERED = 64
"""Ended responses, user items and asks that are still known, so that memory does not grow with
the call. A straggler that is older has nothing left to say."""

REMEMBERED_CUTS = 8
"""Cuts that still kill late responses."""


@define
class UserItem:
    """Something the user said.

    Attributes:
        item_id: The service's name for it.
        onset_sample: Where the speech was detected.
        end_sample: End of the last word, as far as known.
        ordinal: Place among the committed items, from 1; 0 before it is committed.
        swallowed: It was no speech after all; nobody shall answer it.
        asked: Its answer was our doing.
        revoked: The service's own answer to it is void.
        ours: Nobody but us will ask for its answer.
        cuts_before: How many cuts had been made when its answer became due.
        on_its_way: We have sent it, and do not know that the service has it: what the service
            creates in the meantime does not answer it.
        grounded_in: The user items without which it would not be there, for what is none itself.
    """

    item_id: str
    onset_sample: int
    end_sample: int | None = None
    ordinal: int = 0
    swallowed: bool = False
    asked: bool = False
    revoked: bool = False
    ours: bool = False
    cuts_before: int = 0
    on_its_way: bool = False
    grounded_in: frozenset[str] = frozenset()


@frozen
class Wish:
    """A response that the application wants.

    Attributes:
        params: What it shall be; ``None``: as the session says.
        answers: It answers what is owed; one that says a given text does not.
        interruptible: The user's voice may cut it.
    """

    params: ResponseParams | None = None
    answers: bool = True
    interruptible: bool = True


@define
class Ask:
    """A ``response.create`` of ours.

    Attributes:
        name: Its ``event_id``, and its mark in the response's metadata.
        wish: What is wanted.
        for_debt: It was made only because an answer is owed.
        position_sample: Where the microphone was when it was made.
        cuts_before: How many cuts had been made when it was sent.
        items_before: How many user items were there, or on their way.
        sent_ns: When it was sent.
        granted: A response was created for it.
        owed: What it was sent for, if it was for debts.
        void: What it asked for is revoked.
    """

    name: str
    wish: Wish
    for_debt: bool
    position_sample: int
    cuts_before: int = 0
    items_before: int = 0
    sent_ns: int = 0
    granted: bool = False
    owed: tuple[UserItem, ...] = ()
    void: bool = False


@define
class Answer:
    """A response of the conversation.

    Attributes:
        response_id: The service's name for it.
        item: The last user item committed before it was created: its cause, unless ``ask``.
        ask: Our ask that it grants.
        pays: The user items that it answers.
        position_sample: Where the microphone was when it was created.
        cuts_before: How many cuts had been made when it was created.
        turn: The agent's turn that was opened for it.
        killed: Nothing of it may be heard any more.
        revoked: It never was: the model must not remember it either.
        cancelled_ns: When it was cancelled.
        done: It has ended.
        items: The output items that it announced: for a tool call its ``call_id``, else ``None``.
    """

    response_id: str
    item: UserItem | None
    ask: Ask | None
    pays: tuple[UserItem, ...]
    position_sample: int
    cuts_before: int
    turn: int | None = None
    killed: bool = False
    revoked: bool = False
    cancelled_ns: int | None = None
    done: bool = False
    items: dict[str, str | None] = field(factory=dict[str, "str | None"])

    @property
    def interruptible(self) -> bool:
        """The user's voice may cut it."""
        return self.ask is None or self.ask.wish.interruptible

    @property
    def grounded_in(self) -> frozenset[str]:
        """The user items without which it would not be there."""
        causes = [*self.pays]
        if self.item is not None and (self.ask is None or self.ask.for_debt):
            causes.append(self.item)
        named = frozenset(cause.item_id for cause in causes)
        return named.union(*(cause.grounded_in for cause in causes))


@frozen
class Cut:
    """An interruption.

    Attributes:
        number: The first is 1.
        turn: Everything up to this turn is cut.
        onset_sample: Start of the interrupting speech; ``None``: not speech, a button.
        committed: User items that had been committed.
    """

    number: int
    turn: int | None
    onset_sample: int | None
    committed: int


class AnswerBook:
    """Keeps the account of user items, asks and responses of one conversation.

    Args:
        service_answers: The service is asked to answer each user turn by itself; otherwise
            nothing is ever owed, because the application decides what is answered.
    """

    def __init__(self, *, service_answers: bool = True) -> None:
        self.patience_ns = PATIENCE_NS
        self._service_answers = service_answers
        self._items: OrderedDict[str, UserItem] = OrderedDict()
        self._speaking: UserItem | None = None
        self._last_item: UserItem | None = None
        self._committed = 0
        self._owed: dict[str, UserItem] = {}
        self._owed_since_ns = 0
        self._patient_until_ns = 0
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._asks: OrderedDict[str, Ask] = OrderedDict()
        self._queue: deque[Ask] = deque()
        self._in_flight: Ask | None = None
        self._cuts: deque[Cut] = deque(maxlen=REMEMBERED_CUTS)
        self._unheard: deque[tuple[Cut, list[Answer]]] = deque(maxlen=REMEMBERED_CUTS)
        self._n_cuts = 0
        self._n_asks = 0
        self._failures = 0
        self._not_before_ns = 0

    # --- what is known ---

    @property
    def owed(self) -> tuple[str, ...]:
        """User items that wait for an answer, oldest first."""
        return tuple(self._owed)

    @property
    def speaking(self) -> bool:
        """The service has the user in the middle of a turn."""
        return self._speaking is not None

    @property
    def active(self) -> tuple[Answer, ...]:
        """Responses of the conversation that have not ended."""
        return tuple(answer for answer in self._answers.values() if not answer.done)

    @property
    def killed(self) -> frozenset[str]:
        """Responses of which nothing can be heard any more."""
        return frozenset(name for name, answer in self._answers.items() if answer.killed)

    @property
    def ungranted(self) -> tuple[Wish, ...]:
        """What the application asked for and did not get, oldest first."""
        waiting = [*([self._in_flight] if self._in_flight else []), *self._queue]
        return tuple(ask.wish for ask in waiting if not (ask.for_debt or ask.granted))

    @property
    def settled(self) -> bool:
        """Nothing is active, asked for, or owed."""
        return not (self._owed or self._queue or self._in_flight or self.active)

    def answer(self, response_id: str) -> Answer | None:
        """What is known of a response."""
        return self._answers.get(response_id)

    def answer_to(self, item_id: str) -> Answer | None:
        """The newest response that a user item caused."""
        for answer in reversed(self._answers.values()):
            if answer.item is not None and answer.item.item_id == item_id:
                return answer
        return None

    # --- the user ---

    def speech_started(self, item_id: str, onset_sample: int) -> None:
        """The service heard the user begin."""
        self._speaking = self._item(item_id, onset_sample)

    def speech_stopped(self, item_id: str, end_sample: int, at_ns: int) -> None:
        """The service heard the user end; ``end_sample`` is that of the last word."""
        item = self._item(item_id, end_sample)
        item.end_sample = max(item.onset_sample, end_sample)
        self._owed_since_ns = max(self._owed_since_ns, at_ns)
        if self._service_answers:  # it is about to, and its answer pays what we would ask for
            self._patient_until_ns = at_ns + self.patience_ns
        if self._speaking is item:
            self._speaking = None

    def speech_forgotten(self) -> None:
        """The buffer was cleared, and the open segment with it."""
        self._speaking = None

    def committed(self, item_id: str, position_sample: int, at_ns: int) -> None:
        """A user item is in the conversation; ``position_sample``: where the microphone is."""
        item = self._item(item_id, position_sample)
        if item.ordinal:
            return
        self._enter(item, position_sample)
        self._last_item = item
        if self._speaking is item:
            self._speaking = None
        if self._service_answers and not item.swallowed:
            self._owe(item, at_ns)

    def typed(self, item_id: str, position_sample: int, at_ns: int) -> None:
        """Words that nobody spoke are sent to the service: only we will ask for their answer."""
        item = self._item(item_id, position_sample)
        item.on_its_way = True
        self._enter(item, position_sample)
        self.owe_again(frozenset({item_id}), at_ns)

    def arrived(self, item_id: str) -> None:
        """The service has an item that we sent; other items are none of this account's."""
        item = self._items.get(item_id)
        if item is not None and item.on_its_way:
            item.on_its_way = False
            self._last_item = item

    def owe(
        self,
        name: str,
        position_sample: int,
        at_ns: int,
        *,
        grounded_in: frozenset[str] = frozenset(),
    ) -> None:
        """Something beside a user item wants an answer: the results of tools, a lost answer.

        The next response pays it, whoever asks for it.

        Args:
            name: Of the debt; the same again is one debt.
            position_sample: Where the microphone is: a cut by later speech covers it.
            at_ns: Now.
            grounded_in: The user items without which it would not be there.
        """
        if name in self._owed:
            self._owed[name].grounded_in |= grounded_in
            return
        item = UserItem(name, position_sample, position_sample, grounded_in=grounded_in)
        self._owe(item, at_ns)

    def swallow(self, item_id: str, at_ns: int) -> Answer | None:
        """An item was no speech. What its response had answered besides is owed again.

        So is what a cut for it killed before the user heard of it.

        Returns:
            The response that it caused, if there is one: it is void.
        """
        item = self._item(item_id, 0)
        item.swallowed = True
        self._owed.pop(item_id, None)
        self._take_back_cut(item, at_ns)
        answer = self.answer_to(item_id)
        if answer is None:
            return None
        if not answer.killed:
            self._reopen(answer, at_ns)
        answer.killed = answer.revoked = True
        return answer

    def revoke(self, item_ids: frozenset[str], at_ns: int) -> list[Answer]:
        """Everything that was said because of these user items is void; they stay.

        Nothing is owed for them any more, until `owe_again` says otherwise. What a void response
        had answered besides is owed again.

        Returns:
            The responses that are void, oldest first, also those that have ended.
        """
        for item_id in item_ids:
            self._item(item_id, 0).revoked = True
        ask = self._in_flight
        owed = [item for item in self._owed.values() if _is_grounded(item, item_ids)]
        if ask is not None and ask.for_debt:  # also if the service was quicker, and that is void
            was_for = any(_is_grounded(item, item_ids) for item in ask.owed)
            ask.void = ask.void or was_for or bool(owed)
        for item in owed:
            del self._owed[item.item_id]
        void = [answer for answer in self._answers.values() if answer.grounded_in & item_ids]
        for answer in void:
            if not answer.revoked:
                self._reopen(answer, at_ns)
            answer.killed = answer.revoked = True
        for item in list(self._owed.values()):
            if _is_grounded(item, item_ids):
                del self._owed[item.item_id]
        return void

    def owe_again(self, item_ids: frozenset[str], at_ns: int) -> None:
        """Revoked items shall be answered after all, once, and by our asking."""
        for item_id in sorted(item_ids):
            item = self._item(item_id, 0)
            item.ours = True
            self._owe(item, at_ns)

    # --- responses ---

    def created(
        self, response_id: str, ask_name: str | None, position_sample: int, at_ns: int
    ) -> Answer:
        """A response of the conversation began. It is killed at once where it has no right."""
        known = self._answers.get(response_id)
        if known is not None:
            return known
        ask = self._asks.get(ask_name) if ask_name else None
        if ask is None:
            self._patient_until_ns = 0  # the service has done what was waited for
        else:
            for said in list(self._items.values()):
                if said.ordinal <= ask.items_before:  # it went out first
                    self.arrived(said.item_id)
        answers = ask is None or ask.wish.answers
        answer = Answer(
            response_id=response_id,
            item=self._last_item,
            ask=ask,
            pays=tuple(i for i in self._owed.values() if answers and not i.on_its_way),
            position_sample=position_sample,
            cuts_before=self._n_cuts,
        )
        for paid in answer.pays:
            del self._owed[paid.item_id]
        cuts = [cut.number for cut in self._cuts if self._is_before(answer, cut)]
        answer.killed = self._is_superfluous(answer) or bool(cuts)
        item = answer.item
        by_itself = ask is None and item is not None and (item.swallowed or item.revoked)
        if by_itself or (ask is not None and ask.void):
            answer.killed = answer.revoked = True
            self._reopen(answer, at_ns)
        if ask is not None:
            ask.granted = True
            for item in answer.pays:
                item.asked = True
                if cuts and item.cuts_before >= max(cuts):
                    self._owe(item, at_ns)  # that became due when this was on its way
            # An ask that had been given up for lost, and was queued again, is granted now.
            if ask in self._queue:
                self._queue.remove(ask)
        if ask is self._in_flight:
            self._in_flight = None
        self._answers[response_id] = answer
        self._forget()
        return answer

    def done(self, response_id: str, at_ns: int, *, failed: bool = False) -> Answer | None:
        """A response ended; ``failed``: without giving anything, so its debts are open again."""
        answer = self._answers.get(response_id)
        if answer is None or answer.done:
            return answer
        answer.done = True
        self._owed_since_ns = max(self._owed_since_ns, at_ns)
        if failed and not answer.killed:
            answer.killed = True
            self._reopen(answer, at_ns)
            self._back_off(at_ns)
        elif not failed:
            self._failures = 0
        return answer

    def cut(
        self, turn: int | None, onset_sample: int | None, heard: frozenset[str], at_ns: int
    ) -> list[Answer]:
        """The agent was interrupted.

        Args:
            turn: Everything up to this turn is cut; the engine lets nothing of it out.
            onset_sample: Start of the interrupting speech, ``None`` when it was no speech.
            heard: Responses of which the user heard something.
            at_ns: Now.

        Returns:
            The responses that it kills, of those that exist.
        """
        self._n_cuts += 1
        cut = Cut(self._n_cuts, turn, onset_sample, self._committed)
        self._cuts.append(cut)
        killed: list[Answer] = []
        self._unheard.append((cut, []))
        for answer in self._answers.values():
            by_cause = self._is_before(answer, cut)
            by_turn = turn is not None and answer.turn is not None and answer.turn <= turn
            if answer.killed or not (by_cause or by_turn):
                continue
            answer.killed = True
            killed.append(answer)
            # The engine's line took an answer to the interrupting speech itself: a late verdict.
            # Nobody heard it, so the speech is still owed one.
            unheard = answer.response_id not in heard
            if onset_sample is not None and not by_cause and unheard:
                self._reopen(answer, at_ns)
            elif unheard:
                self._unheard[-1][1].append(answer)
        return killed

    def silence(self, turn: int | None) -> list[Answer]:
        """Nothing up to a turn can be heard any more, for a reason that is none of the user's.

        Returns:
            The responses that it kills.
        """
        killed = [
            answer
            for answer in self._answers.values()
            if not answer.killed
            and answer.turn is not None
            and (turn is None or answer.turn <= turn)
        ]
        for answer in killed:
            answer.killed = True
        return killed

    # --- our own asks ---

    def ask(self, wish: Wish, position_sample: int) -> Ask:
        """The application wants a response; it waits until nothing is active."""
        ask = self._new_ask(wish, position_sample, for_debt=False)
        self._queue.append(ask)
        return ask

    def due(self, position_sample: int, at_ns: int) -> Ask | None:
        """The ask that is to be sent now, if any."""
        self._give_up_waiting(at_ns)
        due_ns = self._due_ns()
        if due_ns is None or at_ns < due_ns:
            return None
        ask = (
            self._queue.popleft()
            if self._queue
            else self._new_ask(Wish(), position_sample, for_debt=True)
        )
        ask.cuts_before, ask.items_before = self._n_cuts, self._committed
        ask.sent_ns, ask.owed = at_ns, tuple(self._owed.values())
        self._in_flight = ask
        return ask

    def refused(self, ask_name: str | None, at_ns: int, *, collision: bool) -> bool:
        """An ask failed. A collision keeps the debt, and so does everything else for a while.

        Args:
            ask_name: Its name; ``None`` when the service did not say which, which for a
                collision means ours if one is on the way, else the service's own.
            at_ns: Now.
            collision: A response was active.

        Returns:
            Whether the debt was given up.
        """
        ask = self._asks.get(ask_name) if ask_name else self._in_flight
        if ask is None or ask.granted:
            return False
        if ask is self._in_flight:
            self._in_flight = None
        if not ask.for_debt and ask not in self._queue:
            self._queue.appendleft(ask)
        if collision and self.active:
            return False
        return self._back_off(at_ns, counts=not collision)

    @property
    def deadline_ns(self) -> int | None:
        """When something is to be done though nothing happens."""
        times = [
            answer.cancelled_ns + STUCK_NS
            for answer in self.active
            if answer.cancelled_ns is not None
        ]
        if self._in_flight is not None:
            times.append(self._in_flight.sent_ns + LOST_NS)
        due_ns = self._due_ns()
        if due_ns is not None:
            times.append(due_ns)
        return min(times, default=None)

    # --- inside ---

    def _item(self, item_id: str, position_sample: int) -> UserItem:
        item = self._items.get(item_id)
        if item is None:
            item = self._items[item_id] = UserItem(item_id, position_sample)
            self._forget()
        return item

    def _enter(self, item: UserItem, position_sample: int) -> None:
        self._committed += 1
        item.ordinal = self._committed
        if item.end_sample is None:
            item.end_sample = position_sample

    def _owe(self, item: UserItem, at_ns: int) -> None:
        self._owed[item.item_id] = item
        item.cuts_before = self._n_cuts
        if len(self._owed) > REMEMBERED:  # one answer pays them all, so the newest will do
            del self._owed[next(iter(self._owed))]
        self._owed_since_ns = max(self._owed_since_ns, at_ns)

    def _take_back_cut(self, item: UserItem, at_ns: int) -> None:
        """The speech that caused a cut was none: what that killed unheard is owed again."""
        earlier = [
            other.end_sample or 0
            for other in self._items.values()
            if other.ordinal and (not item.ordinal or other.ordinal < item.ordinal)
        ]
        begin, end = max(earlier, default=-1), item.end_sample
        for cut, answers in self._unheard:
            onset = cut.onset_sample
            if onset is None or onset <= begin or (end is not None and onset > end):
                continue
            for answer in answers:
                self._reopen(answer, at_ns)
                if answer.ask is not None and not answer.ask.for_debt:
                    answer.ask.granted = False
                    self._queue.append(answer.ask)
            answers.clear()

    def _reopen(self, answer: Answer, at_ns: int) -> None:
        for item in answer.pays:
            if not item.swallowed:
                self._owe(item, at_ns)

    def _is_before(self, answer: Answer, cut: Cut) -> bool:
        """Whether what caused a response began before a cut."""
        ask = answer.ask
        if ask is not None and ask.cuts_before >= cut.number:
            return False
        if cut.onset_sample is None:
            if ask is not None:
                return True
            if answer.item is None:
                return answer.cuts_before < cut.number
            return answer.item.ordinal <= cut.committed
        if ask is not None and not ask.for_debt:
            return ask.position_sample < cut.onset_sample
        if answer.item is None:
            return answer.position_sample < cut.onset_sample
        end_sample = answer.item.end_sample
        return end_sample is not None and end_sample < cut.onset_sample

    def _is_superfluous(self, answer: Answer) -> bool:
        """The service's answer and ours crossed on the way, and the other one came first."""
        if answer.pays:
            return False
        if answer.ask is not None:
            return answer.ask.granted or answer.ask.for_debt
        return answer.item is not None and answer.item.asked and self._in_flight is None

    def _due_ns(self) -> int | None:
        """When an ask may be sent; ``None`` while something is in its way, or none is wanted."""
        if self._in_flight is not None or self._speaking is not None or self.active:
            return None
        if self._owed:
            by_us = all(item.ours for item in self._owed.values())
            patient_ns = 0 if by_us else self._owed_since_ns + self.patience_ns
            return max(patient_ns, self._patient_until_ns, self._not_before_ns)
        return self._not_before_ns if self._queue else None

    def _give_up_waiting(self, at_ns: int) -> None:
        ask = self._in_flight
        if ask is not None and at_ns >= ask.sent_ns + LOST_NS:
            self.refused(ask.name, at_ns, collision=False)
        for answer in self.active:
            if answer.cancelled_ns is not None and at_ns >= answer.cancelled_ns + STUCK_NS:
                self.done(answer.response_id, at_ns)

    def _back_off(self, at_ns: int, *, counts: bool = True) -> bool:
        self._failures += 1
        pause_ns = min(self.patience_ns << min(self._failures - 1, 10), MAX_BACK_OFF_NS)
        self._not_before_ns = at_ns + pause_ns
        if not counts or self._failures < MAX_FAILURES:
            return False
        self._failures = 0
        self._owed.clear()
        self._queue.clear()
        return True

    def _new_ask(self, wish: Wish, position_sample: int, *, for_debt: bool) -> Ask:
        self._n_asks += 1
        ask = Ask(f"create-{self._n_asks}", wish, for_debt, position_sample)
        self._asks[ask.name] = ask
        return ask

    def _forget(self) -> None:
        # A service that opens response after response and ends none is not ours to remember.
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        for item_id in list(self._items)[:-REMEMBERED]:
            if item_id not in self._owed and self._items[item_id] is not self._speaking:
                del self._items[item_id]
        for name in list(self._asks)[:-REMEMBERED]:
            if self._asks[name] is not self._in_flight and self._asks[name] not in self._queue:
                del self._asks[name]


def _is_grounded(item: UserItem, item_ids: frozenset[str]) -> bool:
    return item.item_id in item_ids or bool(item.grounded_in & item_ids)
