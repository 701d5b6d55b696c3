"""Policies as documents: read and written, checked with every fault named, told apart, compared, and their schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from app.arbiter.policy import Policy
from app.contracts import PolicyPin
from app.errors import ConfigurationError, PolicyRefused
from app.validation import MOST_FAULTS, NAMEABLE

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from yaml import CSafeLoader as SafeLoader
else:
    # libyaml's takes a fifth of the time and bounds the depth; a build of PyYAML for another platform may lack it.
    SafeLoader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

FINGERPRINT_DIGITS: Final = 16
MAX_DOCUMENT_BYTES: Final = 500_000
"""Of one policy: its lists can hold a thousand phrases of 256 characters, and a message of NATS 1 MB."""
NUMBERS: Final = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
"""YAML's tags of numbers."""
ABSENT: Final = "(absent)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which two policies differ."""

    field: str
    before: str
    after: str


def parse_policy(document: Any) -> Policy:
    """Check a document, given as plain values.

    Raises:
        PolicyRefused: it does not fit the schema; `faults` names every field and why.
    """
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise _refused(error) from None


def parse_json(document: bytes, *, version: int | None = None) -> Policy:
    """Check a document as it is kept in the bucket, or sent by a caller.

    Args:
        document: JSON.
        version: stands for the version of one that has none, since applying it gives it its number.

    Raises:
        PolicyRefused: it is too large, is not JSON, gives a key twice, or does not fit the schema.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise PolicyRefused(f"(document): takes {len(document)} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")
    try:
        read = json.loads(document, object_pairs_hook=_unique, parse_constant=_no_number)
    except PolicyRefused:
        raise
    except (ValueError, RecursionError):
        raise PolicyRefused("(document): is not JSON", field="(document)") from None
    return parse_policy(numbered(read, version))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; a key given twice is an error, as in YAML: json would keep the last and hide the other."""
    read = dict(pairs)
    if len(read) < len(pairs):
        seen: set[str] = set()
        field = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        named = _named(field)
        raise PolicyRefused(f"{named}: is given twice", faults=((named, "is given twice"),))
    return read


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def numbered(document: Any, version: int | None) -> Any:
    """Return a document with a version where it has none."""
    if version is None or not isinstance(document, dict) or "version" in document:
        return document
    return {"version": version, **document}


def _refused(error: ValidationError) -> PolicyRefused:
    if error.error_count() > MOST_FAULTS:
        reason = f"has {error.error_count()} faults, too many to name"
        return PolicyRefused(f"(document): {reason}", faults=(("(document)", reason),))
    faults = [
        (".".join(map(_named, fault["loc"])) or "(document)", _reason(fault))
        for fault in error.errors(include_url=False, include_input=False)
    ]
    return PolicyRefused("; ".join(f"{field}: {reason}" for field, reason in faults), faults=tuple(faults))


def _named(key: object) -> str:
    """Return how an error calls a key: what nobody would call a field may be anything, also a text."""
    return str(key) if isinstance(key, int) or NAMEABLE.fullmatch(str(key)) else "(unnamed field)"


def _reason(fault: ErrorDetails) -> str:
    if fault["type"] == "union_tag_invalid":  # Pydantic's words repeat the tag.
        told = fault["ctx"]
        return f"{told['discriminator']} does not match any of the expected tags: {told['expected_tags']}"
    return fault["msg"]


def canonical_json(policy: Policy) -> bytes:
    """Return the document as it is kept: without what a default says, so that a new field changes no fingerprint."""
    return policy.model_dump_json(exclude_defaults=True).encode()


def as_yaml(policy: Policy) -> str:
    """Return the document for people, defaults included."""
    document = policy.model_dump(mode="json")
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def pin_of(policy: Policy) -> PolicyPin:
    return PolicyPin(name=policy.name, version=policy.version, fingerprint=_fingerprint(canonical_json(policy)))


def pin_of_document(name: str, document: bytes) -> PolicyPin | None:
    """Return which version of a policy a document of the bucket is, also one that this program cannot read, as of a
    newer release; None where it has no number."""
    try:
        policy = parse_json(document)
    except PolicyRefused:
        return _pin_of_unreadable(name, document)
    return pin_of(policy) if policy.name == name else None


def _pin_of_unreadable(name: str, document: bytes) -> PolicyPin | None:
    try:
        version = json.loads(document)["version"]
    except (ValueError, RecursionError, TypeError, LookupError):
        return None
    # The last number has no next.
    if type(version) is not int or not 1 <= version < 2**32 - 1:
        return None
    return PolicyPin(name=name, version=version, fingerprint=_fingerprint(document))


def _fingerprint(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()[:FINGERPRINT_DIGITS]


def same_but_for_the_version(one: Policy, other: Policy) -> bool:
    return one.model_copy(update={"version": other.version}) == other


def differences(before: Policy, after: Policy) -> list[Difference]:
    """Return every field in which two policies differ, in the order of the schema."""
    old, new = dict(_leaves(before.model_dump(mode="json"))), dict(_leaves(after.model_dump(mode="json")))
    fields = dict.fromkeys((*old, *new))
    found = [
        Difference(field, old.get(field, ABSENT), new.get(field, ABSENT))
        for field in fields
        if old.get(field) != new.get(field)
    ]
    # Boosts are tried in their order, which their fields by name do not tell.
    order, turned = ([boost.name for boost in each.boosts] for each in (before, after))
    if order != turned and sorted(order) == sorted(turned):
        found.append(Difference("boosts", json.dumps(order), json.dumps(turned)))
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            named = inner.get("name") or inner.get("rule") or number
            yield from _leaves(inner, f"{path}.{named}")
    elif value != []:
        yield path, json.dumps(value, ensure_ascii=False)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Policy.model_json_schema(),
        "title": "Policy of Vigil Guard",
    }


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        ConfigurationError: the file cannot be read, is too large, is not UTF-8 or YAML, or repeats a key.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_DOCUMENT_BYTES + 1)
        text = content.decode() if len(content) <= MAX_DOCUMENT_BYTES else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read as YAML: {type(error).__name__}") from None
    if text is None:
        raise _too_large(str(path))
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> Any:
    """Return the content of a YAML document; `origin` names it in errors.

    Raises:
        ConfigurationError: it is too large, is not YAML, or repeats a key.
    """
    if len(text.encode()) > MAX_DOCUMENT_BYTES:
        raise _too_large(origin)
    try:
        loader = UniqueKeyLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigurationError(f"{origin}: line {line}: {error.problem}") from None
    # The last three: a scalar that is none of its kind, as the 99th of a month or an empty `!!int`.
    except (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError) as error:
        raise ConfigurationError(f"{origin}: cannot be read as YAML: {type(error).__name__}") from None


def _too_large(origin: str) -> ConfigurationError:
    return ConfigurationError(f"{origin}: is larger than {MAX_DOCUMENT_BYTES} bytes, the most that a policy may take")


class UniqueKeyLoader(SafeLoader):
    """YAML's safe loader, but a key given twice is an error: PyYAML would keep the last and hide the other."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a list or map is no key", key_node.start_mark)
            if key in seen:
                twice = f"{_named(key)} is given twice"
                raise yaml.constructor.ConstructorError(None, None, twice, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        read = super().construct_scalar(node)
        # YAML 1.1's base 60: a long number takes PyYAML quadratic time, and a fraction overflows.
        if node.tag in NUMBERS and ":" in read:
            raise yaml.constructor.ConstructorError(None, None, "a number in base 60 is not read", node.start_mark)
        return read
