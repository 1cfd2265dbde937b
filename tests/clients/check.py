#!/usr/bin/env python3
"""What clients that others wrote make of the listeners, on this machine.

    cargo xtask guests && cargo build -p ron-host
    python3 tests/clients/check.py [--ron-host PATH] [--only NAME]

Runs curl, openssl, sslyze, slowhttptest and h2load against one host, and says what came of
each. It fails when one of them found something. A client that is not installed is skipped,
and said so (Debian: curl, openssl, slowhttptest, nghttp2-client); sslyze is installed by
pip into target/clients, where there is a network. A minute, most of which slowhttptest takes.
"""

import argparse
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# The component, and what leads to it. `/large` answers with a megabyte.
CONFIG = """
admin = "127.0.0.1:0"
log.level = "error"

[listener.clear]
bind = "127.0.0.1:{clear}"
[listener.tls]
bind = "127.0.0.1:{tls}"
tls = {{ cert = "server.pem", key = "server.key" }}
sni = {{ "api.example" = {{ cert = "api.pem", key = "api.key" }} }}
[listener.mutual]
bind = "127.0.0.1:{mutual}"
tls = {{ cert = "server.pem", key = "server.key", client_ca = "ca.pem" }}
[listener.bytes]
bind = "127.0.0.1:{bytes}"
tls = {{ cert = "server.pem", key = "server.key" }}

[service.web]
component = "{components}/wstd-http.wasm"
http = [{{ listener = "clear" }}, {{ listener = "tls" }}, {{ listener = "mutual" }}]
[service.state]
component = "{components}/http-service.wasm"
http = [{{ listener = "clear", path = "/large" }}]
[service.echo]
component = "{components}/stream-echo.wasm"
[[service.echo.stream]]
listener = "bytes"
host = "echo.example"
"""


class Missing(Exception):
    """A client that is not there."""


def found(text, *, unless):
    """Something that should not be."""
    if not unless:
        raise AssertionError(text)


def program(name, package=None):
    path = shutil.which(name)
    if not path:
        raise Missing(f"{name} is not installed (Debian: {package or name})")
    return path


def run(*arguments, text="", timeout=120):
    done = subprocess.run(
        arguments, input=text, capture_output=True, text=True, timeout=timeout, errors="replace"
    )
    return done.stdout + done.stderr


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Host:
    """A host with its certificates, in a directory of its own."""

    def __init__(self, options):
        self.place = Path(tempfile.mkdtemp())
        names = ["clear", "tls", "mutual", "bytes"]
        self.port = dict(zip(names, free_ports(len(names))))
        openssl = program("openssl")
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        ends = "basicConstraints=critical,CA:FALSE"
        self.openssl([openssl, *new, "-days", "90", "-subj", "/CN=ca"], "ca")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", ends]
        for name, host in [("server", "localhost"), ("api", "api.example"), ("client", "client")]:
            names = f"subjectAltName=DNS:{host},IP:127.0.0.1"
            new_one = [openssl, *new, "-days", "90", "-subj", f"/CN={host}", *signed]
            self.openssl([*new_one, "-addext", names], name)
        components = options.components.resolve()
        (self.place / "ron.toml").write_text(CONFIG.format(components=components, **self.port))
        arguments = [str(Path(options.ron_host).resolve()), "--config", "ron.toml"]
        arguments += ["--control", "control.sock", "--log-format", "json"]
        self.process = subprocess.Popen(
            arguments, cwd=self.place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # What nobody reads would hold it up.
        self.errors = []
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()
        for line in self.process.stdout:
            if '"ready"' in line:
                break
        else:
            sys.exit(f"ron-host did not start:\n{''.join(self.errors)}")

    def openssl(self, arguments, name):
        subprocess.run(
            [*arguments, "-keyout", f"{name}.key", "-out", f"{name}.pem"],
            cwd=self.place, check=True, capture_output=True,
        )

    def path(self, name):
        return str(self.place / name)

    def at(self, listener, host="127.0.0.1"):
        return f"{host}:{self.port[listener]}"

    def stop(self):
        self.process.terminate()
        code = self.process.wait(timeout=60)
        shutil.rmtree(self.place, ignore_errors=True)
        return code


def curl(host):
    """GET, HEAD and POST over each protocol; certificates that are asked for."""
    curl = program("curl")
    clear, tls = f"http://{host.at('clear')}", f"https://{host.at('tls', 'localhost')}"
    ways = [
        (clear, "1.1", ["--http1.1"]),
        (clear, "2", ["--http2-prior-knowledge"]),
        (tls, "1.1", ["--http1.1", "--cacert", host.path("ca.pem")]),
        (tls, "2", ["--http2", "--cacert", host.path("ca.pem")]),
    ]
    told = ["-sS", "-m", "20", "-w", "|%{http_code} %{http_version}"]
    upload = "x" * 300_000
    for url, version, flags in ways:
        for more, path, body in [
            ([], "/", "hello from wstd, for the 1. time\n"),
            ([], "/drip", "0\n1\n2\n3\n4\n"),
            (["-I", "-o", os.devnull], "/", ""),
            (["-I", "-o", os.devnull], "/drip", ""),
            (["--data-binary", "@-"], "/echo", upload),
        ]:
            said = run(curl, *told, *flags, *more, url + path, text=upload if body == upload else "")
            expected = f"{body}|200 {version}"
            found(f"{version} {more} {url}{path}: {said[-300:]}", unless=said == expected)
        said = run(curl, *told, *flags, url + "/who")
        found(f"the service is told another scheme: {said}", unless=f" {url}/who\n" in said)
    mutual = f"https://{host.at('mutual', 'localhost')}/"
    known = ["--cert", host.path("client.pem"), "--key", host.path("client.key")]
    for flags, expected in [(known, True), ([], False)]:
        said = run(curl, *told, "--cacert", host.path("ca.pem"), *flags, mutual)
        found(f"{flags}: {said}", unless=("|200" in said) == expected)
    return "GET, HEAD and POST over HTTP/1.1 and 2, in clear and in TLS; mTLS"


def s_client(host, listener, *more, text=""):
    arguments = ["s_client", "-connect", host.at(listener), "-CAfile", host.path("ca.pem")]
    return run(program("openssl"), *arguments, *more, text=text)


def openssl(host):
    """Versions, names and protocols of a handshake."""
    for version, good in [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]:
        flags = ["-cipher", "ALL:@SECLEVEL=0"] if version == "-tls1_1" else []
        said = s_client(host, "tls", version, *flags, "-verify_return_error")
        agreed = "Verify return code: 0 (ok)" in said and "Cipher is (NONE)" not in said
        found(f"{version}:\n{said}", unless=agreed == good)
    for name, shown in [("api.example", "api.example"), ("other.example", "localhost")]:
        said = s_client(host, "tls", "-servername", name)
        found(f"{name}:\n{said}", unless=re.search(rf"subject=CN ?= ?{re.escape(shown)}", said))
    said = s_client(host, "tls", "-alpn", "h2,http/1.1")
    found(f"no h2:\n{said}", unless="ALPN protocol: h2" in said)
    return "TLS 1.2 and 1.3 and no 1.1, names, ALPN"


def stream(host):
    """Bytes through `openssl s_client`, and how a connection ends."""
    said = s_client(host, "bytes", "-quiet", "-servername", "echo.example", text="one\n!half\n")
    found(f"not echoed: {said}", unless="one\nbye\n" in said)
    found(f"an end out of order: {said}", unless="unexpected eof" not in said)
    said = s_client(host, "bytes", "-msg", "-servername", "other.example")
    found(f"a name that leads nowhere:\n{said}", unless="unrecognized_name" in said)
    return "an echo, its end, and a name that leads nowhere"


def sslyze(host):
    """Mozilla's intermediate configuration."""
    place = TARGET / "clients"
    scanner = place / "bin" / "sslyze"
    if not scanner.is_file():
        venv.create(place, with_pip=True)
        pip = [str(place / "bin" / "pip"), "install", "--quiet", "sslyze"]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"sslyze could not be installed: {done.stderr.strip()[-200:]}")
    said = run(str(scanner), "--mozilla_config=intermediate", host.at("tls", "localhost"))
    _, _, verdict = said.partition("COMPLIANCE AGAINST TLS CONFIGURATION")
    found(f"no verdict:\n{said[-2000:]}", unless=verdict)
    wrong = re.findall(r"\* (.+)", verdict)
    # The authority was made a moment ago.
    wrong = [one for one in wrong if not one.startswith("certificate_path_validation")]
    found("\n".join(wrong), unless=not wrong)
    return "as Mozilla's intermediate configuration has it"


def slowhttptest(host):
    """Four ways to be slow, while another client asks."""
    slow = program("slowhttptest")
    clear = f"http://{host.at('clear')}"
    modes = {
        "headers": ["-H", "-u", f"{clear}/"],
        "body": ["-B", "-s", "8192", "-x", "10", "-t", "POST", "-u", f"{clear}/echo"],
        "ranges": ["-R", "-a", "10", "-b", "3000", "-u", f"{clear}/"],
        "reading": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3", "-u", f"{clear}/large"],
    }
    worst = 0
    for mode, flags in modes.items():
        arguments = [slow, "-c", "1000", "-i", "5", "-r", "200", "-l", "12", "-p", "3", *flags]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(arguments, stdout=quiet, stderr=quiet) as attack:
            asked = 0
            while attack.poll() is None:
                began = time.monotonic()
                # Another client, by its address.
                other = http.client.HTTPConnection(
                    "127.0.0.1", host.port["clear"], timeout=5, source_address=("127.0.0.2", 0)
                )
                try:
                    other.request("GET", "/")
                    status = other.getresponse().status
                except OSError as error:
                    status = repr(error)
                other.close()
                found(f"slow {mode}: another client was told {status}", unless=status == 200)
                worst = max(worst, time.monotonic() - began)
                asked += 1
                time.sleep(0.5)
        found(f"slow {mode}: slowhttptest did not run", unless=asked > 3)
    return f"others were answered meanwhile, in {worst * 1000:.0f} ms at most"


def h2load(host):
    """Many requests on few connections."""
    load = program("h2load", "nghttp2-client")
    for url, more in [
        (f"http://{host.at('clear')}/", []),
        (f"http://{host.at('clear')}/", ["--h1"]),
        (f"https://{host.at('tls')}/", []),
    ]:
        said = run(load, "-n", "4000", "-c", "16", "-m", "4", *more, url)
        good = "4000 succeeded, 0 failed, 0 errored" in said and "4000 2xx" in said
        found(f"{url} {more}:\n{said}", unless=good)
    return "12,000 requests over HTTP/1.1, HTTP/2 and TLS"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ron-host", default=TARGET / "debug/ron-host")
    parser.add_argument("--components", type=Path, default=TARGET / "components")
    parser.add_argument("--only", default="", help="the clients whose name begins so")
    options = parser.parse_args()
    host = Host(options)
    failed = 0
    try:
        for check in [curl, openssl, stream, sslyze, slowhttptest, h2load]:
            name = check.__name__
            if not name.startswith(options.only):
                continue
            try:
                print(f"{name:14}{check(host)}", flush=True)
            except Missing as missing:
                print(f"{name:14}skipped: {missing}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as finding:
                failed += 1
                print(f"{name:14}FOUND: {str(finding)[:600]}", flush=True)
    finally:
        code = host.stop()
    # No client of these is to cost a service a crash.
    records = [json.loads(line) for line in host.errors if line.startswith("{")]
    crashes = [one["message"] for one in records if "reason" in one]
    if code or crashes:
        failed += 1
        print(f"{'host':14}FOUND: it ended with {code}, after {len(crashes)} crashes")
        for message in crashes[:5]:
            print(f"{'':14}{message}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
