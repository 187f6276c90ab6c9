// GET /openapi.json: what this worker takes and answers, as OpenAPI 3.1 describes it.
//
// It is written from the tables that answer requests: the routes of api.c, and each API's FieldRules with the
// limits that this worker was started with. So a field or a route that is added is described, too. What no
// table has (summaries, the shapes of values that their owner looks at) is in openapi.c; a test demands a row
// for each route.
#pragma once

#include "api/api_internal.h"

typedef enum {
    ABOUT_HEALTH,   // {"status": …}, 200 or 503
    ABOUT_METRICS,  // text
    ABOUT_INFO,     // a GET of facts
    ABOUT_MODEL,    // a GET with a parameter, 404 for others
    ABOUT_ACTION,   // a POST that is done at once, 200
    ABOUT_ACCEPTED, // the same, 202
    ABOUT_LOOK,     // a POST without a job
    ABOUT_GENERATE, // a job of the OpenAI or Anthropic API
    ABOUT_EXECUTE,  // a job of our own API
} AboutKind;

typedef struct {
    const char *path;
    const char *summary;
    AboutKind kind;
    const FieldTable *fields; // NULL: it has no body, or one of any fields
    const char *required;     // a field of them, beside those whose rules say so; NULL: none
    const char *answer;       // the schema of the JSON answer; NULL: any object
} RouteAbout;

// NULL where there is none.
const RouteAbout *openapi_about(const char *path);

// All of it. `b` may turn out too small: look at b->truncated.
void openapi_write(const Api *api, StrBuf *b);
