"""Fallbacks as scripts, and the promise that they never loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.conversation.fallback import LINES, Command, Fact, FallbackCore, PlayLine, has_words
from framepipe.conversation.turns import Floor
from framepipe.errors import FrameError
from framepipe.frames import ConnectionState, Escalate, Problem, Revoke, Transcript

MS = 1_000_000

QUIET = Floor()
SPEAKS = Floor(user_speaks=True)


def waits(since_ms: int, *item_ids: str, answers: int = 0) -> Floor:
    return Floor(waits_since_ns=since_ms * MS, item_ids=item_ids or ("U1",), answers=answers)


def said(text: str, item_id: str = "U1") -> Transcript:
    return Transcript(who="user", text=text, final=True, item_id=item_id)


class Script:
    def __init__(self, core: FallbackCore | None = None) -> None:
        self.core = FallbackCore() if core is None else core
        self.made: list[tuple[int, Command]] = []

    def tell(self, at_ms: int, *facts: Fact) -> None:
        self.until(at_ms)
        for fact in facts:
            self.made += [(at_ms, order) for order in self.core.receive(fact, at_ms * MS)]

    def until(self, at_ms: int) -> None:
        for _ in range(100):
            due_ns = self.core.deadline_ns
            if due_ns is None or due_ns > at_ms * MS:
                return
            self.made += [
                (due_ns // MS, order) for order in self.core.deadline_reached(max(due_ns, 0))
            ]
        raise AssertionError("the core wants to be called again and again")


def test_a_long_wait_is_announced_once() -> None:
    script = Script()
    script.tell(1_000, waits(1_000))
    script.until(9_000)
    assert script.made == [(3_500, PlayLine("one_moment"))]


def test_an_answer_in_time_needs_no_announcement() -> None:
    script = Script()
    script.tell(1_000, waits(1_000))
    script.tell(3_000, Floor(agent_speaks=True, answers=1))
    script.until(20_000)
    assert script.made == []


def test_an_answer_that_does_not_come_is_given_up_and_a_clip_asks_to_repeat() -> None:
    script = Script(FallbackCore(slow_ms=None))
    script.tell(1_000, waits(1_000, "U1", "U2"))
    script.until(30_000)
    assert script.made == [
        (11_000, Revoke(item_ids=("U1", "U2"), respond=False)),
        (11_000, PlayLine("missed")),
    ]


def test_an_empty_transcript_makes_the_model_ask_in_the_place_of_its_answer() -> None:
    script = Script()
    script.tell(1_000, waits(1_000, "U1"), said(" ... "))
    script.until(1_100)

    [(_, revoke)] = script.made
    assert isinstance(revoke, Revoke)
    assert (revoke.item_ids, revoke.respond) == (("U1",), True)
    assert LINES["missed"] in revoke.hint


def test_an_empty_transcript_of_something_already_answered_is_no_matter() -> None:
    script = Script()
    script.tell(1_000, Floor(agent_speaks=True, answers=1), said(""))
    script.until(30_000)
    assert script.made == []


def test_a_prepared_clip_speaks_when_the_service_is_gone() -> None:
    script = Script()
    script.tell(1_000, QUIET, ConnectionState(state="reconnecting"))
    script.until(30_000)
    assert script.made == [(5_000, PlayLine("offline"))]


def test_a_short_loss_of_the_connection_is_not_told() -> None:
    script = Script()
    script.tell(1_000, QUIET, ConnectionState(state="reconnecting"))
    script.tell(3_000, ConnectionState(state="open"))
    script.until(30_000)
    assert script.made == []


def test_a_failed_response_is_left_to_the_second_try_for_a_while() -> None:
    script = Script()
    script.tell(1_000, waits(1_000), Problem(where="realtime", code="response_failed", message=""))
    script.until(2_499)
    assert script.made == []
    script.until(2_500)
    assert [order for _, order in script.made][-1] == PlayLine("missed")


def test_a_debt_that_the_client_gives_up_is_told_at_once() -> None:
    script = Script()
    script.tell(1_000, waits(1_000))
    script.tell(2_000, Problem(where="realtime", code="unanswered", message=""))
    script.until(2_000)
    assert [order for _, order in script.made][-1] == PlayLine("missed")


def test_nothing_is_said_over_the_user_and_what_he_says_again_is_not_missed() -> None:
    script = Script()
    script.tell(1_000, waits(1_000), said(""), SPEAKS)
    script.until(30_000)
    assert script.made == []
    script.tell(30_000, waits(30_000, "U2"))
    script.until(31_000)
    assert script.made == []


def test_nothing_is_said_over_the_agent() -> None:
    script = Script(FallbackCore(slow_ms=None))
    script.tell(1_000, Floor(agent_speaks=True, waits_since_ns=MS, item_ids=("U1",)))
    script.until(60_000)
    assert script.made == []


def test_after_two_in_a_row_a_person_is_asked_for_once() -> None:
    script = Script(FallbackCore(slow_ms=None))
    for turn in range(1, 6):
        script.tell(20_000 * turn, SPEAKS)
        script.tell(20_000 * turn + 1_000, waits(20_000 * turn + 1_000, f"U{turn}"))
    script.until(200_000)

    lines = [order for _, order in script.made if isinstance(order, PlayLine)]
    escalations = [order for _, order in script.made if isinstance(order, Escalate)]
    assert len(lines) == 2
    assert [(one.reason, one.attempts) for one in escalations] == [("no_answer", 2)]


def test_a_good_exchange_begins_the_count_anew() -> None:
    script = Script(FallbackCore(slow_ms=None))
    for turn in range(1, 4):
        start_ms = 40_000 * turn
        script.tell(start_ms, waits(start_ms, f"U{turn}", answers=turn - 1))
        script.tell(start_ms + 20_000, SPEAKS)
        script.tell(start_ms + 21_000, waits(start_ms + 21_000, f"V{turn}", answers=turn - 1))
        script.tell(start_ms + 21_500, said("to Denver", f"V{turn}"))
        script.tell(start_ms + 22_000, Floor(agent_speaks=True, answers=turn))

    assert len([order for _, order in script.made if isinstance(order, PlayLine)]) == 3
    assert not [order for _, order in script.made if isinstance(order, Escalate)]


@pytest.mark.parametrize(("text", "expected"), [("", False), (" … ", False), ("3", True)])
def test_words_are_letters_or_digits(text: str, expected: bool) -> None:
    assert has_words(text) is expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: FallbackCore(slow_ms=0),
        lambda: FallbackCore(answer_ms=0),
        lambda: FallbackCore(in_a_row=0),
    ],
)
def test_a_limit_of_nothing_is_refused(make: Callable[[], FallbackCore]) -> None:
    with pytest.raises(FrameError, match="is 0; it must be 1 or more"):
        make()


_FLOORS = st.builds(
    Floor,
    user_speaks=st.booleans(),
    agent_speaks=st.booleans(),
    waits_since_ns=st.none() | st.integers(0, 50_000).map(lambda ms: ms * MS),
    item_ids=st.sampled_from([(), ("U1",), ("U1", "U2")]),
    answers=st.integers(0, 40),
)
_FACTS = st.one_of(
    _FLOORS,
    st.sampled_from(["", "to Denver"]).map(said),
    st.sampled_from(
        [
            ConnectionState(state="open"),
            ConnectionState(state="reconnecting"),
            ConnectionState(state="closed"),
        ]
    ),
    st.sampled_from(["response_failed", "unanswered", "other"]).map(
        lambda code: Problem(where="realtime", code=code, message="")
    ),
)


@given(st.lists(st.tuples(st.integers(0, 20_000), _FACTS), max_size=80), st.integers(1, 3))
def test_the_fallback_never_loops(script: list[tuple[int, Fact]], in_a_row: int) -> None:
    core = FallbackCore(in_a_row=in_a_row, per_call=5)
    said_to: list[Command] = []
    floor, now_ns = Floor(), 0
    n_floors = 0
    for gap_ms, fact in script:
        until_ns = now_ns + gap_ms * MS
        for _ in range(20):
            due_ns = core.deadline_ns
            if due_ns is None or due_ns > until_ns:
                break
            now_ns = max(now_ns, due_ns)
            made = core.deadline_reached(now_ns)
            assert not (made and (floor.user_speaks or floor.agent_speaks)), "never over anybody"
            said_to += made
        else:
            raise AssertionError("the core wants to be called again and again")
        now_ns = until_ns
        said_to += core.receive(fact, now_ns)
        if isinstance(fact, Floor):
            floor = fact
            n_floors += 1
    lines = [order for order in said_to if isinstance(order, PlayLine)]
    asked = [order for order in said_to if isinstance(order, Revoke) and order.respond]
    announced = [line for line in lines if line.name == "one_moment"]
    assert len(lines) - len(announced) + len(asked) <= 5
    assert len(announced) <= n_floors, "once a wait"
