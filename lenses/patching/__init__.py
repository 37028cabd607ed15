"""What a model predicts when something in it is removed or exchanged."""

from lenses.patching.without import Predicted, without_heads

__all__ = ["Predicted", "without_heads"]
