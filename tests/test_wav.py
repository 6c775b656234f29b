"""WAV files: what is wrong with one is one line; what is written is valid at any time."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import silence
from framepipe.errors import FrameError
from framepipe.wav import WavReader, WavWriter


def wav_file(
    path: Path, *, n_samples: int = 480, bits: int = 16, channels: int = 1, rate_hz: int = 24_000
) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(rate_hz)
        file.writeframes(bytes(n_samples * channels * bits // 8))
    return path


def complaint(path: Path) -> str:
    with pytest.raises(FrameError) as caught:
        WavReader(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(f"{path}: ")


def test_a_good_file_tells_its_rate_and_length(tmp_path: Path) -> None:
    with WavReader(wav_file(tmp_path / "a b.wav", n_samples=100, rate_hz=16_000)) as wav:
        assert (wav.rate_hz, wav.n_samples) == (16_000, 100)
        assert [len(wav.read(60)), len(wav.read(60)), len(wav.read(60))] == [120, 80, 0]


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert complaint(tmp_path / "no.wav") == "cannot be read: No such file or directory"


def test_a_folder_says_so(tmp_path: Path) -> None:
    assert complaint(tmp_path) == "cannot be read: Is a directory"


def test_something_else_is_not_a_wav_file(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(b"ID3\4" + bytes(200))
    assert complaint(path).startswith("not a WAV file (file does not start with RIFF id)")


@pytest.mark.parametrize("size", [0, 3, 20, 43])
def test_a_file_that_ends_in_its_header_says_how_long_it_is(tmp_path: Path, size: int) -> None:
    path = wav_file(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:size])
    assert "WAV" in complaint(path) or f"its {size} bytes end before" in complaint(path)


def test_24_bit_samples_say_how_to_convert(tmp_path: Path) -> None:
    assert complaint(wav_file(tmp_path / "a.wav", bits=24)) == (
        "samples of 24 bits; framepipe reads 16-bit PCM, convert it: sox IN.wav -b 16 OUT.wav"
    )


def test_stereo_says_how_to_mix(tmp_path: Path) -> None:
    assert complaint(wav_file(tmp_path / "a.wav", channels=2)).startswith("2 channels; ")


def test_no_samples_are_refused(tmp_path: Path) -> None:
    assert complaint(wav_file(tmp_path / "a.wav", n_samples=0)).startswith("no samples; ")


def test_floating_point_samples_are_refused(tmp_path: Path) -> None:
    path = wav_file(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, 20, 3)
    path.write_bytes(data)
    assert complaint(path).startswith("WAV format 3 is not plain PCM; ")


@given(missing=st.integers(1, 900))
def test_a_file_that_was_cut_short_says_how_much_is_there(tmp_path: Path, missing: int) -> None:
    path = wav_file(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:-missing])
    assert complaint(path).startswith(
        f"cut short: its header promises 960 bytes of audio and {960 - missing} are there; "
    )


def test_a_file_is_read_at_another_rate_with_its_whole_length(tmp_path: Path) -> None:
    with WavReader(wav_file(tmp_path / "a.wav", n_samples=10_001, rate_hz=44_100)) as wav:
        n_bytes = sum(len(piece) for piece in wav.read_at(16_000))
    assert n_bytes // 2 == -(-10_001 * 16_000 // 44_100)


def test_what_is_written_is_read_back() -> None:
    file = io.BytesIO()
    writer = WavWriter(file, 16_000)
    for n in (10, 30_000, 7):
        writer.write(silence(n))
    writer.close()
    file.seek(0)
    with wave.open(file) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (16_000, 1, 2)
        assert read.getnframes() == writer.n_samples == 30_017


def test_the_file_is_valid_while_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    writer = WavWriter(path, 24_000)
    with wave.open(str(path)) as read:
        assert read.getnframes() == 0
    writer.write(silence(100_000))
    with WavReader(path) as read_now:
        assert read_now.n_samples == 100_000
    writer.write(silence(5))
    writer.close()
    with WavReader(path) as read_now:
        assert read_now.n_samples == 100_005


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"cannot be written: No such file or directory$"):
        WavWriter(tmp_path / "no" / "a.wav", 24_000)
