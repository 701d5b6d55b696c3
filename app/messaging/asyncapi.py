"""The AsyncAPI document: FastStream's, plus the request-reply subjects that are micro services of the NATS client."""

from __future__ import annotations

import json
from typing import Any, Final

from faststream.nats import NatsBroker
from faststream.specification import AsyncAPI
from pydantic.json_schema import models_json_schema

from app.contracts import DecisionRecord, GuardAnswer, GuardRequest, Message, Problem, RestoreAnswer, RestoreRequest
from app.stream_contracts import StreamAddress, StreamChunk, StreamOpening, StreamStopped, StreamText, StreamVerdict
from app.topology import Subject, chunks_subject

SERVICES: Final[tuple[tuple[Subject, type[Message] | None, tuple[type[Message], ...], str], ...]] = (
    (Subject.API_GUARD, GuardRequest, (GuardAnswer,), "Judge one text; the reply is the decision or a problem."),
    (Subject.API_DECISION, None, (DecisionRecord,), "Read a decision; the request is its request id as text."),
    (Subject.API_RESTORE, RestoreRequest, (RestoreAnswer,), "Put personal data back into a model's answer."),
    (
        Subject.API_STREAM,
        StreamOpening,
        (StreamAddress, StreamText, StreamStopped, StreamVerdict),
        "Judge an answer as it comes: its events are the replies, numbered in the header Vigil-Sequence.",
    ),
)
CHUNKS: Final = chunks_subject("{token}")
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
    models: list[type[Message]] = [Problem, StreamChunk]
    for _, request, replies, _ in SERVICES:
        models += (*([request] if request else []), *replies)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=SCHEMAS + "/{model}")
    described["components"]["schemas"].update(schemas["$defs"])
    for service in SERVICES:
        _add_service(described, *service)
    _add_chunks(described)
    return json.dumps(described)


def _add_service(
    described: dict[str, Any],
    subject: Subject,
    request: type[Message] | None,
    replies: tuple[type[Message], ...],
    description: str,
) -> None:
    request_payload = _reference(request) if request else {"type": "string", "format": "uuid"}
    channels, reply_name = described["channels"], f"{subject}:reply"
    messages = {
        subject: {"Request": request_payload},
        reply_name: {
            **{"Reply" if len(replies) == 1 else reply.__name__: _reference(reply) for reply in replies},
            "Problem": _reference(Problem),
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


def _add_chunks(described: dict[str, Any]) -> None:
    """Describe the subjects that the opening of a stream names."""
    described["channels"][CHUNKS] = {
        "address": CHUNKS,
        "description": "Chunks of one answer, each with its number, from 1, in the header Vigil-Sequence. A chunk that "
        "asks for a reply gets an empty one, or a problem, once it was worked on.",
        "servers": [{"$ref": f"#/servers/{name}"} for name in described["servers"]],
        "parameters": {"token": {"description": "What the stream's first event names."}},
        "messages": {"Chunk": {"title": f"{CHUNKS}:Chunk", "payload": _reference(StreamChunk)}},
    }
    described["operations"][CHUNKS] = {"action": "receive", "channel": {"$ref": f"#/channels/{CHUNKS}"}}


def _reference(model: type[Message]) -> dict[str, str]:
    return {"$ref": f"{SCHEMAS}/{model.__name__}"}
