"""Makes `.venv` from the hashed locks: the one module that runs on the system's own Python, so it imports only that.

    python3 -I cango_portal/launcher/environment.py [test]

A stamp named after a lock's checksum lets the next call end at once. A mark stands in the folder while packages are
written; where it is found again, that installation was interrupted and the folder is made anew.
"""

import errno
import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
MARK = VENV / ".installing"
LOCKS = {"run": "requirements.lock", "test": "requirements-test.lock"}
UV_LOCK = ROOT / "requirements-uv.lock"


def refuse(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    raise SystemExit(1)


def stamp(lock: Path) -> Path:
    return VENV / f".installed-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"


def quiet(*command: object) -> bool:
    return subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode == 0


def make_folder() -> None:
    if MARK.exists() or (VENV.exists() and not quiet(PYTHON, "-m", "pip", "--version")):
        shutil.rmtree(VENV)
    if not VENV.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
        if made.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            words = (made.stderr.strip() or made.stdout.strip() or "no message").splitlines()[-1]
            refuse(f"Python could not make the environment {VENV}: {words}")


def install(lock: Path, turn: int) -> None:
    """`turn` is the descriptor of the lock we hold: an installer that outlives us keeps it until it is done."""
    print(f"Installing packages from {lock.name} into .venv …", flush=True)
    MARK.touch()
    # Compiled once here: where nothing may be written beside the modules, each process would compile them all again.
    uv = [VENV / "bin" / "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", PYTHON]
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--compile", "--no-deps"]
    attempts = [pip]
    if quiet(PYTHON, "-m", "pip", "install", "--require-hashes", "--no-deps", "-r", UV_LOCK):
        attempts = [uv, [*uv, "--system-certs"], pip]  # behind a proxy of its own the system knows the certificates
    for command in attempts:
        if command is pip:
            print("uv cannot do it here; pip does the same in about a minute.", flush=True)
        done = subprocess.run(
            [*map(str, command), "--require-hashes", "-r", str(lock)],
            check=False,
            pass_fds=[turn],
            stderr=None if command is pip else subprocess.DEVNULL,
        )
        if not done.returncode:
            break
    if done.returncode:
        if shutil.disk_usage(ROOT).free < 20 * 1024 * 1024:
            refuse(f"The disk that holds {ROOT} is full. Free about 2 GB and run the command again.")
        refuse(
            "The packages could not be installed; the reason stands above. Is the package index reachable from here? "
            "Running the command again goes on from a clean start."
        )
    stamp(lock).touch()
    MARK.unlink()


def compile_catalogs() -> None:
    """Translations, where their sources are newer. Without them the pages are in English, so nothing waits for a reason."""
    sources = [*ROOT.glob("apps/*/locale/*/LC_MESSAGES/*.po"), *ROOT.glob("cango_portal/locale/*/LC_MESSAGES/*.po")]
    for source in sources:
        compiled = source.with_suffix(".mo")
        if not compiled.exists() or compiled.stat().st_mtime_ns <= source.stat().st_mtime_ns:
            subprocess.run([str(PYTHON), "-m", "cango_portal.catalogs"], cwd=ROOT, check=False)
            return


def main() -> None:
    which = sys.argv[1] if len(sys.argv) > 1 else "run"
    lock = ROOT / LOCKS[which]
    if PYTHON.exists() and stamp(lock).exists() and not MARK.exists():
        return
    if sys.version_info < (3, 11):  # noqa: UP036 - the one module an older Python may read
        version = ".".join(map(str, sys.version_info[:2]))
        refuse(f"Python 3.11 or newer is needed; this is {version}. Name another with: make PYTHON=/path/to/python3.11")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        refuse("Python's venv module is missing. On Debian or Ubuntu install it with: apt-get install python3-venv")
    with lock.open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # a second command beside this one waits for the same result
        if PYTHON.exists() and stamp(lock).exists() and not MARK.exists():
            return
        make_folder()
        install(lock, turn.fileno())


if __name__ == "__main__":
    try:
        main()
        compile_catalogs()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            refuse(f"The disk that holds {ROOT} is full. Free about 2 GB and run the command again.")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            refuse(f"{error.filename or ROOT} cannot be written by this user. Use a copy of the project that you own.")
        raise
