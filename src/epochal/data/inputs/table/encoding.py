"""The encoding of a text file: UTF-8, UTF-16 with its mark, or what Excel and other programs write in Western Europe and in China."""

from __future__ import annotations

import codecs
import io
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

from epochal.io.safe_read import PIECE, Unpacked

# So many bytes, of lines that are not ASCII, show which encoding it is.
_SAMPLE = 1 << 16

# What western languages write beside ASCII in CP1252. In similar encodings of other languages, the same bytes are letters that are not
# among these (Turkish, Icelandic), signs between letters (Polish), certain letters together (Czech), or letters side by side (Cyrillic).
_LETTERS = "àáâãäåæçèéêëìíîïñòóôõöøùúûüœßÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŒ"
_SIGNS = "€£¥§©®°±²³µ·ºª¿¡«»„“”‘’–—…½¼¾×\u00a0"
_BETWEEN_LETTERS = re.compile("[^\\W\\d][€£¥§©®°±²³µºª¿¡«»„“”…½¼¾×][^\\W\\d]")
_CZECH = ({"ø", "è"}, {"ø", "ì"}, {"ø", "ù"})
_SIDE_BY_SIDE = 0.25

# Nearly all Chinese characters are of the first level of GB 2312, where they are ordered by their sound. In Korean these bytes are letters
# too, but hardly those from `_BEYOND_KOREAN` on. Fewer characters than `_LEAST` may be anything.
_FIRST_LEVEL = re.compile(rb"[\xb0-\xd7][\xa1-\xfe]")
_BEYOND_KOREAN = re.compile(rb"[\xc9-\xd7][\xa1-\xfe]")
_PUNCTUATION = re.compile(rb"[\xa1\xa3][\xa1-\xfe]")
_LEAST, _COMMON, _BEYOND = 4, 0.95, 0.1

# Python imports them when they are first used: done here, since nothing is imported while a stranger's file is read.
for _name in ("gb18030", "cp1252"):
    codecs.lookup(_name)


class Encoding(NamedTuple):
    """The name of an encoding; and a note for the user, if the file does not say which it is."""

    name: str
    note: str = ""


def encoding_of(path: Path) -> Encoding:
    """Return the encoding of a text file: another than UTF-8 and UTF-16 only if its bytes leave little doubt.

    Raises `OSError`, and `ValueError` for a compressed file that is damaged.
    """
    with Unpacked(path) as raw:
        start = raw.upto(PIECE)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return Encoding("utf-16")
        if _is_utf8(start, raw):
            return Encoding("utf-8-sig")
    with Unpacked(path) as raw:
        sample = _sample(raw)
    is_damaged = 2 * _high(sample.decode("utf-8", "ignore").encode()) > _high(sample)
    if is_damaged or not (name := "gb18030" if _is_chinese(sample) else "cp1252" if _is_western(sample) else ""):
        return Encoding("utf-8-sig")
    word = next(word for word in re.findall(r"\w+", sample.decode(name)) if not word.isascii())
    language = "Chinese" if name == "gb18030" else "Western European"
    note = f"not in UTF-8: read as {language} ({name.upper()}), such as '{word[:20]}'; if that is wrong, save it as UTF-8"
    return Encoding(name, note)


def _is_utf8(start: bytes, raw: Unpacked) -> bool:
    decoder, piece = codecs.getincrementaldecoder("utf-8")(), start
    try:
        while piece:
            decoder.decode(piece)
            piece = raw.upto(PIECE)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _sample(raw: Unpacked) -> bytes:
    """Return the first lines that are not ASCII."""
    sample = bytearray()
    for line in iter(partial(io.BufferedReader(raw, PIECE).readline, _SAMPLE), b""):
        if not line.isascii():
            sample += line
        if len(sample) >= _SAMPLE:
            break
    return bytes(sample)


def _high(text: bytes) -> int:
    return sum(byte > 0x7F for byte in text)


def _is_chinese(sample: bytes) -> bool:
    try:
        text = sample.decode("gb18030")
    except UnicodeDecodeError:
        return False
    pairs = [letter.encode("gb18030") for letter in text if letter > "\x7f"]
    words = [pair for pair in pairs if not _PUNCTUATION.fullmatch(pair)]
    common, beyond = (sum(bool(kind.fullmatch(word)) for word in words) for kind in (_FIRST_LEVEL, _BEYOND_KOREAN))
    return common >= max(_LEAST, _COMMON * len(words)) and beyond >= _BEYOND * common


def _is_western(sample: bytes) -> bool:
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    there = {letter for letter in text if letter > "\x7f"}
    letters = re.findall(f"[{_LETTERS}]", text)
    pairs = re.findall(f"[{_LETTERS}](?=[{_LETTERS}])", text)
    is_known = there <= {*_LETTERS, *_SIGNS} and bool(letters) and not any(czech <= there for czech in _CZECH)
    return is_known and len(pairs) <= _SIDE_BY_SIDE * len(letters) and not _BETWEEN_LETTERS.search(text)
