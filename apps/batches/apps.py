from django.apps import AppConfig


class BatchesConfig(AppConfig):
    name = "apps.batches"
    label = "batches"

    def ready(self) -> None:
        from apps.batches.live import AnswerTopic, LiveTopic, RowTopic
        from apps.batches.topics import BatchTopic, DraftTopic, OpenTopic, PowerTopic, RowsTopic, StartTopic
        from apps.live.topics import register

        register("batches", OpenTopic)
        register("batch.<batch>", BatchTopic)
        register("batch.<batch>.rows", RowsTopic)
        register("batch.<batch>.start", StartTopic)
        register("batch.<batch>.power", PowerTopic)
        register("batch.<batch>.live", LiveTopic)
        register("batch.<batch>.row.<line>.<number>", RowTopic)
        register("batch.<batch>.answer.<line>", AnswerTopic)
        register("draft.<batch>", DraftTopic)
