"""The tools of MCP servers, as the embedded server tells of them.

A session names MCP servers among its tools; the service asks each for its tools and keeps the
list as an item of the conversation. Here nobody is asked: what a server offers is known
beforehand, by its label, and a label that is not known cannot be reached.

Sans-IO.

Source: realtime reference, section 1.2; the order around the item is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from framepipe.realtime.events import (
    ConversationItemAdded,
    ConversationItemDone,
    Item,
    Json,
    McpListToolsCompleted,
    McpListToolsFailed,
    McpListToolsInProgress,
)
from framepipe.realtime.server_agenda import Agenda
from framepipe.realtime.server_conversation import Held, ServerConversation

_ASKING_MS = (40, 120)
"""How long an MCP server takes to say what it has."""


def mcp_labels(tools: Json) -> tuple[str, ...]:
    """The MCP servers among the tools of a session."""
    listed = cast("Iterable[Json]", tools) if isinstance(tools, list) else ()
    known = [cast("dict[str, Json]", tool) for tool in listed if isinstance(tool, dict)]
    labels = [tool.get("server_label") for tool in known if tool.get("type") == "mcp"]
    return tuple(label for label in labels if isinstance(label, str))


class McpListings:
    """Tells which tools the MCP servers of one session have.

    Args:
        agenda: The session's.
        conversation: Where the lists go.
        servers: The tools of each server, by its label, as the protocol has them
            (``{"name": …, "input_schema": …}``).
    """

    def __init__(
        self,
        agenda: Agenda,
        conversation: ServerConversation,
        servers: Mapping[str, Sequence[dict[str, Json]]],
    ) -> None:
        self._agenda = agenda
        self._conversation = conversation
        self._servers = servers
        self._asked: set[str] = set()

    def ask(self, tools: Json) -> None:
        """The session has these tools now: servers that are new are asked."""
        for label in mcp_labels(tools):
            if label not in self._asked:
                self._asked.add(label)
                self._ask(label)

    def _ask(self, label: str) -> None:
        item_id = self._agenda.new_id("item")
        held = Held(Item(id=item_id, type="mcp_list_tools", server_label=label, tools=[]))
        previous = self._conversation.append(held)
        self._agenda.send(ConversationItemAdded(previous_item_id=previous, item=held.item))
        self._agenda.send(McpListToolsInProgress(item_id=item_id))

        def answer() -> None:
            offered = self._servers.get(label)
            if offered is None:
                self._agenda.send(McpListToolsFailed(item_id=item_id))
                return
            held.item = Item(
                id=item_id, type="mcp_list_tools", server_label=label, tools=list(offered)
            )
            self._agenda.send(McpListToolsCompleted(item_id=item_id))
            self._agenda.send(ConversationItemDone(previous_item_id=previous, item=held.item))

        self._agenda.plan(self._agenda.now_ns + self._agenda.drawn_ns(_ASKING_MS), answer)
