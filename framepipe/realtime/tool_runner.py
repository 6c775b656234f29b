"""Runs tools for the model: whatever goes wrong becomes text, and a call can be withdrawn.

Where somebody keeps the user's turns (`ToolRunner.guard`), a tool with effects waits until it is
told to go ahead. What prepares it does not wait.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from attrs import frozen

from framepipe.frames import ToolCall
from framepipe.realtime.tools import PREPARED, Tool, ToolError, output_text


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


async def run_tool(
    tool: Tool[..., Any], arguments: str, gate: anyio.Event | None = None
) -> Outcome:
    """Run one call.

    Args:
        tool: The tool.
        arguments: JSON text of the model.
        gate: What the tool waits for when it is prepared; that time does not count.

    Cancellation cancels an ``async`` tool; the thread of a plain one is left to end by itself.
    """
    try:
        prepare = tool.bind_prepare(arguments)
        ready = {} if prepare is None else {PREPARED: await _limited(tool, prepare)}
        if gate is not None:
            await gate.wait()
        return Outcome(output_text(await _limited(tool, partial(tool.bind(arguments), **ready))))
    except ToolError as error:
        return failed(str(error))
    except Exception as error:  # the model, and whoever reads ToolResult, must hear of any bug
        return failed(f"{tool.name} failed: {type(error).__name__}: {error}")


async def _limited(tool: Tool[..., Any], call: Callable[[], Any]) -> object:
    with anyio.move_on_after(tool.time_limit_s) as limit:
        if _is_async(call):
            return await call()
        if tool.inline:
            return call()
        # Left behind at the limit: a thread cannot be stopped.
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    assert limit.cancelled_caught
    raise ToolError(f"{tool.name} took longer than {tool.time_limit_s:g} s")


def _is_async(call: Callable[[], Any]) -> bool:
    return inspect.iscoroutinefunction(call.func if isinstance(call, partial) else call)


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
        self._gates: dict[str, anyio.Event] = {}
        self._guarded = False

    @property
    def waiting(self) -> tuple[str, ...]:
        """Calls that wait to be told to go ahead, oldest first."""
        return tuple(self._gates)

    def guard(self) -> None:
        """From here on tools with effects wait for `proceed`."""
        self._guarded = True

    def proceed(self, call_id: str) -> None:
        """A call may go ahead; one that does not wait is no matter."""
        gate = self._gates.pop(call_id, None)
        if gate is not None:
            gate.set()

    def start(self, tasks: TaskGroup | None) -> None:
        """Calls can be run from now on, in these tasks; ``None``: no more."""
        self._tasks = tasks

    def run(self, call: ToolCall) -> None:
        """Run a call. A tool that there is not is an answer too."""
        assert self._tasks is not None, "a server is heard in run only"
        scope = self._running[call.call_id] = anyio.CancelScope()
        tool = self.tools.get(call.name)
        if self._guarded and tool is not None and tool.effects:
            self._gates[call.call_id] = anyio.Event()
        self._tasks.start_soon(self._run, call, scope, name=f"tool {call.name}")

    def withdraw(self, call_id: str) -> None:
        """A call is void: it is cancelled if it runs, and nobody is told of it."""
        self._gates.pop(call_id, None)
        scope = self._running.pop(call_id, None)
        if scope is not None:
            scope.cancel()

    async def _run(self, call: ToolCall, scope: anyio.CancelScope) -> None:
        tool = self.tools.get(call.name)
        gate = self._gates.get(call.call_id)
        outcome = failed(f"there is no tool named {call.name}")
        with scope:
            if tool is not None and not scope.cancel_called:
                outcome = await run_tool(tool, call.arguments, gate)
        self._gates.pop(call.call_id, None)
        if self._running.pop(call.call_id, None) is not None:
            await self._tell(call, outcome)
