"""An adder in training, a step at a time."""

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.train.recipe import Recipe, Training
from models.train.sums import MARK, longest, targets, training_sums
from prompts.additions import (
    AdditionFormat,
    Written,
)

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def new_adder(style: AdditionFormat, training: Training) -> "GPT2LMHeadModel":
    """A GPT-2 with fresh weights that is just long enough for one addition."""
    words = max(style.vocabulary.values()) + 1
    length = style.write(longest(style.digits)).tokens.shape[1]
    return new_gpt2(training, words, length, mark=style.vocabulary[MARK])


def new_gpt2(
    training: Recipe, words: int, length: int, mark: int, dropout: float = 0.0
) -> "GPT2LMHeadModel":
    """An untied GPT-2 with fresh weights; `mark` is the id that begins and ends its texts."""
    from transformers import GPT2Config, GPT2LMHeadModel  # heavy: only where a model is made

    torch.manual_seed(training.seed)
    config = GPT2Config(
        vocab_size=words,
        n_positions=length,
        n_embd=training.width,
        n_layer=training.layers,
        n_head=training.heads,
        activation_function="relu",
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=mark,
        eos_token_id=mark,
        # In bfloat16 on a CPU the written-out attention is twice as fast as the fused one.
        attn_implementation="eager",
    )
    net = GPT2LMHeadModel(config)
    initialise(net)
    return net


@torch.no_grad()
def initialise(adder: "GPT2LMHeadModel") -> None:
    """Matrices from N(0, .8 / sqrt d), those that write to the residual stream / sqrt(2 layers)."""
    scale = 0.8 * adder.config.n_embd**-0.5
    for name, weight in adder.named_parameters():
        if weight.ndim == 2:
            writes = name.endswith("c_proj.weight")
            weight.normal_(0, scale / (2 * adder.config.n_layer) ** 0.5 if writes else scale)


def learning_rate_at(step: int, training: Recipe) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine to 1 %."""
    if step < training.warm_up:
        return (step + 1) / training.warm_up
    done = (step - training.warm_up) / max(1, training.steps - training.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * done))


def optimiser(adder: "GPT2LMHeadModel", training: Recipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [weight for weight in adder.parameters() if weight.ndim == 2]
    vectors = [weight for weight in adder.parameters() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.98))


def descend(
    net: "GPT2LMHeadModel", adamw: torch.optim.AdamW, loss: Float[Tensor, ""], rate: float
) -> None:
    """Go one step of AdamW down a loss, at a learning rate; gradients are cut to a norm of 1."""
    for group in adamw.param_groups:
        group["lr"] = rate
    adamw.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    adamw.step()


def losses_per_token(
    adder: "GPT2LMHeadModel",
    tokens: Int[Tensor, "batch pos"],
    reads: Int[np.ndarray, "batch answer"],
    expected: Int[np.ndarray, "batch answer"],
) -> Float[Tensor, "batch answer"]:
    """Cross-entropy in nats of what is expected at the positions `reads`, in bfloat16."""
    at, target = (torch.from_numpy(array).to(tokens.device) for array in (reads, expected))
    with torch.autocast(tokens.device.type, torch.bfloat16):
        states = adder.transformer(tokens, use_cache=False).last_hidden_state
        row = torch.arange(len(tokens), device=tokens.device)[:, None]
        logits = adder.lm_head(states[row, at])
    return cross_entropy(logits.float().transpose(1, 2), target, reduction="none")


class Trainer:
    """An adder in training, a step at a time; all of it can be stored and taken up again."""

    def __init__(
        self, style: AdditionFormat, training: Training, device: torch.device | str = "cpu"
    ) -> None:
        self.style, self.training = style, training
        self.adder = new_adder(style, training).to(device)
        self.step = 0
        """Steps done."""
        self._adamw = optimiser(self.adder, training)
        self._rng = np.random.default_rng(training.seed)

    def advance(self) -> Float[np.ndarray, "answer"]:
        """Do one step; the batch's mean loss in nats by place, NaN where no such digit was."""
        sums = training_sums(self._rng, self.style, self.training.batch)
        written = self.style.write(sums)
        reads, expected, asked = targets(self.style, written)
        tokens = torch.from_numpy(written.tokens).to(self.adder.device)
        losses = losses_per_token(self.adder, tokens, reads, expected)
        rate = self.training.learning_rate * learning_rate_at(self.step, self.training)
        loss = losses[torch.from_numpy(asked).to(losses.device)].mean()
        descend(self.adder, self._adamw, loss, rate)
        self.step += 1
        return by_place(losses.detach().cpu().numpy(), written)

    def state(self) -> dict[str, np.ndarray]:
        """Weights, moments of the optimiser, step and random generator."""
        weights = self.adder.state_dict().items()
        state = {f"weight.{name}": weight.cpu().numpy().copy() for name, weight in weights}
        for name, weight in self.adder.named_parameters():
            for key, value in self._adamw.state[weight].items():
                state[f"{key}.{name}"] = value.cpu().numpy().copy()
        generator = json.dumps(self._rng.bit_generator.state).encode()
        return state | {"step": np.array(self.step), "rng": np.frombuffer(generator, np.uint8)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a state, from which the next steps are the same as they were."""
        tensors = {k: torch.from_numpy(v.copy()) for k, v in state.items()}
        weights = {name: tensors[f"weight.{name}"] for name in self.adder.state_dict()}
        self.adder.load_state_dict(weights)
        self._adamw.state.clear()
        self.step = int(state["step"])
        self._rng.bit_generator.state = json.loads(state["rng"].tobytes())
        if self.step:
            for name, weight in self.adder.named_parameters():
                keys = ("step", "exp_avg", "exp_avg_sq")
                moments = {key: tensors[f"{key}.{name}"] for key in keys}
                # Its count of steps stays on the CPU, as AdamW itself keeps it.
                self._adamw.state[weight] = {
                    key: moment if key == "step" else moment.to(weight.device)
                    for key, moment in moments.items()
                }


def by_place(
    losses: Float[np.ndarray, "batch slot"], written: Written
) -> Float[np.ndarray, "answer"]:
    """Mean loss of the answer digit of each place, units first, over the answers that have it."""
    slots = np.maximum(written.at - written.prompt[:, None], 0)
    digits = np.take_along_axis(losses, slots, axis=1).astype(float)
    count = written.written.sum(0)
    total = (digits * written.written).sum(0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
