"""Two ways to wait: for anything to change, and for the one answer that was asked for."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio

_Value = TypeVar("_Value")


class Bell:
    """Wakes one waiter; works, silently, where nobody waits and no loop runs."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        """Wake who waits now."""
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait for the next ring. Cancellation leaves nothing behind."""
        self._event = anyio.Event()
        await self._event.wait()
        self._event = None


class Awaited(Generic[_Value]):
    """Answers that somebody waits for, by name; each is given once."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[anyio.Event, list[_Value | None]]] = {}

    def expect(self, name: str) -> None:
        """Somebody will wait for an answer of this name."""
        self._waiting.setdefault(name, (anyio.Event(), []))

    async def answer(self, name: str) -> _Value | None:
        """The answer; ``None``: it will not come. Cancellation gives it up."""
        event, values = self._waiting[name]
        try:
            await event.wait()
        finally:
            self._waiting.pop(name, None)
        return values[0]

    def give(self, name: str, value: _Value) -> None:
        """The answer is here; nobody need be waiting."""
        if name in self._waiting:
            event, values = self._waiting[name]
            values.append(value)
            event.set()

    def give_up(self) -> None:
        """No more answers will come."""
        for event, values in self._waiting.values():
            values.append(None)
            event.set()
