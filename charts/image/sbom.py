#!/usr/bin/env python3
"""Writes what is inside the agent's binary as SPDX 2.3: the crates that it is linked from, their licences and checksums.

    sbom.py METADATA.json Cargo.lock

METADATA is what `cargo metadata --locked --filter-platform TARGET` says. The same input gives the same bytes.
"""

import datetime
import hashlib
import json
import os
import re
import sys
import uuid


def main(metadata_path, lock_path):
    metadata = json.load(open(metadata_path))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(package["id"] for package in metadata["packages"] if package["name"] == "alloy-bin")
    checksums = {(name, version): checksum for name, version, checksum in re.findall(
        r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = .*\nchecksum = "([^"]+)"', open(lock_path).read())}

    linked, waiting = set(), [root]
    while waiting:
        at = waiting.pop()
        if at not in linked:
            linked.add(at)
            waiting += linked_into(nodes[at])
    names = {at: f"SPDXRef-{packages[at]['name']}-{packages[at]['version']}".replace("_", "-").replace("+", "-") for at in linked}
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", names[root])]
    relations += [(names[at], "DEPENDS_ON", names[on]) for at in linked for on in linked_into(nodes[at])]
    described = sorted((describe(packages[at], names[at], checksums) for at in linked), key=lambda entry: entry["SPDXID"])
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    version = packages[root]["version"]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"alloy-{version}",
        "documentNamespace": "urn:uuid:" + str(uuid.UUID(hashlib.sha256(json.dumps([described, sorted(relations)]).encode()).hexdigest()[:32])),
        "creationInfo": {
            "created": datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: charts/image/sbom.py"],
        },
        "packages": described,
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other} for one, kind, other in sorted(set(relations))],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


def linked_into(node):
    """What is compiled into it: neither what builds it nor what tests it."""
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]


def describe(package, name, checksums):
    checksum = checksums.get((package["name"], package["version"]))
    entry = {
        "SPDXID": name,
        "name": package["name"],
        "versionInfo": package["version"],
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": (package["license"] or "NOASSERTION").replace("/", " OR "),
        "copyrightText": "NOASSERTION",
    }
    if checksum:
        entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": checksum}]
        entry["externalRefs"] = [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
            "referenceLocator": f"pkg:cargo/{package['name']}@{package['version']}",
        }]
    return entry


if __name__ == "__main__":
    main(*sys.argv[1:])
