#!/usr/bin/python3
"""helm.py COMMAND [OPTION...]: real Helm, as its own Go library, where no helm program is at hand.

  lint       what `helm lint --strict` has to say of the chart; exit 1 if anything
  template   the objects of a release, rendered without a cluster; --notes for the notes
  install    a release on the cluster of --kubeconfig
  upgrade    the same, for one that is there
  uninstall  its end

  --chart DIR        the chart [default: the repository's]
  --namespace NAME   [default: cni-keeper]; install creates it
  --release NAME     [default: cni-keeper]
  --values FILE      values as YAML; --set KEY=VALUE after them; both may be repeated
  --set-json K=JSON  as --set, with any value

The module is that of helm-requirements.txt, to be found on PYTHONPATH; scripts/lib.sh has need_helm for it.
"""

import argparse
import os
import sys
from pathlib import Path

import helm_python
import yaml

CHART = Path(__file__).resolve().parents[2] / "manifests/helm/cni-keeper"


def merged(below, above):
    """Merges `above` over `below` as Helm does it: maps are merged, everything else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    both = dict(below)
    for key, value in above.items():
        both[key] = merged(below.get(key), value)
    return both


def values_of(files=(), assignments=(), json_assignments=()):
    """The values of `--values`, `--set` and `--set-json`, later ones over earlier ones."""
    values = {}
    for file in files:
        values = merged(values, yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {})
    for assignment in assignments:
        values = merged(values, helm_python.parse_set_string(assignment))
    for assignment in json_assignments:
        values = merged(values, helm_python.parse_set_json(assignment))
    return values


def rendered(values=None, chart=CHART, release="cni-keeper", namespace="cni-keeper"):
    """Each template's output by its file name; raises the error with which Helm refuses."""
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(values or {})
        files = loaded.render(values or {}, name=release, namespace=namespace, is_install=True)
    return {Path(name).name: text for name, text in files.items()}


def objects(values=None, **where):
    """The objects that the chart renders to."""
    files = rendered(values, **where)
    texts = [text for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def findings(values=None, chart=CHART):
    """What `helm lint` finds, except that it wants an icon."""
    report = helm_python.lint(chart, values or {}, strict=True, namespace="cni-keeper")
    lines = [f"{message['path']}: {message['error']}" for message in report["messages"]]
    return [line for line in lines if "icon is recommended" not in line] + report["errors"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["lint", "template", "install", "upgrade", "uninstall"])
    parser.add_argument("--chart", type=Path, default=CHART)
    parser.add_argument("--release", default="cni-keeper")
    parser.add_argument("--namespace", default="cni-keeper")
    parser.add_argument("--values", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--set-json", action="append", default=[])
    parser.add_argument("--notes", action="store_true")
    parser.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG"))
    options = parser.parse_args()
    values = values_of(options.values, options.set, options.set_json)
    where = {"release": options.release, "namespace": options.namespace, "chart": options.chart}

    if options.command == "lint":
        lines = findings(values, options.chart)
        print("\n".join(lines) or f"{options.chart.name}: no findings")
        return 1 if lines else 0
    if options.command == "template":
        if options.notes:
            print(rendered(values, **where)["NOTES.txt"].strip())
        else:
            print(yaml.safe_dump_all(objects(values, **where), sort_keys=False, width=120), end="")
        return 0
    if not options.kubeconfig:
        parser.error("--kubeconfig or KUBECONFIG has to name the cluster")
    with helm_python.Config(kubeconfig_path=options.kubeconfig, namespace=options.namespace) as cluster:
        if options.command == "uninstall":
            cluster.uninstall(options.release)
            return 0
        if options.command == "install":
            release = cluster.install(str(options.chart), options.release, values, create_namespace=True)
        else:
            release = cluster.upgrade(str(options.chart), options.release, values)
    print(release["notes"].strip())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except helm_python.HelmError as error:
        print(f"helm: {error}", file=sys.stderr)
        sys.exit(1)
