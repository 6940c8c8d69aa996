"""allauth's views at our addresses, under allauth's names: it reverses them itself. And the pages of the person."""

from allauth.account import views
from allauth.mfa.base import views as factors
from django.urls import URLPattern, URLResolver, include, path, re_path

from apps.accounts import factors as ours
from apps.accounts import views as own

urlpatterns: list[URLPattern | URLResolver] = [
    path("signup/", views.signup, name="account_signup"),
    path("verify/", views.email_verification_sent, name="account_email_verification_sent"),
    re_path(r"^verify/(?P<key>[-:\w]+)/$", views.confirm_email, name="account_confirm_email"),
    path("login/", views.login, name="account_login"),
    path("login/code/", ours.second_factor, name="mfa_authenticate"),
    path("login/passkey/", ours.sign_in_by_passkey, name="mfa_login_webauthn"),
    path("login/again/", views.reauthenticate, name="account_reauthenticate"),
    path("login/inactive/", views.account_inactive, name="account_inactive"),
    path("logout/", views.logout, name="account_logout"),
    path("password/change/", views.password_change, name="account_change_password"),
    path("password/set/", views.password_set, name="account_set_password"),
    path("password/reset/", views.password_reset, name="account_reset_password"),
    path("password/reset/done/", views.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^password/reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        views.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("password/reset/complete/", views.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    path("settings/account/", own.account, name="settings-account"),
    path("settings/notifications/", own.notifications, name="settings-notifications"),
    path("mails/stop/<str:token>/", own.stop_mails, name="mail-stop"),
    path("settings/security/", own.security, name="mfa_index"),
    path("settings/security/sessions/", own.end_sessions, name="usersessions_list"),
    path("settings/security/again/", factors.reauthenticate, name="mfa_reauthenticate"),
    path("settings/security/again/passkey/", ours.confirm_by_passkey, name="mfa_reauthenticate_webauthn"),
    path("settings/security/passkeys/add/", ours.add_passkey, name="mfa_add_webauthn"),
    path("settings/security/passkeys/<int:pk>/", ours.rename_passkey, name="mfa_edit_webauthn"),
    path("settings/security/passkeys/<int:pk>/remove/", ours.remove_passkey, name="mfa_remove_webauthn"),
    path("settings/security/totp/", include("allauth.mfa.totp.urls")),
    path("settings/security/recovery-codes/", include("allauth.mfa.recovery_codes.urls")),
]
