"""What customers can be told of. The list is shown on the page, in the API and in docs/webhooks.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventType:
    name: str
    description: str


EVENT_TYPES = (
    EventType("job.succeeded", "A job ended and its result is ready"),
    EventType("job.failed", "A job failed; nothing was charged for what did not arrive"),
    EventType("job.cancelled", "A job was cancelled"),
    EventType("job.expired", "A job was not started before its deadline"),
    EventType("batch.completed", "A batch ended and its output file is ready"),
    EventType("batch.failed", "A batch failed its check; nothing was charged"),
    EventType("batch.cancelled", "A batch was cancelled; finished rows are kept"),
    EventType("batch.expired", "A batch reached the end of its window; finished rows are kept"),
    EventType("budget.threshold_reached", "Spending passed 50 or 80% of a budget"),
    EventType("budget.exhausted", "A budget is used up; new work under it is refused"),
    EventType("balance.low", "The balance fell below the amount you set"),
    EventType("key.created", "An API key was created"),
    EventType("key.replaced", "An API key was replaced; the old one works until the time named"),
    EventType("key.expiring", "An API key ends in 7 days, or in 1 day"),
    EventType("key.revoked", "An API key was revoked"),
    EventType("invoice.paid", "An invoice was paid"),
    EventType("top_up.paid", "Credit was paid for and added"),
    EventType("top_up.failed", "A payment for credit failed; nothing was charged"),
    EventType("webhook.test", "Sent by “Send test event”, whatever you chose above"),
)
NAMES = frozenset(event.name for event in EVENT_TYPES)
TEST = "webhook.test"
CHOSEN = tuple(event for event in EVENT_TYPES if event.name != TEST)
"""Those a customer chooses from: the test event is sent by its button."""
