"""Does a token that is attended to more move the meaning more?"""

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results, UsageError
from lenses.statistics.grid import grid

if TYPE_CHECKING:
    from lenses.kept import Moments, PerPrompt
    from lenses.states.meaning import Movement
    from models import Model
    from viz import Drawing

RANDOM_MODELS = 2
"""Models of the same shape with fresh weights, beside which the claims are shown."""
DRAWS = 200
"""Random orders of the sources of each text."""
LEVEL = 0.05
LEAST = 6
"""Tokens of the shortest text that is read."""
DECIDE = "more texts: the interval spans the threshold"
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}
"""Of log-probabilities, in nats."""
MOST_TOKENS = 24
"""Tokens of the first text that are drawn."""


class AttentionMeaning(Experiment):
    """Each token's state is decoded before and after a step; has it moved to what it attends to?

    A token's meaning is the distribution that the logit lens reads off its state. Token i moves
    towards an earlier token j by as much as the Jensen-Shannon divergence of the two falls (or the
    cosine of the two states rises) when attention (resid_pre to resid_pre + attn_out), or the
    whole block (to resid_post), has changed i. For each token, these movements are rank-correlated
    with its attention to the sources j, raw and value-weighted, head by head, and averaged over a
    text; the first token is no source. The null gives each source the meaning of another token of
    the text at random. Since both attention and movement may favour near tokens, each is also
    given with the source's position held fixed. Intervals (95 %) come from resampling texts.

    Tables: `prompts` (what was read; `output_error`: decoded last state against the model's own
    log-probabilities), `heads` (correlation by layer and head, its `null`, p of "no more than the
    null" from random orders, q over the table's heads, and `p_any`, corrected by the largest of
    all heads), `layers` (mean over heads, and of recency: the source's position in its stead),
    `against_random` (per text, behind the claims). Arrays, of the first text: `attention` [layer,
    head, query, key], `towards` [layer, query, key] (whole block, divergence).
    """

    quick: ClassVar[dict[str, Any]] = {"additions": 8}

    prompts: tuple[str, ...] = ()
    """Texts to read; without any, shipped ones of many kinds (adders: sampled additions)."""
    texts: int = Field(12, ge=1)
    """Shipped texts that are read; those under six tokens are left out."""
    tokens: int = Field(16, ge=6)
    """Tokens of a text that are read; what follows is cut off."""
    additions: int = Field(24, ge=1)
    """Additions sampled for an adder, each read whole with its answer."""
    batch_size: int = Field(1, ge=1)
    """Texts between two checkpoints; each passes the model by itself."""

    def measure(self, model: "Model") -> Results:
        """Read each text once, with the null's draws; then the same texts in random models."""
        from lenses.kept import Moments, PerPrompt
        from lenses.states.meaning import movement

        texts, own, null = self._texts(model), PerPrompt(), Moments()
        for batch in self.stream(self._batches(texts), (own, null), "reading"):
            for number, ids in batch:
                found = movement(model, _tensor(ids, model))
                draws = self._draws(found, number)
                if np.isfinite(draws).all():
                    null.update(draws[None])
                own.update(**_summary(found), null=_mean(np.moveaxis(draws, 0, -1), 1)[None])
        example = movement(model, _tensor(texts[0][1][:MOST_TOKENS], model))
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own),
                "heads": self._head_rows(own, null),
                "layers": self._layer_rows(own),
                "against_random": self._against_random(model, texts, own),
            },
            arrays={
                "attention": example.weight[0].numpy(),
                "towards": example.towards[1, 0].numpy(),
            },
        )

    def _texts(self, model: "Model") -> list[tuple[int, list[int]]]:
        """What is read, as numbered tokens."""
        from models.text import tokenize
        from prompts.texts import shipped_texts

        if model.card.arithmetic and not self.prompts:
            return list(enumerate(self._sampled_additions(model)))
        given = self.prompts or [text.text for text in shipped_texts()]
        texts = [tokenize(model, text)[: self.tokens] for text in given]
        short = [number for number, ids in enumerate(texts) if len(ids) < LEAST]
        if self.prompts and short:
            least = f"it takes at least {LEAST}"
            raise UsageError(f"prompt {short[0]}: {len(texts[short[0]])} tokens; {least}")
        known = [ids for ids in texts if len(ids) >= LEAST]
        return list(enumerate(known if self.prompts else known[: self.texts]))

    def _sampled_additions(self, model: "Model") -> list[list[int]]:
        from prompts.additions import Addition

        form = model.card.arithmetic
        sums = Addition(form.digits, self.additions, self.seed, padded=form.pad).sums
        written = form.write(sums)
        ends = written.at.max(axis=1) + 1
        return [row[:end].tolist() for row, end in zip(written.tokens, ends, strict=True)]

    def _batches(self, texts: Sequence) -> list[Sequence]:
        return [texts[i : i + self.batch_size] for i in range(0, len(texts), self.batch_size)]

    def _draws(self, found: "Movement", number: int) -> np.ndarray:
        """Correlations with the meanings of sources exchanged at random, by draw."""
        from lenses.states.meaning import moves_with_weight, permutations

        rng = np.random.default_rng([self.seed, number])
        return moves_with_weight(found, permutations(found.weight.shape[-1], DRAWS, rng))

    def _head_rows(self, own: "PerPrompt", null: "Moments") -> pd.DataFrame:
        """By layer and head; texts in which a correlation is undefined count as 0 in p."""
        from lenses.states.meaning import CONTROLS, DISTANCES, STEPS, WEIGHTS
        from lenses.statistics.intervals import benjamini_hochberg, bootstrap

        if not null.state():
            raise UsageError(
                "tokens: in none of the texts is every rank correlation defined; read more of "
                "each (--tokens), or others (--prompts)"
            )
        found = bootstrap(own["each"], self.seed)
        drawn = null.state()["mean"][0]
        reached = np.nan_to_num(own["each"]).mean(axis=0)
        largest = drawn.max(axis=(-2, -1), keepdims=True)
        p, p_any = (
            (1 + (draws >= reached).sum(axis=0)) / (1 + DRAWS) for draws in (drawn, largest)
        )
        layers, heads = reached.shape[-2:]
        q = [benjamini_hochberg(part) for part in p.reshape(-1, layers * heads)]
        axes = {"control": CONTROLS, "weight": WEIGHTS, "step": STEPS, "distance": DISTANCES}
        axes |= {"layer": layers, "head": heads}
        chance = np.broadcast_to(np.quantile(largest, 1 - LEVEL, axis=0), reached.shape)
        rows = grid(
            axes, estimate=found.estimate, low=found.low, high=found.high,
            null=drawn.mean(axis=0), p=p, q=np.stack(q), p_any=p_any, largest_by_chance=chance,
            n=found.n,
        )  # fmt: skip
        return rows[rows["n"] > 0].reset_index(drop=True)

    def _layer_rows(self, own: "PerPrompt") -> pd.DataFrame:
        from lenses.states.meaning import CONTROLS, DISTANCES, STEPS, WEIGHTS
        from lenses.statistics.intervals import bootstrap

        axes = {"step": STEPS, "distance": DISTANCES, "layer": own["recency"].shape[-1]}
        means = bootstrap(_mean(own["each"], 1), self.seed)
        rows = grid({"control": CONTROLS, "weight": WEIGHTS, **axes}, **vars(means))
        recency = vars(bootstrap(own["recency"], self.seed))
        recent = grid({"control": CONTROLS[:1], "weight": ["recency"], **axes}, **recency)
        rows = pd.concat([rows, recent])
        return rows[rows["n"] > 0].reset_index(drop=True)

    def _against_random(
        self, model: "Model", texts: list[tuple[int, list[int]]], own: "PerPrompt"
    ) -> pd.DataFrame:
        """Per text, means over all heads: own weights less their null, then random weights."""
        from lenses.kept import PerPrompt
        from lenses.states.meaning import movement
        from models import untrained

        frames = [_claimed(own["each"], own["null"], "own")]
        for number in range(RANDOM_MODELS):
            twin, kept = untrained(model, self.seed + number), PerPrompt()
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            for batch in self.stream(self._batches(texts), kept, label):
                for _, ids in batch:
                    kept.update(**_summary(movement(twin, _tensor(ids, twin))))
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
            frames.append(_claimed(kept["each"], 0 * kept["each"], f"random {number}"))
        return pd.concat(frames, ignore_index=True)

    def claims(self, results: Results) -> list[Claim]:
        """Means over all heads, as they are and with position held fixed; then any single head."""
        prompts, rows = results.tables["prompts"], results.tables["against_random"]
        error, tolerance = prompts["output_error"].max(), TOLERANCE[self.dtype]
        decoded = Claim(
            kind="identity",
            sentence="The last state decodes to what the model says",
            estimate=error,
            n=len(prompts),
            unit=f"largest difference of log-probabilities (nats); tolerance {tolerance:g}",
            verdict="holds" if error <= tolerance else "fails",
        )
        means = [self._mean_claim(rows, *about) for about in ABOUT]
        return [decoded, *_corrected([*means, self._any_head(results)])]

    def _mean_claim(
        self, rows: pd.DataFrame, sentence: str, weight: str, control: str, step: str
    ) -> Claim:
        """That the mean over heads lies above its null, and above that in every random model.

        The second is judged on differences within texts. `p` is one-sided, that luck puts it above
        both: the larger of the two.
        """
        from lenses.statistics.against_random import above_zero_and_random

        said = {"kind": "mechanical", "sentence": sentence, "unit": f"{UNIT}, less its null"}
        part = rows[(rows["weight"] == weight) & (rows["control"] == control)]
        part = part[(part["step"] == step) & (part["distance"] == "divergence")]
        wide = part.pivot(index="prompt", columns="weights", values="excess").dropna()
        if len(wide) < 2:
            why = "at least two texts, and a model whose movements vary"
            return Claim(**said, estimate=0, n=len(wide), verdict="undecided", decide=why)
        random = wide.filter(like="random ").to_numpy().T
        found = above_zero_and_random(wide["own"].to_numpy(), random, self.seed)
        return Claim(
            **said,
            estimate=found.estimate,
            low=found.low,
            high=found.high,
            n=found.n,
            p=found.p,
            null=found.random.mean(),
            null_note=f"random weights, {RANDOM_MODELS} models; sources exchanged: subtracted",
            verdict=found.verdict,
            decide=DECIDE if found.verdict == "undecided" else "",
        )

    def _any_head(self, results: Results) -> Claim:
        """That the best head, position held fixed, is beyond the best of all heads by chance."""
        heads, rows = results.tables["heads"], results.tables["against_random"]
        chosen = "weight == 'attention' and control == 'position'"
        chosen += " and step == 'block' and distance == 'divergence'"
        best = heads.query(chosen).sort_values("estimate").iloc[-1]
        random = rows.query(chosen)
        random = random[random["weights"] != "own"].groupby("weights")["largest_head"].first().max()
        lucky, beaten = best["p_any"] > LEVEL, random >= best["estimate"]
        why = (
            "more texts" if lucky else "random models have such heads: more of them, or more texts"
        )
        return Claim(
            kind="mechanical",
            sentence="There is a head whose attention, position held fixed, goes with movement "
            f"(layer {best['layer']:.0f}, head {best['head']:.0f} at best)",
            unit=UNIT,
            estimate=best["estimate"],
            low=best["low"] if best["n"] > 1 else None,
            high=best["high"] if best["n"] > 1 else None,
            n=int(best["n"]),
            p=best["p_any"],
            null=best["largest_by_chance"],
            null_note="best of all heads, sources exchanged: 95 % are below; best with random "
            f"weights: {random:.2f}",
            verdict="undecided" if lucky or beaten else "holds",
            decide=why if lucky or beaten else "",
        )

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """Layers, heads, the nulls, and the best head on the first text."""
        return {
            **_layer_figures(results.tables["layers"]),
            **_head_figures(results.tables["heads"]),
            **_null_figures(results.tables["against_random"]),
            **_example_figures(results),
        }


UNIT = "rank correlation of attention with movement"
MORE = "In the mean over heads, the meaning moves more towards what is attended to more"
ABOUT = (
    (MORE, "attention", "none", "block"),
    (f"{MORE}, attention weighted by values", "value_weighted", "none", "block"),
    (f"{MORE}, position held fixed", "attention", "position", "block"),
    (f"{MORE}, by what attention alone changes", "attention", "none", "attention"),
)


def _tensor(ids: list[int], model: "Model"):
    import torch

    return torch.tensor(ids, device=model.cfg.device)


def _summary(found: "Movement") -> dict[str, np.ndarray]:
    """What is kept of a text, each with a first axis of one text."""
    from lenses.states.meaning import moves_with_weight, recency_moves

    as_it_is = np.arange(found.weight.shape[-1])[None]
    return {
        "each": moves_with_weight(found, as_it_is),
        "recency": recency_moves(found)[None],
        "output_error": np.array([found.output_error]),
    }


def _mean(values: np.ndarray, axes: int) -> np.ndarray:
    """Mean over the last axes where defined; NaN where nowhere."""
    over = tuple(range(-axes, 0))
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(over), known.sum(over)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _prompt_rows(
    model: "Model", texts: list[tuple[int, list[int]]], own: "PerPrompt"
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt": [number for number, _ in texts],
            "text": [model.tokenizer.decode(ids) for _, ids in texts],
            "tokens": [len(ids) for _, ids in texts],
            "output_error": own["output_error"],
        }
    )


def _claimed(each: np.ndarray, null: np.ndarray, weights: str) -> pd.DataFrame:
    """Mean over all heads per text, less its null; and the best head's mean over all texts."""
    from lenses.states.meaning import CONTROLS, DISTANCES, STEPS, WEIGHTS

    axes = {"prompt": len(each), "control": CONTROLS, "weight": WEIGHTS}
    axes |= {"step": STEPS, "distance": DISTANCES}
    best = np.nan_to_num(each).mean(axis=0).max(axis=(-2, -1))
    values = {"value": _mean(each, 2), "null": _mean(null, 2), "excess": _mean(each - null, 2)}
    rows = grid(axes, **values, largest_head=np.broadcast_to(best, (len(each), *best.shape)))
    rows.insert(0, "weights", weights)
    return rows.dropna().reset_index(drop=True)


def _corrected(claims: list[Claim]) -> list[Claim]:
    """The claims with p corrected over all that have one; what luck may explain does not hold."""
    from lenses.statistics.intervals import benjamini_hochberg

    tested = [claim for claim in claims if claim.p is not None]
    q = iter(benjamini_hochberg(np.array([claim.p for claim in tested])).tolist() if tested else [])
    return [claim if claim.p is None else _with_p(claim, next(q)) for claim in claims]


def _with_p(claim: Claim, p: float) -> Claim:
    lucky = claim.verdict == "holds" and p > LEVEL
    undecided = {"verdict": "undecided", "decide": "more texts: luck may explain it"}
    return claim.model_copy(update={"p": p} | (undecided if lucky else {}))


PANELS = {
    ("attention", "divergence"): "attention alone, decoded",
    ("block", "divergence"): "whole block, decoded",
    ("attention", "cosine"): "attention alone, cosine",
    ("block", "cosine"): "whole block, cosine",
}
LINES = {
    ("attention", "none"): "attention",
    ("value_weighted", "none"): "value-weighted",
    ("attention", "position"): "attention, position held",
    ("recency", "none"): "recency",
}


def _layer_figures(layers: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import curves

    line = [LINES.get(pair) for pair in zip(layers["weight"], layers["control"], strict=True)]
    panel = [PANELS[pair] for pair in zip(layers["step"], layers["distance"], strict=True)]
    rows = layers.assign(line=line, panel=panel, correlation=layers["estimate"])
    rows = rows.dropna(subset="line").sort_values("panel", key=lambda names: names.map(
        list(PANELS.values()).index), kind="stable")  # fmt: skip
    return {
        "Attention and movement by layer": curves(
            rows[["panel", "line", "layer", "correlation", "low", "high", "n"]], "layer",
            "correlation", series="line", facet="panel",
            caption="Rank correlation over sources of what is attended to with what the state "
            "moves towards, mean over heads: by attention alone or the whole block, in decoded "
            "distributions or in the cosine of states. Recency is what the source's position says "
            "without any attention. Bands: 95 % over texts.",
        )
    }  # fmt: skip


def _head_figures(heads: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import head_grid

    rows = heads.query("weight == 'attention' and step == 'block' and distance == 'divergence'")
    names = {"none": "as it is", "position": "position held fixed"}
    rows = rows.assign(control=rows["control"].map(names))
    return {
        "Each head": head_grid(
            rows[["layer", "head", "control", "estimate", "p_any", "n"]], "estimate",
            facet="control", label="rank correlation of attention with movement",
            caption="Rank correlation of each head's attention with the movement of the decoded "
            "state (whole block), as it is and with the source's position held fixed. The table "
            "says which are beyond the best of all heads by chance (p_any).",
        )
    }  # fmt: skip


def _null_figures(rows: pd.DataFrame) -> dict[str, "Drawing"]:
    from lenses.statistics.intervals import bootstrap
    from viz import bars

    rows = rows[(rows["step"] == "block") & (rows["distance"] == "divergence")]
    own = rows[rows["weights"] == "own"]
    kinds = {
        "these weights": own.assign(shown=own["value"]),
        "sources exchanged": own.assign(shown=own["null"]),
        "random weights": rows[rows["weights"] != "own"].assign(shown=lambda r: r["value"]),
    }
    found = []
    for kind, part in kinds.items():
        for (weight, control), cell in part.groupby(["weight", "control"]):
            ends = bootstrap(cell.groupby("prompt")["shown"].mean().to_numpy())
            said = weight.replace("_", "-") + (", position held" if control == "position" else "")
            found.append((kind, said, *(end.item() for end in vars(ends).values())))
    columns = ["kind", "attention", "correlation", "low", "high", "n"]
    return {
        "Beside the nulls": bars(
            pd.DataFrame(found, columns=columns), "attention", "correlation", series="kind",
            reference=0,
            caption="Mean over all heads and layers (whole block, decoded), beside the same with "
            "each source's meaning exchanged for another token's, and in models with random "
            "weights. 95 % intervals over texts.",
        )
    }  # fmt: skip


def _example_figures(results: Results) -> dict[str, "Drawing"]:
    """What the best head attends to on the first text, beside what its layer moves towards."""
    from viz import heat_map

    heads = results.tables["heads"].query(
        "weight == 'attention' and control == 'position' and step == 'block' "
        "and distance == 'divergence'"
    )
    if heads.empty:
        return {}
    best = heads.loc[heads["estimate"].idxmax()]
    layer, head = int(best["layer"]), int(best["head"])
    panels = {
        f"attention of layer {layer}, head {head}": results.arrays["attention"][layer, head],
        f"movement in layer {layer}": results.arrays["towards"][layer],
    }
    rows = pd.concat([_pairs(name, values) for name, values in panels.items()], ignore_index=True)
    text = results.tables["prompts"]["text"].iloc[0]
    return {
        "The best head on the first text": heat_map(
            rows, "token", "source", "share", facet="panel", diverging=True,
            label="share of the panel's largest value; positive: nearer",
            caption="Where each token (down, by position) attends, and which earlier tokens it "
            f"moves towards or away from, in the text “{text[:90]}”. The first token is no source.",
        )
    }  # fmt: skip


def _pairs(name: str, values: np.ndarray) -> pd.DataFrame:
    """Values of each token and its sources, as shares of the largest."""
    query, source = (axis.ravel() for axis in np.indices(values.shape))
    rows = pd.DataFrame({"panel": name, "token": query, "source": source, "value": values.ravel()})
    rows = rows[(source > 0) & (source < query)]
    largest = rows["value"].abs().max()
    return rows.assign(share=rows["value"] / largest if largest > 0 else 0.0)
