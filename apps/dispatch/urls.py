from django.urls import path

from apps.dispatch import views

app_name = "dispatch"
urlpatterns = [
    path("jobs/<str:public_id>/cancel/", views.cancel, name="cancel"),
    path("jobs/<str:public_id>/again/", views.again, name="again"),
    path("playground/", views.playground, name="playground"),
]
