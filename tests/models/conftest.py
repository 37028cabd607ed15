"""Tiny random models of every family, as folders that plain transformers made."""

import string
from pathlib import Path

import pytest
import torch
import transformers

from models import load
from models.native import vocabulary_tokenizer

ROTARY = {
    "vocab_size": len(string.printable),
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "bos_token_id": 98,
    "eos_token_id": 99,
    "pad_token_id": 99,
}
# Queries share keys, heads are wider than d_model / n_heads, and windows are shorter than the text.
GROUPED = ROTARY | {"num_key_value_heads": 2, "head_dim": 10}
GEMMA = GROUPED | {"sliding_window": 5, "query_pre_attn_scalar": 12}
FAMILIES = {
    "gpt2": transformers.GPT2Config(
        vocab_size=100,
        n_positions=64,
        n_embd=24,
        n_layer=2,
        n_head=4,
        bos_token_id=98,
        eos_token_id=99,
    ),
    "neox": transformers.GPTNeoXConfig(**ROTARY, use_parallel_residual=True),
    "llama": transformers.LlamaConfig(**(ROTARY | {"num_key_value_heads": 2})),
    "mistral": transformers.MistralConfig(
        **(ROTARY | {"num_key_value_heads": 2}), sliding_window=5
    ),
    "qwen2": transformers.Qwen2Config(**(ROTARY | {"num_key_value_heads": 2})),
    "qwen3": transformers.Qwen3Config(**GROUPED),
    "gemma2": transformers.Gemma2Config(**GEMMA, attn_logit_softcapping=2.0),
    "gemma3": transformers.Gemma3TextConfig(**GEMMA, _sliding_window_pattern=2),
}


def make_folder(folder: Path, config: transformers.PretrainedConfig) -> Path:
    """A folder with random weights, norms and biases included, large enough to matter."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.2)
    model.save_pretrained(folder)
    tokenizer = vocabulary_tokenizer({sign: i for i, sign in enumerate(string.printable)})
    tokenizer.eos_token = string.printable[99]
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family."""
    root = tmp_path_factory.mktemp("families")
    return {name: make_folder(root / name, config) for name, config in FAMILIES.items()}


@pytest.fixture(scope="session", params=FAMILIES)
def folder(folders: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    """The folder of each family in turn."""
    return folders[request.param]


@pytest.fixture(scope="session")
def model(folder: Path):
    """Each family's model, loaded."""
    return load(str(folder))


@pytest.fixture(scope="session")
def plain(folder: Path) -> transformers.PreTrainedModel:
    """The same model as plain transformers has it, with its own fast attention."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for what is fetched and converted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "carrylens"
