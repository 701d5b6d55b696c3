"""Reads an encoder that ships back into a network like that which `export.write` made it from, to go on training it;
the tagger of names is read with the same parts (app/training/tagger.py).

The 8-bit weights come back as they are: written again, they are the same but for the last bit of a scale. Two things
come back otherwise than they were: prototypes at length 1, where they turn faster than long ones, and the judgements of
the exits before the last on the scale of the last one's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from app.detection.encoder import ENCODER_FILES
from app.detection.evidence import METADATA_FILE
from app.errors import ModelUnavailable
from app.training.base import HEADS, WIDTH
from app.training.network import SHARPNESS, Head, Network, Shape

LINEARS: Final = 4
"""Of a layer that are quantised."""
Pair = tuple[NDArray[np.float32], ...]
"""Weights and bias; or weights alone."""
Pairs = Iterator[Pair]


def read(folder: Path, exits: Sequence[int], dropout: float, *, rounds: bool = True) -> Network:
    """Return the network of a folder's graphs, on the processor. An exit that they lack gets a fresh head (from torch's
    random state).

    Raises:
        ModelUnavailable: the graphs are missing, or not those of an encoder that judges after some of the layers
            `exits` and after the last of them.
    """
    number = 0
    try:
        graphs = [StoredGraph(folder / file) for file in ENCODER_FILES if (folder / file).exists()]
        integers = [list(graph.linears()) for graph in graphs]
        shapes = [shape_of(linears) for linears in integers for _ in range(len(linears) // LINEARS)]
        if len(shapes) != exits[-1]:
            raise ValueError("not the layers that were asked for")
        network = Network(exits, dropout, rounds=rounds, shapes=shapes)
        for graph, linears in zip(graphs, integers, strict=True):
            norms = graph.norms()
            if number == 0:
                put(network.positions, graph.constants[graph.first("Slice").input[0]])
                put_pair(network.norm, next(norms))
            begun, number = number, number + len(linears) // LINEARS
            put_layers(network.layers[begun:number], linears, norms)
            _put_head(network.heads[network.exits.index(number)], graph.exact())
    except (OSError, LookupError, StopIteration, ValueError):
        raise ModelUnavailable(f"{folder} holds no encoder whose training could go on") from None
    return network


def learned_from(models_dir: Path) -> frozenset[str]:
    """Return the files of own text that the encoder of a folder has learned from. Rows that were added to one of them
    later count as known: new text belongs into new files.

    Raises:
        ModelUnavailable: its metadata do not say.
    """
    try:
        metadata = json.loads((models_dir / METADATA_FILE).read_text(encoding="utf-8"))
        return frozenset(metadata["encoder"]["learned_from"])
    except (OSError, KeyError, TypeError, ValueError):
        raise ModelUnavailable(f"{METADATA_FILE} does not say what the encoder has learned from") from None


def exits_of(folder: Path) -> tuple[int, ...]:
    """Return the layers after which the encoder of a folder judges.

    Raises:
        ModelUnavailable: its graphs are missing or no graphs.
    """
    try:
        graphs = [StoredGraph(folder / file) for file in ENCODER_FILES if (folder / file).exists()]
        exits = tuple(accumulate(len(list(graph.linears())) // LINEARS for graph in graphs))
    except ValueError:
        exits = ()
    if not exits:
        raise ModelUnavailable(f"{folder} holds no encoder")
    return exits


class StoredGraph:
    """The nodes of a graph in the order in which they were written."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            ValueError: the file is missing, or no graph.
        """
        try:
            graph = onnx.load(path).graph
        except Exception as failure:
            raise ValueError(f"{path.name} is no graph") from failure
        self.constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._nodes = list(graph.node)

    def first(self, kind: str) -> Any:
        return next(self._of(kind))

    def norms(self) -> Pairs:
        for node in self._of("LayerNormalization"):
            yield self.constants[node.input[1]], self.constants[node.input[2]]

    def linears(self) -> Pairs:
        """Yield the layers in 8 bits."""
        for node in self._of("DynamicQuantizeMatMul"):
            weights, scales, bias = (self.constants[node.input[place]] for place in (1, 2, 4))
            yield (weights.astype(np.float32) * scales).T, bias

    def exact(self) -> Pairs:
        """Yield the layers in 32 bits."""
        for number, node in enumerate(self._nodes):
            if node.op_type == "MatMul":
                after = self._nodes[number + 1]
                added = [name for name in after.input if name != node.output[0]] if after.op_type == "Add" else []
                yield (self.constants[node.input[1]].T, *(self.constants[name] for name in added))

    def _of(self, kind: str) -> Iterator[Any]:
        return (node for node in self._nodes if node.op_type == kind)


def shape_of(linears: Sequence[Pair]) -> Shape:
    """Return the shape of a graph's layers, which are all alike, by its linear layers in 8 bits."""
    _, (merge, _), _, (narrow, _) = linears[:LINEARS]
    return Shape(merge.shape[1] * HEADS // WIDTH, narrow.shape[1])


def put(parameter: Tensor, values: NDArray[np.float32]) -> None:
    """Raises ValueError where the shape is another."""
    if tuple(parameter.shape) != values.shape:
        raise ValueError(f"{values.shape} instead of {tuple(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.array(values, np.float32)))


def put_pair(module: nn.Module, values: Pair) -> None:
    weight, bias = values
    put(module.get_parameter("weight"), weight)
    put(module.get_parameter("bias"), bias)


def put_layers(layers: Iterable[Any], linears: Sequence[Pair], norms: Pairs) -> None:
    """Put weights into transformer layers, in the order in which `Graph.layer` wrote them."""
    for number, layer in enumerate(layers):
        parts = (layer.attend, layer.merge, layer.widen, layer.narrow)
        for part, values in zip(parts, linears[number * LINEARS :][:LINEARS], strict=True):
            put_pair(part, values)
        for norm in (layer.first_norm, layer.second_norm):
            put_pair(norm, next(norms))


def _put_head(head: Head, layers: Pairs) -> None:
    for part in (head.look, head.judge, head.attack, head.part, head.project):
        put_pair(part, next(layers))
    (prototypes,) = next(layers)
    put(head.prototypes, prototypes / SHARPNESS)
