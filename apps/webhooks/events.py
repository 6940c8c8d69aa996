"""What customers can be told of. The list is shown on the page, in the API and in docs/webhooks.md."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext, gettext_noop


@dataclass(frozen=True, slots=True)
class EventType:
    name: str
    description: str

    @property
    def words(self) -> str:
        """The description in the reader's language."""
        return gettext(self.description)


EVENT_TYPES = (
    EventType("job.succeeded", gettext_noop("A job ended and its result is ready")),
    EventType("job.failed", gettext_noop("A job failed; nothing was charged for what did not arrive")),
    EventType("job.cancelled", gettext_noop("A job was cancelled")),
    EventType("job.expired", gettext_noop("A job was not started before its deadline")),
    EventType("batch.completed", gettext_noop("A batch ended and its output file is ready")),
    EventType("batch.failed", gettext_noop("A batch failed its check; nothing was charged")),
    EventType("batch.cancelled", gettext_noop("A batch was cancelled; finished rows are kept")),
    EventType("batch.expired", gettext_noop("A batch reached the end of its window; finished rows are kept")),
    EventType("budget.threshold_reached", gettext_noop("Spending passed 50 or 80% of a budget")),
    EventType("budget.exhausted", gettext_noop("A budget is used up; new work under it is refused")),
    EventType("balance.low", gettext_noop("The balance fell below the amount you set")),
    EventType("key.created", gettext_noop("An API key was created")),
    EventType("key.replaced", gettext_noop("An API key was replaced; the old one works until the time named")),
    EventType("key.expiring", gettext_noop("An API key ends in 7 days, or in 1 day")),
    EventType("key.revoked", gettext_noop("An API key was revoked")),
    EventType("invoice.paid", gettext_noop("An invoice was paid")),
    EventType("top_up.paid", gettext_noop("Credit was paid for and added")),
    EventType("top_up.failed", gettext_noop("A payment for credit failed; nothing was charged")),
    EventType("webhook.test", gettext_noop("Sent by “Send test event”, whatever you chose above")),
)
NAMES = frozenset(event.name for event in EVENT_TYPES)
TEST = "webhook.test"
CHOSEN = tuple(event for event in EVENT_TYPES if event.name != TEST)
"""Those a customer chooses from: the test event is sent by its button."""
