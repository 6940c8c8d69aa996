from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _storage(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "files"
    settings.UPLOADS = tmp_path / "uploads"


@pytest.fixture
def kept(settings):
    """The files on the disk now: stored ones, and any that are still being gathered."""

    def found() -> list[Path]:
        return [
            path for root in (settings.MEDIA_ROOT, settings.UPLOADS) for path in Path(root).rglob("*") if path.is_file()
        ]

    return found
