"""`vigil keys`: API keys are made, listed, changed, rotated and revoked; a secret is printed once, when it is made."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from pydantic import ValidationError

from app.access.keys import IssuedKey, KeyChange, KeyDescription, KeyRequest, RotationRequest
from app.access.peppers import needed_peppers
from app.access.principal import Scope
from app.cli.audit import actor
from app.cli.command import (
    JsonOption,
    ServerOption,
    duration,
    examples,
    group,
    moved,
    opened,
    run,
    settings_of_service,
)
from app.cli.render import emit, facts, note, say, table
from app.contracts import DEFAULT_TENANT
from app.errors import InvalidRequest
from app.identity import now

if TYPE_CHECKING:
    from app.messaging.admin import Admin
    from app.messaging.keys import KeyStore

NONE: Final = "none"
"""Takes a limit, a policy or an end away."""
LIMITS: Final = (
    *("rate_per_s", "burst", "requests_per_day", "requests_per_month"),
    *("body_bytes", "text_length", "batch_size", "concurrency"),
)
"""In the order of the commands' options."""
Asked = TypeVar("Asked", KeyRequest, KeyChange, RotationRequest)
Value = TypeVar("Value")

commands = group("API keys: make, list, change, rotate, revoke.")

KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id: the middle part of vgk_ID_SECRET.")]


def store(admin: Admin) -> KeyStore:
    from app.messaging.keys import KeyStore

    settings = settings_of_service()

    async def policies() -> list[str]:
        from app.arbiter.book import load_policies
        from app.messaging.policy_store import PolicyStore

        files = load_policies(settings.config_dir, settings.detection.default_policy)
        return await PolicyStore(admin.jetstream).names(files.policies)

    grace = timedelta(seconds=settings.access.rotation_grace_s)
    return KeyStore(admin.jetstream, lambda: needed_peppers(settings), grace, policies)


@commands.command(
    "create",
    epilog=examples(
        "vigil keys create --name chat",
        "vigil keys create --name chat --tenant acme --rate 50 --burst 100 --per-day 100000 --expires-in 90d",
        "vigil keys create --name dashboards --scope events",
        "vigil keys create --name operations --scope admin -j",
    ),
)
def create(
    name: Annotated[str, typer.Option("--name", help="What the key is for.")],
    scope: Annotated[list[Scope] | None, typer.Option("--scope", help="What its holder may do; repeatable.")] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose requests and decisions it works on.")] = DEFAULT_TENANT,
    policy: Annotated[str | None, typer.Option("--policy", help="Policy of requests that name none.")] = None,
    allow_policy: Annotated[
        list[str] | None, typer.Option("--allow-policy", help="A policy requests may name; repeatable. All without it.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option("--expires-in", help="When it ends, as 12h or 90d.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Requests per second, over all replicas.")] = None,
    burst: Annotated[int | None, typer.Option("--burst", help="Requests that may come at once.")] = None,
    per_day: Annotated[int | None, typer.Option("--per-day", help="Texts judged per day (UTC).")] = None,
    per_month: Annotated[int | None, typer.Option("--per-month", help="Texts judged per month (UTC).")] = None,
    body_bytes: Annotated[int | None, typer.Option("--body-bytes", help="Largest body.")] = None,
    text_length: Annotated[int | None, typer.Option("--text-length", help="Longest text in characters.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Most requests in one batch.")] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Requests under way at once.")] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print its secret, which cannot be shown again."""

    async def work() -> None:
        limits = _limits(rate, burst, per_day, per_month, body_bytes, text_length, batch_size, concurrency)
        request = _fitting(
            KeyRequest,
            name=name,
            scopes=scope or [Scope.GUARD],
            tenant=tenant,
            policy=policy,
            policies=allow_policy or [],
            limits=limits,
            expires_at=moved(now(), duration(expires_in, "--expires-in")) if expires_in is not None else None,
        )
        async with opened(server) as admin:
            issued = await store(admin).create(request, actor=actor())
        _show_issued(issued, as_json=as_json)

    run(work())


@commands.command("ls", epilog=examples("vigil keys ls", "vigil keys ls -j | jq -r '.[].id'"))
def ls(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List all keys, the newest first."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await store(admin).list()
        if as_json:
            emit(found)
            return
        at = now()
        rows = [
            (
                each.id,
                each.name,
                each.tenant,
                " ".join(sorted(each.scopes)),
                each.policy or "-",
                each.state(at),
                _until(each),
            )
            for each in found
        ]
        table(("Id", "Name", "Tenant", "Scopes", "Policy", "State", "Ends"), rows)
        if not found:
            note("There is no key: vigil keys create --name NAME makes one.")

    run(work())


@commands.command("show", epilog=examples("vigil keys show 4fd1a3b28c90"))
def show(key: KeyArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Show one key in full, without its secret."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await store(admin).get(key)
        if as_json:
            emit(found)
            return
        _show(found)

    run(work())


@commands.command(
    "set",
    epilog=examples(
        "vigil keys set 4fd1a3b28c90 --rate 100 --burst none",
        "vigil keys set 4fd1a3b28c90 --policy strict --allow-policy strict --allow-policy balanced",
        "vigil keys set 4fd1a3b28c90 --policy none --allow-policy all --expires-in none",
    ),
)
def set_(
    key: KeyArgument,
    name: Annotated[str | None, typer.Option("--name", help="What the key is for.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Policy of requests that name none; or none.")] = None,
    allow_policy: Annotated[
        list[str] | None, typer.Option("--allow-policy", help="A policy requests may name; repeatable. Or all.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", help="When it ends, as 12h or 90d; or none.")
    ] = None,
    rate: Annotated[str | None, typer.Option("--rate", help="Requests per second, over all replicas; or none.")] = None,
    burst: Annotated[str | None, typer.Option("--burst", help="Requests that may come at once; or none.")] = None,
    per_day: Annotated[str | None, typer.Option("--per-day", help="Texts judged per day (UTC); or none.")] = None,
    per_month: Annotated[str | None, typer.Option("--per-month", help="Texts judged per month (UTC); or none.")] = None,
    body_bytes: Annotated[str | None, typer.Option("--body-bytes", help="Largest body; or none.")] = None,
    text_length: Annotated[str | None, typer.Option("--text-length", help="Longest text; or none.")] = None,
    batch_size: Annotated[str | None, typer.Option("--batch-size", help="Most requests in one batch; or none.")] = None,
    concurrency: Annotated[str | None, typer.Option("--concurrency", help="Requests under way; or none.")] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a key's limits, policies, name or end; what is not named stays, and `none` takes a limit away."""

    async def work() -> None:
        limits = _limits(rate, burst, per_day, per_month, body_bytes, text_length, batch_size, concurrency)
        told: dict[str, Any] = {} if name is None else {"name": name}
        if policy is not None:
            told["policy"] = None if policy == NONE else policy
        if allow_policy:
            told["policies"] = [] if allow_policy == ["all"] else allow_policy
        if expires_in is not None:
            told["expires_at"] = None if expires_in == NONE else moved(now(), duration(expires_in, "--expires-in"))
        named = {limit: _amount(value) for limit, value in limits.items() if value is not None}
        change = _fitting(KeyChange, **told, **({"limits": named} if named else {}))
        async with opened(server) as admin:
            changed = await store(admin).amend(key, change, actor=actor())
        if as_json:
            emit(changed)
            return
        _show(changed)

    run(work())


@commands.command(
    "rotate", epilog=examples("vigil keys rotate 4fd1a3b28c90", "vigil keys rotate 4fd1a3b28c90 --grace 1h")
)
def rotate(
    key: KeyArgument,
    grace: Annotated[
        str | None, typer.Option("--grace", help="How long the old secret still works; the configured time without it.")
    ] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret and print it; the old one works on for the grace."""

    async def work() -> None:
        if grace is None:
            request = RotationRequest()
        else:
            request = _fitting(
                RotationRequest, grace_s=0 if grace == "0" else duration(grace, "--grace").total_seconds()
            )
        async with opened(server) as admin:
            issued = await store(admin).rotate(key, request, actor=actor())
        _show_issued(issued, as_json=as_json)

    run(work())


@commands.command("revoke", epilog=examples("vigil keys revoke 4fd1a3b28c90"))
def revoke(key: KeyArgument, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """End a key for good; every replica refuses it within a second."""

    async def work() -> None:
        async with opened(server) as admin:
            ended = await store(admin).revoke(key, actor=actor())
        if as_json:
            emit(ended)
            return
        say(f"Key {ended.id} ({ended.name}) is revoked.")

    run(work())


def _fitting(kind: type[Asked], **fields: Any) -> Asked:
    """Return what is asked for a key.

    Raises:
        InvalidRequest: names the options that do not fit.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InvalidRequest(f"no key can be made so: {faults}") from None


def _limits(*values: Value) -> dict[str, Value]:
    """Return limits by their names, from the values of the options in their order."""
    return dict(zip(LIMITS, values, strict=True))


def _amount(value: str) -> float | int | str | None:
    """Return a limit as it was typed; what is no number is left to be refused with the others."""
    if value == NONE:
        return None
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value


def _show_issued(issued: IssuedKey, *, as_json: bool) -> None:
    if as_json:
        emit(issued)
        return
    say(issued.key)
    described = issued.description
    note(f"Key {described.id} ({described.name}). It is shown this once: keep it where secrets are kept.")
    if described.previous_secret_until is not None:
        note(f"The old secret works until {described.previous_secret_until:%Y-%m-%d %H:%M:%S} UTC.")


def _show(key: KeyDescription) -> None:
    at = now()
    limits = key.limits.model_dump(exclude_none=True)
    facts(
        [
            ("Key", key.id),
            ("Name", key.name),
            ("State", key.state(at)),
            ("Tenant", key.tenant),
            ("Scopes", ", ".join(sorted(key.scopes))),
            ("Policy", key.policy),
            ("May name", ", ".join(key.policies) or "every policy"),
            ("Limits", ", ".join(f"{name} {value:.15g}" for name, value in limits.items()) or "none"),
            ("Made", key.created_at),
            ("Made by", key.created_by),
            ("Rotated", key.rotated_at),
            ("Old secret until", key.previous_secret_until),
            ("Expires", key.expires_at),
            ("Revoked", key.revoked_at),
        ]
    )


def _until(key: KeyDescription) -> datetime | str:
    ends = key.revoked_at or key.expires_at
    return ends if ends is not None else "-"
