import signal
from typing import Any

from django.core.management.base import BaseCommand

from apps.dispatch.dispatcher import Dispatcher


class Command(BaseCommand):
    help = "Feed the backlog, send orders again, end lost leases, expire deadlines. Several may run."

    def handle(self, *args: Any, **options: Any) -> None:
        dispatcher = Dispatcher()

        def stop(*_: Any) -> None:
            dispatcher.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        dispatcher.run()
