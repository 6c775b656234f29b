"""The small ways in which `scripts/mutants.py` breaks the code.

One entry for each: what is replaced by what, in which file, and which tests should notice. They
are grouped by what they break, roughly in the order of the promises.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen


@frozen
class Mutant:
    """One way to break the code.

    Attributes:
        name: Short, unique.
        breaks: What is wrong then, in words.
        file: Where, from the root of the project.
        old: The text, which stands there exactly once.
        new: What takes its place.
        tests: Files of tests, the likeliest first.
    """

    name: str
    breaks: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_ENGINE: Final = "framepipe/engine.py"
_SECOND_STAGE: Final = "framepipe/detectors/second_stage.py"
_ECHO_LEVEL: Final = "framepipe/detectors/echo_level.py"
_LEVEL_GATE: Final = "framepipe/detectors/level_gate.py"
_MAILBOX: Final = "framepipe/mailbox.py"
_RUNNER: Final = "framepipe/runner.py"
_CLOCK: Final = "framepipe/clock.py"
_GRAPH: Final = "framepipe/graph.py"
_PLAYOUT: Final = "framepipe/conversation/playout.py"
_SINKLINE: Final = "framepipe/conversation/sinkline.py"
_SPEAKER: Final = "framepipe/conversation/speaker.py"
_BARGEIN: Final = "framepipe/conversation/bargein.py"
_BARGEIN_TABLE: Final = "framepipe/conversation/bargein_table.py"
_CREDIT: Final = "framepipe/conversation/local_credit.py"
_USER_SPEECH: Final = "framepipe/conversation/user_speech.py"
_TURNS: Final = "framepipe/conversation/turns.py"
_ANSWERS: Final = "framepipe/realtime/answers.py"
_RING: Final = "framepipe/realtime/mic_ring.py"
_CLIENT: Final = "framepipe/realtime/client_protocol.py"
_ITEMS: Final = "framepipe/realtime/client_items.py"
_PARTS: Final = "framepipe/realtime/agent_parts.py"
_VOICE: Final = "framepipe/realtime/agent_voice.py"
_UPLINK: Final = "framepipe/realtime/uplink.py"
_HEARING: Final = "framepipe/realtime/server_hearing.py"
_RESPONSES: Final = "framepipe/realtime/server_responses.py"
_CONVERSATION: Final = "framepipe/realtime/server_conversation.py"
_TOOLS: Final = "framepipe/realtime/tools.py"
_TOOL_RUNNER: Final = "framepipe/realtime/tool_runner.py"
_RECONNECT: Final = "framepipe/realtime/reconnect.py"
_CLIENT_SOCKETS: Final = "framepipe/realtime/client_sockets.py"

_CUTS: Final = ("tests/engine/test_interrupt.py", "tests/engine/test_promises.py")
_ORDER: Final = ("tests/engine/test_delivery.py", "tests/engine/test_promises.py")
_RUNS: Final = ("tests/engine/test_running.py", "tests/engine/test_promises.py")
_THREADS: Final = ("tests/engine/test_threads.py",)
_CLOCKS: Final = ("tests/engine/test_running.py", "tests/engine/test_promises.py")
_FORKS: Final = ("tests/engine/test_graph.py", "tests/engine/test_delivery.py")
_LEDGER: Final = (
    "tests/conversation/test_playout.py",
    "tests/conversation/test_playout_machine.py",
)
_LINE: Final = ("tests/conversation/test_sinkline.py", *_LEDGER)
_LOUD: Final = ("tests/conversation/test_speaker.py", "tests/processors/test_wav_sink.py")
_BARGE: Final = (
    "tests/conversation/test_bargein.py",
    "tests/conversation/test_bargein_machine.py",
)
_WHOSE: Final = (
    "tests/conversation/test_turns.py",
    "tests/conversation/test_turns_machine.py",
    "tests/processors/test_turns.py",
)
_OWED: Final = (
    "tests/realtime/test_client_protocol.py",
    "tests/realtime/test_answers_machine.py",
)
_KEPT: Final = ("tests/realtime/test_mic_ring.py", "tests/processors/test_realtime_reconnect.py")
_WIRE: Final = (
    "tests/realtime/test_client_protocol.py",
    "tests/realtime/test_client_fuzz.py",
)
_SERVED: Final = ("tests/realtime/test_server_protocol.py",)
_EARS: Final = ("tests/detectors/test_second_stage.py", "tests/processors/test_local_vad.py")
_ECHOES: Final = ("tests/detectors/test_echo_level.py", "tests/detectors/test_level_gate.py")
_TOOLED: Final = ("tests/realtime/test_tools.py", "tests/processors/test_realtime_tools.py")
_SOCKETS: Final = (
    "tests/processors/test_realtime.py",
    "tests/processors/test_realtime_reconnect.py",
)

MUTANTS: Final[tuple[Mutant, ...]] = (
    # --- G1 order, G2 urgent first ------------------------------------------------------------
    Mutant(
        "lanes-swapped",
        "ordered frames go before urgent ones",
        _ENGINE,
        "                elif self._urgent:\n                    self._deliver_urgent(",
        "                elif not self._ordered:\n                    self._deliver_urgent(",
        _ORDER,
    ),
    Mutant(
        "agenda-youngest-first",
        "of two frames of one stage the younger goes first",
        _ENGINE,
        "heapq.heappush(self._ordered, (-node.index, self._order, hop, frame))",
        "heapq.heappush(self._ordered, (-node.index, -self._order, hop, frame))",
        _ORDER,
    ),
    Mutant(
        "agenda-first-in-first-out",
        "frames further downstream do not go first",
        _ENGINE,
        "heapq.heappush(self._ordered, (-node.index, self._order, hop, frame))",
        "heapq.heappush(self._ordered, (0, self._order, hop, frame))",
        _ORDER,
    ),
    Mutant(
        "fork-copies-last",
        "the copies for the branches of a fork go behind younger frames",
        _ENGINE,
        "for order, hop in enumerate(hops, -len(hops)):",
        "for order, hop in enumerate(hops, self._order + 1):",
        _ORDER,
    ),
    Mutant(
        "re-entrant-emit",
        "a plain handler may emit",
        _ENGINE,
        "        if self._busy:\n            if self.is_over:",
        "        if self._busy and self.is_over:\n            if self.is_over:",
        (*_ORDER, "tests/engine/test_handlers.py"),
    ),
    Mutant(
        "async-output-unsorted",
        "ordered output of an async handler goes before its urgent output",
        _RUNNER,
        "for frame in sorted(frames, key=_is_ordered) if len(frames) > 1 else frames:",
        "for frame in frames:",
        (*_ORDER, "tests/engine/test_handlers.py"),
    ),
    # --- G3 the cut is atomic, G4 no stale audio ----------------------------------------------
    Mutant(
        "stale-check-at-emit",
        "a frame of a cut turn enters",
        _ENGINE,
        '            if hop[3] and not self.line.cut < cast("Interruptible", frame).turn '
        "<= self.line.opened:\n                self._refuse(node, frame)\n                return\n"
        "            for mailbox",
        "            for mailbox",
        _CUTS,
    ),
    Mutant(
        "stale-check-in-the-agenda",
        "a frame that waits in the same call outlives the cut",
        _ENGINE,
        "        if of_a_turn and frame.turn <= line.cut:",
        "        if of_a_turn and frame.turn < 0:",
        _CUTS,
    ),
    Mutant(
        "stale-check-in-the-walk",
        "what a handler makes of a cut turn is delivered",
        _ENGINE,
        "                if hop[3] and not line.cut < output.turn <= line.opened:",
        "                if hop[3] and not output.turn <= line.opened:",
        _CUTS,
    ),
    Mutant(
        "stale-check-at-the-mailbox",
        "a mailbox hands out frames of cut turns",
        _MAILBOX,
        "                if frame.turn <= self._line.cut:\n"
        "                    self._tell_drop(frame)\n"
        "                    continue\n                self._forget_turn(frame.turn)\n"
        "            elif",
        "                self._live_by_turn.pop(frame.turn, None)\n            elif",
        _CUTS,
    ),
    Mutant(
        "turn-never-opened",
        "a frame of a turn that was never opened is dropped without a word",
        _ENGINE,
        "        if not 1 <= frame.turn <= self.line.cut:\n            raise",
        "        if frame.turn is None:\n            raise",
        _CUTS,
    ),
    Mutant(
        "handler-not-cancelled",
        "a handler that works on a cut frame goes on",
        _ENGINE,
        "                    node.cancel_work()",
        "                    pass",
        _CUTS,
    ),
    Mutant(
        "cut-walks-down",
        "the interrupt is told from the first stage to the last",
        _ENGINE,
        "for node in reversed(self.graph.nodes)]",
        "for node in self.graph.nodes]",
        _CUTS,
    ),
    Mutant(
        "cut-walk-stops",
        "a stage that raises stops the walk of the cut",
        _ENGINE,
        "                self.fail(node, frame, error)\n            node.wake()\n"
        "        if self._told",
        "                self.fail(node, frame, error)\n                return\n"
        "            node.wake()\n        if self._told",
        _CUTS,
    ),
    Mutant(
        "turn-of-a-cut-changed",
        "a stage can change the turn of an interrupt",
        _ENGINE,
        "frame = output if output.turn == turn else evolve(output, turn=turn)",
        "frame = output",
        _CUTS,
    ),
    Mutant(
        "cut-leaves-mailboxes",
        "cut frames still count against capacity",
        _ENGINE,
        "                mailbox.cut()",
        "                pass",
        _CUTS,
    ),
    Mutant(
        "cut-off-by-one-turn",
        "the mailbox forgets all cut turns but the newest",
        _MAILBOX,
        "gone = [turn for turn in self._live_by_turn if turn <= self._line.cut]",
        "gone = [turn for turn in self._live_by_turn if turn < self._line.cut]",
        _CUTS,
    ),
    Mutant(
        "cut-wakes-no-emitter",
        "who waits for room sleeps through a cut",
        _MAILBOX,
        "        self.wake_emitters()  # one may wait with a frame that nobody wants any more",
        "        pass",
        _CUTS,
    ),
    Mutant(
        "next-frame-cancelled",
        "after a cut the next, innocent frame is handled in the cancelled scope and lost",
        _RUNNER,
        "        while engine.failure is None and not self._cut_short:",
        "        while engine.failure is None:",
        _CUTS,
    ),
    Mutant(
        "cut-output-sent",
        "what a handler returns after its frame was cut is sent",
        _RUNNER,
        "                if self._cut_short or output is None:",
        "                if output is None:",
        _CUTS,
    ),
    Mutant(
        "waiting-counts-as-working",
        "a cut eats output that waits for room and belongs to no turn",
        _RUNNER,
        "                node.working_turn = 0\n                if engine.is_observed and output",
        "                if engine.is_observed and output",
        _CUTS,
    ),
    Mutant(
        "generator-left-open",
        "a cut async generator is not closed",
        _RUNNER,
        "                    await frames.aclose()",
        "                    pass",
        _CUTS,
    ),
    Mutant(
        "stale-frame-waits-for-room",
        "who waits for room with a cut frame goes on waiting",
        _RUNNER,
        "not engine.is_over and not engine.is_stale(frame):",
        "not engine.is_over:",
        _CUTS,
    ),
    # --- G5 bounded ----------------------------------------------------------------------------
    Mutant(
        "room-off-by-one",
        "a full mailbox takes one frame more",
        _ENGINE,
        "is_full = mailbox.depth >= mailbox.capacity and",
        "is_full = mailbox.depth > mailbox.capacity and",
        _RUNS,
    ),
    Mutant(
        "room-not-checked-on-the-short-way",
        "from one mailbox into the next, nobody asks for room",
        _ENGINE,
        "        if mailbox is None or mailbox.depth >= mailbox.capacity:\n"
        "            return False",
        "        if mailbox is None:\n            return False",
        _RUNS,
    ),
    Mutant(
        "sheds-the-newest",
        "microphone audio sheds its newest frame",
        _MAILBOX,
        "for index, frame in enumerate(self._frames):",
        "for index, frame in reversed(list(enumerate(self._frames))):",
        _RUNS,
    ),
    Mutant(
        "lossy-drops-the-newest",
        "a lossy branch drops its newest frame",
        _MAILBOX,
        "            frame = self._frames.popleft()",
        "            frame = self._frames.pop()",
        _FORKS,
    ),
    Mutant(
        "cut-frames-pile-up",
        "behind a handler that waits, frames of cut turns are kept for ever",
        _MAILBOX,
        "        if len(self._frames) > 2 * self.capacity + self.depth:",
        "        if self.capacity < 0:",
        _CUTS,
    ),
    Mutant(
        "lossy-branch-blocks",
        "a full lossy branch makes the emitter wait",
        _GRAPH,
        "        elif not target.mailbox.lossy:",
        "        else:",
        _FORKS,
    ),
    Mutant(
        "drain-without-checkpoint",
        "a stage with much to do starves the others",
        _RUNNER,
        "            if n_taken == BATCH_FRAMES:",
        "            if n_taken < 0:",
        _RUNS,
    ),
    # --- G6 end, G7 failure ----------------------------------------------------------------------
    Mutant(
        "end-swallowed",
        "a plain stage keeps the End for itself",
        _ENGINE,
        "return [*made, frame] if self._told_end(node) else made",
        "self._told_end(node)\n        return made",
        _RUNS,
    ),
    Mutant(
        "end-of-the-first-branch",
        "after a fork the End does not wait for all branches",
        _ENGINE,
        "        if node.ends_seen != node.ends_needed:",
        "        if node.ends_seen != 1:",
        _RUNS,
    ),
    Mutant(
        "frames-after-end",
        "a stage may emit after its End",
        _ENGINE,
        "            if node.ended:\n                raise EmitError(",
        "            if node.ended and frame is None:\n                raise EmitError(",
        _RUNS,
    ),
    Mutant(
        "early-end-forgotten",
        "an End that comes before a run has begun does not end it",
        _RUNNER,
        "            if node.told_end and node.pick(End) is None:",
        "            if node.told_end and node.index < 0:",
        _RUNS,
    ),
    Mutant(
        "one-restart-too-many",
        "a supervised stage may fail once more than it was allowed",
        _ENGINE,
        "        if node.restarts_left > 0:",
        "        if node.restarts_left >= 0:",
        _RUNS,
    ),
    Mutant(
        "observer-stays",
        "an observer that raises is not removed",
        _ENGINE,
        'was removed", exc_info=True)\n                    self.stop_observing(observer)',
        'was removed", exc_info=True)',
        ("tests/engine/test_observe.py",),
    ),
    # --- threads ----------------------------------------------------------------------------------
    Mutant(
        "thread-order",
        "a frame that found no room goes behind younger ones of its thread",
        _RUNNER,
        "self._frames.appendleft(frame)",
        "self._frames.append(frame)",
        _THREADS,
    ),
    Mutant(
        "thread-not-woken",
        "frames from threads that found no room are never tried again",
        _RUNNER,
        "                full.room_waiters.append(lambda: self._call_soon(self._drain))",
        "                del full",
        _THREADS,
    ),
    Mutant(
        "thread-sheds-the-newest",
        "audio from a thread sheds its newest frame",
        _RUNNER,
        "oldest = next((f for f in self._frames if",
        "oldest = next((f for f in reversed(self._frames) if",
        _THREADS,
    ),
    Mutant(
        "thread-unflushed",
        "the End overtakes what a thread has emitted",
        _RUNNER,
        "    await emit.flush()",
        "    pass",
        _THREADS,
    ),
    # --- G8 time ----------------------------------------------------------------------------------
    Mutant(
        "clock-ties",
        "of two sleepers with one deadline the younger wakes first",
        _CLOCK,
        "heapq.heappush(self._heap, (at_ns, self._order, sleeper))",
        "heapq.heappush(self._heap, (at_ns, -self._order, sleeper))",
        _CLOCKS,
    ),
    Mutant(
        "clock-nearer-deadline",
        "a nearer deadline does not wake the clock",
        _CLOCK,
        "                self._changed.set()\n",
        "                pass\n",
        _CLOCKS,
    ),
    Mutant(
        "clock-says-woken",
        "until says that it was woken when the time was reached",
        _CLOCK,
        "                sleeper.reached = True",
        "                sleeper.reached = False",
        _CLOCKS,
    ),
    Mutant(
        "clock-never-forgets",
        "deadlines of those who were woken early are kept",
        _CLOCK,
        "        if self._n_over > 64 and",
        "        if self._n_over < 0 and",
        _CLOCKS,
    ),
    # --- the graph --------------------------------------------------------------------------------
    Mutant(
        "fork-up-through-a-side",
        "frames that come up go through a side branch",
        _GRAPH,
        "_both(e.keep, fork.keep), is_main=False)",
        "_both(e.keep, fork.keep), is_main=True)",
        _FORKS,
    ),
    Mutant(
        "fork-keeps-all",
        "everything leaves a side branch",
        _GRAPH,
        "_Exit(e.node, _both(e.keep, fork.keep), is_main=False)",
        "_Exit(e.node, None, is_main=False)",
        _FORKS,
    ),
    Mutant(
        "same-stage-twice",
        "one object may stand in the graph twice",
        _GRAPH,
        "        self._seen[id(stage)] = name\n",
        "",
        _FORKS,
    ),
    # --- what was heard (P2, P3) ------------------------------------------------------------------
    Mutant(
        "undone-out-of-order",
        "an undone remainder of two turns is sorted as if it were one response",
        _PLAYOUT,
        "                    undone.parts.append(part)",
        "                    insort(undone.parts, part, key=_Part.key)",
        _LEDGER,
    ),
    Mutant(
        "ledger-off-by-one",
        "one sample more counts as heard at a cut",
        _PLAYOUT,
        "return min(max(block.end - mute_point, 0), block.frame.n_samples)",
        "return min(max(block.end - mute_point - 1, 0), block.frame.n_samples)",
        _LEDGER,
    ),
    Mutant(
        "ledger-plays-by-arrival",
        "parts play in the order of their arrival",
        _PLAYOUT,
        "        insort(turn.parts, part, key=_Part.key)",
        "        turn.parts.append(part)",
        _LEDGER,
    ),
    Mutant(
        "ledger-late-audio",
        "audio of the newest cut turn is taken",
        _PLAYOUT,
        "        if frame.turn <= self._cut_turn:\n            self.late_samples",
        "        if frame.turn < self._cut_turn:\n            self.late_samples",
        _LEDGER,
    ),
    Mutant(
        "ledger-hold-survives-a-cut",
        "a cut does not end a hold: nothing plays any more",
        _PLAYOUT,
        "        self._held_since_ns = self._mute_point = None\n        if any(",
        "        if any(",
        _LEDGER,
    ),
    Mutant(
        "ledger-never-settles",
        "an account that waits for the speaker waits for ever",
        _PLAYOUT,
        "        if self._unsettled is not None and at_ns >= self._unsettled.at_ns + SETTLE_NS:",
        "        if self._unsettled is not None and at_ns < 0:",
        _LEDGER,
    ),
    Mutant(
        "ledger-deadline-dropped",
        "the next block has no deadline",
        _PLAYOUT,
        "            times.append(self._line.when_taken(self._line.handed - ahead))",
        "            del ahead",
        _LEDGER,
    ),
    Mutant(
        "ledger-mute-point-moves",
        "the mute point is not fixed until the release",
        _PLAYOUT,
        "        if self._mute_point is None:  # fixed until the release",
        "        if mute_point >= 0:",
        _LEDGER,
    ),
    Mutant(
        "ledger-unfinished-is-complete",
        "an underrun counts as wholly heard",
        _PLAYOUT,
        "complete=is_done and missing <=",
        "complete=missing <=",
        _LEDGER,
    ),
    Mutant(
        "ledger-parked-has-gaps",
        "what is parked goes on behind a part that is not complete",
        _PLAYOUT,
        "            if part.done is None:\n                return\n\n\nclass",
        "            if part.done is None:\n                continue\n\n\nclass",
        _LEDGER,
    ),
    Mutant(
        "ledger-parked-for-ever",
        "a newer turn is heard, and the parked one can still go on",
        _PLAYOUT,
        "        if not turn.is_undone:\n            self._unpark()",
        "        if turn.number < 0:\n            self._unpark()",
        _LEDGER,
    ),
    Mutant(
        "ledger-counts-bytes-twice",
        "audio handed over still counts as waiting",
        _PLAYOUT,
        "        self.waiting_bytes -= _n_bytes([frame])\n        part.handed",
        "        part.handed",
        _LEDGER,
    ),
    Mutant(
        "line-not-re-based",
        "after a release the position jumps over the pause",
        _SINKLINE,
        "            self._start(first, at_ns)\n            self._stop = None",
        "            del first\n            self._stop = None",
        _LINE,
    ),
    Mutant(
        "line-hears-the-future",
        "the ear is ahead of what was handed over",
        _SINKLINE,
        "        return max(self.floor, min(edge, self._base_sample + passed))",
        "        del edge\n        return max(self.floor, self._base_sample + passed)",
        _LINE,
    ),
    Mutant(
        "line-forgets-the-device",
        "what the device holds is taken for silenced",
        _SINKLINE,
        "        return self.heard(at_ns + self.lag_ns)",
        "        return self.heard(at_ns)",
        _LINE,
    ),
    Mutant(
        "speaker-stays-muted",
        "a cut does not unmute the speaker",
        _SPEAKER,
        "        self.mute_point = None\n        self._ramp = _UNITY",
        "        self._ramp = _UNITY",
        _LOUD,
    ),
    Mutant(
        "speaker-keeps-its-queue",
        "a cut does not throw away what waits",
        _SPEAKER,
        "        self._queue.clear()\n        self._queued = 0\n",
        "",
        _LOUD,
    ),
    Mutant(
        "speaker-clicks",
        "a mute has no fade",
        _SPEAKER,
        "        n = min(self._samples(fade_ms), self._queued)",
        "        n = 0",
        _LOUD,
    ),
    Mutant(
        "speaker-repeats",
        "after a mute the fade is played again",
        _SPEAKER,
        "        self.mute_point = self._next_line + n\n",
        "        self.mute_point = self._next_line + max(0, n - 1)\n",
        _LOUD,
    ),
    # --- barge-in (P1, P5, P6) --------------------------------------------------------------------
    Mutant(
        "reject-without-release",
        "after the second stage's no the agent stays silent",
        _BARGEIN_TABLE,
        "        State.SUSPECT: _cell(Do.RESUME, Do.QUIET, Do.DISARM, to=State.SPEAKING),",
        "        State.SUSPECT: _cell(Do.QUIET, Do.DISARM, to=State.SPEAKING),",
        _BARGE,
    ),
    Mutant(
        "suspect-for-ever",
        "a mute that nobody confirms never ends",
        _BARGEIN_TABLE,
        "        State.SUSPECT: _cell(Do.RESUME, Do.DISARM, to=State.SPEAKING),\n",
        "",
        _BARGE,
    ),
    Mutant(
        "mute-without-deadline",
        "a mute sets no deadline",
        _BARGEIN_TABLE,
        "        State.SPEAKING: _cell(Do.MUTE, Do.REJECT_TIMER, Do.MAYBE, to=State.SUSPECT),",
        "        State.SPEAKING: _cell(Do.MUTE, Do.MAYBE, to=State.SUSPECT),",
        _BARGE,
    ),
    Mutant(
        "wait-for-ever",
        "a reply waits for ever for a user who speaks",
        _BARGEIN_TABLE,
        "        State.WAIT: _cell(Do.RELEASE, to=State.SPEAKING),\n",
        "",
        _BARGE,
    ),
    Mutant(
        "evidence-is-a-verdict",
        "with a second stage the service's word cuts at once",
        _BARGEIN,
        "Event.SERVER_VERDICT if counts else Event.EVIDENCE",
        "Event.SERVER_VERDICT",
        _BARGE,
    ),
    Mutant(
        "answered-speech-goes-on",
        "a late verdict about speech that was answered says that the user still speaks",
        _BARGEIN,
        "        return is_on and self._audible is not None and said.turn < self._audible",
        "        return is_on and self._audible is None and said.turn < 0",
        _BARGE,
    ),
    Mutant(
        "cut-by-newest",
        "a cut names the newest turn, not the newest before the speech",
        _USER_SPEECH,
        "next((turn for end, turn in self._stops if end > onset_sample), newest_turn)",
        "newest_turn",
        _BARGE,
    ),
    Mutant(
        "stale-deadline",
        "a deadline outlives its state",
        _BARGEIN,
        "            self.state = cell.to\n            self.deadline_ns = None\n",
        "            self.state = cell.to\n",
        _BARGE,
    ),
    Mutant(
        "echo-mutes-for-ever",
        "wrong mutes are not counted",
        _CREDIT,
        "            self._wrong_ns.append(at_ns)",
        "            pass",
        _BARGE,
    ),
    Mutant(
        "yeah-swallowed",
        "a backchannel into a silence is swallowed",
        _BARGEIN,
        "        if not (speech.over_agent or (self.state is State.WAIT and has_words)):",
        "        if speech is None:",
        _BARGE,
    ),
    Mutant(
        "pending-answer-lives",
        "speech does not cut an answer that is still to come",
        _BARGEIN,
        "                if any(pending <= self._line(said) for pending in self._pending):",
        "                if any(pending < 0 for pending in self._pending):",
        _BARGE,
    ),
    # --- turns ----------------------------------------------------------------------------------
    Mutant(
        "turn-call-does-not-wait",
        "a tool with effects acts before its turn is committed",
        _TURNS,
        "        if user is None or user.is_committed:\n",
        "        if user is None or user.items:\n",
        _WHOSE,
    ),
    Mutant(
        "turn-void-call-acts",
        "a call goes ahead though what asked for it is void",
        _TURNS,
        " turn and not reply.is_void:\n                calls += reply.calls",
        " turn:\n                calls += reply.calls",
        _WHOSE,
    ),
    Mutant(
        "turn-void-answer-heard",
        "what was held and is void is let go",
        _TURNS,
        "            held = self._taken(reply)\n            if reply.is_alive:",
        "            held = self._taken(reply)\n            if held:",
        _WHOSE,
    ),
    Mutant(
        "turn-held-lost",
        "an answer that was held is never heard",
        _TURNS,
        "[told for frame in held for told in self._pass(",
        "[told for frame in held[1:] for told in self._pass(",
        _WHOSE,
    ),
    Mutant(
        "turn-words-lost",
        "the words of a revoked turn belong to none",
        _TURNS,
        "        turn.items[:0] = old.items\n",
        "        turn.items[:0] = []\n",
        _WHOSE,
    ),
    Mutant(
        "turn-revoked-twice",
        "the service is told twice that the same words are void",
        _TURNS,
        "        fresh = tuple(item_id for item_id in item_ids if item_id not in turn.revoked)",
        "        fresh = tuple(item_ids)",
        _WHOSE,
    ),
    Mutant(
        "turn-undecided-commits",
        "a booking goes ahead before the words are known that cut its answer",
        _TURNS,
        "        if earlier is not None and is_due and not earlier.is_undecided:",
        "        if earlier is not None and is_due:",
        _WHOSE,
    ),
    Mutant(
        "turn-read-back-late",
        "an answer must be heard a sample longer before it commits",
        _TURNS,
        "if heard_ms >= self._read_back_ms else []",
        "if heard_ms > self._read_back_ms else []",
        _WHOSE,
    ),
    Mutant(
        "turn-early-cut-is-late",
        "words in the first second of an answer begin a turn of their own",
        _TURNS,
        "        is_early = heard_ms < self._join_ms and audible.user is self._newest",
        "        is_early = heard_ms < 0 and audible.user is self._newest",
        _WHOSE,
    ),
    Mutant(
        "turn-held-without-bound",
        "audio is held without a bound",
        _TURNS,
        "            return [] if self._held_bytes <= HELD_BYTES else",
        "            return [] if self._held_bytes >= 0 else",
        _WHOSE,
    ),
    Mutant(
        "turn-noise-over-noise",
        "speech over the answer to a noise belongs to no turn",
        _TURNS,
        " if self._loose:\n                return [*self._tell(turn), *self._take_loose(",
        " if not self._loose:\n                return [*self._tell(turn), *self._take_loose(",
        _WHOSE,
    ),
    Mutant(
        "typed-held-lost",
        "what was held goes unheard when the user types",
        _TURNS,
        "if reply.turn > max(cuts, default=0)]",
        "if reply.turn < 0]",
        _WHOSE,
    ),
    Mutant(
        "typed-correction-talked-over",
        "an answer goes on that a typed correction made wrong",
        _TURNS,
        "        if turn.is_typed:\n            made += self._silence",
        "        if turn.is_corrected and not turn.is_typed:\n            made += self._silence",
        _WHOSE,
    ),
    Mutant(
        "typed-answered-unseen",
        "an answer counts for words that the service did not have",
        _ANSWERS,
        "if answers and not i.on_its_way)",
        "if answers)",
        _OWED,
    ),
    Mutant(
        "typed-never-arrives",
        "typed words are never known to have arrived",
        _ANSWERS,
        "        if item is not None and item.on_its_way:\n",
        "        if item is not None and item.swallowed:\n",
        _OWED,
    ),
    # --- every turn answered once (P5) ------------------------------------------------------------
    Mutant(
        "nothing-owed",
        "a committed turn leaves no debt",
        _ANSWERS,
        "        if self._service_answers and not item.swallowed:\n"
        "            self._owe(item, at_ns)",
        "        if self._service_answers and not item.swallowed:\n            pass",
        _OWED,
    ),
    Mutant(
        "causes-by-arrival",
        "causes and cuts are compared by arrival, not in audio time",
        _ANSWERS,
        "        return end_sample is not None and end_sample < cut.onset_sample",
        "        return end_sample is not None and answer.cuts_before < cut.number",
        _OWED,
    ),
    Mutant(
        "late-response-lives",
        "a response created after the cut that kills it is heard",
        _ANSWERS,
        "        answer.killed = self._is_superfluous(answer) or bool(cuts)",
        "        answer.killed = self._is_superfluous(answer)",
        _OWED,
    ),
    Mutant(
        "debt-lost-with-failure",
        "the debt of a failed response is forgotten",
        _ANSWERS,
        "            self._reopen(answer, at_ns)\n            self._back_off(at_ns)",
        "            self._back_off(at_ns)",
        _OWED,
    ),
    Mutant(
        "asks-while-active",
        "a create is sent while a response is active",
        _ANSWERS,
        "or self._speaking is not None or self.active:",
        "or self._speaking is not None:",
        _OWED,
    ),
    Mutant(
        "asks-into-speech",
        "a create is sent while the user speaks",
        _ANSWERS,
        "        if self._in_flight is not None or self._speaking is not None or self.active:",
        "        if self._in_flight is not None or self.active:",
        _OWED,
    ),
    Mutant(
        "lost-ask",
        "an ask that was lost on the way is waited for, for ever",
        _ANSWERS,
        "        if ask is not None and at_ns >= ask.sent_ns + LOST_NS:",
        "        if ask is not None and at_ns < 0:",
        _OWED,
    ),
    Mutant(
        "no-patience",
        "an answer is asked for before the service had time to give it",
        _ANSWERS,
        "            patient_ns = 0 if by_us else self._owed_since_ns + self.patience_ns",
        "            patient_ns = 0 if by_us else self._owed_since_ns",
        _OWED,
    ),
    # --- the microphone (P4) ----------------------------------------------------------------------
    Mutant(
        "ring-place-lost",
        "when the ring overflows, the place of what is to be sent next is wrong",
        _RING,
        "            self._next = max(0, self._next - 1)",
        "            pass",
        _KEPT,
    ),
    Mutant(
        "ring-sends-again",
        "a new socket is sent the beginning of a frame that the old one had",
        _RING,
        "        skipped = max(0, self._from_sample - frame.start_sample)",
        "        skipped = 0",
        _KEPT,
    ),
    Mutant(
        "ring-unbounded",
        "the ring keeps everything",
        _RING,
        "        while self._kept_samples > self._capacity_samples and len(self._kept) > 1:",
        "        while self._kept_samples < 0 and len(self._kept) > 1:",
        _KEPT,
    ),
    Mutant(
        "gap-not-filled",
        "a gap in the microphone audio shifts the service's clock",
        _UPLINK,
        "            outputs += self.silence(gap)\n",
        "            self.next_sample += gap\n",
        _WIRE,
    ),
    # --- the wire ---------------------------------------------------------------------------------
    Mutant(
        "truncates-twice",
        "an item is truncated twice",
        _PARTS,
        "if part is None or part.truncated_at is not None or part.received == 0:",
        "if part is None or part.received == 0:",
        _WIRE,
    ),
    Mutant(
        "truncates-beyond",
        "a truncate reaches beyond what was received",
        _PARTS,
        "        part.truncated_at = max(0, min(heard_samples, part.received))",
        "        part.truncated_at = max(0, heard_samples)",
        _WIRE,
    ),
    Mutant(
        "truncates-rounding-up",
        "the end of a truncate is rounded up",
        _PARTS,
        "                audio_end_ms=part.truncated_at * 1_000 // self.rate_hz,",
        "                audio_end_ms=-(-part.truncated_at * 1_000 // self.rate_hz),",
        _WIRE,
    ),
    Mutant(
        "cancels-first",
        "the cancel goes before the truncate",
        _CLIENT,
        "        for answer in killed:\n            outputs += self._cancel(answer, at_ns)",
        "        for answer in killed:\n"
        "            outputs = self._cancel(answer, at_ns) + outputs",
        _WIRE,
    ),
    Mutant(
        "killed-response-sounds",
        "audio of a killed response comes out",
        _VOICE,
        "wanted=not answer.killed)",
        "wanted=True)",
        _WIRE,
    ),
    Mutant(
        "killed-response-calls",
        "a tool runs for a response that was killed",
        _ITEMS,
        "        if answer.killed or not whole or not all(",
        "        if not whole or not all(",
        _TOOLED,
    ),
    Mutant(
        "unfinished-call-runs",
        "a tool runs for a call that is incomplete",
        _ITEMS,
        "        if answer.killed or not whole or not all(",
        "        if answer.killed or not all(",
        _TOOLED,
    ),
    Mutant(
        "creates-before-truncate",
        "a create goes before a truncate that waits for its position",
        _CLIENT,
        "        if self._parts.unsettled:\n            return []\n        outputs",
        "        outputs",
        _WIRE,
    ),
    Mutant(
        "half-sample-lost",
        "half a sample at the end of a delta is dropped",
        _PARTS,
        "        part.odd_byte = data[whole:]",
        '        part.odd_byte = b""',
        _WIRE,
    ),
    Mutant(
        "old-orders-survive",
        "a new socket is sent the orders of the one before",
        _CLIENT_SOCKETS,
        "        self._orders.clear()\n",
        "",
        _SOCKETS,
    ),
    Mutant(
        "orders-behind-audio",
        "a cancel waits behind microphone audio",
        _CLIENT_SOCKETS,
        "            lane = self._orders or self._appends",
        "            lane = self._appends or self._orders",
        _SOCKETS,
    ),
    Mutant(
        "ring-not-rewound",
        "a new socket lacks what the user said since the last turn",
        _CLIENT_SOCKETS,
        "        self.ring.rewind(leftover.resume_sample)\n",
        "",
        _SOCKETS,
    ),
    Mutant(
        "tries-for-ever",
        "a lost connection is tried again without a limit",
        _RECONNECT,
        "        return due_ns if due_ns < self._lost_ns + self._policy.limit_s * "
        "NS_PER_S else None",
        "        return due_ns",
        ("tests/realtime/test_reconnect.py",),
    ),
    # --- the server -------------------------------------------------------------------------------
    Mutant(
        "server-two-responses",
        "the server lets two responses write to the conversation",
        _RESPONSES,
        "                if active.in_conversation:\n                    raise already_active(",
        "                if active.in_conversation and active.failure == '':\n"
        "                    raise already_active(",
        _SERVED,
    ),
    Mutant(
        "server-cancels-nothing",
        "a cancel with nothing active is not refused",
        _RESPONSES,
        "        if not candidates:\n            raise not_active()",
        "        if candidates is None:\n            raise not_active()",
        _SERVED,
    ),
    Mutant(
        "server-truncates-beyond",
        "the server takes a truncate beyond the end",
        _CONVERSATION,
        "        if audio_end_ms > has_ms:",
        "        if audio_end_ms > has_ms + 1:",
        _SERVED,
    ),
    Mutant(
        "server-commits-too-little",
        "the server commits less than 100 ms",
        _HEARING,
        "        if buffered_ms < _LEAST_COMMIT_MS:",
        "        if buffered_ms < 0:",
        _SERVED,
    ),
    Mutant(
        "server-interrupts-always",
        "the server cancels although it was told not to",
        _HEARING,
        "        if turns.interrupt_response is True:",
        "        if turns.interrupt_response is not None:",
        _SERVED,
    ),
    # --- the ears ---------------------------------------------------------------------------------
    Mutant(
        "second-stage-asks-nobody",
        "the second stage tells no beginning of its own",
        _SECOND_STAGE,
        "        if begins and self._asked is None:",
        "        if begins and self._asked is None and False:",
        _EARS,
    ),
    Mutant(
        "second-stage-one-kind-of-evidence",
        "only the first kind of evidence confirms",
        _SECOND_STAGE,
        "any(map(self._is_there, self._confirms))",
        "self._is_there(self._confirms[0])",
        _EARS,
    ),
    Mutant(
        "second-stage-never-rejects",
        "what was no speech is not rejected in time",
        _SECOND_STAGE,
        "self._quiet_since >= self._reject_samples:",
        "self._quiet_since >= 10 * self._reject_samples:",
        _EARS,
    ),
    Mutant(
        "covered-is-evidence",
        "what an echo may cover confirms speech",
        _SECOND_STAGE,
        "        self._recent.append(0.0 if window.is_covered else window.probability)",
        "        self._recent.append(window.probability)",
        _EARS,
    ),
    Mutant(
        "covered-begins",
        "speech begins under an echo",
        _SECOND_STAGE,
        "begins = may_be and self._began is None and not window.is_covered",
        "begins = may_be and self._began is None",
        _EARS,
    ),
    Mutant(
        "covered-never",
        "who is covered by an echo for a moment is taken for one",
        _LEVEL_GATE,
        "        if self._is_held(window.start_sample, self._reach_samples):",
        "        if self._is_held(window.start_sample, 0):",
        _ECHOES,
    ),
    Mutant(
        "gate-one-frame-only",
        "who is a little louder than the echo for long is not heard",
        _LEVEL_GATE,
        "        if over_db > self._margin_db or self._is_over_for_long():",
        "        if over_db > self._margin_db:",
        _ECHOES,
    ),
    Mutant(
        "echo-first-loss",
        "the first return loss is believed to be as little as was learned",
        _ECHO_LEVEL,
        "        self._loss_db = max(self._first_loss_db, seen_db - _DOUBT_DB)",
        "        self._loss_db = seen_db - _DOUBT_DB",
        _ECHOES,
    ),
    Mutant(
        "echo-no-doubt",
        "half a second tells the return loss",
        _ECHO_LEVEL,
        "        self._loss_db = max(self._first_loss_db, seen_db - _DOUBT_DB)",
        "        self._loss_db = max(self._first_loss_db, seen_db)",
        _ECHOES,
    ),
    Mutant(
        "echo-deaf",
        "an echo may be believed to be as loud as what was played",
        _ECHO_LEVEL,
        "        return min(echo_dbfs, _db(self._loudest) - LEAST_LOSS_DB)",
        "        return echo_dbfs",
        _ECHOES,
    ),
    Mutant(
        "echo-excess-fixed",
        "how much louder than its shares an echo can be is not learned",
        _ECHO_LEVEL,
        "        self._loudest_shares = weights * max(_LEAST_EXCESS, excess)",
        "        self._loudest_shares = weights * _LEAST_EXCESS",
        _ECHOES,
    ),
    Mutant(
        "echo-learns-the-room",
        "the noise of the room is learned as an echo",
        _ECHO_LEVEL,
        "            ratio = heard / (played @ shares + room)",
        "            ratio = heard / (played @ shares)",
        _ECHOES,
    ),
    Mutant(
        "echo-learns-from-the-soft",
        "what was played softly teaches as well",
        _ECHO_LEVEL,
        "        if self._loudest < self._peak * _WITHIN:",
        "        if self._loudest < 0.0:",
        _ECHOES,
    ),
    Mutant(
        "echo-dies-at-once",
        "a room may go silent at once",
        _ECHO_LEVEL,
        "        weights = self._dying_away(shares)",
        "        weights = shares",
        _ECHOES,
    ),
    Mutant(
        "echo-report-does-not-hold",
        "between two reports of the speaker nothing is heard of it",
        _ECHO_LEVEL,
        "            self._put(frame, self._last_power if goes_on else 0.0)",
        "            self._put(frame, 0.0)",
        _ECHOES,
    ),
    # --- tools ------------------------------------------------------------------------------------
    Mutant(
        "tool-unknown-arguments",
        "arguments that a tool does not have are ignored",
        _TOOLS,
        "kw_only=True, forbid_unknown_fields=True)",
        "kw_only=True, forbid_unknown_fields=False)",
        _TOOLED,
    ),
    Mutant(
        "tool-shares-defaults",
        "two calls share a default that can be changed",
        _TOOLS,
        '        return msgspec.field(default_factory=partial(copy, cast("object", value)))',
        '        return msgspec.field(default_factory=partial(cast, "object", value))',
        _TOOLED,
    ),
    Mutant(
        "tool-without-limit",
        "a tool may take as long as it likes",
        _TOOL_RUNNER,
        "    with anyio.move_on_after(tool.time_limit_s) as limit:",
        "    with anyio.move_on_after(None) as limit:",
        _TOOLED,
    ),
)
"""Every mutant, in the order in which they run."""
