"""`vigil keys` on a real server: a secret is printed once, and every action is recorded."""

from __future__ import annotations

import json
import re

import pytest

from app.access.keys import TOKEN
from app.arbiter.documents import canonical_json
from app.messaging.policy_keys import live_key
from app.topology import POLICIES_BUCKET
from tests.integration.cli.conftest import Declared, Vigil, parsed
from tests.unit.arbiter.jobs import policy

pytestmark = pytest.mark.integration


async def test_a_key_is_made_listed_rotated_and_revoked(vigil: Vigil, declared: Declared) -> None:
    made = await vigil("keys", "create", "--name", "chat", "--tenant", "acme", "--rate", "50", "--expires-in", "90d")
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    found = TOKEN.fullmatch(token)
    assert found is not None
    key_id, secret = found.groups()
    [listed] = parsed(await vigil("keys", "ls", "-j"))
    assert (listed["id"], listed["tenant"], listed["scopes"], listed["limits"]["rate_per_s"]) == (
        key_id,
        "acme",
        ["guard"],
        50,
    )
    named = ("--rate", "none", "--burst", "7", "--policy", "strict", "--allow-policy", "all", "--expires-in", "none")
    changed = parsed(await vigil("keys", "set", key_id, *named, "-j"))
    assert (changed["limits"]["rate_per_s"], changed["limits"]["burst"], changed["tenant"]) == (None, 7, "acme")
    assert (changed["policy"], changed["policies"], changed["expires_at"]) == ("strict", [], None)
    rotated = parsed(await vigil("keys", "rotate", key_id, "--grace", "1h", "-j"))
    assert rotated["key"] != token
    assert rotated["description"]["previous_secret_until"] is not None
    assert (await vigil("keys", "revoke", key_id)).exit_code == 0
    shown = await vigil("keys", "show", key_id)
    assert re.search(r"State:\s+revoked", shown.stdout)
    assert secret not in shown.output
    recorded = parsed(await vigil("audit", "ls", "--action", "keys", "-j"))
    assert [each["action"] for each in recorded["entries"]] == ["keys.revoke", "keys.rotate", "keys.set", "keys.create"]
    assert all(each["actor"].startswith("cli:") for each in recorded["entries"])


async def test_what_does_not_fit_is_named(vigil: Vigil, declared: Declared) -> None:
    refused = await vigil("keys", "create", "--name", "x", "--tenant", "No Tenant")
    assert refused.exit_code == 2
    assert "tenant" in refused.output
    odd = await vigil("keys", "set", "000000000000", "--rate", "fast")
    assert odd.exit_code == 2
    assert "limits.rate_per_s" in odd.output
    assert (await vigil("keys", "set", "000000000000")).exit_code == 2
    unknown = await vigil("keys", "revoke", "000000000000")
    assert unknown.exit_code == 1


async def test_a_policy_that_does_not_exist_is_refused_with_those_that_do(vigil: Vigil, declared: Declared) -> None:
    made = await vigil("keys", "create", "--name", "x", "--policy", "nowhere")
    assert (made.exit_code, made.stdout) == (2, "")
    assert "vigil: policy: the policies are balanced, permissive, strict" in made.stderr
    key_id = parsed(await vigil("keys", "create", "--name", "x", "--policy", "strict", "-j"))["description"]["id"]
    changed = await vigil("keys", "set", key_id, "--allow-policy", "strict", "--allow-policy", "nowhere")
    assert changed.exit_code == 2
    assert "vigil: policies: the policies are balanced, permissive, strict" in changed.stderr
    bucket = await declared.jetstream.key_value(POLICIES_BUCKET.name)
    await bucket.put(live_key("own"), canonical_json(policy(name="own")))
    taken = parsed(await vigil("keys", "set", key_id, "--policy", "own", "--allow-policy", "strict", "-j"))
    assert (taken["policy"], taken["policies"]) == ("own", ["strict"])
    assert parsed(await vigil("keys", "set", key_id, "--policy", "none", "-j"))["policy"] is None


async def test_a_grace_or_an_end_that_is_too_long_is_a_usage_error(vigil: Vigil, declared: Declared) -> None:
    grace = await vigil("keys", "rotate", "000000000000", "--grace", "31d")
    assert (grace.exit_code, "grace_s" in grace.output) == (2, True)
    end = await vigil("keys", "create", "--name", "x", "--expires-in", "99999999d")
    assert end.exit_code == 2


async def test_a_record_that_somebody_else_wrote_is_not_sealed_by_a_change(vigil: Vigil, declared: Declared) -> None:
    key_id = parsed(await vigil("keys", "create", "--name", "x", "-j"))["description"]["id"]
    bucket = await declared.jetstream.key_value("VIGIL_KEYS")
    written = json.loads((await bucket.get(key_id)).value or b"")
    await bucket.put(key_id, json.dumps(written | {"scopes": ["guard", "admin"]}).encode())
    for change in (("rotate", key_id), ("set", key_id, "--rate", "5")):
        refused = await vigil("keys", *change)
        assert (refused.exit_code, "pepper" in refused.stderr) == (1, True)
    assert json.loads((await bucket.get(key_id)).value or b"")["seal"] == written["seal"]
    assert (await vigil("keys", "revoke", key_id)).exit_code == 0


async def test_limits_are_shown_to_the_last_digit(vigil: Vigil, declared: Declared) -> None:
    options = ("--per-month", "12345678", "--rate", "0.5", "-j")
    made = parsed(await vigil("keys", "create", "--name", "x", *options))
    shown = (await vigil("keys", "show", made["description"]["id"])).stdout
    assert "rate_per_s 0.5, requests_per_month 12345678" in shown


async def test_on_a_shared_server_keys_need_a_pepper(
    vigil: Vigil, declared: Declared, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", server)
    refused = await vigil("keys", "create", "--name", "x")
    assert refused.exit_code == 2
    assert "VIGIL_ACCESS__PEPPER" in refused.output
