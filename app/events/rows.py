"""Rows of the event log: a decision record as column values, and the same record from them again.

Every field has a column of its own, typed for queries; no second copy as JSON is kept. That is smaller, cannot
contradict itself, and is exact: floats are stored as Float64, times in microseconds. Only the verdicts of a chat's
messages, lists of lists that are read together, are one column of JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from pydantic import TypeAdapter

from app.contracts import BranchName, BranchResult, DecisionRecord, MessageVerdict, MetadataValue, Mode

Row = tuple[Any, ...]
"""Values of one row in the order of COLUMNS."""

_BRANCH_FIELDS: Final = ("score", "confidence", "degraded", "signals", "explanations", "latency_ms")
_FINDING_FIELDS: Final = ("detector", "rule", "start", "end", "score", "action")
_ENTITY_FIELDS: Final = ("type", "start", "end", "score")
_SHADOW_FIELDS: Final = ("policy", "policy_version", "decision", "score")
_shadow_values: Final = attrgetter(*_SHADOW_FIELDS)
_branch_values: Final = attrgetter(*_BRANCH_FIELDS)
_finding_values: Final = attrgetter(*_FINDING_FIELDS)
_entity_values: Final = attrgetter(*_ENTITY_FIELDS)
_ABSENT_BRANCH: Final[Row] = (0.0, 0.0, False, (), (), 0.0)
_NO_SHADOW: Final[Row] = ("", 0, "", 0)
_NO_FINDINGS: Final[Row] = ((),) * len(_FINDING_FIELDS)
_NO_ENTITIES: Final[Row] = ((),) * len(_ENTITY_FIELDS)
_MESSAGES: Final = TypeAdapter(list[MessageVerdict])
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

COLUMNS: Final[tuple[str, ...]] = (
    "request_id",
    "received_at",
    "decided_at",
    "decision",
    "score",
    "threat_level",
    "mode",
    "source",
    "policy",
    "policy_version",
    "dry_run",
    "would_decide",
    *(f"shadow_{field}" for field in _SHADOW_FIELDS),
    "shadow_shown",
    "model_version",
    "latency_ms",
    "categories",
    "boosts",
    "explanations",
    "branches",
    *(f"{branch}_{field}" for branch in BranchName for field in _BRANCH_FIELDS),
    *(f"findings.{field}" for field in _FINDING_FIELDS),
    "pii_scanned",
    "pii_degraded",
    "pii_language",
    "pii_count",
    "pii_latency_ms",
    *(f"pii_entities.{field}" for field in _ENTITY_FIELDS),
    "text_digest",
    "text_length",
    "redacted_text",
    "sanitized",
    "sanitized_text",
    "metadata",
    "metadata_kinds",
    "tenant",
    "key_id",
    "messages",
)
"""Columns that are written and read; the table's other columns are ClickHouse's to fill."""

TIME_COLUMNS: Final = ("received_at", "decided_at")
"""Columns exchanged as whole microseconds since 1970 (UTC), which no conversion can round."""


def row_of(record: DecisionRecord, *, store_text: bool) -> Row:
    """Return the row of one record; without store_text, and in fast mode, it holds no text, not even a redacted one."""
    answer = record.answer
    store_text = store_text and answer.mode is Mode.FULL
    branches = answer.branches
    pii = answer.pii
    redacted = record.redacted_text if store_text else None
    sanitized = answer.sanitized_text
    metadata, kinds = _metadata_columns(record.metadata)
    return (
        answer.request_id,
        microseconds(record.received_at),
        microseconds(record.decided_at),
        answer.decision,
        answer.score,
        answer.threat_level,
        answer.mode,
        answer.source,
        answer.policy,
        answer.policy_version,
        answer.dry_run,
        answer.would_decide or "",
        *(_NO_SHADOW if record.shadow is None else _shadow_values(record.shadow)),
        answer.shadow is not None,
        answer.model_version,
        answer.latency_ms,
        answer.categories,
        answer.boosts,
        answer.explanations,
        list(branches),
        *_branch_columns(branches.get(BranchName.HEURISTICS)),
        *_branch_columns(branches.get(BranchName.SEMANTIC)),
        *_branch_columns(branches.get(BranchName.CLASSIFIER)),
        *(zip(*map(_finding_values, answer.findings), strict=True) if answer.findings else _NO_FINDINGS),
        pii.scanned,
        pii.degraded,
        pii.language,
        pii.count,
        pii.latency_ms,
        *(zip(*map(_entity_values, pii.entities), strict=True) if pii.entities else _NO_ENTITIES),
        record.text_digest,
        record.text_length,
        redacted,
        sanitized is not None,
        sanitized if store_text and sanitized != redacted else None,
        metadata,
        kinds,
        record.tenant,
        record.key_id,
        _written(answer.messages),
    )


def columns_of(records: Sequence[DecisionRecord], *, store_text: bool) -> list[Row]:
    """Return the records column by column, in the order of COLUMNS: what a column-oriented insert takes."""
    return list(zip(*[row_of(record, store_text=store_text) for record in records], strict=True))


def record_of(row: Row) -> DecisionRecord:
    """Return the record a row was made from; its texts are None where they were not stored.

    Raises:
        pydantic.ValidationError: the row was not written by this room.
    """
    column = dict(zip(COLUMNS, row, strict=True))
    sanitized = column["sanitized_text"]
    if column["sanitized"] and sanitized is None:
        sanitized = column["redacted_text"]
    shadow = {field: column[f"shadow_{field}"] for field in _SHADOW_FIELDS} if column["shadow_policy"] else None
    answer = {
        "request_id": column["request_id"],
        "decision": column["decision"],
        "score": column["score"],
        "threat_level": column["threat_level"],
        "categories": column["categories"],
        "explanations": column["explanations"],
        "branches": {
            branch: {field: column[f"{branch}_{field}"] for field in _BRANCH_FIELDS} for branch in column["branches"]
        },
        "findings": _spans(column, "findings", _FINDING_FIELDS),
        "boosts": column["boosts"],
        "pii": {
            "scanned": column["pii_scanned"],
            "scope": _scope(column),
            "degraded": column["pii_degraded"],
            "language": column["pii_language"],
            "entities": _spans(column, "pii_entities", _ENTITY_FIELDS),
            "count": column["pii_count"],
            "latency_ms": column["pii_latency_ms"],
        },
        "sanitized_text": sanitized,
        "mode": column["mode"],
        "source": column["source"],
        "policy": column["policy"],
        "policy_version": column["policy_version"],
        "dry_run": column["dry_run"],
        "would_decide": column["would_decide"] or None,
        "shadow": shadow if column["shadow_shown"] else None,
        "latency_ms": column["latency_ms"],
        "model_version": column["model_version"],
        "messages": _MESSAGES.validate_json(column["messages"], extra="ignore") if column["messages"] else None,
    }
    return DecisionRecord.model_validate(
        {
            "answer": answer,
            "received_at": EPOCH + column["received_at"] * MICROSECOND,
            "decided_at": EPOCH + column["decided_at"] * MICROSECOND,
            "text_digest": column["text_digest"],
            "text_length": column["text_length"],
            "redacted_text": column["redacted_text"],
            "metadata": _metadata(column["metadata"], column["metadata_kinds"]),
            "shadow": shadow,
            "tenant": column["tenant"],
            "key_id": column["key_id"],
        }
    )


def microseconds(moment: datetime) -> int:
    """Return a time as the event log stores it: microseconds since 1970 (UTC)."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def _branch_columns(result: BranchResult | None) -> Row:
    return _ABSENT_BRANCH if result is None else _branch_values(result)


def _written(messages: Sequence[MessageVerdict] | None) -> str:
    """Return the verdicts of a chat's messages as JSON, without a text; nothing for a text."""
    return "" if messages is None else _MESSAGES.dump_json([each.bare() for each in messages]).decode()


def _spans(column: dict[str, Any], name: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    values = zip(*(column[f"{name}.{field}"] for field in fields), strict=True)
    return [dict(zip(fields, span, strict=True)) for span in values]


def _metadata_columns(metadata: dict[str, MetadataValue]) -> tuple[dict[str, str], str]:
    """Return the values as plain strings, ready for queries, and one letter per sorted key for their types."""
    if not metadata:
        return {}, ""
    written = {key: _WRITE[type(value)](value) for key, value in metadata.items()}
    return written, "".join([_KIND[type(metadata[key])] for key in sorted(metadata)])


def _metadata(written: dict[str, str], kinds: str) -> dict[str, MetadataValue]:
    return {key: _READ[kind](written[key]) for key, kind in zip(sorted(written), kinds, strict=True)}


_KIND: Final[dict[type, str]] = {str: "s", int: "i", float: "f", bool: "b", type(None): "n"}
_WRITE: Final[dict[type, Callable[[Any], str]]] = {
    str: str,
    int: str,
    float: repr,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "",
}
_READ: Final[dict[str, Callable[[str], MetadataValue]]] = {
    "s": str,
    "i": int,
    "f": float,
    "b": lambda text: text == "true",
    "n": lambda _: None,
}


def _scope(column: Mapping[str, Any]) -> str | None:
    if not column["pii_scanned"]:
        return None
    return "all" if column["mode"] == Mode.FULL else "patterns"
