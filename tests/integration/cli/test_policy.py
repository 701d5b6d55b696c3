"""`vigil policy` against a real nats-server: what an engineer does with an own policy, from file to rollback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from app.arbiter.documents import canonical_json, parse_policy, pin_of
from app.messaging import audit
from app.messaging import policy_keys as keys
from tests.integration.cli.conftest import Declared, Vigil, parsed
from tests.unit.arbiter.jobs import fields

pytestmark = pytest.mark.integration


def written(folder: Path, **changes: object) -> str:
    document = fields(name="mine", **changes)
    del document["version"]
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


async def test_a_policy_is_checked_applied_compared_rolled_back_and_taken_away(
    vigil: Vigil, declared: Declared, tmp_path: Path
) -> None:
    assert "mine can be applied" in (await vigil("policy", "check", written(tmp_path))).stdout
    assert parsed(await vigil("policy", "apply", written(tmp_path), "-j")) == {
        "name": "mine",
        "version": 1,
        "changed": True,
    }
    file = written(tmp_path, block_at=60)
    differing = parsed(await vigil("policy", "diff", file, "-j"))
    assert differing == [{"field": "block_at", "before": "50", "after": "60"}]
    assert "as version 2" in (await vigil("policy", "apply", file, "--expected-version", "1")).stdout
    assert "version 2 of mine is the same" in (await vigil("policy", "apply", file)).stdout
    late = await vigil("policy", "apply", written(tmp_path, block_at=70), "--expected-version", "1")
    assert (late.exit_code, "changed meanwhile" in late.stderr) == (1, True)

    assert parsed(await vigil("policy", "rollback", "mine", "-j"))["version"] == 3
    assert parsed(await vigil("policy", "show", "mine", "-j"))["block_at"] == 50
    assert [each["version"] for each in parsed(await vigil("policy", "versions", "mine", "-j"))] == [3, 2, 1]
    shown = yaml.safe_load((await vigil("policy", "show", "mine", "--version", "2")).stdout)
    assert (shown["version"], shown["block_at"]) == (2, 60)

    listed = {each["name"]: each for each in parsed(await vigil("policy", "ls", "-j"))}
    assert (listed["mine"]["origin"], listed["balanced"]["origin"]) == ("applied", "file")
    assert (await vigil("policy", "rm", "mine", "-f")).exit_code == 0
    assert (await vigil("policy", "show", "mine")).exit_code == 1
    actions = [each.action for each in (await audit.entries(declared.jetstream, limit=10)).entries]
    assert actions == ["policies.remove", "policies.apply", "policies.apply", "policies.apply"]


async def test_going_back_passes_by_versions_of_the_same_content(
    vigil: Vigil, declared: Declared, tmp_path: Path
) -> None:
    await vigil("policy", "apply", written(tmp_path))
    file = written(tmp_path, block_at=60)
    await vigil("policy", "apply", file)
    await vigil("policy", "rm", "mine", "-f")
    assert parsed(await vigil("policy", "apply", file, "-j"))["version"] == 3
    assert parsed(await vigil("policy", "rollback", "mine", "-j")) == {"name": "mine", "version": 4, "changed": True}
    assert parsed(await vigil("policy", "show", "mine", "-j"))["block_at"] == 50


async def test_a_shadow_and_a_default_are_chosen_and_given_up(vigil: Vigil, declared: Declared, tmp_path: Path) -> None:
    await vigil("policy", "apply", written(tmp_path))
    assert (await vigil("policy", "shadow", "balanced", "mine")).exit_code == 0
    assert (await vigil("policy", "default", "strict")).exit_code == 0
    listed = {each["name"]: each for each in parsed(await vigil("policy", "ls", "-j"))}
    assert (listed["balanced"]["shadow"], listed["strict"]["default"]) == ("mine", "yes")
    refused = await vigil("policy", "rm", "mine", "-f")
    assert (refused.exit_code, "shadow of balanced" in refused.stderr) == (1, True)
    assert (await vigil("policy", "shadow", "balanced", "--off")).exit_code == 0
    assert (await vigil("policy", "default", "--reset")).exit_code == 0
    listed = {each["name"]: each for each in parsed(await vigil("policy", "ls", "-j"))}
    assert (listed["balanced"]["shadow"], listed["balanced"]["default"]) == ("", "yes")


async def test_a_trial_beside_a_policy_that_is_gone_can_be_ended(vigil: Vigil, declared: Declared) -> None:
    bucket = await declared.jetstream.key_value("VIGIL_POLICIES")
    await bucket.put(keys.shadow_key("gone"), b"strict")
    assert (await vigil("policy", "shadow", "gone", "balanced")).exit_code == 1
    assert (await vigil("policy", "shadow", "gone", "--off")).exit_code == 0
    ended = await vigil("policy", "shadow", "gone", "--off")
    assert (ended.exit_code, "there is no policy gone" in ended.stderr) == (1, True)


async def test_what_no_release_can_carry_out_is_not_gone_back_to(vigil: Vigil, declared: Declared) -> None:
    bucket = await declared.jetstream.key_value("VIGIL_POLICIES")
    unknown = parse_policy(fields(name="mine", redaction={"entities": {"NO_SUCH_KIND": "keep"}}))
    await bucket.put(keys.version_key(pin_of(unknown)), canonical_json(unknown))
    await bucket.put(keys.live_key("mine"), canonical_json(parse_policy(fields(name="mine", version=2))))
    refused = await vigil("policy", "rollback", "mine")
    assert (refused.exit_code, "redaction.entities.NO_SUCH_KIND" in refused.stderr) == (2, True)
    assert parsed(await vigil("policy", "show", "mine", "-j"))["version"] == 2


async def test_a_policy_that_judges_by_more_branches_is_not_tried_beside_another(
    vigil: Vigil, declared: Declared, tmp_path: Path
) -> None:
    await vigil("policy", "apply", written(tmp_path, branches={"semantic": False}))
    refused = await vigil("policy", "shadow", "mine", "strict")
    assert (refused.exit_code, "strict judges by a branch that mine does not run" in refused.stderr) == (2, True)
    assert (await vigil("policy", "shadow", "strict", "mine")).exit_code == 0


async def test_a_trial_ends_with_the_policy_that_it_is_beside(vigil: Vigil, declared: Declared, tmp_path: Path) -> None:
    await vigil("policy", "apply", written(tmp_path))
    await vigil("policy", "shadow", "mine", "strict")
    assert (await vigil("policy", "rm", "mine", "-f")).exit_code == 0
    await vigil("policy", "apply", written(tmp_path))
    listed = {each["name"]: each for each in parsed(await vigil("policy", "ls", "-j"))}
    assert listed["mine"]["shadow"] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("apply", "-"), 2, "block_at: "),
        (("check", "-"), 2, "block_at: "),
        (("show", "nowhere"), 1, "there is no policy nowhere"),
        (("rollback", "strict"), 1, "no version of strict before 3 is kept"),
        (("rm", "strict", "-f"), 1, "nothing is applied as strict"),
        (("default", "nowhere"), 1, "there is no policy nowhere"),
        (("show", "*", "--version", "1"), 2, "no name of a policy"),
        (("versions", "a b"), 2, "no name of a policy"),
        (("shadow", "*", "--off"), 2, "no name of a policy"),
        (("default",), 2, "--reset"),
        (("shadow", "strict"), 2, "--off"),
        (("shadow", "strict", "strict"), 2, "another policy"),
    ],
)
async def test_what_cannot_be_done_is_said_and_changes_nothing(
    vigil: Vigil, declared: Declared, arguments: tuple[str, ...], code: int, said: str
) -> None:
    bad = yaml.safe_dump(fields(block_at=500))
    result = await vigil("policy", *arguments, stdin=bad)
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert (await declared.jetstream.stream_info("KV_VIGIL_POLICIES")).state.messages == 0


@pytest.mark.parametrize(
    ("document", "version", "reason"),
    [
        (json.dumps(fields(name="mine", version=90, of_a_newer_release=1)), "version 90", "of_a_newer_release: "),
        ('{"name": "mi', "no version", "(document): is not JSON"),
        (json.dumps(fields(name="other")), "no version", "name: must be mine"),
    ],
    ids=["newer", "damaged", "another name"],
)
async def test_what_is_applied_and_cannot_be_read_is_told_with_its_version_and_revision(
    vigil: Vigil, declared: Declared, tmp_path: Path, document: str, version: str, reason: str
) -> None:
    bucket = await declared.jetstream.key_value("VIGIL_POLICIES")
    revision = await bucket.put(keys.live_key("mine"), document.encode())
    told = f"vigil: what is applied as mine ({version}, revision {revision}) cannot be read by this release: {reason}"
    for arguments in (("show", "mine"), ("show", "mine", "-j"), ("diff", written(tmp_path))):
        shown = await vigil("policy", *arguments)
        assert (shown.exit_code, shown.stdout) == (1, "")
        assert shown.stderr.startswith(told)
        assert shown.stderr.count("\n") == 1


async def test_the_schema_is_json(vigil: Vigil) -> None:
    assert "block_at" in json.loads((await vigil("policy", "schema")).stdout)["properties"]
