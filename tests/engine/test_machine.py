"""Random graphs, random schedules, one small model.

The model knows no time, no tasks and no mailboxes: each stage is a function from one frame to
some, and every stage is handed what the stages above it make. The engine must agree path by path
(after a fork, a frame's path tells its copies apart): everything that was never cut arrives, once
and in order; of what was cut, some may be missing, and nothing arrives after the cut.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

import anyio
import anyio.lowlevel
from attrs import evolve, frozen
from hypothesis import given, note, settings
from hypothesis import strategies as st

from framepipe import (
    Emit,
    End,
    Fork,
    Frame,
    Interrupt,
    Interruptible,
    Ordered,
    Pipeline,
    lossy,
    on,
)
from framepipe.testing._virtual import run_virtual
from tests.engine.kit import Call, Nod

Path: TypeAlias = tuple[str, ...]


@frozen(kw_only=True)
class Word(Ordered):
    n: int
    path: Path = ()


@frozen(kw_only=True)
class Sample(Interruptible):
    n: int
    path: Path = ()


Made: TypeAlias = Word | Sample


# --- the graph as data ------------------------------------------------------------------------


@frozen
class One:
    """A stage: how it handles, what it makes, how long it takes, how many frames may wait."""

    colour: Literal["plain", "generator", "async", "stream"]
    makes: Literal["same", "twice", "even", "alarm", "call"]
    delay_ms: int
    capacity: int


@frozen
class Branches:
    """A fork; the second branch may be lossy."""

    main: "Row"
    side: "Row"
    keeps: bool
    is_lossy: bool


@frozen
class Nested:
    row: "Row"


Row: TypeAlias = tuple["One | Branches | Nested", ...]

ones = st.builds(
    One,
    st.sampled_from(["plain", "generator", "async", "stream"]),
    st.sampled_from(["same", "same", "twice", "even", "alarm", "call"]),
    st.sampled_from([0, 0, 1, 5]),
    st.sampled_from([1, 2, 100]),
)


def rows(inner: st.SearchStrategy[One | Branches | Nested]) -> st.SearchStrategy[Row]:
    return st.lists(inner, min_size=1, max_size=3).map(tuple)


graphs: st.SearchStrategy[Row] = rows(
    st.recursive(
        ones,
        lambda inner: st.one_of(
            st.builds(Branches, rows(inner), rows(inner), st.booleans(), st.booleans()),
            st.builds(Nested, rows(inner)),
        ),
        max_leaves=6,
    )
)


def make(style: str, tag: str, frame: Made) -> list[Made]:
    """What a stage makes of a frame: the whole meaning of a stage, for engine and model alike."""
    if style == "even" and frame.n % 2:
        return []
    same = evolve(frame, path=(*frame.path, tag))
    return [same, evolve(same, path=(*same.path, "again"))] if style == "twice" else [same]


# --- the stages -------------------------------------------------------------------------------


class Stage:
    """What all colours share: it keeps account, and hears what is urgent."""

    def __init__(self, one: One, tag: str) -> None:
        self.one = one
        self.tag = tag
        self.mailbox_capacity = one.capacity
        self.seen: list[Made] = []
        self.urgent: list[Frame] = []
        self.n_cuts = 0
        self.n_ends = 0
        self.is_inside = False

    def attach(self, emit: Emit[Frame]) -> None:
        self.emit = emit

    def see(self, frame: Made) -> list[Frame]:
        assert self.n_ends == 0, "nothing after the end"
        assert not self.is_inside, "no stage is entered twice"
        if isinstance(frame, Sample):
            assert not self.emit.is_cut(frame.turn), "no stale audio"
        self.seen.append(frame)
        made: list[Frame] = [*make(self.one.makes, self.tag, frame)]
        if self.one.makes == "alarm" and isinstance(frame, Word) and frame.n % 3 == 0:
            made.insert(len(made) // 2, Interrupt())
        if self.one.makes == "call":
            made.insert(0, Call(n=-1))
        return made

    @on(Nod, Call)
    def hear(self, frame: Nod | Call) -> Frame:
        if frame.n >= 0:
            self.urgent.append(frame)
        return frame

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> None:
        self.n_cuts += 1

    @on(End)
    def end(self, frame: End) -> None:
        self.n_ends += 1


class PlainStage(Stage):
    @on(Word, Sample)
    def handle(self, frame: Made) -> Iterable[Frame]:
        return self.see(frame)


class GeneratorStage(Stage):
    @on(Word, Sample)
    def handle(self, frame: Made) -> Iterator[Frame]:
        made = self.see(frame)
        self.is_inside = True
        yield from made
        self.is_inside = False


class AsyncStage(Stage):
    @on(Word, Sample)
    async def handle(self, frame: Made) -> list[Frame]:
        made = self.see(frame)
        self.is_inside = True
        try:
            await anyio.sleep(self.one.delay_ms / 1000)
        finally:
            self.is_inside = False
        return made


class StreamStage(Stage):
    @on(Word, Sample)
    async def handle(self, frame: Made) -> AsyncIterator[Frame]:
        for made in self.see(frame):
            await anyio.sleep(self.one.delay_ms / 1000)
            yield made


COLOURS: dict[str, type[Stage]] = {
    "plain": PlainStage,
    "generator": GeneratorStage,
    "async": AsyncStage,
    "stream": StreamStage,
}


class Built:
    """The stages of a graph, and the model's answer to what each is handed."""

    def __init__(self, graph: Row) -> None:
        self.stages: list[Stage] = []
        self.on_main_line: list[bool] = []
        self.may_lose: list[bool] = []
        self.handed: list[Sequence[Made]] = []
        self._graph = graph
        self.pipeline = Pipeline(*self._row(graph, is_main=True, loses=False)[0])

    def _row(self, row: Row, *, is_main: bool, loses: bool) -> tuple[list[object], bool]:
        """The stages of a row, and whether what leaves it may lack something."""
        built: list[object] = []
        for item in row:
            if isinstance(item, One):
                stage = COLOURS[item.colour](item, f"s{len(self.stages)}")
                self.stages.append(stage)
                self.on_main_line.append(is_main)
                self.may_lose.append(loses)
                built.append(stage)
            elif isinstance(item, Nested):
                inner, loses = self._row(item.row, is_main=is_main, loses=loses)
                built.append(Pipeline(*inner))
            else:
                entering = loses or item.is_lossy
                main, loses = self._row(item.main, is_main=is_main, loses=loses)
                side, side_loses = self._row(item.side, is_main=False, loses=entering)
                branch = lossy(Pipeline(*side)) if item.is_lossy else Pipeline(*side)
                keep = (Word, Sample) if item.keeps else ()
                built.append(Fork(Pipeline(*main), branch, keep=keep))
                loses = loses or (side_loses and item.keeps)
        return built, loses

    def predict(self, frames: Sequence[Made]) -> None:
        """Run the model: fill in what each stage is handed."""
        self.handed = []
        self._feed(self._graph, frames)

    def _feed(self, row: Row, frames: Sequence[Made]) -> Sequence[Made]:
        for item in row:
            if isinstance(item, One):
                tag = f"s{len(self.handed)}"
                self.handed.append(frames)
                frames = [made for frame in frames for made in make(item.makes, tag, frame)]
            elif isinstance(item, Nested):
                frames = self._feed(item.row, frames)
            else:
                main, side = self._feed(item.main, frames), self._feed(item.side, frames)
                frames = [*main, *(side if item.keeps else ())]
        return frames


# --- the schedule -----------------------------------------------------------------------------

Action: TypeAlias = tuple[str, int]

actions: st.SearchStrategy[list[Action]] = st.lists(
    st.one_of(
        st.tuples(st.just("word"), st.integers(0, 9)),
        st.tuples(st.just("sample"), st.integers(0, 9)),
        st.tuples(st.just("sample of an older turn"), st.integers(0, 9)),
        st.tuples(st.just("turn"), st.just(0)),
        st.tuples(st.just("nod"), st.integers(0, 9)),
        st.tuples(st.just("call"), st.integers(0, 9)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("sleep"), st.sampled_from([0, 1, 3, 20])),
    ),
    max_size=40,
)


class Driver:
    """Plays a schedule and keeps what it emitted."""

    def __init__(self, built: Built) -> None:
        self.built = built
        self.pipeline = built.pipeline
        self.emitted: list[Made] = []

    async def play(self, schedule: list[Action], cuts_ms: list[int]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.cut_at, cuts_ms)
            turn = self.pipeline.new_turn()
            for what, n in schedule:
                if what == "word":
                    await self.pipeline.room()
                    self.emit(Word(n=n))
                elif what.startswith("sample"):
                    await self.pipeline.room()
                    self.emit(Sample(turn=max(1, turn - len(what) // 10), n=n))
                elif what == "turn":
                    turn = self.pipeline.new_turn()
                elif what == "sleep":
                    await anyio.sleep(n / 1000)
                elif what == "cut":
                    self.cut()
                else:
                    self.urgent(Nod(n=n) if what == "nod" else Call(n=n))

    async def cut_at(self, times_ms: list[int]) -> None:
        for time_ms in times_ms:
            await anyio.sleep(time_ms / 1000)
            self.cut()

    def emit(self, frame: Made) -> None:
        if isinstance(frame, Word) or frame.turn > self.pipeline.statistics().turns_cut:
            self.emitted.append(frame)
        self.pipeline.emit(frame)

    def cut(self) -> None:
        before = [stage.n_cuts for stage in self.built.stages]
        self.pipeline.interrupt()
        assert [stage.n_cuts for stage in self.built.stages] == [n + 1 for n in before]
        for stage in self.pipeline.statistics().stages:
            assert stage.mailbox is None or stage.mailbox.depth >= 0

    def urgent(self, frame: Frame) -> None:
        """When emit returns, every stage on the way has handled it, and no other."""
        before = [len(stage.urgent) for stage in self.built.stages]
        self.pipeline.emit(frame)
        for stage, n, is_main in zip(
            self.built.stages, before, self.built.on_main_line, strict=True
        ):
            on_its_way = is_main or isinstance(frame, Nod)
            assert stage.urgent[n:] == ([frame] if on_its_way else [])


# --- the comparison ---------------------------------------------------------------------------


def by_path(frames: Sequence[Made]) -> dict[Path, list[Made]]:
    found: dict[Path, list[Made]] = defaultdict(list)
    for frame in frames:
        found[frame.path].append(frame)
    return found


def is_subsequence(part: Sequence[Made], whole: Sequence[Made]) -> bool:
    rest = iter(whole)
    return all(any(frame == other for other in rest) for frame in part)


def compare(built: Built, cut: int, *, is_complete: bool) -> None:
    """Every stage was handed what the model says."""
    for stage, handed, loses in zip(built.stages, built.handed, built.may_lose, strict=True):
        expected, seen = by_path(handed), by_path(stage.seen)
        assert set(seen) <= set(expected)
        for path, frames in expected.items():
            assert is_subsequence(seen[path], frames), (stage.tag, seen[path], frames)
            if is_complete and not loses:
                kept = [f for f in frames if isinstance(f, Word) or f.turn > cut]
                got = [f for f in seen[path] if isinstance(f, Word) or f.turn > cut]
                assert got == kept, (stage.tag, got, kept)


@given(
    graph=graphs,
    schedule=actions,
    cuts_ms=st.lists(st.integers(0, 30), max_size=4),
    leaves_by=st.sampled_from(["the end", "the end", "the end", "an error", "a cancellation"]),
)
@settings(max_examples=max(150, settings().max_examples))
def test_the_engine_agrees_with_the_model(
    graph: Row, schedule: list[Action], cuts_ms: list[int], leaves_by: str
) -> None:
    built = Built(graph)
    note(str(built.pipeline))
    driver = Driver(built)

    async def go() -> None:
        try:
            with anyio.CancelScope() as scope:
                async with built.pipeline:
                    await driver.play(schedule, cuts_ms)
                    if leaves_by == "an error":
                        raise LookupError
                    if leaves_by == "a cancellation":
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
        except LookupError:
            pass
        assert len(asyncio.all_tasks()) == 1, "no task outlives a run"

    run_virtual(go)
    statistics = built.pipeline.statistics()
    built.predict(driver.emitted)
    compare(built, statistics.turns_cut, is_complete=leaves_by == "the end")
    for stage, counted in zip(built.stages, statistics.stages, strict=True):
        assert stage.n_ends == (leaves_by == "the end") or leaves_by != "the end"
        assert "failed" not in counted.dropped
        if counted.mailbox is not None and leaves_by == "the end":
            assert counted.mailbox.depth == 0
            assert counted.mailbox.waiting_for_room == 0
