import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from epochal.io import safe_read
from epochal.io.safe_read import Unpacked, check_no_links, open_file, parse_json, read_file, read_json, read_tensors


class TestFiles:
    def test_a_regular_file_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc")
        assert read_file(tmp_path / "a", 3) == b"abc"

    def test_more_than_allowed_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc")
        with pytest.raises(ValueError, match="it has 3 bytes, more than 2"):
            read_file(tmp_path / "a", 2)

    def test_a_pipe_is_refused_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a")
        with pytest.raises(ValueError, match="not a regular file"):
            open_file(tmp_path / "a")

    def test_a_device_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not a regular file"):
            open_file("/dev/zero")

    def test_a_link_is_followed_only_where_the_user_named_it(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc")
        (tmp_path / "b").symlink_to("a")
        with open_file(tmp_path / "b") as file:
            assert file.read() == b"abc"
        with pytest.raises(ValueError, match="it is a link"):
            read_file(tmp_path / "b")

    def test_links_below_a_folder_are_found(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        check_no_links(tmp_path)
        (tmp_path / "deep" / "a").symlink_to("/nowhere")
        with pytest.raises(ValueError, match="deep/a is a link"):
            check_no_links(tmp_path)


class TestJson:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"[" * 100_000, "nested too deeply"),
            (b"[NaN]", "NaN is not valid JSON"),
            (b"[-Infinity]", "-Infinity is not valid JSON"),
            (b"[1e999]", "1e999 is too large a number"),
            (b'{"a": 1, "a": 2}', "a name appears twice"),
            (b"[" + b"9" * 5000 + b"]", "limit"),
            (b"\xff", "utf-8"),
            (b"\xff\xfe[\x00]\x00", "utf-8"),
            (b"[1", "delimiter"),
            (b'["\\ud800"]', "surrogates"),
        ],
    )
    def test_what_is_no_json_is_refused(self, content: bytes, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            parse_json(content)

    def test_the_bytes_of_a_name_that_is_not_utf_8_come_back(self) -> None:
        assert parse_json(rb'["chi\udcea"]') == ["chi\udcea"]

    @pytest.mark.parametrize("piece", [b"[],", b"{},", b'"ab",', b'{"a":0},', b"1.5,", "[\U0001f600],".encode()])
    def test_what_would_take_too_much_memory_is_refused_before(self, piece: bytes) -> None:
        with pytest.raises(ValueError, match="would take more than 1 MB"):
            parse_json(b"[" + piece * 100_000 + b"1]", limit=1_000_000)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
    def test_other_values_come_through(self, value: Any) -> None:
        assert parse_json(json.dumps(value).encode()) == value

    def test_an_object_is_wanted(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("[]")
        with pytest.raises(ValueError, match="not a JSON object"):
            read_json(tmp_path / "a")


def tensors(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "a.safetensors"
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + data)
    return path


def entry(shape: list[Any], begin: int, end: int, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class TestTensors:
    def test_what_the_library_writes_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        written = {"a": torch.ones(2, 3), "b": torch.ones(()), "c": torch.ones(0, 5, dtype=torch.int64), "d": torch.ones(4).bfloat16()}
        save_file(written, path, {"classes": "[]"})
        with path.open("rb") as file:
            found, metadata = read_tensors(file)
        assert {name: tensor.shape for name, tensor in found.items()} == {name: tuple(tensor.shape) for name, tensor in written.items()}
        assert {name: tensor.dtype for name, tensor in found.items()} == {"a": "F32", "b": "F32", "c": "I64", "d": "BF16"}
        assert metadata == {"classes": "[]"}

    @pytest.mark.parametrize(
        ("header", "data", "length", "reason"),
        [
            ({}, b"", 10**18, "its header claims 1,000,000,000,000,000,000 bytes"),
            ({}, b"", 2**64 - 1, "its header claims"),
            ({}, b"", 1, "its header claims 1 bytes"),
            (b" " * 5_000_000, b"", None, "its header claims 5,000,000 bytes"),
            (b"[]", b"", None, "not a JSON object"),
            (b'{"a":' * 100_000, b"", None, "nested too deeply"),
            (
                b'{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}',
                b"0",
                None,
                "twice",
            ),
            ({"__metadata__": {"a": 1}}, b"", None, "metadata"),
            ({"a": 1}, b"", None, "not described"),
            ({"a": {**entry([1], 0, 1), "more": 1}}, b"0", None, "not described"),
            ({"a": entry([1], 0, 1, "F99")}, b"0", None, "unknown type F99"),
            ({"a": entry([-1], 0, 1)}, b"0", None, "an impossible shape"),
            ({"a": entry([True], 0, 1)}, b"0", None, "an impossible shape"),
            ({"a": entry([1] * 100, 0, 1)}, b"0", None, "an impossible shape"),
            ({"a": entry([2**40, 2**40], 0, 1)}, b"0", None, "has 1 bytes of data"),
            ({"a": entry([2**32, 2**32], 0, 0)}, b"", None, "has 0 bytes of data"),
            ({"a": entry([2], 0, 2), "b": entry([2], 1, 3)}, b"000", None, "begins at 1 instead of 2"),
            ({"a": entry([1], 0, 1), "b": entry([1], 2, 3)}, b"000", None, "begins at 2 instead of 1"),
            ({"a": entry([1], 0, 1)}, b"00", None, "has .* bytes instead of"),
            ({"a": entry([10**12], 0, 10**12)}, b"0", None, "has .* bytes instead of"),
        ],
    )
    def test_a_header_that_lies_is_refused(self, tmp_path: Path, header: Any, data: bytes, length: int | None, reason: str) -> None:
        with tensors(tmp_path, header, data, length).open("rb") as file, pytest.raises(ValueError, match=reason):
            read_tensors(file)


class TestUnpacked:
    @pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bytes, lambda all_: gzip.compress(all_[:7]) + gzip.compress(all_[7:]),
                                      lambda all_: lzma.compress(all_[:7]) + bytes(8) + lzma.compress(all_[7:]) + bytes(4)])  # fmt: skip
    def test_all_of_it_comes(self, tmp_path: Path, pack: Any) -> None:
        content = os.urandom(1_200_000)
        (tmp_path / "a").write_bytes(pack(content))
        with Unpacked(tmp_path / "a") as stream:
            assert stream.take(10) == content[:10]
            stream.skip(1_100_000)
            assert stream.upto(5_000_000) == content[1_100_010:]
            assert stream.upto(1) == b""

    @pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
    def test_a_bomb_ends_at_the_limit(self, tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(safe_read, "ALWAYS_UNPACKED", 2_000_000)
        (tmp_path / "a").write_bytes(pack(bytes(20_000_000)))
        with Unpacked(tmp_path / "a") as stream, pytest.raises(ValueError, match=r"unpack to more than \d"):
            stream.skip(20_000_000)
        assert stream.position <= stream.limit + safe_read.PIECE

    @pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
    def test_what_is_cut_off_or_damaged_is_refused(self, tmp_path: Path, pack: Any) -> None:
        packed = bytearray(pack(os.urandom(10_000)))
        for content in (packed[:-1], packed[:5000], packed[:5000] + bytes([packed[5000] ^ 1]) + packed[5001:]):
            (tmp_path / "a").write_bytes(content)
            with Unpacked(tmp_path / "a") as stream, pytest.raises((ValueError, OSError)):
                stream.upto(20_000)

    def test_xz_gets_little_memory_for_itself(self, tmp_path: Path) -> None:
        packer = lzma.LZMACompressor(lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}])
        (tmp_path / "a").write_bytes(packer.compress(b"abc") + packer.flush())
        with Unpacked(tmp_path / "a") as stream, pytest.raises(ValueError, match="[Mm]emory"):
            stream.upto(3)
