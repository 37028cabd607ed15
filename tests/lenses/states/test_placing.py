"""States that are put into other texts, against whole passes with a hook."""

import numpy as np
import pytest
import torch

from lenses.states.placing import Reader, states_of, stream_hooks, written_from
from models import load

ROWS = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 1], [3, 3, 2, 5, 1]]
PUT, READ = [1, 0, 2], [5, 3, 4]


@pytest.fixture(scope="module")
def model():
    return load("adder_6d_2l")


def naive(model, row, depth, put, vector):
    """Logits of one text at all its positions, everything computed anew."""

    def place(stream, hook):
        stream = stream.clone()
        stream[0, put] = vector
        return stream

    hook = stream_hooks(model, [depth])[0]
    return model.run_with_hooks(
        torch.tensor([row]), return_type="logits", fwd_hooks=[(hook, place)]
    )[0]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_state_put_in_is_what_a_whole_pass_makes_of_it(model, depth):
    vectors = torch.randn(2, 3, model.cfg.d_model, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = Reader(model, ROWS, PUT, READ, [0, 1, 2])(depth, vectors)
        for kind, row in np.ndindex(2, 3):
            wanted = naive(model, ROWS[row], depth, PUT[row], vectors[kind, row])[READ[row]]
            assert torch.allclose(found[kind, row], wanted, atol=1e-4)


def test_states_are_those_of_the_stream(model):
    found = states_of(model, ROWS, PUT, [0, 2])
    for row, put, state in zip(ROWS, PUT, found.unbind(1), strict=True):
        _, cache = model.run_with_cache(torch.tensor([row]))
        wanted = [cache["blocks.0.hook_resid_pre"], cache["blocks.1.hook_resid_post"]]
        assert torch.allclose(state, torch.stack([x[0, put] for x in wanted]), atol=1e-5)


def test_what_is_written_begins_with_what_is_said_and_goes_on_from_it(model):
    vectors = torch.randn(3, model.cfg.d_model, generator=torch.Generator().manual_seed(1)) * 3
    depths = [0, 1, 2]
    new = written_from(model, ROWS, PUT, depths, vectors, 3)
    with torch.inference_mode():
        for row, put, depth, vector, said in zip(ROWS, PUT, depths, vectors, new, strict=True):
            text = list(row)
            for token in said:
                assert token == int(naive(model, text, depth, put, vector)[-1].argmax())
                text.append(token)
