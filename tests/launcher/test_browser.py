"""The demo's browser fills in the form that a page is about."""

from cango_portal.launcher.browser import Forms

PAGE = """
<header><form method="post" action="/logout/"><button name="out">Sign out</button></form></header>
<main><form method="post" action="/confirm/"><input type="hidden" name="token" value="t"><button>Confirm</button></form></main>
<footer><form method="post" action="/language/"><button name="language" value="zh-hans">简体中文</button></form></footer>
"""


def test_forms_around_the_page_are_not_its_own():
    (form,) = Forms(PAGE).found
    assert (form.action, form.fields) == ("/confirm/", {"token": ["t"]})
