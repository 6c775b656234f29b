"""When a turn is over: the policies, each as a script, and what all of them keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.conversation.endpointing import (
    COMPLETE_P,
    INCOMPLETE_P,
    Advised,
    ButtonPressed,
    ButtonReleased,
    Ending,
    EndOfTurnPolicy,
    Fact,
    GrowingSilence,
    LocalSilence,
    PauseEstimate,
    PushToTalk,
    ServiceCommitted,
    ServiceDecides,
    SpeechBegan,
    SpeechEnded,
    TurnTaken,
    WordsCame,
    completeness,
)
from framepipe.conversation.turns import EndOfTurn
from framepipe.conversation.wordlists import ENGLISH, LANGUAGES
from framepipe.errors import FrameError
from framepipe.realtime.booking import CITIES

MS = 1_000_000
FLIGHTS = ENGLISH.with_kinds(city=CITIES)


def began(ms: int) -> SpeechBegan:
    return SpeechBegan(ms * MS)


def ended(ms: int, late_ms: int = 0) -> SpeechEnded:
    return SpeechEnded((ms + late_ms) * MS, ms * MS)


def words(ms: int, text: str) -> WordsCame:
    return WordsCame(ms * MS, text)


def due_ms(policy: EndOfTurnPolicy) -> int | None:
    due_ns = policy.judgement.deadline_ns
    return None if due_ns is None else due_ns // MS


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("", Ending.NOTHING),
        ("I want to um", Ending.FILLER),
        ("I want to go to ...", Ending.FILLER),
        ("to Den-", Ending.FRAGMENT),
        ("I want to fly to", Ending.OPEN),
        ("on Friday and", Ending.OPEN),
        ("my account number is", Ending.OPEN),
        ("to Denver, wait", Ending.CORRECTING),
        ("no wait", Ending.CORRECTING),
        ("my number is four four one", Ending.NUMBER),
        ("on the twenty", Ending.NUMBER),
        ("I'd like to go to Denver", Ending.PLAIN),
        ("a table for two", Ending.PLAIN),
        ("to Denver please", Ending.CLOSED),
        ("no", Ending.CLOSED),
        ("what is it for?", Ending.CLOSED),
        ("book it", Ending.PLAIN),
    ],
)
def test_the_last_words_tell_a_pause_from_an_end(text: str, ending: Ending) -> None:
    assert completeness(text, FLIGHTS).ending is ending


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("de", "ich möchte nach"),
        ("de", "am Montag und äh"),
        ("es", "quiero ir a"),
        ("fr", "je veux aller à"),
    ],
)
def test_other_languages_have_words_that_no_turn_ends_with(code: str, text: str) -> None:
    assert completeness(text, LANGUAGES[code]).sure <= INCOMPLETE_P


def test_who_knows_how_many_digits_are_asked_for_knows_the_end_of_the_number() -> None:
    said = "four four one seven"
    assert completeness(said).sure <= INCOMPLETE_P
    assert completeness(said, n_digits=6).sure <= INCOMPLETE_P
    assert completeness(said, n_digits=4).sure >= COMPLETE_P
    assert completeness("4417", n_digits=4).sure > INCOMPLETE_P


def test_a_fixed_silence_counts_from_the_last_sample_of_speech() -> None:
    policy = LocalSilence(800)
    assert due_ms(policy) is None
    assert not policy.receive(began(100)).ended
    assert due_ms(policy) is None
    policy.receive(ended(1_000, late_ms=160))
    assert due_ms(policy) == 1_800
    assert not policy.advance(1_799 * MS).ended
    assert policy.advance(1_800 * MS).ended


def test_who_goes_on_moves_the_end() -> None:
    policy = LocalSilence(800)
    for fact in (began(0), ended(1_000), began(1_500)):
        policy.receive(fact)
    assert not policy.advance(9_000 * MS).ended
    policy.receive(ended(9_000))
    assert due_ms(policy) == 9_800


def test_a_growing_silence_is_long_after_um_and_short_after_please() -> None:
    policy = GrowingSilence(FLIGHTS, short_ms=400, long_ms=1_500)
    policy.receive(began(0))
    policy.receive(ended(1_000))
    policy.receive(words(1_000, "I want to um"))
    assert due_ms(policy) == 2_500
    policy.receive(began(1_800))
    policy.receive(words(2_500, "I want to um go to Denver please"))
    policy.receive(ended(2_500))
    assert due_ms(policy) == 2_900
    assert policy.judgement.sure >= COMPLETE_P


def test_in_between_it_depends_on_the_pauses_of_this_speaker() -> None:
    def silence_after(pause_ms: int) -> int:
        policy = GrowingSilence(FLIGHTS, short_ms=300, long_ms=2_000)
        at = 0
        for _ in range(12):
            policy.receive(began(at))
            policy.receive(ended(at + 500))
            at += 500 + pause_ms
        return policy.silence_ms("to Denver")

    assert silence_after(150) < GrowingSilence(FLIGHTS).silence_ms("to Denver") < silence_after(900)


def test_the_pause_between_two_turns_is_no_pause_of_the_speaker() -> None:
    policy = GrowingSilence(FLIGHTS)
    before = policy.silence_ms("to Denver")
    for at in range(0, 30_000, 3_000):
        policy.receive(began(at))
        policy.receive(ended(at + 500))
        policy.receive(TurnTaken((at + 1_400) * MS))
    assert policy.silence_ms("to Denver") == before


def test_a_pause_that_was_taken_for_the_end_is_learnt_from() -> None:
    policy = GrowingSilence(FLIGHTS)
    before = policy.silence_ms("to Denver")
    for at in range(0, 30_000, 3_000):
        policy.receive(began(at))
        policy.receive(ended(at + 1_500))
        policy.receive(TurnTaken((at + 2_300) * MS, too_early=True))
    assert policy.silence_ms("to Denver") > before


def test_the_service_s_word_ends_the_turn() -> None:
    policy = ServiceDecides()
    policy.receive(began(0))
    policy.receive(ended(1_000))
    assert not policy.advance(5_000 * MS).ended
    assert policy.receive(ServiceCommitted(5_100 * MS)).ended
    assert not policy.receive(began(5_200)).ended


def test_one_s_own_time_after_an_early_commit() -> None:
    policy = ServiceDecides(of=GrowingSilence(FLIGHTS, short_ms=400, long_ms=1_500))
    policy.receive(began(0))
    policy.receive(ended(1_000))
    policy.receive(ServiceCommitted(1_250 * MS))
    policy.receive(words(1_600, "I want to fly to"))
    assert due_ms(policy) == 2_500
    policy.receive(words(1_700, "I want to fly to Denver please"))
    assert policy.judgement.ended  # 400 ms after the last sample, and that is past


def test_before_the_commit_nothing_ends() -> None:
    policy = ServiceDecides(of=LocalSilence(300))
    policy.receive(began(0))
    policy.receive(ended(1_000))
    assert not policy.advance(2_000 * MS).ended
    assert policy.receive(ServiceCommitted(2_100 * MS)).ended


def test_the_button_decides_whatever_is_heard() -> None:
    policy = PushToTalk()
    for fact in (ButtonPressed(0), began(100), ended(900), ServiceCommitted(2_000 * MS)):
        assert not policy.receive(fact).ended
    assert policy.receive(ButtonReleased(3_000 * MS)).ended
    assert not policy.receive(TurnTaken(3_000 * MS)).ended
    assert not policy.receive(ButtonReleased(4_000 * MS)).ended


def test_advice_moves_the_deadline_and_decides_nothing() -> None:
    def due_after(text: str) -> int | None:
        policy = Advised(LocalSilence(800), GrowingSilence(FLIGHTS), sooner_ms=300, later_ms=700)
        policy.receive(began(0))
        policy.receive(words(1_000, text))
        policy.receive(ended(1_000))
        return due_ms(policy)

    assert due_after("to Denver please") == 1_500
    assert due_after("to Denver") == 1_800
    assert due_after("to um") == 2_500


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalSilence(0),
        lambda: GrowingSilence(short_ms=900, long_ms=500),
        lambda: GrowingSilence(share=1.0),
        lambda: PauseEstimate(median_ms=0),
        lambda: ServiceDecides(-1),
        lambda: Advised(LocalSilence()),
        lambda: Advised(LocalSilence(), LocalSilence(), later_ms=-1),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(FrameError):
        make()


def test_a_growing_silence_is_what_turns_ask() -> None:
    policy: EndOfTurn = GrowingSilence(FLIGHTS, short_ms=400, long_ms=1_500)
    assert policy.silence_ms("to um") == 1_500


# --- what every policy keeps ------------------------------------------------------------------

POLICIES: dict[str, Callable[[], EndOfTurnPolicy]] = {
    "silence": lambda: LocalSilence(500),
    "growing": lambda: GrowingSilence(FLIGHTS),
    "service": lambda: ServiceDecides(200),
    "own timing": lambda: ServiceDecides(of=GrowingSilence(FLIGHTS)),
    "button": PushToTalk,
    "advised": lambda: Advised(LocalSilence(500), GrowingSilence(FLIGHTS)),
}

TEXTS = ["", "to", "to Denver", "to Denver, no", "yes", "um", "four four", "to Denver please"]


KINDS = ["speech", "words", "commit", "press", "release", "taken", "look"]


@st.composite
def histories(draw: st.DrawFn) -> list[Fact | int]:
    """Facts in the order of time, and times at which somebody looks; shrinks to fewer."""
    at, speaking = 0, False
    made: list[Fact | int] = []
    for kind in draw(st.lists(st.sampled_from(KINDS))):
        at += draw(st.integers(0, 2_000)) * MS
        match kind:
            case "speech" if speaking:
                made.append(SpeechEnded(at, at - draw(st.integers(0, 50)) * MS))
                speaking = False
            case "speech":
                made.append(SpeechBegan(at))
                speaking = True
            case "words":
                made.append(WordsCame(at, draw(st.sampled_from(TEXTS))))
            case "commit":
                made.append(ServiceCommitted(at))
            case "press":
                made.append(ButtonPressed(at))
            case "release":
                made.append(ButtonReleased(at))
            case "taken":
                made.append(TurnTaken(at, draw(st.booleans())))
            case _:
                made.append(at)
    return made


@given(st.sampled_from(sorted(POLICIES)), histories())
def test_what_every_policy_keeps(name: str, history: list[Fact | int]) -> None:
    policy = POLICIES[name]()
    speaking = spoken = False
    for step in history:
        judged = policy.advance(step) if isinstance(step, int) else policy.receive(step)
        at_ns = step if isinstance(step, int) else step.at_ns
        if isinstance(step, SpeechBegan):
            speaking = spoken = True
        elif isinstance(step, SpeechEnded):
            speaking = False
        assert judged == policy.judgement
        assert 0 <= judged.sure <= 1
        if name not in ("button", "service"):
            # Nobody is cut off while he speaks, and nothing ends before it has begun.
            assert not (judged.ended and (speaking or not spoken))
        assert judged.deadline_ns is not None or not judged.ended
        # A deadline is kept: the turn has ended exactly when it is over.
        if judged.deadline_ns is not None:
            assert judged.ended == (at_ns >= judged.deadline_ns)
        if judged.ended:
            assert policy.advance(at_ns).ended
            assert not policy.receive(TurnTaken(at_ns)).ended
            return
    due_ns = policy.judgement.deadline_ns
    if due_ns is not None:
        assert not policy.advance(due_ns - 1).ended
        assert policy.advance(due_ns).ended


@given(st.lists(st.floats(1, 10_000), max_size=30), st.floats(0.05, 0.9))
def test_an_estimate_of_pauses_stays_among_them_and_grows_with_the_share(
    pauses: list[float], share: float
) -> None:
    estimate = PauseEstimate()
    for pause_ms in pauses:
        estimate.heard(pause_ms)
    assert 0 < estimate.quantile_ms(share) < estimate.quantile_ms(share + 0.05)


@given(st.floats(100, 2_000))
def test_an_estimate_comes_to_know_a_speaker(pause_ms: float) -> None:
    estimate = PauseEstimate()
    for _ in range(60):
        estimate.heard(pause_ms)
    assert estimate.quantile_ms(0.5) == pytest.approx(pause_ms, rel=0.15)
