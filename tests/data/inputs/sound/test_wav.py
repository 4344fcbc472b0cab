"""WAV files: every plain kind is read as libsndfile reads it, and files that lie are refused by name."""

import struct
from pathlib import Path

import numpy as np
import pytest

from epochal.data.inputs.sound.read import measure_sound, read_sound
from epochal.data.inputs.sound.rule import SoundRule
from epochal.data.inputs.sound.wav import find_samples, read_samples
from epochal.errors import DataError
from tests.tones import FORMATS, tone, wav

RULE = SoundRule(shape=(2000,), rate=8000)
CONTENT = wav(tone(440))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("extensible", [False, True])
def test_each_kind_is_read(tmp_path: Path, kind: str, channels: int, *, extensible: bool) -> None:
    samples = np.stack([tone(440, seed=number) for number in range(channels)], 1)
    content = wav(samples, kind=kind, extra=b"LIST\x05\0\0\0abcde\0", extensible=extensible)
    stored = find_samples(content, len(content))
    found = read_samples(content, stored, 10, 100)
    assert found.shape == (100, channels)
    if kind == "pcm16":
        assert found.dtype == np.int16
        found = (found / 32768).astype(np.float32)
    assert np.abs(found - samples[10:110]).max() < (0.01 if kind == "pcm8" else 1e-4)
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "a.wav").write_bytes(content)
    theirs, rate = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    assert rate == stored.rate
    assert np.array_equal(theirs[10:110], found)


def test_samples_of_16_bits_are_kept_to_the_bit(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(-32768, 32768, 2000).astype(np.int16)
    (tmp_path / "a.wav").write_bytes(wav(whole / 32768))
    assert np.array_equal(read_sound(str(tmp_path / "a.wav"), RULE), whole)


def test_large_chunks_before_the_samples(tmp_path: Path) -> None:
    content = wav(tone(440), extra=b"LIST" + struct.pack("<I", 9000) + bytes(9000))
    (tmp_path / "a.wav").write_bytes(content)
    assert measure_sound(str(tmp_path / "a.wav")) == (8000, 1, 2400)


def test_a_length_that_was_not_known_when_writing_is_that_of_the_file(tmp_path: Path) -> None:
    content = CONTENT[:40] + b"\xff" * 4 + CONTENT[44:]
    (tmp_path / "a.wav").write_bytes(content)
    assert measure_sound(str(tmp_path / "a.wav")).frames == 2400


def changed(place: int, layout: str, value: int) -> bytes:
    return CONTENT[:place] + struct.pack(layout, value) + CONTENT[place + struct.calcsize(layout) :]


NAN = wav(np.array([0.5, np.nan, 0.1]), kind="float32")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (CONTENT[:30], "is truncated"),
        (CONTENT[:20], "is truncated"),
        (CONTENT[:12], 'has no chunk "fmt " and no samples'),
        (CONTENT[:36], "has no samples"),
        (CONTENT[:-7], r"is truncated: it says that it has 4,800 bytes of samples, but 4,793 are there"),
        (changed(40, "<I", 2**31), "is truncated: it says that it has 2,147,483,648 bytes of samples"),
        (changed(40, "<I", 0), "has no samples"),
        (changed(16, "<I", 8), 'has a chunk "fmt " of 8 bytes, which should have 16 or more'),
        (changed(16, "<I", 2**32 - 1), "is truncated"),
        (changed(20, "<H", 4711), r"is compressed \(format 4711\)"),
        (changed(22, "<H", 0), "says that it has 0 channels"),
        (changed(22, "<H", 65535), "says that it has 65,535 channels"),
        (changed(22, "<H", 3), "says that 3 samples of 16 bits take 2 bytes, not 6"),
        (changed(24, "<I", 0), "says that it has 0 samples per second"),
        (changed(24, "<I", 2**32 - 1), "says that it has 4,294,967,295 samples per second"),
        (changed(34, "<H", 12), "says that it has samples of 12 bits"),
        (changed(34, "<H", 0), "says that it has samples of 0 bits"),
        (changed(32, "<H", 0), "says that 1 samples of 16 bits take 0 bytes, not 2"),
        (CONTENT[:12] + CONTENT[36:], "has samples before it says how they are stored"),
        (NAN, "has a sample that is NaN or infinite"),
        (b"<html>no</html>", "is not a sound in WAV, FLAC, OGG or MP3"),
        (b"fLaC" + bytes(100), "is (damaged|in FLAC, which needs the package soundfile)"),
    ],
)
def test_files_that_lie_are_refused_by_name(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "odd.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"odd\.wav {why}"):
        read_sound(str(path), RULE)
    if content != NAN:
        with pytest.raises(DataError, match=rf"odd\.wav {why}"):
            measure_sound(str(path))


def test_every_beginning_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    for length in [*range(60), len(CONTENT) - 1]:
        path.write_bytes(CONTENT[:length])
        with pytest.raises(DataError, match=r"odd\.wav (is|has) "):
            read_sound(str(path), RULE)


def test_other_things_than_files(tmp_path: Path) -> None:
    for name, why in ((tmp_path, "is a folder, not a sound"), (tmp_path / "no.wav", "does not exist")):
        with pytest.raises(DataError, match=why):
            read_sound(str(name), RULE)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "wav"])
def test_other_formats_by_soundfile(tmp_path: Path, suffix: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(440, 0.5, 16000)] * 2, 1), 16000, subtype="ULAW" if suffix == "wav" else None)
    assert measure_sound(str(path))[:2] == (16000, 2)
    found = read_sound(str(path), SoundRule(shape=(8000,), rate=16000))
    assert 9000 < np.abs(found[2000:6000].astype(int)).max() < 24000


def test_other_formats_without_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    for begin, name in ((b"fLaC", "FLAC"), (b"OggS", "OGG"), (b"ID3", "MP3")):
        (tmp_path / "a.bin").write_bytes(begin + bytes(100))
        with pytest.raises(
            DataError, match=rf'a\.bin is in {name}, which needs the package soundfile\.\nInstall it: pip install "epochal\[sound\]"'
        ):
            read_sound(str(tmp_path / "a.bin"), RULE)
    (tmp_path / "a.wav").write_bytes(changed(20, "<H", 7))
    with pytest.raises(DataError, match=r"a\.wav is compressed \(µ-law\)\.\nSave it as plain WAV"):
        read_sound(str(tmp_path / "a.wav"), RULE)
