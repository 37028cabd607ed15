"""The same numbers as the analysis tools of TransformerLens, where its version has them."""

import numpy as np
import pytest
import torch

from lenses.heads.attribution import Attributing, output_gradients
from lenses.patching.interchange import Reading, Site, activations, interchange
from lenses.patching.single_heads import read_clean
from lenses.states.decoding import Decoder, Readout
from models import load
from prompts.additions import Addition
from tests.lenses.blocks import CONFIGS, tiny

analysis = "transformer_lens.tools.analysis"
ROWS = 3


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_2l")


@pytest.fixture(scope="module")
def pairs(adder):
    """Tokens of some additions and of others."""
    style = adder.card.arithmetic
    return [style.write(Addition(6, ROWS, seed).sums) for seed in (0, 1)]


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 13, (12,), generator=torch.Generator().manual_seed(1))


@pytest.mark.contract
def test_interchanges_are_its_activation_patching(adder, pairs):
    patching = pytest.importorskip("transformer_lens.patching")
    if not hasattr(patching, "PatchingResult"):
        pytest.skip("values by example came with TransformerLens 4.2")
    clean, source = pairs
    place, at = 2, clean.at[0, 2] - 1  # where the hundreds are predicted
    two = adder.card.arithmetic.digit_ids[np.array([[1, 5]] * ROWS)]

    def margin(logits):
        return logits[:, at, int(two[0, 1])] - logits[:, at, int(two[0, 0])]

    _, cache = adder.run_with_cache(torch.from_numpy(source.tokens))
    theirs = patching.get_act_patch_attn_head_out_by_pos(
        adder, torch.from_numpy(clean.tokens), cache, margin, reduce="none"
    )
    heads = [(layer, head) for layer in range(2) for head in range(adder.cfg.n_heads)]
    sites = [Site("", heads=(one,)) for one in heads]
    where = np.full((len(sites), ROWS), at)
    read = Reading(clean.at - 1, place, two)
    ours = interchange(
        adder, clean.tokens, activations(adder, source.tokens, 8), sites, where, read, 8
    )
    found = np.stack([theirs.values[layer, at, head].numpy() for layer, head in heads])
    assert np.abs(found).max() > 1
    np.testing.assert_allclose(ours.margin, found, rtol=1e-4, atol=1e-4)


@pytest.mark.contract
@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_logit_lens_is_its_logit_lens(name, tokens):
    module = pytest.importorskip(f"{analysis}.logit_lens")
    model = tiny(CONFIGS[name])
    layers = model.cfg.n_layers
    with torch.inference_mode():
        theirs = module.logit_lens(model, tokens[None], positions=None).values[1:, 0]
        _, cache = model.run_with_cache(tokens[None])
    states = torch.stack([cache[f"blocks.{layer}.hook_resid_post"][0] for layer in range(layers)])
    decoder = Decoder(model, torch.zeros(layers, model.cfg.d_model))
    ours = decoder(states, Readout(), torch.arange(theirs.shape[-1]))
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.contract
@pytest.mark.parametrize("name", ["adder_6d_2l"])
def test_direct_logits_are_its_direct_logit_attribution(name, tokens):
    module = pytest.importorskip(f"{analysis}.direct_logit_attribution")
    model = load(name, processing="folded")
    clean = read_clean(model, tokens)
    ours = Attributing(model)(tokens, clean).direct_logit[-1]
    theirs = module.direct_logit_attribution(
        model, tokens[None, :-1], int(clean.true[-1]), int(clean.rival[-1]), unit="head"
    )
    heads = theirs.attribution[: ours.numel(), 0].reshape(ours.shape)
    assert theirs.labels[: ours.numel()][1] == "L0H1"
    torch.testing.assert_close(ours.float(), heads.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.contract
def test_gradients_times_results_are_its_attribution_patching(tokens):
    module = pytest.importorskip(f"{analysis}.attribution_patching")
    adder, at = load("adder_6d_2l").requires_grad_(True), 8  # theirs needs a path to weights
    source = tokens.flip(0)
    read, other = read_clean(adder, tokens), read_clean(adder, source)
    weight = torch.zeros(1, len(tokens) - 1)
    weight[0, at] = 1
    gradient = output_gradients(adder, tokens, read, weight)[0]
    ours = ((torch.stack(list(other.z)) - torch.stack(list(read.z))) * gradient).sum(-1)

    def log_p(logits):
        return logits[0, at].float().log_softmax(-1)[tokens[at + 1]]

    pair = (source[None, :-1], tokens[None, :-1])
    theirs = torch.zeros_like(ours)
    for node, score in module.attribution_patch(adder, *pair, log_p).node_scores.items():
        if node.kind == "attn_head_out":
            theirs[node.layer, node.position, node.head] = score
    assert theirs.abs().max() > 1e-2
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
