"""When the user says nothing."""

from __future__ import annotations

import pytest

from framepipe.conversation.idle import Command, Fact, IdleCore
from framepipe.conversation.turns import Floor
from framepipe.errors import FrameError
from framepipe.frames import ConnectionState, Escalate, Speak

MS = 1_000_000
OPEN = ConnectionState(state="open")
NUDGE = Speak(text="Are you there?")


class Script:
    def __init__(self, nudges: int = 2) -> None:
        self.core = IdleCore("Are you there?", idle_ms=8_000, nudges=nudges)
        self.made: list[tuple[int, Command]] = []

    def tell(self, at_ms: int, fact: Fact) -> None:
        self.until(at_ms)
        self.core.receive(fact, at_ms * MS)

    def until(self, at_ms: int) -> None:
        while (due_ns := self.core.deadline_ns) is not None and due_ns <= at_ms * MS:
            self.made += [(due_ns // MS, o) for o in self.core.deadline_reached(due_ns)]


def test_a_silent_user_is_asked_and_then_a_person_is_asked_for() -> None:
    script = Script()
    script.tell(1_000, OPEN)
    script.until(100_000)
    assert script.made == [
        (9_000, NUDGE),
        (17_000, NUDGE),
        (25_000, Escalate(reason="idle", attempts=2)),
    ]


def test_nothing_is_counted_while_the_agent_is_heard() -> None:
    script = Script()
    script.tell(1_000, OPEN)
    script.tell(5_000, Floor(agent_speaks=True))
    script.tell(60_000, Floor())
    script.until(67_999)
    assert script.made == []
    script.until(68_000)
    assert script.made == [(68_000, NUDGE)]


def test_nothing_is_counted_while_an_answer_is_owed_or_the_user_speaks() -> None:
    script = Script()
    script.tell(1_000, OPEN)
    script.tell(2_000, Floor(user_speaks=True))
    script.tell(20_000, Floor(waits_since_ns=20_000 * MS, item_ids=("U1",)))
    script.until(60_000)
    assert script.made == []


def test_the_voice_of_the_user_begins_the_count_anew() -> None:
    script = Script(nudges=1)
    script.tell(1_000, OPEN)
    script.until(9_000)
    script.tell(10_000, Floor(user_speaks=True))
    script.tell(11_000, Floor())
    script.until(20_000)
    assert script.made == [(9_000, NUDGE), (19_000, NUDGE)]


def test_nobody_is_asked_while_there_is_no_connection() -> None:
    script = Script()
    script.tell(1_000, OPEN)
    script.tell(2_000, ConnectionState(state="reconnecting"))
    script.until(60_000)
    assert script.made == []


def test_a_time_of_nothing_is_refused() -> None:
    with pytest.raises(FrameError, match="idle_ms is 0; it must be 1 or more"):
        IdleCore("", idle_ms=0)
