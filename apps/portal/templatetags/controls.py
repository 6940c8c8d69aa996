"""Form controls with the design's classes."""

from django import forms, template
from django.forms import BoundField
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def control(field: BoundField) -> SafeString:
    """The field's widget, styled, and joined to its hint and its error as `_field.html` writes them."""
    attrs: dict[str, str | bool] = {"class": "select" if isinstance(field.field.widget, forms.Select) else "input"}
    described = [
        f"{field.auto_id}_{part}" for part, there in (("helptext", field.help_text), ("error", field.errors)) if there
    ]
    if described:
        attrs["aria-describedby"] = " ".join(described)
    return field.as_widget(attrs=attrs)
