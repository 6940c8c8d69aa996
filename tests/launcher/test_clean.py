"""`make clean` removes nothing unasked, and a no is no error."""

import pytest

from cango_portal.launcher import management
from cango_portal.launcher.place import Place


@pytest.mark.parametrize("answer", ["no", "", "y"])
def test_a_no_keeps_everything_and_succeeds(tmp_path, monkeypatch, capsys, answer):
    place = Place(tmp_path, 8000)
    (tmp_path / "run.lock").touch()
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert management.clean(place) == 0
    assert tmp_path.exists()
    assert "Nothing was removed." in capsys.readouterr().out
