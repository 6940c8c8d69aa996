"""What scripts say. They know their texts in English, and a page in another language brings these with it."""

from django.utils.translation import get_language, gettext, gettext_noop

WORDS = (
    # copy.js
    gettext_noop("Copied"),
    gettext_noop("Copy"),
    gettext_noop("Selected"),
    # live.js
    gettext_noop("Caught up."),
    gettext_noop("Figures below are from {time}. An owner of the organization can change that."),
    gettext_noop("Live"),
    gettext_noop("Live updates paused at {time}."),
    gettext_noop("Not live"),
    gettext_noop("Offline since {time}"),
    gettext_noop("Output finished, {count} words"),
    gettext_noop("Output started"),
    gettext_noop("Reconnecting"),
    gettext_noop("Reload now"),
    gettext_noop("Updates every 15 s"),
    gettext_noop("What changed while the connection was away is on the page now."),
    gettext_noop("You have no access to this any more."),
    gettext_noop("Your work keeps running. Figures below are from that time; we are trying to reconnect."),
    # zoom.js
    gettext_noop("{first} to {last}"),
)


def words() -> dict[str, str]:
    """English text to that of the reader's language; nothing for English."""
    return {} if get_language() == "en" else {word: gettext(word) for word in WORDS}
