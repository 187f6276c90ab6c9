#include "api/web_access.h"

#include "http/http_chars.h"

// ---- hosts ----

// Without the port. "[::1]:8080" keeps its brackets.
static Str authority_host(Str authority) {
    if (authority.len && authority.ptr[0] == '[') {
        const char *close = memchr(authority.ptr, ']', authority.len);
        return close ? str_slice(authority, 0, (size_t)(close - authority.ptr) + 1) : authority;
    }
    const char *colon = authority.len ? memchr(authority.ptr, ':', authority.len) : NULL;
    return colon ? str_slice(authority, 0, (size_t)(colon - authority.ptr)) : authority;
}

// What follows the scheme of a URL, up to its path.
static Str url_authority(Str url, size_t scheme) {
    size_t end = scheme;
    while (end < url.len && url.ptr[end] != '/' && url.ptr[end] != '?')
        end++;
    return str_slice(url, scheme, end);
}

// Four numbers up to 255. Browsers write any other spelling of an address like this before they send it.
static bool is_ipv4(Str host) {
    uint32_t parts = 0;
    for (;;) {
        uint32_t value = 0;
        size_t digits = 0;
        while (digits < host.len && digits < 4 && http_is_digit((uint8_t)host.ptr[digits]))
            value = value * 10 + (uint32_t)(host.ptr[digits++] - '0');
        if (digits == 0 || digits > 3 || value > 255) return false;
        host = str_slice(host, digits, host.len);
        if (++parts == 4) return host.len == 0;
        if (host.len == 0 || host.ptr[0] != '.') return false;
        host = str_slice(host, 1, host.len);
    }
}

// No name has brackets; what is in them was checked with the header.
static bool is_address(Str host) {
    return (host.len && host.ptr[0] == '[') || is_ipv4(host);
}

static bool is_our_name(const WebAccess *access, Str host) {
    Str origin = access->cors_origin;
    Str page_host = authority_host(url_authority(origin, http_scheme_length(origin)));
    if (str_eq(origin, STR("*")) || http_equal_any_case(host, STR("localhost")) ||
        http_equal_any_case(host, access->host) || http_equal_any_case(host, page_host)) {
        return true;
    }
    for (uint32_t i = 0; i < access->n_allowed_hosts; i++) {
        Str list = str_from_c(access->allowed_hosts[i]);
        if (http_list_has_token(list, host) || http_list_has_token(list, STR("*"))) return true;
    }
    return false;
}

static bool is_ours(const WebAccess *access, Str authority) {
    Str host = authority_host(authority);
    return host.len && (is_address(host) || is_our_name(access, host));
}

bool web_host_is_allowed(const WebAccess *access, const HttpRequest *request) {
    const Str *host = http_request_header(request, STR("Host"));
    size_t scheme = http_scheme_length(request->target);
    if (scheme && !is_ours(access, url_authority(request->target, scheme))) return false;
    return !host || is_ours(access, *host); // HTTP/1.0 goes without; browsers never do
}

bool web_hosts_are_names(const char *const *hosts, uint32_t n_hosts) {
    for (uint32_t i = 0; i < n_hosts; i++) {
        for (const char *c = hosts[i]; *c; c++) {
            bool is_name = http_is_alnum((uint8_t)*c) || http_is_one_of((uint8_t)*c, STR("-._*, "));
            if (!is_name) return false;
        }
    }
    return true;
}

// ---- pages ----

// Somebody follows a link to us, or opens it in a window: what comes is theirs to see, and no page can read
// it.
static bool is_navigation(const HttpRequest *request) {
    const Str *mode = http_request_header(request, STR("Sec-Fetch-Mode"));
    const Str *destination = http_request_header(request, STR("Sec-Fetch-Dest"));
    bool reads = request->method == HTTP_GET || request->method == HTTP_HEAD;
    return reads && mode && str_eq(*mode, STR("navigate")) && destination &&
           str_eq(*destination, STR("document"));
}

// Some requests of any page come without asking first (a form's, an image's, fetch with "no-cors"). Their
// answers cannot be read by the page, but what they run or stop is run or stopped. Sec-Fetch-Site says it
// best. An Origin that is not the Host comes second, since a proxy may have changed the Host.
bool web_page_is_allowed(const WebAccess *access, const HttpRequest *request) {
    const Str *origin = http_request_header(request, STR("Origin"));
    const Str *site = http_request_header(request, STR("Sec-Fetch-Site"));
    const Str *host = http_request_header(request, STR("Host"));
    Str let_in = access->cors_origin;
    if (str_eq(let_in, STR("*")) || (let_in.len && origin && str_eq(*origin, let_in))) return true;
    if (site) {
        return str_eq(*site, STR("same-origin")) || str_eq(*site, STR("none")) || is_navigation(request);
    }
    if (!origin) return true; // no browser's
    size_t scheme = http_scheme_length(*origin);
    return scheme && host && http_equal_any_case(str_slice(*origin, scheme, origin->len), *host);
}
