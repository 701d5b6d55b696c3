"""The guard's Python client, installed as `vigil_guard`: blocking and asynchronous, over HTTP and NATS.

It imports nothing of the service, and of outside libraries httpx2, h11 and pydantic alone (nats-py where NATS is used).
"""

from .asynchronous import AsyncClient
from .blocking import Client
from .errors import (
    AccessDenied,
    BatchFailed,
    Blocked,
    FieldFault,
    GuardError,
    InvalidRequest,
    NoAnswer,
    NoDecision,
    RateLimited,
    Refused,
    RequestExpired,
    RequestIdConflict,
    Unavailable,
    UnexpectedAnswer,
    UnknownRequest,
)
from .patience import Patience
from .streaming import StreamOptions
from .streams import AsyncStream, BlockingStream
from .types import (
    ChatMessage,
    Decision,
    Finding,
    GuardInput,
    GuardOptions,
    MessageDecision,
    OnFailure,
    Restored,
    Verdict,
)

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "AsyncStream",
    "BatchFailed",
    "Blocked",
    "BlockingStream",
    "ChatMessage",
    "Client",
    "Decision",
    "FieldFault",
    "Finding",
    "GuardError",
    "GuardInput",
    "GuardOptions",
    "InvalidRequest",
    "MessageDecision",
    "NoAnswer",
    "NoDecision",
    "OnFailure",
    "Patience",
    "RateLimited",
    "Refused",
    "RequestExpired",
    "RequestIdConflict",
    "Restored",
    "StreamOptions",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownRequest",
    "Verdict",
]
