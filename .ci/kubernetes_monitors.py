"""Monitors of the Prometheus operator: what its own generator and a Prometheus make of them, and what the agent makes of them.

Targets are at addresses that do not exist. A proxy that monitors name answers in their place, and notes who asks for what, and how.
"""

import base64
import http.server
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse

from end_to_end import Program, fail, free_ports, wait_until
from kubernetes_world import TOKEN

GROUP = "/apis/monitoring.coreos.com/v1"
PAGE = """\
# TYPE requests counter
requests{code="200",pod="of-the-page"} 5
requests{code="500",drop="me"} 1
noise_one 1
noise_two 2
late 7 %d
"""


class Proxy:
    """A forward proxy that is all targets by itself; with CONNECT it leads to itself with TLS."""

    def __init__(self, folder):
        self.lock = threading.Lock()
        # (who, URL, how) -> when.
        self.asked = []
        openssl = lambda *words: subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "trust.key", "-out", "trust.crt", "-days", "2", "-subj", "/CN=trust")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "target.key", "-out", "target.csr", "-subj", "/CN=target")
        (folder / "target.ext").write_text("subjectAltName=DNS:target.example\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", "target.csr", "-CA", "trust.crt", "-CAkey", "trust.key", "-CAcreateserial", "-days", "2", "-extfile", "target.ext", "-out", "target.crt")
        self.certificate = (folder / "trust.crt").read_text()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            inside = None

            def do_GET(self):
                url = f"https://{self.inside}{self.path}" if self.inside else self.path
                who = "prometheus" if self.headers["User-Agent"].startswith("Prometheus") else "agent"
                how = (self.headers.get("Authorization", ""), float(self.headers["X-Prometheus-Scrape-Timeout-Seconds"]))
                with proxy.lock:
                    proxy.asked.append((time.time(), who, url, how))
                body = (PAGE % (time.time() * 1000 - 2000)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_CONNECT(self):
                self.send_response(200)
                self.end_headers()
                try:
                    inner = proxy.tls.wrap_socket(self.connection, server_side=True)
                    handler = type("Inner", (Handler,), {"inside": self.path})
                    handler(inner, self.client_address, self.server)
                except OSError:
                    pass
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(folder / "target.crt", folder / "target.key")
        self.port, = free_ports(1)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def since(self, then):
        """What each has asked for: URLs, and how."""
        with self.lock:
            asked = [row for row in self.asked if row[0] >= then]
        return {who: {row[2:] for row in asked if row[1] == who} for who in ("prometheus", "agent")}

    def count(self, since):
        """How often the agents have asked for each URL."""
        counts = {}
        with self.lock:
            for at, who, url, how in self.asked:
                if who == "agent" and at >= since:
                    counts[(url, how)] = counts.get((url, how), 0) + 1
        return counts


def monitors(world):
    """`world` is the one of kubernetes.py."""
    if not world.options.operator:
        world.say("DID NOT RUN: monitors, without a program that generates what the Prometheus operator does")
        return
    Monitors(world).run()


class Monitors:
    def __init__(self, world):
        self.world, self.cluster, self.folder = world, world.cluster, world.folder
        self.proxy = Proxy(world.folder)
        self.via = {"proxyUrl": f"http://127.0.0.1:{self.proxy.port}"}
        port, = free_ports(1)
        self.agent = world.make_agent("followers", port, self.config("endpoints"))
        world.others.append(self.agent)
        self.references = 0

    def run(self):
        self.make_objects()
        reference = self.start_reference("Endpoints")
        self.agent.start()
        wait_until("the agent is ready", 30, lambda: self.agent.alive() and self.agent.answers("/-/ready"))
        self.compare(reference, "monitors at the start")
        self.check_bad()
        self.change()
        self.compare(reference, "after monitors, services and pods have changed")
        reference.end(signal.SIGTERM)
        reference = self.start_reference("EndpointSlice")
        self.config("endpointslice")
        self.agent.child.send_signal(signal.SIGHUP)
        self.compare(reference, "by slices, after a reload")
        self.rotate(reference)
        self.outage(reference)
        reference.end(signal.SIGTERM)
        self.agent.end(signal.SIGTERM)
        self.clustered()

    def config(self, role, cluster=""):
        path = self.folder / "followers.alloy"
        path.write_text(CONFIG % {"access": self.world.access, "port": self.world.prometheus.port, "role": role, "cluster": cluster})
        return path

    def start_reference(self, role):
        port, = free_ports(1)
        self.references += 1
        program = Program(f"operator-{self.references}", self.folder, port, [
            self.world.options.operator, f"127.0.0.1:{port}", f"https://127.0.0.1:{self.cluster.port}", TOKEN, role])
        self.world.others.append(program)
        program.start()
        return program

    def make_objects(self):
        create = self.cluster.create
        for plural, kind in (("servicemonitors", "ServiceMonitor"), ("podmonitors", "PodMonitor")):
            create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
                "metadata": {"name": f"{plural}.monitoring.coreos.com"},
                "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
                         "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                             "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}})
        for plural in ("servicemonitors", "podmonitors"):
            wait_until(f"{plural} are served", 30, lambda: self.cluster.request("GET", f"{GROUP}/{plural}", missing=True) is not None)
        for name in ("mon-a", "mon-b", "mon-c"):
            create("/api/v1/namespaces", {"metadata": {"name": name}})
        create("/api/v1/nodes", {"metadata": {"name": "mon-node", "labels": {"zone": "z1"}}})
        for namespace in ("mon-a", "mon-b"):
            self.make_service(namespace, "web", range(3), {"app": "web", "team": "shop", "app.kubernetes.io/name": "shop-web"})
            self.make_service(namespace, "api", range(3, 5), {"app": "api", "tier": "back"})
        self.make_pod("mon-a", 9, {"app": "done"}, "Succeeded")
        data = {"user": "lena", "password": "p:w", "token": "first-token", "id": "client"}
        for namespace in ("mon-a", "mon-b"):
            create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "keys"}, "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}})
            create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "trust"}, "data": {"ca.crt": self.proxy.certificate}})
        self.monitor("servicemonitors", "mon-a", "web", {
            "selector": {"matchLabels": {"app": "web"}}, "jobLabel": "app.kubernetes.io/name", "targetLabels": ["team", "missing"], "podTargetLabels": ["app", "number"],
            "endpoints": [
                {"port": "http", "interval": "2s", "params": {"a": ["1"], "b": ["x", "y"]}, "path": "/other", "relabelings": [
                    {"sourceLabels": ["__meta_kubernetes_pod_name"], "regex": "web-1", "action": "Drop"},
                    {"action": "labelmap", "regex": "__meta_kubernetes_pod_label_(num.*)", "replacement": "mapped_$1"},
                    {"sourceLabels": ["__param_a"], "targetLabel": "asked"}],
                 "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "noise_.*", "action": "drop"}, {"regex": "drop", "action": "labeldrop"},
                                       {"sourceLabels": ["code"], "targetLabel": "kind", "regex": "(.).*", "replacement": "${1}xx"}]},
                {"targetPort": "admin", "interval": "3s", "scrapeTimeout": "1s500ms", "honorLabels": True, "honorTimestamps": False},
                {"targetPort": 8080, "interval": "2s", "path": "/by-number", "relabelings": [{"targetLabel": "__scrape_interval__", "replacement": "4s"}]},
            ]})
        self.monitor("servicemonitors", "mon-a", "everywhere", {
            "namespaceSelector": {"any": True}, "attachMetadata": {"node": True},
            "selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}, {"key": "tier", "operator": "Exists"}, {"key": "old", "operator": "DoesNotExist"}]},
            "endpoints": [{"port": "http", "interval": "2s", "filterRunning": False, "scheme": "HTTPS", "path": "/secure",
                           "relabelings": [{"sourceLabels": ["__meta_kubernetes_node_label_zone"], "targetLabel": "zone"}],
                           "tlsConfig": {"ca": {"configMap": {"name": "trust", "key": "ca.crt"}}, "serverName": "target.example"},
                           "authorization": {"credentials": {"name": "keys", "key": "token"}}}]})
        self.monitor("servicemonitors", "mon-b", "others", {
            "namespaceSelector": {"matchNames": ["mon-a"]}, "selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]},
            "sampleLimit": 4, "labelLimit": 40,
            "endpoints": [{"port": "http", "interval": "2s", "path": "/limited", "basicAuth": {"username": {"name": "keys", "key": "user"}, "password": {"name": "keys", "key": "password"}}},
                          {"port": "http", "interval": "2s", "path": "/within", "bearerTokenSecret": {"name": "keys", "key": "token"}, "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "noise_one", "action": "drop"}]}]})
        self.monitor("podmonitors", "mon-a", "pods", {
            "selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}, "jobLabel": "app", "podTargetLabels": ["number"],
            "podMetricsEndpoints": [{"port": "http", "interval": "2s", "path": "/pod"}, {"portNumber": 9090, "interval": "3s", "path": "/pod-number"},
                                    {"targetPort": "admin", "interval": "3s", "path": "/pod-target", "filterRunning": False}]})
        one = {"selector": {}, "endpoints": [{"port": "http", "path": "/bad"}]}
        for name, spec in (
            ("no-secret", {"selector": {}, "endpoints": [
                {"port": "http", "path": "/bad", "authorization": {"credentials": {"name": "none", "key": "x"}}},
                {"port": "http", "interval": "2s", "path": "/good-beside-bad", "relabelings": [{"targetLabel": "origin", "replacement": "bad"}]}]}),
            ("no-endpoints", {"selector": {}, "endpoints": "none"}),
            ("bad-rule", {"selector": {}, "endpoints": [{"port": "http", "relabelings": [{"regex": "(", "targetLabel": "x"}]}]}),
            ("class", {**one, "scrapeClass": "special"}), ("no-selector", {"endpoints": one["endpoints"]}), ("nothing", None),
            ("file", {"selector": {}, "endpoints": [{"port": "http", "bearerTokenFile": "/etc/passwd"}]}),
            ("slow", {"selector": {}, "endpoints": [{"port": "http", "interval": "1s", "scrapeTimeout": "2s"}]}),
        ):
            self.monitor("servicemonitors", "mon-b", name, spec, {"peer": "none"})

    def make_service(self, namespace, name, numbers, labels):
        create, ports = self.cluster.create, [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}]
        create(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name, "labels": labels}, "spec": {"clusterIP": "None", "ports": ports}})
        for number in numbers:
            self.make_pod(namespace, number, {"app": labels["app"]})
        self.write_endpoints("POST", namespace, name, numbers, labels)

    def write_endpoints(self, method, namespace, name, numbers, labels):
        # A service need not name all ports.
        ports = [{"name": "http", "port": 8080}]
        addresses = [{"ip": address(namespace, number), "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod_name(number)}} for number in numbers]
        for path, name, body in (
            (f"/api/v1/namespaces/{namespace}/endpoints", name, {"subsets": [{"addresses": addresses, "ports": ports}]}),
            (f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", f"{name}-x", {
                "addressType": "IPv4", "ports": ports,
                "endpoints": [{"addresses": [one["ip"]], "targetRef": one["targetRef"], "nodeName": "mon-node", "conditions": {"ready": True}} for one in addresses]}),
        ):
            body["metadata"] = {"name": name, "labels": {**labels, "kubernetes.io/service-name": name.removesuffix("-x")}}
            self.cluster.request(method, path if method == "POST" else f"{path}/{name}", body)

    def make_pod(self, namespace, number, labels, phase="Running"):
        ports = [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9090}]
        ip = address(namespace, number)
        self.cluster.create(f"/api/v1/namespaces/{namespace}/pods", {
            "metadata": {"name": pod_name(number), "labels": {**labels, "number": str(number)}},
            "spec": {"nodeName": "mon-node", "containers": [{"name": "main", "image": "x", "ports": ports}]}},
            {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]})

    def monitor(self, plural, namespace, name, spec, labels=None):
        for endpoint in (spec or {}).get("endpoints" if plural == "servicemonitors" else "podMetricsEndpoints", ()):
            if isinstance(endpoint, dict):
                endpoint.update(self.via)
                # Two endpoints with the same labels would be one series.
                endpoint["relabelings"] = endpoint.get("relabelings", []) + [{"targetLabel": "via", "replacement": endpoint.get("path", "none")}]
        kind = {"servicemonitors": "ServiceMonitor", "podmonitors": "PodMonitor"}[plural]
        self.cluster.create(f"{GROUP}/namespaces/{namespace}/{plural}", {
            "apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": name, "labels": labels or {}}, **({"spec": spec} if spec else {})})

    def found(self, query):
        rows = self.world.prometheus.json("/api/v1/query?" + urllib.parse.urlencode({"query": query}))["data"]["result"]
        return [(row["metric"], row["value"][1]) for row in rows if row["metric"].get("origin") != "bad"]

    def compare(self, reference, when, patience_s=60, token="first-token"):
        """The same targets, the same series, and the same requests, with that token and no other."""
        begun, differences = time.time(), None
        while time.time() < begun + patience_s:
            time.sleep(1)
            then = time.time() - 8
            try:
                targets, series = reference.json("/targets"), reference.json("/series")
                ups = self.found('up{from="monitors"}')
                ours = {frozenset((k, v) for k, v in labels.items() if k not in ("__name__", "from")) for labels, _ in ups}
                all_ours = {frozenset((k, v) for k, v in labels.items() if k != "from") for labels, _ in self.found('last_over_time({from="monitors"}[10s])')}
            except OSError as error:
                differences = error
                continue
            theirs = {frozenset(target["Labels"].items()) for target in targets}
            all_theirs = {frozenset(one.items()) for one in series}
            asked = self.proxy.since(then)
            asked["agent"] = {row for row in asked["agent"] if "/good-beside-bad" not in row[0]}
            differences = [(what, list(a - b)[:3], list(b - a)[:3]) for what, a, b in (
                ("targets", theirs, ours), ("series", all_theirs, all_ours), ("requests", asked["prometheus"], asked["agent"])) if a != b]
            tokens = {how[0] for _, how in asked["prometheus"] if how[0].startswith("Bearer")}
            if tokens != {f"Bearer {token}"}:
                differences = differences or [("tokens", [tokens], [])]
            if not differences and len(theirs) > 10:
                down = sum(value == "0" for _, value in ups)
                return self.world.say(f"{when}: the same as the operator and Prometheus after {time.time() - begun:.0f} s: {len(theirs)} targets ({down} down), "
                                      f"{len(all_theirs)} series, {len(asked['agent'])} kinds of requests")
        if not isinstance(differences, list):
            fail(f"{when}: {differences}")
        for what, only_theirs, only_ours in differences:
            print(f"{what}: only Prometheus {[sorted(map(str, one)) for one in only_theirs]}\n{what}: only the agent {[sorted(map(str, one)) for one in only_ours]}")
        (self.folder / "operator-config.log").write_text(reference.get("/config").decode())
        fail(f"{when}: not the same after {patience_s} s")

    def check_bad(self):
        """What is wrong is named, and what is beside it is scraped."""
        wait_until("the good endpoint of a monitor with a bad one is scraped", 20, lambda: any("/good-beside-bad" in row[0] for row in self.proxy.since(time.time() - 5)["agent"]))
        log = self.agent.log.read_text()
        for name, why in (("no-secret", "secrets mon-b/none"), ("no-endpoints", "endpoints: "), ("bad-rule", "relabel_configs: "), ("class", "scrape classes"),
                          ("no-selector", "selector: is missing"), ("nothing", "spec is no object"), ("file", "allow_arbitrary_file_access"), ("slow", "scrape_timeout")):
            lines = [line for line in log.splitlines() if f"mon-b/{name}: " in line and why in line]
            if not lines:
                fail(f"the log does not say what is wrong with the monitor {name}: {why}")
            if "p:w" in log or "first-token" in log:
                fail("a secret is in the log")
        if any("/bad" in url for url, _ in self.proxy.since(0)["agent"]):
            fail("a bad endpoint was scraped")
        self.world.say("eight wrong monitors are named in the log, and the good endpoint of one is scraped")

    def change(self):
        request = self.cluster.request
        merge = {"spec": {"endpoints": [{"port": "http", "interval": "3s", "path": "/changed", **self.via}]}}
        request("PATCH", f"{GROUP}/namespaces/mon-a/servicemonitors/web", merge)
        request("DELETE", f"{GROUP}/namespaces/mon-b/servicemonitors/others")
        self.monitor("podmonitors", "mon-c", "late", {"selector": {"matchLabels": {"app": "late"}}, "namespaceSelector": {"matchNames": ["mon-c", "mon-a"]},
                                                       "podMetricsEndpoints": [{"port": "http", "interval": "2s", "path": "/late"}]})
        self.make_pod("mon-c", 30, {"app": "late"})
        request("DELETE", "/api/v1/namespaces/mon-a/pods/web-4?gracePeriodSeconds=0")
        self.write_endpoints("PATCH", "mon-a", "api", [3], {})
        request("PATCH", "/api/v1/namespaces/mon-b/services/api", {"metadata": {"labels": {"old": "yes"}}})

    def rotate(self, reference):
        token = base64.b64encode(b"second-token").decode()
        for namespace in ("mon-a", "mon-b"):
            self.cluster.request("PATCH", f"/api/v1/namespaces/{namespace}/secrets/keys", {"data": {"token": token}})
        self.compare(reference, "after a token in a Secret has changed", 110, "second-token")

    def outage(self, reference):
        """Targets go on while nobody can be asked for monitors."""
        self.cluster.server.end(signal.SIGKILL)
        time.sleep(5)
        then = time.time()
        time.sleep(8)
        asked = self.proxy.since(then)
        lost = asked["prometheus"] - asked["agent"]
        if lost:
            fail(f"targets are lost while the API server is away: {lost}")
        self.cluster.start_server()
        self.compare(reference, "after the API server was killed", 90, "second-token")

    def clustered(self):
        ports = free_ports(3)
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        config, agents = self.config("endpointslice", "clustering { enabled = true }"), []
        for name, port in zip(("nora", "olaf", "pia"), ports):
            agent = self.world.make_agent(name, port, config)
            agent.command += ["--cluster.enabled", f"--cluster.node-name={name}", "--cluster.name=monitors", "--cluster.advertise-address=127.0.0.1", f"--cluster.join-addresses={addresses}"]
            self.world.others.append(agent)
            agents.append(agent)
        for agent in agents:
            agent.start()
        for agent in agents:
            wait_until(f"{agent.name} is ready", 30, lambda: agent.alive() and agent.answers("/-/ready"))
        wanted = set()

        def shares(of):
            return [running(agent) for agent in of]

        def settled(of):
            keys = {key["name"]: key["owner"] for key in of[0].json("/api/v0/cluster/ownership?limit=10000")["keys"]}
            return keys and sum(shares(of)) == len(of[0].json("/api/v0/cluster/ownership?limit=10000")["keys"]) and all(shares(of))

        def once(when, of):
            """Over some slots each target is asked for as often as its interval says, not more and not less."""
            time.sleep(2)
            begun, span = time.time(), 12
            time.sleep(span)
            counts = self.proxy.count(begun)
            nonlocal wanted
            wanted = wanted or set(counts)
            lost = wanted - set(counts)
            # Every target has an interval of 2 or 3 seconds, and several pages may be one URL in two jobs.
            wrong = {key: count for key, count in counts.items() if count > span / 2 + 1 or count < span / 3 - 1}
            if lost or wrong:
                fail(f"{when}: lost {list(lost)[:3]}, not once a slot {list(wrong.items())[:3]}")
            self.world.say(f"{when}: {len(counts)} targets, each once a slot; shares {shares(of)}")

        wait_until("each target runs on one of three", 40, lambda: settled(agents))
        once("three agents", agents)
        agents[0].end(signal.SIGKILL)
        wait_until("two have all", 40, lambda: settled(agents[1:]))
        once("one was killed", agents[1:])
        agents[0].start()
        wait_until("all three have some again", 60, lambda: agents[0].answers("/-/ready") and settled(agents))
        once("it is back", agents)
        for agent in agents:
            agent.end(signal.SIGTERM)


def running(agent):
    rows = [row for row in agent.get("/metrics").decode().splitlines() if row.startswith("prometheus_scrape_targets_gauge{")]
    return sum(int(float(row.rsplit(" ", 1)[1])) for row in rows)


def pod_name(number):
    return f"web-{number}"


def address(namespace, number):
    return f"10.30.{ord(namespace[-1]) - 96}.{number + 1}"


CONFIG = """\
logging { level = "info" }

prometheus.operator.servicemonitors "all" {
  forward_to      = [prometheus.remote_write.store.receiver]
  kubernetes_role = "%(role)s"
  client { %(access)s }
  %(cluster)s
}

prometheus.operator.podmonitors "all" {
  forward_to = [prometheus.remote_write.store.receiver]
  client { %(access)s }
  %(cluster)s
}

prometheus.remote_write "store" {
  external_labels = { from = "monitors" }
  endpoint {
    url = "http://127.0.0.1:%(port)d/api/v1/write"
    queue_config { batch_send_deadline = "500ms" }
  }
}
"""
