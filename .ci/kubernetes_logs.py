"""Containers' logs and events through the API server: a kubelet that is none, agents that come and go, every line accounted for."""

import http.server
import random
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse

from end_to_end import fail, free_ports, wait_until
from kubernetes_world import node, now, pod
from pods_receiver import Received, Receiver, serve

PODS = 8
CONTAINERS = ("web", "side")


class Kubelet:
    """Serves logs as a kubelet does: those of the container that runs, and of the one before."""

    def __init__(self, folder):
        self.port, = free_ports(1)
        # (pod, container) -> its instances: lines as (time in ns, text), and whether it has ended.
        self.logs = {}
        self.changed = threading.Condition()
        self.streams = 0
        key, certificate = folder / "kubelet.key", folder / "kubelet.crt"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                        "-subj", "/CN=kubelet", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        kubelet = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                kubelet.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def write(self, pod_name, container, text, at_ns=None):
        with self.changed:
            instances = self.logs.setdefault((pod_name, container), [{"lines": [], "ended": False}])
            instances[-1]["lines"].append((at_ns or time.time_ns(), text))
            self.changed.notify_all()

    def restart(self, pod_name, container):
        with self.changed:
            instances = self.logs[(pod_name, container)]
            instances[-1]["ended"] = True
            instances.append({"lines": [], "ended": False})
            self.changed.notify_all()

    def cut(self):
        """All streams end, as when a kubelet is restarted."""
        with self.changed:
            self.streams += 1
            self.changed.notify_all()

    def answer(self, request):
        parts = urllib.parse.urlparse(request.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        _, _, _, pod_name, container = parts.path.split("/")
        since = query.get("sinceTime")
        since_ns = int(time.mktime(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone) * 10**9 if since else 0
        with self.changed:
            instances = self.logs.get((pod_name, container), [{"lines": [], "ended": False}])
            at = len(instances) - (2 if query.get("previous") == "true" else 1)
            generation = self.streams
        if at < 0:
            request.send_response(400)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        instance, sent = instances[at], 0
        try:
            while True:
                with self.changed:
                    if sent == len(instance["lines"]) and (instance["ended"] or query.get("follow") != "true" or generation != self.streams):
                        break
                    if sent == len(instance["lines"]):
                        self.changed.wait(1)
                    new = instance["lines"][sent:]
                    sent += len(new)
                data = "".join(f"{stamp(at_ns)} {text}\n" for at_ns, text in new if at_ns >= since_ns).encode()
                # In pieces that end anywhere.
                while data:
                    cut = random.randint(1, 4000)
                    piece, data = data[:cut], data[cut:]
                    request.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                request.wfile.flush()
            request.wfile.write(b"0\r\n\r\n")
        except OSError:
            request.close_connection = True


def stamp(at_ns):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ns // 10**9)) + f".{at_ns % 10**9:09d}Z"


class Writer(threading.Thread):
    """Writes lines into all logs: several with one time, and some a little out of order."""

    def __init__(self, kubelet):
        super().__init__(daemon=True)
        self.kubelet, self.written, self.is_over, self.seed = kubelet, set(), False, random.randrange(10**6)
        self.pause = threading.Lock()

    def run(self):
        chance, number = random.Random(self.seed), 0
        while not self.is_over:
            with self.pause:
                key = (f"log-{chance.randrange(PODS)}", chance.choice(CONTAINERS))
                at_ns = time.time_ns() - (chance.randrange(50_000) if chance.random() < 0.1 else 0)
                for _ in range(chance.choice((1, 1, 1, 2, 5))):
                    number += 1
                    text = f"line {number} of {key[0]}/{key[1]} " + "x" * chance.randrange(200)
                    self.kubelet.write(*key, text, at_ns)
                    self.written.add(text)
            time.sleep(0.002)


def logs(world):
    """`world` is the one of kubernetes.py."""
    cluster, folder = world.cluster, world.folder
    kubelet = Kubelet(folder)
    cluster.create("/api/v1/nodes", *node("logs", 9, kubelet.port))
    cluster.create("/api/v1/namespaces", {"metadata": {"name": "logs"}})
    for number in range(PODS):
        body, status = pod(f"log-{number}", 100 + number, "logs", labels={"app": "logs"})
        del body["spec"]["initContainers"]
        status["initContainerStatuses"] = []
        cluster.create("/api/v1/namespaces/logs/pods", body, status)
    received = Received()
    Receiver.received = received
    sink, = free_ports(1)
    serve("127.0.0.1", sink, Receiver)
    ports = free_ports(2)
    agents = []
    for name, port in zip(("lena", "mats"), ports):
        config = folder / f"{name}.alloy"
        config.write_text(LOGS % {"access": world.access, "sink": sink})
        agent = world.make_agent(name, port, config)
        agent.command += ["--cluster.enabled", f"--cluster.node-name={name}", "--cluster.name=logs", "--cluster.advertise-address=127.0.0.1",
                          f"--cluster.join-addresses={','.join(f'127.0.0.1:{port}' for port in ports)}"]
        agents.append(agent)
        world.others.append(agent)
    lena, mats = agents
    for agent in agents:
        agent.start()
    for agent in agents:
        wait_until(f"{agent.name} is ready", 30, lambda: agent.alive() and agent.answers("/-/ready"))
    writer, events = Writer(kubelet), Events(cluster)
    writer.start()
    world.say(f"lines are written, seed {writer.seed}")

    def complete(when, patience_s=40):
        # What happens happens while lines are written.
        time.sleep(1)
        with writer.pause:
            wanted, happened = set(writer.written), events.make(3)
            def all_there():
                with received.lock:
                    found = {text for _, _, text in received.lines}
                return wanted <= found and happened <= {word for text in found for word in text.split() if word.startswith("reason=")}
            try:
                wait_until(f"all lines have arrived {when}", patience_s, all_there)
            finally:
                with received.lock:
                    found = {text for _, _, text in received.lines}
                missing = sorted(wanted - found)
                if missing:
                    print(f"{len(missing)} lines missing, such as {missing[:3]}")
        world.say(f"{when}: all {len(wanted)} lines and {len(events.made)} events, repeated as they were {received.repeated}")
        time.sleep(1)

    wait_until("both read some containers, and none is read twice", 30, lambda: sorted(map(bool, [value(a, "loki_source_kubernetes_containers") for a in agents])) == [True, True]
               and sum(value(a, "loki_source_kubernetes_containers") for a in agents) == PODS * len(CONTAINERS))
    complete("at the start")
    before = received.repeated
    kubelet.cut()
    complete("after all streams ended")
    for number in range(0, PODS, 2):
        with writer.pause:
            kubelet.restart(f"log-{number}", "web")
            _, status = pod(f"log-{number}", 100 + number, "logs")
            status["containerStatuses"][0]["restartCount"] = 1
            cluster.request("PATCH", f"/api/v1/namespaces/logs/pods/log-{number}/status", {"status": {"containerStatuses": status["containerStatuses"]}})
    complete("after containers were started anew")
    cluster.restart_server()
    complete("after the API server was killed")
    if received.repeated != before:
        fail(f"{received.repeated - before} lines were sent again although no agent was stopped")
    mats.end(signal.SIGTERM)
    complete("after one agent has left")
    mats.start()
    wait_until("mats has its share again", 30, lambda: value(mats, "loki_source_kubernetes_containers") > 0)
    complete("after it is back")
    if received.repeated != before:
        fail(f"{received.repeated - before} lines were sent again although all agents were stopped in an orderly way")
    lena.end(signal.SIGKILL)
    complete("after the other was killed")
    lena.start()
    wait_until("lena has its share again", 40, lambda: value(lena, "loki_source_kubernetes_containers") > 0)
    complete("after that is back")
    for agent in agents:
        agent.end(signal.SIGTERM)
    events.make(3)
    time.sleep(2)
    for agent in agents:
        agent.start()
    complete("after both were away for a while", 60)
    writer.is_over = True
    with received.lock:
        texts = [text for _, _, text in received.lines if text.startswith("line ")]
        reasons = [text for _, _, text in received.lines if "reason=test-" in text]
    if len(texts) != len(set(texts)) or not set(texts) <= writer.written:
        fail("lines arrived with another time or text than they were written with")
    if len(reasons) != len(events.made):
        fail(f"{len(reasons)} events arrived, {len(events.made)} happened")
    for agent in agents:
        agent.end(signal.SIGTERM)


class Events:
    def __init__(self, cluster):
        self.cluster, self.made = cluster, set()

    def make(self, count):
        for _ in range(count):
            reason = f"test-{len(self.made)}"
            self.cluster.request("POST", "/api/v1/namespaces/logs/events", {
                "metadata": {"name": f"e.{reason}"}, "involvedObject": {"kind": "Pod", "namespace": "logs", "name": "log-0", "apiVersion": "v1"},
                "reason": reason, "message": "said \"so\"", "type": "Normal", "count": 1, "source": {"component": "test"},
                "firstTimestamp": now(), "lastTimestamp": now()})
            self.made.add(f"reason={reason}")
        return set(self.made)


def value(agent, metric):
    rows = [row for row in agent.get("/metrics").decode().splitlines() if row.startswith(metric + "{") or row.startswith(metric + " ")]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows)


LOGS = """\
logging { level = "info" }

discovery.kubernetes "pods" {
  role = "pod"
  %(access)s
  namespaces { names = ["logs"] }
}

discovery.relabel "pods" {
  targets = discovery.kubernetes.pods.targets
  rule {
    source_labels = ["__meta_kubernetes_pod_name"]
    target_label  = "pod"
  }
  rule {
    source_labels = ["__meta_kubernetes_pod_container_name"]
    target_label  = "container"
  }
}

loki.source.kubernetes "logs" {
  targets    = discovery.relabel.pods.output
  forward_to = [loki.write.sink.receiver]
  client { %(access)s }
  clustering { enabled = true }
}

loki.source.kubernetes_events "events" {
  namespaces = ["logs"]
  forward_to = [loki.write.sink.receiver]
  client { %(access)s }
  clustering { enabled = true }
}

loki.write "sink" {
  endpoint {
    url = "http://127.0.0.1:%(sink)d/loki/api/v1/push"
    batch_wait = "200ms"
  }
}
"""
