#!/usr/bin/python3
"""The script for Windows nodes, as far as that is possible without Windows and without PowerShell: its syntax, the names
that it uses, and that its decisions touch nothing.

scripts/manifests runs it and brings what it needs.
"""

import re
import unittest

import companions
import kustomize_test
import powershell
import rules

COMPONENT = kustomize_test.MANIFESTS / "components/windows-kube-proxy"
SCRIPT = (COMPONENT / "windows-kube-proxy.ps1").read_text(encoding="utf-8")
DECISIONS, NODE = SCRIPT.split("# --- The node ---")

# Cmdlets that only handle objects. They may occur anywhere.
PURE = {"ForEach-Object", "Select-Object", "Sort-Object", "Where-Object"}
# What else of Windows PowerShell and of the HNS module the script calls.
EFFECTS = {
    "ConvertFrom-Json",
    "ConvertTo-Json",
    "Get-ChildItem",
    "Get-CimInstance",
    "Get-Content",
    "Get-HnsEndpoint",
    "Get-HnsNetwork",
    "Join-Path",
    "Out-Null",
    "Out-String",
    "Set-StrictMode",
    "Split-Path",
    "Start-Sleep",
    "Test-Path",
    "Write-Host",
}


def called(text_or_node):
    """The names of the commands that are called; not of those that a variable holds."""
    node = powershell.parsed(text_or_node) if isinstance(text_or_node, str) else text_or_node
    return {name for name in powershell.words(node, "command_name") if not name.startswith("$")}


class Script(unittest.TestCase):
    def test_the_grammar_knows_all_of_it(self):
        self.assertEqual(powershell.mistakes(SCRIPT), [])

    def test_a_mistake_would_be_noticed(self):
        for right, wrong in (
            ("function Test-Overlay($network) {", "function Test-Overlay($network {"),
            ("    $true\n}", "    $true\n"),
            ("        try {", "        try"),
            ("'SUBNET_FILE', 'IPAM_DIRECTORY') {", "'SUBNET_FILE' 'IPAM_DIRECTORY') {"),
            ("if (-not $network) {", "if -not $network {"),
            ("'SOURCE_VIP' }", "'SOURCE_VIP }"),
        ):
            with self.subTest(wrong):
                self.assertIn(right, SCRIPT)
                self.assertTrue(powershell.mistakes(SCRIPT.replace(right, wrong, 1)))

    def test_what_it_calls_exists(self):
        """A misspelt name of a function or cmdlet is no mistake of syntax."""
        functions = set(powershell.functions(SCRIPT))
        self.assertEqual(called(SCRIPT) - functions, (PURE | EFFECTS) & called(SCRIPT))
        self.assertEqual((PURE | EFFECTS) - called(SCRIPT), set())
        self.assertEqual(functions - called(SCRIPT), set(), "never called")

    def test_every_function_gets_as_many_arguments_as_it_takes(self):
        functions = powershell.functions(SCRIPT)
        takes = {name: len(powershell.of(node, "script_parameter")) for name, node in functions.items()}
        seen = set()
        for command in powershell.of(powershell.parsed(SCRIPT), "command"):
            name = powershell.words(command, "command_name")
            if not name or name[0] not in takes:
                continue
            elements = [child for child in command.children if child.type == "command_elements"]
            given = [one for each in elements for one in each.children if one.is_named and one.type != "command_argument_sep"]
            with self.subTest(command.text.decode()):
                self.assertEqual(len(given), takes[name[0]])
            seen.add(name[0])
        self.assertEqual(seen, set(functions))

    def test_decisions_touch_nothing(self):
        decisions = powershell.functions(DECISIONS)
        self.assertGreaterEqual(len(decisions), 9)
        for name, node in decisions.items():
            with self.subTest(name):
                self.assertEqual(called(node) - PURE - set(decisions), set())
                text = node.text.decode()
                self.assertNotRegex(text, r"(?i)\$env:|\$script:|\$global:|\[Environment\]|&\s*\$|\[System\.IO|New-Object")
        for effect in ("[Environment]::SetEnvironmentVariable", "Get-HnsNetwork", "Get-CimInstance", "& $settings.HOST_LOCAL"):
            self.assertNotIn(effect, DECISIONS)
            self.assertIn(effect, NODE)

    def test_every_variable_that_is_read_was_set(self):
        """Strict mode would end the script there."""
        automatic = {"$_", "$true", "$false", "$null", "$Matches", "$LASTEXITCODE", "$ErrorActionPreference"}
        for name, node in powershell.functions(SCRIPT).items():
            text = node.text.decode()
            used = set(re.findall(r"\$(?!env:|script:)\w+", text)) - automatic
            own = set(powershell.words(node, "variable"))
            bound = {v for v in own if re.search(rf"{re.escape(v)}\b(?:\[[^\]]*\])?\s*=[^=]", text)}
            bound |= {f"${v}" for v in re.findall(r"foreach \(\$(\w+) in", text)}
            for parameter in powershell.of(node, "script_parameter"):
                bound |= set(powershell.words(parameter, "variable"))
            with self.subTest(name):
                self.assertEqual(used - bound, set())


class Deployment(unittest.TestCase):
    def setUp(self):
        self.objects = kustomize_test.rendered("base", "components/windows-kube-proxy")
        self.container = companions.container(self.objects, companions.WINDOWS)

    def test_it_gets_every_setting_that_it_reads(self):
        read = re.search(r"foreach \(\$name in ((?:'[A-Z_]+',? ?)+)\) \{\s+\$settings", NODE)[1]
        self.assertEqual([one["name"] for one in self.container["env"]], re.findall(r"'([A-Z_]+)'", read))
        used = set(re.findall(r"\$settings\.(\w+)", SCRIPT)) - {"Keys"}
        self.assertEqual(used, {one["name"] for one in self.container["env"]})

    def test_only_the_name_of_the_network_is_asked_for(self):
        open_ones = [one["name"] for one in self.container["env"] if one["value"].startswith("FILL-IN: ")]
        self.assertEqual(open_ones, ["NETWORK_NAME"])

    def test_what_starts_it_is_powershell_too(self):
        *_, option, command = self.container["command"]
        self.assertEqual(option, "-Command")
        self.assertEqual(powershell.mistakes(command), [])
        self.assertEqual(called(command), {"Test-Path"})
        (mounted,) = self.container["volumeMounts"]
        paths = re.findall(r"[\w:\\$-]+\.ps1", command)
        expected = mounted["mountPath"].replace("/", "\\") + "\\windows-kube-proxy.ps1"
        self.assertEqual(paths, [f"C:{expected}", f"$env:CONTAINER_SANDBOX_MOUNT_POINT{expected}"])

    def test_it_runs_the_script_of_the_repository(self):
        (data,) = [one["data"] for one in companions.parts(self.objects, companions.WINDOWS) if one["kind"] == "ConfigMap"]
        self.assertEqual(data, {"windows-kube-proxy.ps1": SCRIPT})
        name = companions.pod(self.objects, companions.WINDOWS)["volumes"][0]["configMap"]["name"]
        self.assertRegex(name, "^windows-kube-proxy-[a-z0-9]{10}$")

    def test_no_agent_runs_there(self):
        self.assertEqual(rules.pod(self.objects)["nodeSelector"], {"kubernetes.io/os": "linux"})
        self.assertEqual(
            companions.pod(self.objects, companions.WINDOWS)["nodeSelector"], {"kubernetes.io/os": "windows"}
        )

    def test_the_page_says_first_that_it_never_ran(self):
        page = (COMPONENT / "README.md").read_text(encoding="utf-8")
        self.assertRegex(page, r"\A# .*\n\n\*\*This component has never run on Windows\.\*\*")
        for text in (SCRIPT, (COMPONENT / "kustomization.yaml").read_text(encoding="utf-8")):
            self.assertRegex(" ".join(text.split()[:80]), "never run on Windows")

    def test_the_example_of_the_page_is_complete(self):
        page = (COMPONENT / "README.md").read_text(encoding="utf-8")
        example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
        objects = kustomize_test.kustomized_text(example)
        given = {one["name"]: one["value"] for one in companions.container(objects, companions.WINDOWS)["env"]}
        self.assertEqual((given["NETWORK_NAME"], given["SOURCE_VIP_ENDPOINT"]), ("Calico", "Calico_ep"))
        self.assertEqual(set(given), {one["name"] for one in self.container["env"]})


if __name__ == "__main__":
    unittest.main()
