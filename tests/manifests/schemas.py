"""The API's own JSON schemas, of several versions of Kubernetes, as the wheel `kubernetes-validate` carries them.

Only the schemas are taken from it, and the strict ones, which know of no field that the API does not.
"""

import functools
import json
import os
import zipfile
from pathlib import Path

import jsonschema

WHEEL = Path(os.environ["SCHEMAS"])
# The oldest version that the wheel has, the newest, and one between.
VERSIONS = ("1.25", "1.31", "1.37")
# Kinds of extended API servers; the wheel has no schemas for them.
WITHOUT_SCHEMA = {
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "security.openshift.io/v1/SecurityContextConstraints",
}


@functools.cache
def _read(version, name):
    directory = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict"
    with zipfile.ZipFile(WHEEL) as wheel:
        return json.loads(wheel.read(f"{directory}/{name}.json"))


@functools.cache
def _validator(version, api_version, kind):
    group, _, number = api_version.rpartition("/")
    parts = [kind.lower(), group.split(".")[0], number]
    schema = _read(version, "-".join(part for part in parts if part))
    definitions = _read(version, "_definitions")
    resolver = jsonschema.RefResolver(schema["$id"], schema, {definitions["$id"]: definitions})
    return jsonschema.Draft202012Validator(schema, resolver=resolver)


def has(one):
    """Whether the wheel must have a schema for the object's kind."""
    return f"{one['apiVersion']}/{one['kind']}" not in WITHOUT_SCHEMA


def mistakes(one, version):
    """The mistakes of an object by the schema of that version, one line each."""
    found = _validator(version, one["apiVersion"], one["kind"]).iter_errors(one)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]
