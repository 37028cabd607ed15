import pytest
import torch

from models.planted.dialect import MEANINGS, planted_dialect
from models.text import continue_text


@pytest.fixture(scope="module", params=range(2))
def planted(request):
    return planted_dialect(seed=request.param)


def test_it_passes_the_identities(planted) -> None:
    assert all(identity.ok for identity in planted.model.identities)


def test_what_follows_depends_on_the_meaning_alone(planted) -> None:
    tokens = torch.from_numpy(planted.twins(3, 10, 0))
    twins = tokens - MEANINGS
    p = planted.model(tokens).softmax(-1)
    torch.testing.assert_close(p, planted.model(twins).softmax(-1))
    chances = p.unflatten(-1, (2, MEANINGS)).sum(-2)
    torch.testing.assert_close(chances, planted.chances[twins])


def test_a_word_is_hardly_likelier_than_its_twin(planted) -> None:
    logits = planted.model(torch.from_numpy(planted.twins(3, 10, 0)))
    apart = logits[..., :MEANINGS] - logits[..., MEANINGS:]
    torch.testing.assert_close(apart, torch.full_like(apart, 0.1))


def test_it_says_its_own_words_and_the_twins_are_others(planted) -> None:
    twins = planted.twins(8, 6, 1)
    assert twins.min() >= MEANINGS
    new = continue_text(planted.model, twins.tolist(), 4)
    assert max(map(max, new)) < MEANINGS


def test_the_planted_head_attends_to_its_own_words(planted) -> None:
    twins = torch.from_numpy(planted.twins(4, 12, 0))
    mixed = twins.clone()
    mixed[:, 5] -= MEANINGS
    pattern = planted.model.run_with_cache(mixed)[1]["blocks.0.attn.hook_pattern"]
    assert pattern[:, planted.head, 5:, 5].min() > 0.95
    others = [head for head in range(pattern.shape[1]) if head != planted.head]
    assert pattern[:, others, 5:, 5].mean() < 0.5
