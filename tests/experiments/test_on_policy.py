"""The experiment on an adder, its claims on tables made for them, and what it refuses."""

import numpy as np
import pandas as pd
import pytest

from experiments import Results
from experiments.on_policy import OnPolicy
from lenses.states.fillers import FILLERS, OWN
from lenses.states.policy import FEWEST
from lenses.states.replies import passages_cut
from models import ModelError, load
from models.text import tokenize
from prompts.additions import Addition


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def experiment():
    return OnPolicy(model="adder_6d_1l", additions=6)


@pytest.fixture(scope="module")
def results(experiment, adder) -> Results:
    return experiment.measure(adder)


def claims_of(experiment, results, **changed: pd.DataFrame):
    """Claims about tables some of which are changed: on differences, checks, on what explains."""
    found = experiment.claims(Results(dict(results.tables) | changed))
    return found[:4], [claim for claim in found if claim.check], found[4:6]


def test_fillers_are_what_they_are_called(results, adder) -> None:
    rows = results.tables["prompts"].pivot(index="prompt", columns="filler", values="filled_with")
    answers = [f"{answer:07d}" for answer in Addition(6, 6, 0).sums.answer]
    right = np.mean(rows["greedy"] == answers)
    assert right > 0.5  # an adder of one layer errs at times
    assert rows["given"].tolist() == [answers[i - 1] for i in range(6)]
    assert [sorted(row) for row in rows["shuffled"]] == [sorted(row) for row in rows["given"]]
    assert rows["other"].nunique() == 6
    assert (results.tables["prompts"]["tokens"] == 7).all()


def test_tokens_are_those_of_the_fillers(results) -> None:
    tokens = results.tables["tokens"]
    assert len(tokens) == 6 * len(FILLERS) * 7
    text = tokens.groupby(["prompt", "filler"])["token"].sum()
    expected = results.tables["prompts"].set_index(["prompt", "filler"])["filled_with"]
    assert text.sort_index().to_dict() == expected.sort_index().to_dict()
    mean = tokens.groupby(["prompt", "pos"])[["cosine", "sink"]].mean()
    assert np.allclose(mean, 0)


def test_surprisal_is_least_in_the_likeliest_text(results) -> None:
    rows = results.tables["fillers"].set_index("filler")
    assert rows["surprisal"].idxmin() in ("greedy", "sampled")
    assert rows.loc["greedy", "overlap"] < 0.25


def test_the_identities_and_the_control_hold(experiment, results) -> None:
    _, checks, _ = claims_of(experiment, results)
    assert [claim.kind for claim in checks] == ["mechanical", "identity", "identity"]
    assert {claim.verdict for claim in checks} == {"holds"}
    assert (results.tables["identity"]["same_choice"] == 1).all()


def test_an_adder_does_not_decide(experiment, results) -> None:
    """Other digits surprise it and its own do not: nothing can be held fixed."""
    differences, _, explained = claims_of(experiment, results)
    assert {claim.verdict for claim in differences} == {"undecided"}
    assert "overlap" in differences[0].decide
    assert {claim.verdict for claim in explained} == {"not tested"}
    assert {claim.estimate for claim in explained} == {None}
    told = experiment.headline(results)
    assert told.startswith("Not decided, with position and surprisal held fixed: own likeliest ")
    assert "overlap by" in told


@pytest.fixture(scope="module")
def overlapping(results) -> pd.DataFrame:
    return results.tables["fillers"].assign(overlap=0.8)


def made(results, size: float, p: float) -> pd.DataFrame:
    rows = results.tables["effects"]
    ends = {"estimate": size, "low": size - 0.1, "high": size + 0.1, "p_any": p}
    return rows.assign(**ends)


def beyond_random(results, size: float, p: float) -> pd.DataFrame:
    return results.tables["against_random"].assign(estimate=size, p_any=p)


def test_a_difference_beyond_luck_and_random_weights_holds(
    experiment, results, overlapping
) -> None:
    tables = {"fillers": overlapping, "effects": made(results, -0.6, 0.001)}
    tables["against_random"] = beyond_random(results, -0.4, 0.002)
    found, _, _ = claims_of(experiment, results, **tables)
    assert {claim.verdict for claim in found} == {"holds"}
    assert found[0].estimate == -0.6
    assert found[0].null == pytest.approx(-0.2)
    assert found[0].p == pytest.approx(4 * 0.002)
    told = experiment.headline(Results(dict(results.tables) | tables))
    assert told.startswith("Yes, with position and surprisal held fixed: own likeliest text and ")
    assert "by -0.60 standard deviations of" in told


def test_a_difference_that_random_weights_show_too_is_undecided(
    experiment, results, overlapping
) -> None:
    for size in (-0.1, 0.4):  # luck may explain the excess; random weights show more
        tables = {"fillers": overlapping, "effects": made(results, -0.6, 0.001)}
        p = 0.5 if size < 0 else 0.001
        tables["against_random"] = beyond_random(results, size, p)
        found, _, _ = claims_of(experiment, results, **tables)
        assert {claim.verdict for claim in found} == {"undecided"}
        assert "random weights" in found[0].decide
        told = experiment.headline(Results(dict(results.tables) | tables))
        assert "text differed from given text, but not clearly more than with random" in told
    tables["effects"] = made(results, -0.6, 0.5)
    told = experiment.headline(Results(dict(results.tables) | tables))
    assert "differed from given text by no more than luck may explain" in told


def test_small_differences_are_none_only_if_the_control_holds(
    experiment, results, overlapping
) -> None:
    tables = {"fillers": overlapping, "effects": made(results, 0.02, 0.9)}
    found, _, _ = claims_of(experiment, results, **tables)
    assert {claim.verdict for claim in found} == {"fails"}
    assert experiment.headline(Results(dict(results.tables) | tables)).startswith("No, with ")
    blind = results.tables["positive_control"].assign(low=-1.0)
    found, checks, _ = claims_of(experiment, results, **tables, positive_control=blind)
    assert checks[0].verdict == "fails"
    assert {claim.verdict for claim in found} == {"undecided"}
    assert "positive control" in found[0].decide


def test_surprisal_explains_what_goes_away(experiment, results, overlapping) -> None:
    tables = {"fillers": overlapping, "effects": made(results, 0.6, 0.001)}
    for size, verdict in ((0.8, "holds"), (0.2, "fails"), (0.5, "undecided")):
        ends = {"estimate": size, "low": size - 0.1, "high": size + 0.1}
        known = [{"weights": w, "filler": f, "n": 8} for w in ("own", "random 0") for f in OWN]
        tables["explained"] = pd.DataFrame(known).assign(**ends)
        found = claims_of(experiment, results, **tables)[2]
        assert {claim.verdict for claim in found} == {verdict}


def test_where_no_statistic_varies_nothing_is_tested(experiment, results) -> None:
    none = {name: results.tables[name][:0] for name in ("effects", "against_random")}
    found, _, explained = claims_of(experiment, results, **none)
    assert {claim.verdict for claim in [*found, *explained]} == {"not tested"}
    assert {claim.needs for claim in found} == {"a model whose statistics vary from token to token"}


def test_the_planted_difference_is_found_and_no_other(results) -> None:
    rows = results.tables["positive_control"]
    found = rows.query("given == 'twins of its words' and statistic == 'attention_on_filler'")
    assert found["filler"].tolist() == ["greedy", "sampled"]
    assert (found["low"] > 1).all()
    assert (found["p_any"] < 0.001).all()
    assert rows.query("given == 'its own, again' and filler == 'sampled'")["p_any"].min() > 0.05


def test_texts_are_cut_in_two(adder) -> None:
    prompts = ("123456+123456=0246912", "999999+000001=1000000", "111111+222222=0333333")
    found = OnPolicy(prompts=prompts, given_tokens=15).measure(adder).tables["prompts"]
    given = found[found["filler"] == "given"]["filled_with"]
    assert given.tolist() == ["0246912", "1000000", "0333333"]
    assert found["text"].tolist()[0].endswith("123456+123456=")


def test_too_little_text_is_refused(adder) -> None:
    long, short = "123456+123456=0246912", "123456+123456="
    with pytest.raises(ModelError, match=f"prompt 1: 15 tokens; it takes {12 + FEWEST}"):
        OnPolicy(prompts=(long, short, long), given_tokens=12).measure(adder)
    with pytest.raises(ModelError, match="prompt 0: 15 tokens"):
        OnPolicy(prompts=(short, long, long), given_tokens=12).measure(adder)
    with pytest.raises(ModelError, match="3 texts"):
        OnPolicy(prompts=(long, long), given_tokens=12).measure(adder)


@pytest.mark.filterwarnings("ignore::models.text.TextNote")
def test_texts_that_share_what_the_model_reads_are_one_prompt(adder) -> None:
    sums = [f"{start}+123456={end}" for start in ("111111", "222222", "333333")
            for end in ("0000000", "1111111")]  # fmt: skip
    prompts = passages_cut(adder, sums, None, 0, 15, 22)
    assert [one.prompt for one in prompts] == [tokenize(adder, one)[:15] for one in sums[::2]]


def test_another_models_reply_stands_as_other(adder) -> None:
    """Two exact adders of one form write the same answers; their tokens are the same."""
    found = OnPolicy(model="adder_6d_1l", additions=6, other_model="adder_6d_2l").measure(adder)
    rows = found.tables["prompts"].pivot(index="prompt", columns="filler", values="filled_with")
    answers = [f"{answer:07d}" for answer in Addition(6, 6, 0).sums.answer]
    assert rows["other"].tolist() == answers


def test_certainty_is_the_ratio_of_mean_entropies(results) -> None:
    rows = results.tables["certainty"].set_index(["weights", "filler", "against", "held"])
    assert set(rows.index.get_level_values("weights")) == {
        "own", "random 0", "random 1", "random 2", "random 3",
    }  # fmt: skip
    for filler in OWN:
        nothing = rows.loc[("own", filler, "given", "nothing"), "estimate"]
        assert 0 < nothing < 0.5  # the adder is sure of its own digits, and not of others
        assert rows.loc[("random 0", filler, "given", "nothing"), "estimate"] > nothing


def test_own_text_is_more_certain_only_at_the_same_surprisals(
    experiment, results, overlapping
) -> None:
    rows = results.tables["certainty"]
    for size, verdict in ((0.4, "holds"), (1.3, "fails"), (0.95, "undecided")):
        ends = {"estimate": size, "low": size - 0.1, "high": size + 0.1, "p": 0.001}
        tables = {"certainty": rows.assign(**ends), "fillers": overlapping}
        found = experiment.claims(Results(dict(results.tables) | tables))
        certain = [claim for claim in found if claim.family.startswith("The next token")]
        assert [claim.verdict for claim in certain] == [verdict] * 2
    assert {claim.verdict for claim in experiment.claims(results)[6:8]} == {"undecided"}
