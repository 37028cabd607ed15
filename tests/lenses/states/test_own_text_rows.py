"""What is drawn of tables about own text, against tables made by hand."""

import pandas as pd
import pytest

from lenses.states import own_text_rows
from lenses.states.fillers import FILLERS, MAIN, OWN
from lenses.states.own_text_rows import APART, TEXTS, TIMES
from lenses.states.policy import STATISTICS

ENDS = {"low": -9.0, "high": 9.0, "p_any": 0.5, "n": 8}


@pytest.fixture
def effects() -> pd.DataFrame:
    rows = [(control, filler, "head_norm", size) for control in ("position", MAIN)
            for size, filler in enumerate(FILLERS[1:])]  # fmt: skip
    columns = ["control", "filler", "statistic", "estimate"]
    return pd.DataFrame(rows, columns=columns).assign(**ENDS)


def test_every_filler_is_drawn_by_what_is_held_fixed(effects) -> None:
    rows = own_text_rows.with_held(effects)
    assert rows["held"].unique().tolist() == ["position held fixed", f"{MAIN} held fixed"]
    assert set(rows["statistic"]) == {"head norm"}
    assert rows[APART].tolist() == effects["estimate"].tolist()


def test_random_weights_show_the_effect_less_its_excess(effects) -> None:
    excess = pd.concat([effects.assign(random_model=i, estimate=0.25 + i) for i in range(2)])
    rows = own_text_rows.beside_random({"effects": effects, "against_random": excess})
    assert set(rows["text"]) == set(OWN.values())
    by = rows.set_index(["text", "weights"])[APART]
    for size, text in enumerate(OWN.values()):
        assert by[text, "these weights"] == size
        assert by[text, "random weights 0"] == size - 0.25
        assert by[text, "random weights 1"] == size - 1.25
    assert len(rows) == 2 * 3


def test_certainty_is_said_in_words_where_it_is_known() -> None:
    rows = pd.DataFrame(
        [("own", "greedy", "given", "nothing", 0.5), ("random 1", "greedy", "given", "nothing", 2),
         ("own", "sampled", "other", "surprisal", 0.25),
         ("own", "greedy", "other", "nothing", None)],
        columns=["weights", "filler", "against", "held", "estimate"],
    )  # fmt: skip
    shown = own_text_rows.certainty_in_words(rows)
    assert shown["weights"].tolist() == ["these weights", "random weights 1", "these weights"]
    assert shown["pair"].tolist()[1:] == [
        "likeliest text against given",
        "sampled text against other",
    ]
    assert shown["held"].tolist()[0] == "nothing held fixed"
    assert shown["held"].tolist()[2] == "surprisal of the token just read held fixed"
    assert shown[TIMES].tolist() == [0.5, 2, 0.25]
    assert own_text_rows.certainty_of(rows, "sampled", "other")["estimate"].to_dict() == {
        "own": 0.25
    }


def test_means_along_the_text_are_of_a_few_positions_together() -> None:
    tokens = pd.DataFrame(
        [(prompt, filler, pos, prompt + pos) for prompt in range(6) for filler in FILLERS
         for pos in range(10)],
        columns=["prompt", "filler", "pos", "surprisal"],
    ).assign(**dict.fromkeys(STATISTICS, 1.0))  # fmt: skip
    tokens["sink"] = None
    surprisal, statistics = own_text_rows.along_text(tokens.astype({"sink": float}))
    assert surprisal["filler"].drop_duplicates().tolist() == list(TEXTS.values())
    given = surprisal[surprisal["filler"] == "given text"].set_index("token")["surprisal"]
    assert given.to_dict() == {first: 2.5 + first + 0.5 for first in (0, 2, 4, 6, 8)}
    varying = {own_text_rows.spaced(name) for name in STATISTICS if name != "sink"}
    assert set(statistics["statistic"]) == varying
    assert (statistics["mean"] == 1).all()
