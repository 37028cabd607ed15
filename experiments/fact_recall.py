"""Where does the model look up what it knows, and which rival stays second?"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, TextFile, UsageError, corrected
from lenses.kept import PerPrompt
from lenses.states.decoding import sites
from lenses.states.facts import Asked, Case, added_cases, equally_long, told_cases
from lenses.states.recall import Plan, embedding_ranks, ranks, trace
from lenses.states.recall_tables import RecallTables, example_rows, fact_rows, mean_ranks
from lenses.statistics.against_random import against_random
from lenses.statistics.intervals import FEWEST, bootstrap, share, sign_flip
from models.planted.recall import planted_recall
from prompts.additions import Addition
from prompts.recall import recalled_facts
from viz import Drawing, bars, curves, heat_map

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, whose embeddings are read beside the model's own."""
LEAST = 0.05
"""Probability that must be brought back, at the least, for a place to count."""
AT_ONCE = 16
"""Prompts whose states are decoded together."""
MORE = "more facts (--count)"
NEEDS = "5 facts or more that other subjects of the relation can be exchanged in (--facts-file)"
LOOKED_UP = {
    "mlp_subject": (
        "At the subject's last token, what the MLPs of a few layers write brings back more than 5 "
        "points of the answer's probability.",
        "MLPs at the subject",
    ),
    "more": (
        "At the subject's last token, MLPs bring back more than attention does, by over 5 points "
        "of the answer's probability.",
        "MLPs less attention at the subject",
    ),
    "attention_last": (
        "At the last token, what attention writes in a few layers brings back more than 5 points "
        "of the answer's probability.",
        "attention at the last token",
    ),
}
"""Learned claims, by their column in `traced`, with a label."""
PUT_BACK = {"at the subject": "last of subject", "at the last token": "last token"}


class FactRecall(Experiment):
    """The subject of a fact is exchanged or blurred; then one thing after another is put back.

    "The capital of France is the city of": the fact is what comes next (Paris), its rival is of
    the same kind and wrong here (Lyon). Facts whose answer is not the likeliest next token are
    reported and left out. The logit lens gives the rank of answer and rival in every state. Then
    the subject is corrupted, by another subject of the same relation or by noise on its embedding
    (3 standard deviations), and the answer becomes unlikely. One state of the clean run at a time
    is put back, or what attention or the MLPs wrote in a few neighbouring layers at one token: how
    much of the answer's probability comes back tells where the fact was (causal tracing). Prompts
    are averaged by what their tokens are: of the subject, just after it, last. Answers and rivals
    are told by their first tokens. Intervals (95 %) resample facts.

    An adder knows no facts. For it the subject is a digit of the first number, another subject is
    another digit there, and the answer is the digit of the sum at the same decimal place.
    """

    runs_on: ClassVar[str] = "adder 5 s, language model 2 min"
    quick: ClassVar[dict[str, Any]] = {"count": 10}

    model: str = "smollm2"
    """Model: a card's name, a path to a card, folder or .gguf file, or a hub id."""
    facts_file: TextFile | None = None
    """Facts of your own in place of prompts/recall.toml: a .toml written like it, or a .csv with
    the columns relation, prompt (with {subject} in it), subject, answer, rival."""
    count: int = Field(32, ge=1)
    """Known facts that are traced, relations taking turns; for an adder, additions sampled."""
    every: int = Field(2, ge=1)
    """Layers from one state that is put back to the next; the last is always among them."""
    window: int = Field(0, ge=0)
    """Neighbouring layers whose outputs are put back together; 0: a fifth of the layers."""
    batch_size: int = Field(4, ge=1)
    """Facts traced together."""

    tables: ClassVar[Mapping[str, Table]] = {
        "facts": Table(
            "A row is a fact, and what the model makes of it.",
            key="fact",
            columns={
                "fact": "number of the fact, from 0",
                "relation": "what is asked of the subject; for an adder the decimal place",
                "text": "the text up to the answer",
                "answer": "the answer, up to where it differs from the rival",
                "rival": "a word of the same kind that is wrong here",
                "said": "the likeliest next token",
                "second": "the likeliest next token but one",
                "rank": "rank of the answer's first token at the end; 1 is the likeliest",
                "rival_rank": "the same of the rival",
                "ahead_from": "blocks after which the answer stays before its rival to the end",
                "embedding_rank": "rank of the answer where the subject's embedding is read out",
                "embedding_rival_rank": "the same of the rival",
                "known": "whether the answer is the likeliest next token",
                "skipped": "why the fact was not read; empty if it was",
            },
        ),
        "trajectory": Table(
            "A row is the rank of answers or rivals at the last token after some blocks.",
            key="word depth",
            columns={
                "word": "`answer` or `rival`",
                "depth": "blocks behind the state; 0 is the embedding",
                "estimate": "geometric mean of the rank over known facts",
            },
            more="low high n",
        ),
        "example": Table(
            "A row is the rank of answer or rival in one state of the first prompt.",
            key="word depth pos",
            columns={
                "word": "the answer or the rival",
                "depth": "blocks behind the state; 0 is the embedding",
                "rank": "its rank when the state is read out; 1 is the likeliest",
                "log_probability": "its log-probability in nats",
            },
            more="token",
        ),
        "states": Table(
            "A row is how much probability of the answer comes back with one state.",
            key="corruption layer put_back_at",
            columns={
                "corruption": "what was done to the subject: `another subject` or `noise`",
                "put_back_at": "which token's state after the layer was put back",
                "estimate": "probability that comes back, mean over facts",
                "share": "as a share of what the corruption cost these and all other facts",
            },
            more="low high n",
        ),
        "runs": Table(
            "A row is how much comes back with what some neighbouring layers write at one token.",
            key="component put_back_at first_layer",
            columns={
                "component": "`attention` or `mlp`",
                "put_back_at": "at which token their outputs were put back",
                "first_layer": "the first of the layers",
                "last_layer": "the last of them",
                "estimate": "probability that comes back, mean over facts",
            },
            more="low high n",
        ),
        "traced": Table(
            "A row is a traced fact, with what the layers bring back that are best for the others.",
            key="fact",
            columns={
                "fact": "number of the fact, from 0",
                "probability": "of the answer",
                "lost": "probability that another subject costs",
                "lost_by_noise": "probability that noise costs",
                "attention_subject": "brought back by attention at the subject's last token",
                "attention_last": "brought back by attention at the last token",
                "mlp_subject": "brought back by MLPs at the subject's last token",
                "mlp_last": "brought back by MLPs at the last token",
                "mlp_subject_above": "`mlp_subject` without the first layer's MLP",
                "handover": "layer from which the last token's state brings back more than the "
                "subject's",
                "agreement": "rank correlation of what states bring back after another subject and "
                "after noise",
                "error_last": "what is missing when the last state is put back",
                "error_before": "what changes when a state before the subject is put back",
            },
        ),
        "embedding_only": Table(
            "A row is whether the embedding of a subject ranks the answer before the rival.",
            key="weights fact",
            columns={"fact": "number of the fact, from 0", "value": "1 if it does, else 0"},
        ),
    }
    reading: ClassVar[Reading] = Reading(
        causal="yes for what is put back: a state or outputs of the clean run, in a run with a "
        "corrupted subject; ranks along the layers are only observed",
        assumes="a subject that was exchanged or blurred leaves nothing of the fact, and the first "
        "token of an answer stands for it",
        stressed="the kind of corruption: another subject and noise are compared; that the "
        "embedding does it: it is read out alone; the best layers are chosen on other facts",
        not_shown="that the fact is stored where it can be put back, or could be edited there "
        "(2301.04213); the first states of a subject of one token, and the first MLP, tell all of "
        "it in any model",
    )

    def measure(self, model: "Model") -> Results:
        """Ranks of all facts, then tracing of those that are known, then random embeddings."""
        asked = self._asked(model)
        kept = self._ranks(model, asked.cases)
        first, where = asked.cases[:1], sites(model)
        every = ranks(model, where, first, [(0, pos) for pos in range(len(first[0].ids))])
        known = kept["rank"][:, -1, 0] == 1
        ranked = (kept["rank"][known] if known.any() else kept["rank"]).transpose(1, 0, 2)
        return Results(
            tables={
                "facts": fact_rows(model, asked, kept),
                "trajectory": mean_ranks(ranked, self.seed),
                "example": example_rows(model, asked, every),
                **self._traced(model, asked.taking_turns(known, self.count, FEWEST)),
                "embedding_only": self._embedding_only(model, asked.cases, kept["embedding"]),
            }
        )

    def _asked(self, model: "Model") -> Asked:
        """Facts as tokens: told in words or, for an adder, by additions."""
        if (form := model.card.arithmetic) is not None:
            sums = Addition(form.digits, self.count, self.seed, padded=form.pad).sums
            try:
                return added_cases(form, sums, self.seed)
            except ValueError as error:
                raise UsageError(f"{model.card.name}: {error}") from error
        if model.tokenizer is None:
            raise UsageError(f"{model.card.name} reads no text; take a language model")
        try:
            facts = recalled_facts(self.facts_file)
        except ValueError as error:
            raise UsageError(str(error)) from error
        asked = told_cases(model, facts, self.seed)
        if not asked.cases:
            why = next(iter(asked.skipped.values()))
            raise UsageError(f"no fact can be read ({why}); give others (--facts-file)")
        return asked

    def _ranks(self, model: "Model", cases: Sequence[Case]) -> PerPrompt:
        """Ranks at the last token in every site, what is said, and ranks from the embedding."""
        kept, where = PerPrompt(), sites(model)
        for some in self.stream(cases, kept, "ranks", size=AT_ONCE):
            found = ranks(model, where, some, [(n, len(c.ids) - 1) for n, c in enumerate(some)])
            kept.update(
                rank=found.rank.swapaxes(0, 1), said=found.said,
                embedding=embedding_ranks(model, some),
            )  # fmt: skip
        return kept

    def _traced(self, model: "Model", cases: Sequence[Case]) -> dict[str, pd.DataFrame]:
        """What is brought back in each fact; empty tables where no subject can be exchanged."""
        kept, plan = PerPrompt(), Plan.of(model.cfg.n_layers, self.every, self.window)
        for some in self.stream(equally_long(cases, self.batch_size), kept, "tracing"):
            found = trace(model, some, plan, self.seed)
            kept.update(number=np.array([case.number for case in some]), **vars(found))
        if not cases:
            return {name: pd.DataFrame() for name in ("states", "runs", "traced")}
        told = RecallTables(kept, plan, self.seed)
        return {"states": told.state_rows(), "runs": told.run_rows(), "traced": told.fact_rows()}

    def _embedding_only(
        self, model: "Model", cases: Sequence[Case], own: np.ndarray
    ) -> pd.DataFrame:
        """Whether embeddings alone rank answers before rivals, own weights and random ones."""
        found = {"own": own}
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept, label = PerPrompt(), f"random weights {number + 1}/{RANDOM_MODELS}"
            for _ in self.stream([number], kept, label):
                kept.update(rank=embedding_ranks(twin, cases))
            found[f"random {number}"] = kept["rank"]
        numbers = [case.number for case in cases]
        return pd.concat(
            pd.DataFrame({"weights": name, "fact": numbers, "value": (r[:, 0] < r[:, 1]) * 1.0})
            for name, r in found.items()
        ).reset_index(drop=True)

    def headline(self, results: Results) -> str:
        """Where the answer comes back from, what brings it, and who is second in the first fact."""
        facts, traced = results.tables["facts"], results.tables["traced"]
        read = facts[facts["skipped"] == ""]
        known = f"The model knows {int(read['known'].sum())} of {len(read)} facts"
        where = f"; {_where_it_comes_back(results)}" if len(traced) else "."
        return f"{known}{where} {_first_fact(read.iloc[0])}"

    def claims(self, results: Results) -> list[Claim]:
        """Who brings the answer back where, when it moves on, and what the embedding tells."""
        traced = results.tables["traced"]
        return [
            *corrected([self._looked_up(traced, *told) for told in LOOKED_UP.items()], MORE),
            *self._found(results),
            self._not_the_embedding(results.tables["embedding_only"]),
            *self._checks(traced),
        ]

    def _looked_up(self, traced: pd.DataFrame, name: str, told: tuple[str, str]) -> Claim:
        """That what is brought back in the layers that are best for other facts is enough."""
        sentence, label = told
        how = {"above": LEAST, "null": 0.0, "null_note": "nothing is brought back; the layers are "
               "those that are best for all other facts", "unit": "probability of the answer",
               "label": label, "family": "Who brings the answer back?"}  # fmt: skip
        values = np.array([])
        if len(traced):
            more = traced["mlp_subject"] - traced["attention_subject"]
            values = (more if name == "more" else traced[name]).dropna().to_numpy()
        if len(values) < FEWEST:
            return Claim.not_tested("learned", sentence, NEEDS, label=label, family=how["family"])
        two_sided = float(sign_flip(values - LEAST, self.seed))
        p = two_sided / 2 if values.mean() > LEAST else 1 - two_sided / 2
        return Claim.learned(sentence, bootstrap(values, self.seed), p=p, more=MORE, **how)

    def _found(self, results: Results) -> list[Claim]:
        """Plain findings: what is known, who is second, when it moves on, do corruptions agree."""
        facts, traced = results.tables["facts"], results.tables["traced"]
        read = facts[facts["skipped"] == ""]
        known = read[read["known"] == 1]
        second = int((known["rival_rank"] == 2).sum())
        mean = {name: bootstrap(traced[name].to_numpy(float), self.seed) if len(traced) else None
                for name in ("handover", "mlp_subject_above", "agreement")}  # fmt: skip
        return [
            Claim.descriptive(
                "Share of facts whose answer is the likeliest next token.",
                share(len(known), len(read)), unit="share of facts",
            ),
            Claim.descriptive(
                "Share of known facts in which the named rival is the second likeliest of all "
                "tokens.", share(second, len(known)), unit="share of known facts",
            ),
            Claim.descriptive(
                "Blocks after which the answer of a known fact stays before its rival to the end.",
                bootstrap(known["ahead_from"].to_numpy(float), self.seed), unit="blocks",
            ),
            Claim.descriptive(
                "Layer from which the last token's state brings back more of the answer than the "
                "subject's.", mean["handover"], unit="layer",
            ),
            Claim.descriptive(
                "What MLPs bring back at the subject's last token without that of the first layer, "
                "which tells a token from others even where no fact is looked up.",
                mean["mlp_subject_above"], unit="probability of the answer",
            ),
            Claim.descriptive(
                "After noise, states bring the answer back at the same places as after another "
                "subject.", mean["agreement"], unit="rank correlation within a fact",
            ),
        ]  # fmt: skip

    def _not_the_embedding(self, rows: pd.DataFrame) -> Claim:
        """Whether the subject's embedding tells the answer from the rival, without any layer."""
        wide = rows.pivot(index="weights", columns="fact", values="value")
        found = against_random(
            wide.loc["own"].to_numpy(), wide.drop("own").to_numpy(), self.seed
        )  # fmt: skip
        return Claim.mechanical(
            "Read out alone, a subject's embedding ranks the answer before its rival more often "
            "than random embeddings do.", found, null=found.random.mean(), null_note=found.note,
            unit="share of facts, known or not", decide="more facts (--facts-file)",
        )  # fmt: skip

    def _checks(self, traced: pd.DataFrame) -> list[Claim]:
        """The last state is all that counts, and what is the same in both runs counts nothing."""
        within = 1e-4 if self.dtype == "float32" else 3e-2
        said = {
            "error_last": "Putting back the last token's state after the last layer gives the "
            "clean run's probability.",
            "error_before": "Putting back a state before the subject, the same in both runs, "
            "changes nothing.",
        }
        unit = f"largest difference of probabilities; tolerance {within:g}"
        return [
            Claim.identity(
                sentence, traced[name].dropna() if len(traced) else [], within=within, unit=unit
            )
            for name, sentence in said.items()
        ]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Where the answer comes back from, the first fact, who writes it, what is known."""
        traced = _tracing_figures(results.tables) if len(results.tables["traced"]) else {}
        hero = dict(list(traced.items())[:1])
        return {
            **hero,
            **_example_figures(results.tables),
            **traced,
            **_rank_figures(results.tables),
        }

    def planted(self) -> "Model":
        """A model whose answers are written by the MLP of one known layer at the subject."""
        return planted_recall(seed=self.seed).model


def _where_it_comes_back(results: Results) -> str:
    """From which states at least half comes back, and from which outputs how much."""
    rows, lost = results.tables["states"], results.tables["traced"]["lost"].mean()
    half = rows[(rows["corruption"] == "another subject") & (rows["share"] >= 0.5)]
    subject = half["layer"][half["put_back_at"] == "last of subject"]
    last = half["layer"][half["put_back_at"] == "last token"]
    at_subject = "at no layer" if subject.empty else f"up to layer {subject.max():.0f}"
    at_last = "at no layer" if last.empty else f"from layer {last.min():.0f} on"
    said = (
        f"the answer can be brought back at the subject's last token {at_subject}, and at the last "
        f"token {at_last}."
    )
    runs = results.tables["runs"]
    best = runs.loc[runs.groupby(["component", "put_back_at"])["estimate"].idxmax()]
    told = {(run["component"], run["put_back_at"]): run for _, run in best.iterrows()}
    parts = [
        f"{_brought_back(max((told['mlp', at], told['attention', at]), key=_size))} {where}"
        for where, at in PUT_BACK.items()
        if {("mlp", at), ("attention", at)} <= told.keys()
    ]
    if not parts:
        return said
    return (
        f"{said} Of {lost:.2f} of its probability that is lost, {' and '.join(parts)} bring back "
        "most."
    )


def _size(run: pd.Series) -> float:
    return run["estimate"]


def _brought_back(run: pd.Series) -> str:
    names = {"mlp": "MLPs", "attention": "attention"}
    first, last = int(run["first_layer"]), int(run["last_layer"])
    layers = f"layer {first}" if first == last else f"layers {first} to {last}"
    return f"{names[run['component']]} of {layers} ({run['estimate']:.2f})"


def _first_fact(row: pd.Series) -> str:
    """What becomes of the first prompt's answer and rival."""
    text = row["text"] if len(row["text"]) <= 40 else "…" + row["text"][-24:]
    answer, rival = row["answer"].strip(), row["rival"].strip()
    return (
        f"After “{text}” the right {answer} ends at rank {row['rank']:.0f} and its rival {rival} "
        f"at rank {row['rival_rank']:.0f}."
    )


def _tracing_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    states, runs, lost = tables["states"], tables["runs"], tables["traced"]["lost"].mean()
    count = len(tables["traced"])
    names = {"attention": "attention outputs", "mlp": "MLP outputs"}
    runs = runs.assign(component=runs["component"].map(names))
    return {
        "From where the answer comes back": heat_map(
            states.rename(columns={"estimate": "back"}), "put_back_at", "layer", "back",
            facet="corruption", low=0.0, label="probability of the answer that comes back",
            caption=f"Mean over {count} facts. The subject is exchanged, which costs {lost:.2f} of "
            "the answer's probability, or blurred by noise; then the clean state after one layer "
            "is put back at one token. Strong colour: the state there is enough to bring the "
            "answer back.",
        ),
        "Which outputs bring it back": curves(
            runs.rename(columns={"estimate": "brought_back"}), "first_layer", "brought_back",
            series="component", facet="put_back_at",
            caption="With another subject, what attention or the MLPs of a few neighbouring layers "
            "wrote in the clean run is put back at one token; x is the first of the layers. "
            f"Mean over facts, of {lost:.2f} that were lost; bands: 95 % over facts.",
        ),
    }  # fmt: skip


def _example_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    rows = tables["example"]
    last = rows[rows["pos"] == rows["pos"].max()]
    text = "".join(rows.drop_duplicates("pos")["token"])
    shown = rows[rows["depth"] % (1 + rows["depth"].max() // 16) == 0]
    shown = shown.assign(
        token=shown["pos"].astype(str) + " " + shown["token"].str.strip(),
        above=np.log10(rows["rank"].max() / shown["rank"]),
    )
    return {
        "Which rival stays second": curves(
            last, "depth", "rank", series="word", log_y=True,
            caption=f"“{text}”: rank of answer and rival when the state of the last token is read "
            "out after each block (0: the embedding). Rank 1, at the bottom, is the likeliest of "
            "all tokens.",
        ),
        "Ranks at every token of this prompt": heat_map(
            shown, "depth", "token", "above", facet="word",
            label="powers of ten above the lowest rank",
            caption="The same at every token, after some of the blocks: the stronger the colour, "
            "the nearer to rank 1 when the state there is read out.",
        ),
    }  # fmt: skip


def _rank_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    facts = tables["facts"]
    read = facts[facts["skipped"] == ""]
    known = read.assign(share_known=read["known"].astype(float))
    known = known.groupby("relation", sort=False)["share_known"].mean().reset_index()
    return {
        "Ranks of all known facts": curves(
            tables["trajectory"].rename(columns={"estimate": "rank"}), "depth", "rank",
            series="word", log_y=True,
            caption="Geometric mean of the ranks at the last token over known facts, after each "
            "block. Bands: 95 % over facts.",
        ),
        "What is known": bars(
            known, "relation", "share_known",
            caption="Share of the facts of a relation whose answer is the likeliest next token.",
        ),
    }  # fmt: skip
