"""What is refused of a change to the policies names the field of the request that is at fault."""

from __future__ import annotations

from typing import Any

import pytest

from app.admin_contracts import PolicyChoice
from app.errors import InvalidRequest
from app.messaging.policy_store import PolicyStore


async def test_a_policy_cannot_be_tried_beside_itself() -> None:
    jetstream: Any = None  # Nothing is asked of the server.
    with pytest.raises(InvalidRequest, match="another policy") as caught:
        await PolicyStore(jetstream).choose_shadow("strict", "strict", "somebody")
    ((field, _),) = caught.value.faults
    assert field in PolicyChoice.model_fields
