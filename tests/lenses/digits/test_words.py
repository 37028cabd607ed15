import numpy as np
import pandas as pd
import pytest
import torch

from lenses.digits.reading import Words
from lenses.digits.words import (
    answers_by_word,
    best_layer,
    confusion_rows,
    decoded_rows,
    prefix_tables,
    rank_rows,
    score_rows,
    word_scores,
    word_tests,
)
from lenses.states.decoding import Decoder, Readout, read_states
from prompts.place_values import PREFIX_WORDS
from tests.lenses.digits.readings import HOW, MODEL, TEXTS, WHERE, knowing, noise, reading

DIGITS = TEXTS.digits
IS_CODE = (DIGITS["twin"] >= 0).to_numpy()


def told(logits: np.ndarray) -> pd.DataFrame:
    random = [word_scores(reading(seed=seed)) for seed in (1, 2, 3, 4)]
    return word_tests(reading(logits), random, seed=0)


@pytest.fixture(scope="module")
def tests():
    return told(knowing(1.0, ~IS_CODE))


def test_a_word_that_is_there_is_found_where_it_is(tests) -> None:
    for sample in ("prompt", "announced", "generated"):
        best = best_layer(tests, sample)
        assert best["layer"] == 1
        assert best["p"] < 0.001
        assert best["low"] < 1.0 * 8 / 7 < best["high"] + 0.3
        assert best["q"] < 0.01
        chosen = "sample == @sample and statistic == 'place, random weights' and norm != 'final'"
        random = tests.query(chosen).set_index("layer")
        assert (random["low"] <= random["estimate"]).all()
        assert random["high"].max() < 0.5
        assert random.loc[1, "p"] < 0.01, "one more such model would hardly lie as high"
        assert random.loc[2, "p"] > 0.05


def test_digits_whose_places_have_no_word_have_no_rank() -> None:
    own, unknown = reading(), DIGITS.head(3).assign(place=5, token="1")
    states = torch.zeros(len(WHERE), 3, MODEL.cfg.d_model)
    assert rank_rows(own, states, unknown, HOW[0]).empty


def test_it_is_the_place_and_not_the_position_in_its_group(tests) -> None:
    found = best_layer(tests, "announced", "place minus group of three")
    assert found["layer"] == 1
    assert found["low"] < 1 < found["high"]


def test_it_is_no_code(tests) -> None:
    codes = best_layer(tests, "announced", "place, in codes")
    assert codes["p"] > 0.01
    difference = best_layer(tests, "announced", "numbers minus codes")
    assert difference["layer"] == 1
    assert difference["low"] > 0.5
    everywhere = told(knowing(1.0))
    same = best_layer(everywhere[everywhere["layer"] == 1], "announced", "numbers minus codes")
    assert same["estimate"] < 0.5 * difference["estimate"]
    assert same["low"] < 0.2


def test_the_estimate_is_the_mean_over_places_of_mean_scores(tests) -> None:
    logits = knowing(1.0, ~IS_CODE)[..., :7].astype(float)
    label = np.array([{0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 8: 6}.get(p, -1) for p in DIGITS.place])
    means = []
    for number in range(7):
        rows = (label == number) & (DIGITS["sample"] == "generated") & ~IS_CODE
        x = logits[rows, 1]
        means.append((x[:, number] - np.delete(x, number, axis=1).mean(1)).mean())
    found = tests.query(
        "sample == 'generated' and statistic == 'place' and layer == 1 and norm == 'final'"
    )
    assert found["estimate"].item() == pytest.approx(np.mean(means))


def test_position_in_a_group_of_three_is_another_hypothesis() -> None:
    logits, place = noise(), DIGITS["place"].to_numpy()
    logits[np.arange(len(place)), 1, place % 3] += 1.0
    found = told(logits)
    rival = best_layer(found, "generated", "position in group of three")
    assert rival["layer"] == 1
    assert rival["p"] < 0.001
    assert rival["estimate"] > best_layer(found, "generated")["estimate"] + 0.3
    between = found[found["layer"] == 1]
    assert best_layer(between, "generated", "place minus group of three")["high"] < 0


def test_nothing_is_found_in_noise() -> None:
    p = [best_layer(told(noise(seed)), "announced")["p"] for seed in range(3)]
    assert np.median(p) > 0.05


def test_scores_are_kept_of_every_digit_and_layer() -> None:
    own = reading(knowing(2.0))
    frames = list(score_rows(own))
    assert len(frames) == 2
    assert len(frames[0]) == 3 * (own.label >= 0).sum()
    row = frames[1].iloc[4]
    n = np.flatnonzero(own.label >= 0)[1]
    logits, label = own.logits[n, 1, 1, :7], own.label[n]
    assert row["layer"] == 1
    assert row["norm"] == "final, centred"
    assert row["score"] == pytest.approx(logits[label] - np.delete(logits, label).mean())


def test_confusion_is_a_share_of_each_places_digits(tests) -> None:
    sharp = knowing(20.0, ~IS_CODE)
    found = confusion_rows(reading(sharp), told(sharp))
    assert np.allclose(found.groupby(["sample", "place"])["share"].sum(), 1)
    same = found["place"] == found["decoded_place"]
    assert (found["share"] == same).all()
    vague = confusion_rows(reading(knowing(1.0, ~IS_CODE)), tests)
    assert vague[vague["place"] == vague["decoded_place"]]["share"].between(0.1, 0.7).all()


def test_answers_have_the_score_of_the_given_digits_at_their_place(tests) -> None:
    own = reading(knowing(1.0, ~IS_CODE), said=np.zeros(len(DIGITS), dtype=int))
    found = answers_by_word(own, tests)
    assert (found["part"] == "c").all()
    assert set(found["kind"]) == {"copy", "addition"}
    assert (found["layer"] == 1).all()
    assert (found["wrong"] == (found["token_id"] != 0)).all()
    for row in found.iloc[:: len(found) // 7].itertuples():
        same = (DIGITS["prompt"] == row.prompt) & (DIGITS["place"] == row.place)
        given = np.flatnonzero(same & (DIGITS["part"] != "c"))
        number = own.label[given[0]]
        logits = own.logits[given, 1, 1, :7]
        expected = logits[:, number] - np.delete(logits, number, axis=1).mean(1)
        assert row.score == pytest.approx(expected.mean())


def test_ranks_and_words_of_the_first_prompt_against_a_plain_softmax() -> None:
    texts = TEXTS.chosen([0])
    tokens, row, pos, _ = texts.batch(slice(0, 1), "cpu")
    states, _ = read_states(MODEL, tokens, WHERE, row, pos)
    own = reading(texts=texts)
    digits = texts.digits.assign(token="x")
    ranks = rank_rows(own, states, digits, HOW[0])
    decoder = Decoder(MODEL, torch.zeros(3, MODEL.cfg.d_model))
    logprob = decoder(states, Readout(), torch.arange(MODEL.W_U.shape[1])).log_softmax(-1)
    ids = MODEL.tokenizer.get_vocab()
    for found in ranks.itertuples():
        n = int(np.flatnonzero(texts.digits["pos"] == found.pos)[0])
        forms = {6: [" million"], 8: ["億", "亿"], 0: [" unit", " one"]}.get(found.place)
        if forms:
            at = logprob[found.layer, n]
            own_ids = [ids[form] for form in forms]
            assert found.logprob == pytest.approx(at[own_ids].logsumexp(0).item(), abs=1e-4)
            above = at - at[own_ids].max()
            # Tokens that the planted model never says have the same logit, but for rounding.
            assert (above > 1e-4).sum() < found.rank <= (above > -1e-4).sum()
    likeliest = decoded_rows(own, states, digits, HOW[0])
    assert len(likeliest) == 3 * len(digits)
    best = logprob.max(-1)
    assert likeliest["decoded_id"].tolist() == best.indices.T.flatten().tolist()
    assert np.allclose(likeliest["probability"], best.values.T.flatten().exp(), atol=1e-5)


def test_a_prefixs_word_and_its_lift() -> None:
    words = Words.of(MODEL, {number: (word,) for number, word in PREFIX_WORDS.items()})
    prefix = np.repeat(list(PREFIX_WORDS) * 2, 2)
    rng, label = np.random.default_rng(0), words.number(prefix)
    logits = rng.normal(size=(len(prefix), 2, 3, len(words.ids)))
    logits[np.arange(0, len(prefix), 2), :, 1, label[::2]] += 3
    rank = np.full((len(prefix), 2, 3), 64)
    rank[::2, :, 1] = 16
    table, contrasts = prefix_tables(words, logits, rank, prefix, reading(), seed=0)
    found = contrasts.set_index(["statistic", "layer"])
    assert found.loc[("prefix word", 1), "p"] < 0.001
    assert found.loc[("prefix word", 1), "low"] > 1.5
    assert found.loc[("prefix word", 2), "p"] > 0.01
    assert found.loc[("prefix lift", 1), "estimate"] == 2
    assert found.loc[("prefix lift", 2), "estimate"] == 0
    alike = logits.copy()
    alike[1::2] = alike[::2]  # 3 says thirteen whatever stands before it
    _, contrasts = prefix_tables(words, alike, rank, prefix, reading(), seed=0)
    assert (contrasts.query("statistic == 'prefix word'")["p"] == 1).all()
    first = rng.normal(size=logits.shape)
    first[::2, :, 1, 0:10] += 3 * (prefix[::2] // 10 == 1)[:, None, None]  # 1 says every teen
    _, contrasts = prefix_tables(words, first, rank, prefix, reading(), seed=0)
    assert (contrasts.query("statistic == 'prefix word'")["p"] > 0.01).all()
    thirteen = table.query("word == 'thirteen' and layer == 1")
    assert thirteen[["prefix", "rank", "control_rank", "lift", "n"]].iloc[0].tolist() == [
        13, 16, 64, 2, 2,
    ]  # fmt: skip
