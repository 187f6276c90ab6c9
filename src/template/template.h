// Chat templates: the Jinja that GGUF files carry, rendered as Hugging Face's library does it in Python.
//
// Compiled and rendered, a template gives the bytes that jinja2 gives with the settings of
// transformers' apply_chat_template: an immutable sandbox, trim_blocks and lstrip_blocks, loop controls, the
// `generation` tag, `tojson`, `raise_exception` and `strftime_now`. Not supported, and refused by name:
// include, import, extends, autoescape, lipsum, and the filter random. pprint and wordwrap are as in Python
// 3.11.
//
// A rendered prompt is made of two kinds of text: what the template says, and what the request brought
// (messages, tools). They are told apart to the byte, because only the template's text may become control
// tokens.
//
// A template comes from a file that nobody has checked, so everything is bounded: source, nesting, steps,
// memory. It reaches nothing outside: no files, no clock but the one that it is given.
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "json/json_reader.h"
#include "text/text_span.h"

typedef struct Template Template;

// Parses. `source` must outlive the template, which lives in `arena`. Errors (ERR_UNSUPPORTED) begin with
// "line N: ". ERR_NO_MEMORY when the arena is full.
MUST_CHECK bool template_compile(Str source, Arena *arena, const Template **out, Error *err);

// A variable of the template that the model's file or this program names, and no request: its text counts as
// the template's.
typedef struct {
    const char *name; // "bos_token"
    Str text;
} TemplateConstant;

typedef struct {
    // An object whose members are variables: messages, tools, add_generation_prompt, … NULL for none. Its
    // nodes and text outlive the result.
    const JsonNode *variables;
    const TemplateConstant *constants; // [n_constants]; a variable of the same name wins
    uint32_t n_constants;
    uint64_t unix_ms;   // for strftime_now; in UTC
    uint64_t steps_max; // 0: TEMPLATE_STEPS_MAX
} TemplateInput;

typedef struct {
    Str text;
    const TextSpan *spans; // [n_spans] cover the text in order; neighbours differ in from_request
    uint32_t n_spans;
    uint64_t steps; // that rendering took, of TEMPLATE_STEPS_MAX
} TemplateText;

enum {
    TEMPLATE_SOURCE_BYTES_MAX = 1 << 20,
    TEMPLATE_STEPS_MAX = 20 * 1000 * 1000, // 10,000 messages of 1 KB each take about two millions
    // 10 MB of text in 10,000 messages take 30 to 95 MB with published templates; a text that is all escapes
    // of tojson takes about 50 bytes a byte.
    TEMPLATE_MEMORY_MAX = 512 << 20,
    TEMPLATE_DEPTH_MAX = 200,    // of nested expressions and statements in the source
    TEMPLATE_STACK_MAX = 1000,   // of those at work, with the calls between them, and of values in values
    TEMPLATE_RANGE_MAX = 100000, // of range(), as in jinja2's sandbox
};

// Renders into `arena`, which also takes what is computed on the way: TEMPLATE_MEMORY_MAX of it at most.
// Steps bound the time, about a second at most: what it does with much text or many values takes many.
// Errors: ERR_INVALID_REQUEST with "line N: " and the reason, or with what the template itself says through
// raise_exception; ERR_NO_MEMORY when that memory is full. Any number of threads may render one template.
MUST_CHECK bool template_render(const Template *t, const TemplateInput *input, Arena *arena,
                                TemplateText *out, Error *err);
