"""The planted model says what it was made to say, and only its copying head makes it."""

import pytest
import torch

from models.planted.copy import planted_copy
from models.text import continue_text, tokenize
from prompts.relevance import keyed_prompts

PROMPTS = keyed_prompts()


@pytest.fixture(scope="module", params=[0, 1])
def planted(request):
    texts = [prompt.text for prompt in PROMPTS]
    keys = [prompt.key for prompt in PROMPTS]
    model, head = planted_copy(texts, keys, layer=request.param, seed=request.param)
    return model, request.param, head


def test_it_answers_with_the_key(planted):
    model = planted[0]
    said = continue_text(model, [tokenize(model, prompt.text) for prompt in PROMPTS], 2)
    assert [model.tokenizer.decode(ids[:1]).strip() for ids in said] == [p.key for p in PROMPTS]


def test_no_other_head_makes_a_difference(planted):
    model, layer, copying = planted
    tokens = torch.tensor([tokenize(model, PROMPTS[0].text)])
    plain = model(tokens)[0, -1]
    for number in range(2):
        for head in range(6):

            def zero(z, hook, head=head):
                new = z.clone()
                new[:, :, head] = 0
                return new

            hooks = [(f"blocks.{number}.attn.hook_z", zero)]
            changed = (model.run_with_hooks(tokens, fwd_hooks=hooks)[0, -1] - plain).abs().max()
            assert (changed > 1) == ((number, head) == (layer, copying))


def test_what_heads_write_is_equally_long(planted):
    model, layer, copying = planted
    ids = [tokenize(model, prompt.text) for prompt in PROMPTS]
    lengths = []
    for row in ids:
        _, cache = model.run_with_cache(torch.tensor([row]))
        z = cache[f"blocks.{layer}.attn.hook_z"][0, -1]
        lengths.append(torch.einsum("hd,hdm->hm", z, model.W_O[layer]).norm(dim=-1))
    mean = torch.stack(lengths).mean(0)
    others = torch.arange(6) != copying
    assert mean[others].min() / mean[copying] > 0.2
    assert mean[others].max() / mean[copying] < 5


def test_its_identities_hold(planted):
    assert all(identity.ok for identity in planted[0].identities)


def test_the_seed_decides_which_head_copies():
    made = [planted_copy(["we saw Rex"], ["Rex"], seed=seed) for seed in range(6)]
    assert len({head for _, head in made}) > 1
    again = planted_copy(["we saw Rex"], ["Rex"], seed=3)
    assert torch.equal(made[3][0].W_O, again[0].W_O)
