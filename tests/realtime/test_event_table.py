"""The page with every event of the protocol, and the events themselves in their smallest form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.inspect import StructType, UnionType, type_info

from framepipe.realtime import events as wire

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "realtime-events.md"
EVENTS: list[Any] = [*wire.KnownClientEvent.__args__, *wire.KnownServerEvent.__args__]


def kind_of(event: Any) -> str:
    return str(event.__struct_config__.tag)


def smallest(kind: Any) -> Any:
    """The smallest JSON value of a type."""
    if isinstance(kind, UnionType):
        return smallest(kind.types[0])
    if isinstance(kind, StructType):
        return {one.encode_name: smallest(one.type) for one in kind.fields if one.required}
    plain: dict[str, Any] = {"StrType": "x", "IntType": 1, "FloatType": 0.5, "ListType": []}
    return plain.get(type(kind).__name__)


@pytest.mark.parametrize("event", EVENTS, ids=kind_of)
def test_an_event_with_only_what_it_must_have_comes_back(event: Any) -> None:
    text = json.dumps({"type": kind_of(event), **smallest(type_info(event))})
    decode = wire.decode_client if event in wire.KnownClientEvent.__args__ else wire.decode_server
    read = decode(text)
    assert isinstance(read, event)
    assert decode(wire.encode(read)) == read


def rows() -> dict[str, list[str]]:
    cells = re.findall(r"^\| `(.+?)` \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {kind: rest.split(" | ") for kind, rest in cells}


def test_every_event_is_on_the_page_once() -> None:
    listed = re.findall(r"^\| `(.+?)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(map(kind_of, EVENTS))


def test_every_client_event_is_understood_by_the_server() -> None:
    assert {kind for kind in wire.CLIENT_EVENT_TYPES if rows()[kind][1] != "understands"} == set()


def test_what_the_server_never_sends_belongs_to_others() -> None:
    not_sent = {kind for kind in wire.SERVER_EVENT_TYPES if rows()[kind][1] != "sends"}
    # WebRTC has buffers of its own.
    assert {kind for kind in not_sent if not kind.startswith("output_audio_buffer.")} == {
        "conversation.created",  # other services
        "conversation.item.created",  # legacy
        "conversation.item.input_audio_transcription.failed",
        "conversation.item.input_audio_transcription.segment",  # models that tell speakers apart
        "input_audio_buffer.dtmf_event_received",  # telephones
    }


def test_every_test_that_is_named_exists_and_has_the_event() -> None:
    for kind, (_, _, shown) in rows().items():
        link = re.fullmatch(r"\[(\w+)\]\(\.\./\.\./(.+)\)", shown)
        assert link is not None, kind
        source = (ROOT / link[2]).read_text("utf-8")
        assert f"def {link[1]}(" in source
        assert f'"{kind}"' in source or link[2].endswith("test_event_table.py")
