"""One head of attention in training, against a loop and against itself."""

import numpy as np
import torch

from models.train.next_word import NextWord, train

SENTENCES = [[0, 1, 2, 3], [4, 1, 5]]
"""Word 1 has two next words, 2 and 5: the word before tells which."""


def trained(attends: bool, seed: int = 0) -> NextWord:
    net = NextWord(6, 6, 3, attends, seed)
    train(net, SENTENCES, 150, 0.03)
    return net


def said(net: NextWord) -> list[int]:
    return [word for s in SENTENCES for word in net(torch.tensor(s))[:-1].argmax(-1).tolist()]


def test_a_pass_is_what_a_loop_computes():
    net = NextWord(6, 4, 3, True, 1)
    words = torch.tensor(SENTENCES[0])
    x = net.embedding[words].detach().numpy()
    weights = {n: getattr(net, n).detach().numpy() for n in ("W_Q", "W_K", "W_V", "W_O", "readout")}
    for pos in range(len(words)):
        grown = [
            np.exp((x[pos] @ weights["W_Q"]) @ (x[seen] @ weights["W_K"]) / 3**0.5)
            for seen in range(pos + 1)
        ]
        mixed = sum(g / sum(grown) * (x[n] @ weights["W_V"]) for n, g in enumerate(grown))
        logits = (x[pos] + mixed @ weights["W_O"]) @ weights["readout"]
        assert np.allclose(net(words)[pos].detach(), logits, atol=1e-5)


def test_attention_tells_the_next_words_apart_and_without_it_nothing_can():
    wanted = [1, 2, 3, 1, 5]
    assert said(trained(True)) == wanted
    alone = said(trained(False))
    assert sum(a == b for a, b in zip(alone, wanted, strict=True)) == 4


def test_no_steps_leave_it_as_it_was_and_a_seed_repeats_itself():
    fresh, untouched = (NextWord(6, 6, 3, True, 2) for _ in range(2))
    train(untouched, SENTENCES, 0, 0.03)
    for ours, theirs in ((fresh, untouched), (trained(True), trained(True))):
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
