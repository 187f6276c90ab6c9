"""Chat templates as Python renders them: jinja2 with the settings that transformers' apply_chat_template uses."""

import copy
import datetime
import json

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2023, 11, 14, 22, 13, 20)  # of strftime_now: 1,700,000,000 s after 1970, in UTC
CONSTANTS = {"bos_token": "<s>", "eos_token": "</s>"}


class Generation(Extension):
    """{% generation %}: marks what the assistant said; renders as its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
ENVIRONMENT.filters["tojson"] = tojson
ENVIRONMENT.globals["raise_exception"] = raise_exception
ENVIRONMENT.globals["strftime_now"] = NOW.strftime


def render(source, variables):
    """The text, or None where the template or its rendering fails. (The filter indent changes a list that it is given.)"""
    try:
        return ENVIRONMENT.from_string(source).render(**CONSTANTS, **copy.deepcopy(variables))
    except Exception:
        return None
