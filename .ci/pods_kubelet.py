"""What the kubelet does with a pod: volumes, a container, a network, probes, signals. The container is run by runc."""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
import urllib.error
import urllib.request

GATEWAY = "10.99.0.1"


class Failure(Exception):
    """What is wrong, in a sentence."""


def unpack(image, folder):
    """The first image in the layout, as files, and its configuration. Every digest is checked on the way."""
    archive = tarfile.open(image)

    def blob(descriptor):
        data = archive.extractfile("blobs/" + descriptor["digest"].replace(":", "/")).read()
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor["digest"] or len(data) != descriptor["size"]:
            fail(f"{descriptor['digest']} has other bytes")
        return data

    index = json.loads(archive.extractfile("index.json").read())
    index = json.loads(blob(index["manifests"][0]))
    manifest = json.loads(blob(next(entry for entry in index["manifests"] if entry["platform"]["architecture"] == "amd64")))
    config = json.loads(blob(manifest["config"]))
    for descriptor, diff in zip(manifest["layers"], config["rootfs"]["diff_ids"]):
        layer = gzip.decompress(blob(descriptor))
        if f"sha256:{hashlib.sha256(layer).hexdigest()}" != diff:
            fail("a layer is not what the configuration says")
        tarfile.open(fileobj=io.BytesIO(layer)).extractall(folder)
    return config["config"]


class ConfigMap:
    """A volume as the kubelet writes it: a folder with a time in its name, and a link that is renamed over the old one."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        folder.mkdir(mode=0o755)

    def write(self, files):
        self.count += 1
        new = self.folder / f"..2026_11_22_{self.count}"
        new.mkdir(mode=0o755)
        for name, text in files.items():
            (new / name).write_text(text)
            (new / name).chmod(0o644)
        link, old = self.folder / "..data", None
        if link.is_symlink():
            old = self.folder / os.readlink(link)
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").rename(link)
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        if old:
            shutil.rmtree(old)


class Pod:
    """One pod: a container of runc with what is rendered for it."""

    def __init__(self, world, number, address):
        self.world = world
        self.name = f"{world.rendered['metadata']['name']}-{number}"
        self.number = number
        self.address = address
        self.template = world.rendered["spec"]["template"]
        self.container = self.template["spec"]["containers"][0]
        self.arguments = self.container["args"]
        self.probe = self.container["readinessProbe"]["httpGet"]
        self.bundle = world.folder / self.name
        self.bundle.mkdir()
        self.log = world.folder / f"{self.name}.log"
        self.volume = world.folder / f"claim-{self.name}"
        self.volume.mkdir()
        security = self.template["spec"]["securityContext"]
        # As the kubelet does for fsGroup.
        os.chown(self.volume, 0, security["fsGroup"])
        self.volume.chmod(0o2770)
        self.life = 0
        self.pid = None
        self.config = self.make_config(security)

    def make_config(self, security):
        own = self.container["securityContext"]
        resolv = self.bundle / "resolv.conf"
        resolv.write_text(f"nameserver {GATEWAY}\nsearch monitoring.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
        sources = {"config": self.world.config_map.folder, "alloy-wal": self.volume, "logs": self.world.logs}
        mounts = [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/etc/resolv.conf", "type": "bind", "source": str(resolv), "options": ["bind", "ro"]},
        ]
        for mount in self.container["volumeMounts"]:
            if mount["name"] == "tmp":
                mounts.append({"destination": mount["mountPath"], "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
            else:
                mode = "ro" if mount.get("readOnly") else "rw"
                mounts.append({"destination": mount["mountPath"], "type": "bind", "source": str(sources[mount["name"]]), "options": ["bind", mode]})
        return {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.world.rootfs), "readonly": own["readOnlyRootFilesystem"]},
            "hostname": self.name,
            "mounts": mounts,
            "process": {
                "user": {"uid": security["runAsUser"], "gid": security["runAsGroup"], "additionalGids": [security["fsGroup"]]},
                "cwd": self.world.image["WorkingDir"],
                "noNewPrivileges": not own["allowPrivilegeEscalation"],
                "capabilities": {},
            },
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
        }

    def environment(self):
        fields = {
            "spec.nodeName": f"node-{self.number}", "metadata.name": self.name, "status.podIP": self.address,
            "metadata.labels['topology.kubernetes.io/zone']": f"zone-{self.number % 2}",
        }
        found = dict(entry.split("=", 1) for entry in self.world.image["Env"])
        found["HOSTNAME"] = self.name
        for variable in self.container["env"]:
            found[variable["name"]] = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        return found

    def create(self):
        """Makes the container; what runc says if it cannot."""
        self.life += 1
        environment = self.environment()
        self.config["process"]["env"] = [f"{name}={value}" for name, value in environment.items()]
        expanded = [re.sub(r"\$\(([A-Z_0-9]+)\)", lambda match: environment[match[1]], text) for text in self.arguments]
        self.config["process"]["args"] = self.world.image["Entrypoint"] + expanded
        (self.bundle / "config.json").write_text(json.dumps(self.config))
        with open(self.log, "a") as log:
            made = subprocess.run(
                [*self.runc(), "create", "--bundle", self.bundle, "--pid-file", self.bundle / "pid", self.id()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=30)
        return self.log.read_text() or "it does not say why" if made.returncode else ""

    def start(self):
        failed = self.create()
        if failed:
            fail(f"runc cannot make {self.name}: {failed}")
        self.pid = int((self.bundle / "pid").read_text())
        # What a network plugin does: a cable between the pod and the node.
        outside = f"pod{self.number}x{self.life}"
        ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        ip("link", "set", outside, "master", "bridge", "up")
        for command in (["addr", "add", f"{self.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            subprocess.run(["nsenter", "-t", str(self.pid), "-n", "ip", *command], check=True)
        subprocess.run([*self.runc(), "start", self.id()], check=True, timeout=30)

    def stop(self):
        """SIGTERM, and until it has ended. Returns the seconds; exit code 0 is wanted."""
        begun = time.time()
        os.kill(self.pid, signal.SIGTERM)
        until(f"{self.name} is not ready while it stops", 10, lambda: self.get(self.probe["path"]) is None)
        status = self.wait()
        if status != 0:
            fail(f"{self.name} ended with {status}")
        self.delete()
        return time.time() - begun

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        self.delete()

    def wait(self):
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def delete(self):
        subprocess.run([*self.runc(), "delete", "--force", self.id()], capture_output=True, timeout=30)

    def runc(self):
        return ["runc", "--root", str(self.world.folder / "runc")]

    def id(self):
        return f"alloy-{os.getpid()}-{self.number}-{self.life}"

    def get(self, path):
        """The body of a good answer, else nothing."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:{self.probe['port']}{path}", timeout=2) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, OSError):
            return None

    def metric(self, name):
        found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", self.get("/metrics") or "", re.M)
        return float(found[1]) if found else None


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def until(what, patience_s, holds):
    end = time.time() + patience_s
    while not holds():
        if time.time() > end:
            fail(f"not after {patience_s} s: {what}")
        time.sleep(0.1)


def fail(text):
    raise Failure(text)
