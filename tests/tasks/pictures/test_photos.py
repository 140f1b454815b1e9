"""The reader of pictures from outside: orientation, depth, colours, alpha, and what it refuses."""

import contextlib
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.pictures.photos import NO_NORMAL, has_background, picture_size, read_photo

CASES = Path(__file__).parents[2] / "cases"


def pixels(path: Path, **options) -> np.ndarray:
    return np.asarray(read_photo(path, **options).picture).astype(int)


def ramp(side: int = 64) -> np.ndarray:
    """A picture of all grey levels, column by column."""
    return np.tile(np.rint(np.linspace(0, 255, side)), (side, 1)).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_that_of_exif(tmp_path: Path, orientation: int) -> None:
    """The EXIF orientation turns or mirrors the stored pixels; the header's size agrees."""
    upright = np.zeros((40, 24, 3), np.uint8)
    upright[:10, :6] = 200, 30, 30
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif", "a.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(np.ascontiguousarray(turn(upright))).save(tmp_path / name, exif=exif, **options)
        np.testing.assert_array_equal(pixels(tmp_path / name), upright)
        assert picture_size(tmp_path / name) == (24, 40)


def test_the_rotated_photo_equals_the_plain_one() -> None:
    """A JPEG that was stored turned, up to compression."""
    turned, plain = pixels(CASES / "exif_rotated/exif6.jpg"), pixels(CASES / "exif_rotated/plain.png")
    assert np.abs(turned - plain).mean() < 4
    assert np.abs(turned - plain[::-1]).mean() > 10


def test_depths_are_scaled_to_eight_bits(tmp_path: Path) -> None:
    """The same ramp in 16-bit grey, 16-bit PGM, float and 1-bit black and white has the same values."""
    values = ramp().astype(np.float64)
    Image.fromarray((values * 257).astype(np.uint16)).save(tmp_path / "a.png")
    Image.fromarray((values * 257).astype(np.uint16)).save(tmp_path / "a.tif")
    Image.fromarray((values / 255).astype(np.float32)).save(tmp_path / "f.tif")
    (tmp_path / "a.pgm").write_bytes(b"P5 64 64 65535\n" + (values * 257).astype(">u2").tobytes())
    for name in ("a.png", "a.tif", "f.tif", "a.pgm"):
        np.testing.assert_array_equal(pixels(tmp_path / name), np.repeat(ramp()[..., None], 3, axis=2), err_msg=name)
    Image.fromarray(ramp() > 127).save(tmp_path / "b.png")
    assert set(np.unique(pixels(tmp_path / "b.png"))) == {0, 255}


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_fewer_bits_in_sixteen_are_a_note(tmp_path: Path, name: str) -> None:
    """Values of 12 bits in a picture of 16 are 16 times too dark, and the reader says so, but not of a bright one."""
    for factor, noted in ((16, True), (257, False)):
        Image.fromarray(ramp().astype(np.uint16) * np.uint16(factor)).save(tmp_path / name)
        notes = read_photo(tmp_path / name).notes
        assert bool(notes) == noted
        assert all("its values are at most 4080 of 65535" in note for note in notes)


@pytest.mark.parametrize(("name", "channels"), [("a.png", 3), ("a.png", 4), ("a.tif", 3)])
def test_fewer_bits_in_sixteen_of_colours_are_a_note(tmp_path: Path, name: str, channels: int) -> None:
    """As of grey, although Pillow keeps only the upper 8 bits of colours; an alpha does not make them bright."""
    for factor, noted in ((16, True), (257, False)):
        values = np.repeat(ramp()[..., None], channels, axis=2).astype(np.uint16) * np.uint16(factor)
        values[..., 3:] = 65535
        assert cv2.imwrite(str(tmp_path / name), values)
        notes = read_photo(tmp_path / name).notes
        assert bool(notes) == noted
        assert all("its values are at most 4095 of 65535" in note for note in notes)
    dark = np.repeat(ramp()[..., None] // 18, 3, axis=2)
    Image.fromarray(dark).save(tmp_path / name)
    assert read_photo(tmp_path / name).notes == ()


@pytest.mark.parametrize("kind", ["white", "black", "transparent"])
def test_a_picture_of_one_colour_but_for_a_pixel_is_refused(tmp_path: Path, kind: str) -> None:
    """One pixel is no head, be it of another colour or the only one that is not transparent; a hundredth may be."""
    colour = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255), "transparent": (9, 9, 9, 0)}[kind]
    picture = Image.new("RGBA", (64, 64), colour)
    picture.putpixel((5, 5), (120, 60, 30, 255))
    picture.save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"found one colour \(RGB .*\) in all but 1 of 4096 pixels"):
        read_photo(tmp_path / "a.png")
    picture.paste((120, 60, 30, 255), (5, 5, 12, 12))
    picture.save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").picture.getpixel((6, 6)) == (120, 60, 30)


@pytest.mark.parametrize("alpha", [1, 8, 40])
def test_a_nearly_transparent_picture_is_refused(tmp_path: Path, alpha: int) -> None:
    """On white it differs from it by some levels, which is no head; a few opaque pixels change nothing."""
    picture = Image.fromarray(np.repeat(ramp()[..., None], 3, axis=2)).convert("RGBA")
    picture.putalpha(alpha)
    picture.paste((9, 9, 9, 255), (5, 5, 7, 7))
    picture.save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"nearly transparent: 4 of 4096 pixels have an alpha|found one colour"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("alpha", ["one pixel", "254", "border"])
def test_only_a_transparent_border_is_cut_out(tmp_path: Path, alpha: str) -> None:
    """One translucent pixel, or an alpha just below 255 everywhere, does not hide that the background stays."""
    mask = np.full((64, 64), 254 if alpha == "254" else 255, np.uint8)
    if alpha == "one pixel":
        mask[0, 0] = 0
    elif alpha == "border":
        mask[:8] = mask[:, :8] = mask[:, -8:] = 0
    picture = Image.fromarray(np.repeat(ramp()[..., None] // 2, 3, axis=2))
    picture.putalpha(Image.fromarray(mask))
    picture.save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.cut_out == (alpha == "border") != has_background(found.picture)


def test_sixteen_bits_of_a_case() -> None:
    """The 16-bit case is no white picture: its levels span the range."""
    found = pixels(CASES / "gray16/gray16.png")
    assert found.max() - found.min() > 50
    assert (found < 250).mean() > 0.2


def test_white_is_zero_in_some_tiffs(tmp_path: Path) -> None:
    """A 16-bit TIFF whose zero is white is inverted."""
    values = (ramp().astype(np.float64) * 257).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as file:
        if file.tag_v2[262] != 0:
            pytest.skip("this Pillow writes its own photometric interpretation")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[..., 0], 255 - ramp())


def swapped_profile() -> bytes:
    """An sRGB profile with the columns of red and blue exchanged: its red is our blue."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12)
    names = {bytes(profile[at : at + 4]): at for at in entries}
    profile[names[b"rXYZ"] : names[b"rXYZ"] + 4], profile[names[b"bXYZ"] : names[b"bXYZ"] + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_profiles_are_converted(tmp_path: Path, mode: str) -> None:
    """Colours of a profile whose red is sRGB's blue come out exchanged; normal maps keep their numbers."""
    picture = Image.new("RGB", (32, 32), (250, 20, 40))
    picture.paste((10, 240, 90), (8, 8, 20, 20))
    stored = picture.quantize(4) if mode == "P" else picture.convert(mode)
    stored.save(tmp_path / "a.png", icc_profile=swapped_profile())
    found = pixels(tmp_path / "a.png")
    assert np.abs(found[0, 0] - [40, 20, 250]).max() <= 3
    assert np.abs(found[10, 10] - [90, 240, 10]).max() <= 3
    assert np.abs(pixels(tmp_path / "a.png", colours=False)[0, 0] - [250, 20, 40]).max() <= 3


@pytest.mark.parametrize(("gamma", "expected"), [(1 / 2.2, 128), (1.0, 186), (0.5, 136)])
def test_the_gamma_of_png_is_converted(tmp_path: Path, gamma: float, expected: int) -> None:
    """A sample v of linear light (gamma 1) is shown as v to the power of 1 / 2.2; a stated sRGB outweighs the gamma."""
    picture = Image.fromarray(np.tile(np.uint8([[[128] * 3, [0] * 3], [[255] * 3, [0] * 3]]), (16, 16, 1)))
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", round(gamma * 1e5)))
    picture.save(tmp_path / "picture.png", pnginfo=chunks)
    levels = np.asarray(read_photo(tmp_path / "picture.png").picture)[:2, :2, 0]
    np.testing.assert_array_equal(levels, [[expected, 0], [255, 0]])
    np.testing.assert_array_equal(np.asarray(read_photo(tmp_path / "picture.png", colours=False).picture)[0, 0], 128)
    levels = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(levels).save(tmp_path / "deep.png", pnginfo=chunks)
    assert np.asarray(read_photo(tmp_path / "deep.png").picture)[0, 0, 0] == expected
    chunks.add(b"sRGB", b"\0")
    picture.save(tmp_path / "picture.png", pnginfo=chunks)
    assert np.asarray(read_photo(tmp_path / "picture.png").picture)[0, 0, 0] == 128


def test_a_picture_of_few_pixels_is_refused(tmp_path: Path) -> None:
    """No face can be seen in it, though it has several colours."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 40, 3), dtype=np.uint8)).save(
        tmp_path / "picture.png"
    )
    with pytest.raises(ConfigError, match="expected a picture of at least 16 x 16 pixels, got 40 x 3"):
        read_photo(tmp_path / "picture.png")


def test_a_broken_profile_is_a_note(tmp_path: Path) -> None:
    """Colours are then taken as sRGB, and the reader says so."""
    Image.fromarray(ramp()).convert("RGB").save(tmp_path / "a.png", icc_profile=b"junk" * 40)
    found = read_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(found.picture)[..., 0], ramp())
    assert "its colour profile can't be used" in found.notes[0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "transparent colour"])
def test_transparent_parts_become_the_background(tmp_path: Path, mode: str) -> None:
    """White for pictures, grey for normal maps; the picture counts as cut out."""
    picture = Image.new("RGBA", (32, 32), (30, 30, 30, 0))
    picture.paste((90, 90, 90, 255), (8, 8, 20, 20))
    if mode == "transparent colour":
        picture.convert("RGB").save(tmp_path / "a.png", transparency=(30, 30, 30))
    else:
        (picture.quantize(4) if mode == "P" else picture.convert(mode)).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.cut_out
    assert (found.picture.getpixel((0, 0)), found.picture.getpixel((10, 10))) == ((255, 255, 255), (90, 90, 90))
    assert read_photo(tmp_path / "a.png", background=NO_NORMAL).picture.getpixel((0, 0)) == NO_NORMAL


def test_cmyk(tmp_path: Path) -> None:
    """A CMYK JPEG has the colours of the RGB picture that it was made of."""
    picture = Image.new("RGB", (32, 32), (200, 40, 60))
    picture.paste((40, 200, 60), (16, 0, 32, 32))
    picture.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(pixels(tmp_path / "a.jpg")[16, 8], [200, 40, 60], atol=8)


REFUSED = {
    "bomb/bomb.png": "expected a picture of at most 120 megapixels, found",
    "pictures/float_255.tif": "expected 8 or 16 bits a channel, or floats of 0 to 1, found F of .* to 18",
    "pictures/float_nan.tif": "floats of 0 to 1, found F of nan to nan",
    "pictures/int32.tif": "expected 8 or 16 bits a channel, or floats of 0 to 1, found I of",
    "pictures/transparent.png": "found one that is transparent everywhere",
    "pictures/white.png": r"found one colour \(RGB 255, 255, 255\) everywhere",
    "pictures/black.jpg": r"found one colour \(RGB 0, 0, 0\) everywhere",
    "pictures/truncated.jpg": "expected a picture, found none that can be read",
    "pictures/text.png": "expected a picture, found none that can be read: no AVIF",
    "pictures/empty.jpg": "expected a picture, found none that can be read",
    "pictures/postscript.png": "expected a picture, found none that can be read: no AVIF",
    "pictures": "expected a picture, found none that can be read",
    "pictures/nowhere.png": "expected a picture, found none that can be read",
}


def test_a_header_that_claims_more_than_the_file_can_hold_is_refused(tmp_path: Path) -> None:
    """A damaged height makes a picture of 67 megapixels of 10 kB; it is refused before memory is taken for it."""
    path = tmp_path / "claims.png"
    Image.effect_noise((64, 64), 60).convert("RGBA").save(path)
    data = path.read_bytes()
    header = data[12:20] + (2**20).to_bytes(4, "big") + data[24:29]
    path.write_bytes(data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:])
    with pytest.raises(ConfigError, match=r"expected a photo, found \d+ bytes for 64 x 1048576 pixels"):
        read_photo(path)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_pictures(name: str) -> None:
    """One line that begins with the file and says what was found."""
    with pytest.raises(ConfigError, match=REFUSED[name]) as refused:
        read_photo(CASES / name)
    assert str(refused.value).startswith(f"{CASES / name}: ")
    assert "\n" not in str(refused.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe is refused instead of blocking."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ConfigError, match="expected a picture, found none"):
        read_photo(tmp_path / "pipe.png")


def test_damaged_bytes_are_read_or_refused(tmp_path: Path) -> None:
    """Any changed byte or truncation of a photo with EXIF data gives a picture or a ConfigError."""
    data = (CASES / "exif_rotated/exif6.jpg").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(150):
        changed = bytearray(data[: int(rng.integers(len(data)))] if number % 5 == 0 else data)
        for place in rng.integers(len(changed) // (1 + number % 8) + 1, size=3):
            changed[place : place + 1] = bytes([int(rng.integers(256))])
        (tmp_path / "a.jpg").write_bytes(changed)
        with contextlib.suppress(ConfigError):
            assert read_photo(tmp_path / "a.jpg").picture.mode == "RGB"
        picture_size(tmp_path / "a.jpg")


def test_backgrounds_are_recognised() -> None:
    """White above shoulders that touch the lower edge is none; a dark or textured border is one."""
    portrait = np.full((60, 60, 3), 255, np.uint8)
    portrait[10:40, 20:40] = 90
    portrait[42:] = 60
    assert not has_background(Image.fromarray(portrait))
    assert has_background(Image.fromarray(np.where(portrait == 255, 120, portrait).astype(np.uint8)))
