"""A picture of the light theme in the inks of the dark one: neither laid out nor drawn again."""

import re
from base64 import b64decode, b64encode
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from viz.style import dark_inks

_INK = re.compile(r"(?<=: )#[0-9a-f]{6}(?=[;\"])")
_PICTURE = re.compile(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=\s]+")
_FAR = 3
"""Steps of 255 in all up to which a pixel has an ink; a scale's pixels are rounded."""


def darkened(svg: str) -> str:
    """An SVG that matplotlib drew in the light theme, as it would be in the dark one.

    What has no ink of the theme keeps its own.
    """
    inked = _INK.sub(lambda ink: dark_inks().get(ink[0], ink[0]), svg)
    return _PICTURE.sub(lambda picture: _darkened_png(picture[0]), inked)


def _darkened_png(encoded: str) -> str:
    """A picture within an SVG, such as a scale of colours, pixel by pixel."""
    with Image.open(BytesIO(b64decode(encoded))) as image:
        pixels = np.array(image.convert("RGBA"))
    colours, where = np.unique(pixels[..., :3].reshape(-1, 3), axis=0, return_inverse=True)
    light, dark = _inks()
    far = np.abs(colours[:, None].astype(int) - light).sum(axis=2)
    changed = np.where(far.min(1, keepdims=True) <= _FAR, dark[far.argmin(1)], colours)
    pixels[..., :3] = changed[where.ravel()].reshape(pixels[..., :3].shape)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return b64encode(out.getvalue()).decode()


@cache
def _inks() -> tuple[np.ndarray, np.ndarray]:
    """Inks of the light theme and of the dark one, [ink, 3] in steps of 255."""
    pairs = [[bytes.fromhex(ink[1:]) for ink in pair] for pair in dark_inks().items()]
    light, dark = zip(*pairs, strict=True)
    return tuple(np.array([list(ink) for ink in inks]) for inks in (light, dark))
