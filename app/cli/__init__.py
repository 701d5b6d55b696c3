"""The `vigil` command: what operators see and do, with the service's own settings."""

from __future__ import annotations


def main() -> None:
    """Run the command line; importing this package alone loads nothing of it."""
    from app.cli.commands import vigil

    vigil(prog_name="vigil")
