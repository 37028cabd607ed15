"""Addition accuracy against models whose every answer is known, and against naive generation."""

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.addition_accuracy import AdditionAccuracy, _pooled, _uniform_hides
from lenses.addition.answers import answered
from lenses.addition.marked import look_ahead
from lenses.statistics.accuracy import with_accuracy
from models import ModelError, load
from models.planted.saying import saying
from models.text import continue_text, tokenize
from prompts.additions import Addition, AdditionFormat, Cells, Sums
from tests.lenses.addition.asked import adding_only


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


def loses_cascades(sums: Sums) -> np.ndarray:
    """The answers of one who forgets every carry that has to cross a nine."""
    carry = sums.carry * (sums.run == 0)
    return (sums.uncarried + carry) % 10


def invents_cascades(sums: Sums) -> np.ndarray:
    """The answers of one who takes every run of nines for a carry."""
    return (sums.uncarried + np.maximum(sums.carry, sums.run > 0)) % 10


@pytest.fixture(scope="module")
def forgetful():
    experiment = AdditionAccuracy(per_cell=100, uniform=500)
    return experiment, experiment.measure(saying(load("adder_6d_2l"), loses_cascades))


def test_a_model_that_loses_cascades_fails_exactly_their_cells(forgetful):
    cells = forgetful[1].tables["cells"]
    lost = (cells["run"] >= 1) & (cells["carry"] == 1)
    assert (cells["accuracy"] == np.where(lost, 0.0, 1.0)).all()
    assert (cells["n"] == 100).all()
    assert len(cells) == 49


def test_a_model_that_loses_cascades_looks_no_nine_ahead(forgetful):
    table = forgetful[1].tables["look_ahead"]
    assert table["place"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (table["look_ahead"] == 0).all()
    assert table["longest"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_model_that_loses_cascades_only_loses_carries(forgetful):
    errors = forgetful[1].tables["errors"].query("prefix == 'given'")
    by_kind = errors.groupby("kind")["errors"].sum()
    cascades = sum(range(6)) * 100
    assert by_kind.to_dict() == {"carry lost": cascades, "carry invented": 0, "other": 0}


def test_a_model_that_loses_cascades_fails_the_claims_about_them(forgetful):
    experiment, results = forgetful
    verdicts = [claim.verdict for claim in experiment.claims(results)]
    assert verdicts == ["holds", "fails", "fails", "holds", "holds"]
    said = experiment.headline(results)
    lost = "hundreds digit with a carry over a column that sums to 9 is right least often (0 %)"
    assert f"correctly; the {lost}. Always right were 34 of 49 kinds (place, carry, nines" in said
    assert "Surely right less than 95 % of the time are 15 of 49 kinds (place, carry," in said


def test_whole_answers_and_mistakes_are_those_of_plain_arithmetic(forgetful):
    tables = forgetful[1].tables
    sums = Addition(6, 500, seed=0).sums
    right = (loses_cascades(sums) == sums.answer_digits).all(1)
    assert tables["answers"]["correct"].item() == right.sum()
    wrong = tables["mistakes"].query("sample == 'uniform'")
    assert wrong["prompt"].tolist() == np.flatnonzero(~right).tolist()
    said = loses_cascades(sums)[~right] @ 10 ** np.arange(7)
    assert wrong["said"].astype(int).tolist() == said.tolist()


def test_a_model_that_invents_carries_is_seen_to():
    experiment = AdditionAccuracy(per_cell=20, uniform=50)
    results = experiment.measure(saying(load("adder_6d_2l"), invents_cascades))
    by_kind = results.tables["errors"].groupby("kind")["errors"].sum()
    assert by_kind["carry invented"] > 0
    assert by_kind["carry lost"] == by_kind["other"] == 0
    cells = results.tables["cells"]
    assert ((cells["accuracy"] == 0) == ((cells["run"] >= 1) & (cells["carry"] == 0))).all()


@torch.no_grad()
def test_digits_written_freely_are_those_of_step_by_step_generation(adder):
    style, sums = adder.card.arithmetic, Cells(6, 20, seed=5).sums
    given, generated, ends = answered(adder, style, sums)
    prompts = [tokenize(adder, f"{a:06}+{b:06}=") for a, b in zip(sums.a, sums.b, strict=True)]
    expected = np.array(continue_text(adder, prompts, 7))[:, ::-1]
    assert (generated == expected).all()
    assert ends.all()
    first_wrong = (given != sums.answer_digits).any(1)
    assert first_wrong.sum() > 20
    assert (generated[~first_wrong] == sums.answer_digits[~first_wrong]).all()


def test_the_exact_adder_makes_no_mistake():
    experiment = AdditionAccuracy(per_cell=100, uniform=500)
    results = experiment.measure(load("adder_6d_2l"))
    assert results.tables["mistakes"].empty
    ahead = results.tables["look_ahead"]
    assert (ahead["look_ahead"] == ahead["longest"]).all()
    verdicts = [claim.verdict for claim in experiment.claims(results)]
    assert verdicts == ["holds", "holds", "holds", "holds", "fails"]
    assert "500 of 500 random 6-digit sums correctly, and every digit" in experiment.headline(
        results
    )


def test_few_questions_leave_a_cell_undecided_and_say_how_many_decide():
    experiment = AdditionAccuracy(per_cell=10, uniform=50)
    results = experiment.measure(experiment.planted())
    claim = experiment.claims(results)[1]
    assert claim.verdict == "undecided"
    assert "73" in claim.decide
    assert (
        "49 of 49 kinds (place, carry, nines below) had too few questions"
        in experiment.headline(results)
    )


def test_sums_too_short_for_a_carry_over_nines_are_not_tested():
    cells = pd.DataFrame({"place": [0, 1, 1], "run": [0, 0, 0], "carry": [0, 0, 1], "n": 9})
    claim = _pooled("Carries cross nines.", with_accuracy(cells.assign(correct=9))[:0])
    assert (claim.verdict, claim.estimate, claim.n) == ("not tested", None, 0)
    assert "--places 3" in claim.needs


def test_look_ahead_by_hand():
    rows = [(1, 0, 0, 0.96), (1, 0, 1, 0.96), (1, 1, 0, 0.1)]
    rows += [(2, 0, 0, 0.99), (2, 0, 1, 0.94), (2, 1, 0, 0.99), (2, 1, 1, 0.99), (2, 2, 0, 0.99)]
    rows += [(3, 0, 0, 0.95), (3, 0, 1, 0.95), (3, 1, 0, 0.99), (3, 1, 1, 0.99)]
    rows += [(3, 2, 0, 0.99), (3, 2, 1, 0.90), (3, 3, 0, 0.99)]
    table = pd.DataFrame(rows, columns=["place", "run", "carry", "low"])
    table = look_ahead(table.assign(high=1.0))
    assert table["look_ahead"].tolist() == [0, -1, 1]
    assert table["longest"].tolist() == [0, 1, 2]


def test_an_adder_has_its_own_number_of_digits(adder):
    with pytest.raises(ModelError, match="6 digits, not 3"):
        AdditionAccuracy(places=3).measure(adder)


class Unpadded:
    """An adder's answers, unpadded: what `answered` needs of a model, computed by arithmetic.

    Says the right answer and then a full stop, except that it goes on after answers of one digit.
    """

    cfg = type("cfg", (), {"device": "cpu", "d_vocab": 13})

    def __call__(self, tokens):
        signs = "0123456789+=."
        logits = torch.zeros(*tokens.shape, len(signs))
        for row, ids in enumerate(tokens.tolist()):
            text = "".join(signs[token] for token in ids)
            question, end = text.split("=")[0], text.index("=")
            answer = str(sum(map(int, question.split("+"))))
            answer += "0" if len(answer) == 1 else "."
            for offset, sign in enumerate(answer):
                if end + offset < tokens.shape[1]:
                    logits[row, end + offset, signs.index(sign)] = 1
        return logits


def test_an_answer_that_goes_on_is_not_ended():
    vocabulary = {sign: token for token, sign in enumerate("0123456789+=")}
    style = AdditionFormat(digits=2, pad=False, vocabulary=vocabulary)
    a, b = np.divmod(np.arange(10_000), 100)
    sums = Sums(a, b, 2)[::7]
    given, generated, ends = answered(Unpadded(), style, sums)
    written = style.write(sums).written
    assert (given == np.where(written, sums.answer_digits, -1)).all()
    assert (generated == given).all()
    assert (ends == (sums.answer >= 10)).all()


@pytest.fixture(scope="module")
def only_close():
    """A language model that adds `12+34=` after a line, and is asked in every form."""
    experiment = AdditionAccuracy(per_cell=4, uniform=30, per_form=20, batch_size=16)
    return experiment, experiment.measure(adding_only(r"\n(\d+)\+(\d+)=(\d*)$"))


def test_a_language_model_is_asked_in_the_form_that_it_knows(only_close):
    experiment, results = only_close
    forms = results.tables["forms"]
    assert forms.groupby("sample")["form"].nunique().min() >= 4
    right = {name: float(name == "few-shot, no spaces") for name in forms["form"]}
    assert forms.set_index("form")["accuracy"].to_dict() == right
    assert forms.loc[forms["chosen"], "form"].unique().tolist() == ["few-shot, no spaces"]
    assert results.tables["answers"]["accuracy"].item() == 1
    said = experiment.headline(results)
    assert " It was asked in the form few-shot, no spaces (of" in said


def test_the_form_matters_where_only_one_is_known(only_close):
    experiment, results = only_close
    claim = experiment.claims(results)[1]
    assert (claim.verdict, claim.estimate) == ("holds", 1)
    assert 0.5 < claim.low < 1  # all alike is no certainty
    assert "'few-shot, no spaces', chosen on other sums" in claim.sentence
    assert "Accuracy by form" in experiment.figures(results)


def test_an_adder_has_no_choice_of_form(forgetful):
    experiment, results = forgetful
    assert results.tables["forms"].empty
    assert "Accuracy by form" not in experiment.figures(results)


@pytest.mark.real
def test_smollm2_adds_two_digits_badly():
    experiment = AdditionAccuracy(model="smollm2", per_cell=20, uniform=60)
    results = experiment.measure(load("smollm2"))
    verdicts = [claim.verdict for claim in experiment.claims(results)]
    assert verdicts[2] == "fails"  # not every cell is solved
    assert verdicts[3] == "not tested"  # no carry crosses a nine into a digit of a two-digit addend
    assert 0.1 < results.tables["answers"]["accuracy"].item() < 0.8


def cells_and_digits(missed_in_a_cell: int, missed_uniform: int):
    """48 cells of 80, one of which has misses, beside 300 uniform digits of its place."""
    cells = pd.DataFrame({"place": 1, "run": range(48), "carry": 0, "n": 80, "correct": 80})
    cells.loc[0, "correct"] -= missed_in_a_cell
    digits = pd.DataFrame({"place": [1], "n": [300], "correct": [300 - missed_uniform]})
    return with_accuracy(digits), with_accuracy(cells)


def test_one_miss_in_thousands_hides_nothing_and_many_in_one_cell_do():
    assert _uniform_hides(*cells_and_digits(1, 0), seed=0).verdict != "holds"
    worst = _uniform_hides(*cells_and_digits(40, 0), seed=0)
    assert worst.verdict == "holds"
    assert worst.low > 0


def test_cells_that_are_all_alike_seldom_seem_to_hide_one():
    rng, held = np.random.default_rng(0), 0
    for seed in range(60):
        cells = pd.DataFrame({"place": 1, "run": range(48), "carry": 0, "n": 80})
        cells["correct"] = rng.binomial(80, 0.97, 48)
        digits = pd.DataFrame({"place": [1], "n": [300], "correct": rng.binomial(300, 0.97, 1)})
        claim = _uniform_hides(with_accuracy(digits), with_accuracy(cells), seed)
        held += claim.verdict == "holds"
    assert held <= 8


def test_few_questions_widen_the_look_ahead_and_do_not_lower_it():
    cells = pd.DataFrame({"place": [2, 2, 2, 2], "run": [0, 0, 1, 1], "carry": [0, 1, 0, 1]})
    few = look_ahead(with_accuracy(cells.assign(n=10, correct=10))).iloc[0]
    assert (few["look_ahead"], few["at_most"]) == (-1, 1)
    wrong = look_ahead(with_accuracy(cells.assign(n=200, correct=[200, 200, 200, 20]))).iloc[0]
    assert (wrong["look_ahead"], wrong["at_most"]) == (0, 0)
