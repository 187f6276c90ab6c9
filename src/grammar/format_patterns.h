// The values of `format` that are checked, each as a pattern (rx.h) that the whole string must match. Lengths
// beyond what the pattern says are not checked (a hostname has at most 253 characters). Other formats, such
// as idn-email, idn-hostname, iri, iri-reference, uri-template and regex, are annotations.
#pragma once

#include "base/base.h"

MUST_CHECK bool format_has_pattern(Str name, const char **pattern);
