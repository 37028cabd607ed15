"""States taken from one text and put into another, at any depth (Ghandeharioun et al. 2024).

The depth of a state is how many blocks it has passed: 0 for what enters the first one. The blocks
below are run once for all that is put in; what is put in at depth l goes on from block l.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from models import Model
from models.passes import Hooks, reading, run_from
from models.readout import unembedding
from models.text import right_pad

Rows = Sequence[Sequence[int]]


def stream_hooks(model: Model, depths: Sequence[int]) -> list[str]:
    """The hook of the residual stream at each depth."""
    layers = model.cfg.n_layers
    last = f"blocks.{layers - 1}.hook_resid_post"
    return [last if depth == layers else f"blocks.{depth}.hook_resid_pre" for depth in depths]


@torch.inference_mode()
def states_of(
    model: Model, rows: Rows, at: Sequence[int], depths: Sequence[int]
) -> Float[Tensor, "depth n d_model"]:
    """The state at pos `at` of each text, at every depth asked for."""
    return Reader(model, rows, at, at, depths).states


class Reader:
    """Texts into which states are put at pos `put`, to see what is predicted at pos `read`."""

    @torch.inference_mode()
    def __init__(
        self,
        model: Model,
        rows: Rows,
        put: Sequence[int],
        read: Sequence[int],
        depths: Sequence[int],
    ) -> None:
        device = model.cfg.device
        tokens, _ = right_pad(rows)
        self._model, self._depths = model, list(depths)
        self._row = torch.arange(len(tokens), device=device)
        self._put, self._read = (torch.as_tensor(pos, device=device) for pos in (put, read))
        self._streams: dict[str, Float[Tensor, "n pos d_model"]] = {}
        hooks: Hooks = [
            (name, partial(self._keep, name)) for name in stream_hooks(model, self._depths)
        ]
        with reading(model, self._read[:, None]):
            logits = model.run_with_hooks(tokens.to(device), return_type="logits", fwd_hooks=hooks)
        self.alone: Float[Tensor, "n vocab"] = logits[:, 0].float()
        """Logits at `read` when nothing is put in."""

    def _keep(self, name: str, stream: Float[Tensor, "n pos d_model"], hook: object) -> None:
        self._streams[name] = stream.clone()

    @property
    def states(self) -> Float[Tensor, "depth n d_model"]:
        """What stands at `put` when nothing is put in."""
        return torch.stack([self._at(depth)[self._row, self._put] for depth in self._depths])

    @torch.inference_mode()
    def __call__(
        self, depth: int, vectors: Float[Tensor, "kind n d_model"]
    ) -> Float[Tensor, "kind n vocab"]:
        """Logits at `read` when each kind of vector is put into its text at a depth."""
        kinds, count = vectors.shape[:2]
        stream = self._at(depth).repeat(kinds, 1, 1)
        put, read = self._put.repeat(kinds), self._read.repeat(kinds)
        row = torch.arange(len(stream), device=stream.device)
        stream[row, put] = vectors.flatten(0, 1).to(stream)
        if depth == self._model.cfg.n_layers:
            logits = unembedding(self._model)(stream[row, read])
        else:
            with reading(self._model, read[:, None]):
                logits = run_from(self._model, depth, stream, [])[:, 0]
        return logits.float().unflatten(0, (kinds, count))

    def _at(self, depth: int) -> Float[Tensor, "n pos d_model"]:
        return self._streams[stream_hooks(self._model, [depth])[0]]


@torch.inference_mode()
def written_from(
    model: Model,
    rows: Rows,
    put: Sequence[int],
    depths: Sequence[int],
    vectors: Float[Tensor, "n d_model"],
    count: int,
) -> list[list[int]]:
    """What the model goes on to write, word by word, after texts into which states were put.

    Each text has a pos and a depth of its own; the likeliest token is taken `count` times.
    """
    rows = [list(row) for row in rows]
    device, start = model.cfg.device, [len(row) for row in rows]
    put, which = (torch.as_tensor(x, device=device) for x in (put, depths))

    def place(depth: int, stream: Tensor, hook: object) -> Tensor:
        mine = (which == depth).nonzero()[:, 0]
        stream = stream.clone()
        stream[mine, put[mine]] = vectors[mine].to(stream)
        return stream

    chosen = sorted(set(depths))
    hooks: Hooks = [
        (name, partial(place, depth))
        for name, depth in zip(stream_hooks(model, chosen), chosen, strict=True)
    ]
    for _ in range(count):
        tokens, lengths = right_pad(rows)
        with reading(model, (lengths - 1).to(device)[:, None]):
            logits = model.run_with_hooks(tokens.to(device), return_type="logits", fwd_hooks=hooks)
        for row, token in zip(rows, logits[:, 0].argmax(-1).tolist(), strict=True):
            row.append(token)
    return [row[length:] for row, length in zip(rows, start, strict=True)]
