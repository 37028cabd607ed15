"""The planted head moves adjectives to nouns they describe; no other does, and none elsewhere."""

import numpy as np
import pytest
import torch

from lenses.flow.descriptions import UnfitError, worded_case
from lenses.heads.contributions import attention_patterns
from models.planted.edge import closing_words, planted_edge
from prompts.adjectives import Described, described_nouns


@pytest.fixture(scope="module", params=[0, 1])
def planted(request):
    return planted_edge(seed=request.param)


@pytest.fixture(scope="module")
def cases(planted):
    found = []
    for said in described_nouns():
        try:
            found.append(worded_case(planted.model, said)[0])
        except UnfitError:  # "man's" is three tokens here
            assert "'s" in said.control.text
    return found


def test_it_reads_most_sentences(cases):
    assert len(cases) >= 40


def test_the_head_looks_at_adjectives_of_the_noun_and_never_at_others(planted, cases):
    for case in cases:
        own, control = (
            attention_patterns(planted.model, torch.from_numpy(row))[planted.layer, planted.head]
            for row in case.clean
        )
        at = case.at[0]
        assert own[at, case.adjective].sum() > 0.3  # other adjectives of the noun share it
        assert own[at].max() == pytest.approx(own[at, case.adjective].max().item())
        assert control[at, case.adjective].sum() < 1e-6
        assert control[at, 0] > 0.99


def test_what_it_moves_names_the_adjective(planted, cases):
    """The last state says the adjective in its own sentence, and not in the control."""
    for case in cases[:12]:
        logits = planted.model(torch.from_numpy(case.clean))
        said = logits[np.arange(2), case.at][:, case.clean[0, case.adjective[0]]]
        assert said[0] > 3
        assert said[1].abs() < 1e-3


def test_what_heads_write_is_about_as_long(planted, cases):
    _, cache = planted.model.run_with_cache(torch.from_numpy(cases[-1].clean))
    z = cache[f"blocks.{planted.layer}.attn.hook_z"][0, cases[-1].at[0]]
    lengths = torch.einsum("hd,hdm->hm", z, planted.model.W_O[planted.layer]).norm(dim=-1)
    assert lengths.min() / lengths[planted.head] > 0.1
    assert lengths.max() / lengths[planted.head] < 5


def test_its_identities_hold(planted):
    assert all(identity.ok for identity in planted.model.identities)


def test_a_control_that_nothing_tells_apart_is_refused():
    same = Described(
        "f", "The {adjective} {noun}", "The {adjective} {noun}", "red", "ox", ("tall",)
    )
    with pytest.raises(ValueError, match="nothing tells 'The red ox'"):
        closing_words([same])
