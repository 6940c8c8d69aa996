"""llama.cpp's own server on a unix socket, as a child of the runner: `python -m apps.runner.engines.llama_server …`."""

from __future__ import annotations

import argparse
import signal
import sys

from apps.runner.engines.parent import die_with_parent, watch_input

HTTP_THREADS = 64  # an idle keep-alive connection holds one for five seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="llama_server")
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens of one slot")
    parser.add_argument("--embeddings", action="store_true")
    given = parser.parse_args()
    die_with_parent()
    watch_input()
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = given.model
    parameters.model_alias = {given.name}
    parameters.hostnames = [given.socket]
    parameters.n_parallel = given.slots
    parameters.n_ctx = given.context * given.slots
    parameters.embedding = given.embeddings
    if given.embeddings:
        parameters.n_batch = parameters.n_ubatch = max(given.context, 512)  # a text is computed in one batch
    parameters.n_threads_http = max(HTTP_THREADS, 2 * given.slots)
    # One spinning thread each: these models are small, and a second one only takes the core from another engine.
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.cache_ram_mib = 0
    parameters.ui = False
    parameters.endpoint_slots = True
    parameters.verbosity = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM})
    sys.exit(0)


if __name__ == "__main__":
    main()
