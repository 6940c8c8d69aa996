from playwright.sync_api import expect

# A machine may be busy: how long a page takes is not what these tests ask.
expect.set_options(timeout=15_000)
