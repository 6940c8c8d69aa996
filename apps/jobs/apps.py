from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "apps.jobs"
    label = "jobs"

    def ready(self) -> None:
        from apps.jobs import topics
        from apps.live.topics import register

        register("job.<job>", topics.JobTopic)
        register("job.<job>.out.<attempt>", topics.OutputTopic)
        register("job.<job>.start", topics.StartTopic)
        register("organization", topics.OrganizationTopic)
