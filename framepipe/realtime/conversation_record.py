"""What was said so far, as the user heard it: what a new socket is told.

There is no resume: a new socket is an empty conversation. So every item is entered here as it
comes, with its words and with how much of the agent's audio was heard, and `seed` gives the items
that make the model remember the same conversation as the user.

The heard text is an estimate. Of a part that was received in whole it is the share of the text
that the heard audio has of the received; of one that was not, it is what this voice says in the
heard time, because the text runs ahead of the audio. Both end with a whole word.

An item keeps its name here though the next socket knows it by another: `wire_id` translates.

Sans-IO.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec
from attrs import Factory, define, evolve

from framepipe.frames import Heard
from framepipe.realtime import events as wire
from framepipe.realtime.events import UNSET
from framepipe.realtime.items import assistant_text, user_audio, user_text

REMEMBERED_ITEMS = 400
"""Items of the conversation that a new socket is told of; models forget older ones as well."""

CHARACTERS_PER_S = 15.0
"""How fast a voice speaks until this one is known."""

KNOWN_AFTER_S = 5.0
"""Seconds of speech after which this voice's own speed is used."""

MAX_CHARACTERS = 100_000
"""Longest text of one item that is remembered; nobody speaks for two hours without a breath."""

MAX_PARTS = 16
"""Content parts of one item whose audio is accounted for; the service makes one."""

AudioBetween = Callable[[int, int], bytes | None]
"""The coded microphone audio between two positions, where it is still kept."""


@define
class Entry:
    """One item of the conversation.

    Attributes:
        item_id: Its name in the pipeline, from the socket on which it was made.
        wire_id: Its name on the present socket; ``None``: not told to it.
        item: As the wire had it, for what is neither speech of the user nor of the agent.
        who: Whose words they are; "other" has an ``item``.
        words: What was said, as far as it is known; ``None`` while the user's text is unknown.
        start_sample: Where the user's speech began on the capture clock, padding included.
        end_sample: Where it was committed.
        rate_hz: Of the agent's audio.
        received: Samples of the agent's audio by content part.
        heard: Samples of them that were heard; a part that is not here was not cut.
        done: All of the agent's item has come.
        told: The words that the present socket was told, if it was by us.
        tails: Items of the present socket that hold what was heard of it after its truncate.
    """

    item_id: str
    wire_id: str | None = None
    item: wire.Item | None = None
    who: str = "other"
    words: str | None = None
    start_sample: int | None = None
    end_sample: int | None = None
    rate_hz: int = 24_000
    received: dict[int, int] = Factory(dict[int, int])
    heard: dict[int, int] = Factory(dict[int, int])
    done: bool = False
    told: str | None = None
    tails: list[str] = Factory(list[str])


class ConversationRecord:
    """The conversation as heard, over all sockets of a call."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._n_seeded = 0
        self._n_made = 0
        self._characters = 0
        self._spoken_s = 0.0

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All items, in the order of the conversation."""
        return tuple(self._entries.values())

    def wire_id(self, item_id: str) -> str | None:
        """What the present socket calls an item; ``None``: it was not told of it."""
        entry = self._entries.get(item_id)
        return item_id if entry is None else entry.wire_id

    def wire_ids(self, item_id: str) -> list[str]:
        """All that the present socket holds of an item, the last first; nothing, if not told."""
        entry = self._entries.get(item_id)
        if entry is None:
            return [item_id]
        return [*reversed(entry.tails), *([entry.wire_id] if entry.wire_id is not None else [])]

    def output_of(self, call_id: str) -> str | None:
        """The item that holds the output of a tool call."""
        for entry in self._entries.values():
            item = entry.item
            if item is not None and item.type == "function_call_output" and item.call_id == call_id:
                return entry.item_id
        return None

    def new_id(self) -> str:
        """A name for an item that the client makes."""
        self._n_made += 1
        return f"ours_{self._n_made}"

    # --- facts ---

    def added(self, item: wire.Item, after: str | None = None) -> None:
        """An item was made by the client, or told by the service.

        Args:
            item: With its id.
            after: The item that it follows; "root": none; ``None``: the last one.
        """
        item_id = item.id if isinstance(item.id, str) else ""
        if not item_id or item_id in self._entries:
            return
        self._entry(item_id).item = item
        if after is None or (after != "root" and after not in self._entries):
            return
        order = [name for name in self._entries if name != item_id]
        order.insert(0 if after == "root" else order.index(after) + 1, item_id)
        for name in order:
            self._entries.move_to_end(name)

    def completed(self, item: wire.Item) -> None:
        """An item that the service made is whole: a tool call has its arguments."""
        entry = self._entries.get(item.id) if isinstance(item.id, str) else None
        if entry is not None and entry.item is not None:
            entry.item = item

    def user_said(self, item_id: str, start_sample: int | None, end_sample: int) -> None:
        """Speech of the user was committed as an item."""
        entry = self._entry(item_id)
        entry.item = None
        entry.who = "user"
        entry.start_sample, entry.end_sample = start_sample, end_sample

    def user_words(self, item_id: str, text: str) -> None:
        """What the user said, as text."""
        entry = self._entries.get(item_id)
        if entry is not None and entry.who == "user":
            entry.words = text[:MAX_CHARACTERS]

    def agent_words(self, item_id: str, text: str, *, whole: bool) -> None:
        """A piece of what the agent says, or all of it; it runs ahead of the audio."""
        entry = self._agent(item_id)
        entry.words = (text if whole else (entry.words or "") + text)[:MAX_CHARACTERS]

    def agent_audio(self, item_id: str, content_index: int, received: int, rate_hz: int) -> None:
        """So many samples of a part of the agent have come."""
        entry = self._agent(item_id)
        if content_index in entry.received or len(entry.received) < MAX_PARTS:
            entry.received[content_index] = received
        entry.rate_hz = rate_hz

    def agent_done(self, item_id: str) -> None:
        """All of an item of the agent has come."""
        entry = self._entries.get(item_id)
        if entry is None or entry.done:
            return
        entry.done = True
        samples = sum(entry.received.values())
        if samples and entry.words:
            self._characters += len(entry.words)
            self._spoken_s += samples / entry.rate_hz

    def heard(self, heard: Heard) -> None:
        """How much of a part the user has heard, once it was cut or played to its end."""
        entry = self._entries.get(heard.item_id or "")
        if entry is None or entry.who != "agent":
            return
        if heard.complete:
            entry.heard.pop(heard.content_index, None)
        else:
            own = heard.heard_samples * entry.rate_hz // heard.rate_hz
            if heard.content_index in entry.received:
                entry.heard[heard.content_index] = own

    def removed(self, item_id: str) -> None:
        """An item is not in the conversation any more."""
        self._entries.pop(item_id, None)

    # --- what a new socket is told ---

    def heard_text(self, entry: Entry) -> str:
        """The words of an item of the agent that were heard: an estimate, ending with a word."""
        if not entry.received:
            return (entry.words or "") if not entry.heard else ""
        heard = sum(entry.heard.get(part, n) for part, n in entry.received.items())
        return self._text_until(entry, heard)

    def words_heard(self, heard: Heard) -> str | None:
        """As `heard_text` of an item, as if one of its parts had been heard up to a position.

        Returns:
            ``None`` for an item that is not known, or not the agent's.
        """
        entry = self._entries.get(heard.item_id or "")
        if entry is None or entry.who != "agent":
            return None
        own = heard.heard_samples * entry.rate_hz // heard.rate_hz
        return self.heard_text(evolve(entry, heard={**entry.heard, heard.content_index: own}))

    def socket_gone(self) -> None:
        """Nothing of what the old socket called things is true any more."""
        for entry in self._entries.values():
            entry.wire_id = entry.told = None
            entry.tails.clear()

    def seed(self, audio: AudioBetween) -> tuple[list[wire.ConversationItemCreate], int]:
        """The items that tell a new socket of the conversation.

        Args:
            audio: Gives the user's audio, for speech whose text is not known.

        Returns:
            The events, and the number of items that could not be told.
        """
        events: list[wire.ConversationItemCreate] = []
        lost = 0
        calls = {e.item.call_id for e in self.entries if _is(e, "function_call") and e.item}
        for entry in self._entries.values():
            item = self._as_item(entry, audio)
            orphan = _is(entry, "function_call_output") and (
                entry.item is None or entry.item.call_id not in calls
            )
            if item is None or orphan:
                lost += entry.who == "user"
                continue
            events.append(self._told(entry, item, previous=None))
        return events, lost

    def corrected(self, item_id: str) -> list[wire.ClientEvent]:
        """Tell the present socket anew of an item that turned out to be heard otherwise.

        Only for an item that we told it of: what the service made itself is truncated.
        """
        entry = self._entries.get(item_id)
        if entry is None or entry.told is None or entry.wire_id is None:
            return []
        text = self.heard_text(entry)
        if text == entry.told:
            return []
        events: list[wire.ClientEvent] = [wire.ConversationItemDelete(item_id=entry.wire_id)]
        entry.wire_id = entry.told = None
        if text:
            events.append(self._told(entry, assistant_text(text), previous=self._before(entry)))
        return events

    def went_on(
        self, item_id: str, content_index: int, start: int, until: int
    ) -> list[wire.ClientEvent]:
        """Tell the present socket what was heard of an item beyond where it was truncated.

        A truncate cannot be taken back and audio cannot be made by a client, so the words stand
        in an item of their own behind the truncated one.

        Args:
            item_id: The item.
            content_index: The part that went on.
            start: Sample of the part that the service was told of.
            until: Sample up to which it was heard.
        """
        entry = self._entries.get(item_id)
        if entry is None or entry.told is not None or entry.wire_id is None:
            return []
        others = sum(
            entry.heard.get(part, n) for part, n in entry.received.items() if part != content_index
        )
        known = self._text_until(entry, others + start)
        text = self._text_until(entry, others + until)[len(known) :].strip()
        if not text:
            return []
        self._n_seeded += 1
        name = f"on_{self._n_seeded}"
        item = msgspec.structs.replace(assistant_text(text), id=name)
        previous = entry.tails[-1] if entry.tails else entry.wire_id
        entry.tails.append(name)
        return [wire.ConversationItemCreate(item=item, previous_item_id=previous)]

    # --- inside ---

    def _text_until(self, entry: Entry, heard: int) -> str:
        words = entry.words or ""
        received = sum(entry.received.values())
        if not entry.done:
            return _to_word_end(words, int(heard / entry.rate_hz * self._characters_per_s))
        return words if heard >= received else _to_word_end(words, len(words) * heard // received)

    def _as_item(self, entry: Entry, audio: AudioBetween) -> wire.Item | None:
        if entry.who == "agent":
            text = self.heard_text(entry)
            return assistant_text(text) if text else None
        if entry.who == "user":
            if entry.words is not None:
                return user_text(entry.words) if entry.words.strip() else None
            if entry.start_sample is None or entry.end_sample is None:
                return None
            coded = audio(entry.start_sample, entry.end_sample)
            return None if coded is None else user_audio(coded)
        item = entry.item
        if item is None or item.status == "incomplete" or item.type.startswith("mcp"):
            return None
        return msgspec.structs.replace(item, status=UNSET, object=UNSET, phase=UNSET)

    def _told(
        self, entry: Entry, item: wire.Item, *, previous: str | None
    ) -> wire.ConversationItemCreate:
        self._n_seeded += 1
        entry.wire_id = f"again_{self._n_seeded}"
        if entry.who == "agent":
            content = item.content if isinstance(item.content, list) else []
            entry.told = "".join(str(part.text) for part in content)
        item = msgspec.structs.replace(item, id=entry.wire_id)
        return wire.ConversationItemCreate(
            event_id=f"seed-{self._n_seeded}", item=item, previous_item_id=previous
        )

    def _before(self, entry: Entry) -> str:
        before = "root"
        for other in self._entries.values():
            if other is entry:
                break
            before = other.wire_id or before
        return before

    def _agent(self, item_id: str) -> Entry:
        entry = self._entry(item_id)
        if entry.who != "agent":
            entry.who, entry.item = "agent", None
        return entry

    def _entry(self, item_id: str) -> Entry:
        entry = self._entries.get(item_id)
        if entry is None:
            entry = self._entries[item_id] = Entry(item_id, wire_id=item_id)
            if len(self._entries) > REMEMBERED_ITEMS:
                self._entries.popitem(last=False)
        return entry

    @property
    def _characters_per_s(self) -> float:
        if self._spoken_s < KNOWN_AFTER_S:
            return CHARACTERS_PER_S
        return self._characters / self._spoken_s


def _is(entry: Entry, kind: str) -> bool:
    return entry.item is not None and entry.item.type == kind


def _to_word_end(words: str, length: int) -> str:
    if length >= len(words):
        return words
    # A word that is cut in two was not heard.
    return words[: words.rfind(" ", 0, length + 1) + 1].rstrip()
