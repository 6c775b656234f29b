"""What the application asked of the service and waits for, one answer each.

Three kinds: an update of the session, an item that is to be shown, a response beside the
conversation. Each ends once: granted, refused, or lost with its socket.

Sans-IO.
"""

from __future__ import annotations

from collections import OrderedDict

from framepipe.realtime import events as wire
from framepipe.realtime.beside import BesideBook
from framepipe.realtime.client_outputs import BesideDone, Output, Retrieved, Updated


class Requests:
    """Keeps the account of what the application waits for."""

    def __init__(self) -> None:
        self.beside = BesideBook()
        self._updates: OrderedDict[str, wire.Session] = OrderedDict()
        self._n_updates = 0
        self._retrievals: OrderedDict[str, str] = OrderedDict()

    def update(self, session: wire.Session) -> str:
        """The session shall be another: the name of the ask."""
        self._n_updates += 1
        name = f"update-{self._n_updates}"
        self._updates[name] = session
        return name

    def updated(self) -> tuple[str, wire.Session] | None:
        """The service has updated the session; ``None``: not because of one of these."""
        return self._updates.popitem(last=False) if self._updates else None  # answered in order

    def retrieve(self, item_id: str, wire_id: str) -> str:
        """An item is to be shown: the name of the ask."""
        self._retrievals[wire_id] = item_id
        return f"retrieve-{item_id}"

    def retrieved(self, item: wire.Item) -> Retrieved:
        """The service shows an item."""
        return Retrieved(self._retrievals.pop(str(item.id), str(item.id)), item)

    def refused(self, name: str, why: str) -> list[Output]:
        """What somebody waits for was refused: they are told, nobody else is."""
        if self._updates.pop(name, None) is not None:
            return [Updated(name, why)]
        if self.beside.ended(name) is not None:
            return [BesideDone(name, None, "", why)]
        if name.startswith("retrieve-"):
            item_id = name.removeprefix("retrieve-")
            wire_id = next((w for w, i in self._retrievals.items() if i == item_id), "")
            return [Retrieved(self._retrievals.pop(wire_id, item_id), None)]
        return []

    def end_all(self, why: str) -> list[Output]:
        """The socket is gone, and every ask with it."""
        return [
            *(Updated(name, why) for name in self._updates),
            *(Retrieved(item_id, None) for item_id in self._retrievals.values()),
            *(BesideDone(name, None, "", why) for name in self.beside.end_all()),
        ]
