"""How, and how much, does each head contribute to what its attention block writes?"""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, FilePath

from experiments import Claim, Experiment, Results, UsageError
from experiments._contract.claims import Verdict
from lenses.statistics.grid import grid

if TYPE_CHECKING:
    from lenses.heads.contributions import Contributions
    from lenses.kept import PerPrompt
    from models import Model
    from viz import Drawing

PHASES = ("prompt", "generated")
RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, beside which every mechanical claim is shown. One
that is like them lies above all of them by luck in one of five cases."""
BY_LUCK = f"one more such model lies above all of them in 1 of {RANDOM_MODELS + 1} cases"
WRITTEN_AT_ONCE = 8
"""Texts that are continued together."""
DRAWS = 16
"""Draws of random directions per prompt."""
EXAMPLE_TOKENS = 64
"""Tokens of the first prompt whose attention is kept to be drawn."""
DRAWN_POINTS = 2_000
"""Points per phase in the scatter plot."""
LEVEL = 0.05
"""Of two-sided tests."""
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
"""Of identities, relative."""


class HeadContributions(Experiment):
    """A text is read once with its continuation, and each head is measured at each token.

    *prompt* tokens are given, *generated* ones are the model's own likeliest continuation (for an
    adder: the digits of its answer). What is estimated is estimated per prompt; intervals (95 %)
    come from resampling prompts, so with a single prompt `low` and `high` are missing, and
    `n` counts the prompts in which an estimate is defined. The p of a mechanical claim, by sign
    flips of prompts, is one-sided against its null and the highest random model (the larger of
    the two), corrected over all such claims (Benjamini & Hochberg 1995).

    Tables: `prompts` (what was read; errors of the identities), `contributions` (every measure at
    every token; where l1_proximity_defined or attention_entropy_defined is false the measure is 0),
    `heads` (means over tokens), `correlations` (of cosine with L2 norm; `null`: the same lengths in
    random directions; `p` of the difference, by sign flips of prompts; `q`: corrected over the
    table), `correlations_adjusted` (position and surprisal held fixed), `components` (shares of
    the sum named in `whole`), `head_spread` (per layer: variance of lengths over heads, entropy of
    their shares, Var(sum) / sum of Var over tokens, mean gain of W_O), `gains` (singular values of
    each W_O) and `against_random` (the estimates per prompt behind the claims, and the same with
    random weights).
    """

    prompts: tuple[str, ...] = ()
    """Texts to read; without any, shipped ones of many kinds (adders: sampled additions)."""
    prompts_file: FilePath | None = None
    """A text file with more of them, one a line."""
    new_tokens: int = Field(20, ge=0)
    """Tokens the model adds to each text (an adder: as many digits as its answer has)."""
    include_first: bool = False
    """Count each text's first token, the usual sink of attention, in means and claims."""
    additions: int = Field(64, ge=1)
    """Additions sampled for an adder."""
    batch_size: int = Field(4, ge=1)
    """Texts in one forward pass."""

    def measure(self, model: "Model") -> Results:
        """Write the continuations, then read all of it once, and once per random model."""
        from lenses.heads.contributions import attention_patterns
        from lenses.kept import PerPrompt

        texts = self._continued(model, self._texts(model))
        contributions, components = self.rows("contributions"), self.rows("components")
        own, told = PerPrompt(), "reading"
        for batch in self.stream(self._batches(texts), (contributions, components, own), told):
            for text, one in self._read(model, batch):
                tokens = _token_rows(model, text)
                contributions.append(_contribution_rows(tokens, one))
                components.append(_component_rows(tokens, one))
                own.update(**self._summary(model, text, one))
        example = np.array(texts[0].ids[:EXAMPLE_TOKENS])
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own),
                "contributions": contributions,
                "components": components,
                "heads": self._head_rows(own),
                "correlations": self._correlation_rows(own, adjusted=False),
                "correlations_adjusted": self._correlation_rows(own, adjusted=True),
                "head_spread": self._spread_rows(own, model),
                "gains": _gain_rows(model),
                "against_random": self._against_random(model, texts, own),
            },
            arrays={"pattern": attention_patterns(model, _tensor(example, model)).numpy()},
        )

    def _texts(self, model: "Model") -> list["_Text"]:
        """What the model is given, as tokens, without its continuation."""
        from models.text import tokenize
        from prompts.texts import Text, shipped_texts, texts_in

        given = [Text("given", text) for text in self.prompts]
        if self.prompts_file:
            given += texts_in(self.prompts_file)
        if not given and model.card.arithmetic:
            return self._sampled_additions(model)
        tokenized = [(t.kind, tokenize(model, t.text)) for t in given or shipped_texts()]
        texts = [_Text(i, kind, ids, []) for i, (kind, ids) in enumerate(tokenized)]
        for text in texts:
            needed = len(text.given) + self._new_tokens(model)
            if not text.given or needed > model.cfg.n_ctx:
                raise UsageError(
                    f"prompt {text.number}: {needed} tokens with its continuation, but "
                    f"{model.card.name} reads 1 to {model.cfg.n_ctx}; shorten it or --new-tokens"
                )
        return texts

    def _sampled_additions(self, model: "Model") -> list["_Text"]:
        from prompts.additions import Addition

        form = model.card.arithmetic
        sums = Addition(form.digits, self.additions, self.seed, padded=form.pad).sums
        written = form.write(sums)
        rows = zip(written.tokens.tolist(), written.prompt.tolist(), strict=True)
        return [_Text(i, "addition", row[:start], []) for i, (row, start) in enumerate(rows)]

    def _new_tokens(self, model: "Model") -> int:
        form = model.card.arithmetic
        return min(self.new_tokens, form.digits + 1) if form else self.new_tokens

    def _batches(self, texts: Sequence["_Text"]) -> list[Sequence["_Text"]]:
        return [texts[i : i + self.batch_size] for i in range(0, len(texts), self.batch_size)]

    def _continued(self, model: "Model", texts: list["_Text"]) -> list["_Text"]:
        """The texts with what the model adds to them."""
        from lenses.kept import PerPrompt
        from models.text import continue_text

        count, written = self._new_tokens(model), PerPrompt()
        batches = [texts[i : i + WRITTEN_AT_ONCE] for i in range(0, len(texts), WRITTEN_AT_ONCE)]
        for batch in self.stream(batches, written, "writing"):
            for new in continue_text(model, [text.given for text in batch], count):
                written.update(new=np.array([new + [-1] * (count - len(new))], dtype=np.int64))
        new = [[token for token in row if token >= 0] for row in written["new"].tolist()]
        return [replace(text, new=more) for text, more in zip(texts, new, strict=True)]

    def _read(
        self, model: "Model", batch: Sequence["_Text"]
    ) -> list[tuple["_Text", "Contributions"]]:
        """Each text of a batch with what its forward pass says."""
        import torch

        from lenses.heads.contributions import contributions
        from models.text import right_pad

        tokens, lengths = right_pad([text.ids for text in batch])
        group = torch.full(tokens.shape, -1)
        for row, text in zip(group, batch, strict=True):
            for number, chosen in enumerate(self._chosen(text)):
                row[: len(chosen)][torch.from_numpy(chosen)] = number
        device = model.cfg.device
        found = contributions(model, tokens.to(device), group.to(device)).cpu()
        lengths = lengths.tolist()
        read = [(text, found.prompt(i, lengths[i])) for i, text in enumerate(batch)]
        for text, one in read:
            if not one.output_error.isfinite().all():
                raise UsageError(
                    f"prompt {text.number}: {model.card.name} overflows in {self.dtype}; "
                    "use --dtype float32 or bfloat16"
                )
        return read

    def _chosen(self, text: "_Text") -> np.ndarray:
        """Which tokens count in means and claims, by phase [phase pos]."""
        counted = np.arange(len(text.ids)) >= (0 if self.include_first else 1)
        return np.stack([~text.generated & counted, text.generated & counted])

    def _summary(self, model: "Model", text: "_Text", one: "Contributions") -> dict:
        """What is kept of a prompt: its estimates, each with a first axis of one prompt."""
        from lenses.heads.means import head_means, head_spreads

        chosen = self._chosen(text)
        kept = {
            "heads": head_means(one, chosen),
            "spreads": head_spreads(one, chosen),
            "agreement": self._agreement(model, text, one),
            "output_error": one.output_error.max().numpy(),
            "attention_error": (one.attention_sum - 1).abs().max().numpy(),
        }
        return {name: value[None] for name, value in kept.items()}

    def _agreement(
        self, model: "Model", text: "_Text", one: "Contributions", **only: tuple[str, ...]
    ) -> np.ndarray:
        from lenses.heads.agreement import prompt_agreement
        from lenses.statistics.random_directions import random_direction_cosines

        rng = np.random.default_rng([self.seed, text.number])
        lengths = one.l2_norm[0].numpy()
        null = random_direction_cosines(lengths, model.cfg.d_model, DRAWS, rng)
        cosine, surprisal = one.cosine[0].numpy(), one.surprisal[0].numpy().astype(float)
        return prompt_agreement(cosine, lengths, null, surprisal, text.generated, **only)

    def _head_rows(self, own: "PerPrompt") -> pd.DataFrame:
        from lenses.heads.means import HEAD_MEASURES
        from lenses.statistics.intervals import bootstrap

        found = bootstrap(own["heads"], self.seed)
        layers, heads = found.n.shape[2:]
        axes = {"measure": HEAD_MEASURES, "phase": PHASES, "layer": layers, "head": heads}
        return grid(axes, **vars(found)).query("n > 0").reset_index(drop=True)

    def _correlation_rows(self, own: "PerPrompt", *, adjusted: bool) -> pd.DataFrame:
        from lenses.heads.agreement import LEVELS, PHASES
        from lenses.statistics.correlations import CORRELATIONS
        from lenses.statistics.intervals import benjamini_hochberg, bootstrap, sign_flip

        agreement = own["agreement"][:, 2:] if adjusted else own["agreement"][:, :2]
        estimate, null = agreement[..., 0], agreement[..., 1]
        axes = {
            "first_token": [False] if adjusted else [True, False],
            "phase": PHASES,
            "aggregation": LEVELS,
            "method": tuple(CORRELATIONS),
        }
        values = vars(bootstrap(estimate, self.seed))
        values["null"] = bootstrap(null, self.seed).estimate
        values["difference"] = values["estimate"] - values["null"]
        values["p"] = sign_flip(estimate - null, self.seed)
        rows = grid(axes, **values).query("n > 0").reset_index(drop=True)
        rows["q"] = benjamini_hochberg(rows["p"].to_numpy())
        first = ["aggregation", "phase", "method", "first_token"]
        return rows[[*first, *(name for name in values if name != "n"), "q", "n"]]

    def _spread_rows(self, own: "PerPrompt", model: "Model") -> pd.DataFrame:
        from lenses.heads.contributions import output_gain
        from lenses.heads.means import SPREADS
        from lenses.statistics.intervals import bootstrap

        found = bootstrap(own["spreads"], self.seed)
        gain = output_gain(model).square().mean(dim=-1).sqrt().mean(dim=-1).numpy()
        values = {"n": found.n[0], "gain_of_w_o": np.broadcast_to(gain, found.n.shape[1:])}
        for i, name in enumerate(SPREADS):
            values |= {name: found.estimate[i], f"{name}_low": found.low[i]}
            values |= {f"{name}_high": found.high[i]}
        axes = {"phase": PHASES, "layer": len(gain)}
        return grid(axes, **values).query("n > 0").reset_index(drop=True)

    def _against_random(
        self, model: "Model", texts: list["_Text"], own: "PerPrompt"
    ) -> pd.DataFrame:
        """The per-prompt numbers behind the mechanical claims: own weights, then random ones."""
        from lenses.statistics.correlations import CORRELATIONS
        from models import untrained

        spearman = list(CORRELATIONS).index("spearman")
        frames = [self._claimed(own["spreads"], own["agreement"][..., spearman, :], "own", model)]
        for number in range(RANDOM_MODELS):
            twin = untrained(model, self.seed + number)
            kept = self._read_random(twin, texts, f"random weights {number + 1}/{RANDOM_MODELS}")
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
            agreement = kept["agreement"][..., 0, :]
            frames.append(self._claimed(kept["spreads"], agreement, f"random {number}", model))
        return pd.concat(frames, ignore_index=True)

    def _read_random(self, twin: "Model", texts: list["_Text"], label: str) -> "PerPrompt":
        from lenses.heads.means import head_spreads
        from lenses.kept import PerPrompt

        kept = PerPrompt()
        for batch in self.stream(self._batches(texts), kept, label):
            for text, one in self._read(twin, batch):
                spreads = head_spreads(one, self._chosen(text))[None]
                agreement = self._agreement(twin, text, one, methods=("spearman",), within=PHASES)[
                    None
                ]
                kept.update(spreads=spreads, agreement=agreement)
        return kept

    def _claimed(
        self, spreads: np.ndarray, agreement: np.ndarray, weights: str, model: "Model"
    ) -> pd.DataFrame:
        """One row per prompt and statistic; `null` is what its stated null gives."""
        from lenses.heads.agreement import LEVELS

        rises = agreement[:, :, 1] - agreement[:, :, 0]  # prompt control level kind
        controls = {"none": rises[:, 0 if self.include_first else 1], "adjusted": rises[:, 2]}
        columns = {
            ("agreement_rise", level, control): rise[:, i]
            for control, rise in controls.items()
            for i, level in enumerate(LEVELS)
        }
        evenness = spreads[:, 1] / np.log(max(model.cfg.n_heads, 2))
        columns |= {
            ("unevenness", "layer", "none"): _without_null(1 - _mean(evenness)),
            ("log_variance_ratio", "layer", "none"): _without_null(_mean(_log(spreads[:, 2]))),
        }
        frames = [
            pd.DataFrame(dict(zip(("statistic", "aggregation", "control"), key, strict=True)) | {
                "weights": weights, "prompt": np.arange(len(value)),
                "value": value[:, 0], "null": value[:, 1],
            })
            for key, value in columns.items()
        ]  # fmt: skip
        return pd.concat(frames, ignore_index=True).dropna().reset_index(drop=True)

    def claims(self, results: Results) -> list[Claim]:
        """Two identities, and three mechanical claims as differences from their nulls."""
        prompts, rows = results.tables["prompts"], results.tables["against_random"]
        keyed = dict(list(rows.groupby(["statistic", "aggregation", "control"])))
        mechanical = [
            *self._agreement_claims(keyed),
            self._spread_claim(keyed.get(("unevenness", "layer", "none")), "unevenness"),
            self._spread_claim(keyed.get(("log_variance_ratio", "layer", "none")), "variance"),
        ]
        return [
            self._identity("The heads and the bias sum to the block's output",
                           prompts["output_error"]),
            self._identity("Each head's attention row sums to 1", prompts["attention_error"]),
            *_corrected(mechanical),
        ]  # fmt: skip

    def _identity(self, sentence: str, errors: pd.Series) -> Claim:
        tolerance = TOLERANCE[self.dtype]
        return Claim(
            kind="identity",
            sentence=sentence,
            estimate=errors.max(),
            n=len(errors),
            unit=f"largest relative error; tolerance {tolerance:g}",
            verdict="holds" if errors.max() <= tolerance else "fails",
        )

    def _agreement_claims(self, keyed: dict[tuple[str, str, str], pd.DataFrame]) -> list[Claim]:
        said = "Cosine and L2 norm agree more on generated tokens than on the prompt"
        at = {"token": "token by token", "layer_head": "head by head", "head": "by head number"}
        held = {"none": "", "adjusted": ", position and surprisal held fixed"}
        return [
            self._claim(
                f"{said}, {at[level]}{held[control]}",
                keyed.get(("agreement_rise", level, control)),
                unit="rise of Spearman's correlation, less the rise in random directions",
                stated="same lengths in random directions subtracted",
            )
            for control in held
            for level in at
        ]

    def _spread_claim(self, rows: pd.DataFrame | None, which: str) -> Claim:
        if which == "unevenness":
            unit = "1 - entropy of norm shares / log(heads); 0 = all equal"
            return self._claim("Heads are not weighted equally", rows, unit=unit, stated="equal: 0")
        return self._claim(
            "Heads reduce each other's variance",
            rows,
            sign=-1,
            scale=np.exp,
            unit="Var(sum) / sum of Var, geometric mean over layers; 1 = independent heads",
            stated="heads that vary independently: 1",
        )

    def _claim(
        self,
        sentence: str,
        rows: pd.DataFrame | None,
        *,
        unit: str,
        stated: str,
        sign: Literal[1, -1] = 1,
        scale: Callable = np.asarray,
    ) -> Claim:
        """That a statistic lies beyond its stated null, and beyond it in every random model.

        The second is judged on differences within prompts. `p` is one-sided, that luck puts it
        beyond both its null and the highest random model: the larger of the two.
        """
        from lenses.statistics.intervals import bootstrap, sign_flip

        said = {"kind": "mechanical", "sentence": sentence, "unit": unit}
        effects = _effects(rows, sign)
        if effects.empty:
            why = "no prompt has an estimate: it takes generated tokens, longer texts or more heads"
            return Claim(**said, estimate=0, n=0, verdict="undecided", decide=why)
        compared = effects[["own", "above", "below"]].to_numpy()
        found = [*vars(bootstrap(compared, self.seed)).values(), sign_flip(compared, self.seed)]
        own, above, below = (_Ends(*each) for each in zip(*found, strict=True))
        random = scale(effects.filter(like="random ").mean() * sign)
        low, high = sorted(scale(sign * np.array([own.low, own.high])))
        span = f"{random.min():.3g} to {random.max():.3g}"
        verdict, decide = _verdict(own, above, below)
        return Claim(
            **said,
            estimate=scale(sign * own.estimate),
            low=None if np.isnan(low) else low,
            high=None if np.isnan(high) else high,
            n=len(effects),
            p=max(own.luck, above.luck),
            null=random.mean(),
            null_note=f"random weights, {len(random)} models: {span} ({BY_LUCK}); {stated}",
            verdict=verdict,
            decide=decide,
        )

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """Agreement first, then each measure by head, then one text."""
        return {
            **self._agreement_figures(results),
            **_head_figures(results),
            **_layer_figures(results),
            **_text_figures(results),
        }

    def _agreement_figures(self, results: Results) -> dict[str, "Drawing"]:
        from viz import bars, scatter

        found = results.tables["correlations"].query("first_token == @self.include_first")
        nulls = found.assign(estimate=found.null, low=np.nan, high=np.nan)
        both = pd.concat(
            [found.assign(heads="as they are"), nulls.assign(heads="random directions")]
        )
        both = both[both.method == "spearman"]
        both = both.assign(level=both.aggregation + ", " + both.phase)
        both = both.sort_values(["aggregation", "heads"], ascending=[False, True], kind="stable")
        counted = results.tables["contributions"]
        counted = counted[(counted.pos > 0) | self.include_first]
        points = pd.concat([_sample(counted[counted.phase == p], self.seed) for p in PHASES])
        beside = found[(found.aggregation == "token") & found.phase.isin(PHASES)]
        return {
            "Agreement of cosine and L2 norm": bars(
                both[["level", "heads", "estimate", "low", "high", "n"]], "level", "estimate",
                series="heads",
                caption="Spearman's correlation of cosine with L2 norm by level and phase, beside "
                "what the same lengths give in random directions. Only the gap between the two is "
                "about the model. Bars: 95 % intervals over prompts.",
            ),
            "Cosine against L2 norm": scatter(
                points[["phase", "layer", "head", "prompt", "pos", "l2_norm", "cosine"]],
                "l2_norm", "cosine", facet="phase", correlations=beside,
                caption=f"A point is a head at a token (at most {DRAWN_POINTS:,} drawn at random "
                "per phase). The correlations are means over prompts of all their points.",
            ),
        }  # fmt: skip


@dataclass(frozen=True)
class _Text:
    """A text as tokens: what was given, and what the model added."""

    number: int
    kind: str
    given: list[int]
    new: list[int]

    @property
    def ids(self) -> list[int]:
        return self.given + self.new

    @property
    def generated(self) -> np.ndarray:
        return np.arange(len(self.ids)) >= len(self.given)


class _Ends(NamedTuple):
    """An estimate with its interval over `n` prompts, and p of "it is zero" (sign flips)."""

    estimate: float
    low: float
    high: float
    n: int
    p: float

    @property
    def luck(self) -> float:
        """One-sided p of "it is not above zero"."""
        return self.p / 2 if self.estimate > 0 else 1 - self.p / 2

    @property
    def side(self) -> int:
        """On which side of zero it lies: 1 or -1 where interval and p agree, else 0.

        With few prompts the percentile interval is a little short; p is exact.
        """
        apart = (self.low > 0 or self.high < 0) and self.p <= LEVEL
        return int(np.sign(self.estimate)) if apart else 0


def _tensor(ids: np.ndarray, model: "Model"):
    import torch

    return torch.from_numpy(ids).to(model.cfg.device)


def _token_rows(model: "Model", text: _Text) -> pd.DataFrame:
    from models.text import token_strings

    return pd.DataFrame(
        {
            "prompt": text.number,
            "pos": np.arange(len(text.ids)),
            "token_id": text.ids,
            "token": token_strings(model, text.ids),
            "phase": np.where(text.generated, *reversed(PHASES)),
        }
    )


def _repeated(tokens: pd.DataFrame, **axes: int | Sequence) -> pd.DataFrame:
    """Each token's row once for every combination of the axes."""
    inner = grid(axes)
    rows = tokens.loc[tokens.index.repeat(len(inner))].reset_index(drop=True)
    return pd.concat([rows, pd.concat([inner] * len(tokens), ignore_index=True)], axis=1)


def _contribution_rows(tokens: pd.DataFrame, one: "Contributions") -> pd.DataFrame:
    from lenses.heads.means import HEAD_MEASURES

    layers, heads = one.l2_norm.shape[2:]
    rows = _repeated(tokens, layer=layers, head=heads)
    values = {name: getattr(one, name).numpy().ravel() for name in HEAD_MEASURES}
    for name in ("l1_proximity_defined", "attention_entropy_defined"):
        values[name] = getattr(one, name).numpy().ravel().repeat(heads)
    return rows.assign(**values)


def _component_rows(tokens: pd.DataFrame, one: "Contributions") -> pd.DataFrame:
    """Shares of the block's output, and of what attention writes; each sums to 1."""
    from lenses.heads.contributions import COMPONENTS

    layers = one.component_share.shape[2]
    block = _repeated(tokens, layer=layers, component=COMPONENTS, whole=["resid_post"]).assign(
        share=one.component_share.numpy().ravel(), l2_norm=one.component_norm.numpy().ravel()
    )
    bias = one.bias_share[0].numpy()
    written = _repeated(tokens, layer=layers, component=COMPONENTS[:2], whole=["attn_out"])
    written = written.assign(
        share=np.stack([1 - bias, bias], axis=-1).ravel(),
        l2_norm=one.component_norm[0, :, :, :2].numpy().ravel(),
    )
    return pd.concat([block, written], ignore_index=True)


def _prompt_rows(model: "Model", texts: list[_Text], own: "PerPrompt") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prompt": [text.number for text in texts],
            "kind": [text.kind for text in texts],
            "given": [model.tokenizer.decode(text.given) for text in texts],
            "generated": [model.tokenizer.decode(text.new) for text in texts],
            "given_tokens": [len(text.given) for text in texts],
            "generated_tokens": [len(text.new) for text in texts],
            "output_error": own["output_error"],
            "attention_error": own["attention_error"],
        }
    )


def _gain_rows(model: "Model") -> pd.DataFrame:
    from lenses.heads.contributions import output_gain

    singular = output_gain(model).numpy()
    return grid(
        {"layer": singular.shape[0], "head": singular.shape[1]},
        largest=singular[..., 0],
        root_mean_square=np.sqrt((singular**2).mean(axis=-1)),
        smallest=singular[..., -1],
    )


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over phases and layers of [prompt phase layer] where defined, NaN where nowhere."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    total, count = np.where(known, flat, 0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, count, out=np.full(len(flat), np.nan), where=count > 0)


def _log(ratio: np.ndarray) -> np.ndarray:
    return np.log(ratio, out=np.full_like(ratio, np.nan), where=ratio > 0)


def _without_null(values: np.ndarray) -> np.ndarray:
    """Values beside a stated null of zero."""
    return np.stack([values, np.zeros_like(values)], axis=1)


def _effects(rows: pd.DataFrame | None, sign: int) -> pd.DataFrame:
    """Per prompt, times `sign`: each model's excess over its null, and own over random weights.

    `above` is the difference from the random model with the highest mean, `below` from that with
    the lowest.
    """
    if rows is None:
        return pd.DataFrame()
    excess = rows.assign(excess=sign * (rows["value"] - rows["null"]))
    wide = excess.pivot(index="prompt", columns="weights", values="excess").dropna()
    random = wide.filter(like="random ")
    highest, lowest = (random[end] for end in (random.mean().idxmax(), random.mean().idxmin()))
    return wide.assign(above=wide["own"] - highest, below=wide["own"] - lowest)


def _verdict(own: _Ends, above: _Ends, below: _Ends) -> tuple[Verdict, str]:
    """Holds beyond the null and every random model; fails short of the null or of all of them."""
    if np.isnan(own.low):
        return "undecided", "a single prompt has no interval; give at least two"
    if own.side < 0 or below.side < 0:
        return "fails", ""
    if own.side > 0 and above.side > 0:
        return "holds", ""
    against = [_needed(ends) for ends in (own, below) if ends.estimate <= 0]
    if not against and above.estimate <= 0:
        return "undecided", "it lies among the random models; more of those could tell them apart"
    needed = min(against) if against else max(_needed(own), _needed(above))
    if needed > 100_000:
        return "undecided", "the effect is too near zero for any affordable number of prompts"
    return "undecided", f"about {needed:,} prompts like these, if the estimates stay as they are"


def _corrected(claims: list[Claim]) -> list[Claim]:
    """The claims with p corrected over all that have one; what luck may explain does not hold."""
    from lenses.statistics.intervals import benjamini_hochberg

    tested = [claim for claim in claims if claim.p is not None]
    q = iter(benjamini_hochberg(np.array([claim.p for claim in tested])).tolist())
    return [claim if claim.p is None else _with_p(claim, next(q), len(tested)) for claim in claims]


def _with_p(claim: Claim, p: float, tests: int) -> Claim:
    lucky = claim.verdict == "holds" and p > LEVEL
    decide = f"more prompts: among {tests} claims luck may explain this one"
    return claim.model_copy(
        update={"p": p} | ({"verdict": "undecided", "decide": decide} if lucky else {})
    )


def _needed(ends: _Ends) -> int:
    """Prompts at which the same estimate, as scattered, would be told from zero (normal theory)."""
    normal = NormalDist()
    reached, wanted = (max(normal.inv_cdf(1 - p / 2), 1e-3) for p in (ends.p, LEVEL))
    return max(ends.n + 1, int(np.ceil(ends.n * (wanted / reached) ** 2)))


def _sample(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    return rows.sample(min(len(rows), DRAWN_POINTS), random_state=seed)


MEANINGS = {
    "l2_norm": "Length of what the head writes.",
    "cosine": "Cosine of what the head writes with what all heads write together.",
    "closeness": "1 - the relative distance between the head's output and that of all heads.",
    "projection_share": "Signed share of the heads' sum; the heads of a layer sum to 1.",
    "norm_share": "Length of the head's output over the sum of lengths in its layer.",
    "l1_proximity": "How much nearer, in L1, the head brings to the sum; shares of a layer.",
    "attention_entropy": "Entropy of the head's attention rows, in nats.",
    "attention_entropy_share": "Entropy of attention rows as a share of its most, log(keys).",
}


def _head_figures(results: Results) -> dict[str, "Drawing"]:
    from viz import head_grid

    parts = dict(list(results.tables["heads"].groupby("measure")))
    return {
        f"{name} of each head".replace("_", " ").capitalize(): head_grid(
            parts[name][["layer", "head", "phase", "estimate"]], "estimate", facet="phase",
            label=name, caption=f"{meaning} Means over tokens, then prompts.",
        )
        for name, meaning in MEANINGS.items() if name in parts
    }  # fmt: skip


def _layer_figures(results: Results) -> dict[str, "Drawing"]:
    from viz import curves

    spread = results.tables["head_spread"].rename(
        columns={"variance_ratio_low": "low", "variance_ratio_high": "high"}
    )
    whole = results.tables["components"].query("whole == 'resid_post' and pos > 0")
    shares = whole.groupby(["phase", "layer", "component"], as_index=False)["share"].mean()
    shares = shares.sort_values("phase", ascending=False, kind="stable")  # the prompt comes first
    return {
        "Variance of the sum of heads": curves(
            spread.dropna(subset="variance_ratio"), "layer", "variance_ratio", series="phase",
            caption="Variance over tokens of the heads' sum over the sum of the heads' variances: "
            "1 for heads that vary independently, below 1 where they cancel.",
        ),
        "What a block's output is made of": curves(
            shares, "layer", "share", series="component", facet="phase",
            caption="Share of the block's output (projection; they sum to 1) of what entered it "
            "(residual), its heads, its output bias and its MLP. Means over all tokens but first.",
        ),
    }  # fmt: skip


def _text_figures(results: Results) -> dict[str, "Drawing"]:
    """The first text, in the layer where the heads' shares are least equal."""
    from viz import along_text, attention_patterns, colored_tokens

    layer = _least_equal_layer(results)
    rows = results.tables["contributions"].query("prompt == 0 and layer == @layer")
    shares = rows[["head", "pos", "token", "phase", "norm_share"]].sort_values(["head", "pos"])
    head = int(shares.groupby("head")["norm_share"].mean().idxmax())
    text = shares[shares["head"] == head]
    pattern = results.arrays["pattern"][layer]
    axes = dict(zip(("layer", "head", "query", "key"), (1, *pattern.shape), strict=True))
    pairs = grid(axes, attention=pattern).query("query >= key").assign(layer=layer)
    whole = results.tables["components"].query("prompt == 0 and whole == 'resid_post'")
    attention = whole[whole["component"] == "attention"]
    return {
        "Tokens by contribution": colored_tokens(
            text, "norm_share",
            caption=f"The first text, coloured by head {head}'s share of the lengths in layer "
            f"{layer}, the layer whose heads are least equal.",
        ),
        "Attention": attention_patterns(
            pairs, text["token"].tolist()[: pattern.shape[-1]],
            caption=f"Attention in layer {layer}. Each row sums to 1 for each head by itself.",
        ),
        "Heads along the text": along_text(
            shares, "norm_share", rows="head",
            caption=f"Each head's share of the lengths in layer {layer}, along the first text.",
        ),
        "Attention along the text": along_text(
            attention[["layer", "pos", "token", "phase", "share"]], "share",
            caption="Share of each block's output that its heads write, along the first text.",
        ),
    }  # fmt: skip


def _least_equal_layer(results: Results) -> int:
    spread = results.tables["head_spread"]
    return int(spread.groupby("layer")["share_entropy"].mean().idxmin())
