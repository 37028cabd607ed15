"""From the last state to logits: the one readout behind every lens, decoder and attribution.

Between the unembedding and the logits there can be a factor (Granite's `logits_scaling`, Cohere's
`logit_scale`) and a soft cap (Gemma 2). That this readout of the last state gives the model's
logits is an identity, checked whenever a model is loaded.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.card import ModelError
from models.parts import FinalNorm, final_norm
from models.protocol import Model

NEAR, FAR = 1e-9, 1e30
"""Logits on which factor and soft cap are read off: no cap is felt near zero, no logit is far."""


@dataclass(frozen=True)
class Unembedding:
    """`cap * tanh(l / cap)` with `l = factor * (norm(x) @ W_U + b_U)`; l itself without a cap."""

    norm: FinalNorm
    W_U: Float[Tensor, "d_model token"]
    b_U: Float[Tensor, "token"]
    factor: float
    cap: float | None

    def __call__(
        self, states: Float[Tensor, "*n d_model"], ids: Int[Tensor, "some"] | slice = slice(None)
    ) -> Float[Tensor, "*n some"]:
        """Logits of states, of all tokens or of the ones asked for."""
        return self.logits(self.norm(states), ids)

    def logits(
        self, normed: Float[Tensor, "*n d_model"], ids: Int[Tensor, "some"] | slice = slice(None)
    ) -> Float[Tensor, "*n some"]:
        """Logits of states that were normed already, in float32."""
        return self.of_products(normed.float() @ self.W_U[:, ids].float(), ids)

    def of_products(
        self, products: Float[Tensor, "*n some"], ids: Int[Tensor, "some"] | slice = slice(None)
    ) -> Float[Tensor, "*n some"]:
        """Logits of states that were normed and multiplied with W_U already."""
        return self._capped(self.factor * (products + self.b_U[ids].float()))

    def _capped(self, logits: Float[Tensor, "*n some"]) -> Float[Tensor, "*n some"]:
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def directions(self, ids: Int[Tensor, "some"]) -> Float[Tensor, "some d_model"]:
        """What a state is multiplied with for each token's logit, up to the scale of the norm.

        `x @ directions / norm.scale(x)` is the logit before bias and cap, less what the norm's
        shift adds: so much does each part of a state contribute while the norm is frozen.
        """
        rows = self.W_U[:, ids].float().mT * self.norm.gain.float()
        return self.factor * self.norm.centred(rows)


def unembedding(model: Model) -> Unembedding:
    """How a model's last state becomes its logits."""
    bias = getattr(model, "b_U", None)
    W_U = model.W_U.detach()
    if len(W_U) != model.cfg.d_model:
        raise ModelError(
            f"{model.card.name}: the unembedding reads {len(W_U)} numbers, the last state has "
            f"{model.cfg.d_model}: what stands between them is not read here; use another model"
        )
    factor, cap = _after_unembedding(model)
    zeros = torch.zeros(W_U.shape[1], dtype=W_U.dtype, device=W_U.device)
    return Unembedding(
        final_norm(model), W_U, zeros if bias is None else bias.detach(), factor, cap
    )


def _after_unembedding(model: Any) -> tuple[float, float | None]:
    """The factor on logits and their soft cap, read off what is done to two numbers."""
    if not hasattr(model, "adapter"):  # HookedTransformer of 3.9 has no factor
        cap = float(model.cfg.output_logits_soft_cap)
        return 1.0, cap if cap > 0 else None
    numbers = torch.tensor([NEAR, FAR], dtype=torch.float64)
    near, far = model.adapter.apply_output_logits_transform(numbers).tolist()
    factor = float(f"{near / NEAR:.12g}")
    return factor, far if far < factor * FAR / 2 else None
