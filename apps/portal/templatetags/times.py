"""`apps.accounts.times` as the filter `date`: it takes the place of Django's."""

from django import template

from apps.accounts.times import written

register = template.Library()
register.filter("date", written, expects_localtime=True, is_safe=False)
