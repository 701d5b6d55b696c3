"""`vigil train`: every model, trained anew from labelled text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.cli.command import examples, failed
from app.errors import VigilError

EXAMPLES = examples(
    "vigil train",
    "vigil train --third-party texts/ --out models/ --seed 12",
    "vigil train --documents ours/             # and do not block what is written like these",
    "vigil train --only names                  # the tagger of names and places alone",
    "",
    "Hours on two cores, minutes on a GPU. A run that was stopped goes on where it was;",
    "another seed or other text wants another --work.",
    "It needs what `make train` installs.",
)


class Part(StrEnum):
    DETECTION = "detection"
    NAMES = "names"


class Course(StrEnum):
    LONG = "long"
    SHORT = "short"
    FURTHER = "further"
    EXITS = "exits"
    SLIM = "slim"


def train(
    own: Annotated[Path, typer.Option("--own", help="The project's own labelled text.")] = Path("data/detection"),
    personal: Annotated[Path, typer.Option("--personal", help="Own harmless text with personal data.")] = Path(
        "data/pii"
    ),
    third_party: Annotated[
        Path | None,
        typer.Option("--third-party", help="Third-party labelled text; the own text alone is enough."),
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            "--documents", help="Harmless documents that are not to be blocked, a folder for each collection."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the model files go.")] = Path("app/detection/models"),
    third_party_personal: Annotated[
        Path | None,
        typer.Option("--third-party-personal", help="Third-party text with marked personal data."),
    ] = None,
    names_out: Annotated[Path, typer.Option("--names-out", help="Where the tagger of names goes.")] = Path(
        "app/pii/models"
    ),
    only: Annotated[Part | None, typer.Option("--only", help="Train one part alone.")] = None,
    course: Annotated[
        Course | None,
        typer.Option(
            "--course",
            help="Of the encoder: long is for a GPU, short for two cores; further goes on from the shipped models, "
            "exits teaches their early judgements alone, and slim makes their layers slimmer.",
        ),
    ] = None,
    elder: Annotated[
        list[Path] | None,
        typer.Option(
            "--elder",
            help="A folder of earlier models that teach what they knew, in the course further; can be given more than "
            "once.",
        ),
    ] = None,
    work: Annotated[Path, typer.Option("--work", help="Where a run's state is kept; reused.")] = Path(".training"),
    seed: Annotated[int, typer.Option("--seed")] = 11,
) -> None:
    """Rebuild every model from labelled text."""
    from app.training.__main__ import start

    try:
        start(
            own,
            personal,
            third_party,
            out,
            work,
            seed,
            documents=documents,
            third_party_personal=third_party_personal,
            names_out=names_out,
            only=only,
            course=course,
            elders=elder,
        )
    except VigilError as error:
        raise failed(error) from None
