import pytest
import torch
from einops import einsum

from models.planted.head import planted_head
from models.text import continue_text


@pytest.mark.parametrize("seed", range(4))
def test_it_says_the_token_at_pos_1_after_any_other(seed) -> None:
    planted = planted_head(seed=seed)
    tokens = planted.prompts(20, 8, seed)
    said = planted.model(tokens).argmax(-1)
    assert (said[:, 1:] == tokens[:, 1:2]).all()
    new = continue_text(planted.model, tokens.tolist(), 4)
    assert new == [[row[1]] * 4 for row in tokens.tolist()]


def test_every_head_writes_vectors_of_length_1() -> None:
    model = planted_head(heads=5, seed=1).model
    cache = model.run_with_cache(torch.arange(12)[None])[1]
    for layer in range(2):
        z = cache[f"blocks.{layer}.attn.hook_z"]
        result = einsum(z, model.W_O[layer], "b pos head d, head d m -> b pos head m")
        torch.testing.assert_close(result.norm(dim=-1), torch.ones(1, 12, 5))


def test_only_the_planted_head_changes_anything() -> None:
    planted = planted_head(seed=2)
    model, tokens = planted.model, planted.prompts(6, 9, 0)
    for layer in range(2):
        for head in range(6):

            def without(z, hook, head=head):
                z = z.clone()
                z[:, :, head] = 0
                return z

            changed = model.run_with_hooks(
                tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", without)]
            )
            same = torch.equal(changed, model(tokens))
            assert same == ((layer, head) != (planted.layer, planted.head))


def test_seeds_plant_different_heads() -> None:
    assert len({planted_head(seed=seed).head for seed in range(8)}) > 2
    with pytest.raises(ValueError, match="heads: 1"):
        planted_head(heads=1)
