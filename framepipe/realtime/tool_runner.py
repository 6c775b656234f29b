"""Runs tools for the model: whatever goes wrong becomes text, and a call can be withdrawn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from attrs import frozen

from framepipe.frames import ToolCall
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


class ToolRunner:
    """Runs the calls of one conversation, each in a task of its own.

    Args:
        tools: By name.
        tell: Is told what became of each call that was not withdrawn.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool[..., Any]],
        tell: Callable[[ToolCall, Outcome], Awaitable[None]],
    ) -> None:
        self.tools = tools
        self._tell = tell
        self._tasks: TaskGroup | None = None
        self._running: dict[str, anyio.CancelScope] = {}

    def start(self, tasks: TaskGroup | None) -> None:
        """Calls can be run from now on, in these tasks; ``None``: no more."""
        self._tasks = tasks

    def run(self, call: ToolCall) -> None:
        """Run a call. A tool that there is not is an answer too."""
        assert self._tasks is not None, "a server is heard in run only"
        scope = self._running[call.call_id] = anyio.CancelScope()
        self._tasks.start_soon(self._run, call, scope, name=f"tool {call.name}")

    def withdraw(self, call_id: str) -> None:
        """A call is void: it is cancelled if it runs, and nobody is told of it."""
        scope = self._running.pop(call_id, None)
        if scope is not None:
            scope.cancel()

    async def _run(self, call: ToolCall, scope: anyio.CancelScope) -> None:
        tool = self.tools.get(call.name)
        outcome = failed(f"there is no tool named {call.name}")
        with scope:
            if tool is not None and not scope.cancel_called:
                outcome = await run_tool(tool, call.arguments)
        if self._running.pop(call.call_id, None) is not None:
            await self._tell(call, outcome)
