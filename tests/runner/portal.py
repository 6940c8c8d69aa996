"""The portal as a runner sees it: takes reports and heartbeats, says what a test wants, checks every shape."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from apps.runner.protocol import (
    Attempt,
    BurnInAnswer,
    BurnInResult,
    Desired,
    Heartbeat,
    HeartbeatAnswer,
    Report,
    ReportAnswer,
    Reports,
    ReportsAnswer,
    Telemetry,
    TelemetryAnswer,
    Wanted,
)

TOKEN = "node-token"


class FakePortal:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.reports: list[Report] = []
        self.posts = 0
        self.heartbeats: list[Heartbeat] = []
        self.telemetry: list[Telemetry] = []
        self.stop: list[Attempt] = []
        self.cancel: list[Attempt] = []
        self.accepts = True
        self.away = False
        self.away_status = 503
        self.slow_seconds = 0.0  # until a heartbeat is heard
        self.files: dict[str, bytes] = {}
        self.url = ""
        self.clock_off = 0.0
        self.wanted: Wanted | None = None
        self.burn_ins: list[BurnInResult] = []

    def want(self, *pools: Desired) -> Wanted:
        """Under a name that no other list of pools has."""
        return Wanted(version=repr(pools), pools=list(pools))

    def of(self, job: str, kind: str = "finished") -> list[Report]:
        return [report for report in self.reports if report.job == job and report.kind == kind]

    def wait(self, condition: Callable[[], Any], seconds: float = 15) -> Any:
        deadline = time.monotonic() + seconds
        with self.changed:
            while not (found := condition()):
                left = deadline - time.monotonic()
                assert left > 0, "the portal did not hear it in time"
                self.changed.wait(min(left, 0.2))
            return found

    def finished(self, job: str, seconds: float = 15) -> Report:
        report: Report = self.wait(lambda: self.of(job), seconds)[0]
        return report

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/agent/v1/heartbeat":
            time.sleep(self.slow_seconds)
        with self.changed:
            if self.away:
                return self.away_status, b"{}"
            self.changed.notify_all()
            if path == "/agent/v1/reports":
                self.posts += 1
                reports = Reports.model_validate_json(body).reports
                self.reports += reports
                answers = [
                    ReportAnswer(job=report.job, attempt=report.attempt, accepted=self.accepts) for report in reports
                ]
                return 200, ReportsAnswer(answers=answers).model_dump_json().encode()
            if path == "/agent/v1/burn-in":
                self.burn_ins.append(BurnInResult.model_validate_json(body))
                return 200, BurnInAnswer(accepted=True).model_dump_json().encode()
            if path == "/agent/v1/heartbeat":
                self.heartbeats.append(Heartbeat.model_validate_json(body))
                new = self.wanted and self.wanted.version != self.heartbeats[-1].wanted
                answer = HeartbeatAnswer(stop=self.stop, cancel=self.cancel, wanted=self.wanted if new else None)
                return 200, answer.model_dump_json().encode()
            if path == "/agent/v1/telemetry":
                self.telemetry.append(Telemetry.model_validate_json(body))
                return 200, TelemetryAnswer(seq=self.telemetry[-1].readings[-1].seq).model_dump_json().encode()
        return 404, b"{}"


@contextlib.contextmanager
def running() -> Iterator[FakePortal]:
    portal = FakePortal()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                self.reply(401, b"{}")
            else:
                self.reply(*portal.answer(self.path, body))

        def do_GET(self) -> None:
            if self.path == "/agent/v1/node":
                return self.reply(*portal.answer(self.path, b""))
            assert "authorization" not in self.headers  # a signed path carries its own right
            content = portal.files.get(self.path)
            return self.reply(*((404, b"") if content is None else (200, content)))

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(int(time.time() + portal.clock_off))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        portal.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield portal
        server.shutdown()
        thread.join()
