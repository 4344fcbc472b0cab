"""Any change to a description is noticed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochal.io.checksums import text_with_checksum, verified_text, verify_checksum, with_checksum

CHANGED = "changed since it was written|SHA-256 of its content"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=st.dictionaries(st.text().filter(lambda name: name != "sha256"), JSON, max_size=4), other=JSON)
def test_what_is_sealed_comes_back_or_is_refused(value: dict[str, object], other: object) -> None:
    kept = json.loads(json.dumps(with_checksum(value)))
    assert verify_checksum(kept) == value
    assert with_checksum(kept) == kept
    for name in value:
        if json.dumps(value[name]) != json.dumps(other):
            with pytest.raises(ValueError, match=CHANGED):
                verify_checksum({**kept, name: other})
        with pytest.raises(ValueError, match=CHANGED):
            verify_checksum({key: kept[key] for key in kept if key != name})
    with pytest.raises(ValueError, match=CHANGED):
        verify_checksum(value)


@given(lines=st.lists(st.text("ab #=.1", max_size=5), max_size=4), data=st.data())
def test_a_flipped_bit_in_a_sealed_text_is_noticed(lines: list[str], data: st.DataObject) -> None:
    text = "".join(f"{line}\n" for line in lines)
    whole = text_with_checksum(text).encode()
    assert verified_text(whole.decode()) == text
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 6))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << bit
    with pytest.raises(ValueError, match=CHANGED):
        verified_text(flipped.decode())
    with pytest.raises(ValueError, match=CHANGED):
        verified_text(whole[:place].decode())
