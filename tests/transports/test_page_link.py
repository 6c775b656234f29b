"""PageLink: numbered, kept until acknowledged, and sent again on the next socket."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.conversation.remote_speaker import CutOrder, MuteOrder, Sound, UnmuteOrder
from framepipe.errors import TransportBroken
from framepipe_processors.transports.page_link import (
    MAX_NEWS,
    MAX_UNHEARD_OF_BYTES,
    PageLink,
    mic_audio,
)


def sound(line: int, *, middle: bool = False) -> Sound:
    return Sound(line, b"\x01\x00" * 4, middle)


def sent(link: PageLink) -> list[Any]:
    """Everything there is to send, sound as (number, line, flags)."""
    messages: list[Any] = []
    while (message := link.next()) is not None:
        if isinstance(message, str):
            messages.append(json.loads(message))
        else:
            messages.append(struct.unpack("<III", message[:12]))
    return messages


def test_orders_go_before_sound_and_sound_before_news() -> None:
    link = PageLink()
    link.news({"type": "state"})
    link.sound(sound(7, middle=True))
    link.order(MuteOrder(1, 0.0, 192))
    link.order(UnmuteOrder(2, 192))
    assert sent(link) == [
        {"seq": 1, "type": "mute", "order": 1, "gain": 0.0, "fade_samples": 192},
        {"seq": 2, "type": "unmute", "order": 2, "fade_samples": 192},
        (3, 7, 1),
        {"seq": 4, "type": "state"},
    ]


def test_a_cut_takes_back_the_sound_that_was_not_sent() -> None:
    link = PageLink()
    link.sound(sound(0))
    link.order(CutOrder(1, 4, 192))
    link.sound(sound(4))
    assert sent(link) == [
        {"seq": 1, "type": "cut", "order": 1, "line": 4, "fade_samples": 192},
        (2, 4, 0),
    ]


def test_a_page_that_is_silent_for_too_long_is_gone() -> None:
    link = PageLink()
    n_fit = MAX_UNHEARD_OF_BYTES // 20_012
    for nth in range(n_fit + 1):
        link.sound(Sound(10_000 * nth, bytes(20_000), False))
    for _ in range(n_fit):
        link.next()
    with pytest.raises(TransportBroken, match="has not said"):
        link.next()


def test_news_that_nobody_fetches_make_room_for_newer_ones() -> None:
    link = PageLink()
    for number in range(MAX_NEWS + 5):
        link.news({"number": number})
    assert [message["number"] for message in sent(link)] == list(range(5, MAX_NEWS + 5))


@given(st.lists(st.sampled_from(["sound", "news", "order", "fetch", "arrive", "new socket"])))
def test_a_page_has_everything_once_and_in_order_whatever_its_sockets_do(steps: list[str]) -> None:
    link = PageLink()
    on_the_way: list[int] = []
    had: list[int] = []
    made = 0

    def number(message: bytes | str) -> int:
        return json.loads(message)["seq"] if isinstance(message, str) else message[0]

    def arrive() -> None:
        for seq in on_the_way:
            if seq > (had[-1] if had else 0):  # as the page does
                had.append(seq)
        on_the_way.clear()
        link.acknowledged(had[-1] if had else 0)

    for step in [*steps, "new socket", *["fetch"] * (len(steps) + 1), "arrive"]:
        if step == "fetch":
            message = link.next()
            if message is not None:
                on_the_way.append(number(message))
        elif step == "arrive":
            arrive()
        elif step == "new socket":
            on_the_way.clear()  # what was on the way is lost
            link.resume(had[-1] if had else 0)
        else:
            made += 1
            if step == "sound":
                link.sound(sound(made))
            elif step == "news":
                link.news({})
            else:
                link.order(UnmuteOrder(made, 0))
    assert had == list(range(1, made + 1))


@pytest.mark.parametrize("message", [b"", b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x01"])
def test_microphone_audio_that_is_none_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="no position and whole"):
        mic_audio(message)


def test_microphone_audio_has_its_position() -> None:
    assert mic_audio(b"\x00\x01\x00\x00\x05\x00") == (256, b"\x05\x00")
