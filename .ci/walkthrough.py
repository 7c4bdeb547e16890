#!/usr/bin/env python3
"""Runs pages of the documentation: the commands of their `sh` blocks, one after the other in one shell, as who reads them would.

A `text` block that is marked as output is what the block before it must print, sooner or later: `...` stands for anything,
lines may be between. Each page has a folder and a network of its own, so that its ports are free, and all that it started
ends with it. Needs root, `prometheus`, `prometheus-node-exporter` and `curl`. Takes about two minutes.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = ("docs/tutorial.md", "docs/guides/secure-gossip.md", "docs/guides/size-the-volume.md")
PATIENCE_S = 45
LIMIT_S = 300
END = "@@ END "


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    arguments.add_argument("--alloy", default=f"{target}/debug/alloy", help="the agent's binary")
    arguments.add_argument("pages", nargs="*", default=PAGES)
    options = arguments.parse_args()
    return max([walk(page, pathlib.Path(options.alloy).resolve()) for page in options.pages])


def walk(page, alloy):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="alloy-walkthrough-"))
    (folder / "bin").mkdir()
    (folder / "bin" / "alloy").symlink_to(alloy)
    # The namespace of processes takes all of them along when the shell ends; the limit is for a test that hangs.
    shell = subprocess.Popen(
        ["timeout", "--kill-after=5", str(LIMIT_S), "unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash"],
        cwd=folder, env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        run(shell, "ip link set lo up; set -o pipefail", None)
        steps = blocks((ROOT / page).read_text())
        for line, commands, output in steps:
            print(f"{page}:{line}: {commands.splitlines()[0]}", flush=True)
            run(shell, commands, output)
    except Failure as failure:
        print(f"FAILED: {page}: {failure}\nThe logs are in {folder}")
        return 1
    finally:
        shell.stdin.close()
        shell.terminate()
        shell.wait()
    shutil.rmtree(folder)
    print(f"OK: {page} does what it says.")
    return 0


class Failure(Exception):
    """What is wrong, in a sentence."""


def blocks(page):
    """Line, commands and what they must print of each block that is to be run."""
    found, mark = [], ""
    for match in re.finditer(r"(?:<!-- test: (?P<mark>[^\n]*) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```\n", page, re.DOTALL):
        mark, kind = match["mark"] or "", match["kind"]
        if kind == "sh" and not mark.startswith("not run"):
            found.append([page[:match.start()].count("\n") + 1, match["text"], None])
        elif kind == "text" and mark == "output":
            found[-1][2] = match["text"]
    if len(found) < 3:
        raise Failure(f"only {len(found)} blocks")
    return found


def run(shell, commands, output):
    """Commands that must print something are looked at again and again; others must succeed the first time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        printed, status = once(shell, commands)
        if output is None:
            if status != 0:
                raise Failure(f"exit code {status}:\n{commands}{printed}")
            return
        if is_like(printed, output):
            return
        if time.monotonic() > deadline:
            raise Failure(f"\n{commands}printed\n{printed}and not\n{output}")
        time.sleep(1)


def once(shell, commands):
    shell.stdin.write(f"{{\n{commands}\n}} 2>&1 </dev/null\necho \"{END}$?\"\n")
    shell.stdin.flush()
    printed = ""
    for line in shell.stdout:
        if END in line:
            before, status = line.split(END)
            return printed + before, int(status)
        printed += line
    raise Failure(f"the shell has ended:\n{commands}{printed}")


def is_like(printed, output):
    """Whether the lines of the page are there, in this order."""
    lines = iter(" ".join(line.split()) for line in printed.splitlines())
    wanted = [" ".join(line.split()) for line in output.splitlines() if line.strip() not in ("", "...")]
    patterns = [".*".join(re.escape(part) for part in line.split("...")) for line in wanted]
    return all(any(re.fullmatch(pattern, line) for line in lines) for pattern in patterns)


if __name__ == "__main__":
    sys.exit(main())
