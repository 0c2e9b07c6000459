#!/usr/bin/env python3
"""A strict S3 store for the tests: SeaweedFS with signatures, STS and SSE-KMS, and moto, which is its KMS and a second S3.

Run with any Python 3 that has venv and pip. The servers' packages are installed once, into a virtual environment in the
user's cache folder (XDG_CACHE_HOME, or ~/.cache). When both servers take requests, one line of JSON on stdout says where
they are; they run until stdin ends, so they never outlive whoever started them, and nothing is left of them.

`strict_s3.py --install` only installs.
"""

import ctypes
import fcntl
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
START_SECONDS = 90
BUCKET = "bench"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrEXAMPLEKEY"
PR_SET_PDEATHSIG = 1
ROLE = "arn:aws:iam::123456789012:role/"
# Of sessions that don't ask for a time.
SESSION_SECONDS = 6


def environment(name, requirements):
    """The folder of a virtual environment with just these packages, which is made if it isn't there."""
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "fhir-export"
    packages = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache / f"{name}-{packages}"
    cache.mkdir(parents=True, exist_ok=True)
    # Another run of the tests may be at it.
    with open(cache / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--requirement", requirements], check=True, stdout=sys.stderr)
            (folder / "whole").touch()
    return folder


def free_ports(count):
    """Ports that nobody listens on, below those that the system gives to whoever asks for any."""
    sockets = []
    while len(sockets) < count:
        taken = socket.socket()
        try:
            taken.bind(("127.0.0.1", random.randrange(12000, 32000)))
            sockets.append(taken)
        except OSError:
            taken.close()
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def dies_with_us():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(command, log, **variables):
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=open(log, "wb"),
        stderr=subprocess.STDOUT,
        env=kept | variables,
        start_new_session=True,
        preexec_fn=dies_with_us,
    )


def start_moto(folder, packages):
    (port,) = free_ports(1)
    command = [packages / "bin" / "moto_server", "-H", "127.0.0.1", "-p", port]
    return start(command, folder / "moto.log"), f"http://127.0.0.1:{port}"


def role(name, trusted):
    statement = {"Effect": "Allow" if trusted else "Deny", "Principal": "*", "Action": ["sts:AssumeRole"]}
    trust = {"Version": "2012-10-17", "Statement": [statement]}
    return {"roleName": name, "roleArn": ROLE + name, "trustPolicy": trust, "attachedPolicies": ["Exports"]}


def exports():
    # What the README asks for.
    actions = [
        "s3:PutObject",
        "s3:GetObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    ]
    statement = {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{BUCKET}/roles/*"]}
    listing = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"],
        "Resource": [f"arn:aws:s3:::{BUCKET}"],
    }
    return {"name": "Exports", "document": {"Version": "2012-10-17", "Statement": [statement, listing]}}


def roles():
    """Roles of STS: one that exports below roles/, and one that nobody may assume."""
    return {
        "sts": {
            "tokenDuration": f"{SESSION_SECONDS}s",
            "maxSessionLength": "12h",
            "issuer": "strict-s3",
            "signingKey": "b2YtdGhlLXRlc3RzLW9ubHktMzItYnl0ZXMtbG9uZyE=",
        },
        "policy": {"defaultEffect": "Deny", "storeType": "memory"},
        "policies": [exports()],
        "roles": [role("ExportRole", True), role("UntrustingRole", False)],
    }


def start_weed(folder, packages, kms):
    names = ["master", "volume", "filer", "s3"]
    ports = free_ports(2 * len(names))
    config = {
        "identities": [
            {
                "name": "admin",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ],
        "kms": {
            "default_provider": "moto",
            "providers": {
                "moto": {
                    "type": "aws",
                    "region": "us-east-1",
                    "endpoint": kms,
                    "access_key": ACCESS_KEY,
                    "secret_key": SECRET_KEY,
                }
            },
        },
    }
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps(config))
    (folder / "iam.json").write_text(json.dumps(roles()))
    command = [
        packages / "bin" / "weed",
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder / 'data'}",
        "-master.volumeSizeLimitMB=1024",
        "-master.telemetry=false",
        "-volume.max=50",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        f"-s3.iam.config={folder / 'iam.json'}",
        f"-s3.localSocket={folder / 's3.sock'}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    for index, name in enumerate(names):
        command += [f"-{name}.port={ports[2 * index]}", f"-{name}.port.grpc={ports[2 * index + 1]}"]
    weed = start(command, folder / "weed.log", WEED_S3_SSE_KEY="of-the-tests-only")
    # It makes these whatever it is told.
    sockets = [pathlib.Path(f"/tmp/seaweedfs-{name}-grpc-{ports[2 * index + 1]}.sock") for index, name in enumerate(names)]
    return weed, f"http://127.0.0.1:{ports[2 * names.index('s3')]}", sockets


def until(what, servers, attempt):
    """Tries until it succeeds, a server is gone, or the time is over."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return attempt()
        except Exception as error:
            gone = [str(server.args[0]) for server in servers if server.poll() is not None]
            if gone or time.monotonic() > end:
                raise SystemExit(f"{what}: {'has ended: ' + gone[0] if gone else error}") from error
            time.sleep(0.1)


def serve():
    # Of the virtual environment.
    import boto3
    from botocore.config import Config

    packages = pathlib.Path(sys.prefix)
    once = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20)

    def client(service, endpoint):
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=once,
        )

    def make_bucket(endpoint, **encryption):
        s3 = client("s3", endpoint)
        if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=BUCKET)
        # The first write after the start may meet a store that has no volume yet.
        s3.put_object(Bucket=BUCKET, Key="ready", Body=b"ready", **encryption)
        s3.delete_object(Bucket=BUCKET, Key="ready")

    folder = pathlib.Path(tempfile.mkdtemp(prefix="fhir-export-strict-s3-"))
    servers, sockets = [], []
    try:
        moto, kms = start_moto(folder, packages)
        servers.append(moto)
        weed, s3, sockets = start_weed(folder, packages, kms)
        servers.append(weed)
        keys = client("kms", kms)
        key = until("moto", servers, lambda: keys.create_key()["KeyMetadata"]["KeyId"])
        until("moto", servers, lambda: make_bucket(kms))
        until("SeaweedFS", servers, lambda: make_bucket(s3))
        until("SeaweedFS", servers, lambda: make_bucket(s3, ServerSideEncryption="aws:kms", SSEKMSKeyId=key))
        print(json.dumps({"s3": s3, "moto": kms, "kmsKey": key, "bucket": BUCKET}), flush=True)
        sys.stdin.buffer.read()
    except SystemExit:
        for log in sorted(folder.glob("*.log")):
            print(f"--- the end of {log.name}", log.read_text(errors="replace")[-2000:], sep="\n", file=sys.stderr)
        raise
    finally:
        for server in servers:
            server.kill()
            server.wait()
        for left in sockets:
            left.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def main():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    if sys.argv[1:] == ["--serve"]:
        return serve()
    packages = environment("strict-s3", REQUIREMENTS)
    if sys.argv[1:] == ["--install"]:
        return None
    python = str(packages / "bin" / "python")
    return os.execv(python, [python, __file__, "--serve"])


if __name__ == "__main__":
    main()
