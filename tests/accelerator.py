"""A device that is none: its tensors say that they are on it, and hold their values in RAM.

What torch would hand to an accelerator is computed on the CPU, after the checks that an accelerator
makes: tensors of two devices do not meet, but for scalars and indices, and none is read by numpy.
So what would fail on a GPU fails here, and what runs has the very numbers of the CPU.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
_setup_privateuseone_for_python_backend(NAME)

DEVICE = torch.device(NAME, 0)
CPU = torch.device("cpu")
aten = torch.ops.aten
TAKES_INDICES = {
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
    aten._index_put_impl_.default,
}  # fmt: skip


class OnDevice(torch.Tensor):
    """A tensor of the device; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        with torch.inference_mode(False):  # views of an inference tensor cannot be set up later
            made = torch.Tensor._make_wrapper_subclass(
                cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
                dtype=held.dtype, device=DEVICE,
            )  # fmt: skip
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.shape)})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


class Pretended(TorchDispatchMode):
    """While this is entered, tensors can be made on the device and moved there."""

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(...) is made first, then moved
        return super().__enter__()

    def __exit__(self, *raised):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*raised)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _computed(func, args, kwargs or {})


def _computed(func, args, kwargs):
    if func is aten._has_compatible_shallow_copy_type.default:
        return isinstance(args[0], OnDevice) == isinstance(args[1], OnDevice)
    leaves: list[Any] = []
    held = _held(args, leaves), {name: _held(value, leaves) for name, value in kwargs.items()}
    ours = [x for x in leaves if isinstance(x, OnDevice)]
    there = _goes_there(func, args, kwargs, leaves, ours)
    out = func(*held[0], **held[1])
    if not there:
        return out
    # What is changed in place stays the tensor it was.
    return _made(out, {id(x.held): x for x in ours})


def _held(value: Any, leaves: list[Any]) -> Any:
    """What the CPU is given in place of a value, each part of which is noted among the leaves.

    (torch's own trees do the same, and took two thirds of the time of a test.)
    """
    if isinstance(value, (tuple, list)):
        return type(value)([_held(part, leaves) for part in value])
    leaves.append(value)
    if isinstance(value, OnDevice):
        return value.held
    return CPU if isinstance(value, torch.device) else value


def _made(out: Any, known: dict[int, OnDevice]) -> Any:
    """What the CPU computed, as tensors of the device."""
    if isinstance(out, (tuple, list)):
        return type(out)([_made(part, known) for part in out])
    if not isinstance(out, torch.Tensor):
        return out
    return known[id(out)] if id(out) in known else OnDevice(out)


def _goes_there(func, args, kwargs, leaves, ours):
    """Whether the result is on the device; RuntimeError where an accelerator would refuse."""
    if func is aten.copy_.default:
        return isinstance(args[0], OnDevice)
    asked = next((x for x in leaves if isinstance(x, torch.device)), None)
    there = bool(ours) if asked is None else asked.type == NAME
    if there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a generator of the cpu for {NAME}")
    if func.name().partition(".")[0] in ("aten::to", "aten::_to_copy"):
        return there
    indexed = func in TAKES_INDICES and isinstance(args[0], OnDevice)
    meet = args[2:3] if indexed else leaves
    here = [x for x in meet if isinstance(x, torch.Tensor) and not isinstance(x, OnDevice)]
    if ours and any(x.dim() for x in here):
        raise RuntimeError(f"{func}: tensors on {NAME} and on cpu")
    return there
