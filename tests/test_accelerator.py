"""The device that is none refuses what an accelerator refuses, and computes what the CPU does."""

import numpy as np
import pytest
import torch

from models import load
from tests.accelerator import NAME, Pretended


@pytest.fixture(autouse=True)
def _entered():
    with Pretended():
        yield


def test_it_computes_what_the_cpu_computes():
    here = torch.arange(12.0).view(3, 4)
    there = here.to(NAME)
    there[1] += 1
    there[:, 2] = torch.ones(3, device=NAME)
    assert there.device.type == (there.T @ there).device.type == NAME
    assert there.tolist() == [[0, 1, 1, 3], [5, 6, 1, 8], [8, 9, 1, 11]]
    assert here.tolist() == torch.arange(12.0).view(3, 4).tolist()


def test_scalars_and_indices_may_be_on_the_cpu():
    there = torch.eye(3, device=NAME) * torch.tensor(2.0)
    assert there[torch.tensor([0, 1]), torch.tensor([0, 2])].tolist() == [2, 0]
    there[torch.tensor([0])] = torch.tensor(5.0)
    assert there[0].tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    "mix",
    [
        lambda there: there + torch.ones(3),
        lambda there: torch.where(torch.ones(1) > 0, there, 0),
        lambda there: torch.ones(3)[there.long()],
        lambda there: there.__setitem__(torch.tensor([0, 1]), torch.ones(2)),
        lambda there: torch.cat([there, torch.ones(3)]),
    ],
    ids=["sum", "condition", "index", "assignment", "concatenation"],
)
def test_two_devices_do_not_meet(mix):
    with pytest.raises(RuntimeError, match="on pretended and on cpu"):
        mix(torch.zeros(3, device=NAME))


def test_numpy_does_not_read_it():
    there = torch.zeros(3, device=NAME)
    with pytest.raises(RuntimeError):
        there.numpy()
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(there)


def test_a_generator_of_the_cpu_is_of_no_use_there():
    with pytest.raises(RuntimeError):
        torch.randn(3, device=NAME, generator=torch.Generator().manual_seed(0))


def test_gradients_flow_there():
    weight = torch.ones(2, device=NAME, requires_grad=True)
    (weight * torch.tensor([2.0, 3.0], device=NAME)).sum().backward()
    assert weight.grad.device.type == NAME
    assert weight.grad.tolist() == [2, 3]


def test_a_model_is_wholly_there():
    model = load("adder_6d_1l", device=NAME)
    assert {p.device.type for p in model.parameters()} == {NAME}
    assert {b.device.type for b in model.buffers()} <= {NAME}
