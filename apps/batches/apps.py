from django.apps import AppConfig


class BatchesConfig(AppConfig):
    name = "apps.batches"
    label = "batches"

    def ready(self) -> None:
        from apps.batches.topics import BatchTopic
        from apps.live.topics import register

        register("batch.<batch>", BatchTopic)
