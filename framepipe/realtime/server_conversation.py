"""The items of one conversation of the embedded server: their order, their audio, their rules.

It answers every operation on items or refuses it; it sends nothing and knows no time.

Source: realtime reference, sections 3.3 to 3.6.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field
from msgspec import UNSET
from msgspec.structs import replace

from framepipe.realtime.events import (
    Item,
    MalformedEventError,
    Part,
    decode_audio,
    encode_audio,
)
from framepipe.realtime.refusals import (
    already_shorter,
    id_too_long,
    invalid_value,
    missing_parameter,
    no_model_audio,
    unknown_item,
)
from framepipe.realtime.server_audio import Incoming

BYTES_PER_MS = 48
"""24 kHz mono, 16 bit."""

RETAINED_AUDIO_MS = 600_000
"""Ten minutes of item audio (29 MB) stay at hand for ``retrieve`` and for minds; of older items
only the length is kept, so that a session's memory does not grow with its length."""

_PARTS_OF = {
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text",),
    "system": ("input_text",),
}
"""What a client may put into a message. Assistant audio cannot be created."""


@define(eq=False)
class Held:
    """An item, and what the wire does not show of it.

    Attributes:
        item: As the wire shows it, without audio.
        pcm: Its audio so far, 24 kHz mono s16le; forgotten when it is old.
        audio_bytes: Length of its audio, also when that is forgotten.
        made_by_model: Whether the audio is the model's own.
        truncated: Whether the client cut it: it does not grow any more and has no transcript.
        heard: Words of a user's audio, where somebody made them out.
    """

    item: Item
    pcm: bytes = b""
    audio_bytes: int = 0
    made_by_model: bool = False
    truncated: bool = False
    heard: str | None = None

    @property
    def item_id(self) -> str:
        """The item's id."""
        return str(self.item.id)


@define(eq=False)
class ServerConversation:
    """Items in order.

    Args:
        new_id: Makes an id from a prefix such as "item".
    """

    _new_id: Callable[[str], str]
    _order: list[Held] = field(factory=list[Held])
    _with_audio: deque[Held] = field(factory=deque[Held])
    _retained_bytes: int = 0

    @property
    def items(self) -> tuple[Item, ...]:
        """The items, oldest first."""
        return tuple(held.item for held in self._order)

    @property
    def last_id(self) -> str | None:
        """The id at the end, ``None`` while there is none."""
        return self._order[-1].item_id if self._order else None

    @property
    def said(self) -> tuple[str, ...]:
        """Words of the user's items, oldest first; "" where nobody made them out."""
        return tuple(held.heard or "" for held in self._order if held.item.role == "user")

    @property
    def user_audio_ms(self) -> int:
        """Milliseconds of audio in the user's items."""
        return (
            sum(held.audio_bytes for held in self._order if not held.made_by_model) // BYTES_PER_MS
        )

    def before(self, held: Held) -> str | None:
        """The id before an item; ``None`` when it is the first, or deleted."""
        place = self._order.index(held) if held in self._order else 0
        return self._order[place - 1].item_id if place else None

    def append(self, held: Held) -> str | None:
        """Put an item of the server's own at the end; returns the id before it."""
        previous = self.last_id
        self._order.append(held)
        if held.audio_bytes:
            self.retain(held)
        return previous

    def newest_of_user(self) -> Held | None:
        """The last item that the user said or wrote."""
        return next((held for held in reversed(self._order) if held.item.role == "user"), None)

    def resolved(self, items: list[Item]) -> tuple[Item, ...]:
        """The items of a ``response.create``'s own input, references looked up.

        Raises:
            RefusedError: A reference to an item that is not here.
        """
        return tuple(
            self.find("retrieve", str(item.id)).item if item.type == "item_reference" else item
            for item in items
        )

    def create(
        self, item: Item, previous_item_id: str | None, audio_kind: str = "audio/pcm"
    ) -> tuple[Held, str | None]:
        """Add an item of the client's, with its audio in the session's input format.

        Returns:
            The item as it stands, and the id before it.

        Raises:
            RefusedError: It may not be created, or its place does not exist.
        """
        held = self._checked(item, audio_kind)
        place = len(self._order)
        if previous_item_id == "root":
            place = 0
        elif previous_item_id is not None:
            before = self._known(previous_item_id)
            if before is None:
                raise invalid_value(
                    f"Previous item with id '{previous_item_id}' does not exist; the item was not "
                    "added.",
                    "previous_item_id",
                )
            place = self._order.index(before) + 1
        self._order.insert(place, held)
        if held.audio_bytes:
            self.retain(held)
        return held, self._order[place - 1].item_id if place else None

    def delete(self, item_id: str) -> None:
        """Remove an item.

        Raises:
            RefusedError: It is not here.
        """
        self._order.remove(self.find("delete", item_id))

    def retrieved(self, item_id: str) -> Item:
        """An item with its audio, as far as that is still at hand.

        Raises:
            RefusedError: It is not here.
        """
        held = self.find("retrieve", item_id)
        if not held.pcm or not isinstance(held.item.content, list):
            return held.item
        content = [
            replace(part, audio=encode_audio(held.pcm)) if part.type.endswith("_audio") else part
            for part in held.item.content
        ]
        return replace(held.item, content=content)

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Forget the model's audio from ``audio_end_ms`` on, and the whole transcript with it.

        Raises:
            RefusedError: No such item, no model audio in it, or it is shorter already.
        """
        held = self.find("truncate", item_id)
        if not held.made_by_model or not held.audio_bytes:
            raise no_model_audio()
        if content_index != 0:
            raise invalid_value(
                f"Invalid value: {content_index}. The item has one content part, 0.",
                "content_index",
            )
        if audio_end_ms < 0:
            raise invalid_value(
                f"Invalid value: {audio_end_ms}. Expected 0 or more.", "audio_end_ms"
            )
        has_ms = held.audio_bytes // BYTES_PER_MS
        if audio_end_ms > has_ms:
            raise already_shorter(has_ms, audio_end_ms)
        held.truncated = True
        held.audio_bytes = audio_end_ms * BYTES_PER_MS
        held.pcm = held.pcm[: held.audio_bytes]
        held.item = without_transcript(held.item)

    def retain(self, held: Held) -> None:
        """Count an item's finished audio, and forget the oldest beyond `RETAINED_AUDIO_MS`."""
        self._with_audio.append(held)
        self._retained_bytes += len(held.pcm)
        while self._retained_bytes > RETAINED_AUDIO_MS * BYTES_PER_MS and len(self._with_audio) > 1:
            oldest = self._with_audio.popleft()
            self._retained_bytes -= len(oldest.pcm)
            oldest.pcm = b""

    def find(self, verb: str, item_id: str) -> Held:
        """The item, for an operation called ``verb``.

        Raises:
            RefusedError: It is not here.
        """
        held = self._known(item_id)
        if held is None:
            raise unknown_item(verb, item_id)
        return held

    def _known(self, item_id: str) -> Held | None:
        return next((held for held in reversed(self._order) if held.item_id == item_id), None)

    def _checked(self, item: Item, audio_kind: str) -> Held:
        """A client's item, complete and allowed."""
        if item.id is not UNSET:
            if len(item.id) > 32:
                raise id_too_long("item.id")
            if self._known(item.id) is not None:
                raise invalid_value(f"Item with id '{item.id}' already exists.", "item.id")
        if item.call_id is not UNSET and len(item.call_id) > 32:
            raise id_too_long("item.call_id")
        item = replace(item, id=self._new_id("item") if item.id is UNSET else item.id)
        if item.type == "message":
            return self._checked_message(item, audio_kind)
        needed = {
            "function_call": ("call_id", "name", "arguments"),
            "function_call_output": ("call_id", "output"),
        }.get(item.type)
        if needed is None:
            raise invalid_value(
                f"Invalid value: '{item.type}'. Supported values are: 'message', "
                "'function_call' and 'function_call_output'.",
                "item.type",
            )
        for name in needed:
            if getattr(item, name) is UNSET:
                raise missing_parameter(f"item.{name}")
        # The echo of an output has no status.
        return Held(item if item.type == "function_call_output" else _completed(item))

    def _checked_message(self, item: Item, audio_kind: str) -> Held:
        if item.role is UNSET:
            raise missing_parameter("item.role")
        if item.content is UNSET:
            raise missing_parameter("item.content")
        allowed = _PARTS_OF.get(item.role)
        if allowed is None:
            raise invalid_value(
                f"Invalid value: '{item.role}'. Supported values are: 'system', 'assistant' and "
                "'user'.",
                "item.role",
            )
        pcm = b""
        shown: list[Part] = []
        for index, part in enumerate(item.content):
            path = f"item.content[{index}]"
            if part.type not in allowed:
                raise invalid_value(
                    f"Invalid value: '{part.type}'. A {item.role} message takes: "
                    + ", ".join(f"'{kind}'" for kind in allowed)
                    + ".",
                    f"{path}.type",
                )
            shown.append(part)
            if part.type.endswith("_text") and part.text is UNSET:
                raise missing_parameter(f"{path}.text")
            if part.type == "input_audio":
                incoming = Incoming(audio_kind)
                wire = audio_bytes(part.audio, f"{path}.audio", incoming.sample_bytes)
                pcm += incoming.pcm(wire)
                shown[-1] = replace(
                    part,
                    audio=UNSET,
                    transcript=None if part.transcript is UNSET else part.transcript,
                )
        held = Held(_completed(replace(item, content=shown)), pcm=pcm, audio_bytes=len(pcm))
        held.heard = (
            " ".join(
                part.text if isinstance(part.text, str) else part.transcript or ""
                for part in shown
                if isinstance(part.text, str) or isinstance(part.transcript, str)
            )
            or None
        )
        return held


def audio_bytes(audio: object, param: str, sample_bytes: int = 2) -> bytes:
    """The samples in a client's base64 field.

    Raises:
        RefusedError: It is missing, no base64, or ends in the middle of a sample.
    """
    if not isinstance(audio, str):
        raise missing_parameter(param)
    try:
        pcm = decode_audio(audio)
    except MalformedEventError as error:
        raise invalid_value(f"Invalid '{param}': {error}", param) from error
    if len(pcm) % sample_bytes:
        raise invalid_value(
            f"Invalid '{param}': {len(pcm)} bytes are not whole 16-bit samples.", param
        )
    return pcm


def without_transcript(item: Item) -> Item:
    """The item as a truncate leaves it: no text is left that the audio could be aligned with."""
    if not isinstance(item.content, list):
        return item
    return replace(
        item,
        content=[
            replace(part, transcript=UNSET) if part.type == "output_audio" else part
            for part in item.content
        ],
    )


def _completed(item: Item) -> Item:
    return replace(item, status="completed" if item.status is UNSET else item.status)
