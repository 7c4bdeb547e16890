"""A Kubernetes API on loopback: etcd, kube-apiserver, a door in front of it that can be shut, and requests to it."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request

from end_to_end import Program, fail, free_ports, need, wait_until

TOKEN = "a-token-of-the-test"


class Cluster:
    """etcd and an API server without nodes: what a kubelet would do, the test does."""

    def __init__(self, folder, binary):
        self.folder = folder
        client, peer, self.port = free_ports(3)
        self.etcd = Program("etcd", folder, client, [
            need("etcd"), f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync", "--log-level=error",
        ])
        subprocess.run(["openssl", "genrsa", "-out", folder / "account.key", "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(f'{TOKEN},test,1,"system:masters"\n')
        (folder / "token").write_text(TOKEN + "\n")
        self.ca = folder / "certs" / "apiserver.crt"
        self.server = Program("kube-apiserver", folder, self.port, [
            binary, f"--etcd-servers=http://127.0.0.1:{client}", f"--cert-dir={folder}/certs", f"--secure-port={self.port}",
            "--bind-address=127.0.0.1", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder}/account.key", f"--service-account-signing-key-file={folder}/account.key",
            f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=AlwaysAllow",
            "--service-cluster-ip-range=10.0.0.0/16", "--disable-admission-plugins=ServiceAccount",
            "--kubelet-preferred-address-types=InternalIP", "--event-ttl=1h",
        ])
        self.door = Door(self.port)
        self.local = threading.local()

    def start(self):
        self.etcd.start()
        wait_until("etcd is there", 20, lambda: self.etcd.alive() and self.etcd.answers("/health"))
        self.start_server()

    def start_server(self):
        self.server.start()
        wait_until("the API server is ready", 60, self.is_ready)

    def is_ready(self):
        self.server.alive()
        return self.request("GET", "/readyz") == "ok"

    def restart_server(self):
        self.server.end(signal.SIGKILL)
        self.start_server()

    def compact(self):
        """etcd forgets what was before now."""
        post = lambda path, body: json.load(urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.etcd.port}{path}", json.dumps(body).encode()), timeout=5))
        revision = post("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
        post("/v3/kv/compaction", {"revision": revision})

    def request(self, method, path, body=None, missing=False):
        """The answer of the API server, over a connection that each thread keeps. `missing`: there may be nothing."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        payload = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            connection = getattr(self.local, "connection", None)
            if connection is None:
                context = ssl._create_unverified_context()
                connection = self.local.connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=20)
            try:
                connection.request(method, path, payload, headers)
                answer = connection.getresponse()
                text = answer.read().decode()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self.local.connection = None
                if attempt == 2:
                    raise
        if answer.status == 404 and missing:
            return None
        if answer.status >= 300:
            if path == "/readyz":
                return None
            fail(f"{method} {path}: {answer.status} {text[:300]}")
        return text if path == "/readyz" else json.loads(text)

    def create(self, path, body, status=None):
        """Makes an object, and sets the status that nobody else would set."""
        self.request("POST", path, body)
        if status is not None:
            self.request("PATCH", f"{path}/{body['metadata']['name']}/status", {"status": status})

    def end(self):
        self.door.shut()
        for program in (self.server, self.etcd):
            program.end(signal.SIGKILL)


class Door:
    """Connections to the API server, that can be cut, kept out, or frozen without a word."""

    def __init__(self, to):
        self.to = to
        self.is_open = True
        self.pairs = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            outside, _ = self.listener.accept()
            if not self.is_open:
                outside.close()
                continue
            try:
                inside = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                outside.close()
                continue
            pair = {"sockets": (outside, inside), "frozen": threading.Event()}
            with self.lock:
                self.pairs.append(pair)
            for one, other in ((outside, inside), (inside, outside)):
                threading.Thread(target=self.pump, args=(pair, one, other), daemon=True).start()

    def pump(self, pair, one, other):
        try:
            while data := one.recv(1 << 16):
                if not pair["frozen"].is_set():
                    other.sendall(data)
        except OSError:
            pass
        if pair["frozen"].is_set():
            return
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def freeze(self):
        """What is connected goes nowhere any more, without anybody being told."""
        with self.lock:
            for pair in self.pairs:
                pair["frozen"].set()
            self.pairs = []

    def shut(self):
        self.is_open = False
        with self.lock:
            for pair in self.pairs:
                for end in pair["sockets"]:
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass
            self.pairs = []

    def open(self):
        self.is_open = True


class Usage:
    """Memory and processor time of a process."""

    def __init__(self, pid):
        self.pid = pid

    def resident_mb(self):
        text = open(f"/proc/{self.pid}/status").read()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    def peak_mb(self):
        text = open(f"/proc/{self.pid}/status").read()
        return int(text.split("VmHWM:")[1].split()[0]) / 1024

    def seconds(self):
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def node(name, number, kubelet_port=10250):
    return ({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone/a.b": f"z{number}"},
                          "annotations": {"note": "a \"quoted\" one"}}, "spec": {"providerID": f"test://{name}"}},
            {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "InternalIP", "address": "10.9.9.9"},
                           {"type": "Hostname", "address": name}],
             "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}}})


def pod(name, number, node_name, ready=True, labels=None, **more):
    """A pod with two containers, one of them with two ports, and one that runs before."""
    containers = [
        {"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}, {"containerPort": 9090, "protocol": "UDP"}]},
        {"name": "side", "image": "side:2"},
    ]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-abc", "uid": "1-2", "controller": True}
    body = {"metadata": {"name": name, "labels": {"app": "web", "app.kubernetes.io/x-y": "1", **(labels or {})},
                         "annotations": {"prometheus.io/scrape": "true"}, "ownerReferences": [owner]},
            "spec": {"nodeName": node_name, "containers": containers,
                     "initContainers": [{"name": "first", "image": "init:3", "ports": [{"containerPort": 7070}]}], **more}}
    state = lambda name: {"name": name, "containerID": f"containerd://{name}{number}", "image": "x", "imageID": "y", "ready": True,
                          "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    status = {"phase": "Running", "podIP": address(number), "podIPs": [{"ip": address(number)}], "hostIP": "10.9.9.9", "hostIPs": [{"ip": "10.9.9.9"}],
              "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": str(ready)}],
              "containerStatuses": [state("web"), state("side")], "initContainerStatuses": [state("first")]}
    return body, status


def address(number):
    return f"10.20.{number // 250}.{number % 250 + 1}"


def have(program):
    return shutil.which(program) is not None


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
