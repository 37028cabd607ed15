"""The examples of the primer: every matrix of each, as rows of one table."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from lenses.flow.primer import Maps, attend, random_maps, relative_error
from lenses.flow.spelled import cells, meets, next_words, of_walk, one_head, the_maps
from lenses.flow.walkthrough import corrected, embeddings, published
from models.train.next_word import MAPS, NextWord, train
from prompts.walkthrough import SENTENCES, numbered, vocabulary, words

SHOWN, OTHER = "seashells", "pizza"
"""The sentence that is gone through step by step, and the one it looks at in cross-attention."""
WIDTH, D_HEAD, HEADS = 4, 3, 4
"""Of the examples with random weights."""


def walks(seed: int) -> pd.DataFrame:
    """The walkthrough as it was published and corrected, on the same random embeddings."""
    embedded = embeddings(seed)
    return pd.concat(
        [
            of_walk(code(name, embedded)).assign(example=f"{name} {code.__name__}")
            for name in SENTENCES
            for code in (published, corrected)
        ],
        ignore_index=True,
    )


def untrained(seed: int) -> pd.DataFrame:
    """Attention with random weights: as in the notes, masked, across texts, and several heads."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(len(vocabulary()), WIDTH))
    maps = random_maps(1, WIDTH, D_HEAD, rng, output=False)
    several = random_maps(HEADS, WIDTH, D_HEAD, rng)
    here, there = ((words(name), drawn[numbered(name)]) for name in (SHOWN, OTHER))
    found = {
        "notes": pd.concat([the_maps(maps), one_head(*here, maps, causal=False)]),
        "mask": one_head(*here, maps, causal=True),
        "cross": one_head(*here, maps, causal=False, context=there),
        "heads": proposals(*here, several),
    }
    return pd.concat([part.assign(example=name) for name, part in found.items()])


def example_cells(seed: int, *others: pd.DataFrame) -> pd.DataFrame:
    """The cells of all examples: those with random numbers, then others."""
    return pd.concat([walks(seed), untrained(seed), *others], ignore_index=True)


def proposals(said: Sequence[str], x: Float[np.ndarray, "word width"], maps: Maps) -> pd.DataFrame:
    """What each head proposes to add to the last word but one, and the word before and after."""
    at = len(said) - 2
    change = attend(x, maps, causal=True).change[:, at]
    rows = {f"“{said[at]}” before": x[at]}
    rows |= {f"head {head + 1} proposes": part for head, part in enumerate(change)}
    rows |= {"heads together": change.sum(0), f"“{said[at]}” after": x[at] + change.sum(0)}
    return cells("Proposals", list(rows), x.shape[1], np.stack(list(rows.values())))


def trained(width: int, d_head: int, attends: bool, seed: int, steps: int, rate: float) -> NextWord:
    """A network that was trained on the three sentences; of no steps, as it was drawn."""
    net = NextWord(len(vocabulary()), width, d_head, attends, seed)
    train(net, [numbered(name) for name in SENTENCES], steps, rate)
    return net


NETWORKS = {
    "corrected": "walkthrough, corrected",
    "untrained": "one head, before training",
    "alone": "trained without attention",
    "attention": "trained with attention",
}
"""What is compared, in words: each predicts the next words of the sentences."""
TRAINED = ("next_words", "agreement", "looks", "trained")
"""Tables of one training."""


def training(
    width: int, d_head: int, seed: int, steps: int, rate: float, *, drawn: bool
) -> dict[str, pd.DataFrame]:
    """What each of NETWORKS says from one seed, errors of the trained head, what it looks at.

    If it is to be `drawn`, every matrix of the trained head as well.
    """
    made = [(True, 0), (False, steps), (True, steps)]
    nets = [trained(width, d_head, attends, seed, taken, rate) for attends, taken in made]
    said = [walked_predictions(seed), *(predictions(net) for net in nets)]
    told = [rows.assign(network=name) for rows, name in zip(said, NETWORKS, strict=True)]
    errors = training_errors(nets[-1]).items()
    agreed = [(case, "float64", seed, error) for case, error in errors]
    found = {
        "next_words": pd.concat(told).assign(seed=seed),
        "agreement": pd.DataFrame(agreed, columns=["case", "precision", "draw", "error"]),
        "looks": looks(nets[-1]).assign(seed=seed),
    }
    if drawn:
        found["trained"] = pd.concat([in_numpy(nets[-1], name) for name in SENTENCES])
    return found


def maps_of(net: NextWord) -> Maps:
    """The maps of a trained head, in double precision."""
    return Maps(*(getattr(net, name).detach().double().numpy()[None] for name in MAPS))


def in_numpy(net: NextWord, name: str) -> pd.DataFrame:
    """Every matrix of a trained head over a sentence, and what it says comes next."""
    embedded, readout = (w.detach().double().numpy() for w in (net.embedding, net.readout))
    x, said = embedded[numbered(name)], words(name)
    own = attend(x, maps_of(net), causal=True)
    parts = [one_head(said, x, maps_of(net), causal=True)]
    parts.append(next_words(said, vocabulary(), (x + own.change[0]) @ readout))
    whole = pd.concat(parts).assign(example=f"trained {name}")
    return pd.concat([whole, meets(said, own).assign(example=f"meets {name}")])


def looks(net: NextWord) -> pd.DataFrame:
    """How much each word of each sentence looks at each one up to itself."""
    embedded = net.embedding.detach().double().numpy()
    rows = []
    for name in SENTENCES:
        weights = attend(embedded[numbered(name)], maps_of(net), causal=True).weights[0]
        query, key = np.tril_indices(len(weights))
        seen = {"query": query, "key": key, "attention": weights[query, key]}
        rows.append(pd.DataFrame({"sentence": name} | seen))
    return pd.concat(rows, ignore_index=True)


@torch.no_grad()
def predictions(net: NextWord) -> pd.DataFrame:
    """What a network says after each word that another one follows, all words in one pass."""
    known = vocabulary()
    return _told(lambda name: net(torch.tensor(numbered(name))).softmax(-1).numpy(), known)


def walked_predictions(seed: int) -> pd.DataFrame:
    """What the corrected walkthrough says after each word, on random embeddings."""
    embedded = embeddings(seed)
    return _told(
        lambda name: np.stack(
            [corrected(name, embedded, current=word).probabilities for word in words(name)]
        ),
        vocabulary(),
    )


def _told(
    chances_of: Callable[[str], Float[np.ndarray, "pos known"]], known: Sequence[str]
) -> pd.DataFrame:
    rows = []
    for name in SENTENCES:
        chances, said = chances_of(name), words(name)
        for pos, (word, follows) in enumerate(pairwise(said)):
            best = known[int(chances[pos].argmax())]
            told = {"sentence": name, "pos": pos, "word": word, "next": follows, "said": best}
            chance = float(chances[pos, known.index(follows)])
            rows.append(told | {"probability": chance, "right": best == follows})
    return pd.DataFrame(rows)


@torch.no_grad()
def training_errors(net: NextWord) -> dict[str, float]:
    """A trained head computed in other ways: by NumPy, each beginning by itself, heads added up."""
    net = deepcopy(net).double()
    errors: dict[str, list[float]] = {"trained head": [], "every beginning by itself": []}
    for name in SENTENCES:
        tokens = torch.tensor(numbered(name))
        whole = net(tokens)
        x = net.embedding[tokens].numpy()
        change = attend(x, maps_of(net), causal=True).change[0]
        by_numpy = (x + change) @ net.readout.numpy()
        alone = torch.stack([net(tokens[: end + 1])[-1] for end in range(len(tokens))])
        errors["trained head"].append(relative_error(by_numpy, whole.numpy()))
        errors["every beginning by itself"].append(relative_error(alone.numpy(), whole.numpy()))
    return {case: float(np.max(found)) for case, found in errors.items()}
