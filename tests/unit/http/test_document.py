"""The OpenAPI document says of every operation how it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from app.access.paths import SCOPES
from app.contracts import GuardRequest
from app.http import document
from app.http.application import build
from app.problems import MEDIA_TYPE
from app.settings import Settings


class NoService:
    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    service: Any = NoService()
    return build(service, Settings(), "0").openapi()


def test_every_operation_names_its_refusals_in_the_shape_of_its_contract(openapi: dict[str, Any]) -> None:
    for path, item in openapi["paths"].items():
        for operation in item.values():
            responses = operation["responses"]
            wanted = {"400", "413", "415", "422"} if "requestBody" in operation else set()
            wanted |= {"403"} if path.startswith(document.OPEN) else {"401", "403", "429", "503"}
            assert wanted <= responses.keys(), path
            for status in wanted - {"403"}:
                (content,) = responses[status]["content"].values()
                assert content["schema"], (path, status)


def test_every_path_that_needs_a_scope_is_served(openapi: dict[str, Any]) -> None:
    served = {path.split("/")[1] for path in openapi["paths"]}
    assert {segment for segment, scope in SCOPES.items() if scope is not None} <= served


def test_a_batch_says_what_each_of_its_answers_means(openapi: dict[str, Any]) -> None:
    responses = openapi["paths"]["/guard/batch"]["post"]["responses"]
    for status, model in (("200", "BatchAnswer"), ("202", "BatchReceipt")):
        schema = responses[status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{model}"}
    assert "`wait: false`" in responses["200"]["description"]
    assert "request_id" in openapi["components"]["schemas"]["BatchItem"]["properties"]


def test_a_problem_is_told_as_a_problem(openapi: dict[str, Any]) -> None:
    refusal = openapi["paths"]["/guard"]["post"]["responses"]["422"]
    assert list(refusal["content"]) == [MEDIA_TYPE]
    assert refusal["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_reference_leads_somewhere(openapi: dict[str, Any]) -> None:
    def references(node: Any) -> Any:
        if isinstance(node, dict):
            yield from ([node["$ref"]] if isinstance(node.get("$ref"), str) else [])
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    named = set(references(openapi))
    assert f"#/components/schemas/{GuardRequest.__name__}" in named
    assert {each.removeprefix("#/components/schemas/") for each in named} <= openapi["components"]["schemas"].keys()


def test_it_is_made_once_however_often_it_is_asked_for() -> None:
    made: list[dict[str, Any]] = []

    def build_one() -> dict[str, Any]:
        made.append({"components": {"schemas": {}}, "paths": {}})
        return made[-1]

    whole = document.completed(build_one, [GuardRequest])
    assert whole() is whole()
    assert len(made) == 1
