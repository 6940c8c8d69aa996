from tests.browser.visitor import visitor

__all__ = ["visitor"]
