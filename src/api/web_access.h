// Who may use a worker that asks for no tokens: programs, and the pages that were let in.
//
// A page in somebody's browser can send requests to any address that the browser reaches, this machine's own
// among them. Two things tell such a request from a program's:
//   - the Host header. A page whose own name leads here (DNS rebinding: the name was turned to this address
//     after the page was loaded) counts as our own origin for the browser, and may read the answers. But the
//     browser sends that name. So Host must be an address, localhost, or a name that was given to us.
//   - Origin and Sec-Fetch-Site, which browsers add to the requests of other origins' pages.
#pragma once

#include "http/http_parser.h"

typedef struct {
    Str host;                         // --host: its name is one of ours
    Str cors_origin;                  // whose pages may use the worker: "*" or an origin; empty: nobody's
    const char *const *allowed_hosts; // [n_allowed_hosts] names, each text a comma-separated list; "*": any
    uint32_t n_allowed_hosts;
} WebAccess;

// Whether the request names a host that is ours, in its Host header and in its target, where that is a URL.
bool web_host_is_allowed(const WebAccess *access, const HttpRequest *request);
// Whether it comes from no page, from a page of our own or of --cors-origin, or is somebody following a link.
bool web_page_is_allowed(const WebAccess *access, const HttpRequest *request);

// Whether each text of the list is made of host names without scheme and port, or is "*".
bool web_hosts_are_names(const char *const *hosts, uint32_t n_hosts);
