import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from cango_portal.launcher.servers import Servers, ServersFailed, elsewhere, remove
from tests.launcher.test_processes import alive, until
from tests.started import ROOT

pytestmark = pytest.mark.whole


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="cango-", dir="/tmp"))
    made.chmod(0o711)
    yield made
    remove(made)


def answers(servers: Servers) -> bool:
    with psycopg.connect(servers.database_url) as connection, redis.Redis.from_url(servers.redis_url) as client:
        return connection.execute("SELECT current_database()").fetchone() == ("portal",) and bool(client.ping())


def test_they_start_answer_and_stop(directory):
    servers = Servers(directory, durable=False)
    servers.start()
    pids = [process.pid for process in servers.processes.values()]
    assert answers(servers)
    servers.stop()
    servers.stop()
    assert not any(alive(pid) for pid in pids)


def test_what_a_killed_launcher_leaves_does_not_stop_the_next(directory):
    script = (
        "import sys, time; from pathlib import Path; from cango_portal.launcher.servers import Servers;"
        "s = Servers(Path(sys.argv[1]), durable=False); s.start();"
        "print(*[p.pid for p in s.processes.values()], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(directory)], cwd=ROOT, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout is not None
        pids = [int(pid) for pid in launcher.stdout.readline().split()]
        launcher.kill()
    servers = Servers(directory, durable=False)
    servers.start()
    assert answers(servers)
    until(lambda: not any(alive(pid) for pid in pids))
    servers.stop()


def test_an_interrupted_first_run_is_begun_again(directory):
    (directory / "postgres.part" / "base").mkdir(parents=True)
    (directory / "postgres").mkdir()
    (directory / "valkey.sock").touch()
    servers = Servers(directory, durable=False)
    servers.start()
    assert answers(servers)
    servers.stop()


def test_a_server_that_ends_is_started_again(directory):
    servers = Servers(directory, durable=False)
    servers.start()
    before = servers.processes
    for process in before.values():
        os.kill(process.pid, signal.SIGKILL)
    until(lambda: all(process.poll() is not None for process in before.values()))
    until(lambda: servers.revive() is not None and servers.postgres_answers() and servers.valkey_answers())
    assert answers(servers)
    servers.stop()


def test_a_long_path_is_refused_before_anything_is_made():
    long = Path("/tmp") / ("cango-" + "x" * 100)
    try:
        with pytest.raises(ServersFailed, match="too long"):
            Servers(long).start()
        assert not list(long.iterdir())
    finally:
        shutil.rmtree(long)


def test_a_broken_data_directory_is_said_in_a_sentence(directory):
    servers = Servers(directory, durable=False)
    servers.start()
    servers.stop()
    (servers.cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServersFailed, match=r"The postgres server stopped at once: .*Its log is"):
        servers.start()
    assert not servers.processes


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's directories can be closed to nobody")
def test_below_a_closed_home_root_keeps_the_database_elsewhere(directory):
    (directory / "home").mkdir(mode=0o700)
    servers = Servers(directory / "home" / "var", durable=False)
    try:
        servers.start()
        assert servers.home == elsewhere(servers.directory)
        assert answers(servers)
    finally:
        servers.stop()
        remove(servers.directory)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")
def test_a_strangers_directory_is_not_used(directory):
    (directory / "home").mkdir(mode=0o700)
    var = directory / "home" / "var"
    squatted = elsewhere(var)
    squatted.mkdir()
    try:
        os.chown(squatted, 65534, 65534)
        with pytest.raises(ServersFailed, match="belongs to another user"):
            Servers(var)
    finally:
        shutil.rmtree(squatted)
