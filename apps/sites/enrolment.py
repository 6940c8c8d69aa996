"""A machine becomes a node: a one-time token of staff's, a key pair that it makes, and tokens that live for an hour.

A token names the node and its generation, so enrolling again ends all that went before; each call looks the node's state up,
so quarantine and retirement end them within a call.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.db import transaction
from psycopg.types.json import Jsonb

from apps.accounts import audit
from apps.accounts.models import User
from apps.core.errors import NotAllowed, NotAuthenticated
from apps.core.sql import Plan, Row, Statement
from apps.runner import protocol
from apps.sites import acl, lifecycle, nodes
from apps.sites.models import EnrolmentToken, Node

State = Node.State
VALID = timedelta(hours=24)
TOKEN_SECONDS = 3600.0
CLOCK_SECONDS = 120.0  # by which a node's clock may be wrong
PREFIX = "nodet_"


class EnrolmentRefused(NotAllowed):
    """The one-time token does not make this machine a node. Nothing was written."""

    code = "enrolment_refused"


# One-time tokens


def issue(*, node: Node, actor: User, reason: str, now: datetime) -> str:
    """A new one-time token, shown once; what was issued before and not used is void. Raises NotAllowed for a retired node."""
    if node.state == State.RETIRED:
        raise NotAllowed("A retired node is not enrolled again. Add a new one.")
    token = f"enrol_{secrets.token_urlsafe(24)}"
    with transaction.atomic():
        EnrolmentToken.objects.filter(node=node, used_at=None, expires_at__gt=now).update(expires_at=now)
        EnrolmentToken.objects.create(node=node, sha256=nodes.digest(token), actor=actor, expires_at=now + VALID)
        audit.record(organization=None, actor=actor, action="node.enrolment_issued", target=node.code, reason=reason)
    return token


SLOT = """
SELECT e.id, e.used_at IS NOT NULL AS used, e.expires_at <= clock_timestamp() AS expired, n.id AS node_id, n.code AS node, n.state, n.expected_gpus,
    s.code AS site, s.ip_ranges = '{}' OR coalesce(%(address)s::inet <<= ANY (s.ip_ranges::cidr[]), false) AS at_home,
    array(SELECT p.code FROM sites_pool p WHERE p.node_id = n.id ORDER BY p.code)::text[] AS pools,
    array(SELECT g.uuid FROM sites_gpu g WHERE g.node_id = n.id AND g.removed_at IS NULL)::text[] AS gpus
FROM sites_enrolmenttoken e JOIN sites_node n ON n.id = e.node_id JOIN sites_site s ON s.id = n.site_id
WHERE e.sha256 = %(sha256)s FOR UPDATE OF e, n
"""
FOUND = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(gpus)s) AS (uuid text, name text, memory_mib int, serial text)
), added AS (
    INSERT INTO sites_gpu (uuid, node_id, name, memory_mib, serial, first_seen_at)
    SELECT uuid, %(node)s, name, memory_mib, serial, clock_timestamp() FROM given ORDER BY uuid
    ON CONFLICT DO NOTHING RETURNING uuid
)
SELECT array(SELECT uuid FROM added)::text[] AS added
"""
ELSEWHERE = """
SELECT g.uuid, n.code FROM sites_gpu g JOIN sites_node n ON n.id = g.node_id
WHERE g.uuid = ANY(%(uuids)s) AND g.removed_at IS NULL AND g.node_id <> %(node)s ORDER BY g.uuid
"""
WRITE = """
WITH used AS (UPDATE sites_enrolmenttoken SET used_at = clock_timestamp() WHERE id = %(id)s)
UPDATE sites_node SET public_key = %(key)s, generation = generation + 1, renewed_at = NULL, inventory = %(inventory)s, token_sha256 = %(nobody)s
WHERE id = %(node)s
"""


def enrol(given: protocol.Enrolment, *, address: str | None) -> Plan[protocol.Enrolled]:
    """Make a machine the node that staff described. Raises EnrolmentRefused, and NotAuthenticated for an unknown token.

    A GPU that is at another node, other GPUs than at the last enrolment, or another number than was expected quarantine the
    node: the token is used, nothing of the machine is believed, and staff look.
    """
    rows = yield Statement(SLOT, {"sha256": nodes.digest(given.token), "address": address})
    if not rows:
        raise NotAuthenticated("This enrolment token is not known.", code="invalid_enrolment_token")
    slot = rows[0]
    if slot["used"]:
        raise EnrolmentRefused(
            "This enrolment token was used already. Ask the operator for a new one.", code="enrolment_used"
        )
    if slot["expired"]:
        raise EnrolmentRefused(
            "This enrolment token is valid no more. Ask the operator for a new one.", code="enrolment_expired"
        )
    if not slot["at_home"]:
        raise EnrolmentRefused(
            f"This token is for a node at {slot['site']}, and you call from elsewhere ({address or 'an unknown address'}).",
            code="enrolment_elsewhere",
        )
    if slot["state"] == State.RETIRED:
        raise EnrolmentRefused("This node was retired.", code="node_retired")
    text = protocol.enrolment_text(given.token, given.public_key, given.inventory)
    if not signed(given.public_key, given.proof, text):
        raise EnrolmentRefused("The proof is not made with the key it names.", code="invalid_proof")
    reason = yield from _doubt(slot, given.inventory)
    yield Statement(
        WRITE,
        {
            "id": slot["id"],
            "node": slot["node_id"],
            "key": given.public_key,
            "inventory": Jsonb(given.inventory.model_dump(mode="json")),
            "nobody": nodes.digest(nodes.new_token()),  # the token of a file, where it had one, ends here
        },
    )
    state: str = slot["state"]
    if state == State.QUARANTINED and not reason:
        reason = "It was quarantined before"
    after = State.QUARANTINED if reason else State.BURN_IN if state == State.PENDING else state
    if after != state:
        yield from lifecycle.step(slot["node_id"], before=state, after=after, reason=reason or "Enrolled")
    return protocol.Enrolled(
        node=slot["node"], site=slot["site"], state=str(State(after).value), reason=reason, pools=slot["pools"]
    )


def _doubt(slot: Row, inventory: protocol.Inventory) -> Plan[str]:
    """Why this machine is not believed; empty where it is, and then its GPUs are written down."""
    uuids = [gpu.uuid for gpu in inventory.gpus]
    if len(set(uuids)) < len(uuids):
        return "It names a GPU twice"
    there = yield Statement(ELSEWHERE, {"uuids": uuids, "node": slot["node_id"]})
    if there:
        return f"{there[0]['uuid']} is at {there[0]['code']}"
    if slot["expected_gpus"] is not None and len(uuids) != slot["expected_gpus"]:
        return f"It has {len(uuids)} GPUs, and {slot['expected_gpus']} were expected"
    if slot["gpus"]:
        changed = set(slot["gpus"]) ^ set(uuids)
        return f"Its GPUs changed: {', '.join(sorted(changed))}" if changed else ""
    added = yield from _add(slot["node_id"], inventory.gpus)
    if set(added) != set(uuids):  # another machine was enrolled with it at the same moment
        return "A GPU of it is at another node"
    return ""


def _add(node_id: int, gpus: list[protocol.GPU]) -> Plan[list[str]]:
    rows = yield Statement(FOUND, {"node": node_id, "gpus": Jsonb([gpu.model_dump() for gpu in gpus])})
    added: list[str] = rows[0]["added"]
    return added


REMOVE = """
UPDATE sites_gpu SET removed_at = clock_timestamp() WHERE node_id = %(node)s AND removed_at IS NULL AND NOT uuid = ANY(%(uuids)s)
"""
KNOWN = "SELECT uuid FROM sites_gpu WHERE node_id = %(node)s AND removed_at IS NULL"
INVENTORY = "SELECT inventory, state FROM sites_node WHERE id = %(node)s FOR UPDATE"


def believe(node_id: int, *, reason: str, actor_id: int) -> Plan[None]:
    """A person looked: the machine's GPUs are those of its last enrolment. The node goes to burn-in. Raises NotAllowed."""
    row = (yield Statement(INVENTORY, {"node": node_id}))[0]
    if row["state"] != State.QUARANTINED or not row["inventory"]:
        raise NotAllowed("Only a quarantined node that was enrolled has hardware to believe.")
    gpus = protocol.Inventory.model_validate(row["inventory"]).gpus
    uuids = [gpu.uuid for gpu in gpus]
    there = yield Statement(ELSEWHERE, {"uuids": uuids, "node": node_id})
    if there:
        raise NotAllowed(f"{there[0]['uuid']} is at {there[0]['code']}: say first that it was taken out there.")
    yield Statement(REMOVE, {"node": node_id, "uuids": uuids})
    known = {each["uuid"] for each in (yield Statement(KNOWN, {"node": node_id}))}
    yield from _add(node_id, [gpu for gpu in gpus if gpu.uuid not in known])
    yield from lifecycle.step(node_id, before=State.QUARANTINED, after=State.BURN_IN, reason=reason, actor_id=actor_id)


# Tokens of an hour

KEY = "SELECT id, public_key, generation FROM sites_node WHERE code = %(node)s AND state = ANY(%(heard)s) AND public_key <> ''"
RENEW = """
UPDATE sites_node SET renewed_at = %(at)s WHERE id = %(id)s AND generation = %(generation)s AND (renewed_at IS NULL OR renewed_at < %(at)s)
RETURNING id
"""
HOLDERS = """
SELECT id, generation, '' AS sha256 FROM sites_node WHERE id = ANY(%(ids)s) AND state = ANY(%(heard)s)
UNION ALL
SELECT id, 0, token_sha256 FROM sites_node WHERE token_sha256 = ANY(%(hashes)s) AND state = ANY(%(heard)s)
"""


def renew(given: protocol.Renewal, *, now: float) -> Plan[protocol.Renewed]:
    """The next token of a node that proves its key. Raises NotAuthenticated, which says what a doctor can act on."""
    rows = yield Statement(KEY, {"node": given.node, "heard": list(lifecycle.HEARD)})
    text = protocol.renewal_text(given.node, given.at)
    if not rows or not signed(rows[0]["public_key"], given.proof, text):
        raise NotAuthenticated("This node is not known, not admitted, or has another key.", code="invalid_node_key")
    if abs(now - given.at) > CLOCK_SECONDS:
        raise NotAuthenticated(f"The node's clock is off by {given.at - now:.0f} s.", code="wrong_clock")
    found = rows[0]
    if not (yield Statement(RENEW, {"id": found["id"], "generation": found["generation"], "at": given.at})):
        raise NotAuthenticated("This proof was used already.", code="proof_used")
    token = signed_token(found["id"], found["generation"], expires=int(now + TOKEN_SECONDS))
    redis_url = acl.url(settings.SITES_REDIS_URL, given.node, found["generation"])
    broker_url = acl.url(settings.SITES_BROKER_URL, given.node, found["generation"])
    return protocol.Renewed(token=token, seconds=TOKEN_SECONDS, redis_url=redis_url, broker_url=broker_url)


class Right(NamedTuple):
    """What a call came with: a node and its generation out of a token of an hour, or the SHA-256 of a fixed token."""

    node: int = 0
    generation: int = 0
    sha256: str = ""


def unknown() -> NotAuthenticated:
    return NotAuthenticated("This node is not known or not admitted.", code="invalid_node_token")


def right(token: str | None, *, now: float) -> Right:
    """As far as it can be told without the database. Raises NotAuthenticated."""
    if token is None:
        raise NotAuthenticated("Send the node's token as a bearer token.", code="invalid_node_token")
    if not token.startswith(PREFIX):
        return Right(sha256=nodes.digest(token))
    of, expires = proven(token, settings.SECRET_KEY)
    if expires <= now:
        raise unknown()
    return of


@lru_cache(maxsize=4096)
def proven(token: str, secret: str) -> tuple[Right, int]:
    """What a token of an hour says, and until when: signed by us, which does not change from beat to beat. Raises NotAuthenticated."""
    payload, _, signature = token.removeprefix(PREFIX).rpartition(".")
    if not hmac.compare_digest(signature.encode(), mac(payload, secret).encode()):
        raise unknown()
    node, generation, expires = (int(part) for part in payload.split("."))
    return Right(node=node, generation=generation), expires


def holders(rights: Iterable[Right]) -> Plan[dict[Right, int]]:
    """The nodes that rights speak for, while their state lets them. Whoever may not speak is left out."""
    given = set(rights)
    params = {
        "ids": [each.node for each in given if each.node],
        "hashes": [each.sha256 for each in given if each.sha256],
        "heard": list(lifecycle.HEARD),
    }
    found: dict[Right, int] = {}
    for row in (yield Statement(HOLDERS, params, alone=True)):
        of = Right(sha256=row["sha256"]) if row["sha256"] else Right(node=row["id"], generation=row["generation"])
        if of in given:
            found[of] = row["id"]
    return found


def signed_token(node_id: int, generation: int, *, expires: int) -> str:
    payload = f"{node_id}.{generation}.{expires}"
    return f"{PREFIX}{payload}.{mac(payload, settings.SECRET_KEY)}"


def mac(payload: str, secret: str) -> str:
    return hmac.digest(secret.encode(), f"node:{payload}".encode(), "sha256").hex()


def signed(public_key: str, proof: str, text: bytes) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(proof, validate=True), text)
    except (ValueError, binascii.Error, InvalidSignature):
        return False
    return True
