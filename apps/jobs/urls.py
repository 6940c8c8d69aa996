from django.urls import path

from apps.jobs import views

app_name = "jobs"
urlpatterns = [
    path("jobs/", views.history, name="history"),
    path("jobs/export.csv", views.export, name="export"),
    path("usage/", views.usage, name="usage"),
    path("usage/export.csv", views.usage_csv, name="usage_csv"),
    path("jobs/<str:public_id>/", views.detail, name="detail"),
    path("jobs/<str:public_id>/result.json", views.result, name="result"),
]
