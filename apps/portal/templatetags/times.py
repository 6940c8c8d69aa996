"""`apps.accounts.times` as filters: `date` takes the place of Django's."""

from django import template

from apps.accounts.times import ago, written

register = template.Library()
register.filter("date", written, expects_localtime=True, is_safe=False)
register.filter("ago", ago, expects_localtime=True)
