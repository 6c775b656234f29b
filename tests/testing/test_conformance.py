"""The conformance suite finds each of these broken processors, and our own keep every clause."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from framepipe import (
    AudioOut,
    Emit,
    End,
    Frame,
    Interrupt,
    Ordered,
    ProcessorError,
    TextIn,
    Transcript,
    evolve,
    on,
)
from framepipe.testing import VirtualTimeError, Wait
from framepipe.testing.conformance import Clause, ConformanceError, check_processor
from framepipe.testing.virtual_time import Backend

# --- one that is broken for each clause ---------------------------------------------------------


class Swapper:
    """Hands on every two frames in the wrong order."""

    def __init__(self) -> None:
        self.first: TextIn | None = None

    @on(TextIn)
    def swap(self, frame: TextIn) -> list[TextIn]:
        if self.first is None:
            self.first = frame
            return []
        pair, self.first = [frame, self.first], None
        return pair

    @on(End)
    def flush(self, _: End) -> list[TextIn]:
        return [] if self.first is None else [self.first]


class Loser:
    """Keeps one back and forgets it at the end."""

    def __init__(self) -> None:
        self.kept: TextIn | None = None

    @on(TextIn)
    def keep(self, frame: TextIn) -> list[TextIn]:
        out, self.kept = self.kept, frame
        return [] if out is None else [out]


class Doubler:
    """Says everything twice."""

    @on(TextIn)
    def double(self, frame: TextIn) -> list[TextIn]:
        return [frame, frame]


class Copier:
    """Logs every frame, and hands on a copy."""

    @on(Ordered)
    def copy(self, frame: Ordered) -> Ordered:
        return evolve(frame)


class Deaf:
    """Handles everything that is ordered, and forgets to hand it on."""

    @on(Ordered)
    def look(self, frame: Ordered) -> None:
        pass


class Parrot:
    """Keeps the agent's audio, and goes on with it after a cut."""

    def __init__(self) -> None:
        self.queue: list[AudioOut] = []

    def attach(self, emit: Emit[AudioOut]) -> None:
        self.emit = emit

    @on(AudioOut)
    def keep(self, frame: AudioOut) -> None:
        self.queue.append(frame)

    @on(Interrupt)
    def again(self, _: Interrupt) -> list[AudioOut]:
        if not self.queue:
            return []
        frame = self.queue.pop()
        return [evolve(frame, turn=self.emit.new_turn())]


class Hoarder:
    """Keeps the agent's audio until the end, and never hears of the cut."""

    def __init__(self) -> None:
        self.queue: list[AudioOut] = []

    @on(AudioOut)
    def keep(self, frame: AudioOut) -> None:
        self.queue.append(frame)

    @on(End)
    def flush(self, _: End) -> list[AudioOut]:
        return self.queue


class Stubborn:
    """Finishes what it has begun, cut or not."""

    @on(AudioOut)
    async def work(self, frame: AudioOut) -> AudioOut:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.5)
        return frame


class Immortal:
    """Hears of the end and goes on."""

    @on(End)
    def end(self, _: End) -> None:
        pass

    async def run(self, emit: Emit[TextIn]) -> None:
        await anyio.sleep(math.inf)


class Clinging:
    """Takes a minute to say goodbye."""

    async def run(self, emit: Emit[TextIn]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(30)


class Sleeper:
    """Waits as one does in a thread."""

    @on(TextIn)
    def wait(self, frame: TextIn) -> TextIn:
        time.sleep(0.000_001)
        return frame


class Opener:
    """Writes every word into a file."""

    @on(TextIn)
    async def write(self, frame: TextIn) -> TextIn:
        self._append(frame.text)
        return frame

    def _append(self, _: str) -> None:
        with Path("/dev/null").open("a"):
            pass


class Grower:
    """Remembers all it has ever heard."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @on(TextIn)
    def remember(self, frame: TextIn) -> TextIn:
        self.words.append(frame.text)
        return frame


BROKEN: dict[type, tuple[Clause, str, int]] = {
    Swapper: (Clause.ORDER, "TextIn(text='') left before TextIn(text=''), and came after it", 2),
    Loser: (Clause.ACCOUNT, "TextIn(text='') came and never left", 1),
    Doubler: (Clause.ACCOUNT, "TextIn(text='') came once and left 2 times", 1),
    Copier: (Clause.UNKNOWN, "Note(), of a type that nobody knows, left 0 times", 1),
    Deaf: (Clause.UNKNOWN, "Note(), of a type that nobody knows, left 0 times", 1),
    Parrot: (Clause.INTERRUPT, "left after the cut of its turn", 1),
    Hoarder: (Clause.INTERRUPT, "it emitted 1 frames of a turn that was cut", 1),
    Stubborn: (Clause.INTERRUPT, "what followed the cut left 499 ms after it", 1),
    Immortal: (Clause.END, "60 s after the end it still ran", 0),
    Clinging: (Clause.CANCEL, "it was cancelled and went on for 30 s", 0),
    Sleeper: (Clause.BLOCKING, "wait sleeps: time.sleep", 1),
    Opener: (Clause.BLOCKING, "write opens a file: open('/dev/null')", 1),
    Grower: (Clause.GROWTH, "its attribute words grew by", 1),
}
"""What is wrong, in which words, and how few frames can show it."""


@pytest.mark.parametrize("processor", BROKEN)
def test_a_broken_processor_is_found_and_shown_by_a_short_call(processor: type) -> None:
    clause, words, n_frames = BROKEN[processor]
    with pytest.raises(ConformanceError) as caught:
        check_processor(processor, without=set(Clause) - {clause})
    assert caught.value.clause is clause
    assert words in str(caught.value)
    # hypothesis tries constants of whatever else is imported, and may keep one frame more for it.
    shown = sum(not isinstance(step, Wait) for step in caught.value.steps)
    assert n_frames <= shown <= n_frames + 1


def test_every_clause_has_a_processor_that_breaks_it() -> None:
    assert {clause for clause, _, _ in BROKEN.values()} == set(Clause)


def test_the_message_shows_the_call_as_code() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_processor(Doubler)
    assert str(caught.value).splitlines() == [
        (
            "Doubler does not keep the clause 'account': TextIn(text='') came once and left 2 "
            "times; if that is meant, say repeats=(TextIn,)"
        ),
        "the shortest call that shows it:",
        "    TextIn(text=''),",
    ]


def test_a_processor_that_raises_is_shown_with_the_call() -> None:
    class Fussy:
        @on(TextIn)
        def read(self, frame: TextIn) -> TextIn:
            if frame.text:
                raise LookupError(frame.text)
            return frame

    with pytest.raises(ProcessorError) as caught:
        check_processor(Fussy)
    assert "    TextIn(text='a')," in caught.value.__notes__[0]


# --- what is declared ---------------------------------------------------------------------------


def test_what_is_declared_is_no_fault() -> None:
    check_processor(Doubler, repeats=(TextIn,), max_examples=4)
    check_processor(Loser, drops=(TextIn,), delays=(TextIn,), max_examples=4)
    check_processor(Grower, without=[Clause.GROWTH], max_examples=4)


class Muffler:
    """Drops what is quiet, and says so in its annotation."""

    @on(Transcript)
    def filter(self, frame: Transcript) -> Transcript | None:
        return frame if frame.final else None

    @on(TextIn)
    def take(self, _: TextIn) -> None:
        pass


class Upper:
    """All there is to an honest async stage."""

    @on(TextIn)
    async def shout(self, frame: TextIn) -> AsyncIterator[Frame]:
        await anyio.sleep(0.01)
        yield evolve(frame, text=frame.text.upper())


class Log:
    """A handler for everything that hands on what it got."""

    @on(Frame)
    def see(self, frame: Frame) -> Frame:
        return frame


class Ring:
    """Remembers the last few."""

    def __init__(self) -> None:
        self.last: list[TextIn] = []

    @on(TextIn)
    def keep(self, frame: TextIn) -> TextIn:
        self.last = [*self.last, frame][-1_000:]
        return frame


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("processor", [Muffler, Upper, Log])
def test_an_honest_processor_passes(processor: Callable[[], object], backend: Backend) -> None:
    check_processor(processor, backend=backend, max_examples=5)


class Threaded:
    """Does its work in a thread, as one must that blocks."""

    @on(TextIn)
    async def work(self, frame: TextIn) -> TextIn:
        return await anyio.to_thread.run_sync(lambda: evolve(frame, text=frame.text.upper()))


def test_one_that_needs_a_thread_is_told_so_and_passes_in_real_time() -> None:
    with pytest.raises(ProcessorError) as caught:
        check_processor(Threaded, max_examples=5)
    assert isinstance(caught.value.__cause__, VirtualTimeError)
    check_processor(Threaded, max_examples=3, real_time=True, without=[Clause.GROWTH])


def test_other_seeds_are_other_calls_and_find_the_same() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_processor(Doubler, seed=7)
    assert caught.value.steps == (TextIn(text=""),)


def test_a_ring_that_is_declared_may_fill() -> None:
    with pytest.raises(ConformanceError, match="its attribute last grew"):
        check_processor(Ring, without=set(Clause) - {Clause.GROWTH})
    check_processor(Ring, holds_frames=1_000, without=set(Clause) - {Clause.GROWTH})
