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
from torch import Tensor

from lenses.kept import PerPrompt
from lenses.states.bake_off import POSITIONS, SHORTEST, states_of_each
from lenses.states.decoders import PENALTY
from lenses.states.decoding import Decoder, Readout, sites
from lenses.states.jacobian import SKIPPED
from lenses.states.ridge import RidgeLens, SecondMoments
from models import Model

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
    kept, where = PerPrompt(), sites(model)
    every = torch.arange(model.W_U.shape[1], device=model.cfg.device)
    between = range(1, len(where) - 1) or range(1)
    for ids in stream([ids for ids in texts if len(ids) >= SHORTEST], kept, label):
        pos = np.linspace(1, len(ids) - 2, POSITIONS).round().astype(int).tolist()
        states = states_of_each(model, [ids], where)[0][:, pos]
        own = decoder.at(len(where) - 1)(states[-1:], Readout(), every)[0].log_softmax(-1)
        found = [
            [_divergence(own, decoder.at(site)(states[site, None], each, every)[0])
             for site in between]
            for each in how
        ]  # fmt: skip
        kept.update(found=np.array(found).mean(-1)[None])
    return kept["found"]


def _divergence(own: Float[Tensor, "pos token"], logits: Float[Tensor, "pos token"]) -> float:
    apart = own - logits.log_softmax(-1)
    return torch.linalg.vecdot(own.exp(), apart).mean().item()


def nearest(how: Sequence[Readout], found: Float[np.ndarray, "text readout"]) -> Readout:
    """The readout with the smallest mean divergence."""
    return how[int(found.mean(0).argmin())]
