"""Trains the tagger of names: a teacher learns from marked texts, and the tagger from these and from what the teacher
makes of many that nobody marked (knowledge distillation: Hinton et al., 2015).

The tagger is the first three of the pretrained layers that the teacher has twelve of, slimmer, and judges after the
first of them too.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from onnx import TensorProto, helper
from torch import Tensor

from app.errors import ModelUnavailable
from app.pii.config import read_names
from app.pii.given_names import GivenNames
from app.pii.tagger import ENTITIES, LOOKS, MODEL_FILES, MODELS_DIR
from app.settings import default_config_dir
from app.subwords import WIDTH, SubWordTable, shipped
from app.training import tagger_teacher
from app.training.base import Pretrained
from app.training.corpus import Row
from app.training.export import LEFT, READ, Graph, array, floats
from app.training.marked import (
    CALM_FILES,
    FOREIGN_WEIGHT,
    SHORT_FILES,
    Case,
    Marked,
    Reader,
    load,
    load_calm,
    load_passages,
    load_unmarked,
)
from app.training.network import Shape, between
from app.training.shipped import LINEARS, Pair, StoredGraph, put, put_layers, put_pair, shape_of
from app.training.tagger_network import Network, slimmer
from app.training.tagging import BATCH, Batches, Course, Material, Shown, batches_of, by_length, learn, pack

LAYERS: Final = 3
SHAPE: Final = Shape(heads=6, inner=512)
"""What its layers are made slimmer to."""
MEASURED: Final = 2_000
"""Texts on which it is measured what each head and unit does."""
COURSE: Final = Course(epochs=5, rate=3e-4, weight_decay=0.01, betas=(0.9, 0.98), withheld=0.1, full_batch=1_000)
SLIMMER: Final = replace(COURSE, epochs=4, rate=2.5e-4)
"""Of one whose layers became slimmer."""
FURTHER: Final = replace(COURSE, epochs=2, rate=1.5e-4)
"""Of the tagger that ships, with the text that came since."""
CALM: Final = 2_000
"""Prompts that name nobody, of an epoch."""
PASSAGES: Final = 800
"""Passages of code and manuals that name nobody, of an epoch."""
UNMARKED: Final = 12_000
"""Texts that nobody marked, of an epoch."""
JUDGED: Final = 24_000
"""Those that the teacher judges: three minutes on two cores."""
TOLD_WEIGHT: Final = 0.7
"""Of a sub-word about which a teacher's opinion is learned."""

ASKED: Final = "asked"
"""Places in READ of the sub-words that the last layer judges; the start of the text is place 0."""
ASKING: Final = -5
"""Place of the last layer's queries among the linear layers of the second graph."""
"""Places of linear layers in a transformer layer: the one that reads what the heads attend to, and the one whose
outputs are the inner units."""

Progress = Callable[[str], None]


def train(
    personal: Path,
    more: Path | None,
    calm: Path,
    out: Path,
    work: Path,
    seed: int,
    progress: Progress,
    passages: Iterable[Row] = (),
    *,
    further: bool = False,
) -> None:
    """Train the tagger and write it into `out`; `work` keeps the state, so that a stopped run goes on where it was.

    Args:
        personal: folder of the project's own marked texts (JSON Lines).
        more: folder of other people's marked texts, which count less.
        calm: folder of detection's texts.
        out: folder that the model goes to.
        passages: of code and manuals.
        further: go on from the tagger that ships, with marked texts alone, which is quicker.

    Raises:
        FileNotFoundError: there are no marked texts.
        VigilError: the state in `work` is that of a run with other texts or another seed.
    """
    rows = load(personal.glob("*.jsonl"))
    if not rows:
        raise FileNotFoundError(personal)
    if more is not None:
        rows += load(more.glob("*.jsonl"), FOREIGN_WEIGHT, held_out=0)
    given_names = GivenNames(read_names(default_config_dir()))
    files = [calm / f"{name}.jsonl" for name in (*CALM_FILES, *SHORT_FILES)]
    quiet = load_calm([path for path in files if path.exists()], given_names)
    nobody = load_passages(passages, given_names)
    progress(f"tagger: {len(rows)} marked texts, {len(quiet)} prompts and {len(nobody)} passages that name nobody")
    material = Material([row for row in rows if not row.held_out], [Shown(quiet, CALM), Shown(nobody, PASSAGES)], seed)
    table = shipped()
    reader = Reader(material.marked, table, given_names)
    held_out = [reader.read(row) for row in rows if row.held_out]

    def taught(make: Callable[[], Network], course: Course, told: Sequence[Case], state: str = "tagger.pt") -> Network:
        return teach(make, course, material, told, reader, table, held_out, work / state, progress)

    if further:
        write(between(read(MODELS_DIR), taught(lambda: read(MODELS_DIR), FURTHER, ())), out)
        return
    unmarked = load_unmarked(calm.glob("*.jsonl"))
    unmarked = random.Random(seed).sample(unmarked, min(JUDGED, len(unmarked)))  # noqa: S311 - reproducible
    teacher = tagger_teacher.teach(material, reader, table, held_out, work, progress)
    cases = list(filter(lambda case: len(case.ids), map(reader.read, unmarked)))
    told = [
        replace(case, told=opinion, weight=TOLD_WEIGHT)
        for case, opinion in zip(cases, tagger_teacher.opinions(teacher, cases, table), strict=True)
    ]
    progress(f"tagger: the teacher has judged {len(told)} texts")
    pretrained = Pretrained.load()
    wide = taught(lambda: Network.pretrained(pretrained, table, LAYERS, rounds=True), COURSE, told)
    measured = by_length([reader.read(row) for row in material.marked[:: -(-len(material.marked) // MEASURED)]], BATCH)
    narrow = slimmer(wide, SHAPE, (pack(cases, table) for cases in measured))
    write(taught(lambda: copy.deepcopy(narrow), SLIMMER, told, "tagger_slim.pt"), out)


def teach(
    make: Callable[[], Network],
    course: Course,
    material: Material,
    told: Sequence[Case],
    reader: Reader,
    table: SubWordTable,
    held_out: Sequence[Case],
    state: Path,
    progress: Progress,
) -> Network:
    """Train on what is shown of the material and on some of what a teacher told; returns the running average of
    weights."""

    def batches(epoch: int) -> Batches:
        chance = random.Random(f"tagger:{material.seed}:{epoch}")  # noqa: S311 - reproducible, not secret
        order: list[Marked | Case] = [*material.epoch(chance)]
        if told:
            order += chance.sample(told, min(UNMARKED, len(told)))
            chance.shuffle(order)
        return batches_of(order, reader, chance)

    network: Network = learn(make, course, batches, table, held_out, state, material, progress)
    return network


def read(folder: Path) -> Network:
    """Return the network of a folder's graphs, with the weights that `write` wrote.

    Raises:
        ModelUnavailable: a graph is missing, or not that of a tagger of this shape.
    """
    try:
        first, others = (StoredGraph(folder / file) for file in MODEL_FILES)
        linears = [*first.linears(), *_joined(others.linears())]
        norms, exact = chain(first.norms(), others.norms()), chain(first.exact(), others.exact())
        start = torch.from_numpy(first.constants[first.first("Concat").input[0]][0].copy())
        network = Network(start, len(linears) // LINEARS, rounds=True, shape=shape_of(linears))
        put(network.positions, first.constants[first.first("Slice").input[0]])
        put_pair(network.norm, next(norms))
        put_layers(network.layers, linears, norms)
        put_pair(network.widen, linears[-1])
        for part in (network.look, network.glance, network.mark):
            put_pair(part, next(exact))
    except (LookupError, StopIteration, ValueError):
        raise ModelUnavailable(f"{folder} holds no tagger whose training could go on") from None
    return network


def _joined(linears: Iterable[Pair]) -> list[Pair]:
    """Put together what the last layer asks with and what it is asked about: its queries stand behind the rest."""
    joined = list(linears)
    (told, told_bias), (asking, asking_bias) = joined[ASKING - 1 : ASKING + 1]
    joined[ASKING - 1 : ASKING + 1] = [(np.concatenate((asking, told)), np.concatenate((asking_bias, told_bias)))]
    return joined


def write(network: Network, out: Path) -> None:
    """Write the network as two ONNX graphs with 8-bit weights into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    for file, graph in zip(MODEL_FILES, (_glance(network), _study(network)), strict=True):
        (out / file).write_bytes(graph.SerializeToString(deterministic=True))


def _glance(network: Network) -> Any:
    """Return the graph of the first layer and its judgement."""
    graph = Graph()
    length = graph.node("Shape", "words", start=1, end=2)
    words = graph.node("Concat", graph.constant(array(network.start)[None]), "words", axis=1)
    positions = graph.constant(array(network.positions))
    end = graph.node("Add", length, graph.integers(1))
    states = graph.node("Add", words, graph.node("Slice", positions, graph.integers(0), end, graph.integers(0)))
    looked = graph.exact("looks", network.look.weight, network.look.bias)
    before = graph.integers(0, 1, 0, 0, 0, 0)  # The start of a text has no look.
    states = graph.node("Add", graph.layer_norm(states, network.norm), graph.node("Pad", looked, before))
    states = graph.layer(network.layers[0], states)
    graph.named("Identity", states, output=LEFT)
    first, last, axis = graph.integers(1), graph.integers(np.iinfo(np.int64).max), graph.integers(1)
    seen = graph.node("Concat", graph.node("Slice", states, first, last, axis), "looks", axis=2)
    _judge(graph, seen, network.glance)
    return _model(graph, "length", floats("words", WIDTH), left=floats(LEFT, WIDTH, "length_and_start"))


def _study(network: Network) -> Any:
    """Return the graph of the other layers and the last judgement."""
    graph = Graph()
    states = READ
    *layers, last = network.layers[1:]
    for layer in layers:
        states = graph.layer(layer, states)
    seen = graph.node("Concat", graph.layer(last, states, ASKED), "looks", axis=2)
    _judge(graph, graph.gelu(graph.linear(seen, *_of(network.widen))), network.mark)
    asked = helper.make_tensor_value_info(ASKED, TensorProto.INT64, ["asked"])
    return _model(graph, "asked", floats(READ, WIDTH, "length_and_start"), asked)


def _judge(graph: Graph, seen: str, judge: Any) -> None:
    graph.named("Softmax", graph.exact(seen, *_of(judge)), output="entities", axis=-1)


def _of(linear: Any) -> tuple[Tensor, Tensor]:
    return linear.weight, linear.bias


def _model(graph: Graph, judged: str, *read: Any, left: Any = None) -> Any:
    """Return the model that gives a judgement of each of the sub-words `judged`, and what is left to another graph."""
    outputs = [floats("entities", 1 + len(ENTITIES), judged), *([] if left is None else [left])]
    return graph.model("vigil-tagger", [*read, floats("looks", LOOKS, judged)], outputs)
