from django.urls import path

from apps.keys import views

app_name = "keys"
urlpatterns = [
    path("keys/", views.index, name="index"),
    path("keys/new/", views.new, name="new"),
    path("keys/<uuid:pk>/", views.detail, name="detail"),
    path("keys/places/", views.allowed_places, name="places"),
    path("keys/<uuid:pk>/change/", views.change, name="change"),
    path("keys/<uuid:pk>/replace/", views.replace, name="replace"),
    path("keys/<uuid:pk>/revoke/", views.revoke, name="revoke"),
]
