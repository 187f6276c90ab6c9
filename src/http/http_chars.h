// The character classes of HTTP and URLs, and the small text functions that parser, decoder and client share.
#pragma once

#include "http/http_parser.h"

// RFC 9110, section 5.6.2; RFC 3986, section 2

static inline bool http_is_alnum(uint8_t c) {
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static inline bool http_is_digit(uint8_t c) {
    return c >= '0' && c <= '9';
}

static inline bool http_is_one_of(uint8_t c, Str set) {
    return memchr(set.ptr, c, set.len) != NULL;
}

static inline bool http_is_token_char(uint8_t c) {
    return http_is_alnum(c) || http_is_one_of(c, STR("!#$%&'*+-.^_`|~"));
}

static inline bool http_is_target_char(uint8_t c) {
    return http_is_alnum(c) || http_is_one_of(c, STR("-._~:/?[]@!$&'()*+,;=%"));
}

static inline bool http_is_host_char(uint8_t c) {
    return http_is_alnum(c) || http_is_one_of(c, STR("-._~!$&'()*+,;=%"));
}

// Visible characters, blanks, and bytes above 0x7F, which HTTP hands on uninterpreted.
static inline bool http_is_value_char(uint8_t c) {
    return c == '\t' || (c >= 0x20 && c != 0x7F);
}

static inline int http_hex_digit(uint8_t c) {
    if (http_is_digit(c)) return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline uint8_t http_to_lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static inline bool http_equal_any_case(Str a, Str b) {
    if (a.len != b.len) return false;
    for (size_t i = 0; i < a.len; i++) {
        if (http_to_lower((uint8_t)a.ptr[i]) != http_to_lower((uint8_t)b.ptr[i])) return false;
    }
    return true;
}

static inline bool http_is_blank(char c) {
    return c == ' ' || c == '\t';
}

static inline Str http_trim(Str s) {
    while (s.len && http_is_blank(s.ptr[0]))
        s = str_slice(s, 1, s.len);
    while (s.len && http_is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

// host [":" port]; the host may be an IPv6 address in brackets, or empty.
bool http_is_authority(Str s);
const Str *http_headers_find(const HttpHeader *headers, uint32_t count, Str name);
