"""Writes the encoder as ONNX graphs with 8-bit weights, one for each judgement, and the sub-words' embeddings in the
4 bits they came in.

The graphs read texts of one length: nothing is padded.

Weights are quantised per output column and activations as they come (dynamic quantisation), as the network computed
when it was trained.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from app.detection.encoder import ENCODER_FILES
from app.subwords import TOKENIZER_FILE, WORDS_FILE
from app.training.base import EPSILON, WIDTH, Pretrained
from app.training.corpus import FAMILIES
from app.training.network import PROTOTYPES, SHARPNESS, STEPS, Head, Layer, Network, weight_steps
from app.training.vocabulary import Vocabulary

Scales = Sequence[tuple[float, float]]
_MS: Final = "com.microsoft"
READ: Final = "states"
"""What a graph that goes on reads: LEFT of the one before."""
LEFT: Final = "left"


class Graph:
    """Nodes and constants as they are added; every method returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        names = [f"n{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def named(self, kind: str, *inputs: str, output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def linear(self, states: str, weight: Tensor, bias: Tensor) -> str:
        """A linear layer with quantised weights."""
        matrix = array(weight).T
        scales = array(weight_steps(weight)[:, 0])
        quantised = np.clip(np.round(matrix / scales), -STEPS, STEPS).astype(np.int8)
        return self.node(
            "DynamicQuantizeMatMul",
            states,
            self.constant(quantised),
            self.constant(scales),
            "",
            self.constant(array(bias)),
            domain=_MS,
        )

    def exact(self, states: str, weight: Tensor, bias: Tensor) -> str:
        """A linear layer in 32 bits, for the small heads."""
        product = self.node("MatMul", states, self.constant(array(weight).T))
        return self.node("Add", product, self.constant(array(bias)))

    def layer_norm(self, states: str, layer_norm: Any) -> str:
        return self.node(
            "LayerNormalization",
            states,
            self.constant(array(layer_norm.weight)),
            self.constant(array(layer_norm.bias)),
            axis=-1,
            epsilon=EPSILON,
        )

    def norm(self, states: str, change: str, layer_norm: Any) -> str:
        """Add a change, and normalise.

        `Sum` adds two tensors as `Add` does, but onnxruntime does not fuse it: what it makes of `Add` and
        `LayerNormalization`, SkipLayerNormalization, took six times as long as both (198 us against 30 for 100
        sub-words of 384 dimensions, onnxruntime 1.32).
        """
        return self.layer_norm(self.node("Sum", states, change), layer_norm)

    def gelu(self, states: str) -> str:
        return self.node("Gelu", states, domain=_MS)

    def layer(self, layer: Layer, states: str, asked: str | None = None) -> str:
        """A transformer layer; where `asked` names places (integers, shape (asked,)), what comes out is computed for
        these alone."""
        weight, bias, width = layer.attend.weight, layer.attend.bias, layer.merge.in_features
        if asked is None:
            triple = self.linear(states, weight, bias)
            queries = self.node("Split", triple, self.integers(*3 * [width]), axis=2, outputs=3)
            three = (queries, f"{queries}_1", f"{queries}_2")
        else:
            told = self.linear(states, weight[width:], bias[width:])
            keys = self.node("Split", told, self.integers(width, width), axis=2, outputs=2)
            states = self.node("Gather", states, asked, axis=1)
            three = (self.linear(states, weight[:width], bias[:width]), keys, f"{keys}_1")
        mixed = self.node("MultiHeadAttention", *three, domain=_MS, num_heads=layer.heads)
        states = self.norm(states, self.linear(mixed, layer.merge.weight, layer.merge.bias), layer.first_norm)
        inner = self.gelu(self.linear(states, layer.widen.weight, layer.widen.bias))
        return self.norm(states, self.linear(inner, layer.narrow.weight, layer.narrow.bias), layer.second_norm)

    def model(self, name: str, inputs: list[Any], outputs: list[Any]) -> Any:
        """Return all of it as a model."""
        return helper.make_model(
            helper.make_graph(self.nodes, name, inputs, outputs, self.constants),
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(_MS, 1)],
            ir_version=8,
            producer_name="vigil-guard",
        )


def write(network: Network, pretrained: Pretrained, vocabulary: Vocabulary, out: Path, scales: Scales = ()) -> None:
    """Write graphs, embeddings and tokenizer into a folder.

    Args:
        network: each of its exits becomes a graph of its own, which goes on where the one before ends.
        pretrained: what the sub-words' embeddings come from.
        vocabulary: which of them are kept.
        out: the folder.
        scales: for each exit, the factor and the summand that its attack logit is exported with; none leaves them.
    """
    out.mkdir(parents=True, exist_ok=True)
    for file, graph in zip(ENCODER_FILES, graphs(network, scales), strict=True):
        (out / file).write_bytes(graph.SerializeToString(deterministic=True))
    np.save(out / WORDS_FILE, pretrained.word_blocks(vocabulary.ids))
    text = vocabulary.tokenizer.to_str().encode("utf-8")
    (out / TOKENIZER_FILE).write_bytes(gzip.compress(text, mtime=0))


def graphs(network: Network, scales: Scales = ()) -> list[Any]:
    """Return the graph up to the first exit, then those from each exit to the next."""
    made = []
    begin = 0
    for end, head, scale in zip(network.exits, network.heads, scales or [(1.0, 0.0)] * len(network.exits), strict=True):
        graph = Graph()
        states = READ if begin else _entered(graph, network)
        for layer in network.layers[begin:end]:
            states = graph.layer(layer, states)
        _head(graph, head, states, scale)
        more = end < network.exits[-1]
        if more:
            graph.named("Identity", states, output=LEFT)
        made.append(_judged(graph, READ if begin else "words", [floats(LEFT, WIDTH)] if more else []))
        begin = end
    return made


def _entered(graph: Graph, network: Network) -> str:
    """Add positions to the sub-words' embeddings."""
    length = graph.node("Shape", "words", start=1, end=2)
    positions = graph.node(
        "Slice", graph.constant(array(network.positions)), graph.integers(0), length, graph.integers(0)
    )
    return graph.layer_norm(graph.node("Add", "words", positions), network.norm)


def _judged(graph: Graph, read: str, more_outputs: list[Any]) -> Any:
    return graph.model(
        "vigil-encoder",
        [floats(read, WIDTH)],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts"]),
            helper.make_tensor_value_info("token_logits", TensorProto.FLOAT, ["texts", "length"]),
            helper.make_tensor_value_info("family_logits", TensorProto.FLOAT, ["texts", len(FAMILIES)]),
            *more_outputs,
        ],
    )


def floats(name: str, width: int, length: str = "length") -> Any:
    """Return what a graph reads or gives: for each of a text's sub-words, `length` of them, so many values."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", length, width])


def _head(graph: Graph, head: Head, states: str, scale: tuple[float, float]) -> None:
    last = graph.integers(-1)
    weights = graph.node("Softmax", graph.exact(states, head.look.weight, head.look.bias), axis=1)
    looked = graph.node("ReduceSum", graph.node("Mul", states, weights), graph.integers(1), keepdims=0)
    mean = graph.node("ReduceMean", states, axes=[1], keepdims=0)
    joined = graph.node("Concat", looked, mean, axis=1)
    pooled = graph.gelu(graph.exact(joined, head.judge.weight, head.judge.bias))
    factor, summand = scale
    logit = graph.exact(pooled, factor * head.attack.weight, factor * head.attack.bias + summand)
    graph.named("Squeeze", logit, last, output="logits")
    graph.named("Squeeze", graph.exact(states, head.part.weight, head.part.bias), last, output="token_logits")
    projected = graph.exact(pooled, head.project.weight, head.project.bias)
    length = graph.node("ReduceL2", projected, axes=[1], keepdims=1)
    unit = graph.node("Div", projected, graph.node("Max", length, graph.constant(np.array(1e-12, np.float32))))
    prototypes = array(head.prototypes)
    prototypes = SHARPNESS * prototypes / np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-12)
    likeness = graph.node("MatMul", unit, graph.constant(prototypes.T.astype(np.float32)))
    split = graph.node("Reshape", likeness, graph.integers(-1, len(FAMILIES), PROTOTYPES))
    graph.named("ReduceLogSumExp", split, output="family_logits", axes=[2], keepdims=0)


def array(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor's values in 32 bits."""
    values: NDArray[np.float32] = tensor.detach().cpu().numpy().astype(np.float32)
    return values
