"""Who comes to every page: `visitor`, whose width a test gives. The journey of `tests/e2e` takes it too."""

from tests.browser.visitor import visitor

__all__ = ["visitor"]
