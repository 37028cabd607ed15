"""The planted model repeats every word and answers every question, from its middle block on."""

import torch

from models.planted.implied import LAYER, planted_implied
from models.text import token_strings, tokenize
from prompts.injections import BLANK, shipped_injections


def test_it_repeats_and_answers_for_every_word():
    model, told = planted_implied(seed=3), shipped_injections()

    def said(text: str) -> str:
        logits = model(torch.tensor([tokenize(model, text)]))[0, -1]
        return token_strings(model, [int(logits.argmax())])[0]

    for one in told.known:
        assert said(told.copy.replace(BLANK, one.word)) == f" {one.word}"
        assert said(one.ask.replace(BLANK, one.word)) == f" {one.answer}"


def test_without_its_middle_block_it_answers_nothing():
    model, one = planted_implied(seed=3), shipped_injections().known[0]
    tokens = torch.tensor([tokenize(model, one.ask.replace(BLANK, one.word))])
    nothing = [(f"blocks.{LAYER}.attn.hook_z", lambda z, hook: torch.zeros_like(z))]
    logits = model.run_with_hooks(tokens, return_type="logits", fwd_hooks=nothing)[0, -1]
    assert token_strings(model, [int(logits.argmax())])[0] != f" {one.answer}"
