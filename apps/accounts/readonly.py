"""What every admin page of the portal shares: nothing is deleted, lists stay cheap, public ids are found."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from apps.core import ids

M = TypeVar("M", bound=models.Model)

if TYPE_CHECKING:

    class _Admin(admin.ModelAdmin[M]): ...

    class _Inline(admin.TabularInline[models.Model, models.Model]): ...
else:  # Django's admin classes take no type parameters at run time

    class _Admin(admin.ModelAdmin):
        def __class_getitem__(cls, _: Any) -> type:
            return cls

    _Inline = admin.TabularInline


class PortalAdmin(_Admin[M]):
    """Base of all our admin pages. Rows are not deleted here: they are unlisted, revoked, suspended or drained.

    `public_ids` maps the prefix of a public id to the field it is searched in: `{"job": "pk", "org": "organization"}`.
    """

    list_per_page = 50
    list_max_show_all = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    formfield_overrides = {models.URLField: {"assume_scheme": "https"}}
    public_ids: ClassVar[dict[str, str]] = {}

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[M], search_term: str
    ) -> tuple[models.QuerySet[M], bool]:
        term = search_term.strip()
        for prefix, field in self.public_ids.items():
            identifier = ids.parse(prefix, term)
            if identifier:
                return queryset.filter(**{field: identifier}), False
        if isinstance(self.opts.pk, models.UUIDField):
            try:
                return queryset.filter(pk=uuid.UUID(term)), False
            except ValueError:
                pass  # not an id: words
        found = self.search(queryset, term) if term else None
        return (found, False) if found is not None else super().get_search_results(request, queryset, search_term)

    def search(self, queryset: models.QuerySet[M], term: str) -> models.QuerySet[M] | None:
        """Rows for words, where `search_fields` would cost too much. None leaves it to them."""
        return None


class ReadOnlyAdmin(PortalAdmin[M]):
    """History and money: read here, changed only by services. A correction is an action with a reason."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        return False


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts to LIMIT and no further, so that a page of ten million rows costs what a page of a thousand does."""

    LIMIT = 1000

    @cached_property
    def count(self) -> int:
        queryset = self.object_list
        assert isinstance(queryset, models.QuerySet)
        return queryset.order_by()[: self.LIMIT].count()


class HistoryAdmin(ReadOnlyAdmin[M]):
    """Tables that grow to millions of rows: newest first, bounded count, no date hierarchy."""

    paginator = BoundedPaginator

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        subtitle = f"At most {BoundedPaginator.LIMIT:,} rows are listed. Search or filter for others."
        return super().changelist_view(request, {"subtitle": subtitle, **(extra_context or {})})


class ReadOnlyInline(_Inline):
    extra = 0
    max_num = 0
    can_delete = False
    show_change_link = False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [str(field) for field in self.fields or ()]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
