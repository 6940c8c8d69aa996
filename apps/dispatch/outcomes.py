"""What became of an attempt's news: what is left to do once it is committed, and whether it was taken at all."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypedDict
from uuid import UUID

from apps.keys import rates
from apps.live import bell
from apps.scheduling import slots
from apps.webhooks.services import ring as ring_webhooks

log = logging.getLogger(__name__)


class Used(TypedDict):
    job_id: UUID
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a report: `accepted` False where the attempt is not the writer's. `freed` is a slot to give back.

    `used` is what an ended job used of its rate limits. `told`: a webhook waits to be sent.
    """

    accepted: bool
    topics: tuple[str, ...] = ()
    freed: tuple[str, str] | None = None
    overrun_microusd: int = 0
    used: Used | None = None
    told: bool = False

    def announce(self) -> None:
        """After the commit: give the slot back, ring the readers, raise the alarm where a hold was too small."""
        self.alarm()
        if self.used:
            rates.correct(**self.used)
        if self.freed:
            slots.free(self.freed[0], holder=self.freed[1])
        if self.topics:
            bell.ring(*self.topics)
        if self.told:
            ring_webhooks()

    async def announce_async(self) -> None:
        self.alarm()
        said: list[Coroutine[Any, Any, None]] = []  # in this order, in one turn
        if self.used:
            said.append(rates.correct_async(**self.used))
        if self.freed:
            said.append(slots.free_async(self.freed[0], holder=self.freed[1]))
        if self.topics:
            said.append(bell.ring_async(*self.topics))
        await asyncio.gather(*said)
        if self.told:
            await asyncio.to_thread(ring_webhooks)

    def alarm(self) -> None:
        if self.overrun_microusd:
            log.error("cost above the hold", extra={"topics": self.topics, "overrun_microusd": self.overrun_microusd})


REFUSED = Outcome(accepted=False)


def unused(job_id: UUID) -> Used:
    return Used(job_id=job_id, input_tokens=0, output_tokens=0)
