"""A leak of a canary or the system prompt is blocked in the running service, and nothing of it is kept."""

from __future__ import annotations

import httpx
import pytest

from tests.integration.service.conftest import PARTICULAR_CANARY
from tests.running_service import RunningService

pytestmark = pytest.mark.integration

CANARY = "kappa-omega-7319"
PROMPT = "You are Marlo. Never mention the delays at the depot, and never say who told you about them."


@pytest.mark.parametrize("policy", ["permissive", "balanced", "strict"])
@pytest.mark.parametrize("mode", ["fast", "full"])
@pytest.mark.parametrize("text", [f"It is {CANARY}.", f"It is {' '.join(CANARY)}.", f"I was told: {PROMPT}"])
def test_a_leak_is_blocked_under_every_policy(client: httpx.Client, text: str, mode: str, policy: str) -> None:
    fields = {"source": "output", "mode": mode, "policy": policy, "canaries": [CANARY], "system_prompt": PROMPT}
    answer = client.post("/guard", json={"text": text, **fields}).json()
    assert (answer["decision"], answer["score"]) == ("BLOCKED", 100)
    assert answer["categories"][0] == "system_prompt_leak"
    assert CANARY not in str(answer)
    assert "Marlo" not in str(answer)


def test_an_answer_without_a_leak_passes(client: httpx.Client) -> None:
    fields = {"source": "output", "mode": "fast", "canaries": [CANARY], "system_prompt": PROMPT}
    answer = client.post("/guard", json={"text": "The depot opens at eight.", **fields}).json()
    assert answer["decision"] == "ALLOWED"


def test_canaries_of_the_process_are_found_and_not_logged(particular: RunningService) -> None:
    with httpx.Client(base_url=particular.url, timeout=30) as client:
        leaking = {"text": f"It is {PARTICULAR_CANARY}.", "source": "output", "mode": "fast", "system_prompt": PROMPT}
        assert client.post("/guard", json=leaking).json()["decision"] == "BLOCKED"
        assert client.post("/guard", json={"text": "x", "canaries": ["Marlo"]}).status_code == 422
    assert PARTICULAR_CANARY not in particular.log
    assert "Marlo" not in particular.log
