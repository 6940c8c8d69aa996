from django.urls import path

from apps.dispatch import views

app_name = "dispatch"
urlpatterns = [
    path("jobs/<str:public_id>/cancel/", views.cancel, name="cancel"),
    path("jobs/<str:public_id>/again/", views.again, name="again"),
    path("models/<str:publisher>/<str:name>/try/", views.try_model, name="try"),
]
