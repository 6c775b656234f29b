"""RemoteSpeakerCore: an order counts at once, and a report for the newest order only."""

from __future__ import annotations

import math

import pytest

from framepipe.conversation.remote_speaker import (
    CutOrder,
    MuteOrder,
    RemoteSpeakerCore,
    Report,
    UnmuteOrder,
)
from framepipe.errors import FrameError
from framepipe.frames import AudioOut, Mute, Unmute


def audio(n: int, *, start: int = 0, rate_hz: int = 24_000) -> AudioOut:
    return AudioOut(pcm=bytes(2 * n), rate_hz=rate_hz, turn=1, item_id="a", start_sample=start)


def test_the_mute_point_is_what_the_other_end_says_of_this_mute() -> None:
    core = RemoteSpeakerCore()
    core.hand(audio(2_400))
    assert core.mute(Mute()) == MuteOrder(1, 0.0, 192)
    early = core.reported(Report(played=100), 5)
    assert early is not None
    assert (early.played_samples, early.mute_point) == (100, None)
    told = core.reported(Report(played=500, order=1, mute_point=692, level_dbfs=-30.0), 7)
    assert told is not None
    assert (told.played_samples, told.mute_point, told.level_dbfs, told.at_ns) == (500, 692, -30, 7)
    assert core.mute_point == 692


def test_a_report_on_an_older_order_tells_no_mute_point() -> None:
    core = RemoteSpeakerCore()
    core.hand(audio(2_400))
    core.mute(Mute())
    assert core.unmute(Unmute()) == UnmuteOrder(2, 192)
    core.mute(Mute())
    stale = core.reported(Report(played=300, order=1, mute_point=292), 1)
    assert stale is not None
    assert stale.mute_point is None
    assert core.mute_point is None


def test_a_cut_of_a_muted_speaker_knows_its_mute_point() -> None:
    core = RemoteSpeakerCore()
    core.hand(audio(2_400))
    core.mute(Mute())
    core.reported(Report(played=500, order=1, mute_point=692), 1)
    assert core.cut() == (CutOrder(2, 2_400, 192), 692)
    assert core.is_idle
    assert core.reported(Report(played=2_400, order=2, mute_point=692), 2) is None


def test_a_cut_before_the_other_ends_word_is_settled_by_it() -> None:
    core = RemoteSpeakerCore()
    core.hand(audio(2_400))
    core.mute(Mute())
    assert core.cut() == (CutOrder(2, 2_400, 192), None)
    settled = core.reported(Report(played=2_400, order=2, mute_point=692), 2)
    assert settled is not None
    assert settled.mute_point == 692
    assert core.mute_point is None, "a cut unmutes"


def test_a_second_mute_is_no_order_and_a_duck_has_no_mute_point() -> None:
    core = RemoteSpeakerCore()
    core.hand(audio(2_400))
    core.mute(Mute())
    assert core.mute(Mute()) is None
    duck = core.mute(Mute(gain_db=-20.0))
    assert duck is not None
    assert duck.gain == pytest.approx(0.1)
    core.reported(Report(played=10, order=2, mute_point=None), 1)
    assert core.mute_point is None


def test_a_report_never_goes_back_nor_beyond_what_was_handed_over() -> None:
    core = RemoteSpeakerCore()
    core.hand(audio(100))
    core.reported(Report(played=5_000), 1)
    assert core.played == 100
    assert core.reported(Report(played=3), 2) is None
    assert core.position(9, final=True).final
    assert core.position(9).level_dbfs == -math.inf


def test_audio_of_another_rate_is_refused_with_a_way_out() -> None:
    with pytest.raises(FrameError, match=r"put Resample\(24000\) before it"):
        RemoteSpeakerCore().hand(audio(8, rate_hz=8_000))


def test_sound_in_the_middle_of_a_part_says_so() -> None:
    core = RemoteSpeakerCore()
    assert not core.hand(audio(10)).in_the_middle
    second = core.hand(audio(10, start=10))
    assert (second.line, second.in_the_middle) == (10, True)
