"""User turns as scripts: what is heard at which millisecond, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import pytest

from framepipe.conversation import turns
from framepipe.conversation.endpointing import (
    ButtonPressed,
    ButtonReleased,
    GrowingSilence,
    LocalSilence,
    PushToTalk,
    ServiceDecides,
)
from framepipe.conversation.turns import Correction, Fact, State, TurnCore, english_hint
from framepipe.errors import FrameError
from framepipe.frames import (
    AudioDone,
    AudioOut,
    ConnectionState,
    End,
    Frame,
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
    TextOut,
    ToolCall,
    Transcript,
    TurnAmended,
    UserTurn,
    evolve,
)

_F = TypeVar("_F", bound=Frame)

RATE_HZ = 24_000
MS = 1_000_000


class Wants:
    """Corrections are what the test says they are: the first word is "no"."""

    def correction(self, earlier: str, later: str, /) -> Correction | None:
        words = later.split()
        if len(words) < 2 or words[0] != "no":
            return None
        return Correction(earlier.split()[-1], words[-1])


class OnlyOf(Wants):
    """The same, of one turn only."""

    def __init__(self, text: str) -> None:
        self.text = text

    def correction(self, earlier: str, later: str, /) -> Correction | None:
        return super().correction(earlier, later) if earlier == self.text else None


class Complete:
    """Words are a whole turn after 400 ms, unless they end in "and"."""

    def silence_ms(self, text: str, /) -> int | None:
        return 2_200 if text.endswith("and") else 400


def of(frames: list[Frame], kind: type[_F]) -> list[_F]:
    return [frame for frame in frames if isinstance(frame, kind)]


class Script:
    """A core, and the facts of a call in milliseconds."""

    def __init__(self, core: TurnCore | None = None) -> None:
        self.core = TurnCore(corrections=Wants()) if core is None else core
        self.made: list[Frame] = []
        self.now_ms = 0

    def at(self, ms: int) -> Script:
        """Let the time pass, and do what is due."""
        while (due := self.core.deadline_ns) is not None and due <= ms * MS:
            self.made += self.core.deadline_reached(due)
        self.now_ms = ms
        return self

    def tell(self, *facts: Fact) -> list[Frame]:
        made: list[Frame] = []
        for fact in facts:
            made += self.core.receive(fact, self.now_ms * MS)
        self.made += made
        return made

    def starts(self, item_id: str, ms: int | None = None) -> list[Frame]:
        onset = (self.now_ms if ms is None else ms) * RATE_HZ // 1_000
        return self.tell(SpeechStarted(source="server", onset_sample=onset, item_id=item_id))

    def stops(self, item_id: str, ms: int | None = None) -> list[Frame]:
        end = (self.now_ms if ms is None else ms) * RATE_HZ // 1_000
        return self.tell(SpeechStopped(source="server", end_sample=end, item_id=item_id))

    def says(self, item_id: str, start_ms: int, end_ms: int, words: str | None = None) -> None:
        """The user says something; the service hears the end 500 ms later."""
        self.at(start_ms).starts(item_id)
        self.at(end_ms + 500).stops(item_id, end_ms)
        if words is not None:
            self.words(item_id, words)

    def words(self, item_id: str, text: str, *, final: bool = True) -> list[Frame]:
        return self.tell(Transcript(who="user", text=text, final=final, item_id=item_id))

    def types(self, item_id: str, text: str) -> list[Frame]:
        return self.tell(Transcript(who="user", text=text, final=True, item_id=item_id, typed=True))

    def answer(self, turn: int, *item_ids: str, ms: int = 2_000) -> list[Frame]:
        """The first sound of an answer."""
        return self.tell(
            ReplyPending(turn=turn, response_id=f"R{turn}", item_ids=item_ids), audio(turn, ms)
        )

    def cut(self, turn: int, heard_ms: int, received_ms: int = 2_000) -> list[Frame]:
        """The barge-in has confirmed."""
        account = Heard(
            item_id=f"A{turn}",
            content_index=0,
            heard_samples=heard_ms * 24,
            received_samples=received_ms * 24,
            final=True,
        )
        onset_sample = self.now_ms * 24
        return self.tell(Interrupt(turn=turn, onset_sample=onset_sample, heard=(account,)))

    def heard(self, turn: int, ms: int = 2_000) -> list[Frame]:
        """All of an answer was heard."""
        return self.tell(
            Heard(
                item_id=f"A{turn}",
                content_index=0,
                heard_samples=ms * 24,
                received_samples=ms * 24,
                final=True,
                complete=True,
            )
        )

    def turns(self) -> list[tuple[str, str, str]]:
        told = [frame for frame in self.made if isinstance(frame, UserTurn)]
        return [(turn.turn_id, turn.state, turn.text) for turn in told]


def audio(turn: int, ms: int = 2_000) -> AudioOut:
    return AudioOut(pcm=bytes(48 * ms), rate_hz=RATE_HZ, turn=turn, item_id=f"A{turn}")


def effect(call_id: str, turn: int) -> ToolCall:
    return ToolCall(call_id=call_id, name="book", arguments="{}", turn=turn, effects=True)


# --- a turn and its end -----------------------------------------------------------------------


def test_a_turn_is_provisional_with_the_first_speech_and_committed_after_a_silence() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "to Denver")
    script.answer(1, "U1")

    script.at(3_499)
    assert script.turns()[-1] == ("turn-1", "revised", "to Denver")
    script.at(3_500)

    assert script.turns() == [
        ("turn-1", "provisional", ""),
        ("turn-1", "revised", "to Denver"),
        ("turn-1", "committed", "to Denver"),
    ]
    revisions = [turn.revision for turn in of(script.made, UserTurn)]
    assert revisions == [0, 1, 2]


def test_the_silence_counts_from_the_last_word_and_not_from_the_answer() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.answer(1, "U1")
    script.tell(effect("call-1", 1))
    assert of(script.made, Proceed) == []

    script.at(3_500)
    assert [go.call_id for go in of(script.made, Proceed)] == ["call-1"]


def test_a_call_that_comes_after_the_silence_goes_ahead_at_once() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.at(4_000).answer(1, "U1")

    assert script.tell(effect("call-1", 1)) == [Proceed(call_id="call-1")]


def test_an_answer_to_a_committed_turn_and_an_open_one_waits_for_the_open_one() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "to Denver")
    script.says("U2", 4_000, 5_000, "and back")
    script.answer(1, "U2", "U1")
    script.tell(effect("call-1", 1))
    assert of(script.made, Proceed) == []

    script.at(6_500)
    assert [go.call_id for go in of(script.made, Proceed)] == ["call-1"]


def test_a_call_without_effects_is_never_told_to_go_ahead() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "what is the weather")
    script.answer(1, "U1")
    script.tell(ToolCall(call_id="call-1", name="weather", arguments="{}", turn=1))
    script.at(10_000)

    assert of(script.made, Proceed) == []


def test_an_answer_that_was_listened_to_for_600_ms_commits_early() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.answer(1, "U1")
    script.tell(effect("call-1", 1))
    script.at(3_000).tell(Played(handed_samples=20_000, played_samples=14_399, rate_hz=RATE_HZ))
    assert of(script.made, Proceed) == []

    script.at(3_020).tell(Played(handed_samples=20_000, played_samples=14_400, rate_hz=RATE_HZ))
    assert script.made[-1] == Proceed(call_id="call-1")


def test_nothing_is_committed_while_somebody_may_be_speaking() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.at(3_400).tell(SpeechStarted(source="local", onset_sample=3_390 * 24))
    script.at(4_399)
    assert script.turns()[-1][1] != "committed"
    script.at(4_400)
    assert script.turns()[-1][1] == "committed"


def test_a_rejected_sound_does_not_move_the_commit_of_the_turn() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.at(3_000).tell(SpeechStarted(source="local", onset_sample=3_000 * 24))
    script.at(3_200).tell(SpeechRejected(source="silero", onset_sample=3_000 * 24, probability=0.0))
    script.at(3_500)
    assert script.turns()[-1][1] == "committed"


def test_a_noise_that_never_ends_postpones_a_commit_by_one_second() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    for ms in range(3_000, 6_000, 100):
        script.at(ms).tell(SpeechStarted(source="local", onset_sample=ms * 24))
        script.tell(SpeechStopped(source="local", end_sample=ms * 24 + 480))
    assert script.turns()[-1][1] == "committed"


def test_an_item_that_was_committed_by_hand_is_a_turn_of_its_own() -> None:
    script = Script()
    script.at(1_000).tell(ReplyPending(turn=1, response_id="R1", item_ids=("typed-1",)))
    script.at(2_500)

    told = of(script.made, UserTurn)
    assert [(turn.state, turn.item_ids) for turn in told] == [
        ("provisional", ("typed-1",)),
        ("committed", ("typed-1",)),
    ]


@pytest.mark.parametrize("hold", ["interruption", "always"])
def test_typed_words_are_whole_at_once_and_wait_for_no_silence(
    hold: Literal["interruption", "always"],
) -> None:
    script = Script(TurnCore(hold=hold))
    script.at(1_000).types("T1", "to Denver")
    script.answer(1, "T1")
    script.at(2_500)

    assert script.turns() == [
        ("turn-1", "provisional", "to Denver"),
        ("turn-1", "committed", "to Denver"),
    ]
    assert of(script.made, AudioOut) == [audio(1)]


def test_typed_words_join_the_turn_whose_answer_nobody_has_heard() -> None:
    script = Script()
    script.says("U1", 1_000, 1_500, "to Denver")
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("U1",)))
    script.at(2_200).types("T1", "on Friday")

    assert of(script.made, Interrupt) == [Interrupt(turn=1, cause="turns", at_ns=2_200 * MS)]
    assert of(script.made, Revoke) == [Revoke(item_ids=("U1",), respond=False)]
    assert script.turns()[-1] == ("turn-1", "revised", "to Denver on Friday")


def test_typed_words_while_the_user_speaks_belong_to_that_turn() -> None:
    script = Script()
    script.at(1_000).starts("U1")
    script.at(1_500).types("T1", "AB-123")
    script.at(2_500).stops("U1", 2_000)
    script.words("U1", "my number is")
    script.at(3_500)

    assert script.turns()[-1] == ("turn-1", "committed", "my number is AB-123")


def test_a_typed_correction_takes_back_what_was_asked_and_the_call_that_waits() -> None:
    script = Script(TurnCore(corrections=Wants()))
    script.says("U1", 1_000, 1_500, "to Denver")
    script.answer(1, "U1")
    script.tell(effect("call-1", 1))
    script.at(2_800).types("T1", "no to Chicago")
    script.at(6_000)

    assert ("turn-1", "revoked", "to Denver") in script.turns()
    assert script.turns()[-1] == ("turn-2", "committed", "to Denver no to Chicago")
    [revoke] = of(script.made, Revoke)
    assert (revoke.item_ids, revoke.respond) == (("U1",), False)
    assert of(script.made, Proceed) == []


def test_typed_words_that_correct_nothing_leave_the_voice_and_the_call_alone() -> None:
    script = Script(TurnCore(corrections=Wants()))
    script.says("U1", 1_000, 1_500, "to Denver")
    script.answer(1, "U1")
    script.tell(effect("call-1", 1))
    script.at(2_800).types("T1", "and what does it cost")
    script.at(6_000)

    assert of(script.made, Interrupt) == []
    assert of(script.made, Revoke) == []
    assert of(script.made, Proceed) == [Proceed(call_id="call-1", at_ns=3_000 * MS)]


def test_a_typed_correction_of_a_committed_turn_silences_its_answer_and_no_other() -> None:
    script = Script(TurnCore(corrections=Wants()))
    script.says("U1", 1_000, 1_500, "to Denver")
    script.answer(1, "U1")
    script.at(4_000).types("T1", "no to Chicago")
    script.at(4_100)

    assert of(script.made, Interrupt) == [Interrupt(turn=1, cause="turns", at_ns=4_000 * MS)]
    assert [(one.old, one.new) for one in of(script.made, TurnAmended)] == [("Denver", "Chicago")]
    assert ("turn-1", "revoked", "to Denver") not in script.turns()


def test_what_is_void_is_not_let_go_with_the_rest() -> None:
    script = Script(TurnCore(hold="always", cool_down_ms=1_000))
    script.says("U1", 1_000, 1_500)
    script.answer(1, "U1")
    script.says("U2", 2_100, 2_500)
    script.answer(2, "U2")
    script.at(4_000)

    assert of(script.made, AudioOut) == [audio(2)]


def test_the_call_of_an_answer_to_a_noise_never_acts() -> None:
    script = Script()
    script.says("U1", 1_000, 1_500, "to Denver")
    script.says("U2", 2_100, 2_300)
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("U2",)))
    script.tell(effect("call-1", 1))
    script.tell(Swallow(item_id="U2"))
    script.at(6_000)

    assert script.turns()[-1] == ("turn-1", "committed", "to Denver")
    assert of(script.made, Proceed) == []


def test_an_answer_that_is_too_long_to_be_held_is_heard_too_early_and_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "HELD_BYTES", 3 * (turns.FRAME_BYTES + 48 * 20))
    script = Script(TurnCore(hold="always"))
    script.says("U1", 1_000, 1_500)
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("U1",)))
    came = [script.tell(evolve(audio(1, 20), start_sample=480 * n)) for n in range(5)]

    assert [len(frames) for frames in came] == [0, 0, 0, 4, 1]
    starts = [frame.start_sample for frame in of(script.made, AudioOut)]
    assert starts == [0, 480, 960, 1_440, 1_920]


def test_typed_words_end_a_cool_down_and_what_it_held_for_another_turn_is_heard() -> None:
    script = Script(TurnCore(hold="always"))
    script.at(1_000).types("T1", "to Denver")
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("T1",)))
    script.at(2_600).starts("U2")
    script.at(3_000).stops("U2", 2_900)
    assert script.tell(audio(1)) == [], "the user may go on"
    script.types("T3", "on Friday")

    assert of(script.made, AudioOut) == [audio(1)]


def test_a_noise_that_was_answered_gives_way_to_the_speech_over_that_answer() -> None:
    script = Script()
    script.at(1_000).starts("U1")
    script.at(1_500).tell(ConnectionState(state="reconnecting"))
    script.says("U2", 1_600, 1_700)
    script.answer(1, "U2")
    script.at(3_000).starts("U3")
    script.tell(Swallow(item_id="U2"))
    script.at(4_000).stops("U3", 3_500)
    script.tell(End())

    turn = of(script.made, UserTurn)[-1]
    assert (turn.state, turn.item_ids) == ("committed", ("U1", "U3"))


def test_the_end_of_the_call_commits_what_there_is() -> None:
    script = Script()
    script.at(1_000).starts("U1")
    script.words("U1", "hello", final=False)
    script.tell(End())

    assert script.turns()[-1] == ("turn-1", "committed", "hello")


def test_words_that_come_after_the_commit_complete_its_text() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000)
    script.at(4_000).words("U1", "to Denver")

    assert [state for _, state, _ in script.turns()][-2:] == ["committed", "committed"]
    assert script.turns()[-1][2] == "to Denver"


# --- going on -----------------------------------------------------------------------------------


def test_speech_before_the_answer_is_heard_withdraws_it_and_joins_the_turn() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "a flight to")
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("U1",)))

    made = script.at(2_800).starts("U2")

    assert isinstance(made[0], Interrupt)
    assert (made[0].turn, made[0].onset_sample) == (1, 2_800 * 24)
    assert made[1] == Revoke(item_ids=("U1",), hint="", respond=False)
    assert of(made, UserTurn)[-1].item_ids == ("U1", "U2")
    assert script.core.withdrawn == 1


def test_the_same_words_are_never_revoked_twice() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "a flight")
    script.says("U2", 2_800, 3_200, "to")
    script.at(3_900).starts("U3")

    assert [revoke.item_ids for revoke in of(script.made, Revoke)] == [("U1",), ("U2",)]


def test_speech_within_the_first_second_of_an_answer_joins_the_turn_when_it_has_words() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "a flight to")
    script.answer(1, "U1")
    script.tell(effect("call-1", 1))
    script.at(3_000).starts("U2")
    script.cut(1, heard_ms=400)
    assert of(script.made, Revoke) == []  # it may still be a cough

    script.at(3_900).stops("U2", 3_400)
    script.words("U2", "Denver on Friday")
    script.at(3_900)

    assert of(script.made, Revoke) == [Revoke(item_ids=("U1",), hint="", respond=False)]
    assert script.turns()[-1] == ("turn-1", "revised", "a flight to Denver on Friday")
    script.at(9_000)
    assert of(script.made, Proceed) == []  # the call was grounded in half a turn


def test_speech_later_in_an_answer_begins_a_turn_and_does_not_stop_what_was_asked() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.answer(1, "U1", ms=6_000)
    script.tell(effect("call-1", 1))
    script.at(3_100).starts("U2")
    script.cut(1, heard_ms=1_200)
    script.at(4_000).stops("U2", 3_500)
    assert of(script.made, Proceed) == []  # it could be a correction

    script.words("U2", "thanks")
    script.at(4_000)

    assert [go.call_id for go in of(script.made, Proceed)] == ["call-1"]
    assert ("turn-1", "committed", "book it") in script.turns()
    assert of(script.made, Revoke) == []


def test_thanks_in_the_first_second_of_an_answer_does_not_stop_what_was_asked() -> None:
    def said(words: str) -> Script:
        script = Script()
        script.says("U1", 1_000, 2_000, "book it")
        script.answer(1, "U1", ms=6_000)
        script.tell(effect("call-1", 1))
        script.at(2_600).starts("U2")
        script.cut(1, heard_ms=300)
        script.at(3_300).stops("U2", 2_900)
        script.words("U2", words)
        script.at(3_300)
        script.at(9_000)
        return script

    thanks = said("thanks a lot")
    assert [go.call_id for go in of(thanks.made, Proceed)] == ["call-1"]
    assert of(thanks.made, Revoke) == []
    more = said("and a window seat")
    assert of(more.made, Proceed) == []
    assert [revoke.item_ids for revoke in of(more.made, Revoke)] == [("U1",)]


def test_a_turn_whose_correction_nobody_could_read_is_superseded_rather_than_acted_on() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book Denver")
    script.answer(1, "U1", ms=6_000)
    script.tell(effect("call-1", 1))
    script.at(3_100).starts("U2")
    script.cut(1, heard_ms=1_200)
    script.at(4_000).stops("U2", 3_500)
    script.at(6_000)  # no transcript

    assert of(script.made, Proceed) == []
    assert ("turn-1", "revoked", "book Denver") in script.turns()
    last = of(script.made, UserTurn)[-1]
    assert (last.turn_id, last.state, last.supersedes) == ("turn-2", "committed", "turn-1")
    assert last.item_ids == ("U1", "U2")


def test_speech_that_the_barge_in_lets_pass_is_a_turn_when_it_is_over() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "tell me more")
    script.answer(1, "U1", ms=6_000)
    script.at(3_000).starts("U2")
    assert len({turn_id for turn_id, _, _ in script.turns()}) == 1
    script.at(4_000).stops("U2", 3_500)

    assert script.core.state is State.OPEN
    assert of(script.made, UserTurn)[-1].item_ids == ("U2",)


# --- cool-down ----------------------------------------------------------------------------------


def interrupted(core: TurnCore | None = None) -> Script:
    """A committed turn, its answer cut, and the interrupting words over at 7000."""
    script = Script(core)
    script.says("U1", 1_000, 2_000, "tell me about Denver")
    script.answer(1, "U1", ms=9_000)
    script.at(6_000).starts("U2")
    script.cut(1, heard_ms=3_000, received_ms=9_000)
    script.at(7_500).stops("U2", 7_000)
    return script


def test_after_an_interruption_an_answer_is_held_until_the_user_has_been_silent() -> None:
    script = interrupted()
    assert script.answer(2, "U2") == []
    script.tell(AudioDone(turn=2, item_id="A2", n_samples=48_000))
    script.at(8_499)
    assert of(script.made, AudioOut)[1:] == []

    script.at(8_500)
    assert [frame.turn for frame in of(script.made, AudioOut)] == [1, 2]
    assert [frame.turn for frame in of(script.made, AudioDone)] == [2]


def test_the_cool_down_ends_early_when_the_words_are_a_whole_turn() -> None:
    script = interrupted(TurnCore(end_of_turn=Complete()))
    script.answer(2, "U2")
    script.at(7_800).words("U2", "what about Boston")
    script.at(7_800)

    assert [frame.turn for frame in of(script.made, AudioOut)] == [1, 2]


def test_the_cool_down_lasts_longer_when_the_words_want_more() -> None:
    script = interrupted(TurnCore(end_of_turn=Complete()))
    script.answer(2, "U2")
    script.words("U2", "Boston and")
    script.at(9_199)
    assert len(of(script.made, AudioOut)) == 1
    assert script.turns()[-1][1] != "committed"
    script.at(9_200)
    assert len(of(script.made, AudioOut)) == 2


def test_speech_during_the_cool_down_cancels_and_deletes_the_held_answer() -> None:
    script = interrupted()
    script.answer(2, "U2", ms=500)
    made = script.at(8_000).starts("U3")
    cut = made[0]
    assert isinstance(cut, Interrupt)
    assert cut.turn == 2

    # The cut comes by, and takes the account of what was held with it.
    told = script.tell(cut)[0]
    assert isinstance(told, Interrupt)
    assert [(h.item_id, h.heard_samples, h.received_samples) for h in told.heard] == [
        ("A2", 0, 12_000)
    ]
    assert made[1] == Revoke(item_ids=("U2",), hint="", respond=False)
    script.at(9_000).stops("U3", 8_500)
    script.at(20_000)
    assert [frame.turn for frame in of(script.made, AudioOut)] == [1]
    assert of(script.made, UserTurn)[-1].item_ids == ("U2", "U3")


def test_an_answer_without_an_interruption_passes_at_once() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "hello")
    assert script.answer(1, "U1") == [audio(1)]


def test_always_holding_prepares_the_answer_and_waits_for_the_end_of_the_turn() -> None:
    script = Script(TurnCore(end_of_turn=Complete(), hold="always"))
    script.says("U1", 1_000, 2_000, "a flight and")
    assert script.answer(1, "U1") == []
    script.at(4_199)
    assert of(script.made, AudioOut) == []
    script.at(4_200)
    assert len(of(script.made, AudioOut)) == 1


def test_written_answers_are_held_as_spoken_ones_are() -> None:
    script = interrupted()
    script.tell(ReplyPending(turn=2, response_id="R2", item_ids=("U2",)))
    text = TextOut(turn=2, text="Boston is nice.", response_id="R2", item_id="A2")
    assert script.tell(text) == []
    script.at(8_500)
    assert of(script.made, TextOut) == [text]


def test_the_end_of_the_call_lets_go_what_is_held() -> None:
    script = interrupted()
    script.answer(2, "U2")
    script.tell(End())
    assert [frame.turn for frame in of(script.made, AudioOut)] == [1, 2]


def test_the_stop_button_starts_no_cool_down() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "hello")
    script.answer(1, "U1", ms=9_000)
    script.at(3_000).tell(Interrupt(turn=1))
    assert script.core.state is State.ANSWERED
    script.says("U2", 6_000, 6_500, "go on")
    assert script.answer(2, "U2") == [audio(2)]


# --- policies of the end of a turn ------------------------------------------------------------


def test_a_policy_decides_when_the_answer_is_heard() -> None:
    script = Script(TurnCore(end_of_turn=LocalSilence(900), hold="always"))
    script.says("U1", 1_000, 2_000, "to Denver")
    assert script.answer(1, "U1") == []
    script.at(2_899)
    assert of(script.made, AudioOut) == []
    script.at(2_900)
    assert len(of(script.made, AudioOut)) == 1


def test_the_service_can_decide_with_time_on_top() -> None:
    script = Script(TurnCore(end_of_turn=ServiceDecides(settle_ms=300), hold="always"))
    script.says("U1", 1_000, 2_000, "to Denver")
    script.answer(1, "U1")
    script.at(2_799)
    assert of(script.made, AudioOut) == []
    script.at(2_800)
    assert len(of(script.made, AudioOut)) == 1


def test_a_button_that_is_held_keeps_the_answer_back_for_as_long() -> None:
    button = PushToTalk()
    script = Script(TurnCore(end_of_turn=button, hold="always"))
    button.receive(ButtonPressed(at_ns=900 * MS))
    script.says("U1", 1_000, 2_000, "to Denver")
    script.answer(1, "U1")
    script.at(60_000)
    assert of(script.made, AudioOut) == []
    assert script.turns()[-1][1] != "committed"

    button.receive(ButtonReleased(at_ns=60_000 * MS))
    script.at(60_001)
    assert len(of(script.made, AudioOut)) == 1
    assert script.turns()[-1][1] == "committed"


def test_a_policy_learns_the_pauses_of_this_speaker_inside_turns_only() -> None:
    policy = GrowingSilence()
    before = policy.pauses.quantile_ms(0.5)
    script = Script(TurnCore(end_of_turn=policy))
    for start_ms in range(1_000, 9_000, 2_000):
        script.says(f"U{start_ms}", start_ms, start_ms + 600, "and")
    assert policy.pauses.quantile_ms(0.5) > before


def test_where_the_service_does_not_answer_by_itself_the_answer_is_asked_for() -> None:
    script = Script(TurnCore(end_of_turn=Complete(), hold="always", asks=True))
    script.says("U1", 1_000, 2_000, "to Denver and")
    script.at(3_000)
    assert of(script.made, Revoke) == []
    script.says("U2", 3_000, 3_400, "back")
    script.at(5_000)

    asked = [revoke for revoke in of(script.made, Revoke) if revoke.respond]
    assert [revoke.item_ids for revoke in asked] == [("U1", "U2")]


def test_asking_needs_somebody_who_ends_the_turn() -> None:
    with pytest.raises(FrameError, match='asks=True needs hold="always"'):
        TurnCore(asks=True)


# --- self-correction ------------------------------------------------------------------------------


def test_a_correction_of_a_turn_that_is_being_answered_revokes_it() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "to Denver")
    script.answer(1, "U1", ms=9_000)
    script.tell(effect("call-1", 1))
    script.at(3_200).starts("U2")
    script.cut(1, heard_ms=1_100, received_ms=9_000)
    script.words("U2", "no to Chicago", final=False)

    hint = english_hint(Correction("Denver", "Chicago"))
    assert of(script.made, Revoke) == [Revoke(item_ids=("U1",), hint=hint, respond=False)]
    assert script.turns()[-2] == ("turn-1", "revoked", "to Denver")
    last = of(script.made, UserTurn)[-1]
    assert (last.turn_id, last.supersedes) == ("turn-2", "turn-1")
    assert last.text == "to Denver no to Chicago"
    script.at(4_500).stops("U2", 4_000)
    script.at(20_000)
    assert of(script.made, Proceed) == []


def test_a_correction_within_one_turn_is_only_told_as_a_hint() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "to Denver")
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("U1",)))
    script.at(2_800).starts("U2")
    script.words("U2", "no Chicago", final=False)

    revokes = of(script.made, Revoke)
    assert [revoke.item_ids for revoke in revokes] == [("U1",), ()]
    assert "Chicago" in revokes[1].hint
    assert {turn_id for turn_id, _, _ in script.turns()} == {"turn-1"}


def test_a_correction_after_the_commit_amends_and_tells_what_was_done() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book Denver")
    script.answer(1, "U1", ms=9_000)
    script.tell(effect("call-1", 1))
    script.says("U2", 6_000, 7_000, "no Chicago")

    amended = of(script.made, TurnAmended)
    assert len(amended) == 1
    assert (amended[0].turn_id, amended[0].amended_by) == ("turn-1", "turn-2")
    assert (amended[0].old, amended[0].new) == ("Denver", "Chicago")
    assert [call.call_id for call in amended[0].calls] == ["call-1"]
    assert ("turn-1", "revoked", "book Denver") not in script.turns()
    assert of(script.made, UserTurn)[-1].supersedes == "turn-1"


def test_a_correction_after_the_whole_answer_was_heard_needs_no_hint() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book Denver")
    script.answer(1, "U1", ms=1_000)
    script.at(4_000).heard(1, 1_000)
    script.says("U2", 6_000, 7_000, "no Chicago")

    assert len(of(script.made, TurnAmended)) == 1
    assert of(script.made, Revoke) == []


def test_a_double_correction_gives_a_hint_for_each() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "to Denver")
    script.says("U2", 2_800, 3_200, "no Chicago")
    script.says("U3", 4_000, 4_500, "no Boston")
    script.at(6_000)

    hints = [revoke.hint for revoke in of(script.made, Revoke) if revoke.hint]
    assert len(hints) == 2
    assert script.turns()[-1] == ("turn-1", "committed", "to Denver no Chicago no Boston")


def test_an_objection_withdraws_a_call_that_waits() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "yes please")
    script.answer(1, "U1", ms=6_000)
    script.tell(effect("call-1", 1))
    script.at(3_200).starts("U2")
    script.cut(1, heard_ms=1_100)
    script.at(4_000).stops("U2", 3_500)
    script.words("U2", "wait, stop")
    script.at(20_000)

    assert of(script.made, Revoke) == [Revoke(item_ids=("U1",), hint="", respond=False)]
    assert of(script.made, Proceed) == []


def test_a_correction_of_what_was_said_before_a_yes_takes_the_yes_with_it() -> None:
    script = Script(TurnCore(corrections=OnlyOf("to Denver")))
    script.says("U1", 1_000, 2_000, "to Denver")
    script.at(5_000)
    script.says("U2", 6_000, 6_500, "yes")
    script.answer(1, "U2", ms=6_000)
    script.tell(effect("call-1", 1))
    script.at(7_800).starts("U3")
    script.cut(1, heard_ms=1_100)
    script.at(8_800).stops("U3", 8_300)
    script.words("U3", "no Chicago")
    script.at(20_000)

    assert of(script.made, Proceed) == []
    assert [amended.turn_id for amended in of(script.made, TurnAmended)] == ["turn-1"]
    assert ("turn-2", "revoked", "yes") in script.turns()


# --- what was no speech -----------------------------------------------------------------------


def test_a_noise_that_began_a_turn_is_forgotten() -> None:
    script = Script()
    script.says("U1", 1_000, 1_300)
    script.tell(Swallow(item_id="U1"))

    assert script.turns()[-1] == ("turn-1", "revoked", "")
    assert script.core.state is State.NONE
    assert script.core.deadline_ns is None


def test_a_backchannel_over_an_answer_leaves_its_turn_and_its_tools_alone() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.answer(1, "U1", ms=6_000)
    script.tell(effect("call-1", 1))
    script.at(2_900).starts("U2")
    script.cut(1, heard_ms=300)
    script.at(3_600).stops("U2", 3_100)
    script.words("U2", "mm-hm")
    script.tell(Swallow(item_id="U2"))
    script.at(5_000)

    assert of(script.made, Revoke) == []
    assert [go.call_id for go in of(script.made, Proceed)] == ["call-1"]
    assert of(script.made, UserTurn)[-1].item_ids == ("U1",)


def test_a_backchannel_later_in_an_answer_gives_the_floor_back() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.answer(1, "U1", ms=6_000)
    script.tell(effect("call-1", 1))
    script.at(3_300).starts("U2")
    script.cut(1, heard_ms=1_300)
    script.at(4_000).stops("U2", 3_500)
    script.words("U2", "mm-hm")
    script.tell(Swallow(item_id="U2"))
    script.at(5_000)

    assert script.core.is_audible
    assert ("turn-2", "revoked", "") in script.turns()
    assert ("turn-1", "committed", "book it") in script.turns()
    assert [go.call_id for go in of(script.made, Proceed)] == ["call-1"]


def test_a_noise_that_withdrew_an_answer_leaves_it_owed() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("U1",)))
    script.says("U2", 2_800, 3_000)
    made = script.tell(Swallow(item_id="U2"))

    assert of(made, Revoke) == [Revoke(item_ids=("U1",), respond=True)]
    assert script.core.state is State.OPEN


def test_a_backchannel_before_the_call_exists_leaves_the_call_owed_though_it_was_answered() -> None:
    script = Script()
    script.says("U1", 1_000, 2_000, "book it")
    script.tell(ReplyPending(turn=1, response_id="R1", item_ids=("U1",)))
    script.says("U2", 2_800, 3_000)
    script.answer(2, "U2")
    assert script.core.floor.agent_speaks
    script.words("U2", "mm-hm")
    made = script.tell(Swallow(item_id="U2"))

    assert of(made, Revoke) == [Revoke(item_ids=("U1",), respond=True)]
    assert script.core.state is State.OPEN
    script.at(4_500).answer(3, "U1")
    script.tell(effect("call-1", 3))
    script.at(6_000)
    assert [go.call_id for go in of(script.made, Proceed)] == ["call-1"]


# --- the ears -------------------------------------------------------------------------------------


def test_the_second_stage_hears_a_short_word_before_the_service_does() -> None:
    script = Script()
    script.at(1_000).tell(SpeechStarted(source="local", onset_sample=990 * 24))
    script.at(1_200).tell(SpeechStopped(source="local", end_sample=1_150 * 24))
    script.at(1_220).tell(SpeechConfirmed(source="silero", onset_sample=990 * 24, probability=0.9))
    assert script.core.state is State.OPEN
    script.at(1_300).starts("U1", 990)
    script.at(1_700).stops("U1", 1_150)

    last = of(script.made, UserTurn)[-1]
    assert (last.turn_id, last.item_ids) == ("turn-1", ("U1",))


def test_a_late_word_of_the_second_stage_opens_nothing() -> None:
    script = Script()
    script.says("U1", 1_000, 1_400, "no")
    n_told = len(script.made)
    script.tell(SpeechConfirmed(source="silero", onset_sample=1_000 * 24, probability=0.9))
    assert len(script.made) == n_told


def test_a_lost_connection_ends_the_speech_that_only_the_service_heard() -> None:
    script = Script()
    script.at(1_000).starts("U1")
    script.tell(ConnectionState(state="reconnecting"))
    assert script.core.state is State.OPEN


@pytest.mark.parametrize(
    "make",
    [
        lambda: TurnCore(commit_ms=-1),
        lambda: TurnCore(cool_down_ms=-1),
        lambda: TurnCore(rate_hz=0),
        lambda: TurnCore(join_ms=-1),
        lambda: TurnCore(read_back_ms=0),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(make: Callable[[], TurnCore]) -> None:
    with pytest.raises(FrameError, match=r"is (-1|0); it must be (0|1) or more"):
        make()
