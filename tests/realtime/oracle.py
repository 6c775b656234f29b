"""The models of the ``openai`` package as an oracle: is this event one of the protocol's?

The package itself never validates what it receives, and its unions mean nothing to pydantic, so
the model is picked by type here, the text is read in strict mode, and fields that no model knows
are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Literal, cast, get_args

import pytest

pytest.importorskip("openai", reason="the schema oracle is the openai package: pip install openai")

import pydantic
from openai.types import realtime

Sender = Literal["client", "server"]

# What the service sends and no model of the package knows (recordings; reference, section 6).
KNOWN_EXTRAS = {
    ("server", "obfuscation"): "padding against guessing words from the length of a delta",
    ("server", "phase"): "commentary or final answer, items of 2.x models",
    ("server", "reasoning_tokens"): "usage of 2.x models",
    ("server", "session.id"): "the session is typed as what a client may ask for",
    ("server", "session.object"): "as above",
    ("server", "session.expires_at"): "as above",
}


@cache
def models(sender: Sender) -> dict[str, type[pydantic.BaseModel]]:
    """The model of each event type."""
    union: Any = (
        realtime.RealtimeClientEvent if sender == "client" else realtime.RealtimeServerEvent
    )
    found: dict[str, type[pydantic.BaseModel]] = {}
    for model in get_args(get_args(union)[0]):
        (kind,) = get_args(model.model_fields["type"].annotation)
        found[kind] = model
    return found


def complaints(sender: Sender, text: str) -> list[str]:
    """What is wrong with an event; nothing, when the package's models agree with it."""
    kind = json.loads(text).get("type")
    model = models(sender).get(kind)
    if model is None:
        return [f"no {sender} event is called {kind!r}"]
    try:
        event = model.model_validate_json(text, strict=True)
    except pydantic.ValidationError as error:
        return [f"{kind}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return [
        f"{kind}: {path} is in no model"
        for path in extras(event)
        if not any(
            whose == sender and (path == name or path.endswith(f".{name}"))
            for whose, name in KNOWN_EXTRAS
        )
    ]


def extras(value: Any, path: str = "") -> Iterator[str]:
    """Where a validated event holds what its models do not know."""
    if isinstance(value, pydantic.BaseModel):
        for name in value.model_extra or {}:
            yield f"{path}.{name}".lstrip(".")
        for name in type(value).model_fields:
            yield from extras(getattr(value, name), f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in cast("Iterable[Any]", value):
            yield from extras(inner, path)
