"""What the blocking and the asynchronous client have in common: requests made of arguments, and the caller's rule."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from .errors import BatchFailed, GuardError, InvalidRequest, NoAnswer
from .exchange import Steps, batch, encode, guard
from .patience import Attempts, Patience
from .types import ChatMessage, Decision, GuardInput, GuardOptions, OnFailure, Verdict

logger: Final = logging.getLogger("vigil_guard")

BATCH_SIZE: Final = 100
"""Most texts the guard takes at once by default; more are sent as several batches."""
BATCH_BYTES: Final = 12_000_000
"""Largest body of a batch that the guard takes by default: eight times that of one text."""
ROOM_BYTES: Final = 64
"""What a request takes in a batch beside its own fields: a deadline, a separator, and its part of the body's frame."""
OPTIONS: Final = frozenset(GuardOptions.__optional_keys__)
RULES: Final = ("raise", "block", "allow")
NO_PROXY: Final = dict.fromkeys(("all://127.0.0.1", "all://[::1]", "all://localhost"))
"""Hosts that are asked without the environment's proxy (HTTP_PROXY), as mounts of httpx2: it would ask its own machine,
and be told the texts."""
Outcome = TypeVar("Outcome")


def rule(on_failure: OnFailure) -> OnFailure:
    if on_failure not in RULES:
        raise ValueError("on_failure must be 'raise', 'block' or 'allow'")
    return on_failure


def headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of every request.

    Raises:
        ValueError: the key has characters that no key has; the message does not say which.
    """
    try:
        release = version("vigil-guard")
    except PackageNotFoundError:
        release = "0"
    fields = {"User-Agent": f"vigil-guard-python/{release}", "Accept": "application/json"}
    if api_key is not None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ValueError("the API key must be printable ASCII without spaces")
        fields["Authorization"] = f"Bearer {api_key}"
    return fields


def request_of(
    text: str | None, options: Mapping[str, Any], messages: Sequence[ChatMessage] | None = None
) -> dict[str, Any]:
    """Return the fields of one guard request; it gets an id where the caller gave none.

    Raises:
        TypeError: it has neither a text nor messages, or both, or an option that does not exist.
        InvalidRequest: the request id is none.
    """
    if (text is None) == (messages is None):
        raise TypeError("either a text or messages are needed")
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise TypeError(f"unknown option: {', '.join(unknown)}")
    judged = {"text": text} if messages is None else {"messages": list(messages)}
    fields: dict[str, Any] = {**judged, **{name: value for name, value in options.items() if value is not None}}
    try:
        fields["request_id"] = str(UUID(str(fields.get("request_id") or uuid4())))
    except ValueError:
        raise InvalidRequest("request_id must be a UUID") from None
    return fields


def judged(
    text: str | None,
    options: Mapping[str, Any],
    patience: Patience,
    on_failure: OnFailure,
    messages: Sequence[ChatMessage] | None = None,
) -> Steps[Decision]:
    request = request_of(text, options, messages)
    try:
        return (yield from guard(request, Attempts(patience)))
    except NoAnswer as error:
        return _by_rule(error, UUID(request["request_id"]), on_failure)


def judged_each(
    texts: Iterable[str | GuardInput], options: Mapping[str, Any], patience: Patience, on_failure: OnFailure
) -> Steps[list[Decision]]:
    """Judge texts in batches.

    Raises:
        BatchFailed: some have no decision, and no rule of the caller covers that.
    """
    requests = [_request(each, options) for each in texts]
    results: list[Decision | GuardError] = []
    for part in _parts(requests):
        results += yield from _batch(part, patience, on_failure, first=len(results))
    decisions = [result for result in results if isinstance(result, Decision)]
    if len(decisions) < len(results):
        raise BatchFailed(results)
    return decisions


def _parts(requests: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield batches, in order, that the guard takes; a request that is too large for it stands alone."""
    part: list[dict[str, Any]] = []
    size = 0
    for request in requests:
        own = _size(request)
        if part and (len(part) == BATCH_SIZE or size + own > BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(request)
        size += own
    if part:
        yield part


def _size(request: Mapping[str, Any]) -> int:
    """Return how many bytes a request takes in a batch; what cannot be written is refused where it is sent."""
    try:
        return len(encode(request)) + ROOM_BYTES
    except InvalidRequest:
        return ROOM_BYTES


def _batch(
    requests: Sequence[Mapping[str, Any]], patience: Patience, on_failure: OnFailure, *, first: int
) -> Steps[list[Decision | GuardError]]:
    outcomes = yield from batch(requests, Attempts(patience), first)
    return [
        _by_rule(outcome, UUID(request["request_id"]), on_failure)
        if isinstance(outcome, NoAnswer) and on_failure != "raise"
        else outcome
        for request, outcome in zip(requests, outcomes, strict=True)
    ]


def _request(item: str | GuardInput, options: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(item, str):
        return request_of(item, options)
    own: dict[str, Any] = dict(item)
    text, messages = own.pop("text", None), own.pop("messages", None)
    return request_of(text, {**options, **own}, messages)


def _by_rule(error: NoAnswer, request_id: UUID, on_failure: OnFailure) -> Decision:
    if on_failure == "raise":
        raise error
    verdict = Verdict.BLOCKED if on_failure == "block" else Verdict.ALLOWED
    logger.warning("no answer of the guard (%s): %s by rule, request %s", type(error).__name__, verdict, request_id)
    return Decision.by_rule(verdict, request_id, error)
