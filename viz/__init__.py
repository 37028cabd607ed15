"""Tables in, drawings out: figures, the page of a run, and the gallery of all runs.

Nothing heavy is imported until it is used: `import viz` costs milliseconds, and a drawing
library is loaded by the first figure that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viz.drawing import Drawing, Widget, texts_of
    from viz.figures.anatomy import model_map
    from viz.figures.chips import token_chips
    from viz.figures.decoded import View, decoded_table
    from viz.figures.flow import flow_chart
    from viz.figures.flows import flow_blocks, flow_texts
    from viz.figures.grids import along_text, cell_grid, head_grid
    from viz.figures.heads import HeadText, head_explorer
    from viz.figures.matrices import heat_map
    from viz.figures.plots import bars, curves, scatter
    from viz.figures.points import point_map
    from viz.figures.steps import step_by_step
    from viz.figures.tokens import attention_patterns, colored_tokens
    from viz.figures.trees import dendrogram
    from viz.gallery import write_gallery
    from viz.html import duration, moment
    from viz.labels import label
    from viz.page import write_page
    from viz.summary import run_html
    from viz.wrapping import Figure, as_drawing

_HOME = {
    "Drawing": "drawing",
    "Figure": "wrapping",
    "View": "figures.decoded",
    "Widget": "drawing",
    "along_text": "figures.grids",
    "as_drawing": "wrapping",
    "attention_patterns": "figures.tokens",
    "bars": "figures.plots",
    "cell_grid": "figures.grids",
    "colored_tokens": "figures.tokens",
    "curves": "figures.plots",
    "decoded_table": "figures.decoded",
    "dendrogram": "figures.trees",
    "duration": "html",
    "flow_blocks": "figures.flows",
    "flow_chart": "figures.flow",
    "flow_texts": "figures.flows",
    "HeadText": "figures.heads",
    "head_explorer": "figures.heads",
    "head_grid": "figures.grids",
    "heat_map": "figures.matrices",
    "label": "labels",
    "model_map": "figures.anatomy",
    "moment": "html",
    "point_map": "figures.points",
    "run_html": "summary",
    "scatter": "figures.plots",
    "step_by_step": "figures.steps",
    "texts_of": "drawing",
    "token_chips": "figures.chips",
    "write_gallery": "gallery",
    "write_page": "page",
}

__all__ = [
    "Drawing",
    "Figure",
    "HeadText",
    "View",
    "Widget",
    "along_text",
    "as_drawing",
    "attention_patterns",
    "bars",
    "cell_grid",
    "colored_tokens",
    "curves",
    "decoded_table",
    "dendrogram",
    "duration",
    "flow_blocks",
    "flow_chart",
    "flow_texts",
    "head_explorer",
    "head_grid",
    "heat_map",
    "label",
    "model_map",
    "moment",
    "point_map",
    "run_html",
    "scatter",
    "step_by_step",
    "texts_of",
    "token_chips",
    "write_gallery",
    "write_page",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'viz' has no attribute {name!r}")
    return getattr(import_module(f"viz.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
