#!/usr/bin/env python3
"""Writes schema_suite.txt: the JSON Schema test suite for draft 2020-12, as facts.

    pip download --no-binary :all: --no-deps jsonschema==4.23.0
    tar xzf jsonschema-4.23.0.tar.gz
    python3 tests/vectors/make_schema_suite.py jsonschema-4.23.0/json/tests/draft2020-12 > schema_suite.txt

The suite is https://github.com/json-schema-org/JSON-Schema-Test-Suite, under the MIT licence (Copyright (c) 2012
Julian Berman), as the source distribution of the Python package jsonschema has it. Each line is a JSON array: the
file's name, the schema, and for each instance its text and whether it is valid. Descriptions are left out, and so are
refRemote, which needs other documents, and what of the optional part is about other drafts or about formats that are not
checked.
"""
import json
import pathlib
import sys

OPTIONAL = ["bignum", "dependencies-compatibility", "ecmascript-regex", "float-overflow", "non-bmp-regex", "anchor", "id",
            "unknownKeyword", "refOfUnknownKeyword", "no-schema"]
FORMATS = ["date", "time", "date-time", "duration", "uuid", "ipv4", "ipv6", "hostname", "email", "uri", "uri-reference",
           "json-pointer", "relative-json-pointer", "unknown"]


def write(name, path):
    for group in json.loads(path.read_text()):
        tests = [[json.dumps(t["data"], ensure_ascii=False), t["valid"]] for t in group["tests"]]
        print(json.dumps([name, group["schema"], tests], ensure_ascii=False, separators=(",", ":")))


def main():
    root = pathlib.Path(sys.argv[1])
    for path in sorted(root.glob("*.json")):
        if path.stem != "refRemote":
            write(path.stem, path)
    for name in OPTIONAL:
        write("optional/" + name, root / "optional" / f"{name}.json")
    for name in FORMATS:
        write("format/" + name, root / "optional/format" / f"{name}.json")


if __name__ == "__main__":
    main()
