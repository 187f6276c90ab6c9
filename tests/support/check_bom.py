"""Checks a CycloneDX list of parts against the schema that the project's own library carries, that it names the
version that the program prints, and the parts that it should: check_bom.py FILE PRINTED PART..."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1]) as file:
    text = file.read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if error:
    sys.exit(f"{sys.argv[1]}: {error}")
bom = json.loads(text)
number, commit = bom["metadata"]["component"]["version"].split("+")
if not sys.argv[2].startswith(f"worker-orcd {number} ({commit}, "):
    sys.exit(f"{sys.argv[1]}: version {number}+{commit}, but the program prints: {sys.argv[2]}")
names = [part["name"] for part in bom["components"]]
if names != sys.argv[3:]:
    sys.exit(f"{sys.argv[1]}: it names {names}, not {sys.argv[3:]}")
