// Bearer tokens: "Authorization: Bearer TOKEN" (RFC 6750) against the accepted ones, one a line of a file.
//
// Comparing takes a time that depends on the lengths only, and all tokens are compared. Several tokens allow
// for a change of tokens without a gap. Blank lines and lines that begin with '#' count as nothing.
#pragma once

#include "base/arena.h"
#include "base/error.h"

enum { AUTH_FILE_BYTES_MAX = 64 * 1024, AUTH_TOKENS_MAX = 64 };

typedef struct {
    bool required;
    Str tokens[AUTH_TOKENS_MAX];
    uint32_t n_tokens;
} Auth;

// The tokens stay slices of `text`. Errors (ERR_USAGE): none at all, too many, characters that no header
// holds.
MUST_CHECK bool auth_parse(Str text, Auth *out, Error *err);

// The tokens of a file, which `memory` keeps (AUTH_MEMORY_BYTES). Errors name the file, and leave *out alone.
// The first reading takes whatever can be read, and waits for it: `<(…)` in a shell is a pipe. A later one
// takes a regular file alone and waits for nobody, since the thread that does it answers requests.
enum { AUTH_MEMORY_BYTES = AUTH_FILE_BYTES_MAX + 64 };
MUST_CHECK bool auth_read_file(const char *path, Arena memory, Auth *out, Error *err);
MUST_CHECK bool auth_reread_file(const char *path, Arena memory, Auth *out, Error *err);

// `header` is the Authorization header's value, or NULL.
bool auth_allows(const Auth *auth, const Str *header);
// The same for a header that holds the token alone (X-Api-Key).
bool auth_allows_token(const Auth *auth, const Str *header);
