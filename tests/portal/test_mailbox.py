"""The demo's mail, as a page."""

import re

from django.core import mail
from django.core.mail.backends.filebased import EmailBackend

from apps.portal.mailbox import mails


def send(directory, *subjects):
    backend = EmailBackend(file_path=directory)
    backend.send_messages([
        mail.EmailMessage(subject, f"Guten Tag, Übung.\n\nhttp://testserver/verify/{subject}/\n", "a@example.org", ["b@example.org"])
        for subject in subjects
    ])  # fmt: skip


def test_newest_first(tmp_path):
    assert mails(tmp_path / "none") == []
    send(tmp_path, "one", "two")
    send(tmp_path, "three")
    found = mails(tmp_path)
    assert [each.subject for each in found] == ["three", "two", "one"]
    assert found[0].to == "b@example.org"
    assert found[0].text == "Guten Tag, Übung.\n\nhttp://testserver/verify/three/"
    assert found[0].at


def test_links_can_be_followed_and_nothing_else(client, db, settings, tmp_path):
    settings.EMAIL_FILE_PATH = tmp_path
    assert b"No mail yet" in client.get("/mail/").content
    send(tmp_path, "<script>")
    html = client.get("/mail/").content.decode()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert re.search(r'<a href="http://testserver/verify/', html)


def test_sign_up_points_to_it(client, db):
    assert b'href="/mail/"' in client.get("/verify/").content


def test_nobody_reads_mail_outside_the_demo(client, db, settings):
    settings.DEMO = False
    assert b"/mail/" not in client.get("/verify/").content
    assert client.get("/mail/").status_code == 404
