"""Which measure of a head's contribution predicts what its removal does?"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results, UsageError
from experiments._contract.claims import Verdict
from lenses.statistics.grid import grid

if TYPE_CHECKING:
    import torch

    from lenses.heads.league import League
    from lenses.kept import PerPrompt
    from models import Model
    from prompts.additions import AdditionFormat
    from viz import Drawing

PHASES = ("prompt", "generated")
BASELINES = ("layer_index", "norm_share")
"""What a measure must beat to be worth its name."""
MAIN = {"mode": "mean", "outcome": "delta_nll", "scope": "within layers"}
"""What the claims are about; everything else is in the tables."""
IS_MAIN = " and ".join(f"{column} == {value!r}" for column, value in MAIN.items())
RANDOM_MODELS = 2
"""Models of the same shape with fresh weights that read every second prompt."""
GATES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
GATED = 6
"""Heads whose gate is swept: those whose zero ablation changes nll most."""
CONTROL = {"prompts": 12, "length": 8, "new_tokens": 4}
"""What the planted model reads and writes."""
WRITTEN_AT_ONCE = 8
"""Texts that are continued together."""
LEVEL = 0.05


class HeadImportance(Experiment):
    """Every head is removed from every text, and every measure is held against what that does.

    A head's z is replaced at every pos: by zero, by its mean over the other texts at the same pos,
    or by another text's. Effects are changes at the pos of a phase: of the nll of the true next
    token, KL of the distribution, change of the true token's logit less its best rival's (`kl` and
    `delta_nll` in nats). *prompt* tokens are given, *generated* ones the model's own likeliest
    continuation; the addends of an adder are random, so of those only its answers are read. The
    first pos is left out. A head *matters* where its effect exceeds 20 means of the same change
    turned in random directions (a draw for each text and head, means over texts drawn anew).

    Magnitudes are held against absolute effects, measures of both signs (cosine, closeness,
    projection_share, direct_logit, gradient_x_...) against signed ones, of which a fall of the
    logit difference counts as positive. Within layers: a mean over layers of the correlation among
    a layer's heads, where layer_index ranks nothing and scores 0. Intervals (95 %) resample
    prompts.

    Tables: `prompts` (what was read; `right`: the continuation begins as expected), `effects`
    (layer, head, mode, phase, delta_nll, kl, delta_logit, low, high (of delta_nll),
    null_delta_nll, null_kl (the same change turned), matters (by delta_nll), n), `measures`
    (measure, phase, layer, head, estimate), `scores` (measure, mode, phase, scope, outcome,
    spearman, kendall, auc (of matters), top_k_overlap, low, high (of spearman), p (that a score
    drawn by lot ranks as well), n), `leads` (weights, measure, against, mode, phase, scope,
    outcome, difference of spearman, low, high, p (one-sided, by resampling prompts), p_by_lot
    (that a score drawn by lot ranks as well: few heads are ranked well by luck), q (the larger of
    both corrected over measures), n: own weights, random ones, own less random on the same
    prompts),
    `gates` (layer, head, gate, phase, and effects), `mode_agreement`
    (spearman of effects of two modes) and `control` (scored_by, kind, phase, rank of the one head
    that matters in a planted model, n heads).
    """

    quick: ClassVar[Mapping[str, Any]] = {"additions": 8}

    additions: int = Field(64, ge=3)
    """Additions for an adder, of all cells of carries: uniform ones hardly use all its heads."""
    prompts: int = Field(16, ge=3)
    """Prompts for a language model: shipped texts, facts and one-digit additions, in turn."""
    new_tokens: int = Field(10, ge=1)
    """Tokens a language model adds to each prompt (an adder: the digits of its answer)."""
    batch_size: int = Field(1, ge=1)
    """Prompts between two checkpoints; each is read by itself, all heads of a layer at once."""

    def measure(self, model: "Model") -> Results:
        """Read and remove all heads; the same in random models; gates; the planted control."""
        from lenses.patching.single_heads import MODES

        texts = self._texts(model)
        own = self._read(model, texts, "removing heads", MODES)
        leagues = self._leagues(own, PHASES[1:] if model.card.arithmetic else PHASES)
        matters = {
            phase: league.matters(own["effects"][:, 1, :, PHASES.index(phase)])
            for phase, league in leagues.items()
        }
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts),
                "effects": self._effect_rows(own, matters),
                "measures": _measure_rows(leagues),
                "scores": self._score_rows(leagues, matters),
                "leads": self._lead_rows(model, texts, own, leagues),
                "gates": self._gate_rows(model, texts, own, tuple(leagues)),
                "mode_agreement": _agreement_rows(leagues),
                "control": self._control_rows(),
            }
        )

    def _texts(self, model: "Model") -> list["_Text"]:
        """What the model is given, with what it adds to it."""
        from lenses.kept import PerPrompt
        from models.text import continue_text

        form = model.card.arithmetic
        texts = self._additions(form) if form else list(self._shipped(model))
        count, written = form.digits + 1 if form else self.new_tokens, PerPrompt()
        longest = max(len(text.given) for text in texts) + count
        if longest > model.cfg.n_ctx:
            raise UsageError(
                f"new_tokens: {longest} tokens with the longest prompt, but {model.card.name} "
                f"reads {model.cfg.n_ctx}; take fewer"
            )
        for batch in self.stream(_batches(texts, WRITTEN_AT_ONCE), written, "writing"):
            for new in continue_text(model, [text.given for text in batch], count):
                written.update(new=np.array([new + [-1] * (count - len(new))], dtype=np.int64))
        added = [[token for token in row if token >= 0] for row in written["new"].tolist()]
        return [replace(text, new=new) for text, new in zip(texts, added, strict=True)]

    def _additions(self, form: "AdditionFormat") -> list["_Text"]:
        """Additions as an adder writes them, with their answers: cells of carries in turn."""
        from prompts.additions import Cells, cells

        count = len(cells(form.digits, padded=form.pad))
        drawn = Cells(form.digits, -(-self.additions // count), self.seed, form.pad).sums
        order = np.random.default_rng(self.seed).permutation(len(drawn))[: self.additions]
        written = form.write(drawn[order])
        ends = written.at.max(axis=1) + 1
        rows = zip(written.tokens.tolist(), written.prompt.tolist(), ends.tolist(), strict=True)
        return [
            _Text(i, "addition", row[:start], expected=tuple(row[start:end]))
            for i, (row, start, end) in enumerate(rows)
        ]

    def _shipped(self, model: "Model") -> Iterator["_Text"]:
        """Texts, facts and additions after two solved ones, taking turns."""
        from models.text import tokenize
        from prompts.additions import Addition, solved
        from prompts.facts import shipped_facts
        from prompts.texts import shipped_texts

        sums = list(solved(Addition(1, 3 * self.prompts, self.seed, padded=False).sums))
        lines = [sums[i : i + 3] for i in range(0, len(sums), 3)]
        kinds = (
            [("text", text.text, "") for text in shipped_texts()],
            [("fact", fact.text, fact.answer) for fact in shipped_facts()],
            [("addition", *_asked(*three)) for three in lines],
        )
        turns = [turn for turn in chain(*zip_longest(*kinds)) if turn]
        for number, (kind, text, answer) in enumerate(turns[: self.prompts]):
            yield _Text(number, kind, tokenize(model, text), answer=answer)

    def _read(
        self, model: "Model", texts: Sequence["_Text"], label: str, modes: tuple[str, ...]
    ) -> "PerPrompt":
        """Measures and effects in every text; turned changes where all modes are asked for."""
        from lenses.heads.importance import Reader
        from lenses.kept import PerPrompt
        from lenses.patching.single_heads import MODES, read_clean, replacements

        reader = Reader.of(model, self.seed, modes, with_null=modes == MODES)
        tokens = [_tensor(text.ids, model) for text in texts]
        others = replacements([read_clean(model, row).z for row in tokens])
        kept = PerPrompt()
        for batch in self.stream(_batches(range(len(texts)), self.batch_size), kept, label):
            for i in batch:
                seed = np.random.SeedSequence([self.seed, texts[i].number]).generate_state(1)[0]
                found = reader(tokens[i], texts[i].chosen, others[i], int(seed))
                kept.update(**{name: value[None] for name, value in found.items()})
        return kept

    def _leagues(self, kept: "PerPrompt", phases: tuple[str, ...]) -> dict[str, "League"]:
        """The measures that the model has, against effects, by phase."""
        from lenses.heads.importance import MEASURES, SIGNED
        from lenses.heads.league import League

        measures, effects = kept["measures"], kept["effects"]
        has = ~np.isnan(measures).all(axis=(0, 2, 3, 4))
        names = tuple(name for name, is_there in zip(MEASURES, has, strict=True) if is_there)
        signed = np.isin(names, SIGNED)
        return {
            phase: League(names, measures[:, has, i], effects[:, 0, :, i], signed, self.seed)
            for i, phase in enumerate(PHASES)
            if phase in phases
        }

    def _effect_rows(self, own: "PerPrompt", matters: dict[str, np.ndarray]) -> pd.DataFrame:
        """What removing each head does, beside the same change turned at random."""
        from lenses.patching.single_heads import MODES, OUTCOMES
        from lenses.statistics.intervals import bootstrap

        found = []
        for phase, is_in in matters.items():
            kinds = np.moveaxis(own["effects"][:, :, :, PHASES.index(phase)], -1, 0)
            known = ~np.isnan(kinds)  # a text may have no token of a phase
            with np.errstate(invalid="ignore"):
                means = np.where(known, kinds, 0).sum(axis=1) / known.sum(axis=1)
            values = {name: means[i, 0] for i, name in enumerate(OUTCOMES)}
            ends = bootstrap(kinds[0, :, 0], self.seed)
            null = {f"null_{name}": means[i, 1] for i, name in enumerate(OUTCOMES[:2])}
            told = {"low": ends.low, "high": ends.high, **null, "matters": is_in[..., 0]}
            axes = {"mode": MODES, "layer": is_in.shape[1], "head": is_in.shape[2]}
            found.append(grid(axes, **values, **told, n=ends.n).assign(phase=phase))
        rows = pd.concat(found, ignore_index=True)
        return rows[["layer", "head", "mode", "phase", *values, *told, "n"]]

    def _score_rows(
        self, leagues: dict[str, "League"], matters: dict[str, np.ndarray]
    ) -> pd.DataFrame:
        """How each measure ranks each effect."""
        from lenses.heads.league import SCOPES
        from lenses.patching.single_heads import MODES, OUTCOMES

        found = []
        for phase, league in leagues.items():
            low, high = _ends(league.draws)
            axes = {"scope": SCOPES, "measure": league.names, "mode": MODES, "outcome": OUTCOMES}
            values = league.scores(matters[phase]) | {"low": low, "high": high}
            values["p"] = league.by_lot(values["spearman"])
            found.append(grid(axes, **values).assign(phase=phase, n=league.prompts))
        rows = pd.concat(found, ignore_index=True)
        first = ["measure", "mode", "phase", "scope", "outcome"]
        return rows[[*first, *values, "n"]]

    def _lead_rows(
        self,
        model: "Model",
        texts: Sequence["_Text"],
        own: "PerPrompt",
        leagues: dict[str, "League"],
    ) -> pd.DataFrame:
        """How far each measure is ahead of the baselines; and further than in random models."""
        from lenses.patching.single_heads import MODES
        from models import untrained

        half, main = texts[::2], MODES.index(MAIN["mode"])
        alike = {
            phase: league.part(slice(None, None, 2), main) for phase, league in leagues.items()
        }
        found = [_leads(league, "own", MODES, phase) for phase, league in leagues.items()]
        for number in range(RANDOM_MODELS):
            twin = untrained(model, self.seed + number)
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            kept = self._read(twin, half, label, (MAIN["mode"],))
            for phase, league in self._leagues(kept, tuple(leagues)).items():
                name = f"random {number}"
                found.append(_leads(league, name, MODES[main : main + 1], phase))
                found.append(_leads(alike[phase], f"own less {name}", MODES[main : main + 1], phase,
                                    less=league))  # fmt: skip
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
        return pd.concat(found, ignore_index=True)

    def _gate_rows(
        self,
        model: "Model",
        texts: Sequence["_Text"],
        own: "PerPrompt",
        phases: tuple[str, ...],
    ) -> pd.DataFrame:
        """Effects of the heads that matter most, over the values of their gate."""
        import torch

        from lenses.kept import PerPrompt
        from lenses.patching.single_heads import OUTCOMES, gate_effects, read_clean
        from lenses.statistics.intervals import bootstrap

        heads = _largest(own["effects"][:, 0, 0, PHASES.index(phases[-1]), :, :, 0])
        kept, gates = PerPrompt(), torch.tensor(GATES)
        for batch in self.stream(_batches(texts, self.batch_size), kept, "gates"):
            for text in batch:
                clean = read_clean(model, _tensor(text.ids, model))
                found = gate_effects(model, clean, heads, gates).cpu().double().numpy()
                means = [_mean(found[..., chosen]) for chosen in text.chosen]
                kept.update(gates=np.stack(means)[None])
        ends = bootstrap(kept["gates"], self.seed)
        axes = {"phase": PHASES, "number": len(heads), "gate": GATES}
        values = {name: ends.estimate[..., i] for i, name in enumerate(OUTCOMES)}
        rows = grid(axes, **values, low=ends.low[..., 0], high=ends.high[..., 0])
        rows = rows[rows["phase"].isin(phases)].reset_index(drop=True)
        layer, head = np.array(heads)[rows.pop("number")].T
        return rows.assign(layer=layer, head=head)[
            ["layer", "head", "gate", "phase", *values, "low", "high"]
        ]

    def _control_rows(self) -> pd.DataFrame:
        """How everything ranks the one head that matters in a planted model."""
        from lenses.patching.single_heads import MODES, OUTCOMES
        from models.planted.head import planted_head
        from models.text import continue_text

        planted = planted_head(seed=self.seed)
        given = planted.prompts(CONTROL["prompts"], CONTROL["length"], self.seed).tolist()
        new = continue_text(planted.model, given, CONTROL["new_tokens"])
        texts = [_Text(i, "planted", *row) for i, row in enumerate(zip(given, new, strict=True))]
        kept = self._read(planted.model, texts, "planted control", MODES)
        heads = planted.model.cfg.n_layers * planted.model.cfg.n_heads
        found = []
        for phase, league in self._leagues(kept, PHASES).items():
            rank = league.ranks_of(planted.layer, planted.head)
            axes = {"mode": MODES, "outcome": OUTCOMES}
            effects = grid(axes, rank=rank["effect"])
            effects.insert(0, "scored_by", effects.pop("mode") + " ablation")
            measures = grid({"scored_by": league.names}, rank=rank["measure"])
            both = [effects.assign(kind="effect"), measures.assign(kind="measure", outcome="")]
            found.append(pd.concat(both).assign(phase=phase, n=heads))
        return pd.concat(found, ignore_index=True)

    def claims(self, results: Results) -> list[Claim]:
        """The control; then whether any measure, and each of them, beats the baselines."""
        leads = results.tables["leads"].query(
            f"{IS_MAIN} and measure not in @BASELINES and measure != 'random_score'"
        )
        by_phase = {phase: _Leads(part) for phase, part in leads.groupby("phase", sort=False)}
        scores = results.tables["scores"]
        return [
            _control_claim(results.tables["control"]),
            *(_some_claim(phase, found) for phase, found in by_phase.items()),
            *(by_phase["generated"].claim(name, scores) for name in by_phase["generated"].names),
        ]

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """The league, the leads over the baselines, effects, gates, and the planted control."""
        return {
            **_league_figures(results),
            **_effect_figures(results),
            **_control_figure(results),
        }


Some = TypeVar("Some")


@dataclass(frozen=True)
class _Text:
    """A text as tokens: what was given, what the model added, and what should have come."""

    number: int
    kind: str
    given: list[int]
    new: list[int] = field(default_factory=list)
    expected: tuple[int, ...] = ()
    answer: str = ""

    @property
    def ids(self) -> list[int]:
        return self.given + self.new

    @property
    def chosen(self) -> np.ndarray:
        """The pos of each of PHASES that count [phase pos]: what each predicts decides."""
        pos = np.arange(len(self.ids) - 1)
        generated = pos + 1 >= len(self.given)
        return np.stack([~generated, generated]) & (pos > 0)


def _asked(first: str, second: str, third: str) -> tuple[str, str]:
    """Two solved additions and a third without its answer, and that answer."""
    question, answer = third.rsplit(" ", 1)
    return f"{first}\n{second}\n{question}", answer


def _batches(items: Sequence[Some], size: int) -> list[Sequence[Some]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _tensor(ids: list[int], model: "Model") -> "torch.Tensor":
    import torch

    return torch.tensor(ids, device=model.cfg.device)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(-1), known.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _ends(draws: np.ndarray) -> np.ndarray:
    """The ends of 95 % of the draws [end *cell]; a draw of prompts that say nothing is left out."""
    unknown = np.isnan(draws).all(axis=0)
    ends = np.nanquantile(np.where(unknown, 0, draws), [0.025, 0.975], axis=0)
    return np.where(unknown, np.nan, ends)


def _largest(effects: np.ndarray) -> list[tuple[int, int]]:
    """The (layer, head)s of the largest mean effects [prompt layer head]."""
    size = np.abs(np.nanmean(effects, axis=0))
    order = np.argsort(-size, axis=None, kind="stable")[:GATED]
    return [
        (int(layer), int(head))
        for layer, head in zip(*np.unravel_index(order, size.shape), strict=True)
    ]


def _prompt_rows(model: "Model", texts: Sequence[_Text]) -> pd.DataFrame:
    """What was read, and whether it went on as expected."""
    rows = []
    for text in texts:
        said = _decoded(model, text.new)
        expected = text.answer or _decoded(model, text.expected)
        right = "" if not expected else "yes" if said.strip().startswith(expected) else "no"
        counts = {"tokens": len(text.given), "generated_tokens": len(text.new)}
        told = {"given": _decoded(model, text.given), "generated": said, "expected": expected}
        rows.append({"prompt": text.number, "kind": text.kind, **told, "right": right, **counts})
    return pd.DataFrame(rows)


def _decoded(model: "Model", ids: Sequence[int]) -> str:
    return model.tokenizer.decode(list(ids))


def _measure_rows(leagues: dict[str, "League"]) -> pd.DataFrame:
    """What each measure says of each head, as a mean over prompts."""
    found = []
    for phase, league in leagues.items():
        layers, heads = league.measures.shape[2:]
        axes = {"measure": league.names, "layer": layers, "head": heads}
        mean = np.nanmean(league.measures, axis=0)
        found.append(grid(axes, estimate=mean).assign(phase=phase))
    rows = pd.concat(found, ignore_index=True)
    return rows[["measure", "phase", "layer", "head", "estimate"]]


def _leads(
    league: "League",
    weights: str,
    modes: Sequence[str],
    phase: str,
    less: "League | None" = None,
) -> pd.DataFrame:
    """Each measure's correlation less that of each baseline, and of the better one.

    With `less`, another model's league on the same prompts, the difference of the two.
    """
    from lenses.heads.league import SCOPES
    from lenses.patching.single_heads import OUTCOMES

    against = (*BASELINES, "the better")
    estimate, draws = (_ahead(league, x) for x in (league.point(), league.draws))
    if less is not None:
        estimate = estimate - _ahead(less, less.point())
        draws = draws - _ahead(less, less.draws)
    low, high = _ends(draws)
    p = (1 + (draws <= 0).sum(axis=0)) / (1 + (~np.isnan(draws)).sum(axis=0))
    by_lot = league.by_lot(league.point()[0]) if less is None else np.zeros(p.shape[1:])
    axes = {"against": against, "scope": SCOPES, "measure": league.names, "mode": modes}
    rows = grid(
        axes | {"outcome": OUTCOMES},
        difference=estimate[0],
        low=low,
        high=high,
        p=p,
        p_by_lot=by_lot + np.zeros_like(p),
    )
    rows = rows[rows["measure"] != rows["against"]].assign(weights=weights, phase=phase)
    rows["q"] = _corrected(rows)
    rows["n"] = league.prompts
    first = ["weights", "measure", "against", "mode", "phase", "scope", "outcome"]
    return rows[[*first, "difference", "low", "high", "p", "p_by_lot", "q", "n"]]


def _ahead(league: "League", found: np.ndarray) -> np.ndarray:
    """[draw against scope measure mode outcome] from correlations without `against`."""
    baselines = np.stack([found[:, :, league.names.index(name)] for name in BASELINES], axis=1)
    all_three = np.concatenate([baselines, baselines.max(axis=1, keepdims=True)], axis=1)
    return found[:, None] - all_three[:, :, :, None]


def _corrected(rows: pd.DataFrame) -> pd.Series:
    """The larger p, corrected over the measures that are neither baselines nor drawn by lot."""
    from lenses.statistics.intervals import benjamini_hochberg

    larger = rows[["p", "p_by_lot"]].max(axis=1, skipna=False)
    tested = ~rows["measure"].isin((*BASELINES, "random_score")) & larger.notna()
    by = rows[tested].groupby(["against", "scope", "mode", "outcome"])
    return larger[tested].groupby(by.ngroup()).transform(lambda p: benjamini_hochberg(p.to_numpy()))


def _agreement_rows(leagues: dict[str, "League"]) -> pd.DataFrame:
    """Whether two ways of removing heads rank them alike."""
    from lenses.heads.league import SCOPES
    from lenses.patching.single_heads import MODES, OUTCOMES

    found = []
    for phase, league in leagues.items():
        estimate = league.agreement()
        axes = {"scope": SCOPES, "mode": MODES, "other": MODES, "outcome": OUTCOMES}
        found.append(grid(axes, spearman=estimate).assign(phase=phase, n=league.prompts))
    rows = pd.concat(found, ignore_index=True)
    rows = rows[rows["mode"] < rows["other"]].reset_index(drop=True)
    return rows[["mode", "other", "phase", "scope", "outcome", "spearman", "n"]]


def _control_claim(control: pd.DataFrame) -> Claim:
    """That every way of removing heads finds the one that matters."""
    effects = control.query("kind == 'effect'")
    missed = control.query("kind == 'measure' and phase == 'generated' and rank > 1")
    names = ", ".join(f"{row.scored_by} (rank {row.rank:g})" for row in missed.itertuples())
    worst = effects["rank"].max()
    return Claim(
        kind="identity",
        sentence="In a planted model where one head alone matters, removing heads finds it first",
        estimate=worst,
        n=len(effects),
        unit=f"worst rank among {effects['n'].iloc[0]} heads, over ways of removing and effects",
        null_note=f"measures that do not put it first: {names}" if names else "",
        verdict="holds" if worst == 1 else "fails",
    )


def _some_claim(phase: str, found: "_Leads") -> Claim:
    """That any measure at all beats both baselines."""
    verdicts = {name: found.verdict(name)[0] for name in found.names}
    best = max(found.names, key=lambda name: found.row("own", name)["difference"])
    row, beating = found.row("own", best), [n for n in found.names if found.beats(n)]
    beyond = [name for name, verdict in verdicts.items() if verdict == "holds"]
    everyone = set(verdicts.values())
    verdict = "holds" if beyond else "fails" if everyone == {"fails"} else "undecided"
    return Claim(
        kind="mechanical",
        sentence="Some measure beats layer index and norm_share within layers, beyond random "
        f"weights ({phase} tokens)",
        estimate=row["difference"],
        **found.known(row),
        n=int(row["n"]),
        p=found.q(best),
        null=found.random(best).mean(),
        null_note=f"best: {best}; beat both here: {', '.join(beating) or 'none'}; of those beyond "
        f"random weights: {', '.join(beyond) or 'none'}",
        unit="best measure's Spearman correlation with the change of nll under mean ablation, less "
        "that of the better baseline",
        verdict=verdict,
        decide=found.verdict(best)[1] or MIXED if verdict == "undecided" else "",
    )


MIXED = "more prompts or random models: some measures are undecided, the best one is not"


class _Leads:
    """The leads over the better baseline in one phase, of own weights and of random ones."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows[rows["against"] == "the better"].set_index(["weights", "measure"])
        self.names = list(rows.loc[rows["weights"] == "own", "measure"].unique())

    def row(self, weights: str, measure: str) -> pd.Series:
        return self.rows.loc[(weights, measure)]

    def random(self, measure: str) -> np.ndarray:
        """The leads of a measure in the random models."""
        return np.array(
            [self.row(f"random {i}", measure)["difference"] for i in range(RANDOM_MODELS)]
        )

    def q(self, measure: str) -> float:
        return float(self.row("own", measure)["q"])

    def beats(self, measure: str) -> bool:
        """Whether it leads over both baselines, corrected over measures."""
        return self.row("own", measure)["low"] > 0 and self.q(measure) <= LEVEL

    def known(self, row: pd.Series) -> dict[str, float | None]:
        """The interval, where there is one."""
        return {end: None if np.isnan(row[end]) else row[end] for end in ("low", "high")}

    def verdict(self, measure: str) -> tuple[Verdict, str]:
        """Holds beyond the baselines and every random model; fails short of either."""
        own = self.row("own", measure)
        beyond = min(
            (self.row(f"own less random {i}", measure) for i in range(RANDOM_MODELS)),
            key=lambda row: row["difference"],
        )
        if np.isnan(own["low"]) or np.isnan(beyond["low"]):
            return "undecided", "effects do not differ among a layer's heads; it takes other heads"
        if self.beats(measure) and beyond["low"] > 0:
            return "holds", ""
        if own["high"] < 0 or beyond["high"] < 0:
            return "fails", ""
        if not self.beats(measure):
            return "undecided", _more_prompts(own)
        return "undecided", "random weights may lead as far: more prompts and random models"

    def claim(self, measure: str, scores: pd.DataFrame) -> Claim:
        """What is claimed of one measure."""
        row, random, (verdict, decide) = (
            self.row("own", measure), self.random(measure), self.verdict(measure),
        )  # fmt: skip
        main = scores.query(f"{IS_MAIN} and phase == 'generated'").set_index("measure")["spearman"]
        return Claim(
            kind="mechanical",
            sentence=f"{measure} beats layer index and norm_share within layers, beyond random "
            "weights (generated tokens)",
            estimate=row["difference"],
            **self.known(row),
            n=int(row["n"]),
            p=self.q(measure),
            null=random.mean(),
            null_note=f"random weights: {' and '.join(f'{lead:.2f}' for lead in random)}",
            unit=f"lead in Spearman's correlation: {main[measure]:.2f} against "
            f"{main['norm_share']:.2f} of norm_share and {main['layer_index']:.2f} of layer index",
            verdict=verdict,
            decide=decide,
        )


def _more_prompts(row: pd.Series) -> str:
    """How many prompts would tell a lead from none, were it as it seems (normal theory)."""
    if row["difference"] <= 0:
        return "it is not ahead here, and not clearly behind: more prompts"
    if row["p_by_lot"] > row["p"]:
        return (
            f"a model of more heads: a score drawn by lot ranks these as well with p = "
            f"{row['p_by_lot']:.2g}"
        )
    normal = NormalDist()
    reached, wanted = (normal.inv_cdf(1 - p) for p in (min(row["q"], 0.999), LEVEL))
    needed = row["n"] * (wanted / max(reached, 1e-3)) ** 2
    if needed > 100_000:
        return "the lead is too near zero for any affordable number of prompts"
    return f"about {max(int(row['n']) + 1, int(np.ceil(needed))):,} prompts like these"


LOSS_CAPTION = (
    "How well each measure ranks the heads of a layer by what removing them does to the loss: "
    "Spearman's correlation, a mean over layers, with 95 % intervals over prompts, for three ways "
    "of removal. A layer's index ranks nothing within a layer; how far a random score strays from "
    "zero shows what few heads leave to luck."
)
KL_CAPTION = (
    "The same for how far the distribution moves (KL), which has no sign: measures of both signs "
    "count by their size."
)
POOLED_CAPTION = (
    "The change of loss again, all heads of all layers ranked together: here depth alone says "
    "something, and whatever goes with depth profits from it."
)
LEADS_CAPTION = (
    "Each measure's correlation within layers less that of norm_share or layer index, whichever is "
    "better (change of loss, mean ablation), with the model's own weights and with random ones. "
    "Only what is ahead with its own weights, and further than with random ones, says something "
    "of what was learned."
)
COST_CAPTION = (
    "Change of the mean loss on generated tokens when one head is removed, in three ways. To take "
    "a head away and to give it another text's z are not the same question."
)
MOVED_CAPTION = "KL of the distribution over the next token, a mean over generated tokens."
PAIRS_CAPTION = (
    "All heads, ranked by the measure and by the effect of mean ablation on the loss of generated "
    "tokens (1 = least): the best measure within layers, and the baselines."
)
GATES_CAPTION = (
    "Change of the loss when a head's z is multiplied by a gate: 0 removes it, 1 leaves it. A "
    "straight line would mean that the effect is linear. The heads (layer.head) whose zero "
    "ablation changes the loss most."
)


def _league_figures(results: Results) -> dict[str, "Drawing"]:
    """The league tables by two effects and two scopes, and the leads."""
    from viz import bars

    scores, where = results.tables["scores"], "scope == @scope and outcome == @outcome"
    order = _standing(scores[scores["scope"] == MAIN["scope"]])
    tables = {
        "League table: change of loss": (MAIN["scope"], "delta_nll", LOSS_CAPTION),
        "League table: KL": (MAIN["scope"], "kl", KL_CAPTION),
        "All heads together": ("pooled", "delta_nll", POOLED_CAPTION),
    }
    columns = ["measure", "mode", "phase", "spearman", "low", "high", "n"]
    how = {"facet": "phase", "reference": 0.0}
    drawn = {
        title: bars(_ordered(scores.query(where), order)[columns], "measure", "spearman",
                    series="mode", caption=caption, **how)
        for title, (scope, outcome, caption) in tables.items()
    }  # fmt: skip
    leads = results.tables["leads"].query(f"{IS_MAIN} and against == 'the better'")
    leads = _ordered(leads[~leads["weights"].str.startswith("own less")], order)
    columns = ["measure", "weights", "phase", "difference", "low", "high", "n"]
    drawn["Lead over the better baseline"] = bars(
        leads[columns], "measure", "difference", series="weights", caption=LEADS_CAPTION, **how
    )
    return drawn


def _standing(within: pd.DataFrame) -> list[str]:
    """Measures by their mean correlation with the change of loss, the best first."""
    means = within.query("outcome == 'delta_nll'").groupby("measure")["spearman"].mean()
    return list(means.sort_values(ascending=False, kind="stable").index)


def _ordered(rows: pd.DataFrame, order: list[str]) -> pd.DataFrame:
    return rows.sort_values("measure", key=lambda names: names.map(order.index), kind="stable")


def _effect_figures(results: Results) -> dict[str, "Drawing"]:
    """Effects of each head, gates, and effects against measures."""
    from viz import curves, head_grid, scatter

    effects = results.tables["effects"].query("phase == 'generated'")
    cost, moved = (effects[["layer", "head", "mode", name]] for name in ("delta_nll", "kl"))
    gates = results.tables["gates"]
    gates = gates.assign(gated=gates["layer"].astype(str) + "." + gates["head"].astype(str))
    return {
        "What removing each head costs": head_grid(
            cost, "delta_nll", facet="mode", label="change of nll (nats)", caption=COST_CAPTION
        ),
        "How far removing each head moves the distribution": head_grid(
            moved, "kl", facet="mode", label="KL (nats)", caption=MOVED_CAPTION
        ),
        "Effects and measures": scatter(
            _paired(results), "measure_rank", "effect_rank", facet="measure", caption=PAIRS_CAPTION
        ),
        "Gates": curves(
            gates, "gate", "delta_nll", series="gated", facet="phase", caption=GATES_CAPTION
        ),
    }


def _paired(results: Results) -> pd.DataFrame:
    """Ranks of all heads by a few measures and by their effect."""
    scores = results.tables["scores"]
    best = _standing(scores[scores["scope"] == MAIN["scope"]])[0]
    shown = list(dict.fromkeys([best, "norm_share", "layer_index"]))
    effects = results.tables["effects"].query("mode == @MAIN['mode'] and phase == 'generated'")
    effects = effects[["layer", "head", "delta_nll"]]
    rows = results.tables["measures"].query("phase == 'generated' and measure in @shown")
    rows = rows.merge(effects, on=["layer", "head"])
    rows["measure_rank"] = rows.groupby("measure")["estimate"].rank()
    rows["effect_rank"] = rows.groupby("measure")["delta_nll"].rank()
    return rows.sort_values("measure", key=lambda names: names.map(shown.index), kind="stable")


def _control_figure(results: Results) -> dict[str, "Drawing"]:
    """How everything ranks the one head that matters."""
    from viz import bars

    control = results.tables["control"].query("outcome in ('delta_nll', '')")
    heads = control["n"].iloc[0]
    return {
        "The planted control": bars(
            control[["scored_by", "kind", "phase", "rank", "n"]],
            "scored_by", "rank", series="kind", facet="phase", reference=1.0,
            caption=f"A model in which one of {heads} heads alone matters, among others that write "
            "vectors of the same length: the rank that each way of removing heads, and each "
            "measure, gives it. First is right; what lies further out misses it.",
        )
    }  # fmt: skip
