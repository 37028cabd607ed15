"""Shares by hand, against naive sums in four architectures, and on models with a known path."""

import numpy as np
import pytest
import torch
from einops import einsum, repeat
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from lenses.flow.keyed_texts import positions
from lenses.flow.origins import head_share
from lenses.flow.splits import BY_GRADIENT, RULES, splits
from lenses.flow.trace import trace
from models.card import NativeConfig
from models.parts import attention_out, is_parallel
from models.planted.carry import planted_carry
from models.planted.copy import planted_copy
from models.planted.writing import written
from models.text import tokenize
from prompts.additions import Addition
from tests.lenses.blocks import CONFIGS, tiny
from tests.lenses.patching.test_knock_out import close

TEXTS = ["Our dog Max likes walks. I walk with our dog", "The secret word is silver. The word is"]
KEYS = ["Max", "silver"]


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return tiny(CONFIGS[request.param])


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 50, (9,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def found(model, tokens):
    return splits(model, tokens, heads=2)


@pytest.fixture(scope="module")
def parts(model, tokens):
    """In float64, by layer: what is moved from each source, the bias, and the states around."""
    cache, out = model.run_with_cache(tokens[None])[1], attention_out(model)
    blocks = []
    for layer in range(2):
        names = ("attn.hook_v", "attn.hook_pattern", "hook_resid_pre", "hook_attn_out",
                 "hook_resid_post")  # fmt: skip
        v, alpha, pre, attn, post = (cache[f"blocks.{layer}.{n}"][0].double() for n in names)
        v = repeat(v, "s kv d -> s (kv g) d", g=len(alpha) // v.shape[1])
        W = out.W_O[layer].double()
        moved = einsum(alpha, v, W, "h q s, s h d, h d m -> q s m")
        bias = out.b_O[layer].double().expand_as(pre)
        if out.post_gain is not None:
            raw = moved.sum(1) + bias
            scale = (raw.square().mean(-1, keepdim=True) + out.post_eps).rsqrt()
            scale = scale * out.post_gain[layer].double()
            moved, bias = moved * scale[:, None], bias * scale
        close(moved.sum(1) + bias, attn)
        mid = post if is_parallel(model) else pre + attn
        blocks.append((moved, bias, pre, post - pre - attn, mid, post))
    return blocks


def test_every_row_sums_to_one_and_heads_sum_to_their_link(model, tokens, found):
    every = splits(model, tokens, heads=model.cfg.n_heads)
    for rule in RULES:
        one, whole = found[rule], every[rule]
        close(one.attention.sum(-1) + one.bias + one.residual, torch.ones(2, 9), 1e-5)
        assert (one.attention.triu(1) == 0).all()
        for name in ("attention", "bias", "residual", "mlp", "clipped"):
            value = getattr(one, name)
            assert ((value >= 0) & (value <= 1 + 1e-6)).all()
        close(one.loading.sum(-1), one.attention, 1e-6)
        close(whole.loading.sum(-1), one.attention, 1e-6)
        close(whole.loading[..., -1], torch.zeros(2, 9, 9), 1e-6)
        close(whole.loading[..., :2], one.loading[..., :2], 1e-6)
    assert found.error < 1e-5


def naive(scores, whole, part):
    """Shares of a list of parts [q m] or [q s m] of one whole."""
    flat = torch.cat([p if p.dim() == 3 else p[:, None] for p in part], dim=1)
    kept = scores(flat, whole[:, None]).clamp(min=0)
    return kept / kept.sum(-1, keepdim=True), kept


@pytest.mark.parametrize("rule", ["value norms", "projection", "l1 proximity"])
def test_shares_are_those_of_the_vectors(model, found, parts, rule):
    score = {
        "value norms": lambda part, whole: part.norm(dim=-1),
        "projection": lambda part, whole: (part * whole).sum(-1),
        "l1 proximity": lambda p, w: w.abs().sum(-1) - (w - p).abs().sum(-1),
    }[rule]
    for layer, (moved, bias, pre, mlp, mid, post) in enumerate(parts):
        shares, kept = naive(score, mid, [moved, bias, pre])
        close(found[rule].attention[layer], shares[:, :9], 1e-4)
        close(found[rule].bias[layer], shares[:, 9], 1e-4)
        close(found[rule].residual[layer], shares[:, 10], 1e-4)
        own = score(mlp, post).clamp(min=0)
        through = kept.sum(-1) if is_parallel(model) else score(mid, post).clamp(min=0)
        close(found[rule].mlp[layer], own / (own + through), 1e-4)


def test_the_first_published_rule_shares_attention_by_its_mean(found, parts, model, tokens):
    pattern = model.run_with_cache(tokens[None])[1]["blocks.1.attn.hook_pattern"][0].mean(0)
    moved, bias, pre, *_ = parts[1]
    lengths = torch.stack([moved.sum(1).norm(dim=-1), bias.norm(dim=-1), pre.norm(dim=-1)])
    shares = lengths / lengths.sum(0)
    close(found["norms"].attention[1], pattern * shares[0][:, None], 1e-4)
    close(found["norms"].residual[1], shares[2], 1e-4)


def test_only_rules_of_the_gradient_depend_on_the_token(model, tokens, found):
    other = splits(model, tokens, target=7)
    for rule in RULES:
        same = torch.allclose(other[rule].attention, found[rule].attention)
        assert same == (rule not in BY_GRADIENT)


def by_hand():
    """Two tokens, one head that attends to both alike and moves what they are."""
    config = NativeConfig(n_layers=1, n_heads=1, d_model=2, d_head=2, n_ctx=2, d_vocab=2,
                          attn_only=True)  # fmt: skip
    outer = {
        "embed.W_E": torch.tensor([[3.0, 0.0], [0.0, 4.0]]),
        "pos_embed.W_pos": torch.zeros(2, 2),
        "unembed.W_U": torch.tensor([[2.0, 0.0], [1.0, 0.0]]),
    }
    nothing, same = torch.zeros(1, 2, 2), torch.eye(2)[None]
    block = {"W_Q": nothing, "W_K": nothing, "W_V": same, "W_O": same}
    return written("by_hand", config, outer, [block])


# The second token is (0, 4); it takes half of (3, 0) and half of (0, 4), and becomes (1.5, 6).
BY_HAND = {
    "norms": (2.5 / 6.5 / 2, 2.5 / 6.5 / 2),
    "value norms": (1.5 / 7.5, 2 / 7.5),
    "projection": (2.25 / 38.25, 12 / 38.25),
    "l1 proximity": (1.5 / 7.5, 2 / 7.5),
    "gradient x activation": (3 / 9, 2 / 9),
    "contribution weights": (14.25 / 38.25 * 0.36, 14.25 / 38.25 * 0.64),
    "max-flow": (0.5 * 3 / 5, 0.5 * 2 / 5),
}


@pytest.mark.parametrize("rule", RULES)
def test_shares_of_a_model_made_by_hand(rule):
    one = splits(by_hand(), torch.tensor([0, 1]), target=0)[rule]
    first, second = BY_HAND[rule]
    close(one.attention[0, 1], torch.tensor([first, second]), 1e-5)
    close(one.residual[0, 1], torch.tensor(1 - first - second), 1e-5)
    assert (one.mlp == 0).all()
    close(trace(one, 1, 1).sources, torch.tensor([first, 1 - first]), 1e-5)


@pytest.mark.parametrize(
    ("loud", "finds"),
    [(1.0, {"gradient x activation"}),
     (10.0, {"gradient x activation", "projection", "contribution weights"})],
)  # fmt: skip
def test_rules_that_find_the_copied_word(loud, finds):
    model, _ = planted_copy(TEXTS, KEYS, loud=loud)
    for text, key in zip(TEXTS, KEYS, strict=True):
        ids = tokenize(model, text)
        (at,) = positions(model, ids, text, key)
        found = splits(model, torch.tensor(ids))
        assert found.probability > 0.99
        weights = {rule: trace(found[rule], 2, -1).sources[at].sum() for rule in RULES}
        assert {rule for rule, weight in weights.items() if weight > 0.9} == finds


@pytest.fixture(scope="module")
def carrying():
    """An adder, its carry's heads, and sums up to the tens that get a carry."""
    planted = planted_carry()
    sums = Addition(3, 64, 0).sums
    told = planted.model.card.arithmetic.write(sums)
    texts = [
        torch.from_numpy(told.tokens[number, : told.at[number, 1]].copy())
        for number in np.flatnonzero(sums.carry[:, 1])[:4]
    ]
    return planted.model, [head for _, head in planted.heads[1]], texts


@pytest.mark.parametrize("rule", BY_GRADIENT)
def test_rules_by_gradient_see_nothing_behind_a_step_that_is_flat(carrying, rule):
    """The carry is made a bit by a saturated step: half of what its head writes does as well."""
    model, heads, texts = carrying
    for ids in texts:
        clean, half, nothing = (with_heads_times(model, ids, heads, x) for x in (1, 0.5, 0))
        close(half, clean, 1e-3)
        assert nothing.argmax() != clean.argmax()
        flow = trace(splits(model, ids, [rule])[rule], 2, -1)
        assert flow.attention[0, -1].sum() == 0


def with_heads_times(model, ids, heads, factor):
    """Logits at the last token when some heads of block 0 write `factor` times as much."""

    def scale(z, hook):
        z[:, :, heads] *= factor
        return z

    return model.run_with_hooks(ids[None], fwd_hooks=[("blocks.0.attn.hook_z", scale)])[0, -1]


def test_the_share_of_what_nothing_reads_is_by_its_length(carrying):
    """Rules that see one state alone give a block's planted part what its length gives it."""
    model, heads, texts = carrying
    for ids in texts:
        one = splits(model, ids, ["projection"], heads=6)["projection"]
        post = model.run_with_cache(ids[None])[1]["blocks.1.hook_resid_post"][0, -1]
        close(one.mlp[1, -1], 1 / post.square().sum(), 1e-5)
        assert one.mlp[1, -1] < 0.05, "the digit, of length 1, is the only part that is read"
        assert head_share(one, trace(one, 2, -1), 0, heads) < 0.4


def test_the_flow_of_max_flow_is_a_maximum_flow():
    """By scipy's solver on the same capacities: the same value; and no link exceeds its own."""
    model, tokens = tiny(CONFIGS[next(iter(CONFIGS))]), torch.randint(0, 50, (7,))
    split = splits(model, tokens, ["max-flow"])["max-flow"]
    layers, count = split.residual.shape
    found = trace(split, layers, -1)
    scale, size = 10**6, (layers + 1) * count
    capacity = np.zeros((size + 1, size + 1), dtype=np.int32)
    for layer in range(layers):
        for query in range(count):
            into = split.attention[layer, query].double().numpy().copy()
            into[query] += float(split.residual[layer, query])
            capacity[layer * count : (layer + 1) * count, (layer + 1) * count + query] = (
                into * scale
            )
    capacity[size, :count] = 2 * scale
    most = maximum_flow(csr_array(capacity), size, size - 1).flow_value / scale
    assert most == pytest.approx(found.sources.sum().item(), abs=1e-4)
    assert (found.attention <= split.attention + 1e-6).all()
    assert (found.residual <= split.residual + 1e-6).all()
