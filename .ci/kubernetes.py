#!/usr/bin/env python3
"""`discovery.kubernetes` and its relatives against a real kube-apiserver and etcd, beside a real Prometheus.

All roles are discovered by the agent and by Prometheus, and compared label by label, while objects come, change and go, the API server
is killed, connections are cut and freeze, and versions are forgotten.

Needs `etcd` and `prometheus` of Debian, and a kube-apiserver (see kubernetes.sh). Listens on loopback only, ends only what it started.
"""

import argparse
import concurrent.futures
import json
import signal
import sys
import time
import urllib.parse

from end_to_end import Program, fail, free_ports, need, supervise, wait_until
from kubernetes_logs import logs
from kubernetes_monitors import monitors
from kubernetes_world import TOKEN, Cluster, Usage, address, node, pod

LIMIT_S = 900
ROLES = ("pod", "node", "service", "endpoints", "endpointslice", "ingress")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--alloy", required=True, help="the agent's binary")
    arguments.add_argument("--kube-apiserver", required=True)
    arguments.add_argument("--discovery", required=True, help="Prometheus' discovery as a program of its own")
    arguments.add_argument("--pods", type=int, default=5000, help="how many pods the large part has; 0: none")
    arguments.add_argument("--only-logs", action="store_true", help="leave out what is before the logs")
    arguments.add_argument("--operator", help="the Prometheus operator's generator, with a Prometheus, as a program; without it monitors are left out")
    arguments.add_argument("--only-monitors", action="store_true", help="leave out all but the monitors")
    arguments.add_argument("--keep", action="store_true", help="keep the logs of a good run, too")
    options = arguments.parse_args()
    return supervise("kubernetes", LIMIT_S, options, lambda folder: World(folder, options), "OK: the same targets as Prometheus, through all of it.")


class World:
    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.started = time.time()
        self.cluster = Cluster(folder, options.kube_apiserver)
        agent, prometheus, discovery = free_ports(3)
        self.prometheus = Program("prometheus", folder, prometheus, [
            need("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{prometheus}", "--web.enable-remote-write-receiver",
        ])
        self.discovery = Program("discovery", folder, discovery, [options.discovery, f"127.0.0.1:{discovery}", f"{folder}/discovery.json"])
        self.agent = self.make_agent("agent", agent, folder / "config.alloy")
        self.others = []

    def make_agent(self, name, port, config, environment=None):
        program = Program(name, self.folder, port, [
            self.options.alloy, "run", str(config), f"--storage.path={self.folder}/{name}-data",
            f"--server.http.listen-addr=127.0.0.1:{port}",
        ])
        if environment:
            program.command = ["env", *(f"{key}={value}" for key, value in environment.items()), *program.command]
        return program

    def say(self, text):
        print(f"{time.time() - self.started:6.1f} s  {text}", flush=True)

    def run(self):
        self.cluster.start()
        self.say("etcd and the API server are ready")
        self.make_objects()
        self.write_configs()
        if self.options.only_logs:
            return logs(self)
        self.prometheus.start()
        if self.options.only_monitors:
            wait_until("the Prometheus is ready", 30, lambda: self.prometheus.alive() and self.prometheus.answers("/-/ready"))
            return monitors(self)
        self.discovery.start()
        self.agent.start()
        wait_until("the Prometheus is ready", 30, lambda: self.prometheus.alive() and self.prometheus.answers("/-/ready"))
        wait_until("the agent is ready", 30, lambda: self.agent.alive() and self.agent.answers("/-/ready"))
        self.compare("at the start", 60)
        self.check_health(True)
        self.change()
        self.compare("after changes and deletes", 60, "web-6", "web-5")
        self.cluster.restart_server()
        self.change_more(1)
        self.compare("after the API server was killed", 60, "late-1")
        self.forget()
        self.compare("after versions were forgotten", 60, "late-2", "late-1")
        self.freeze()
        self.scoped()
        logs(self)
        monitors(self)
        if self.options.pods:
            self.many(self.options.pods)

    def end(self):
        for program in [self.agent, self.discovery, self.prometheus, *self.others]:
            program.end(signal.SIGTERM, patience_s=10)
        self.cluster.end()

    def make_objects(self):
        create = self.cluster.create
        create("/api/v1/namespaces", {"metadata": {"name": "shop", "labels": {"team": "a-b"}}})
        create("/api/v1/namespaces", {"metadata": {"name": "other"}})
        for number in (1, 2):
            create("/api/v1/nodes", *node(f"node-{number}", number))
        for number in range(6):
            create("/api/v1/namespaces/shop/pods", *pod(f"web-{number}", number, f"node-{number % 2 + 1}", ready=number != 3))
        create("/api/v1/namespaces/other/pods", *pod("lonely", 20, "node-1", labels={"app": "lonely"}))
        body, _ = pod("waits", 21, "")
        del body["spec"]["nodeName"]
        create("/api/v1/namespaces/shop/pods", body)
        services = "/api/v1/namespaces/shop/services"
        create(services, {"metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"a.b/c": "d"}},
                          "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
        create(services, {"metadata": {"name": "headless"}, "spec": {"clusterIP": "None", "ports": [{"port": 81}]}})
        create(services, {"metadata": {"name": "outside"}, "spec": {"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 82}]}})
        create(services, {"metadata": {"name": "balanced"}, "spec": {"type": "LoadBalancer", "ports": [{"name": "x", "port": 83}]}})
        self.write_endpoints(range(6), "POST")
        create("/apis/networking.k8s.io/v1/namespaces/shop/ingresses", {
            "metadata": {"name": "front", "labels": {"a": "b"}, "annotations": {"k.l/m": "n"}},
            "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.example.com"], "secretName": "s"}], "rules": [
                {"host": "a.example.com", "http": {"paths": [rule("/x"), rule("")]}},
                {"host": "b.c.example.com", "http": {"paths": [rule("/y")]}},
                {"host": "plain.org"}]}})

    def write_endpoints(self, numbers, method):
        reference = lambda number: {"kind": "Pod", "namespace": "shop", "name": f"web-{number}"}
        one = lambda number: {"ip": address(number), "nodeName": f"node-{number % 2 + 1}", "targetRef": reference(number)}
        ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
        endpoints = {"metadata": {"name": "web", "labels": {"app": "web"}}, "subsets": [{
            "addresses": [one(number) for number in numbers if number != 3] + [{"ip": "10.77.0.1", "hostname": "extra"}],
            "notReadyAddresses": [one(3)] if 3 in numbers else [], "ports": ports}]}
        slices = {"addressType": "IPv4", "metadata": {"name": "web-xyz", "labels": {"kubernetes.io/service-name": "web"}}, "ports": [{**ports[0], "appProtocol": "http"}],
                  "endpoints": [{"addresses": [address(number)], "conditions": {"ready": number != 3, "serving": True, "terminating": False}, "zone": "z",
                                 "nodeName": f"node-{number % 2 + 1}", "targetRef": reference(number)} for number in numbers]
                  + [{"addresses": ["10.77.0.2"], "hostname": "extra"}]}
        for path, body in (("/api/v1/namespaces/shop/endpoints", endpoints), ("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", slices)):
            if method == "PUT":
                body["metadata"]["resourceVersion"] = self.cluster.request("GET", f"{path}/{body['metadata']['name']}")["metadata"]["resourceVersion"]
                path += f"/{body['metadata']['name']}"
            self.cluster.request(method, path, body)
        if method == "POST":
            path = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
            self.cluster.create(path, {"addressType": "IPv6", "metadata": {"name": "empty", "labels": {"kubernetes.io/service-name": "none"}}, "endpoints": [], "ports": []})
            self.cluster.create(path, {"addressType": "IPv6", "metadata": {"name": "six"}, "endpoints": [{"addresses": ["fd00::1"]}], "ports": [{"port": 90}]})

    def write_configs(self):
        door = f"https://127.0.0.1:{self.cluster.door.port}"
        kubeconfig = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "a", "user": "b"}}],
                      "clusters": [{"name": "a", "cluster": {"server": door, "certificate-authority": "certs/apiserver.crt"}}],
                      "users": [{"name": "b", "user": {"tokenFile": "token"}}]}
        (self.folder / "kubeconfig").write_text(json.dumps(kubeconfig))
        by_file = f'kubeconfig_file = "{self.folder}/kubeconfig"'
        by_hand = f'api_server = "{door}"\nbearer_token_file = "{self.folder}/token"\ntls_config {{ ca_file = "{self.cluster.ca}" }}'
        self.access = by_file
        parts = [CONFIG_HEAD % {"port": self.prometheus.port}]
        jobs = []
        for role in ROLES:
            attach = role in ("pod", "endpoints", "endpointslice")
            parts.append(CONFIG_ROLE % {"role": role, "access": by_hand if role in ("pod", "node") else by_file, "port": self.agent.port,
                                        "more": f"attach_metadata {{\nnode = {str(attach).lower()}\nnamespace = {str(role != 'node').lower()}\n}}"})
            jobs.append({"role": role, "api_server": f"https://127.0.0.1:{self.cluster.port}", "authorization": {"credentials": TOKEN},
                         "tls_config": {"insecure_skip_verify": True}, "attach_metadata": {"node": attach, "namespace": role != "node"}})
        (self.folder / "config.alloy").write_text("\n".join(parts))
        (self.folder / "discovery.json").write_text(json.dumps(jobs))
        (self.folder / "prometheus.yml").write_text("{}")

    def found_by_prometheus(self):
        """Role -> targets, as sorted pairs of labels."""
        found = self.discovery.json("/targets")
        return {role: {frozenset((name.lstrip("_").replace("address__", "address"), value) for name, value in target.items() if value)
                       for target in found.get(role) or ()} for role in ROLES}

    def found_by_agent(self):
        found = {role: set() for role in ROLES}
        query = urllib.parse.urlencode({"query": "up"})
        for row in self.prometheus.json(f"/api/v1/query?{query}")["data"]["result"]:
            labels = {name: value for name, value in row["metric"].items() if name not in ("__name__", "job", "role")}
            role = row["metric"].get("role")
            if role != "node":
                labels.pop("instance", None)
            if role:
                found[role].add(frozenset((name, value) for name, value in labels.items()))
        return found

    def compare(self, when, patience_s, has="web-0", lacks="nobody"):
        """Waits until both have found the same, the one pod among it and the other not."""
        begun, deadline = time.time(), time.time() + patience_s
        while True:
            theirs, ours = self.found_by_prometheus(), self.found_by_agent()
            pods = {value for target in ours["pod"] for name, value in target if name == "meta_kubernetes_pod_name"}
            if theirs == ours and all(theirs.values()) and has in pods and lacks not in pods:
                break
            if time.time() > deadline:
                self.explain(theirs, ours)
                fail(f"{when}: not the same targets as Prometheus after {patience_s} s")
            time.sleep(0.5)
        counts = ", ".join(f"{role} {len(targets)}" for role, targets in ours.items())
        self.say(f"{when}: the same as Prometheus after {time.time() - begun:.0f} s: {counts}")

    def explain(self, theirs, ours):
        for role in ROLES:
            for who, only in (("Prometheus", theirs[role] - ours[role]), ("the agent", ours[role] - theirs[role])):
                for target in list(only)[:2]:
                    other = ours[role] if who == "Prometheus" else theirs[role]
                    near = min(other, key=lambda candidate: len(candidate ^ target), default=frozenset())
                    print(f"{role}, only {who}: {sorted(target - near)}, instead of {sorted(near - target)}")

    def change(self):
        pods = "/api/v1/namespaces/shop/pods"
        self.cluster.create(pods, *pod("web-6", 6, "node-1"))
        self.cluster.request("PATCH", f"{pods}/web-3/status", {"status": pod("web-3", 3, "node-2")[1]})
        self.cluster.request("PATCH", f"{pods}/web-4", {"metadata": {"labels": {"new": "label"}}})
        self.cluster.request("DELETE", f"{pods}/web-5?gracePeriodSeconds=0")
        self.cluster.request("PATCH", "/api/v1/nodes/node-1", {"metadata": {"labels": {"zone/a.b": "elsewhere"}}})
        self.cluster.request("PATCH", "/api/v1/namespaces/shop/services/web", {"metadata": {"annotations": {"a.b/c": "e"}}})
        self.cluster.request("DELETE", "/api/v1/namespaces/shop/services/headless")
        self.write_endpoints([0, 1, 2, 3, 4, 6], "PUT")

    def change_more(self, round):
        pods = "/api/v1/namespaces/shop/pods"
        self.cluster.create(pods, *pod(f"late-{round}", 40 + round, "node-2"))
        if round > 1:
            self.cluster.request("DELETE", f"{pods}/late-{round - 1}?gracePeriodSeconds=0")

    def forget(self):
        """While the agent is cut off, things change, and what was before is forgotten: a watch cannot go on."""
        self.cluster.door.shut()
        wait_until("the agent says that targets may be out of date", 30, lambda: not self.is_healthy())
        before = sum(len(targets) for targets in self.found_by_agent().values())
        self.change_more(2)
        self.cluster.compact()
        self.cluster.restart_server()
        time.sleep(3)
        if sum(len(targets) for targets in self.found_by_agent().values()) != before:
            fail("targets are lost while the API server is away")
        self.cluster.door.open()
        wait_until("the agent lists anew", 60, lambda: b"listing anew" in self.agent.log.read_bytes())
        self.check_health(True)

    def freeze(self):
        self.cluster.door.freeze()
        begun = time.time()
        self.change_more(3)
        self.compare("connections were frozen without a word", 90, "late-3", "late-2")
        self.say(f"the frozen connections were noticed within {time.time() - begun:.0f} s")

    def is_healthy(self):
        try:
            return self.agent.answers("/-/healthy")
        except OSError:
            return False

    def check_health(self, wanted):
        wait_until(f"the agent's health is {wanted}", 60, lambda: self.is_healthy() == wanted)

    def scoped(self):
        """On one node of many, an agent asks for its own pods alone."""
        port, = free_ports(1)
        config = self.folder / "scoped.alloy"
        config.write_text(f'discovery.kubernetes "pods" {{\nrole = "pod"\n{self.access}\n}}\n'
                          f'discovery.kubernetes "all" {{\nrole = "pod"\nall_nodes = true\n{self.access}\n}}\n')
        agent = self.make_agent("scoped", port, config, {"ALLOY_DISCOVERY_NODE": "node-2"})
        self.others.append(agent)
        agent.start()
        on_node = [item for item in self.cluster.request("GET", "/api/v1/pods?fieldSelector=spec.nodeName=node-2")["items"]]
        wanted = sum(len(targets_of(item)) for item in on_node)
        every = sum(len(targets_of(item)) for item in self.cluster.request("GET", "/api/v1/pods")["items"])
        wait_until(f"{wanted} targets of the node and {every} of all are found", 20,
                   lambda: targets(agent, "pods") == wanted and targets(agent, "all") == every and wanted < every)
        if b"only what is on this node is discovered" not in agent.log.read_bytes():
            fail("the agent does not say that it finds only what is on its node")
        agent.end(signal.SIGTERM)
        self.say(f"an agent of node-2 finds {wanted} of {every} targets, and says so")

    def many(self, count):
        """Memory and processor time with many pods."""
        self.agent.end(signal.SIGTERM)
        self.discovery.end(signal.SIGTERM)
        begun = time.time()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: self.cluster.create("/api/v1/namespaces/shop/pods", *pod(f"many-{number}", number + 250, f"node-{number % 2 + 1}")), range(count)))
        self.say(f"{count} pods are made, {time.time() - begun:.0f} s")
        figures = []
        for name, body in (("no", ""), ("one", f'discovery.kubernetes "a" {{\nrole = "pod"\n{self.access}\n}}'),
                           ("four", "".join(f'discovery.kubernetes "{label}" {{\nrole = "pod"\n{self.access}\n}}\n' for label in "abcd"))):
            port, = free_ports(1)
            config = self.folder / f"{name}.alloy"
            config.write_text(body + "\n")
            agent = self.make_agent(f"many-{name}", port, config)
            self.others.append(agent)
            agent.start()
            wait_until("all pods are found", 60, lambda: agent.alive() and agent.answers("/-/ready") and (not body or targets(agent, "a") >= count * 4))
            usage = Usage(agent.child.pid)
            start_s = usage.seconds()
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda number: self.cluster.request("PATCH", f"/api/v1/namespaces/shop/pods/many-{number}", {"metadata": {"labels": {"round": name}}}), range(500)))
            time.sleep(6)
            figures.append((name, usage.resident_mb(), usage.peak_mb(), start_s, usage.seconds() - start_s))
            agent.end(signal.SIGTERM)
        for name, resident, peak, start_s, change_s in figures:
            self.say(f"{count} pods, {name} discovery: {resident:.0f} MB resident, {peak:.0f} MB at most, {start_s:.1f} s of processor to begin, {change_s:.1f} s for 500 changes")


def targets(agent, label):
    """How many the component has."""
    line = f'prometheus_sd_discovered_targets{{component_id="discovery.kubernetes.{label}"'
    found = [row for row in agent.get("/metrics").decode().splitlines() if row.startswith("prometheus_sd_discovered_targets") and f"discovery.kubernetes.{label}\"" in row]
    return float(found[0].rsplit(" ", 1)[1]) if found else fail(f"no {line}")


def targets_of(item):
    if not item.get("status", {}).get("podIP"):
        return []
    containers = item["spec"]["containers"] + item["spec"].get("initContainers", [])
    return [port for container in containers for port in container.get("ports", [None])]


def rule(path):
    return {"path": path, "pathType": "ImplementationSpecific", "backend": {"service": {"name": "web", "port": {"number": 80}}}}


CONFIG_HEAD = """\
logging { level = "info" }

prometheus.remote_write "store" {
  endpoint {
    url = "http://127.0.0.1:%(port)d/api/v1/write"
    queue_config { batch_send_deadline = "500ms" }
  }
}
"""

# The labels of discovery become labels of `up`, whatever that says: the targets are not there.
CONFIG_ROLE = """\
discovery.kubernetes "%(role)s" {
  role = "%(role)s"
  %(access)s
  %(more)s
}

discovery.relabel "%(role)s" {
  targets = discovery.kubernetes.%(role)s.targets
  rule {
    action = "labelmap"
    regex  = "__(meta_kubernetes_.+)"
  }
  rule {
    source_labels = ["__address__"]
    target_label  = "address"
  }
  rule {
    replacement  = "127.0.0.1:%(port)d"
    target_label = "__address__"
  }
  rule {
    replacement  = "/-/ready"
    target_label = "__metrics_path__"
  }
  rule {
    replacement  = "%(role)s"
    target_label = "role"
  }
}

prometheus.scrape "%(role)s" {
  targets         = discovery.relabel.%(role)s.output
  forward_to      = [prometheus.remote_write.store.receiver]
  scrape_interval = "2s"
  scrape_timeout  = "1s"
}
"""


if __name__ == "__main__":
    sys.exit(main())
