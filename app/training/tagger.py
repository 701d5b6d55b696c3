"""Trains the tagger of names: a teacher learns from marked texts, and the tagger from these and from what the teacher
makes of many that nobody marked (knowledge distillation: Hinton et al., 2015).

Of the marked texts alone the tagger learns by heart (sub-words in values: F1 .96 of those it learned from, .86 of
others), while the teacher, twelve pretrained layers and much too slow to ship, does better on others (.89).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from app.errors import ModelUnavailable
from app.pii.config import read_names
from app.pii.given_names import GivenNames
from app.pii.tagger import ENTITIES, LOOKS, MODEL_FILE, MODELS_DIR
from app.settings import default_config_dir
from app.subwords import WIDTH, SubWordTable, shipped
from app.training import tagger_teacher
from app.training.base import EPSILON
from app.training.corpus import Row
from app.training.export import Graph
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
from app.training.tagging import Batches, Course, Marking, Material, Packed, Shown, learn

INNER: Final = 128
DILATIONS: Final = (1, 2, 4, 8, 1)
"""Of the five convolutions over three sub-words each: a word is judged by sixteen sub-words on either side."""
DROPOUT: Final = 0.15
BATCH: Final = 32
"""Texts of a batch."""
POOL: Final = 16 * BATCH
"""Texts that are sorted by length before they are cut into batches: padded to the longest of any 32, three quarters of
a batch would be padding."""
COURSE: Final = Course(
    epochs=10, rate=3e-3, weight_decay=0.02, betas=(0.9, 0.999), withheld=0.12, full_batch=60 * BATCH
)
FURTHER: Final = replace(COURSE, epochs=4, rate=1.5e-3)
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

    def taught(make: Callable[[], Network], course: Course, told: Sequence[Case]) -> Network:
        return teach(make, course, material, told, reader, table, held_out, work, progress)

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
    write(taught(Network, COURSE, told), out)


class Network(Marking):
    """From embeddings and looks to one of the entities, or nothing, for each sub-word."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(WIDTH + LOOKS, INNER)
        self.norm = nn.LayerNorm(INNER, EPSILON)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(INNER, INNER, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS
        )
        self.norms = nn.ModuleList(nn.LayerNorm(INNER, EPSILON) for _ in DILATIONS)
        self.judge = nn.Linear(INNER, 1 + len(ENTITIES))

    def logits(self, packed: Packed) -> Tensor:
        result: Tensor = self(torch.cat((packed.words, packed.looks), dim=-1), packed.present[:, :, None])
        return result

    def forward(self, inputs: Tensor, present: Tensor) -> Tensor:
        """Return logits; `inputs` (texts, length, WIDTH + LOOKS), `present` (texts, length, 1)."""
        states = self.norm(functional.gelu(self.enter(inputs)))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            states = functional.dropout(states, DROPOUT, self.training) * present
            change = functional.gelu(convolution(states.transpose(1, 2)).transpose(1, 2))
            states = norm(states + change)
        result: Tensor = self.judge(functional.dropout(states, DROPOUT, self.training))
        return result


def teach(
    make: Callable[[], Network],
    course: Course,
    material: Material,
    told: Sequence[Case],
    reader: Reader,
    table: SubWordTable,
    held_out: Sequence[Case],
    work: Path,
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
        parts = cut(order, chance)
        for number, part in enumerate(parts, 1):
            cases = [each if isinstance(each, Case) else reader.read(reader.changed(each, chance)) for each in part]
            yield number / len(parts), cases

    network: Network = learn(make, course, batches, table, held_out, work / "tagger.pt", material, progress)
    return network


def cut(order: Sequence[Marked | Case], chance: random.Random) -> list[list[Marked | Case]]:
    """Cut texts into batches of like length, in any order."""
    batches = []
    for begin in range(0, len(order), POOL):
        pool = sorted(order[begin : begin + POOL], key=_length)
        batches += [pool[at : at + BATCH] for at in range(0, len(pool), BATCH)]
    chance.shuffle(batches)
    return batches


def _length(text: Marked | Case) -> int:
    """About how many code points it has."""
    return len(text.text) if isinstance(text, Marked) else 4 * len(text.ids)


def read(folder: Path) -> Network:
    """Return the network of a folder's graph, with the weights that `write` wrote.

    Raises:
        ModelUnavailable: the graph is missing, or not that of a tagger of this shape.
    """
    network = Network()
    layers: list[nn.Module] = [network.enter, network.norm]
    for pair in zip(network.convolutions, network.norms, strict=True):
        layers += pair
    layers.append(network.judge)
    wanted = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    try:
        stored = onnx.load(folder / MODEL_FILE).graph.initializer
        weights = [weight for weight in map(onnx.numpy_helper.to_array, stored) if weight.size > 1]
        with torch.no_grad():
            for parameter, weight in zip(wanted, weights, strict=True):
                # A linear layer's weights are written the other way round.
                given = torch.from_numpy((weight.T if weight.ndim == 2 else weight).copy())
                if given.shape != parameter.shape:
                    raise ValueError("another shape")
                parameter.copy_(given)
    except Exception:  # noqa: BLE001 - a damaged graph raises what has no common base
        raise ModelUnavailable(f"{folder} holds no tagger whose training could go on") from None
    return network


def between(begun: Network, ended: Network) -> Network:
    """Return the network midway between two, of which the second went on from the first: it has learned nearly as much
    and forgotten less (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022)."""
    middle = Network()
    weights = ended.state_dict()
    middle.load_state_dict({name: (values + weights[name]) / 2 for name, values in begun.state_dict().items()})
    return middle


def write(network: Network, out: Path) -> None:
    """Write the network as an ONNX graph in 32 bits into a folder."""
    graph = Graph()
    states = graph.node("Gelu", graph.exact("looks", network.enter.weight, network.enter.bias), domain="com.microsoft")
    states = graph.layer_norm(states, network.norm)
    for convolution, norm, dilation in zip(network.convolutions, network.norms, DILATIONS, strict=True):
        change = graph.node("Gelu", graph.convolution(states, convolution, dilation), domain="com.microsoft")
        states = graph.layer_norm(graph.node("Add", states, change), norm)
    graph.named("Softmax", graph.exact(states, network.judge.weight, network.judge.bias), output="entities", axis=-1)
    model = graph.model(
        "vigil-tagger",
        [helper.make_tensor_value_info("looks", TensorProto.FLOAT, ["texts", "length", WIDTH + LOOKS])],
        [helper.make_tensor_value_info("entities", TensorProto.FLOAT, ["texts", "length", 1 + len(ENTITIES)])],
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
