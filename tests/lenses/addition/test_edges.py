"""Single edges against the arithmetic of a frozen norm, and in a model that was written by hand."""

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm

from lenses.addition.contrasts import Cell
from lenses.addition.edges import Edge, edge_table, edges_of, every_edge, through_edges
from lenses.addition.exchanges import exchanges
from models import load
from models.planted.carry import planted_carry


def test_edges_go_upwards():
    edges = every_edge(load("adder_6d_2l"))
    assert len(edges) == 4 * 2 + 4
    assert all(edge.mlp >= edge.layer for edge in edges)


def test_of_a_large_model_edges_are_those_of_heads_that_were_found(monkeypatch):
    model = load("adder_6d_2l")
    assert edges_of(model, ["L0H1"]) == every_edge(model)
    monkeypatch.setattr("lenses.addition.roles.LARGE", 7)
    assert edges_of(model, ["L0H1", "L1H2 L0H1"]) == [Edge(0, 1, 0), Edge(0, 1, 1), Edge(1, 2, 1)]


@torch.no_grad()
def test_an_edge_is_a_share_of_the_input_at_a_frozen_norm():
    model = load("adder_6d_2l")
    pairs = exchanges(model, model.card.arithmetic, Cell("local", 2, 0, "same"), 6, 0, 5)
    found = pairs.found
    pos, place = found.read.at[:, 3], 3
    names = [f"blocks.{i}.{n}" for i in (0, 1) for n in ("attn.hook_z", "hook_resid_mid")]
    clean, source = (torch.from_numpy(t) for t in (found.clean, found.source))
    _, here = model.run_with_cache(clean, names_filter=names)
    _, there = model.run_with_cache(source, names_filter=names)
    edges = [Edge(0, 0, 0), Edge(0, 0, 1), Edge(1, 1, 1), Edge(0, 1, 0)]
    said = through_edges(model, pairs, edges)
    for number, edge in enumerate(edges):
        ln = model.blocks[edge.mlp].ln2.original_component
        for row in range(6):
            z = [c[f"blocks.{edge.layer}.attn.hook_z"][row, pos[row], edge.head]
                 for c in (here, there)]  # fmt: skip
            delta = (z[1] - z[0]) @ model.W_O[edge.layer, edge.head]
            mid = here[f"blocks.{edge.mlp}.hook_resid_mid"][row]
            spread = mid[pos[row]].var(unbiased=False) + ln.eps
            into = layer_norm(mid, (128,), ln.weight, ln.bias, ln.eps)
            into[pos[row]] += (delta - delta.mean()) / spread.sqrt() * ln.weight
            out = model.blocks[edge.mlp].mlp(into[None])
            logits = model.run_with_hooks(
                clean[row : row + 1],
                fwd_hooks=[(f"blocks.{edge.mlp}.hook_mlp_out", lambda act, hook, out=out: out)],
            )
            assert logits[0, pos[row]].argmax() == said[number, row, place]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_planted_head_speaks_to_the_mlp_of_its_layer(seed):
    planted = planted_carry(places=3, seed=seed)
    model = planted.model
    cell = Cell("local", 1, 0, "same")
    found = exchanges(model, model.card.arithmetic, cell, 30, 0, 64, alone=True)
    table = edge_table(model, found, every_edge(model))
    moved = table[table["flip"] > 0]
    (head,) = planted.heads[2]
    assert [(r.layer, r.head, r.mlp, r.flip) for r in moved.itertuples()] == [(*head, 0, 1.0)]
    assert np.allclose(table["n"], 30)
