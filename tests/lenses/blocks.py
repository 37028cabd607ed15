"""Tiny models with random weights, one for each way that a block is built."""

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
)

from models import Model
from models.hooked import hook_model


def configs(layers: int = 2) -> dict[str, PretrainedConfig]:
    """By what is special: nothing, parallel blocks, grouped queries, norms after attention."""
    shape = {"num_hidden_layers": layers, "vocab_size": 50, "hidden_size": 24,
             "intermediate_size": 40}  # fmt: skip
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    return {
        "gpt2": GPT2Config(
            n_embd=24, n_head=3, n_layer=layers, vocab_size=50, n_positions=32, **ends
        ),
        "parallel": GPTNeoXConfig(**shape, num_attention_heads=3),
        "grouped queries": LlamaConfig(
            **shape, num_attention_heads=6, num_key_value_heads=2, head_dim=8
        ),
        "post-norm": Gemma3TextConfig(
            **shape, num_attention_heads=2, num_key_value_heads=1, head_dim=32, sliding_window=4
        ),
    }


def tiny(config: PretrainedConfig) -> Model:
    """A model of a config; its weights are large enough that everything in it matters."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    for parameter in plain.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    model = hook_model(plain, folded=False)
    model.blueprint = config
    return model


CONFIGS = configs()
