#!/usr/bin/env python3
"""Azurite, Microsoft's emulator of Azure Blob Storage, for the tests.

Run with any Python 3, Node and npm. The package is installed once, into the user's cache folder (XDG_CACHE_HOME, or
~/.cache). When the server takes requests and has a container, one line of JSON on stdout says where it is; it runs until
stdin ends, and nothing is left of it.

`azurite.py --install` only installs.
"""

import base64
import fcntl
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

# Nothing is written into the checkout.
sys.dont_write_bytecode = True
from strict_s3 import dies_with_us, free_ports

VERSION = "3.37.0"
START_SECONDS = 60
CONTAINER = "bench"
# The account that every such emulator has.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def program():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "fhir-export"
    folder = cache / f"azurite-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "azurite.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text("{}")
            npm = ["npm", "install", "--no-audit", "--no-fund", "--silent", f"azurite@{VERSION}"]
            subprocess.run(npm, cwd=folder, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
            (folder / "whole").touch()
    return folder / "node_modules" / ".bin" / "azurite-blob"


def make_container(url):
    """Shared Key authorization, as Microsoft documents it for Blob Storage."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    headers = {"x-ms-date": date, "x-ms-version": "2021-12-02"}
    named = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    text = "PUT" + "\n" * 12 + named + resource
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{url}/{ACCOUNT}/{CONTAINER}?restype=container", method="PUT", headers=headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(request, timeout=5).close()


def serve(azurite):
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="fhir-export-azurite-"))
    server = None
    try:
        command = [azurite, "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        command += ["--blobPort", str(port), "--location", folder]
        log = open(folder / "azurite.log", "wb")
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=dies_with_us
        )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                make_container(url)
                break
            except OSError as error:
                if server.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"azurite: {error}\n{(folder / 'azurite.log').read_text()[-2000:]}") from error
                time.sleep(0.1)
        print(json.dumps({"url": url, "container": CONTAINER}), flush=True)
        sys.stdin.buffer.read()
    finally:
        if server:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    azurite = program()
    if sys.argv[1:] != ["--install"]:
        serve(azurite)


if __name__ == "__main__":
    main()
