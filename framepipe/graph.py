"""The graph as data: which stages there are, who is next to whom, and whether it can work.

A pipeline is a list of stages, of nested pipelines and of forks. Flattening turns it into nodes
in a fixed order in which every frame that goes down only meets greater numbers; the checks read
what stages declare and refuse a graph that cannot run, before anything runs.
"""

from __future__ import annotations

import typing
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

from attrs import field, frozen

from framepipe.errors import WiringError
from framepipe.frames import (
    AudioOut,
    End,
    Frame,
    Interrupt,
    Interruptible,
    Ordered,
    Played,
    UrgentDown,
    UrgentUp,
)
from framepipe.mailbox import Mailbox, TurnLine
from framepipe.processor import (
    MAILBOX_CAPACITY,
    Emit,
    Handler,
    Supervised,
    handlers_of,
    is_urgent,
    pick_handler,
)

_BASES = (Frame, Ordered, Interruptible, UrgentDown, UrgentUp)

Keep: TypeAlias = tuple[type[Frame], ...] | None
"""Frame types that may leave a side branch; ``None`` lets all pass."""

Hop: TypeAlias = "tuple[Callable[[Any], Any], Node, dict[type, Hop], bool]"
"""One step of an ordered frame: what to call, whose it is, where its output goes, and whether
the frame belongs to a turn."""


class Group:
    """Stages in a row; a `Pipeline` is one.

    Attributes:
        stages: Stages, nested groups, and forks.
    """

    stages: tuple[object, ...]


@frozen
class Lossy:
    """A branch that drops instead of waiting; made by `lossy`."""

    branch: object


def lossy(branch: object) -> Lossy:
    """Let a branch of a `Fork` drop its oldest frames, counted, instead of making others wait.

    Args:
        branch: A stage or a `Pipeline`.
    """
    return Lossy(branch)


class Fork:
    """Every frame enters every branch; what leaves the first branch goes on.

    What leaves another branch ends there, unless its type is in ``keep``. Frames that come up
    from below go up through the first branch; an ``Interrupt`` reaches all. A full branch makes
    the emitter wait, unless it is ``lossy``.

    Args:
        main: The branch whose output goes on: a stage or a `Pipeline`.
        sides: Other branches.
        keep: Frame types that leave the side branches, too. A frame that only passes through
            both arrives twice: keep what only the side makes.

    Raises:
        WiringError: No side branch, or ``keep`` holds something else than frame types.
    """

    def __init__(self, main: object, *sides: object, keep: tuple[type[Frame], ...] = ()) -> None:
        if not sides:
            raise WiringError("Fork has one branch; without a side branch, leave the Fork out")
        for frame_type in cast("tuple[object, ...]", keep):
            if not (isinstance(frame_type, type) and issubclass(frame_type, Frame)):
                raise WiringError(f"keep holds {frame_type!r}; it takes frame classes")
        self.branches = (main, *sides)
        self.keep = keep


class Node:
    """One stage in its place.

    Attributes:
        index: Its number; frames that go down only meet greater ones.
        name: Its class name, numbered from the second on.
        stage: The object.
        handlers: Its marked methods.
        run: Its own life, or ``None``.
        restarts_left: Failures that it may still have.
        mailbox: Present when a handler is async.
        down: The next stages, each with what may pass to it; after the last one, the tail.
        up: The stage before it, through the main branches.
    """

    def __init__(self, index: int, name: str, stage: object, restarts: int) -> None:
        self.index = index
        self.name = name
        self.stage = stage
        self.handlers: tuple[Handler, ...] = handlers_of(stage) if index >= 0 else ()
        run = getattr(stage, "run", None) if index >= 0 else None
        self.run = cast("Callable[[Emit[Frame]], Coroutine[Any, Any, None]] | None", run)
        self.restarts = 0
        self.restarts_left = restarts
        self.mailbox: Mailbox | None = None
        self.down: list[tuple[Node, Keep]] = []
        self.up: Node | None = None
        self.gates: tuple[Mailbox, ...] = ()
        self.dropped: defaultdict[str, int] = defaultdict(int)
        self.is_first = False
        self.ends_needed = 0
        self.ends_seen = 0
        self.told_end = False
        self.ended = False
        self.run_is_over = self.run is None
        # Filled by the engine as frames of new types come along.
        self.table: dict[type, Hop] = {}
        self.urgent: dict[type, list[tuple[Node, Callable[[Any], Any]]]] = {}
        # The frame an async handler works on, and how to stop it; sleepers are in `until`.
        self.working_turn = 0
        self.cancel_work: Callable[[], None] | None = None
        self.cancel_run: Callable[[], None] | None = None
        self.sleepers: list[Callable[[], object]] = []

    @property
    def is_async(self) -> bool:
        """Whether a handler may wait, so that the stage needs a mailbox."""
        return any(handler.is_async for handler in self.handlers)

    def wake(self) -> None:
        """Wake those of the stage's tasks that are in ``until``."""
        for wake in self.sleepers:
            wake()

    def pick(self, frame_type: type[Frame]) -> Handler | None:
        """The handler for a frame type, or ``None``: it passes untouched."""
        return pick_handler(self.handlers, frame_type)


@frozen
class Graph:
    """A flattened pipeline.

    Attributes:
        nodes: Every stage, in order.
        head: A place above the first stage: what is emitted there enters at the head.
        tail: A place below the last stage: what is emitted there goes up from the tail.
        line: Its turns.
    """

    nodes: tuple[Node, ...]
    head: Node
    tail: Node
    line: TurnLine = field(factory=TurnLine)


@frozen
class _Exit:
    """Where a branch lets frames out: from whom, what may pass, and whether others may go up."""

    node: Node
    keep: Keep
    is_main: bool


class _Flattener:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.line = TurnLine()
        self._seen: dict[int, str] = {}
        self._named: Counter[str] = Counter()

    def row(
        self, stages: Sequence[object], entries: list[_Exit], *, lossy_entry: bool
    ) -> list[_Exit]:
        if not stages:
            raise WiringError("a pipeline without stages; give it at least one")
        for item in stages:
            entries = self._item(item, entries, lossy_entry=lossy_entry)
            # Only the first mailbox of a lossy branch drops: inside it, stages wait as usual.
            lossy_entry = lossy_entry and not any(e.node.mailbox for e in entries)
        return entries

    def _item(self, item: object, entries: list[_Exit], *, lossy_entry: bool) -> list[_Exit]:
        if isinstance(item, Group):
            return self.row(item.stages, entries, lossy_entry=lossy_entry)
        if isinstance(item, Fork):
            return self._fork(item, entries, lossy_entry=lossy_entry)
        return [self._stage(item, entries, lossy_entry=lossy_entry)]

    def _fork(self, fork: Fork, entries: list[_Exit], *, lossy_entry: bool) -> list[_Exit]:
        exits: list[_Exit] = []
        for number, branch in enumerate(fork.branches):
            drops = lossy_entry or isinstance(branch, Lossy)
            inner = branch.branch if isinstance(branch, Lossy) else branch
            leaving = self._item(inner, entries, lossy_entry=drops)
            if number == 0:
                exits += leaving
            elif fork.keep:
                exits += [_Exit(e.node, _both(e.keep, fork.keep), is_main=False) for e in leaving]
        return exits

    def _stage(self, item: object, entries: list[_Exit], *, lossy_entry: bool) -> _Exit:
        stage, restarts = unwrapped(item)
        if isinstance(stage, Lossy):
            raise WiringError("lossy(…) stands in a row; it drops for a branch of a Fork only")
        if isinstance(stage, Group | Fork):
            raise WiringError(
                f"supervised({type(stage).__name__}(…)): it takes one stage; supervise the "
                "stages inside"
            )
        name = self._name(stage)
        node = Node(len(self.nodes), name, stage, restarts)
        if not node.handlers and node.run is None:
            raise WiringError(
                f"{name} handles no frame and has no run; mark a method with @on(AudioIn), "
                "or leave it out"
            )
        if node.is_async:
            capacity = int(getattr(stage, "mailbox_capacity", MAILBOX_CAPACITY))
            if capacity < 1:
                raise WiringError(f"{name}.mailbox_capacity is {capacity}; it must be 1 or more")
            node.mailbox = Mailbox(self.line, capacity, lossy=lossy_entry)
        self.nodes.append(node)
        for entry in entries:
            entry.node.down.append((node, entry.keep))
            if entry.is_main:
                node.up = entry.node
            if entry.node.index < 0:
                node.is_first = True
        node.ends_needed = len(entries)
        return _Exit(node, None, is_main=True)

    def _name(self, stage: object) -> str:
        if isinstance(stage, type):
            raise WiringError(
                f"{stage.__name__} is a class, not a stage; write {stage.__name__}(…), or give "
                "the pipeline a policy that makes it"
            )
        base = type(stage).__name__
        self._named[base] += 1
        name = base if self._named[base] == 1 else f"{base}{self._named[base]}"
        other = self._seen.get(id(stage))
        if other is not None:
            raise WiringError(
                f"the same {base} object stands in the graph twice, as {other} and as {name}; "
                "make a second one"
            )
        self._seen[id(stage)] = name
        return name


def unwrapped(item: object) -> tuple[object, int]:
    """A stage and how often it may fail."""
    return (item.stage, item.restarts) if isinstance(item, Supervised) else (item, 0)


def _both(first: Keep, second: Keep) -> Keep:
    if first is None or second is None:
        return first or second
    return tuple(t for t in second if issubclass(t, first)) + tuple(
        t for t in first if issubclass(t, second) and t not in second
    )


def flatten(stages: Sequence[object]) -> Graph:
    """Turn a list of stages into nodes.

    Args:
        stages: Stages, nested groups, and forks.

    Raises:
        WiringError: An empty group, a stage that does nothing or stands there twice.
    """
    flattener = _Flattener()
    head = Node(-1, "the head", None, 0)
    exits = flattener.row(stages, [_Exit(head, None, is_main=True)], lossy_entry=False)
    tail = Node(-2, "the tail", None, 0)
    tail.up = next(e.node for e in exits if e.is_main)
    for leaving in exits:
        leaving.node.down.append((tail, leaving.keep))
    for node in (head, *flattener.nodes):
        node.gates = tuple(dict.fromkeys(_first_mailboxes(node)))
    return Graph(tuple(flattener.nodes), head, tail, flattener.line)


def _first_mailboxes(node: Node) -> Iterator[Mailbox]:
    for target, _ in node.down:
        if target.mailbox is None:
            yield from _first_mailboxes(target)
        elif not target.mailbox.lossy:
            yield target.mailbox


# --- checks -----------------------------------------------------------------------------------


def check(graph: Graph, accepts: Iterable[type[Frame]] = ()) -> None:
    """Refuse a graph that cannot run.

    What a stage makes is read from the return annotations of its handlers and from ``Emit[…]``
    of its ``run``; where an annotation is missing or too wide, nothing is assumed.

    Args:
        graph: The graph.
        accepts: Frame types that the application emits from outside.

    Raises:
        WiringError: Names both stages and the way out.
    """
    makes = {node: _makes(node) for node in graph.nodes}
    for node in graph.nodes:
        _check_colours(node)
        _check_producers(node, graph, makes, tuple(accepts))
    _check_sinks(graph, makes)
    _check_rates(graph, makes)
    _check_transcripts(graph)
    _check_positions(graph, makes)


def _check_colours(node: Node) -> None:
    for handler in node.handlers:
        if not handler.is_async:
            continue
        name = f"{node.name}.{handler.name}"
        frame = handler.frame_type.__name__
        if is_urgent(handler.frame_type):
            raise WiringError(
                f"{name} is async and handles {frame}, which is urgent and must not wait: write "
                "a plain def, and do what waits in run()"
            )
        if handler.frame_type in _BASES:
            raise WiringError(
                f"{name} is async and handles {frame}, a base of other frames: write a plain "
                "def, or name each frame"
            )


def _above(node: Node, graph: Graph) -> list[Node]:
    reached = {node}
    for other in reversed(graph.nodes[: node.index]):
        if any(target in reached for target, _ in other.down):
            reached.add(other)
    return [other for other in graph.nodes if other in reached and other is not node]


def _check_producers(
    node: Node,
    graph: Graph,
    makes: Mapping[Node, frozenset[type[Frame]] | None],
    accepts: tuple[type[Frame], ...],
) -> None:
    # A stage handles many frames and needs not all of them; one that nothing from above can ever
    # reach is in the wrong place. Without a source at the head, frames come from outside.
    above = _above(node, graph)
    needs = [
        handler.frame_type
        for handler in node.handlers
        if not issubclass(handler.frame_type, UrgentUp) and handler.frame_type not in (*_BASES, End)
    ]
    if not above or not needs or any(makes[other] is None for other in above):
        return
    if not any(other.is_first and other.run is not None for other in above):
        return
    made = {frame for other in above for frame in makes[other] or ()} | set(accepts)
    if any(issubclass(frame, need) or issubclass(need, frame) for need in needs for frame in made):
        return
    names = ", ".join(need.__name__ for need in needs)
    raise WiringError(
        f"{node.name} handles {names}, but no stage before it makes one (the nearest is "
        f"{above[-1].name}): put the stage that does before {node.name}, or, if your program "
        f"emits it, say Pipeline(…, accepts=({needs[0].__name__},))"
    )


def _check_sinks(graph: Graph, makes: Mapping[Node, frozenset[type[Frame]] | None]) -> None:
    sinks = [node for node in graph.nodes if Played in (makes[node] or ()) and _takes_audio(node)]
    for first in sinks:
        for second in sinks:
            if first is not second and first in _above(second, graph):
                raise WiringError(
                    f"{first.name} and {second.name} both play audio and report Played; only one "
                    "can own what was heard: keep one, or put the other into a Fork"
                )
    if len(sinks) > 1:
        names = " and ".join(node.name for node in sinks)
        raise WiringError(
            f"{names} all report Played; only one sink can own what was heard: let the other "
            "record without reporting"
        )


def _takes_audio(node: Node) -> bool:
    # A stage that handles Played itself only translates it on its way up.
    types = [handler.frame_type for handler in node.handlers]
    return Played not in types and any(not issubclass(t, UrgentUp) for t in types)


def _check_rates(graph: Graph, makes: Mapping[Node, frozenset[type[Frame]] | None]) -> None:
    for node in graph.nodes:
        for frame_type, wanted in _rates(node, "rates_hz").items():
            for source, rate_hz in _rates_arriving(node, frame_type, graph, makes):
                if rate_hz not in wanted:
                    allowed = " or ".join(f"{rate}" for rate in wanted)
                    raise WiringError(
                        f"{source.name} makes {frame_type.__name__} at {rate_hz} Hz and "
                        f"{node.name} takes {allowed} Hz: put Resample({wanted[0]}) between them"
                    )


def _check_transcripts(graph: Graph) -> None:
    # Whether the user's words come as text is a setting, so a frame's type does not tell.
    makers = [node for node in graph.nodes if hasattr(node.stage, "makes_transcripts")]
    for node in graph.nodes:
        needs = getattr(node.stage, "needs_transcripts", False)
        if needs and makers and not any(_makes_transcripts(maker) for maker in makers):
            raise WiringError(
                f"{node.name} needs the user's words as text, and {makers[0].name} is not asked "
                "for them: say SessionSettings(transcription=Transcription())"
            )


def _check_positions(graph: Graph, makes: Mapping[Node, frozenset[type[Frame]] | None]) -> None:
    # Whoever counts what the sink was handed must count the same samples as the sink.
    for sink in graph.nodes:
        if Played not in (makes[sink] or ()) or not _takes_audio(sink):
            continue
        above = list(_row_above(sink))
        counts = [getattr(node.stage, "counts_for_sink", False) for node in above]
        at = counts.index(True) if True in counts else 0
        for other in above[:at]:
            changes_rate = AudioOut in _rates(other, "made_rates_hz")
            if changes_rate or other.is_async:
                why = "changes the rate" if changes_rate else "keeps frames in a mailbox"
                raise WiringError(
                    f"{other.name} {why} between {above[at].name} and {sink.name}, which must "
                    f"count the same samples of AudioOut: put {other.name} before {above[at].name}"
                )


def _row_above(node: Node) -> Iterator[Node]:
    """The stages above one, nearest first, through the main branches."""
    while node.up is not None:
        node = node.up
        yield node


def _makes_transcripts(node: Node) -> bool:
    return bool(getattr(node.stage, "makes_transcripts", False))


def _rates(node: Node, attribute: str) -> dict[type[Frame], tuple[int, ...]]:
    declared = cast(
        "Mapping[type[Frame], int | tuple[int, ...]]", getattr(node.stage, attribute, {})
    )
    return {
        frame_type: (rates,) if isinstance(rates, int) else tuple(rates)
        for frame_type, rates in declared.items()
    }


def _rates_arriving(
    node: Node,
    frame_type: type[Frame],
    graph: Graph,
    makes: Mapping[Node, frozenset[type[Frame]] | None],
) -> Iterator[tuple[Node, int]]:
    for other in reversed(_above(node, graph)):
        declared = _rates(other, "made_rates_hz").get(frame_type)
        if declared is not None:
            yield other, declared[0]
            return
        made = makes[other]
        if other.run is not None and (made is None or frame_type in made):
            return  # made here, at a rate that nobody declared


_made: WeakKeyDictionary[type, frozenset[type[Frame]] | None] = WeakKeyDictionary()


def _makes(node: Node) -> frozenset[type[Frame]] | None:
    """The frames a stage says that it makes; ``None`` where it does not say."""
    cls = type(node.stage)
    if cls not in _made:
        _made[cls] = _read_makes(node)
    return _made[cls]


def _read_makes(node: Node) -> frozenset[type[Frame]] | None:
    made: set[type[Frame]] = set()
    hints: list[Any] = []
    try:
        for handler in node.handlers:
            hints.append(typing.get_type_hints(handler.call).get("return"))
        if node.run is not None:
            of_run = typing.get_type_hints(node.run)
            hints.append(next((hint for name, hint in of_run.items() if name != "return"), None))
    except (NameError, TypeError, AttributeError):
        return None  # a name that exists for type checkers only
    known = all(hint is not None and _collect_frames(hint, made) for hint in hints)
    return frozenset(made - {Interrupt}) if known else None


def _collect_frames(hint: Any, made: set[type[Frame]]) -> bool:
    if hint is type(None):
        return True
    if isinstance(hint, type) and issubclass(hint, Frame):
        if hint in _BASES:
            return False
        made.add(hint)
        return True
    inner = [argument for argument in typing.get_args(hint) if argument is not Ellipsis]
    return bool(inner) and all(_collect_frames(argument, made) for argument in inner)
