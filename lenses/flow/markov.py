"""How much of what follows a word a model predicts, of what bigram counts tell (SCIENCE 9).

A predictor gives logits of the next token for each first token. It is scored as it is, with a
temperature, and as an addition to the frequency of words: P(y) exp(s l(x, y)). The one number s is
fitted on other first tokens than those it is scored on.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lenses.flow.bigram_counts import Bigrams
from lenses.statistics.intervals import Intervals, bootstrap
from models import Model
from models.effective import effective_embedding
from models.readout import unembedding
from models.text import begins_with_bos, tokenize

Fit = Literal["as it is", "temperature", "with frequencies"]
FITS: tuple[Fit, ...] = ("as it is", "temperature", "with frequencies")
Source = Literal[
    "E without norm", "E", "E without itself", "effective E", "E shuffled", "whole model",
]  # fmt: skip
SOURCES: tuple[Source, ...] = (
    "E without norm", "E", "E without itself", "effective E", "E shuffled", "whole model",
)  # fmt: skip
FOLDS = 2
STEPS = 30
"""Of Newton's method, at most."""
MIX = 0.01
"""Share of word frequencies mixed into counts, so that no pair has a chance of zero."""
READ = 64
"""Tokens that pass the whole model at once."""


@torch.inference_mode()
def logits_of(
    model: Model, source: Source, bigrams: Bigrams, seed: int
) -> Float[Tensor, "first next"]:
    """What follows each first token, through the model's own readout, before any softmax.

    `E without itself` gives the first token the mean logit of all others: where E and U are tied,
    its own would hide the rest. `E shuffled` takes the embedding of another first token. `whole
    model` reads the token alone, at the beginning of a text.
    """
    readout = unembedding(model)
    first = torch.from_numpy(bigrams.first).to(model.cfg.device)
    following = torch.from_numpy(bigrams.following).to(model.cfg.device)
    if source == "whole model":
        return torch.cat([_said(model, part)[:, following] for part in first.split(READ)]).cpu()
    states = effective_embedding(model, first) if source == "effective E" else model.W_E[first]
    if source == "E shuffled":
        order = np.random.default_rng(seed).permutation(len(first))
        states = states[torch.from_numpy(order).to(states.device)]
    if source == "E without norm":
        return readout.logits(states, following).cpu()
    logits = readout(states, following)
    if source == "E without itself":
        same = first[:, None] == following
        logits = torch.where(same, logits.mean(-1, keepdim=True), logits)
    return logits.cpu()


def _said(model: Model, tokens: Int[Tensor, "token"]) -> Float[Tensor, "token vocab"]:
    """Logits after each token by itself."""
    rows, start = tokens[:, None], beginning(model)
    if start is not None:
        rows = torch.cat([torch.full_like(rows, start), rows], dim=1)
    return model(rows, return_type="logits")[:, -1].float()


def beginning(model: Model) -> int | None:
    """What a token is shown after: the BOS where the tokenizer puts one, else a new line.

    A text's first token is what heads attend to for want of anything else, and says little of what
    comes next (Xiao et al. 2023, 2309.17453). Additions without BOS have nothing before them.
    """
    tokenizer = model.tokenizer
    if tokenizer is not None and begins_with_bos(tokenizer):
        return tokenizer.bos_token_id
    return None if tokenizer is None or model.card.arithmetic else tokenize(model, "\n")[-1]


@torch.inference_mode()
def readout_error(model: Model, source_ids: Int[np.ndarray, "n"]) -> float:
    """How far own logits are from the model's, for the last states of some tokens (relative)."""
    last, tokens = [], torch.from_numpy(source_ids).to(model.cfg.device)[:, None]
    name = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    said = model.run_with_hooks(
        tokens, return_type="logits", fwd_hooks=[(name, lambda state, hook: last.append(state))]
    ).float()
    return float((unembedding(model)(last[0]) - said).norm() / said.norm())


class Scored:
    """Log-chances of what follows each first token, scored against counts.

    All by first token: cross entropy and the entropies it lies between, in nats.
    """

    def __init__(self, log_p: Float[Tensor, "first next"], bigrams: Bigrams) -> None:
        shares = bigrams.shares
        self.weight = shares.sum(1)
        given = shares / self.weight[:, None]
        self.log_p, self._given, self._unigram = log_p.double(), given, shares.sum(0)
        self.ce = -(given * self.log_p).sum(1)
        self.bigram = -torch.special.xlogy(given, given).sum(1)
        self.unigram = -torch.special.xlogy(given, self._unigram).sum(1)  # 0 log 0 = 0

    def share(self, seed: int) -> Intervals:
        """(H_unigram - CE) / (H_unigram - H_bigram), first tokens weighted by their counts.

        The interval resamples first tokens, on the ratio made linear about its estimate.
        """
        told = self.weight * (self.unigram - self.ce)
        known = self.weight * (self.unigram - self.bigram)
        ratio = told.sum() / known.sum()
        return bootstrap((ratio + (told - ratio * known) / known.mean()).numpy(), seed)

    def numbers(self) -> dict[str, float]:
        """Means over pairs: cross entropy, perplexity, KL both ways, and how often it is right."""
        ce = (self.weight * self.ce).sum().item()
        # A token that a sample never has is given the chance of one in all that follow.
        floor = (self._unigram + 1 / len(self._unigram)) / 2
        mixed = (1 - MIX) * self._given + MIX * floor
        reverse = (self.log_p.exp() * (self.log_p - mixed.log())).sum(1)
        best = self.log_p.topk(min(5, self.log_p.shape[1])).indices
        right = (self._given.gather(1, best) * self.weight[:, None]).sum(0)
        return {
            "cross_entropy": ce,
            "perplexity": float(np.exp(min(ce, 700))),
            "kl_from_counts": (self.weight * (self.ce - self.bigram)).sum().item(),
            "kl_to_counts": (self.weight * reverse).sum().item(),
            "top_1": right[0].item(),
            "top_5": right.sum().item(),
        }


def unigram_log(bigrams: Bigrams) -> Float[Tensor, "next"]:
    """Log of how often each token follows any."""
    return bigrams.shares.sum(0).log()


def fitted(
    logits: Float[Tensor, "first next"], bigrams: Bigrams, fit: Fit, seed: int
) -> tuple[Float[Tensor, "first next"], float]:
    """Log-chances, and the mean factor on logits; fitted for each half on the other half."""
    if fit == "as it is":
        return logits.log_softmax(-1), 1.0
    prior = unigram_log(bigrams) * (fit == "with frequencies")
    fold = np.random.default_rng(seed).permutation(len(logits)) % FOLDS
    log_p, scales = torch.empty(logits.shape, dtype=torch.float64), []
    for number in range(FOLDS):
        here = torch.from_numpy(fold == number)
        scale = best_scale(logits[~here], prior.float(), bigrams.shares[~here])
        log_p[here] = (prior + scale * logits[here].double()).log_softmax(-1)
        scales.append(scale)
    return log_p, float(np.mean(scales))


def best_scale(
    logits: Float[Tensor, "first next"],
    prior: Float[Tensor, "next"],
    shares: Float[Tensor, "first next"],
) -> float:
    """The s >= 0 with the least cross entropy of softmax(prior + s logits).

    A convex problem in one number, solved by Newton's method with steps that stay in bounds.
    Negative factors are not allowed: a model that says its input would else gain by being denied.
    """
    weight = shares.sum(1).float()
    aim = (shares.float() * logits).sum().item()
    low, high, scale = 0.0, np.inf, 1.0 / max(logits.std().item(), 1e-6)
    for _ in range(STEPS):
        p = (prior + scale * logits).softmax(-1)
        mean = (p * logits).sum(1)
        slope = (weight * mean).sum().item() - aim
        low, high = (low, scale) if slope > 0 else (scale, high)
        curve = (weight * ((p * logits.square()).sum(1) - mean.square())).sum().item()
        step = scale - slope / curve if curve > 1e-12 else np.nan
        inside = low < step < min(high, 4 * scale)
        new = step if inside else (low + high) / 2 if np.isfinite(high) else 2 * scale
        if abs(new - scale) < 1e-4 * scale or new < 1e-6:
            return 0.0 if new < 1e-6 else float(new)
        scale = new
    return float(scale)


def nearer_to_itself(
    log_p: Float[Tensor, "first next"], bigrams: Bigrams
) -> tuple[Bool[np.ndarray, "first"], Float[np.ndarray, "first"]]:
    """Whether a predictor's likeliest next token is the first one; KL from the counts less that
    from a model that repeats its input. NaN for tokens that never come second.
    """
    column = {token: at for at, token in enumerate(bigrams.following.tolist())}
    at = np.array([column.get(token, -1) for token in bigrams.first.tolist()])
    repeated = -log_p.double()[torch.arange(len(at)), torch.from_numpy(at)]
    scored = Scored(log_p, bigrams)
    gap = (scored.ce - scored.bigram - repeated).numpy()
    return (log_p.argmax(-1).numpy() == at), np.where(at < 0, np.nan, gap)
