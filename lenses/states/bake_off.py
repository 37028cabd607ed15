"""How well tokens decoded from hidden states tell what the model makes of them (SCIENCE 4)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from lenses.kept import PerPrompt
from lenses.states.decoders import BASIC, DECODERS, NORMS, Lenses
from lenses.states.decoding import Part, Site, chances, sites
from models import Model
from models.passes import reading, run_from
from models.text import right_pad

NUMBERS = 2**24
"""Logits held at a time: 64 MB in float32."""

VECTORS = 12
"""Of each state, whose logits are held together."""

SCORES = (
    "kl", "agreement", "agreement_5", "recovery", "recovery_5", "next_gain", "entropy",
    "kl_shuffled", "agreement_shuffled",
)  # fmt: skip
"""KL divergence from the model's own last distribution to the decoded one (nats); whether the
model's likeliest token is the decoded one, or among five; the same of the token that was read;
log-probability of the text's next token less that of a token that comes elsewhere in the text;
entropy (nats); and the first two with the vocabulary of the decoder shuffled."""

PUSH = 0.5
"""Length of what is added to a state to see where it moves the output, over that of the state."""


PUSHED = ("E", "U", "linear", "quadratic", "ridge", "jacobian")
"""Decoders whose directions are added; that of `surer` is one of the first two."""

POSITIONS = 4
"""Of a text, that are scored."""

SHORTEST = POSITIONS + 4
"""Tokens that a text must have to be scored."""

FIRST = 5
"""Tokens among which the model's own, or the one that was read, may be."""

CHECKED = 16
"""Of a text, whose logits at the last layer are compared with the model's own: the last ones."""

LIKELIEST = 3
"""Of the model's own tokens, whose ranks are followed."""

FEWEST_BLOCKS = 5
"""That are read, of models that have them, however long a text is."""

MIDDLE = 5
"""Layers that are scored at most, besides the embedding and the last one."""

PARTS: tuple[Part, ...] = ("embedding", "attn_out", "resid_mid", "mlp_out", "resid_post")

LENS_NAMES = {"U": "logit lens", "ridge": "ridge lens", "jacobian": "Jacobian lens"}
"""What is compared, each with the final norm."""


@dataclass(frozen=True)
class Plan:
    """Which sites are read."""

    where: Sequence[Site]
    blocks: Sequence[int]
    """Blocks that `where` is of."""
    scored: Sequence[int]
    """Rows of `where`: the embedding, middle layers, the last one."""
    middle: Sequence[int]
    """Rows of `scored` that lie between; where there are none, the embedding."""
    pushed: Sequence[Site]
    """At most three of the middle ones, at which states can be edited."""


def plan_of(model: Model, rows: int) -> Plan:
    """Of every part of `rows` blocks (or FEWEST_BLOCKS), evenly spaced, the last included."""
    layers = model.cfg.n_layers
    blocks = _spaced(range(layers), max(FEWEST_BLOCKS, rows))
    every = [site for site in sites(model, PARTS) if site.block in blocks]
    where = sorted(every, key=lambda site: (site.passed, PARTS.index(site.part)))
    after = [n for n, site in enumerate(where) if site.part == "resid_post"]
    within = [n for n, site in enumerate(where) if site.part == "resid_mid"]
    between = _spaced(after[:-1] or within[:1], MIDDLE)
    editable = [where[n] for n in between if where[n].part == "resid_post"] or [where[0]]
    middle = range(1, 1 + len(between)) if between else [0]
    return Plan(where, blocks, [0, *between, after[-1]], middle, _spaced(editable, 3))


def _spaced(items: Sequence, count: int) -> list:
    """At most `count` of them, evenly spaced, both ends included."""
    if not len(items):
        return []
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


@dataclass(frozen=True)
class Truth:
    """What is known of each of n states."""

    own: Int[Tensor, "n"]
    """The token that was read there."""
    next: Int[Tensor, "n"]
    """The one that follows it in the text."""
    other: Int[Tensor, "n"]
    """One that follows another token of the text."""
    log_p: Float[Tensor, "n token"]
    """Log-probabilities by the model itself."""
    p: Float[Tensor, "n token"]
    shuffled: Float[Tensor, "n token"]
    """The same chances, each at another token."""

    @cached_property
    def said(self) -> Int[Tensor, "n"]:
        """The token that the model finds likeliest."""
        return self.p.argmax(-1)

    @cached_property
    def shuffled_said(self) -> Int[Tensor, "n"]:
        """The token that stands in its place where the vocabulary is shuffled."""
        return self.shuffled.argmax(-1)

    @cached_property
    def information(self) -> Float[Tensor, "n"]:
        """The entropy of the model's distribution, negative."""
        return (self.p * self.log_p).sum(-1)


def states_of(
    model: Model, ids: Sequence[int], where: Sequence[Site]
) -> Float[Tensor, "site pos d"]:
    """The states of a text at every token."""
    return states_of_each(model, [ids], where)[0]


def states_of_each(
    model: Model, texts: Sequence[Sequence[int]], where: Sequence[Site]
) -> list[Float[Tensor, "site pos d"]]:
    """The states of some texts, which pass the model together."""
    tokens, lengths = right_pad(texts)
    tokens, found = tokens.to(model.cfg.device), {}

    def keep(state: Tensor, hook: object, name: str) -> None:
        found[name] = state.float()

    hooks = [(site.hook, partial(keep, name=site.hook)) for site in where]
    with torch.inference_mode(), reading(model, torch.zeros_like(tokens[:, :1])):
        model.run_with_hooks(tokens, return_type="logits", fwd_hooks=hooks)
    states = torch.stack([found[site.hook] for site in where])
    return [states[:, row, :length] for row, length in enumerate(lengths.tolist())]


def truth_of(
    lenses: Lenses,
    last: Float[Tensor, "pos d"],
    ids: Sequence[int],
    pos: Sequence[int],
    rng: np.random.Generator,
) -> Truth:
    """What is known of the states at some tokens of a text; `last` are its last states."""
    log_p = lenses.own(last[list(pos)].float()).log_softmax(-1)
    others = [_elsewhere(ids, at, rng) for at in pos]
    columns = ([ids[at] for at in pos], [ids[at + 1] for at in pos], others)
    own, following, other = (torch.tensor(column, device=log_p.device) for column in columns)
    order = torch.from_numpy(rng.permutation(log_p.shape[-1])).to(log_p.device)
    p = chances(log_p)
    return Truth(own, following, other, log_p, p, p[:, order])


def _elsewhere(ids: Sequence[int], pos: int, rng: np.random.Generator) -> int:
    """A token that follows another one, and is neither the token at `pos` nor the next."""
    others = sorted({*ids[1:]} - {ids[pos], ids[pos + 1]})
    return int(rng.choice(others)) if others else ids[pos + 1]


@dataclass(frozen=True)
class Scored:
    """Of some sites at n states, decoder by norm; NaN and -1 where a decoder was left out."""

    scores: Float[np.ndarray, "site norm decoder score n"]
    top: Int[np.ndarray, "site norm decoder n"]
    """The likeliest token."""


def bake_off(
    lenses: Lenses, sites: Sequence[int], states: Float[Tensor, "site n d"], truth: Truth
) -> Scored:
    """Scores of every decoder and norm; `states` are those of `sites`, in their order."""
    shape = (len(sites), len(NORMS), len(DECODERS))
    scores = np.full((*shape, len(SCORES), states.shape[1]), np.nan)
    top = np.full((*shape, states.shape[1]), -1)
    certainty = np.zeros(top.shape)
    for (row, site), at in product(enumerate(sites), _some(lenses, states.shape[1])):
        known = Truth(*(part[at] for part in _parts(truth)))
        for decoder, norm, logits in lenses.logits(site, states[row, at]):
            cell = row, NORMS.index(norm), DECODERS.index(decoder)
            log_p = logits.log_softmax(-1)
            best = log_p.max(-1)
            scores[cell][:, at] = _scores(log_p, known).double().cpu().numpy()
            top[cell][at], certainty[cell][at] = best.indices.cpu(), best.values.cpu()
    if lenses.W_E is not None:
        by_U = _U_is_surer(certainty)
        _of_the_surer(scores, by_U[:, :, None])
        _of_the_surer(top, by_U)
    return Scored(scores, top)


def _some(lenses: Lenses, count: int) -> list[slice]:
    """So many of `count` states at a time that their logits fit NUMBERS, whatever they are."""
    size = max(1, NUMBERS // VECTORS // len(lenses.own.b_U))
    return [slice(start, start + size) for start in range(0, count, size)]


def _U_is_surer(
    certainty: Float[np.ndarray, "site norm decoder n"],
) -> Bool[np.ndarray, "site norm n"]:
    return certainty[:, :, DECODERS.index("U")] > certainty[:, :, DECODERS.index("E")]


def _of_the_surer(
    values: Shaped[np.ndarray, "site norm decoder *cell"],
    by_U: Bool[np.ndarray, "site norm *cell"],
) -> None:
    """Give `surer` what was read by U or by E, of each state."""
    own, other, both = (DECODERS.index(name) for name in ("U", "E", "surer"))
    values[:, :, both] = np.where(by_U, values[:, :, own], values[:, :, other])


def _scores(log_p: Float[Tensor, "n token"], truth: Truth) -> Float[Tensor, "score n"]:
    each = {
        # As the difference of two sums it would cancel.
        "kl": torch.linalg.vecdot(truth.p, truth.log_p - log_p),
        "entropy": -torch.linalg.vecdot(chances(log_p), log_p),
        "next_gain": _of(log_p, truth.next) - _of(log_p, truth.other),
        "kl_shuffled": truth.information - torch.linalg.vecdot(truth.shuffled, log_p),
    }
    best = log_p.topk(min(FIRST + 1, log_p.shape[-1])).values
    each["agreement_shuffled"] = _above(best, log_p, truth.shuffled_said) < 1
    for name, ids in (("agreement", truth.said), ("recovery", truth.own)):
        above = _above(best, log_p, ids)
        each |= {name: above < 1, f"{name}_5": above < FIRST}
    return torch.stack([each[name].float() for name in SCORES])


def _of(log_p: Float[Tensor, "n token"], ids: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    return log_p.gather(-1, ids[:, None])[:, 0]


def _above(
    best: Float[Tensor, "n first"], log_p: Float[Tensor, "n token"], ids: Int[Tensor, "n"]
) -> Int[Tensor, "n"]:
    """How many of the best are as likely as a token or likelier, itself left out: 0 is the
    likeliest alone."""
    return (best >= _of(log_p, ids)[:, None]).count_nonzero(-1) - 1


@dataclass(frozen=True)
class Boxes:
    """The likeliest tokens of states: what stands in the boxes of the table."""

    ids: Int[np.ndarray, "site norm decoder n k"]
    p: Float[np.ndarray, "site norm decoder n k"]
    entropy: Float[np.ndarray, "site norm decoder n"]
    """In nats."""


def boxes(
    lenses: Lenses, sites: Sequence[int], states: Float[Tensor, "site n d"], count: int
) -> Boxes:
    """The likeliest `count` tokens of every decoder and norm; -1 where one was left out."""
    shape = (len(sites), len(NORMS), len(DECODERS), states.shape[1])
    ids, p = np.full((*shape, count), -1), np.zeros((*shape, count), dtype=np.float32)
    entropy = np.zeros(shape, dtype=np.float32)
    for (row, site), at in product(enumerate(sites), _some(lenses, states.shape[1])):
        for decoder, norm, logits in lenses.logits(site, states[row, at]):
            cell = row, NORMS.index(norm), DECODERS.index(decoder), at
            best = logits.topk(count, dim=-1)
            chance = logits.softmax(-1)
            likeliest = chance.gather(-1, best.indices)
            below = logits - best.values[:, :1]  # log-probability, less that of the likeliest
            ids[cell], p[cell] = best.indices.cpu(), likeliest.cpu()
            entropy[cell] = (-likeliest[:, 0].log() - torch.linalg.vecdot(chance, below)).cpu()
    if lenses.W_E is not None:
        by_U = _U_is_surer(p[..., 0])
        _of_the_surer(entropy, by_U)
        for values in (ids, p):
            _of_the_surer(values, by_U[..., None])
    return Boxes(ids, p, entropy)


def ranks(
    lenses: Lenses,
    sites: Sequence[int],
    states: Float[Tensor, "site d"],
    ids: Int[Tensor, "token"],
) -> Int[np.ndarray, "decoder site token"]:
    """Rank of tokens (1 is the likeliest) by each decoder after the final norm; 0 if left out."""
    found = np.zeros((len(DECODERS), len(sites), len(ids)), dtype=np.int64)
    final = lenses.short()
    for row, site in enumerate(sites):
        for decoder, _, logits in final.logits(site, states[row, None]):
            above = (logits >= logits[:, ids].mT).count_nonzero(-1)
            found[DECODERS.index(decoder), row] = above.cpu().numpy()
    return found


@torch.inference_mode()
def pushed(
    model: Model,
    lenses: Lenses,
    states: Float[Tensor, "pos d"],
    site: Site,
    decoders: Sequence[str],
    noise: Float[Tensor, "d"],
) -> Float[np.ndarray, "decoder effect"]:
    """What happens to the log-probability of the token that each decoder reads off the last of
    some states when that token's direction is added there, and when noise of equal length is.

    The direction is what the decoder multiplies a state with for that token (after the final norm,
    frozen), at PUSH times the length of the state.
    """
    at, state = lenses.where.index(site), states[-1]
    final = lenses.short()
    read = {decoder: logits for decoder, _, logits in final.logits(at, state[None])}
    ids = torch.cat([read[decoder].argmax(-1) for decoder in decoders])
    ways = [
        lenses.direction(at, decoder, one)
        for decoder, one in zip(decoders, ids.split(1), strict=True)
    ]
    pushes = torch.cat([torch.zeros_like(noise)[None], *ways, noise[None]])
    pushes = torch.nn.functional.normalize(pushes, dim=-1) * PUSH * state.norm()
    rows = states.repeat(len(pushes), 1, 1)
    rows[:, -1] += pushes
    entered = int(site.passed)
    with reading(model, torch.full((len(rows), 1), len(states) - 1, device=rows.device)):
        logits = run_from(model, entered, rows.to(model.cfg.dtype), [])[:, 0]
    log_p = logits.float().log_softmax(-1)[:, ids]
    own = log_p[1:-1].diagonal() - log_p[0]
    return torch.stack([own, log_p[-1] - log_p[0]], dim=1).double().cpu().numpy()


def as_long(states: Float[Tensor, "n d"], rng: np.random.Generator) -> Float[Tensor, "n d"]:
    """Random vectors of the lengths of states."""
    drawn = torch.from_numpy(rng.normal(size=states.shape)).to(states)
    return torch.nn.functional.normalize(drawn, dim=-1) * states.norm(dim=-1, keepdim=True)


def shares(
    where: Sequence[Site], states: Float[Tensor, "site pos d"]
) -> Float[np.ndarray, "row part"]:
    """Of each state after a block, along itself: what was there, attention, MLP; they sum to 1.

    A row for each block, and in it for each token.
    """
    rows = []
    for number, site in enumerate(where):
        if site.part != "resid_post":
            continue
        after = states[number]
        power = (after**2).sum(-1).clamp(min=1e-30)
        added = [
            (states[where.index(part)] * after).sum(-1) / power
            if (part := Site(site.block, kind)) in where
            else torch.zeros_like(power)
            for kind in ("attn_out", "mlp_out")
        ]
        rows.append(torch.stack([1 - added[0] - added[1], *added], dim=-1))
    return torch.cat(rows).double().cpu().numpy()


def errors(
    lenses: Lenses, last: Float[Tensor, "pos d"], logits: Float[Tensor, "pos token"]
) -> Float[np.ndarray, "decoder"]:
    """How far each decoder is from the model's own logits at the last layer, where it should be
    them; relative, NaN for others."""
    found, site = np.full(len(DECODERS), np.nan), len(lenses.where) - 1
    for decoder, _, read in lenses.short().logits(site, last):
        if decoder != "E":
            found[DECODERS.index(decoder)] = ((read - logits).norm() / logits.norm()).item()
    return found


def decode_text(
    model: Model, lenses: Lenses, ids: Sequence[int], count: int
) -> dict[str, Shaped[np.ndarray, "row *cell"]]:
    """Everything that is shown of a text, as rows for `PerPrompt`."""
    where = lenses.where
    states = states_of(model, ids, where)
    found = boxes(replace(lenses, axes={}), range(len(where)), states, count)
    tokens = torch.tensor([list(ids)], device=model.cfg.device)
    last = torch.arange(len(ids), device=tokens.device)[-CHECKED:]
    with torch.inference_mode(), reading(model, last[None]):
        logits = model(tokens)[0].float()
    streams = [n for n, site in enumerate(where) if site in lenses.ridge]
    ranked = torch.cat(
        [logits[-1].topk(LIKELIEST).indices, torch.tensor(ids[-1:]).to(logits.device)]
    )
    basic = slice(len(BASIC))
    return {
        "ids": found.ids[:, basic].reshape(-1, count),
        "p": found.p[:, basic].reshape(-1, count),
        "entropy": found.entropy[:, basic].ravel(),
        "ranks": ranks(lenses, streams, states[streams, -1], ranked)[None],
        "ranked": ranked[None].cpu().numpy(),
        "parts": shares(where, states),
        "error": errors(lenses, states[-1, last], logits)[None],
    }


def score_texts(
    model: Model,
    lenses: Lenses,
    plan: Plan,
    texts: Sequence[Sequence[int]],
    rngs: Sequence[np.random.Generator],
) -> dict[str, Shaped[np.ndarray, "text *cell"]]:
    """Scores of texts at a few tokens each, and of random vectors for the states of a layer."""
    sites = [lenses.where.index(plan.where[row]) for row in plan.scored]
    middle = plan.middle[len(plan.middle) // 2]
    read, luck, truths = [], [], []
    every = states_of_each(model, texts, lenses.where)
    for ids, rng, states in zip(texts, rngs, every, strict=True):
        pos = np.linspace(1, len(ids) - 2, POSITIONS).round().astype(int).tolist()
        truths.append(truth_of(lenses, states[-1], ids, pos, rng))
        read.append(states[sites][:, pos])
        luck.append(as_long(read[-1][middle], rng))
    truth = Truth(*(torch.cat(parts) for parts in zip(*map(_parts, truths), strict=True)))
    found = bake_off(lenses, sites, torch.cat(read, dim=1), truth)
    random = bake_off(lenses, [sites[middle]], torch.cat(luck)[None], truth)
    return {
        "scores": _by_text(found.scores).mean(-1),
        "top": _by_text(found.top),
        "random": _by_text(random.scores).mean(-1)[:, 0],
    }


def _parts(truth: Truth) -> tuple[Tensor, ...]:
    return truth.own, truth.next, truth.other, truth.log_p, truth.p, truth.shuffled


def _by_text(
    values: Shaped[np.ndarray, "*cell n"],
) -> Shaped[np.ndarray, "text *cell pos"]:
    """Rows of texts, of states that stand text by text."""
    return np.moveaxis(values.reshape(*values.shape[:-1], -1, POSITIONS), -2, 0)


def push_texts(
    model: Model,
    lenses: Lenses,
    where: Sequence[Site],
    texts: Sequence[Sequence[int]],
    rngs: Sequence[np.random.Generator],
) -> Float[np.ndarray, "text site decoder effect"]:
    """`pushed` at the middle of texts, by each of PUSHED; NaN where one was left out."""
    here = [name for name in PUSHED if lenses.reads(name)]
    columns = [PUSHED.index(name) for name in here]
    effects = np.full((len(texts), len(where), len(PUSHED), 2), np.nan)
    halves = [ids[: len(ids) // 2 + 1] for ids in texts]  # later ones change nothing here
    for text, (rng, before) in enumerate(
        zip(rngs, states_of_each(model, halves, where), strict=True)
    ):
        noise = torch.from_numpy(rng.normal(size=model.cfg.d_model)).float().to(before.device)
        for row, (site, states) in enumerate(zip(where, before, strict=True)):
            effects[text, row, columns] = pushed(model, lenses, states, site, here, noise)
    return effects


def statistics(
    found: PerPrompt, plan: Plan, pushes: PerPrompt
) -> dict[str, Float[np.ndarray, "text"]]:
    """What is claimed of decoders, by text; NaN for a decoder that was left out."""
    every, final = found["scores"], NORMS.index("final")
    middle, random = (x[..., final, :, :] for x in (every[:, plan.middle].mean(1), found["random"]))
    kl, agreement = (SCORES.index(name) for name in ("kl", "agreement"))
    told, logit = {}, DECODERS.index("U")
    for name, words in LENS_NAMES.items():
        at = DECODERS.index(name)
        told[f"{words} agrees"] = middle[:, at, agreement] - random[:, at, agreement]
        if name != "U":
            told[f"{words} nearer"] = middle[:, logit, kl] - middle[:, at, kl]
    at = DECODERS.index("ridge"), SCORES.index("next_gain")
    told["next token"] = every[:, plan.middle[-1], final][:, *at]
    effects = pushes["effects"].mean(1)
    return told | {f"push {d}": effects[:, n, 0] - effects[:, n, 1] for n, d in enumerate(PUSHED)}
