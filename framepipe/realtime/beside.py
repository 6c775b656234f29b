"""Responses beside the conversation: asked for, recognised by their metadata, and collected.

They run in parallel with the conversation's own, are never active in it, and answer nothing that
is owed. What they say is given to whoever asked, as text; their audio is nobody's turn and is
not heard.

Sans-IO.
"""

from __future__ import annotations

from collections import OrderedDict

from framepipe.errors import LocalProtocolError

MAX_OPEN = 64
"""Asks that may wait for their end at once."""

MAX_CHARACTERS = 1_000_000
"""Longest text that is collected of one."""


class BesideBook:
    """Keeps the account of responses beside the conversation."""

    def __init__(self) -> None:
        self._n_asked = 0
        self._asked: OrderedDict[str, str | None] = OrderedDict()
        self._names: dict[str, str] = {}
        self._texts: dict[str, str] = {}

    @property
    def open(self) -> bool:
        """Whether an ask waits for its end."""
        return bool(self._asked)

    def ask(self) -> str:
        """A name for a new ask: its ``event_id``, and its mark in the metadata.

        Raises:
            LocalProtocolError: Too many of them wait.
        """
        if len(self._asked) >= MAX_OPEN:
            raise LocalProtocolError(
                f"{MAX_OPEN} responses beside the conversation wait for their end; let one end"
            )
        self._n_asked += 1
        name = f"beside-{self._n_asked}"
        self._asked[name] = None
        return name

    def created(self, name: str | None, response_id: str) -> None:
        """A response beside the conversation began; ``name`` is the mark it carries."""
        if name is not None and name in self._asked and self._asked[name] is None:
            self._asked[name] = response_id
            self._names[response_id] = name
            self._texts[name] = ""

    def said(self, response_id: str, text: str) -> bool:
        """A piece of what it says. Whether the response is one of ours."""
        name = self._names.get(response_id)
        if name is None:
            return False
        if len(self._texts[name]) < MAX_CHARACTERS:
            self._texts[name] += text
        return True

    def ended(self, name: str) -> str | None:
        """An ask is over, granted or refused: what was said; ``None``: there was no such ask."""
        if name not in self._asked:
            return None
        response_id = self._asked.pop(name)
        self._names.pop(response_id or "", None)
        return self._texts.pop(name, "")

    def name_of(self, response_id: str) -> str | None:
        """The ask that a response grants."""
        return self._names.get(response_id)

    def end_all(self) -> list[str]:
        """The socket is gone, and every open ask with it: their names."""
        names = list(self._asked)
        for name in names:
            self.ended(name)
        return names
