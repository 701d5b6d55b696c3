"""Fine-tuning on a network of a few thousand weights: what is minimised, and that a run can be repeated and resumed."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from app.cli import train  # noqa: E402
from app.detection import encoder as served  # noqa: E402
from app.errors import ModelUnavailable, VigilError  # noqa: E402
from app.subwords import MODELS_DIR  # noqa: E402
from app.training import __main__ as module  # noqa: E402
from app.training import course, encoder, network, packages, shipped, tagger  # noqa: E402
from app.training.corpus import FAMILIES, MATERIAL  # noqa: E402
from app.training.course import Plan  # noqa: E402
from app.training.encoder import (  # noqa: E402
    Labels,
    OnDevice,
    Opinion,
    Stage,
    Trainer,
    judge,
    loss_of,
    opinion_of,
)
from app.training.network import LEVELS, STEPS, Linear, Network, Output, Shape, weight_steps  # noqa: E402
from app.training.shelf import COMPOSED, NO_FAMILY, OWN, WINDOW, Batch, Mixture, Shelf  # noqa: E402

NONE = Mixture(0, 0, 0)
EXITS = (1, 2, 3)
STAGES = (
    Stage("broad", NONE, epochs=1, rate=1e-3, batch=60, steps=5, falls=False),
    Stage("own", NONE, epochs=2, rate=1e-3, batch=60),
)
LN2 = math.log(2)
SMALL = {"WIDTH": 32, "HEADS": 2, "INNER": 64, "DIMENSIONS": 8}
BASE = {name: getattr(network, name) for name in SMALL}
"""The sizes of what ships."""


def shelf(held_out: int = 0) -> Shelf:
    """Return twenty pairs: attacks are written in other sub-words than harmless texts."""
    chance = np.random.default_rng(3)
    attack = np.arange(40) % 2 == 1
    return Shelf(
        ids=np.concatenate([chance.integers(5 + 10 * told, 12 + 10 * told, 7) for told in attack]).astype(np.uint32),
        starts=np.arange(40) * 7,
        lengths=np.full(40, 7),
        attack=attack,
        family=np.where(attack, 0, len(FAMILIES) - 1),
        weights=np.ones(40, np.float32),
        smoothing=np.zeros(40, np.float32),
        planted=np.full((40, 2), -1),
        reservoirs=np.full(40, OWN),
        pairs=np.arange(40) // 2,
        disguises=np.full(40, -1),
        held_out=np.arange(40) < held_out,
        known=np.zeros(40, bool),
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setattr(network, name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def trainer(folder: Path, seed: int = 1) -> Trainer:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(7)
    words = torch.randn(40, 32)
    torch.manual_seed(seed)
    return Trainer(Network(EXITS), words, shelf(), seed, folder, lambda message: None)


def run(trained: Trainer) -> list[str]:
    titles: list[str] = []
    trained.run(STAGES, titles.append)
    return titles


def weights(trained: Trainer) -> list[Any]:
    return [*trained.network.state_dict().values(), *trained.average.state_dict().values()]


def same(one: Trainer, other: Trainer) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(weights(one), weights(other), strict=True))


def test_the_same_seed_gives_the_same_weights_and_another_others(tmp_path: Path) -> None:
    ended = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ended.append(trainer(tmp_path / name, seed))
        assert run(ended[-1]) == ["broad, epoch 1 of 1", "own, epoch 1 of 2", "own, epoch 2 of 2"]
    first, again, other = ended
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("steps", [3, 5, 12])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    whole = trainer(tmp_path / "whole")
    run(whole)
    with monkeypatch.context() as patched:
        taken = Trainer._step

        def stopping(self: Trainer, batch: Batch, at: int, rate: float, average: float) -> Any:
            if at > steps:
                raise KeyboardInterrupt
            return taken(self, batch, at, rate, average)

        patched.setattr(Trainer, "_step", stopping)
        patched.setattr(encoder, "SAVE_EVERY", -1.0)
        with pytest.raises(KeyboardInterrupt):
            run(trainer(tmp_path / "stopped"))
    resumed = trainer(tmp_path / "stopped")
    torch.manual_seed(1234)  # Not what the run began with: its state was kept.
    for parameter in resumed.network.parameters():
        parameter.data.zero_()
    run(resumed)
    assert same(whole, resumed)


def test_a_finished_run_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = trainer(tmp_path)
    run(finished)
    monkeypatch.setattr(Trainer, "_step", lambda *_: pytest.fail("a step was taken"))
    again = trainer(tmp_path)
    run(again)
    assert same(finished, again)


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    run(trainer(tmp_path, 1))
    with pytest.raises(VigilError, match="another seed"):
        run(trainer(tmp_path, 2))


def test_training_tells_attacks_apart_at_every_exit(tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    trained.run((Stage("own", NONE, epochs=4, rate=3e-3, batch=60),), lambda title: None)
    texts = [np.array(ids, np.uint32) for ids in ([16, 18, 20], [6, 8, 10])]
    for logits in judge(trained.average, trained._words, texts):
        assert logits[0][0] > logits[1][0] + 1
    assert not torch.equal(trained.average.layers[-1].widen.weight, trained.network.layers[-1].widen.weight)


def test_the_rate_rises_and_falls_within_a_stage_that_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def noted(self: Trainer, batch: Batch, at: int, rate: float, *_: Any) -> Any:
        rates.append(rate)
        return torch.zeros(())

    monkeypatch.setattr(Trainer, "_step", noted)
    monkeypatch.setattr(encoder, "WARM_UP", 0.3)
    trainer(tmp_path).run((Stage("own", NONE, epochs=4, rate=1.0, batch=60),), lambda title: None)
    peak = int(np.argmax(rates))
    assert 0 < peak < len(rates) / 2
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(encoder.FINAL_RATE)


def test_a_course_tells_how_texts_are_judged_that_it_never_saw(tmp_path: Path) -> None:
    told: list[str] = []
    course.learn(Network(EXITS), torch.randn(40, 32), shelf(held_out=8), 1, tmp_path, told.append, STAGES[1:])
    reports = [message for message in told if "held-out" in message]
    assert len(reports) == 2
    assert all(f"after {layers} layers area" in message for message in reports for layers in EXITS)


def test_what_does_not_learn_computes_as_it_ships_and_stays(tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    before = {name: values.clone() for name, values in trained.network.state_dict().items()}
    trained.network.layers.requires_grad_(False)
    trained.network.heads[-1].requires_grad_(False)
    trained.run(STAGES[1:], lambda title: None)
    assert [part.training for part in (*trained.network.layers, *trained.network.heads)] == [False] * 3 + [
        True,
        True,
        False,
    ]
    for name, values in trained.average.state_dict().items():
        learns = name.startswith(("heads.0", "heads.1"))
        assert torch.equal(values, before[name]) != learns, name


def test_the_command_offers_the_courses_that_there_are() -> None:
    assert {str(each) for each in train.Course} == set(course.COURSES)
    for name in course.COURSES:
        with pytest.raises(SystemExit, match="no text to learn from"):
            module.main(["--course", name, "--only", "detection", "--own", "nowhere"])


@pytest.mark.parametrize("name", [None, *course.COURSES])
def test_the_tagger_goes_on_from_the_one_that_ships_where_the_encoder_does(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(tagger, "train", lambda *_, further: asked.append(further))
    monkeypatch.setattr(packages, "rows", list)
    module.main(["--only", "names", *(["--course", name] if name else [])])
    assert asked == [name in ("further", "exits", "slim")]


def test_the_shipped_encoder_says_what_it_has_learned_from(tmp_path: Path) -> None:
    known = shipped.learned_from(MODELS_DIR)
    assert {"direct_attacks", "personal_polish"} <= known
    assert not known & MATERIAL
    with pytest.raises(ModelUnavailable, match=r"metadata\.json does not say"):
        shipped.learned_from(tmp_path)
    (tmp_path / "metadata.json").write_text('{"encoder": {}}')
    with pytest.raises(ModelUnavailable, match=r"metadata\.json does not say"):
        shipped.learned_from(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 446, 447, 448, 639, 5_000])
def test_a_text_is_cut_into_the_windows_that_the_service_judges(tmp_path: Path, length: int) -> None:
    trained = trainer(tmp_path)
    ids = np.random.default_rng(1).integers(5, 40, length).astype(np.uint32)
    cut = served.SubWords(ids.astype(np.int64), np.zeros((length, 2), np.int64)).windows or [(0, 0)]
    logits, *_ = judge(trained.average, trained._words, [ids])
    alone = [float(judge(trained.average, trained._words, [ids[begin:end]])[0][0][0]) for begin, end in cut]
    assert logits[0] == pytest.approx(alone, abs=1e-5)
    assert (encoder.START_ID, WINDOW) == (served.START_ID, served.WINDOW)


def test_windows_are_judged_alike_in_any_company(tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    texts = [np.array(ids, np.uint32) for ids in ([9] * (WINDOW + 40), [6, 8], list(range(5, 30)))]
    for number, together in enumerate(judge(trained.average, trained._words, texts)):
        assert [len(logits) for logits in together] == [2, 1, 1]
        for text, logits in zip(texts, together, strict=True):
            alone = judge(trained.average, trained._words, [text], batch=1)[number]
            assert logits == pytest.approx(alone[0], abs=1e-5)


def test_a_batch_is_shown_with_start_tokens_and_padding(tmp_path: Path) -> None:
    trained = trainer(tmp_path)
    batch = Batch(np.array([3, 0]), np.array([2, 0]), np.array([4, 7]), np.ones(2, np.float32))
    ids, present = trained._texts.show(batch)
    assert ids.shape == (2, 8)
    assert ids[0].tolist() == [encoder.START_ID, *shelf().ids[23:27].tolist(), *[encoder.PAD_ID] * 3]
    assert ids[1].tolist() == [encoder.START_ID, *shelf().ids[:7].tolist()]
    assert present.tolist() == [[1.0] * 5 + [0.0] * 3, [1.0] * 8]


def test_what_was_planted_moves_with_the_piece_that_is_shown() -> None:
    planted = np.full((40, 2), -1)
    planted[3] = (4, 6)
    known = {name: getattr(shelf(), name) for name in Shelf.__slots__} | {"planted": planted}
    texts = encoder.OnDevice.of(Shelf(**known), torch.device("cpu"))
    labels = texts.labels(Batch(np.array([3, 2, 5]), np.array([2, 0, 0]), np.array([5, 7, 7]), np.ones(3, np.float32)))
    assert labels.planted.tolist() == [[3, 5], [-1, -1], [-1, -1]]
    assert labels.pairs.tolist() == [1, -1, -1]  # The third has no twin here.


def labels(attack: list[bool], **known: Any) -> Labels:
    count = len(attack)
    usual: dict[str, Any] = {
        "attack": torch.tensor([float(told) for told in attack]),
        "family": torch.zeros(count, dtype=torch.long),
        "weights": torch.ones(count),
        "smoothing": torch.zeros(count),
        "planted": torch.full((count, 2), -1),
        "pairs": torch.full((count,), -1),
        "taught": torch.full((count,), encoder.TAUGHT),
    }
    return Labels(**usual | {name: torch.tensor(values) for name, values in known.items()})


def judged(logits: Any, tokens: Any, states: Any = None) -> Output:
    """Return what an exit makes of texts, with families that are all alike."""
    states = torch.zeros(*tokens.shape, network.WIDTH) if states is None else states
    return Output(logits, tokens, torch.zeros(len(logits), len(FAMILIES)), states)


def loss(told: Labels, lengths: list[int], logits: list[float], tokens: list[list[float]]) -> float:
    """Return the loss at a single exit with families that are all alike; a length counts the start token."""
    longest = max(lengths)
    present = torch.tensor([[float(place < length) for place in range(longest)] for length in lengths])
    output = judged(torch.tensor(logits), torch.tensor(tokens))
    return float(loss_of([output], present, told))


def test_without_any_opinion_every_part_of_the_loss_is_known() -> None:
    family = encoder.FAMILY_LOSS * math.log(len(FAMILIES))
    attack, harmless = labels([True]), labels([False])
    assert loss(attack, [3], [0.0], [[0.0] * 3]) == pytest.approx(LN2 + family + encoder.PART_LOSS * LN2)
    assert loss(harmless, [3], [0.0], [[0.0] * 3]) == pytest.approx(LN2 + family + encoder.PART_LOSS * 1.3 * LN2)
    untold = labels([True], family=[NO_FAMILY])
    assert loss(untold, [3], [0.0], [[0.0] * 3]) == pytest.approx(LN2 + encoder.PART_LOSS * LN2)


def test_padding_and_the_start_token_count_for_nothing() -> None:
    both = labels([False, True])
    quiet = loss(both, [3, 5], [0.0, 0.0], [[0.0] * 5, [0.0] * 5])
    loud = [[50.0, 0, 0, 50, 50], [50.0, 0, 0, 0, 0]]
    assert loss(both, [3, 5], [0.0, 0.0], loud) == pytest.approx(quiet)


def test_of_a_planted_text_the_planted_sub_words_should_stand_out() -> None:
    told = labels([True], planted=[[2, 4]])
    right = loss(told, [5], [9.0], [[0.0, -9, 9, 9, -9]])
    for elsewhere in ([0.0, 9, 9, -9, -9], [0.0, -9, -9, 9, 9]):
        assert right < loss(told, [5], [9.0], [elsewhere]) - encoder.PART_LOSS * 4


def test_of_another_attack_the_strongest_sub_words_count() -> None:
    told = labels([True])
    three = loss(told, [6], [9.0], [[0.0, 9, 9, 9, -9, -9]])
    assert three == pytest.approx(loss(told, [6], [9.0], [[0.0, 9, 9, 9, 0, 0]]))
    assert three < loss(told, [6], [9.0], [[0.0, 9, -9, -9, -9, -9]]) - 0.5


def test_of_an_attack_of_two_sub_words_both_count() -> None:
    told = labels([True, False])
    mean = loss(told, [3, 6], [9.0, -9.0], [[0.0, 4, -4, 0, 0, 0], [0.0] + [-9.0] * 5])
    even = loss(told, [3, 6], [9.0, -9.0], [[0.0, 0, 0, 0, 0, 0], [0.0] + [-9.0] * 5])
    assert mean == pytest.approx(even)


def test_a_pair_costs_until_its_attack_is_well_above_its_twin() -> None:
    pair, strangers = labels([True, False], pairs=[1, -1]), labels([True, False])
    tokens = [[0.0, 0.0]] * 2
    cost = loss(pair, [2, 2], [0.0, 0.0], tokens) - loss(strangers, [2, 2], [0.0, 0.0], tokens)
    assert cost == pytest.approx(encoder.PAIR_LOSS * math.log1p(math.exp(2)), rel=1e-5)
    apart = [loss(told, [2, 2], [4.0, -4.0], tokens) for told in (pair, strangers)]
    assert apart[0] == pytest.approx(apart[1], abs=2e-3)


def test_doubtful_labels_and_small_weights_teach_less() -> None:
    sure, doubtful = labels([True]), labels([True], smoothing=[0.2])
    assert loss(doubtful, [2], [9.0], [[9.0, 9.0]]) > loss(sure, [2], [9.0], [[9.0, 9.0]])
    light, even = labels([True, False], weights=[1.0, 0.1]), labels([True, False])
    tokens = [[9.0, 9.0]] * 2
    assert loss(light, [2, 2], [9.0, 9.0], tokens) < loss(even, [2, 2], [9.0, 9.0], tokens)


def test_an_exit_that_is_not_the_last_learns_from_the_last_one_too() -> None:
    tokens = torch.zeros(1, 2)
    first = torch.tensor([0.5], requires_grad=True)
    last = torch.tensor([-3.0], requires_grad=True)
    told = labels([True])
    outputs = [judged(first, tokens), judged(last, tokens)]
    loss_of(outputs, torch.ones(1, 2), told).backward()
    label_pull = torch.sigmoid(torch.tensor(0.5)) - 1
    echo_pull = encoder.ECHO_LOSS * (torch.sigmoid(torch.tensor(0.5)) - torch.sigmoid(torch.tensor(-3.0)))
    assert first.grad.item() == pytest.approx((label_pull + echo_pull).item(), abs=1e-5)
    # The last one is not pulled towards the first.
    assert last.grad.item() == pytest.approx((torch.sigmoid(torch.tensor(-3.0)) - 1).item(), abs=1e-5)


def test_what_teachers_think_moves_the_target_and_more_so_where_the_label_is_doubtful() -> None:
    tokens, present = torch.zeros(1, 2), torch.ones(1, 2)
    opinion = Opinion(torch.tensor([0.25]), torch.zeros(1, 2))
    for smoothing, share in ((0.0, encoder.TAUGHT), (0.1, encoder.FOREIGN_TAUGHT), (0.0, 0.0)):
        logit = torch.tensor([0.5], requires_grad=True)
        told = labels([True], smoothing=[smoothing], taught=[share])
        loss_of([judged(logit, tokens)], present, told, opinion).backward()
        target = (1 - share) * (1 - smoothing / 2) + share * 0.25
        assert logit.grad.item() == pytest.approx(torch.sigmoid(torch.tensor(0.5)).item() - target, abs=1e-5)


def test_teachers_are_heeded_more_of_foreign_texts_and_not_at_all_of_what_came_since_they_learned() -> None:
    texts = shelf()
    count = len(texts.starts)
    smoothing, reservoirs = np.zeros(count, np.float32), np.full(count, OWN)
    smoothing[0], reservoirs[:2] = 0.08, COMPOSED + 1
    anew = replace(texts, smoothing=smoothing, reservoirs=reservoirs, known=np.zeros(count, np.bool_))
    foreign = [encoder.FOREIGN_TAUGHT, encoder.TAUGHT]
    assert taught(anew) == pytest.approx([*foreign, *[encoder.TAUGHT] * (count - 2)])
    known = np.arange(count) == 2
    assert taught(replace(anew, known=known)) == pytest.approx([*foreign, encoder.TAUGHT, *[0.0] * (count - 3)])


def taught(texts: Shelf) -> list[float]:
    """Return how much teachers say of each text, as a batch of all of them tells it."""
    count = len(texts.starts)
    batch = Batch(np.arange(count), np.zeros(count, np.int64), texts.lengths, np.ones(count, np.float32))
    shares: list[float] = OnDevice.of(texts, torch.device("cpu")).labels(batch).taught.tolist()
    return shares


def test_where_teachers_see_an_attack_is_learned_too() -> None:
    present = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    tokens = torch.zeros(1, 4, requires_grad=True)
    output = judged(torch.zeros(1), tokens)
    slopes = []
    opinions = ([0.5] * 4, [0.5, 1.0, 0.0, 1.0])
    for parts in opinions:
        tokens.grad = None
        loss_of([output], present, labels([False]), Opinion(torch.tensor([0.0]), torch.tensor([parts]))).backward()
        slopes.append(tokens.grad.clone())
    half = encoder.TAUGHT_PARTS_LOSS * 0.5 / 3
    assert (slopes[1] - slopes[0])[0].tolist() == pytest.approx([0.0, -half, half, 0.0], abs=1e-6)
    unheeded = labels([False], taught=[0.0])
    losses = [loss_of([output], present, unheeded, Opinion(torch.zeros(1), torch.tensor([each]))) for each in opinions]
    assert losses[0] == losses[1]


def test_the_states_of_what_is_imitated_are_learned_at_every_exit_where_a_text_has_not_ended() -> None:
    present = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    theirs = [torch.randn(1, 4, 32) for _ in range(2)]
    opinion = Opinion(torch.tensor([0.5]), torch.zeros(1, 4), tuple(theirs))
    change = torch.zeros(1, 4, 32)
    change[:, :3] = 0.25
    change[:, 3] = 100.0  # Behind the text's end.

    def cost(*states: Any) -> float:
        outputs = [judged(torch.zeros(1), torch.zeros(1, 4), each) for each in states]
        return float(loss_of(outputs, present, labels([False]), opinion))

    alike = cost(*theirs)
    for place in range(2):
        spread = float(theirs[place][:, :3].var(dim=1).mean())
        states = [each + change if number == place else each for number, each in enumerate(theirs)]
        assert cost(*states) - alike == pytest.approx(encoder.STATES_LOSS * 0.25**2 / spread, rel=1e-3)


def test_only_the_first_teacher_is_imitated_and_only_where_that_is_asked_for() -> None:
    words, present = torch.randn(2, 5, 32), torch.ones(2, 5)
    teachers = [Network(EXITS, rounds=False).eval() for _ in range(2)]
    assert opinion_of(teachers, words, present).states == ()
    with torch.no_grad():
        first = teachers[0](words, present)
    for count in (1, len(EXITS)):
        imitated = opinion_of(teachers, words, present, count).states
        for ours, theirs in zip(imitated, first[:count], strict=True):
            assert torch.allclose(ours.float(), theirs.states, atol=0.1)


@pytest.mark.parametrize(
    ("sizes", "learning_layers"),
    [([(1, 24), (2, 64), (2, 40)], 3), ([(1, 24), (2, 40), (2, 64)], 2)],
)
def test_the_slimmer_layers_of_the_encoder_that_ships_imitate_it_and_those_behind_them_stay(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[tuple[int, int]],
    learning_layers: int,
) -> None:
    asked: list[Any] = []
    plan = Plan(EXITS, STAGES[1:], goes_on=True, ships=EXITS, slims=tuple(Shape(*size) for size in sizes))
    whole = Network(EXITS)
    monkeypatch.setattr(course, "Pretrained", SimpleNamespace(load=object))
    monkeypatch.setattr(course, "_shipped_vocabulary", lambda pretrained: None)
    monkeypatch.setattr(course, "word_table", lambda *_: torch.randn(40, 32))
    monkeypatch.setattr(course.shipped, "read", lambda *_: copy.deepcopy(whole))
    replace(shelf(held_out=8), known=np.arange(40) < 30).save(tmp_path / course.SHELF_FILE)
    learn = course.learn

    def learning(begun: Network, *given: Any, imitates: bool) -> Network:
        asked.append((given[-1], imitates))
        learned.append(learn(begun, *given, imitates=imitates))
        return learned[-1]

    learned: list[Network] = []
    monkeypatch.setattr(course, "learn", learning)
    taught = course.teach([], 1, tmp_path, lambda message: None, plan)
    (((teacher,), imitates),) = asked
    assert imitates
    (front,) = learned
    assert len(front.layers) == len(front.heads) == learning_layers
    for place in range(len(EXITS)):
        kept = front if place < learning_layers else whole
        for ours, theirs in ((taught.network.layers, kept.layers), (taught.network.heads, kept.heads)):
            assert all(
                torch.equal(*each) for each in zip(ours[place].parameters(), theirs[place].parameters(), strict=True)
            )
    assert all(torch.equal(*each) for each in zip(teacher.parameters(), whole.parameters(), strict=True))
    assert [(layer.heads, layer.narrow.in_features) for layer in taught.network.layers] == sizes
    monkeypatch.setattr(course.shipped, "read", lambda *_: copy.deepcopy(taught.network))
    with pytest.raises(VigilError, match="as slim already"):
        course.teach([], 1, tmp_path, lambda message: None, plan)


def test_teachers_are_of_one_mean() -> None:
    words, present = torch.randn(2, 5, 32), torch.ones(2, 5)
    teachers = [Network((2,), rounds=False).eval() for _ in range(2)]
    opinion = opinion_of(teachers, words, present)
    alone = [opinion_of([teacher], words, present) for teacher in teachers]
    assert opinion.attack.tolist() == pytest.approx(((alone[0].attack + alone[1].attack) / 2).tolist(), abs=1e-6)
    assert opinion.parts.shape == (2, 5)


def test_a_course_with_teachers_trains_each_by_itself_and_the_encoder_with_all_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "pretrained_network", lambda pretrained, exits, rounds: Network(exits, rounds=rounds))
    plan = Plan(EXITS, STAGES[1:], teachers=2, teaching=STAGES[1:])
    told: list[str] = []
    words = torch.randn(40, 32)
    common: Any = (None, words, shelf(held_out=8), 1, tmp_path, told.append)
    teachers = [course.teacher_of(plan, number, *common) for number in range(2)]
    assert not any(torch.equal(*each) for each in zip(*(each.layers.parameters() for each in teachers), strict=True))
    assert not any(each.rounds for teacher in teachers for each in teacher.modules() if isinstance(each, Linear))
    assert {path.name for path in tmp_path.iterdir()} == {"teacher_0", "teacher_1"}
    assert told[0].startswith("teacher 1 of 2: ")
    begun = course.begin(plan, common[0], teachers)
    first = zip(begun.state_dict().values(), teachers[0].state_dict().values(), strict=True)
    assert all(torch.equal(*each) for each in first)
    ended = course.learn(begun, *common[1:], plan.stages, teachers)
    assert all(each.rounds for each in ended.modules() if isinstance(each, Linear))


def test_an_earlier_model_is_a_teacher_of_one_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BASE.items():
        monkeypatch.setattr(network, name, value)
    shared = {"tokenizer.json.gz", "words.npy"}
    for file in (*served.ENCODER_FILES[:2], *shared):
        (tmp_path / file).symlink_to(MODELS_DIR / file)
    elder = course.elder(tmp_path)
    assert elder.exits == course.EXITS[:2]
    whole = shipped.read(MODELS_DIR, course.EXITS, 0.0).state_dict()
    assert all(torch.equal(values, whole[name]) for name, values in elder.state_dict().items())
    with pytest.raises(VigilError, match="begins anew"):
        course.teach([], 1, tmp_path, print, course.COURSES["short"], [tmp_path])
    (tmp_path / served.ENCODER_FILES[0]).unlink()
    (tmp_path / served.ENCODER_FILES[1]).unlink()
    with pytest.raises(ModelUnavailable, match="holds no encoder"):
        course.elder(tmp_path)
    table = SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=object))  # A vocabulary that is like no other.
    monkeypatch.setattr(course, "SubWordTable", SimpleNamespace(load=lambda folder: table))
    with pytest.raises(VigilError, match="another vocabulary"):
        course.elder(tmp_path)


def test_going_on_again_is_taught_by_itself_and_the_other_teachers_and_ends_midway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def learn(begun: Network, *given: Any) -> Network:
        asked.append(given)
        with torch.no_grad():
            for parameter in begun.parameters():
                parameter += 2
        return begun

    monkeypatch.setattr(course, "learn", learn)
    network, teachers = Network(EXITS), [Network(EXITS) for _ in range(3)]
    before = copy.deepcopy(network)
    ended = course.again(network, teachers, torch.randn(40, 32), shelf(), 7, tmp_path, print, STAGES[1:])
    for ours, theirs in zip(ended.parameters(), before.parameters(), strict=True):
        assert torch.allclose(ours, theirs + 1, atol=1e-5)
    ((_, _, seed, folder, _, stages, taught_by),) = asked
    assert (seed, folder, stages) == (8, tmp_path / "again", STAGES[1:])
    assert taught_by == (network, *teachers[1:])


def test_a_network_that_is_cut_judges_as_the_whole_one_does_after_the_same_layers() -> None:
    whole = Network(EXITS).eval()
    cut = whole.cut((1, 2)).eval()
    words, present = torch.randn(2, 5, 32), torch.ones(2, 5)
    assert len(cut.layers) == 2
    for ours, theirs in zip(cut(words, present), whole(words, present)[:2], strict=True):
        assert torch.equal(ours.logits, theirs.logits)
    only = whole.cut((2, 3)).eval()(words, present)
    assert torch.equal(only[0].logits, whole(words, present)[1].logits)


def test_a_stage_may_keep_less_of_the_weights_before(tmp_path: Path) -> None:
    kept = []
    for average in (0.0, encoder.AVERAGE):
        folder = tmp_path / str(average)
        trained = trainer(folder)
        trained.run([replace(STAGES[1], average=average)], lambda title: None)
        kept.append(trained)
    last, mean = kept
    pairs = zip(last.average.layers.parameters(), last.network.layers.parameters(), strict=True)
    assert all(torch.equal(*each) for each in pairs)
    pairs = zip(mean.average.layers.parameters(), mean.network.layers.parameters(), strict=True)
    assert not all(torch.equal(*each) for each in pairs)


def layer_and_states() -> tuple[Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    return Linear(32, 8), torch.randn(2, 6, 32), torch.ones(2, 6, 1)


def test_a_layer_computes_with_the_integers_that_it_ships_with() -> None:
    layer, states, present = layer_and_states()
    steps = weight_steps(layer.weight)
    integers = (layer.weight / steps).round()
    assert integers.abs().amax(dim=1).tolist() == [STEPS] * 8
    for number, mapped in enumerate(layer.eval()(states, present)):
        low, high = states[number].min(), states[number].max()
        step = (high - low) / LEVELS
        seen = ((states[number] / step).round() - (low / step).round()).clamp(0, LEVELS) + (low / step).round()
        assert torch.allclose(mapped, (seen * step) @ (integers * steps).T + layer.bias, atol=1e-5)


def test_training_always_rounds_the_weights_and_now_and_then_what_comes_in() -> None:
    layer, states, present = layer_and_states()
    rounded = layer.eval()(states, present)
    steps = weight_steps(layer.weight)
    exact = states @ ((layer.weight / steps).round() * steps).T + layer.bias
    layer.train()
    found = [layer(states, present) for _ in range(60)]
    of_both = [torch.equal(each, rounded) for each in found]
    assert 0.15 < np.mean(of_both) < 0.6
    assert all(both or torch.allclose(each, exact, atol=1e-5) for each, both in zip(found, of_both, strict=True))


def test_what_stands_behind_a_texts_end_does_not_make_its_steps_coarser() -> None:
    layer, states, present = layer_and_states()
    longer = torch.cat((states, torch.full((2, 2, 32), 900.0)), dim=1)
    there = torch.cat((present, torch.zeros(2, 2, 1)), dim=1)
    assert torch.allclose(layer.eval()(longer, there)[:, :6], layer(states, present), atol=1e-5)


def test_gradients_pass_as_if_nothing_had_been_rounded() -> None:
    layer, states, present = layer_and_states()
    states.requires_grad_()
    layer.eval()(states, present).sum().backward()
    assert states.grad is not None
    assert layer.weight.grad is not None
    steps = weight_steps(layer.weight)
    assert torch.allclose(states.grad, ((layer.weight / steps).round() * steps).sum(dim=0).expand(2, 6, 32), atol=1e-5)
    assert torch.allclose(layer.weight.grad, states.sum(dim=(0, 1)).expand(8, 32), atol=0.5)
    assert (layer.weight.grad != 0).all()
