"""How much one caller may ask for; what is None has no limit of its own."""

from __future__ import annotations

import math
from typing import Annotated, Final

from pydantic import Field

from app.contracts import MAX_AMOUNT, MAX_RATE_PER_S, MIN_RATE_PER_S, Integer, Message, Number

Amount = Annotated[Integer, Field(ge=1, le=MAX_AMOUNT)]


class Limits(Message):
    """The limits of a key."""

    rate_per_s: Annotated[Number, Field(ge=MIN_RATE_PER_S, le=MAX_RATE_PER_S)] | None = Field(
        default=None, description="Requests per second, over all replicas; a batch counts each of its texts."
    )
    burst: Amount | None = Field(
        default=None, description="Requests that may come at once; as many as come in a second when absent."
    )
    requests_per_day: Amount | None = Field(default=None, description="Texts judged per day (UTC).")
    requests_per_month: Amount | None = Field(default=None, description="Texts judged per month (UTC).")
    body_bytes: Amount | None = Field(default=None, description="Largest body; never more than the service takes.")
    text_length: Amount | None = Field(default=None, description="Longest text in code points.")
    batch_size: Amount | None = Field(default=None, description="Most requests in one batch.")
    concurrency: Amount | None = Field(
        default=None, description="Requests under way at once; each replica takes its share."
    )

    @property
    def burst_size(self) -> int:
        """How many requests may come at once when none came before."""
        return self.burst or max(1, math.ceil(self.rate_per_s or 1))


UNLIMITED: Final = Limits()
