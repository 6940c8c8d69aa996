import asyncio
import base64
import json
from typing import Any

from apps.dispatch import outbox
from apps.runner import protocol
from tests.dispatch.test_submit import queued_orders


def opened(raw: str) -> tuple[dict[str, Any], Any, list[str]]:
    """A message without its ids, its body, and the ids."""
    message = json.loads(raw)
    body = json.loads(base64.b64decode(message.pop("body")))
    headers, properties = message["headers"], message["properties"]
    ids = [headers.pop("id"), headers.pop("root_id"), properties.pop("correlation_id"), properties.pop("delivery_tag")]
    properties.pop("reply_to")  # the name of a thread
    return message, body, ids


def test_an_order_is_pushed_as_celery_would_have_sent_it(shop, valkey):
    shop.submit()
    [order] = queued_orders(valkey, shop.pool)
    queue = protocol.queue(shop.pool.code)
    valkey.delete(queue)
    assert outbox.publish(order)
    assert outbox.in_our_redis()
    assert asyncio.run(outbox.publish_async(order))
    assert asyncio.run(outbox.publish_async(order))
    (message, body, (task, root, correlation, tag)), second, celery = map(opened, valkey.lrange(queue, 0, -1))
    assert (message, body) == celery[:2]
    assert task == root == correlation != tag
    assert not {task, tag} & {*second[2], *celery[2]}
