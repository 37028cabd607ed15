"""What a model is checked for: each check fails for the fault that it is there for."""

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
    inner_identities,
    relative_error,
    run_checked,
)
from prompts.additions import AdditionFormat

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
    logits, cache = run_checked(llama, torch.arange(40)[None])
    return logits, {name: act.clone() for name, act in cache.items()}


def failed(model, cache):
    """The names of the identities that a run breaks."""
    return [identity.name for identity in inner_identities(model, cache) if not identity.ok]


def test_a_true_run_breaks_nothing(llama, run):
    assert failed(llama, run[1]) == []


@pytest.mark.parametrize(
    ("hook", "broken"),
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
def test_each_identity_sees_its_fault(llama, run, hook, broken, damage):
    name = f"blocks.1.{hook}"
    run[1][name] = damage(run[1][name])
    assert failed(llama, run[1]) == broken


def test_heads_assigned_to_the_wrong_keys_are_seen(llama, run):
    name = "blocks.0.attn.hook_v"
    run[1][name] = run[1][name].flip(2)
    assert failed(llama, run[1]) == ["query head h reads key-value head h // 2"]


def test_frozen_norm_is_part_of_the_identity(folders):
    model = load(str(folders["gemma3"]))
    _, cache = run_checked(model, torch.arange(40)[None])
    scale = "blocks.1.ln1_post.hook_scale"
    assert failed(model, dict(cache)) == []
    assert failed(model, {**cache, scale: cache[scale] * 1.001}) == [
        "sum of heads + b_O, at a frozen norm, = attn_out"
    ]
    assert attention_out(model).post_gain is not None


def test_other_logits_are_seen(llama, run):
    assert agreement_identity(llama, run[0], run[0] + 3.0).ok  # the same probabilities
    assert not agreement_identity(llama, run[0], run[0].roll(1, -1)).ok


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
