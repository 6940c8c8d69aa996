"""Who is here: users, the organizations they work in, and what they did."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy, pgettext_lazy

from apps.accounts import rights
from apps.accounts.mails import Mail
from apps.core.ids import public, uuid7


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person, known by e-mail address (kept in lower case, unique without regard to case)."""

    username = None  # type: ignore[assignment]
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")
    language = models.CharField(
        max_length=16,
        default="",
        db_default="",
        blank=True,
        help_text="Of pages and mails; empty is what the browser asks for",
    )
    language_chosen = models.BooleanField(
        default=False, db_default=False, help_text="By the person; otherwise it is that of the page they came in by"
    )
    declined_mails = ArrayField(
        models.CharField(max_length=8, choices=Mail),
        default=list,
        db_default=models.Value([], ArrayField(models.CharField(max_length=8))),
        blank=True,
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="accounts_user_email_unique")]

    def __str__(self) -> str:
        return self.email


class Organization(models.Model):
    """The customer: it owns credit, keys, jobs and files."""

    KEEPS = (0, 7, 30)  # days of `keep_text_days`

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    residency = ArrayField(
        models.CharField(max_length=100),
        null=True,
        editable=False,
        help_text="Places (`apps.core.places`) where its work may run; null is everywhere. A key can only narrow it.",
    )
    keep_text_days = models.PositiveSmallIntegerField(
        default=30, db_default=30, editable=False, help_text="What was sent and got is kept so long after a job's end"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    closing_at = models.DateTimeField(
        null=True, editable=False, help_text="When it is deleted; its keys stopped before"
    )
    closed_at = models.DateTimeField(null=True, editable=False, help_text="When it was deleted: what must be kept is")
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")
    memberships: models.Manager[Membership]

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(keep_text_days__in=(0, 7, 30)), name="accounts_organization_keeps_text"
            ),
            models.CheckConstraint(
                condition=models.Q(closed_at=None) | models.Q(closing_at__lte=models.F("closed_at")),
                name="accounts_organization_closed_after_grace",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return public("org", uuid.UUID(str(self.pk)))


class Membership(models.Model):
    class Role(models.TextChoices):
        OWNER = "owner", gettext_lazy("Owner")
        ADMIN = "admin", gettext_lazy("Admin")
        DEVELOPER = "developer", gettext_lazy("Developer")
        BILLING = "billing", pgettext_lazy("role", "Billing")
        VIEWER = "viewer", gettext_lazy("Viewer")

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)
    last_active_at = models.DateTimeField(
        null=True, editable=False, help_text="With a session, to some minutes (`activity`)"
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "user"], name="accounts_membership_unique")]

    def __str__(self) -> str:
        return f"{self.user}, {self.get_role_display().lower()} of {self.organization}"

    def may(self, right: rights.Right) -> bool:
        return rights.allows(self.role, right)

    @property
    def rights(self) -> frozenset[rights.Right]:
        """For templates: `"pay" in membership.rights`."""
        return rights.BY_ROLE.get(self.role, frozenset())


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def pending(self) -> InvitationQuerySet:
        """Also those whose time is over: they can be sent again."""
        return self.filter(state=Invitation.State.PENDING)


class Invitation(models.Model):
    """A place in an organization, offered to an address. One is pending for each address, and one membership comes of it."""

    class State(models.TextChoices):
        PENDING = "pending"
        ACCEPTED = "accepted"
        DECLINED = "declined"
        WITHDRAWN = "withdrawn"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=12, choices=Membership.Role)
    invited_by = models.ForeignKey(User, models.PROTECT, related_name="+")
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField()
    sent = models.PositiveSmallIntegerField(default=1, help_text="How often")
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    objects = InvitationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=models.Q(state="pending"),
                name="accounts_invitation_pending_once",
            ),
            models.CheckConstraint(
                condition=models.Q(state="pending", ended_at=None)
                | (~models.Q(state="pending") & models.Q(ended_at__isnull=False)),
                name="accounts_invitation_ended_has_time",
            ),
        ]
        indexes = [
            models.Index(fields=["email"], condition=models.Q(state="pending"), name="accounts_invitation_pending")
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return public("inv", uuid.UUID(str(self.pk)))

    @property
    def is_over(self) -> bool:
        return self.state == self.State.PENDING and self.expires_at <= timezone.now()


class AuditEvent(models.Model):
    """Who did what, from where, and why: written once, never changed. A trigger refuses it to everybody."""

    organization = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="audit_events")
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    action = models.CharField(max_length=64)
    target = models.CharField(max_length=128, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    data = models.JSONField(default=dict)
    address = models.GenericIPAddressField(null=True, help_text="Of who did it; null where it was no request")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["organization", "-at"], name="accounts_audit_recent")]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
