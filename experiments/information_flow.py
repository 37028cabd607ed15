"""From where in the prompt, and through which parts, did this token come?"""

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Reading, Results, Table, TextStudy, corrected, percent
from lenses.flow.controls import carried_rows, copied_rows
from lenses.flow.decoded import decoded
from lenses.flow.gradients import state_gradients
from lenses.flow.keyed_texts import answered_texts, given_keyed
from lenses.flow.origins import Found, TracedText, origin_rows, row_errors, traced_texts
from lenses.flow.splits import RULES, splits
from lenses.flow.tables import cell_rows, fetched_rows, link_rows, node_rows, page_arrays
from lenses.flow.trace import Threshold, trace, without_sink
from lenses.flow.vocabulary import PARTS, vocabulary_shares
from lenses.kept import PerPrompt
from lenses.statistics.against_random import AgainstRandom, above_zero_and_twins
from lenses.statistics.grid import grid
from lenses.statistics.intervals import bootstrap, share
from models.planted.carry import planted_carry
from models.planted.copy import planted_copy
from models.text import token_strings
from prompts.additions import Addition
from prompts.relevance import keyed_prompts
from viz import along_text, bars, flow_blocks, flow_chart, flow_texts, heat_map, label

if TYPE_CHECKING:
    from models import Model
    from viz import Drawing

Rule = Literal["norms", "value norms", "projection", "l1 proximity", "gradient x activation",
               "contribution weights", "max-flow"]  # fmt: skip
ENOUGH = 0.02
"""By how much more must be fetched from a token of the key: a share of what is fetched."""
FOUND = 0.9
"""Of the flow must lead to the copied word for a rule to have found it."""
LOUD = 10.0
"""How much longer the loud copying head writes than all others."""
CONTROLS = {
    "copy": "a copying head that writes as much as each of the others",
    "loud copy": f"a copying head that writes {LOUD:.0f} times as much as each of the others",
    "carry column": "adders; whether layer 0's thickest link comes from the column that carries",
    "carry head": "the same adders; what the carry's head moves, of all that its layer moves",
}
"""Planted models, and what is known of each."""
CARRY_TRUEST: Rule = "norms"
"""The rule that flow_faithfulness finds truest on such adders."""
CHANCE = 2 / 9
"""At most: the two digits of a column among the tokens up to the answer digit."""
RANDOM_MODELS, TWINS_READ = 4, 24
"""Models with random weights; prompts, at most, that they read."""
TRIED, ADDERS = 8, 4
"""Additions that a planted adder reads at each place; planted adders."""
ROWS_WITHIN = 1e-5
TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
NEEDS = "5 prompts or more whose answer is known to come from one of their tokens"


class InformationFlow(TextStudy):
    """A predicted token is traced back through attention and MLPs to the tokens of the prompt; a
    rule says how much of each state came from where.

    A state is a sum: of the state before the layer, of what attention moved there from each other
    token, and of what the MLP added. A *rule* says which share of it each of these is. All weight
    starts at the state that predicts the token; each layer's joints divide it, and what reaches the
    embeddings at the bottom, what the biases of attention brought and what the threshold left out
    sum to 1. Seven published rules are compared; the page switches between them, and traces back
    from any cell that is clicked. Models attend to their first token when nothing else calls: this
    sink is left out, and what remains of attention takes its share.

    What the last token *fetches* is the weight that leaves its column for each other token, in all
    layers together. A language model reads prompts whose answer is a word that they state; an adder
    reads additions up to one answer digit. Which tokens *decide* these answers is known: the stated
    word, the two digits of the column. The weight fetched from each of them is held against that
    from the tokens beside it, and against models with random weights. Estimates are means over
    prompts; intervals (95 %) resample prompts. In planted models the path is known.
    """

    related: ClassVar[tuple[str, ...]] = ("flow_faithfulness",)
    runs_on: ClassVar[str] = "adder 10 s, language model 2 min"
    quick: ClassVar[Mapping[str, Any]] = {"additions": 8}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    prompts: tuple[str, ...] = ()
    """Prompts to read, of which the first are drawn; without any, shipped ones (adders: sums)."""
    rule: Rule = "projection"
    """Rule that the page opens with; by default what flow_faithfulness found truest on smollm2."""
    threshold: Literal["none", "top-k", "top-p", "minimum weight"] = "minimum weight"
    """Which links are followed: all, the strongest k, a share p, or those of a least weight."""
    threshold_value: float = Field(0.0003, ge=0)
    """The k, p or least weight of the threshold; by default the best of those tried on smollm2."""
    place: int = Field(1, ge=0)
    """Decimal place of the digit that is traced in an adder's answer (0 = units)."""
    heads: int = Field(2, ge=0, le=8)
    """Heads kept apart on each link of attention: those that carry most of it."""
    said: bool = True
    """Claims count only prompts that are answered with the stated word; off, all prompts."""
    drawn: int = Field(3, ge=1, le=4)
    """Texts whose flow is drawn; the page chooses among them."""
    additions: int = Field(24, ge=1)
    """Additions sampled for an adder."""
    batch_size: int = Field(4, ge=1)
    """Prompts between two checkpoints; each passes the model by itself."""

    tables: ClassVar[Mapping[str, Table]] = {
        "prompts": Table(
            "A row is a prompt that was read, and the token that was traced.",
            key="prompt",
            columns={
                "kind": "planted, reworded or misleading (shipped), addition, or given",
                "given": "the text up to the traced token",
                "traced": "the token that is traced: what the model says next",
                "decisive": "tokens that it is known to come from",
                "probability": "of the traced token",
                "counts": "whether the answer is known to depend on the deciding tokens",
                "row_error": "how far shares of a state are from summing to 1, at most",
                "head_error": "how far heads are from summing to their link, at most",
                "flow_error": "how far a flow is from conserving weight, at most",
                "attention_error": "how far parts are from what attention wrote (relative)",
            },
            more="given_tokens",
        ),
        "origins": Table(
            "A row is where the traced token of one prompt came from, by one rule.",
            key="weights rule prompt",
            columns={
                "rule": "how a state is divided",
                "decisive": "of what the last token fetches: a deciding token, their mean",
                "beside": "the same of the tokens beside the deciding ones",
                "origin": "of all weight: what comes from deciding tokens' embeddings in any way",
                "left": "of all weight: what the last token fetches from others",
                "clipped": "of the absolute scores on the way: those below zero, which are cut off",
            },
        ),
        "controls": Table(
            "A row is a text read by a planted model: the share of the flow on the true path.",
            key="control rule prompt",
            columns={
                "control": "planted model, and what is known of it",
                "rule": "how a state is divided",
                "found": "copy: weight from the copied word; carry column: 1 where the thickest "
                "link of layer 0 comes from it; carry head: its share of what layer 0 moves",
            },
        ),
        "cells": Table(
            "A row is a token that a state of a drawn prompt decodes to, likeliest first.",
            key="prompt depth pos rank",
            columns={
                "depth": "layers passed; 0 is the embedding",
                "rank": "0 for the likeliest",
                "input": "the token that was read there",
                "decoded": "the token that the state decodes to (logit lens)",
                "probability": "of that token",
                "gradient": "length of the gradient of the traced token's log-probability",
            },
        ),
        "nodes": Table(
            "A row is a state of a drawn prompt, and the weight that passes it.",
            key="prompt rule part depth pos",
            columns={
                "rule": "how a state is divided",
                "part": "`state`: between layers; `joint`: within one, after its attention",
                "depth": "layers passed; a joint is a half within one",
                "weight": "share of the traced token that passes",
            },
        ),
        "links": Table(
            "A row is a link of a drawn prompt's flow.",
            key="prompt rule kind layer query source",
            columns={
                "rule": "how a state is divided",
                "kind": "residual, attention, mlp, past the mlp, bias or dropped",
                "query": "pos of the token whose state is added to",
                "source": "pos of the token that it comes from",
                "weight": "share of the traced token that passes",
            },
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="no: states are taken apart as sums; flow_faithfulness cuts what a diagram leaves "
        "out and sees whether the prediction stays",
        assumes="a part matters as much as the rule says: by its length, its direction in the sum, "
        "or the traced token's gradient; which rule is truest differs by model (flow_faithfulness)",
        stressed="three planted models in which the true path is known; four models with random "
        "weights; the tokens beside the deciding ones",
        not_shown="that the token would change without a link; which head of a link did it, where "
        "others write as much; what a token that was fetched had itself collected before",
    )

    def measure(self, model: "Model") -> Results:
        """Trace every prompt by every rule, the first one in full; then twins; then controls."""
        given = given_keyed(self.prompts, self.prompts_file, None)
        asked = (given, 4, self.additions, self.seed)
        texts = traced_texts(model, answered_texts(model, *asked, self.stream), self.place)
        if not self.said:
            texts = [text for text in texts if text.key] or texts
        own = self._origins(model, texts, "tracing", heads=self.heads)
        counted = [t for t in texts if t.key and t.beside and (t.depends or not self.said)]
        drawn = (counted or texts)[: self.drawn]
        tables, arrays = self._all_drawn(model, drawn)
        return Results(
            tables={
                "prompts": _prompt_rows(model, texts, own, {t.number for t in counted}),
                "origins": self._against_twins(model, texts, counted[:TWINS_READ], own),
                "controls": _controls(self.seed),
                **tables,
            },
            arrays=arrays,
        )

    def headline(self, results: Results) -> str:
        """What the drawn token fetched, where; how often that decides; who says otherwise."""
        results = _of_text(results, 0)
        said = (_drawn_in_words(results, self.rule), _disagreement(results, self.rule),
                _keys_in_words(results, self.rule))  # fmt: skip
        return re.sub(r"(\d)%", r"\1 %", " ".join(filter(None, said)))

    def claims(self, results: Results) -> list[Claim]:
        """Are deciding tokens fetched; does weight stay; which rules find the true path."""
        prompts = results.tables["prompts"]
        return [
            *corrected([self._fetched(results, rule) for rule in RULES]),
            *_identities(prompts, TOLERANCE[self.dtype]),
            *_control_claims(results.tables["controls"], self.seed),
        ]

    def figures(self, results: Results) -> dict[str, "Drawing"]:
        """The flow; what it fetched; who finds the truth; gradients."""
        every = [_of_text(results, place) for place in range(len(results.arrays["drawn"]))]
        tables = every[0].tables
        given = tables["prompts"].set_index("prompt")["given"][results.arrays["drawn"]]
        charts = dict(zip(given, map(self._flow_figure, every), strict=True))
        return {
            "Where the token came from": flow_texts(charts),
            **_fetched_figure(tables),
            **_key_figures(tables["origins"]),
            "Which rules find a path that is known": _control_figure(tables["controls"]),
            "Which states the prediction hangs on": _gradient_figure(tables["cells"]),
            "What decides the token that a state decodes to": _vocabulary_figure(every[0]),
            "The flow as cells": self._blocks_figure(tables),
        }

    def planted(self) -> "Model":
        """A model whose first layer copies the key of each shipped prompt, ten times as loud."""
        shipped = keyed_prompts()
        texts, keys = [p.text for p in shipped], [p.key for p in shipped]
        return planted_copy(texts, keys, loud=LOUD, seed=self.seed)[0]

    def _origins(
        self, model: "Model", texts: list[TracedText], label: str, heads: int = 0
    ) -> PerPrompt:
        """What each rule says of each text, and the checks, text by text."""
        kept = PerPrompt()
        for batch in self.stream(texts, kept, label, self.batch_size):
            for text in batch:
                found = splits(model, text.tokens, target=text.target, heads=heads)
                rows = asdict(Found.of(found, text))
                checks = np.array([*row_errors(found).max(1), found.error, found.probability])
                kept.update(checks=checks[None], **{k: v[None] for k, v in rows.items()})
        return kept

    def _against_twins(
        self, model: "Model", texts: list[TracedText], counted: list[TracedText], own: PerPrompt
    ) -> pd.DataFrame:
        """Origins by the model's own weights in all texts, and by random ones where they count."""
        frames = [origin_rows(texts, own, "own")]
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS if counted else 0)):
            label = f"random weights {number + 1}/{RANDOM_MODELS}"
            kept = self._origins(twin, counted, label)
            frames.append(origin_rows(counted, kept, f"random {number}"))
        return pd.concat(frames, ignore_index=True)

    def _all_drawn(
        self, model: "Model", texts: list[TracedText]
    ) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
        """The texts that are drawn: rows by prompt, and arrays with a text's place in the name."""
        each, arrays = [self._drawn(model, text) for text in texts], {}
        tables = {
            name: pd.concat([one[name].assign(prompt=text.number)
                             for (one, _), text in zip(each, texts, strict=True)],
                            ignore_index=True)
            for name in each[0][0]
        }  # fmt: skip
        for place, (_, found) in enumerate(each):
            arrays |= {f"{name}_{place}": x for name, x in found.items()}
        return tables, arrays | {"drawn": np.array([text.number for text in texts])}

    def _drawn(
        self, model: "Model", text: TracedText
    ) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
        """One text in full: flows by every rule, decoded states, gradients, and all shares."""
        found = splits(model, text.tokens, target=text.target, heads=self.heads)
        limit = Threshold(self.threshold, self.threshold_value)
        flows = {
            rule: trace(without_sink(split), model.cfg.n_layers, -1, limit)
            for rule, split in found.by_rule.items()
        }
        gradient = state_gradients(model, text.tokens, text.target).norm(dim=-1)
        tables = {
            "cells": cell_rows(model, text.ids, decoded(model, text.tokens, 5), gradient),
            "nodes": node_rows(flows),
            "links": link_rows(flows),
        }
        told = {"key": np.array(text.key, dtype=np.int64), "clipped": Found.of(found, text).clipped}
        told |= {"vocabulary": vocabulary_shares(model, text.tokens).numpy()}
        return tables, page_arrays(found) | told

    def _fetched(self, results: Results, rule: str) -> Claim:
        """That deciding tokens are fetched more than those beside them, beyond random models."""
        rows = results.tables["origins"]
        rows = rows[rows["rule"] == rule].dropna(subset=["decisive", "beside"])
        counted = results.tables["prompts"].query("counts")["prompt"]
        rows = rows[rows["prompt"].isin(counted)].assign(more=rows["decisive"] - rows["beside"])
        found = _by_enough(above_zero_and_twins(rows, "more", self.seed, (-2, 2)))
        return Claim.learned(
            "What the last token fetches from others comes more from the tokens that decide the "
            f"answer than from the tokens beside them, by more than {ENOUGH:g} and more so than "
            f"with random weights, by the rule {rule}.",
            found, above=ENOUGH, label=rule,
            family="More is fetched from deciding tokens than from beside them",
            unit="share of what is fetched, a deciding token's minus one's beside it",
            null=found and found.random.mean(), null_note=found.note if found else "",
            needs=NEEDS, more="prompts",
        )  # fmt: skip

    def _blocks_figure(self, tables: Mapping[str, pd.DataFrame]) -> "Drawing":
        links = tables["links"]
        return flow_blocks(
            links[links["rule"] == self.rule], tables["cells"],
            caption="The first text as the view “cells” above draws it: every state with the token "
            "that it decodes to (darker: surer); columns are tokens, rows layers passed. "
            "Lines are links of at least 2 % of the traced token; orange ones are attention.",
        )  # fmt: skip

    def _flow_figure(self, results: Results) -> "Drawing":
        tables, arrays = results.tables, results.arrays
        drawn = tables["prompts"].set_index("prompt").loc[int(arrays["drawn"][0])]
        known = f" It is known to come from {drawn['decisive']}." if drawn["decisive"] else ""
        return flow_chart(
            tables["nodes"], tables["links"], tables["cells"], arrays,
            rules=list(RULES), rule=self.rule, threshold=(self.threshold, self.threshold_value),
            traced=drawn["traced"], key=arrays["key"].tolist(),
            caption="Read from the top: the last token's last state predicts "
            f"“{label(drawn['traced'])}” (probability {drawn['probability']:.2f}).{known} "
            "Every box is a state (columns: tokens; layers between rows) with the token it decodes "
            "to; widths are shares of the traced token. Click a box to trace it back instead.",
        )  # fmt: skip


def _of_text(results: Results, place: int) -> Results:
    """The results with one of the drawn texts only."""
    number = int(results.arrays["drawn"][place])
    tables = dict(results.tables)
    for name in ("cells", "nodes", "links"):
        rows = tables[name]
        tables[name] = rows[rows["prompt"] == number].drop(columns="prompt")
    end = f"_{place}"
    own = {k.removesuffix(end): x for k, x in results.arrays.items() if k.endswith(end)}
    return Results(tables, own | {"drawn": np.array([number])})


def _by_enough(found: AgainstRandom | None) -> AgainstRandom | None:
    """What holds against random weights must also be more than ENOUGH."""
    if found is None or found.verdict != "holds" or found.low > ENOUGH:
        return found
    return replace(found, verdict="undecided")


@cache
def _controls(seed: int) -> pd.DataFrame:
    """What each rule finds in planted models, text by text; the model asked about has no part."""
    shipped = [p for p in keyed_prompts() if p.kind == "planted"]
    texts, keys = [p.text for p in shipped], [p.key for p in shipped]
    frames = [copied_rows(planted_copy(texts, keys, loud=loud, seed=seed)[0], texts, keys, name)
              for name, loud in (("copy", 1.0), ("loud copy", LOUD))]  # fmt: skip
    for number in range(ADDERS):
        planted = planted_carry(seed=seed + number)
        sums = Addition(planted.model.card.arithmetic.digits, 16 * TRIED, seed + number).sums
        rows = carried_rows(planted.model, planted.heads, sums, TRIED)
        frames.append(rows.assign(prompt=rows["prompt"] + 100 * number))
    return pd.concat(frames)


def _prompt_rows(
    model: "Model", texts: list[TracedText], own: PerPrompt, counted: set[int]
) -> pd.DataFrame:
    """What was read and traced, with the checks of each text."""
    checks = own["checks"]
    names = ("row_error", "head_error", "attention_error", "probability")
    return pd.DataFrame({
        "prompt": [text.number for text in texts],
        "kind": [text.kind for text in texts],
        "given": ["".join(token_strings(model, text.ids)) for text in texts],
        "traced": token_strings(model, [text.target for text in texts]),
        "decisive": [_words(model, text) for text in texts],
        "counts": [text.number in counted for text in texts],
        "given_tokens": [len(text.ids) for text in texts],
        **dict(zip(names, checks.T, strict=True)),
        "flow_error": own["error"].max(1),
    })  # fmt: skip


def _words(model: "Model", text: TracedText) -> str:
    words = zip(token_strings(model, [text.ids[pos] for pos in text.key]), text.key, strict=True)
    return " and ".join(f"“{label(word)}” (pos {pos})" for word, pos in words)


def _drawn_in_words(results: Results, rule: str) -> str:
    """From which token the drawn one was fetched most, how much of it, and in which layer."""
    tables = results.tables
    drawn = tables["prompts"].set_index("prompt").loc[int(results.arrays["drawn"][0])]
    traced, taken = f"“{label(drawn['traced'])}”", fetched_rows(tables["links"])
    taken = taken[taken["rule"] == rule].set_index("source")["share"]
    if taken.empty:
        return f"By “{rule}”, {traced} came from no other token: no link holds enough of it."
    most = taken.idxmax()
    known = results.arrays["key"] if drawn["counts"] else ()
    keys = [f"{_place(tables, pos)} ({taken.get(pos, 0.0):.0%})" for pos in known]
    known = f" Known to bear on it (marked below): {' and '.join(keys)}." if keys else ""
    return (
        f"By the rule “{rule}”, the predicted {traced} came most from {_place(tables, most)}: "
        f"{taken[most]:.0%} of what the last position takes from others, the largest part in "
        f"{_strongest(results, rule, most)}.{known}"
    )


def _disagreement(results: Results, rule: str) -> str:
    """Which other ways to divide a state name another token of the drawn text, and which."""
    named: dict[int, list[str]] = {}
    for one, rows in fetched_rows(results.tables["links"]).groupby("rule", sort=False):
        named.setdefault(int(rows.set_index("source")["share"].idxmax()), []).append(one)
    own = next((source for source, rules in named.items() if rule in rules), None)
    if own is None:
        return ""
    others = [f"{_place(results.tables, source)} ({', '.join(rules)})"
              for source, rules in named.items() if source != own]  # fmt: skip
    rest = f"; the rest {' or '.join(others)}" if others else ""
    return f"{len(named[own]) - 1} of {len(RULES) - 1} other rules name it first, too{rest}."


def _place(tables: Mapping[str, pd.DataFrame], pos: int) -> str:
    inputs = tables["cells"].drop_duplicates("pos").set_index("pos")["input"]
    return f"“{label(inputs[pos])}” at position {pos}"


def _strongest(results: Results, rule: str, source: int) -> str:
    """The layer, and head, in which the last token fetches most from a token."""
    links = results.tables["links"]
    last = results.arrays["attention"].shape[2] - 1
    links = links[(links["rule"] == rule) & (links["kind"] == "attention")]
    links = links[(links["query"] == last) & (links["source"] == source)]
    layer = links.nlargest(1, "weight")["layer"].iloc[0]
    heads = results.arrays["head"][list(RULES).index(rule), layer, last, source]
    return f"layer {layer}" + (f", there above all by L{layer}H{heads[0]}" if len(heads) else "")


def _keys_in_words(results: Results, rule: str) -> str:
    """How much of what is fetched comes from the tokens that decide, over all prompts."""
    rows = results.tables["origins"]
    counted = results.tables["prompts"].query("counts")["prompt"]
    rows = rows[(rows["weights"] == "own") & (rows["rule"] == rule) & rows["prompt"].isin(counted)]
    if not len(rows):
        return "No prompt's answer is known to come from one of its tokens."
    key, beside = rows["decisive"].mean(), rows["beside"].mean()
    return (
        f"In {len(rows)} prompts, a token known to decide the answer gives {key:.0%} of what the "
        f"last token takes, on average, a token beside it {beside:.0%}."
    )


def _identities(prompts: pd.DataFrame, tolerance: float) -> list[Claim]:
    """That nothing is lost, at any state and on the whole way."""
    within = {"within": ROWS_WITHIN, "unit": f"largest error; tolerance {ROWS_WITHIN:g}"}
    return [
        Claim.identity("The shares of every state sum to 1 by every rule.",
                       prompts["row_error"], **within),
        Claim.identity("What the heads of a link carry sums to the link.",
                       prompts["head_error"], **within),
        Claim.identity("What arrives at the embeddings, what biases bring and what is dropped "
                       "sum to 1.", prompts["flow_error"], **within),
        Claim.identity("What attention moves from all tokens, with its bias, is what it writes.",
                       prompts["attention_error"], within=tolerance),
    ]  # fmt: skip


def _control_claims(rows: pd.DataFrame, seed: int) -> list[Claim]:
    """Which rules find a path that is known, and which miss it."""
    claims, found = [], rows.pivot(index="prompt", columns=["control", "rule"], values="found")
    for control in ("copy", "loud copy"):
        means = found[control].mean()
        finding = [rule for rule in RULES if means.get(rule, 0) > FOUND]
        missing = [f"{rule} ({means[rule]:.2f})" for rule in RULES if rule not in finding]
        best = max(RULES, key=lambda rule: means.get(rule, 0))
        told = f"Found by {', '.join(finding) or 'none'}; missed by {', '.join(missing) or 'none'}."
        claims.append(Claim.mechanical(
            f"In a planted model with {CONTROLS[control]}, a rule leads over {percent(FOUND)} of "
            f"the flow along the true path. {told}",
            bootstrap(found[control][best].to_numpy(), seed).within(0, 1), above=FOUND, check=True,
            unit=f"share on the true path by the rule {best}", more="texts",
        ))  # fmt: skip
    return [*claims, *_carry_claims(found["carry column"], found["carry head"], seed)]


def _carry_claims(columns: pd.DataFrame, heads: pd.DataFrame, seed: int) -> list[Claim]:
    """What the diagrams of an adder show of its carry: the column, not the head."""
    tried, best = columns[CARRY_TRUEST].dropna(), heads.mean().fillna(0).idxmax()
    told = ", ".join(f"{rule} {columns[rule].mean():.2f}" for rule in RULES)
    return [
        Claim.mechanical(
            f"In {ADDERS} planted adders layer 0's thickest link into an answer digit comes more "
            "often than by chance from the column that makes its carry, by the rule "
            f"{CARRY_TRUEST}, which flow_faithfulness finds truest there. By every rule: {told}.",
            share(int(tried.sum()), len(tried)), above=CHANCE, null=CHANCE, check=True,
            null_note="a token drawn by chance, at most", unit="share of additions",
            more="additions", needs="one addition or more",
        ),
        Claim.descriptive(
            "In planted adders no rule shows which head moves the carry: it is one of six that "
            f"write as much, and nothing reads the others; it gets {heads[best].mean():.2f} at "
            f"most ({best}). Rules by gradient draw nothing there: the step that follows is flat.",
            bootstrap(heads[best].to_numpy(), seed).within(0, 1), unit="of what layer 0 moves",
        ),
    ]  # fmt: skip


def _fetched_figure(tables: Mapping[str, pd.DataFrame]) -> dict[str, "Drawing"]:
    inputs = tables["cells"].drop_duplicates("pos")[["pos", "input"]]
    words = {row.pos: f"{row.pos} {row.input}" for row in inputs.itertuples()}
    rows = grid({"rule": list(RULES), "source": sorted(words)[:-1]})
    rows = rows.merge(fetched_rows(tables["links"]), how="left").fillna({"share": 0.0})
    rows["token"] = rows["source"].map(words)
    return {} if rows.empty else {"What the last token fetches, by each rule": heat_map(
        rows, "rule", "token", "share", low=0.0, label="share of what is fetched",
        caption="The drawn text: of what its last token takes from other tokens, the share that "
        "comes from each, by each rule (threshold as above; the first token is left out).",
    )}  # fmt: skip


def _key_figures(origins: pd.DataFrame) -> dict[str, "Drawing"]:
    own = origins[origins["weights"] == "own"].dropna(subset=["decisive", "beside"])
    random = origins[origins["weights"] != "own"].dropna(subset=["decisive"])
    rows = []
    for rule in RULES:
        for of, frame, column in (("deciding", own, "decisive"), ("beside it", own, "beside"),
                                  ("deciding, random weights", random, "decisive")):  # fmt: skip
            values = frame[frame["rule"] == rule].groupby("prompt")[column].mean().to_numpy()
            if len(values):
                found = bootstrap(values).within(0, 1)
                rows.append((rule, of, float(found.estimate), float(found.low), float(found.high)))
    return {} if not rows else {"Is the token fetched that decides the answer?": bars(
        pd.DataFrame(rows, columns=["rule", "token", "share", "low", "high"]), "rule", "share",
        series="token",
        caption="Share of what the last token fetches from other tokens: what comes from a "
        "deciding token, from one beside it, and from a deciding one in models with random "
        "weights. Means over prompts with 95 % intervals; the first token (sink) is left out.",
    )}  # fmt: skip


def _control_figure(controls: pd.DataFrame) -> "Drawing":
    means = controls.groupby(["control", "rule"], sort=False)["found"].mean().reset_index()
    return heat_map(
        means.rename(columns={"control": "planted model"}), "rule", "planted model", "found",
        low=0.0, high=1.0, label="share found",
        caption="How much each rule finds of what is known: a share of the flow, or of additions. "
        + " ".join(f"{k}: {about}." for k, about in CONTROLS.items()),
    )  # fmt: skip


def _gradient_figure(cells: pd.DataFrame) -> "Drawing":
    one = cells[cells["rank"] == 0].rename(columns={"depth": "layers passed"})
    largest = one.groupby("layers passed")["gradient"].transform("max")
    one = one.assign(relative=(one["gradient"] / largest.where(largest > 0)).fillna(0.0))
    return along_text(
        one, "relative", rows="layers passed", token="input", label="share of its row's longest",
        caption="How steeply the traced token's log-probability changes with each state: the L2 "
        "norm of its gradient by the state, over the longest in the same row (the lengths "
        "themselves are in the table of cells).",
    )  # fmt: skip


def _vocabulary_figure(one: Results) -> "Drawing":
    shares = one.arrays["vocabulary"]
    inputs = one.tables["cells"].drop_duplicates("pos").sort_values("pos")["input"]
    words = [f"{pos} {word}" for pos, word in enumerate(inputs)]
    axes = {"layer": range(len(shares)), "token": words, "part": list(PARTS)}
    return heat_map(
        grid(axes, share=shares), "layer", "token", "share", facet="part", low=0.0, high=1.0,
        label="share of the change of the decoded distribution (KL)",
        caption="After each layer a state decodes to a distribution over tokens. How far it "
        "moves (KL) when the residual stream, what attention adds or what the MLP adds is taken "
        "out, as shares of the three.",
    )  # fmt: skip
