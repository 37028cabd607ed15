"""What a model is checked for: each check fails for the fault that it is there for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models import ModelError, check, load
from models.card import Card
from models.native import vocabulary_tokenizer
from models.parts import attention_out
from models.verification import (
    CHECK_TEXT,
    agreement_identity,
    check_tokens,
    identities,
    inner_identities,
    relative_error,
    row_identities,
    run_checked,
)
from prompts.additions import AdditionFormat
from tests.models.tiny import LLAMA, save, tiny

FORMAT = AdditionFormat(
    digits=3,
    layout=("a", "+", "b", "=", "c"),
    vocabulary={**{str(digit): digit for digit in range(10)}, "+": 10, "=": 11},
)


@pytest.fixture(scope="module")
def llama(folders):
    return load(str(folders["llama"]))


@pytest.fixture
def run(llama):
    made = run_checked(llama, torch.arange(40)[None])
    return made.logits, {name: act.clone() for name, act in made.came.items()}


def failed(model, cache):
    """The names of the identities that a run breaks."""
    return [identity.name for identity in inner_identities(model, cache) if not identity.ok]


def broken(model):
    """The names of all identities that a model breaks."""
    return [identity.name for identity in identities(model) if not identity.ok]


def test_a_true_run_breaks_nothing(llama, run):
    assert failed(llama, run[1]) == []
    assert broken(llama) == []


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ("hook_mlp_out", ["resid_mid + mlp_out = resid_post"]),
        ("hook_resid_post", ["resid_mid + mlp_out = resid_post"]),
        ("hook_resid_pre", ["resid_pre + attn_out = resid_mid"]),
        ("attn.hook_v", ["query head h reads key-value head h // 2"]),
        (
            "attn.hook_z",
            ["sum of heads + b_O = attn_out", "query head h reads key-value head h // 2"],
        ),
    ],
)
@pytest.mark.parametrize("damage", [lambda act: act * 1.001, lambda act: act * float("nan")])
def test_each_identity_sees_its_fault(llama, run, hook, expected, damage):
    name = f"blocks.1.{hook}"
    run[1][name] = damage(run[1][name])
    assert failed(llama, run[1]) == expected


def test_heads_assigned_to_the_wrong_keys_are_seen(llama, run):
    name = "blocks.0.attn.hook_v"
    run[1][name] = run[1][name].flip(2)
    assert failed(llama, run[1]) == ["query head h reads key-value head h // 2"]


def test_frozen_norm_is_part_of_the_identity(folders):
    model = load(str(folders["gemma3"]))
    cache = run_checked(model, torch.arange(40)[None]).came
    scale = "blocks.1.ln1_post.hook_scale"
    assert failed(model, dict(cache)) == []
    assert failed(model, {**cache, scale: cache[scale] * 1.001}) == [
        "sum of heads + b_O, at a frozen norm, = attn_out"
    ]
    assert attention_out(model).post_gain is not None


def test_other_logits_are_seen(llama, run):
    assert agreement_identity(llama, run[0], run[0] + 3.0).ok  # the same probabilities
    assert not agreement_identity(llama, run[0], run[0].roll(1, -1)).ok


def test_a_small_fault_is_not_lost_in_the_size_of_the_vocabulary(llama):
    """Predictions of a small random model are near uniform: most of log p is log of the size."""
    logits = torch.randn(1, 40, 50_000) * 0.1
    wrong = logits + 1e-4 * torch.randn_like(logits)
    found, plain = wrong.log_softmax(-1), logits.log_softmax(-1)
    assert (found - plain).norm() / plain.norm() < 1e-5
    assert not agreement_identity(llama, wrong, logits).ok


def test_a_soft_cap_that_the_bridge_leaves_out_is_seen(tmp_path):
    shape = {**LLAMA, "head_dim": 12, "attn_logit_softcapping": 5.0}
    folder = save(tmp_path, tiny("gemma3_text", **shape))
    with pytest.raises(ModelError, match="log-probabilities are those of plain transformers: off"):
        load(str(folder))


def hearing(model, monkeypatch, name, change):
    """The model, whose hook `name` treats the functions that are put there as `change` does."""
    whole = type(model).run_with_hooks

    def run_with_hooks(tokens, *, fwd_hooks, **options):
        hooks = [(at, change(do) if at == name else do) for at, do in fwd_hooks]
        return whole(model, tokens, fwd_hooks=[h for h in hooks if h[1]], **options)

    monkeypatch.setattr(model, "run_with_hooks", run_with_hooks)
    return model


EDITED = ("attn.hook_pattern", "attn.hook_z", "hook_attn_out", "hook_mlp_out", "hook_resid_pre")


@pytest.mark.parametrize("hook", ["hook_embed", *(f"blocks.1.{name}" for name in EDITED)])
def test_an_edit_that_goes_nowhere_is_seen(llama, monkeypatch, hook):
    """A hook that shows a value and drops what is put there, as has been shipped by others."""

    def deaf(do):
        def put(value, hook):
            do(value, hook)

        return put

    found = broken(hearing(llama, monkeypatch, hook, deaf))
    assert len(found) == 1
    assert found[0].startswith("what is put at a hook" if "." in hook else "what is put at hook_em")


@pytest.mark.parametrize("name", ["hook_embed", "blocks.1.attn.hook_q", "blocks.0.hook_mlp_out"])
def test_a_hook_that_is_never_called_is_seen(llama, monkeypatch, name):
    assert broken(hearing(llama, monkeypatch, name, lambda do: None)) == [
        f"every hook that a lens uses is called ({name} is not)"
    ]


def test_a_patch_that_is_not_what_came_is_seen(llama, monkeypatch):
    def coarse(do):
        def put(value, hook):
            new = do(value, hook)
            return None if new is None else new.bfloat16().float()

        return put

    found = broken(hearing(llama, monkeypatch, "blocks.1.attn.hook_z", coarse))
    assert found[0] == "components patched with themselves change nothing"


def test_what_stands_between_the_last_state_and_the_logits_is_seen(llama):
    readout = "last state, read by our own readout, gives the logits"
    for layer, change in [
        (llama.unembed, lambda module, given, found: found + torch.arange(100)),
        (llama.unembed, lambda module, given, found: 2 * found),
        (llama.ln_final, lambda module, given, found: found + given[0]),
    ]:
        handle = layer.register_forward_hook(change)
        assert readout in broken(llama)
        handle.remove()
    assert broken(llama) == []


def test_rows_that_are_no_distribution_and_look_ahead_are_seen(llama):
    run = run_checked(llama, torch.arange(40)[None])
    assert all(identity.ok for identity in row_identities(llama, run))
    name = "blocks.1.attn.hook_pattern"
    for damage, expected in [
        (lambda rows: rows * 1.001, [True, False]),
        (lambda rows: rows * float("nan"), [False, False]),
        (lambda rows: torch.full_like(rows, 1 / 40), [False, True]),
    ]:
        wrong = replace(run, came={**run.came, name: damage(run.came[name])})
        assert [identity.ok for identity in row_identities(llama, wrong)] == expected


def test_a_learned_sink_is_told_and_checked(tmp_path):
    shape = {**LLAMA, "head_dim": 16, "num_local_experts": 4, "sliding_window": 16}
    model = load(str(save(tmp_path, tiny("gpt_oss", **shape))))
    assert model.attention_sinks
    assert "attention rows sum to 1 less a learned sink" in [i.name for i in model.identities]
    model.blocks[1].attn.original_component.sinks.data += 0.1
    run = run_checked(model, torch.arange(40)[None])
    model.blocks[1].attn.original_component.sinks.data -= 0.1
    assert [identity.ok for identity in row_identities(model, run)] == [True, False]


def test_relative_error():
    found, expected = torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0])
    assert relative_error(found, expected) == pytest.approx(0.08)
    assert relative_error(expected, expected) == 0


@pytest.mark.parametrize("factor", [1.0, 1.019, 1.021, 0.97])
def test_likelihood_of_the_card_within_two_percent(tmp_path, folders, llama, factor):
    tokens = check_tokens(llama.card, llama.tokenizer, llama.cfg.n_ctx)
    with torch.no_grad():
        chances = llama(tokens)[0, :-1].log_softmax(-1)
    nll = -chances[torch.arange(63), tokens[0, 1:]].mean().item()
    card = tmp_path / "card.toml"
    card.write_text(f'source = "transformers"\npath = "{folders["llama"]}"\nnll = {nll / factor!r}')
    assert check(str(card))[-1].ok is (abs(factor - 1) <= 0.02)
    if abs(factor - 1) > 0.02:
        with pytest.raises(ModelError, match=r"likelihood of the check text: .* off by"):
            load(str(card))


def test_models_are_checked_on_what_they_read(llama):
    text = CHECK_TEXT.read_text().strip()
    tokens = check_tokens(llama.card, llama.tokenizer, 64)
    assert llama.tokenizer.decode(tokens[0]) == text[:64]
    adder = Card.of(
        "adder", Path(), {"source": "gguf", "path": "none", "arithmetic": FORMAT.model_dump()}
    )
    for row in check_tokens(adder, vocabulary_tokenizer(FORMAT.vocabulary), 12):
        question, answer = vocabulary_tokenizer(FORMAT.vocabulary).decode(row).split("=")
        assert sum(map(int, question.split("+"))) == int(answer)
