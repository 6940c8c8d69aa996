"""What a browser says of itself, in a few words: so that people know their sessions apart, and for nothing else."""

import re

from django.utils.translation import gettext

# The first that fits: others name themselves besides the one they are built like.
BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("HeadlessChrome", "Chrome"), ("Chrome", "Chrome"))  # fmt: skip
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "macOS"), ("Linux", "Linux"))  # fmt: skip


def words(agent: str) -> str:
    """ "Firefox 140 on Linux"; what is no browser by its own first word, nothing as "Unknown"."""
    system = next((name for mark, name in SYSTEMS if mark in agent), "")
    browser = next((f"{name} {found[1]}" for mark, name in BROWSERS if (found := re.search(rf"{mark}/(\d+)", agent))), "")  # fmt: skip
    if not browser and (found := re.search(r"Version/(\d+).* Safari/", agent)):
        browser = f"Safari {found[1]}"
    if not browser:
        return agent.split(" ", maxsplit=1)[0][:60] or gettext("Unknown")
    return gettext("%(browser)s on %(system)s") % {"browser": browser, "system": system} if system else browser
