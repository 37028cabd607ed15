"""Tiny random models as Hugging Face folders, made from configs: no downloads, under 1 MB each."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SIZE = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
LLAMA = {
    **SIZE,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "bos_token_id": None,
}


def byte_tokenizer(*special: str) -> transformers.PreTrainedTokenizerFast:
    """A token for each byte, after the special ones; the first of these ends a text."""
    special = special or ("<eos>",)
    signs = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(BPE({sign: number for number, sign in enumerate(signs)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(list(special))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=special[0])


def lower_case_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """The same, but it writes small letters and takes accents off, as uncased models do."""
    tokenizer = byte_tokenizer()
    steps = [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def letters_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Knows small letters and the space, and silently drops all else, digits included."""
    signs = [*"abcdefghijklmnopqrstuvwxyz ", "</s>"]
    inner = Tokenizer(BPE({sign: number for number, sign in enumerate(signs)}, []))
    inner.decoder = decoders.Fuse()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


def scrambled(model: Any) -> Any:
    """The model with random weights large enough to matter, norms and biases included."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if weight.dim() > 1:
                weight.copy_(0.15 * noise)
            else:
                weight.add_((0.2 if "norm" in name or "ln" in name else 0.1) * noise)
    return model.eval()


def tiny(kind: str, tokenizer: Any = None, **sizes: Any) -> Any:
    """A random model of a kind, as transformers names it: `llama`, `gpt2`."""
    tokenizer = tokenizer or byte_tokenizer()
    stated = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id} | sizes
    return of_config(CONFIG_MAPPING[kind](**stated))


def of_config(config: Any) -> Any:
    """A random model of a config's shape."""
    return scrambled(
        transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    )


def saying(tokenizer: Any, favourites: dict[int, float], **sizes: Any) -> Any:
    """A Phi, whose head has a bias, that always says the tokens it is biased towards."""
    shape = {**SIZE, "intermediate_size": 96, "max_position_embeddings": 512, "bos_token_id": None}
    model = tiny("phi", tokenizer, **shape, **sizes)
    with torch.no_grad():
        for token, bias in favourites.items():
            model.lm_head.bias[token] = bias
    return model


def save(folder: Path, model: Any, tokenizer: Any = None) -> Path:
    """Write a model and its tokenizer; returns the folder."""
    model.save_pretrained(folder)
    (tokenizer or byte_tokenizer()).save_pretrained(folder)
    return folder
