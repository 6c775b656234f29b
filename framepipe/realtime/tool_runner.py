"""Runs a tool for the model: whatever goes wrong becomes text."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
from attrs import frozen

from framepipe.realtime.tools import Tool, ToolError, output_text


@frozen
class Outcome:
    """What became of a call.

    Attributes:
        output: Text for the model.
        error: Why there is no result, or ``None``.
    """

    output: str
    error: str | None = None


def failed(why: str) -> Outcome:
    """A call without a result, in words that the model understands."""
    return Outcome(f"error: {why}", why)


async def run_tool(tool: Tool[..., Any], arguments: str) -> Outcome:
    """Run one call.

    Args:
        tool: The tool.
        arguments: JSON text of the model.

    Cancellation cancels an ``async`` tool; the thread of a plain one is left to end by itself.
    """
    try:
        call = tool.bind(arguments)
        with anyio.move_on_after(tool.time_limit_s) as limit:
            if tool.is_async:
                return Outcome(output_text(await call()))
            if tool.inline:
                return Outcome(output_text(call()))
            # Left behind at the limit: a thread cannot be stopped.
            result = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
            return Outcome(output_text(result))
        assert limit.cancelled_caught
        return failed(f"{tool.name} took longer than {tool.time_limit_s:g} s")
    except ToolError as error:
        return failed(str(error))
    except Exception as error:  # the model, and whoever reads ToolResult, must hear of any bug
        return failed(f"{tool.name} failed: {type(error).__name__}: {error}")
