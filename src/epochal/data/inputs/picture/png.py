"""What a PNG file holds beside its pixels, which a picture can do without: large colour profiles and texts make decoders refuse it.

A file is a signature and chunks: LENGTH, NAME, content, CRC-32 of name and content. Chunks whose names begin with a capital are needed.
"""

from __future__ import annotations

import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# What the decoder makes use of beside the chunks that are needed: transparency, rotation, animation.
_USED = (b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")

# Of texts only these can say that a picture is rotated, and they are far smaller than that, unpacked.
_ROTATING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
_LARGE = 1 << 19


def without_extras(content: bytes) -> bytes:
    """Return a PNG without the chunks that have nothing to do with its pixels, and those of them that are damaged.

    Raises `EOFError` where it ends too soon, and `ValueError` where a chunk that is needed is not what was written.
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
                raise ValueError(f"the checksum of a part of it, {name.decode('latin-1')}, is wrong")
            if is_whole:
                pieces.append(view[at:end])
        at = end
    return content if sum(map(len, pieces)) == at else b"".join(pieces)


def _may_rotate(name: bytes, text: bytes) -> bool:
    """Whether a text is one of those that can say so, and not so large, unpacked, that the decoder would refuse it."""
    if not text.startswith(_ROTATING) or len(text) > _LARGE:
        return False
    told = text.split(b"\0", 1)[1]
    if name == b"iTXt" and told[:1] == b"\1":
        packed = told[2:].split(b"\0", 2)[-1]  # Behind a language and the keyword in it.
    elif name == b"zTXt":
        packed = told[1:]
    else:
        return True
    try:
        return len(zlib.decompressobj().decompress(packed, _LARGE)) < _LARGE
    except zlib.error:
        return False
