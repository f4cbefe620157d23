#!/usr/bin/python3
"""The Helm chart, rendered by Helm itself: it makes the same objects as kustomize, and refuses every bad value.

scripts/manifests runs it and brings what it needs.
"""

import json
import os
import platform
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

if platform.machine() != "x86_64":
    raise unittest.SkipTest("the library of Helm is to be had for x86-64 only")

import helm
import helm_python
import schemas
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
MANIFESTS = REPOSITORY / "manifests"

# Makes the other values valid for tests that are about one of them.
API = {"kubernetesApi": {"enabled": True}}


# Everything that can be switched on or added.
EVERYTHING = {
    "nameOverride": "keeper-gpu",
    "image": {"digest": "sha256:" + "a" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "config": {
        "network": {"facts": [{"kubernetes": "node"}], "requires": [{"unix": "/run/gate/socket"}]},
        "http": {"listen": "[::1]:9742", "metricsListen": "[::]:9743"},
        "kubernetes": {"condition": True, "events": True, "removeTaint": "cni-keeper.dev/not-ready"},
        "runtime": {"endpoint": "unix:///run/containerd/containerd.sock"},
    },
    "hostDirectories": [
        "/opt/cni",
        "/etc/cni",
        {"path": "/run/containerd", "type": "Directory", "readOnly": True},
        {"path": "/run/gate", "mountPropagation": "HostToContainer"},
    ],
    "kubernetesApi": {"enabled": True},
    "clusterCIDR": "10.244.0.0/16",
    "nodeRanges": {"enabled": True, "image": {"tag": "v1.36.2"}},
    "flanneld": {"enabled": True, "image": {"repository": "registry.example/flannel"}},
    "uninstall": False,
    "proxySecret": "proxy",
    "caConfigMap": "authorities",
    "registrySecret": "registries",
    "mirrorSecret": "mirror",
    "seed": {"directory": "/var/lib/cni-keeper-seed"},
    "logLevel": "debug",
    "logFormat": "json",
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "nodeSelector": {"accelerator": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 9}],
    "priorityClassName": "system-cluster-critical",
    "maxUnavailable": 1,
    "terminationGracePeriodSeconds": 60,
    "resources": {"requests": {"cpu": 0.1, "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
    "podLabels": {"team": "platform"},
    "podAnnotations": {"note": "a: b"},
    "seLinuxOptions": {"type": "spc_t"},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "annotations": {"folder": "Nodes"}},
}

# A configuration that needs all rights of the component kubernetes-api.
ALL_OF_API = {
    "apiVersion": "cni-keeper/v1alpha1",
    "kind": "NodeNetwork",
    "profile": "reference-bridge",
    "network": {"facts": [{"kubernetes": "node"}]},
    "kubernetes": {"condition": True, "events": True, "removeTaint": "cni-keeper.dev/not-ready"},
}


# Helm makes a release's namespace itself, and NOTES.txt has the label to put on it. The other two are asked for by one
# platform each, whose values say how to apply them.
NOT_OF_THE_CHART = ("Namespace", "ResourceQuota", "SecurityContextConstraints")


def kustomize(directory):
    """The objects that `kubectl kustomize` makes of a directory."""
    made = subprocess.run(["kubectl", "kustomize", directory], check=True, capture_output=True, text=True)
    return [document for document in yaml.safe_load_all(made.stdout) if document]


def kustomized(*components, config=None):
    """The objects of the base with components and with another configuration."""
    with tempfile.TemporaryDirectory() as overlay:
        kustomization = {
            "resources": [os.path.relpath(MANIFESTS / "base", overlay)],
            "components": [os.path.relpath(MANIFESTS / component, overlay) for component in components],
        }
        if config:
            (Path(overlay) / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
            replaced = {"name": "cni-keeper", "behavior": "replace", "files": ["config.yaml"]}
            kustomization |= {"namespace": "cni-keeper", "configMapGenerator": [replaced]}
        (Path(overlay) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return kustomize(overlay)


def values(text):
    """Values as on the command line: KEY=JSON."""
    return helm_python.parse_set_json(text)


def comparable(objects):
    """The objects by kind and name, without differences that come from the tool and do not matter to the cluster."""
    kept = [o for o in objects if o["kind"] not in NOT_OF_THE_CHART]
    for one in kept:
        if one["kind"] == "DaemonSet":
            one["spec"]["template"]["spec"] = by_path(one["spec"]["template"]["spec"])
    return {(o["kind"], o["metadata"]["name"]): normal(o) for o in kept}


def normal(value, key=None):
    """Lists of named things in the order of their names, configurations as trees, the tool's own label left out."""
    if isinstance(value, dict):
        kept = {k: normal(v, k) for k, v in value.items() if k != "app.kubernetes.io/managed-by"}
        return {k: v for k, v in kept.items() if v not in ({}, [], None)}
    if isinstance(value, list):
        items = [normal(item) for item in value]
        named = all(isinstance(item, dict) and "name" in item for item in items)
        return sorted(items, key=lambda item: item.get("mountPath", item["name"])) if named else items
    if key == "config.yaml":
        return normal(yaml.safe_load(value))
    if isinstance(value, str) and value.startswith("FILL-IN: "):
        # Each tool says in its own words how to fix it.
        return "FILL-IN"
    return value


def by_path(pod):
    """The pod, with the path of each directory of the node as the name of its volume."""
    names = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    text = json.dumps({part: pod[part] for part in ("volumes", "containers")})
    renamed = re.sub(r'"name": "([^"]+)"', lambda found: f'"name": "{names.get(found[1], found[1])}"', text)
    return pod | json.loads(renamed)


class Equivalence(unittest.TestCase):
    maxDiff = None

    def same(self, expected, given):
        ours = comparable(helm.objects(given))
        theirs = comparable(expected)
        self.assertEqual(sorted(ours), sorted(theirs))
        for which, expected in theirs.items():
            self.assertEqual(ours[which], expected, which)

    def test_the_defaults_are_the_base(self):
        self.same(kustomized(), {})

    def test_uninstall_is_its_component(self):
        """Its DaemonSet has another name, so that Helm can replace the agents' DaemonSet with it."""
        text = json.dumps(kustomized("components/uninstall"))
        expected = json.loads(text.replace('component": "agent"', 'component": "uninstall"'))
        for one in expected:
            if one["kind"] == "DaemonSet":
                one["metadata"]["name"] = "cni-keeper-uninstall"
        self.same(expected, {"uninstall": True})

    def test_proxy_and_private_authorities_are_their_components(self):
        given = {"proxySecret": "cni-keeper-proxy", "caConfigMap": "cni-keeper-ca"}
        self.same(kustomized("components/proxy", "components/private-ca"), given)

    def test_secrets_for_registries_and_mirrors_are_their_components(self):
        given = {"registrySecret": "cni-keeper-registry", "mirrorSecret": "cni-keeper-mirror"}
        self.same(kustomized("components/registry-credentials", "components/mirror-access"), given)

    def test_a_bundle_is_its_component(self):
        self.same(kustomized("components/seed-image"), {"seed": {"image": "cni-keeper-seed:0.1.0"}})
        self.same(kustomized("components/seed-directory"), {"seed": {"directory": "/var/lib/cni-keeper-seed"}})

    def test_the_api_is_its_components(self):
        rights = [f"components/kubernetes-{part}" for part in ("api", "reports", "taint")]
        self.same(kustomized(*rights, config=ALL_OF_API), API | {"config": ALL_OF_API})
        facts = {key: value for key, value in ALL_OF_API.items() if key != "kubernetes"}
        self.same(kustomized(rights[0], config=facts), API | {"config": facts})

    def test_monitoring_is_its_component(self):
        config = yaml.safe_load((MANIFESTS / "base/config.yaml").read_text(encoding="utf-8"))
        config["http"] = {"metricsListen": "0.0.0.0:9743"}
        enabled = {"enabled": True}
        given = {"config": config, "podMonitor": enabled, "prometheusRule": enabled, "dashboard": enabled}
        self.same(kustomized("monitoring", config=config), given)

    def test_each_profile_is_its_overlay(self):
        overlays = sorted((MANIFESTS / "profiles").glob("*/kustomization.yaml"))
        self.assertGreaterEqual(len(overlays), 8)
        for overlay in overlays:
            with self.subTest(overlay.parent.name):
                config = yaml.safe_load(overlay.with_name("config.yaml").read_text(encoding="utf-8"))
                facts = config.get("network", {}).get("facts", [])
                api = API if {"kubernetes": "node"} in facts else {}
                self.same(kustomize(overlay.parent), api | {"config": config})

    def test_each_platform_is_its_overlay(self):
        overlays = sorted(path.parent for path in (MANIFESTS / "overlays").glob("*/kustomization.yaml"))
        platforms = sorted(path.stem for path in (helm.CHART / "platforms").iterdir())
        self.assertEqual([overlay.name for overlay in overlays], platforms)
        for overlay in overlays:
            with self.subTest(overlay.name):
                self.same(kustomize(overlay), helm.values_of([helm.CHART / f"platforms/{overlay.name}.yaml"]))

    def test_a_difference_would_be_noticed(self):
        base = kustomized()
        for given in (
            {"maxUnavailable": "20%"},
            {"hostDirectories": ["/opt/cni", "/etc/cni", "/run/flannel"]},
            values('config.drift={"policy":"report"}'),
            {"uninstall": True},
            API,
        ):
            with self.subTest(given), self.assertRaises(AssertionError):
                self.same(base, given)


class Refusals(unittest.TestCase):
    """Values, and what the error says: the key and the reason."""

    SCHEMA = {
        'imag={"tag":"1"}': ["imag", "not allowed"],
        'image={"tga":"1"}': ["/image", "tga", "not allowed"],
        'image={"repository":"registry.example:5000/cni-keeper:0.1.0"}': ["/image/repository", "does not match pattern"],
        'image={"digest":"sha256:abc"}': ["/image/digest", "does not match pattern"],
        'image={"pullPolicy":"Sometimes"}': ["/image/pullPolicy", "must be one of", "IfNotPresent"],
        'image={"tag":1.0}': ["/image/tag", "want string"],
        'nameOverride="Keeper_2"': ["/nameOverride", "does not match pattern"],
        'kubernetesApi={"enabled":"yes"}': ["/kubernetesApi/enabled", "got string, want boolean"],
        'hostDirectories=["opt/cni"]': ["/hostDirectories/0", "does not match pattern"],
        'hostDirectories=["/"]': ["/hostDirectories/0", "does not match pattern"],
        'hostDirectories=["/opt/../etc"]': ["/hostDirectories/0", "does not match pattern"],
        'hostDirectories=[{"path":"opt/cni"}]': ["/hostDirectories/0/path", "does not match pattern"],
        'hostDirectories=[{"path":"/opt/cni","mode":"ro"}]': ["/hostDirectories/0", "mode", "not allowed"],
        "hostDirectories=[]": ["/hostDirectories", "minItems"],
        'clusterCIDR="10.244.0.0"': ["/clusterCIDR", "does not match pattern"],
        'nodeRanges={"enable":true}': ["/nodeRanges", "enable", "not allowed"],
        'flanneld={"image":{"tag":"v1:2"}}': ["/flanneld/image/tag", "does not match pattern"],
        'proxySecret="http://proxy:3128"': ["/proxySecret", "does not match pattern"],
        'seed="registry.example/cni-seed:1"': ["/seed", "want object"],
        'seed={"directory":"var/lib/seed"}': ["/seed/directory", "does not match pattern"],
        'logLevel="verbose"': ["/logLevel", "must be one of"],
        'maxUnavailable="0%"': ["/maxUnavailable", "does not match pattern"],
        "maxUnavailable=0": ["/maxUnavailable", "minimum"],
        'resources={"limits":{"memory":"64 MB"}}': ["/resources/limits/memory", "does not match pattern"],
        'resources={"limit":{}}': ["/resources", "limit", "not allowed"],
        'tolerations=[{"operator":"exists"}]': ["/tolerations/0/operator", "must be one of"],
        'extraEnv=[{"value":"a"}]': ["/extraEnv/0", "missing property 'name'"],
        'podMonitor={"apiVersion":"v1"}': ["/podMonitor/apiVersion", "must be one of"],
        'podMonitor={"interval":"30"}': ["/podMonitor/interval", "does not match pattern"],
        'dashboard={"labels":{"a":1}}': ["/dashboard/labels/a", "want string"],
        "config=null": ["config"],
        'config={"apiVersion":"cni-keeper/v2"}': ["/config/apiVersion", "cni-keeper/v1alpha1"],
        'config={"profile":"flanel"}': ["/config/profile", "must be one of", "flannel"],
        'config={"drfit":{}}': ["/config", "drfit", "not allowed"],
        'config={"drift":{"policy":"fix"}}': ["/config/drift/policy", "must be one of", "heal"],
        'config={"drift":{"resync":"5 minutes"}}': ["/config/drift/resync", "does not match pattern"],
        'config={"drift":{"resync":"0s"}}': ["/config/drift/resync", "does not match pattern"],
        'config={"paths":{"binDir":"opt/cni/bin"}}': ["/config/paths/binDir", "does not match pattern"],
        'config={"http":{"listen":9742}}': ["/config/http/listen", "want string"],
        'config={"http":{"listen":"localhost:9742"}}': ["/config/http/listen", "does not match pattern"],
        'config={"network":{"fileName":"10-a.conf"}}': ["/config/network/fileName", "does not match pattern"],
        'config={"network":{"fileMode":600}}': ["/config/network/fileMode", "want string"],
        'config={"network":{"podRanges":["10.244.0.0"]}}': ["/config/network/podRanges/0", "pattern"],
        'config={"network":{"facts":[{"kubernetes":"pod"}]}}': ["/config/network/facts/0/kubernetes", "node"],
        'config={"network":{"conflist":{"name":"a","plugins":[{}]}}}': ["/plugins/0", "missing property 'type'"],
        'config={"artifacts":[{"version":"1"}]}': ["/config/artifacts/0", "missing property 'name'"],
        'config={"artifacts":[{"name":"a","sha256":{"x86_64":"a"}}]}': ["/config/artifacts/0/sha256", "x86_64"],
        'config={"artifacts":[{"name":"a","sha256":"abc"}]}': ["/config/artifacts/0/sha256", "pattern '^FILL-IN:'"],
        'config={"artifacts":[{"name":"a","sha256":{"amd64":"abc"}}]}': ["/sha256/amd64", "does not match pattern"],
        'config={"artifacts":[{"name":"a","version":"1","sources":["ftp://h/a"],"plugins":["a"]}]}': [
            "/config/artifacts/0/sources/0",
            "does not match pattern",
        ],
        'config={"kubernetes":{"server":"http://10.0.0.1"}}': ["/config/kubernetes/server", "pattern"],
        'config={"mirrors":[{"from":"https://github.com/"}]}': ["/config/mirrors/0", "missing property 'to'"],
        'config={"seeds":["seed"]}': ["/config/seeds/0", "does not match pattern"],
        'config={"fetch":{"spread":"soon"}}': ["/config/fetch/spread", "does not match pattern"],
        'config={"trust":{"pinList":{"sources":["oci://h/a"]}}}': ["/config/trust/pinList", "missing property 'publicKey'"],
    }

    TEMPLATES = {
        'config={"paths":{"binDir":"/var/lib/rancher/k3s/data/cni"}}': [
            "hostDirectories: none holds config.paths.binDir, /var/lib/rancher/k3s/data/cni;"
            " add /var/lib/rancher/k3s/data"
        ],
        'hostDirectories=["/opt/cni","/etc/cni/net.d"]': ["config.paths.confDir, /etc/cni/net.d; add /etc/cni"],
        'hostDirectories=["/opt/cn","/etc/cni"]': ["config.paths.binDir, /opt/cni/bin; add /opt/cni"],
        'config={"paths":{"stateDir":"/var/lib/cni-keeper"}}': ["config.paths.stateDir", "add /var/lib"],
        'config={"network":{"requires":[{"file":"/run/flannel/subnet.env"}]}}': [
            "config.network.requires, /run/flannel/subnet.env; add /run/flannel"
        ],
        'config={"network":{"facts":[{"envFile":"/run/flannel/subnet.env"}]}}': [
            "config.network.facts, /run/flannel/subnet.env; add /run/flannel"
        ],
        'config={"runtime":{"endpoint":"unix:///run/containerd/containerd.sock"}}': [
            "config.runtime.endpoint, /run/containerd/containerd.sock; add /run/containerd"
        ],
        'config={"network":{"facts":[{"kubernetes":"node"}]}}': ["config.network.facts", "kubernetesApi.enabled=true"],
        'nodeRanges={"enabled":true}': ["nodeRanges.enabled", "set clusterCIDR"],
        'flanneld={"enabled":true}': ["flanneld.enabled", "set clusterCIDR"],
        'config={"kubernetes":{"events":true}}': ["config.kubernetes", "kubernetesApi.enabled=true"],
        'podMonitor={"enabled":true}': ["podMonitor.enabled", "set config.http.metricsListen"],
        'hostDirectories=["/opt/cni","/opt/cni/bin","/etc/cni"]': ["/opt/cni/bin is config.paths.binDir", "alone, /opt/cni"],
        'hostDirectories=["/opt/cni","/opt-cni","/etc/cni"]': ["/opt-cni would be the volume opt-cni", "/opt/cni;"],
        'hostDirectories=["/opt/cni","/etc/cni",{"path":"/opt/cni","readOnly":true}]': ["/opt/cni would be the volume"],
        'hostDirectories=["/opt/cni","/etc/cni","/config"]': ["/config would be the volume config", "the chart's own"],
        'extraVolumes=[{"name":"registry","emptyDir":{}}]': ["extraVolumes", "registry is there already, the chart's own"],
        'config={"fetch":{"registryConfig":"/etc/cni-keeper-registry/config.json"}}': [
            "config.fetch.registryConfig: nothing is mounted at /etc/cni-keeper-registry/config.json",
            "registrySecret",
        ],
        'config={"fetch":{"access":[{"prefix":"https://h/","headersFile":"/etc/cni-keeper-mirror/headers"}]}}': [
            "config.fetch.access: nothing is mounted at /etc/cni-keeper-mirror/headers",
            "mirrorSecret",
        ],
        'config={"fetch":{"caFile":"/etc/cni-keeper-ca/ca.crt"}}': ["config.fetch.caFile", "caConfigMap"],
        'seed={"image":"a:1","directory":"/var/lib/seed"}': ["seed: there are an image, a:1, and a directory", "keep one"],
        'extraVolumes=[{"name":"opt-cni","emptyDir":{}}]': ["extraVolumes", "opt-cni is there already, /opt/cni"],
        'podLabels={"app.kubernetes.io/name":"a"}': ["podLabels: app.kubernetes.io/name", "the chart's own"],
        'dashboard={"labels":{"app.kubernetes.io/version":"2"}}': ["dashboard.labels: app.kubernetes.io/version"],
        'config={"http":{"listen":"127.0.0.1:0"}}': ["config.http.listen: 127.0.0.1:0", "from 1 to 65535"],
        'config={"http":{"metricsListen":"0.0.0.0:97430"}}': ["config.http.metricsListen: 0.0.0.0:97430", "65535"],
        'config={"http":{"metricsListen":"0.0.0.0:9742"}}': ["config.http.metricsListen", "config.http.listen, 127.0.0.1:9742"],
    }

    def test_the_schema_names_key_and_reason(self):
        self.refused(self.SCHEMA)

    def test_values_that_do_not_go_together_are_refused(self):
        self.refused(self.TEMPLATES)

    def test_what_only_this_node_can_reach_is_not_to_be_scraped(self):
        for listen in ("127.0.0.1:9743", "127.1.2.3:9743", "[::1]:9743"):
            given = {"podMonitor": {"enabled": True}, "config": {"http": {"metricsListen": listen}}}
            with self.subTest(listen), self.assertRaisesRegex(helm_python.HelmError, "podMonitor.enabled: Prometheus cannot"):
                helm.objects(given)

    def refused(self, table):
        for given, expected in table.items():
            with self.subTest(given):
                with self.assertRaises(helm_python.HelmError) as refusal:
                    helm.objects(values(given))
                for part in expected:
                    self.assertIn(part, str(refusal.exception))


class Chart(unittest.TestCase):
    def test_helm_lint_finds_nothing(self):
        self.assertEqual(helm.findings(), [])
        self.assertNotEqual(helm.findings({"imag": {}}), [])

    def test_every_configuration_of_the_repository_is_a_value(self):
        """The schema accepts what the agent accepts."""
        examples = [
            (f"{page}, {n}", text)
            for page in ("README.md", "agent/config/README.md")
            for n, text in enumerate(
                re.findall(
                    r"```yaml\n(apiVersion: cni-keeper/.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL
                )
            )
        ]
        files = sorted(MANIFESTS.rglob("config.yaml")) + sorted((REPOSITORY / "agent/config/profiles").glob("*.yaml"))
        self.assertGreaterEqual(len(examples), 3)
        self.assertGreaterEqual(len(files), 4)
        texts = examples + [(str(file), file.read_text(encoding="utf-8")) for file in files]
        with helm_python.Chart.load(helm.CHART) as chart:
            for where, text in texts:
                with self.subTest(where):
                    chart.validate_schema({"config": yaml.safe_load(text)})

    def test_the_examples_of_its_readme_are_accepted(self):
        examples = re.findall(r"```yaml\n(.*?)```", (helm.CHART / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        self.assertGreaterEqual(len(examples), 3)
        for example in examples:
            with self.subTest(example):
                self.assertTrue(helm.objects(yaml.safe_load(example)))

    def test_the_schema_knows_the_profiles_of_the_agent(self):
        with helm_python.Chart.load(helm.CHART) as chart:
            known = chart.schema["definitions"]["config"]["properties"]["profile"]["enum"]
        built_in = [file.stem for file in (REPOSITORY / "agent/config/profiles").glob("*.yaml")]
        self.assertEqual(sorted(known), sorted(built_in))

    def test_the_chart_has_the_version_of_the_agent(self):
        cargo = (REPOSITORY / "Cargo.toml").read_text(encoding="utf-8")
        version = re.search(r'^version = "(.+)"$', cargo, re.MULTILINE).group(1)
        with helm_python.Chart.load(helm.CHART) as chart:
            self.assertEqual(chart.metadata["appVersion"], version)

    def test_the_api_takes_all_that_it_can_render_to(self):
        for given in ({}, EVERYTHING, EVERYTHING | {"uninstall": True}):
            objects = helm.objects(given)
            for version in schemas.VERSIONS:
                found = [m for one in objects if schemas.has(one) for m in schemas.mistakes(one, version)]
                self.assertEqual(found, [], version)
        in_image = helm.objects(EVERYTHING | {"seed": {"image": "registry.example/cni-seed:1"}})
        found = [m for one in in_image if schemas.has(one) for m in schemas.mistakes(one, schemas.VERSIONS[-1])]
        self.assertEqual(found, [])
        with helm_python.Chart.load(helm.CHART) as chart:
            self.assertEqual(set(EVERYTHING), set(chart.schema["properties"]) - {"global"})

    def test_the_notes_list_what_is_to_be_filled_in(self):
        notes = helm.rendered()["NOTES.txt"]
        self.assertIn("config.network.facts[0].values.node.podCIDR: the pod range", notes)
        filled = values('config.network.facts=[{"values":{"node.podCIDR":"10.244.0.0/24"}}]')
        self.assertNotIn("FIRST", helm.rendered(filled)["NOTES.txt"])

    def test_the_notes_name_the_objects_that_are_not_the_charts(self):
        self.assertNotIn("Create these", helm.rendered()["NOTES.txt"])
        named = helm.rendered({"mirrorSecret": "m", "registrySecret": "r", "caConfigMap": "c"})["NOTES.txt"]
        self.assertIn("Create these in cni-keeper, if they do not exist yet: ConfigMap c, Secret m, Secret r.", named)

    def test_the_notes_tell_of_profiles_that_are_not_complete(self):
        profiles = sorted((REPOSITORY / "agent/config/profiles").glob("*.yaml"))
        for profile in profiles:
            with self.subTest(profile.stem):
                complete = "FILL-IN" not in profile.read_text(encoding="utf-8")
                facts = {"network": {"facts": [{"values": {"node.podCIDR": "10.244.0.0/24"}}]}}
                config = {"profile": profile.stem} | (facts if profile.stem.startswith("reference-") else {})
                self.assertEqual("FIRST" not in helm.rendered({"config": config})["NOTES.txt"], complete)
                image = f"oci://registry.example/a@sha256:{64 * '0'}"
                name = {"canal": "calico"}.get(profile.stem, profile.stem)
                artifact = {"name": name, "version": "1", "sources": [image]}
                facts = {"facts": [{"values": {"node.podCIDR": "10.244.0.0/24", "romana.etcdEndpoints": []}}]}
                given = helm.rendered({"config": config | {"artifacts": [artifact], "network": facts}})["NOTES.txt"]
                self.assertNotIn("FIRST", given)

    def test_the_notes_ask_for_the_range_of_nodes(self):
        platform = helm.values_of([helm.CHART / "platforms/aks-byocni-flannel.yaml"])
        notes = helm.rendered(platform)["NOTES.txt"]
        self.assertIn("\n  clusterCIDR: the range that the pods", notes)
        self.assertNotIn("\n  clusterCIDR:", helm.rendered(platform | {"clusterCIDR": "10.244.0.0/16"})["NOTES.txt"])

    def test_big_numbers_stay_whole(self):
        self.assertEqual(daemonset({"terminationGracePeriodSeconds": 10**7})["terminationGracePeriodSeconds"], 10**7)

    def test_probes_ask_where_the_agent_listens(self):
        for listen, host, port in [
            ("127.0.0.1:9000", "127.0.0.1", 9000),
            ("[::1]:9742", "::1", 9742),
            ("0.0.0.0:9742", "127.0.0.1", 9742),
        ]:
            pod = daemonset(values(f'config.http={{"listen":"{listen}"}}'))
            asked = pod["containers"][0]["readinessProbe"]["httpGet"]
            self.assertEqual((asked["host"], asked["port"]), (host, port))

    def test_an_image_is_named_by_digest_before_tag(self):
        digest = "sha256:" + "a" * 64
        for given, image in [
            ({}, "cni-keeper:0.1.0"),
            ({"repository": "mirror.example:5000/a/cni-keeper", "tag": "1"}, "mirror.example:5000/a/cni-keeper:1"),
            ({"tag": "1", "digest": digest}, f"cni-keeper@{digest}"),
        ]:
            self.assertEqual(daemonset({"image": given})["containers"][0]["image"], image)

    def test_a_second_release_shares_no_object_and_no_pod(self):
        one, other = comparable(helm.objects(API)), comparable(helm.objects(API | {"nameOverride": "keeper-gpu"}))
        self.assertFalse(set(one) & set(other))
        selectors = [o["spec"]["selector"] for os in (one, other) for o in os.values() if o["kind"] == "DaemonSet"]
        self.assertNotEqual(*selectors)

    def test_what_is_off_by_default_is_there_when_asked_for(self):
        kinds = [o["kind"] for o in helm.objects()]
        self.assertEqual(sorted(kinds), ["ConfigMap", "DaemonSet", "ServiceAccount"])
        given = {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True, "annotations": {"folder": "Nodes"}},
            "config": {"http": {"metricsListen": "0.0.0.0:9743"}},
        }
        made = comparable(helm.objects(given))
        monitor = made["PodMonitor", "cni-keeper"]
        self.assertEqual(monitor["metadata"]["labels"]["release"], "prometheus")
        self.assertNotIn("labelLimit", monitor["spec"])
        endpoint = monitor["spec"]["podMetricsEndpoints"][0]
        ports = daemonset(given)["containers"][0]["ports"]
        self.assertEqual(ports, [{"name": endpoint["port"], "containerPort": 9743}])
        azure = given | {"podMonitor": given["podMonitor"] | {"apiVersion": "azmonitoring.coreos.com/v1"}}
        monitor = comparable(helm.objects(azure))["PodMonitor", "cni-keeper"]
        self.assertEqual((monitor["apiVersion"], monitor["spec"]["labelLimit"]), ("azmonitoring.coreos.com/v1", 63))
        alerts = yaml.safe_load((MANIFESTS / "monitoring/alerts.yaml").read_text(encoding="utf-8"))
        self.assertEqual(made["PrometheusRule", "cni-keeper"]["spec"], alerts)
        dashboard = json.loads((MANIFESTS / "monitoring/dashboard.json").read_text(encoding="utf-8"))
        self.assertEqual(json.loads(made["ConfigMap", "cni-keeper-dashboard"]["data"]["cni-keeper.json"]), dashboard)

    def test_rights_are_those_that_the_configuration_needs(self):
        for given, expected in [
            ({}, [("nodes", "get")]),
            ({"condition": True}, [("nodes", "get"), ("nodes/status", "patch")]),
            ({"events": True}, [("nodes", "get"), ("events", "create"), ("events", "patch")]),
            ({"removeTaint": "cni-keeper.dev/not-ready"}, [("nodes", "get"), ("nodes", "patch")]),
        ]:
            role = comparable(helm.objects(API | {"config": {"kubernetes": given}}))["ClusterRole", "cni-keeper"]
            granted = [(rule["resources"][0], verb) for rule in role["rules"] for verb in rule["verbs"]]
            self.assertEqual(granted, expected)


def daemonset(given):
    """The pod of the DaemonSet."""
    return comparable(helm.objects(given))["DaemonSet", "cni-keeper"]["spec"]["template"]["spec"]


if __name__ == "__main__":
    unittest.main()
