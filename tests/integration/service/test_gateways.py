"""The contracts of other products on a real service: what their pages show, and what stays in no log."""

from __future__ import annotations

import httpx
import pytest

from tests import pages
from tests.running_service import RunningService

pytestmark = pytest.mark.integration

PAGES = [
    "integrations/vigil-guard-enterprise.md",
    "integrations/litellm.md",
    "integrations/lakera.md",
    "integrations/presidio.md",
    "integrations/n8n.md",
]
CALLS = [(page, call) for page in PAGES for call in pages.calls(page)]


@pytest.mark.parametrize(("page", "call"), CALLS, ids=[f"{page} {call.path}" for page, call in CALLS])
def test_what_a_page_shows_is_what_happens(page: str, call: pages.Call, client: httpx.Client) -> None:
    answer = client.post(call.path, headers=call.headers, content=call.body).json()
    assert pages.holds(answer, call.answer), answer


def test_every_page_shows_something() -> None:
    assert {page for page, _ in CALLS} == set(PAGES)


def test_a_retried_request_is_judged_once(client: httpx.Client) -> None:
    headers = {"X-Idempotency-Key": "idem_of_this_test"}
    body = {"prompt": "What is the capital of Portugal?", "mode": "fast"}
    first, second = (client.post("/v1/guard/input", json=body, headers=headers).json() for _ in range(2))
    assert first["requestId"] == second["requestId"]
    assert client.get(f"/guard/{first['requestId']}").json()["decision"] == "ALLOWED"
    other = client.post("/v1/guard/input", json=body | {"prompt": "And of Spain?"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "REQUEST_ID_CONFLICT")


def test_a_decision_that_comes_too_late_is_a_block_and_can_be_read_later(particular: RunningService) -> None:
    """A millisecond is no gateway's deadline here."""
    with httpx.Client(base_url=particular.url, timeout=30) as hurried:
        told = hurried.post("/v1/guard/input", json={"prompt": "Call Anna Nowak"}).json()
        assert (told["decision"], told["failOpen"]) == ("BLOCKED", False)
        assert "outputText" in told
        particular.wait_for(lambda each: each.get(f"/guard/{told['requestId']}").status_code == 200)
        assert hurried.post("/v2/guard", json={"messages": [{"content": "Call Anna"}]}).status_code == 504


def test_no_text_of_any_contract_stands_in_the_log(client: httpx.Client, service: RunningService) -> None:
    secret = "kappa-omega-gateway"
    client.post("/v1/guard/analyze", json={"text": f"{secret} anna@example.com", "metadata": {"x": secret}})
    client.post("/v1/guard/analyze", json={"text": secret, "source": secret})
    client.post("/beta/litellm_basic_guardrail_api", json={"input_type": secret, "texts": [secret]})
    client.post("/v2/guard", json={"messages": [{"role": "user", "content": secret}], "project_id": 5})
    client.post("/presidio/analyze", json={"text": secret, "language": secret})
    client.post("/presidio/anonymize", json={"text": secret, "analyzer_results": [{"start": 0, "end": 900}]})
    assert secret not in service.log
