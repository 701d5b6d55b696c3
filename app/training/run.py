"""The whole training: the encoder, what it teaches the light models, the calibration of all, and the model files."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from app.detection import classifier, semantic
from app.detection.encoder import EVERYTHING, NOTHING, READ_TO_THE_END, Encoder
from app.detection.evidence import METADATA_FILE
from app.detection.features import FEATURE_VERSION, extract, featurise
from app.detection.impression import Impression
from app.detection.normalise import prepare
from app.subwords import table_in
from app.training import calibration, exits, linear
from app.training.calibration import Fitted, Logits
from app.training.corpus import FAMILIES, MATERIAL, Row
from app.training.examples import reading_of
from app.training.windows import Windows, build, wording_of

if TYPE_CHECKING:
    from app.training import embedding

MODEL_VERSION: Final = "2026.11-e5-13"
TEACHER_SHARE: Final = 0.6
"""How much of the light models' target is the encoder's opinion; the rest is the label."""
THIRD_PARTY_CAP: Final = 250
"""Third-party rows of each source and label that the light models learn from and the figures are taken on."""
OWN_WEIGHT: Final = 3.0
THREADS: Final = 2

Progress = Callable[[str], None]


def train(
    rows: Sequence[Row],
    out: Path,
    work: Path,
    seed: int,
    progress: Progress,
    course_name: str | None = None,
    elders: Sequence[Path] = (),
) -> None:
    """Train everything and write it into `out`; `work` keeps the state, so that a stopped run goes on where it was.

    `course_name` is one of `app.training.course.COURSES`; without one, where there is a GPU the long one. `elders` are
    folders of earlier models that teach an encoder that goes on.

    Rows marked as held out fit the calibration and nothing else, so figures on them are those of unseen text but for
    the four numbers of each branch's calibration.
    """
    from app.training import course, export

    started = time.monotonic()

    def timed(message: str) -> None:
        progress(f"[{time.monotonic() - started:5.0f} s] {message}")

    taught = course.teach(rows, seed, work, timed, course.COURSES[course_name or course.usual()], elders)
    lines = exits.lines(taught.held_out)
    scales = [(line.factor, line.summand) for line in lines]
    export.write(taught.network, taught.pretrained, taught.vocabulary, out, (*scales, (1.0, 0.0)))
    texts = taken(rows)
    timed(f"the encoder judges {len(texts)} texts, {', then '.join(f'{line.share:.0%}' for line in lines)} read on")
    encoder = Encoder.load(out, tuple(line.doubtful for line in lines))
    finish(texts, judge_all(encoder, texts), judge_at_exits(encoder, texts), out, seed, timed)
    timed(f"written to {out}")


@dataclass(frozen=True, slots=True)
class Teacher:
    """What the encoder makes of each text that it judged, window by window."""

    attack: Logits
    margins: Logits
    """By how much attack families outweigh harmless ones."""


def taken(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the light models learn from or that are measured on."""
    kept: Counter[tuple[str, bool]] = Counter()
    chosen = []
    for row in rows:
        if row.file in MATERIAL:
            continue
        kept[row.source, row.attack] += 1
        if row.own or kept[row.source, row.attack] <= THIRD_PARTY_CAP:
            chosen.append(row)
    return chosen


def judge_all(encoder: Encoder, rows: Sequence[Row]) -> Teacher:
    """Judge texts whole, with the encoder as it ships."""
    is_attack = np.array([family.is_attack for family in FAMILIES])

    def judge(row: Row) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        sub_words = encoder.read(reading_of(row.text))
        windows = encoder.judge(sub_words, sub_words.windows)
        families = np.array([window.family_logits for window in windows]).reshape(-1, len(FAMILIES))
        margins = np.logaddexp.reduce(families[:, is_attack], axis=1) - np.logaddexp.reduce(
            families[:, ~is_attack], axis=1
        )
        return np.array([window.logit for window in windows], np.float32), margins.astype(np.float32)

    with ThreadPoolExecutor(THREADS) as threads:
        judged = list(threads.map(judge, rows, chunksize=16))
    return Teacher([attack for attack, _ in judged], [margins for _, margins in judged])


def judge_at_exits(encoder: Encoder, rows: Sequence[Row]) -> list[Teacher]:
    """Return what each exit of the encoder makes of the texts that no weight has seen, in their order; of a long text
    as far as the service reads it beyond the first."""
    unseen = [row for row in rows if _is_unseen(row)]
    count = len(READ_TO_THE_END)
    bounds = [(EVERYTHING,) * number + (NOTHING,) * (count - number) for number in range(count + 1)]
    return [judge_all(replace(encoder, doubtful=each), unseen) for each in bounds]


def _is_unseen(row: Row) -> bool:
    return row.own and row.held_out


def finish(
    rows: Sequence[Row], teacher: Teacher, at_exits: Sequence[Teacher], out: Path, seed: int, progress: Progress
) -> None:
    """Teach the light models, calibrate all four, and write them with their metadata.

    The teacher's lists are about the rows, in their order, and those of `at_exits` about the own ones that are held
    out.
    """
    from app.training import embedding  # It needs torch.

    attack = np.array([row.attack for row in rows])
    fits = np.array([_is_unseen(row) for row in rows])
    learns = np.array([not row.held_out for row in rows])
    alone = calibration.fit(_of(teacher.attack, fits), attack[fits])
    opinion = calibration.probabilities(teacher.attack, alone.calibration)
    target = TEACHER_SHARE * opinion + (1 - TEACHER_SHARE) * attack
    weight = np.array([OWN_WEIGHT if row.own else 1.0 for row in rows])
    wordings = [extract(wording_of(row)) for row in rows]
    windows = build(wordings)
    light = linear.fit(windows, target, weight, learns, progress)
    families = [row.family for row in rows]
    table = table_in(out)
    rarity = embedding.rarity_of([wordings[place] for place in np.flatnonzero(learns)], table)
    cut = embedding.inputs_of(wordings, table)
    meant = embedding.fit(cut, table, rarity, families, target, weight * learns, seed, progress)

    def calibrate(logits: Logits) -> Fitted:
        return calibration.fit(_of(logits, fits), attack[fits], calibration.LIGHT_FALSE_POSITIVE_RATE)

    fitted = {
        "classifier": calibrate(_by_text(windows, light.logits(windows))),
        "semantic": calibrate(meant.logits(cut)),
    }
    _write_light(out, light, meant, rarity)
    metadata: dict[str, Any] = {
        "model_version": MODEL_VERSION,
        "feature_version": FEATURE_VERSION,
        "seed": seed,
        "classifier": _described(fitted["classifier"]),
        "semantic": _described(fitted["semantic"])
        | {
            "sharpness": embedding.SHARPNESS,
            "families": [str(family) for family in embedding.FAMILIES for _ in range(embedding.PROTOTYPES)],
        },
    }
    _write_metadata(out, metadata)
    described = describe_encoder(out, [row for row in rows if _is_unseen(row)], at_exits, progress)
    described["learned_from"] = sorted({row.file for row in rows if row.own})
    _write_metadata(out, metadata | {"encoder": described})


def describe_encoder(out: Path, rows: Sequence[Row], at_exits: Sequence[Teacher], progress: Progress) -> dict[str, Any]:
    """Fit what the encoder's branches make of its logits and of the light models in `out`; return it as metadata.

    `rows` are those that `at_exits` is about.
    """
    worded = classifier.Classifier.load(out)
    lights = (worded, semantic.Semantic.load(out, worded.window_logits))
    impressions = [Impression.of(featurise(prepare(row.text)), lights) for row in rows]
    attack = np.array([row.attack for row in rows])
    logits = [judged.attack for judged in at_exits]
    found = exits.fit(logits, impressions)
    progress(f"of the windows {', of these '.join(f'{each.share:.0%}' for each in found)} are read on")

    def calibrate(values: Sequence[Logits]) -> Fitted:
        as_read = exits.as_judged(logits, values, found, impressions)
        return calibration.fit(as_read, attack, impressions=impressions)

    judged = calibrate(logits)
    compared = calibrate([each.margins for each in at_exits])
    return {
        "families": [str(family) for family in FAMILIES],
        "classifier_calibration": asdict(judged.calibration),
        "classifier_share": asdict(judged.share),
        "semantic_calibration": asdict(compared.calibration),
        "semantic_share": asdict(compared.share),
        "assumed_attack_share": judged.attack_share,
        "exits": [asdict(each.exit) for each in found],
    }


def _write_metadata(out: Path, metadata: dict[str, Any]) -> None:
    (out / METADATA_FILE).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _described(fitted: Fitted) -> dict[str, Any]:
    return {"calibration": asdict(fitted.calibration), "assumed_attack_share": fitted.attack_share}


def _of(values: Logits, chosen: NDArray[np.bool_]) -> Logits:
    return [values[place] for place in np.flatnonzero(chosen).tolist()]


def _by_text(windows: Windows, logits: NDArray[np.float32]) -> Logits:
    return np.split(logits, np.cumsum(windows.per_text())[:-1])


def _write_light(
    out: Path, light: linear.LinearModel, meant: embedding.EmbeddingModel, rarity: NDArray[np.float32]
) -> None:
    weights, scale = light.quantised()
    np.savez_compressed(
        out / classifier.MODEL_FILE, weights=weights, scale=np.float64(scale), bias=np.float64(light.bias)
    )
    arrays: dict[str, Any] = {"rarity": rarity.astype(np.float16), **meant.arrays()}
    np.savez_compressed(out / semantic.MODEL_FILE, **arrays)
