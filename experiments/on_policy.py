"""Does text that the model wrote itself look different inside from text it was given?"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Results, UsageError

if TYPE_CHECKING:
    from lenses.kept import PerPrompt
    from lenses.states.fillers import Filled
    from models import Model
    from viz import Drawing

OWN = {"greedy": "likeliest text", "sampled": "sampled text"}
"""The fillers that the model wrote, in words."""
RANDOM_MODELS = 2
"""Models of the same shape with fresh weights that read what this one wrote."""
FEWEST = 4
"""Tokens that every filler of a prompt must have."""
LEVEL = 0.05
BOUND = 0.2
"""Standard deviations: what lies within is no difference worth the name."""
LEAST_OVERLAP = 0.25
"""Of the surprisals of two fillers, below which holding surprisal fixed would be a guess."""
MOSTLY = 0.5
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}
"""Of the identities: shares of the largest value, and nats."""


class OnPolicy(Experiment):
    """The same positions after the same prompts are filled with own and other text, and compared.

    Fillers: *greedy* (the model's likeliest tokens), *sampled* (at temperature 1), *given* (how
    the passage really goes on; for an adder, the right answer of another addition), *other* (how
    another passage goes on; digits at random) and *shuffled* (the tokens of *given* in another
    order), all cut to the shortest of their prompt. While *greedy* is written, each state is
    read in the pass that was run for its token, and later compared with one pass over all of it.

    Statistics of each token are means over heads, less their mean over fillers at the same position
    after the same prompt, in standard deviations of what is left: in each layer, then of the mean
    over layers. They are regressed on the filler against *given*, within prompt and position;
    `control` says what else is held fixed:
    surprisal (and its logarithm), then history (mean surprisal of the filler so far; whether the
    token stood there before). Intervals (95 %) resample prompts. The null exchanges the labels
    of filler and *given* in random prompts; p_any is corrected over statistics (largest of all),
    q over the table. Random-weights models read the very same texts.

    Tables: `prompts` (prompt, filler, what was compared), `identity` (per prompt, largest
    differences between writing and reading), `tokens` (every token's surprisal and statistics),
    `fillers` (mean surprisal and repetition; `overlap` of surprisals with *given*, 0 to 1),
    `effects` (control, filler, statistic, estimate in standard deviations, low, high, p, p_any,
    q, `detectable` (found in four of five cases), n), `layers` (the same layer by layer),
    `against_random` (effects less those in each random model), `explained` (share of the
    effects found with position alone that is gone with surprisal held fixed, too) and
    `positive_control` (a planted model that attends to its own words, with twins of these as given
    text, and with given text that it wrote itself).
    """

    quick: ClassVar[dict[str, Any]] = {"additions": 8}

    prompts: tuple[str, ...] = ()
    """Texts that are cut in two; without any, shipped passages (adders: sampled additions)."""
    texts: int = Field(30, ge=3)
    """Shipped passages that are used."""
    given_tokens: int = Field(16, ge=1)
    """Tokens of a text that are the prompt."""
    new_tokens: int = Field(16, ge=FEWEST)
    """Tokens that follow it (an adder: as many digits as its answer has)."""
    additions: int = Field(48, ge=3)
    """Additions sampled for an adder."""
    batch_size: int = Field(1, ge=1)
    """Texts between two checkpoints; each passes the model by itself."""

    def measure(self, model: "Model") -> Results:
        """Write and read every filler, read them in random models, compare; then the control."""
        from lenses.kept import PerPrompt
        from lenses.states import fillers

        texts, own = self._texts(model), PerPrompt()
        width = max(text.most for text in texts)
        for batch in self.stream(self._batches(texts), own, "writing and reading"):
            for text in batch:
                own.update(**self._filled(model, text, width))
        kept = self._kept(model, own)
        random = [values[kept] for values in self._random(model, texts, own)]
        read = (own[name][kept] for name in ("surprisal", "history", "statistics"))
        filled, n = fillers.Filled.of(*read, random), int(kept.sum())
        controls = {name: filled.compared(name, self.seed) for name in fillers.CONTROLS}
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own),
                "identity": _identity_rows(own),
                "tokens": _token_rows(model, filled, own["fillers"][kept], np.flatnonzero(kept)),
                "fillers": fillers.filler_table(filled, self.seed),
                "effects": fillers.effect_table(controls, n),
                "layers": fillers.layer_table(filled, self.seed),
                "against_random": fillers.excess_table(controls, n),
                "explained": fillers.explained_table(controls, n),
                "positive_control": fillers.control_table(),
            }
        )

    def _texts(self, model: "Model") -> list["_Text"]:
        """Prompts with what they are followed by, but for the model's own text."""
        from models.text import tokenize
        from prompts.passages import passages

        if model.card.arithmetic and not self.prompts:
            return self._sampled_additions(model)
        given = self.prompts or [passage.text for passage in passages()[: self.texts]]
        rows = [tokenize(model, text)[: self.given_tokens + self.new_tokens] for text in given]
        least = self.given_tokens + FEWEST
        if short := next((i for i, row in enumerate(rows) if len(row) < least), None):
            raise UsageError(
                f"prompt {short}: {len(rows[short])} tokens; it takes {least}, the first "
                f"{self.given_tokens} of which are the prompt (--given-tokens)"
            )
        if len(rows) < 3 or max(map(len, rows)) > model.cfg.n_ctx:
            raise UsageError(f"it takes 3 texts of at most {model.cfg.n_ctx} tokens or more")
        cut = self.given_tokens
        return [
            _Text(i, row[:cut], row[cut:], rows[i - 1][cut:], len(row) - cut)
            for i, row in enumerate(rows)
        ]

    def _sampled_additions(self, model: "Model") -> list["_Text"]:
        """Additions; what follows is another one's answer, or digits at random."""
        from prompts.additions import Addition

        form = model.card.arithmetic
        sums = Addition(form.digits, self.additions, self.seed, padded=form.pad).sums
        written = form.write(sums)
        ends = written.at.max(axis=1) + 1
        rows = zip(written.tokens.tolist(), written.prompt, ends, strict=True)
        parts = [(row[:start], row[start:end]) for row, start, end in rows]
        rng = np.random.default_rng([self.seed, len(parts)])
        random = rng.choice(form.digit_ids, size=(len(parts), form.digits + 1)).tolist()
        return [
            _Text(i, prompt, parts[i - 1][1], random[i], len(answer))
            for i, (prompt, answer) in enumerate(parts)
        ]

    def _batches(self, texts: Sequence["_Text"]) -> list[Sequence["_Text"]]:
        return [texts[i : i + self.batch_size] for i in range(0, len(texts), self.batch_size)]

    def _filled(self, model: "Model", text: "_Text", width: int) -> dict[str, np.ndarray]:
        """What is kept of a prompt: fillers, how they were read, and the identity."""
        from lenses.states.policy import generate, history, largest_differences, read, surprisals

        greedy = generate(model, text.prompt, text.most, _end(model))
        start = len(text.prompt)
        again = read(model, _tensor([text.prompt + greedy.tokens], model), start, start)
        fillers = self._fillers(model, text, greedy.tokens)
        found = read(
            model, _tensor([text.prompt + f for f in fillers.tolist()], model), start, start
        )
        surprisal = surprisals(found, fillers)
        kept = {
            "fillers": _padded(fillers, width, -1),
            "length": np.array(fillers.shape[1]),
            "statistics": _padded(found.statistics, width, 0),
            "surprisal": _padded(surprisal, width, np.nan),
            "history": _padded(history(surprisal, fillers, text.prompt), width, 0),
        }
        kept |= zip(IDENTITY, largest_differences(greedy, again), strict=True)
        return {name: np.asarray(value)[None] for name, value in kept.items()}

    def _fillers(self, model: "Model", text: "_Text", greedy: list[int]) -> np.ndarray:
        """Tokens of each of lenses.states.fillers.FILLERS [filler pos], as long as the shortest."""
        rng = np.random.default_rng([self.seed, text.number])
        sampled = _sampled(model, text, int(rng.integers(2**31)))
        rows = [text.given, greedy, sampled, text.other]
        length = min(text.most, *map(len, rows))
        shuffled = rng.permutation(text.given[:length])
        return np.array([*(row[:length] for row in rows), shuffled], dtype=np.int64)

    def _kept(self, model: "Model", own: "PerPrompt") -> np.ndarray:
        """Which prompts have fillers that are long enough."""
        kept = own["length"] >= FEWEST
        if kept.sum() < 3:
            raise UsageError(
                f"{model.card.name} ends all but {kept.sum()} of {len(kept)} texts before "
                f"{FEWEST} tokens; it takes 3 that are longer"
            )
        return kept

    def _random(self, model: "Model", texts: list["_Text"], own: "PerPrompt") -> list[np.ndarray]:
        """Statistics [prompt filler pos statistic layer] of the same texts in random models."""
        from lenses.kept import PerPrompt
        from lenses.states.policy import read
        from models import untrained

        found, rows = [], list(zip(texts, own["fillers"], own["length"], strict=True))
        for number in range(RANDOM_MODELS):
            twin, kept = untrained(model, self.seed + number), PerPrompt()
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            for batch in self.stream(self._batches(rows), kept, label):
                for text, fillers, length in batch:
                    start, width = len(text.prompt), fillers.shape[1]
                    ids = [text.prompt + filler for filler in fillers[:, :length].tolist()]
                    statistics = read(twin, _tensor(ids, twin), start, start).statistics
                    kept.update(statistics=_padded(statistics, width, 0)[None])
            del twin
            gc.collect()  # a hooked model refers to itself: uncollected, twins would pile up
            found.append(kept["statistics"])
        return found

    def claims(self, results: Results) -> list[Claim]:
        """The identity and the control; whether own text differs; whether surprisal explains it."""
        from lenses.states.fillers import CONTROLS

        control = _control_claim(results.tables["positive_control"])
        about = [(filler, held) for filler in OWN for held in list(CONTROLS)[1:]]
        found = [self._difference(results, *each, control) for each in about]
        explained = [_explained_claim(results, filler) for filler in OWN]
        return [*self._identities(results.tables["identity"]), control, *found, *explained]

    def _identities(self, rows: pd.DataFrame) -> list[Claim]:
        """That states while writing are those of one pass over what was written."""
        from lenses.states.policy import STATISTICS

        tolerance = TOLERANCE[self.dtype]
        said = {
            "states look": (rows[list(STATISTICS)].max(axis=None), "share of a statistic's size"),
            "predictions are": (rows["log_p"].max(), "log-probability (nats)"),
        }
        return [
            Claim(
                kind="identity",
                sentence=f"A token's {what} the same whether it was just written or is given",
                estimate=error,
                n=len(rows),
                unit=f"largest difference, {unit}; tolerance {tolerance:g}",
                verdict="holds" if error <= tolerance else "fails",
            )
            for what, (error, unit) in said.items()
        ]

    def _difference(self, results: Results, filler: str, control: str, sure: Claim) -> Claim:
        """That a statistic differs, and more so (or the other way) than in each random model.

        `p` is the larger of all p_any, which are corrected over statistics, and is then corrected
        over these claims (Bonferroni: four).
        """
        about = f"filler == {filler!r} and control == {control!r}"
        rows = results.tables["effects"].query(about).set_index("statistic")
        random = results.tables["against_random"].query(about)
        names = " and ".join(control.rsplit(", ", 1))
        said = {
            "kind": "mechanical",
            "sentence": f"The model's own {OWN[filler]} differs inside from given text, "
            f"{names} held fixed",
            "n": int(rows["n"].max()) if len(rows) else 0,
        }
        if rows.empty:
            why = "a model whose statistics vary from token to token"
            return Claim(**said, estimate=0, verdict="undecided", decide=why)
        worst = _worst_p(rows, random)
        best = worst.index[np.lexsort([-rows["estimate"].abs(), worst])[0]]
        chosen, p = rows.loc[best], min(1.0, float(worst[best]) * 4)
        others = random[random["statistic"] == best]
        shared = results.tables["fillers"].set_index("filler").loc[filler, "overlap"]
        verdict, decide = _verdict(rows, chosen, p, shared, sure)
        return Claim(
            **said,
            estimate=chosen["estimate"],
            low=chosen["low"],
            high=chosen["high"],
            p=p,
            null=chosen["estimate"] - others["estimate"].mean() if len(others) else None,
            null_note=f"random weights, {RANDOM_MODELS} models that read the same texts; labels "
            f"exchanged: 0, from {chosen['detectable']:.2f} on told from luck (one claim alone)",
            unit=f"standard deviations of {best.replace('_', ' ')}, the clearest of "
            f"{len(rows)} statistics",
            verdict=verdict,
            decide=decide,
        )

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """Effects, tokens along the text, layers, random weights, and the control."""
        return {
            **_effect_figures(results),
            **_text_figures(results.tables["tokens"]),
            **_layer_figures(results.tables["layers"]),
            **_control_figures(results.tables["positive_control"]),
        }


IDENTITY = ("states", "log_p", "same_choice")


@dataclass(frozen=True)
class _Text:
    """A prompt as tokens, and what may follow it but for the model's own text."""

    number: int
    prompt: list[int]
    given: list[int]
    other: list[int]
    most: int
    """Tokens that may follow it."""


def _end(model: "Model") -> int | None:
    """The token that ends a text; an adder's answer has its length, and nothing ends it."""
    return None if model.card.arithmetic else model.tokenizer.eos_token_id


def _sampled(model: "Model", text: _Text, seed: int) -> list[int]:
    """The model's text at temperature 1, with the memory of a language model, which saves passes.

    That writes up to what the tokenizer calls the end, which for an adder is just any token.
    """
    from lenses.states.policy import generate
    from models.text import continue_text

    if _end(model) is None:
        return generate(model, text.prompt, text.most, None, seed).tokens
    return continue_text(model, [text.prompt], text.most, temperature=1, seed=seed)[0]


def _tensor(ids: Sequence, model: "Model"):
    import torch

    return torch.as_tensor(np.asarray(ids), device=model.cfg.device)


def _padded(values: np.ndarray, width: int, filling: float) -> np.ndarray:
    """The same with `filling` up to `width` tokens (axis 1)."""
    missing = [(0, 0)] * values.ndim
    missing[1] = (0, width - values.shape[1])
    return np.pad(values, missing, constant_values=filling)


def _prompt_rows(model: "Model", texts: list[_Text], own: "PerPrompt") -> pd.DataFrame:
    """What stands after each prompt, as it was compared."""
    from lenses.states.fillers import FILLERS

    decode = model.tokenizer.decode
    return pd.DataFrame(
        [
            {"prompt": text.number, "text": decode(text.prompt), "filler": filler,
             "filled_with": decode(ids[:length]), "tokens": int(length),
             "compared": bool(length >= FEWEST)}
            for text, rows, length in zip(texts, own["fillers"], own["length"], strict=True)
            for filler, ids in zip(FILLERS, rows.tolist(), strict=True)
        ]
    )  # fmt: skip


def _identity_rows(own: "PerPrompt") -> pd.DataFrame:
    from lenses.states.policy import STATISTICS

    states = own["states"]
    rows = pd.DataFrame(states, columns=list(STATISTICS))
    rows.insert(0, "prompt", range(len(states)))
    return rows.assign(log_p=own["log_p"], same_choice=own["same_choice"])


def _token_rows(
    model: "Model", filled: "Filled", fillers: np.ndarray, numbers: np.ndarray
) -> pd.DataFrame:
    """Every token that is compared."""
    from lenses.states.fillers import FILLERS
    from lenses.states.policy import STATISTICS
    from models.text import token_strings

    axes = {"prompt": numbers, "filler": FILLERS, "pos": range(fillers.shape[-1])}
    rows = pd.MultiIndex.from_product(axes.values(), names=list(axes)).to_frame(index=False)
    rows = rows.assign(token_id=fillers.ravel())
    told = ["surprisal", "log_surprisal", "surprisal_before", "repeated", *STATISTICS]
    values = np.concatenate([filled.covariates, filled.values], axis=-1)
    rows[told] = values.reshape(len(rows), -1)
    known = np.broadcast_to(filled.known[:, None], fillers.shape).ravel()
    rows = rows[known].drop(columns="log_surprisal").reset_index(drop=True)
    rows.insert(4, "token", token_strings(model, rows["token_id"]))
    return rows


def _control_claim(rows: pd.DataFrame) -> Claim:
    """That the planted difference is found, and that none is between two texts of one origin."""
    twins = rows["given"].str.startswith("twins")
    planted = rows[twins & (rows["statistic"] == "attention_on_filler")]
    same = rows[~twins & (rows["filler"] == "sampled")]
    found = (planted["low"] > 0).all() and (planted["p_any"] <= LEVEL).all()
    quiet = same["p_any"].min() > LEVEL
    return Claim(
        kind="identity",
        sentence="In a planted model that attends to its own words this is found, surprisal held "
        "fixed, and nothing between two texts that it wrote",
        estimate=planted["estimate"].min(),
        n=int(rows["n"].iloc[0]),
        null=same["estimate"].abs().max(),
        null_note="largest of all statistics between its own texts, found in none"
        if quiet
        else "largest between its own texts: found where there is nothing",
        unit="standard deviations of attention on filler, the smaller of likeliest and sampled",
        verdict="holds" if found and quiet else "fails",
    )


def _worst_p(rows: pd.DataFrame, random: pd.DataFrame) -> pd.Series:
    """By statistic, the largest p_any: that it differs at all, and from each random model's.

    An effect that is nearer to zero than a random model's, or on its other side, counts as 1.
    """
    own = rows["estimate"].reindex(random["statistic"]).to_numpy()
    beyond = np.sign(random["estimate"]) == np.sign(own)
    excess = random["p_any"].where(beyond, 1.0).groupby(random["statistic"]).max()
    return np.maximum(rows["p_any"], excess.reindex(rows.index).fillna(1.0))


def _verdict(
    rows: pd.DataFrame, chosen: pd.Series, p: float, shared: float, sure: Claim
) -> tuple[str, str]:
    """Verdict on a difference, and what would decide it."""
    if sure.verdict != "holds":
        return "undecided", "a method whose positive control holds"
    if shared < LEAST_OVERLAP:
        return "undecided", (
            f"texts that are as surprising as each other: of the surprisals {shared:.2f} overlap, "
            f"{LEAST_OVERLAP:g} are needed to hold them fixed"
        )
    if p <= LEVEL and (chosen["low"] > 0 or chosen["high"] < 0):
        return "holds", ""
    if (rows["low"] > -BOUND).all() and (rows["high"] < BOUND).all():
        return "fails", ""
    differs = rows["p_any"].min() * 4 <= LEVEL
    why = "it differs, but not more than random weights do on the same texts: more of either"
    return "undecided", why if differs else "more texts: luck may explain it"


def _explained_claim(results: Results, filler: str) -> Claim:
    """That holding surprisal fixed takes away more than half of a difference that is there."""
    rows = results.tables["explained"].query("filler == @filler").set_index("weights")
    effects = results.tables["effects"].query("filler == @filler and control == 'position'")
    shared = results.tables["fillers"].set_index("filler").loc[filler, "overlap"]
    said = {
        "kind": "mechanical",
        "sentence": f"Surprisal explains most of how the model's own {OWN[filler]} differs inside "
        "from given text",
        "unit": "share of the effects that are found with position alone, gone with surprisal "
        f"held fixed; threshold {MOSTLY:g}, below 0 they grow",
    }
    if "own" not in rows.index or effects["p_any"].min() > LEVEL:
        why = "a difference to explain: with position alone held fixed luck may explain it"
        n = int(effects["n"].max()) if len(effects) else 0
        return Claim(**said, estimate=0, n=n, verdict="undecided", decide=why)
    row, random = rows.loc["own"], rows.drop(index="own")
    verdict, why = Claim.judge(row["low"], row["high"], MOSTLY), "more texts"
    if shared < LEAST_OVERLAP:
        verdict, why = "undecided", f"surprisals that overlap more than {shared:.2f}"
    return Claim(
        **said,
        estimate=row["estimate"],
        low=row["low"],
        high=row["high"],
        n=int(row["n"]),
        null=random["estimate"].mean() if len(random) else None,
        null_note="random weights that read the same texts, surprisals as the model's own",
        verdict=verdict,
        decide=why if verdict == "undecided" else "",
    )


def _effect_figures(results: Results) -> dict[str, "Drawing"]:
    from lenses.states.fillers import MAIN
    from viz import bars

    effects = results.tables["effects"]
    rows = effects.assign(held=effects["control"] + " held fixed", difference=effects["estimate"])
    own = effects[effects["filler"].isin(OWN) & (effects["control"] == MAIN)]
    less = results.tables["against_random"].merge(
        own[["filler", "statistic", "estimate"]], on=["filler", "statistic"], suffixes=("", "_own")
    )
    less = less[less["control"] == MAIN]
    number = less["random_model"].astype(str)
    random = less.assign(weights="random weights " + number, low=np.nan, high=np.nan)
    random["estimate"] = random["estimate_own"] - random["estimate"]
    both = pd.concat([own.assign(weights="these weights"), random], ignore_index=True)
    both = both.assign(text=both["filler"].map(OWN), difference=both["estimate"])
    return {
        "How each filler differs from given text": bars(
            rows[["held", "filler", "statistic", "difference", "low", "high", "p_any", "n"]],
            "statistic", "difference", series="filler", facet="held", reference=0,
            caption="Differences from given text at the same positions after the same prompts, in "
            "standard deviations of tokens at the same position. Greedy and sampled are the "
            "model's own. What goes away from one panel to the next is explained by what is held "
            "fixed in addition, and what appears was hidden by it. 95 % intervals over prompts.",
        ),
        "Beside random weights": bars(
            both[["text", "statistic", "weights", "difference", "low", "high"]],
            "statistic", "difference", series="weights", facet="text", reference=0,
            caption="The same differences of the model's own text, position and surprisal held "
            "fixed, beside models with random weights that read the very same texts: what they "
            "show too lies in the words, not in who wrote them.",
        ),
    }  # fmt: skip


def _text_figures(tokens: pd.DataFrame) -> dict[str, "Drawing"]:
    """Means over prompts by filler and position, of long texts a few positions together."""
    from lenses.states.fillers import FILLERS
    from lenses.states.policy import STATISTICS
    from lenses.statistics.intervals import bootstrap
    from viz import curves

    step, parts = max(1, (tokens["pos"].max() + 1) // 5), []
    first = tokens.assign(token=tokens["pos"] // step * step)
    for name in ("surprisal", *STATISTICS):
        means = first.groupby(["prompt", "filler", "token"])[name].mean().unstack([1, 2])
        ends = vars(bootstrap(means.to_numpy(float)))
        labels = means.columns.to_frame(index=False)
        parts.append(labels.assign(**ends, statistic=name))
    rows = pd.concat(parts, ignore_index=True).rename(columns={"estimate": "mean"})
    order = {name: number for number, name in enumerate(FILLERS)}
    rows = rows.sort_values("filler", key=lambda names: names.map(order), kind="stable")
    surprisal = rows["statistic"] == "surprisal"
    return {
        "Surprisal along the text": curves(
            rows[surprisal].rename(columns={"mean": "surprisal"}), "token", "surprisal",
            series="filler",
            caption="Surprisal (nats) of the tokens after the prompt. The model's own text "
            "surprises it least, by construction: any comparison has to hold this fixed.",
        ),
        "Statistics along the text": curves(
            rows[~surprisal].dropna(subset="mean"), "token", "mean", series="filler",
            facet="statistic",
            caption="Each statistic at the tokens after the prompt, less its mean over all fillers "
            "at that position, in standard deviations; nothing else is held fixed. Longer texts "
            "by a few tokens together, beginning at the one given. Bands: 95 % over prompts.",
        ),
    }  # fmt: skip


def _layer_figures(layers: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import heat_map

    rows = layers[layers["filler"].isin(list(OWN))]
    if rows["layer"].nunique() < 2:
        return {}
    rows = rows.assign(text=rows["filler"].map(OWN), difference=rows["estimate"])
    return {
        "Where in the model": heat_map(
            rows[["text", "layer", "statistic", "difference", "low", "high", "p_any"]],
            "statistic", "layer", "difference", facet="text", diverging=True,
            label="standard deviations from given text",
            caption="Differences of the model's own text from given text by layer, position and "
            "surprisal held fixed.",
        )
    }  # fmt: skip


def _control_figures(rows: pd.DataFrame) -> dict[str, "Drawing"]:
    from viz import bars

    rows = rows.assign(against="against " + rows["given"], difference=rows["estimate"])
    return {
        "The positive control": bars(
            rows[["against", "filler", "statistic", "difference", "low", "high", "p_any"]],
            "statistic", "difference", series="filler", facet="against", reference=0,
            caption="A planted model with a head that attends to its own words, which are hardly "
            "likelier than their twins: against the twins attention on the filler must be found, "
            "and between two texts that it sampled nothing (the likeliest text, in which it uses "
            "no twins at all, does differ from these).",
        )
    }  # fmt: skip
