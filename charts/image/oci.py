#!/usr/bin/env python3
"""Writes an OCI image layout as one tar: `docker load`, `skopeo copy oci-archive:...` and `ctr image import` take it.

    oci.py OUT.tar ARCH=BINARY[,SBOM]...

Inside are the binary, certificates, a user, and folders to mount things at; no shell, no package manager. A binary that is not static
gets the libraries that it is linked to from this machine, which is good for tests. The same input gives the same bytes; times are
SOURCE_DATE_EPOCH.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
UID = 65532
TIME = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)


def main(out, images):
    blobs = {}

    def blob(media, data, **more):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **more}

    manifests = []
    for image in images:
        arch, _, paths = image.partition("=")
        binary, _, sbom = paths.partition(",")
        layer = tar(files(pathlib.Path(binary), sbom))
        manifests.append(blob(MANIFEST, as_json({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob("application/vnd.oci.image.config.v1+json", as_json(config(arch, layer))),
            "layers": [blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(layer, 9, mtime=0))],
        }), platform={"architecture": arch, "os": "linux"}))
    index = blob(INDEX, as_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}), annotations={
        "org.opencontainers.image.ref.name": VERSION, "io.containerd.image.name": f"docker.io/library/alloy:{VERSION}"})
    entries = [("oci-layout", 0o644, 0, as_json({"imageLayoutVersion": "1.0.0"})),
               ("index.json", 0o644, 0, as_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [index]}))]
    entries += [(f"blobs/sha256/{digest}", 0o644, 0, data) for digest, data in sorted(blobs.items())]
    pathlib.Path(out).write_bytes(tar(entries))
    print(f"{out}: {index['digest']}, {', '.join(image.partition('=')[0] for image in images)}")


def files(binary, sbom):
    """(path, mode, owner, content) of all that is in the image; a folder has no content."""
    found = [
        ("bin/alloy", 0o755, 0, binary.read_bytes()),
        ("etc/passwd", 0o644, 0, b"root:x:0:0:root:/:/bin/false\nalloy:x:%d:%d:alloy:/var/lib/alloy:/bin/false\n" % (UID, UID)),
        ("etc/group", 0o644, 0, b"root:x:0:\nalloy:x:%d:\n" % UID),
        ("etc/nsswitch.conf", 0o644, 0, b"hosts: files dns\n"),
        ("etc/ssl/certs/ca-certificates.crt", 0o644, 0, CERTIFICATES.read_bytes()),
        ("usr/share/doc/alloy/LICENSE", 0o644, 0, (ROOT / "LICENSE").read_bytes()),
    ]
    found += [(folder, 0o755, 0, None) for folder in ("etc/alloy", "etc/alloy-cluster", "proc", "sys", "dev", "run")]
    found += [("tmp", 0o1777, 0, None), ("var/lib/alloy", 0o770, UID, None)]
    if sbom:
        found.append(("usr/share/doc/alloy/sbom.spdx.json", 0o644, 0, pathlib.Path(sbom).read_bytes()))
    for library in libraries(binary):
        found.append((str(library).lstrip("/"), 0o755, 0, library.read_bytes()))
    return found


def libraries(binary):
    """What a dynamic binary is linked to; nothing for a static one."""
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True)
    paths = re.findall(r"(/\S+) \(0x", listed.stdout) if listed.returncode == 0 else []
    return [pathlib.Path(path) for path in paths]


def config(arch, layer):
    return {
        "architecture": arch,
        "os": "linux",
        "created": datetime.datetime.fromtimestamp(TIME, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "config": {
            # A number: only so can Kubernetes see that it is not root.
            "User": f"{UID}:{UID}",
            "Env": ["PATH=/bin"],
            "Entrypoint": ["/bin/alloy"],
            "Cmd": ["run", "/etc/alloy/config.alloy", "--storage.path=/var/lib/alloy", "--server.http.listen-addr=0.0.0.0:12345"],
            "ExposedPorts": {"12345/tcp": {}, "12345/udp": {}},
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.title": "alloy", "org.opencontainers.image.version": VERSION,
                       "org.opencontainers.image.licenses": "Apache-2.0"},
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }


def tar(entries):
    """A tar with these entries and the folders above them, in one order, of one time."""
    entries = {path: (mode, owner, data) for path, mode, owner, data in entries}
    for path in list(entries):
        for folder in list(pathlib.PurePosixPath(path).parents)[:-1]:
            entries.setdefault(str(folder), (0o755, 0, None))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, (mode, owner, data) in sorted(entries.items()):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.uid, entry.gid, entry.mtime = mode, owner, owner, TIME
            entry.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            entry.size = len(data or b"")
            archive.addfile(entry, io.BytesIO(data or b""))
    return out.getvalue()


def as_json(value):
    return json.dumps(value, sort_keys=True).encode()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
