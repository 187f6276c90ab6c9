#!/usr/bin/env python3
"""Checks the blocks of README.md that others' programs read.

check_manifests.py kubernetes README WRONG.md ...: its yaml blocks, Kubernetes' own kinds by its schemas
    (kubernetes-validate, strict), KEDA's by its models (cloudcoil.models.keda), an InferencePool by the schema
    below. Prints the kinds that it has seen, sorted, and a line for each file WRONG.md in which nothing is
    found to be wrong. All in one process: the schemas take seconds to load.
check_manifests.py nginx README FOLDER: its nginx blocks, each written to FOLDER/N.conf, with the certificate
    of FOLDER, for `nginx -t`. Prints how many.
"""
import re
import sys


def object_of(required, **properties):
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


NAME = {"type": "string", "minLength": 1, "maxLength": 253}
PORT = object_of(["number"], number={"type": "integer", "minimum": 1, "maximum": 65535})
LABELS = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}}
# inference.networking.k8s.io/v1, by the API reference of the Gateway API inference extension.
INFERENCE_POOL = object_of(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "inference.networking.k8s.io/v1"},
    kind={"const": "InferencePool"},
    metadata={"type": "object", "required": ["name"]},
    spec=object_of(
        ["selector", "targetPorts", "endpointPickerRef"],
        selector=object_of(["matchLabels"], matchLabels=LABELS),
        targetPorts={"type": "array", "items": PORT, "minItems": 1, "maxItems": 8},
        appProtocol={"enum": ["http", "kubernetes.io/h2c"]},
        endpointPickerRef=object_of(
            ["name"], group={"type": "string"}, kind={"type": "string"}, name=NAME, port=PORT,
            failureMode={"enum": ["FailOpen", "FailClose"]})))


def all_known(given, known, place):
    """What a model has left out of a manifest it does not know."""
    if isinstance(given, dict):
        for key, value in given.items():
            assert isinstance(known, dict) and key in known, f"{place}.{key} is not known"
            all_known(value, known[key], f"{place}.{key}")
    elif isinstance(given, list):
        for i, value in enumerate(given):
            all_known(value, known[i], f"{place}[{i}]")


def check(manifest):
    import jsonschema
    import kubernetes_validate
    from cloudcoil.models.keda.v1alpha1 import ScaledObject

    group = manifest["apiVersion"].rpartition("/")[0]
    if group == "inference.networking.k8s.io":
        jsonschema.validate(manifest, INFERENCE_POOL)
    elif group == "keda.sh":
        assert manifest["kind"] == "ScaledObject", manifest["kind"]
        model = ScaledObject.model_validate(manifest)
        all_known(manifest, model.model_dump(by_alias=True, mode="json"), "ScaledObject")
    else:
        kubernetes_validate.validate(manifest, "1.37.0", strict=True)
    return manifest["kind"]


def blocks(readme, language):
    with open(readme, encoding="utf-8") as file:
        return re.findall(rf"^```{language}\n(.*?)^```$", file.read(), re.M | re.S)


def kinds(readme):
    import yaml

    return [check(manifest) for block in blocks(readme, "yaml") for manifest in yaml.safe_load_all(block)]


def check_kubernetes(readme, *wrong):
    print(" ".join(sorted(kinds(readme))))
    for path in wrong:
        try:
            print(f"nothing is wrong with {path}: {kinds(path)}")
        except Exception as error:
            print(f"{path}: {str(error).splitlines()[0]}", file=sys.stderr)


def write_nginx(readme, folder):
    confs = blocks(readme, "nginx")
    for i, block in enumerate(confs):
        block = block.replace("/etc/nginx/tls/", folder + "/")
        with open(f"{folder}/{i}.conf", "w", encoding="utf-8") as out:
            out.write(f"pid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n")
            for kind in "client_body", "proxy", "fastcgi", "uwsgi", "scgi":
                out.write(f"{kind}_temp_path {folder}/{kind};\n")
            out.write(block + "}\n")
    print(len(confs))


{"kubernetes": check_kubernetes, "nginx": write_nginx}[sys.argv[1]](*sys.argv[2:])
