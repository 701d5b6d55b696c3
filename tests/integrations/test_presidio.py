"""LiteLLM's Presidio guardrail, pointed at this service."""

from __future__ import annotations

import pytest

from tests.integrations.proxy import Proxy, content_of
from tests.integrations.stub_model import StubModel
from tests.integrations.test_litellm import PERSONAL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PAGE = "integrations/presidio.md"


def test_personal_data_arrives_redacted_and_comes_back_in_the_answer(proxy: Proxy, model: StubModel) -> None:
    model.answer = "I wrote to <PERSON_1>."
    assert content_of(proxy.chat(("user", PERSONAL))) == "I wrote to Anna Nowak."
    assert model.prompts == ["Write to <PERSON_1> at <EMAIL_ADDRESS_2>, please."]


def test_a_kind_that_is_not_allowed_never_reaches_the_model(proxy: Proxy, model: StubModel) -> None:
    response = proxy.chat(("user", "My card is 4111 1111 1111 1111."))
    assert response.status_code == 400
    assert "4111" not in response.text
    assert model.requests == []


def test_a_clean_chat_passes_unchanged(proxy: Proxy, model: StubModel) -> None:
    assert content_of(proxy.chat(("user", "What is the capital of France?"))) == "Paris."
    assert model.prompts == ["What is the capital of France?"]
