"""Where work runs: sites, their containers, the nodes that stand there with their GPUs, and the pools of slots they serve."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_network
from zoneinfo import available_timezones

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator, URLValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.catalog.models import Model


def known_time_zone(value: str) -> None:
    if value not in available_timezones():
        raise ValidationError("No time zone of this name, such as America/Chicago, is known.")


def known_range(value: str) -> None:
    try:
        ip_network(value)
    except ValueError:
        raise ValidationError("This is no IP range, such as 203.0.113.0/24 or 2001:db8::/32.") from None


class Feed(models.Model):
    """Where figures come from that change by the hour: a file or an address, read every minute by `feeds.read_due`.

    `address` is a file's name below FEEDS_DIR, or a URL. What is newest of what has begun is in force; older than
    `stale_seconds` it still is, and everywhere shown as stale.
    """

    class Kind(models.TextChoices):
        PRICE = "price", "Price of power"
        CARBON = "carbon", "Carbon of the grid (location)"
        MARKET = "market", "Carbon by contract (market)"
        METER = "meter", "Energy meter of a site"

    class Adapter(models.TextChoices):
        FILE = "file"
        HTTP = "http", "HTTP"

    class Unit(models.TextChoices):
        USD_PER_MWH = "usd_per_mwh", "USD/MWh"
        G_PER_KWH = "gco2e_per_kwh", "gCO₂e/kWh"
        LB_PER_MWH = "lb_per_mwh", "lb/MWh"
        WH = "wh", "Wh, cumulative"
        KWH = "kwh", "kWh, cumulative"

    UNITS = {
        Kind.PRICE: (Unit.USD_PER_MWH,),
        Kind.CARBON: (Unit.G_PER_KWH, Unit.LB_PER_MWH),
        Kind.MARKET: (Unit.G_PER_KWH, Unit.LB_PER_MWH),
        Kind.METER: (Unit.WH, Unit.KWH),
    }

    code = models.SlugField(unique=True)
    kind = models.CharField(max_length=6, choices=Kind)
    adapter = models.CharField(max_length=4, choices=Adapter)
    address = models.CharField(max_length=400, help_text="A file's name in FEEDS_DIR, or https://…")
    unit = models.CharField(max_length=13, choices=Unit)
    stale_seconds = models.PositiveIntegerField(default=7200, help_text="Shown as stale when its newest value is older")
    read_at = models.DateTimeField(null=True, editable=False)
    newest_at = models.DateTimeField(null=True, editable=False, help_text="Of the value in force")
    value = models.FloatField(null=True, editable=False, help_text="In force, in the portal's unit")
    error = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(newest_at__isnull=True, value__isnull=True)
                | Q(newest_at__isnull=False, value__isnull=False),
                name="sites_feed_value_has_time",
            )
        ]

    def __str__(self) -> str:
        return self.code

    def clean(self) -> None:
        if self.kind in self.UNITS and self.unit not in self.UNITS[self.Kind(self.kind)]:
            raise ValidationError({"unit": "A feed of this kind has another unit."})
        if self.adapter == self.Adapter.HTTP and not self.address.startswith(("http://", "https://")):
            raise ValidationError({"address": "An address begins with http:// or https://."})

    def is_stale(self, now: datetime) -> bool:
        """Also where it never told anything."""
        return self.newest_at is None or now - self.newest_at > timedelta(seconds=self.stale_seconds)


class FeedValue(models.Model):
    """One figure of a feed, in the portal's unit: in force from `at` until the next."""

    feed = models.ForeignKey(Feed, models.PROTECT, related_name="values", db_index=False)
    at = models.DateTimeField()
    value = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["feed", "at"], name="sites_feedvalue_one_at_a_time")]


class Site(models.Model):
    """A place with power and a grid connection.

    `pue` is facility power over IT power (≥ 1), `host_share` the host's power per watt of device (≥ 0); with the grid's
    carbon intensity they turn a device's energy into the energy and carbon a customer is shown. `power_cap_w` is what the
    connection can carry, `contracted_power_w` what the contract allows: null where nobody has said, which is no zero.
    """

    class Stage(models.TextChoices):
        MINING = "mining"
        HYBRID = "hybrid"
        AI = "ai", "AI"

    code = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2")
    time_zone = models.CharField(max_length=64, default="UTC", validators=[known_time_zone])
    stage = models.CharField(max_length=6, choices=Stage, default=Stage.AI, db_default=Stage.AI)
    grid_zone = models.CharField(
        max_length=40,
        blank=True,
        default="",
        db_default="",
        help_text="As the grid's operator or a feed names it, such as ERCOT-WEST",
    )
    power_cap_w = models.FloatField("power cap (W)", null=True, blank=True, help_text="What the connection can carry")
    contracted_power_w = models.FloatField("contracted power (W)", null=True, blank=True)
    pue = models.FloatField("PUE", default=1.2)
    host_share = models.FloatField(default=0.1)
    grid_gco2e_per_kwh = models.FloatField(help_text="Average intensity of the local grid")
    power_usd_per_mwh = models.FloatField(help_text="What a MWh costs here")
    price_feed = models.CharField(
        max_length=80,
        blank=True,
        default="",
        db_default="",
        help_text="Where the price of power comes from; empty: the figure above",
    )
    carbon_feed = models.CharField(
        max_length=80,
        blank=True,
        default="",
        db_default="",
        help_text="Where the grid's intensity comes from; empty: the figure above",
    )
    market_gco2e_per_kwh = models.FloatField(
        "market gCO₂e/kWh", null=True, blank=True, help_text="By its contracts of supply, where it has some"
    )
    market_feed = models.CharField(
        max_length=80,
        blank=True,
        default="",
        db_default="",
        help_text="Where the intensity by contract comes from; empty: the figure above",
    )
    meter_feed = models.CharField(
        max_length=80, blank=True, default="", db_default="", help_text="Of its energy meter, where one is read"
    )
    ip_ranges = ArrayField(
        models.CharField(max_length=50, validators=[known_range]),
        default=list,
        db_default=models.Value([], ArrayField(models.CharField(max_length=50))),
        blank=True,
        help_text="Where its nodes are enrolled from, such as 203.0.113.0/24, with commas; empty: from anywhere",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pue__gte=1) & Q(host_share__gte=0), name="sites_site_factors_plausible"),
            models.CheckConstraint(
                condition=Q(power_cap_w__isnull=True) | Q(power_cap_w__gt=0), name="sites_site_power_cap_positive"
            ),
            models.CheckConstraint(
                condition=Q(contracted_power_w__isnull=True)
                | Q(contracted_power_w__gt=0)
                & (Q(power_cap_w__isnull=True) | Q(contracted_power_w__lte=models.F("power_cap_w"))),
                name="sites_site_contract_within_cap",
                violation_error_message="No more can be contracted than the connection carries.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def feeds(self) -> dict[str, str]:
        """Codes of the feeds it names, by kind."""
        named = {
            Feed.Kind.PRICE: self.price_feed,
            Feed.Kind.CARBON: self.carbon_feed,
            Feed.Kind.MARKET: self.market_feed,
            Feed.Kind.METER: self.meter_feed,
        }
        return {kind.value: code for kind, code in named.items() if code}

    def clean(self) -> None:
        for kind, code in self.feeds.items():
            if not Feed.objects.filter(code=code, kind=kind).exists():
                raise ValidationError({f"{kind}_feed": "There is no feed of this name and kind."})

    @property
    def energy_factor(self) -> float:
        """Site energy per unit of device energy: (1 + host share) × PUE."""
        return (1 + self.host_share) * self.pue


class Container(models.Model):
    """One container of machines at a site: what is fed, cooled and opened together."""

    site = models.ForeignKey(Site, models.PROTECT, related_name="containers")
    code = models.SlugField(unique=True)
    power_cap_w = models.FloatField("power cap (W)", null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(power_cap_w__isnull=True) | Q(power_cap_w__gt=0), name="sites_container_power_cap_positive"
            )
        ]

    def __str__(self) -> str:
        return self.code


class Partner(models.Model):
    """Who owns nodes that are not ours, and what of their revenue is the partner's."""

    code = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    revenue_share_basis_points = models.PositiveIntegerField(help_text="1 is a hundredth of a percent: 6000 is 60 %")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(revenue_share_basis_points__lte=10_000), name="sites_partner_share_at_most_all"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Node(models.Model):
    """One machine with a runner. Its token is stored as SHA-256; `heartbeat_at` is the database clock at its last beat.

    `state` has one writer, `lifecycle.step`. A node of a partner's is not `trusted`: work that is bound to places never
    runs there, other work only where no node of ours has a slot.
    """

    class State(models.TextChoices):
        PENDING = "pending"  # described, never heard
        BURN_IN = "burn-in", "burn-in"  # heard and tested; no work of customers
        ADMITTED = "admitted"
        DRAINING = "draining"  # no new work; what runs is finished
        MAINTENANCE = "maintenance"  # empty, for somebody to open
        QUARANTINED = "quarantined"  # not believed: its token is refused
        RETIRED = "retired"  # final

    site = models.ForeignKey(Site, models.PROTECT, related_name="nodes")
    container = models.ForeignKey(
        Container, models.PROTECT, null=True, blank=True, related_name="nodes", db_index=False
    )
    partner = models.ForeignKey(Partner, models.PROTECT, null=True, blank=True, related_name="nodes", db_index=False)
    code = models.SlugField(unique=True)
    # A node that code before 0.4 adds works at once, as it did there.
    state = models.CharField(max_length=11, choices=State, default=State.PENDING, db_default=State.ADMITTED)
    state_at = models.DateTimeField(db_default=Now(), editable=False)
    token_sha256 = models.CharField(max_length=64, unique=True)
    # What its enrolment left: an Ed25519 key, how often it was enrolled (older tokens end with it), what the machine is.
    public_key = models.CharField(max_length=64, default="", db_default="", editable=False)
    generation = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    renewed_at = models.FloatField(null=True, editable=False)
    inventory = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()), editable=False)
    expected_gpus = models.PositiveSmallIntegerField(
        "expected GPUs", null=True, blank=True, help_text="Another number at its enrolment quarantines it"
    )
    heartbeat_at = models.DateTimeField(null=True)
    claimant = models.CharField(max_length=40, blank=True, help_text="The runner process that beat last")
    power_w = models.FloatField(null=True)

    def __str__(self) -> str:
        return self.code

    @property
    def trusted(self) -> bool:
        return self.partner_id is None


class EnrolmentToken(models.Model):
    """What staff hand to a machine so that it becomes a node, once. Stored as SHA-256; valid for a day, for that node's site."""

    node = models.ForeignKey(Node, models.PROTECT, related_name="enrolment_tokens")
    sha256 = models.CharField(max_length=64, unique=True)
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"enrolment of {self.node.code}"


class NodeEvent(models.Model):
    """One step of a node's life: who took it and why. `actor` is null where the portal did. Written by `lifecycle.step` alone."""

    node = models.ForeignKey(Node, models.PROTECT, related_name="events")
    before = models.CharField(max_length=11)
    after = models.CharField(max_length=11)
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    reason = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.before} to {self.after}"


class Drain(models.Model):
    """A time in which a node takes no new work: why, since when, and until when what runs there may run.

    `announced_at` is when customers were told, null where nobody was; `starts_at` lies ahead of it. `began_at`,
    `drained_at` (nothing runs there any more) and `ended_at` are the database's clock when it happened. It is `open` from
    its beginning to its end, one of a node at most; one that was called off has an end and no beginning.
    """

    class Purpose(models.TextChoices):
        DRAIN = "drain"  # the node stays empty until staff decide
        MAINTENANCE = "maintenance"  # somebody opens it as soon as it is empty

    node = models.ForeignKey(Node, models.PROTECT, related_name="drains")
    purpose = models.CharField(max_length=11, choices=Purpose)
    reason = models.CharField(max_length=200)
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    announced_at = models.DateTimeField(null=True)
    starts_at = models.DateTimeField()
    deadline_at = models.DateTimeField(help_text="What runs there then is taken from it")
    ends_at = models.DateTimeField(null=True, help_text="When it is expected to work again")
    began_at = models.DateTimeField(null=True)
    drained_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    open = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node"], condition=Q(open=True), name="sites_drain_one_open"),
            models.CheckConstraint(
                condition=Q(deadline_at__gte=models.F("starts_at")), name="sites_drain_deadline_after_start"
            ),
            models.CheckConstraint(
                condition=Q(announced_at__isnull=True) | Q(announced_at__lt=models.F("starts_at")),
                name="sites_drain_announced_before_start",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} of {self.node.code}"


class GPU(models.Model):
    """One GPU, known by the UUID NVML gives it, wherever it sits. It is at one node at a time; `removed_at` is when it left."""

    uuid = models.CharField("UUID", max_length=80)
    node = models.ForeignKey(Node, models.PROTECT, related_name="gpus")
    name = models.CharField(max_length=80, blank=True)
    memory_mib = models.PositiveIntegerField("memory (MiB)", null=True, blank=True)
    serial = models.CharField(max_length=40, blank=True)
    first_seen_at = models.DateTimeField(db_default=Now(), editable=False)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "GPU"
        constraints = [
            models.UniqueConstraint(
                fields=["uuid"],
                condition=Q(removed_at__isnull=True),
                name="sites_gpu_at_one_node",
            ),
            models.CheckConstraint(condition=Q(uuid__startswith="GPU-"), name="sites_gpu_has_uuid"),
        ]

    def __str__(self) -> str:
        return self.uuid

    def clean(self) -> None:
        """The same as the constraint, which a form cannot ask: `removed_at` is not of its fields."""
        elsewhere = GPU.objects.filter(uuid=self.uuid, removed_at=None).exclude(pk=self.pk)
        if self.removed_at is None and elsewhere.exists():
            raise ValidationError("This GPU is at another node: say first that it was removed there.")


class Deployment(models.Model):
    """A model that is to run at a site: on how many nodes, in which build. Its pools are what runs of it."""

    site = models.ForeignKey(Site, models.PROTECT, related_name="deployments")
    model = models.ForeignKey(Model, models.PROTECT, related_name="deployments")
    replicas = models.PositiveSmallIntegerField(default=1, help_text="Pools that are to be ready")
    engine = models.CharField(max_length=40, blank=True, help_text="Such as vllm 0.12")
    revision = models.CharField(max_length=80, blank=True, help_text="Of the weights")
    quantization = models.CharField(max_length=20, blank=True)
    pinned = models.BooleanField(default=False, help_text="Never parked to save power")
    park_after_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Unloaded after so long without work, and loaded again with the next; empty: never",
    )
    weights_url = models.CharField(
        "URL of the weights",
        max_length=2000,
        blank=True,
        default="",
        db_default="",
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="One file that nodes fetch; empty: what each node's runner.toml names",
    )
    weights_sha256 = models.CharField(
        "SHA-256 of the weights",
        max_length=64,
        blank=True,
        default="",
        db_default="",
        validators=[RegexValidator(r"^[0-9a-f]{64}$", "This is no SHA-256 in lower-case hexadecimal.")],
        help_text="What is fetched must have it; nodes keep the file under this name",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["site", "model"], name="sites_deployment_one_of_a_model"),
            models.CheckConstraint(
                condition=Q(pinned=False) | Q(park_after_seconds__isnull=True),
                name="sites_deployment_pinned_or_parked",
                violation_error_message="A pinned model is never parked.",
            ),
            models.CheckConstraint(
                condition=Q(weights_url="", weights_sha256="") | ~Q(weights_url="") & ~Q(weights_sha256=""),
                name="sites_deployment_weights_verified",
                violation_error_message="Weights have a URL and a SHA-256, or neither.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model.name} at {self.site.code}"


class Pool(models.Model):
    """Slots for one model on one node. `code` names its queue and streams: `pool.<code>`, `out:<code>:…`.

    `state` is one of the runner's words: absent, fetching, on-disk, loading, ready, parked, error; empty from an old runner.
    """

    class Desired(models.TextChoices):
        READY = "ready"
        PARKED = "parked", "parked: unloaded, no work"
        ABSENT = "absent", "absent: unloaded, and its fetched files removed"

    code = models.SlugField(unique=True)
    model = models.ForeignKey(Model, models.PROTECT, related_name="pools")
    node = models.ForeignKey(Node, models.PROTECT, related_name="pools")
    deployment = models.ForeignKey(
        Deployment, models.PROTECT, null=True, blank=True, related_name="pools", db_index=False
    )
    slots = models.PositiveSmallIntegerField()
    ready = models.BooleanField(default=False, help_text="The engine answered at the last heartbeat")
    reason = models.CharField(max_length=200, blank=True, help_text="Why it is not ready, from the runner")
    draining = models.BooleanField(default=False)
    # What staff or the planner want, and what the runner said it is; the seconds are of the last fetch and load there.
    desired = models.CharField(max_length=6, choices=Desired, default=Desired.READY, db_default=Desired.READY)
    state = models.CharField(max_length=8, blank=True, default="", db_default="", editable=False)
    fetch_seconds = models.FloatField("fetched in (s)", null=True, editable=False)
    load_seconds = models.FloatField("loaded in (s)", null=True, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(slots__gt=0), name="sites_pool_has_slots")]

    def __str__(self) -> str:
        return self.code

    def clean(self) -> None:
        deployment = self.deployment
        if deployment and (deployment.model_id, deployment.site_id) != (self.model_id, self.node.site_id):
            raise ValidationError({"deployment": "It is of another model, or at another site."})


class Listening(models.Model):
    """One row: since when the portal has heard runners without a gap, and when it last said so, by the database clock.

    Written each second by every process that takes heartbeats. Where none could, no lease was extended, and an expired
    one says nothing about its runner.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    since = models.DateTimeField(db_default=Now())
    at = models.DateTimeField(db_default=Now())


class Freeze(models.Model):
    """A time in which the leases of silent nodes are kept: so many fell silent at once that the fault is likely not theirs.

    `nodes` of them held `leases` of the `running` ones when it began. `released_at` is when a person said that they are
    lost after all. It is `open` until it has ended: one at most.
    """

    nodes = models.PositiveIntegerField()
    leases = models.PositiveIntegerField()
    running = models.PositiveIntegerField()
    began_at = models.DateTimeField(db_default=Now())
    released_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    open = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["open"], condition=Q(open=True), name="sites_freeze_one_open")]

    def __str__(self) -> str:
        return f"{self.leases} of {self.running} leases at {self.nodes} nodes"


def known_answer(value: object) -> None:
    """`expects` of a golden prompt: {"contains": text}, {"vector": numbers} or {"best": index}, one of them."""
    if not isinstance(value, dict) or len(value) != 1:
        raise ValidationError("Name one of contains, vector and best.")
    (name, known), *_ = value.items()
    right = {
        "contains": isinstance(known, str) and known.strip() != "",
        "vector": isinstance(known, list) and known != [] and all(isinstance(each, int | float) for each in known),
        "best": isinstance(known, int) and not isinstance(known, bool) and known >= 0,
    }
    if not right.get(name):
        raise ValidationError("contains is a text, vector a list of numbers, best the index of a document.")


class GoldenPrompt(models.Model):
    """A prompt whose answer is known, at temperature 0. The first of a model is its light probe, all are its burn-in."""

    model = models.ForeignKey(Model, models.PROTECT, related_name="golden_prompts")
    body = models.JSONField(help_text='As the OpenAI API has it, without model: {"messages": [...]}')
    expects = models.JSONField(
        validators=[known_answer], help_text='{"contains": "Paris"}, {"vector": [...]} or {"best": 0}'
    )
    max_completion_tokens = models.PositiveSmallIntegerField(
        default=16, validators=[MinValueValidator(1), MaxValueValidator(4096)]
    )

    def __str__(self) -> str:
        return f"golden prompt {self.pk} of {self.model.name}"


class BurnIn(models.Model):
    """What a test of one pool found, by the runner's word. `step` is the step into burn-in that asked for it."""

    step = models.ForeignKey(NodeEvent, models.PROTECT, related_name="burn_ins")
    pool = models.ForeignKey(Pool, models.PROTECT, related_name="burn_ins")
    passed = models.BooleanField()
    findings = models.JSONField(default=list)
    gpu = models.CharField("GPU", max_length=80, blank=True)
    driver = models.CharField(max_length=40, blank=True)
    seconds = models.FloatField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "burn-in"
        constraints = [models.UniqueConstraint(fields=["step", "pool"], name="sites_burnin_one_of_a_step")]

    def __str__(self) -> str:
        return f"burn-in of {self.pool.code}"

    @property
    def wrong(self) -> str:
        """What was found wrong, in words."""
        return "; ".join(each["text"] for each in self.findings if not each["good"])


class SpeedCurve(models.Model):
    """Tokens a second of one pool with so many requests at a time, as a burn-in measured it."""

    burn_in = models.ForeignKey(BurnIn, models.PROTECT, related_name="speeds")
    model = models.ForeignKey(Model, models.PROTECT, related_name="+")
    gpu = models.CharField("GPU", max_length=80, blank=True)
    driver = models.CharField(max_length=40, blank=True)
    concurrency = models.PositiveSmallIntegerField()
    tokens_per_second = models.FloatField()
    first_token_seconds = models.FloatField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "point of a speed curve"
        verbose_name_plural = "speed curves"
        constraints = [models.UniqueConstraint(fields=["burn_in", "concurrency"], name="sites_speedcurve_one_point")]

    def __str__(self) -> str:
        return f"{self.tokens_per_second:.1f} tokens/s at {self.concurrency}"


class PowerCurve(models.Model):
    """Watts of one pool's devices with so many requests at a time; 0 is idle with the model loaded. `quality` as of energy."""

    burn_in = models.ForeignKey(BurnIn, models.PROTECT, related_name="powers")
    model = models.ForeignKey(Model, models.PROTECT, related_name="+")
    gpu = models.CharField("GPU", max_length=80, blank=True)
    driver = models.CharField(max_length=40, blank=True)
    concurrency = models.PositiveSmallIntegerField()
    power_w = models.FloatField()
    quality = models.CharField(max_length=10)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name = "point of a power curve"
        verbose_name_plural = "power curves"
        constraints = [models.UniqueConstraint(fields=["burn_in", "concurrency"], name="sites_powercurve_one_point")]

    def __str__(self) -> str:
        return f"{self.power_w:.0f} W at {self.concurrency}"
