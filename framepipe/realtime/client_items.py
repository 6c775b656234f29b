"""The items of the conversation, as the client puts them in, meets them, and takes them out.

What the client adds or deletes is remembered at once and told when a session is open. What the
service makes is remembered as it comes; a tool call is run when it is whole. Each change is told
in the names of the present socket (`ConversationRecord.wire_id`).

Sans-IO.
"""

from __future__ import annotations

import msgspec

from framepipe.errors import LocalProtocolError
from framepipe.frames import Heard, ToolCall
from framepipe.realtime import events as wire
from framepipe.realtime.agent_parts import AgentParts
from framepipe.realtime.answers import Answer, AnswerBook
from framepipe.realtime.calls import Call, CallBook
from framepipe.realtime.client_outputs import Output, Send
from framepipe.realtime.conversation_record import ConversationRecord
from framepipe.realtime.items import MAX_ID_CHARACTERS


class ClientItems:
    """Keeps the two sides' views of the conversation together.

    Args:
        book: Knows which responses may still do something.
        parts: Knows what of them was let out and heard.
        calls: Keeps the account of tool calls.
        record: The conversation as heard.

    Attributes:
        open: A session is there to be told.
    """

    def __init__(
        self, book: AnswerBook, parts: AgentParts, calls: CallBook, record: ConversationRecord
    ) -> None:
        self.open = False
        self._book = book
        self._parts = parts
        self._calls = calls
        self._record = record

    def add(self, item: wire.Item, after: str | None = None) -> tuple[str, list[Output]]:
        """As `framepipe.realtime.client_protocol.ClientProtocol.add`."""
        item_id = item.id if isinstance(item.id, str) else ""
        known = {entry.item_id for entry in self._record.entries}
        if len(item_id) > MAX_ID_CHARACTERS or item_id in known:
            rule = f"an id of your own is new and has at most {MAX_ID_CHARACTERS} characters"
            raise LocalProtocolError(f"item id {item_id!r}: {rule}")
        if after not in (None, "root") and after not in known:
            raise LocalProtocolError(f"after is {after!r}; no item of the conversation is so named")
        if not item_id:
            item_id = self._record.new_id()
            item = msgspec.structs.replace(item, id=item_id)
        self._record.added(item, after)
        if not self.open:  # the greeting tells of it
            return item_id, []
        previous = after if after in (None, "root") else self._record.wire_id(str(after))
        return item_id, [Send(wire.ConversationItemCreate(item=item, previous_item_id=previous))]

    def delete(self, item_id: str) -> list[Output]:
        """Take an item out; one that is not known is left to the service."""
        wire_ids = self._record.wire_ids(item_id)
        self._record.removed(item_id)
        if not self.open:
            return []
        return [Send(wire.ConversationItemDelete(item_id=wire_id)) for wire_id in wire_ids]

    def added(self, event: wire.ResponseOutputItemAdded) -> list[Output]:
        """A response has begun an item."""
        answer = self._book.answer(event.response_id)
        if answer is not None:
            note_item(answer, event.item)
        if answer is not None and event.item.type == "function_call":
            self._record.added(msgspec.structs.replace(event.item, status="incomplete"))
        return []

    def done(self, event: wire.ResponseOutputItemDone, at_ns: int) -> list[Output]:
        """A response has an item whole: a call is run, once, unless the response was killed."""
        item, answer = event.item, self._book.answer(event.response_id)
        if answer is None or item.type != "function_call":
            return []
        whole = item.status not in ("incomplete", "in_progress")
        texts = (item.call_id, item.name, item.arguments)
        if answer.killed or not whole or not all(isinstance(text, str) for text in texts):
            if isinstance(item.id, str):  # the next socket is not told of it
                self._record.removed(item.id)
            return []
        self._record.added(item)
        self._record.completed(item)
        call_id, name, arguments = (str(text) for text in texts)
        item_id, grounded_in = str(item.id), answer.grounded_in
        call = Call(call_id, item_id, name, event.response_id, grounded_in)
        if answer.done or not self._calls.called(call):
            return []
        turn = answer.turn
        return [ToolCall(call_id=call_id, name=name, arguments=arguments, turn=turn, at_ns=at_ns)]

    def heard(self, heard: Heard) -> list[Output]:
        """An account of what was heard, which the service may have to be told."""
        self._record.heard(heard)
        self._parts.note(heard)
        if not self.open or heard.item_id is None:
            return []
        events = self._record.corrected(heard.item_id)
        beyond = self._parts.went_on(heard)
        if beyond is not None:
            events += self._record.went_on(heard.item_id, heard.content_index, *beyond)
        return [Send(event) for event in events]

    def unheard(self, response: wire.Response) -> list[Output]:
        """What was made but never let out: the model must not believe that it was heard."""
        outputs: list[Output] = []
        for item in response.output:
            if not isinstance(item.id, str):
                continue
            unheard = not self._parts.item_was_given(item.id)
            # A call that is not run has no output, and must not stay either.
            unrun = item.type == "function_call" and not self._calls.was_made(str(item.call_id))
            if unrun or (item.type == "message" and unheard):
                outputs += self.delete(item.id)
        return outputs


def note_item(answer: Answer, item: wire.Item) -> None:
    """A response has this item."""
    if isinstance(item.id, str):
        is_call = item.type == "function_call" and isinstance(item.call_id, str)
        answer.items[item.id] = str(item.call_id) if is_call else None
