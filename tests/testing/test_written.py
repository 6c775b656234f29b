"""Differences between rows of frames are short enough to be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from framepipe import AudioOut, Heard, Interrupt, Say, TextIn
from framepipe.testing import Wait, assert_golden, assert_same_frames, difference, written


def test_what_is_there_by_default_is_left_out() -> None:
    assert written(TextIn(text="no", at_ns=7)) == "TextIn(text='no')"
    assert written(TextIn(text="no", respond=False)) == "TextIn(text='no', respond=False)"
    assert written(Wait(20)) == "Wait(20)"


def test_long_audio_is_told_by_its_length_and_its_beginning() -> None:
    quiet = AudioOut(pcm=bytes(960), rate_hz=24_000, turn=1)
    assert written(quiet) == "AudioOut(turn=1, pcm=b'\\x00\\x00' * 480, rate_hz=24000)"
    loud = AudioOut(pcm=bytes(range(200)), rate_hz=24_000, turn=1)
    assert "<200 bytes, b'\\x00\\x01\\x02\\x03'…>" in written(loud)


def test_frames_inside_frames_are_short_too() -> None:
    heard = Heard(item_id="a", content_index=0, heard_samples=1, received_samples=2, final=True)
    assert written(Interrupt(heard=(heard,))) == (
        "Interrupt(heard=(Heard(item_id='a', content_index=0, heard_samples=1, "
        "received_samples=2, final=True),))"
    )


def test_equal_rows_have_no_difference() -> None:
    assert difference([TextIn(text="a")], [TextIn(text="a")]) == ""
    assert_same_frames([], [])


def test_a_difference_says_where_and_what() -> None:
    got = [Say(text="hello"), TextIn(text="no"), TextIn(text="wait")]
    with pytest.raises(AssertionError) as caught:
        assert_same_frames(got, [Say(text="hello"), TextIn(text="yes"), TextIn(text="wait")])
    assert str(caught.value).splitlines() == [
        "the rows part at frame 1 (of 3 expected, 3 came)",
        " Say(text='hello')",
        "-TextIn(text='yes')",
        "+TextIn(text='no')",
        " TextIn(text='wait')",
    ]


def test_rows_of_different_length_part_where_the_shorter_ends() -> None:
    assert difference([Wait(1)], []).splitlines() == [
        "the rows part at frame 0 (of 1 expected, 0 came)",
        "-Wait(1)",
    ]


def test_audio_that_differs_far_behind_is_shown_in_full() -> None:
    one, two = (
        AudioOut(pcm=bytes(range(100)) + last, rate_hz=24_000, turn=1) for last in (b"ab", b"cd")
    )
    assert "ab" in difference([one], [two])


def test_a_golden_row_is_written_once_and_compared_ever_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = tmp_path / "golden" / "call.txt"
    with pytest.raises(AssertionError, match=r"there is no call.txt yet; FRAMEPIPE_GOLDEN=write"):
        assert_golden(golden, [TextIn(text="a")])
    monkeypatch.setenv("FRAMEPIPE_GOLDEN", "write")
    assert_golden(golden, [TextIn(text="a")])
    monkeypatch.delenv("FRAMEPIPE_GOLDEN")
    assert golden.read_text() == "TextIn(text='a')\n"
    assert_golden(golden, [TextIn(text="a")])
    with pytest.raises(AssertionError, match=r"\+TextIn\(text='b'\)"):
        assert_golden(golden, [TextIn(text="a"), TextIn(text="b")])
