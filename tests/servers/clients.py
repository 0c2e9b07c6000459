#!/usr/bin/env python3
"""Clients that others have written, for the tests of `fhir-export serve`: the AWS CLI and smart-fetch.

Run with Python 3.11 or newer that has venv and pip. The clients are installed once, into a virtual environment in the
user's cache folder (XDG_CACHE_HOME, or ~/.cache). One line of JSON on stdout says where they are.

`clients.py --install` only installs.
"""

import json
import pathlib
import sys

# Nothing is written into the checkout.
sys.dont_write_bytecode = True
from strict_s3 import environment

REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "clients.txt"
# Of smart-fetch.
OLDEST_PYTHON = (3, 11)


def main():
    if sys.version_info < OLDEST_PYTHON:
        raise SystemExit(f"the clients need Python {'.'.join(map(str, OLDEST_PYTHON))}; this one is {sys.version}")
    programs = environment("clients", REQUIREMENTS) / "bin"
    if sys.argv[1:] != ["--install"]:
        print(json.dumps({"aws": str(programs / "aws"), "smartFetch": str(programs / "smart-fetch")}), flush=True)


if __name__ == "__main__":
    main()
