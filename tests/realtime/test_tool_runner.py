"""Calls that wait until their turn is committed."""

from __future__ import annotations

import anyio
import pytest

from framepipe.errors import LocalProtocolError
from framepipe.frames import ToolCall
from framepipe.realtime.tool_runner import Outcome, ToolRunner
from framepipe.realtime.tools import by_name, tool
from framepipe.testing import run_virtual


def call(name: str, call_id: str = "c1") -> ToolCall:
    return ToolCall(call_id=call_id, name=name, arguments='{"city": "Rome"}')


class Desk:
    """Tools that write down when they are called, and what they say."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.told: list[tuple[str, Outcome]] = []

        @tool(inline=True)
        def look_up(city: str) -> str:
            """Look a city up."""
            self.log.append(f"look up {city}")
            return "nice"

        @tool(effects=True, time_limit_s=5)
        async def book(city: str) -> str:
            """Book a flight."""
            self.log.append(f"book {city}")
            return "booked"

        @tool(effects=True, time_limit_s=5)
        async def buy(city: str, prepared: str) -> str:
            """Buy a ticket."""
            self.log.append(f"buy {city} with {prepared}")
            return "bought"

        @buy.prepare
        async def quote(city: str) -> str:
            self.log.append(f"quote {city}")
            await anyio.sleep(1)
            return "a quote"

        self.runner = ToolRunner(by_name((look_up, book, buy)), self.tell)

    async def tell(self, call: ToolCall, outcome: Outcome) -> None:
        self.told.append((call.call_id, outcome))


def test_a_tool_with_effects_waits_where_somebody_keeps_turns() -> None:
    async def script() -> None:
        desk = Desk()
        async with anyio.create_task_group() as tasks:
            desk.runner.start(tasks)
            desk.runner.guard()
            desk.runner.run(call("look_up", "c1"))
            desk.runner.run(call("book", "c2"))
            await anyio.sleep(60)
            assert desk.log == ["look up Rome"]
            assert desk.runner.waiting == ("c2",)
            desk.runner.proceed("c2")
            await anyio.sleep(1)
        assert desk.log == ["look up Rome", "book Rome"]
        assert desk.told[-1] == ("c2", Outcome("booked"))

    run_virtual(script)


def test_a_call_that_may_go_ahead_before_its_task_has_begun_does_not_wait() -> None:
    async def script() -> None:
        desk = Desk()
        async with anyio.create_task_group() as tasks:
            desk.runner.start(tasks)
            desk.runner.guard()
            desk.runner.run(call("book"))
            desk.runner.proceed("c1")
        assert desk.log == ["book Rome"]

    run_virtual(script)


def test_nothing_waits_where_nobody_keeps_turns() -> None:
    async def script() -> None:
        desk = Desk()
        async with anyio.create_task_group() as tasks:
            desk.runner.start(tasks)
            desk.runner.run(call("book"))
        assert desk.log == ["book Rome"]

    run_virtual(script)


def test_what_prepares_a_tool_runs_at_once_and_the_tool_gets_its_result() -> None:
    async def script() -> None:
        desk = Desk()
        async with anyio.create_task_group() as tasks:
            desk.runner.start(tasks)
            desk.runner.guard()
            desk.runner.run(call("buy"))
            await anyio.sleep(60)  # longer than its time limit, which waiting does not use up
            assert desk.log == ["quote Rome"]
            desk.runner.proceed("c1")
        assert desk.log == ["quote Rome", "buy Rome with a quote"]
        assert desk.told == [("c1", Outcome("bought"))]

    run_virtual(script)


def test_a_tool_that_goes_ahead_waits_for_what_prepares_it() -> None:
    async def script() -> None:
        desk = Desk()
        async with anyio.create_task_group() as tasks:
            desk.runner.start(tasks)
            desk.runner.guard()
            desk.runner.run(call("buy"))
            desk.runner.proceed("c1")
        assert desk.log == ["quote Rome", "buy Rome with a quote"]

    run_virtual(script)


def test_a_withdrawn_call_never_runs_and_nobody_is_told() -> None:
    async def script() -> None:
        desk = Desk()
        async with anyio.create_task_group() as tasks:
            desk.runner.start(tasks)
            desk.runner.guard()
            desk.runner.run(call("buy"))
            await anyio.sleep(5)
            desk.runner.withdraw("c1")
            desk.runner.proceed("c1")
            await anyio.sleep(5)
        assert desk.log == ["quote Rome"]
        assert desk.told == []
        assert desk.runner.waiting == ()

    run_virtual(script)


def test_the_model_knows_nothing_of_what_is_prepared() -> None:
    desk = Desk()
    assert set(desk.runner.tools["buy"].schema["properties"]) == {"city"}


def test_a_parameter_that_nothing_prepares_is_refused() -> None:
    @tool(effects=True)
    async def buy(city: str, prepared: str) -> str:
        """Buy a ticket."""
        return city + prepared

    with pytest.raises(LocalProtocolError, match=r"mark a function with @buy\.prepare"):
        by_name((buy,))


def test_a_result_that_no_parameter_takes_is_refused() -> None:
    @tool(effects=True)
    async def buy(city: str) -> str:
        """Buy a ticket."""
        return city

    async def quote(city: str) -> str:
        return city

    with pytest.raises(LocalProtocolError, match="has no parameter 'prepared'"):
        buy.prepare(quote)
