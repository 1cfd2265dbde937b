#!/usr/bin/env python3
"""Many idle services in one host: how soon they are ready, and what each of them costs.

    cargo xtask guests && cargo build --release --bins
    python3 tests/bench/scale.py [--services 1000 10000] [--distinct 10000]

Of one component for all, or with --distinct of as many components as services, which
differ in a custom section alone. What a service costs is what the host has more than one
with a single service: resident memory, and the page tables that are not in it. Each host is
started twice, so that the second finds every component compiled. Ten thousand services take
more memory mappings than Linux allows by default: `sysctl vm.max_map_count=262144`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def leb128(number):
    out = bytearray()
    while True:
        byte, number = number & 0x7F, number >> 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def marked(component, number):
    """The component with a custom section more."""
    section = b"\x06number" + str(number).encode()
    return component + b"\x00" + leb128(len(section)) + section


class Host:
    def __init__(self, binary, place, arguments=()):
        began = time.perf_counter()
        command = [binary, "--config", "ron.toml", "--control", "control.sock"]
        command += ["--cache-dir", "cache", "--log-level", "warn", *arguments]
        self.log = open(place / "log", "w")
        self.process = subprocess.Popen(
            command, cwd=place, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.url = None
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "admin":
                self.url = words[1]
            if words[0] == "ready":
                break
        else:
            sys.exit(f"the host ended:\n{(place / 'log').read_text()}")
        self.ready = time.perf_counter() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        # What it has to say meanwhile is not to hold it up.
        self.process.stdout.read()
        self.process.wait()

    def get(self, path):
        began = time.perf_counter()
        with urllib.request.urlopen(self.url + path) as answer:
            size = len(answer.read())
        return time.perf_counter() - began, size

    def status(self, key):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        return 0

    def mappings(self):
        return len(Path(f"/proc/{self.process.pid}/maps").read_text().splitlines())


def settings(place, component, services, distinct):
    """A ron.toml with so many services."""
    lines = ["admin = '127.0.0.1:0'"]
    for number in range(services):
        name = "echo.wasm"
        if distinct:
            name = f"echo{number}.wasm"
            (place / name).write_bytes(marked(component, number))
        lines += [f"[service.echo{number}]", f"component = '{name}'"]
    if not distinct:
        (place / "echo.wasm").write_bytes(component)
    (place / "ron.toml").write_text("\n".join(lines))


def measure(binary, component, services, distinct, floor):
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        settings(place, component, services, distinct)
        with Host(binary, place) as host:
            cold = host.ready
        with Host(binary, place, ["--metrics-detail", "host"]) as host:
            folded = statistics.median(host.get("/metrics")[0] for _ in range(5))
        with Host(binary, place) as host:
            warm = host.ready
            time.sleep(2)
            resident, tables = host.status("VmRSS"), host.status("VmPTE")
            mappings = host.mappings()
            before = host.status("VmRSS")
            scrapes = [host.get("/metrics") for _ in range(5)]
            grown = host.status("VmRSS") - before
            host.get("/readyz")
    whole = statistics.median(took for took, _ in scrapes)
    if floor is None:
        return resident, tables
    each = (resident - floor[0]) / (services - 1)
    own_tables = (tables - floor[1]) / (services - 1)
    print(
        f"{services:>8}{'distinct' if distinct else 'one':>10}{cold:>10.2f} s{warm:>8.2f} s"
        f"{each:>9.1f} KiB{own_tables:>8.1f} KiB{mappings:>10}"
        f"{whole * 1e3:>9.1f} ms{scrapes[0][1] / 2**20:>7.1f} MiB{grown / 1024:>7.1f} MiB"
        f"{folded * 1e3:>8.1f} ms",
        flush=True,
    )
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--ron-host", default=target / "release/ron-host")
    parser.add_argument("--component", default=target / "components/echo.wasm")
    parser.add_argument("--services", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--distinct", type=int, nargs="*", default=[])
    options = parser.parse_args()
    binary = str(Path(options.ron_host).resolve())
    component = Path(options.component).read_bytes()
    floor = measure(binary, component, 1, False, None)
    print(
        f"{'':>8}{'':>10}{'ready in':>12}{'':>10}{'resident':>13}{'tables':>12}{'':>10}"
        f"{'/metrics':>12}{'':>11}{'grows by':>11}{'folded':>11}\n"
        f"{'services':>8}{'of':>10}{'compiling':>12}{'cached':>10}{'each':>13}{'each':>12}"
        f"{'mappings':>10}{'':>12}{'size':>11}{'':>11}{'':>11}"
    )
    for services in options.services:
        measure(binary, component, services, False, floor)
    for services in options.distinct:
        measure(binary, component, services, True, floor)


if __name__ == "__main__":
    main()
