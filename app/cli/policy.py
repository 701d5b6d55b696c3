"""`vigil policy`: list, show, compare, apply and take back the policies of the running service."""

from __future__ import annotations

import json
import re
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli.audit import actor
from app.cli.command import (
    ForceOption,
    JsonOption,
    ServerOption,
    examples,
    group,
    opened,
    run,
    settings_of_service,
    text_of,
)
from app.cli.render import ago, emit, note, say, table
from app.contracts import POLICY_NAME_PATTERN
from app.errors import InvalidRequest, UnknownPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.arbiter.book import PolicyBook
    from app.arbiter.policy import Policy
    from app.messaging.policy_store import PolicyStore

commands = group("Policies: list, show, compare, apply, roll back, try in shadow.")

NAME: Final = re.compile(POLICY_NAME_PATTERN, re.ASCII)


def name_of(text: str) -> str:
    """Read the name of a policy: in the bucket's keys anything else could stand for others, as `*` does."""
    if not NAME.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no name of a policy: small letters, digits, '_' and '-'")
    return text


NameArgument = Annotated[str, typer.Argument(parser=name_of, metavar="NAME", help="Name of the policy.")]
FileArgument = Annotated[Path, typer.Argument(help="A policy as YAML or JSON; - reads standard input.")]
VersionOption = Annotated[int | None, typer.Option("--version", min=1, help="One of the kept versions.")]


@dataclass(frozen=True, slots=True)
class Desk:
    """What is applied to the running service, and the files of this configuration under it."""

    files: PolicyBook
    store: PolicyStore

    def file(self, name: str) -> Policy | None:
        return self.files.policies.get(name)

    async def in_force(self, name: str, version: int | None = None) -> Policy:
        if version is not None:
            return await self.store.version(name, version)
        policy = await self.store.applied(name) or self.file(name)
        if policy is None:
            raise UnknownPolicy(f"there is no policy {name}")
        return policy


@asynccontextmanager
async def desk(server: str | None) -> AsyncIterator[Desk]:
    from app.arbiter.book import load_policies
    from app.messaging.policy_store import PolicyStore

    settings = settings_of_service()
    files = load_policies(settings.config_dir, settings.detection.default_policy)
    async with opened(server) as admin:
        yield Desk(files, PolicyStore(admin.jetstream))


@commands.command("ls", epilog=examples("vigil policy ls", "vigil policy ls -j"))
def ls(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List policies: where each comes from, its version, the default, what is tried beside it."""

    async def work() -> None:
        from app.arbiter.live import LivePolicies
        from app.policy_checks import check_policy

        async with desk(server) as open_desk:
            live = LivePolicies(open_desk.files, check_policy)
            live.replay(await open_desk.store.changes())
        shadows = live.shadows
        rows = [
            (
                name,
                policy.version,
                "applied" if live.is_applied(name) else "file",
                "yes" if name == live.default else "",
                shadows.get(name, ""),
                policy.description,
            )
            for name, policy in sorted(live.policies.items())
        ]
        if as_json:
            names = ("name", "version", "origin", "default", "shadow", "description")
            emit([dict(zip(names, row, strict=True)) for row in rows])
        else:
            table(("Policy", "Version", "From", "Default", "Shadow", "Description"), rows)
        for refusal in live.refusals:
            note(f"Refused: {refusal.name}: {refusal.reason}")

    run(work())


@commands.command("show", epilog=examples("vigil policy show balanced", "vigil policy show balanced --version 3"))
def show(
    name: NameArgument, version: VersionOption = None, server: ServerOption = None, as_json: JsonOption = False
) -> None:
    """Print a policy in full, as YAML that can be changed and applied."""

    async def work() -> None:
        from app.arbiter.documents import as_yaml

        async with desk(server) as open_desk:
            policy = await open_desk.in_force(name, version)
        if as_json:
            emit(policy)
        else:
            sys.stdout.write(as_yaml(policy))

    run(work())


@commands.command("versions", epilog=examples("vigil policy versions balanced"))
def versions(name: NameArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List the kept versions of a policy, which can be gone back to."""

    async def work() -> None:
        async with desk(server) as open_desk:
            kept = await open_desk.store.versions(name)
        if as_json:
            emit([{**each.pin.model_dump(), "stored_at": each.stored_at, "in_force": each.in_force} for each in kept])
            return
        rows = [
            (each.pin.version, each.pin.fingerprint, ago(each.stored_at), "applied" if each.in_force else "")
            for each in kept
        ]
        table(("Version", "Fingerprint", "Stored", "In force"), rows)

    run(work())


@commands.command(
    "diff", epilog=examples("vigil policy diff mine.yaml", "vigil policy show strict | vigil policy diff -")
)
def diff(
    file: FileArgument, version: VersionOption = None, server: ServerOption = None, as_json: JsonOption = False
) -> None:
    """Say what applying a file would change; compares with a kept version where one is named."""

    async def work() -> None:
        from app.arbiter.documents import differences

        policy = read(file)
        async with desk(server) as open_desk:
            present = await open_desk.in_force(policy.name, version)
        found = differences(present, policy.model_copy(update={"version": present.version}))
        if as_json:
            emit(found)
        elif not found:
            say(f"No difference to version {present.version} of {policy.name}.")
        else:
            table(
                ("Field", f"Version {present.version}", "File"),
                [(each.field, each.before, each.after) for each in found],
            )

    run(work())


@commands.command("check", epilog=examples("vigil policy check mine.yaml"))
def check(file: FileArgument) -> None:
    """Check a file, and change nothing; needs no server."""

    async def work() -> None:
        policy = read(file)
        say(f"{policy.name} can be applied.")

    run(work())


@commands.command(
    "apply", epilog=examples("vigil policy apply mine.yaml", "vigil policy apply mine.yaml --expected-version 7")
)
def apply(
    file: FileArgument,
    expected_version: Annotated[
        int | None, typer.Option("--expected-version", min=0, help="Only if this version is in force.")
    ] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a policy into force on all replicas; it gets the next version number, whatever number the file has."""

    async def work() -> None:
        policy = read(file)
        async with desk(server) as open_desk:
            done = await open_desk.store.apply(
                policy, actor(), base=open_desk.file(policy.name), expected_version=expected_version
            )
        if as_json:
            emit({"name": policy.name, "version": done.policy.version, "changed": done.changed})
        elif done.changed:
            say(f"Applied {policy.name} as version {done.policy.version}.")
        else:
            say(f"Nothing to change: version {done.policy.version} of {policy.name} is the same.")
        if policy.redaction.uses("hash") and not settings_of_service().privacy.hash_key_bytes:
            note("It hashes personal data: a replica without VIGIL_PRIVACY__HASH_KEY refuses it and keeps the old one.")

    run(work())


@commands.command(
    "rollback", epilog=examples("vigil policy rollback balanced", "vigil policy rollback balanced --version 5")
)
def rollback(
    name: NameArgument, version: VersionOption = None, server: ServerOption = None, as_json: JsonOption = False
) -> None:
    """Put the version before, or a named one, into force again, under the next version number."""

    async def work() -> None:
        from app.policy_checks import check_policy

        async with desk(server) as open_desk:
            base = open_desk.file(name)
            done = await open_desk.store.roll_back(name, actor(), to=version, base=base, check=check_policy)
        if as_json:
            emit({"name": name, "version": done.policy.version, "changed": done.changed})
        else:
            say(f"{name} is back at its earlier content, as version {done.policy.version}.")

    run(work())


@commands.command("rm", epilog=examples("vigil policy rm balanced"))
def rm(name: NameArgument, force: ForceOption = False, server: ServerOption = None) -> None:
    """Take away what was applied, so that the file's policy holds again; without a file the policy is gone."""
    if not force:
        typer.confirm(f"Take away what is applied as {name}?", abort=True)

    async def work() -> None:
        async with desk(server) as open_desk:
            base = open_desk.file(name)
            await open_desk.store.remove(name, actor(), base=base)
        say(f"Version {base.version} of the file holds again." if base is not None else f"There is no {name} any more.")

    run(work())


@commands.command("default", epilog=examples("vigil policy default strict", "vigil policy default --reset"))
def default(
    name: Annotated[
        str | None, typer.Argument(parser=name_of, metavar="NAME", help="The policy of requests that name none.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to VIGIL_DETECTION__DEFAULT_POLICY.")] = False,
    server: ServerOption = None,
) -> None:
    """Choose the policy of requests that name none."""
    if reset == (name is not None):
        raise typer.BadParameter("name a policy, or give --reset")

    async def work() -> None:
        async with desk(server) as open_desk:
            if name is not None:
                await open_desk.in_force(name)
            await open_desk.store.choose_default(name, actor())
        say(f"The default is {name}." if name else "The default is the setting's again.")

    run(work())


@commands.command("shadow", epilog=examples("vigil policy shadow balanced next", "vigil policy shadow balanced --off"))
def shadow(
    beside: Annotated[str, typer.Argument(parser=name_of, metavar="BESIDE", help="The policy in force.")],
    name: Annotated[
        str | None, typer.Argument(parser=name_of, metavar="NAME", help="The policy that is tried beside it.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End it.")] = False,
    server: ServerOption = None,
) -> None:
    """Record with each decision of a policy what another one would have decided."""
    if off == (name is not None):
        raise typer.BadParameter("name the policy to try, or give --off")

    async def work() -> None:
        from app.arbiter.shadow import why_not_beside

        async with desk(server) as open_desk:
            # A trial can be ended also beside a policy that is gone with its file.
            if name is not None:
                unfit = why_not_beside(await open_desk.in_force(beside), await open_desk.in_force(name))
                if unfit is not None:
                    raise InvalidRequest(unfit, field="policy")
            elif await open_desk.store.shadow(beside) is None:
                await open_desk.in_force(beside)
            await open_desk.store.choose_shadow(beside, name, actor())
        say(f"{name} is tried beside {beside}." if name else f"Nothing is tried beside {beside} any more.")

    run(work())


@commands.command("schema", epilog=examples("vigil policy schema > policy.schema.json"))
def schema() -> None:
    """Print the JSON Schema of a policy, for editors."""
    from app.arbiter import documents

    sys.stdout.write(json.dumps(documents.schema(), indent=2) + "\n")


def read(file: Path) -> Policy:
    """Read and check a document.

    Raises:
        ConfigurationError: it cannot be read.
        PolicyRefused: it does not fit; names each field.
    """
    from app.arbiter.documents import numbered, parse_policy, parse_yaml, read_yaml
    from app.policy_checks import check_policy

    document = parse_yaml(text_of(file), "standard input") if str(file) == "-" else read_yaml(file)
    policy = parse_policy(numbered(document, 1))
    check_policy(policy)
    return policy
