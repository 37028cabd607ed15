"""The planted adders: exact, and moved by the heads they name and by no other."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from einops import einsum

from models import identities, untrained
from models.planted.carry import PLACES, PlantedCarry, planted_carry
from prompts.additions import Addition, Cells, Sums, edge_cases, every_pattern, repeated_pairs
from prompts.pairs import TOGGLED, Pairs, every_pair

SEEDS = range(3)
MEMBERS = ("clean", "source")
Heads = tuple[tuple[int, int], ...]


@pytest.fixture(scope="module", params=[(s, shared) for s in SEEDS for shared in (False, True)])
def planted(request: pytest.FixtureRequest) -> PlantedCarry:
    seed, shared = request.param
    return planted_carry(seed=seed, shared=shared)


def asked(planted: PlantedCarry, tokens: np.ndarray, **options) -> torch.Tensor:
    """Logits at the pos from which each answer digit is read, by place."""
    style = planted.model.card.arithmetic
    with torch.no_grad():
        run = planted.model.run_with_hooks if options else planted.model
        logits = run(torch.from_numpy(np.ascontiguousarray(tokens)), **options)
    return logits[:, [style.read_at(place) for place in range(style.digits + 1)]]


def digits_said(planted: PlantedCarry, tokens: np.ndarray, **options) -> np.ndarray:
    return asked(planted, tokens, **options).argmax(-1).numpy()


def wrong_answers(planted: PlantedCarry, sums: Sums) -> int:
    style = planted.model.card.arithmetic
    return sum(
        int((digits_said(planted, style.write(batch).tokens) != batch.answer_digits).any(1).sum())
        for batch in sums.batches(1024)
    )


@dataclass(frozen=True)
class Compared:
    """Clean and source sums, and the answer digit that is read."""

    place: int
    clean: Sums
    source: Sums

    @property
    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """What that digit is in the clean and in the source sum."""
        return self.clean.answer_digits[:, self.place], self.source.answer_digits[:, self.place]

    def turned(self) -> "Compared":
        return Compared(self.place, self.source, self.clean)


def compared(chosen: Callable[[Pairs], bool], count: int = 20) -> list[Compared]:
    """The chosen pairs of three digits of any kind and run, those together that are read alike."""
    battery = [pairs for pairs in every_pair(3, count, seed=0) if chosen(pairs)]
    return [
        Compared(place, *(together([getattr(p, member) for p in group]) for member in MEMBERS))
        for place in sorted({pairs.read_place for pairs in battery})
        if (group := [pairs for pairs in battery if pairs.read_place == place])
    ]


def together(parts: list[Sums]) -> Sums:
    a, b = (np.concatenate([getattr(part, name) for part in parts]) for name in "ab")
    return Sums(a, b, parts[0].places)


def is_toggled(pairs: Pairs) -> bool:
    """Whether the carry into the digit that is read comes or goes."""
    return pairs.kind in TOGGLED and not pairs.null


def interchanged(planted: PlantedCarry, sums: Compared, heads: Heads) -> np.ndarray:
    """The digit read in clean sums when z of `heads`, at that pos, is that of the source."""
    style = planted.model.card.arithmetic
    clean, source = (style.write(member).tokens for member in (sums.clean, sums.source))
    at = style.read_at(sums.place)
    with torch.no_grad():
        cache = planted.model.run_with_cache(
            torch.from_numpy(np.ascontiguousarray(source)),
            names_filter=lambda name: name.endswith("hook_z"),
        )[1]

    def from_source(layer: int):
        def patch(z, hook):
            z = z.clone()
            for head in [head for of, head in heads if of == layer]:
                z[:, at, head] = cache[f"blocks.{layer}.attn.hook_z"][:, at, head]
            return z

        return (f"blocks.{layer}.attn.hook_z", patch)

    layers = range(planted.model.cfg.n_layers)
    said = digits_said(planted, clean, fwd_hooks=[from_source(layer) for layer in layers])
    return said[:, sums.place]


def every_head(planted: PlantedCarry) -> set[tuple[int, int]]:
    cfg = planted.model.cfg
    return {(layer, head) for layer in range(cfg.n_layers) for head in range(cfg.n_heads)}


def others(planted: PlantedCarry) -> Heads:
    return tuple(sorted(every_head(planted) - set(planted.heads[1]) - {planted.base}))


KINDS = [(kind, places) for kind in (None, "shared") for places in PLACES]


@pytest.mark.parametrize(
    ("kind", "places"), [*KINDS, ("by_length", 2), ("by_length", 6), ("copied", 3)]
)
def test_it_adds_exactly(kind: str | None, places: int) -> None:
    planted = planted_carry(places=places, seed=places, **{kind: True} if kind else {})
    nines = Sums(np.array([10**places - 1]), np.array([1]), places)
    for sums in (
        nines,
        edge_cases(places)[:: 1 + places**2 // 4],
        every_pattern(places, 2, seed=1),
        Cells(places, 20, seed=0).sums,
        repeated_pairs(places)[::29],
    ):
        assert wrong_answers(planted, sums) == 0


def test_it_adds_every_two_digit_sum_whatever_the_placement() -> None:
    a, b = np.divmod(np.arange(10_000), 100)
    for seed, shared in ((1, False), (2, True)):
        planted = planted_carry(places=2, shared=shared, seed=seed)
        assert wrong_answers(planted, Sums(a, b, 2)) == 0


def test_six_digits_are_told_from_a_carry_with_room_to_spare() -> None:
    """The neuron that says "carry" is at 2 or more, or at -2 or less, but for rounding."""
    planted = planted_carry(places=6)
    style, name = planted.model.card.arithmetic, "blocks.0.mlp.hook_pre"
    worst = Sums(np.array([99_999, 99_999, 444_444, 90_000]), np.array([1, 0, 555_556, 9_999]), 6)
    for sums in (worst, every_pattern(6, 4, seed=0)):
        tokens = torch.from_numpy(np.ascontiguousarray(style.write(sums).tokens))
        with torch.no_grad():
            pre = planted.model.run_with_cache(tokens, names_filter=[name])[1][name]
        pre = pre[:, [style.read_at(place) for place in range(7)], 0].numpy()
        assert ((pre > 0) == (sums.carry == 1)).all()
        assert abs(pre).min() > 1.5
    assert abs(pre).min() < 2.5


@pytest.mark.contract
@pytest.mark.parametrize("shared", [False, True])
def test_a_planted_adder_under_either_transformer_lens(shared: bool) -> None:
    planted = planted_carry(shared=shared)
    assert len(identities(planted.model)) >= 4
    assert all(identity.ok for identity in identities(planted.model))
    assert wrong_answers(planted, edge_cases(3)) == 0
    tokens = planted.model.to_tokens("<bos>123+989=1112")
    style = planted.model.card.arithmetic
    assert tokens.tolist() == style.tokens(np.array([123]), np.array([989])).tolist()
    for sums in compared(is_toggled):
        clean, source = sums.truth
        assert (interchanged(planted, sums, planted.heads[sums.place]) == source).all()
        assert (interchanged(planted, sums, others(planted)) == clean).all()


def test_the_planted_heads_flip_the_digit_in_both_directions(planted: PlantedCarry) -> None:
    assert [sums.place for sums in compared(is_toggled)] == [1, 2, 3]
    for sums in compared(is_toggled):
        for direction in (sums, sums.turned()):
            clean, source = direction.truth
            assert (clean != source).all()
            said = interchanged(planted, direction, planted.heads[sums.place])
            assert (said == source).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_that_share_neither_alone_gives_either_digit(seed: int) -> None:
    planted = planted_carry(shared=True, seed=seed)
    for sums in compared(is_toggled):
        for direction in (sums, sums.turned()):
            clean, source = direction.truth
            for head in planted.heads[sums.place]:
                said = interchanged(planted, direction, (head,))
                assert ((said != clean) & (said != source)).all()


def test_each_of_two_moves_carries_of_its_own_length_and_no_other() -> None:
    planted = planted_carry(by_length=True, seed=4)
    near, far = planted.heads[1]
    for kind, mover, idle in (("local", near, far), ("cascade", far, near)):
        for sums in compared(lambda pairs, kind=kind: pairs.kind == kind and not pairs.null):
            clean, source = sums.truth
            assert (interchanged(planted, sums, (mover,)) == source).all()
            assert (interchanged(planted, sums, (idle,)) == clean).all()


def test_the_head_that_copies_writes_the_digit_whatever_changes_it() -> None:
    planted = planted_carry(copied=True, seed=2)
    assert planted.digit[0] == 2
    for sums in compared(lambda pairs: not pairs.null):
        assert (interchanged(planted, sums, (planted.digit,)) == sums.truth[1]).all()


def test_no_other_head_flips_anything_alone_or_with_all_the_rest(planted: PlantedCarry) -> None:
    assert len(others(planted)) == 12 - len(planted.heads[1]) - 1
    for sums in compared(lambda pairs: True, count=8):
        for heads in (*((head,) for head in others(planted)), others(planted)):
            assert (interchanged(planted, sums, heads) == sums.truth[0]).all()


def test_the_head_of_the_column_moves_its_sum_and_no_carry(planted: PlantedCarry) -> None:
    for sums in compared(lambda pairs: pairs.kind == "base" and not pairs.null):
        clean, source = sums.truth
        assert (clean != source).all()
        assert (interchanged(planted, sums, (planted.base,)) == source).all()
        assert (interchanged(planted, sums, planted.heads[max(sums.place, 1)]) == clean).all()
    for sums in compared(is_toggled):
        assert (interchanged(planted, sums, (planted.base,)) == sums.truth[0]).all()


def test_no_head_changes_what_a_null_pair_leaves_as_it_is(planted: PlantedCarry) -> None:
    for sums in compared(lambda pairs: pairs.null or pairs.kind == "swap"):
        for heads in ((planted.base,), planted.heads[1], tuple(every_head(planted))):
            assert (interchanged(planted, sums, heads) == sums.truth[0]).all()


def test_all_heads_of_a_block_write_as_much_as_the_planted_one(planted: PlantedCarry) -> None:
    style, model = planted.model.card.arithmetic, planted.model
    tokens = style.write(Addition(3, 500, seed=5).sums).tokens
    with torch.no_grad():
        cache = model.run_with_cache(torch.from_numpy(np.ascontiguousarray(tokens)))[1]
    reads = [style.read_at(place) for place in range(4)]
    for layer, head in ((0, planted.heads[1][0][1]), planted.base):
        z = cache[f"blocks.{layer}.attn.hook_z"][:, reads]
        result = einsum(z, model.W_O[layer], "b p head d, head d m -> b p head m")
        length = result.norm(dim=-1).mean((0, 1))
        assert abs(length / length[head] - 1).max() < 0.1


def test_other_heads_differ_from_prompt_to_prompt(planted: PlantedCarry) -> None:
    style = planted.model.card.arithmetic
    tokens = torch.from_numpy(np.ascontiguousarray(style.write(Cells(3, 5, seed=5).sums).tokens))
    with torch.no_grad():
        cache = planted.model.run_with_cache(tokens)[1]
    for layer, head in others(planted):
        z = cache[f"blocks.{layer}.attn.hook_z"][:, style.read_at(1), head]
        assert z.std(0).mean() > 0.1 * z.norm(dim=-1).mean() / z.shape[1] ** 0.5


def test_placement_follows_the_seed_and_so_does_every_weight() -> None:
    places = {planted_carry(places=2, seed=seed).heads[1] for seed in range(8)}
    assert len(places) > 3
    assert {len(planted_carry(places=2, shared=True, seed=seed).heads[1]) for seed in SEEDS} == {2}
    first, again = (planted_carry(places=2, seed=5) for _ in range(2))
    other = planted_carry(places=2, seed=6)
    state = first.model.state_dict()
    assert all(
        torch.equal(state[name], weight) for name, weight in again.model.state_dict().items()
    )
    assert not torch.equal(first.model.W_O, other.model.W_O)


def test_every_digit_into_which_a_carry_comes_has_its_heads(planted: PlantedCarry) -> None:
    assert set(planted.heads) == {1, 2, 3}
    layers = {layer for heads in planted.heads.values() for layer, _ in heads}
    assert layers == {0}
    assert planted.base[0] == 1


def test_an_untrained_twin_adds_nothing(planted: PlantedCarry) -> None:
    twin = PlantedCarry(untrained(planted.model, 0), planted.heads, planted.base)
    sums = Cells(3, 20, seed=0).sums
    assert wrong_answers(twin, sums) > 0.9 * len(sums)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"places": 1}, "places: 1 is not within 2 to 6"),
        ({"places": 7}, "places: 7"),
        ({"heads": 1}, "heads: 1"),
        ({"heads": 2, "shared": True}, "heads: 2 are too few, 3 needed"),
    ],
)
def test_what_cannot_be_planted_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        planted_carry(**fields)
    assert "\n" not in str(refusal.value)
