"""Show a picture as viewers do: upright, on white where it is transparent, in 8 bits per channel."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

BACKGROUND = "white"  # beneath transparent pixels
CONVERTED = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})  # by Pillow, in full range
TRANSPARENT = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
SIXTEEN_BITS_IN_32 = frozenset({"PNG", "PPM"})  # formats whose mode I has no other range
SPARE_BYTE = frozenset({"BMP", "DIB", "TGA"})  # their writers leave a fourth byte 0: viewers pass over it
WHITE_IS_ZERO, PHOTOMETRIC, BITS = 0, 262, 258  # of TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the orientation of EXIF


def shown(image: Image.Image) -> Image.Image:
    """Return a picture upright and in RGB. Raise ValueError for modes whose black and white nobody knows."""
    image.load()
    turn = TURNS.get(_orientation(image))
    rgb = _rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # EXIF that is damaged does not make the picture unreadable
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format in SIXTEEN_BITS_IN_32):
        return _of_16_bits(image)
    if image.mode in TRANSPARENT or (image.mode in CONVERTED and "transparency" in image.info):
        return _on_background(image)
    if image.mode in CONVERTED:
        return image.convert("RGB")
    raise ValueError(f"its pixels are of mode {image.mode}; valid: grey or RGB with 8 or 16 bits per channel")


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Take the high byte of every pixel; of a TIFF with fewer bits, or with white as 0, its like."""
    levels = np.asarray(image).astype(np.int32)
    tags = getattr(image, "tag_v2", {})
    bits = max(tags.get(BITS, (16,)))
    grey = (levels >> (bits - 8)).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    if (hidden := image.info.get("transparency")) is not None:
        grey[levels == hidden] = 255
    return Image.fromarray(grey).convert("RGB")


def _on_background(image: Image.Image) -> Image.Image:
    hidden = image.info.get("transparency")
    if isinstance(hidden, tuple) and max(hidden) > 255:  # of 16 bits, which Pillow has reduced to 8
        image.info["transparency"] = tuple(level >> 8 for level in hidden)
    layer = image.convert("LA") if image.mode == "La" else image
    rgba = layer.convert("RGBA")
    if image.format in SPARE_BYTE and rgba.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, BACKGROUND), rgba).convert("RGB")
