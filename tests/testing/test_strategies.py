"""What the strategies draw is legal, as narrow as it was asked for, and shrinks to little."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from attrs import frozen
from hypothesis import find, given, settings
from hypothesis import strategies as st

from framepipe import (
    AudioIn,
    AudioOut,
    End,
    Escalate,
    Frame,
    FrameError,
    Interrupt,
    Interruptible,
    Mute,
    Say,
    Speak,
    ToolResult,
    Transcript,
    UrgentUp,
)
from framepipe.testing import (
    Conversation,
    Pause,
    Step,
    collect,
    hold,
    run_virtual,
    strategies,
)
from framepipe.testing.strategies import (
    Flat,
    audio_in_frames,
    audio_out_frames,
    conversations,
    frame_types,
    frames,
    laid_out,
    mute_frames,
    name_for,
    say_frames,
    schedules,
    sounds,
    transcript_frames,
)

SMALLEST = settings(max_examples=300, database=None, derandomize=True)


def smallest(
    strategy: st.SearchStrategy[Any], wanted: Callable[[Any], bool] = lambda _: True
) -> Any:
    return find(strategy, wanted, settings=SMALLEST)


def test_every_frame_type_has_a_strategy_with_its_name() -> None:
    missing = [name_for(kind) for kind in frame_types() if not hasattr(strategies, name_for(kind))]
    assert not missing, "add them to framepipe/testing/strategies.py, in the order of the frames"
    assert name_for(AudioIn) == "audio_in_frames"


@pytest.mark.parametrize("kind", frame_types())
def test_a_strategy_draws_its_type_and_shrinks_to_the_plain_frame(kind: type[Frame]) -> None:
    found = smallest(getattr(strategies, name_for(kind))())
    assert type(found) is kind
    assert found.at_ns == 0


@given(st.data())
def test_fields_are_narrowed_by_values_and_by_strategies(data: st.DataObject) -> None:
    said = data.draw(transcript_frames(who="user", text=st.sampled_from(["yes", "no"])))
    assert (said.who, said.text in ("yes", "no")) == ("user", True)
    assert data.draw(audio_out_frames(turn=7, channels=2)).channels == 2


def test_a_field_that_is_not_there_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(FrameError, match="Mute has no field 'fade_mss'; the nearest is 'fade_ms'"):
        mute_frames(fade_mss=8)


def test_defaults_come_first() -> None:
    assert smallest(mute_frames()) == Mute()
    assert smallest(transcript_frames()) == Transcript(
        who="user", text="", final=False, item_id="a"
    )
    assert smallest(audio_in_frames()) == AudioIn(pcm=b"", rate_hz=24_000)
    assert smallest(audio_in_frames(), lambda f: f.n_samples > 0).pcm == b"\0\0"


@given(sounds(channels=2, max_samples=9))
def test_sound_is_bytes_or_not_bytes_yet(sound: object) -> None:
    pcm = sound.pcm_bytes() if isinstance(sound, Flat) else sound
    assert isinstance(pcm, bytes)
    assert len(pcm) in range(0, 37, 4)


@frozen(kw_only=True)
class Guess(Interruptible):
    words: tuple[str, ...]
    sure: bool = True


@given(frames(Guess, UrgentUp))
def test_frames_of_yours_are_drawn_by_their_fields_and_bases_stand_for_all_below(
    frame: Frame,
) -> None:
    assert isinstance(frame, Guess | UrgentUp)


def test_frames_of_all_types_are_drawn() -> None:
    for kind in (ToolResult, Escalate, Speak):
        assert type(smallest(frames(), kind.__instancecheck__)) is kind


@given(schedules())
def test_a_schedule_is_a_legal_call(steps: tuple[Step, ...]) -> None:
    collect(steps=steps)  # no turn that was never opened, nothing after the end
    mic = [step for step in steps if isinstance(step, AudioIn)]
    assert all(a.start_sample + a.n_samples == b.start_sample for a, b in pairwise(mic))
    assert len({(step.rate_hz, step.channels) for step in mic}) <= 1
    turns = [step.turn for step in steps if isinstance(step, Interruptible)]
    assert turns == sorted(turns)
    assert not any(isinstance(step, End) for step in steps)


def test_a_schedule_shrinks_to_what_matters() -> None:
    def goes_on_after_a_cut(steps: tuple[Step, ...]) -> bool:
        cut = next((n for n, step in enumerate(steps) if isinstance(step, Interrupt)), len(steps))
        return any(isinstance(step, Say) for step in steps[cut:])

    found = smallest(schedules(say_frames(), max_steps=6), goes_on_after_a_cut)
    assert found == (Interrupt(), Say(text=""))


def test_audio_of_one_agent_is_laid_end_to_end() -> None:
    piece = AudioOut(pcm=b"\0\0" * 3, rate_hz=24_000, turn=1)
    one, two, other = laid_out([piece, piece, AudioOut(pcm=b"", rate_hz=8_000, turn=2)])
    assert isinstance(one, AudioOut)
    assert isinstance(two, AudioOut)
    assert isinstance(other, AudioOut)
    assert (one.start_sample, two.start_sample, other.start_sample) == (0, 3, 0)
    assert (one.item_id, two.item_id, other.item_id) == ("item1", "item1", "item2")
    assert other.rate_hz == 24_000, "one agent has one format"


def test_a_conversation_shrinks_to_nobody_who_says_anything() -> None:
    assert smallest(conversations()) == Conversation(
        user=(Pause(500),),
        answer_ms=600,
        first_audio_ms=(20, 20),
        generation_speed=(10.0, 12.0),
        cancel_latency_ms=0,
    )


@given(conversations(max_acts=5))
@settings(max_examples=8)
def test_in_no_conversation_is_a_cut_answer_heard(conversation: Conversation) -> None:
    held = run_virtual(hold, conversation)
    assert held.late_audio_ms() == 0
    assert held.worst_truncation_ms() <= 10
