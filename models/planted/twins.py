"""An exact adder with two heads that do the same: either can go, both cannot.

It is the adder of `planted_carry`, one of whose random heads is made a copy of the head that moves
the carry. The MLP after them only asks whether what arrives is positive, so that one is as good as
two.
"""

from models.planted.carry import planted_carry
from models.planted.writing import weights_of, written
from models.protocol import Model

Heads = tuple[tuple[int, int], tuple[int, int]]


def planted_twins(*, places: int = 6, heads: int = 6, seed: int = 0) -> tuple[Model, Heads]:
    """The model, and the (layer, head) of its two equal heads.

    Raises ValueError for what `planted_carry` refuses.
    """
    plain = planted_carry(places=places, heads=heads, seed=seed)
    ((layer, carry),) = plain.heads[1]
    copy = (carry + 1) % heads
    known = plain.model.card
    outer, blocks = weights_of(plain.model)
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        blocks[layer][name][copy] = blocks[layer][name][carry]
    model = written("twins", known.config, outer, blocks, arithmetic=known.arithmetic)
    return model, ((layer, carry), (layer, copy))
