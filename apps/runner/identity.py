"""Who this machine is to the portal: a key that never leaves it, and tokens of an hour that the key asks for."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from apps.runner.config import Configuration
from apps.runner.counters import Sampler
from apps.runner.protocol import (
    GPU,
    Enrolled,
    Enrolment,
    Inventory,
    Renewal,
    Renewed,
    enrolment_text,
    renewal_text,
)

log = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
RENEW_PART = 0.5  # of a token's life that may pass before the next one is asked for
ASK_AGAIN_SECONDS = 1.0  # after a refusal
SECONDS = 10.0
QUESTIONS = 3  # to NVML before it counts as silent: a busy machine, or a driver nothing used yet, misses the first


class NotEnrolled(Exception):
    """The machine did not become a node, or its identity cannot be read; the message says why."""


class Identity:
    """The key and name of an enrolled node, and its token in force. Only `bearer` talks to the portal."""

    def __init__(self, *, node: str, key: Ed25519PrivateKey) -> None:
        self.node = node
        self.key = key
        self.token = ""
        self.redis_url = self.broker_url = ""
        self.refused = ""  # why the portal gave no token when it was last asked
        self.renew_at = 0.0  # monotonic
        self.asked = 0.0
        self.renewing = asyncio.Lock()

    async def bearer(self, client: httpx.AsyncClient, url: str, *, refused: str = "") -> str:
        """The token to call with. `refused` is one that the portal just refused. Raises httpx.HTTPError.

        Where the portal gives none the old one is used: it says better why.
        """
        async with self.renewing:
            now = time.monotonic()
            due = now >= self.renew_at or self.token == refused != ""
            if due and now - self.asked >= ASK_AGAIN_SECONDS:
                self.asked = now
                answer = await client.post(f"{url}/agent/v1/renew", content=self.proof().model_dump_json())
                self.refused = refusal(answer) if answer.status_code != 200 else ""
                if not self.refused:
                    renewed = Renewed.model_validate_json(answer.content)
                    self.token = renewed.token
                    self.redis_url, self.broker_url = renewed.redis_url, renewed.broker_url
                    self.renew_at = now + RENEW_PART * renewed.seconds
            return self.token

    def proof(self) -> Renewal:
        at = time.time()
        return Renewal(node=self.node, at=at, proof=encoded(self.key.sign(renewal_text(self.node, at))))


async def completed(configuration: Configuration, *, most: float = math.inf) -> Configuration:
    """With the addresses that the portal gives its node, where the file names none. Waits for a portal that is away.

    Raises NotEnrolled where it gives none, or `most` seconds have passed.
    """
    if configuration.identity is None or (configuration.redis_url and configuration.broker_url):
        return configuration
    mine = load(configuration.identity)
    until = time.monotonic() + most
    async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
        while True:
            why = "it refuses this node's key"
            try:
                if await mine.bearer(client, configuration.portal_url):
                    break
            except (httpx.HTTPError, OSError, ValidationError) as error:
                why = f"it does not answer ({type(error).__name__})"
            if time.monotonic() >= until:
                raise NotEnrolled(f"The portal gives no addresses of Redis: {why}.")
            log.warning("waiting for the portal", extra={"reason": why})
            await asyncio.sleep(WAIT_SECONDS)
    found = {
        "redis_url": configuration.redis_url or mine.redis_url,
        "broker_url": configuration.broker_url or mine.broker_url.replace("unix://", "redis+socket://", 1),
    }
    if not all(found.values()):
        raise NotEnrolled("The portal gives out no addresses of Redis: name `redis_url` and `broker_url` in the file.")
    return configuration.model_copy(update=found)


def load(path: Path) -> Identity:
    """Raises NotEnrolled."""
    try:
        if path.stat().st_mode & 0o077:
            raise NotEnrolled(f"{path} can be read by others than its owner: chmod 600 {path}")
        given = json.loads(path.read_text())
        key = load_pem_private_key(given["key"].encode(), password=None)
        node = str(given["node"])
    except OSError as error:
        raise NotEnrolled(f"{path} cannot be read: {error.strerror}. Enroll this machine first.") from error
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise NotEnrolled(f"{path} is no identity of a node. Enroll this machine anew.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise NotEnrolled(f"{path} holds another kind of key. Enroll this machine anew.")
    return Identity(node=node, key=key)


async def enroll(*, portal_url: str, token: str, into: Path, sampler: Sampler | None = None) -> Enrolled:
    """Make a key, tell the portal what this machine is, and keep the key where only its owner reads it. Raises NotEnrolled.

    The key is on the disk before the portal knows of it: an answer that is lost loses no node.
    """
    key = Ed25519PrivateKey.generate()
    public = encoded(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    inventory = await taken(sampler or Sampler())
    given = Enrolment(
        token=token,
        public_key=public,
        inventory=inventory,
        proof=encoded(key.sign(enrolment_text(token, public, inventory))),
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    part = into.with_name(f".{into.name}.part")
    write_private(part, {"node": "", "key": pem})
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as client:
            answer = await client.post(f"{portal_url.rstrip('/')}/agent/v1/enroll", content=given.model_dump_json())
    except (httpx.HTTPError, OSError) as error:
        raise NotEnrolled(
            f"{portal_url} does not answer ({type(error).__name__}). Nothing was used up if it did not hear you."
        ) from error
    if answer.status_code != 200:
        part.unlink()
        raise NotEnrolled(refusal(answer))
    try:
        enrolled = Enrolled.model_validate_json(answer.content)
    except ValidationError as error:
        raise NotEnrolled(f"{portal_url} is no portal of this kind.") from error
    write_private(part, {"node": enrolled.node, "key": pem})
    part.replace(into)
    return enrolled


def refusal(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"The portal answered {answer.status_code}. Is its address right?"


def write_private(path: Path, content: dict[str, Any]) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(content, out)
        out.flush()
        os.fsync(out.fileno())


async def taken(sampler: Sampler) -> Inventory:
    """What this machine is. Raises NotEnrolled where its GPUs cannot be named: one that is left out could be another's."""
    found = await sampler.readings()
    while found is None and sampler.misses < QUESTIONS:
        found = await sampler.readings()
    await sampler.stop()
    if found is None:
        raise NotEnrolled("NVML is here and does not answer. Reboot the node, then enroll it.")
    gpus = []
    for uuid, told in found.items():
        memory = told.get("memory_mib") or {}
        gpus.append(
            GPU(
                uuid=uuid,
                name=(told.get("name") or "")[:80],
                memory_mib=memory.get("total"),
                serial=(told.get("serial") or "")[:40],
            )
        )
    driver = next((told.get("driver") or "" for told in found.values()), "")
    return Inventory(
        hostname=platform.node()[:255], driver=driver[:40], cpus=os.cpu_count(), memory_mib=memory_mib(), gpus=gpus
    )


def memory_mib() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)
    except (ValueError, OSError):
        return None


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
