"""What a model keeps: the mode, hooks and buffers of its modules, what takes gradients, and the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .process import same_process

HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks"),
)
"""Where a module keeps its hooks."""

Restore = Callable[[], None]


@contextmanager
def unchanged(*models: nn.Module) -> Iterator[None]:
    """Let the block change nothing for good: neither the models nor settings and generators of the process.

    Modes, hooks, buffers, `requires_grad` and `grad` are as before afterwards, also if the block raises.
    """
    restores = [restore for model in models for restore in _restores(model)]
    with same_process():
        try:
            yield
        finally:
            for restore in restores:
                restore()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode without gradients for the block; it is `unchanged` afterwards.

    A batch norm that was frozen before, in a network that is trained, is frozen again.
    """
    with unchanged(model):
        for module in model.modules():
            module.training = False  # eval() may do more: some layers merge weights in it
        with torch.no_grad():
            yield


def blank_image(model: nn.Module, image_size: int) -> Tensor:
    """Return a black image (1, 3, H, W) that `model` can read: on its device and of its precision."""
    floats = (own for own in model.parameters() if own.is_floating_point())
    like = next(floats, torch.empty(0))
    return torch.zeros(1, 3, image_size, image_size, device=like.device, dtype=like.dtype)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model that torch.compile or a parallel wrapper runs."""
    while is_wrapped(model):
        model = model.get_submodule("_orig_mod" if "_orig_mod" in model._modules else "module")
    return model


def is_wrapped(model: nn.Module) -> bool:
    """Return whether a model is what torch.compile or a parallel wrapper made of another."""
    return "_orig_mod" in model._modules or isinstance(model, nn.DataParallel | DistributedDataParallel)


def hooks_of(module: nn.Module) -> tuple[Any, ...]:
    """Return the hooks of this very module, by kind."""
    forward = module._forward_pre_hooks, module._forward_hooks
    return *forward, module._backward_pre_hooks, module._backward_hooks


def _restores(model: nn.Module) -> Iterator[Restore]:
    for module in model.modules():
        yield _mode(module, module.training)
        yield _hooks([found for name in HOOKS if isinstance(found := vars(module).get(name), dict)])
        yield from (_buffer(module, name, own) for name, own in module._buffers.items() if own is not None)
    for parameter in model.parameters():
        yield _gradient(parameter, parameter.requires_grad, parameter.grad)


def _mode(module: nn.Module, training: bool) -> Restore:
    def restore() -> None:
        module.training = training

    return restore


def _hooks(tables: list[dict[int, object]]) -> Restore:
    before = [list(hooks.items()) for hooks in tables]

    def restore() -> None:
        for hooks, kept in zip(tables, before, strict=True):
            if (hooks or kept) and list(hooks.items()) != kept:
                hooks.clear()
                hooks.update(kept)

    return restore


def _buffer(module: nn.Module, name: str, own: Tensor) -> Restore:
    before = own.detach().clone()

    @torch.no_grad()
    def restore() -> None:
        module._buffers[name] = own
        if not own.is_meta and not own.equal(before):
            own.copy_(before)

    return restore


def _gradient(parameter: nn.Parameter, takes: bool, gradient: Tensor | None) -> Restore:
    def restore() -> None:
        if parameter.requires_grad != takes:
            parameter.requires_grad_(takes)
        if parameter.grad is not gradient:
            parameter.grad = gradient

    return restore
