"""What the serializers of the management API have in common."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.core.errors import InvalidRequest


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses what it does not know by name, in a body as among the filters of a list."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = next((name for name in data if name not in self.fields), None) if isinstance(data, dict) else None
        if unknown is not None:
            name = str(unknown)[:100]
            raise InvalidRequest(
                f"Unrecognized request argument supplied: {name}.", param=name, code="unknown_parameter"
            )
        return super().to_internal_value(data)
