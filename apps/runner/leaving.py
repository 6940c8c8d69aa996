"""`cango-runner drain`: this machine is taken out of work through the portal, and whoever asked waits until it is empty."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable

from pydantic import ValidationError

from apps.runner import identity
from apps.runner.config import Configuration
from apps.runner.portal import BROKEN, Portal
from apps.runner.protocol import DrainWish, NodeTold

log = logging.getLogger(__name__)

SECONDS = 10.0  # of one call
LOOK_SECONDS = 1.0
GRACE_SECONDS = 60.0  # after its deadline a lease may run out, and the portal note it

EMPTY, REFUSED, NOT_EMPTY, AWAY = 0, 1, 3, 4  # exit codes; 2 is a bad configuration

Put = Callable[[str], object]


class NotDrained(Exception):
    """The portal does not take this node out of work; the message says why."""


async def drain(
    configuration: Configuration, *, reason: str, seconds: float, wait: bool = True, put: Put = print
) -> int:
    """Ask, then wait until nothing runs here by the portal's books. Returns the exit code."""
    try:
        mine = identity.load(configuration.identity) if configuration.identity else None
    except identity.NotEnrolled as error:
        put(str(error))
        return REFUSED
    portal = Portal(url=configuration.portal_url, token=configuration.node_token, identity=mine)
    try:
        try:
            told = await said(portal, DrainWish(reason=reason, seconds=seconds))
        except NotDrained as error:
            # What is in burn-in or maintenance gets no work anyway: it is empty, or becomes so.
            told = await said(portal)
            if told.state not in {"burn-in", "maintenance"}:
                put(f"{error} Nothing was changed.")
                return REFUSED
        put(began(told))
        return await emptied(portal, told, put) if wait else EMPTY
    except (*BROKEN, ValidationError) as error:
        put(
            f"The portal {configuration.portal_url} does not answer ({type(error).__name__}). Nothing is known to have changed."
        )
        return AWAY
    except NotDrained as error:
        put(str(error))
        return REFUSED
    finally:
        await portal.close()


async def emptied(portal: Portal, told: NodeTold, put: Put) -> int:
    until = time.monotonic() + max(told.drain.left_seconds if told.drain else 0.0, 0.0) + GRACE_SECONDS
    running: int | None = None
    while not empty(told):
        if told.state == "admitted":
            put(f"{told.node} was put back to work meanwhile: the portal gives it new work.")
            return REFUSED
        if time.monotonic() >= until:
            put(
                f"{told.running} attempts still run, past the deadline. They are lost to this node; look at the portal."
            )
            return NOT_EMPTY
        if told.running != running:
            left = f"; {max(told.drain.left_seconds, 0):.0f} s to the deadline" if told.drain else ""
            put(f"{told.running} attempts run{left}")
            running = told.running
        await asyncio.sleep(LOOK_SECONDS)
        try:
            told = await said(portal)
        except (*BROKEN, ValidationError) as error:
            log.warning("the portal does not answer; asking again", extra={"error": type(error).__name__})
    put(f"{told.node} is {told.state} and empty. Its runner may be stopped; staff admit the node again.")
    return EMPTY


def empty(told: NodeTold) -> bool:
    """A drain is noted some seconds after the last attempt: an order may still have been on its way."""
    return told.drain.drained if told.drain else told.state != "admitted" and told.running == 0


def began(told: NodeTold) -> str:
    if told.drain is None:
        return f"{told.node} is in {told.state}: it gets no work anyway."
    return f'{told.node} at {told.site} takes no new work: {told.drain.purpose} ("{told.drain.reason}"), {told.drain.left_seconds:.0f} s to its deadline.'


async def said(portal: Portal, wish: DrainWish | None = None) -> NodeTold:
    """How the portal sees this node, after the wish where there is one. Raises NotDrained and what is BROKEN."""
    if wish:
        answer = await portal.call("/agent/v1/drain", wish.model_dump_json(), seconds=SECONDS)
    else:
        answer = await portal.call("/agent/v1/node", None, seconds=SECONDS)
    if answer.status_code == 200:
        return NodeTold.model_validate_json(answer.content)
    if answer.status_code >= 500:
        raise OSError(f"it answered {answer.status_code}")
    try:
        raise NotDrained(str(answer.json()["error"]["message"]))
    except (json.JSONDecodeError, KeyError, TypeError):
        raise NotDrained(f"The portal answered {answer.status_code}. Is its address right?") from None
