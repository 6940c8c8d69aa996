from celery import shared_task

from apps.files import services


@shared_task(name="files.expire")
def expire() -> None:
    while services.expire(batch=500) == 500:
        pass
