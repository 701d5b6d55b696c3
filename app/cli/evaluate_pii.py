"""`vigil evaluate-pii`: how much personal data of marked texts the recognizers find, without any service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.command import JsonOption, examples, failed
from app.cli.render import Figure, emit, note, table
from app.errors import VigilError

if TYPE_CHECKING:
    from app.pii.evaluation import Evaluation

EXAMPLES = examples(
    "vigil evaluate-pii data/pii/polish.jsonl",
    "vigil evaluate-pii data/pii/english.jsonl -j",
    "vigil evaluate-pii --config-dir ./config own.jsonl",
    "vigil evaluate-pii --documents handbooks  # how often it finds something in texts that name nobody",
    "",
    'A line: {"text": "...", "spans": [{"start": 0, "end": 4, "entity": "PERSON"}]}, in code points, end exclusive.',
)


def evaluate_pii(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.jsonl", exists=True, dir_okay=False, show_default=False)
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            "--documents",
            exists=True,
            file_okay=False,
            metavar="DIR",
            help="Documents as they are, a folder for each collection: counts what is found in passages of them.",
        ),
    ] = None,
    config_dir: Annotated[
        Path | None,
        typer.Option("--config-dir", exists=True, file_okay=False, help="Folder of pii.yaml; the shipped one else."),
    ] = None,
    use_language: Annotated[
        bool, typer.Option("--use-language", help="Take each text's language from its `lang`; guessed else.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure precision, recall and F2 of the recognizers on marked texts; shows no text and no value."""
    from app.pii.engine import PiiEngine
    from app.pii.evaluation import evaluate, read_marked_texts

    if documents is not None and file is None:
        _sight(documents, config_dir, as_json=as_json)
        return
    if file is None or documents is not None:
        raise typer.BadParameter("name a file of marked texts or --documents, one of the two")
    try:
        texts = read_marked_texts(file)
        measured = evaluate(PiiEngine.load(config_dir=config_dir), texts, use_language=use_language)
    except VigilError as error:
        raise failed(error) from None
    _show(measured, as_json=as_json)


def _show(measured: Evaluation, *, as_json: bool) -> None:
    if as_json:
        emit(
            {
                "texts": measured.texts,
                "mean_ms": measured.mean_ms,
                "median_ms": measured.median_ms,
                "p95_ms": measured.p95_ms,
                "entities": [
                    {
                        "entity": name,
                        "looked_for": name not in measured.not_looked_for,
                        "marked": each.marked,
                        "found": each.found,
                        "flagged": each.flagged,
                        "right": each.right,
                        "precision": each.precision,
                        "recall": each.recall,
                        "f2": each.f2,
                    }
                    for name, each in measured.entities.items()
                ],
            }
        )
        return
    rows = [
        (name, each.marked, each.found, each.flagged, each.right, *map(_part, (each.precision, each.recall, each.f2)))
        for name, each in measured.entities.items()
    ]
    table(("Entity", "Marked", "Found", "Flagged", "Right", "Precision", "Recall", "F2"), rows)
    if measured.not_looked_for:
        note(f"Not looked for, and missed in ANY: {', '.join(sorted(measured.not_looked_for))}.")
    note(
        f"{measured.texts:,} texts; a text takes {measured.mean_ms:.2f} ms in the mean, {measured.median_ms:.2f} ms "
        f"in the median, {measured.p95_ms:.2f} ms at the 95th percentile."
    )


def _sight(documents: Path, config_dir: Path | None, *, as_json: bool) -> None:
    from app.evaluation.rows import of_documents
    from app.pii.engine import PiiEngine
    from app.pii.evaluation import sight

    try:
        seen = sight(PiiEngine.load(config_dir=config_dir), [row.text for row in of_documents(documents)])
    except VigilError as error:
        raise failed(error) from None
    if as_json:
        emit(seen)
        return
    rows = [(each.entity, each.texts, _part(each.texts / seen.texts), each.values) for each in seen.entities]
    table(("Entity", "Passages", "Share", "Values"), rows)
    note(f"{seen.texts:,} passages.")


def _part(value: float | None) -> Figure:
    return Figure("-" if value is None else f"{value:.3f}")
