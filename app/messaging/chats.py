"""Chats at the edge of the pipeline: their texts alone travel, and come back in the shape of the caller's messages."""

from __future__ import annotations

from collections.abc import Sequence

from app.chat import ChatMessage, utterances
from app.contracts import GuardAnswer, GuardRequest, MessageVerdict, Verdict
from app.errors import InvalidRequest


def lean(request: GuardRequest, messages_limit: int) -> GuardRequest:
    """Return the request with what is read of its messages: an image may be larger than a message of the queue.

    Raises:
        InvalidRequest: there are more than `messages_limit` messages, or tool calls with their results.
    """
    messages = request.messages or []
    if len(messages) > messages_limit:
        raise InvalidRequest(f"may hold at most {messages_limit} messages", field="messages")
    if sum(1 for each in utterances(messages) if each.call is not None) > messages_limit:
        raise InvalidRequest(f"may hold at most {messages_limit} tool calls and results", field="messages")
    return request.model_copy(update={"messages": [each.lean() for each in messages], "source": request.origin})


def completed(answer: bytes, messages: Sequence[ChatMessage]) -> bytes:
    """Return the answer with all messages to use, where it is SANITIZED."""
    decided = GuardAnswer.model_validate_json(answer, extra="allow")  # A later version may have made it.
    if decided.decision is not Verdict.SANITIZED or decided.messages is None:
        return answer
    sanitized = [_used(message, verdict) for message, verdict in zip(messages, decided.messages, strict=True)]
    return decided.model_copy(update={"sanitized_messages": sanitized}).model_dump_json().encode()


def _used(message: ChatMessage, verdict: MessageVerdict) -> ChatMessage:
    if verdict.sanitized_content is not None:
        message = message.with_content(verdict.sanitized_content)
    texts = {
        each.path: [argument.text for argument in each.sanitized_texts]
        for each in verdict.arguments or ()
        if each.sanitized_texts is not None
    }
    return message.with_arguments(texts) if texts else message
