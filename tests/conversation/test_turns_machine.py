"""User turns against everything a call can do, in any order.

A model of the service keeps its own account: which item was said when, which answer is grounded in
which items, what was revoked. It is small enough to be obviously right, and it decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from typing import cast

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from framepipe.conversation.turns import (
    TABLE,
    Cell,
    Command,
    Correction,
    Do,
    Event,
    Fact,
    State,
    TurnCore,
)
from framepipe.frames import (
    AudioDone,
    AudioOut,
    ConnectionState,
    End,
    Heard,
    Interrupt,
    Played,
    Proceed,
    ReplyPending,
    Revoke,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    ToolCall,
    Transcript,
    TurnAmended,
    UserTurn,
)

MS = 1_000_000
OPEN = ("provisional", "revised")
WORDS = st.sampled_from(["to Denver", "no Chicago", "thanks", "", "on Friday and"])


class FirstWordIsNo:
    def correction(self, earlier: str, later: str, /) -> Correction | None:
        return Correction(earlier, later) if later.startswith("no") else None


class EndsInAnd:
    def silence_ms(self, text: str, /) -> int | None:
        return 2_000 if text.endswith("and") else 300 if text else None


class Reply:
    """An answer as the service has it."""

    def __init__(self, turn: int, item_ids: tuple[str, ...]) -> None:
        self.turn = turn
        self.item_ids = item_ids
        self.killed = False
        self.void = False
        self.received_ms = 0
        self.passed_ms = 0


class TurnsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.speaking: str | None = None
        self.items: list[str] = []
        self.unanswered: list[str] = []
        self.waiting: list[str] = []  # typed while the user spoke: we ask when that is over
        self.unread: list[str] = []
        self.swallowed: set[str] = set()
        self.replies: list[Reply] = []
        self.calls: dict[str, Reply] = {}
        self.went: list[str] = []
        self.revoked_items: set[str] = set()
        self.state_of: dict[str, str] = {}
        self.items_of: dict[str, tuple[str, ...]] = {}
        self.revision_of: dict[str, int] = {}

    @initialize(
        corrects=st.booleans(), ends=st.booleans(), always=st.booleans(), cool=st.integers(0, 3_000)
    )
    def begin(self, corrects: bool, ends: bool, always: bool, cool: int) -> None:
        self.core = TurnCore(
            corrections=FirstWordIsNo() if corrects else None,
            end_of_turn=EndsInAnd() if ends else None,
            hold="always" if always else "interruption",
            cool_down_ms=cool,
        )

    # --- the engine's part ---

    def tell(self, fact: Fact) -> None:
        self.perform(self.core.receive(fact, self.now_ms * MS))

    def perform(self, made: list[Command]) -> None:
        for frame in made:
            match frame:
                case UserTurn():
                    self.told(frame)
                case TurnAmended(turn_id=turn_id, amended_by=by):
                    assert self.state_of[turn_id] == "committed"
                    assert self.state_of[by] in ("provisional", "revised")
                case Revoke(item_ids=item_ids, respond=True):
                    self.revoked_items.difference_update(item_ids)  # their answer is owed again
                    self.unanswered = [*item_ids, *self.unanswered]
                case Revoke(item_ids=item_ids):
                    assert not self.revoked_items.intersection(item_ids)
                    self.revoked_items.update(item_ids)
                    for reply in self.replies:
                        if reply.item_ids and self.revoked_items.issuperset(reply.item_ids):
                            reply.killed = reply.void = True
                case Proceed(call_id=call_id):
                    self.goes_ahead(call_id)
                case AudioOut():
                    reply = self.reply_of(frame.turn)
                    assert not reply.killed, "what is void or cut is never heard"
                    assert frame.start_sample == reply.passed_ms * 24, "in order, nothing lost"
                    reply.passed_ms += frame.n_samples // 24
                case Interrupt(cause="turns"):
                    self.cut(frame)
                case _:
                    pass

    def cut(self, frame: Interrupt) -> None:
        """The engine tells every stage, this one included, and the service stops."""
        made = self.core.receive(frame, self.now_ms * MS)
        assert isinstance(made[0], Interrupt)
        for account in made[0].heard:
            assert 0 <= account.heard_samples <= account.received_samples
        for reply in self.replies:
            if frame.turn is None or reply.turn <= frame.turn:
                reply.killed = True
        self.perform(made[1:])

    def told(self, frame: UserTurn) -> None:
        before = self.state_of.get(frame.turn_id)
        assert before != "revoked", "a revoked turn has no later effect"
        if before == "committed":
            assert frame.state == "committed", "a committed turn stays so"
            assert frame.item_ids == self.items_of[frame.turn_id]
        if before is None:
            assert frame.revision == 0
        else:
            assert frame.revision == self.revision_of[frame.turn_id] + 1
        self.state_of[frame.turn_id] = frame.state
        self.items_of[frame.turn_id] = frame.item_ids
        self.revision_of[frame.turn_id] = frame.revision

    def goes_ahead(self, call_id: str) -> None:
        assert call_id not in self.went, "a call goes ahead once"
        self.went.append(call_id)
        reply = self.calls[call_id]
        committed = self.committed_items()
        assert (committed | self.swallowed).issuperset(reply.item_ids), (
            "effects only of committed turns"
        )
        assert not reply.void, "a revoked turn has no later effect"

    def committed_items(self) -> set[str]:
        return {
            item_id
            for turn_id, state in self.state_of.items()
            if state == "committed"
            for item_id in self.items_of[turn_id]
        }

    def reply_of(self, turn: int) -> Reply:
        return next(reply for reply in self.replies if reply.turn == turn)

    def living(self) -> list[Reply]:
        return [reply for reply in self.replies if not reply.killed]

    def unheard_answers(self) -> list[Reply]:
        """To a turn that goes on if the user says more now."""
        is_open = self.core.state in (State.OPEN, State.COOLING)
        told = [turn_id for turn_id, state in self.state_of.items() if state in OPEN]
        if not is_open or not told:
            return []
        said = set(self.items_of[told[-1]])
        return [r for r in self.living() if not r.passed_ms and said.intersection(r.item_ids)]

    # --- what happens ---

    @rule(ms=st.sampled_from([0, 10, 100, 300, 700, 1_000, 1_500, 3_000]))
    def time_passes(self, ms: int) -> None:
        end_ms = self.now_ms + ms
        for _ in range(50):
            due_ns = self.core.deadline_ns
            if due_ns is None or due_ns > end_ms * MS:
                break
            self.now_ms = max(self.now_ms, due_ns // MS)
            self.perform(self.core.deadline_reached(max(due_ns, self.now_ms * MS)))
        else:
            raise AssertionError("the core wants to be called again and again")
        self.now_ms = end_ms

    @precondition(lambda self: self.speaking is None)
    @rule(local_first=st.booleans())
    def user_starts(self, local_first: bool) -> None:
        onset = self.now_ms * 24
        unheard = self.unheard_answers()
        if local_first:
            self.tell(SpeechStarted(source="local", onset_sample=onset))
            self.tell(SpeechConfirmed(source="silero", onset_sample=onset, probability=0.9))
        item_id = f"U{len(self.items) + 1}"
        self.items.append(item_id)
        self.speaking = item_id
        self.tell(SpeechStarted(source="server", onset_sample=onset, item_id=item_id))
        for reply in unheard:
            assert reply.killed, "nobody hears the answer to half a turn"

    @precondition(lambda self: self.speaking is not None)
    @rule()
    def user_stops(self) -> None:
        item_id, self.speaking = self.speaking, None
        assert item_id is not None
        self.unanswered += [item_id, *self.waiting]
        self.waiting = []
        self.unread.append(item_id)
        end = self.now_ms * 24
        self.tell(SpeechStopped(source="server", end_sample=end, item_id=item_id))

    @rule()
    def a_cough(self) -> None:
        onset = self.now_ms * 24
        self.tell(SpeechStarted(source="local", onset_sample=onset))
        self.tell(SpeechRejected(source="silero", onset_sample=onset, probability=0.1))
        self.tell(SpeechStopped(source="local", end_sample=onset + 480))

    @precondition(lambda self: self.unanswered)
    @rule()
    def the_service_answers(self) -> None:
        fresh = [i for i in self.unanswered if i not in self.revoked_items]
        self.unanswered = []
        if not fresh:
            return
        reply = Reply(len(self.replies) + 1, tuple(fresh))
        self.replies.append(reply)
        self.tell(
            ReplyPending(turn=reply.turn, response_id=f"R{reply.turn}", item_ids=reply.item_ids)
        )

    @precondition(lambda self: self.living())
    @rule(ms=st.sampled_from([20, 400, 2_000]))
    def audio_comes(self, ms: int) -> None:
        reply = self.living()[-1]
        start, reply.received_ms = reply.received_ms * 24, reply.received_ms + ms
        self.tell(
            AudioOut(
                pcm=bytes(48 * ms),
                rate_hz=24_000,
                turn=reply.turn,
                item_id=f"A{reply.turn}",
                start_sample=start,
            )
        )

    @precondition(lambda self: self.living())
    @rule()
    def audio_is_done(self) -> None:
        reply = self.living()[-1]
        n_samples = reply.received_ms * 24
        self.tell(AudioDone(turn=reply.turn, item_id=f"A{reply.turn}", n_samples=n_samples))

    @precondition(lambda self: self.living())
    @rule()
    def a_tool_is_called(self) -> None:
        reply = self.living()[-1]
        call_id = f"call-{len(self.calls) + 1}"
        self.calls[call_id] = reply
        self.tell(
            ToolCall(call_id=call_id, name="book", arguments="{}", turn=reply.turn, effects=True)
        )

    @precondition(lambda self: self.core.is_audible)
    @rule(share=st.floats(0, 1), has_onset=st.booleans())
    def the_voice_is_cut(self, share: float, has_onset: bool) -> None:
        accounts = tuple(
            Heard(
                item_id=f"A{reply.turn}",
                content_index=0,
                heard_samples=round(share * reply.passed_ms) * 24,
                received_samples=reply.received_ms * 24,
                final=True,
            )
            for reply in self.living()
        )
        onset = self.now_ms * 24 if has_onset else None
        self.cut(Interrupt(turn=len(self.replies), onset_sample=onset, heard=accounts))

    @precondition(lambda self: self.core.is_audible)
    @rule()
    def all_is_heard(self) -> None:
        for reply in self.living():
            if reply.passed_ms:
                self.tell(
                    Heard(
                        item_id=f"A{reply.turn}",
                        content_index=0,
                        heard_samples=reply.passed_ms * 24,
                        received_samples=reply.passed_ms * 24,
                        final=True,
                        complete=True,
                    )
                )

    @rule(ms=st.integers(0, 5_000))
    def the_speaker_reports(self, ms: int) -> None:
        self.tell(Played(handed_samples=5_000 * 24, played_samples=ms * 24, rate_hz=24_000))

    @precondition(lambda self: self.unread)
    @rule(words=WORDS, whole=st.booleans())
    def words_come(self, words: str, whole: bool) -> None:
        item_id = self.unread[0]
        if whole:
            self.unread.pop(0)
        self.tell(Transcript(who="user", text=words, final=whole, item_id=item_id))

    @rule(words=WORDS.filter(bool))
    def the_user_types(self, words: str) -> None:
        unheard = self.unheard_answers()
        item_id = f"U{len(self.items) + 1}"
        self.items.append(item_id)
        (self.unanswered if self.speaking is None else self.waiting).append(item_id)
        self.tell(Transcript(who="user", text=words, final=True, item_id=item_id, typed=True))
        for reply in unheard:
            assert reply.killed, "nobody hears the answer to half a turn"

    @precondition(lambda self: self.unread)
    @rule()
    def it_was_a_backchannel(self) -> None:
        item_id = self.unread.pop()
        if item_id in self.committed_items():
            return
        self.tell(Transcript(who="user", text="mm-hm", final=True, item_id=item_id))
        self.swallowed.add(item_id)
        self.unanswered = [one for one in self.unanswered if one != item_id]
        for reply in self.replies:
            reply.killed |= reply.item_ids == (item_id,)
        self.tell(Swallow(item_id=item_id))

    @rule()
    def the_socket_breaks(self) -> None:
        if self.speaking is not None:
            self.unread.append(self.speaking)
            self.speaking = None
        self.unanswered += self.waiting
        self.waiting = []
        self.tell(ConnectionState(state="reconnecting"))

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        self.tell(End())
        assert self.core.state is State.NONE
        for reply in self.living():
            assert reply.passed_ms == reply.received_ms, "what was held is let go"
        owners: defaultdict[str, list[str]] = defaultdict(list)
        for turn_id, state in self.state_of.items():
            assert state in ("committed", "revoked"), f"{turn_id} is still {state}"
            if state == "committed":
                for item_id in self.items_of[turn_id]:
                    owners[item_id].append(turn_id)
        for item_id in self.items:
            expected = 0 if item_id in self.swallowed else 1
            assert len(owners[item_id]) == expected, f"{item_id} is in {owners[item_id]}"


TestTurns = TurnsMachine.TestCase


@pytest.mark.parametrize(
    ("event", "state", "left_out"),
    [
        (Event.SPEECH, State.OPEN, Do.WITHDRAW),
        (Event.SPEECH, State.COOLING, Do.WITHDRAW),
        (Event.SILENCE, State.OPEN, Do.COMMIT),
        (Event.NOISE, State.OPEN, Do.FORGET),
        (Event.END, State.OPEN, Do.COMMIT),
    ],
)
def test_an_order_that_is_left_out_of_the_table_is_noticed(
    event: Event, state: State, left_out: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = TABLE[event][state]
    assert left_out in cell.actions
    rest = tuple(do for do in cell.actions if do is not left_out)
    monkeypatch.setitem(cast("dict[State, Cell]", TABLE[event]), state, Cell(rest, cell.to))
    looked_for = settings(
        max_examples=600,
        stateful_step_count=30,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(TurnsMachine, settings=looked_for)
