#!/usr/bin/env python3
"""Writes what a machine without containers needs, for each architecture: alloy-VERSION-linux-ARCH.tar.gz, and their SHA256SUMS.

    tarball.py FOLDER RUNS ARCH=BINARY[,SBOM]...

Inside, laid out as below /usr: the binary, completions, manual pages, the unit of docs/systemd, licence and SBOM. RUNS is one of the
binaries that runs on this machine: it makes completions and pages, which are the same for all. The same input gives the same bytes; times
are SOURCE_DATE_EPOCH.
"""

import gzip
import hashlib
import pathlib
import re
import subprocess
import sys

from oci import ROOT, VERSION, tar

COMPLETIONS = {"bash": "share/bash-completion/completions/alloy", "zsh": "share/zsh/site-functions/_alloy",
               "fish": "share/fish/vendor_completions.d/alloy.fish"}


def main(folder, runs, binaries):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shared = files(runs)
    sums = []
    for one in binaries:
        arch, _, paths = one.partition("=")
        binary, _, sbom = paths.partition(",")
        found = shared | {"bin/alloy": pathlib.Path(binary).read_bytes()}
        if sbom:
            found["share/doc/alloy/sbom.spdx.json"] = pathlib.Path(sbom).read_bytes()
        name = f"alloy-{VERSION}-linux-{arch}"
        entries = [(f"{name}/{path}", 0o755 if path.startswith("bin/") else 0o644, 0, data) for path, data in found.items()]
        packed = gzip.compress(tar(entries), 9, mtime=0)
        (folder / f"{name}.tar.gz").write_bytes(packed)
        sums.append(f"{hashlib.sha256(packed).hexdigest()}  {name}.tar.gz\n")
    (folder / "SHA256SUMS").write_text("".join(sums))
    print("".join(sums), end="")


def files(runs):
    """Path -> content of all but the binary."""
    def alloy(*words):
        return subprocess.run([runs, *words], check=True, stdout=subprocess.PIPE).stdout

    found = {path: alloy("completion", shell) for shell, path in COMPLETIONS.items()}
    page = alloy("man")
    found["share/man/man1/alloy.1"] = page
    # The pages that the first one refers to.
    for command in re.findall(rb"alloy\\-([a-z]+)\(1\)", page):
        found[f"share/man/man1/alloy-{command.decode()}.1"] = alloy("man", command)
    units = ROOT / "docs/systemd"
    for path, source in (("lib/systemd/system/alloy.service", units / "alloy.service"), ("lib/sysusers.d/alloy.conf", units / "alloy.sysusers"),
                         ("share/doc/alloy/alloy.default", units / "alloy.default"), ("share/doc/alloy/README.md", units / "README.md"),
                         ("share/doc/alloy/LICENSE", ROOT / "LICENSE")):
        found[path] = source.read_bytes()
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
