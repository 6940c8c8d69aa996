from django.urls import path

from apps.batches import views

app_name = "batches"
urlpatterns = [
    path("batches/", views.index, name="index"),
    path("batches/new/", views.new, name="new"),
    path("batches/<str:public_id>/check/", views.check, name="check"),
    path("batches/<str:public_id>/", views.detail, name="detail"),
    path("batches/<str:public_id>/cancel/", views.cancel, name="cancel"),
    path("batches/<str:public_id>/again/", views.again, name="again"),
    path("batches/<str:public_id>/rows/<int:line>/", views.row, name="row"),
    path("batches/<str:public_id>/events.csv", views.events, name="events"),
    path("batches/<str:public_id>/so-far.jsonl", views.so_far, name="so-far"),
    path("batches/<str:public_id>/<str:name>.jsonl", views.download, name="download"),
]
