"""Loading models and proving them: the only folder that knows TransformerLens.

Importing this costs nothing: cards are read without torch, and a model's libraries are imported
when a model is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models.card import Card, ModelError, cards, find_card

if TYPE_CHECKING:
    from models.loading import check, examined, load, untrained
    from models.protocol import Identity, Model
    from models.verification import identities
    from models.wrapped import wrap

_HOME = {
    "Model": "models.protocol",
    "check": "models.loading",
    "examined": "models.loading",
    "load": "models.loading",
    "untrained": "models.loading",
    "Identity": "models.protocol",
    "identities": "models.verification",
    "wrap": "models.wrapped",
}

__all__ = [
    "Card",
    "Identity",
    "Model",
    "ModelError",
    "cards",
    "check",
    "examined",
    "find_card",
    "identities",
    "load",
    "untrained",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
