"""Where a fact is looked up: ranks of its answer along the layers, and causal tracing (SCIENCE 4).

Causal tracing (Meng et al. 2022, section 2.1): the subject is corrupted, by noise on its embedding
or by another subject; what one component computed for the true subject is restored, and the
probability of the answer tells whether that component's value was what was missing. Every row of a
batch restores something of its own and is taken up at the first block that changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lenses.states.decoding import Decoder, Readout, Site, read_states
from lenses.states.facts import LAST, PLACES, SUBJECT, Case
from models import Model
from models.passes import Hooks, reading, run_from
from models.text import right_pad

NOISE = 3.0
"""Standard deviations of the subject's own embedding (Meng et al. 2022, section 2.1)."""
ROWS = 64
"""Rows of a forward pass."""

Kind = Literal["state", "attention", "mlp"]
HOOKS: dict[Kind, str] = {
    "state": "hook_resid_post", "attention": "hook_attn_out", "mlp": "hook_mlp_out",
}  # fmt: skip
CORRUPTIONS = ("another subject", "noise")
COMPONENTS: tuple[Kind, ...] = ("attention", "mlp")
READ = (SUBJECT, LAST)
"""Places at which runs of attention outputs or of MLP outputs are restored."""


@dataclass(frozen=True)
class Ranks:
    """What each state of some prompts makes of the answer (0) and of the rival (1)."""

    log_probability: Float[np.ndarray, "site n 2"]
    rank: Int[np.ndarray, "site n 2"]
    """Among the whole vocabulary; 1 is the likeliest."""
    said: Int[np.ndarray, "n 2"]
    """The two likeliest tokens of the last site."""


@torch.inference_mode()
def ranks(
    model: Model,
    where: Sequence[Site],
    cases: Sequence[Case],
    at: Sequence[tuple[int, int]],
) -> Ranks:
    """The logit lens (nostalgebraist 2020) at n pairs of (row, pos) of the cases."""
    device = model.cfg.device
    batch, _ = right_pad([case.ids.tolist() for case in cases])
    row, pos = torch.tensor(at, device=device).unbind(1)
    states, _ = read_states(model, batch.to(device), where, row, pos)
    ids = torch.tensor([[cases[r].answer, cases[r].rival] for r, _ in at], device=device)
    decoder = Decoder(model, torch.zeros(states.shape[0], states.shape[2]))
    log_probability, rank = decoder.ranked(states, Readout(), ids)
    _, said = decoder.likeliest(states[-1:], Readout(), 2)
    return Ranks(log_probability.double().cpu().numpy(), rank.cpu().numpy(), said[0].cpu().numpy())


def last_ranks(
    model: Model, where: Sequence[Site], cases: Sequence[Case]
) -> dict[str, Int[np.ndarray, "case *cell"]]:
    """Ranks at the last token: `rank` [case site 2], `said` [case 2], and those of `embedding`."""
    found = ranks(model, where, cases, [(n, len(case.ids) - 1) for n, case in enumerate(cases)])
    alone = embedding_ranks(model, cases)
    return {"rank": found.rank.swapaxes(0, 1), "said": found.said, "embedding": alone}


@torch.inference_mode()
def embedding_ranks(model: Model, cases: Sequence[Case]) -> Int[np.ndarray, "case 2"]:
    """Ranks of answer and rival where the subject's embedding alone is read out.

    It is the mean of the embeddings of its tokens: what the model would say without any layer.
    """
    E, device = model.W_E.detach(), model.cfg.device
    subjects = [torch.from_numpy(case.ids[slice(*case.subject)]).to(device) for case in cases]
    states = torch.stack([E[ids].float().mean(0) for ids in subjects])[None]
    ids = torch.tensor([[case.answer, case.rival] for case in cases], device=device)
    decoder = Decoder(model, torch.zeros(1, states.shape[-1]))
    return decoder.ranked(states, Readout(), ids)[1][0].cpu().numpy()


@dataclass(frozen=True)
class Plan:
    """What is restored: states after some layers, and outputs of runs of layers."""

    layers: tuple[int, ...]
    runs: tuple[tuple[int, int], ...]
    """First layer, and the one after the last."""

    @classmethod
    def of(cls, layers: int, every: int, window: int) -> "Plan":
        """States after every so many layers, the last always, and runs of `window` layers.

        Runs overlap by half; a window of 0 is a fifth of the layers.
        """
        wide = min(layers, window or max(1, layers // 5))
        starts = range(0, layers - wide + 1, max(1, wide // 2))
        kept = tuple(sorted(range(layers - 1, -1, -every)))
        return cls(kept, tuple((start, start + wide) for start in starts))


@dataclass(frozen=True)
class Traced:
    """Probabilities of the answer of each case; NaN where a prompt has no such token."""

    clean: Float[np.ndarray, "case"]
    corrupted: Float[np.ndarray, "case corruption"]
    state: Float[np.ndarray, "case corruption layer place"]
    """With one state restored; mean over the tokens of a place."""
    run: Float[np.ndarray, "case component read run"]
    """Another subject's, with what attention or the MLPs of a run of layers write restored."""
    before: Float[np.ndarray, "case"]
    """Another subject's, with a state before the subject restored, which is the same in both."""
    number: Int[np.ndarray, "case"]
    """Of the fact."""


class _Job(NamedTuple):
    """What is restored in one row."""

    case: int
    corruption: int
    kind: Kind
    first: int
    end: int
    pos: int


@torch.inference_mode()
def trace(model: Model, cases: Sequence[Case], plan: Plan, seed: int) -> Traced:
    """Restore each state, and each run of outputs, of prompts that have the same length."""
    found = _Runs(model, cases, seed)
    state = [
        (_Job(number, corruption, "state", layer, layer + 1, pos), (corruption, turn, place))
        for number, case in enumerate(cases)
        for corruption in range(len(CORRUPTIONS))
        for turn, layer in enumerate(plan.layers)
        for place, pos in case.places()
    ]
    run = [
        (_Job(number, 0, kind, *layers, pos), (part, READ.index(place), turn))
        for number, case in enumerate(cases)
        for part, kind in enumerate(COMPONENTS)
        if found.clean[kind]  # some models have no MLPs
        for turn, layers in enumerate(plan.runs)
        for place, pos in case.places()
        if place in READ
    ]
    before = [
        (_Job(number, 0, "state", 0, 1, case.subject[0] - 1), ())
        for number, case in enumerate(cases)
        if case.subject[0] > 0
    ]
    told = found.restored([job for job, _ in (*state, *run, *before)])
    shapes = (len(CORRUPTIONS), len(plan.layers), len(PLACES)), (2, len(READ), len(plan.runs)), ()
    parts, start = [], 0
    for jobs, shape in zip((state, run, before), shapes, strict=True):
        parts.append(_means(jobs, told[start : start + len(jobs)], (len(cases), *shape)))
        start += len(jobs)
    numbers = np.array([case.number for case in cases])
    return Traced(found.clean_probability, found.corrupted_probability, *parts, numbers)


def _means(
    jobs: Sequence[tuple[_Job, tuple[int, ...]]],
    values: Float[np.ndarray, "job"],
    shape: tuple[int, ...],
) -> Float[np.ndarray, "case *cell"]:
    """The mean of the jobs of each case and cell; NaN where there are none."""
    total, count = np.zeros(shape), np.zeros(shape)
    for (job, cell), value in zip(jobs, values, strict=True):
        total[job.case, *cell] += value
        count[job.case, *cell] += 1
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)


class _Runs:
    """The prompts about their subject, about another one, and with noise on it, layer by layer."""

    def __init__(self, model: Model, cases: Sequence[Case], seed: int) -> None:
        self.model, device = model, model.cfg.device
        self.answers = torch.tensor([case.answer for case in cases], device=device)
        both = np.stack([*(case.ids for case in cases), *(case.other for case in cases)])
        kept = {name: _kept(model, name) for name in ("hook_resid_pre", *HOOKS.values())}
        hooks = [hook for _, some in kept.values() for hook in some]
        with reading(model, torch.full((len(both), 1), both.shape[1] - 1, device=device)):
            logits = model.run_with_hooks(
                torch.from_numpy(both).to(device), return_type="logits", fwd_hooks=hooks
            )
        self.clean = {
            kind: [act[: len(cases)] for act in kept[name][0]] for kind, name in HOOKS.items()
        }
        before = kept["hook_resid_pre"][0]
        noisy, hooks = _kept(model, "hook_resid_pre")
        with_noise = self._run_from(0, _noised(before[0][: len(cases)], cases, seed), hooks)
        self.entering = [
            torch.stack([told[len(cases) :], noised])
            for told, noised in zip(before, noisy, strict=True)
        ]
        """Into each layer, of corrupted prompts: [corruption case pos d_model]."""
        number = torch.arange(len(cases), device=device).repeat(3)
        every = self._of_answers(torch.cat([logits[:, 0], with_noise]), number)
        self.clean_probability, corrupted = every[: len(cases)], every[len(cases) :]
        self.corrupted_probability = corrupted.reshape(len(CORRUPTIONS), len(cases)).T

    def restored(self, jobs: Sequence[_Job]) -> Float[np.ndarray, "job"]:
        """The answer's probability in each job; what stands below the first change is not run."""
        found = np.zeros(len(jobs))
        order = sorted(range(len(jobs)), key=lambda number: jobs[number].first)
        for first, some in groupby(order, key=lambda number: jobs[number].first):
            same = list(some)
            for start in range(0, len(same), ROWS):
                chunk = same[start : start + ROWS]
                found[chunk] = self._restored_from(first, [jobs[number] for number in chunk])
        return found

    def _restored_from(self, first: int, jobs: Sequence[_Job]) -> Float[np.ndarray, "job"]:
        case, corruption, pos = (
            torch.tensor([getattr(job, name) for job in jobs], device=self.answers.device)
            for name in ("case", "corruption", "pos")
        )
        hooks: Hooks = []
        for kind, name in HOOKS.items():
            for layer in range(first, max(job.end for job in jobs)):
                chosen = [job.kind == kind and layer < job.end for job in jobs]
                if any(chosen):
                    rows = torch.tensor(chosen, device=case.device).nonzero()[:, 0]
                    new = self.clean[kind][layer][case[rows], pos[rows]]
                    put = partial(_put, rows, pos[rows], new)
                    hooks.append((f"blocks.{layer}.{name}", put))
        logits = self._run_from(first, self.entering[first][corruption, case], hooks)
        return self._of_answers(logits, case)

    def _run_from(
        self, layer: int, resid_pre: Float[Tensor, "row pos d_model"], hooks: Hooks
    ) -> Float[Tensor, "row vocab"]:
        rows, length, _ = resid_pre.shape
        with reading(self.model, torch.full((rows, 1), length - 1, device=resid_pre.device)):
            return run_from(self.model, layer, resid_pre.clone(), hooks)[:, 0]

    def _of_answers(
        self, logits: Float[Tensor, "row vocab"], case: Int[Tensor, "row"]
    ) -> Float[np.ndarray, "row"]:
        wide = logits.float()
        answer = wide.gather(-1, self.answers[case][:, None])[:, 0]
        return (answer - wide.logsumexp(-1)).exp().double().cpu().numpy()


def _kept(model: Model, name: str) -> tuple[list[Tensor], Hooks]:
    """What will have passed at a hook of each block, and the hooks that keep it."""
    acts: list[Tensor] = []

    def keep(act: Tensor, hook: object) -> None:
        acts.append(act.clone())

    names = [f"blocks.{layer}.{name}" for layer in range(model.cfg.n_layers)]
    return acts, [(one, keep) for one in names if one in model.hook_dict]


def _noised(
    embedded: Float[Tensor, "case pos d_model"], cases: Sequence[Case], seed: int
) -> Float[Tensor, "case pos d_model"]:
    """With noise on the tokens of each subject, drawn by the number of the fact."""
    noised = embedded.clone()
    for row, case in zip(noised, cases, strict=True):
        subject = row[slice(*case.subject)].double().cpu()
        rng = torch.Generator().manual_seed(seed * 1_000_003 + case.number)
        noise = torch.randn(subject.shape, generator=rng, dtype=torch.float64)
        row[slice(*case.subject)] = (subject + NOISE * subject.std() * noise).to(row)
    return noised


def _put(
    rows: Int[Tensor, "some"],
    pos: Int[Tensor, "some"],
    new: Float[Tensor, "some d_model"],
    act: Float[Tensor, "row pos d_model"],
    hook: object,
) -> Tensor:
    act[rows, pos] = new
    return act
