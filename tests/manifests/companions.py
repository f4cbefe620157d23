"""Rules for what may run beside the agent: the components that are programs of their own.

As in rules.py, each rule takes the objects and yields what is wrong, a line each. It looks at one companion.
"""

import re
from dataclasses import dataclass, field

NAMESPACE = "cni-keeper"
COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Companion:
    """What a component is made of, and the most that it may do."""

    name: str
    # Of the program, as the label has it.
    program: str
    workload: str
    image: str
    kinds: tuple
    # What is granted for the cluster and in the namespace: group, resource, verb, names.
    cluster: frozenset = frozenset()
    namespaced: frozenset = frozenset()
    capabilities: tuple = ()
    user: int = 0
    writable_root: bool = False
    # Paths of the node: which, and whether it may write there.
    paths: dict = field(default_factory=dict)
    system: str = "linux"


def rights(group, resource, verbs, names=()):
    return {(group, resource, verb, names) for verb in verbs.split()}


WITH_API = ("ClusterRole", "ClusterRoleBinding", "ServiceAccount")
NODE_RANGES = Companion(
    name="node-ranges",
    program="kube-controller-manager",
    workload="Deployment",
    image="registry.k8s.io/kube-controller-manager:v1.37.2",
    kinds=(*WITH_API, "Deployment", "Role", "RoleBinding"),
    cluster=frozenset(rights("", "nodes", "list watch patch") | rights("", "events", "create patch")),
    namespaced=frozenset(
        rights("coordination.k8s.io", "leases", "create")
        | rights("coordination.k8s.io", "leases", "get update", ("node-ranges",))
    ),
    user=65532,
)
FLANNELD = Companion(
    name="flanneld",
    program="flannel",
    workload="DaemonSet",
    image="ghcr.io/flannel-io/flannel:v0.28.10",
    kinds=(*WITH_API, "ConfigMap", "DaemonSet"),
    cluster=frozenset(rights("", "nodes", "get list watch") | rights("", "nodes/status", "patch")),
    capabilities=("NET_ADMIN", "NET_RAW"),
    writable_root=True,
    paths={"/run/flannel": True, "/run/xtables.lock": True},
)
WINDOWS = Companion(
    name="windows-kube-proxy",
    program="windows-kube-proxy",
    workload="DaemonSet",
    image="mcr.microsoft.com/oss/kubernetes/windows-host-process-containers-base-image:v1.0.0",
    kinds=("ConfigMap", "DaemonSet", "ServiceAccount"),
    system="windows",
)
COMPANIONS = {one.name: one for one in (NODE_RANGES, FLANNELD, WINDOWS)}
ARGUMENTS = {
    "node-ranges": [
        "--controllers=node-ipam-controller",
        "--allocate-node-cidrs=true",
        "--cluster-cidr=$(CLUSTER_CIDR)",
        "--configure-cloud-routes=false",
        "--leader-elect=true",
        "--leader-elect-resource-name=node-ranges",
        "--leader-elect-resource-namespace=cni-keeper",
        "--bind-address=127.0.0.1",
        "--secure-port=9744",
        "--authentication-skip-lookup=true",
    ],
    "flanneld": ["--kube-subnet-mgr", "--ip-masq", "--healthz-ip=127.0.0.1", "--healthz-port=8081"],
    "windows-kube-proxy": None,
}
# The probes that a companion must have, with what they ask.
PROBES = {
    "node-ranges": {"livenessProbe": ("HTTPS", 9744, "/healthz")},
    "flanneld": {"livenessProbe": ("HTTP", 8081, "/healthz"), "readinessProbe": ("HTTP", 8081, "/readyz")},
    "windows-kube-proxy": {},
}


def component(one):
    return one["metadata"].get("labels", {}).get(COMPONENT)


def without(objects):
    """The objects that are not a companion's: the agent's own, and whatever is labelled wrongly."""
    return [one for one in objects if component(one) not in COMPANIONS]


def parts(objects, companion):
    return [one for one in objects if component(one) == companion.name]


def the(objects, companion, kind):
    return next((one for one in parts(objects, companion) if one["kind"] == kind), None)


def pod(objects, companion):
    return the(objects, companion, companion.workload)["spec"]["template"]["spec"]


def container(objects, companion):
    return pod(objects, companion)["containers"][0]


def what_it_is_made_of(objects, companion):
    kinds = sorted(one["kind"] for one in parts(objects, companion))
    if kinds != sorted(companion.kinds):
        yield f"{kinds}, not {sorted(companion.kinds)}"
    if len(pod(objects, companion)["containers"]) != 1 or "initContainers" in pod(objects, companion):
        yield "not one container: it installs nothing"


def labels_and_places(objects, companion):
    expected = {
        "app.kubernetes.io/name": companion.program,
        "app.kubernetes.io/part-of": "cni-keeper",
        "app.kubernetes.io/managed-by": "kustomize",
        COMPONENT: companion.name,
    }
    for one in parts(objects, companion):
        whole = one["kind"].startswith("Cluster")
        if one["metadata"]["labels"] != expected:
            yield f"{one['kind']}: {one['metadata']['labels']}"
        if one["metadata"].get("namespace") != (None if whole else NAMESPACE):
            yield f"{one['kind']}: namespace {one['metadata'].get('namespace')}"
        # kustomize may add a hash of its content to the name of a ConfigMap.
        name = re.sub("-[a-z0-9]{10}$" if one["kind"] == "ConfigMap" else "$", "", one["metadata"]["name"])
        if name != (f"cni-keeper-{companion.name}" if whole else companion.name):
            yield f"{one['kind']}: name {one['metadata']['name']}"
    spec = the(objects, companion, companion.workload)["spec"]
    if spec["template"]["metadata"]["labels"] != expected:
        yield f"pods: {spec['template']['metadata']['labels']}"
    found_by = {key: expected[key] for key in ("app.kubernetes.io/name", COMPONENT)}
    if spec["selector"] != {"matchLabels": found_by}:
        yield f"selector: {spec['selector']}"


def program(objects, companion):
    had = container(objects, companion)
    if had["image"] != companion.image:
        yield f"image: {had['image']}"
    if had.get("args") != ARGUMENTS[companion.name]:
        yield f"args: {had.get('args')}"
    for port in had.get("ports", []):
        # On the network of the node these are one; the API server does not write the second for a template.
        if port.get("hostPort") != port["containerPort"]:
            yield f"ports: {port}"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = had.get(probe, {}).get("httpGet")
        expected = PROBES[companion.name].get(probe)
        given = asked and (asked.get("scheme", "HTTP"), asked["port"], asked["path"])
        if given != expected or (asked and asked.get("host") != "127.0.0.1"):
            yield f"{probe}: {asked}"


def granted(role):
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from rights(group, resource, " ".join(rule["verbs"]), tuple(rule.get("resourceNames", ())))


def rights_are_least(objects, companion):
    """Exactly what it needs, given to its own account alone."""
    for kind, binding, expected in (
        ("ClusterRole", "ClusterRoleBinding", companion.cluster),
        ("Role", "RoleBinding", companion.namespaced),
    ):
        role, bound = the(objects, companion, kind), the(objects, companion, binding)
        had = set(granted(role)) if role else set()
        if had != expected:
            yield f"{kind}: {sorted(had ^ expected)}"
        if not bound:
            continue
        if bound["subjects"] != [{"kind": "ServiceAccount", "name": companion.name, "namespace": NAMESPACE}]:
            yield f"{binding}: {bound['subjects']}"
        name = role["metadata"]["name"] if role else None
        if bound["roleRef"] != {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}:
            yield f"{binding}: {bound['roleRef']}"


def token_of_its_own(objects, companion):
    for one in (the(objects, companion, "ServiceAccount"), pod(objects, companion)):
        if one.get("automountServiceAccountToken") is not False:
            yield "the account's token is mounted"
    if pod(objects, companion)["serviceAccountName"] != companion.name:
        yield f"serviceAccountName: {pod(objects, companion)['serviceAccountName']}"
    projected = [v["projected"]["sources"] for v in pod(objects, companion).get("volumes", []) if "projected" in v]
    kind = "serviceAccountToken"
    lives = [s[kind]["expirationSeconds"] for sources in projected for s in sources if kind in s]
    if lives != [3600] * bool(companion.cluster):
        yield f"tokens that live for {lives} s"


def confined(objects, companion):
    for key in ("hostPID", "hostIPC", "shareProcessNamespace"):
        if pod(objects, companion).get(key):
            yield key
    mounted = {mount["name"]: not mount.get("readOnly") for mount in container(objects, companion)["volumeMounts"]}
    paths = {v["hostPath"]["path"]: mounted[v["name"]] for v in pod(objects, companion)["volumes"] if "hostPath" in v}
    if paths != companion.paths:
        yield f"paths of the node: {paths}"
    if companion.system == "windows":
        yield from confined_on_windows(objects, companion)
    else:
        yield from confined_on_linux(objects, companion)


def confined_on_windows(objects, companion):
    """Kubernetes has nothing that confines a HostProcess container. So it gets no right and no token."""
    expected = {"windowsOptions": {"hostProcess": True, "runAsUserName": "NT AUTHORITY\\SYSTEM"}}
    if pod(objects, companion)["securityContext"] != expected or "securityContext" in container(objects, companion):
        yield f"securityContext: {pod(objects, companion)['securityContext']}"


def confined_on_linux(objects, companion):
    security = pod(objects, companion)["securityContext"]
    expected = {"runAsUser": companion.user, "runAsGroup": companion.user, "seccompProfile": {"type": "RuntimeDefault"}}
    if companion.user:
        expected["runAsNonRoot"] = True
    if security != expected:
        yield f"securityContext of the pod: {security}"
    had = container(objects, companion)["securityContext"]
    expected = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if companion.capabilities:
        expected["capabilities"]["add"] = list(companion.capabilities)
    if not companion.writable_root:
        expected["readOnlyRootFilesystem"] = True
    if had != expected:
        yield f"securityContext: {had}"


def before_the_network(objects, companion):
    """It starts on a node that has no network yet, by the node's own addresses."""
    expected = {"hostNetwork": True, "dnsPolicy": "Default", "enableServiceLinks": False}
    expected["nodeSelector"] = {"kubernetes.io/os": companion.system}
    for key, value in expected.items():
        if pod(objects, companion).get(key) != value:
            yield f"{key}: {pod(objects, companion).get(key)}"
    tolerated = {toleration.get("key") for toleration in pod(objects, companion)["tolerations"]}
    if None not in tolerated and not {"node.kubernetes.io/not-ready", "cni-keeper.dev/not-ready"} <= tolerated:
        yield f"tolerations: {sorted(tolerated)}"
    if companion.workload == "Deployment" and None in tolerated:
        yield "tolerations: it would never leave a node that is lost or drained"
    if not pod(objects, companion)["priorityClassName"].startswith("system-"):
        yield f"priorityClassName: {pod(objects, companion)['priorityClassName']}"


RULES = (
    what_it_is_made_of,
    labels_and_places,
    program,
    rights_are_least,
    token_of_its_own,
    confined,
    before_the_network,
)


def broken(objects):
    """The rules that do not hold, each with the companion and what is wrong."""
    for companion in COMPANIONS.values():
        if parts(objects, companion):
            for rule in RULES:
                yield from (f"{rule.__name__}: {companion.name}: {what}" for what in rule(objects, companion))
