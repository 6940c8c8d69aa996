"""The job as the management API shows it. Money in micro-USD, energy in Wh, carbon in gCO₂e, times in UTC."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.accounts.serializers import StrictSerializer
from apps.files.sealing import Unreadable
from apps.jobs.models import FINAL, Content, Event, Job
from apps.jobs.sealed import Answer

OPEN = "open"
USAGE_GROUPS = ("model", "key", "member", "site", "day", "week")


class JobSiteSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()


class UsageSerializer(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    cached_prompt_tokens = serializers.IntegerField(help_text="Of the prompt tokens: what the engine had from before")
    completion_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()
    pages = serializers.IntegerField()
    total_pages = serializers.IntegerField(help_text="Pages the file has")


class JobErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    status = serializers.IntegerField(allow_null=True)


class EventSerializer(serializers.ModelSerializer[Event]):
    class Meta:
        model = Event
        fields = ("number", "state", "attempt", "reason", "at")
        read_only_fields = fields


class JobSerializer(serializers.ModelSerializer[Job]):
    id = serializers.CharField(source="public_id", read_only=True)
    object = serializers.CharField(default="job", read_only=True)
    model = serializers.CharField(source="model.name", read_only=True)
    site = serializers.SerializerMethodField()
    usage = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    energy_quality = serializers.ChoiceField(
        choices=Job.EnergyQuality.choices, allow_blank=True, read_only=True, help_text="Empty: there is no reading"
    )
    energy_measured = serializers.SerializerMethodField()
    metadata = serializers.DictField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = Job
        fields = (
            "id",
            "object",
            "model",
            "kind",
            "state",
            "reason",
            "interactive",
            "tier",
            "attempt",
            "site",
            "created_at",
            "deadline_at",
            "started_at",
            "first_token_at",
            "finished_at",
            "cancel_requested_at",
            "usage",
            "hold_microusd",
            "charge_microusd",
            "discount_basis_points",
            "energy_wh",
            "energy_quality",
            "energy_measured",
            "carbon_gco2e",
            "carbon_market_gco2e",
            "finish_reason",
            "error",
            "metadata",
        )
        read_only_fields = fields

    @extend_schema_field(JobSiteSerializer(allow_null=True))
    def get_site(self, job: Job) -> dict[str, str] | None:
        if job.pool is None:
            return None
        site = job.pool.node.site
        return {"code": site.code, "name": site.name, "region": site.region, "country": site.country}

    @extend_schema_field(UsageSerializer)
    def get_usage(self, job: Job) -> dict[str, int]:
        return {
            "prompt_tokens": job.prompt_tokens,
            "cached_prompt_tokens": job.cached_prompt_tokens,
            "completion_tokens": job.completion_tokens,
            "total_tokens": job.prompt_tokens + job.completion_tokens,
            "pages": job.pages,
            "total_pages": job.total_pages,
        }

    @extend_schema_field(JobErrorSerializer(allow_null=True))
    def get_error(self, job: Job) -> dict[str, Any] | None:
        if not job.error_code:
            return None
        return {"code": job.error_code, "message": job.error_message, "status": job.error_status}

    def get_energy_measured(self, job: Job) -> bool | None:
        """True where a device was read, False where the energy is an estimate, null where there is none yet."""
        if not job.energy_quality:
            return None
        return job.energy_quality in {Job.EnergyQuality.COUNTER, Job.EnergyQuality.INTEGRATED}


class JobDetailSerializer(JobSerializer):
    events = EventSerializer(many=True, read_only=True)
    file = serializers.SerializerMethodField()
    text = serializers.SerializerMethodField()
    content_error = serializers.SerializerMethodField()
    result = serializers.SerializerMethodField()

    class Meta(JobSerializer.Meta):
        fields = (*JobSerializer.Meta.fields, "events", "file", "text", "result", "content_error")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]

    def get_file(self, job: Job) -> str | None:
        """The uploaded file's id, while it is kept."""
        return job.file.public_id if job.file else None

    def get_text(self, job: Job) -> str | None:
        """The answer's text (chat) or that of all pages (ocr), once the job has ended."""
        answer = self.answer(job)
        return answer.text if isinstance(answer, Answer) else None

    @extend_schema_field(serializers.DictField(allow_null=True))
    def get_result(self, job: Job) -> Any:
        """What text cannot say, once the job has ended. Embeddings: {data: [{index, embedding}]}, base64 of
        little-endian float32; ocr: {pages: [{page, text, lines: [{text, confidence, box}]}]}; chat: the other
        choices, tool calls and probabilities of tokens, {choices: [message]}.
        """
        answer = self.answer(job)
        return answer.result if isinstance(answer, Answer) else None

    def get_content_error(self, job: Job) -> str | None:
        """Why text and result are null although they are kept: what is stored of them cannot be read. Else null."""
        answer = self.answer(job)
        return answer.message if isinstance(answer, Unreadable) else None

    def answer(self, job: Job) -> Answer | Unreadable | None:
        content: Content | None = getattr(job, "content", None) if job.state in FINAL else None
        try:
            return content.answer if content else None
        except Unreadable as error:
            return error


class JobPageSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="list")
    data = JobSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name
    has_more = serializers.BooleanField(help_text="Ask again with `after` set to the last id")


class JobFilterSerializer(StrictSerializer):
    state = serializers.ChoiceField(choices=[OPEN, *Job.State.values], required=False, help_text="open: not ended")
    kind = serializers.ChoiceField(choices=Job.Kind.choices, required=False)
    model = serializers.CharField(max_length=100, required=False)
    key = serializers.CharField(max_length=40, required=False, help_text="An API key's id: jobs it sent")
    search = serializers.CharField(max_length=60, required=False, help_text="The beginning of a job's id")
    since = serializers.DateTimeField(required=False, help_text="Made at this time or later")
    until = serializers.DateTimeField(required=False, help_text="Made before this time")
    metadata = serializers.DictField(
        child=serializers.CharField(max_length=512, allow_blank=True, trim_whitespace=False),
        required=False,
        help_text="metadata[name]=value, up to 16 times: jobs that have all of these",
    )
    after = serializers.CharField(max_length=40, required=False, help_text="An id: jobs older than that one")
    limit = serializers.IntegerField(min_value=1, max_value=100, default=20)


class UsageGroupSerializer(serializers.Serializer[Any]):
    """The sums of one group. Of what you group by, its id is here, and of keys, members and sites the name too."""

    model = serializers.CharField(required=False)
    key = serializers.CharField(required=False, allow_null=True, help_text="null: sent from a page")
    key_name = serializers.CharField(required=False)
    member = serializers.CharField(required=False, allow_null=True, help_text="Who sent it, or made the key")
    member_name = serializers.CharField(required=False)
    site = serializers.CharField(required=False, allow_null=True, help_text="null: it ended before it was placed")
    site_name = serializers.CharField(required=False)
    day = serializers.DateField(required=False, help_text="UTC")
    week = serializers.DateField(
        required=False, help_text="Its Monday, UTC; of the first and the last, what is between `start` and `end`"
    )
    requests = serializers.IntegerField(help_text="That ended, however they did")
    failed = serializers.IntegerField(help_text="Of the requests: failed or expired")
    prompt_tokens = serializers.IntegerField()
    cached_prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    pages = serializers.IntegerField()
    charge_microusd = serializers.IntegerField(help_text="Exactly what the ledger charged")
    energy_wh = serializers.FloatField(allow_null=True)
    carbon_gco2e = serializers.FloatField(allow_null=True, help_text="By location: of the grid")
    carbon_market_gco2e = serializers.FloatField(
        allow_null=True,
        help_text="By market: of contracts of supply where a site has them, of the grid elsewhere; null where none has",
    )
    energy_estimated = serializers.BooleanField(help_text="Of some of it the energy is an estimate")


class UsageReportSerializer(serializers.Serializer[Any]):
    object = serializers.CharField(default="usage")
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(help_text="What ended before; never later than now, up to when this is complete")
    group_by = serializers.ListField(child=serializers.CharField())
    data = UsageGroupSerializer(many=True)  # type: ignore[assignment]  # Serializer has a property of this name
    total = UsageGroupSerializer()


class UsageFilterSerializer(StrictSerializer):
    start = serializers.DateTimeField(required=False, help_text="From this time on; 30 days before `end` if absent")
    end = serializers.DateTimeField(required=False, help_text="Before this time; now if absent")
    group_by = serializers.CharField(
        required=False, max_length=60, default="", help_text="Some of model, key, member, site, day, week, with commas"
    )
    format = serializers.ChoiceField(choices=["json", "csv"], required=False, help_text="csv, or Accept: text/csv")

    def validate_group_by(self, value: str) -> list[str]:
        asked = [name.strip() for name in value.split(",") if name.strip()]
        wrong = next((name for name in asked if name not in USAGE_GROUPS), None)
        if wrong is not None:
            raise serializers.ValidationError(f"'{wrong[:30]}' is none of {', '.join(USAGE_GROUPS)}.")
        if len(set(asked)) != len(asked):
            raise serializers.ValidationError("A group is named twice.")
        return asked
