"""Who gets which frame, and when: the engine without tasks, clocks or sockets.

Theory of operation. ``emit`` delivers a frame and everything that plain stages make of it, then
returns. Two queues hold what is still to be delivered: urgent frames, oldest first, and ordered
frames, furthest downstream first and oldest first among equals. A handler runs to completion
before any of its output is delivered, so that no stage is entered twice and nothing overtakes.

An ordered frame hops along tables: each stage has a dictionary from frame type to the next stage
that wants it, skipping those that do not. A mailbox is a hop that returns nothing. So long as each
handler returns just one ordered frame, which is then the furthest downstream by itself, the
queues are not touched: that is the fast path, and it costs about a call for each hop.

An `Interrupt` moves the line of turns first (``TurnLine.cut``) and is then told to every stage,
last to first. Nothing here awaits, so nothing can come between: the cut is atomic.
"""

from __future__ import annotations

import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, cast

from attrs import evolve

from framepipe.errors import EmitError, MailboxFull, ProcessorError, only_error
from framepipe.frames import (
    AudioIn,
    End,
    Frame,
    Interrupt,
    Interruptible,
    Ordered,
    UrgentDown,
    UrgentUp,
)
from framepipe.graph import Graph, Hop, Node
from framepipe.mailbox import Mailbox

STEP_LIMIT = 10_000
"""Deliveries in one ``emit`` (DESIGN, section 4): two stages that answer each other would
otherwise go on for ever. Real graphs make tens."""

Observer: TypeAlias = Callable[[str, str, Frame], object]
"""``callback(what, stage, frame)``; ``what`` is "emitted", "handled", "dropped", "cut" or
"decided" (a handler put something else in the place of its frame)."""

_TOO_MANY_FRAMES = f"it made more than {STEP_LIMIT:,} frames; does its generator end?"

_NOWHERE: dict[type, Hop] = {}
_INTO_MAILBOX: dict[type, Hop] = {}

_log = logging.getLogger("framepipe")


class Engine:
    """Delivers frames between the nodes of one graph.

    The shell sets ``on_failure`` and ``on_all_ended`` and calls ``run_is_over`` when a stage's
    ``run`` has returned.

    Attributes:
        failure: The error that ends the run, once there is one.
        is_over: The run has ended; nothing is delivered any more.
        is_observed: Whether anybody looks.
        left: Frames that left the graph, kept only while ``keeps_left`` is true.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.line = graph.line
        self.failure: ProcessorError | None = None
        self.is_over = False
        self.on_failure: Callable[[], None] | None = None
        self.on_all_ended: Callable[[], None] | None = None
        self.keeps_left = False
        self.left: list[Frame] = []
        self._busy = False
        self._urgent: deque[tuple[Frame, Node]] = deque()
        self._ordered: list[tuple[int, int, Hop, Frame]] = []
        self._order = 0
        self._n_ended = 0
        self._told: Interrupt | None = None
        self._observers: list[Observer] = []
        self.is_observed = False
        self._mailboxes = tuple(n.mailbox for n in graph.nodes if n.mailbox is not None)
        self._tellers = self._find_tellers()

    # --- in ---------------------------------------------------------------------------------

    def emit(self, node: Node, frame: Frame, *, passing: bool = False) -> None:
        """Deliver a frame that ``node`` emits, and all that plain stages make of it.

        Args:
            node: Whose frame it is.
            frame: The frame.
            passing: The stage did not make it; it only went through its mailbox.

        Raises:
            MailboxFull: No room downstream; nothing happened.
            EmitError: Inside a plain handler, after ``End``, or of a turn never opened.
        """
        if self._busy:
            if self.is_over:
                raise EmitError(f"{node.name} emitted {type(frame).__name__} after the run")
            raise EmitError(
                f"{node.name} emitted {type(frame).__name__} inside a plain handler; return or "
                "yield it instead"
            )
        if self.failure is not None:
            return  # the run is ending, and the emitter is not to blame for that
        hop = node.table.get(frame.__class__) or self._resolve(node, frame)
        if hop is None:
            self._check_interrupt(frame)
        else:
            if node.ended:
                raise EmitError(f"{node.name} emitted {type(frame).__name__} after its End")
            if hop[3] and not self.line.cut < cast("Interruptible", frame).turn <= self.line.opened:
                self._refuse(node, frame)
                return
            for mailbox in node.gates:
                is_full = mailbox.depth >= mailbox.capacity and frame.__class__ is not End
                if is_full and not self._shed(node, frame, mailbox):
                    return
        if self.is_observed and not passing:
            self._observe("emitted", node, frame)
        if hop is None:
            self._urgent.append((frame, node))
        elif hop[2] is _INTO_MAILBOX:
            hop[0](frame)  # the commonest of all: nothing can come of it now
            return
        elif frame.__class__ is End:
            self._end(node)
        self._deliver(hop, frame)

    def relay(self, node: Node, frame: Frame) -> bool:
        """The short way of `emit` from one mailbox into the next; ``False`` where it is not."""
        hop = node.table.get(frame.__class__)
        if hop is None or hop[2] is not _INTO_MAILBOX or hop[3] or node.ended or self.is_observed:
            return False
        mailbox = hop[1].mailbox
        if mailbox is None or mailbox.depth >= mailbox.capacity:
            return False
        hop[0](frame)
        return True

    def interrupt(self, frame: Interrupt) -> Interrupt:
        """Emit an ``Interrupt`` at the tail.

        Returns:
            The frame with all that stages added to it.
        """
        self._told = None
        self.emit(self.graph.tail, frame)
        return self._told or frame

    def entry(self, frame: Frame) -> Node:
        """Where a frame from outside enters: at the tail if it goes up, else at the head."""
        return self.graph.tail if isinstance(frame, UrgentUp) else self.graph.head

    def stop(self) -> None:
        """Send ``End`` at the head, unless that has happened.

        A first stage that said ``End`` itself and still runs is cancelled.
        """
        head = self.graph.head
        if self.failure is not None:
            return
        if head.ended:
            for first, _ in head.down:
                if first.cancel_run is not None:
                    first.cancel_run()
            return
        self._push(head, End())
        if not self._busy:
            self._deliver(None, None)

    def room_needed(self, node: Node) -> bool:
        """Whether a mailbox that a frame from ``node`` can reach first is full."""
        for mailbox in node.gates:
            if mailbox.depth >= mailbox.capacity:
                return True
        return False

    def close(self) -> None:
        """The run is over: refuse frames, and send away those who wait for room."""
        self.is_over = True
        self._busy = True  # for ever
        for mailbox in self._mailboxes:
            mailbox.wake_emitters()

    def call(self, node: Node, function: Callable[[Any], Any], frame: Frame) -> list[Frame]:
        """Run a plain handler for the stage's own task.

        Returns:
            What it made; what it had made before a failure that `supervised` forgives.
        """
        made: list[Frame] = []
        self._busy = True
        try:
            for output in self._outputs(self._watched(node, function)(frame)):
                if len(made) >= STEP_LIMIT:
                    raise RecursionError(_TOO_MANY_FRAMES)
                made.append(output)
        except Exception as error:
            self.fail(node, frame, error)
        finally:
            self._busy = False
        return made

    def handled(self, node: Node, frame: Frame) -> None:
        """Tell observers that a stage's task begins to work on a frame."""
        if self.is_observed:
            self._observe("handled", node, frame)

    def decided(self, node: Node, frame: Frame) -> None:
        """Tell observers that a stage's task put something else in the place of a frame."""
        self._observe("decided", node, frame)

    def end_reached(self, node: Node) -> None:
        """The stage's task has dealt with everything before ``End``, and with it."""
        if self._told_end(node):
            self.emit(node, End())

    def run_is_over(self, node: Node) -> None:
        """The stage's ``run`` returned: pass ``End`` on if it is due."""
        node.run_is_over = True
        if self.failure is not None:
            return
        if node.is_first and node.mailbox is not None and not node.ends_seen:
            node.ends_seen = node.ends_needed
            node.mailbox.put_end(End())  # behind what its handlers have not seen yet
        elif not node.ended and (node.told_end or (node.is_first and node.mailbox is None)):
            self.emit(node, End())

    def fail(self, node: Node, frame: Frame | None, error: Exception) -> bool:
        """A stage raised.

        Returns:
            Whether it may go on (`supervised`).
        """
        error = only_error(error)
        node.dropped["failed"] += frame is not None
        if node.restarts_left > 0:
            node.restarts_left -= 1
            node.restarts += 1
            _log.warning(
                "%s raised %s: %s; it goes on, %d restarts left",
                node.name,
                type(error).__name__,
                error,
                node.restarts_left,
            )
            return True
        if self.failure is None:
            why = f"{type(error).__name__}: {error}"
            self.failure = ProcessorError(node.name, frame, why)
            self.failure.__cause__ = error
            if self.on_failure is not None:
                self.on_failure()
        return False

    # --- turns ------------------------------------------------------------------------------

    def new_turn(self) -> int:
        """Open a turn."""
        self.line.opened += 1
        return self.line.opened

    def is_cut(self, turn: int) -> bool:
        """Whether ``turn`` is over."""
        return turn <= self.line.cut

    def is_stale(self, frame: Frame | None) -> bool:
        """Whether a frame belongs to a turn that is over."""
        return isinstance(frame, Interruptible) and frame.turn <= self.line.cut

    # --- observers --------------------------------------------------------------------------

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Attach an observer; returns what detaches it."""
        self._observers.append(observer)
        self._forget_tables()

        return lambda: self.stop_observing(observer)

    def stop_observing(self, observer: Observer) -> None:
        """Detach an observer; nothing happens when it is not attached."""
        if observer in self._observers:
            self._observers.remove(observer)
            self._forget_tables()

    def _observe(self, what: str, node: Node, frame: Frame) -> None:
        busy, self._busy = self._busy, True  # an observer may not emit
        try:
            for observer in tuple(self._observers):
                try:
                    observer(what, node.name, frame)
                except Exception:
                    _log.warning("an observer raised and was removed", exc_info=True)
                    self.stop_observing(observer)
        finally:
            self._busy = busy

    def _forget_tables(self) -> None:
        # Hops carry the observed or the bare handler, so that nobody asks in the hop itself.
        self.is_observed = bool(self._observers)
        for node in (*self.graph.nodes, self.graph.head, self.graph.tail):
            node.table.clear()
            node.urgent.clear()
            if node.mailbox is not None:
                node.mailbox.on_drop = self._drop_teller(node) if self.is_observed else None

    def _drop_teller(self, node: Node) -> Callable[[Frame], None]:
        return lambda frame: self._observe("dropped", node, frame)

    def _watched(self, node: Node, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if not self.is_observed:
            return function

        def watched(frame: Frame) -> Iterator[Frame]:
            self._observe("handled", node, frame)
            same = False
            for output in self._outputs(function(frame)):
                same = same or output is frame
                if output is not frame:
                    self._observe("emitted", node, output)
                yield output
            if not same:
                self._observe("decided", node, frame)

        return watched

    # --- delivery ---------------------------------------------------------------------------

    def _deliver(self, hop: Hop | None, frame: Frame | None) -> None:
        self._busy = True
        try:
            if hop is not None and frame is not None:
                self._walk(hop, frame)
            steps = 0
            while (self._urgent or self._ordered) and self.failure is None:
                steps += 1
                if steps > STEP_LIMIT:
                    self._too_many_steps()
                elif self._urgent:
                    self._deliver_urgent(*self._urgent.popleft())
                else:
                    _, _, next_hop, next_frame = heapq.heappop(self._ordered)
                    self._walk(next_hop, next_frame)
        finally:
            self._busy = False
            if self.failure is not None:
                self._urgent.clear()
                self._ordered.clear()

    def _walk(self, hop: Hop | None, frame: Any) -> None:
        """Deliver one ordered frame, and go on while each handler returns just one."""
        line = self.line
        handler, node, table, of_a_turn = cast("Hop", hop)
        if of_a_turn and frame.turn <= line.cut:
            self.drop(node, frame, "stale")
            return
        try:
            while True:
                output = handler(frame)
                hop = table.get(output.__class__)
                if hop is None:
                    break
                if hop[3] and not line.cut < output.turn <= line.opened:
                    self._refuse(node, output)
                    return
                frame = output
                handler, node, table, _ = hop
            if output is not None:
                for made in self._outputs(output):
                    self._push(node, made)
        except Exception as error:
            self.fail(node, frame, error)

    def _deliver_urgent(self, frame: Frame, node: Node) -> None:
        if isinstance(frame, Interrupt):
            self._cut(frame, node)
            return
        cls = frame.__class__
        try:
            calls = node.urgent[cls]
        except KeyError:
            calls = node.urgent[cls] = list(self._urgent_calls(node, cls))
        for target, function in calls:
            try:
                output = function(frame)
                if output is not None:
                    for made in self._outputs(output):
                        self._push(target, made)
            except Exception as error:
                self.fail(target, frame, error)
            target.wake()

    def _push(self, node: Node, frame: Frame) -> None:
        if len(self._ordered) + len(self._urgent) > STEP_LIMIT:
            raise RecursionError(_TOO_MANY_FRAMES)
        hop = node.table.get(frame.__class__) or self._resolve(node, frame)
        if hop is None:
            self._check_interrupt(frame)
            self._urgent.append((frame, node))
            return
        if node.ended:
            # An urgent fact may arrive after the end; what its handler says then is told to
            # nobody, since the stages below have finished.
            if frame.__class__ is not End:
                self.drop(node, frame, "after end")
            return
        if frame.__class__ is End:
            self._end(node)
        if hop[3] and not self.line.cut < cast("Interruptible", frame).turn <= self.line.opened:
            self._refuse(node, frame)
            return
        self._order += 1
        heapq.heappush(self._ordered, (-node.index, self._order, hop, frame))

    def _outputs(self, output: Any) -> Iterable[Frame]:
        if output is None:
            return ()
        if isinstance(output, Frame):
            return (output,)
        if not isinstance(output, Iterable):
            hint = ""
            if hasattr(output, "__await__") or hasattr(output, "__aiter__"):
                hint = "; its function is hidden by a decorator: declare that async, too"
                getattr(output, "close", lambda: None)()
            raise TypeError(f"a handler returned {output!r}, which is no frame{hint}")
        return cast("Iterable[Frame]", output)

    def _too_many_steps(self) -> None:
        frame, node = (
            self._urgent[0] if self._urgent else (self._ordered[0][3], self._ordered[0][2][1])
        )
        error = RecursionError(
            f"more than {STEP_LIMIT:,} deliveries in one emit; two stages answer each other "
            f"with {type(frame).__name__}"
        )
        node.restarts_left = 0  # going on would only begin it again
        self.fail(node, frame, error)

    # --- admission --------------------------------------------------------------------------

    def _shed(self, node: Node, frame: Frame, full: Mailbox) -> bool:
        """Make room for microphone audio; ``False`` if the frame itself had to be dropped."""
        if not isinstance(frame, AudioIn):
            raise MailboxFull(
                f"{node.name} emitted {type(frame).__name__} while {full.depth} of "
                f"{full.capacity} frames wait downstream; await emit.room() first"
            )
        while full.depth >= full.capacity:  # more than one, where plain stages make several
            if not full.shed_audio():
                self.drop(node, frame, "shed")
                self._warn_of_shedding(node, node.dropped["shed"])
                return False
            self._warn_of_shedding(node, full.dropped["shed"])
        return True

    def _warn_of_shedding(self, node: Node, n_shed: int) -> None:
        if n_shed & (n_shed - 1) == 0:  # 1, 2, 4, 8, …: a stall must not flood the log as well
            _log.warning("%s: microphone audio shed, %d frames so far", node.name, n_shed)

    def _check_interrupt(self, frame: Frame) -> None:
        if isinstance(frame, Interrupt) and (frame.turn or 0) > self.line.opened:
            raise EmitError(self._never_opened(frame, frame.turn or 0))

    def _never_opened(self, frame: Frame, turn: int) -> str:
        return (
            f"{type(frame).__name__} of turn {turn}, which was never opened (the newest is "
            f"{self.line.opened}); turns come from emit.new_turn()"
        )

    def _refuse(self, node: Node, frame: Any) -> None:
        if not 1 <= frame.turn <= self.line.cut:
            raise EmitError(self._never_opened(frame, frame.turn))
        self.drop(node, frame, "stale")

    def drop(self, node: Node, frame: Frame, reason: str) -> None:
        """Count a frame that goes no further."""
        node.dropped[reason] += 1
        if self.is_observed:
            self._observe("dropped", node, frame)

    # --- the cut ----------------------------------------------------------------------------

    def _cut(self, frame: Interrupt, origin: Node) -> None:
        turn = self.line.opened if frame.turn is None else frame.turn
        if frame.turn != turn:
            frame = evolve(frame, turn=turn)
        if turn > self.line.cut:
            self.line.cut = turn
            for mailbox in self._mailboxes:
                mailbox.cut()
            for node in self.graph.nodes:
                if 0 < node.working_turn <= turn and node.cancel_work is not None:
                    node.cancel_work()
        if self.is_observed:
            self._observe("cut", origin, frame)
        for node, tell in self._tellers:
            try:
                for output in self._outputs(self._watched(node, tell)(frame)):
                    if isinstance(output, Interrupt):
                        frame = output if output.turn == turn else evolve(output, turn=turn)
                    else:
                        self._push(node, output)
            except Exception as error:
                self.fail(node, frame, error)
            node.wake()
        if self._told is None:
            self._told = frame  # a stage may answer it with another one

    def _find_tellers(self) -> list[tuple[Node, Callable[[Any], Any]]]:
        found = [(node, node.pick(Interrupt)) for node in reversed(self.graph.nodes)]
        return [(node, handler.call) for node, handler in found if handler is not None]

    # --- the end ----------------------------------------------------------------------------

    def _end(self, node: Node) -> None:
        node.ended = True
        if node.index < 0:
            return
        if node.is_first and all(first.ended for first, _ in self.graph.head.down):
            self.graph.head.ended = True
        if not node.told_end:
            self._forget_tables()  # it ended by itself: nothing may pass it by from now on
        self._n_ended += 1
        if self._n_ended == len(self.graph.nodes) and self.on_all_ended is not None:
            self.on_all_ended()

    def _end_arrives(self, node: Node, frame: End) -> list[Frame]:
        node.ends_seen += 1
        if node.ends_seen != node.ends_needed:
            return []
        if node.mailbox is not None:
            node.mailbox.put_end(frame)
            return []
        handler = node.pick(End)
        made: list[Frame] = []
        if handler is not None:
            call = self._watched(node, handler.call)
            made = [out for out in self._outputs(call(frame)) if out.__class__ is not End]
        return [*made, frame] if self._told_end(node) else made

    def _told_end(self, node: Node) -> bool:
        """A stage has dealt with ``End``: may it go on now? If not, see that it will."""
        node.told_end = True
        if node.run_is_over:
            return not node.ended
        if node.pick(End) is not None:
            node.wake()
        elif node.cancel_run is not None:
            node.cancel_run()
        return False

    # --- routing ----------------------------------------------------------------------------

    def _resolve(self, node: Node, frame: Frame) -> Hop | None:
        """The hop of a frame type seen for the first time at this node; ``None`` is urgent."""
        cls = frame.__class__
        if isinstance(frame, UrgentDown | UrgentUp):
            return None
        if not isinstance(cast("object", frame), Ordered):
            raise TypeError(
                f"{node.name} made {frame!r}, which is no frame that travels; derive it from "
                "Ordered, Interruptible, UrgentDown or UrgentUp"
            )
        of_a_turn = issubclass(cls, Interruptible)
        hops = [self._hop_into(t, cls, of_a_turn) for t in self._targets(node, cls)]
        if len(hops) == 1:
            hop = hops[0]
        elif hops:
            hop = (self._fan_out(node, hops), node, _NOWHERE, of_a_turn)
        else:
            hop = (_end_here, node, _NOWHERE, of_a_turn)
        node.table[cls] = hop
        return hop

    def _targets(self, node: Node, cls: type[Frame]) -> Iterator[Node]:
        for target, keep in node.down:
            if target.index < 0:
                if self.keeps_left and cls is not End and (keep is None or issubclass(cls, keep)):
                    yield target
            elif cls is End:
                yield target
            elif keep is not None and not issubclass(cls, keep):
                continue
            elif target.mailbox is not None or target.pick(cls) is not None:
                yield target
            elif not target.ended:
                yield from self._targets(target, cls)

    def _urgent_calls(
        self, node: Node, cls: type[Frame]
    ) -> Iterator[tuple[Node, Callable[[Any], Any]]]:
        """The next stages that handle an urgent frame. The others do not make it any younger."""
        if issubclass(cls, UrgentDown):
            targets = [t for t, keep in node.down if keep is None or issubclass(cls, keep)]
        else:
            targets = [] if node.up is None else [node.up]
        for target in targets:
            handler = target.pick(cls)
            if target.index < 0:
                yield target, self._leave
            elif handler is None:
                yield from self._urgent_calls(target, cls)
            else:
                yield target, self._watched(target, handler.call)

    def _hop_into(self, target: Node, cls: type[Frame], of_a_turn: bool) -> Hop:
        if cls is End:
            return (lambda frame: self._end_arrives(target, frame), target, _NOWHERE, False)
        if target.mailbox is not None:
            put = target.mailbox.put_interruptible if of_a_turn else target.mailbox.put
            return (cast("Callable[[Any], Any]", put), target, _INTO_MAILBOX, of_a_turn)
        handler = target.pick(cls)
        if target.index < 0:
            return (self._leave, target, _NOWHERE, of_a_turn)
        assert handler is not None, "only stages that want the frame are targets"
        return (self._watched(target, handler.call), target, target.table, of_a_turn)

    def _fan_out(self, node: Node, hops: list[Hop]) -> Callable[[Frame], None]:
        def fan_out(frame: Frame) -> None:
            # The frame was the oldest of its stage, and so are its copies: they go before
            # younger frames, some of which may wait for one branch only.
            for order, hop in enumerate(hops, -len(hops)):
                heapq.heappush(self._ordered, (-node.index, order, hop, frame))

        return fan_out

    def _leave(self, frame: Frame) -> None:
        if self.keeps_left:
            self.left.append(frame)


def _end_here(_: Frame) -> None:
    """Where a frame goes that nobody wants."""
