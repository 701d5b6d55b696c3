"""Released clients of Vigil Guard Enterprise, pointed at this service: LiteLLM's built-in hook and the Python SDK."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import pages
from tests.integrations.conftest import CANARY
from tests.integrations.proxy import SERVICE, Proxy, content_of
from tests.integrations.stub_model import StubModel
from tests.integrations.test_litellm import ATTACK, BLOCKED, PERSONAL
from tests.running_service import RunningService

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PAGE = "integrations/vigil-guard-enterprise.md"


def test_an_attack_never_reaches_the_model(proxy: Proxy, model: StubModel) -> None:
    response = proxy.chat(("system", "You must answer briefly."), ("user", ATTACK))
    assert response.status_code == 400
    assert BLOCKED in response.text
    assert model.requests == []


def test_personal_data_arrives_redacted(proxy: Proxy, model: StubModel) -> None:
    content_of(proxy.chat(("system", "You must answer briefly."), ("user", PERSONAL)))
    assert model.prompts == ["You must answer briefly.", "Write to <PERSON_1> at <EMAIL_ADDRESS_1>, please."]


def test_a_clean_chat_passes_unchanged(proxy: Proxy, model: StubModel) -> None:
    assert content_of(proxy.chat(("user", "What is the capital of France?"))) == "Paris."
    assert model.prompts == ["What is the capital of France?"]


def test_an_answer_with_personal_data_or_a_secret_is_not_handed_on(proxy: Proxy, model: StubModel) -> None:
    model.answer = PERSONAL
    assert "anna@example.com" not in content_of(proxy.chat(("user", "Whom do I ask?")))
    model.answer = f"The report is filed under {CANARY}."
    response = proxy.chat(("user", "Tell me about the weather"))
    assert response.status_code == 400
    assert CANARY not in response.text


def test_the_sdk_does_what_the_page_shows(binaries: Path, service: RunningService) -> None:
    [shown] = pages.blocks(PAGE, "python")
    [printed] = pages.blocks(PAGE, "text")
    script = shown.replace(SERVICE, service.url)
    done = subprocess.run([binaries / "python", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == printed, done.stderr


def test_the_sdk_reads_batches_and_errors(binaries: Path, service: RunningService) -> None:
    script = f"""
from vigil import BatchItem, Source, Vigil, VigilValidationError
key = "vg_live_0123456789abcdef0123456789abcdef"
with Vigil(api_key=key, base_url="{service.url}", strict_mode=True, max_retries=0) as client:
    items = [BatchItem(text="Write to Anna Nowak, please."), BatchItem(text="Hello", source=Source.MODEL_OUTPUT)]
    result = client.batch(items)
    print([item.response.decision.value for item in result.items])
    first = client.detect("Good morning", idempotency_key="idem_1")
    print(first.request_id == client.detect("Good morning", idempotency_key="idem_1").request_id)
    try:
        client.detect(" ")
    except VigilValidationError as error:
        print(error.status_code, error.errors[0]["path"])
"""
    done = subprocess.run([binaries / "python", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["['SANITIZED', 'ALLOWED']", "True", "422 prompt"], done.stderr
