"""Where does the model look up what it knows, and which rival comes nearest?"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from experiments import Claim, Experiment, Reading, Results, Table, TextFile, corrected
from lenses.kept import PerPrompt
from lenses.states import recall_tables
from lenses.states.decoding import sites
from lenses.states.depths import PASSED, after_layers, after_some_layers
from lenses.states.facts import Case, asked_facts, equally_long
from lenses.states.recall import Plan, embedding_ranks, last_ranks, trace
from lenses.statistics.against_random import against_twins
from lenses.statistics.intervals import FEWEST, bootstrap, luck_above_zero, share
from models.planted.recall import planted_recall
from viz import Drawing, bars, curves, heat_map

if TYPE_CHECKING:
    from models import Model

RANDOM_MODELS = 4
"""Models of the same shape with fresh weights, whose embeddings are read beside the model's own."""
LEAST = 0.05
"""Probability that must be brought back, at the least, for a place to count."""
AT_ONCE = 16
"""Prompts whose states are decoded together."""
MORE = "more questions (--count)"
NEEDS = "5 questions or more in which a part can be exchanged (--facts-file)"
LOOKED_UP = {
    "MLPs at the exchanged part": "At the last token of the exchanged part, what the MLPs of a few "
    "layers write brings back more than 5 points of the answer's probability.",
    "MLPs less attention at the exchanged part": "At the last token of the exchanged part, MLPs "
    "bring back more than attention does, by over 5 points of the answer's probability.",
    "attention at the last token": "At the last token, what attention writes in a few layers "
    "brings back more than 5 points of the answer's probability.",
}
"""Learned claims by their labels."""
EXACT = {
    "error_last": "Putting back the last token's state after the last layer gives the clean run's "
    "probability.",
    "error_before": "Putting back a state before the exchanged part, the same in both runs, "
    "changes nothing.",
}
"""Identities by their column in `traced`."""
PUT_BACK = {"at the exchanged part": "last of subject", "at the last token": "last token"}
SHOWN = {
    "first of subject": "first exchanged token",
    "within subject": "within the exchanged part",
    "last of subject": "last exchanged token",
    "first after": "first token after it",
    "another subject": "exchanged",
    "noise": "blurred",
    "answer": "right answer",
    "rival": "wrong answer",
}
"""Values of columns, in the words of figures."""

COLUMNS = {
    "fact": "number of the question, from 0",
    "relation": "what is asked of the subject; for an adder the decimal place",
    "text": "the text up to the answer",
    "answer": "the answer, up to where it differs from the rival",
    "rival": "a wrong answer of the same kind",
    "said": "the likeliest next token",
    "second": "the likeliest next token but one",
    "rank": "rank of the answer's first token at the end; 1 is the likeliest",
    "rival_rank": "the same of the rival",
    "ahead_from": "layers after which the answer stays before its rival to the end",
    "embedding_rank": "rank of the answer where the subject's embedding is read out",
    "embedding_rival_rank": "the same of the rival",
    "known": "whether the answer is the likeliest next token",
    "word": "`answer` or `rival`",
    "corruption": "what was done to the subject: `another subject` or `noise`",
    "estimate": "probability that comes back, mean over facts",
    "layer": "layer that hands on the state, from 0; the state has passed one layer more",
    "share": "as a share of what the corruption cost these and all other facts",
    "component": "`attention` or `mlp`",
    "put_back_at": "the token at which a state, or the outputs of layers, were put back",
    "first_layer": "the first of the layers",
    "last_layer": "the last of them",
    "probability": "of the answer",
    "back": "probability of the word that comes back",
    "lost": "probability that another subject costs",
    "lost_by_noise": "probability that noise costs",
    "attention_subject": "brought back by attention at the subject's last token",
    "attention_last": "brought back by attention at the last token",
    "mlp_subject": "brought back by MLPs at the subject's last token",
    "mlp_last": "brought back by MLPs at the last token",
    "mlp_subject_above": "`mlp_subject` without the first layer's MLP",
    "handover": "layer from which on the state that it hands on at the last token brings back more "
    "than that at the subject's",
    "agreement": "rank correlation of what states bring back after another subject and after noise",
    "error_last": "what is missing when the last state is put back",
    "error_before": "what changes when a state before the subject is put back",
    "value": "1 if it ranks the answer before the rival, else 0",
}
_table = partial(Table.of, COLUMNS)


class FactRecall(Experiment):
    """Part of a question is exchanged (such as France for Japan), so that its answer is lost; then
    one state after another is put back, to see which one brings it back.

    "The capital of France is the city of": this asks about its *subject* (France). The *fact* is
    what comes next (Paris, the answer); its *rival* is of the same kind and wrong here (Lyon).
    Facts whose answer is not the likeliest next token are reported and left out. The logit lens
    gives the rank of answer and rival in every state. Then the subject is corrupted, by another
    subject of the same relation or by noise on its embedding (3 standard deviations), and the
    answer becomes unlikely. One state of the clean run at a time is put back, or what attention or
    the MLPs wrote in a few neighbouring layers at one token: how much of the answer's probability
    comes back tells where the fact was (causal tracing). Prompts are averaged by what their tokens
    are: of the subject, just after it, last. Answers and rivals are told by their first tokens.
    Intervals (95 %) resample facts.

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
        "facts": _table(
            "A row is a fact, and what the model makes of it.",
            "fact",
            "relation text answer rival said second rank rival_rank ahead_from embedding_rank "
            "embedding_rival_rank known skipped",
        ),
        "trajectory": _table(
            "A row is the rank of answers or rivals at the last token after some layers.",
            "word depth",
            "estimate low high n",
            estimate="geometric mean of the rank over known facts",
        ),
        "example": _table(
            "A row is the rank of answer or rival in one state of the first prompt.",
            "word depth pos",
            "rank log_probability token",
            word="the answer or the rival",
            rank="its rank when the state is read out; 1 is the likeliest",
        ),
        "states": _table(
            "A row is how much probability of the answer comes back with one state.",
            "corruption layer put_back_at",
            "estimate share low high n",
        ),
        "runs": _table(
            "A row is how much comes back with what some neighbouring layers write at one token.",
            "component put_back_at first_layer",
            "last_layer estimate low high n",
        ),
        "traced": _table(
            "A row is a traced fact, with what the layers bring back that are best for the others.",
            "fact",
            "probability lost lost_by_noise attention_subject attention_last mlp_subject mlp_last "
            "mlp_subject_above handover agreement error_last error_before",
        ),
        "first_traced": _table(
            "A row is what one word of the first prompt gets back with what some neighbouring "
            "layers write at one token; the prompt is traced by itself.",
            "word component put_back_at first_layer",
            "last_layer back probability lost lost_by_noise",
            word="the answer or the rival",
            probability="of the word, before its subject is exchanged",
        ),
        "embedding_only": _table(
            "A row is a subject whose embedding is read out alone.", "weights fact", "value"
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
        asked, where = asked_facts(model, self.facts_file, self.count, self.seed), sites(model)
        kept, traced = PerPrompt(), PerPrompt()
        for some in self.stream(asked.cases, kept, "ranks", size=AT_ONCE):
            kept.update(**last_ranks(model, where, some))
        known = kept["rank"][:, -1, 0] == 1
        cases = equally_long(asked.taking_turns(known, self.count, FEWEST), self.batch_size)
        plan = Plan.of(model.cfg.n_layers, self.every, self.window)
        for some in self.stream(cases, traced, "tracing"):
            traced.update(**vars(trace(model, some, plan, self.seed)))
        alone = self._embedding_only(model, asked.cases, kept["embedding"])
        ranked = recall_tables.ranked_tables(model, asked, where, kept, self.seed)
        put_back = recall_tables.RecallTables(traced, plan, self.seed).tables()
        first = {"first_traced": recall_tables.first_rows(model, asked, plan, self.seed)}
        return Results(ranked | put_back | first | {"embedding_only": alone})

    def _embedding_only(self, model: "Model", cases: list[Case], own: np.ndarray) -> pd.DataFrame:
        """Whether embeddings alone rank answers before rivals, own weights and random ones."""
        found = {"own": own}
        for number, twin in enumerate(self.twins(model, RANDOM_MODELS)):
            kept, label = PerPrompt(), f"random weights {number + 1}/{RANDOM_MODELS}"
            for _ in self.stream([number], kept, label):
                kept.update(rank=embedding_ranks(twin, cases))
            found[f"random {number}"] = kept["rank"]
        return recall_tables.embedding_rows(found, cases)

    def headline(self, results: Results) -> str:
        """Where the answer comes back from, what brings it, and how near the rival comes."""
        read, traced = _read(results.tables), results.tables["traced"]
        where = f"{_where_it_comes_back(results)} " if len(traced) else ""
        return f"{where}{_rival_in_words(read)} {_first_fact(read.iloc[0])}"

    def claims(self, results: Results) -> list[Claim]:
        """Who brings the answer back where, when it moves on, and what the embedding tells."""
        traced = results.tables["traced"]
        columns = ["mlp_subject", "attention_subject", "attention_last"]
        mlp, attention, at_last = (_values(traced, name) for name in columns)
        back = zip(LOOKED_UP, (mlp, mlp - attention, at_last), strict=True)
        return [
            *corrected([self._looked_up(LOOKED_UP[label], label, x) for label, x in back], MORE),
            *self._found(results),
            self._not_the_embedding(results.tables["embedding_only"]),
            *self._checks(traced),
        ]

    def _looked_up(self, sentence: str, label: str, values: np.ndarray) -> Claim:
        """That what is brought back in the layers that are best for other facts is enough."""
        how = {"above": LEAST, "null": 0.0, "null_note": "nothing is brought back; the layers are "
               "those that are best for all other questions", "unit": "probability of the answer",
               "label": label, "family": "One part put back brings the answer back"}  # fmt: skip
        values = values[~np.isnan(values)]
        if len(values) < FEWEST:
            return Claim.not_tested("learned", sentence, NEEDS, label=label, family=how["family"])
        p = float(luck_above_zero(values - LEAST, self.seed))
        ends = bootstrap(values, self.seed).within(-1, 1)
        return Claim.learned(sentence, ends, p=p, more=MORE, **how)

    def _found(self, results: Results) -> list[Claim]:
        """Plain findings: what is known, who is second, when it moves on, do corruptions agree."""
        read, traced = _read(results.tables), results.tables["traced"]
        known = read[read["known"] == 1]
        second = int((known["rival_rank"] == 2).sum())
        return [
            Claim.descriptive(
                "Share of questions whose right answer is the likeliest next token.",
                share(len(known), len(read)), unit="share of questions",
            ),
            Claim.descriptive(
                "Where the model predicts the right answer, share of questions in which the wrong "
                "answer that was named beforehand is the second likeliest of all tokens.",
                share(second, len(known)), unit="share of questions answered correctly",
            ),
            Claim.descriptive(
                "Layers after which the right answer, where the model predicts it, stays before "
                "the wrong one to the end.",
                bootstrap(_values(known, "ahead_from"), self.seed), unit="layers passed",
            ),
            Claim.descriptive(
                "Layer from which on the state that it hands on at the last token brings back more "
                "of the answer than that at the exchanged part.",
                bootstrap(_values(traced, "handover"), self.seed), unit="number of the layer",
            ),
            Claim.descriptive(
                "What MLPs bring back at the exchanged part without that of layer 0, which tells a "
                "token from others even where nothing is looked up.",
                bootstrap(_values(traced, "mlp_subject_above"), self.seed),
                unit="probability of the answer",
            ),
            Claim.descriptive(
                "After noise on that part, states bring the answer back at the same tokens and "
                "layers as after the exchange.",
                bootstrap(_values(traced, "agreement"), self.seed),
                unit="rank correlation within a question",
            ),
        ]  # fmt: skip

    def _not_the_embedding(self, rows: pd.DataFrame) -> Claim:
        """Whether the subject's embedding tells the answer from the rival, without any layer."""
        found = against_twins(rows, "fact", "value", self.seed)
        return Claim.mechanical(
            "Read out alone, the embedding of the exchanged part ranks the right answer before the "
            "wrong one more often than random embeddings do.",
            found, null=found.random.mean(), null_note=found.note,
            unit="share of questions, answered correctly or not",
            decide="more questions (--facts-file)",
        )  # fmt: skip

    def _checks(self, traced: pd.DataFrame) -> list[Claim]:
        """The last state is all that counts, and what is the same in both runs counts nothing."""
        within = 1e-4 if self.dtype == "float32" else 3e-2
        unit = f"largest difference of probabilities; tolerance {within:g}"
        last, before = (_values(traced, name) for name in EXACT)
        before = before[~np.isnan(before)]  # missing where the subject stands first
        both = zip(EXACT.values(), (last, before), strict=True)
        return [Claim.identity(said, wrong, within=within, unit=unit) for said, wrong in both]

    def figures(self, results: Results) -> dict[str, Drawing]:
        """Where the answer comes back from, the first fact, who writes it, what is known."""
        tables = results.tables
        traced = _tracing_figures(tables) if len(tables["traced"]) else {}
        example = _example_figures(tables) | _first_figure(tables)
        first = dict(list(traced.items())[:1])
        return first | example | traced | _rank_figures(tables)

    def planted(self) -> "Model":
        """A model whose answers are written by the MLP of one known layer at the subject."""
        return planted_recall(seed=self.seed).model


def _read(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The facts that the model could be asked."""
    return tables["facts"][tables["facts"]["skipped"] == ""]


def _values(rows: pd.DataFrame, name: str) -> np.ndarray:
    """A column; nothing where nothing was measured, so that the table has no columns."""
    return rows[name].to_numpy(float) if len(rows) else np.array([])


def _where_it_comes_back(results: Results) -> str:
    """From which states at least half comes back, and from which outputs how much."""
    states, runs = results.tables["states"], results.tables["runs"]
    subject, last = (recall_tables.enough_alone(states, at) for at in PUT_BACK.values())
    found = {
        "exchanged part": "" if subject.empty else after_some_layers(*_passed(subject)),
        "last token": "" if last.empty else f"{after_layers(_passed(last)[0])} or more",
    }
    best = {where: recall_tables.best_run(runs, at) for where, at in PUT_BACK.items()}
    parts = [f"{_brought_back(run)} {where}" for where, run in best.items() if run is not None]
    lost = results.tables["traced"]["lost"].mean()
    most = f" Of {lost:.2f} in probability that was lost, {', '.join(parts)}." if parts else ""
    return f"{_enough_in_words(found)}{most}"


def _enough_in_words(found: Mapping[str, str]) -> str:
    """Which single state brings the answer back, after which layers, and which never does."""
    enough = " or of ".join(f"the {what} ({when})" for what, when in found.items() if when)
    if not enough:
        return "No single state that is put back restores the lost answer by half."
    never = "".join(f"; that of the {what} does not" for what, when in found.items() if not when)
    return (
        f"The state of {enough}, put back alone, restores the lost answer by half or more{never}."
    )


def _passed(layers: pd.Series) -> tuple[float, float]:
    """Fewest and most layers that states have passed which these layers hand on."""
    return layers.min() + 1, layers.max() + 1


def _brought_back(run: pd.Series) -> str:
    names = {"mlp": "MLPs", "attention": "attention"}
    first, last = int(run["first_layer"]), int(run["last_layer"])
    layers = f"layer {first}" if first == last else f"layers {first} to {last}"
    verb = "brings" if run["component"] == "attention" else "bring"
    return f"{names[run['component']]} of {layers} {verb} back {run['estimate']:.2f}"


def _rival_in_words(read: pd.DataFrame) -> str:
    """How many answers are known, and how often the rival looked for comes second."""
    known = read[read["known"] == 1]
    second = (known["rival_rank"] == 2).sum()
    return (
        f"The model predicts {len(known)} of {len(read)} answers correctly; the likeliest rival is "
        f"the one named beforehand in {second}, another token in {len(known) - second}."
    )


def _first_fact(row: pd.Series) -> str:
    """The ranks of answer and rival after the first prompt."""
    text = row["text"] if len(row["text"]) <= 40 else "…" + row["text"][-24:]
    answer, rival = row["answer"].strip(), row["rival"].strip()
    return (
        f"After “{text}” the right answer {answer} is at rank {row['rank']:.0f}, its rival {rival} "
        f"at rank {row['rival_rank']:.0f}."
    )


def _tracing_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    states, runs, traced = tables["states"], tables["runs"], tables["traced"]
    names, lost = {"attention": "attention outputs", "mlp": "MLP outputs"}, traced["lost"].mean()
    runs = runs.assign(component=runs["component"].map(names)).replace({"put_back_at": SHOWN})
    states = states.replace({"put_back_at": SHOWN, "corruption": SHOWN})
    states = states.assign(**{PASSED: states["layer"] + 1})
    back = "share of probability brought back"
    return {
        "From where the answer comes back": heat_map(
            states.rename(columns={"estimate": "back"}), "put_back_at", PASSED, "back",
            facet="corruption", low=0.0, label="probability of the answer that comes back",
            caption=f"Mean over {len(traced)} questions. A part of each is exchanged, which costs "
            f"{lost:.2f} of the answer's probability, or blurred by noise; then one clean state is "
            "put back at one token. Strong colour: the state there is enough to bring the answer "
            "back.",
        ),
        "Which outputs bring it back": curves(
            runs.rename(columns={"estimate": back}), "first_layer", back,
            series="component", facet="put_back_at",
            caption="After the exchange, what attention or the MLPs of a few neighbouring layers "
            "wrote in the clean run is put back at one token; x is the first of the layers. "
            f"Mean over questions, of {lost:.2f} that were lost; bands: 95 % over questions.",
        ),
    }  # fmt: skip


def _example_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    rows = tables["example"]
    last = rows[rows["pos"] == rows["pos"].max()]
    text = "".join(rows.drop_duplicates("pos")["token"])
    return {
        "Right and wrong answer, layer by layer": curves(
            last, "depth", "rank", series="word", log_y=True,
            caption=f"“{text}”: rank of the right answer, and of the wrong one named beside it, "
            "when the state of the last token is read out after so many layers (0: the embedding). "
            "Rank 1, at the bottom, is the likeliest of all tokens.",
        ),
        "Ranks at every token of this prompt": heat_map(
            recall_tables.every_few_layers(rows), "depth", "token", "above", facet="word",
            label="powers of ten above the lowest rank",
            caption="The same at every token, after some of the layers: the stronger the colour, "
            "the nearer to rank 1 when the state there is read out.",
        ),
    }  # fmt: skip


def _first_figure(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    rows, names = tables["first_traced"], {"attention": "attention outputs", "mlp": "MLP outputs"}
    if rows.empty:
        return {}
    end = rows[rows["put_back_at"] == rows["put_back_at"].iloc[-1]]
    words = end.drop_duplicates("word").set_index("word")
    lost = ", ".join(f"{word}: {row.lost:.3f} of {row.probability:.3f}" for word, row in
                     words.iterrows())  # fmt: skip
    back, line = "probability brought back", end["word"] + ": " + end["component"].map(names)
    return {
        "What brings this prompt's two answers back": curves(
            end.assign(line=line).rename(columns={"back": back}), "first_layer", back,
            series="line",
            caption="The same prompt traced by itself (one prompt, so without intervals): a part "
            "of it is exchanged, and what attention or the MLPs of a few neighbouring layers "
            "wrote in the clean run is put back at its last token; x is the first of the layers. "
            f"Probability that the exchange costs: {lost}.",
        )
    }  # fmt: skip


def _rank_figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Drawing]:
    known = _read(tables).astype({"known": float}).rename(columns={"known": "share_known"})
    known = known.groupby("relation", sort=False)["share_known"].mean().reset_index()
    return {
        "Ranks of all answers that are predicted": curves(
            tables["trajectory"].rename(columns={"estimate": "rank"}).replace({"word": SHOWN}),
            "depth", "rank", series="word", log_y=True,
            caption="Geometric mean of the ranks at the last token, by how many layers its state "
            "has passed, over questions whose right answer the model predicts. Bands: 95 % over "
            "questions.",
        ),
        "What is known": bars(
            known, "relation", "share_known",
            caption="Share of the questions of one kind whose right answer is the likeliest next "
            "token.",
        ),
    }  # fmt: skip
