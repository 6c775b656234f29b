"""Random pipelines, and the small model that says what each of their stages is handed.

A graph is data: rows of stages, forks and nested pipelines. Each stage is of one of the four
colours (plain, generator, async, async generator), makes of each frame the same, two, none, or an
interruption besides, takes its time, and has room for few or many.

The model knows no time, no tasks and no mailboxes: each stage is a function from one frame to
some, and every stage is handed what the stages above it make. A pipeline must agree with it path
by path (after a fork a frame's path tells its copies apart): everything that was never cut
arrives, once and in order; of what was cut some may be missing, and nothing comes after the cut.

Needs hypothesis: ``pip install 'framepipe[testing]'``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

import anyio
from attrs import evolve, frozen

from framepipe.frames import End, Frame, Interrupt
from framepipe.graph import Fork, lossy
from framepipe.pipeline import Pipeline
from framepipe.processor import Emit, on
from framepipe.testing.strangers import Call, Nod, Note, Piece

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "framepipe.testing.graphs needs hypothesis: pip install 'framepipe[testing]'"
    ) from error

Made: TypeAlias = Note | Piece
"""What the stages of a random pipeline handle."""

Colour: TypeAlias = Literal["plain", "generator", "async", "stream"]
Makes: TypeAlias = Literal["same", "twice", "even", "alarm", "call"]


@frozen
class One:
    """A stage.

    Attributes:
        colour: How it handles frames.
        makes: What of each: itself; itself and a copy; itself if its number is even; and an
            ``Interrupt`` besides with every third ``Note``; and a ``Call`` up.
        delay_ms: How long that takes, where it can wait.
        capacity: How many frames may wait before it.
    """

    colour: Colour
    makes: Makes
    delay_ms: int
    capacity: int


@frozen
class Branches:
    """A fork of two.

    Attributes:
        main: The branch that goes on.
        side: The other.
        keeps: What leaves the side goes on as well.
        is_lossy: The side drops its oldest where there is no room.
    """

    main: Row
    side: Row
    keeps: bool
    is_lossy: bool


@frozen
class Nested:
    """A pipeline in a pipeline.

    Attributes:
        row: What is in it.
    """

    row: Row


Row: TypeAlias = "tuple[One | Branches | Nested, ...]"


def graphs(*, max_stages: int = 6, forks: bool = True) -> st.SearchStrategy[Row]:
    """Graphs as data.

    Args:
        max_stages: How many stages there are, about, at most.
        forks: Whether there are forks and nested pipelines.

    Shrinks to one plain stage that hands on what it gets.
    """
    ones = st.builds(
        One,
        st.sampled_from(["plain", "generator", "async", "stream"]),
        st.sampled_from(["same", "same", "twice", "even", "alarm", "call"]),
        st.sampled_from([0, 0, 1, 5]),
        st.sampled_from([1, 2, 100]),
    )

    def rows(inner: st.SearchStrategy[One | Branches | Nested]) -> st.SearchStrategy[Row]:
        return st.lists(inner, min_size=1, max_size=3).map(tuple)

    if not forks:
        return st.lists(ones, min_size=1, max_size=max_stages).map(tuple)
    return rows(
        st.recursive(
            ones,
            lambda inner: st.one_of(
                st.builds(Branches, rows(inner), rows(inner), st.booleans(), st.booleans()),
                st.builds(Nested, rows(inner)),
            ),
            max_leaves=max_stages,
        )
    )


def pipelines(*, max_stages: int = 6, forks: bool = True) -> st.SearchStrategy[RandomPipeline]:
    """Pipelines of stages that keep account, with their model.

    Args:
        max_stages: How many stages there are, about, at most.
        forks: Whether there are forks and nested pipelines.

    Shrinks to one plain stage that hands on what it gets.
    """
    return graphs(max_stages=max_stages, forks=forks).map(RandomPipeline)


def make(style: Makes, tag: str, frame: Made) -> list[Made]:
    """What a stage makes of a frame: the whole meaning of a stage, for engine and model alike."""
    if style == "even" and frame.n % 2:
        return []
    same = evolve(frame, path=(*frame.path, tag))
    return [same, evolve(same, path=(*same.path, "again"))] if style == "twice" else [same]


# --- the stages -------------------------------------------------------------------------------


class Account:
    """What all colours share: a stage that writes down what it is handed and what it hears.

    It asserts by itself that nothing comes after the end, nothing of a cut turn comes, and that it
    is not entered twice.

    Attributes:
        seen: What it was handed.
        urgent: What it heard in passing.
        n_cuts: How often it was told of a cut.
        n_ends: How often it was told of the end.
    """

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
        """Keep the way to ask whether a turn is cut."""
        self.emit = emit

    def see(self, frame: Made) -> list[Frame]:
        """Write a frame down; what the stage makes of it."""
        assert self.n_ends == 0, "nothing after the end"
        assert not self.is_inside, "no stage is entered twice"
        if isinstance(frame, Piece):
            assert not self.emit.is_cut(frame.turn), "no stale audio"
        self.seen.append(frame)
        made: list[Frame] = [*make(self.one.makes, self.tag, frame)]
        if self.one.makes == "alarm" and isinstance(frame, Note) and frame.n % 3 == 0:
            made.insert(len(made) // 2, Interrupt())
        if self.one.makes == "call":
            made.insert(0, Call(n=-1))
        return made

    @on(Nod, Call)
    def hear(self, frame: Nod | Call) -> Frame:
        """Write down what is urgent; not the calls of other stages."""
        if frame.n >= 0:
            self.urgent.append(frame)
        return frame

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> None:
        """Count the cuts."""
        self.n_cuts += 1

    @on(End)
    def end(self, frame: End) -> None:
        """Count the ends."""
        self.n_ends += 1


class _Plain(Account):
    @on(Note, Piece)
    def handle(self, frame: Made) -> Iterable[Frame]:
        return self.see(frame)


class _Generator(Account):
    @on(Note, Piece)
    def handle(self, frame: Made) -> Iterator[Frame]:
        made = self.see(frame)
        self.is_inside = True
        yield from made
        self.is_inside = False


class _Async(Account):
    @on(Note, Piece)
    async def handle(self, frame: Made) -> list[Frame]:
        made = self.see(frame)
        self.is_inside = True
        try:
            await anyio.sleep(self.one.delay_ms / 1000)
        finally:
            self.is_inside = False
        return made


class _Stream(Account):
    @on(Note, Piece)
    async def handle(self, frame: Made) -> AsyncIterator[Frame]:
        for made in self.see(frame):
            await anyio.sleep(self.one.delay_ms / 1000)
            yield made


_COLOURS: dict[Colour, type[Account]] = {
    "plain": _Plain,
    "generator": _Generator,
    "async": _Async,
    "stream": _Stream,
}


# --- the pipeline, and its model ---------------------------------------------------------------


class RandomPipeline:
    """The stages of a graph, and the model's answer to what each is handed.

    Args:
        graph: The graph.

    Attributes:
        pipeline: To be run.
        stages: All of its stages, in the order in which the model counts them.
        on_main_line: Which of them stand where everything passes.
    """

    def __init__(self, graph: Row) -> None:
        self.stages: list[Account] = []
        self.on_main_line: list[bool] = []
        self._may_lose: list[bool] = []
        self._handed: list[Sequence[Made]] = []
        self._graph = graph
        self.pipeline = Pipeline(*self._row(graph, is_main=True, loses=False)[0])

    def __repr__(self) -> str:
        return f"<{self.pipeline}>"

    def check(self, emitted: Sequence[Made], *, turns_cut: int, is_complete: bool) -> None:
        """Compare what every stage was handed with the model.

        Args:
            emitted: What was emitted at the head, without what was stale by then.
            turns_cut: Every turn up to this one was cut.
            is_complete: The pipeline ran to its end, so nothing may be missing that was not cut.

        Raises:
            AssertionError: They do not agree; says at which stage.
        """
        self._handed = []
        self._feed(self._graph, emitted)
        for stage, handed, loses in zip(self.stages, self._handed, self._may_lose, strict=True):
            expected, seen = _by_path(handed), _by_path(stage.seen)
            assert set(seen) <= set(expected), f"{stage.tag}: frames that nobody makes"
            for path, frames in expected.items():
                got = seen[path]
                assert is_subsequence(got, frames), (stage.tag, got, frames)
                if is_complete and not loses:
                    kept = [f for f in frames if isinstance(f, Note) or f.turn > turns_cut]
                    have = [f for f in got if isinstance(f, Note) or f.turn > turns_cut]
                    assert have == kept, (stage.tag, have, kept)

    def _row(self, row: Row, *, is_main: bool, loses: bool) -> tuple[list[object], bool]:
        """The stages of a row, and whether what leaves it may lack something."""
        built: list[object] = []
        for item in row:
            if isinstance(item, One):
                stage = _COLOURS[item.colour](item, f"s{len(self.stages)}")
                self.stages.append(stage)
                self.on_main_line.append(is_main)
                self._may_lose.append(loses)
                built.append(stage)
            elif isinstance(item, Nested):
                inner, loses = self._row(item.row, is_main=is_main, loses=loses)
                built.append(Pipeline(*inner))
            else:
                entering = loses or item.is_lossy
                main, loses = self._row(item.main, is_main=is_main, loses=loses)
                side, side_loses = self._row(item.side, is_main=False, loses=entering)
                branch = lossy(Pipeline(*side)) if item.is_lossy else Pipeline(*side)
                keep = (Note, Piece) if item.keeps else ()
                built.append(Fork(Pipeline(*main), branch, keep=keep))
                loses = loses or (side_loses and item.keeps)
        return built, loses

    def _feed(self, row: Row, frames: Sequence[Made]) -> Sequence[Made]:
        for item in row:
            if isinstance(item, One):
                tag = f"s{len(self._handed)}"
                self._handed.append(frames)
                frames = [made for frame in frames for made in make(item.makes, tag, frame)]
            elif isinstance(item, Nested):
                frames = self._feed(item.row, frames)
            else:
                main, side = self._feed(item.main, frames), self._feed(item.side, frames)
                frames = [*main, *(side if item.keeps else ())]
        return frames


def _by_path(frames: Sequence[Made]) -> dict[tuple[str, ...], list[Made]]:
    found: dict[tuple[str, ...], list[Made]] = defaultdict(list)
    for frame in frames:
        found[frame.path].append(frame)
    return found


def is_subsequence(part: Sequence[Frame], whole: Sequence[Frame]) -> bool:
    """Whether a row is another one with some left out."""
    rest = iter(whole)
    return all(any(frame == other for other in rest) for frame in part)
