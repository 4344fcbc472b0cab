import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from epochal.data.inputs.picture import read
from epochal.data.inputs.picture.choose import choose_rule
from epochal.data.inputs.picture.decoding import decode
from epochal.data.inputs.picture.read import Measured, StreamedPictures, measure_picture, open_picture, to_tensor
from epochal.data.inputs.picture.rule import PictureRule
from epochal.errors import DataError

FITS = ("pad", "crop", "squash")
NOISE = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def rule(mode: Any = "RGB", size: Any = (6, 10), fit: Any = "pad") -> Any:
    return PictureRule(shape=(1 if mode == "L" else 3, *size), fit=fit)


def lossless(ending: str) -> dict[str, Any]:
    return {"lossless": True} if ending == "webp" else {}


def packed(picture: Any, form: str, **options: Any) -> Any:
    content = io.BytesIO()
    picture.save(content, form, **options)
    return content.getvalue()


class TestOpenPicture:
    @pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "webp"])
    def test_lossless_files_keep_every_pixel(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"a.{ending}"
        Image.fromarray(NOISE).save(path, **lossless(ending))
        assert (np.asarray(open_picture(path)) == NOISE).all()
        assert (np.asarray(open_picture(str(path))) == NOISE).all()

    @pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "tiff", "webp", "gif"])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    @pytest.mark.parametrize("fit", FITS)
    def test_file_array_and_pillow_picture_are_the_same_input(self, tmp_path: Path, ending: str, mode: Any, fit: Any) -> None:
        path = tmp_path / f"a.{ending}"
        Image.fromarray(NOISE).save(path)
        chosen = rule(mode, (5, 4), fit)
        from_file = to_tensor(open_picture(path), chosen)
        assert from_file.dtype == torch.uint8
        assert from_file.shape == (1 if mode == "L" else 3, 5, 4)
        with Image.open(path) as picture:
            assert to_tensor(open_picture(picture), chosen).equal(from_file)
        assert to_tensor(open_picture(np.asarray(open_picture(path))), chosen).equal(from_file)
        assert decode([str(path)], chosen)[0][0].equal(from_file)
        assert StreamedPictures([str(path)], chosen).read(0).equal(from_file)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
    def test_exif_rotation(self, tmp_path: Path, orientation: int, ending: str) -> None:
        # A red corner at the top left of the stored picture moves to where the EXIF standard says.
        stored = np.zeros((16, 32, 3), np.uint8)
        stored[:8, :8, 0] = 255
        path = tmp_path / f"a.{ending}"
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored).save(path, exif=exif, quality=100)
        top, left = {1: (1, 1), 2: (1, 0), 3: (0, 0), 4: (0, 1), 5: (1, 1), 6: (1, 0), 7: (0, 0), 8: (0, 1)}[orientation]
        upright = np.asarray(open_picture(path))
        assert upright.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
        assert upright[4 if top else -4, 4 if left else -4, 0] > 200
        assert measure_picture(str(path)) == Measured(*upright.shape[:2], grey=False)
        # Opening is idempotent, and a Pillow picture is rotated too.
        with Image.open(path) as picture:
            assert (np.asarray(open_picture(picture)) == upright).all()
        assert (np.asarray(open_picture(open_picture(path))) == upright).all()

    def test_damaged_exif_does_not_spoil_a_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        Image.fromarray(NOISE).save(path, exif=b"Exif\0\0nonsense")
        assert (np.asarray(open_picture(path)) == NOISE).all()
        assert measure_picture(str(path)) == Measured(6, 10, grey=False)

    def test_first_frame_of_a_gif(self, tmp_path: Path) -> None:
        red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
        red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
        assert open_picture(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)

    def test_transparency_becomes_white(self, tmp_path: Path) -> None:
        clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
        clear.putpixel((0, 0), (255, 0, 0, 255))
        for name, picture in {"a.png": clear, "b.png": clear.convert("P"), "c.webp": clear}.items():
            picture.save(tmp_path / name, **lossless(name[2:]))
            opened = open_picture(tmp_path / name)
            assert opened.mode == "RGB"
            assert opened.getpixel((0, 0)) == (255, 0, 0)
            assert opened.getpixel((1, 1)) == (255, 255, 255)
        opened = open_picture(Image.new("LA", (2, 2), (10, 0)))
        assert (opened.mode, opened.getpixel((0, 0))) == ("L", 255)
        Image.new("L", (2, 2), 7).save(tmp_path / "d.png", transparency=7)
        assert open_picture(tmp_path / "d.png").getpixel((0, 0)) == 255

    def test_white_is_laid_under_large_pictures_tile_by_tile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        layer = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 10, 4), np.uint8))
        whole = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        for tile in (3, 7, 1024):
            monkeypatch.setattr(read, "TILE", tile)
            assert (np.asarray(open_picture(layer)) == np.asarray(whole)).all()

    def test_every_grey_survives_with_and_without_alpha(self) -> None:
        grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
        with_alpha = Image.merge("LA", [Image.fromarray(grey), Image.new("L", (16, 16), 255)])
        assert (np.asarray(open_picture(with_alpha)) == grey).all()
        assert (to_tensor(open_picture(Image.fromarray(grey).convert("RGB")), rule("L", (16, 16))).numpy()[0] == grey).all()
        assert (to_tensor(open_picture(grey), rule("RGB", (16, 16))).numpy() == grey).all()

    def test_palette_cmyk_and_black_and_white(self, tmp_path: Path) -> None:
        Image.new("RGB", (2, 2), (10, 200, 30)).quantize(4).save(tmp_path / "p.png")
        assert open_picture(tmp_path / "p.png").getpixel((0, 0)) == (10, 200, 30)
        Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(tmp_path / "c.tiff")
        assert open_picture(tmp_path / "c.tiff").getpixel((0, 0)) == (255, 0, 0)
        Image.new("1", (2, 2), 1).save(tmp_path / "b.png")
        opened = open_picture(tmp_path / "b.png")
        assert (opened.mode, opened.getpixel((0, 0))) == ("L", 255)

    @pytest.mark.parametrize("ending", ["png", "tiff"])
    def test_sixteen_bits_keep_their_high_byte(self, tmp_path: Path, ending: str) -> None:
        deep = np.arange(0, 65536, 17, dtype=np.uint16)[:3840].reshape(60, 64)
        Image.fromarray(deep).save(tmp_path / f"a.{ending}")
        expected = (deep >> 8).astype(np.uint8)
        assert (np.asarray(open_picture(tmp_path / f"a.{ending}")) == expected).all()
        assert (np.asarray(open_picture(deep)) == expected).all()
        assert (np.asarray(open_picture(deep.astype(">u2"))) == expected).all()
        assert (np.asarray(open_picture(Image.fromarray(deep.astype(np.int32)))) == expected).all()
        assert measure_picture(str(tmp_path / f"a.{ending}")) == Measured(60, 64, grey=True, deep=True)

    def test_numbers_that_are_no_pixels(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "f.tiff")
        with pytest.raises(DataError, match=r"f\.tiff contains fractional numbers\.\nSave it with 8 or 16 bits"):
            open_picture(tmp_path / "f.tiff")
        with pytest.raises(DataError, match=r"contains numbers beyond 16 bits"):
            open_picture(Image.fromarray(np.full((2, 2), 70_000, np.int32)))

    def test_arrays(self) -> None:
        assert (np.asarray(open_picture(NOISE)) == NOISE).all()
        assert (np.asarray(open_picture(NOISE[..., :1])) == NOISE[..., 0]).all()
        assert (np.asarray(open_picture(NOISE[::-1, ::-1])) == NOISE[::-1, ::-1]).all()
        assert open_picture(np.zeros((2, 3, 4), np.uint8)).getpixel((0, 0)) == (255, 255, 255)

    @pytest.mark.parametrize(
        ("array", "text"),
        [
            (np.zeros((2, 2), np.float32), r"array of shape \(2, 2\) contains float32, not pixels.\nPass uint8"),
            (np.zeros((3, 8, 8), np.uint8), r"array of shape \(3, 8, 8\) is not a picture.\nPass \[height, width\]"),
            (np.zeros((2, 2, 3), np.uint16), r"contains uint16"),
            (np.zeros((0, 4), np.uint8), r"is not a picture"),
            (np.zeros(4, np.uint8), r"is not a picture"),
        ],
    )
    def test_arrays_that_are_no_pictures(self, array: Any, text: str) -> None:
        with pytest.raises(DataError, match=text):
            open_picture(array)

    def test_unreadable_files_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("hello")
        (tmp_path / "empty.png").write_bytes(b"")
        Image.fromarray(NOISE).save(tmp_path / "picture.ppm")
        for name in ("text.png", "picture.ppm"):
            with pytest.raises(DataError, match=rf"{name} is not a picture in PNG, JPEG, WebP, BMP, TIFF or GIF\.\nSave it"):
                open_picture(tmp_path / name)
        with pytest.raises(DataError, match=r"empty.png is empty\.\nCopy it again"):
            open_picture(tmp_path / "empty.png")
        with pytest.raises(DataError, match=r"absent\.png does not exist\.\nCheck the path"):
            open_picture(tmp_path / "absent.png")
        with pytest.raises(DataError, match=r"is a folder, not a picture"):
            open_picture(tmp_path)

    @pytest.mark.parametrize(("error", "text"), [(PermissionError, "may not be read"), (MemoryError, "does not fit in memory")])
    def test_what_the_system_refuses(
        self, save_picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Any, text: str
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise error

        path = save_picture("a.png")
        monkeypatch.setattr(Image, "open", refuse)
        with pytest.raises(DataError, match=rf"a\.png {text}"):
            open_picture(path)

    def test_too_many_pixels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(read, "MAX_PIXELS", 59)
        Image.fromarray(NOISE).save(tmp_path / "a.png")
        for source in (tmp_path / "a.png", Image.fromarray(NOISE), NOISE):
            with pytest.raises(DataError, match=r"has 60 pixels, more than 59\.\nSave it smaller"):
                open_picture(source)
        with pytest.raises(DataError, match=r"a\.png has 60 pixels"):
            measure_picture(str(tmp_path / "a.png"))

    @pytest.mark.parametrize("frames", [1, 2])
    def test_webp_is_decoded_four_times_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int) -> None:
        Image.fromarray(NOISE).save(tmp_path / "a.webp", save_all=frames > 1, append_images=[Image.fromarray(255 - NOISE)] * (frames - 1))
        monkeypatch.setattr(read, "MAX_PIXELS", 120)
        open_picture(tmp_path / "a.webp")
        monkeypatch.setattr(read, "MAX_PIXELS", 119)
        with pytest.raises(DataError, match=r"a\.webp has 60 pixels, more than 59"):
            open_picture(tmp_path / "a.webp")

    def test_pillow_refuses_bombs_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Image.fromarray(NOISE).save(tmp_path / "a.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        with pytest.raises(DataError, match=r"a\.png has more than 178,000,000 pixels"):
            open_picture(tmp_path / "a.png")

    @pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"])
    def test_a_file_cut_anywhere_is_refused_or_whole(self, tmp_path: Path, form: str) -> None:
        content = packed(Image.fromarray(NOISE), form)
        whole = np.asarray(open_picture(Image.open(io.BytesIO(content))))
        path, refused = tmp_path / "a", 0
        for length in range(len(content)):
            path.write_bytes(content[:length])
            try:
                # Only what follows the last pixel may be missing.
                assert (np.asarray(open_picture(path)) == whole).all()
            except DataError:
                refused += 1
        assert refused >= len(content) * 0.5

    def test_truncation_is_called_so(self, save_picture: Callable[..., Path]) -> None:
        path = save_picture("a.jpg", (64, 64))
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(DataError, match=r"a\.jpg is truncated\.\nCopy it again, or remove it"):
            open_picture(path)

    @settings(max_examples=150, deadline=None)
    @given(place=st.integers(0, 10_000), value=st.integers(0, 255), form=st.sampled_from(["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"]))
    @pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of odd metadata.
    def test_any_damage_gives_a_picture_or_a_data_error(
        self, tmp_path_factory: pytest.TempPathFactory, place: Any, value: int, form: str
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        content = bytearray(packed(Image.fromarray(NOISE), form, **({"exif": exif} if form in ("PNG", "JPEG", "WEBP") else {})))
        content[place % len(content)] = value
        path = tmp_path_factory.getbasetemp() / "damaged"
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            assert open_picture(path).mode in ("L", "RGB")


class TestToTensor:
    @settings(max_examples=60, deadline=None)
    @given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from(FITS))
    def test_always_of_the_size(self, size: Any, wanted: tuple[int, int], fit: Any) -> None:
        picture = open_picture(np.full((*size, 3), 200, np.uint8))
        made = to_tensor(picture, rule("RGB", wanted, fit))
        assert made.shape == (3, *wanted)
        # A picture of one colour keeps it; only padding adds black.
        assert set(made.unique().tolist()) <= ({0, 200} if fit == "pad" else {200})

    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(FITS), st.sampled_from(["L", "RGB"]))
    def test_a_picture_of_that_size_keeps_every_bit(self, height: Any, width: Any, fit: Any, mode: Any) -> None:
        array = NOISE.repeat(2, 0).repeat(2, 1)[:height, :width]
        array = array if mode == "RGB" else array[..., 0]
        made = to_tensor(open_picture(np.ascontiguousarray(array)), rule(mode, (height, width), fit))
        assert (made.numpy() == (array.transpose(2, 0, 1) if mode == "RGB" else array[None])).all()

    @pytest.mark.parametrize(
        ("edge", "filled"),
        [((255, 255, 255), (255, 255, 255)), ((240, 20, 90), (240, 20, 90)), ((0, 0, 0), (0, 0, 0)), (None, (0, 0, 0))],
    )
    @pytest.mark.parametrize("size", [(12, 40), (40, 12)])
    def test_pads_with_the_colour_of_the_edges_where_they_have_one(self, edge: Any, filled: Any, size: tuple[int, int]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        if edge is not None:
            noise = np.random.default_rng(1).integers(-6, 7, pixels.shape)
            plain = np.clip(np.array(edge) + noise, 0, 255).astype(np.uint8)
            plain[4:-4, 4:-4] = pixels[4:-4, 4:-4]
            pixels = plain
        padded = PictureRule(shape=(3, 20, 20))
        made = to_tensor(open_picture(pixels), padded).permute(1, 2, 0)
        corner = made[0, 0].int() - torch.tensor(filled)
        assert corner.abs().max() <= 4
        assert (made[0] == made[0, 0]).all() if size == (12, 40) else (made[:, 0] == made[0, 0]).all()

    def test_pad_centres_on_black(self) -> None:
        pixels = np.tile(np.arange(36, 255, 30).astype(np.uint8), (4, 1))  # Its edges have no colour in common.
        made = to_tensor(open_picture(pixels), rule("L", (8, 8), "pad"))[0]
        assert made[:2].eq(0).all()
        assert made[2:6].equal(torch.from_numpy(pixels))
        assert made[6:].eq(0).all()

    def test_crop_cuts_both_sides_and_changes_no_pixel(self) -> None:
        made = to_tensor(open_picture(NOISE), rule("RGB", (6, 6), "crop"))
        assert (made.numpy() == NOISE[:, 2:8].transpose(2, 0, 1)).all()

    def test_squash_keeps_all(self) -> None:
        halves = np.repeat(np.array([[0, 255]], np.uint8), 50, axis=1).repeat(20, axis=0)
        made = to_tensor(open_picture(halves), rule("L", (10, 10), "squash"))[0]
        assert made[:, :4].eq(0).all()
        assert made[:, 6:].eq(255).all()

    def test_shrinking_counts_every_pixel(self) -> None:
        checks = (np.indices((640, 640)).sum(0) % 2 * 255).astype(np.uint8)
        made = to_tensor(open_picture(checks), rule("L", (8, 8), "squash"))
        assert 120 <= made.min() <= made.max() <= 135

    @pytest.mark.parametrize("fit", FITS)
    def test_extreme_shapes_stay_cheap(self, fit: Any) -> None:
        line = np.zeros((1, 200_000), np.uint8)
        assert to_tensor(open_picture(line), rule("L", (64, 64), fit)).shape == (1, 64, 64)

    def test_writable(self) -> None:
        to_tensor(open_picture(NOISE), rule()).add_(1)


class TestChooseRule:
    @staticmethod
    def of(*sizes: Any, grey: Any = False) -> Any:
        return [Measured(height, width, grey) for height, width in sizes]

    def test_small_pictures_of_one_size_keep_it(self) -> None:
        chosen, notes = choose_rule(self.of((28, 20), (28, 20), grey=True), None, None)
        assert (chosen.mode, chosen.side, notes) == ("L", (28, 20), ())

    def test_grey_only_if_all_are(self) -> None:
        assert choose_rule([Measured(8, 8, True), Measured(8, 8, False)], None, None)[0].mode == "RGB"

    def test_large_squares(self) -> None:
        chosen, notes = choose_rule(self.of((96, 96), (96, 96)), None, None)
        assert chosen.side == (64, 64)
        assert notes == ("pictures of 96×96 pixels are read at 64×64; data.size changes it",)

    def test_common_aspect_is_kept(self) -> None:
        chosen, notes = choose_rule(self.of((300, 400), (301, 400), (600, 800)), None, None)
        assert (chosen.side, chosen.fit) == ((64, 85), "squash")
        assert notes == ("pictures of 300 to 800 pixels are read at 64×85; data.size changes it",)
        assert choose_rule(self.of((400, 300)), None, None)[0].side == (85, 64)

    def test_nearly_square_is_square(self) -> None:
        assert choose_rule(self.of((100, 104), (104, 100)), None, None)[0].side == (64, 64)

    def test_small_pictures_of_many_sizes_are_not_blown_up(self) -> None:
        assert choose_rule(self.of((20, 20), (24, 22), (30, 31)), None, None)[0].side == (22, 22)

    def test_crop_where_little_is_lost(self) -> None:
        chosen, notes = choose_rule(self.of((100, 92), (100, 108)), None, None)
        assert (chosen.side, chosen.fit) == ((64, 64), "crop")
        assert notes[0].endswith("read at 64×64 (crop: at least 92% of every picture stays); data.size and data.fit change it")

    def test_pad_where_shapes_vary(self) -> None:
        chosen, notes = choose_rule(self.of((300, 150), (4000, 8400)), None, None)
        assert (chosen.side, chosen.fit) == ((64, 64), "pad")
        assert notes == (
            "pictures of 150 to 8,400 pixels are read at 64×64 (pad: aspect ratios vary from 0.5 to 2.1); data.size and data.fit change it",
        )

    def test_given_values_are_followed_without_a_word(self) -> None:
        chosen, notes = choose_rule(self.of((300, 400), (50, 300)), (32, 40), "crop")
        assert (chosen.side, chosen.fit, notes) == ((32, 40), "crop", ())

    def test_a_given_square_for_alike_pictures(self) -> None:
        chosen, notes = choose_rule(self.of((300, 400), (300, 400)), 32, None)
        assert (chosen.side, chosen.fit) == ((32, 32), "squash")
        assert notes == ("pictures of 300×400 pixels are read at 32×32 (squash: aspect ratios agree); data.fit changes it",)

    def test_given_fit_leaves_only_the_size_to_tell(self) -> None:
        _, notes = choose_rule(self.of((300, 150), (100, 200)), None, "pad")
        assert notes == ("pictures of 100 to 300 pixels are read at 64×64; data.size changes it",)

    @given(
        st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 5000)), min_size=1, max_size=20),
        st.none() | st.integers(1, 300),
        st.none() | st.sampled_from(FITS),
    )
    def test_any_pictures_get_a_rule(self, sizes: Any, size: Any, fit: Any) -> None:
        chosen, notes = choose_rule(self.of(*sizes), size, fit)
        assert min(chosen.side) >= 1
        assert size is None or chosen.side == (size, size)
        assert fit is None or chosen.fit == fit
        assert not notes or (size is None or fit is None)
