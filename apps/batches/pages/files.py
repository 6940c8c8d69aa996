"""The files of a batch: what was sent, and what was written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from django.utils.translation import gettext

from apps.batches.pages.progress import Progress
from apps.files.models import File


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the batch. `file` is None where it is gone."""

    name: str
    title: str
    says: str
    file: File | None


class Files(Progress):
    @cached_property
    def files(self) -> dict[UUID, File]:
        ids = [id for id in (self.batch.input_file_id, *self.written) if id]
        return {file.pk: file for file in File.objects.filter(pk__in=ids, status=File.Status.PROCESSED)}

    @property
    def written(self) -> tuple[UUID | None, UUID | None]:
        """Output and error file, once the batch has ended."""
        return (self.batch.output_file_id, self.batch.error_file_id) if self.batch.is_final else (None, None)

    @property
    def stored(self) -> list[Stored]:
        found = []
        if self.written[0]:
            says = gettext("%(rows)s with an answer") % {"rows": self.rows(self.batch.completed)}
            found.append(("output", gettext("Output"), says, self.written[0]))
        if self.written[1]:
            left = self.batch.total - self.batch.completed
            says = gettext("%(rows)s without one, and why") % {"rows": self.rows(left)}
            found.append(("errors", gettext("Errors"), says, self.written[1]))
        found.append(("input", gettext("Input"), gettext("as it was sent"), self.batch.input_file_id))
        return [Stored(name, title, says, self.files.get(file_id)) for name, title, says, file_id in found]

    @cached_property
    def title(self) -> str:
        """What its owner calls it, the file's name, or what it is."""
        named = (self.batch.metadata or {}).get("name") or ""
        file = self.files.get(self.batch.input_file_id)
        return (
            named.strip()
            or (file.name if file else "")
            or gettext("Batch for %(endpoint)s") % {"endpoint": self.batch.endpoint}
        )
