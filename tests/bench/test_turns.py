"""The scripted user, his words in the audio, and what is made of a call."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from framepipe.bench.corpus import Dialogue, checkout_corpus, read_corpus
from framepipe.bench.scripted_user import BLOCK_MS, CorpusUser, Script, WordEars, ears_for
from framepipe.bench.service import Service
from framepipe.bench.turns import Policy, hold
from framepipe.cli import app
from framepipe.frames import AudioIn
from framepipe.pipeline import Pipeline
from framepipe.processor import on
from framepipe.testing import run_virtual


def dialogue(name: str) -> Dialogue:
    return next(one for one in read_corpus(checkout_corpus()) if one.name == name)


def spoken(tmp_path: Path, steps: str) -> Dialogue:
    (tmp_path / "one.yaml").write_text(
        f"- id: one\n  kind: plain\n  user: {steps}\n  trip: {{from: A, to: B, day: C}}\n", "utf-8"
    )
    return read_corpus(tmp_path)[0]


def play(script: Script, until_ms: int, agent: range = range(0)) -> list[tuple[int, int]]:
    """When which word began, while the agent is audible in ``agent``."""
    begun: list[tuple[int, int]] = []
    last = 0
    for at_ms in range(0, until_ms, BLOCK_MS):
        if at_ms in agent:
            script.agent_heard(at_ms)
        word = script.word_at(at_ms)
        if word not in (0, last):
            begun.append((word, at_ms))
        last = word
    return begun


def test_a_step_waits_for_the_end_of_the_reply(tmp_path: Path) -> None:
    script = Script(spoken(tmp_path, "[hi, ho]"))
    # "hi" ends at 1,200; the agent talks from 2,000 to 4,000, and is not waited for twice.
    assert play(script, 8_000, range(2_000, 4_000, BLOCK_MS)) == [(1, 1_000), (2, 4_360)]
    assert [one.is_last for one in script.said] == [True, True]


def test_a_step_over_the_reply_and_one_after_the_user_s_own_words(tmp_path: Path) -> None:
    script = Script(spoken(tmp_path, "[hi, {over: 400, say: ho}, {after: 600, say: he}]"))
    begun = play(script, 8_000, range(2_000, 9_000, BLOCK_MS))
    assert begun == [(1, 1_000), (2, 2_400), (3, 3_200)]


def test_whoever_gets_no_answer_loses_patience(tmp_path: Path) -> None:
    script = Script(spoken(tmp_path, "[hi, ho]"))
    play(script, 9_000)
    assert script.hellos == 1
    assert not script.is_over(8_000)
    assert script.is_over(14_000)


class _Tape:
    def __init__(self) -> None:
        self.pcm = b""

    @on(AudioIn)
    def keep(self, frame: AudioIn) -> None:
        self.pcm += frame.pcm_bytes()


def test_the_ears_hear_the_words_of_which_more_than_half_is_there(tmp_path: Path) -> None:
    script = spoken(tmp_path, "[to Rome (400) please]")
    tape = _Tape()
    run_virtual(Pipeline(CorpusUser(script), tape).run)
    ears = ears_for(script)
    assert ears(0, tape.pcm) == "to Rome please"

    def between(start_ms: int, end_ms: int) -> str | None:
        return ears(0, tape.pcm[48 * start_ms : 48 * end_ms])

    assert between(0, 1_300) == "to"
    assert between(1_300, 1_800) == "Rome"
    assert between(0, 900) is None


def test_words_that_nobody_said_are_not_heard() -> None:
    assert WordEars(["a", "b"], [200, 200])(0, bytes(4_800)) is None


def test_a_plain_call_comes_out_right_with_every_policy() -> None:
    for policy in Policy:
        call = hold(dialogue("one-breath"), policy)
        assert (call.is_right, call.wrong_bookings, call.unneeded) == (True, 0, 0)
        assert call.hellos == 0
        assert len(call.gaps_ms) == 2


def test_a_slower_service_is_heard_later_and_a_seed_is_a_service_of_its_own() -> None:
    def gaps_ms(service: Service, seed: int = 0) -> tuple[float, ...]:
        return hold(dialogue("one-breath"), Policy.COOL_DOWN, service, seed).gaps_ms

    assert gaps_ms(Service.FAST) < gaps_ms(Service.USUAL) < gaps_ms(Service.SLOW)
    assert gaps_ms(Service.USUAL) == gaps_ms(Service.USUAL)
    assert gaps_ms(Service.USUAL, 1) != gaps_ms(Service.USUAL, 2)


def test_a_short_silence_and_a_fast_service_cut_off_who_thinks_for_long() -> None:
    short, long = (
        hold(dialogue("long-thought-before-no"), policy, Service.FAST)
        for policy in (Policy.SERVER_500, Policy.SERVER_800)
    )
    assert short.cut_offs == 1
    assert not short.is_right
    assert min(short.gaps_ms) < min(long.gaps_ms)


def test_a_tool_that_does_not_wait_books_what_is_not_wanted() -> None:
    call = hold(dialogue("over-one-moment"), Policy.MUTE_AND_CANCEL)
    assert call.wrong_bookings == 1
    assert not call.is_right


@pytest.mark.parametrize("policy", [Policy.CORRECTIONS, Policy.GROWING])
def test_a_late_correction_leaves_only_the_flight_that_was_wanted(policy: Policy) -> None:
    call = hold(dialogue("over-one-moment"), policy)
    assert (call.is_right, call.wrong_bookings) == (True, 0)


@pytest.mark.parametrize(
    "name",
    [
        "repair-in-the-middle-of-the-sentence",
        "to-denver-to-chicago",
        "bare-city-over-the-question",
        "first-inside-then-across",
        "bare-city-is-the-answer",
        "looks-into-the-calendar",
        "month-corrected-over-the-read-back",
        "yes-wait-saturday",
        "calls-it-off",
    ],
)
def test_with_turns_corrections_and_a_growing_silence_it_comes_out_right(name: str) -> None:
    call = hold(dialogue(name), Policy.GROWING)
    assert (call.is_right, call.wrong_bookings, call.unneeded, call.hellos) == (True, 0, 0, 0)


def test_an_answer_to_half_a_turn_is_withdrawn_and_that_was_needed() -> None:
    call = hold(dialogue("to-the-name-of-it"), Policy.GROWING)
    assert call.revocations == 1
    assert call.unneeded == 0
    assert call.cut_offs == 0


def test_the_command_prints_the_table_and_names_what_went_wrong() -> None:
    options = ["--only", "one-breath", "--processes", "1", "--wrong"]
    result = CliRunner().invoke(app, ["bench", "turns", *options])
    assert result.exit_code == 0
    for title in ("What came of 1 dialogues", "What it cost", "by kind"):
        assert title in result.output


@pytest.mark.parametrize("options", [["--only", "nobody"], ["--corpus", "nowhere"]])
def test_what_is_not_there_is_named(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["bench", "turns", *options])
    assert result.exit_code != 0
