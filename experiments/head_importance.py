"""Which measure of a head's contribution predicts what its removal does?"""

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import Claim, Estimate, Reading, Results, Table, TextStudy, UsageError
from lenses.addition.forms import questions
from lenses.heads import standings
from lenses.heads.importance import MEASURES, SIGNED, Reader
from lenses.heads.league import SCOPES, League
from lenses.heads.means import mean_of_known
from lenses.heads.standings import LEVEL
from lenses.kept import PerPrompt
from lenses.patching.single_heads import MODES, OUTCOMES, gate_effects, read_clean, replacements
from lenses.statistics.against_random import random_models
from lenses.statistics.grid import grid
from lenses.statistics.intervals import FEWEST, bootstrap
from lenses.statistics.resampled import stretched
from lenses.texts import ReadText, continued, texts_to_read
from models.planted.head import planted_head
from models.text import continue_text, refuse_too_long, tokenize
from prompts.additions import AdditionFormat, Cells, cells
from prompts.facts import shipped_facts
from prompts.texts import shipped_texts
from viz import bars, curves, head_explorer

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing

PHASES = ("prompt", "generated")
MAIN = {"mode": "mean", "outcome": "delta_nll", "scope": "within layers"}
"""What the claims are about; everything else is in the tables."""
IS_MAIN = " and ".join(f"{column} == {value!r}" for column, value in MAIN.items())
RANDOM_MODELS = 4
"""Models of the same shape with random weights that read every second prompt."""
GATES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
GATED = 6
"""Heads whose gate is swept: those whose zero ablation changes nll most."""
LEAD = "lead in rank correlation over the better baseline"
RANKED = "rank correlation"
SHOWN = 8
"""Measures, and heads, of the first two figures."""
CONTROL = {"prompts": 12, "length": 8, "new_tokens": 4}
"""What the planted model reads and writes."""
PREDICTS = "predicts what removing a head does better than layer index and share of length do"
BEATS = f"{PREDICTS}, and by more than with random weights"
NEEDS = "a model in which removing one head of a layer or another makes a difference"
ENOUGH = 2 * FEWEST - 1  # prompts of which every second is enough for an interval
MORE = "prompts (--count or --additions)"
WORDS = {
    "l2_norm": "L2 norm", "norm_share": "share of length", "l1_proximity": "L1 proximity",
    "value_weighted": "value-weighted attention", "into_mlp": "length into the MLP",
    "direct_logit": "direct effect on the logit", "gradient_x_result": "gradient × result",
    "gradient_x_deviation": "gradient × (result − mean)", "output_gain": "gain of the output",
    "zero": "zero instead", "mean": "its mean instead", "resample": "another text's instead",
}  # fmt: skip
"""Names of measures and ways of removal, as figures and sentences say them."""
MEASURE = {"measure": "the measure of a head"}
EFFECT = {
    "mode": "what replaces the head's output: `zero`, its `mean`, or another text's (`resample`)",
    "scope": "heads ranked in each layer apart (`within layers`), or all together (`pooled`)",
    "outcome": "the effect: `delta_nll`, `kl` or `delta_logit`, as in the table effects",
}
EFFECTS = {
    "delta_nll": "change of the next token's loss in nats, with its interval (low, high)",
    "kl": "KL divergence of the distribution over the next token, in nats",
    "delta_logit": "change of the right token's logit minus that of its best rival",
}

Leagues = Mapping[str, League]
"""Measures against effects, by phase."""


class HeadImportance(TextStudy):
    """Every head is removed in turn, and what that costs is compared with what cheaper measures
    (length, attention, gradients) say of the head.

    *Removed* means: its output before W_O is replaced at every token by zero, by its mean over the
    other texts, or by that of another text. What changes is read where the next token belongs to
    the *prompt* (given) or is *generated* (the model's likeliest continuation): the loss (nll) and
    the distribution over the next token (KL), in nats, and the logit of the right token minus that
    of its best rival. Of an adder only the answer is read, as its addends are random. The first
    token is left out. A head *matters* where its effect exceeds 20 means of the same change turned
    in random directions (one rotation for all heads of a text).

    A measure without sign is held against the size of an effect, one with signs (cosine,
    closeness, projection share, direct logit, gradients) against the signed effect. *Within
    layers* is the rank correlation among the heads of a layer, a mean over layers; layer index
    ranks nothing there and scores 0. The 95 % intervals resample prompts. p is the larger one of
    theirs and of the share of random rankings that do as well, corrected over the measures.
    """

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": Table(
            "A row is a text that the model read.", key="prompt", more="generated_tokens",
            columns={"kind": "what kind of text it is", "given": "the text as given",
                     "generated": "what the model added", "expected": "the right answer",
                     "right": "yes or no: the continuation begins as expected; empty: no answer",
                     "tokens": "number of tokens that the model was given"}),
        "effects": Table(
            "A row is what the removal of a head changes, a mean over texts.",
            key="mode phase layer head", more="low high n",
            columns=EFFECTS | {
                "mode": EFFECT["mode"], "null_kl": "kl of the same change turned at random",
                "null_delta_nll": "delta_nll of the same change turned at random",
                "matters": "whether delta_nll exceeds 20 such means"}),
        "measures": Table(
            "A row is what a measure says of a head, a mean over texts.",
            key="measure phase layer head", columns=MEASURE, more="estimate"),
        "scores": Table(
            "A row is how well a measure ranks the heads by an effect of their removal.",
            key="measure mode phase scope outcome", more="low high n",
            columns=MEASURE | EFFECT | {
                "spearman": "Spearman's rank correlation", "kendall": "Kendall's rank correlation",
                "auc": "area under the ROC curve for the heads that matter",
                "top_k_overlap": "share of the top heads that both have in common",
                "p": "share of random rankings that do as well"}),
        "leads": Table(
            "A row is how far a measure's rank correlation is above that of a baseline.",
            key="weights measure against mode phase scope outcome", more="low high n",
            columns=MEASURE | EFFECT | {
                "weights": "`own`, `random i` (twins), or `own less random i` on the same texts",
                "against": "the baseline, or `the better` of both",
                "difference": "Spearman's correlation minus that of the baseline",
                "p": "one-sided p-value, from resampling prompts",
                "p_by_lot": "share of random rankings that do as well as the measure",
                "q": "the larger p, corrected over measures"}),
        "gates": Table(
            "A row is a head whose output is multiplied by a gate.",
            key="phase layer head gate", more="low high",
            columns=EFFECTS | {"gate": "the factor: 0 removes the head, 1 leaves it"}),
        "mode_agreement": Table(
            "A row is how alike two ways of removal rank the heads.", more="n",
            key="mode other phase scope outcome",
            columns=EFFECT | {"other": "the other way", "spearman": "Spearman's correlation"}),
        "control": Table(
            "A row is the rank of the one head that matters in a planted model.",
            key="scored_by kind phase outcome",
            columns={"scored_by": "a measure, or a way of removal", "kind": "effect or measure",
                     "outcome": "the effect that is ranked; empty for a measure",
                     "rank": "1 = first; equal heads share a mean rank",
                     "n": "number of heads"}),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="Effects yes: a head's output is replaced in three ways. The measures are not.",
        assumes="The replacement is a fair absence; no other head steps in for the removed one.",
        stressed="Three ways of removal are compared; all of them find the one head that matters "
        "in a planted model; leads are held against random weights and random rankings.",
        not_shown="That the best measure here is the best in other models, or that a head of small "
        "effect does nothing (others may do the same).",
    )
    runs_on: ClassVar[str] = "adder 30 s, language model 18 min"
    quick: ClassVar[Mapping[str, Any]] = {"additions": 8}

    additions: int = Field(64, ge=3)
    """Additions for an adder, of all cells of carries: uniform ones hardly use all its heads."""
    count: int = Field(16, ge=3)
    """Prompts for a language model: shipped texts, facts and one-digit additions, in turn."""
    new_tokens: int = Field(10, ge=1)
    """Tokens a language model adds to each prompt (an adder: the digits of its answer)."""
    batch_size: int = Field(1, ge=1)
    """Prompts between two checkpoints; each is read by itself, all heads of a layer at once."""

    def measure(self, model: "Model") -> Results:
        """Read and remove all heads; the same in random models; gates; the planted control."""
        texts, answers = self._texts(model)
        own = self._read(model, texts, "removing heads", MODES)
        leagues = self._leagues(own, PHASES[1:] if model.card.arithmetic else PHASES)
        matters = {
            phase: league.matters(own["effects"][:, 1, :, PHASES.index(phase)])
            for phase, league in leagues.items()
        }
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, answers),
                "effects": self._effect_rows(own, matters),
                "measures": standings.measure_rows(leagues),
                "scores": self._score_rows(leagues, matters),
                "leads": self._lead_rows(model, texts, own, leagues),
                "gates": self._gate_rows(model, texts, own, tuple(leagues)),
                "mode_agreement": standings.agreement_rows(leagues),
                "control": self._control_rows(),
            }
        )

    def headline(self, results: Results) -> str:
        """The best measure if it beats the baselines; else that none is shown to; then heads."""
        found = _judged(results, "generated")
        if np.isnan(found["difference"].iloc[0]):
            return "Nothing can be said: within a layer, removing any head changes the loss alike."
        first = _costliest(results).iloc[0]
        costs = f"Removing {first['head']} costs most: {first['delta_nll']:.3g} nats of loss."
        return f"{_best_measure(found)} {costs}"

    def claims(self, results: Results) -> list[Claim]:
        """The control; then whether any measure, and each of them, beats the baselines."""
        phases = results.tables["measures"]["phase"].unique()
        each = [row for _, row in _judged(results, "generated").iterrows()]
        return [
            _control_claim(results.tables["control"]),
            *(_some_claim(_judged(results, phase), phase) for phase in phases),
            *(_measure_claim(row, len(each)) for row in each),
        ]

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """Leads, the costliest heads, every head, gates, and the league of measures."""
        first = _lead_figure(results) | _head_figure(results)
        return first | _effect_figures(results) | _league_figure(results)

    def _texts(self, model: "Model") -> tuple[list[ReadText], list[str]]:
        """What the model is given with what it adds, and the answers as text (empty: none)."""
        form, own = model.card.arithmetic, (self.prompts, self.prompts_file)
        count = form.digits + 1 if form else self.new_tokens
        if any(own):
            given = texts_to_read(model, *own, (), count)
            answers = [""] * len(given)
        elif form:
            given = self._additions(form)
            answers = [model.tokenizer.decode(text.expected) for text in given]
        else:
            kinds, texts, answers = map(list, zip(*self._turns(model), strict=True))
            ids = [tokenize(model, text) for text in texts]
            given = list(map(ReadText, range(len(ids)), kinds, ids))
        if len(given) < 3:
            raise UsageError(f"prompts: {len(given)} different texts; it takes 3 or more")
        longest = max(len(text.given) for text in given) + count
        refuse_too_long(model, longest, "new_tokens: the longest prompt with them")
        return continued(model, given, count, self.stream), answers

    def _additions(self, form: AdditionFormat) -> list[ReadText]:
        """Additions as an adder reads them, with their answers: cells of carries in turn."""
        count = len(cells(form.digits, padded=form.pad))
        drawn = Cells(form.digits, -(-self.additions // count), self.seed, form.pad).sums
        order = np.random.default_rng(self.seed).permutation(len(drawn))[: self.additions]
        written = form.write(drawn[order])
        ends = written.at.max(axis=1) + 1
        rows = zip(written.tokens.tolist(), written.prompt.tolist(), ends.tolist(), strict=True)
        return [
            ReadText(number, "addition", row[:start], expected=row[start:end])
            for number, (row, start, end) in enumerate(rows)
        ]

    def _turns(self, model: "Model") -> list[tuple[str, str, str]]:
        """Kind, text and answer: texts, facts and additions in the model's best form, in turn."""
        asked = questions(model, 1, 3 * self.count, self.seed, self.stream)
        kinds = (
            [("text", text.text, "") for text in shipped_texts()],
            [("fact", fact.text, fact.answer) for fact in shipped_facts()],
            [("addition", *question) for question in asked],
        )
        return [turn for turn in chain(*zip_longest(*kinds)) if turn][: self.count]

    def _read(
        self, model: "Model", texts: Sequence[ReadText], label: str, modes: tuple[str, ...]
    ) -> PerPrompt:
        """Measures and effects in every text; turned changes where all modes are asked for."""
        reader = Reader.of(model, self.seed, modes, with_null=modes == MODES)
        tokens = [torch.tensor(text.ids, device=model.cfg.device) for text in texts]
        others = replacements([read_clean(model, row).z for row in tokens])
        kept = PerPrompt()
        for batch in self.stream(range(len(texts)), kept, label, self.batch_size):
            for i in batch:
                seed = np.random.SeedSequence([self.seed, texts[i].number]).generate_state(1)[0]
                found = reader(tokens[i], _chosen(texts[i]), others[i], int(seed))
                kept.update(**{name: value[None] for name, value in found.items()})
        return kept

    def _leagues(self, kept: PerPrompt, phases: tuple[str, ...]) -> dict[str, League]:
        """The measures that the model has, against effects, by phase."""
        measures, effects = kept["measures"], kept["effects"]
        has = ~np.isnan(measures).all(axis=(0, 2, 3, 4))
        names = tuple(name for name, is_there in zip(MEASURES, has, strict=True) if is_there)
        signed = np.isin(names, SIGNED)
        return {
            phase: League(names, measures[:, has, i], effects[:, 0, :, i], signed, self.seed)
            for i, phase in enumerate(PHASES)
            if phase in phases
        }

    def _effect_rows(self, own: PerPrompt, matters: dict[str, np.ndarray]) -> pd.DataFrame:
        """What removing each head does, beside the same change turned at random."""
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

    def _score_rows(self, leagues: Leagues, matters: dict[str, np.ndarray]) -> pd.DataFrame:
        """How each measure ranks each effect."""
        found = []
        for phase, league in leagues.items():
            low, high = stretched(league.point()[0], league.draws, league.prompts, (-1, 1))
            axes = {"scope": SCOPES, "measure": league.names, "mode": MODES, "outcome": OUTCOMES}
            values = {**league.scores(matters[phase]), "low": low, "high": high}
            values["p"] = league.by_lot(values["spearman"])
            found.append(grid(axes, **values).assign(phase=phase, n=league.prompts))
        rows = pd.concat(found, ignore_index=True)
        first = ["measure", "mode", "phase", "scope", "outcome"]
        return rows[[*first, *values, "n"]]

    def _lead_rows(
        self, model: "Model", texts: list[ReadText], own: PerPrompt, leagues: Leagues
    ) -> pd.DataFrame:
        """How far each measure is ahead of the baselines; and further than in random models."""
        half, main = slice(None, None, 2), MODES.index(MAIN["mode"])
        found = [standings.leads(league, "own", MODES, phase) for phase, league in leagues.items()]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            kept = self._read(twin, texts[half], label, MODES[main : main + 1])
            for phase, league in self._leagues(kept, tuple(leagues)).items():
                how = (MODES[main : main + 1], phase)
                found.append(standings.leads(league, f"random {number}", *how))
                alike = leagues[phase].part(half, main)
                found.append(standings.leads(alike, f"own less random {number}", *how, less=league))
        return pd.concat(found, ignore_index=True)

    def _gate_rows(
        self, model: "Model", texts: list[ReadText], own: PerPrompt, phases: tuple[str, ...]
    ) -> pd.DataFrame:
        """Effects of the heads that matter most, over the values of their gate."""
        heads = _largest(own["effects"][:, 0, 0, PHASES.index(phases[-1]), :, :, 0])
        kept, gates = PerPrompt(), torch.tensor(GATES)
        for batch in self.stream(texts, kept, "gates", self.batch_size):
            for text in batch:
                clean = read_clean(model, torch.tensor(text.ids, device=model.cfg.device))
                found = gate_effects(model, clean, heads, gates).cpu().double().numpy()
                means = [mean_of_known(found[..., chosen]) for chosen in _chosen(text)]
                kept.update(gates=np.stack(means)[None])
        ends = bootstrap(kept["gates"], self.seed)
        axes = {"phase": PHASES, "number": len(heads), "gate": GATES}
        values = {name: ends.estimate[..., i] for i, name in enumerate(OUTCOMES)}
        rows = grid(axes, **values, low=ends.low[..., 0], high=ends.high[..., 0])
        rows = rows[rows["phase"].isin(phases)].reset_index(drop=True)
        rows["layer"], rows["head"] = np.array(heads)[rows.pop("number")].T
        return rows[["layer", "head", "gate", "phase", *values, "low", "high"]]

    def _control_rows(self) -> pd.DataFrame:
        """How everything ranks the one head that matters in a planted model."""
        planted = planted_head(seed=self.seed)
        given = planted.prompts(CONTROL["prompts"], CONTROL["length"], self.seed).tolist()
        new = continue_text(planted.model, given, CONTROL["new_tokens"])
        rows = enumerate(zip(given, new, strict=True))
        texts = [ReadText(number, "planted", *row) for number, row in rows]
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


def _chosen(text: ReadText) -> np.ndarray:
    """The pos of each of PHASES that count [phase pos]: what each predicts decides."""
    pos = np.arange(len(text.ids) - 1)
    generated = pos + 1 >= len(text.given)
    return np.stack([~generated, generated]) & (pos > 0)


def _largest(effects: np.ndarray) -> list[tuple[int, int]]:
    """The (layer, head)s of the largest mean effects [prompt layer head]."""
    size = np.abs(np.nanmean(effects, axis=0))
    order = np.argsort(-size, axis=None, kind="stable")[:GATED]
    return [divmod(int(number), size.shape[1]) for number in order]


def _prompt_rows(model: "Model", texts: Sequence[ReadText], answers: Sequence[str]) -> pd.DataFrame:
    """What was read, and whether it went on as expected."""
    rows, decode = [], model.tokenizer.decode
    for text, expected in zip(texts, answers, strict=True):
        said = decode(text.new)
        right = "" if not expected else "yes" if said.strip().startswith(expected) else "no"
        counts = {"tokens": len(text.given), "generated_tokens": len(text.new)}
        told = {"given": decode(text.given), "generated": said, "expected": expected}
        rows.append({"prompt": text.number, "kind": text.kind, **told, "right": right, **counts})
    return pd.DataFrame(rows)


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def _control_claim(control: pd.DataFrame) -> Claim:
    """That every way of removing heads finds the one that matters."""
    effects = control.query("kind == 'effect'")
    missed = control.query("kind == 'measure' and phase == 'generated' and rank > 1")
    names = [f"{_words(row.scored_by)} (rank {row.rank:g})" for row in missed.itertuples()]
    note = f"measures that do not rank it first: {', '.join(names) or 'none'}"
    unit = f"worst rank among {effects['n'].iloc[0]} heads, over ways of removing and effects"
    sentence = "Where one head alone matters (planted), every way of removing heads ranks it first."
    claim = Claim.identity(sentence, effects["rank"], within=1, unit=unit)
    return claim.model_copy(update={"null_note": note})


def _judged(results: Results, phase: str) -> pd.DataFrame:
    """A row a measure, the largest lead over the better baseline first, with its verdict."""
    main = f"{IS_MAIN} and phase == {phase!r}"
    return standings.judged(*(results.tables[name].query(main) for name in ("leads", "scores")))


def _doubt(own: pd.Series, measures: int) -> tuple[dict[str, str], str]:
    """What would decide about a measure (fields of its claim), and what speaks against it."""
    luck = f"a random ranking does as well {100 * own['p_by_lot']:.2g} % of the time"
    chance = f"among {measures} measures, chance may explain this lead"
    if own["difference"] <= 0:
        return {"more": MORE}, "which is no lead"
    if own["q"] > LEVEL and own["p_by_lot"] > min(own["p"], LEVEL):
        why = f"but with so few heads {luck}: too often for the best of {measures} measures"
        return {"decide": f"a model with more heads: {luck}"}, why
    if own["low"] <= 0:
        return {"more": MORE}, "but with more prompts this lead may vanish"
    if own["q"] > LEVEL:
        return {"decide": f"more prompts: {chance}"}, f"but {chance}"
    return {"decide": "more prompts and random models: random weights may lead as far"}, ""


def _best_measure(found: pd.DataFrame) -> str:
    """Which measure predicts best what removing a head does, in a sentence or two."""
    best, ahead, held = found.iloc[0], found[found["ahead"]], found[found["verdict"] == "holds"]
    ranks = "ranks the heads of a layer with a correlation of"
    if len(held):
        return (
            "These predict what removing a head does better than its share of length and its "
            f"layer index, beyond random weights: {', '.join(map(_words, held.index))}. The "
            f"first {ranks} {held['against'].iloc[0]}."
        )
    if len(ahead):
        return (
            f"The best predictor of what removing a head does, {_words(ahead.index[0])}, "
            f"{ranks} {ahead['against'].iloc[0]}. But with random weights its lead may be as "
            "large, so it is not shown to come from what was learned."
        )
    if best["verdict"] == "not tested":
        return (f"Not tested, for want of {_needs(int(best['n']))}: whether a measure {PREDICTS}. "
                f"The best one here, {_words(best.name)}, {ranks} {best['against']}.")  # fmt: skip
    return (
        "No measure is shown to beat a head's share of length or its layer index at predicting "
        f"what its removal does. The best one here, {_words(best.name)}, {ranks} "
        f"{best['against']}, {_doubt(best, len(found))[1]}."
    )


def _some_claim(found: pd.DataFrame, phase: str) -> Claim:
    """That any measure at all beats both baselines."""
    best, verdicts = found.iloc[0], set(found["verdict"]) - {"not tested"}
    verdict = next(iter(verdicts), "not tested") if len(verdicts) < 2 else "undecided"
    if "holds" in verdicts:
        verdict = "holds"
    ahead, beyond = (
        ", ".join(map(_words, found.index[chosen])) or "none"
        for chosen in (found["ahead"], found["verdict"] == "holds")
    )
    decide = {"decide": "more prompts or random models: some measures are undecided"}
    if best["verdict"] == "undecided":
        decide, _ = _doubt(best, len(found))
    note = f"best: {_words(best.name)}; ahead of both baselines: {ahead}; beyond random weights "
    said = _said(best) | {"verdict": verdict, "null_note": f"{note}too: {beyond}"}
    return Claim.mechanical(f"At least one measure {BEATS} ({phase} tokens).", **said, **decide)


def _measure_claim(row: pd.Series, measures: int) -> Claim:
    """What is claimed of one measure."""
    words = _words(str(row.name))
    return Claim.mechanical(
        f"{words[0].upper()}{words[1:]} {BEATS} (generated tokens).",
        family="Measures that predict the effect of removing a head better than both baselines",
        label=words,
        **_said(row),
        **_doubt(row, measures)[0],
    )


def _said(row: pd.Series) -> dict[str, Any]:
    """The lead of a measure beside those with random weights."""
    random, leads = np.array(row["random"]), " and ".join(f"{x:.2f}" for x in row["random"])
    return {
        "found": Estimate(row["difference"], row["low"], row["high"], int(row["n"]), row["q"]),
        "above": 0,
        "verdict": row["verdict"],
        "null": None if np.isnan(random).any() else random.mean(),
        "null_note": f"{random_models(len(random))}, in which it leads by {leads}; one more "
        f"would lead as far with p = {row['one_more']:.2g}",
        "unit": f"lead in rank correlation within a layer: {row['against']}",
        "needs": _needs(int(row["n"]), " (--count or --additions)"),
    }


def _needs(prompts: int, options: str = "") -> str:
    """What a comparison with random models lacks, which read every second prompt."""
    more = f"{ENOUGH} prompts{options} or more (random models read every other one)"
    return more if prompts < ENOUGH else NEEDS


def _lead_figure(results: Results) -> dict[str, "Drawing"]:
    """The best measures, beside the two baselines and random weights."""
    found = _judged(results, "generated").head(SHOWN)
    random = np.array(found["random"].tolist())
    rows = found[["difference", "low", "high", "n"]].rename(columns={"difference": LEAD})
    rows = rows.assign(measure=list(map(_words, found.index)))
    rows["band_low"], rows["band_high"] = random.min(axis=1), random.max(axis=1)
    return {
        f"The {len(rows)} measures that lead most": bars(
            rows, "measure", LEAD, reference=0.0,
            band=f"{random.shape[1]} models with random weights",
            caption="How much better a measure ranks the heads of a layer, by what their removal "
            "changes, than the better one of share of length and layer index does (dashed: no "
            "better). Line: 95 % over prompts. To count, a line must lie right of the dashed one, "
            "and beyond the pale bar: what models reach that learned nothing.",
        )
    }  # fmt: skip


def _costliest(results: Results) -> pd.DataFrame:
    """The heads without which generated tokens lose most, named, the first one first."""
    effects = results.tables["effects"].query("mode == @MAIN['mode'] and phase == 'generated'")
    rows = effects.sort_values("delta_nll", ascending=False).head(SHOWN)
    return rows.assign(head=[f"L{row.layer}H{row.head}" for row in rows.itertuples()])


def _head_figure(results: Results) -> dict[str, "Drawing"]:
    """The heads whose removal costs most, beside the same change in random directions."""
    rows = _costliest(results).rename(columns={"delta_nll": "change of loss (nats)"})
    rows["band_low"] = rows["null_delta_nll"].clip(upper=0)
    rows["band_high"] = rows["null_delta_nll"].clip(lower=0)
    return {
        "The heads whose removal costs most": bars(
            rows, "head", "change of loss (nats)", reference=0.0,
            band="the same change in random directions",
            caption="How much the loss of the next token rises when a head's output is replaced by "
            "its mean over the other texts: L0H3 is head 3 of layer 0, both counted from 0. Line: "
            "95 % over prompts. A head matters where its point lies far beyond the pale bar.",
        )
    }  # fmt: skip


def _league_figure(results: Results) -> dict[str, "Drawing"]:
    """How well every measure ranks the change of loss within layers, the best first."""
    rows = results.tables["scores"].query(IS_MAIN).rename(columns={"spearman": RANKED})
    rows = rows.sort_values(["phase", RANKED], ascending=[True, False])
    rows = rows.assign(measure=rows["measure"].map(_words))
    return {
        "Every measure": bars(
            rows, "measure", RANKED, series="phase", reference=0.0,
            caption="Rank correlation (Spearman), among the heads of a layer, of each measure with "
            "the change of loss when a head is replaced by its mean: means over layers, 95 % "
            "intervals over prompts. A random score shows what is left to chance.",
        )
    }  # fmt: skip


def _effect_figures(results: Results) -> dict[str, "Drawing"]:
    """Effects and measures of each head, and gates."""
    gates = results.tables["gates"].rename(columns={"delta_nll": "change of loss (nats)"})
    gates["gated"] = [f"L{row.layer}H{row.head}" for row in gates.itertuples()]
    return {
        "What removing each head costs, beside what is told of it": head_explorer(
            _explored(results), facets=("phase",),
            caption="Change of the mean loss, and KL of the next token's distribution, when one "
            "head is removed (zero, its mean or another text's output in its place are three "
            "different questions), and every measure that may tell it.",
        ),
        "Gates": curves(
            gates, "gate", "change of loss (nats)", series="gated", facet="phase",
            caption="Change of loss when a head's output is multiplied by a gate (0 removes it, 1 "
            "leaves it), for the heads that zero changes most. A straight line is a linear effect.",
        ),
    }  # fmt: skip


def _explored(results: Results) -> pd.DataFrame:
    """A row for each effect or measure of a head, generated tokens first."""
    keys, names = ["phase", "layer", "head"], {"delta_nll": "change of loss", "kl": "KL"}
    effects = results.tables["effects"].melt([*keys, "mode"], list(names), "of", "estimate")
    effects["measure"] = effects["of"].map(names) + " (nats), " + effects["mode"].map(_words)
    measures = results.tables["measures"].assign(measure=lambda rows: rows["measure"].map(_words))
    return pd.concat([effects, measures])[["measure", *keys, "estimate"]].sort_values("phase")
