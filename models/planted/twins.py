"""An exact adder with two heads that do the same: either can go, both cannot.

It is the adder of `planted_carry`, one of whose random heads is made a copy of the head that moves
the carry. The MLP after them only asks whether what arrives is positive, so that one is as good as
two.
"""

from pathlib import Path

from models.card import Card
from models.loading import native_model
from models.native import in_bridge_names
from models.planted.carry import planted_carry
from models.protocol import Model

Heads = tuple[tuple[int, int], tuple[int, int]]


def planted_twins(*, places: int = 6, heads: int = 6, seed: int = 0) -> tuple[Model, Heads]:
    """The model, and the (layer, head) of its two equal heads.

    Raises ValueError for what `planted_carry` refuses.
    """
    plain = planted_carry(places=places, heads=heads, seed=seed)
    ((layer, carry),) = plain.heads[1]
    copy = (carry + 1) % heads
    known = plain.model
    weights = {"embed.W_E": known.W_E, "pos_embed.W_pos": known.W_pos, "unembed.W_U": known.W_U}
    for number in range(known.cfg.n_layers):
        for name in ("attn.W_Q", "attn.W_K", "attn.W_V", "attn.W_O"):
            weights[f"blocks.{number}.{name}"] = getattr(known, name[5:])[number].clone()
        for name in ("mlp.W_in", "mlp.b_in", "mlp.W_out"):
            weights[f"blocks.{number}.{name}"] = getattr(known, name[4:])[number]
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        both = weights[f"blocks.{layer}.attn.{name}"]
        both[copy] = both[carry]
    config = known.card.config
    fields = {
        "source": "native",
        "weights": "planted_twins.safetensors",
        "notes": "Weights written by code (models/planted/twins.py); there is no file of them.",
        "arithmetic": known.card.arithmetic.model_dump(),
        "config": config.model_dump(),
    }
    card = Card.of("planted_twins", Path.cwd(), fields)
    model = native_model(card, config, in_bridge_names(weights, config))
    return model, ((layer, carry), (layer, copy))
