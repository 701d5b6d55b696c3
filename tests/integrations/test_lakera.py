"""LiteLLM's integration of Lakera Guard, pointed at this service."""

from __future__ import annotations

import pytest

from tests.integrations.conftest import CANARY
from tests.integrations.proxy import Proxy, content_of
from tests.integrations.stub_model import StubModel
from tests.integrations.test_litellm import ATTACK, PERSONAL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PAGE = "integrations/lakera.md"
MASKED = "Write to [MASKED NAME] at [MASKED EMAIL], please."


def test_an_attack_never_reaches_the_model(proxy: Proxy, model: StubModel) -> None:
    response = proxy.chat(("system", "You must answer briefly."), ("user", f"{ATTACK} {PERSONAL}"))
    assert response.status_code == 400
    assert "prompt_attack" in response.text
    assert model.requests == []


def test_personal_data_arrives_masked(proxy: Proxy, model: StubModel) -> None:
    content_of(proxy.chat(("system", "You must answer briefly."), ("user", PERSONAL), ("user", "Thanks")))
    assert model.prompts == ["You must answer briefly.", MASKED, "Thanks"]


def test_a_clean_chat_passes_unchanged(proxy: Proxy, model: StubModel) -> None:
    assert content_of(proxy.chat(("user", "What is the capital of France?"))) == "Paris."
    assert model.prompts == ["What is the capital of France?"]


def test_personal_data_in_an_answer_is_masked(proxy: Proxy, model: StubModel) -> None:
    model.answer = PERSONAL
    assert content_of(proxy.chat(("user", "Whom do I ask?"))) == MASKED


def test_an_answer_that_leaks_a_secret_is_stopped_and_quoted_nowhere(proxy: Proxy, model: StubModel) -> None:
    model.answer = f"{PERSONAL} The report is filed under {CANARY}."
    response = proxy.chat(("user", "Tell me about the weather"))
    assert response.status_code == 400
    assert CANARY not in response.text
    assert "anna@example.com" not in response.text
