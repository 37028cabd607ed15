"""The rules that every experiment keeps, present and to come; docs/extending.md explains them.

The model is the smallest shipped one. Each experiment runs at its default sample size or, where
that takes long, with the fields it calls `quick`; what it claims to have learned is always tested
at the default size, of slow ones in `make test-slow`. A failing test names the rule and the remedy.
"""

import ast
import html
import inspect
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from annotated_types import Ge

from experiments._contract import stream
from experiments._contract.experiment import Frames
from experiments._contract.stream import Session
from experiments._runs.finding import find
from experiments._runs.manifest import manifest_of
from experiments._runs.manifest import verify as differences
from experiments._runs.registry import names
from experiments._runs.run import redraw, run
from experiments._runs.store import Arrays, Tables
from models import load, untrained
from tests.accelerator import NAME, Pretended
from tests.experiments.missing import answered_from, lacking, wrongly_held
from viz import as_drawing
from viz.drawing import Drawing, texts_of
from viz.labels import label
from viz.page import first_sentence

SEEDS = 20
MOST_LINES = 600


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module", params=names())
def kind(request):
    return find(request.param)


def of_adder(kind, **fields):
    return kind(model="adder_6d_1l", **fields) if kind.needs_model else kind(**fields)


@pytest.fixture(scope="module")
def experiment(kind):
    """Small batches, so that a run has several and can be stopped between them."""
    size = min(8, kind.model_fields["batch_size"].default)
    return of_adder(kind, **kind.quick | {"batch_size": size})


@pytest.fixture(scope="module")
def folder(experiment, adder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        yield run(experiment, loader=lambda _: adder).resolve()


@pytest.fixture(scope="module")
def stored(folder):
    return dict(Tables(folder, manifest_of(folder)["files"]).items())


@pytest.fixture(scope="module")
def results(folder):
    from experiments import Results

    files = manifest_of(folder)["files"]
    return Results(Tables(folder, files), Arrays(folder, files))


def measured(experiment, model, session=None):
    token = stream._current.set(session)
    try:
        return experiment.measure(model)
    finally:
        stream._current.reset(token)


def tables_of(found) -> dict[str, pd.DataFrame]:
    tables = Frames(found) if isinstance(found, dict) else found.tables
    return {name: table.reset_index(drop=True) for name, table in tables.items()}


@pytest.fixture(scope="module")
def stopped_twice(experiment, adder, tmp_path_factory):
    """What is measured without a run, as in a notebook, by a command that was stopped twice."""
    folder = tmp_path_factory.mktemp("stopped")
    for batches in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            measured(experiment, adder, _StopsAfter(folder, batches))
    return measured(experiment, adder, Session(folder))


def test_it_asks_a_question(kind):
    assert kind.question().endswith("?"), (
        f"{kind.name()}: the first line of the file's docstring is the question; end it with '?'"
    )


def test_its_fields_are_explained(kind):
    bare = [name for name, field in kind.model_fields.items() if not field.description]
    assert not bare, f"{kind.name()}: put a string under the field {bare[0]!r}; it is its --help"


def test_its_method_is_told(kind):
    first = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    assert 0 < len(first) <= 200, (
        f"{kind.name()}: begin the docstring of the class with a sentence or two, 200 characters "
        "at most, that say what is done to the model; the page shows it under the question"
    )


def test_how_to_read_it_is_told(kind):
    for name, line in kind.reading.lines().items():
        assert line.strip(), f"{kind.name()}: reading.{name} is empty; say it in one line"
        assert "\n" not in line, f"{kind.name()}: reading.{name} takes more than a line"


def test_its_columns_are_explained(kind):
    for name, table in kind.tables.items():
        assert table.about.endswith("."), f"{name}: say what a row is, in a full sentence"
        assert all(table.meanings().values()), f"{name}: a column has no meaning"


def test_its_file_reads_from_top_to_bottom(kind):
    path = Path(inspect.getfile(kind))
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= MOST_LINES, f"{path.name}: {len(lines)} lines; {MOST_LINES} is the most"
    functions = [
        node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef)
    ]
    hidden = [
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not hidden, f"{path.name}, line {hidden[0]}: imports stand at the top of the file"
    own = [n for n in vars(kind) if n in ORDER]
    assert own == sorted(own, key=ORDER.index), f"{path.name}: write {', '.join(ORDER)} in order"


ORDER = ["tables", "reading", "measure", "headline", "claims", "figures", "planted"]


def test_its_files_are_as_its_manifest_says(folder):
    assert manifest_of(folder)["status"] == "finished"
    assert differences(folder) == []


def test_its_tables_are_tidy_and_finite(stored):
    for name, table in stored.items():
        assert isinstance(table.index, pd.RangeIndex), f"{name}: reset the index"
        assert all(c == c.lower() and " " not in c for c in table.columns), (
            f"{name}: column names are lower_case_words"
        )
        numbers = table.select_dtypes("number")
        assert not np.isinf(numbers.to_numpy(float, na_value=np.nan)).any(), (
            f"{name}: holds an infinite number; an undefined value is missing (NaN)"
        )


def test_it_answers(folder):
    told = manifest_of(folder)
    assert told["headline"].rstrip().endswith("."), "the headline is a plain sentence"
    assert told["claims"], "an experiment makes at least one claim"
    for text in (told["headline"], *(claim["sentence"] for claim in told["claims"])):
        as_written = not re.search(r"  |(?<! )%", text)
        assert as_written, f"one space before each %, as percent() writes it: {text}"
    labels = [(c["family"], c["label"]) for c in told["claims"] if c["family"]]
    assert len(labels) == len(set(labels)), "labels tell the claims of a family apart"


def test_its_page_says_its_answer(folder):
    answer = label(first_sentence(manifest_of(folder)["headline"])[0])
    page = html.unescape((folder / "index.html").read_text("utf-8"))
    assert answer in page.replace("\N{NO-BREAK SPACE}", " ")


def test_it_draws(folder):
    told = manifest_of(folder)
    assert told["figures"], "an experiment draws at least one figure, which shows the headline"
    for slug in told["figures"]:
        assert (folder / "figures" / slug / "figure.svg").stat().st_size > 1000


def test_no_claim_holds_on_numbers_that_are_missing(experiment, results):
    """A column is NaN throughout; where that changes an answer, also only at its ends."""
    before, headline = experiment.claims(results), experiment.headline(results)
    for name, column in answered_from(experiment, results):
        for gone, left in lacking(results, name, column):
            after, said = experiment.claims(left), experiment.headline(left)
            assert said, f"{name}.{column}: no headline without {gone}"
            wrong = wrongly_held(before, after, gone)
            assert not wrong, f"{name}.{column}: {gone} is NaN, and yet holds: {wrong}"
            if (after, said) == (before, headline):
                break  # nothing is answered from it


def test_figures_speak_in_words(experiment, results):
    for title, figure in experiment.figures(results).items():
        drawing = as_drawing(title, figure)
        coded = [text for text in [title, *texts_of(drawing)] if "_" in text]
        assert not coded, f"{title}: shows {coded[0]!r}; name it in words before drawing"


def test_an_accelerator_gives_the_same_tables(experiment, stored):
    if not experiment.needs_model:
        pytest.skip("trains its own models: tests/models/train/test_train.py")
    with Pretended():
        model = load("adder_6d_1l", device=NAME)
        there = tables_of(measured(experiment.model_copy(update={"device": NAME}), model))
    for name, table in stored.items():
        pd.testing.assert_frame_equal(
            there[name].astype(table.dtypes), table, check_column_type=False, obj=name
        )


@pytest.fixture(scope="module")
def in_memory(kind, request):
    """The experiment and its results, measured without a run, as in a notebook; in bfloat16."""
    if not kind.needs_model:
        return tuple(map(request.getfixturevalue, ("experiment", "stopped_twice")))
    experiment = of_adder(kind, **kind.quick | {"dtype": "bfloat16"})
    return experiment, experiment.measure(load("adder_6d_1l", dtype="bfloat16"))


def test_identities_hold_in_bfloat16(in_memory):
    experiment, results = in_memory
    if not experiment.needs_model:
        pytest.skip("trains its own models, in a format of its own")
    for claim in experiment.claims(results):
        assert claim.kind != "identity" or claim.verdict == "holds", claim.sentence


def test_what_was_measured_is_answered_and_drawn_without_a_run(in_memory):
    experiment, results = in_memory
    for name in results.tables:
        assert isinstance(results.tables[name], pd.DataFrame), name
    assert experiment.headline(results)
    for title, figure in experiment.figures(results).items():
        as_drawing(title, figure)


def least_values() -> list:
    """Each numeric field at the least value that it may have, of every experiment."""
    found = []
    for name in names():
        for field, about in find(name).model_fields.items():
            least = [bound.ge for bound in about.metadata if isinstance(bound, Ge)]
            if least and field not in {"seed", "batch_size", "places"}:
                found.append(pytest.param(name, {field: least[0]}, id=f"{name}-{field}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "field"), least_values())
def test_a_field_may_have_its_least_value(name, field, adder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = find(name)
    folder = run(of_adder(kind, **kind.quick | field), loader=lambda _: adder)
    assert manifest_of(folder)["status"] == "finished"


def test_it_redraws_from_disk(folder, monkeypatch):
    """The same answer and the same data; how an image is drawn again is tested in viz, once."""
    before, shown = manifest_of(folder), data_of(folder)
    monkeypatch.setattr(Drawing, "_save_images", lambda *_: (1, 1))
    redraw(folder)
    after = manifest_of(folder)
    assert data_of(folder) == shown
    for told in ("headline", "claims", "figures"):
        assert after[told] == before[told]
    assert differences(folder) == []


def data_of(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("figures/*/data.parquet")}


class _StopsAfter(Session):
    """A session that is stopped, as by Ctrl-C, when a number of batches has been done."""

    def __init__(self, folder, batches):
        super().__init__(folder)
        self.left = batches

    def stream(self, batches, keep, label):
        for batch in super().stream(batches, keep, label):
            self.left -= 1
            self.stopping = self.left <= 0
            yield batch


def test_stopped_twice_it_ends_with_the_same_tables(stopped_twice, stored):
    ended = tables_of(stopped_twice)
    assert ended.keys() == stored.keys()
    for name, table in stored.items():
        pd.testing.assert_frame_equal(
            ended[name], table, check_exact=True, check_dtype=False, check_column_type=False,
            obj=f"table {name!r}: all that a later step needs must be in keep= of self.stream; it",
        )  # fmt: skip


def learned(experiment, model) -> dict[str, str]:
    """Verdicts of the learned claims about a model, by sentence."""
    claims = experiment.claims(experiment.measure(model))
    return {c.sentence: c.verdict for c in claims if c.kind == "learned"}


def by_speed() -> list:
    slow = {name: find(name).quick for name in names()}
    return [pytest.param(name, marks=[pytest.mark.slow] * bool(slow[name])) for name in slow]


@pytest.fixture(scope="module", params=by_speed())
def claiming(request, adder):
    """An experiment at its default size that makes learned claims about an adder."""
    experiment = of_adder(find(request.param))
    if not experiment.needs_model or not learned(experiment, untrained(adder, 0)):
        pytest.skip("makes no learned claim about a model it is given")
    return experiment


def test_learned_claims_do_not_hold_with_random_weights(claiming, adder):
    verdicts = [learned(claiming, untrained(adder, seed)) for seed in range(SEEDS)]
    for number in range(len(verdicts[0])):
        held = [list(v.values())[number] for v in verdicts].count("holds")
        sentence = list(verdicts[0])[number]
        assert held <= SEEDS * 0.05, (
            f"holds in {held} of {SEEDS} models that learned nothing: {sentence}"
        )


def test_learned_claims_hold_on_the_planted_control(claiming):
    for sentence, verdict in learned(claiming, claiming.planted()).items():
        assert verdict == "holds", (
            f"{verdict} in a model where it is true by construction: {sentence}"
        )
