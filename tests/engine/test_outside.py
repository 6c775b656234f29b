"""What a program emits from outside, and what becomes of it when there is no room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from framepipe import AudioIn, AudioOut, Emit, End, Pipeline, Transcript, on


class Stuck:
    """Takes nothing for ever."""

    mailbox_capacity = 2

    @on(Transcript)
    async def wait(self, frame: Transcript) -> None:
        await anyio.sleep_forever()


@pytest.mark.anyio
async def test_audio_from_outside_that_finds_no_room_is_counted() -> None:
    words = Transcript(who="user", text="", final=True, item_id="")
    with anyio.CancelScope() as scope:
        async with Pipeline(Stuck()) as pipeline:
            for _ in range(2):
                pipeline.emit(words)
            for _ in range(5):
                pipeline.emit(AudioIn(pcm=b"", rate_hz=16_000))
            assert pipeline.statistics().dropped == {"shed": 5}
            scope.cancel()


class Talker:
    """Lets every word pass."""

    @on(Transcript)
    def talk(self, frame: Transcript) -> Transcript:
        return frame


def test_a_program_can_open_and_cut_turns_between_steps() -> None:
    pipeline = Pipeline(Talker())
    pipeline.step(Transcript(who="user", text="hello", final=True, item_id=""))
    turn = pipeline.new_turn()
    audio = AudioOut(pcm=b"", rate_hz=24_000, turn=turn)
    assert pipeline.step(audio) == [audio]
    assert pipeline.interrupt().turn == turn
    assert pipeline.step(audio) == []


class EndsItself:
    """Says End and lives on."""

    async def run(self, emit: Emit[End]) -> None:
        emit(End())
        await anyio.sleep_forever()


@pytest.mark.anyio
async def test_a_source_that_said_end_itself_and_lives_on_is_stopped() -> None:
    async with Pipeline(EndsItself(), Talker(), accepts=(Transcript,)):
        await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_an_observer_hears_that_an_async_handler_decided() -> None:
    seen: list[tuple[str, str]] = []
    words = Transcript(who="user", text="", final=True, item_id="")
    inner = Pipeline(Swallows())
    inner.observe(lambda what, stage, _: seen.append((what, stage)))
    async with Pipeline(inner) as pipeline:
        pipeline.emit(words)
    assert ("decided", "Swallows") in seen


class Swallows:
    """Lets nothing pass."""

    @on(Transcript)
    async def swallow(self, frame: Transcript) -> None:
        await anyio.lowlevel.checkpoint()


class LastWords:
    """Says something when everything is over."""

    @on(End)
    async def say(self, frame: End) -> AsyncIterator[Transcript]:
        yield Transcript(who="agent", text="goodbye", final=True, item_id="last")


class Listener:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @on(Transcript)
    def hear(self, frame: Transcript) -> None:
        self.heard.append(frame.text)

    @on(End)
    def end(self, frame: End) -> None:
        self.heard.append("the end")


@pytest.mark.anyio
async def test_an_async_generator_may_speak_before_the_end_goes_on() -> None:
    listener = Listener()
    async with Pipeline(LastWords(), listener):
        pass
    assert listener.heard == ["goodbye", "the end"]
