"""How, and how much, does each head contribute to what its layer's attention writes?"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments import Claim, Estimate, Reading, Results, Table, TextStudy, UsageError, corrected
from lenses.heads import contributions as lens
from lenses.heads.agreement import LEVELS, prompt_agreement
from lenses.heads.agreement import PHASES as SPANS
from lenses.heads.contributions import Contributions, HeadMeasures
from lenses.heads.means import (
    HEAD_MEASURES,
    SPREADS,
    head_means,
    head_spreads,
    mean_where_known,
    means_by_prompt,
    with_difference,
)
from lenses.heads.token_rows import (
    component_rows,
    contribution_rows,
    means_by,
    of_first_prompts,
    sample_of_phases,
)
from lenses.kept import PerPrompt
from lenses.statistics.against_random import one_more_model, random_models
from lenses.statistics.correlations import CORRELATIONS
from lenses.statistics.grid import grid
from lenses.statistics.intervals import Intervals, benjamini_hochberg, bootstrap, sign_flip
from lenses.statistics.random_directions import random_direction_cosines
from lenses.texts import ReadText, continued, sampled_additions, texts_to_read
from models.text import right_pad, token_strings
from prompts.texts import shipped_texts
from viz import (
    HeadText,
    along_text,
    attention_patterns,
    bars,
    curves,
    head_explorer,
    scatter,
)

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing

PHASES = ("prompt", "generated")
RANDOM_MODELS = 4
"""Models of the same shape with random weights, beside which every mechanical claim is shown."""
DRAWS = 16
"""Draws of random directions per prompt."""
EXAMPLE_TOKENS = 64
"""Tokens of the first prompt whose attention is kept to be drawn."""
NAME = "L{}H{}"
DRAWN_POINTS = 2_000
"""Points per phase in the scatter plot."""
LEVEL = 0.05
"""Of two-sided tests."""
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
"""Of identities, relative."""
LEVEL_WORDS = {"token": "token by token", "layer_head": "head by head", "head": "by head number"}
SPAN_WORDS = {"first_10": "first 10", "last_10": "last 10"}
PART_WORDS = {"attention": "heads", "b_O": "output bias", "mlp": "MLP", "residual": "what came in"}
EXPLORED_PROMPTS = 6
"""Texts that the explorer also shows one by one."""
CORRELATION_TABLE = Table(
    "A row is the correlation of cosine with L2 norm over the points of one level.",
    key="aggregation phase method first_token",
    columns={
        "aggregation": "what a point is: head at a token, head (`layer_head`), head number",
        "phase": "`prompt`, `generated`, or an end of the text: `first_10`, `last_10`",
        "method": "pearson, spearman or kendall",
        "null": "the same with the lengths kept and the directions random",
        "difference": "estimate minus null",
        "p": "p-value of the difference, from flipping signs of prompts",
    },
    more="estimate low high q n",
)
SPREAD_COLUMNS = {
    f"{name}{end}": about if not end else f"its {end[1:]} end, 95 % interval"
    for name, about in {
        "length_variance": "variance of the lengths over heads",
        "share_entropy": "entropy of the heads' shares of length, in nats",
        "variance_ratio": "variance of the heads' sum over the sum of their variances",
    }.items()
    for end in ("", "_low", "_high")
}


class HeadContributions(TextStudy):
    """While a model reads a text and goes on with it, what each attention head adds is measured:
    how long that vector is, and how much of its layer's sum it makes.

    *Prompt* tokens are given; *generated* tokens are the likeliest continuation that the model
    writes (an adder: its answer). Numbers are computed for each prompt first; 95 % intervals
    resample prompts. p is one-sided, the largest of those of the null and the highest random model
    (prompts' signs are flipped) and of one more random model, corrected over mechanical claims.
    """

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": Table(
            "A row is a text that the model read.", key="prompt",
            columns={"kind": "what kind of text it is", "given": "the text as given",
                     "generated": "what the model added",
                     "attention_error": "largest distance of an attention row's sum from 1"},
            more="given_tokens generated_tokens output_error"),
        "contributions": Table(
            "A row is a head at a token.", key="prompt pos layer head",
            columns={"attention_entropy_share": "attention entropy over its maximum, log(keys)",
                     "l1_proximity_defined": "false where no head comes nearer; 0 is then written",
                     "attention_entropy_defined": "false for a single key; 0 is then written"},
            more="token_id token phase l2_norm cosine closeness projection_share norm_share "
            "l1_proximity attention_entropy"),
        "components": Table(
            "A row is a part of what a layer hands on, or its attention alone writes, at a token.",
            key="whole prompt pos layer component",
            columns={"whole": "the sum of the parts: `resid_post` (layer), `attn_out` (attention)",
                     "component": "the part: attention, its bias b_O, MLP, residual before it",
                     "share": "share of the whole by projection; the parts sum to 1"},
            more="token_id token phase l2_norm"),
        "heads": Table(
            "A row is a measure of a head, a mean over tokens and then over prompts.",
            key="measure phase layer head", more="estimate low high n",
            columns={"measure": "a column of the table contributions"}),
        "correlations": CORRELATION_TABLE,
        "correlations_adjusted": CORRELATION_TABLE,
        "head_spread": Table(
            "A row is a layer: how its heads differ, and whether they cancel.",
            key="phase layer", more="n",
            columns={"gain_of_w_o": "root mean square singular value of W_O, mean over heads",
                     **SPREAD_COLUMNS}),
        "gains": Table(
            "A row is a head: the singular values of its W_O.", key="layer head",
            columns={"largest": "largest singular value", "smallest": "smallest singular value",
                     "root_mean_square": "root mean square of the singular values"}),
        "against_random": Table(
            "A row is a statistic of a prompt, with the model's own weights or random ones.",
            key="statistic aggregation control weights prompt",
            columns={
                "statistic": "`agreement_rise` (Spearman's correlation of cosine with L2 norm, "
                "generated minus prompt), `unevenness` (of lengths) or `log_variance_ratio`",
                "aggregation": "level of the statistic, as in the table correlations, or `layer`",
                "control": "`adjusted` where position and surprisal are held fixed, else `none`",
                "value": "the statistic", "null": "the same under its null"}),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="No: what heads write is measured as it is; nothing is removed or exchanged.",
        assumes="The length and the direction of what a head writes say how much it contributes.",
        stressed="The parts sum to what attention writes; agreement of cosine and length is held "
        "against random directions and random weights.",
        not_shown="That a head with long vectors matters for the answer: later layers may ignore "
        "or cancel them (head_importance removes heads).",
    )

    runs_on: ClassVar[str] = "adder 15 s, language model 1 min"
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
        texts = self._texts(model)
        per_token, components = self.rows("contributions"), self.rows("components")
        own, told = PerPrompt(), "reading"
        reading = HeadMeasures(model)
        for batch in self.stream(texts, (per_token, components, own), told, self.batch_size):
            for text, one, nats in self._read(reading, batch):
                tokens = _token_rows(model, text)
                per_token.append(contribution_rows(tokens, one))
                components.append(component_rows(tokens, one))
                own.update(**self._summary(model, text, one, nats))
        example = torch.tensor(texts[0].ids[:EXAMPLE_TOKENS], device=model.cfg.device)
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own),
                "contributions": per_token,
                "components": components,
                "heads": self._head_rows(own),
                "correlations": self._correlation_rows(own, adjusted=False),
                "correlations_adjusted": self._correlation_rows(own, adjusted=True),
                "head_spread": self._spread_rows(own, model),
                "gains": lens.gain_rows(model),
                "against_random": self._against_random(model, texts, own),
            },
            arrays={"pattern": lens.attention_patterns(model, example).numpy()},
        )

    def headline(self, results: Results) -> str:
        """The heads with the longest vectors, and the largest share of a layer's sum."""
        heads = results.tables["heads"].dropna(subset="estimate")
        if heads.empty:
            return "Nothing can be said: no token counts (--include-first counts the first one)."
        means = heads.pivot(index=["layer", "head"], columns=["measure", "phase"])["estimate"]
        lengths, shares = means["l2_norm"], means["projection_share"]
        longest, *others = lengths.mean(axis=1).nlargest(3).index
        then = f"; {' and '.join(NAME.format(*one) for one in others)} follow" if others else ""
        sizes = " and ".join(
            f"{found[longest]:.3g} on {phase} tokens (median head: {found.median():.3g})"
            for phase, found in lengths.items()
        )
        largest = " and ".join(
            f"{NAME.format(*found.idxmax())} on {phase} tokens ({100 * found.max():.0f} %)"
            for phase, found in shares.items()
        )
        do = {"holds": "", "fails": "do not "}
        do = do.get(self.claims(results)[-1].verdict, "are not shown to ")
        return (
            f"{NAME.format(*longest)} writes the longest vectors, of a mean L2 norm of {sizes}"
            f"{then}. Of what the heads of its layer write together, the largest share has "
            f"{largest}, counting only what points along their sum. Heads of a layer {do}"
            "cancel each other more than random ones."
        )

    def claims(self, results: Results) -> list[Claim]:
        """Two identities, and three mechanical claims as differences from their nulls."""
        prompts, rows = results.tables["prompts"], results.tables["against_random"]
        sums, attention = prompts["output_error"], prompts["attention_error"]
        keyed = dict(list(rows.groupby(["statistic", "aggregation", "control"])))
        most = TOLERANCE[self.dtype]
        whole = "Each head's attention row sums to 1, or to 1 less what a learned sink takes."
        rises = [
            self._agreement_claim(keyed.get(("agreement_rise", level, control)), level, control)
            for control in ("none", "adjusted")
            for level in LEVELS
        ]
        return [
            Claim.identity("Heads and bias sum to what attention writes.", sums, within=most),
            Claim.identity(whole, attention, within=most),
            *corrected([*rises, *self._spread_claims(keyed)]),
        ]

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """Each measure by head, then the agreement of two of them, layers, and one text."""
        rows, parts = (
            of_first_prompts(results.pieces(name), EXPLORED_PROMPTS)
            for name in ("contributions", "components")
        )
        by_layer, by_text = _layer_figures(results), _text_figures(results, rows, parts)
        explored = {"Heads by every measure": _explorer(results, rows, self._first())}
        return explored | self._agreement_figures(results) | by_layer | by_text

    def _texts(self, model: "Model") -> list[ReadText]:
        """What the model is given, with what it adds."""
        form = model.card.arithmetic
        count = min(self.new_tokens, form.digits + 1) if form else self.new_tokens
        if form and not self.prompts and not self.prompts_file:
            given = sampled_additions(form, self.additions, self.seed)
        else:
            given = texts_to_read(model, self.prompts, self.prompts_file, shipped_texts(), count)
        return continued(model, given, count, self.stream)

    def _read(self, reading: HeadMeasures, batch: Sequence[ReadText]) -> list[tuple]:
        """Each text of a batch with what its forward pass says, and its tokens' surprisal."""
        tokens, lengths = right_pad([text.ids for text in batch])
        group = torch.full(tokens.shape, -1)
        for row, text in zip(group, batch, strict=True):
            for number, chosen in enumerate(self._chosen(text)):
                row[: len(chosen)][torch.from_numpy(chosen)] = number
        device, name = reading.model.cfg.device, reading.model.card.name
        found, nats = reading.with_surprisal(tokens.to(device), group.to(device))
        found, nats = found.cpu(), nats.cpu().double().numpy()
        read = [
            (text, found.prompt(i, int(lengths[i])), nats[i, : lengths[i]])
            for i, text in enumerate(batch)
        ]
        for text, one, _ in read:
            if not one.output_error.isfinite().all():
                raise UsageError(
                    f"prompt {text.number}: {name} overflows in {self.dtype}; "
                    "use --dtype float32 or bfloat16"
                )
        return read

    def _chosen(self, text: ReadText) -> np.ndarray:
        """Which tokens count in means and claims, by phase [phase pos]."""
        counted = np.arange(len(text.ids)) >= self._first()
        return np.stack([~text.generated & counted, text.generated & counted])

    def _first(self) -> int:
        return 0 if self.include_first else 1

    def _summary(
        self, model: "Model", text: ReadText, one: Contributions, nats: np.ndarray
    ) -> dict:
        """What is kept of a prompt: its estimates, each with a first axis of one prompt."""
        chosen = self._chosen(text)
        kept = {
            "heads": head_means(one, chosen),
            "spreads": head_spreads(one, chosen),
            "agreement": self._agreement(model, text, one, nats),
            "output_error": one.output_error.max().numpy(),
            "attention_error": self._row_error(model, one),
        }
        return {name: value[None] for name, value in kept.items()}

    def _row_error(self, model: "Model", one: Contributions) -> np.ndarray:
        """How far rows are from summing to 1; with learned sinks, how far beyond 1 they go."""
        beyond = one.attention_sum - 1
        return (beyond.clamp(min=0) if model.attention_sinks else beyond.abs()).max().numpy()

    def _agreement(
        self, model: "Model", text: ReadText, one: Contributions, nats: np.ndarray, **only: tuple
    ) -> np.ndarray:
        """Agreement of cosine and L2 norm in a text, beside that in random directions."""
        rng = np.random.default_rng([self.seed, text.number])
        lengths = one.l2_norm[0].numpy()
        null = random_direction_cosines(lengths, model.cfg.d_model, DRAWS, rng)
        cosine = one.cosine[0].numpy()
        return prompt_agreement(cosine, lengths, null, nats, text.generated, **only)

    def _head_rows(self, own: PerPrompt) -> pd.DataFrame:
        found = bootstrap(own["heads"], self.seed)
        layers, heads = found.n.shape[2:]
        axes = {"measure": HEAD_MEASURES, "phase": PHASES, "layer": layers, "head": heads}
        return grid(axes, **vars(found)).query("n > 0").reset_index(drop=True)

    def _correlation_rows(self, own: PerPrompt, *, adjusted: bool) -> pd.DataFrame:
        agreement = own["agreement"][:, 2:] if adjusted else own["agreement"][:, :2]
        estimate, null = agreement[..., 0], agreement[..., 1]
        axes = {"first_token": [False] if adjusted else [True, False], "phase": SPANS}
        axes |= {"aggregation": LEVELS, "method": tuple(CORRELATIONS)}
        values = vars(bootstrap(estimate, self.seed).within(-1, 1))
        values["null"] = bootstrap(null, self.seed).estimate
        values["difference"] = values["estimate"] - values["null"]
        values["p"] = sign_flip(estimate - null, self.seed)
        rows = grid(axes, **values).query("n > 0").reset_index(drop=True)
        rows["q"] = benjamini_hochberg(rows["p"].to_numpy())
        first = ["aggregation", "phase", "method", "first_token"]
        return rows[[*first, *(name for name in values if name != "n"), "q", "n"]]

    def _spread_rows(self, own: PerPrompt, model: "Model") -> pd.DataFrame:
        found = bootstrap(own["spreads"], self.seed)
        gain = lens.output_gain(model).square().mean(dim=-1).sqrt().mean(dim=-1).numpy()
        values = {"n": found.n[0], "gain_of_w_o": np.broadcast_to(gain, found.n.shape[1:])}
        for i, name in enumerate(SPREADS):
            for end in ("estimate", "low", "high"):
                values[f"{name}_{end}".removesuffix("_estimate")] = getattr(found, end)[i]
        axes = {"phase": PHASES, "layer": len(gain)}
        return grid(axes, **values).query("n > 0").reset_index(drop=True)

    def _against_random(
        self, model: "Model", texts: list[ReadText], own: PerPrompt
    ) -> pd.DataFrame:
        """The per-prompt numbers behind the mechanical claims: own weights, then random ones."""
        agreement = own["agreement"][..., list(CORRELATIONS).index("spearman"), :]
        frames = [self._claimed(own["spreads"], agreement, "own", model.cfg.n_heads)]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept, label = PerPrompt(), f"random weights {number + 1}/{RANDOM_MODELS}"
            reading, only = HeadMeasures(twin), {"methods": ("spearman",), "within": PHASES}
            for batch in self.stream(texts, kept, label, self.batch_size):
                for text, one, nats in self._read(reading, batch):
                    spreads = head_spreads(one, self._chosen(text))
                    rises = self._agreement(twin, text, one, nats, **only)
                    kept.update(spreads=spreads[None], agreement=rises[None])
            agreement, weights = kept["agreement"][..., 0, :], f"random {number}"
            frames.append(self._claimed(kept["spreads"], agreement, weights, model.cfg.n_heads))
        return pd.concat(frames, ignore_index=True)

    def _claimed(
        self, spreads: np.ndarray, agreement: np.ndarray, weights: str, heads: int
    ) -> pd.DataFrame:
        """One row per prompt and statistic; `null` is what its stated null gives."""
        rises = agreement[:, :, 1] - agreement[:, :, 0]  # prompt control level kind
        controls = {"none": rises[:, 0 if self.include_first else 1], "adjusted": rises[:, 2]}
        columns = {
            ("agreement_rise", level, control): rise[:, i].T
            for control, rise in controls.items()
            for i, level in enumerate(LEVELS)
        }
        evenness = spreads[:, 1] / np.log(max(heads, 2))
        ratio = np.where(spreads[:, 2] > 0, spreads[:, 2], np.nan)
        columns |= {
            ("unevenness", "layer", "none"): (1 - mean_where_known(evenness), 0.0),
            ("log_variance_ratio", "layer", "none"): (mean_where_known(np.log(ratio)), 0.0),
        }
        names, prompt = ("statistic", "aggregation", "control"), np.arange(len(spreads))
        frames = [
            pd.DataFrame(dict(zip(names, key, strict=True), weights=weights, prompt=prompt,
                              value=value, null=null))
            for key, (value, null) in columns.items()
        ]  # fmt: skip
        return pd.concat(frames, ignore_index=True).dropna().reset_index(drop=True)

    def _agreement_claim(self, rows: pd.DataFrame | None, level: str, control: str) -> Claim:
        how = LEVEL_WORDS[level]
        fixed = ", position and surprisal held fixed" if control == "adjusted" else ""
        return self._claim(
            f"{how.capitalize()}{fixed}, L2 norm and cosine agree more on generated tokens than "
            "on the prompt, and by more than with random weights.",
            rows,
            unit="Spearman's correlation of L2 norm with cosine, generated tokens minus prompt; "
            "what the same lengths give in random directions is subtracted",
            family="L2 norm and cosine agree more on generated tokens than on the prompt",
            label=f"{how}{fixed}",
            needs="5 prompts or more of 12 tokens or more, with generated tokens (--new-tokens)",
        )

    def _spread_claims(self, keyed: dict[tuple[str, str, str], pd.DataFrame]) -> list[Claim]:
        return [
            self._claim(
                "The heads of a layer write vectors of unequal length, more so than with random "
                "weights.",
                keyed.get(("unevenness", "layer", "none")),
                unit="1 minus the entropy of the heads' shares of length over its maximum; "
                "0 = all lengths equal",
                needs="5 prompts or more, of 2 tokens or more",
            ),
            self._claim(
                "The heads of a layer cancel each other: their sum varies less over tokens than "
                "that of independent heads, and less than with random weights.",
                keyed.get(("log_variance_ratio", "layer", "none")),
                sign=-1, scale=np.exp,
                unit="variance of the sum over the sum of the variances, geometric mean over "
                "layers; 1 = independent heads, below 1 = they cancel",
                needs="5 prompts or more, of 3 tokens or more",
            ),
        ]  # fmt: skip

    def _claim(
        self, sentence: str, rows: pd.DataFrame | None, sign: int = 1,
        scale: Callable = np.asarray, **said: Any,
    ) -> Claim:  # fmt: skip
        """That a statistic lies beyond its null and every random model, judged within prompts.

        `p` is one-sided, of the null, of the highest random model or of one more: the largest.
        """
        effects = _effects(rows, sign)
        if effects.empty:
            return Claim.mechanical(sentence, None, **said)
        compared = effects[["own", "above", "below"]].to_numpy()
        found, p = bootstrap(compared, self.seed), sign_flip(compared, self.seed)
        random = effects.filter(like="random ").mean().to_numpy()
        one_more, as_low = one_more_model(found.estimate[0], random, len(effects))
        luck = max(*np.where(found.estimate > 0, p / 2, 1 - p / 2)[:2], one_more)
        p[1:] = np.maximum(p[1:], (one_more, as_low))
        random, verdict = scale(sign * random), _verdict(found, p)
        hardest = (np.max if sign > 0 else np.min)([float(scale(0.0)), *random])
        middle, *ends = scale(sign * np.array([found.estimate[0], found.low[0], found.high[0]]))
        return Claim.mechanical(
            sentence, Estimate(middle, *sorted(ends), len(effects)),
            p=None if verdict == "not tested" else luck, verdict=verdict, null=random.mean(),
            p_fails=float(np.where(found.estimate < 0, p, 1)[[0, 2]].min()),
            null_note=f"{random_models(len(random))}: {random.min():.3g} to {random.max():.3g}; "
            f"one more would lie as far with p = {one_more:.2g}",
            more="prompts (--prompts or --additions)",
            **{"above" if sign > 0 else "below": hardest},
            **said,
        )  # fmt: skip

    def _agreement_figures(self, results: Results) -> dict[str, "Drawing"]:
        found = results.tables["correlations"].query("first_token == @self.include_first")
        nulls = found.assign(estimate=found.null, low=np.nan, high=np.nan)
        both = pd.concat([found.assign(heads="as it is"), nulls.assign(heads="random directions")])
        both = both[both.method == "spearman"]
        levels, spans = both.aggregation.map(LEVEL_WORDS), both.phase.replace(SPAN_WORDS)
        both = both.assign(level=levels + ", " + spans, correlation=both.estimate)
        both = both.sort_values(["aggregation", "heads"], ascending=[False, True], kind="stable")
        shown = ["phase", "layer", "head", "prompt", "pos", "l2_norm", "cosine"]
        pieces = partial(results.pieces, "contributions")
        points = sample_of_phases(pieces, shown, self._first(), DRAWN_POINTS, self.seed)
        beside = found[(found.aggregation == "token") & found.phase.isin(PHASES)]
        return {
            "Agreement of cosine and L2 norm": bars(
                both[["level", "heads", "correlation", "low", "high", "n"]],
                "level", "correlation", series="heads",
                caption="Spearman's correlation of cosine with L2 norm, beside that of equal "
                "lengths in random directions: only the gap is about the model. A point is a head "
                "at a token, a head (mean over tokens), or a head number (mean over layers too). "
                "Bars: 95 % intervals over prompts.",
            ),
            "Cosine against L2 norm": scatter(
                points, "l2_norm", "cosine", facet="phase", correlations=beside,
                caption=f"A point is a head at a token (at most {DRAWN_POINTS:,} drawn at random "
                "per phase). The correlations are means over prompts of all their points.",
            ),
        }  # fmt: skip


def _token_rows(model: "Model", text: ReadText) -> pd.DataFrame:
    """One row a token, in their order."""
    phase = np.where(text.generated, *reversed(PHASES))
    named = {"token_id": text.ids, "token": token_strings(model, text.ids), "phase": phase}
    return pd.DataFrame({"prompt": text.number, "pos": np.arange(len(text.ids)), **named})


def _prompt_rows(model: "Model", texts: list[ReadText], own: PerPrompt) -> pd.DataFrame:
    said = model.tokenizer.decode
    rows = [
        (text.number, text.kind, said(text.given), said(text.new), len(text.given), len(text.new))
        for text in texts
    ]
    names = ["prompt", "kind", "given", "generated", "given_tokens", "generated_tokens"]
    errors = {name: own[name] for name in ("output_error", "attention_error")}
    return pd.DataFrame(rows, columns=names).assign(**errors)


def _effects(rows: pd.DataFrame | None, sign: int) -> pd.DataFrame:
    """Per prompt, times `sign`: excess over the null; own less the highest, the lowest random."""
    if rows is None:
        return pd.DataFrame()
    excess = rows.assign(excess=sign * (rows["value"] - rows["null"]))
    wide = excess.pivot(index="prompt", columns="weights", values="excess").dropna()
    if wide.empty:
        return wide
    random = wide.filter(like="random ")
    highest, lowest = (random[end] for end in (random.mean().idxmax(), random.mean().idxmin()))
    return wide.assign(above=wide["own"] - highest, below=wide["own"] - lowest)


def _verdict(found: Intervals, p: np.ndarray) -> str:
    """Of own numbers, and of own less the highest and less the lowest random model.

    Holds beyond the null and every random model, fails short of the null or of all of them: where
    interval and p agree, as with few prompts the interval is a little short, and p is exact.
    """
    if np.isnan(found.low[0]):
        return "not tested"
    apart = ((found.low > 0) | (found.high < 0)) & (p <= LEVEL)
    own, above, below = np.where(apart, np.sign(found.estimate), 0)
    if own < 0 or below < 0:
        return "fails"
    return "holds" if own > 0 and above > 0 else "undecided"


def _explorer(results: Results, rows: pd.DataFrame, first: int) -> "Drawing":
    """Every measure of every head: over all texts, in single texts, and token by token in one."""
    means = results.tables["heads"].assign(prompt="all")
    shown = pd.concat([means, means_by_prompt(rows.query("pos >= @first"), EXPLORED_PROMPTS)])
    pattern, text = results.arrays["pattern"], rows[rows["prompt"] == 0]
    tokens = text.drop_duplicates("pos").sort_values("pos")["token"].head(pattern.shape[-1])
    text = text[text["pos"] < len(tokens)].sort_values(["layer", "head", "pos"])
    values = {name: text[name].to_numpy(float).reshape(pattern.shape[:3]) for name in HEAD_MEASURES}
    return head_explorer(
        with_difference(shown)[["measure", "phase", "prompt", "layer", "head", "estimate"]],
        facets=("phase", "prompt"), text=HeadText(tokens.tolist(), pattern, values),
        caption="What each head writes, by each measure: means over tokens, then over texts. A "
        "head that is chosen shows where it looks in the first text. (Attention entropy is 0 where "
        "there is one token only to attend to.)",
    )  # fmt: skip


def _layer_figures(results: Results) -> dict[str, "Drawing"]:
    spread = results.tables["head_spread"].dropna(subset="variance_ratio")
    keys, needed = ["phase", "layer", "component"], ["whole", "pos", "share"]
    pieces = results.pieces("components", [*keys, *needed])
    counted = (rows.query("whole == 'resid_post' and pos > 0") for rows in pieces)
    shares = means_by(counted, keys, "share")
    shares = shares.sort_values("phase", ascending=False, kind="stable")  # the prompt comes first
    shares["component"] = shares["component"].map(PART_WORDS)
    return {
        "Variance of the sum of heads": curves(
            spread, "layer", "variance_ratio", series="phase",
            low="variance_ratio_low", high="variance_ratio_high",
            caption="Variance over tokens of the heads' sum over the sum of the heads' variances: "
            "1 for heads that vary independently, below 1 where they cancel.",
        ),
        "What a layer's output is made of": curves(
            shares, "layer", "share", series="component", facet="phase",
            caption="Shares of the layer's output (by projection; they sum to 1) of what came in, "
            "its heads, its output bias and its MLP. Means over all tokens but the first.",
        ),
    }  # fmt: skip


def _text_figures(
    results: Results, rows: pd.DataFrame, parts: pd.DataFrame
) -> dict[str, "Drawing"]:
    """The first text, in the layer where the heads' shares are least equal."""
    spread = results.tables["head_spread"]
    layer = int(spread.groupby("layer")["share_entropy"].mean().idxmin())
    rows = rows.query("prompt == 0 and layer == 0 and head == 0")
    pattern = results.arrays["pattern"][layer]
    whole = "1" if pattern.sum(-1).min() > 0.9 else "1 less what a learned sink takes"
    axes = dict(zip(("layer", "head", "query", "key"), ([layer], *pattern.shape), strict=True))
    pairs = grid(axes, attention=pattern).query("query >= key")
    attention = parts.query("prompt == 0 and whole == 'resid_post' and component == 'attention'")
    return {
        "Attention": attention_patterns(
            pairs, rows.sort_values("pos")["token"].tolist()[: pattern.shape[-1]],
            caption=f"Attention in layer {layer}. Each head's rows by themselves sum to {whole}.",
        ),
        "Attention along the text": along_text(
            attention[["layer", "pos", "token", "phase", "share"]], "share",
            caption="Share of each layer's output that its heads write, along the first text.",
        ),
    }  # fmt: skip
