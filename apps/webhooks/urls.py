from django.urls import path

from apps.webhooks import views

app_name = "webhooks"
urlpatterns = [
    path("settings/webhooks/", views.index, name="index"),
    path("settings/webhooks/new/", views.new, name="new"),
    path("settings/webhooks/<str:public_id>/", views.detail, name="detail"),
    path("settings/webhooks/<str:public_id>/edit/", views.edit, name="edit"),
    path("settings/webhooks/<str:public_id>/test/", views.test, name="test"),
    path("settings/webhooks/<str:public_id>/rotate/", views.rotate, name="rotate"),
    path("settings/webhooks/<str:public_id>/disable/", views.disable, name="disable"),
    path("settings/webhooks/<str:public_id>/enable/", views.enable, name="enable"),
    path("settings/webhooks/<str:public_id>/delete/", views.delete, name="delete"),
    path("settings/webhooks/<str:public_id>/deliveries/<str:delivery_id>/", views.delivery, name="delivery"),
    path("settings/webhooks/<str:public_id>/deliveries/<str:delivery_id>/replay/", views.replay, name="replay"),
]
