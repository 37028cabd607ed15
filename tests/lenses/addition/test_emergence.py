"""The reduced battery against planted heads, untrained twins and naive computations."""

import numpy as np
import pandas as pd
import pytest
import torch

from lenses.addition.emergence import cell_losses, head_ablations, head_roles
from models import load, untrained
from models.planted.carry import LOGIT, planted_carry
from prompts.additions import Cells


@pytest.fixture(scope="module")
def planted():
    return planted_carry(places=3, heads=4, seed=1)


def test_planted_heads_are_named_and_no_others(planted) -> None:
    table = head_roles(planted.model, planted.model.card.arithmetic, count=30, seed=0)
    heads = table[(table["kind"] == "head") & (table["role"] != "none")]
    found = {(row.layer, row.head, row.place): row.role for row in heads.itertuples()}
    carries = {(*head, place): "carry" for place, of in planted.heads.items() for head in of}
    bases = {(*planted.base, place): "base_add" for place in range(3)}
    assert found == carries | bases


def test_a_carry_that_heads_share_shows_in_their_layer_alone() -> None:
    shared = planted_carry(places=3, heads=4, shared=True, seed=2)
    table = head_roles(shared.model, shared.model.card.arithmetic, count=30, seed=0)
    carries = table[table["place"] > 0]
    assert not carries.query("kind == 'head'")["role"].isin(["carry", "both"]).any()
    layer = next(iter(shared.heads.values()))[0][0]
    joint = carries[(carries["kind"] == "attention") & (carries["layer"] == layer)]
    assert (joint["carry_flip"] == 1).all()
    assert (joint["carry_null"] == 0).all()


def test_untrained_heads_have_no_role(planted) -> None:
    for seed in range(3):
        twin = untrained(planted.model, seed)
        table = head_roles(twin, planted.model.card.arithmetic, count=20, seed=0)
        assert (table["role"] == "none").all()


def test_a_digit_said_anyway_has_not_been_flipped_to(planted) -> None:
    """A model that always says 0 says the source's digit wherever that is 0, and nothing moves it.

    Half of the pairs of nines below a carry have 0 in their source.
    """
    model = untrained(planted.model, 0)
    with torch.no_grad():
        model.unembed.weight.zero_()
        model.unembed.bias.zero_()
        model.unembed.bias[0] = 1
    table = head_roles(model, planted.model.card.arithmetic, count=20, seed=0)
    assert (table[["carry_flip", "base_flip", "nines_flip"]].max() == 0).all()


def test_cells_of_an_exact_adder(planted) -> None:
    sums = Cells(3, 20, seed=0).sums
    table = cell_losses(planted.model, planted.model.card.arithmetic, sums)
    assert len(table) == 16
    assert (table[["n", "correct", "known"]] == 20).all(axis=None)
    others = planted.model.cfg.d_vocab_out - 1
    assert np.allclose(table["loss"], np.log1p(others * np.exp(-LOGIT)), rtol=1e-3)


def test_cells_against_one_addition_at_a_time() -> None:
    model = load("adder_6d_1l")
    style, sums = model.card.arithmetic, Cells(6, 3, seed=3).sums
    rows = []
    for row in range(len(sums)):
        one = sums[row : row + 1]
        place, run, carry = one.cell[0]
        tokens = torch.from_numpy(style.tokens(one.a, one.b))
        logits = model(tokens)[0, style.read_at(int(place))]
        right, plain = one.answer_digits[0, place], one.uncarried[0, place]
        loss = -logits.log_softmax(0)[right].item()
        said = logits.argmax().item()
        rows.append((place, run, carry, said == right, said in (plain, (plain + 1) % 10), loss))
    naive = pd.DataFrame(rows, columns=["place", "run", "carry", "correct", "known", "loss"])
    naive = naive.groupby(["place", "run", "carry"])
    found = cell_losses(model, style, sums).set_index(["place", "run", "carry"])
    for name in ("correct", "known"):
        assert (found[name] == naive[name].sum()).all()
    assert np.allclose(found["loss"], naive["loss"].mean(), atol=1e-5)


def test_ablation_of_a_head_against_a_hook(planted) -> None:
    style, sums = planted.model.card.arithmetic, Cells(3, 12, seed=4).sums
    layer, head = planted.heads[2][0]
    tokens = torch.from_numpy(style.write(sums).tokens)
    _, cache = planted.model.run_with_cache(tokens)
    name = f"blocks.{layer}.attn.hook_z"
    mean = cache[name].mean(0)

    def forget(z, hook):
        z[:, :, head] = mean[:, head]
        return z

    said = planted.model.run_with_hooks(tokens, fwd_hooks=[(name, forget)]).argmax(-1).numpy()
    read = np.array([style.read_at(int(place)) for place in sums.place])
    row = np.arange(len(sums))
    right = said[row, read] == sums.answer_digits[row, sums.place]
    found = head_ablations(planted.model, style, sums)
    found = found[(found["layer"] == layer) & (found["head"] == head)]
    for rows in found.itertuples():
        mine = (sums.place == rows.place) & (sums.cell[:, 2] == rows.carry)
        assert (rows.n, rows.correct) == (mine.sum(), right[mine].sum())
    # Without its carries the adder is wrong wherever one comes in, or wherever none does.
    assert found[found["place"] > 0]["accuracy"].min() == 0
