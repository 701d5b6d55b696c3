"""Makes transformer layers slimmer: fewer heads of attention, fewer units between `widen` and `narrow`.

What is left out is chosen one head or unit at a time, the one without which the rest, adjusted by least squares, comes
closest to what the layer computed before over some text (Kurtic et al., "ZipLM: Inference-Aware Structured Pruning of
Language Models", 2023; Hassibi & Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", 1992).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from app.training.network import Layer, Linear, Shape

DAMPING: Final = 1e-3
"""Share of the inputs' mean variance that is added to each one's, so that inputs that go together can be told apart."""


def slim(layers: Sequence[Any], shapes: Sequence[Shape], read: Callable[[], object]) -> list[Layer]:
    """Return layers of these shapes that compute nearly what the given ones compute.

    Args:
        layers: those of a network, which stay as they are; one that has its shape already is returned.
        shapes: for each layer, at most as many heads and units as it has.
        read: has the network read some text, of more sub-words than a layer has units.
    """
    changed = [(layer, shape) for layer, shape in zip(layers, shapes, strict=True) if shape != layer.shape]
    inputs = _measured([reader for layer, _ in changed for reader in (layer.merge, layer.narrow)], read)
    made = {
        id(layer): _slimmer(layer, shape, merged, narrowed)
        for (layer, shape), merged, narrowed in zip(changed, inputs[::2], inputs[1::2], strict=True)
    }
    return [made.get(id(layer), layer) for layer in layers]


class _Inputs:
    """Means and covariances of what a linear layer reads."""

    def __init__(self, width: int) -> None:
        self._count = 0.0
        self._total = torch.zeros(width, dtype=torch.float64)
        self._products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, states: Tensor, present: Tensor) -> None:
        """Count states, (texts, length, width), where `present`, (texts, length, 1), is above 0."""
        seen = states[present.squeeze(-1) > 0].detach().cpu().double()
        self._count += len(seen)
        self._total += seen.sum(dim=0)
        self._products += seen.T @ seen

    @property
    def mean(self) -> Tensor:
        return self._total / self._count

    @property
    def covariance(self) -> Tensor:
        covariance = self._products / self._count - torch.outer(self.mean, self.mean)
        return covariance + DAMPING * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)


def _measured(readers: Sequence[Linear], read: Callable[[], object]) -> list[_Inputs]:
    inputs = [_Inputs(reader.in_features) for reader in readers]

    def noting(each: _Inputs) -> Callable[..., None]:
        def note(module: nn.Module, given: tuple[Tensor, Tensor]) -> None:
            each.add(*given)

        return note

    hooks = [reader.register_forward_pre_hook(noting(each)) for reader, each in zip(readers, inputs, strict=True)]
    try:
        with torch.no_grad():
            read()
    finally:
        for hook in hooks:
            hook.remove()
    return inputs


@torch.no_grad()
def _slimmer(layer: Layer, shape: Shape, merged: _Inputs, narrowed: _Inputs) -> Layer:
    made = Layer(layer.dropout, shape)
    for linear in (made.attend, made.merge, made.widen, made.narrow):
        linear.rounds = layer.attend.rounds
    for name in ("first_norm", "second_norm"):
        getattr(made, name).load_state_dict(getattr(layer, name).state_dict())
    mixed = _refit(layer.merge, made.merge, merged, layer.merge.in_features // layer.heads)
    three = torch.cat([mixed + part * layer.merge.in_features for part in range(3)])
    _take(layer.attend, made.attend, three)
    _take(layer.widen, made.widen, _refit(layer.narrow, made.narrow, narrowed, 1))
    return made


def _take(whole: Linear, part: Linear, rows: Tensor) -> None:
    part.weight.copy_(whole.weight[rows])
    part.bias.copy_(whole.bias[rows])


def _refit(whole: Linear, part: Linear, inputs: _Inputs, group: int) -> Tensor:
    """Set `part` to what comes closest to `whole` with fewer inputs, of which `group` at a time belong together; return
    which it reads, ascending."""
    weight, covariance, mean = whole.weight.double().cpu(), inputs.covariance, inputs.mean
    kept = _kept(weight, covariance, part.in_features // group, group)
    solved = torch.linalg.solve(covariance[kept][:, kept], covariance[kept] @ weight.T).T
    part.weight.copy_(solved)
    part.bias.copy_(whole.bias.double().cpu() + weight @ mean - solved @ mean[kept])
    return kept


def _kept(weight: Tensor, covariance: Tensor, count: int, group: int) -> Tensor:
    """Return the inputs of the `count` groups that are left when the others are taken out one after the other."""
    weight, inverse = weight.clone(), torch.linalg.inv(covariance)
    left = torch.ones(weight.shape[1] // group, dtype=torch.bool)
    while int(left.sum()) > count:
        blocks = inverse.view(len(left), group, len(left), group).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()
        blocks[~left] = torch.eye(group, dtype=blocks.dtype)
        columns = weight.view(len(weight), len(left), group).permute(1, 2, 0)
        errors = (columns * (torch.linalg.inv(blocks) @ columns)).sum(dim=(1, 2))
        errors[~left] = torch.inf
        out = int(errors.argmin())
        places = slice(out * group, (out + 1) * group)
        taken = torch.linalg.solve(inverse[places, places], inverse[places])
        weight.addmm_(weight[:, places].clone(), taken, alpha=-1)
        inverse.addmm_(inverse[:, places].clone(), taken, alpha=-1)
        weight[:, places] = 0
        inverse[places] = 0
        inverse[:, places] = 0
        left[out] = False
    return torch.arange(weight.shape[1]).view(-1, group)[left].flatten()
