#!/usr/bin/env python3
"""Two services over the bus, beside two processes with a NATS server between them.

    python3 tests/bench/bus.py [--nats-server PATH]

Both run on this machine, one after the other. `nats-server` is looked for on PATH; on
Debian and its kin it is fetched into target/, as Prometheus is for the tests.
"""

import argparse
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = ROOT / "target"


def nats_server(said):
    found = said or shutil.which("nats-server")
    own = TARGET / "nats-server/usr/sbin/nats-server"
    if found:
        return found
    if not own.exists():
        if not shutil.which("apt-get"):
            sys.exit("nats-server is not on PATH: install it, or say where with --nats-server")
        place = TARGET / "nats-server"
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "nats-server"], cwd=place, check=True)
        package = next(place.glob("nats-server_*.deb"))
        subprocess.run(["dpkg", "-x", package, place], check=True)
    return str(own)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_open(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("nats-server does not listen")


def over_nats(server):
    built = ["cargo", "build", "--release", "--manifest-path", "tests/bench/nats/Cargo.toml"]
    subprocess.run([*built, "--target-dir", TARGET / "bench-nats"], cwd=ROOT, check=True)
    peer = TARGET / "bench-nats/release/nats-peer"
    port = free_port()
    url = f"nats://127.0.0.1:{port}"
    broker = subprocess.Popen(
        [server, "-a", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until_open(port)
        answers = subprocess.Popen([peer, "answer", url], stdout=subprocess.PIPE, text=True)
        try:
            assert answers.stdout.readline().strip() == "ready"
            asks = subprocess.run([peer, "ask", url], check=True, capture_output=True, text=True)
        finally:
            answers.kill()
    finally:
        broker.kill()
    return asks.stdout


def over_the_bus():
    command = ["cargo", "bench", "--", "services"]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


def figures(text):
    rate = re.search(r"handled (\d+) messages/s", text)
    asked = re.search(r"requested (\d+) requests/s, p50 ([\d.]+) us, p99 ([\d.]+) us", text)
    if not rate or not asked:
        sys.exit(f"no figures in:\n{text}")
    return [float(number) for number in (rate[1], *asked.groups())]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--nats-server", help="the server's program")
    server = nats_server(arguments.parse_args().nats_server)
    version = subprocess.run([server, "--version"], capture_output=True, text=True).stdout.strip()
    nats, ours = figures(over_nats(server)), figures(over_the_bus())
    rows = [
        ("messages/s, published and handled", nats[0], ours[0], ours[0] / nats[0], ">= 10"),
        ("requests/s, one after the other", nats[1], ours[1], ours[1] / nats[1], ">= 10"),
        ("a request, p50, us", nats[2], ours[2], ours[2] / nats[2], ""),
        ("a request, p99, us", nats[3], ours[3], ours[3] / nats[3], "<= 0.1"),
    ]
    print(f"\n{version}; 256 B")
    print(f"{'':<36}{'NATS':>12}{'ron-host':>12}{'ratio':>9}  goal")
    for name, theirs, own, ratio, goal in rows:
        print(f"{name:<36}{theirs:>12.1f}{own:>12.1f}{ratio:>9.3f}  {goal}")


if __name__ == "__main__":
    main()
