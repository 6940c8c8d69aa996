"""What a door asks for, and what it gets back."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.catalog.models import Tier
from apps.catalog.offers import Offer
from apps.catalog.prices import Terms
from apps.core.ids import uuid7
from apps.core.places import Rule
from apps.keys.rates import Window


@dataclass(frozen=True, slots=True)
class Work:
    """A validated request. The ceilings bound its price: tokens it can read and write at most, pages it has.

    `body` is the OpenAI request without `model` and `stream`. `interactive`: a client waits now; the job leaves the
    queue within the model's `max_queue_seconds` (flexible: FLEXIBLE_QUEUE_SECONDS) or expires. `streaming`: the client gets tokens as they come, so a
    lost attempt that wrote some is not run again. `kind` is what the runner does; a chat model may also do completions,
    and one of vectors rank documents. `job_id` is chosen before, so that a form sent twice makes one job.
    `residency` are the places of earlier work that this repeats or is a part of; the caller's own narrow them further.
    `asked` is the request as it was sent, where `body` was made from another shape; it is kept beside it.
    """

    offer: Offer
    body: dict[str, Any]
    interactive: bool
    streaming: bool
    prompt_tokens_ceiling: int
    max_completion_tokens: int
    pages: int = 0
    file_id: UUID | None = None
    file_type: str = ""
    deadline_seconds: float | None = None
    tier: str = Tier.STANDARD.value
    kind: str = ""  # empty: what the model is for
    metadata: dict[str, str] = field(default_factory=dict)  # the customer's own words about it
    stored: bool = False  # its answer can be asked for again
    residency: Rule = None
    asked: dict[str, Any] | None = None
    job_id: UUID = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.offer.kind)

    def ceiling_microusd(self, *, discount_basis_points: int = 0) -> int:
        """The most this can cost: what is held."""
        return self.offer.price.ceiling_microusd(
            prompt_tokens=self.prompt_tokens_ceiling,
            completion_tokens=self.max_completion_tokens,
            pages=self.pages,
            terms=Terms(self.tier, discount_basis_points),
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    """An accepted job. `pool` is None while it is `queued`. `replayed`: an earlier request made it.

    `windows` is what its rate limits had counted at its admission, with it.
    """

    job_id: UUID
    state: str
    attempt: int
    pool: str | None
    deadline_at: datetime
    replayed: bool = False
    windows: tuple[Window, ...] = ()
