"""What is stored of the text itself, where an operator has opted in."""

from __future__ import annotations

from app.contracts import DecideJob, Envelope, GuardRequest, ScanJob, gives_secret_away
from app.log_contracts import TextRecord


def full_text(request: GuardRequest, judged: ScanJob | DecideJob, envelope: Envelope) -> TextRecord | None:
    """Return the text for the event log; None for one that gives away a secret of the system prompt."""
    if gives_secret_away(judged):
        return None
    return TextRecord(
        request_id=envelope.request_id,
        tenant=envelope.tenant,
        key_id=envelope.key_id,
        received_at=envelope.received_at,
        text_digest=judged.subject.digest,
        text=request.whole_text,
    )
