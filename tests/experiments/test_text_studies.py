"""A user's own texts reach every experiment that reads texts, from a column of a table."""

import pytest

from experiments import TextStudy, UsageError
from experiments._runs.finding import find
from experiments._runs.registry import names
from experiments.head_importance import HeadImportance
from experiments.head_redundancy import HeadRedundancy
from lenses.flow.keyed_texts import given_keyed
from models import load
from models.text import tokenize
from tests.models.tiny import LLAMA, save, tiny

STUDIES = [find(name) for name in names() if issubclass(find(name), TextStudy)]
WITH_TEXTS = [kind for kind in STUDIES if hasattr(kind, "_texts")]
FIELDS = {
    "on_policy": {"given_tokens": 10, "new_tokens": 5},
    "head_contributions": {"new_tokens": 1},
}
SUMS = [f"{number:06d}+{2 * number:06d}=" for number in range(1234, 1240)]


@pytest.fixture(scope="module")
def adder():
    return load("adder_6d_1l")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return load(str(save(folder, tiny("llama", **LLAMA))))


@pytest.fixture
def column(tmp_path):
    (tmp_path / "own.csv").write_text(
        "\n".join(["id,sum", *(f"{i},{s}" for i, s in enumerate(SUMS))])
    )
    return tmp_path / "own.csv:sum"


def tokens_of(text) -> list[int]:
    """The first tokens of what an experiment reads, whatever it keeps them in."""
    ids = getattr(text, "prompt", None) or getattr(text, "given", None) or text[1]
    return list(ids)[:10]


@pytest.mark.parametrize("kind", WITH_TEXTS, ids=lambda kind: kind.name())
def test_own_texts_are_read_from_a_column(kind, adder, column):
    own = kind(model="adder_6d_1l", prompts_file=column, **FIELDS.get(kind.name(), {}))
    texts = own._texts(adder)
    texts = texts[0] if isinstance(texts, tuple) else texts
    assert [tokens_of(text) for text in texts] == [tokenize(adder, one)[:10] for one in SUMS]


def test_prompts_and_files_are_read_together(column):
    read = given_keyed(["first"], column, None)
    assert [one.text for one in read] == ["first", *SUMS]
    assert read[1].where.endswith("own.csv, line 2")


@pytest.mark.parametrize(("kind", "least"), [(HeadImportance, 3), (HeadRedundancy, 4)])
def test_too_few_texts_of_ones_own_are_refused(kind, least, adder):
    asked = kind(model="adder_6d_1l", prompts=SUMS[: least - 1])
    with pytest.raises(UsageError, match=f"it takes {least} or more"):
        asked._texts(adder)


def test_a_file_that_is_not_there_is_told_when_the_fields_are_read(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.csv; correct the path"):
        HeadRedundancy(prompts_file=tmp_path / "none.csv:text")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["information_flow", "token_decoding"])
def test_a_prompt_of_one_token_has_fewer_figures(name, reader):
    kind = find(name)
    experiment = kind(prompts=("A",), **kind.quick)
    results = experiment.measure(reader)
    assert experiment.headline(results)
    assert experiment.figures(results)


def test_heads_are_not_compared_in_a_text_of_one_token(reader):
    texts = ("A tide came in", "An oak tree stood", "B", "He ran over the hill")
    with pytest.raises(UsageError, match="prompt 2: it takes 5 tokens or more"):
        HeadRedundancy(prompts=texts).measure(reader)
