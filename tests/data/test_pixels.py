"""Pictures look as viewers show them: every mode with its full range, on white, upright."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from condense_core.data.image_file import FORMATS, image_suffixes, open_image
from condense_core.data.pixels import TURNS

Image.init()
DECODED = [name for name in Image.OPEN if name in FORMATS]
REFUSED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # they are no pictures, or other programs draw them
REFUSED |= {"FITS", "IM", "IMT", "IPTC", "MCIDAS", "SPIDER", "XVTHUMB"}  # measurements, or of no known suffix
EXACT = ("PNG", "TIFF", "BMP", "PPM", "JPEG2000", "TGA", "SGI", "ICO", "DDS", "PCX", "QOI", "DIB")
LOSSY = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
SIXTEEN = ("I;16", "I;16B", "I;16L")

DOWN, RIGHT = np.mgrid[0:32, 0:32]
COLOURS = Image.fromarray(np.stack([RIGHT * 8, DOWN * 8, (RIGHT + DOWN) * 4], -1).astype(np.uint8))
GREY = COLOURS.convert("L")


def in_mode(mode: str) -> Image.Image:
    """A smooth picture in a mode of Pillow, with its full range."""
    if mode in SIXTEEN:
        return Image.fromarray(np.asarray(GREY).astype(np.int32) * 257).convert(mode)  # through mode I
    steps = {"La": ("LA",), "RGBa": ("RGBA",), "PA": ("P",)}.get(mode, ())
    image = GREY if mode in ("1", "L", "LA", "La") else COLOURS
    for step in (*steps, mode):
        image = image.convert(step)
    return image


def can_hold(kind: str, mode: str) -> bool:
    """Whether a format has pictures of a mode; those for 8 bits cut 16 off without a word."""
    try:
        in_mode(mode).save(io.BytesIO(), kind)
    except (OSError, ValueError, KeyError):
        return False
    return not (mode in SIXTEEN and kind in LOSSY)


MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", *SIXTEEN]
HELD = [(mode, kind) for mode in MODES for kind in (*EXACT, *LOSSY) if can_hold(kind, mode)]


def pixels(path) -> np.ndarray:
    return np.asarray(open_image(path, 8)).astype(int)


def test_every_format_of_pillow_is_read_or_refused_on_purpose():
    assert set(Image.OPEN) == set(DECODED) | REFUSED
    assert {".jfif", ".jpg", ".png", ".pbm", ".tif", ".webp", ".jp2", ".tga"} <= image_suffixes()
    assert not {".eps", ".ps", ".wmf", ".pdf", ".h5", ".mpg"} & image_suffixes()


@pytest.mark.parametrize(("mode", "kind"), HELD)
def test_every_mode_is_shown_with_its_full_range_in_every_format(tmp_path, mode, kind):
    picture = in_mode(mode)
    picture.save(tmp_path / "picture", kind, **LOSSY.get(kind, {}))
    found = pixels(tmp_path / "picture")
    in_eight_bits = GREY if mode in SIXTEEN else picture.convert("LA") if mode == "La" else picture
    expected = np.asarray(in_eight_bits.convert("RGB")).astype(int)
    difference = np.abs(found - expected)
    assert difference.mean() <= (3 if kind in LOSSY else 1)
    if kind in EXACT and mode != "YCbCr":
        assert difference.max() <= 1


@pytest.mark.parametrize(("mode", "kind"), [("F", "TIFF"), ("F", "PPM"), ("I", "TIFF"), ("LAB", "TIFF")])
def test_a_mode_whose_range_is_not_known_is_refused_by_name(tmp_path, mode, kind):
    Image.new(mode, (8, 8)).save(tmp_path / "picture", format=kind)
    with pytest.raises(ValueError, match=f"picture .its pixels are of mode {mode}; valid: grey or RGB"):
        open_image(tmp_path / "picture", 8)


def tiff(bits: int, photometric: int, row: bytes, width: int) -> bytes:
    """A grey TIFF of one row."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1), (278, 1)]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in (*tags, (279, len(row))))
    return b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + row


@pytest.mark.parametrize(
    ("bits", "photometric", "row", "expected"),
    [
        (16, 1, struct.pack("<3H", 0, 32768, 65535), [0, 128, 255]),
        (16, 0, struct.pack("<3H", 0, 32768, 65535), [255, 127, 0]),
        (8, 0, bytes([0, 128, 255]), [255, 127, 0]),
        (12, 1, bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x00]), [0, 128, 255]),
    ],
)
def test_a_tiff_is_read_with_its_own_bits_and_its_own_white(tmp_path, bits, photometric, row, expected):
    (tmp_path / "x.tif").write_bytes(tiff(bits, photometric, row, 3))
    assert pixels(tmp_path / "x.tif")[0, :, 0].tolist() == expected


HIDDEN = [  # colours under transparent pixels
    ("RGBA", "PNG", {}),
    ("RGBA", "TIFF", {}),
    ("RGBA", "WEBP", {"lossless": True, "exact": True}),
    ("LA", "PNG", {}),
    ("PA", "TIFF", {}),
    ("P", "PNG", {"transparency": 0}),
    ("P", "GIF", {"transparency": 0}),
    ("L", "PNG", {"transparency": 60}),
    ("RGB", "PNG", {"transparency": (200, 60, 0)}),
    ("I;16", "PNG", {"transparency": 1000}),
]


@pytest.mark.parametrize(("mode", "kind", "options"), HIDDEN)
def test_what_is_transparent_is_white_whatever_is_hidden_beneath(tmp_path, mode, kind, options):
    if mode in ("RGBA", "LA", "PA"):
        image = Image.new(mode, (8, 8), {"RGBA": (200, 60, 0, 0), "LA": (60, 0), "PA": (1, 0)}[mode])
        image.putpalette([9] * 768) if mode == "PA" else None
    else:
        image = Image.new(mode, (8, 8), {"P": 0, "L": 60, "RGB": (200, 60, 0), "I;16": 1000}[mode])
        image.putpalette([200, 60, 0] * 256) if mode == "P" else None
    image.save(tmp_path / "picture", format=kind, **options)
    assert (pixels(tmp_path / "picture") == 255).all()


def test_half_transparent_is_half_way_to_white_and_opaque_stays_exact(tmp_path):
    draws = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    for alpha in (255, 128):
        draws[..., 3] = alpha
        Image.fromarray(draws).save(tmp_path / "x.png")
        share = alpha / 255
        expected = draws[..., :3] * share + 255 * (1 - share)
        assert np.abs(pixels(tmp_path / "x.png") - expected).max() <= (1 if alpha < 255 else 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_as_its_exif_says(tmp_path, kind, orientation):
    corners = np.zeros((32, 48, 3), np.uint8)
    corners[:16, :16], corners[:16, 32:], corners[16:, :16] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    image, exif = Image.fromarray(corners), Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "picture", kind, exif=exif)
    found = pixels(tmp_path / "picture")
    turn = TURNS.get(orientation)
    expected = np.asarray(image if turn is None else image.transpose(turn)).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 10
    assert found.shape[:2] == ((48, 32) if orientation > 4 else (32, 48))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_make_a_picture_unreadable(tmp_path):
    plain, damaged = io.BytesIO(), b"Exif\0\0MM\0*\xff\xff\xff\xff\0\1\1\x12"
    COLOURS.save(plain, "JPEG", exif=damaged)
    (tmp_path / "x.jpg").write_bytes(plain.getvalue())
    assert pixels(tmp_path / "x.jpg").shape == (32, 32, 3)


def test_a_fourth_byte_that_is_always_0_hides_nothing(tmp_path):
    hidden = Image.new("RGBA", (8, 8), (200, 60, 0, 0))
    for name in ("x.tga", "x.png"):
        hidden.save(tmp_path / name)
    assert pixels(tmp_path / "x.tga")[0, 0].tolist() == [200, 60, 0]
    assert pixels(tmp_path / "x.png")[0, 0].tolist() == [255, 255, 255]


def test_a_frame_of_a_film_is_its_first(tmp_path):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    for kind in ("GIF", "PNG", "TIFF", "WEBP"):
        red.save(tmp_path / "film", kind, save_all=True, append_images=[blue])
        assert pixels(tmp_path / "film")[0, 0].tolist() == pytest.approx([255, 0, 0], abs=4)
