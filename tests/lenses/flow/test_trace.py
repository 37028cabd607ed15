"""Flows against the sum over all paths; thresholds; the sink; other front ends' data."""

import pytest
import torch

from lenses.flow.splits import Split
from lenses.flow.tables import Diagram, link_rows, node_rows
from lenses.flow.trace import NONE, Threshold, trace, without_sink

LAYERS, LENGTH = 3, 4
THRESHOLDS = [
    NONE,
    Threshold("top-k", 2),
    Threshold("top-p", 0.7),
    Threshold("minimum weight", 0.05),
]


def split(parallel: bool) -> Split:
    rng = torch.Generator().manual_seed(0)
    rows = torch.rand(LAYERS, LENGTH, LENGTH + 2, generator=rng)
    rows[..., :LENGTH] = rows[..., :LENGTH].tril()
    rows = rows / rows.sum(-1, keepdim=True)
    head = torch.zeros(LAYERS, LENGTH, LENGTH, 1, dtype=torch.int64)
    attention = rows[..., :LENGTH]
    return Split(
        attention, rows[..., LENGTH], rows[..., LENGTH + 1],
        torch.rand(LAYERS, LENGTH, generator=rng), torch.zeros(LAYERS, 2, LENGTH), head,
        torch.stack([attention, torch.zeros_like(attention)], -1), parallel,
    )  # fmt: skip


@pytest.fixture(params=[False, True], ids=["sequential", "parallel"])
def one(request):
    return split(request.param)


def paths(one: Split, depth: int, pos: int) -> torch.Tensor:
    """What comes from each embedding, path by path."""
    if depth == 0:
        return torch.eye(LENGTH, dtype=torch.float64)[pos]
    layer, found = depth - 1, torch.zeros(LENGTH, dtype=torch.float64)
    mlp = one.mlp[layer, pos].item() if one.parallel else 0.0
    found += mlp * paths(one, layer, pos)
    found += (1 - mlp) * one.residual[layer, pos].item() * paths(one, layer, pos)
    for source in range(pos + 1):
        share = (1 - mlp) * one.attention[layer, pos, source].item()
        found += share * paths(one, layer, source)
    return found


@pytest.mark.parametrize("depth", range(LAYERS + 1))
@pytest.mark.parametrize("pos", [0, 3])
def test_a_flow_is_the_sum_over_all_paths(one, depth, pos):
    flow = trace(one, depth, pos)
    torch.testing.assert_close(flow.sources, paths(one, depth, pos), rtol=1e-6, atol=1e-7)
    assert flow.error < 1e-12
    assert flow.dropped.sum() < 1e-12


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
def test_weight_is_conserved_at_every_row(one, threshold):
    flow = trace(one, LAYERS, -1, threshold)
    assert flow.error < 1e-12
    ended = torch.zeros(())
    for layer in reversed(range(LAYERS)):
        ended = ended + flow.bias[layer].sum() + flow.dropped[layer].sum()
        assert abs(flow.state[layer].sum() + ended - 1) < 1e-12
        links = flow.attention[layer].sum(0) + flow.residual[layer]
        links = links + (flow.mlp[layer] if one.parallel else 0)
        torch.testing.assert_close(links, flow.state[layer])
    if threshold != NONE:
        assert flow.dropped.sum() > 0.01


def test_a_threshold_keeps_the_strongest_links_of_a_joint(one):
    whole, few = trace(one, LAYERS, -1), trace(one, LAYERS, -1, Threshold("top-k", 2))
    layer = LAYERS - 1
    links = torch.cat([
        whole.attention[layer, -1], whole.residual[layer, -1:], whole.bias[layer, -1:]
    ])  # fmt: skip
    kept = torch.cat([
        few.attention[layer, -1], few.residual[layer, -1:], few.bias[layer, -1:]
    ])  # fmt: skip
    assert (kept > 0).sum() == 2
    assert kept.max() == links.max()
    least = trace(one, LAYERS, -1, Threshold("minimum weight", 0.1))
    assert least.attention[least.attention > 0].min() >= 0.1


def test_the_sink_is_left_out_and_the_rest_of_attention_takes_its_share(one):
    bare = without_sink(one)
    assert (bare.attention[:, 1:, 0] == 0).all()
    torch.testing.assert_close(bare.attention[:, 1:].sum(-1), one.attention[:, 1:].sum(-1))
    torch.testing.assert_close(bare.attention[:, 0], one.attention[:, 0])
    torch.testing.assert_close(bare.loading.sum(-1), bare.attention)
    whole = bare.attention.sum(-1) + bare.bias + bare.residual
    torch.testing.assert_close(whole, torch.ones(LAYERS, LENGTH))


def test_tables_hold_all_weight_and_go_to_json_and_back(one):
    flow = trace(one, LAYERS, -1)
    nodes, links = node_rows({"a": flow}), link_rows({"a": flow})
    at_inputs = nodes.query("part == 'state' and depth == 0")["weight"].sum()
    ended = links[links["kind"].isin(["bias", "dropped"])]["weight"].sum()
    assert abs(at_inputs + ended - 1) < 1e-9
    arrived = links.query("layer == 0 and kind in ['attention', 'residual']")
    if not one.parallel:
        assert abs(arrived["weight"].sum() - at_inputs) < 1e-9
    told = Diagram(["<b>", "万\n", "&"], "😀", "a", "none", nodes, links)
    back = Diagram.from_json(told.to_json())
    assert (back.tokens, back.traced) == (told.tokens, told.traced)
    assert (back.links["weight"] - links["weight"]).abs().max() < 1e-8
    assert back.nodes["part"].tolist() == nodes["part"].tolist()
