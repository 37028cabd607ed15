"""What is kept of a stream: running moments by group, or one number for every prompt."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Num, Shaped


class Sums:
    """What is kept of a stream as steps, each combined with all before it.

    `update` of what derives from it works out a step of a batch and gives it to `_step`, which
    gives it to `_combine`. While a piece of a stream is made the steps are only noted, and they
    are combined when the pieces are merged: in the same order, so with the same bits.
    """

    _noted: list[dict[str, torch.Tensor]] | None = None

    def _step(self, **step: Num[torch.Tensor, "..."]) -> None:
        if self._noted is None:
            self._combine(**step)
        else:
            self._noted.append(step)

    def _combine(self, **step: Num[torch.Tensor, "..."]) -> None:
        raise NotImplementedError

    def begin_piece(self) -> None:
        """Only note what comes from now on."""
        self._noted = []

    def end_piece(self) -> dict[str, Shaped[np.ndarray, "step ..."]]:
        """The steps noted, and no longer only note them."""
        noted, self._noted = self._noted or [], None
        names = list(noted[0]) if noted else []
        return {k: np.stack([step[k].detach().cpu().numpy() for step in noted]) for k in names}

    def merge(self, piece: dict[str, Shaped[np.ndarray, "step ..."]]) -> None:
        """Combine the steps of a piece with what is held."""
        for step in zip(*piece.values(), strict=True):
            self._combine(**{k: torch.as_tensor(v) for k, v in zip(piece, step, strict=True)})


class Moments(Sums):
    """Running count, mean and sum of squared deviations (M2) in float64, per group and cell.

    Batches are combined by the formula of Chan, Golub & LeVeque (1979), and the state survives
    being written and read back bit for bit.
    """

    def __init__(self, groups: int = 1) -> None:
        self.groups = groups
        self._count = torch.zeros(groups, dtype=torch.int64)
        self._mean: torch.Tensor | None = None  # [group *cell]
        self._m2: torch.Tensor | None = None

    def update(
        self,
        values: Num[torch.Tensor, "batch *cell"] | Num[np.ndarray, "batch *cell"],
        group: Num[torch.Tensor, "batch"] | Num[np.ndarray, "batch"] | None = None,
    ) -> None:
        """Take in a batch; `group` says which of the groups each row belongs to (default: 0).

        The numbers stay on the device of `values`, so a loop over batches never waits for a GPU.
        """
        rows = _float64(torch.as_tensor(values))
        of = torch.zeros(len(rows)) if group is None else torch.as_tensor(group)
        of = of.to(rows.device, torch.int64)
        count = torch.zeros(self.groups, dtype=torch.int64, device=rows.device)
        count = count.index_add(0, of, torch.ones_like(of))
        zeros = rows.new_zeros(self.groups, *rows.shape[1:])
        mean = zeros.index_add(0, of, rows) / _beside(count.clamp(min=1), zeros)
        m2 = zeros.index_add(0, of, (rows - mean[of]) ** 2)
        self._step(count=count, mean=mean, m2=m2)

    def _combine(
        self,
        count: Int[torch.Tensor, "group"],
        mean: Float[torch.Tensor, "group *cell"],
        m2: Float[torch.Tensor, "group *cell"],
    ) -> None:
        if self._mean is None or self._m2 is None:
            self._count, self._mean, self._m2 = count, mean, m2
            return
        total = self._count.to(count.device) + count
        share = _beside(count.double() / total.clamp(min=1), mean)
        step = mean - self._mean.to(mean.device)
        self._m2 = self._m2.to(mean.device) + m2 + step**2 * share * _beside(total - count, mean)
        self._mean, self._count = self._mean.to(mean.device) + step * share, total

    def table(self, *axes: str) -> pd.DataFrame:
        """Tidy rows `axes..., n, mean, variance`: the first axis is the group, the rest the cells.

        With a single group the group's axis is left out. Groups never seen have no rows, and the
        variance (of the stream, with n - 1) of a single value is NaN.
        """
        if self._mean is None or self._m2 is None:
            return pd.DataFrame(columns=[*axes, "n", "mean", "variance"])
        count, mean, m2 = (x.cpu().numpy() for x in (self._count, self._mean, self._m2))
        names = axes if self.groups > 1 else ("", *axes)
        if len(names) != mean.ndim:
            raise ValueError(f"{mean.ndim} axes need {mean.ndim} names, got {axes}")
        where = dict(zip(names, (i.ravel() for i in np.indices(mean.shape)), strict=True))
        n = np.broadcast_to(count.reshape(-1, *[1] * (mean.ndim - 1)), mean.shape).ravel()
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = m2.ravel() / np.where(n > 1, n - 1, np.nan)
        frame = pd.DataFrame({**where, "n": n, "mean": mean.ravel(), "variance": variance})
        return frame[frame.n > 0].drop(columns="", errors="ignore").reset_index(drop=True)

    def state(self) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Everything it holds, as arrays; empty before the first update."""
        if self._mean is None or self._m2 is None:
            return {}
        held = {"count": self._count, "mean": self._mean, "m2": self._m2}
        return {name: value.cpu().numpy() for name, value in held.items()}

    def restore(self, state: dict[str, Shaped[np.ndarray, "..."]]) -> None:
        """Continue from what `state` returned."""
        fresh = Moments(self.groups)
        held = {name: torch.as_tensor(value) for name, value in state.items()}
        self._count = held.get("count", fresh._count)
        self._mean, self._m2 = held.get("mean"), held.get("m2")


def _float64(values: Num[torch.Tensor, "*shape"]) -> Float[torch.Tensor, "*shape"]:
    """As float64, on the same device unless that device has no float64 (Apple's)."""
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)


def _beside(
    per_group: Num[torch.Tensor, "group"], cells: Num[torch.Tensor, "group *cell"]
) -> Num[torch.Tensor, "group *one"]:
    """A number per group, shaped to multiply every cell of the group."""
    return per_group.reshape(-1, *[1] * (cells.ndim - 1))


class PerPrompt:
    """Arrays by name, one row a prompt, in the order in which the prompts came."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}  # of [prompt *cell]

    def update(self, **values: Shaped[np.ndarray, "prompt *cell"]) -> None:
        """Add rows of one or more prompts to each name that is given."""
        for name, rows in values.items():
            self._parts.setdefault(name, []).append(np.asarray(rows))

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "prompt *cell"]:
        """All rows of that name (KeyError where nothing came)."""
        return np.concatenate(self._parts[name])

    def begin_piece(self) -> None:
        """Forget the rows, whose `state` was taken: those that come now are a piece."""
        self._parts = {}

    def end_piece(self) -> dict[str, Shaped[np.ndarray, "prompt *cell"]]:
        """The rows since `begin_piece`."""
        return self.state()

    def merge(self, piece: dict[str, Shaped[np.ndarray, "prompt *cell"]]) -> None:
        """Add the rows of a piece."""
        self.update(**piece)

    def state(self) -> dict[str, Shaped[np.ndarray, "prompt *cell"]]:
        """Everything it holds, as arrays."""
        return {name: self[name] for name in self._parts}

    def restore(self, state: dict[str, Shaped[np.ndarray, "prompt *cell"]]) -> None:
        """Continue from what `state` returned."""
        self._parts = {name: [rows] for name, rows in state.items()}
