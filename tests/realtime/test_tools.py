"""A Python function becomes a tool: schema, checked arguments, and errors as text."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, Literal

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.errors import LocalProtocolError
from framepipe.realtime.tool_runner import Outcome, run_tool
from framepipe.realtime.tools import Tool, ToolError, by_name, output_text, tool
from framepipe.testing import run_virtual


class Passenger(msgspec.Struct):
    name: str
    age: int = 30


@tool(effects=True, time_limit_s=5)
async def book(
    city: str,
    passengers: list[Passenger],
    seat: Literal["aisle", "window"] = "window",
    notes: list[str] = [],  # noqa: B006 - never shared, see below
) -> dict[str, Any]:
    """Book a flight.

    At once, and for money.

    Args:
        city: Where to, as
            people call it.
        seat: The preferred one.

    Returns:
        The booking.
    """
    notes.append("seen")
    return {"city": city, "names": [one.name for one in passengers], "seat": seat, "notes": notes}


def test_the_signature_becomes_the_schema_and_the_docstring_the_description() -> None:
    assert book.wire == {
        "type": "function",
        "name": "book",
        "description": "Book a flight.\n\nAt once, and for money.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where to, as people call it."},
                "passengers": {"type": "array", "items": {"$ref": "#/$defs/Passenger"}},
                "seat": {
                    "enum": ["aisle", "window"],
                    "default": "window",
                    "description": "The preferred one.",
                },
                "notes": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["city", "passengers"],
            "additionalProperties": False,
            "$defs": {
                "Passenger": {
                    "title": "Passenger",
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "age": {"type": "integer", "default": 30},
                    },
                    "required": ["name"],
                }
            },
        },
    }
    assert (book.effects, book.time_limit_s, book.is_async) == (True, 5, True)


def test_the_arguments_arrive_as_the_types_of_the_signature() -> None:
    arguments = '{"city": "Oslo", "passengers": [{"name": "Ada"}]}'
    for _ in range(2):  # a default is not shared between calls
        outcome = run_virtual(run_tool, book, arguments)
        assert json.loads(outcome.output) == {
            "city": "Oslo",
            "names": ["Ada"],
            "seat": "window",
            "notes": ["seen"],
        }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ('{"city": 3, "passengers": []}', "Expected `str`, got `int` - at `$.city`"),
        ('{"passengers": []}', "missing required field `city`"),
        ('{"city": "x", "passengers": [], "hotel": 1}', "unknown field `hotel`"),
        ('{"city": "x", "passengers": [], "seat": "roof"}', "Invalid enum value 'roof'"),
        ('{"city": "x"', "truncated"),
        ("", "missing required field"),
        ("[]", "Expected `object`"),
    ],
)
def test_arguments_that_do_not_fit_are_explained_to_the_model(arguments: str, why: str) -> None:
    outcome = run_virtual(run_tool, book, arguments)
    assert outcome.output.startswith("error: the arguments of book are wrong: ")
    assert why in outcome.output
    assert outcome.error is not None


@given(st.text())
def test_no_arguments_whatsoever_are_more_than_an_error(arguments: str) -> None:
    with pytest.raises(ToolError):
        book.bind(arguments)


def test_a_tool_is_still_the_function_that_it_was() -> None:
    @tool
    def twice(number: int) -> int:
        """Double a number."""
        return 2 * number

    assert twice(21) == 42
    assert repr(twice) == "<tool twice(number: 'int') -> 'int'>"


def test_a_tool_that_fails_tells_why_and_one_may_choose_its_words() -> None:
    @tool(inline=True)
    def broken() -> str:
        """Break."""
        raise KeyError("oslo")

    @tool(inline=True)
    def polite() -> str:
        """Refuse."""
        raise ToolError("no flights on Sundays")

    assert run_virtual(run_tool, broken, "{}").output == "error: broken failed: KeyError: 'oslo'"
    assert run_virtual(run_tool, polite, "{}") == Outcome(
        "error: no flights on Sundays", "no flights on Sundays"
    )


def test_a_tool_that_takes_too_long_is_ended() -> None:
    ended: list[str] = []

    @tool(time_limit_s=3)
    async def slow() -> None:
        """Think."""
        try:
            await anyio.sleep(60)
        finally:
            ended.append("slow")

    outcome = run_virtual(run_tool, slow, "{}")

    assert outcome.output == "error: slow took longer than 3 s"
    assert ended == ["slow"]


@pytest.mark.anyio
async def test_a_plain_function_runs_in_a_thread_and_an_inline_one_in_the_loop() -> None:
    def where() -> str:
        """Tell the thread."""
        return threading.current_thread().name

    here = threading.current_thread().name
    assert (await run_tool(tool(where), "{}")).output != here
    assert (await run_tool(tool(inline=True)(where), "{}")).output == here


@pytest.mark.anyio
async def test_a_thread_that_takes_too_long_is_left_behind() -> None:
    goes_on = threading.Event()

    @tool(time_limit_s=0.01)
    def stuck() -> None:
        """Wait."""
        goes_on.wait(10)

    outcome = await run_tool(stuck, "{}")
    goes_on.set()

    assert outcome.error == "stuck took longer than 0.01 s"


@pytest.mark.parametrize(
    ("result", "text"),
    [("sunny", "sunny"), (None, "done"), ({"a": [1]}, '{"a":[1]}'), (Passenger("Ada"), None)],
)
def test_a_result_is_told_as_text(result: object, text: str | None) -> None:
    assert output_text(result) == (text or '{"name":"Ada","age":30}')
    assert output_text(object()).startswith("<object")


def _untyped(city: Any) -> None:
    """Do."""


del _untyped.__annotations__["city"]


def _starred(*cities: str) -> None:
    """Do."""


def _undescribed(city: str) -> None: ...


def _unknown(city: threading.Lock) -> None:  # type: ignore[valid-type,unused-ignore]
    """Do."""


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (_untyped, "city has no type; write city: str"),
        (_starred, "cannot be named in JSON"),
        (_undescribed, "has no docstring"),
        (_unknown, "_unknown: "),
        (lambda: None, "define it with def"),
    ],
)
def test_a_function_that_cannot_be_a_tool_says_why(function: Callable[..., Any], why: str) -> None:
    with pytest.raises(LocalProtocolError, match=why):
        tool(function)


def test_settings_and_names_that_make_no_sense_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="time_limit_s is 0"):
        Tool(book.function, time_limit_s=0)
    with pytest.raises(LocalProtocolError, match="two tools are named 'book'"):
        by_name((book, book))
    with pytest.raises(LocalProtocolError, match="mark the function with @tool"):
        by_name((print,))  # type: ignore[arg-type]
