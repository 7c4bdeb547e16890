#!/usr/bin/env python3
"""Whether two pages of metrics say the same of systemd's units: .ci/systemd_units.py OURS THEIRS

Names, types, help, labels and values are compared. The tasks of a unit change at any time: they are there on both pages, or on neither."""

import sys


def read(path):
    samples = {}
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("#"):
            samples[line] = None
        elif line:
            name, value = line.rsplit(" ", 1)
            samples[name] = "any" if "unit_tasks_current" in name else float(value)
    return samples


def main():
    ours, theirs = (read(path) for path in sys.argv[1:])
    differences = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name, "") != theirs.get(name, "")]
    if differences or not any("unit_state" in name for name in ours):
        for name in differences[:20]:
            print(f"{name}: {ours.get(name, 'missing')} here, {theirs.get(name, 'missing')} there")
        sys.exit(1)
    print(f"{len(ours)} lines about systemd's units are the same as a node exporter's")


main()
