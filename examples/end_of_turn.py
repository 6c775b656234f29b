"""When is a turn over? Three policies, asked about the same words.

You will see, for what a user has said until a pause, after how many milliseconds of silence each
policy calls it a turn: a timer, a silence that fits the words, and the timer with advice.
"""

from __future__ import annotations

from framepipe.conversation.endpointing import (
    Advised,
    EndOfTurnPolicy,
    GrowingSilence,
    LocalSilence,
    SpeechBegan,
    SpeechEnded,
    WordsCame,
)
from framepipe.conversation.wordlists import ENGLISH
from framepipe.realtime.session import ServerVad, SessionSettings, Transcription
from framepipe_processors import Turns

MS = 1_000_000
FLIGHTS = ENGLISH.with_kinds(city=["Denver", "Chicago", "San Francisco"])
SAID = [
    "I want to um",
    "I want to fly to",
    "to Denver",
    "to Denver, wait, no",
    "to Denver please",
    "my number is four four one",
]


def patient() -> tuple[SessionSettings, Turns]:
    """The service answers early, and the words say when it is heard."""
    session = SessionSettings(
        turn_detection=ServerVad(silence_duration_ms=500), transcription=Transcription()
    )
    return session, Turns(end_of_turn=GrowingSilence(FLIGHTS), hold="always")


def six_digits() -> GrowingSilence:
    """After "What is your booking number?": five digits are half of it, six are all."""
    policy = GrowingSilence(FLIGHTS)
    policy.n_digits = 6
    return policy


def with_advice() -> Advised:
    """A timer decides; the words move its deadline, and end nothing themselves."""
    return Advised(LocalSilence(800), GrowingSilence(FLIGHTS), sooner_ms=300, later_ms=700)


def silence_ms(policy: EndOfTurnPolicy, text: str) -> int:
    """Tell the policy a second of speech and its words, and ask when that is a turn."""
    for fact in (SpeechBegan(0), WordsCame(1_000 * MS, text), SpeechEnded(1_000 * MS, 1_000 * MS)):
        policy.receive(fact)
    due_ns = policy.judgement.deadline_ns
    assert due_ns is not None
    return due_ns // MS - 1_000


def main() -> None:
    """Ask each policy about each text."""
    print(f"{'':28} {'timer':>6} {'words':>6} {'advice':>6}")
    for text in SAID:
        policies = (LocalSilence(800), GrowingSilence(FLIGHTS), with_advice())
        waits = " ".join(f"{silence_ms(policy, text):6}" for policy in policies)
        print(f"{text:28} {waits}")
    print(f"six digits are asked for: {silence_ms(six_digits(), '4 4 1 7 7 9')} ms after all six")


if __name__ == "__main__":
    main()
