"""How a refusal looks, by path: problem+json, and on the paths of other products' contracts what their clients read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from app.contracts import Problem
from app.gateways import lakera, litellm, presidio, vigil_enterprise
from app.identity import new_request_id, now
from app.problems import MEDIA_TYPE
from app.settings import GatewaySettings

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in place of the one that was asked for."""

    status: int
    body: bytes
    media_type: str = JSON


Shape = Callable[[Problem, int | None], Refusal]
"""Makes a refusal of a problem and of the seconds after which the caller may try again."""

VIGIL_ENTERPRISE: Final = "/v1/guard/"
VIGIL_ENTERPRISE_BATCH: Final = "/v1/guard/batch"
LAKERA: Final = "/v2/guard"
LITELLM: Final = "/beta/litellm_basic_guardrail_api"
PRESIDIO: Final = "/presidio/"


class Shapes:
    """The shape of each path; plain problem+json where no other contract is spoken."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._by_prefix: tuple[tuple[str, Shape], ...] = (
            (VIGIL_ENTERPRISE_BATCH, _in(vigil_enterprise.error_body)),
            (VIGIL_ENTERPRISE, self._vigil_enterprise),
            (LAKERA, _in(lakera.error_body)),
            (LITELLM, _in(litellm.error_body)),
            (PRESIDIO, _in(presidio.error_body)),
        )

    def refusal(self, path: str, problem: Problem, retry_after_s: int | None = None) -> Refusal:
        """Return what a request to this path is refused with."""
        for prefix, shape in self._by_prefix:
            if path.startswith(prefix):
                return shape(problem, retry_after_s)
        return Refusal(problem.status, problem.model_dump_json().encode(), MEDIA_TYPE)

    def _vigil_enterprise(self, problem: Problem, retry_after_s: int | None) -> Refusal:
        """Return the contract's error, or in place of a failure of ours an answer that no client takes for a pass."""
        if problem.status >= 500 and self._settings.undecided == "block":
            decision = vigil_enterprise.undecided(
                problem,
                request_id=new_request_id(),
                decided_at=now(),
                block_message=self._settings.undecided_message,
            )
            return Refusal(200, decision.to_json().encode())
        return _in(vigil_enterprise.error_body)(problem, retry_after_s)


def _in(body: Callable[[Problem, int | None], str]) -> Shape:
    return lambda problem, retry_after_s: Refusal(problem.status, body(problem, retry_after_s).encode())
