"""Time zones: those one may choose, and the one of a name that was stored."""

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

FOR_PROGRAMS = ("Etc/", "SystemV/", "posix/", "right/")  # names that are no places


def zones() -> list[tuple[str, str]]:
    """UTC, then those of places, as a form's choices."""
    places = sorted(name for name in available_timezones() if "/" in name and not name.startswith(FOR_PROGRAMS))
    return [("UTC", "UTC"), *((name, name.replace("_", " ")) for name in places)]


def zone(name: str) -> ZoneInfo:
    """UTC for a name that this machine does not know (any more)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
