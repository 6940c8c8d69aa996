"""What `make run` says of its own start."""

import time

from cango_portal.launcher import first_work
from cango_portal.launcher.run import installing

DEMO = dict.fromkeys(("base_url", "email", "password", "staff_email", "staff_password", "api_key"), "x")


def test_the_time_of_a_first_start_counts_the_packages():
    spent = installing({"MAKE_BEGAN": str(int(time.time()) - 10)})
    assert 10 <= spent < 12
    text = first_work.welcome(DEMO, [], seconds=21.2, installing=10.4)
    assert "ready at x after 21 s, 10 s of them installing packages\n" in text


def test_a_later_start_says_only_its_own_time():
    assert installing({"MAKE_BEGAN": str(int(time.time()))}) == 0
    assert installing({}) == installing({"MAKE_BEGAN": "soon"}) == 0
    assert "ready at x after 8.1 s\n" in first_work.welcome(DEMO, [], seconds=8.13)
