"""What is asked of each pool for nobody: a probe now and then, and a burn-in where the portal wants one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from apps.runner import burning_in
from apps.runner.portal import Portal, PortalAway, PortalRefused
from apps.runner.post import Post
from apps.runner.watch import Watch

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between two looks at whether a probe or a test is due
TEST_AGAIN_SECONDS = 30.0  # after one that we could not end


class Checks:
    def __init__(self, posts: Mapping[str, Post], *, watch: Watch, portal: Portal, changed: Callable[[], None]) -> None:
        self.posts = posts
        self.watch = watch
        self.portal = portal
        self.changed = changed
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.probe(post), name=f"probe {code}") for code, post in self.posts.items()]
        self.tasks.append(asyncio.create_task(self.burn_in(), name="burn-in"))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def probe(self, post: Post) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not post.testing and await post.probe.look(post.meter):
                self.changed()

    async def burn_in(self) -> None:
        """One pool after the other, so that none is measured beside another on the same GPUs."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for post in self.posts.values():
                wanted = post.resident.desired.test
                if wanted is not None and wanted != post.tested and post.resident.state == "ready":
                    await self.test(post)

    async def test(self, post: Post) -> None:
        log.info("a test begins", extra={"pool": post.pool.code})
        post.testing = 1
        try:
            result = await burning_in.test(
                post.resident,
                kind=post.pool.kind,
                model=post.model,
                meter=post.meter,
                gpus={uuid: self.watch.readings.get(uuid, {}) for uuid in post.gpus},
                fault=lambda: self.watch.refusal(post.gpus),
            )
            log.info("a test ended", extra={"pool": post.pool.code, "passed": result.passed})
            await self.portal.burned_in(result)
            post.tested = result.test
        except (PortalAway, PortalRefused) as error:  # it is done once more
            log.warning("the portal does not take a test's result", extra={"error": str(error)})
        except Exception:
            log.exception("a test ended by an error of ours", extra={"pool": post.pool.code})
            await asyncio.sleep(TEST_AGAIN_SECONDS)
        finally:
            post.testing = 0
