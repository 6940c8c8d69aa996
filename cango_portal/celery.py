"""The portal's own Celery application: slow and periodic tasks, queue `portal`.

Work for sites never runs here; their queues are consumed by the runners' application (`apps.runner.worker`).
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cango_portal.settings")

app = Celery("portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "socket_timeout": 10,
        "socket_connect_timeout": 2,
        "max_retries": 0,  # of a producer: what it could not send, a sweep sends
    },
)
app.autodiscover_tasks()
app.autodiscover_tasks(["apps.billing.sandbox"])  # not an app of its own
