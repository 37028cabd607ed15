"""How figures look: fonts, inks for a light and a dark page, colour maps.

Figure functions take every ink from matplotlib's settings, so that the same function draws
both themes; the settings hold while `theme` is open, and no global state is left behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.font_manager import fontManager

Theme = Literal["light", "dark"]

_theme: ContextVar[Theme] = ContextVar("theme", default="light")

# Okabe and Ito's hues for colour-blind readers; without black and yellow, which one of the two
# papers swallows.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
PALETTE_DARK = ["#56B4E9", "#F0893A", "#2FBF94", "#E3A1C6", "#A8D8F5", "#F2C14E"]

PAPER = {"light": "#ffffff", "dark": "#13171f"}
_INK = {"light": "#22262e", "dark": "#d5dae3"}
_FAINT = {"light": "#d4d8df", "dark": "#3a4150"}

# From the paper to one deep hue in equal steps of lightness (OKLCH), never to black: zero is the
# paper's colour in both themes, and more is always further from it.
_MORE = {
    "light": ["#c7e1fc", "#93c2f5", "#66a2e8", "#4180d5", "#255fb9", "#164195"],
    "dark": ["#0f3257", "#00508d", "#0070ba", "#3293db", "#6db6ed", "#afd7f4"],
}
_LESS = {
    "light": ["#fadac4", "#f2b58e", "#e4905e", "#d06d34", "#b64e10", "#983000"],
    "dark": ["#502206", "#813300", "#ac4d00", "#cd7125", "#e49c64", "#efc8aa"],
}

_STEPS = 257
"""Of a colour map."""

# Words on a colour, by whether they are dark on the light map and on the dark one. Each differs by
# one step of 255 from the ink it looks like, so that it can be told from it.
_WORDS = {
    (True, True): "#22262f",
    (True, False): "#22262d",
    (False, True): "#fffffe",
    (False, False): "#fffeff",
}

_SHAPES = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "font.size": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "text.parse_math": False,
    "text.usetex": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "carrylens",
    "figure.constrained_layout.use": True,
}

_CJK = ["Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Source Han Sans", "IPAGothic"]
_CJK += ["WenQuanYi Zen Hei", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei"]


@cache
def font_families() -> tuple[str, ...]:
    """Fonts of the figures in order of preference, of those installed: Latin first, then CJK."""

    installed = {font.name for font in fontManager.ttflist}
    return ("DejaVu Sans", *[name for name in _CJK if name in installed][:1])


@contextmanager
def theme(name: Theme) -> Iterator[None]:
    """Matplotlib's settings for one theme, inside the `with` block only."""

    token = _theme.set(name)
    try:
        with matplotlib.rc_context(_settings(name)):  # type: ignore[arg-type]
            yield
    finally:
        _theme.reset(token)


def color_map(centred: bool) -> Colormap:
    """The colour map of the open theme: from the paper to blue, or from orange through it."""
    return _ramp(_theme.get(), centred)


def _ramp(name: Theme, centred: bool) -> Colormap:
    below = [*reversed(_LESS[name])] if centred else []
    stops = [*below, PAPER[name], *_MORE[name]]
    return LinearSegmentedColormap.from_list(f"{name}-{centred}", stops, N=_STEPS)


def token_scale(values: np.ndarray) -> tuple[bool, float, float]:
    """Whether the colours of a text are centred on zero, and the two ends: those of its values.

    Within a text the question is which tokens have more than others, so the scale spans the
    range, and a legend says what its ends are.
    """
    low, high = float(values.min()), float(values.max())
    if low < 0 < high:
        return True, -max(-low, high), max(-low, high)
    return (False, low, high) if low < high else (False, min(low, 0.0), max(high, 0.0) or 1.0)


def ink_on(colour: Sequence[float], least: float = 0.408) -> str:
    """The ink of words on a colour of `color_map`: dark from a luminance of `least` on, else white.

    Light and dark maps get brighter in opposite directions, so that the ink is chosen for both.
    """
    if _theme.get() == "dark":
        return _INK["light"] if _luminance(colour) > least else PAPER["light"]
    in_dark = to_rgb(dark_inks().get(to_hex(colour), colour))
    return _WORDS[_luminance(colour) > least, _luminance(in_dark) > least]


def _luminance(colour: Sequence[float]) -> float:
    """How bright a colour is, as W3C defines it, from 0 to 1."""
    parts = np.asarray(colour[:3], dtype=float)
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@cache
def dark_inks() -> dict[str, str]:
    """Every ink of the light theme, as matplotlib writes it, with that of the dark one."""
    pairs = [*zip(PALETTE, PALETTE_DARK, strict=True)]
    pairs += [(inks["light"], inks["dark"]) for inks in (PAPER, _INK, _FAINT)]
    for centred in (False, True):
        maps = [_ramp(name, centred)(range(_STEPS)) for name in ("light", "dark")]
        pairs += zip(*maps, strict=True)
    found = {to_hex(light): to_hex(dark) for light, dark in reversed(pairs)}
    return found | {ink: _INK["light"] if dark else PAPER["light"]
                    for (_, dark), ink in _WORDS.items()}  # fmt: skip


def palette() -> list[str]:
    """The colours of series in the open theme, told apart by colour-blind readers."""
    return PALETTE_DARK if _theme.get() == "dark" else PALETTE


def _settings(name: Theme) -> dict[str, Any]:
    ink, faint, paper = _INK[name], _FAINT[name], PAPER[name]
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    papers = ("figure.facecolor", "axes.facecolor", "savefig.facecolor")
    return {
        **dict.fromkeys(inks, ink),
        **dict.fromkeys(papers, paper),
        "axes.edgecolor": faint,
        "grid.color": faint,
        "grid.linewidth": 0.6,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "font.family": list(font_families()),
        **_SHAPES,
    }
