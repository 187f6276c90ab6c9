"""Checks a CycloneDX list of parts against the schema that the project's own library carries, and that it names
what it should: check_bom.py FILE PART..."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1]) as file:
    text = file.read()
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
if error:
    sys.exit(f"{sys.argv[1]}: {error}")
names = [part["name"] for part in json.loads(text)["components"]]
if names != sys.argv[2:]:
    sys.exit(f"{sys.argv[1]}: it names {names}, not {sys.argv[2:]}")
