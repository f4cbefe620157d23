#!/usr/bin/python3
"""Every kustomization: rendered by kubectl, held against the API's own schemas, against the rules, and its
configuration against the agent.

scripts/manifests runs it and brings what it needs.
"""

import copy
import json
import os
import re
import subprocess
import tempfile
import textwrap
import unittest
from functools import cache, reduce
from operator import getitem
from pathlib import Path

import companions
import rules
import schemas
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
MANIFESTS = REPOSITORY / "manifests"

# What an operator might fill in for each FILL-IN, by its place and, if that is not enough, by its text.
ANSWERS = (
    (r"network\.podRanges\[\d+\]", "10.244.0.0/16"),
    (r"network\.facts\[\d+\]\.values\.node\.podCIDR", "10.244.1.0/24"),
    (r"network\.facts\[\d+\]\.values\.romana\.etcdEndpoints", ["http://10.96.0.88:12379"]),
    (r"artifacts\[\d+\]\.version", "v1.0.0"),
    (r"artifacts\[\d+\]\.sources\[\d+\]: FILL-IN: oci://", "oci://registry.example/cni@sha256:" + "ab" * 32),
    (r"artifacts\[\d+\]\.sha256\.amd64", "cd" * 32),
    (r"artifacts\[\d+\]\.sources\[\d+\]: ", "https://mirror.example/{arch}/{version}.tgz"),
)

# Fields that an older version does not know, by the component that uses them.
UNKNOWN = {"components/seed-image": [("DaemonSet", "1.25")]}


def kinds_of(kind):
    """The directories with a kustomization of that kind, by their path below manifests."""
    files = sorted(MANIFESTS.rglob("kustomization.yaml"))
    chosen = [file for file in files if yaml.safe_load(file.read_text(encoding="utf-8"))["kind"] == kind]
    return [str(file.parent.relative_to(MANIFESTS)) for file in chosen]


def kustomize(directory):
    made = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, check=False)
    if made.returncode:
        raise AssertionError(made.stderr)
    return [document for document in yaml.safe_load_all(made.stdout) if document]


@cache
def rendered(*parts):
    """The first directory with the components that follow it. Do not change the result: it is cached."""
    if len(parts) == 1:
        return kustomize(MANIFESTS / parts[0])
    with tempfile.TemporaryDirectory() as overlay:
        base, *components = [os.path.relpath(MANIFESTS / part, overlay) for part in parts]
        text = yaml.safe_dump({"resources": [base], "components": components})
        (Path(overlay) / "kustomization.yaml").write_text(text, encoding="utf-8")
        return kustomize(overlay)


def deployments():
    """Everything that can be applied: each kustomization of the repository, and the base with each component."""
    for directory in kinds_of("Kustomization"):
        yield (directory,)
    for component in kinds_of("Component"):
        below = ("base",)
        if component.startswith("components/kubernetes-") and component != "components/kubernetes-api":
            below = ("base", "components/kubernetes-api")
        yield (*below, component)
    yield ("overlays/aks-byocni", "components/kubernetes-reports", "components/kubernetes-taint")
    yield ("overlays/k3s", "components/uninstall")


def kustomized_text(text):
    """The text of a kustomization beside a checkout in `cni-keeper`, as pages show it."""
    with tempfile.TemporaryDirectory() as overlay:
        text = text.replace("../cni-keeper/manifests", os.path.relpath(MANIFESTS, overlay))
        (Path(overlay) / "kustomization.yaml").write_text(text, encoding="utf-8")
        return kustomize(overlay)


def filled_in_copy(name, cidr):
    """A copy of an overlay, made elsewhere and with its pod-range.yaml filled in."""
    directory = MANIFESTS / "overlays" / name
    with tempfile.TemporaryDirectory() as copied:
        for file in directory.iterdir():
            text = file.read_text(encoding="utf-8")
            text = re.sub(r'"FILL-IN: .*"', cidr, text) if file.name == "pod-range.yaml" else text
            text = text.replace("../..", os.path.relpath(MANIFESTS, copied))
            (Path(copied) / file.name).write_text(text, encoding="utf-8")
        return kustomize(copied)


def validate(text):
    """What `cni-keeper validate` says of a configuration."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "config.yaml"
        file.write_text(text, encoding="utf-8")
        ran = subprocess.run(
            [rules.KEEPER, "validate", "--output", "json", file], capture_output=True, text=True, check=False, env={}
        )
        report = json.loads(ran.stdout)
        report["errors"] = [error.removeprefix(f"{file}:") for error in report["errors"]]
        return ran.returncode, report


def open_questions(text):
    """Each FILL-IN of a configuration: its line, the keys that lead to it, and its text."""

    def search(node, keys):
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield from search(value, (*keys, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield from search(value, (*keys, index))
        elif node.value.startswith("FILL-IN: "):
            yield node.start_mark.line + 1, keys, node.value

    return list(search(yaml.compose(text), ()))


def place(keys):
    """As the agent writes it."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


def answered(text):
    """The configuration with each FILL-IN replaced by an answer."""
    tree = yaml.safe_load(text)
    for _, keys, what in open_questions(text):
        *path, last = keys
        answers = (answer for where, answer in ANSWERS if re.match(where, f"{place(keys)}: {what}"))
        reduce(getitem, path, tree)[last] = next(answers)
    return tree


def uncommented(text):
    """The keys under `fetch` in the comment at the top of a component."""
    comment = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines() if line.startswith("#"))
    inline = re.search(r"`fetch: (\{.*?\})`", comment)
    return yaml.safe_load(inline[1] if inline else re.search(r"  fetch:\n((?: {4}.*\n)+)", comment)[1])


def mounted_in(objects):
    return {mount["mountPath"] for mount in rules.agent(objects)["volumeMounts"]}


class Rendered(unittest.TestCase):
    def test_the_schemas_of_the_api_know_every_field(self):
        for parts in deployments():
            for one in filter(schemas.has, rendered(*parts)):
                for version in schemas.VERSIONS:
                    with self.subTest(" + ".join(parts), kind=one["kind"], version=version):
                        found = schemas.mistakes(one, version)
                        if (one["kind"], version) in UNKNOWN.get(parts[-1], ()):
                            self.assertEqual(len(found), 1)
                        else:
                            self.assertEqual(found, [])

    def test_the_rules_hold(self):
        for parts in deployments():
            with self.subTest(" + ".join(parts)):
                self.assertEqual(rules.broken(rendered(*parts)), [])

    def test_no_component_is_without_effect(self):
        """kustomize does not report a patch that changes nothing."""
        for *below, component in (parts for parts in deployments() if len(parts) > 1):
            with self.subTest(component):
                self.assertNotEqual(rendered(*below, component), rendered(*below))

    def test_who_has_a_token_needs_it(self):
        for directory in kinds_of("Kustomization"):
            with self.subTest(directory):
                objects = rendered(directory)
                self.assertEqual(bool(rules.tokens(objects)), rules.asks_the_api(objects))

    def test_each_step_of_rights_adds_its_own(self):
        steps = [f"components/kubernetes-{part}" for part in ("api", "reports", "taint")]
        granted = []
        for count in (1, 2, 3):
            role = rules.of_kind(rendered("base", *steps[:count]), "ClusterRole")[0]
            granted.append({(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]})
        self.assertEqual(granted[0], {("nodes", "get")})
        self.assertEqual(
            granted[1] - granted[0], {("nodes/status", "patch"), ("events", "create"), ("events", "patch")}
        )
        self.assertEqual(granted[2] - granted[1], {("nodes", "patch")})

    def test_all_the_platforms_are_there(self):
        platforms = "aks-byocni aks-byocni-flannel mke-unmanaged k0s rke2 k3s microk8s openshift gke-cos".split()
        platforms += ["airgap-seed", "report-only"]
        self.assertLessEqual({f"overlays/{platform}" for platform in platforms}, set(kinds_of("Kustomization")))

    def test_an_operators_own_overlay_takes_any_of_them(self):
        """As the comments at the top say: the image has another name."""
        for directory in kinds_of("Kustomization"):
            with self.subTest(directory), tempfile.TemporaryDirectory() as overlay:
                kustomization = {
                    "resources": [os.path.relpath(MANIFESTS / directory, overlay)],
                    "images": [{"name": "cni-keeper", "newName": "mirror.example/cni-keeper", "newTag": "9"}],
                }
                (Path(overlay) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
                self.assertEqual(rules.agent(kustomize(overlay))["image"], "mirror.example/cni-keeper:9")

    def test_the_example_of_the_readme(self):
        text = re.search(r"```yaml\n(.*?)```", (MANIFESTS / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
        with tempfile.TemporaryDirectory() as overlay:
            text = text.replace("../cni-keeper/manifests", os.path.relpath(MANIFESTS, overlay))
            (Path(overlay) / "kustomization.yaml").write_text(text, encoding="utf-8")
            (Path(overlay) / "config.yaml").write_text("mine: yes", encoding="utf-8")
            objects = kustomize(overlay)
        self.assertEqual(rules.agent(objects)["image"], "registry.example/cni-keeper:0.1.0")
        self.assertEqual(rules.configuration(objects), "mine: yes")
        self.assertEqual(len(rules.of_kind(objects, "ClusterRole")[0]["rules"]), 3)

    def test_the_readme_gives_no_two_nodes_one_range(self):
        """Runs the script for a cluster in which some nodes have a range already, as after an autoscaler added one."""
        readme = (MANIFESTS / "README.md").read_text(encoding="utf-8")
        script = textwrap.dedent(re.search(r"( *next=\$\(kubectl.*?done\n)", readme, re.DOTALL)[1])
        kubectl = """kubectl() {
          case $* in
            *jsonpath*) printf '%s\\n' 10.244.3.0/24 '' 10.244.11.0/24 '' ;;
            *go-template*) printf 'b d ' ;;
            *) printf '%s\\n' "$*" ;;
          esac
        }
        """
        report = subprocess.run(["bash", "-euc", kubectl + script], capture_output=True, check=True, text=True).stdout
        given = [(words[2], json.loads(" ".join(words[6:]))["spec"]) for words in map(str.split, report.splitlines())]
        self.assertEqual(
            given,
            [(node, {"podCIDR": cidr, "podCIDRs": [cidr]}) for node, cidr in (("b", "10.244.12.0/24"), ("d", "10.244.13.0/24"))],
        )
        fresh = kubectl.replace("10.244.3.0/24 '' 10.244.11.0/24 ''", "''")
        report = subprocess.run(["bash", "-euc", fresh + script], capture_output=True, check=True, text=True).stdout
        self.assertEqual(re.findall(r'podCIDR": "(.*?)"', report), ["10.244.0.0/24", "10.244.1.0/24"])

    def test_one_range_reaches_all_that_need_it(self):
        """As the overlays say: an operator fills in pod-range.yaml, and node-ranges and flanneld get the same."""
        for name, has_ranges in (("aks-byocni-flannel", True), ("k0s", False)):
            for answer in (None, "10.248.0.0/14"):
                with self.subTest(name, answer=answer):
                    objects = filled_in_copy(name, answer) if answer else rendered(f"overlays/{name}")
                    data = companions.the(objects, companions.FLANNELD, "ConfigMap")["data"]
                    self.assertEqual(list(data), ["net-conf.json"])
                    declared = json.loads(data["net-conf.json"])
                    self.assertEqual(declared, {"Network": declared["Network"], "Backend": {"Type": "vxlan"}})
                    self.assertRegex(declared["Network"], f"^{answer}$" if answer else "^FILL-IN: ")
                    self.assertEqual([one for one in objects if one["metadata"]["name"] == "pod-range"], [])
                    self.assertEqual(bool(companions.parts(objects, companions.NODE_RANGES)), has_ranges)
                    if has_ranges:
                        given = companions.container(objects, companions.NODE_RANGES)["env"]
                        self.assertEqual(given, [{"name": "CLUSTER_CIDR", "value": declared["Network"]}])

    def test_nobody_but_node_ranges_gives_a_node_its_range(self):
        for parts in deployments():
            patches = {
                (one["metadata"]["name"], right)
                for one in rendered(*parts)
                if one["kind"] == "ClusterRole"
                for right in companions.granted(one)
                if right[1:3] in (("nodes", "patch"), ("nodes", "update"))
            }
            with self.subTest(parts):
                allowed = {("cni-keeper-node-ranges", ("", "nodes", "patch", ()))}
                if "components/kubernetes-taint" in parts:
                    allowed.add(("cni-keeper", ("", "nodes", "patch", ())))
                self.assertLessEqual(patches, allowed)

    def test_the_readme_lists_them_all(self):
        text = (MANIFESTS / "README.md").read_text(encoding="utf-8")
        listed = {
            target.removesuffix("/README.md") for target in re.findall(r"\]\(((?:overlays|components)/[^)]+)\)", text)
        }
        there = {directory for kind in ("Kustomization", "Component") for directory in kinds_of(kind)}
        self.assertEqual(listed, {directory for directory in there if re.match("overlays|components", directory)})


class Configurations(unittest.TestCase):
    def test_validate_names_exactly_what_is_to_be_filled_in(self):
        for directory in kinds_of("Kustomization"):
            with self.subTest(directory):
                text = rules.configuration(rendered(directory))
                code, report = validate(text)
                expected = [f"{line}: {place(keys)}: {what}" for line, keys, what in open_questions(text)]
                self.assertEqual(report["errors"], expected)
                self.assertEqual((code, report["valid"]), (64, False) if expected else (0, True))

    def test_filled_in_they_are_valid(self):
        for directory in kinds_of("Kustomization"):
            with self.subTest(directory):
                code, report = validate(yaml.safe_dump(answered(rules.configuration(rendered(directory)))))
                self.assertEqual((code, report["errors"], report["warnings"]), (0, [], []))

    def test_only_what_the_operator_alone_knows_is_asked_for(self):
        asked = {
            "overlays/aks-byocni": {"artifacts[0].sources[0]", "network.podRanges[0]"},
            "overlays/aks-byocni-flannel": {
                "artifacts[0].sources[0]",
                "artifacts[1].sources[0]",
                "artifacts[1].sha256.amd64",
                "network.podRanges[0]",
            },
            "overlays/mke-unmanaged": {"artifacts[0].sources[0]", "network.podRanges[0]"},
            "overlays/k0s": {"artifacts[0].sha256.amd64", "network.podRanges[0]"},
            "overlays/rke2": set(),
            "overlays/k3s": set(),
            "overlays/microk8s": set(),
            "overlays/openshift": {"network.podRanges[0]"},
            "overlays/gke-cos": {"network.podRanges[0]"},
            "overlays/airgap-seed": {"network.podRanges[0]"},
            "overlays/report-only": {"network.podRanges[0]"},
            "profiles/flannel": {"artifacts[0].sha256.amd64"},
            "profiles/calico": {"artifacts[0].version", "artifacts[0].sources[0]"},
            "profiles/canal": {"artifacts[0].version", "artifacts[0].sources[0]"},
            "profiles/cilium": {"artifacts[0].version", "artifacts[0].sources[0]"},
        }
        for directory, places in asked.items():
            text = rules.configuration(rendered(directory))
            self.assertEqual({place(keys) for _, keys, _ in open_questions(text)}, places, directory)

    def test_a_digest_that_nobody_vouches_for_is_asked_for(self):
        """The catalog has the public digests; every other is a FILL-IN that says where it is to be had."""
        catalog = json.loads((REPOSITORY / "agent/config/pins.json").read_text(encoding="utf-8"))
        releases = [one for project in catalog["projects"] for one in project["releases"]]
        public = {(one["version"], asset["arch"]): asset["sha256"] for one in releases for asset in one["assets"]}
        looked_at = 0
        for directory in kinds_of("Kustomization"):
            config = yaml.safe_load(rules.configuration(rendered(directory)))
            for artifact in config.get("artifacts", []):
                for arch, digest in (artifact.get("sha256") or {}).items():
                    with self.subTest(directory, artifact=artifact["name"], arch=arch):
                        expected = public.get((artifact["version"], arch))
                        self.assertRegex(digest, f"^{expected}$" if expected else r"^FILL-IN: .*\.sha256, which lies beside")
                        looked_at += 1
        self.assertGreaterEqual(looked_at, 6)

    def test_images_are_named_by_a_digest_that_says_how_it_is_found(self):
        for profile in ("calico", "canal", "cilium", "romana", "weave"):
            text = rules.configuration(rendered(f"profiles/{profile}"))
            images = [what for _, keys, what in open_questions(text) if "sources" in keys]
            self.assertTrue(images, profile)
            for image in images:
                self.assertRegex(image, r"^FILL-IN: oci://.*@sha256:DIGEST, .*`skopeo inspect --format '{{\.Digest}}' docker://")

    def test_aks_refuses_the_ranges_that_azure_keeps(self):
        for platform in ("aks-byocni", "aks-byocni-flannel"):
            with self.subTest(platform):
                self.refuses_the_ranges_that_azure_keeps(answered(rules.configuration(rendered(f"overlays/{platform}"))))

    def refuses_the_ranges_that_azure_keeps(self, config):
        for taken in ("169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24"):
            config["network"]["podRanges"] = [taken]
            code, report = validate(yaml.safe_dump(config))
            self.assertEqual(code, 64, taken)
            self.assertTrue(any(error.count(taken) == 2 for error in report["errors"]), report["errors"])
        # A range that contains a reserved one is refused as well.
        config["network"]["podRanges"] = ["172.16.0.0/12"]
        code, report = validate(yaml.safe_dump(config))
        self.assertEqual(code, 64)
        self.assertTrue(any("172.30.0.0/16" in error for error in report["errors"]), report["errors"])

    def test_images_of_platforms_keep_their_own_plugins(self):
        for platform in ("aks-byocni", "aks-byocni-flannel", "gke-cos"):
            config = yaml.safe_load(rules.configuration(rendered(f"overlays/{platform}")))
            kept = {artifact["name"]: artifact.get("ifPresent") for artifact in config["artifacts"]}
            self.assertEqual(kept["cni-plugins"], "keep")

    def test_without_a_way_out_the_bundle_of_the_image_is_asked(self):
        """tests/suite proves that a bundle is enough; this checks that the agent asks the bundle of the image."""
        config = yaml.safe_load(rules.configuration(rendered("overlays/airgap-seed")))
        self.assertEqual(config["seeds"], [rules.SEED])
        self.assertIn(f"COPY --from=archives {rules.SEED} {rules.SEED}", (REPOSITORY / "Dockerfile").read_text("utf-8"))

    def test_what_the_readmes_lay_over_a_profile_is_valid(self):
        for directory, profile in (("", "flannel"), ("profiles", "calico")):
            text = (MANIFESTS / directory / "README.md").read_text(encoding="utf-8")
            examples = [yaml.safe_load(example) for example in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
            laid_over = [example for example in examples if "kind" not in example]
            self.assertEqual(len(laid_over), 1)
            with self.subTest(profile):
                text = (MANIFESTS / f"profiles/{profile}/config.yaml").read_text(encoding="utf-8")
                config = yaml.safe_dump(answered(text) | laid_over[0]).replace("DIGEST", "ab" * 32)
                code, report = validate(config)
                self.assertEqual((code, report["errors"], report["warnings"]), (0, [], []))

    def test_what_the_components_say_of_the_configuration_is_valid(self):
        """Each file that the configuration names for a component lies where the component mounts it."""
        for component, keys in {
            "private-ca": {"caFile"},
            "registry-credentials": {"registryConfig"},
            "mirror-access": {"access"},
        }.items():
            with self.subTest(component):
                text = (MANIFESTS / f"components/{component}/kustomization.yaml").read_text(encoding="utf-8")
                before, after = rendered("base"), rendered("base", f"components/{component}")
                (mounted,) = mounted_in(after) - mounted_in(before)
                fetch = uncommented(text)
                self.assertEqual(set(fetch), keys)
                files = re.findall(r"'(/[^']+)'", str(fetch))
                self.assertTrue(files)
                self.assertEqual([file for file in files if not file.startswith(f"{mounted}/")], [])
                config = answered((MANIFESTS / "base/config.yaml").read_text(encoding="utf-8"))
                code, report = validate(yaml.safe_dump(config | {"fetch": fetch}))
                self.assertEqual((code, report["errors"]), (0, []))


def at(start, path, value):
    """A change of one field; None removes it. `~` stands for a slash in a key."""

    def apply(objects):
        *steps, last = [int(step) if step.isdigit() else step.replace("~", "/") for step in path.split("/")]
        parent = reduce(getitem, steps, start(objects))
        if value is None:
            del parent[last]
        else:
            parent[last] = value

    return apply


def first(kind, path, value):
    return at(lambda objects: rules.of_kind(objects, kind)[0], path, value)


def change(path, value):
    """One field of the pod, or of its container: `agent/…`."""
    whose, _, rest = path.partition("/")
    return at({"agent": rules.agent, "pod": rules.pod}[whose], rest, value)


def beside(which, kind, path, value):
    """A change of an object of a companion; `pod/…` and `container/…` of its pod."""
    places = {"pod": companions.pod, "container": companions.container}
    whose, _, rest = path.partition("/")
    if whose in places:
        return at(lambda objects: places[whose](objects, which), rest, value)
    return at(lambda objects: companions.the(objects, which, kind), path, value)


def ranges(kind, path, value):
    return ("overlays/aks-byocni-flannel", beside(companions.NODE_RANGES, kind, path, value))


def flanneld(kind, path, value):
    return ("overlays/aks-byocni-flannel", beside(companions.FLANNELD, kind, path, value))


def windows(kind, path, value):
    return ("windows", beside(companions.WINDOWS, kind, path, value))


def spec(path, value):
    return first("DaemonSet", path, value)


def mount(on_node, inside=None, **more):
    """One more directory of the node."""

    def apply(objects):
        rules.pod(objects)["volumes"].append({"name": "more", "hostPath": {"path": on_node}})
        rules.agent(objects)["volumeMounts"].append({"name": "more", "mountPath": inside or f"/host{on_node}"} | more)

    return apply


def volume(mountPath="/more", readOnly=False, **source):
    """A volume of any kind."""

    def apply(objects):
        rules.pod(objects)["volumes"].append(source)
        mounted = {"name": source["name"], "mountPath": mountPath, "readOnly": readOnly}
        rules.agent(objects)["volumeMounts"].append(mounted)

    return apply


def leaf(objects):
    """Mounts the directory itself instead of its parent."""
    volume = next(v for v in rules.pod(objects)["volumes"] if v["name"] == "opt-cni")
    volume["hostPath"]["path"] += "/bin"
    next(m for m in rules.agent(objects)["volumeMounts"] if m["name"] == "opt-cni")["mountPath"] += "/bin"


def writable(objects):
    for mounted in rules.agent(objects)["volumeMounts"]:
        mounted.pop("readOnly", None)


class Noticed(unittest.TestCase):
    """Each of these mistakes is found by the rule that is for it: so the rules and schemas do check something."""

    CHANGES = [
        ("one_agent", "base", change("agent/args", ["run"])),
        ("one_agent", "base", change("agent/command", ["/bin/sh"])),
        ("one_agent", "base", change("agent/image", "cni-keeper:latest")),
        ("one_agent", "base", change("pod/initContainers", [])),
        ("labels", "base", first("ConfigMap", "metadata/labels", {})),
        ("labels", "base", first("Namespace", "metadata/labels/app.kubernetes.io~version", "0")),
        ("namespaces", "base", first("ServiceAccount", "metadata/namespace", "default")),
        ("namespaces", "overlays/openshift", first("SecurityContextConstraints", "metadata/namespace", "cni-keeper")),
        ("namespaces", "base", first("Namespace", "metadata/labels/pod-security.kubernetes.io~enforce", "baseline")),
        ("selector", "base", spec("spec/selector/matchLabels", rules.LABELS)),
        ("selector", "base", spec("spec/template/metadata/labels", {})),
        ("rollout", "base", spec("spec/updateStrategy", {"type": "OnDelete"})),
        ("before_the_network", "base", change("pod/hostNetwork", False)),
        ("before_the_network", "base", change("pod/dnsPolicy", "ClusterFirst")),
        ("before_the_network", "base", change("pod/tolerations", None)),
        ("before_the_network", "base", change("pod/nodeSelector", None)),
        ("confinement", "base", change("pod/hostPID", True)),
        ("confinement", "base", change("pod/securityContext", {})),
        ("confinement", "base", change("agent/securityContext/privileged", True)),
        ("confinement", "base", change("agent/securityContext/allowPrivilegeEscalation", None)),
        ("confinement", "base", change("agent/securityContext/readOnlyRootFilesystem", False)),
        ("confinement", "base", change("agent/securityContext/capabilities", {"add": ["SYS_ADMIN"], "drop": ["ALL"]})),
        ("confinement", "base", change("agent/securityContext/capabilities", {"add": rules.CAPABILITIES})),
        ("confinement", "base", change("agent/securityContext/seLinuxOptions", {"type": "spc_t"})),
        ("confinement", "overlays/openshift", first("SecurityContextConstraints", "allowPrivilegedContainer", True)),
        ("confinement", "overlays/openshift", first("SecurityContextConstraints", "volumes", ["*"])),
        ("resources", "base", change("agent/resources/limits/memory", "1Gi")),
        ("resources", "base", change("agent/resources", None)),
        ("resources", "base", change("agent/resources/limits/cpu", "200m")),
        ("resources", "base", change("agent/resources/requests/cpu", None)),
        ("token", "base", change("pod/automountServiceAccountToken", True)),
        ("token", "base", first("ServiceAccount", "automountServiceAccountToken", True)),
        ("token", "base", change("pod/serviceAccountName", "default")),
        ("token", "overlays/k3s", first("ClusterRole", "rules/0/verbs", ["get", "list"])),
        ("token", "overlays/k3s", first("ClusterRole", "rules/0/resources", ["*"])),
        ("token", "overlays/k3s", first("ClusterRoleBinding", "subjects", [])),
        ("token", "overlays/k3s", lambda objects: rules.tokens(objects)[0].update(expirationSeconds=86400)),
        ("token", "overlays/k3s", lambda objects: objects.remove(rules.of_kind(objects, "ClusterRoleBinding")[0])),
        ("probes", "base", change("agent/readinessProbe/httpGet/host", None)),
        ("probes", "base", change("agent/readinessProbe/httpGet/path", "/livez")),
        ("probes", "base", change("agent/livenessProbe", {"exec": {"command": ["/cni-keeper", "status"]}})),
        ("config_map", "base", first("ConfigMap", "data/more.yaml", "")),
        ("config_map", "base", lambda objects: rules.agent(objects)["volumeMounts"][0].update(subPath="config.yaml")),
        ("environment", "base", lambda objects: rules.agent(objects)["env"][0].update(name="CNI_KEEPER_NODENAME")),
        ("mounts", "base", leaf),
        ("mounts", "base", mount("/run/containerd")),
        ("mounts", "base", mount("/etc")),
        ("mounts", "base", mount("/run/flannel", "/run/flannel")),
        ("mounts", "profiles/flannel", lambda objects: rules.agent(objects)["volumeMounts"].pop()),
        ("mounts", "overlays/report-only", writable),
        ("beside", "base", volume(name="more", emptyDir={})),
        ("beside", "base", volume(name="more", secret={"secretName": "more"}, readOnly=True)),
        ("beside", "base", volume(name="more", secret={"secretName": "more", "optional": True})),
        ("beside", "base", volume(name="more", hostPath={"path": "/opt"}, mountPath="/seed", readOnly=True)),
        ("beside", "base", lambda objects: rules.agent(objects)["volumeMounts"][0].pop("readOnly")),
        ("beside", "base", lambda objects: rules.agent(objects)["env"].append({"name": "CNI_KEEPER_SEEDS", "value": "/seed"})),
    ]

    BESIDE = [
        ("what_it_is_made_of", *flanneld("DaemonSet", "pod/initContainers", [])),
        ("what_it_is_made_of", *ranges("Role", "kind", "ClusterRole")),
        ("labels_and_places", *ranges("Role", "metadata/namespace", "kube-system")),
        ("labels_and_places", *flanneld("DaemonSet", "spec/selector/matchLabels", rules.SELECTOR)),
        ("labels_and_places", *flanneld("ConfigMap", "metadata/name", "kube-flannel-cfg")),
        ("program", *ranges("Deployment", "container/image", "registry.k8s.io/kube-controller-manager:latest")),
        ("program", *ranges("Deployment", "container/args/0", "--controllers=*")),
        ("program", *ranges("Deployment", "container/args/5", "--leader-elect-resource-name=kube-controller-manager")),
        ("program", *ranges("Deployment", "container/livenessProbe/httpGet/host", None)),
        ("program", *ranges("Deployment", "container/ports/0/hostPort", None)),
        ("program", *flanneld("DaemonSet", "container/readinessProbe", None)),
        ("rights_are_least", *ranges("ClusterRole", "rules/0/verbs", ["get", "list", "watch", "patch"])),
        ("rights_are_least", *ranges("ClusterRole", "rules/0/verbs", ["list", "watch"])),
        ("rights_are_least", *ranges("Role", "rules/1/resourceNames", None)),
        ("rights_are_least", *ranges("RoleBinding", "subjects/0/name", "default")),
        ("rights_are_least", *flanneld("ClusterRoleBinding", "roleRef/name", "cluster-admin")),
        ("rights_are_least", *flanneld("ClusterRole", "rules/1/resources", ["nodes"])),
        ("token_of_its_own", *ranges("ServiceAccount", "automountServiceAccountToken", True)),
        ("token_of_its_own", *ranges("Deployment", "pod/serviceAccountName", "cni-keeper")),
        ("token_of_its_own", *flanneld("DaemonSet", "pod/volumes/3/projected/sources/0/serviceAccountToken/expirationSeconds", 86400)),
        ("confined", *ranges("Deployment", "pod/securityContext/runAsUser", 0)),
        ("confined", *flanneld("DaemonSet", "container/securityContext/privileged", True)),
        ("confined", *flanneld("DaemonSet", "container/securityContext/capabilities/add/0", "SYS_ADMIN")),
        ("confined", *flanneld("DaemonSet", "pod/volumes/1/hostPath/path", "/opt/cni/bin")),
        ("before_the_network", *ranges("Deployment", "pod/hostNetwork", None)),
        ("before_the_network", *ranges("Deployment", "pod/tolerations", [{"operator": "Exists"}])),
        ("labels_and_places", *windows("ConfigMap", "metadata/name", "windows-kube-proxy-")),
        ("program", *windows("DaemonSet", "container/image", "mcr.microsoft.com/windows/servercore:ltsc2022")),
        ("token_of_its_own", *windows("ServiceAccount", "automountServiceAccountToken", True)),
        ("confined", *windows("DaemonSet", "pod/securityContext/windowsOptions/runAsUserName", "Administrator")),
        ("confined", *windows("DaemonSet", "pod/volumes/0", {"name": "script", "hostPath": {"path": "C:\\"}})),
        ("before_the_network", *windows("DaemonSet", "pod/nodeSelector", {"kubernetes.io/os": "linux"})),
        ("before_the_network", *flanneld("DaemonSet", "pod/tolerations", [{"key": "a", "operator": "Exists"}])),
    ]

    MISSPELT = [
        change("agent/livenesProbe", {}),
        change("agent/securityContext/readOnlyRootFileSystem", True),
        change("agent/resources/limits", ["384Mi"]),
        change("pod/hostNetwork", "yes"),
        change("pod/terminationGracePeriodSeconds", "30s"),
        spec("spec/updateStrategy/rollingUpdate/maxUnavailable", True),
        first("ServiceAccount", "automountServiceAccountTokens", False),
        first("ConfigMap", "data/config.yaml", {}),
    ]

    def test_by_the_rules(self):
        for number, (rule, directory, apply) in enumerate(self.CHANGES + self.BESIDE):
            with self.subTest(rule, number=number):
                parts = ("base", "components/windows-kube-proxy") if directory == "windows" else (directory,)
                objects = copy.deepcopy(rendered(*parts))
                apply(objects)
                found = [line.split(":")[0] for line in rules.broken(objects)]
                self.assertIn(rule, found)

    def test_every_rule_has_something_to_notice(self):
        for changes, module in ((self.CHANGES, rules), (self.BESIDE, companions)):
            self.assertEqual({rule for rule, _, _ in changes}, {rule.__name__ for rule in module.RULES})

    def test_by_the_schemas(self):
        for number, apply in enumerate(self.MISSPELT):
            for version in schemas.VERSIONS:
                with self.subTest(number=number, version=version):
                    objects = copy.deepcopy(rendered("base"))
                    apply(objects)
                    self.assertTrue([line for one in objects for line in schemas.mistakes(one, version)])

    def test_a_configuration_that_is_wrong(self):
        config = answered(rules.configuration(rendered("overlays/aks-byocni")))
        config["drfit"] = {}
        self.assertEqual(validate(yaml.safe_dump(config))[0], 64)


def tearDownModule():
    made = [rendered(*parts) for parts in deployments()]
    objects = sum(len(objects) for objects in made)
    print(f"\n{len(made)} deployments, {objects} objects, against Kubernetes {', '.join(schemas.VERSIONS)}")


if __name__ == "__main__":
    unittest.main()
