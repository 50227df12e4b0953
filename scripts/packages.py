"""Whether this Python has what a requirements file lists, in whatever version: exit code 0, else 1. Used by setup.sh.

    python scripts/packages.py requirements.txt

Prints the versions that differ from the pinned ones; or what is missing, if torch is there. It imports no package, which could
take seconds, and any Python 3 can run it.
"""

import importlib.metadata
import pathlib
import sys

OLDEST = (3, 11)


def pins(path):
    """{package: pinned version} of a requirements file and those that it names."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            found.update(pins(path.parent / line[3:].strip()))
        elif line.strip():
            name, _, version = line.partition("==")
            found[name.strip()] = version.strip()
    return found


def installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(requirements):
    if sys.version_info < OLDEST:
        return 1
    wanted = pins(pathlib.Path(requirements))
    present = {name: installed(name) for name in wanted}
    missing = [name for name in wanted if present[name] is None]
    if missing:
        print(" ".join(missing) if present.get("torch") else "")
        return 1
    differing = [name for name in wanted if present[name].partition("+")[0] != wanted[name]]
    print(", ".join(f"{name} {present[name]} instead of {wanted[name]}" for name in differing))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
