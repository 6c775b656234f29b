"""Browser: a page's microphone and loudspeaker, over sockets that come and go."""

from __future__ import annotations

import json
import math
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from framepipe import Emit, Pipeline, on
from framepipe.errors import RemoteProtocolError, TransportBroken
from framepipe.frames import AudioIn, AudioOut, Mute, Played, Unmute
from framepipe.testing import run_virtual
from framepipe_processors.transports.browser import MAX_MESSAGE_BYTES, Browser
from framepipe_processors.transports.page_link import Wire


class Socket:
    """A socket of a page: `say` what the page sends, look at `sent`."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self._said: deque[Wire] = deque()
        self._is_lost = False
        self._changed = anyio.Event()

    def say(self, message: Wire | dict[str, Any]) -> None:
        self._said.append(json.dumps(message) if isinstance(message, dict) else message)
        self._changed.set()

    def lose(self) -> None:
        self._is_lost = True
        self._changed.set()

    async def send(self, message: Wire) -> None:
        if isinstance(message, str):
            self.sent.append(json.loads(message))
        else:
            self.sent.append(struct.unpack("<III", message[:12]))

    async def receive(self) -> Wire:
        while not self._said:
            if self._is_lost:
                raise TransportBroken("gone")
            self._changed = anyio.Event()
            await self._changed.wait()
        return self._said.popleft()


def mic(start: int, n: int = 240, value: int = 5) -> bytes:
    return struct.pack("<I", start) + struct.pack("<h", value) * n


class Middle:
    """Between the two: keeps what it sees, and speaks when it is told."""

    def __init__(self) -> None:
        self.heard: list[AudioIn] = []
        self.played: list[Played] = []

    def attach(self, emit: Emit[AudioOut | Mute | Unmute]) -> None:
        self.emit = emit

    @on(AudioIn)
    def listen(self, frame: AudioIn) -> None:
        self.heard.append(frame)

    @on(Played)
    def note(self, frame: Played) -> Played:
        self.played.append(frame)
        return frame


Script = Callable[[Browser, Middle, Pipeline], Awaitable[None]]


def play(script: Script, **settings: Any) -> Middle:
    middle = Middle()

    async def call() -> None:
        browser = Browser(**settings)
        pipeline = Pipeline(browser.mic, middle, browser.speaker, accepts=(AudioOut,))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pipeline.run)
            await script(browser, middle, pipeline)
            browser.hang_up()

    run_virtual(call)
    return middle


async def tick() -> None:
    await anyio.sleep(0.001)


def audio(n: int, start: int = 0) -> AudioOut:
    return AudioOut(pcm=bytes(2 * n), rate_hz=24_000, turn=1, item_id="a", start_sample=start)


def test_the_microphone_is_heard_in_order_without_repeats_and_gaps_stay_gaps() -> None:
    async def script(browser: Browser, middle: Middle, _: Pipeline) -> None:
        socket = Socket()
        for start in (0, 240, 120, 720):
            socket.say(mic(start))
        socket.say({"type": "bye"})
        await browser.serve(socket)

    middle = play(script)
    assert [(f.start_sample, f.n_samples) for f in middle.heard] == [
        (0, 240),
        (240, 240),
        (720, 240),
    ]


def test_a_page_that_says_goodbye_ends_the_call() -> None:
    async def script(browser: Browser, _: Middle, __: Pipeline) -> None:
        socket = Socket()
        socket.say({"type": "bye"})
        await browser.serve(socket)
        assert browser.is_over

    play(script)


def test_orders_reach_the_page_and_its_word_goes_up() -> None:
    async def script(browser: Browser, middle: Middle, pipeline: Pipeline) -> None:
        socket = Socket()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.serve, socket)
            await tick()
            pipeline.new_turn()
            middle.emit(audio(2_400))
            middle.emit(Mute())
            await tick()
            socket.say({"type": "report", "seq": 2, "played": 500, "order": 1, "mute_point": 692})
            await tick()
            told = pipeline.interrupt()
            assert told.mute_point == 692
            await tick()
            assert socket.sent == [
                {"type": "ready", "rate_hz": 24_000, "mic_from": 0},
                {"seq": 1, "type": "mute", "order": 1, "gain": 0.0, "fade_samples": 192},
                (2, 0, 0),
                {"seq": 3, "type": "cut", "order": 2, "line": 2_400, "fade_samples": 192},
            ]
            browser.hang_up()
            socket.lose()

    middle = play(script)
    assert [p.mute_point for p in middle.played] == [692, None]
    assert middle.played[-1].final


def test_a_cut_before_the_pages_word_is_settled_by_the_report() -> None:
    async def script(browser: Browser, middle: Middle, pipeline: Pipeline) -> None:
        socket = Socket()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.serve, socket)
            await tick()
            pipeline.new_turn()
            middle.emit(audio(2_400))
            assert pipeline.interrupt().mute_point is None
            report = {"type": "report", "seq": 2, "played": 2_400, "order": 1, "mute_point": 692}
            socket.say({**report, "level_dbfs": -20.5})
            await tick()
            browser.hang_up()
            socket.lose()

    middle = play(script)
    assert (middle.played[0].mute_point, middle.played[0].level_dbfs) == (692, -20.5)


def test_a_new_socket_goes_on_where_the_old_one_was_lost() -> None:
    async def script(browser: Browser, middle: Middle, pipeline: Pipeline) -> None:
        first, second = Socket(), Socket()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.serve, first)
            await tick()
            pipeline.new_turn()
            first.say(mic(0))
            middle.emit(audio(100))
            middle.emit(audio(100, start=100))
            await tick()
            first.lose()
            await tick()
            middle.emit(audio(100, start=200))
            tasks.start_soon(browser.serve, second, 1)
            await tick()
            assert second.sent == [
                {"type": "ready", "rate_hz": 24_000, "mic_from": 240},
                (2, 100, 1),
                (3, 200, 1),
            ]
            browser.hang_up()
            second.lose()

    play(script)


def test_a_second_socket_replaces_the_first() -> None:
    async def script(browser: Browser, middle: Middle, _: Pipeline) -> None:
        first, second = Socket(), Socket()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.serve, first)
            await tick()
            tasks.start_soon(browser.serve, second)
            await tick()
            first.say(mic(0))
            second.say(mic(0, value=9))
            second.say({"type": "bye"})
        assert [f.pcm_bytes()[0] for f in middle.heard] == [9]

    play(script)


def test_a_page_that_stays_away_ends_the_call_after_the_grace() -> None:
    async def script(browser: Browser, _: Middle, __: Pipeline) -> None:
        socket = Socket()
        socket.lose()
        with anyio.move_on_after(9):
            await browser.serve(socket)
        assert not browser.is_over
        again = Socket()
        again.lose()
        await browser.serve(again)
        assert browser.is_over

    play(script, grace_s=10.0)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("{", "a message that is none"),
        ('{"type": "nonsense"}', "a message that is none"),
        ('{"type": "report", "seq": "1"}', "a message that is none"),
        (b"\x00\x00\x00\x00\x01", "no position and whole 16-bit samples"),
        (bytes(MAX_MESSAGE_BYTES + 2), f"at most {MAX_MESSAGE_BYTES}"),
    ],
)
def test_a_page_that_breaks_the_rules_is_told_and_its_call_is_over(message: Wire, why: str) -> None:
    async def script(browser: Browser, _: Middle, __: Pipeline) -> None:
        socket = Socket()
        socket.say(message)
        with pytest.raises(RemoteProtocolError, match=why):
            await browser.serve(socket)
        assert browser.is_over

    play(script)


def test_a_page_that_sends_more_than_anybody_can_say_is_stopped() -> None:
    async def script(browser: Browser, _: Middle, __: Pipeline) -> None:
        socket = Socket()
        for block in range(40):
            socket.say(mic(block * 24_000, 24_000))
        with pytest.raises(RemoteProtocolError, match="twice the speed of speech"):
            await browser.serve(socket)

    middle = play(script)
    assert len(middle.heard) == 30


def test_what_the_person_asks_for_is_told() -> None:
    asked: list[tuple[str, Any]] = []

    def note(what: str, value: Any) -> None:
        asked.append((what, value))

    async def script(browser: Browser, _: Middle, __: Pipeline) -> None:
        socket = Socket()
        socket.say({"type": "ask", "what": "stop"})
        socket.say({"type": "ask", "what": "setting", "value": {"name": "x", "value": 1}})
        socket.say({"type": "bye"})
        await browser.serve(socket)

    play(script, on_ask=note)
    assert asked == [("stop", None), ("setting", {"name": "x", "value": 1})]


def test_audio_and_reports_after_the_end_of_the_pipeline_are_left_alone() -> None:
    async def script(browser: Browser, middle: Middle, pipeline: Pipeline) -> None:
        socket = Socket()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.serve, socket)
            await tick()
            pipeline.stop()
            await tick()
            socket.say(mic(0))
            socket.say({"type": "report", "seq": 0, "played": 5})
            await tick()
            assert not browser.is_over, "whoever runs the pipeline says why it ended"
            browser.hang_up()
            socket.lose()
        assert middle.heard == []

    play(script)


def test_a_duck_and_an_unmute_are_orders_too() -> None:
    async def script(browser: Browser, middle: Middle, pipeline: Pipeline) -> None:
        socket = Socket()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(browser.serve, socket)
            await tick()
            middle.emit(Mute(gain_db=-20.0))
            middle.emit(Unmute())
            browser.tell({"type": "hello"})
            await tick()
            duck, unmute, hello = socket.sent[1:]
            assert math.isclose(duck["gain"], 0.1)
            assert (unmute["type"], hello["type"]) == ("unmute", "hello")
            browser.hang_up()
            socket.lose()

    play(script)
