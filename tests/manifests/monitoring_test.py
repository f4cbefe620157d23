#!/usr/bin/python3
"""Alerts and dashboard: Prometheus' own tool reads them, and a running agent serves every metric that they query.

Needs promtool and a built agent; scripts/manifests brings both. KEEPER names the agent's program where it is not
target/debug/cni-keeper.
"""

import json
import os
import re
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
MONITORING = REPOSITORY / "manifests/monitoring"
KEEPER = os.environ.get("KEEPER", REPOSITORY / "target/debug/cni-keeper")

SELECTOR = re.compile(r"(cni_keeper_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z]+)(=~?)"([^"]*)"')
# The labels that Prometheus adds to each sample.
TARGET_LABELS = {"job", "instance"}


def alerts():
    """The rules, by the name of the alert."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def dashboard():
    return json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


def questions():
    """Every query to Prometheus, with the place where it is written."""
    asked = {name: rule["expr"] for name, rule in alerts().items()}
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            # Variables that Grafana fills in.
            asked[f"{panel['title']} {target['refId']}"] = (
                target["expr"].replace("$__rate_interval", "5m").replace("$node", ".*")
            )
    return asked


def labels_of(text):
    """The labels of a sample, as the agent serves them."""
    return {label: value for label, _, value in MATCHER.findall(text)}


def matches(labels, matchers):
    """Whether a selector selects a sample; `=~` matches the whole value, as in PromQL."""
    return all(
        re.fullmatch(value if operator == "=~" else re.escape(value), labels.get(label, ""))
        for label, operator, value in matchers
    )


def promtool(*arguments):
    ran = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout + ran.stderr


class Rules(unittest.TestCase):
    def test_prometheus_reads_them(self):
        code, report = promtool("check", "rules", "--lint-fatal", MONITORING / "alerts.yaml")
        self.assertEqual(code, 0, report)

    def test_each_fires_when_it_should_and_only_then(self):
        code, report = promtool("test", "rules", Path(__file__).with_name("alerts_test.yaml"))
        self.assertEqual(code, 0, report)

    def test_no_alert_is_left_out_of_that(self):
        tests = yaml.safe_load(Path(__file__).with_name("alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
        moments = [moment for test in tests for moment in test["promql_expr_test"]]
        fired = [re.search(r'alertname="(\w+)"', s["labels"]).group(1) for m in moments for s in m["exp_samples"]]
        self.assertEqual(sorted(set(fired)), sorted(alerts()))
        for test in tests:
            quiet = [moment for moment in test["promql_expr_test"] if not moment["exp_samples"]]
            self.assertTrue(quiet, f"{test['name']}: there is no moment at which nothing fires")

    def test_each_says_what_is_wrong_and_what_to_do(self):
        for name, rule in alerts().items():
            with self.subTest(name):
                self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                self.assertEqual(sorted(rule["annotations"]), ["action", "description", "summary"])
                for text in rule["annotations"].values():
                    self.assertNotIn("\n", text.strip())

class Copies(unittest.TestCase):
    """Neither Helm nor kustomize takes files from outside its directory, so there are copies. Make them again with:

    cd manifests/monitoring; cp alerts.yaml dashboard.json ../helm/cni-keeper/files
    sed -i '/^spec:/q' prometheus-rule.yaml; sed 's/^./  &/' alerts.yaml >>prometheus-rule.yaml
    """

    def test_the_chart_has_the_same_alerts_and_dashboard(self):
        for name in ("alerts.yaml", "dashboard.json"):
            copy = (REPOSITORY / "manifests/helm/cni-keeper/files" / name).read_text(encoding="utf-8")
            self.assertEqual(copy, (MONITORING / name).read_text(encoding="utf-8"), self.__doc__)

    def test_the_operators_object_holds_the_same_alerts(self):
        embedded = (MONITORING / "prometheus-rule.yaml").read_text(encoding="utf-8").split("\nspec:\n", 1)[1]
        plain = (MONITORING / "alerts.yaml").read_text(encoding="utf-8")
        self.assertEqual(re.sub("^  ", "", embedded, flags=re.MULTILINE), plain, self.__doc__)


class Dashboard(unittest.TestCase):
    def test_panels_have_numbers_of_their_own_and_do_not_overlap(self):
        panels = dashboard()["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = {}
        for panel in panels:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
                self.assertIsNone(taken.get(cell), f"{panel['title']} lies over {taken.get(cell)}")
                taken[cell] = panel["title"]

    def test_each_panel_explains_itself_and_asks_the_chosen_source(self):
        board = dashboard()
        variables = {variable["name"] for variable in board["templating"]["list"]}
        self.assertEqual(variables, {"datasource", "node"})
        for panel in board["panels"]:
            with self.subTest(panel["title"]):
                self.assertTrue(panel["description"])
                self.assertTrue(panel["targets"])
                for asked in [panel, *panel["targets"]]:
                    self.assertEqual(asked["datasource"]["uid"], "${datasource}")
                for target in panel["targets"]:
                    self.assertIn('instance=~"$node"', target["expr"])

    def test_prometheus_reads_each_expression(self):
        for code, expressions in [(0, questions()), (1, {"wrong": "sum by (cni_keeper_ready"})]:
            rules = [{"record": f"q{n}", "expr": expr} for n, expr in enumerate(expressions.values())]
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump({"groups": [{"name": "questions", "rules": rules}]}, file)
                file.flush()
                got, report = promtool("check", "rules", file.name)
            self.assertEqual(got, code, report)


class Served(unittest.TestCase):
    """Every queried metric exists. The agent under test must fetch a plugin that does not match its pinned digest."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        below = Path(cls.directory.name)
        for path in ("bin", "net.d"):
            (below / path).mkdir()
        (below / "bridge").write_text("not what is pinned", encoding="utf-8")
        config = {
            "apiVersion": "cni-keeper/v1alpha1",
            "kind": "NodeNetwork",
            "paths": {"binDir": f"{below}/bin", "confDir": f"{below}/net.d", "stateDir": f"{below}/state"},
            "artifacts": [
                {
                    "name": "a",
                    "version": "v1",
                    "sources": [f"file://{below}/bridge"],
                    "sha256": {arch: "0" * 64 for arch in ("amd64", "arm64")},
                    "format": "raw",
                    "plugins": [{"as": "bridge"}],
                }
            ],
            "http": {"listen": "127.0.0.1:0"},
        }
        (below / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CNI_KEEPER_")}
        cls.log = (below / "log").open("w+", encoding="utf-8")
        cls.agent = subprocess.Popen(
            [KEEPER, "--config", below / "config.yaml", "--log-level", "info", "run"], env=environment, stderr=cls.log
        )
        cls.text = cls.until("the failed download", lambda text: 'reason="digest"' in text)

    @classmethod
    def tearDownClass(cls):
        cls.agent.terminate()
        cls.agent.wait()
        cls.log.close()
        cls.directory.cleanup()

    @classmethod
    def until(cls, what, holds):
        """Waits until the agent's metrics are as wanted, and returns them."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for _ in range(200):
            log = Path(cls.log.name).read_text(encoding="utf-8")
            listening = re.search(r"listening .*address=(\S+)", log)
            if listening:
                with direct.open(f"http://{listening.group(1)}/metrics", timeout=10) as answer:
                    text = answer.read().decode()
                if holds(text):
                    return text
            if cls.agent.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"{what} did not show:\n{log}")

    def missing(self, expression):
        """The selectors of an expression that select no metric of the agent."""
        families = re.findall(r"^# TYPE (\S+) (\S+)$", self.text, re.MULTILINE)
        parts = {"histogram": ["_bucket", "_sum", "_count"]}
        names = {name + part for name, kind in families for part in parts.get(kind, [""])}
        samples = re.findall(r"^([a-z_]+)\{(.*)\} ", self.text, re.MULTILINE)
        for name, matchers in SELECTOR.findall(expression):
            wanted = [matcher for matcher in MATCHER.findall(matchers) if matcher[0] not in TARGET_LABELS]
            found = [labels_of(labels) for sample, labels in samples if sample == name]
            if name not in names or (wanted and not any(matches(labels, wanted) for labels in found)):
                yield f"{name}{{{matchers}}}"

    def test_every_metric_and_label_that_is_asked_for(self):
        for where, expression in questions().items():
            with self.subTest(where):
                self.assertEqual(list(self.missing(expression)), [])

    def test_what_is_not_served_would_be_noticed(self):
        for wrong in (
            "cni_keeper_redy",
            "cni_keeper_repair_duration_seconds",
            'cni_keeper_check_ok{check="conflicts"}',
            'cni_keeper_downloads_total{job="cni-keeper",result="failure"}',
            'cni_keeper_downloads_total{reason=~"digests|verification"}',
        ):
            self.assertEqual(len(list(self.missing(wrong))), 1, wrong)


if __name__ == "__main__":
    unittest.main()
