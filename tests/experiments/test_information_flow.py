"""Where a token came from: on an adder, on planted models, and where nothing is known."""

import pytest

from experiments.information_flow import CARRY_TRUEST, CONTROLS, InformationFlow
from lenses.flow.splits import BY_GRADIENT, RULES
from lenses.flow.tables import Diagram
from models import load, untrained

FIELDS = {"model": "adder_6d_1l", "additions": 6}
GRADIENT = "gradient x activation"


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def experiment():
    return InformationFlow(**FIELDS)


@pytest.fixture(scope="module")
def results(experiment, adder):
    return experiment.measure(adder)


@pytest.fixture(scope="module")
def planted():
    experiment = InformationFlow(heads=1)
    return experiment, experiment.measure(experiment.planted())


def test_the_traced_digit_and_its_column_are_those_of_the_sum(results, adder):
    form = adder.card.arithmetic
    for row in results.tables["prompts"].itertuples():
        text = row.given.replace("<bos>", "")
        a, b = (part for part in text.split("=")[0].split("+"))
        total = str(int(a) + int(b)).zfill(form.digits + 1)
        assert row.traced == total[-2]
        assert row.decisive == f"“{a[-2]}” (pos {text.index('+') - 1})" + (
            f" and “{b[-2]}” (pos {text.index('=') - 1})"
        )


def test_weight_is_conserved(experiment, results):
    checks = [claim for claim in experiment.claims(results) if claim.kind == "identity"]
    assert len(checks) == 4
    assert {claim.verdict for claim in checks} == {"holds"}
    nodes, links = results.tables["nodes"], results.tables["links"]
    inputs = nodes[nodes["depth"] == 0].groupby(["prompt", "rule"])["weight"].sum()
    ended = (
        links[links["kind"].isin(["bias", "dropped"])].groupby(["prompt", "rule"])["weight"].sum()
    )
    whole = inputs.add(ended, fill_value=0)
    assert set(whole.index.get_level_values("rule")) == set(RULES)
    assert (whole - 1).abs().max() < 1e-5


def test_the_page_says_which_rules_miss_a_known_path(experiment, results):
    told = [c.sentence for c in experiment.claims(results) if "planted" in c.sentence]
    copy, loud, carry, _ = told
    assert f"Found by {GRADIENT}; missed by norms (0." in copy
    assert "Found by projection, " in loud
    assert "max-flow (0.5" in loud.partition("missed by")[2]
    assert f"by the rule {CARRY_TRUEST}, which flow_faithfulness finds truest there" in carry


def test_the_page_says_that_an_adders_diagram_shows_the_column_and_not_the_head(
    experiment, results
):
    rows = results.tables["controls"]
    means = rows.groupby(["control", "rule"])["found"].mean()
    column, head = experiment.claims(results)[-2:]
    assert column.verdict == "holds"
    assert column.estimate == pytest.approx(means["carry column", CARRY_TRUEST])
    assert all(f"{rule} {means['carry column', rule]:.2f}" in column.sentence for rule in RULES)
    for rule in BY_GRADIENT:
        assert means["carry column", rule] == means["carry head", rule] == 0
    assert means["carry head", "norms"] == pytest.approx(1 / 6, abs=1e-6)
    assert head.estimate == pytest.approx(means["carry head"].max())
    assert head.estimate < 0.5
    assert set(rows["control"]) == set(CONTROLS)


def test_each_rule_fetches_the_copied_word_of_a_planted_model(planted):
    experiment, results = planted
    learned = [c for c in experiment.claims(results) if c.kind == "learned"]
    assert [claim.label for claim in learned] == list(RULES)
    assert {claim.verdict for claim in learned} == {"holds"}
    assert "came most from “␣Max” at position 2: " in experiment.headline(results)


def test_random_weights_fetch_no_key(adder):
    experiment = InformationFlow(**FIELDS | {"additions": 12})
    for seed in range(2):
        claims = experiment.claims(experiment.measure(untrained(adder, 50 + seed)))
        assert all(c.verdict != "holds" for c in claims if c.kind == "learned")


def test_a_threshold_states_what_it_drops(adder):
    experiment = InformationFlow(**FIELDS, threshold="top-k", threshold_value=1)
    tables = experiment.measure(adder).tables
    nodes = tables["nodes"].query(f"rule == '{GRADIENT}' and depth == 0")
    links = tables["links"].query(f"rule == '{GRADIENT}'")
    for prompt, arrived in nodes.groupby("prompt")["weight"].sum().items():
        kinds = links[links["prompt"] == prompt].groupby("kind")["weight"].sum()
        assert kinds["dropped"] > 0.01
        assert abs(arrived + kinds.get("bias", 0) + kinds["dropped"] - 1) < 1e-5


def test_the_drawn_flow_is_plain_data(results):
    nodes, links = (results.tables[name] for name in ("nodes", "links"))
    told = Diagram(["a"], "1", GRADIENT, "none", nodes, links)
    assert len(Diagram.from_json(told.to_json()).links) == len(links)
