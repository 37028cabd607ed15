"""Whether a model fits into memory, counted before anything of it is made."""

import os
import resource
from pathlib import Path
from typing import Any

from models.card import Card, ModelError, NativeConfig

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
GIB = 2**30


def refuse_too_large(card: Card, parameters: int, *, also: int = 0, dtype: str = "float32") -> None:
    """Raise ModelError for more parameters (and `also` bytes) than memory holds."""
    needed, there = parameters * BYTES.get(dtype, 4) + also, available()
    if needed > there:
        raise ModelError(
            f"{card.name}: {parameters:,} parameters and masks need {needed / GIB:,.1f} GiB of "
            f"memory, and {there / GIB:,.1f} GiB are free; use a smaller model or --dtype bfloat16"
        )


def refuse_large_config(card: Card, config: NativeConfig) -> None:
    """Raise ModelError for a native shape that does not fit, its masks included."""
    heads = config.n_heads + (config.n_key_value_heads or config.n_heads)
    attention = 2 * heads * config.d_model * config.d_head
    wide = config.d_mlp or 4 * config.d_model
    mlp = 0 if config.attn_only else (3 if config.gated_mlp else 2) * config.d_model * wide
    ends = config.d_vocab + (config.d_vocab_out or config.d_vocab)
    ends += 0 if config.positional_embedding_type == "rotary" else config.n_ctx
    parameters = config.n_layers * (attention + mlp) + ends * config.d_model
    refuse_too_large(card, parameters, also=config.n_layers * config.n_ctx**2)


def refuse_large_folder(card: Card, folder: Path, **how: Any) -> None:
    """Raise ModelError for a config whose model does not fit; it is built without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM  # take seconds to import

    stated = AutoConfig.from_pretrained(folder, **how)
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(stated, trust_remote_code=False)
    masks = sum(buffer.numel() * buffer.element_size() for buffer in shape.buffers())
    parameters = sum(parameter.numel() for parameter in shape.parameters())
    refuse_too_large(card, parameters, also=masks, dtype=card.dtype)


def available() -> int:
    """Bytes that this process may still take."""
    limits = [Path(name).read_text().strip() for name in LIMITS if Path(name).is_file()]
    found = [_free(), *(int(limit) for limit in limits if limit.isdigit())]
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(found + ([own] if own != resource.RLIM_INFINITY else []))


def _free() -> int:
    """What Linux says is free, file caches included; elsewhere all memory there is."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
