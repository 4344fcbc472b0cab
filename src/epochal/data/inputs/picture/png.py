"""Removal of unneeded parts of a PNG file: with large colour profiles or texts, decoders refuse it.

A file is a signature and chunks: LENGTH, NAME, content, CRC-32 of name and content. Chunks whose names begin with a capital are required.
"""

from __future__ import annotations

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# What the decoder uses besides the required chunks: transparency, rotation, animation.
_USED = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")

# The only texts that can say that a picture is rotated; decompressed, they are far smaller than this.
_ROTATING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
_LARGE = 1 << 19


def without_extras(content: bytes) -> bytes:
    """Return a PNG without the chunks that do not affect its pixels, and without damaged optional chunks.

    Raises `EOFError` if it is truncated, and `ValueError` if a required chunk is damaged.
    """
    view = memoryview(content)
    pieces = [view[: len(SIGNATURE)]]
    at, name = len(SIGNATURE), b""
    while name != b"IEND":
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        if end > len(content) or len(content) < at + 12:
            raise EOFError
        name = content[at + 4 : at + 8]
        is_needed = not name[0] & 0x20
        if is_needed or name in _USED or (name in _TEXTS and _may_rotate(name, content[at + 8 : end - 4])):
            is_whole = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
            if is_needed and not is_whole:
                raise ValueError(f"its part {name.decode('latin-1')} has a wrong checksum")
            if is_whole:
                pieces.append(view[at:end])
        at = end
    return content if sum(map(len, pieces)) == at else b"".join(pieces)


def _may_rotate(name: bytes, text: bytes) -> bool:
    """Return whether a text may say that the picture is rotated, and is small enough for the decoder when decompressed."""
    if not text.startswith(_ROTATING) or len(text) > _LARGE:
        return False
    value = text.split(b"\0", 1)[1]
    if name == b"iTXt" and value[:1] == b"\1":
        packed = value[2:].split(b"\0", 2)[-1]  # After a language, and the keyword in that language.
    elif name == b"zTXt":
        packed = value[1:]
    else:
        return True
    try:
        return len(zlib.decompressobj().decompress(packed, _LARGE)) < _LARGE
    except zlib.error:
        return False
