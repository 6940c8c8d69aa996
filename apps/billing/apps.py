from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "apps.billing"
    label = "billing"

    def ready(self) -> None:
        from apps.billing import topics
        from apps.live.topics import register

        register("topup.<top_up>", topics.TopUpTopic)
