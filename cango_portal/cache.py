"""Django's cache on Redis, for what may be forgotten: it holds the counters that slow down guessing of passwords."""

import logging
from typing import Any

from django.core.cache.backends.redis import RedisCache

from cango_portal import valkey

log = logging.getLogger(__name__)


class ForgetfulCache(RedisCache):
    """While Redis is away it is empty and writing does nothing, so people can still sign in.

    Limits do not count in that time; the slow hash of passwords still does. Sessions are in PostgreSQL.
    """

    def add(self, *args: Any, **kwargs: Any) -> bool:
        try:
            return bool(super().add(*args, **kwargs))
        except valkey.Away:
            log.warning("cache away")
            return True

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        try:
            return super().get(key, default, version)
        except valkey.Away:
            return default

    def set(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().set(*args, **kwargs)
        except valkey.Away:
            log.warning("cache away")

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        try:
            return bool(super().delete(*args, **kwargs))
        except valkey.Away:
            return False
