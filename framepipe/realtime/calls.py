"""Which tool calls are under way, and when their results want an answer.

One response may call several tools; the model goes on once every one of them has its output. A
call is run at most once, whatever the service repeats. Which calls run at all is decided where
the responses are known.

Sans-IO.
"""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED_CALLS = 256
"""Calls that are still known, so that a repeated event does not book a flight twice."""


class CallBook:
    """Keeps the account of tool calls and their outputs."""

    def __init__(self) -> None:
        self._response_of: OrderedDict[str, str] = OrderedDict()
        self._open: dict[str, str] = {}
        self._unfinished: set[str] = set()

    @property
    def open(self) -> tuple[str, ...]:
        """Calls without an output, oldest first."""
        return tuple(self._open)

    def called(self, call_id: str, response_id: str) -> bool:
        """A response asks for a tool.

        Returns:
            Whether the call is new, and is to be run.
        """
        if call_id in self._response_of:
            return False
        self._response_of[call_id] = self._open[call_id] = response_id
        self._unfinished.add(response_id)
        if len(self._response_of) > REMEMBERED_CALLS:
            forgotten, its_response = self._response_of.popitem(last=False)
            self._open.pop(forgotten, None)
            self._unfinished.discard(its_response)
        return True

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
        return call_id in self._response_of

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
