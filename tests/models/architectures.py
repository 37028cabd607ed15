"""One tiny model of every causal architecture of transformers that a config can make small."""

from collections.abc import Callable
from typing import Any

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests.models.tiny import byte_tokenizer, of_config, scrambled

VOCABULARY = len(byte_tokenizer())
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": None,
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "word_embed_proj_dim": 32,
    "head_dim": 8,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "rotary_dim": 4,
    "intermediate_size": 48,
    "n_inner": 48,
    "ffn_dim": 48,
    "max_position_embeddings": 256,
    "n_positions": 256,
    "n_ctx": 256,
    "max_seq_len": 256,
    "sliding_window": 16,
    "window_size": 16,
    "state_size": 4,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "d_ff": 48,
    "d_kv": 8,
}
"""What makes a model small, under the names that configs have for it."""

MLA: dict[str, Any] = {"head_dim": 8, "num_key_value_heads": 4}
LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
SHAPES: dict[str, dict[str, Any]] = {
    "cwm": {"bos_token_id": 1},
    "deepseek_v2": MLA,
    "deepseek_v3": MLA,
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granite": {"logits_scaling": 8.0, "residual_multiplier": 0.22, "attention_multiplier": 0.3},
    "granitemoe": {"logits_scaling": 8.0, "residual_multiplier": 0.22},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "modernbert-decoder": {"pad_token_id": 1, "bos_token_id": 1},
    "qwen3_5_text": LINEAR,
    "qwen3_next": LINEAR,
    "roberta": {"pad_token_id": 1, "is_decoder": True},
    "bert": {"is_decoder": True},
}
"""What the model of a kind needs beside SMALL, or should show."""

KINDS = (
    *("afmoe", "apertus", "arcee", "aria_text", "bart", "bert", "big_bird", "biogpt", "bitnet"),
    *("bloom", "codegen", "cohere", "cohere2", "cohere2_moe", "ctrl", "cwm", "deepseek_v2"),
    *("deepseek_v3", "diffllama", "doge", "electra", "ernie4_5", "ernie4_5_moe", "exaone4"),
    *("exaone_moe", "falcon", "falcon_h1", "falcon_mamba", "flex_olmo", "gemma", "gemma2"),
    *("gemma3_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox"),
    *("gpt_neox_japanese", "gpt_oss", "gptj", "granite", "granitemoe", "granitemoeshared"),
    *("helium", "hunyuan_v1_dense", "hunyuan_v1_moe", "hyperclovax", "internlm3", "jais2"),
    *("jamba", "jetmoe", "laguna", "lfm2", "llama", "llama4_text", "mamba", "mamba2", "marian"),
    *("mellum", "minimax", "minimax_m2", "ministral", "ministral3", "mistral", "mixtral"),
    *("modernbert-decoder", "moshi", "mpt", "nanochat", "nemotron", "olmo", "olmo2", "olmo3"),
    *("olmo_hybrid", "olmoe", "openai-gpt", "opt", "pegasus", "persimmon", "phi", "phi3"),
    *("phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_5_text", "qwen3_moe", "qwen3_next"),
    *("recurrent_gemma", "roberta", "rwkv", "seed_oss", "smollm3", "solar_open", "stablelm"),
    *("starcoder2", "trocr", "vaultgemma", "xglm", "xlnet", "xlstm"),
)


def small(kind: str, **more: Any) -> Any:
    """A config of a kind with everything that it knows of SMALL."""
    made = CONFIG_MAPPING[kind]
    known, aliases = made().to_dict().keys(), getattr(made, "attribute_map", {}).keys()
    stated = {name: value for name, value in SMALL.items() if name in known - aliases}
    return made(**(stated | SHAPES.get(kind, {}) | more))


def _with_vision() -> Any:
    text = small("gemma3_text").to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    config = transformers.Gemma3Config(text_config=text, vision_config=vision)
    return of_config(config)


def _encoder_decoder(kind: str) -> Any:
    config = small(kind, decoder_start_token_id=0, pad_token_id=1)
    return scrambled(transformers.AutoModelForSeq2SeqLM.from_config(config))


def _plain(kind: str, **more: Any) -> Callable[[], Any]:
    return lambda: of_config(small(kind, **more))


MADE: dict[str, Callable[[], Any]] = {
    **{kind: _plain(kind) for kind in KINDS},
    "falcon, new form": _plain("falcon", new_decoder_architecture=True, num_kv_heads=2),
    "falcon, ALiBi": _plain("falcon", alibi=True),
    "gemma2, no soft caps": _plain(
        "gemma2", final_logit_softcapping=None, attn_logit_softcapping=None
    ),
    "gemma3, with vision": _with_vision,
    "gpt_neox, one after the other": _plain("gpt_neox", use_parallel_residual=False),
    "opt, norm after": _plain("opt", do_layer_norm_before=False),
    "opt, projected": _plain("opt", do_layer_norm_before=False, word_embed_proj_dim=16),
    "bart, whole": lambda: _encoder_decoder("bart"),
    "t5": lambda: _encoder_decoder("t5"),
}
"""Every model that is tried, by its name on the page of the docs."""
