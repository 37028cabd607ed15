"""What every experiment owes, present and to come: one class in one file is checked by all of it.

The model is the smallest shipped one. Each experiment runs at its default sample size or, where
that takes long, with the fields it calls `quick`; what it claims to have learned is always tested
at the default size, of slow ones in `make test-slow`.
"""

import numpy as np
import pandas as pd
import pytest
from annotated_types import Ge

from experiments._contract import stream as _stream
from experiments._contract.rows import Rows
from experiments._contract.stream import Session
from experiments._runs.manifest import manifest_of
from experiments._runs.manifest import verify as differences
from experiments._runs.registry import find, names
from experiments._runs.run import redraw, run
from experiments._runs.store import Tables
from models import load, untrained
from tests.accelerator import NAME, Pretended

SEEDS = 20


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
    return of_adder(kind, **kind.quick)


@pytest.fixture(scope="module")
def folder(experiment, adder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("runs"))
        yield run(experiment, loader=lambda _: adder).resolve()


def frames(results) -> dict[str, pd.DataFrame]:
    tables = results.tables.items()
    return {name: t.frame() if isinstance(t, Rows) else t for name, t in tables}


def measured(experiment, model, session=None) -> dict[str, pd.DataFrame]:
    token = _stream._current.set(session)
    try:
        return frames(experiment.measure(model))
    finally:
        _stream._current.reset(token)


def assert_equal_tables(one, other):
    assert one.keys() == other.keys()
    for name in one:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True, obj=name)


def test_it_asks_a_question(kind):
    assert kind.question().endswith("?")


def test_its_fields_are_explained(kind):
    for name, field in kind.model_fields.items():
        assert field.description, name


def test_its_docstring_names_its_tables(kind, folder):
    for table in manifest_of(folder)["tables"]:
        assert f"`{table['name']}`" in kind.__doc__, table["name"]


def test_its_files_are_as_its_manifest_says(folder):
    assert manifest_of(folder)["status"] == "finished"
    assert differences(folder) == []


def test_its_tables_are_tidy_and_finite(folder):
    for name, table in Tables(folder / "tables").items():
        assert len(table), name
        assert isinstance(table.index, pd.RangeIndex), name
        assert all(c == c.lower() and " " not in c for c in table.columns), name
        assert not table.duplicated().any(), name
        numbers = table.select_dtypes("number")
        assert not np.isinf(numbers.to_numpy(float, na_value=np.nan)).any(), name


def test_it_claims_and_draws(folder):
    told = manifest_of(folder)
    assert told["claims"]
    assert told["figures"]
    for slug in told["figures"]:
        assert (folder / "figures" / slug / "figure.svg").stat().st_size > 1000


def test_the_same_seed_gives_the_same_tables(experiment, adder, folder):
    stored = dict(Tables(folder / "tables").items())
    again = measured(experiment, adder)
    assert again.keys() == stored.keys()
    for name, table in stored.items():
        pd.testing.assert_frame_equal(
            again[name].reset_index(drop=True), table, check_exact=True, check_dtype=False, obj=name
        )


def test_an_accelerator_gives_the_same_tables(experiment, folder):
    if not experiment.needs_model:
        pytest.skip("trains its own models: tests/models/train/test_train.py")
    stored = dict(Tables(folder / "tables").items())
    with Pretended():
        model = load("adder_6d_1l", device=NAME)
        there = measured(experiment.model_copy(update={"device": NAME}), model)
    for name, table in stored.items():
        found = there[name].reset_index(drop=True).astype(table.dtypes)
        pd.testing.assert_frame_equal(found, table, obj=name)


def test_identities_hold_in_bfloat16(kind):
    experiment = of_adder(kind, **kind.quick | {"dtype": "bfloat16"})
    if not experiment.needs_model:
        pytest.skip("trains its own models, always in bfloat16")
    results = experiment.measure(load("adder_6d_1l", dtype="bfloat16"))
    for claim in experiment.claims(results):
        assert claim.kind != "identity" or claim.verdict == "holds", claim.sentence


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


def test_it_redraws_from_disk(folder):
    before = manifest_of(folder)
    redraw(folder)
    after = manifest_of(folder)
    assert after["claims"] == before["claims"]
    assert after["figures"] == before["figures"]
    assert differences(folder) == []


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


@pytest.mark.parametrize("batches", [1, 3])
def test_it_resumes_exactly(batches, kind, adder, tmp_path):
    experiment = of_adder(kind, **kind.quick | {"batch_size": 8})
    with pytest.raises(KeyboardInterrupt):
        measured(experiment, adder, _StopsAfter(tmp_path, batches))
    assert_equal_tables(measured(experiment, adder, Session(tmp_path)), measured(experiment, adder))


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
        assert held <= SEEDS * 0.05, list(verdicts[0])[number]


def test_learned_claims_hold_on_the_planted_control(claiming):
    for sentence, verdict in learned(claiming, claiming.planted()).items():
        assert verdict == "holds", sentence
