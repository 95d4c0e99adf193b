"""Checks of deploy/ beyond schemas: settings and metrics exist, manifests are consistent, and alerts, dashboard and
runbook agree. lint-deploy.sh calls it with the rendered overlays; it prints all problems."""

import glob
import json
import re
import sys
from pathlib import Path

import yaml

# Settings without a flag, which the table of settings does not have.
ENVIRONMENT_ONLY = {"PHONE_IDENTITY_PEPPERS", "PHONE_IDENTITY_OPERATOR_KEY", "PHONE_IDENTITY_OPERATOR_KEY_FILE"}
# Arguments of the build.
BUILD_ONLY = {"PHONE_IDENTITY_COMMIT", "PHONE_IDENTITY_VERSION"}

problems = []
SETTINGS = Path("docs/reference/settings.md").read_text(encoding="utf-8")
METRICS = Path("docs/reference/metrics.md").read_text(encoding="utf-8")
RUNBOOK = Path("docs/operations/runbook.md").read_text(encoding="utf-8")


def need(condition, problem):
    if not condition:
        problems.append(problem)


def load(path):
    return [document for document in yaml.safe_load_all(Path(path).read_text(encoding="utf-8")) if document]


def settings():
    """Every PHONE_IDENTITY_... in deploy/ and beside it is a setting."""
    known = set(re.findall(r"^\| `--[a-z0-9-]+` \| `([A-Z0-9_]+)` \|", SETTINGS, re.MULTILINE))
    need(len(known) > 40, f"docs/reference/settings.md: only {len(known)} settings were found")
    files = ["Dockerfile", "compose.yaml", "docs/operations/runbook.md"] + glob.glob("deploy/**/*.y*ml", recursive=True)
    for path in files:
        names = set(re.findall(r"\bPHONE_IDENTITY_[A-Z0-9_]*[A-Z0-9]\b", Path(path).read_text(encoding="utf-8")))
        for name in sorted(names - known - ENVIRONMENT_ONLY - BUILD_ONLY):
            problems.append(f"{path}: docs/reference/settings.md has no setting {name}")


def dockerfile():
    version = re.search(r'\[workspace.package\]\nversion = "(.*)"', Path("Cargo.toml").read_text(encoding="utf-8")).group(1)
    text = Path("Dockerfile").read_text(encoding="utf-8")
    need(f"ARG PHONE_IDENTITY_VERSION={version}\n" in text, f"Dockerfile: its version is not {version}, as Cargo.toml has it")


def pins():
    """Actions are pinned by commit and images by digest, each with its tag, which Dependabot updates."""
    for path in glob.glob(".github/workflows/*.y*ml"):
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            used = re.match(r"\s*(?:- )?uses:\s*(\S.*)$", line)
            if used and not used.group(1).startswith("./"):
                is_pinned = re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", used.group(1))
                need(is_pinned, f"{path}:{number}: not pinned as OWNER/NAME@COMMIT # vTAG: {used.group(1)}")
    images = {"Dockerfile": re.findall(r"^FROM (\S+)", Path("Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)}
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", Path("Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in ["compose.yaml"] + glob.glob(".github/workflows/*.y*ml"):
        images[path] = re.findall(r"^\s*image:\s*(\S+)", Path(path).read_text(encoding="utf-8"), re.MULTILINE)
    for path, names in images.items():
        for name in names:
            is_own = name in stages or name == "phone-identity:local"
            is_pinned = re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", name)
            need(is_own or is_pinned, f"{path}: not pinned as NAME:TAG@sha256:DIGEST: {name}")


def compose():
    services = load("compose.yaml")[0]["services"]
    for name, service in services.items():
        for other in service.get("depends_on", []):
            need(other in services, f"compose.yaml: {name} depends on {other}, which is not there")
        for port in service.get("ports", []):
            need(port.startswith("127.0.0.1:"), f"compose.yaml: {name} can be reached from other machines: {port}")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            need(
                Path(source).exists() if source.startswith(".") else source in load("compose.yaml")[0]["volumes"],
                f"compose.yaml: {name}: there is no {source}",
            )


def manifest(path):
    documents = load(path)
    kinds = {document["kind"]: document for document in documents}
    name = Path(path).stem
    deployment = kinds["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for kind in {"Service", "PodDisruptionBudget", "NetworkPolicy"} & kinds.keys():
        spec = kinds[kind]["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        selector = selector.get("matchLabels", selector)
        need(selector and selector.items() <= labels.items(), f"{name}: {kind} is about other Pods: {selector}")
    need(kinds["Service"]["spec"].get("clusterIP") == "None", f"{name}: the Service is not headless")
    need(pod.get("enableServiceLinks") is False, f"{name}: Kubernetes would set variables that look like settings")
    for container in pod["containers"] + pod.get("initContainers", []):
        resources, security = container["resources"], container["securityContext"]
        need("cpu" not in resources["limits"] and "cpu" in resources["requests"], f"{name}: {container['name']}: CPU")
        need(
            security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
            and security["capabilities"] == {"drop": ["ALL"]},
            f"{name}: {container['name']} is not restricted",
        )
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        need(mounted <= {volume["name"] for volume in pod["volumes"]}, f"{name}: {container['name']}: volumes")
        for variable in container["env"]:
            value = str(variable.get("value", ""))
            need(not re.search(r"://[^/]*:[^/]*@", value), f"{name}: {variable['name']} has a password in it")
    for volume in pod["volumes"]:
        # The default, 0644, is refused at the start.
        mode = volume.get("secret", {}).get("defaultMode", 0o644 if "secret" in volume else 0)
        need(mode & 0o007 == 0, f"{name}: volume {volume['name']}: all users can read it (mode {mode:04o})")
    (serving,) = pod["containers"]
    environment = {variable["name"]: variable.get("value") for variable in serving["env"]}
    ports = {port["name"]: port["containerPort"] for port in serving["ports"]}
    for port, setting in (("grpc", "LISTEN"), ("health", "HEALTH_LISTEN"), ("metrics", "METRICS_LISTEN")):
        need(environment.get(f"PHONE_IDENTITY_{setting}") == f"0.0.0.0:{ports[port]}", f"{name}: port {port}")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        need(serving[probe]["grpc"]["port"] == ports["health"], f"{name}: {probe} does not ask the plaintext listener")
        need(serving[probe]["grpc"]["service"] in ("readiness", "liveness"), f"{name}: {probe} asks about nothing")
    seconds = sum(int(environment[f"PHONE_IDENTITY_SHUTDOWN_{part}"].rstrip("s")) for part in ("DELAY", "TIMEOUT"))
    need(pod["terminationGracePeriodSeconds"] > seconds, f"{name}: it is killed before {seconds} s are over")


def metrics():
    """Every metric of alerts, dashboard and runbook is in docs/reference/metrics.md."""
    known = set(re.findall(r"^\| `((?:phone_identity|process)_[a-z0-9_]+)` \|", METRICS, re.MULTILINE))
    need(len(known) > 20, f"docs/reference/metrics.md: only {len(known)} metrics were found")
    for path in (
        "deploy/prometheus/rules/phone-identity.yml",
        "deploy/grafana/dashboards/phone-identity.json",
        "docs/operations/runbook.md",
    ):
        for name in sorted(set(re.findall(r"\b(?:phone_identity|process)_[a-z0-9_]+", Path(path).read_text(encoding="utf-8")))):
            family = re.sub(r"_(bucket|sum|count)$", "", name)
            need({name, family} & known, f"{path}: docs/reference/metrics.md has no metric {name}")


def runbook():
    """Each alert has its section, each section its alert, and links lead there."""
    (rules,) = load("deploy/prometheus/rules/phone-identity.yml")
    (tests,) = load("deploy/prometheus/tests/phone-identity.yml")
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", RUNBOOK, re.MULTILINE)}
    for link in re.findall(r"\]\(#([^)]*)\)", RUNBOOK):
        need(link in anchors, f"docs/operations/runbook.md: there is no section #{link}")
    sections = set(re.findall(r"^### (PhoneIdentity\w+)$", RUNBOOK, re.MULTILINE))
    need(sections == alerts.keys(), f"docs/operations/runbook.md: sections and alerts differ: {sorted(sections ^ alerts.keys())}")
    for name, rule in alerts.items():
        url = rule["annotations"]["runbook_url"]
        need(url == f"docs/operations/runbook.md#{name.lower()}", f"alert {name} leads to {url}")
        need(rule["labels"]["severity"] in ("critical", "warning"), f"alert {name}: severity")
    fires = {case["alertname"] for test in tests["tests"] for case in test["alert_rule_test"] if case["exp_alerts"]}
    need(fires == alerts.keys(), f"alerts that no test lets fire: {sorted(alerts.keys() - fires)}")


def dashboard():
    board = json.loads(Path("deploy/grafana/dashboards/phone-identity.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    need(len(ids) == len(set(ids)), "the dashboard has two panels of one id")
    for panel in board["panels"]:
        need(panel["type"] == "row" or panel["targets"], f"panel {panel['title']} shows nothing")


settings()
dockerfile()
pins()
compose()
for rendered in sys.argv[1:]:
    manifest(rendered)
metrics()
runbook()
dashboard()
for problem in problems:
    print(f"error: {problem}", file=sys.stderr)
sys.exit(1 if problems else 0)
