"""Is a hidden state a sum of concepts?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Reading, Results, Table, TextStudy, UsageError, corrected, percent
from lenses.states import concept_tables
from lenses.states.concept_reading import TextStates
from lenses.states.concept_tables import BEYOND, BY_MIXED, SHARES, above_embedding
from lenses.states.concepts import OF_TOKENS, depths_of
from lenses.states.pursuits import MOST
from lenses.statistics.against_random import above_zero_and_others
from lenses.statistics.intervals import mean_with_p
from lenses.texts import ReadText, texts_or_additions
from models.planted.concepts import planted_concepts
from models.planted.writing import ADDITIONS
from prompts.texts import shipped_texts
from viz import Drawing, bars, curves, heat_map, token_chips

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, whose states are taken apart by their own atoms."""
ENOUGH = 0.02
"""Share of squared length by which tokens must be ahead of mixed vectors."""
TRIPLES = 500
BOUND = 1e-5
LAST = SHARES[-1]
DEPTH, SHARE = "layers passed", "share of squared length explained"
DEGENERATE = {"single": "one token alone", "commonest": "the commonest first token"}
SHORT = {BEYOND: "beyond own token", BY_MIXED: "mixed vectors"}
MORE = "prompts (--prompts-file)"
MEANS = {
    "atoms": "token vectors: `E`, `effective E` or `transported U`",
    "depth": "layers that were passed; 0 is the embedding",
    "state": "`residual stream`, or what `attention` or `MLP` adds to it",
    "pursuit": "`published` (rows as they are, coefficient 1), `projection`, `orthogonal`, or "
    "`non-negative`",
    **{name: f"share of squared length explained by the first {name[-1]}" for name in SHARES},
}
EXPLAINED = " ".join(SHARES)
VECTOR = {
    "E": "its row of the embedding (E)",
    "effective E": "its embedding after the first MLP (effective E)",
}


class IterativeDecoding(TextStudy):
    """A hidden state is taken apart into the few token vectors that fit it best; random vectors
    are taken apart in the same way.

    As first published: find the most likely token, subtract its embedding, find the next. Done
    properly this is a matching pursuit: token vectors have length 1, and either the new coefficient
    is the projection, or all coefficients are fitted anew (orthogonal), or so with none below
    zero. It stops after five tokens, or where what is left no longer gets shorter. Token vectors
    are the rows of E, effective E (E plus what the first MLP makes of it), and readout directions
    taken back to a depth by the mean Jacobian (transported U).

    What counts is the share of a state's squared length that the tokens explain. Any five of many
    thousand vectors explain something of any vector, so beside it stand: random vectors of
    the same length; states of models with random weights; and the same states explained by mixed
    vectors, random ones with exactly the mean and covariance of the token vectors. For the last,
    the state's own token and the mean state are set aside first, since any model, also an
    untrained one, carries its input along. Intervals (95 %) resample prompts.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"additions": 5, "positions": 2, "jacobian_texts": 1}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    positions: int = Field(3, ge=1)
    """Positions read in each text, spread evenly over it; its first token is left out."""
    depths: int = Field(7, ge=2)
    """Depths read, spread evenly from the embedding to the last state."""
    jacobian_texts: int = Field(2, ge=0)
    """Texts over which the Jacobian of transported U is averaged; 0 leaves transported U out."""
    additions: int = Field(24, ge=1)
    """Additions sampled for an adder."""

    tables: ClassVar[Mapping[str, Table]] = {
        "states": Table.of(
            MEANS,
            "A row is a vector taken apart into up to five tokens (orthogonal pursuit).",
            key="atoms vectors state depth prompt pos",
            more=f"{EXPLAINED} token",
            vectors="`states`, `random vectors` of the same length, or `states, beyond own token` "
            "by token vectors or by mixed ones",
            found="the tokens in the order they were found; a minus is subtracted",
            first="the first of them",
            error="reconstruction and residual less the vector, over its length",
            rise="largest rise of the residual's length by a step, over that of the vector",
        ),
        "explained": Table.of(
            MEANS,
            "A row is how much of vectors the first tokens explain, mean over prompts.",
            key="atoms vectors state depth tokens",
            more="low high n",
            vectors="whose vectors; `random weights`: of models with random weights",
            tokens="how many tokens",
            estimate="share of squared length that they explain",
        ),
        "pursuits": Table.of(
            MEANS,
            "A row is a pursuit of states, or of random vectors of the same length.",
            key="atoms vectors pursuit norm depth",
            more=f"{EXPLAINED} n",
            vectors="`states` or `random vectors`",
            norm="of the state before: `none`, `unit`, `final` norm, or `centred`",
            single="share of vectors in which one token alone was found",
            commonest="share of vectors whose first token is the commonest one",
            common_token="that token",
            steps="mean number of tokens found",
        ),
        "triples": Table.of(
            MEANS,
            "A row is how often sums of three random token vectors of E are taken apart again.",
            key="rows pursuit",
            more="low high n",
            rows="rows of E that were summed: `as they are`, or `of length 1`",
            estimate="share of sums in which exactly these three tokens were found",
            explained="share of squared length that three tokens explain, mean over sums",
            near="cosine of a token that was missed with the nearest one found, mean",
        ),
        "against_random": Table(
            "A row is how much five tokens explain at depths above 0, mean over a text's states.",
            key="weights atoms prompt",
            columns={
                "atoms": "token vectors: `E` or `effective E`",
                "value": "share of squared length, states less random vectors of the same length",
            },
        ),
        "example": Table.of(
            MEANS,
            "A row is a token found in a state of the first text (non-negative, centred).",
            key="atoms depth pos step",
            more="token",
            heading="the text's own token",
            step="number of the step, from 1",
            gain="share of squared length that this step explains",
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="no: states are taken apart as they are; nothing is changed in the model",
        assumes="that what a state holds stands along single token vectors, the same ones at every "
        "position, and that squared length says how much it holds",
        stressed="that five of many vectors explain anything: random vectors; that the cloud of "
        "token vectors does, not the tokens: mixed vectors; that it was learned: random weights; "
        "that the pursuit finds what is there: sums of three known tokens",
        not_shown="that a state holds no concepts where tokens explain little: concepts need not "
        "be tokens; or that the model uses a token that is found",
    )

    def measure(self, model: "Model") -> Results:
        """States of all texts, Jacobians, all pursuits by set of atoms; then random models."""
        how = (depths_of(model, self.depths), self.positions, self.seed, self.stream)
        study = TextStates(self._texts(model), *how)
        both, jacobians = study.read(model), study.jacobians(model, self.jacobian_texts)
        rows = {name: self.rows(name) for name in ("states", "pursuits", "example")}
        study.take_apart(model, *both, jacobians, rows)
        random = study.of_twins(self.twins(model, RANDOM_MODELS), RANDOM_MODELS)
        found = concept_tables.beside_twins(rows["states"].frame(), random, self.seed)
        found["triples"] = concept_tables.recovered(model.W_E.detach().float(), TRIPLES, self.seed)
        return Results({name: (rows | found)[name] for name in self.tables})

    def _texts(self, model: "Model") -> list[ReadText]:
        """Texts of at least two tokens."""
        given = (self.prompts, self.prompts_file, shipped_texts())
        texts = texts_or_additions(model, *given, self.additions, self.seed)
        if not (long := [text for text in texts if len(text.given) > 1]):
            raise UsageError("no text has a second token, and first tokens are not read; give more")
        return long

    def headline(self, results: Results) -> str:
        """How much tokens explain, of what they are, and whether anything is left to them."""
        states = above_embedding(results.tables["states"])
        mean = states.groupby(["atoms", "vectors"])[LAST].mean()
        name = max(OF_TOKENS, key=lambda one: mean[one, "states"])
        verdict = _verdict(self.claims(results))
        return (
            f"{verdict}: of what is left of a state without the token that is read and the mean "
            f"state, five tokens explain {percent(mean[name, BEYOND])}, five random vectors, with "
            "the mean and covariance of the tokens' vectors, "
            f"{percent(mean[name, BY_MIXED])}. Of the squared length of a whole state five tokens "
            f"explain {percent(mean[name, 'states'])}, of a random vector "
            f"{percent(mean[name, 'random vectors'])}. A token's vector is "
            f"{VECTOR[name]}."
        )

    def claims(self, results: Results) -> list[Claim]:
        """Do tokens explain states, beyond what any vectors do, and beyond the input?"""
        groups = concept_tables.by_third(results.tables["states"]).groupby(
            ["atoms", "third"], sort=False
        )
        learned = [self._beyond(*told, rows) for told, rows in groups if told[0] in OF_TOKENS]
        sets = results.tables["against_random"].groupby("atoms", sort=False)
        ahead = [self._ahead(name, rows) for name, rows in sets]
        return [
            *corrected(learned, MORE),
            *corrected(ahead, MORE),
            _degenerate(results),
            *_checks(results),
        ]

    def _beyond(self, name: str, third: str, rows: pd.DataFrame) -> Claim:
        """Against vectors of the same mean and covariance, beyond own token and mean state."""
        wide = rows.groupby(["prompt", "vectors"])[LAST].mean().unstack()
        difference = (wide[BEYOND] - wide[BY_MIXED]).dropna().to_numpy()
        return Claim.learned(
            f"In the {third} of depths, five tokens of {name} explain more of what a state holds "
            "beyond its own token and the mean state than five random vectors with the same mean "
            f"and covariance do, by over {percent(ENOUGH)} of its squared length.",
            mean_with_p(difference, ENOUGH, self.seed, (-1, 1)) if len(difference) else None,
            above=ENOUGH,
            null=0.0,
            null_note="as much as random vectors with the same mean and covariance, which explain "
            f"{percent(wide[BY_MIXED].mean())} here",
            unit="share of squared length, tokens less such vectors",
            family="Beyond own token and mean state, five tokens explain more than five random "
            "vectors of the same mean and covariance.",
            label=f"{name}, {third}",
            more=MORE,
        )

    def _ahead(self, name: str, rows: pd.DataFrame) -> Claim:
        """Against random vectors of the same length, and models with random weights."""
        wide = rows.pivot(index="weights", columns="prompt", values="value")
        found = above_zero_and_others(wide, self.seed)
        return Claim.mechanical(
            f"Five tokens of {name} explain more of a state than of a random vector of the same "
            "length, and are further ahead than with random weights.",
            found,
            above=0.0,
            null=found.random.mean(),
            null_note=found.note,
            unit="share of squared length, states less random vectors, depths above 0",
            family="Five tokens explain more of states than of random vectors, further ahead than "
            "with random weights.",
            label=name,
            decide=MORE,
        )

    def figures(self, results: Results) -> dict[str, Drawing]:
        """By depth; one text; by number of tokens; parts; pursuits; sums of known tokens."""
        return {
            "What five tokens explain, by depth": _depth_figure(results.tables["explained"]),
            **_example_figures(results),
            **_more_figures(results),
            **_pursuit_figures(results),
            "Sums of three known tokens": _triple_figure(results.tables["triples"]),
        }

    def planted(self) -> "Model":
        """A model whose states are sums of the embeddings of three tokens."""
        return planted_concepts(ADDITIONS, seed=self.seed)


def _degenerate(results: Results) -> Claim:
    """How often the published form finds one token alone, and what changes it."""
    rows = results.tables["pursuits"].query("atoms == 'E' and vectors == 'states'")
    by = rows.groupby(["pursuit", "norm"])[["single", LAST]].mean()
    one, other = by.loc["published", "none"], by.loc["orthogonal", "centred"]
    n = rows["n"].iloc[0] * rows["depth"].nunique()
    return Claim.descriptive(
        "Coefficient 1, as first published, finds one token alone in "
        f"{percent(one['single'])} of states and explains {percent(max(one[LAST], 0))} of "
        f"their squared length; an orthogonal pursuit of centred states {percent(other[LAST])}"
        f", with one token alone in {percent(other['single'])}.",
        pd.Series({"estimate": one["single"], "n": n}),
        unit="share of states in which one token alone is found, coefficient 1",
    )


def _checks(results: Results) -> list[Claim]:
    states, triples = results.tables["states"], results.tables["triples"]
    rows = triples[triples["rows"] == "as they are"].set_index("pursuit")
    return [
        Claim.identity("Tokens and what is left sum to the state.", states["error"], within=BOUND),
        Claim.identity(
            "In an orthogonal pursuit what is left never gets longer.", states["rise"], within=1e-9
        ),
        Claim.mechanical(
            "Of sums of three random rows of E, an orthogonal pursuit with vectors of length 1 "
            "finds all three in 95 % or more.",
            rows.loc["orthogonal"],
            above=0.95,
            null=float(rows.loc["published", "estimate"]),
            null_note="rows as they are and coefficient 1, as first published",
            unit="share of sums",
            check=True,
            decide="a larger vocabulary or vectors that are less alike",
        ),
    ]


def _verdict(claims: list[Claim]) -> str:
    """The answer in a word, from the learned claims: what lies beyond the own token, and where."""
    learned = [claim for claim in claims if claim.kind == "learned"]
    verdicts = {claim.verdict for claim in learned}
    held = [claim.label for claim in learned if claim.verdict == "holds"]
    if verdicts == {"holds"}:
        return "Yes"
    if held:
        return f"In part, shown in {len(held)} of {len(learned)} cases ({'; '.join(held)})"
    return "Hardly" if verdicts == {"fails"} else "Not decided"


def _depth_figure(rows: pd.DataFrame) -> Drawing:
    rows = rows[(rows["tokens"] == MOST) & (rows["state"] == "residual stream")]
    return curves(
        _named(rows), DEPTH, SHARE, series="vectors", facet="atoms",
        caption="Share of a vector's squared length that five tokens explain (orthogonal "
        "pursuit). Beyond own token: of what is left once the state's own token and the mean "
        "state have explained what they can; mixed vectors explain the same, and have the mean "
        "and covariance of the token vectors. Where they explain as much, tokens are nothing "
        "special. Random weights: models that learned nothing. Bands: 95 % over prompts.",
    )  # fmt: skip


def _example_figures(results: Results) -> dict[str, Drawing]:
    rows = results.tables["example"]
    rows = rows[rows["depth"] > 0].rename(columns={"depth": DEPTH, "gain": "share explained"})
    return {
        f"One text, taken apart into {name}": token_chips(
            part, DEPTH, "share explained",
            label="share of squared length that this token explains",
            caption="The end of the first text: above, its tokens; below, the tokens whose vectors "
            f"({name}) sum to the state, first found on top (non-negative pursuit of states less "
            "the mean state). Where fewer than five stand, no further one explains any more.",
        )
        for name, part in rows.groupby("atoms", sort=False)
    }  # fmt: skip


def _more_figures(results: Results) -> dict[str, Drawing]:
    rows = results.tables["explained"]
    five = rows.query(
        "vectors == 'states' and depth > 0 and tokens == @MOST and atoms in @OF_TOKENS"
    )
    several = rows.query("state == 'residual stream' and depth == depth.max()")
    return {
        "The last state, with each token more": curves(
            _named(several), "tokens", SHARE, series="vectors", facet="atoms",
            caption="Share of the squared length of the last state explained by the first token, "
            "the first two, and so on. Bands: 95 % over prompts.",
        ),
        "What attention and MLP add": curves(
            _named(five), DEPTH, SHARE, series="state", facet="atoms",
            caption="Share of squared length that five tokens explain of the residual stream, and "
            "of what attention and MLP add to it in the layer that was passed last.",
        ),
    }  # fmt: skip


def _pursuit_figures(results: Results) -> dict[str, Drawing]:
    states = results.tables["pursuits"].query("vectors == 'states'")
    keys = ["atoms", "pursuit", "norm"]
    mean = states.groupby(keys, sort=False)[[*DEGENERATE, LAST]].mean().reset_index()
    first = mean[mean["pursuit"] == "published"].melt(["atoms", "norm"], [*DEGENERATE])
    first["statistic"] = first.pop("variable").map(DEGENERATE)
    return {
        "Which pursuit explains most": heat_map(
            mean.assign(written=[f"{100 * max(v, 0):.0f} %" for v in mean[LAST]]),
            "pursuit", "norm", LAST, facet="atoms", text="written", low=0, high=1, label=SHARE,
            caption="What five tokens explain, mean over states, by pursuit and by norm of the "
            "state before. Published: rows as they are, coefficient 1. The others do not see how "
            "long a state is, so that a unit norm changes nothing for them.",
        ),
        "As first published, one token again and again": bars(
            first.rename(columns={"value": "share of states"}), "norm", "share of states",
            series="atoms", facet="statistic",
            caption="With coefficient 1: states in which one token alone is found, and states "
            "whose first token is the one that is commonest over all states.",
        ),
    }  # fmt: skip


def _triple_figure(rows: pd.DataFrame) -> Drawing:
    rows = rows.rename(columns={"estimate": "share found"})
    return bars(
        rows.assign(rows="rows " + rows["rows"]), "pursuit", "share found", series="rows",
        caption=f"Share of {TRIPLES} sums of three random rows of E that are taken apart into "
        f"exactly these three tokens, in three steps{_given_way(rows)}. Lines: 95 %.",
    )  # fmt: skip


def _given_way(rows: pd.DataFrame) -> str:
    """What orthogonal pursuits find in place of what they miss."""
    near = rows.loc[rows["pursuit"] == "orthogonal", "near"].mean()
    return "" if np.isnan(near) else (
        "; what orthogonal pursuits miss gives way to a token whose vector is near (mean cosine "
        f"{near:.2f}; in a language model often the same word in capitals or the plural)"
    )  # fmt: skip


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    short = rows.assign(vectors=rows["vectors"].replace(SHORT))
    return short.rename(columns={"estimate": SHARE, "depth": DEPTH})
