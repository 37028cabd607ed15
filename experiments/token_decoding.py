"""Which token is each hidden state, layer by layer?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from experiments import Claim, Experiment, Reading, Results, Table, TextFile, UsageError, corrected
from lenses.flow.bigram_counts import addition_bigrams
from lenses.kept import PerPrompt
from lenses.states import bake_off
from lenses.states.bake_off import LENS_NAMES, PUSHED, SHORTEST, Plan
from lenses.states.decoders import Lenses, arrays_of, lenses_of, second_decoder
from lenses.states.decoding import MeanStates, Site
from lenses.states.decoding_tables import LENSES, STATES, DecodingTables
from lenses.states.depths import PASSED
from lenses.states.jacobian import SKIPPED, MeanJacobians, text_jacobians
from lenses.states.ridge import SecondMoments
from lenses.statistics.against_random import above_zero_and_random, random_models
from lenses.statistics.intervals import mean_with_p
from lenses.texts import ReadText, sampled_additions, texts_to_read
from models.planted.markov import planted_markov
from models.planted.writing import ADDITIONS
from models.text import token_strings
from prompts.passages import passages
from prompts.texts import shipped_texts
from viz import Drawing, View, bars, curves, decoded_table, heat_map

if TYPE_CHECKING:
    from models import Model

SHOWN = 2
"""Prompts on the page, unless others are given."""
TOP = 5
"""Tokens of each state."""
JACOBIAN_TOKENS = 10
"""Of each text that the Jacobian lens is fitted on: its cost grows with them."""
RANDOM_MODELS = 3
"""Models of the same shape with fresh weights, beside which claims are shown."""
TWIN_TEXTS = 6
"""Reference texts that the ridge lenses of random models are fitted on."""
PUSHED_TEXTS = 8
"""Texts of the bake-off in which decoded directions are added."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 3e-2}
MORE, NEEDS = "texts (--count)", "5 texts or more (--count)"
COMPARED = tuple(LENS_NAMES.values())
AGREES = "share that names the model's token"
TENS = "rank (power of ten)"
TIED = " E and U are one here; effective E is what a token is after the first MLP."
CLAIMED = {
    **{
        f"{lens} agrees": (
            "A lens names the model's own next token more often in states of the middle layers "
            "than in random vectors",
            f"The {lens} names the model's own next token more often in states of the middle "
            "layers than in random vectors of equal length.",
            lens,
            "share of positions, states less random vectors",
        )
        for lens in LENS_NAMES.values()
    },
    **{
        f"{lens} nearer": (
            "A fitted lens is nearer to the model's own prediction than the logit lens",
            f"In the middle layers the {lens} is nearer to the model's own prediction than the "
            "logit lens.",
            lens,
            "KL divergence by the logit lens less that by the lens, in nats",
        )
        for lens in (LENS_NAMES["ridge"], LENS_NAMES["jacobian"])
    },
    **{
        f"push {name}": (
            "Adding the decoded token's direction raises that token in the output",
            f"Adding the direction of the token that the decoder names ({LENSES[name]}) raises "
            "that token in the output more than a random direction does.",
            LENSES[name],
            "rise of the log-probability, less that by a random direction, in nats",
        )
        for name in PUSHED
    },
}
"""Statistics of `against_random` that are mechanical claims: family, sentence, label, unit."""


class _Texts(NamedTuple):
    """What is read for which purpose."""

    shown: list[ReadText]
    scored: list[ReadText]
    fitted: list[list[int]]


class TokenDecoding(Experiment):
    """Each hidden state is read as a token: as if it were the last one (logit lens), or by lenses
    fitted to carry it to the last layer (ridge, Jacobian).

    States are the embedding, the residual stream after each attention and each layer, and what
    attention and MLP add. Decoders are the embedding E (in models that tie E to the unembedding U:
    the embedding after the first MLP), U, their mixtures by depth and by depth squared, the more
    certain of the two, and two lenses that carry a state to the last layer first. The *ridge lens*
    is an affine map for each layer that predicts the last state, fitted in closed form on reference
    texts; the *Jacobian lens* the mean derivative of the last state by the state at a layer, of one
    short text (published: 100 or more). U with the final norm: the *logit lens*.

    Norms: none, unit length, the final norm without its gain, the final norm, centred (less the
    layer's mean over the reference texts, then the final norm); whitened, and 5 axes removed.

    The bake-off scores decoders on 4 positions of each shipped text, none of which was fitted on:
    KL divergence from the model's own prediction, whether both name the same token, and whether the
    token that was read comes back; mean over the middle layers. Controls are random vectors of
    equal length, a shuffled vocabulary, and the embedding alone. For cause, the decoded token's
    direction is added to the state, at half its length. Intervals (95 %) are over texts.
    """

    runs_on: ClassVar[str] = "adder 4 s, language model 2 min"
    quick: ClassVar[dict[str, Any]] = {"count": 6, "reference_texts": 10, "cells": 60}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    prompts: tuple[str, ...] = ()
    """Texts to show; without any, two shipped ones (adders: sampled additions)."""
    prompts_file: TextFile | None = None
    """A file with more texts: .txt, one a line; .csv, .tsv or .jsonl, with file.csv:column."""
    count: int = Field(12, ge=1)
    """Texts of the bake-off."""
    reference_texts: int = Field(30, ge=2)
    """Texts that means and lenses are fitted on; none of those that are read."""
    batch_size: int = Field(6, ge=1)
    """Texts that are read together."""
    jacobian_texts: int = Field(1, ge=0)
    """How many of these the Jacobian lens is fitted on; with 0 it is left out."""
    cells: int = Field(240, ge=1)
    """Boxes of a table on the page, all prompts together: longer texts show fewer layers."""

    tables: ClassVar[Mapping[str, Table]] = {
        "bake_off": Table(
            "A row is a decoder and a norm, scored on the states after the middle layers, or on a "
            "control.",
            key="source decoder norm",
            columns={
                "source": "what is read: `states`; `embedding alone`; `random vectors` as long as "
                "states; or states with a `shuffled vocabulary`",
                "decoder": "the decoder",
                "norm": "the norm before it",
                "kl": "KL divergence from the model's own prediction to what is decoded, in nats",
                "kl_low": "lower end of its 95 % interval",
                "kl_high": "upper end of its 95 % interval",
                "agreement": "share of positions where both name the same likeliest token",
                "agreement_low": "lower end of its 95 % interval",
                "agreement_high": "upper end of its 95 % interval",
                "agreement_5": "share where the model's likeliest token is among five decoded",
                "recovery": "share where the token that was read is the likeliest decoded",
                "recovery_5": "share where it is among five",
                "entropy": "entropy of what is decoded, in nats",
            },
            more="n",
        ),
        "best": Table(
            "A row is a text, with the decoder and norm that are nearest to the model in all "
            "other texts.",
            key="text",
            columns={
                "text": "number of the text, from 0",
                "decoder": "the decoder chosen on the other texts",
                "norm": "the norm chosen with it",
                "kl": "its KL divergence in this text, in nats",
                "agreement": "share of positions of this text where it names the model's token",
                "logit_lens_kl": "the same divergence by the logit lens",
                "logit_lens_agreement": "the same share by the logit lens",
            },
        ),
        "degeneracy": Table(
            "A row says how often a decoder and norm name one and the same token.",
            key="state decoder norm",
            columns={
                "state": "which state is read",
                "decoder": "the decoder",
                "norm": "the norm before it",
                "share": "share of positions that decode to the single most common token, mean "
                "over layers",
                "highest": "the same in the layer where it is highest",
                "token": "that token, in the layer where it is highest",
            },
            more="n",
        ),
        "by_layer": Table(
            "A row is a decoder and a norm at one depth, mean over the texts of the bake-off.",
            key="decoder norm layer",
            columns={
                "decoder": "the decoder",
                "norm": "the norm before it",
                "layer": "layers passed: 0 for the embedding, a half within a layer",
                "kl": "KL divergence from the model's own prediction, in nats",
                "agreement": "share of positions where both name the same token",
                "recovery": "share where the token that was read is decoded",
                "next_gain": "log-probability of the text's next token, less that of a token from "
                "elsewhere in the text",
                "entropy": "entropy of what is decoded, in nats",
            },
        ),
        "pushes": Table(
            "A row is what adding the direction of the decoded token to a state does.",
            key="decoder layer",
            columns={
                "decoder": "the decoder, after the final norm, that names the token",
                "layer": "layers passed",
                "estimate": "rise of the token's log-probability in the output, in nats",
                "noise": "the same when a random direction of equal length is added",
            },
            more="low high n",
        ),
        "against_random": Table(
            "A row is a statistic of one text, with the model's own weights or random ones.",
            key="weights statistic text",
            columns={
                "statistic": "what the claims are about, in words",
                "text": "number of the text, from 0",
                "value": "the statistic in this text",
            },
        ),
        "ranks": Table(
            "A row is the rank of a token at the last position of a prompt, by a decoder after "
            "the final norm.",
            key="prompt decoder token layer",
            columns={
                "decoder": "the decoder",
                "layer": "layers passed",
                "token": "one of the three tokens that the model finds likeliest, or the one read",
                "rank": "its rank; 1 is the likeliest",
            },
        ),
        "parts": Table(
            "A row is what a part makes of the state that a layer hands on.",
            key="prompt layer pos part",
            columns={
                "part": "the residual stream before the layer, its attention, or its MLP",
                "share": "share of the state along itself; the parts of a layer sum to 1",
            },
        ),
        "boxes": Table(
            "A row is a state of a prompt, read by a decoder after a norm.",
            key="prompt state layer pos norm decoder",
            columns={
                "state": "which state is read",
                "layer": "layers passed: 0 for the embedding, a half within a layer",
                "norm": "the norm before the decoder",
                "decoder": "the decoder",
                "token": "the likeliest token",
                "probability": "its probability",
                **{f"token_{k}": f"number {k} of the likeliest tokens" for k in range(2, TOP + 1)},
                **{f"probability_{k}": "its probability" for k in range(2, TOP + 1)},
                "entropy": "entropy of what is decoded, in nats",
            },
        ),
        "read": Table(
            "A row is a token of a prompt that is shown.", key="prompt pos", more="token"
        ),
        "checks": Table(
            "A row is a decoder at the last layer, after the final norm.",
            key="decoder",
            columns={
                "decoder": "the decoder",
                "error": "largest relative difference of its logits from the model's own",
            },
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="only for the directions that are added to states; what a state decodes to is read, "
        "not changed",
        assumes="that a state stands for the tokens that a readout made for the last layer finds "
        "in it, and that short texts of many kinds stand for others",
        stressed="random vectors, a shuffled vocabulary and the embedding alone are read as well; "
        "lenses are fitted, and the best is chosen, on other texts than it is measured on",
        not_shown="that the model itself uses what is decoded; a lens that is fitted to predict "
        "the last state tells what will be said, also where the state does not say it yet",
    )

    def measure(self, model: "Model") -> Results:
        """Fit lenses on reference texts; then decode prompts, score texts, push, and compare."""
        texts = self._texts(model)
        plan = bake_off.plan_of(model, self.cells // sum(len(text.ids) for text in texts.shown))
        second, W_E = second_decoder(model)
        lenses = self._lenses(model, plan.where, texts.fitted, plan, W_E)
        shown = PerPrompt()
        for text in self.stream(texts.shown, shown, "decoding"):
            shown.update(**bake_off.decode_text(model, lenses, text.ids, TOP))
        found = self._scored(model, lenses, plan, texts.scored, "scoring")
        pushes = self._pushed(model, lenses, plan.pushed, texts, "pushing")
        named = [shown["ids"], shown["ranked"], found["top"], *(text.ids for text in texts.shown)]
        ids = np.unique(np.concatenate([np.ravel(each) for each in named])).clip(min=0)
        words = dict(zip(ids.tolist(), token_strings(model, ids), strict=True))
        tables = DecodingTables(plan, words, LENSES | {"E": second}, self.seed)
        own = bake_off.statistics(found, plan, pushes)
        told = tables.of_texts(found, pushes, shown, [text.ids for text in texts.shown])
        arrays = arrays_of(lenses)
        del lenses, W_E, shown, found  # random models take as much again
        told["against_random"] = self._against_random(model, texts, plan, own)
        return Results(tables=told, arrays=arrays)

    def _texts(self, model: "Model") -> _Texts:
        """Shown ones, those of the bake-off, and those that lenses are fitted on."""
        form = model.card.arithmetic
        if form is not None and not self.prompts and not self.prompts_file:
            asked = sampled_additions(form, self.count + SHOWN + self.reference_texts, self.seed)
            every = [text.given + text.expected for text in asked]
            read = [ReadText(n, "addition", ids) for n, ids in enumerate(every)]
            return _Texts(read[:SHOWN], read[: self.count], every[max(self.count, SHOWN) :])
        if model.tokenizer is None or form is not None:
            raise UsageError(f"{model.card.name} reads no text; take a language model")
        given = texts_to_read(model, self.prompts, self.prompts_file, shipped_texts()[:SHOWN], 0)
        texts = texts_to_read(model, (), None, shipped_texts(), 0)
        long = [text for text in texts if len(text.ids) >= SHORTEST]
        fitted = texts_to_read(model, (), None, passages()[: self.reference_texts], 0)
        return _Texts(given, long[: self.count], [text.ids for text in fitted])

    def _lenses(
        self,
        model: "Model",
        where: Sequence[Site],
        refs: Sequence[Sequence[int]],
        plan: Plan | None = None,
        W_E: Float[Tensor, "token d"] | None = None,
        label: str = "reading reference texts",
    ) -> Lenses:
        """Fitted at `where`; with a plan also what is only fitted in the model's own weights."""
        streams = [site for site in where if site.part not in ("attn_out", "mlp_out")]
        rows = [where.index(site) for site in streams]
        means, moments = MeanStates(), SecondMoments()
        for batch in self.stream(refs, [means, moments], label, self.batch_size):
            each = bake_off.states_of_each(model, batch, where)
            states = torch.cat([states[:, SKIPPED:] for states in each], dim=1)
            means.update(states, torch.zeros(states.shape[1], device=states.device))
            moments.update(states[rows], states[-1])
        jacobian = self._jacobian(model, streams, refs) if plan else {}
        with_axes = [where[row] for row in plan.scored] if plan else []
        return lenses_of(model, where, means.mean[0], moments, streams, jacobian, W_E, with_axes)

    def _jacobian(
        self, model: "Model", streams: Sequence[Site], refs: Sequence[Sequence[int]]
    ) -> dict[Site, Float[Tensor, "d d"]]:
        kept = MeanJacobians()
        for ids in self.stream(refs[: self.jacobian_texts], kept, "Jacobian lens"):
            kept.update(text_jacobians(model, ids[:JACOBIAN_TOKENS], streams))
        return dict(zip(streams, kept.mean, strict=True)) if self.jacobian_texts else {}

    def _scored(
        self, model: "Model", lenses: Lenses, plan: Plan, texts: Sequence[ReadText], label: str
    ) -> PerPrompt:
        """Scores of every decoder and norm in each text."""
        kept = PerPrompt()
        for batch in self.stream(texts, kept, label, self.batch_size):
            rngs = [np.random.default_rng((self.seed, text.number)) for text in batch]
            ids = [text.ids for text in batch]
            kept.update(**bake_off.score_texts(model, lenses, plan, ids, rngs))
        return kept

    def _pushed(
        self, model: "Model", lenses: Lenses, where: Sequence[Site], texts: _Texts, label: str
    ) -> PerPrompt:
        """What adding the decoded token's direction does, at one position of each text."""
        kept = PerPrompt()
        for batch in self.stream(texts.scored[:PUSHED_TEXTS], kept, label, self.batch_size):
            rngs = [np.random.default_rng((self.seed, text.number, 1)) for text in batch]
            ids = [text.ids for text in batch]
            kept.update(effects=bake_off.push_texts(model, lenses, where, ids, rngs))
        return kept

    def _against_random(
        self, model: "Model", texts: _Texts, plan: Plan, own: dict[str, np.ndarray]
    ) -> pd.DataFrame:
        """What the claims are about, by text: own weights, then random ones."""
        every, where = {"own": own}, [plan.where[row] for row in plan.scored]
        middle = [plan.pushed[len(plan.pushed) // 2]]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            lenses = self._lenses(twin, where, texts.fitted[:TWIN_TEXTS], label=label).short()
            found = self._scored(twin, lenses, plan, texts.scored, label)
            pushes = self._pushed(twin, lenses, middle, texts, label)
            every[f"random {number}"] = bake_off.statistics(found, plan, pushes)
        rows = [
            {"weights": weights, "statistic": name, "text": text, "value": value}
            for weights, known in every.items()
            for name, values in known.items()
            for text, value in enumerate(values)
        ]
        return pd.DataFrame(rows).dropna(ignore_index=True)

    def headline(self, results: Results) -> str:
        """Which decoder is nearest to the model, beside controls; how often one token is read."""
        best, scores = results.tables["best"], results.tables["bake_off"]
        decoder, norm = best[["decoder", "norm"]].value_counts().index[0]
        agreement = scores.set_index(["source", "decoder", "norm"])["agreement"]
        same = results.tables["degeneracy"].set_index(["state", "decoder"]).sort_index()
        same = same.loc[(STATES["resid_post"], "unembedding")].set_index("norm")["share"]
        lens, told = _named(decoder, norm), best["agreement"].mean()
        said = (
            f"In the middle layers {'mostly' if told >= 0.5 else 'mostly not yet'} the token that "
            f"the model says next: read by the {lens}, a state is that token at {told:.0%} of "
            f"positions{self._ahead(lens, best)} The embedding alone, read in the same way, gives "
            f"{agreement['embedding alone', decoder, norm]:.0%}."
        )
        if same.isna().all():
            return said.replace("%", " %")
        said += f" At {same['final norm']:.0%} of a layer's positions the logit lens reads one and "
        return f"{said}the same token.".replace("%", " %")

    def _ahead(self, lens: str, best: pd.DataFrame) -> str:
        more = (best["agreement"] - best["logit_lens_agreement"]).to_numpy()
        ends, logit = mean_with_p(more, seed=self.seed), best["logit_lens_agreement"].mean()
        if lens == "logit lens" or np.isnan(ends.low):  # fewer than five texts have no interval
            return "." if lens == "logit lens" else f" (logit lens: {logit:.0%})."
        shown = "The two differ" if ends.low > 0 or ends.high < 0 else "Not shown to differ"
        interval = f"difference {ends.estimate:.0%}, 95% interval {ends.low:.0%} to {ends.high:.0%}"
        return f" (logit lens: {logit:.0%}). {shown}: {interval}."

    def claims(self, results: Results) -> list[Claim]:
        """Is what is decoded the model's; are fitted lenses nearer; do decoded tokens cause?"""
        rows = results.tables["against_random"].groupby("statistic", sort=False)
        wide = {
            name: part.pivot(index="weights", columns="text", values="value") for name, part in rows
        }
        found = [
            Claim.identity(
                "At the last layer the unembedding, the mixtures, the ridge lens and the Jacobian "
                "lens are the model's own output.",
                results.tables["checks"]["error"],
                within=TOLERANCE[self.dtype],
            ),
            self._says_what_comes(wide["next token"]),
        ]
        named = [self._mechanical(name, wide[name]) for name in CLAIMED if name in wide]
        return [*found, *corrected(named, MORE)]

    def _says_what_comes(self, values: pd.DataFrame) -> Claim:
        """Judged against random weights, which know nothing of the text."""
        sentence = (
            "Before the last layer, a state already makes the text's next token likelier than "
            "tokens from elsewhere in the text, more so than with random weights (ridge lens)."
        )
        random = values.filter(like="random ", axis="index").to_numpy()
        found = above_zero_and_random(values.loc["own"].to_numpy(), random, self.seed)
        return Claim.learned(
            sentence, found, above=0.0, null=found.random.mean(), null_note=found.note,
            unit="log-probability of the next token, less that of another, in nats",
            decide=MORE, needs=NEEDS,
        )  # fmt: skip

    def _mechanical(self, name: str, values: pd.DataFrame) -> Claim:
        family, sentence, label, unit = CLAIMED[name]
        random = values.filter(like="random ", axis="index").to_numpy()
        own = values.loc["own"].dropna().to_numpy()
        found = mean_with_p(own, seed=self.seed) if len(own) else None
        return Claim.mechanical(
            sentence, found, above=0.0, null=random.mean() if len(random) else None,
            null_note=f"{random_models(RANDOM_MODELS)}; not every decoder", unit=unit, more=MORE,
            family=family, label=label, needs=NEEDS,
        )  # fmt: skip

    def figures(self, results: Results) -> dict[str, Drawing]:
        """The table of tokens; how decoders do; degeneracy; ranks; parts; pushes."""
        return {
            **_table_figure(results),
            **_bake_off_figures(results),
            **_degeneracy_figure(results),
            **_rank_figures(results),
            **_part_figure(results),
            **_push_figure(results),
        }

    def planted(self) -> "Model":
        """A model of additions whose embedding tells what follows each token."""
        counted = addition_bigrams(ADDITIONS, 2_000, self.seed)
        follows = torch.zeros(2 * (len(ADDITIONS.vocabulary),), dtype=torch.float64)
        follows[np.ix_(counted.first, counted.following)] = counted.counts.double()
        follows = follows / follows.sum(1, keepdim=True).clamp(min=1)
        return planted_markov(ADDITIONS, follows, seed=self.seed)


def _named(decoder: str, norm: str) -> str:
    if decoder == "unembedding":
        return "logit lens" if norm == "final norm" else f"unembedding ({norm})"
    told = "without a norm" if norm == "none" else f"norm: {norm}"
    return decoder if norm == "final norm" else f"{decoder} ({told})"


def _view(results: Results) -> View:
    best = results.tables["best"][["decoder", "norm"]].value_counts().index[0]
    norm = best[1] if best[1] in results.tables["boxes"]["norm"].unique() else "final norm"
    return View(STATES["resid_post"], best[0], norm)


def _table_figure(results: Results) -> dict[str, Drawing]:
    read, first = results.tables["read"], _view(results)
    tied = "effective E" in set(results.tables["by_layer"]["decoder"])
    prompts = {n: part["token"].tolist() for n, part in read.groupby("prompt")}
    return {
        "The token of each state": decoded_table(
            results.tables["boxes"], prompts, first,
            caption="Each box holds the token that a state decodes to, at first by the "
            f"{_named(first.decoder, first.norm)}, which reads the middle layers best; its colour "
            "is the token's probability. Columns are the tokens that are read, rows the layers "
            f"passed, the last on top.{TIED if tied else ''}",
        )
    }  # fmt: skip


def _bake_off_figures(results: Results) -> dict[str, Drawing]:
    scores = results.tables["bake_off"].replace("unembedding", "logit lens")
    layers = results.tables["by_layer"].replace("unembedding", "logit lens")
    low_high = {"agreement_low": "low", "agreement_high": "high", "agreement": AGREES}
    lenses = layers[(layers["norm"] == "final norm") & layers["decoder"].isin(COMPARED)]
    controls = scores[(scores["norm"] == "final norm") & scores["decoder"].isin(COMPARED)]
    states = results.tables["bake_off"].rename(columns=low_high)
    states = states[(states["source"] == "states") & states["norm"].isin(["final norm", "centred"])]
    return {
        "How near each lens is to the output": curves(
            lenses.rename(columns={"layer": PASSED, "agreement": AGREES}), PASSED, AGREES,
            series="decoder",
            caption="Share of positions where a lens, after the final norm, names the token that "
            "the model finds likeliest in the end; texts that no lens was fitted on. At the last "
            "layer all three are the model's own output.",
        ),
        "States and controls": bars(
            controls.rename(columns=low_high), "source", AGREES, series="decoder",
            caption="The same share over the middle layers, and where the states are exchanged for "
            "the embedding or for random vectors of equal length, or the vocabulary is shuffled. "
            "Lines: 95 % over texts.",
        ),
        "Every decoder, with the final norm and centred": bars(
            states, "decoder", AGREES, series="norm",
            caption="The same share for every decoder. Centring takes off what all states of a "
            "layer share. Lines: 95 % over texts.",
        ),
    }  # fmt: skip


def _degeneracy_figure(results: Results) -> dict[str, Drawing]:
    rows = results.tables["degeneracy"]
    rows = rows[rows["state"] == STATES["resid_post"]]
    rows = rows.assign(text=[f"{100 * share:.0f}" for share in rows["share"]])
    return {
        "One token everywhere": heat_map(
            rows, "decoder", "norm", "share", text="text", low=0.0, high=1.0,
            label="share of positions with the commonest token",
            caption="How many of 100 positions of a layer decode to the single most common token, "
            "mean over the middle layers. What the norm takes off before decoding decides it; the "
            "table names the tokens, and has the other states.",
        )
    }  # fmt: skip


def _rank_figures(results: Results) -> dict[str, Drawing]:
    ranks = results.tables["ranks"].replace({"decoder": {"unembedding": "logit lens"}})
    ranks = ranks[(ranks["prompt"] == 0) & ranks["decoder"].isin(COMPARED)]
    read = "".join(results.tables["read"].query("prompt == 0")["token"])
    return {
        "Ranks on the way up": curves(
            ranks.assign(**{TENS: np.log10(ranks["rank"]), PASSED: ranks["layer"]}), PASSED, TENS,
            series="token", facet="decoder",
            caption=f"After “{read[-60:]}”: the ranks of the three tokens that the model finds "
            "likeliest, and of the last token read, in the state at the last position. 0 is the "
            "first rank, 1 the tenth, 2 the hundredth.",
        )
    }  # fmt: skip


def _part_figure(results: Results) -> dict[str, Drawing]:
    mean = results.tables["parts"].query("pos > 0").groupby(["layer", "part"], sort=False)
    rows = mean["share"].mean().reset_index()
    return {} if rows.empty else {
        "What attention and MLP make of a state": curves(
            rows, "layer", "share", series="part",
            caption="Share of the state that a layer hands on, along itself: what came in, what "
            "attention adds, what the MLP adds. They sum to 1. Mean over all tokens but the first.",
        )
    }  # fmt: skip


def _push_figure(results: Results) -> dict[str, Drawing]:
    rows = results.tables["pushes"].rename(columns={"estimate": "rise (nats)", "layer": PASSED})
    return {
        "Does the decoded token cause the output?": curves(
            rows.drop(columns=["low", "high"]), PASSED, "rise (nats)", series="decoder",
            reference=0.0,
            caption="Rise of the decoded token's log-probability in the output when its direction, "
            "as the decoder has it, is added to the state at half the state's length; mean over "
            "texts. The table has intervals, and what noise does.",
        )
    }  # fmt: skip
