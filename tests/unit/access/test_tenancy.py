"""No tenant's request id meets another's."""

from __future__ import annotations

from uuid import UUID, uuid4

from app.access.tenancy import kept_id
from app.identity import new_request_id


def test_the_default_tenants_ids_and_the_guards_stand_for_themselves() -> None:
    for request_id in (uuid4(), new_request_id(), UUID(int=0)):
        assert kept_id("default", request_id) == request_id


def test_one_id_is_another_for_each_tenant_and_the_same_each_time() -> None:
    request_id = uuid4()
    kept = {kept_id(tenant, request_id) for tenant in ("default", "acme", "globex")}
    assert len(kept) == 3
    assert kept_id("acme", request_id) == kept_id("acme", request_id)
    assert kept_id("acme", request_id).version == 8


def test_nobody_names_anothers_request_by_the_id_it_is_kept_under() -> None:
    kept = kept_id("acme", uuid4())
    assert kept_id("default", kept) != kept
    assert kept_id("globex", kept) != kept
    assert kept_id("acme", kept) != kept
