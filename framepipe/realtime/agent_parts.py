"""What came of the agent's voice, part by part, and how much of it the service is told to forget.

A part is one content part of one item; its samples are counted as they come, and every position
is in the part's own samples. Three rules hold whatever is asked: a truncate never reaches beyond
what was received, no part is truncated twice, and none before anything of it came. A position
that is not known at the cut is waited for a little.

Sans-IO: times are engine nanoseconds.

Source: realtime reference, section 3.3.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define

from framepipe.frames import SAMPLE_BYTES, Heard
from framepipe.realtime import events as wire
from framepipe.realtime.codings import Coding

SETTLE_NS = 150_000_000
"""How long a truncate waits for a late position report; the cancel never does."""

REMEMBERED_PARTS = 256
"""Content parts whose received audio is still known, so that memory does not grow with a call."""


@define
class AgentPart:
    """One content part of the agent, in its own samples.

    Attributes:
        response_id: The response that it belongs to.
        item_id: The item.
        output_index: Place of the item in the response.
        content_index: Place of the part in the item.
        received: Samples that came and were let out.
        late: Samples that came when nothing might be let out any more.
        odd_byte: The half of a sample that came last.
        shown: Its text was let out.
        closed: Nothing more may follow.
        heard: Samples that reached the ear, as far as it was told; never less than before.
        truncated_at: Samples of it that the service knows to be heard; ``None``: no truncate
            was sent, so it believes in all.
        goes_on: It was truncated, and is heard from there on all the same.
        broke_off: The service ended it in the middle, by itself.
    """

    response_id: str
    item_id: str
    output_index: int
    content_index: int
    received: int = 0
    late: int = 0
    odd_byte: bytes = b""
    shown: bool = False
    closed: bool = False
    heard: int = 0
    truncated_at: int | None = None
    goes_on: bool = False
    broke_off: bool = False


class AgentParts:
    """Keeps the account of the agent's content parts.

    Args:
        coding: How the voice is coded.
    """

    def __init__(self, coding: Coding) -> None:
        self._coding = coding
        self._parts: OrderedDict[tuple[str, int], AgentPart] = OrderedDict()
        self._unsettled: dict[tuple[str, int], tuple[int, int]] = {}
        self._last_cut: list[AgentPart] = []

    @property
    def rate_hz(self) -> int:
        """Samples per second of the voice."""
        return self._coding.rate_hz

    @property
    def unsettled(self) -> bool:
        """A truncate waits for its position."""
        return bool(self._unsettled)

    @property
    def deadline_ns(self) -> int | None:
        """When the oldest truncate that waits is to be sent without one."""
        return min((deadline_ns for _, deadline_ns in self._unsettled.values()), default=None)

    def part(
        self, response_id: str, item_id: str, output_index: int, content_index: int
    ) -> AgentPart:
        """The part of this name, new where it is."""
        key = (item_id, content_index)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = AgentPart(response_id, item_id, output_index, content_index)
            if len(self._parts) > REMEMBERED_PARTS:
                self._unsettled.pop(self._parts.popitem(last=False)[0], None)
        return part

    def find(self, item_id: str | None, content_index: int) -> AgentPart | None:
        """The part of this name, if it is known."""
        return None if item_id is None else self._parts.get((item_id, content_index))

    def of_response(self, response_id: str) -> list[AgentPart]:
        """The parts of a response."""
        return [part for part in self._parts.values() if part.response_id == response_id]

    def was_given(self, response_id: str) -> bool:
        """Something of a response was let out."""
        return any(part.received or part.shown for part in self.of_response(response_id))

    def item_was_given(self, item_id: str) -> bool:
        """Something of an item was let out."""
        parts = (part for part in self._parts.values() if part.item_id == item_id)
        return any(part.received or part.shown for part in parts)

    def item_was_heard(self, item_id: str) -> bool:
        """Something of an item is known to have reached the user: by ear, or as text."""
        parts = (part for part in self._parts.values() if part.item_id == item_id)
        return any(part.heard or part.shown for part in parts)

    @property
    def heard_responses(self) -> frozenset[str]:
        """Responses of which something is known to have reached the user, by ear or as text."""
        return frozenset(
            part.response_id for part in self._parts.values() if part.heard or part.shown
        )

    def is_audible(self, response_id: str) -> bool:
        """Something of a response was let out, and is not known to have been heard to its end."""
        parts = self.of_response(response_id)
        return any(part.truncated_at is None and part.heard < part.received for part in parts)

    def take(self, part: AgentPart, delta: str, *, wanted: bool) -> bytes:
        """A piece of audio of a part.

        Args:
            part: The part.
            delta: The piece, as on the wire.
            wanted: Something of its response may still be let out.

        Returns:
            The whole samples that may be let out; they begin at ``part.received`` as it was.

        Raises:
            MalformedEventError: It is no audio.
        """
        data = part.odd_byte + self._coding.decode(wire.decode_audio(delta))
        whole = len(data) - len(data) % SAMPLE_BYTES
        part.odd_byte = data[whole:]
        samples = whole // SAMPLE_BYTES
        # A part that is closed or truncated has its length: nothing may follow (invariant 7).
        if not wanted or part.closed or part.truncated_at is not None:
            part.late += samples
            return b""
        part.received += samples
        return data[:whole] if whole < len(data) else data

    # --- what was heard ---

    def note(self, heard: Heard) -> None:
        """The account of a part, final or not."""
        part = self.find(heard.item_id, heard.content_index)
        if part is not None:
            part.heard = max(part.heard, self._heard_of(part, heard))

    def cut(self, account: tuple[Heard, ...]) -> None:
        """The parts of this account were cut: they are what an undo lets go on."""
        found = (self.find(heard.item_id, heard.content_index) for heard in account)
        self._last_cut = [part for part in found if part is not None]

    def undo(self) -> list[str]:
        """What was cut last goes on. The responses that it belongs to."""
        for part in self._last_cut:
            part.goes_on = True
        return list(dict.fromkeys(part.response_id for part in self._last_cut))

    def went_on(self, heard: Heard) -> tuple[int, int] | None:
        """What was heard of a part beyond its truncate, once it ended: from where to where.

        Each sample is told once, however often the part is cut and goes on.
        """
        part = self.find(heard.item_id, heard.content_index)
        if part is None or not part.goes_on or part.truncated_at is None:
            return None
        until = self._heard_of(part, heard)
        if not (heard.final or heard.complete) or until <= part.truncated_at:
            return None
        told, part.truncated_at = part.truncated_at, until
        part.goes_on = False
        return told, until

    # --- truncating ---

    def account(self, heard: Heard, at_ns: int) -> list[wire.ClientEvent]:
        """Truncate a part where it was heard to, now or when the position is known."""
        part = self.find(heard.item_id, heard.content_index)
        if part is None or part.truncated_at is not None:
            return []
        key = (part.item_id, part.content_index)
        if not heard.final and not heard.complete:
            if part.received:
                deadline_ns = self._unsettled.get(key, (0, at_ns + SETTLE_NS))[1]
                self._unsettled[key] = (self.own_samples(heard), deadline_ns)
            return []
        self._unsettled.pop(key, None)
        return [] if heard.complete else self.truncate(*key, self.own_samples(heard))

    def waits_for(self, heard: Heard) -> bool:
        """Whether a truncate waits for this position."""
        return (heard.item_id or "", heard.content_index) in self._unsettled

    def due(self, at_ns: int) -> list[wire.ClientEvent]:
        """The truncates whose position did not come in time."""
        events: list[wire.ClientEvent] = []
        for key, (samples, deadline_ns) in list(self._unsettled.items()):
            if at_ns >= deadline_ns:
                del self._unsettled[key]
                events += self.truncate(*key, samples)
        return events

    def truncate(
        self, item_id: str, content_index: int, heard_samples: int
    ) -> list[wire.ClientEvent]:
        """Make the service forget what was not heard of a part."""
        part = self._parts.get((item_id, content_index))
        if part is None or part.truncated_at is not None or part.received == 0:
            return []
        part.truncated_at = max(0, min(heard_samples, part.received))
        return [
            wire.ConversationItemTruncate(
                item_id=item_id,
                content_index=content_index,
                audio_end_ms=part.truncated_at * 1_000 // self.rate_hz,
            )
        ]

    def _heard_of(self, part: AgentPart, heard: Heard) -> int:
        return part.received if heard.complete else min(self.own_samples(heard), part.received)

    def own_samples(self, heard: Heard) -> int:
        """What was heard, in samples of the part as it came."""
        return heard.heard_samples * self.rate_hz // heard.rate_hz
