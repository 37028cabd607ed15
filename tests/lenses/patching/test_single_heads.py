"""Effects of removing heads against one head, one mode and one whole pass at a time."""

import pytest
import torch

from lenses.patching import single_heads as lens
from lenses.patching.single_heads import (
    MODES,
    Clean,
    gate_effects,
    random_turn,
    read_clean,
    removal_effects,
    replacements,
)
from models import load
from models.hooked import hook_model
from models.planted.head import planted_head
from tests.lenses.blocks import CONFIGS, tiny


def made(name: str):
    return tiny(CONFIGS[name]) if name in CONFIGS else load(name)


def hook_with_blueprint(plain):
    model = hook_model(plain, folded=False)
    model.blueprint = plain.config
    return model


@pytest.fixture(scope="module", params=[*CONFIGS, "adder_6d_2l"])
def model(request):
    return made(request.param)


@pytest.fixture(scope="module")
def texts():
    """Of different lengths, so that there are pos that no other text reaches."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 13, (length,), generator=generator) for length in (12, 7, 9)]


@pytest.fixture(scope="module")
def cleans(model, texts):
    return [read_clean(model, tokens) for tokens in texts]


@pytest.fixture(scope="module")
def replaced(cleans):
    return replacements([clean.z for clean in cleans])


def naive(model, tokens, layer: int, head: int, value) -> torch.Tensor:
    """The three outcomes [outcome pos] of one head's z replaced in a whole pass."""

    def put(z, hook):
        z = z.clone()
        z[0, :, head] = value
        return z

    with torch.no_grad():
        before, after = (
            model.run_with_hooks(tokens[None, :-1], fwd_hooks=hooks, return_type="logits")[
                0
            ].double()
            for hooks in ([], [(f"blocks.{layer}.attn.hook_z", put)])
        )
    rows = []
    for pos in range(len(tokens) - 1):
        true = int(tokens[pos + 1])
        was, now = before[pos].log_softmax(-1), after[pos].log_softmax(-1)
        order = before[pos].argsort(descending=True).tolist()
        rival = next(token for token in order if token != true)
        gap = (after[pos, true] - after[pos, rival]) - (before[pos, true] - before[pos, rival])
        rows.append([was[true] - now[true], (was.exp() * (was - now)).sum(), gap])
    return torch.tensor(rows).T


def test_every_head_and_mode_equals_the_naive_hook(model, texts, cleans, replaced) -> None:
    for number in (0, 1):
        found = removal_effects(model, cleans[number], replaced[number])[0]
        for mode, name in enumerate(MODES):
            value = replaced[number].of(name)
            for layer in range(2):
                for head in range(model.cfg.n_heads):
                    expected = naive(model, texts[number], layer, head, value[layer, :, head])
                    close(found[mode, layer, head], expected)


def close(found, expected, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("moved", [0.0, 20.0])
@pytest.mark.parametrize("size", [1e-3, 3e-2, 1.0])
@pytest.mark.parametrize(("rows", "pos"), [(1, 1), (1, 8), (6, 8)])
def test_outcomes_over_a_large_vocabulary_are_those_of_float64(rows, pos, size, moved) -> None:
    """Small changes of 49,152 logits, which a product in float32 would hide."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(pos, 49_152, generator=generator) * 4
    change = torch.randn(rows, *logits.shape, generator=generator) * size + moved
    true = torch.randint(0, 49_152, (pos,), generator=generator)
    clean = Clean.of(torch.zeros(1), torch.zeros(1), logits, true)
    after = logits + change
    was, now = logits.double().log_softmax(-1), after.double().log_softmax(-1)
    kl = (was.exp() * (was - now)).sum(-1)
    nll = (was - now).gather(-1, true.expand(rows, -1)[..., None])[..., 0]
    found = lens._outcomes(after.clone(), clean).double()
    assert (found[:, 0] - nll).abs().max() < 1e-5
    assert (found[:, 1] - kl).abs().max() < 4e-6


def test_replacements_come_from_the_other_texts_at_the_same_pos(cleans, replaced) -> None:
    z = [clean.z for clean in cleans]  # 11, 6 and 8 pos
    close(replaced[0].mean[:, 3], (z[1][:, 3] + z[2][:, 3]) / 2)
    close(replaced[0].mean[:, 7], z[2][:, 7])
    close(replaced[0].mean[:, 10], z[2][:, 7] + 0 * z[0][:, 7], 1e-3)
    close(replaced[1].mean[:, 5], (z[0][:, 5] + z[2][:, 5]) / 2)
    assert torch.equal(replaced[0].other[:, :6], z[1])
    assert torch.equal(replaced[0].other[:, 10], z[1][:, 5])
    assert torch.equal(replaced[2].other, z[0][:, :8])
    assert not replaced[1].of("zero").any()
    with pytest.raises(ValueError, match="two texts"):
        replacements(z[:1])


def test_gates_scale_z(model, texts, cleans) -> None:
    gates = torch.tensor([0.0, 0.5, 1.0, 2.0])
    found = gate_effects(model, cleans[0], [(0, 1), (1, 0)], gates)
    for row, (layer, head) in enumerate([(0, 1), (1, 0)]):
        for i, gate in enumerate(gates):
            value = cleans[0].z[layer, :, head] * gate
            close(found[row, i], naive(model, texts[0], layer, head, value))
    assert found[:, 2].abs().max() < 1e-4


def test_turned_changes_keep_their_lengths_and_angles(model, texts, cleans, replaced) -> None:
    clean, seen = cleans[0], []
    turn = random_turn(model.cfg.d_model, torch.Generator().manual_seed(0))
    close(turn @ turn.T, torch.eye(len(turn)))
    change = lens._Change(torch.tensor([1]), replaced[0].mean[1, :, 1][None], turn)
    name, keep = "blocks.1.hook_attn_out", change._turned

    def look(out, hook):
        seen.append(keep(out, hook))
        return seen[-1]

    resid = clean.resid_pre[1].expand(2, -1, -1).contiguous()
    hooks = [change.hooks(1)[0], (name, look)]
    lens.run_from(model, 1, resid, hooks)
    own = model.run_with_cache(texts[0][None, :-1])[1][name][0]
    straight, turned = (row - own for row in seen[0])
    assert straight.norm() > 0
    close(turned @ turned.T, straight @ straight.T, 1e-3)
    close(turned, straight @ turn, 1e-3)
    assert torch.cosine_similarity(straight.ravel(), turned.ravel(), dim=0) < 0.9


def test_with_a_turn_there_are_two_kinds_and_the_first_is_the_same(model, cleans, replaced) -> None:
    turn = random_turn(model.cfg.d_model, torch.Generator().manual_seed(0))
    both = removal_effects(model, cleans[0], replaced[0], turn=turn)
    close(both[0], removal_effects(model, cleans[0], replaced[0])[0])
    assert both.shape[0] == 2
    close(
        removal_effects(model, cleans[0], replaced[0], turn=torch.eye(len(turn)))[1], both[0], 1e-3
    )


def test_small_parts_change_nothing(model, cleans, replaced, monkeypatch) -> None:
    turn = random_turn(model.cfg.d_model, torch.Generator().manual_seed(0))
    whole = removal_effects(model, cleans[0], replaced[0], turn=turn)
    monkeypatch.setattr(lens, "LOGITS", 1)
    close(removal_effects(model, cleans[0], replaced[0], turn=turn), whole)


def test_what_cannot_be_said_has_a_kl_only() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    nothing = torch.zeros(1, 2, 1, 1)
    clean = Clean.of(nothing, nothing[:, :, 0], logits, torch.tensor([7, 2]))
    found = lens._outcomes(torch.zeros(1, 2, 3), clean)[0]
    assert found[[0, 2], 0].isnan().all()
    log_p = logits.log_softmax(-1)
    close(found[1], (log_p.exp() * (log_p + torch.tensor(3.0).log())).sum(-1), 1e-6)
    close(found[0, 1], log_p[1, 2] + torch.tensor(3.0).log(), 1e-6)
    close(found[2, 1], torch.tensor(-1.0), 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_head_is_first_in_every_mode(seed) -> None:
    planted = planted_head(seed=seed)
    tokens = planted.prompts(4, 9, seed)
    cleans = [read_clean(planted.model, row) for row in tokens]
    others = replacements([clean.z for clean in cleans])
    turn = random_turn(64, torch.Generator().manual_seed(seed))
    pairs = zip(cleans, others, strict=True)
    each = [removal_effects(planted.model, *pair, turn=turn) for pair in pairs]
    found = torch.stack(each).abs().mean(dim=(0, -1))
    best = planted.layer * 6 + planted.head
    for outcome in range(3):
        assert (found[0, ..., outcome].flatten(1).argmax(-1) == best).all()
    distractors = found[0].flatten(1, 2)[:, [i for i in range(12) if i != best]]
    assert distractors.max() < 1e-5
    assert found[1].flatten(1, 2)[:, [i for i in range(12) if i != best]].min() > 1e-5


def test_means_of_half_precision_are_taken_in_full() -> None:
    texts = [torch.ones(1, 2, 1, 1, dtype=torch.bfloat16) for _ in range(300)]
    assert (replacements(texts)[0].mean == 1).all()
