"""What no schema can see in rendered manifests: that the parts fit together.

`findings(objects)` gives sentences about what is wrong in the objects of one release. `prove()` breaks a good release in
many ways and sees that each break is found: a rule that cannot fail is none.
"""

import copy
import pathlib
import re

WORKLOADS = ("StatefulSet", "Deployment", "DaemonSet")
ROOT = pathlib.Path(__file__).resolve().parents[1]
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def seconds_to_stop():
    """The longest that the agent takes to stop, as its own code says."""
    def constant(path, name):
        return int(re.search(rf"{name}: Duration = Duration::from_secs\((\d+)\)", (ROOT / path).read_text()).group(1))
    return (constant("alloy-bin/src/run.rs", "HAND_OVER_PATIENCE") + constant("alloy-bin/src/graph/stop.rs", "STOP_PATIENCE")
            + constant("alloy-bin/src/server/listener.rs", "DRAIN") + 1)


def findings(objects):
    """What is wrong, one sentence each."""
    release = Release(objects)
    found = []
    for rule in RULES:
        found += [f"{rule.__name__}: {text}" for text in rule(release)]
    return found


class Release:
    """The objects, and the parts of them that rules ask for."""

    def __init__(self, objects):
        self.objects = objects
        self.workload = next(thing for thing in objects if thing["kind"] in WORKLOADS)
        self.template = self.workload["spec"]["template"]
        self.pod = self.template["spec"]
        self.containers = self.pod["containers"]
        self.alloy = next(container for container in self.containers if container["name"] == "alloy")
        self.claims = self.workload["spec"].get("volumeClaimTemplates", [])
        self.flags = dict(
            argument[2:].partition("=")[::2] for argument in self.alloy["args"] if argument.startswith("--"))
        self.namespace = self.workload["metadata"]["namespace"]

    def of_kind(self, *kinds):
        return [thing for thing in self.objects if thing["kind"] in kinds]

    def listen_port(self):
        return int(self.flags["server.http.listen-addr"].rpartition(":")[2])

    def ports(self):
        """(number, protocol) and (name, protocol) -> True of all containers."""
        found = set()
        for container in self.containers:
            for port in container.get("ports", []):
                found |= {(port["containerPort"], port.get("protocol", "TCP")), (port.get("name"), port.get("protocol", "TCP"))}
        return found

    def clustered(self):
        return self.flags.get("cluster.enabled") == "true"

    def covering_mount(self, path):
        """The mount with the longest path that is `path` or above it."""
        mounts = [mount for mount in self.alloy["volumeMounts"] if (path + "/").startswith(mount["mountPath"].rstrip("/") + "/")]
        return max(mounts, key=lambda mount: len(mount["mountPath"]), default=None)

    def volume(self, name):
        return next((volume for volume in self.pod["volumes"] if volume["name"] == name), None)

    def headless(self):
        return {thing["metadata"]["name"]: thing for thing in self.of_kind("Service") if thing["spec"].get("clusterIP") == "None"}

    def host_paths(self):
        return [volume for volume in self.pod["volumes"] if "hostPath" in volume]


def selects(selector, labels):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def mounts_have_volumes_and_volumes_have_mounts(release):
    volumes = {volume["name"] for volume in release.pod["volumes"]}
    claims = {claim["metadata"]["name"] for claim in release.claims}
    if volumes & claims:
        yield f"{sorted(volumes & claims)} are volumes and claims"
    mounted = set()
    for container in release.containers + release.pod.get("initContainers", []):
        paths = [mount["mountPath"].rstrip("/") for mount in container.get("volumeMounts", [])]
        for path in {path for path in paths if paths.count(path) > 1}:
            yield f"{path} is mounted twice"
        for mount in container.get("volumeMounts", []):
            mounted.add(mount["name"])
            if mount["name"] not in volumes | claims:
                yield f"{container['name']} mounts {mount['name']}, which is no volume and no claim"
    for name in sorted((volumes | claims) - mounted):
        yield f"{name} is mounted nowhere"


def the_log_is_on_the_claim(release):
    path = release.flags["storage.path"]
    mount = release.covering_mount(path)
    if not mount or mount["mountPath"] == "/" or mount.get("readOnly"):
        yield f"no volume at {path}: the root file system is read-only"
        return
    if mount.get("subPath"):
        return
    claims = [claim["metadata"]["name"] for claim in release.claims]
    if claims and mount["name"] not in claims:
        yield f"{path} is on {mount['name']}, not on one of the claims {claims}"
    volume = release.volume(mount["name"]) or {}
    own_volume = mount["name"] in claims or "persistentVolumeClaim" in volume
    if release.flags["storage.max-size"].endswith("%") and not own_volume:
        yield f"the logs may take a share of {mount['name']}, which is the node's disk"
    limit = volume.get("emptyDir", {}).get("sizeLimit")
    if limit and quantity(release.flags["storage.max-size"]) >= quantity(limit):
        yield f"the logs may take {release.flags['storage.max-size']} of an emptyDir that is evicted at {limit}"


def quantity(text):
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*?)B?", text).groups()
    return float(number) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[unit]


def claims_do_not_drift(release):
    for claim in release.claims:
        if claim.get("apiVersion") != "v1" or claim.get("kind") != "PersistentVolumeClaim":
            yield "a claim template without apiVersion and kind: the API server adds them, which looks like drift"
        for labels in (claim["metadata"].get("labels", {}), release.workload["spec"]["selector"]["matchLabels"]):
            if any(label in labels for label in ("helm.sh/chart", "app.kubernetes.io/version")):
                yield "a version in a field that cannot change"
    policy = release.workload["spec"].get("persistentVolumeClaimRetentionPolicy")
    if policy and not release.claims:
        yield "a retention policy without claims"


def the_configuration_is_mounted(release):
    path = release.alloy["args"][1]
    mount = release.covering_mount(path)
    volume = mount and release.volume(mount["name"])
    if not volume or "configMap" not in volume:
        yield f"{path} is on no ConfigMap"
        return
    if mount.get("subPath"):
        yield "a ConfigMap that is mounted by subPath never changes"
    name = volume["configMap"]["name"]
    made = [thing for thing in release.of_kind("ConfigMap") if thing["metadata"]["name"] == name]
    key = path[len(mount["mountPath"]):].strip("/")
    if made and key and key not in made[0].get("data", {}):
        yield f"{path} is no key of the ConfigMap {name}"
    if made and not key and not any(name.endswith(".alloy") for name in made[0]["data"]):
        yield f"no *.alloy file in the ConfigMap {name}"


def selectors_match(release):
    labels = release.template["metadata"]["labels"]
    own = release.workload["spec"]["selector"]["matchLabels"]
    if not selects(own, labels):
        yield f"the workload's selector {own} does not match its pods"
    for thing in release.of_kind("Service"):
        if not selects(thing["spec"]["selector"], labels):
            yield f"the Service {thing['metadata']['name']} selects nothing"
    for thing in release.of_kind("PodDisruptionBudget", "PodMonitor"):
        if not selects(thing["spec"]["selector"]["matchLabels"], labels):
            yield f"the {thing['kind']} selects nothing"
    for thing in release.of_kind("NetworkPolicy"):
        if not selects(thing["spec"]["podSelector"]["matchLabels"], labels):
            yield "the NetworkPolicy selects nothing"
    for thing in release.of_kind("ServiceMonitor"):
        services = [service for service in release.of_kind("Service")
                    if selects(thing["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])]
        if len(services) != 1:
            yield f"the ServiceMonitor selects {len(services)} Services: each pod would be scraped as often"
        names = {port["name"] for service in services for port in service["spec"]["ports"]}
        for endpoint in thing["spec"]["endpoints"]:
            if endpoint["port"] not in names:
                yield f"the ServiceMonitor's port {endpoint['port']} is no port of the Service"
    for thing in release.of_kind("Pod"):
        if selects(own, thing["metadata"]["labels"]):
            yield f"the Pod {thing['metadata']['name']} would get the Service's traffic"


def ports_exist(release):
    known = release.ports()
    for thing in release.of_kind("Service"):
        names = [port["name"] for port in thing["spec"].get("ports", [])]
        if len(set(names)) != len(names):
            yield f"two ports of the Service {thing['metadata']['name']} have one name"
        for port in thing["spec"].get("ports", []):
            if (port["targetPort"], port.get("protocol", "TCP")) not in known:
                yield f"the Service {thing['metadata']['name']} leads to {port['targetPort']}/{port.get('protocol')}, which no container has"
            if not PORT_NAME.fullmatch(port["name"]) or len(port["name"]) > 63:
                yield f"{port['name']} is no name of a port"
    for container in release.containers:
        for port in container.get("ports", []):
            if not PORT_NAME.fullmatch(port["name"]) or len(port["name"]) > 15:
                yield f"{port['name']} is no name of a container's port"
            if not 0 < port["containerPort"] < 65536:
                yield f"{port['containerPort']} is no port"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port and (port, "TCP") not in known:
                yield f"the {probe} asks port {port}, which no container has"
    for thing in release.of_kind("NetworkPolicy"):
        for rule in thing["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if (port["port"], port.get("protocol", "TCP")) not in known:
                    yield f"the NetworkPolicy opens {port['port']}/{port.get('protocol')}, which no container has"
    for thing in release.of_kind("Ingress"):
        services = {(service["metadata"]["name"], port["port"]) for service in release.of_kind("Service") for port in service["spec"].get("ports", [])}
        for rule in thing["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                if (backend["name"], backend["port"]["number"]) not in services:
                    yield f"the Ingress leads to {backend}, which is no Service's port"


def members_find_each_other(release):
    if not release.clustered():
        return
    port, headless = release.listen_port(), release.headless()
    service = headless.get(release.flags["cluster.join-addresses"])
    if not service:
        yield f"--cluster.join-addresses={release.flags['cluster.join-addresses']} is no headless Service"
        return
    if not service["spec"].get("publishNotReadyAddresses"):
        yield "members that are not ready are not found: the first ones would wait for each other"
    for protocol in ("TCP", "UDP"):
        if (port, protocol) not in release.ports():
            yield f"the container does not have {port}/{protocol}"
        if not any(each["targetPort"] == port and each["protocol"] == protocol for each in service["spec"]["ports"]):
            yield f"the headless Service does not have {port}/{protocol}"
    for policy in release.of_kind("NetworkPolicy"):
        open_ports = {(each["port"], each["protocol"]) for rule in policy["spec"].get("ingress", []) for each in rule.get("ports", [])}
        for protocol in ("TCP", "UDP"):
            if open_ports and (port, protocol) not in open_ports:
                yield f"the NetworkPolicy closes {port}/{protocol} between members"
    keys = release.flags.get("cluster.keys-file")
    volume = keys and release.volume((release.covering_mount(keys) or {}).get("name"))
    if keys and "secret" not in (volume or {}):
        yield f"{keys} is on no Secret"
    if release.pod.get("hostNetwork") and release.pod["dnsPolicy"] == "ClusterFirst":
        yield "names of Services are unknown on the node's network with dnsPolicy ClusterFirst"


def variables_are_defined(release):
    names = [variable["name"] for variable in release.alloy.get("env", [])]
    for name in {name for name in names if names.count(name) > 1}:
        yield f"{name} is defined twice"
    for name in re.findall(r"\$\(([A-Z_0-9]+)\)", " ".join(release.alloy["args"])):
        if name not in names:
            yield f"$({name}) is in an argument and is no variable"
    if release.pod.get("enableServiceLinks") is not False:
        yield "variables that Kubernetes makes of Services named alloy would be taken for flags"


def the_pod_may_end_in_peace(release):
    grace = release.pod["terminationGracePeriodSeconds"]
    if grace <= seconds_to_stop():
        yield f"a pod is killed after {grace} s, and may take {seconds_to_stop()} s to stop"


def a_stateful_set_has_its_service(release):
    if release.workload["kind"] == "StatefulSet" and release.workload["spec"]["serviceName"] not in release.headless():
        yield f"serviceName {release.workload['spec']['serviceName']} is no headless Service: pods have no names"


def replicas_have_one_master(release):
    for thing in release.of_kind("HorizontalPodAutoscaler"):
        target, workload = thing["spec"]["scaleTargetRef"], release.workload
        if (target["kind"], target["name"]) != (workload["kind"], workload["metadata"]["name"]):
            yield "the HorizontalPodAutoscaler scales something else"
        if "replicas" in workload["spec"]:
            yield "replicas are set and scaled"
        names = [metric["resource"]["name"] for metric in thing["spec"]["metrics"]]
        if names != sorted(names, reverse=True):
            yield "the API server puts memory before cpu: another order looks like drift"
        for name in names:
            for container in release.containers[:1]:
                if name not in container.get("resources", {}).get("requests", {}):
                    yield f"{name} is looked at in percent of a request that is not made"


def rights_are_least(release):
    roles = {(thing["kind"], thing["metadata"]["name"], thing["metadata"].get("namespace")): thing for thing in release.of_kind("Role", "ClusterRole")}
    for role in roles.values():
        for rule in role["rules"]:
            text = " ".join(rule.get("resources", []) + rule.get("verbs", []) + rule.get("apiGroups", []))
            # Monitors name Secrets, which are read one by one.
            is_named = rule["verbs"] == ["get"] and any("monitoring.coreos.com" in other.get("apiGroups", []) for other in role["rules"])
            if "*" in text or ("secrets" in text and not is_named) or set(rule["verbs"]) - {"get", "list", "watch"}:
                yield f"a rule that gives more than reading: {rule}"
    for binding in release.of_kind("RoleBinding", "ClusterRoleBinding"):
        key = (binding["roleRef"]["kind"], binding["roleRef"]["name"], binding["metadata"].get("namespace"))
        if key not in roles:
            yield f"a binding to {key}, which is not there"
        for subject in binding["subjects"]:
            if (subject["name"], subject["namespace"]) != (release.pod["serviceAccountName"], release.namespace):
                yield f"a binding for {subject}, which is not the pod's account"
    if bool(roles) != release.pod["automountServiceAccountToken"]:
        yield "a token without rights, or rights without a token"


def pods_are_restricted(release):
    """The Pod Security Standard `restricted`, but for what reads the node's files or network."""
    security = release.pod["securityContext"]
    reads_node = any(volume["hostPath"]["path"].startswith("/var") for volume in release.host_paths())
    if security["runAsNonRoot"] == reads_node or (security["runAsUser"] == 0) != reads_node:
        yield f"{security}: uid 0 where the node's logs are read, and nowhere else"
    if security["seccompProfile"] != {"type": "RuntimeDefault"}:
        yield "no seccomp profile"
    for container in release.containers + release.pod.get("initContainers", []):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]} or not own.get("readOnlyRootFilesystem"):
            yield f"{container['name']}: {own}"
    for volume in release.host_paths():
        mount = next(mount for mount in release.alloy["volumeMounts"] if mount["name"] == volume["name"])
        if not mount.get("readOnly") and mount["mountPath"] != release.flags["storage.path"]:
            yield f"the node's {volume['hostPath']['path']} can be written"


def names_are_names(release):
    seen = set()
    for thing in release.objects:
        name = thing["metadata"]["name"]
        key = (thing["kind"], thing["metadata"].get("namespace"), name)
        if not NAME.fullmatch(name) or len(name) > 63:
            yield f"{name} is no name"
        if key in seen:
            yield f"{key} is there twice"
        seen.add(key)
        if "namespace" not in thing["metadata"] and thing["kind"] not in ("ClusterRole", "ClusterRoleBinding"):
            if thing["metadata"].get("labels"):
                yield f"{key} has no namespace"


RULES = [
    mounts_have_volumes_and_volumes_have_mounts, the_log_is_on_the_claim, claims_do_not_drift, the_configuration_is_mounted,
    selectors_match, ports_exist, members_find_each_other, variables_are_defined, the_pod_may_end_in_peace,
    a_stateful_set_has_its_service, replicas_have_one_master, rights_are_least, pods_are_restricted, names_are_names,
]


def prove(good):
    """Breaks the objects of a good release with a claim, a cluster and a policy. Returns the breaks that no rule found."""
    def put(kind, path, value):
        def change(objects):
            thing = next(thing for thing in objects if thing["kind"] == kind)
            for step in path[:-1]:
                thing = thing[step]
            if value is None:
                del thing[path[-1]]
            else:
                thing[path[-1]] = value
        return change

    spec = ["spec", "template", "spec"]
    alloy = [*spec, "containers", 0]
    breaks = {
        "mount without volume": put("StatefulSet", [*alloy, "volumeMounts", 1, "name"], "nothing"),
        "claim mounted elsewhere": put("StatefulSet", [*alloy, "volumeMounts", 1, "mountPath"], "/data"),
        "claim without kind": put("StatefulSet", ["spec", "volumeClaimTemplates", 0, "kind"], None),
        "a version in the selector": put("StatefulSet", ["spec", "selector", "matchLabels", "helm.sh/chart"], "alloy-1"),
        "another key": put("StatefulSet", [*alloy, "args", 1], "/etc/alloy/other.alloy"),
        "config by subPath": put("StatefulSet", [*alloy, "volumeMounts", 0, "subPath"], "config.alloy"),
        "selector mismatch": put("StatefulSet", ["spec", "selector", "matchLabels", "app.kubernetes.io/name"], "x"),
        "Service of others": put("Service", ["spec", "selector", "app.kubernetes.io/instance"], "x"),
        "budget of others": put("PodDisruptionBudget", ["spec", "selector", "matchLabels", "app.kubernetes.io/name"], "x"),
        "target port": put("Service", ["spec", "ports", 0, "targetPort"], 99),
        "long port name": put("StatefulSet", [*alloy, "ports", 0, "name"], "a-very-long-port-name"),
        "no UDP": put("StatefulSet", [*alloy, "ports", 1, "protocol"], "TCP"),
        "no UDP in the Service": lambda objects: [
            thing["spec"]["ports"].pop() for thing in objects if thing["kind"] == "Service" and thing["spec"].get("clusterIP") == "None"],
        "joins others": put("StatefulSet", [*alloy, "args", 8], "--cluster.join-addresses=x"),
        "not ready, not found": put("Service", ["spec", "publishNotReadyAddresses"], False),
        "no POD_IP": put("StatefulSet", [*alloy, "env", 2, "name"], "POD"),
        "service links": put("StatefulSet", [*spec, "enableServiceLinks"], None),
        "short grace": put("StatefulSet", [*spec, "terminationGracePeriodSeconds"], 30),
        "serviceName": put("StatefulSet", ["spec", "serviceName"], "r-alloy"),
        "probe": put("StatefulSet", [*alloy, "readinessProbe", "httpGet", "port"], 80),
        "token": put("StatefulSet", [*spec, "automountServiceAccountToken"], True),
        "root": put("StatefulSet", [*spec, "securityContext", "runAsNonRoot"], False),
        "capabilities": put("StatefulSet", [*alloy, "securityContext", "capabilities"], None),
        "name": put("StatefulSet", ["metadata", "name"], "Not_a_name"),
        "root is written": put("StatefulSet", [*alloy, "args", 2], "--storage.path=/elsewhere"),
    }
    missed = []
    for name, change in breaks.items():
        objects = copy.deepcopy(good)
        change(objects)
        if not findings(objects):
            missed.append(name)
    return len(breaks), missed
