"""Items that a client adds to the conversation, in the shapes that the wire has for them."""

from __future__ import annotations

from typing import Final, Literal

from framepipe.errors import LocalProtocolError
from framepipe.realtime import events as wire

IMAGE_KINDS: Final = ("image/png", "image/jpeg")
"""What the models look at."""

MAX_ID_CHARACTERS: Final = 32
"""Longest id that the service takes from a client."""


def user_text(text: str) -> wire.Item:
    """Typed words of the user."""
    return _message("user", wire.Part(type="input_text", text=text))


def assistant_text(text: str) -> wire.Item:
    """Words of the agent. Its audio cannot be made by a client, so they are text."""
    return _message("assistant", wire.Part(type="output_text", text=text))


def system_text(text: str) -> wire.Item:
    """A word to the model that the user does not see."""
    return _message("system", wire.Part(type="input_text", text=text))


def user_audio(pcm: bytes, transcript: str | None = None) -> wire.Item:
    """Spoken words of the user, in the session's input format.

    Args:
        pcm: The coded samples.
        transcript: Their text, where it is known.
    """
    part = wire.Part(
        type="input_audio",
        audio=wire.encode_audio(pcm),
        transcript=wire.UNSET if transcript is None else transcript,
    )
    return _message("user", part)


def user_image(
    data: bytes,
    kind: str = "image/png",
    *,
    text: str | None = None,
    detail: Literal["auto", "low", "high"] = "auto",
) -> wire.Item:
    """A picture that the user shows.

    Args:
        data: The file's bytes.
        kind: "image/png" or "image/jpeg".
        text: Words that come with it.
        detail: How closely the model shall look.

    Raises:
        LocalProtocolError: ``kind`` is another, or there are no bytes.
    """
    if kind not in IMAGE_KINDS:
        raise LocalProtocolError(f"kind is {kind!r}; it must be one of {', '.join(IMAGE_KINDS)}")
    if not data:
        raise LocalProtocolError("data is empty; give the bytes of an image file")
    url = f"data:{kind};base64,{wire.encode_audio(data)}"
    parts = [wire.Part(type="input_image", image_url=url, detail=detail)]
    if text is not None:
        parts.insert(0, wire.Part(type="input_text", text=text))
    return wire.Item(type="message", role="user", content=parts)


def function_output(call_id: str, output: str) -> wire.Item:
    """What a tool answered."""
    return wire.Item(type="function_call_output", call_id=call_id, output=output)


def _message(role: str, part: wire.Part) -> wire.Item:
    return wire.Item(type="message", role=role, content=[part])
