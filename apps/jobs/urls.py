from django.urls import path

from apps.jobs import views

app_name = "jobs"
urlpatterns = [
    path("jobs/", views.history, name="history"),
    path("jobs/export.csv", views.export, name="export"),
    path("jobs/<str:public_id>/", views.detail, name="detail"),
    path("jobs/<str:public_id>/result.json", views.result, name="result"),
]
