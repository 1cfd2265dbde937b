#!/usr/bin/env python3
"""The same HTTP component on `wasmtime serve` and on `ron-host`, in turn, on this machine.

    cargo xtask guests && cargo build --release -p ron-host
    cargo install wasmtime-cli --version 48.0.8 --locked
    python3 tests/bench/serve.py [--wasmtime PATH] [--rounds N] [--seconds N]
    python3 tests/bench/serve.py --swaps 100       # 100,000 requests through so many swaps

Needs `wrk` and `h2load` (Debian: wrk, nghttp2-client). Each round runs both hosts, one
after the other, and the figures are medians over the rounds; what counts is the ratio.
`ron-host` has its limits, its metrics and its request ids on. The client shares the
processors with the host, as it does for both. `wasmtime serve` ends no TLS and speaks
HTTP/1.1 alone: the other rows of ron-host's stand alone.
"""

import argparse
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = [1, 32, 256]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, process):
    """Until it answers: the port is there before the component is loaded."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, context=anyone, timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{process.args[0]} does not answer")


class Host:
    """A host that serves the component until it is left."""

    def __init__(self, name, arguments, port, scheme="http"):
        self.name, self.arguments, self.port = name, arguments, port
        self.url = f"{scheme}://127.0.0.1:{port}/"

    def __enter__(self):
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.arguments, stdout=quiet, stderr=quiet)
        wait_for(self.url, self.process)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


MICROSECONDS = {"us": 1, "ms": 1e3, "s": 1e6}


def wrk(url, connections, seconds, keep_alive):
    """Requests a second, and the 99th percentile in microseconds."""
    arguments = ["wrk", "--latency", f"-t{min(connections, 2)}", f"-c{connections}", f"-d{seconds}s"]
    if not keep_alive:
        arguments += ["-H", "connection: close"]
    text = subprocess.run(arguments + [url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        sys.exit(f"requests failed:\n{text}")
    rate = float(re.search(r"Requests/sec:\s*([\d.]+)", text)[1])
    late, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    return rate, float(late) * MICROSECONDS[unit]


def h2load(url, connections, seconds):
    """The same over HTTP/2, eight requests at a time on a connection, 256 in all at most."""
    each = min(8, max(1, 256 // connections))
    with tempfile.NamedTemporaryFile() as log:
        arguments = ["h2load", f"-t{min(connections, 2)}", f"-c{connections}", f"-m{each}", f"-D{seconds}"]
        arguments += [f"--log-file={log.name}", url]
        text = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        times = sorted(int(line.split()[2]) for line in open(log.name))
    if not times:
        sys.exit(f"nothing was answered:\n{text}")
    failed = int(re.search(r"(\d+) failed", text)[1])
    if failed:
        sys.exit(f"{failed} requests failed:\n{text}")
    rate = float(re.search(r"([\d.]+) req/s", text)[1])
    return rate, times[int(len(times) * 0.99)]


def swap(options):
    """Swaps while requests come, and says how many failed."""
    port, requests = free_port(), 100_000
    control = f"{tempfile.mkdtemp()}/control.sock"
    arguments = [str(options.ron_host), "--component", f"web={options.component}"]
    arguments += ["--admin", "127.0.0.1:0", "--http", f"127.0.0.1:{port}", "--control", control]
    with Host("ron-host", arguments, port) as host:
        # One after the other on 16 connections, for as long as there is something to swap.
        load = ["h2load", "--h1", f"-n{requests}", "-c16", "-t1", host.url]
        load = subprocess.Popen(load, stdout=subprocess.PIPE, text=True)
        swapped = 0
        for _ in range(options.swaps):
            subprocess.run(
                [str(options.ron_host), "ctl", "--control", control, "swap", "web", "--force"],
                check=True, stdout=subprocess.DEVNULL,
            )
            swapped += load.poll() is None
        text = load.communicate()[0]
    requests = re.search(r"requests: .*", text)[0]
    print(f"{options.swaps} swaps, {swapped} of them under load\n{requests}")
    print(re.search(r"status codes: .*", text)[0])
    sys.exit(0 if " 0 failed, 0 errored" in requests else 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wasmtime", default=shutil.which("wasmtime"))
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--ron-host", default=target / "release/ron-host")
    parser.add_argument("--component", default=target / "components/bindgen-http.wasm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--swaps", type=int, help="swap so often under 100,000 requests instead")
    parser.add_argument("--only", default="", help="the rows whose name begins so")
    options = parser.parse_args()
    if options.swaps:
        return swap(options)
    for program in [options.wasmtime, shutil.which("wrk"), shutil.which("h2load")]:
        if not program:
            sys.exit("wasmtime, wrk and h2load are needed; see the beginning of this file")
    component = str(options.component)

    def ron(scheme):
        port, place = free_port(), Path(tempfile.mkdtemp())
        tls = "tls = { self_signed = true }" if scheme == "https" else ""
        # One client makes all the load, and has more places than one has by default.
        (place / "ron.toml").write_text(f"""
            admin = "127.0.0.1:0"
            log.level = "warn"
            control = "{place}/control.sock"
            [listener.public]
            bind = "127.0.0.1:{port}"
            {tls}
            limits = {{ requests_per_ip = 500 }}
            [service.web]
            component = "{Path(component).resolve()}"
            http = [{{ listener = "public" }}]
        """)
        arguments = [str(options.ron_host), "--config", str(place / "ron.toml")]
        return Host("ron-host", arguments, port, scheme)

    def wasmtime():
        port = free_port()
        arguments = [options.wasmtime, "serve", "-Scli", "-Sp3", "-Wcomponent-model-async", f"--addr=127.0.0.1:{port}", component]
        return Host("wasmtime serve", arguments, port)

    both = [wasmtime, lambda: ron("http")]
    rows = []
    for connections in CONNECTIONS:
        for keep_alive in [True, False]:
            how = "keep-alive" if keep_alive else "a connection each"
            run = lambda url, c=connections, k=keep_alive: wrk(url, c, options.seconds, k)
            rows.append((f"HTTP/1.1, {how}", connections, both, run))
    for connections in CONNECTIONS:
        run = lambda url, c=connections: h2load(url, c, options.seconds)
        rows.append(("HTTP/2", connections, [lambda: ron("http")], run))
    for connections in CONNECTIONS:
        run = lambda url, c=connections: wrk(url, c, options.seconds, True)
        rows.append(("HTTP/1.1, TLS", connections, [lambda: ron("https")], run))
        run = lambda url, c=connections: h2load(url, c, options.seconds)
        rows.append(("HTTP/2, TLS", connections, [lambda: ron("https")], run))

    print(f"{'':29}{'wasmtime serve':>22}{'ron-host':>22}{'ratio':>14}")
    print(f"{'':24}conns{'req/s':>12}{'p99 us':>10}{'req/s':>12}{'p99 us':>10}{'req/s':>8}{'p99':>6}")
    for what, connections, hosts, run in rows:
        if not what.startswith(options.only):
            continue
        seen = {}
        for _ in range(options.rounds):
            for make in hosts:
                with make() as host:
                    run(host.url) if not seen.get(host.name) else None
                    seen.setdefault(host.name, []).append(run(host.url))
        middle = {
            name: tuple(statistics.median(one[i] for one in results) for i in range(2))
            for name, results in seen.items()
        }
        line = f"{what:24}{connections:>5}"
        for name in ["wasmtime serve", "ron-host"]:
            rate, late = middle.get(name, (None, None))
            line += f"{rate:>12.0f}{late:>10.0f}" if rate else f"{'-':>12}{'-':>10}"
        if len(middle) == 2:
            (floor, floor_late), (rate, late) = middle["wasmtime serve"], middle["ron-host"]
            line += f"{rate / floor:>8.2f}{late / floor_late:>6.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
