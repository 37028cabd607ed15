"""What a loaded model offers, whichever TransformerLens stands behind it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from models.card import Card, NativeConfig

# transformers takes seconds to import: it is imported where a model is built or read.
if TYPE_CHECKING:
    from transformers import PretrainedConfig
    from transformers import PreTrainedModel as PlainModel
    from transformers import PreTrainedTokenizerBase as Tokenizer
else:
    PlainModel = PretrainedConfig = Tokenizer = Any

Processing = Literal["none", "folded"]


class Identity(BaseModel):
    """One thing that was checked of a model: how far off it is, and how far it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    error: float
    """Relative: norm of the difference over norm of what is expected; NaN is never ok."""
    tolerance: float
    ok: bool


@runtime_checkable
class Model(Protocol):
    """What TransformerBridge (4.x) and HookedTransformer (3.9) share, and what `load` adds.

    Hooks have HookedTransformer's names: `blocks.{l}.attn.hook_z` [batch pos head d_head],
    `blocks.{l}.attn.hook_pattern` [batch head pos key], `blocks.{l}.hook_attn_out`,
    `hook_mlp_out`, `hook_resid_pre`, `hook_resid_mid`, `hook_resid_post` [batch pos d_model].
    `hook_resid_mid` is absent where attention and MLP run side by side or there is no MLP.
    """

    card: Card
    """What is known of the model."""
    identities: list[Identity]
    """What was checked when it was loaded."""
    blueprint: PretrainedConfig | NativeConfig
    """The shape from which an untrained twin is made."""
    processing: Processing
    """Whether weights are the model's own, or folded and centred."""
    end_tokens: tuple[int, ...]
    """Every token that ends a continuation, as its generation_config.json names them."""
    attention_sinks: bool
    """Whether attention rows sum to 1 less the share of a learned sink, not to 1."""
    read_report: tuple[str, ...]
    """What was read from the weights and what was ignored, a line each."""
    tokenizer: Tokenizer | None
    cfg: Any
    blocks: Any
    hook_dict: Mapping[str, Any]
    W_E: Float[Tensor, "d_vocab d_model"]
    W_U: Float[Tensor, "d_model d_vocab_out"]
    W_O: Float[Tensor, "layer head d_head d_model"]

    def __call__(self, tokens: Int[Tensor, "batch pos"], **options: Any) -> Any:
        """Logits [batch pos d_vocab_out] by default."""

    def run_with_cache(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        names_filter: Callable[[str], bool] | Sequence[str] | None = None,
        **options: Any,
    ) -> tuple[Float[Tensor, "batch pos d_vocab_out"], Mapping[str, Tensor]]:
        """Logits and the activations at the hooks asked for."""

    def run_with_hooks(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        fwd_hooks: list[tuple[str | Callable[[str], bool], Callable[..., Any]]],
        **options: Any,
    ) -> Any:
        """Logits with functions called at hooks, which may change what passes."""

    def to_tokens(self, text: str | list[str], **options: Any) -> Int[Tensor, "batch pos"]:
        """Token ids of texts, with a BOS iff the model's tokenizer puts one there."""
