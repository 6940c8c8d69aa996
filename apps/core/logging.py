"""One JSON object per line, UTC, with the request and job it belongs to. Prompts, keys and e-mails never go in."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
job_id: ContextVar[str | None] = ContextVar("job_id", default=None)

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
DATA = (str, int, float, bool, list, tuple, dict, type(None))


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in (("request", request_id.get()), ("job", job_id.get())):
            if value is not None:
                line[name] = value
        line |= {
            key: value
            for key, value in vars(record).items()
            if key not in STANDARD and key not in line and isinstance(value, DATA)  # Django adds its request object
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
