"""Which tool calls are under way, and when their results want an answer.

One response may call several tools; the model goes on once every one of them has its output. A
call is run at most once, whatever the service repeats. Which calls run at all is decided where
the responses are known.

Sans-IO.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import frozen

REMEMBERED_CALLS = 256
"""Calls that are still known, so that a repeated event does not book a flight twice."""


@frozen
class Call:
    """A tool call.

    Attributes:
        call_id: The service's name for it.
        item_id: The item that holds it.
        name: The tool.
        response_id: The response that asks for it.
        grounded_in: The user items without which it would not be there.
    """

    call_id: str
    item_id: str
    name: str
    response_id: str
    grounded_in: frozenset[str] = frozenset()


class CallBook:
    """Keeps the account of tool calls and their outputs."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._open: dict[str, str] = {}
        self._unfinished: set[str] = set()

    @property
    def open(self) -> tuple[str, ...]:
        """Calls without an output, oldest first."""
        return tuple(self._open)

    def called(self, call: Call) -> bool:
        """A response asks for a tool.

        Returns:
            Whether the call is new, and is to be run.
        """
        if call.call_id in self._calls:
            return False
        self._calls[call.call_id] = call
        self._open[call.call_id] = call.response_id
        self._unfinished.add(call.response_id)
        if len(self._calls) > REMEMBERED_CALLS:
            forgotten, oldest = self._calls.popitem(last=False)
            self._open.pop(forgotten, None)
            self._unfinished.discard(oldest.response_id)
        return True

    def call(self, call_id: str) -> Call | None:
        """A call that was run, or runs."""
        return self._calls.get(call_id)

    def grounded_in(self, item_ids: frozenset[str]) -> list[Call]:
        """The calls that would not be there without these user items, oldest first."""
        return [call for call in self._calls.values() if call.grounded_in & item_ids]

    def of_response(self, response_id: str) -> list[Call]:
        """The calls of a response."""
        return [call for call in self._calls.values() if call.response_id == response_id]

    def withdraw(self, call_id: str) -> None:
        """A call is void with its response: no output is wanted, and none is waited for."""
        response_id = self._open.pop(call_id, None)
        if response_id is not None:
            self._unfinished.discard(response_id)

    def ended(self, response_id: str) -> bool:
        """A response has ended: it makes no more calls.

        Returns:
            Whether it made calls and all of them have their outputs.
        """
        if response_id not in self._unfinished:
            return False
        self._unfinished.discard(response_id)
        return response_id not in self._open.values()

    def answered(self, call_id: str) -> bool:
        """A call has its output. Ask `is_open` first.

        Returns:
            Whether it was the last one of a response that has ended.
        """
        response_id = self._open.pop(call_id)
        return response_id not in self._unfinished and response_id not in self._open.values()

    def was_made(self, call_id: str) -> bool:
        """Whether a call was run, or runs."""
        return call_id in self._calls

    def is_open(self, call_id: str) -> bool:
        """Whether a call waits for its output."""
        return call_id in self._open

    def socket_gone(self) -> bool:
        """All responses have ended with their socket; open calls stay open.

        Returns:
            Whether outputs were given that no response has seen yet.
        """
        waiting = self._unfinished - set(self._open.values())
        self._unfinished.clear()
        return bool(waiting)
