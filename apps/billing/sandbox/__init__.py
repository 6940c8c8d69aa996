"""Sandbox money: a double of Stripe's API, for a portal without Stripe keys and for every test.

The portal talks to it as it talks to Stripe: by the `stripe` library over HTTP (`door`, `routes`), with pages the customer
is sent to (`pages`), and with signed events to `/webhooks/stripe/` (`events`, `delivery`). Nothing outside this package
reads its rows, so that the code which books money cannot tell the difference. Each noun of Stripe's is one module; what
no API call does (a bank's answer, a dispute, the end of a month) is a function there, which the pages, the admin's
actions, the beat's tasks (`tasks`) and the tests' fixture (`tests/stripe.py`) call inside `rows.writing()`.
"""
