"""Tables in, drawings out: figures, the page of a run, and the gallery of all runs.

Nothing heavy is imported until it is used: `import viz` costs milliseconds, and a drawing
library is loaded by the first figure that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viz.anatomy import model_map
    from viz.drawing import Drawing, Widget
    from viz.gallery import write_gallery
    from viz.grids import along_text, cell_grid, head_grid
    from viz.labels import label
    from viz.matrices import heat_map
    from viz.page import write_page
    from viz.plots import bars, curves, scatter
    from viz.points import point_map
    from viz.tokens import attention_patterns, colored_tokens
    from viz.trees import dendrogram

_HOME = {
    "Drawing": "drawing",
    "Widget": "drawing",
    "along_text": "grids",
    "attention_patterns": "tokens",
    "bars": "plots",
    "cell_grid": "grids",
    "colored_tokens": "tokens",
    "curves": "plots",
    "dendrogram": "trees",
    "head_grid": "grids",
    "heat_map": "matrices",
    "label": "labels",
    "model_map": "anatomy",
    "point_map": "points",
    "scatter": "plots",
    "write_gallery": "gallery",
    "write_page": "page",
}

__all__ = [
    "Drawing",
    "Widget",
    "along_text",
    "attention_patterns",
    "bars",
    "cell_grid",
    "colored_tokens",
    "curves",
    "dendrogram",
    "head_grid",
    "heat_map",
    "label",
    "model_map",
    "point_map",
    "scatter",
    "write_gallery",
    "write_page",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'viz' has no attribute {name!r}")
    return getattr(import_module(f"viz.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
