"""Does text that the model wrote itself look different inside from text it was given?"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Estimate, Reading, Results, Table, TextStudy, UsageError, corrected
from lenses.kept import PerPrompt
from lenses.states import fillers, policy, replies
from lenses.states.certainty import entropies
from lenses.states.fillers import FILLERS, MAIN, Filled
from lenses.states.policy import FEWEST, STATISTICS
from lenses.states.replies import Prompt, padded, read_after
from lenses.statistics.against_random import random_models
from lenses.statistics.intervals import bootstrap
from models.planted.dialect import planted_dialect
from models.text import continue_text
from viz import Drawing, bars, curves, heat_map

if TYPE_CHECKING:
    from models import Model

OWN = {"greedy": "likeliest text", "sampled": "sampled text"}
"""The fillers that the model wrote, in words."""
GIVEN = ("given", "given text", "overlap")
REPLY = ("other", "another model's reply", "overlap_other")
"""What own text is compared with: the filler, in words, and how far surprisals overlap."""
RANDOM_MODELS = 4
"""Models of the same shape with fresh weights that read what this one wrote."""
LEVEL = 0.05
BOUND = 0.2
"""Standard deviations: what lies within is no difference worth the name."""
LEAST_OVERLAP = 0.25
"""Of the surprisals of two fillers, below which holding surprisal fixed would be a guess."""
MOSTLY = 0.5
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 2e-1}
"""Of the identities: shares of the largest value, and nats."""
PLANTED = {"prompts": 32, "prompt": 8, "new_tokens": 16}
"""What the planted model reads and writes."""
MORE = "texts (--count; an adder: --additions)"
TIMES = "entropy, as a share of that on the other text"
APART = "difference (standard deviations)"
MEANING = {
    "head_norm": "logarithm of the mean length of what heads write",
    "cosine": "mean cosine of what a head writes with the sum over heads",
    "share_entropy": "entropy over heads of their shares of the lengths",
    "attention_entropy": "mean entropy of attention rows, in nats",
    "sink": "mean attention on the first token",
    "attention_on_filler": "mean attention on the text that follows the prompt",
    "residual_norm": "logarithm of the length of the residual stream after the layer",
}
"""Of each statistic of a token."""
FOLLOWS = {"filler": "what follows: given, greedy and sampled (the model's own), other, shuffled"}
COMPARED = FOLLOWS | {
    "control?": "what is held fixed",
    "statistic": "what is compared; meanings: table `tokens`",
    "estimate": "difference from given text, in standard deviations",
    "detectable?": "smallest difference that would be found in four of five cases",
}


class OnPolicy(TextStudy):
    """The same positions after the same prompts are filled with own and other text, and compared.

    Fillers: *greedy* (the model's likeliest tokens), *sampled* (at temperature 1), *given* (how
    the passage really goes on; for an adder, the right answer of another addition), *other* (what
    another model replies, where `other_model` names one; else how another passage goes on; for an
    adder, digits at random) and *shuffled* (the tokens of *given* in another
    order), all cut to the shortest of their prompt. While *greedy* is written, each state is
    read in the pass that was run for its token, and later compared with one pass over all of it.

    Statistics of each token are means over heads, less their mean over fillers at the same position
    after the same prompt, in standard deviations of what is left: in each layer, then of the mean
    over layers. They are regressed on the filler against *given*, within prompt and position; held
    fixed as well are surprisal (and its logarithm), then history (mean surprisal of the filler so
    far; whether the token stood there before). Intervals (95 %) resample prompts. The null
    exchanges the labels of filler and *given* in random prompts. Models with random weights read
    the very same texts, and a planted model that attends to its own words is compared, too.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model minutes"
    quick: ClassVar[dict[str, Any]] = {"additions": 8}

    count: int = Field(30, ge=3)
    """Shipped passages that are used."""
    given_tokens: int = Field(16, ge=1)
    """Tokens of a text that are the prompt."""
    new_tokens: int = Field(16, ge=FEWEST)
    """Tokens that follow it (an adder: as many digits as its answer has)."""
    other_model: str = ""
    """A model whose reply to the same prompt stands as *other*; what it wrote: table `prompts`."""
    additions: int = Field(48, ge=3)
    """Additions sampled for an adder."""
    batch_size: int = Field(1, ge=1)
    """Texts between two checkpoints; each passes the model by itself."""

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": Table(
            "A row is a prompt with one text that followed it.", key="prompt filler",
            columns=FOLLOWS | {
                "text": "the prompt as text",
                "filled_with": "the text that follows",
                "tokens": "number of its tokens",
                "compared": "whether it is long enough to be compared",
            },
        ),
        "identity": Table(
            "A row is a prompt: largest differences between writing a text and reading it.",
            key="prompt",
            columns={name: f"share of the size, of: {what}" for name, what in MEANING.items()} | {
                "log_p": "difference of log-probabilities, in nats",
                "same_choice": "share of written tokens that are likeliest when read, too",
            },
        ),
        "tokens": Table(
            "A row is a token after a prompt that is compared.", key="prompt filler pos",
            columns=MEANING | FOLLOWS | {
                "pos": "number of the token after the prompt, from 0",
                "surprisal": "-log p of the token, in nats",
                "surprisal_before": "mean surprisal of the tokens after the prompt so far",
                "repeated": "1 where the token stood in the text before, else 0",
            }, more="token_id token",
        ),
        "fillers": Table(
            "A row is a filler, mean over prompts.", key="filler", more="low high n",
            columns=FOLLOWS | {
                "surprisal": "mean surprisal in nats",
                "repeated": "share of tokens that stood in the text before",
                "overlap": "how far surprisals overlap with those of given text, 0 to 1",
                "overlap_other": "how far surprisals overlap with those of the other text, 0 to 1",
            },
        ),
        "effects": Table(
            "A row is a difference of a filler from given text.", key="control filler statistic",
            columns=COMPARED, more="low high p p_any q? n",
        ),
        "layers": Table(
            "A row is a difference of a filler from given text in one layer.",
            key="control filler statistic layer", columns=COMPARED, more="low high p p_any n",
        ),
        "against_random": Table(
            "A row is how far such a difference exceeds that in a model with random weights.",
            key="control random_model filler statistic", more="low high p_any n",
            columns=COMPARED | {"random_model": "number of the random model, from 0",
                                "estimate": "difference less that in the random model"},
        ),
        "explained": Table(
            "A row is how far surprisal explains the differences of a filler.",
            key="weights filler", more="low high n",
            columns=FOLLOWS | {"estimate": "share of the differences found with position alone "
                               "that is gone with surprisal held fixed, too"},
        ),
        "certainty": Table(
            "A row is how certain predictions are on the model's own text against another.",
            key="weights filler against held", more="low high p n",
            columns=FOLLOWS | {
                "against": "the text that it is compared with: given or other",
                "held": "what is held fixed: nothing, or the surprisal of the token just read",
                "estimate": "mean entropy of the next token on own text over that on the other",
            },
        ),
        "positive_control": Table(
            "A row is a difference of the planted model's own text from what it was given.",
            key="given filler statistic", more="low high p_any n",
            columns=COMPARED | {"given": "twins of its words, or its own text again"},
        ),
    }  # fmt: skip
    reading: ClassVar[Reading] = Reading(
        causal="partly: the text after a prompt is exchanged; nothing inside the model is changed",
        assumes="own and given text differ in position, surprisal and history alone, apart from "
        "who wrote them, and these act linearly",
        stressed="whether surprisals overlap enough to be held fixed, and whether words alone "
        "explain a difference (random weights read the same texts); linearity is not tested",
        not_shown="that the model knows what it wrote: the state of a token is the same whether "
        "it was just written or is given",
    )

    def measure(self, model: "Model") -> Results:
        """Write and read every filler, read them in random models, compare; then the control."""
        texts, own = self._prompts(model), PerPrompt()
        width = max(text.most for text in texts)
        for batch in self.stream(texts, own, "writing and reading", self.batch_size):
            for text in batch:
                own.update(**self._filled(model, text, width))
        kept = self._kept(model, own)
        twins = self._random(model, texts, own)
        parts = (own[name][kept] for name in ("surprisal", "history", "statistics"))
        filled = Filled.of(*parts, [twin["statistics"][kept] for twin in twins])
        n, entropy = int(kept.sum()), [weights["entropy"][kept] for weights in (own, *twins)]
        controls = {name: filled.compared(name, self.seed) for name in fillers.CONTROLS}
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own),
                "identity": _identity_rows(own),
                "tokens": fillers.token_rows(
                    model, filled, own["fillers"][kept], np.flatnonzero(kept)
                ),
                "fillers": fillers.filler_table(filled, self.seed),
                "effects": fillers.effect_table(controls, n),
                "layers": fillers.layer_table(filled, self.seed),
                "against_random": fillers.excess_table(controls, n),
                "explained": fillers.explained_table(controls, n),
                "certainty": fillers.certainty_table(filled, entropy),
                "positive_control": _control_table(),
            }
        )

    def headline(self, results: Results) -> str:
        """Whether own text differs at the same position and surprisal, and in what."""
        control, said = _control_claim(results.tables["positive_control"]), {}
        found = [_difference(results, filler, MAIN, control) for filler in OWN]
        for claim, name in zip(found, OWN.values(), strict=True):
            said.setdefault(_said(claim), []).append(f"own {name}")
        verdicts = {claim.verdict for claim in found}
        told = "Yes" if "holds" in verdicts else "No" if verdicts == {"fails"} else "Not decided"
        parts = "; ".join(f"{' and '.join(names)} {what}" for what, names in said.items())
        said = f"{told}, with position and surprisal held fixed: {parts}."
        certain = [self._certain(results, filler) for filler in OWN]
        known = [claim for claim in certain if claim.verdict in ("holds", "fails")]
        return said + "".join(
            f" At the same surprisal, the entropy of the next token on its own {claim.label} was "
            f"{claim.estimate:.2f} [{claim.low:.2f}, {claim.high:.2f}] of that on "
            f"{(REPLY if self.other_model else GIVEN)[1]}."
            for claim in known[-1:]
        )

    def claims(self, results: Results) -> list[Claim]:
        """Whether own text differs; whether surprisal explains it; the control, the identities."""
        control = _control_claim(results.tables["positive_control"])
        about = [(filler, held) for filler in OWN for held in list(fillers.CONTROLS)[1:]]
        return [
            *(_difference(results, *each, control) for each in about),
            *(_explained_claim(results, filler) for filler in OWN),
            *corrected([self._certain(results, filler) for filler in OWN], decide=f"more {MORE}"),
            control,
            *self._identities(results.tables["identity"]),
        ]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Effects beside random weights, tokens along the text, the control, and layers."""
        along = _text_figures(results.tables["tokens"])
        effects = _effect_figures(results) | _certainty_figure(results.tables["certainty"])
        return effects | along | _layer_figures(results)

    def _prompts(self, model: "Model") -> list[Prompt]:
        """Prompts with what they are followed by, but for the model's own text."""
        if model.card.arithmetic and not (self.prompts or self.prompts_file):
            found = replies.additions_answered(model, self.additions, self.seed)
        else:
            length = self.given_tokens + self.new_tokens
            found = replies.passages_cut(
                model, self.prompts, self.prompts_file, self.count, self.given_tokens, length
            )
        donor = self.other_model
        return replies.answered_by(donor, model, found, self.device) if donor else found

    def _filled(self, model: "Model", text: Prompt, width: int) -> dict[str, np.ndarray]:
        """What is kept of a prompt: fillers, how they were read, and the identity."""
        greedy = policy.generate(model, text.prompt, text.most, replies.ends(model))
        again = read_after(model, text.prompt, [greedy.tokens])
        ids = self._fillers(model, text, greedy.tokens)
        found = read_after(model, text.prompt, ids.tolist())
        surprisal = policy.surprisals(found, ids)
        kept = {
            "fillers": padded(ids, width, -1),
            "length": np.array(ids.shape[1]),
            "statistics": padded(found.statistics, width, 0),
            "surprisal": padded(surprisal, width, np.nan),
            "entropy": padded(entropies(found.log_p[:, 1:]), width, 0),
            "history": padded(policy.history(surprisal, ids, text.prompt), width, 0),
        }
        names = ("states", "log_p", "same_choice")
        kept |= zip(names, policy.largest_differences(greedy, again), strict=True)
        return {name: np.asarray(value)[None] for name, value in kept.items()}

    def _fillers(self, model: "Model", text: Prompt, greedy: list[int]) -> np.ndarray:
        """Tokens of each of FILLERS [filler pos], as long as the shortest."""
        rng = np.random.default_rng([self.seed, text.number])
        sampled = replies.sampled(model, text, int(rng.integers(2**31)))
        rows = [text.given, greedy, sampled, text.other]
        length = min(text.most, *map(len, rows))
        shuffled = rng.permutation(text.given[:length])
        return np.array([*(row[:length] for row in rows), shuffled], dtype=np.int64)

    def _kept(self, model: "Model", own: PerPrompt) -> np.ndarray:
        """Which prompts have fillers that are long enough."""
        kept = own["length"] >= FEWEST
        if kept.sum() < 3:
            told = f"{model.card.name} ends all but {kept.sum()} of {len(kept)} texts before "
            raise UsageError(f"{told}{FEWEST} tokens; it takes 3 that are longer")
        return kept

    def _random(self, model: "Model", texts: list[Prompt], own: PerPrompt) -> list[PerPrompt]:
        """Statistics and entropies of the same texts in random models."""
        found, rows = [], list(zip(texts, own["fillers"], own["length"], strict=True))
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept, label = PerPrompt(), f"random weights {number + 1}/{RANDOM_MODELS}"
            for batch in self.stream(rows, kept, label, self.batch_size):
                for text, ids, length in batch:
                    read = read_after(twin, text.prompt, ids[:, :length].tolist())
                    nats, width = entropies(read.log_p[:, 1:]), ids.shape[1]
                    kept.update(
                        statistics=padded(read.statistics, width, 0)[None],
                        entropy=padded(nats, width, 0)[None],
                    )
            found.append(kept)
        return found

    def _certain(self, results: Results, filler: str) -> Claim:
        """That the next token is less open on own text, as surprising tokens just read."""
        against, name, shared = REPLY if self.other_model else GIVEN
        rows = results.tables["certainty"].set_index(["filler", "against", "held"])
        rows = rows.sort_index().loc[(filler, against, "surprisal")].set_index("weights")
        covered = results.tables["fillers"].set_index("filler").loc[filler, shared]
        alike = covered >= LEAST_OVERLAP
        return Claim.mechanical(
            f"On its own {OWN[filler]} the model is more certain of the next token than on {name}, "
            "the surprisal of the token just read held fixed.",
            None if np.isnan(rows.loc["own", "low"]) else rows.loc["own"], below=1.0,
            verdict=None if alike else "undecided",
            decide=f"more {MORE}" if alike else f"texts whose surprisals overlap by {LEAST_OVERLAP}"
            f" or more (here {covered:.2f})",
            null=rows.drop(index="own")["estimate"].mean(),
            null_note="random weights that read the same texts, at the model's own surprisals",
            unit="entropy of the next token on own text, as a share of that on the other",
            needs="5 prompts or more, and texts that share a range of surprisal",
            family="The next token is more certain on own text", label=OWN[filler],
        )  # fmt: skip

    def _identities(self, rows: pd.DataFrame) -> list[Claim]:
        """That states while writing are those of one pass over what was written."""
        within, states = TOLERANCE[self.dtype], rows[list(STATISTICS)].max(axis=1)
        return [
            Claim.identity(
                f"A token's {what} the same whether it was just written or is given.", errors,
                within=within, unit=f"largest difference, {unit}; tolerance {within:g}",
            )
            for what, errors, unit in (
                ("states look", states, "share of a statistic's size"),
                ("predictions are", rows["log_p"], "log-probability (nats)"),
            )
        ]  # fmt: skip


def _prompt_rows(model: "Model", texts: list[Prompt], own: PerPrompt) -> pd.DataFrame:
    """What stands after each prompt, as it was compared."""
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


def _identity_rows(own: PerPrompt) -> pd.DataFrame:
    rows = pd.DataFrame(own["states"], columns=list(STATISTICS))
    rows.insert(0, "prompt", range(len(rows)))
    return rows.assign(log_p=own["log_p"], same_choice=own["same_choice"])


def _control_table() -> pd.DataFrame:
    """What is found, surprisal held fixed, where a planted model attends to its own words.

    The given text is in turn in twins of its words, which do differ inside, and what it sampled
    itself once more, from which its sampled text cannot differ. Always the same prompts.
    """
    planted, start, new = planted_dialect(), PLANTED["prompt"], PLANTED["new_tokens"]
    rows = planted.twins(PLANTED["prompts"], start + new, 0)
    prompt = rows[:, :start]
    greedy, sampled, again = (
        np.array(continue_text(planted.model, prompt.tolist(), new, temperature=t, seed=seed))
        for t, seed in ((0, 0), (1, 0), (1, 1))
    )
    given = {"twins of its words": rows[:, start:], "its own, again": again}
    return fillers.own_text_table(planted.model, prompt, given, (greedy, sampled))


def _difference(results: Results, filler: str, control: str, sure: Claim) -> Claim:
    """That a statistic differs, and more so (or the other way) than in each random model.

    `p` is the larger of all p_any, which are corrected over statistics, and is then corrected
    over these claims (Bonferroni: four).
    """
    about = f"filler == {filler!r} and control == {control!r}"
    rows = results.tables["effects"].query(about).set_index("statistic")
    random = results.tables["against_random"].query(about)
    names = " and ".join(control.rsplit(", ", 1))
    tell = partial(
        Claim.mechanical,
        f"Inside, the model's own {OWN[filler]} differs from given text, with {names} held fixed.",
        family="Own text differs inside from given text", label=f"{OWN[filler]}, {names} fixed",
    )  # fmt: skip
    if rows.empty:
        return tell(None, needs="a model whose statistics vary from token to token")
    worst = fillers.worst_p(rows, random)
    best = worst.index[np.lexsort([-rows["estimate"].abs(), worst])[0]]
    chosen, others = rows.assign(p=(4 * worst).clip(upper=1)).loc[best], random["statistic"] == best
    shared = results.tables["fillers"].set_index("filler").loc[filler, "overlap"]
    return tell(
        chosen, **_verdict(rows, chosen, shared, sure),
        null=chosen["estimate"] - random[others]["estimate"].mean() if others.any() else None,
        null_note=f"{random_models(RANDOM_MODELS)}, which read the same texts; by itself "
        f"a difference of {chosen['detectable']:.2f} would be found in four of five cases",
        unit=f"standard deviations of {_words(best)}, the clearest of {len(rows)} statistics",
    )  # fmt: skip


def _verdict(rows: pd.DataFrame, chosen: pd.Series, shared: float, sure: Claim) -> dict[str, str]:
    """Verdict on a difference, and what would decide it."""
    if sure.verdict != "holds":
        why = "a method whose positive control holds"
    elif shared < LEAST_OVERLAP:
        why = f"texts that are as surprising as each other (surprisals overlap by {shared:.2f}; "
        why += f"{LEAST_OVERLAP:g} is needed to hold them fixed)"
    elif chosen["p"] <= LEVEL and (chosen["low"] > 0 or chosen["high"] < 0):
        return {"verdict": "holds"}
    elif (rows["low"] > -BOUND).all() and (rows["high"] < BOUND).all():
        return {"verdict": "fails"}
    elif rows["p_any"].min() * 4 <= LEVEL:
        why = "more texts or random models: it differs, but not beyond random weights"
    else:
        why = f"more {MORE}: luck may explain it"
    return {"verdict": "undecided", "decide": why}


def _said(claim: Claim) -> str:
    """What the headline says of own text."""
    if claim.verdict == "holds":
        what = claim.unit.removeprefix("standard deviations of ").split(",")[0]
        return f"differed from given text by {claim.estimate:+.2f} standard deviations of {what}"
    if claim.verdict == "fails":
        return f"differed from given text by less than {BOUND:g} standard deviations throughout"
    return f"could not be told from given text; it takes {claim.decide or claim.needs}"


def _words(statistic: str) -> str:
    return statistic.replace("_", " ")


def _explained_claim(results: Results, filler: str) -> Claim:
    """That holding surprisal fixed takes away more than half of a difference that is there."""
    rows = results.tables["explained"].query("filler == @filler").set_index("weights")
    effects = results.tables["effects"].query("filler == @filler and control == 'position'")
    shared = results.tables["fillers"].set_index("filler").loc[filler, "overlap"]
    there, alike = "own" in rows.index and effects["p_any"].min() <= LEVEL, shared >= LEAST_OVERLAP
    random = rows.drop(index="own", errors="ignore")["estimate"]
    return Claim.mechanical(
        f"Surprisal explains more than half of how the model's own {OWN[filler]} differs inside "
        "from given text.", rows.loc["own"] if there else None, above=MOSTLY,
        verdict=None if alike else "undecided",
        decide=f"more {MORE}" if alike else f"texts whose surprisals overlap by {LEAST_OVERLAP:g} "
        f"or more (here {shared:.2f})",
        needs="texts in which own and given text differ at the same position by more than luck",
        null=random.mean() if there and len(random) else None,
        null_note="random weights that read the same texts, surprisals as the model's own",
        unit="share of the differences with position alone held fixed that is gone with surprisal "
        f"held fixed, too; threshold {MOSTLY:g}, below 0 they grow",
        family="Surprisal explains more than half of the difference", label=OWN[filler],
    )  # fmt: skip


def _control_claim(rows: pd.DataFrame) -> Claim:
    """That the planted difference is found, and that none is between two texts of one origin."""
    twins = rows["given"].str.startswith("twins")
    planted = rows[twins & (rows["statistic"] == "attention_on_filler")]
    same = rows[~twins & (rows["filler"] == "sampled")]
    found = (planted["low"] > 0).all() and (planted["p_any"] <= LEVEL).all()
    quiet = same["p_any"].min() > LEVEL
    return Claim.mechanical(
        "In a planted model that attends to its own words the method finds the difference, with "
        "surprisal held fixed, and finds none between two texts that this model wrote.",
        Estimate(planted["estimate"].min(), np.nan, np.nan, int(rows["n"].iloc[0])),
        null=same["estimate"].abs().max(), null_note="largest of all statistics between its own "
        f"texts, {'found in none' if quiet else 'found where there is nothing'}",
        unit="standard deviations of attention on filler, the smaller of likeliest and sampled",
        verdict="holds" if found and quiet else "fails", check=True,
    )  # fmt: skip


def _effect_figures(results: Results) -> dict[str, Drawing]:
    effects, excess = (_in_words(results.tables[name]) for name in ("effects", "against_random"))
    effects["held"] = effects["control"] + " held fixed"
    own = effects[effects["text"].notna() & (effects["control"] == MAIN)]
    keys = ["control", "filler", "statistic"]
    random = excess.merge(own[[*keys, APART]], on=keys, suffixes=(" more", ""))
    random[APART] -= random[APART + " more"]
    random["weights"] = "random weights " + random["random_model"].astype(str)
    parts = [own.assign(weights="these weights"), random.drop(columns=["low", "high"])]
    both = pd.concat(parts, ignore_index=True)
    return {
        "How each filler differs from given text": bars(
            effects[["held", "filler", "statistic", APART, "low", "high", "p_any", "n"]],
            "statistic", APART, series="filler", facet="held", reference=0,
            caption="Differences from given text at the same positions after the same prompts, in "
            "standard deviations of tokens at the same position. Greedy and sampled are the "
            "model's own. What goes away from one panel to the next is explained by what is held "
            "fixed in addition, and what appears was hidden by it. 95 % intervals over prompts.",
        ),
        "Beside random weights": bars(
            both[["text", "statistic", "weights", APART, "low", "high"]],
            "statistic", APART, series="weights", facet="text", reference=0,
            caption="The same differences of the model's own text, position and surprisal held "
            "fixed, beside models with random weights that read the very same texts: what they "
            "show too lies in the words, not in who wrote them.",
        ),
    }  # fmt: skip


def _certainty_figure(rows: pd.DataFrame) -> dict[str, Drawing]:
    """Entropy on own text over that on given and other text, beside random weights."""
    rows = rows.dropna(subset="estimate")
    if rows.empty:
        return {}
    held = rows["held"].replace("surprisal", "surprisal of the token just read") + " held fixed"
    pair = rows["filler"].map(OWN) + " against " + rows["against"]
    weights = (
        rows["weights"].replace("own", "these").replace(r"^([a-z]+)", r"\1 weights", regex=True)
    )
    shown = rows.assign(pair=pair, held=held, weights=weights, **{TIMES: rows["estimate"]})
    return {
        "How certain the next token is": bars(
            shown, "pair", TIMES, series="weights", facet="held", reference=1,
            caption="Mean entropy of the next token on the model's own text, as a share of that on "
            "other text: 1 is no difference, below 1 the model is more certain on its own. What "
            "moves to 1 in the second panel is explained by how surprising the token just read "
            "was. Random weights read the same texts. 95 % intervals over prompts.",
        )
    }  # fmt: skip


def _in_words(rows: pd.DataFrame) -> pd.DataFrame:
    words, text = rows["statistic"].map(_words), rows["filler"].map(OWN)
    return rows.assign(statistic=words, text=text, **{APART: rows["estimate"]})


def _text_figures(tokens: pd.DataFrame) -> dict[str, Drawing]:
    """Means over prompts by filler and position, of long texts a few positions together."""
    step, parts = max(1, (tokens["pos"].max() + 1) // 5), []
    first = tokens.assign(token=tokens["pos"] // step * step)
    for name in ("surprisal", *STATISTICS):
        means = first.groupby(["prompt", "filler", "token"])[name].mean().unstack([1, 2])
        ends = vars(bootstrap(means.to_numpy(float)))
        labels = means.columns.to_frame(index=False)
        parts.append(labels.assign(**ends, statistic=_words(name)))
    rows = pd.concat(parts, ignore_index=True).rename(columns={"estimate": "mean"})
    rows = rows.sort_values("filler", key=lambda names: names.map(FILLERS.index), kind="stable")
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
            caption="Each statistic at the tokens after the prompt, less its mean over fillers, in "
            "standard deviations; nothing else is held fixed. Of long texts a few tokens together, "
            "beginning at the one given. Bands: 95 % over prompts.",
        ),
    }  # fmt: skip


def _layer_figures(results: Results) -> dict[str, Drawing]:
    """The differences of the planted model, and those of this one layer by layer."""
    layers, control = (_in_words(results.tables[name]) for name in ("layers", "positive_control"))
    figures = {
        "The positive control": bars(
            control.assign(against="against " + control["given"]), "statistic", APART,
            series="filler", facet="against", reference=0,
            caption="A planted model with a head that attends to its own words: against twins of "
            "these words attention on the filler must be found, and between two texts that it "
            "sampled nothing (the likeliest text uses no twins at all and does differ).",
        )
    }  # fmt: skip
    if layers["layer"].nunique() > 1:
        figures["Where in the model"] = heat_map(
            layers.dropna(subset="text"), "statistic", "layer", APART, facet="text",
            diverging=True, label="standard deviations from given text",
            caption="Differences of the model's own text from given text by layer, position and "
            "surprisal held fixed.",
        )  # fmt: skip
    return figures
