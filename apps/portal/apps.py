from django.apps import AppConfig
from django.core import checks


class PortalConfig(AppConfig):
    name = "apps.portal"
    label = "portal"

    def ready(self) -> None:
        from apps.live.topics import register
        from apps.portal.topics import ExportsTopic, OverviewTopic, RunningTopic
        from cango_portal.checks import production

        checks.register(production)
        register("overview", OverviewTopic)
        register("overview.<range>", OverviewTopic)
        register("running", RunningTopic)
        register("exports.<organization>", ExportsTopic)
