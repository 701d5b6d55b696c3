"""Shows that the documentation names only what exists: settings, metrics, subjects, commands, files, tests, drills."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from app.cli.command import HELP
from app.cli.commands import vigil
from app.contracts import OWASP, Category
from app.events import schema
from app.settings import Settings
from app.telemetry import metrics
from app.telemetry.tracing import ATTRIBUTES
from app.topology import BUCKETS, CONSUMERS, STREAMS, UNROUTED, Subject, chunks_subject, dlq_subject, matches

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = re.compile(r"```.*?\n(?P<block>.*?)```|(?P<ticks>`+)(?P<span>[^`]+?)(?P=ticks)", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
DRILL_SENTENCE = re.compile(r"Drills? (?P<names>\"[^.]*\")\.")

READ_ELSEWHERE = {"VIGIL_CONFIG", "VIGIL_URL", "VIGIL_API_KEY", "VIGIL_GUARD_API_KEY"}
"""Read by app/settings.py beside its tree, by `vigil mcp`, and by LiteLLM."""
NOT_SHIPPED = {"config/vigil.yaml"}
"""A file that an operator may add."""
LOGGERS = {
    name
    for path in (ROOT / "app").rglob("*.py")
    for name in re.findall(r"getLogger\(\"(vigil[\w.]*)\"\)", path.read_text())
}
NO_SUBJECTS = {f"vigil.{schema.TABLE}", f"vigil.{schema.VIEW}", "vigil.yaml", *ATTRIBUTES, *LOGGERS}
"""ClickHouse's table and view, the config file, attributes of spans and loggers are written like subjects."""


NO_METRICS = {"vigil_guard"}
"""The client's package is written like a metric."""


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_of(page: Path) -> list[str]:
    """Return everything that is written as code, a block at a time."""
    return [found["block"] or found["span"] for found in CODE.finditer(text_of(page))]


def named(page: Path, pattern: str) -> set[str]:
    return {found for code in code_of(page) for found in re.findall(pattern, code)}


def setting_names(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{prefix}{name}__".upper())
        yield f"{prefix}{name}".upper()


def metric_names() -> set[str]:
    """Return every sample name, also of metrics that nothing has been counted in yet."""
    suffixes = {"counter": ("_total",), "histogram": ("", "_bucket", "_count", "_sum")}
    return {
        family.name + suffix for family in metrics.REGISTRY.collect() for suffix in suffixes.get(family.type, ("",))
    }


SETTINGS = {
    "NATS_URL" if name == "VIGIL_NATS_URL" else "CLICKHOUSE_URL" if name == "VIGIL_CLICKHOUSE_URL" else name
    for name in setting_names(Settings, "VIGIL_")
}
STORES = {stream.name for stream in STREAMS} | {bucket.name for bucket in BUCKETS}
COMPOSE = set(re.findall(r"^#?(VIGIL_[A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
DURABLES = {spec.durable for spec in CONSUMERS}
SUBJECTS = {*Subject, chunks_subject("token"), *(dlq_subject(name) for name in (*DURABLES, UNROUTED))}
METRICS = metric_names()
COMMANDS = typer.main.get_command(vigil)


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_every_setting_stream_and_bucket_exists(page: Path) -> None:
    known = SETTINGS | STORES | COMPOSE | READ_ELSEWHERE
    assert named(page, r"\bVIGIL_[A-Z0-9_]*[A-Z0-9]\b") - known == set()
    assert named(page, r"\bKV_[A-Z_]+\b") <= {f"KV_{bucket.name}" for bucket in BUCKETS}


def test_every_metric_exists(page: Path) -> None:
    assert named(page, r"(?<![\w.-])vigil_[a-z_]+\b") - METRICS - NO_METRICS == set()


def test_every_subject_is_published_or_stored(page: Path) -> None:
    for written in named(page, r"(?<![\w/-])vigil\.[\w.*<>-]*[\w*>]") - NO_SUBJECTS:
        pattern = re.sub(r"<\w+>", "*", written)
        assert any(matches(subject, pattern) for subject in SUBJECTS), written


def test_every_consumer_exists(page: Path) -> None:
    assert named(page, r"(?<![\w-])[a-z]+-worker\b") - DURABLES == set()


def test_every_command_and_option_exists(page: Path) -> None:
    for line in command_lines(page):
        assert fault_of(line) is None, f"{line}: {fault_of(line)}"


def command_lines(page: Path) -> set[str]:
    """Return what stands after `vigil`, up to the shell's next command or comment."""
    lines = {line.strip().removeprefix("$ ") for code in code_of(page) for line in code.splitlines()}
    own = {re.sub(r"^vigil python -m app\.cli ([^)]*)\)", r"vigil \1", line.removeprefix("bin/")) for line in lines}
    return {re.split(r"\s[|;>&]|\s#|;", line)[0].removeprefix("vigil ") for line in own if line.startswith("vigil ")}


def test_the_command_in_a_container_signs_in_as_the_user_it_is_made_for(page: Path) -> None:
    """The service's own user, whose name and password are in the container, may not do what the command does."""
    for code in code_of(page):
        for line in code.replace("\\\n", " ").splitlines():
            if "docker compose exec" in line and "app.cli" in line:
                assert "-e VIGIL_NATS__USER=operator" in line
                assert '-e VIGIL_NATS__PASSWORD="$VIGIL_NATS_OPERATOR_PASSWORD"' in line


def fault_of(line: str) -> str | None:
    """Return what of a command line the vigil command does not have."""
    command, words = COMMANDS, shlex.split(line)
    while words:
        word = words.pop(0)
        if word == "--":
            return None
        if word.startswith("-") and len(word) > 1:
            option = next((each for each in command.params if word.partition("=")[0] in each.opts), None)
            if option is None and word not in HELP["help_option_names"]:
                return f"no option {word}"
            if option is not None and not getattr(option, "is_flag", False) and "=" not in word:
                words[:1] = []
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return None if word.isupper() else f"no command {word}"
            command = command.commands[word]
    return None


def test_every_link_points_to_a_file_and_a_heading(page: Path) -> None:
    for target in (found["target"] for found in LINK.finditer(CODE.sub("", text_of(page)))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub(lambda found: found["span"] or "", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_file_test_and_drill_exists(page: Path) -> None:
    for path in named(page, r"(?<![\w./-])(?:app|config|docs|tests)/[\w/.-]*[\w/]") - NOT_SHIPPED:
        assert (ROOT / path).exists(), path
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    defined = {name for source in sources for name in re.findall(r"def (test_\w+)", source)}
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    assert named(page, r"\btest_\w+") - defined - files == set()
    drills = set(re.findall(r"Entry\(\"([^\"]+)\"", (ROOT / "tests" / "drills" / "catalogue.py").read_text()))
    for sentence in DRILL_SENTENCE.finditer(text_of(page)):
        assert set(re.findall(r"\"([^\"]+)\"", sentence["names"])) <= drills


@pytest.mark.parametrize(
    "line",
    ["dlq resend 17", "streams info --bytes VIGIL_DLQ", "dlq ls --older 1h", "doctor --interval 10s --loud"],
)
def test_what_does_not_exist_is_noticed(line: str) -> None:
    assert fault_of(line) is not None


def test_every_category_stands_with_its_owasp_risk() -> None:
    table = dict(
        re.findall(
            r"^\| `([a-z_]+)` \| (LLM\d\d:2025 [^|]+?|none) \|$", text_of(ROOT / "docs/detection.md"), re.MULTILINE
        )
    )
    assert table == {category: OWASP.get(category, "none") for category in Category}
