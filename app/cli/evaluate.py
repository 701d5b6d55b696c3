"""`vigil evaluate`: what detection finds and what it wrongly accuses, on labelled texts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.cli.command import examples, failed, settings_of_service
from app.cli.render import Figure, emit, note, progress, say, table
from app.contracts import Mode, Source
from app.errors import ConfigurationError, InvalidRequest, VigilError

if TYPE_CHECKING:
    from app.evaluation.disguises import ObfuscationFigures
    from app.evaluation.figures import By, Evaluation
    from app.evaluation.judge import Judge, Setup
    from app.evaluation.rows import Row
    from app.evaluation.tables import Grid

EXAMPLES = examples(
    "vigil evaluate data/detection/*.jsonl",
    "vigil evaluate --mode fast --limit 200 --by kind prompts.jsonl",
    "vigil evaluate --compare --report evaluation prompts.jsonl",
    "vigil evaluate --obfuscate all prompts.jsonl",
    "vigil evaluate --documents handbooks",
    "",
    'A line is a JSON object with "text" and "label" (attack or benign); "source" (input, output or tool), "kind" and',
    '"lang" may be there. No service has to run: rules and models are loaded here. No text is shown.',
)
ALL: Final = "all"
STANDARD_OUTPUT: Final = "-"


def evaluate(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Labelled texts, as JSON Lines.", show_default=False)
    ] = None,
    mode: Annotated[Mode, typer.Option("--mode", help="By the light models, or by the encoder.")] = Mode.FULL,
    policy: Annotated[
        str | None, typer.Option("--policy", help="Name of a policy; the service's default else.")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Every policy, the strictest first.")] = False,
    source: Annotated[
        Source | None, typer.Option("--source", help="Judge all texts as this; a line's own field else.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="kind|lang|kind,lang", help="Also figures of each kind or language.")
    ] = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            "--documents",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Harmless documents (text, HTML, manual pages), a folder for each collection: passages of them too.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, metavar="N", help="Most rows of each file or collection; the same ones each time."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, metavar="N", help="Processes; one for each core else.")
    ] = None,
    obfuscate: Annotated[
        str | None,
        typer.Option(
            "--obfuscate",
            metavar="NAME|all",
            help="200 attacks and 200 harmless texts of the files, plain and in this disguise.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write report.md and its plots into this folder.")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option("--models", metavar="DIR", exists=True, file_okay=False, help="Models other than the shipped."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-j", "--json", metavar="OUT", help="Write JSON to this file too; '-' prints it instead."),
    ] = None,
) -> None:
    """Measure detection on labelled texts."""
    if policy is not None and compare:
        raise typer.BadParameter("--policy and --compare exclude each other")
    if not files and documents is None:
        raise typer.BadParameter("name a file of labelled texts, or --documents")
    parted = _parted(by)
    names = _disguises(obfuscate)
    if names and (parted or report is not None):
        raise typer.BadParameter("--obfuscate excludes --by and --report")
    try:
        if report is not None:
            from app.evaluation.report import require_matplotlib

            require_matplotlib()
        setup, rows = _setup(mode, policy, models, compare=compare), _rows(files or (), documents, source, limit)
        judge = setup.judge()
        if names:
            _obfuscated(rows, names, judge, setup, jobs, output)
        else:
            _evaluated(rows, parted, judge, setup, jobs, output, report)
    except VigilError as error:
        raise failed(error) from None


def _setup(mode: Mode, policy: str | None, models: Path | None, *, compare: bool) -> Setup:
    from app.arbiter.book import load_policies
    from app.evaluation.judge import Setup
    from app.subwords import MODELS_DIR

    settings = settings_of_service()
    book = load_policies(settings.config_dir, settings.detection.default_policy)
    policies = sorted(book.policies.values(), key=lambda each: each.block_at) if compare else [book.get(policy)]
    return Setup(settings.config_dir, models or MODELS_DIR, tuple(policies), mode)


def _rows(files: Sequence[Path], documents: Path | None, source: Source | None, limit: int | None) -> list[Row]:
    from app.evaluation.rows import of_documents, read_files

    return read_files(files, source, limit) + ([] if documents is None else of_documents(documents, source, limit))


def _parted(by: str | None) -> tuple[By, ...]:
    """Read what rows are told apart by."""
    from app.evaluation.figures import By

    try:
        return tuple(dict.fromkeys(By(name.strip()) for name in by.split(","))) if by is not None else ()
    except ValueError:
        raise typer.BadParameter(f"--by takes {', '.join(By)} or both with a comma, not {by!r}") from None


def _disguises(name: str | None) -> tuple[str, ...]:
    """Return the disguises of a name."""
    from app.evaluation.obfuscate import TRANSFORMATIONS

    if name is None:
        return ()
    if name != ALL and name not in TRANSFORMATIONS:
        raise typer.BadParameter(f"--obfuscate takes {ALL} or one of {', '.join(TRANSFORMATIONS)}, not {name!r}")
    return tuple(TRANSFORMATIONS) if name == ALL else (name,)


def _evaluated(
    rows: list[Row],
    by: tuple[By, ...],
    judge: Judge,
    setup: Setup,
    jobs: int | None,
    output: str | None,
    report: Path | None,
) -> None:
    from app.evaluation.figures import Evaluation, PolicyFigures, Sample
    from app.evaluation.judge import Text, cores, judge_all

    with progress("Judging", len(rows)) as step:
        texts = [Text(row.text, row.source) for row in rows]
        judged = tuple(judge_all(judge, texts, setup, jobs or cores(), step))
    samples = tuple(Sample(tuple(rows), judged, number) for number in range(len(setup.policies)))
    told = [
        PolicyFigures.of(policy.name, policy.version, sample, by)
        for policy, sample in zip(setup.policies, samples, strict=True)
    ]
    evaluation = Evaluation(judge.detector.model_version, setup.mode, told)
    _tell(evaluation, output, lambda: _show(evaluation, by))
    _warn(sum(each.failed for each in judged), len(judged))
    if report is not None:
        from app.evaluation.report import Report

        for path in Report(evaluation, samples, by).write(report):
            note(f"wrote {path}")


def _obfuscated(
    rows: list[Row], names: tuple[str, ...], judge: Judge, setup: Setup, jobs: int | None, output: str | None
) -> None:
    from app.evaluation.disguises import PLAIN, Disguised, ObfuscationFigures, PolicyDisguises, chosen, disguised
    from app.evaluation.figures import Sample
    from app.evaluation.judge import cores, judge_all
    from app.evaluation.recovery import LONGEST, SHORTEST

    taken = chosen(rows)
    if not taken:
        raise InvalidRequest(f"no row has {SHORTEST} to {LONGEST} characters, which the obfuscation set takes")
    texts = [text for name in (PLAIN, *names) for text in disguised(taken, name)]
    with progress("Judging", len(texts)) as step:
        judged = judge_all(judge, texts, setup, jobs or cores(), step)

    def sample(place: int, policy: int) -> Sample:
        return Sample(tuple(taken), tuple(judged[place * len(taken) : (place + 1) * len(taken)]), policy)

    told = [
        PolicyDisguises(
            policy.name,
            policy.version,
            [Disguised.of(name, sample(at, number), sample(0, number)) for at, name in enumerate((PLAIN, *names))],
        )
        for number, policy in enumerate(setup.policies)
    ]
    attacks = sum(row.attack for row in taken)
    found = ObfuscationFigures(judge.detector.model_version, setup.mode, attacks, len(taken) - attacks, told)
    _tell(found, output, lambda: _show_disguises(found))
    _warn(sum(each.failed for each in judged), len(judged))


def _tell(found: Evaluation | ObfuscationFigures, output: str | None, show: Callable[[], None]) -> None:
    """Print what was found, and write it as JSON where that was asked for.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    if output == STANDARD_OUTPUT:
        emit(found)
        return
    show()
    if output is not None:
        from pydantic_core import to_jsonable_python

        try:
            Path(output).write_text(json.dumps(to_jsonable_python(found), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{output}: cannot be written: {type(error).__name__}") from None


def _show(evaluation: Evaluation, by: tuple[By, ...]) -> None:
    from app.evaluation.tables import files_table, parts_table, totals_table

    say(f"model {evaluation.model_version}, {evaluation.mode} mode; in brackets: Wilson intervals of 95 %")
    grids: list[tuple[str, Grid]] = [("Files", files_table(evaluation))]
    grids += [("Parts", parts_table(evaluation, by))] if by else []
    for title, grid in (*grids, ("In all", totals_table(evaluation))):
        _print(title, grid)


def _show_disguises(found: ObfuscationFigures) -> None:
    from app.evaluation.tables import disguises_table

    say(
        f"model {found.model_version}, {found.mode} mode; {found.attacks} attacks and {found.benign} harmless texts; "
        "in brackets: Wilson intervals of 95 %"
    )
    _print("Disguises", disguises_table(found))


def _print(title: str, grid: Grid) -> None:
    say()
    cells: list[list[Any]] = [
        [cell if place < grid.names else Figure(cell) for place, cell in enumerate(row)] for row in grid.rows
    ]
    table(grid.columns, cells, title=title)


def _warn(failed: int, texts: int) -> None:
    if failed:
        note(f"vigil: a branch failed for {failed} of {texts} texts: these figures are not those of a healthy guard")
