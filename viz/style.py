"""How figures look: fonts, inks for a light and a dark page, colour maps, names of axes.

Figure functions take every ink from matplotlib's settings, so that the same function draws
both themes; the settings hold while `theme` is open, and no global state is left behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

Theme = Literal["light", "dark"]

_theme: ContextVar[Theme] = ContextVar("theme", default="light")

# Okabe and Ito's hues for colour-blind readers; without black and yellow, which one of the two
# papers swallows.
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
PALETTE_DARK = ["#56B4E9", "#F0893A", "#2FBF94", "#E3A1C6", "#A8D8F5", "#F2C14E"]

PAPER = {"light": "#ffffff", "dark": "#13171f"}
_INK = {"light": "#22262e", "dark": "#d5dae3"}
_FAINT = {"light": "#d4d8df", "dark": "#3a4150"}

# Zero fades into the paper in both themes: more is always further from the paper.
_MAPS = {
    ("light", False): "mako_r",
    ("dark", False): "mako",
    ("light", True): "vlag",
    ("dark", True): "icefire",
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

_AXES = {
    "accuracy": "accuracy (share right)",
    "attention": "attention (share of a row)",
    "attention_entropy": "attention entropy (nats)",
    "closeness": "closeness (1 − relative distance)",
    "cosine": "cosine with the block’s output",
    "digit": "digit",
    "estimate": "estimate",
    "l1_proximity": "L1 proximity (share)",
    "l2_norm": "L2 norm (units of the residual stream)",
    "norm_share": "share of the lengths",
    "place": "decimal place (0 = units)",
    "pos": "position (tokens)",
    "projection_share": "share of the output (sums to 1)",
    "run": "run of nines below (columns)",
    "seconds": "time (seconds)",
    "step": "training step",
}


def axis_name(column: str) -> str:
    """The words, with the unit, that an axis shows for a column of a table."""
    return _AXES.get(column, column.replace("_", " "))


@cache
def font_families() -> tuple[str, ...]:
    """Fonts of the figures in order of preference, of those installed: Latin first, then CJK."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ("DejaVu Sans", *[name for name in _CJK if name in installed][:1])


@contextmanager
def theme(name: Theme) -> Iterator[None]:
    """Matplotlib's settings for one theme, inside the `with` block only."""
    import matplotlib

    token = _theme.set(name)
    try:
        with matplotlib.rc_context(_settings(name)):  # type: ignore[arg-type]
            yield
    finally:
        _theme.reset(token)


def color_map(centred: bool) -> "Colormap":
    """The colour map of the open theme: perceptually uniform, or diverging from zero."""
    import seaborn as sns

    return sns.color_palette(_MAPS[_theme.get(), centred], as_cmap=True)


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
