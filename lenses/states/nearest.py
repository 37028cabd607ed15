"""The readout of hidden states that is nearest to the model's own output, chosen on other texts.

A ridge lens is fitted on some texts; readouts are then compared on others, by the KL divergence
from the model's own prediction to what they decode, in the middle layers (SCIENCE 4). What is
chosen so can be used on texts of any kind that are neither.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from lenses.kept import PerPrompt
from lenses.states.bake_off import POSITIONS, SHORTEST, states_of_each
from lenses.states.decoders import PENALTY
from lenses.states.decoding import Decoder, Readout, sites
from lenses.states.jacobian import SKIPPED
from lenses.states.ridge import RidgeLens, SecondMoments
from models import Model
from models.readout import unembedding

Stream = Callable[..., Iterator[Any]]
"""`Experiment.stream`."""


def fitted_ridge(
    model: Model, texts: Sequence[Sequence[int]], size: int, stream: Stream, label: str
) -> RidgeLens:
    """The ridge lens of the embedding and of the states after blocks, from the states of texts."""
    moments, where = SecondMoments(), sites(model)
    for batch in stream(texts, moments, label, size):
        each = states_of_each(model, batch, where)
        states = torch.cat([states[:, SKIPPED:] for states in each], dim=1)
        moments.update(states, states[-1])
    return RidgeLens.of(moments, PENALTY, model.cfg.device)


def divergences(
    model: Model,
    decoder: Decoder,
    how: Sequence[Readout],
    texts: Sequence[Sequence[int]],
    stream: Stream,
    label: str,
) -> Float[np.ndarray, "text readout"]:
    """KL from the model's own prediction to what each readout decodes, in nats.

    Mean over the layers between the embedding and the last one, and over some positions of a text.
    Texts that are too short are left out.
    """
    kept, where, read = PerPrompt(), sites(model), unembedding(model)
    between = slice(1, len(where) - 1) if len(where) > 2 else slice(0, 1)
    for ids in stream([ids for ids in texts if len(ids) >= SHORTEST], kept, label):
        pos = np.linspace(1, len(ids) - 2, POSITIONS).round().astype(int).tolist()
        states = states_of_each(model, [ids], where)[0][:, pos]
        own = read(states[-1]).log_softmax(-1)
        found = [decoder.divergence(states, each, own)[between].mean() for each in how]
        kept.update(found=torch.stack(found)[None].double().cpu().numpy())
    return kept["found"]


def nearest(how: Sequence[Readout], found: Float[np.ndarray, "text readout"]) -> Readout:
    """The readout with the smallest mean divergence."""
    return how[int(found.mean(0).argmin())]
