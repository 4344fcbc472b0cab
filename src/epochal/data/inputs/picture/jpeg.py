"""Detection of damage in the middle of a JPEG file, which decoders ignore silently.

Pixels are a stream of bits without checksums. Changed bits nearly always decode to pixels anyway, but to more or fewer of them than
were written: the decoder finishes long before the stream ends, or reads beyond its end. This is detected by handing it the stream
in pieces, at no cost. Files with several streams (progressive ones) are not checked.
"""

from __future__ import annotations

import io
import re

START = b"\xff\xd8"

# Some cameras leave a few bytes after the last pixel; the decoder reads a few bytes ahead.
_BEHIND = 8
_AHEAD = b"\xaa" * 8

# In a stream, 0xff is followed by 0 or by the number of a part (restart marker); anything else ends the stream.
_NEXT = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PARTS = re.compile(rb"\xff([\xd0-\xd7])")
_END = 0xD9
_KNOWN = frozenset((0xC4, 0xDA, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE))


class JpegFile(io.BytesIO):
    """A JPEG file that tracks how much of its pixel data the decoder reads."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.content = content
        self.pieces: list[bytes] | None = None

    def begin(self) -> None:
        """Make the next `read` calls return pieces; the decoder must start at the beginning. Raises `ValueError` for damage."""
        begin, end, marker = _stream(self.content)
        if marker and marker != _END and marker not in _KNOWN:
            raise ValueError(f"byte {end + 1:,} is invalid")
        if marker == _END:
            cut = max(begin, len(self.content[:end].rstrip(b"\0\xff")) - _BEHIND)
            self.pieces = [self.content[end:], _AHEAD, self.content[cut:end], self.content[:cut]]

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does; after `begin`, return the next piece."""
        if self.pieces is None:
            return super().read(size)
        return self.pieces.pop() if self.pieces else b""

    def check(self) -> None:
        """Raise `ValueError` if the decoder, which must have finished, did not read all there was."""
        if self.pieces is None or 1 <= len(self.pieces) <= 2:
            return
        raise ValueError("it has more data than pixels" if len(self.pieces) == 3 else "some of its pixels are missing")


def _stream(content: bytes) -> tuple[int, int, int]:
    """Return where the only stream of pixels begins and ends, and the marker after it; zeros if there is not exactly one."""
    at, components, is_divided = len(START), 0, False
    try:
        while True:
            while content[at + 1] == 0xFF:
                at += 1
            marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
            if content[at] != 0xFF or length < 2:
                return 0, 0, 0
            if marker in (0xC0, 0xC1):
                components = content[at + 9]
            elif marker == 0xDD:
                is_divided = True
            elif marker == 0xDA:
                break
            at += 2 + length
        if content[at + 4] != components:
            return 0, 0, 0
    except IndexError:
        return 0, 0, 0
    begin = at + 2 + length
    found = _NEXT.search(content, begin)
    if found is None:
        return 0, 0, 0
    parts = [part[0] & 7 for part in _PARTS.findall(content, begin, found.start())]
    if parts != [place & 7 for place in range(len(parts))] or (parts and not is_divided):
        raise ValueError("the parts of its pixels are not in order")
    return begin, found.start(), content[found.start() + 1]
