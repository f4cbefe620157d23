"""Rules for all objects of a deployment, whatever they were rendered from.

Each rule takes the objects and yields what is wrong, a line each.
"""

import os
import re
import subprocess
from functools import cache
from pathlib import Path, PurePosixPath

import companions
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
KEEPER = os.environ.get("KEEPER", REPOSITORY / "target/debug/cni-keeper")

NAME = "cni-keeper"
SELECTOR = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "agent"}
VERSION = re.search(r'^version = "(.+)"$', (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8"), re.MULTILINE)[1]
LABELS = SELECTOR | {
    "app.kubernetes.io/part-of": NAME,
    "app.kubernetes.io/version": VERSION,
    "app.kubernetes.io/managed-by": "kustomize",
}
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "Namespace", "SecurityContextConstraints"}
# The most that an agent may ever be allowed to do.
RIGHTS = {
    ("", "nodes", "get"),
    ("", "nodes", "patch"),
    ("", "nodes/status", "patch"),
    ("", "events", "create"),
    ("", "events", "patch"),
}
CAPABILITIES = ["CHOWN", "DAC_OVERRIDE"]
PROBES = {"startupProbe": None, "livenessProbe": None, "readinessProbe": "/readyz"}
# Mounted so that OpenShift with Multus needs only one other line in the configuration.
SPARE = {"/run/multus/cni"}
# Where a bundle is mounted, and the directory of a node that may hold it.
SEED = "/seed"
SEED_ON_NODE = "/var/lib/cni-keeper-seed"


def of_kind(objects, kind):
    return [one for one in objects if one["kind"] == kind]


def pod(objects):
    return of_kind(companions.without(objects), "DaemonSet")[0]["spec"]["template"]["spec"]


def agent(objects):
    return pod(objects)["containers"][0]


def configuration(objects):
    """The text of it."""
    return next(one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"] == NAME)["data"]["config.yaml"]


def directories(objects):
    """The three directories, and everything else of the node that the configuration and its profile read or ask."""
    config = yaml.safe_load(configuration(objects))
    layers = [config]
    if profile := config.get("profile"):
        built_in = REPOSITORY / f"agent/config/profiles/{profile}.yaml"
        layers.append(yaml.safe_load(built_in.read_text(encoding="utf-8")))

    def value(section, key, default):
        return next((layer[section][key] for layer in layers if key in (layer.get(section) or {})), default)

    places = {
        "binDir": value("paths", "binDir", "/opt/cni/bin"),
        "confDir": value("paths", "confDir", "/etc/cni/net.d"),
    }
    beside = str(PurePosixPath(places["binDir"]).parent / ".cni-keeper")
    places["stateDir"] = value("paths", "stateDir", beside)
    awaited = [gate.get("file") or gate.get("unix") for gate in value("network", "requires", [])]
    awaited += [source.get("envFile") for source in value("network", "facts", [])]
    awaited.append(value("runtime", "endpoint", "").removeprefix("unix://"))
    return places, [path for path in awaited if path]


def node_mounts(objects):
    """The mounted directories of the node: path on the node, path in the container, whether read-only."""
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in pod(objects)["volumes"] if "hostPath" in volume}
    for mount in agent(objects)["volumeMounts"]:
        if mount["name"] in volumes and mount["mountPath"] != SEED:
            yield volumes[mount["name"]], mount["mountPath"], mount.get("readOnly", False)


def holder(objects, path):
    """The mount that contains a path of the node and is not that path itself."""
    for mount in node_mounts(objects):
        if PurePosixPath(mount[0]) in PurePosixPath(path).parents:
            return mount
    return None


def is_uninstall(objects):
    return agent(objects)["args"][0] == "uninstall"


def asks_the_api(objects):
    config = yaml.safe_load(configuration(objects))
    facts = (config.get("network") or {}).get("facts") or []
    declared = config.get("kubernetes") or {}
    return {"kubernetes": "node"} in facts or any(declared.get(key) for key in ("condition", "events", "removeTaint"))


def tokens(objects):
    projected = [volume["projected"]["sources"] for volume in pod(objects)["volumes"] if "projected" in volume]
    kind = "serviceAccountToken"
    return [source[kind] for sources in projected for source in sources if kind in source]


def one_agent(objects):
    """One DaemonSet of one container, which runs the program below the mounts of the node."""
    if len(of_kind(objects, "DaemonSet")) != 1 or len(pod(objects)["containers"]) != 1:
        yield "not one DaemonSet with one container"
    if "initContainers" in pod(objects):
        yield "init containers"
    if agent(objects)["name"] != "agent" or "command" in agent(objects):
        yield "the container is not `agent`, or not the image's own program"
    if agent(objects)["args"] not in (["run", "--host-root", "/host"], ["uninstall", "--stay", "--host-root", "/host"]):
        yield f"args: {agent(objects)['args']}"
    if not re.fullmatch(rf"cni-keeper:{re.escape(VERSION)}(-seed)?", agent(objects)["image"]):
        yield f"image: {agent(objects)['image']}"


def labels(objects):
    for one in objects:
        had = one["metadata"].get("labels", {})
        for key, value in LABELS.items():
            if had.get(key) != value:
                yield f"{one['kind']}: label {key} is {had.get(key)}, not {value}"


def namespaces(objects):
    for one in objects:
        expected = None if one["kind"] in CLUSTER_WIDE else NAME
        if one["metadata"].get("namespace") != expected:
            yield f"{one['kind']}: namespace is {one['metadata'].get('namespace')}, not {expected}"
    for one in of_kind(objects, "Namespace"):
        for mode in ("enforce", "audit", "warn"):
            if one["metadata"]["labels"].get(f"pod-security.kubernetes.io/{mode}") != "privileged":
                yield f"Namespace: host paths are not allowed by pod-security.kubernetes.io/{mode}"


def selector(objects):
    spec = of_kind(objects, "DaemonSet")[0]["spec"]
    if spec["selector"] != {"matchLabels": SELECTOR}:
        yield f"selector: {spec['selector']}"
    given = spec["template"]["metadata"]["labels"]
    for key, value in LABELS.items():
        if given.get(key) != value:
            yield f"pods: label {key} is {given.get(key)}, not {value}"


def rollout(objects):
    strategy = of_kind(objects, "DaemonSet")[0]["spec"]["updateStrategy"]
    if strategy != {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}:
        yield f"updateStrategy: {strategy}"
    if not 0 < pod(objects)["terminationGracePeriodSeconds"] <= 60:
        yield "terminationGracePeriodSeconds"


def before_the_network(objects):
    """It starts on a node that has no network yet, and stays there."""
    expected = {
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-node-critical",
    }
    for key, value in expected.items():
        if pod(objects).get(key) != value:
            yield f"{key}: {pod(objects).get(key)}"
    if pod(objects).get("nodeSelector", {}).get("kubernetes.io/os") != "linux":
        yield "nodeSelector: not Linux alone"


def confinement(objects):
    for key in ("hostPID", "hostIPC", "shareProcessNamespace"):
        if pod(objects).get(key):
            yield key
    expected = {"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}}
    if pod(objects)["securityContext"] != expected:
        yield f"securityContext of the pod: {pod(objects)['securityContext']}"
    had = dict(agent(objects)["securityContext"])
    linux = had.pop("seLinuxOptions", None)
    if linux and not of_kind(objects, "SecurityContextConstraints"):
        yield "seLinuxOptions where nothing asks for them"
    expected = {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
    }
    if had != expected:
        yield f"securityContext: {had}"
    for constraint in of_kind(objects, "SecurityContextConstraints"):
        yield from admits_no_more(constraint, linux)


def admits_no_more(constraint, linux):
    expected = {
        "allowHostDirVolumePlugin": True,
        "allowHostIPC": False,
        "allowHostNetwork": True,
        "allowHostPID": False,
        "allowHostPorts": True,
        "allowPrivilegeEscalation": False,
        "allowPrivilegedContainer": False,
        "allowedCapabilities": CAPABILITIES,
        "requiredDropCapabilities": ["ALL"],
        "readOnlyRootFilesystem": True,
        "seccompProfiles": ["runtime/default"],
        "seLinuxContext": {"type": "MustRunAs", "seLinuxOptions": linux},
        "users": [f"system:serviceaccount:{NAME}:{NAME}"],
    }
    for key, value in expected.items():
        if constraint.get(key) != value:
            yield f"SecurityContextConstraints {key}: {constraint.get(key)}"
    if set(constraint["volumes"]) - {"configMap", "hostPath", "projected", "secret"}:
        yield f"SecurityContextConstraints volumes: {constraint['volumes']}"


def resources(objects):
    """Memory has a limit, for a `/opt` that is kept in memory; the CPU has none: a node waits while the agent works."""
    had = agent(objects).get("resources", {})
    requests, limits = had.get("requests", {}), had.get("limits", {})
    if set(requests) != {"cpu", "memory"} or limits != {"memory": "384Mi"}:
        yield f"resources: {had}"


def token(objects):
    """A token is mounted only if the agent uses the API. It expires, and has only the few rights of the agent."""
    accounts = of_kind(objects, "ServiceAccount")
    if [account["metadata"]["name"] for account in accounts] != [NAME] or pod(objects)["serviceAccountName"] != NAME:
        yield "not an account of its own"
    if pod(objects).get("automountServiceAccountToken") is not False:
        yield "the pod mounts the account's token"
    if any(account.get("automountServiceAccountToken") is not False for account in accounts):
        yield "the account gives its token away"
    roles, bindings = of_kind(objects, "ClusterRole"), of_kind(objects, "ClusterRoleBinding")
    if of_kind(objects, "Role") or of_kind(objects, "RoleBinding") or of_kind(objects, "Secret"):
        yield "rights or secrets besides"
    if (len(tokens(objects)), len(roles), len(bindings)) not in ((0, 0, 0), (1, 1, 1)):
        yield f"{len(tokens(objects))} tokens, {len(roles)} roles, {len(bindings)} bindings"
    if asks_the_api(objects) and not tokens(objects):
        yield "the configuration asks the API server, and there is no token"
    for mounted in tokens(objects):
        if mounted.get("expirationSeconds", 10**9) > 3600:
            yield "the token does not expire within the hour"
    for role in roles:
        for rule in role["rules"]:
            if set(rule) != {"apiGroups", "resources", "verbs"}:
                yield f"ClusterRole: {rule}"
            granted = {(g, r, v) for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
            yield from (f"ClusterRole: {right}" for right in granted - RIGHTS)
    for binding in bindings:
        if binding["subjects"] != [{"kind": "ServiceAccount", "name": NAME, "namespace": NAME}]:
            yield f"ClusterRoleBinding: {binding['subjects']}"
        if binding["roleRef"] != {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}:
            yield f"ClusterRoleBinding: {binding['roleRef']}"


def probes(objects):
    """Its one probe is on loopback, so that nothing on the network can answer for the agent, or reach it. None restarts
    it: another process may have its port."""
    if is_uninstall(objects):
        yield from (f"{probe}: nothing is served" for probe in PROBES if probe in agent(objects))
        return
    listen = (yaml.safe_load(configuration(objects)).get("http") or {}).get("listen", "127.0.0.1:9742")
    for probe, path in PROBES.items():
        asked = agent(objects).get(probe, {}).get("httpGet", {})
        if path is None:
            yield from (f"{probe}: {asked}" for _ in range(probe in agent(objects)))
        elif f"{asked.get('host')}:{asked.get('port')}" != listen or asked.get("path") != path:
            yield f"{probe}: {asked}"
    if "lifecycle" in agent(objects):
        yield "lifecycle: there is no shell in the image"


def config_map(objects):
    """The ConfigMap has one key and a constant name, and is mounted whole, so that a change is seen."""
    ours = [one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"] == NAME]
    if [list(one["data"]) for one in ours] != [["config.yaml"]]:
        yield "not one ConfigMap with one key"
    volumes = [volume["name"] for volume in pod(objects)["volumes"] if volume.get("configMap") == {"name": NAME}]
    mounts = [mount for mount in agent(objects)["volumeMounts"] if mount["name"] in volumes]
    if mounts != [{"name": volumes[0], "mountPath": "/etc/cni-keeper", "readOnly": True}]:
        yield f"mounted as {mounts}"


@cache
def known_variables():
    report = subprocess.run([KEEPER, "run", "--help"], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"\[env: (\w+)=", report))


def environment(objects):
    """The program knows every variable: a misspelt one would have no effect."""
    for variable in agent(objects).get("env", []):
        if variable["name"] not in known_variables():
            yield f"{variable['name']}: the program knows of {sorted(known_variables())}"


def mounts(objects):
    """Parents are mounted, never the directories themselves, and nothing else that is not needed."""
    places, awaited = directories(objects)
    for key, path in places.items():
        mount = holder(objects, path)
        if not mount:
            yield f"{key} {path}: its parent is not mounted"
        elif mount[2] != (yaml.safe_load(configuration(objects)).get("drift", {}).get("policy") == "report"):
            yield f"{key} {path}: writable where only reporting, or the other way round"
    if holder(objects, places["binDir"]) != holder(objects, places["stateDir"]):
        yield "stateDir is on another mount than binDir: publishing would not be a rename"
    yield from (f"{path}: awaited, and its directory is not mounted" for path in awaited if not holder(objects, path))
    needed = {holder(objects, path) for path in [*places.values(), *awaited]}
    writable = {holder(objects, path) for path in places.values()}
    for mount in node_mounts(objects):
        on_node, inside, read_only = mount
        if inside != f"/host{on_node}":
            yield f"{on_node} is mounted at {inside}"
        if len(PurePosixPath(on_node).parts) < 3:
            yield f"{on_node} is too much of the node"
        if mount not in needed and on_node not in SPARE:
            yield f"{on_node} is mounted for nothing"
        if mount not in writable and not read_only and on_node not in SPARE:
            yield f"{on_node} is mounted writable, and only read"
    used = {mount["name"] for mount in agent(objects)["volumeMounts"]}
    yield from (f"volume {v['name']} is not mounted" for v in pod(objects)["volumes"] if v["name"] not in used)


def beside(objects):
    """Volumes other than the node's directories are read-only, and a missing optional object stops no agent."""
    mounted = {mount["name"]: mount for mount in agent(objects)["volumeMounts"]}
    for volume in pod(objects)["volumes"]:
        (kind,) = set(volume) - {"name"}
        mount = mounted.get(volume["name"], {})
        is_seed = mount.get("mountPath") == SEED
        if kind not in ("configMap", "hostPath", "image", "projected", "secret"):
            yield f"a volume of kind {kind}"
        if (kind != "hostPath" or is_seed) and not mount.get("readOnly"):
            yield f"{volume['name']} is mounted writable"
        if kind == "secret" and not volume["secret"].get("optional"):
            yield f"{volume['name']}: the agent does not start without the Secret"
        if is_seed and kind == "hostPath" and volume["hostPath"]["path"] != SEED_ON_NODE:
            yield f"{volume['hostPath']['path']} of the node is mounted as a bundle"
    seeds = [variable["value"] for variable in agent(objects).get("env", []) if variable["name"] == "CNI_KEEPER_SEEDS"]
    if seeds != [SEED] * any(mount["mountPath"] == SEED for mount in mounted.values()):
        yield f"seeds are looked for in {seeds}"


RULES = (
    one_agent,
    labels,
    namespaces,
    selector,
    rollout,
    before_the_network,
    confinement,
    resources,
    token,
    probes,
    config_map,
    environment,
    mounts,
    beside,
)


def broken(objects):
    """The rules that do not hold, each with what is wrong."""
    own = companions.without(objects)
    return [f"{rule.__name__}: {what}" for rule in RULES for what in rule(own)] + list(companions.broken(objects))
