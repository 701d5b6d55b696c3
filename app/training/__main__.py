"""`python -m app.training`: trains the n-gram branches and writes their model files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.training.corpus import load
from app.training.run import train


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.training", description=__doc__)
    parser.add_argument("--own", type=Path, default=Path("data/detection"), help="the project's own labelled text")
    parser.add_argument("--personal", type=Path, default=Path("data/pii"), help="own harmless text with personal data")
    parser.add_argument("--third-party", type=Path, help="third-party labelled text; the own text alone is enough")
    parser.add_argument("--out", type=Path, default=Path("app/detection/models"), help="where the model files go")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    train(
        load(arguments.own, arguments.personal, arguments.third_party),
        arguments.out,
        arguments.seed,
        lambda message: print(message, file=sys.stderr, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    main()
