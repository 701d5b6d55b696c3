"""The AsyncAPI document: FastStream's, plus the request-reply subjects that are micro services of the NATS client."""

from __future__ import annotations

import json
from typing import Any, Final

from faststream.nats import NatsBroker
from faststream.specification import AsyncAPI
from pydantic.json_schema import models_json_schema

from app.contracts import DecisionRecord, GuardAnswer, GuardRequest, Message, Problem, RestoreAnswer, RestoreRequest
from app.topology import Subject

SERVICES: Final[tuple[tuple[Subject, type[Message] | None, type[Message], str], ...]] = (
    (Subject.API_GUARD, GuardRequest, GuardAnswer, "Judge one text; the reply is the decision or a problem."),
    (Subject.API_DECISION, None, DecisionRecord, "Read a decision; the request is its request id as text."),
    (Subject.API_RESTORE, RestoreRequest, RestoreAnswer, "Put personal data back into a model's answer."),
)
SCHEMAS: Final = "#/components/schemas"


def document(broker: NatsBroker, version: str) -> str:
    """Return the AsyncAPI 3.0 document of all subjects as JSON."""
    specification = AsyncAPI(
        broker,
        title="Vigil Guard",
        version=version,
        description="Subjects of the guard on NATS JetStream, and its NATS micro services.",
    )
    described: dict[str, Any] = json.loads(specification.to_specification().to_json())
    models: list[type[Message]] = [GuardRequest, GuardAnswer, DecisionRecord, RestoreRequest, RestoreAnswer, Problem]
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=SCHEMAS + "/{model}")
    described["components"]["schemas"].update(schemas["$defs"])
    for service in SERVICES:
        _add_service(described, *service)
    return json.dumps(described)


def _add_service(
    described: dict[str, Any],
    subject: Subject,
    request: type[Message] | None,
    reply: type[Message],
    description: str,
) -> None:
    request_payload = {"$ref": f"{SCHEMAS}/{request.__name__}"} if request else {"type": "string", "format": "uuid"}
    channels, reply_name = described["channels"], f"{subject}:reply"
    messages = {
        subject: {"Request": request_payload},
        reply_name: {
            "Reply": {"$ref": f"{SCHEMAS}/{reply.__name__}"},
            "Problem": {"$ref": f"{SCHEMAS}/{Problem.__name__}"},
        },
    }
    for channel, payloads in messages.items():
        channels[str(channel)] = {
            "address": str(subject) if channel == subject else None,
            "description": description,
            "servers": [{"$ref": f"#/servers/{name}"} for name in described["servers"]],
            "messages": {
                name: {"title": f"{channel}:{name}", "payload": payload} for name, payload in payloads.items()
            },
        }
    described["operations"][str(subject)] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{subject}"},
        "reply": {"channel": {"$ref": f"#/channels/{reply_name}"}},
    }
