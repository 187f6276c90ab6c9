#include "api/page.h"

#include "base/embed.h"
#include "base/hash.h"
#include "base/strbuf.h"

#include <assert.h>

// What stands between the first `open` and the `close` after it. The page is ours: both are there.
static Str block(Str page, Str open, Str close) {
    const char *begin = memmem(page.ptr, page.len, open.ptr, open.len);
    assert(begin);
    begin += open.len;
    size_t left = (size_t)(page.ptr + page.len - begin);
    const char *end = memmem(begin, left, close.ptr, close.len);
    assert(end);
    return (Str){begin, (size_t)(end - begin)};
}

// 'sha256-…': a source expression of Content Security Policy Level 3, 2.3.1, in base64 (RFC 4648, 4).
static void put_hash(StrBuf *out, Str text) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    enum { DIGEST_BYTES = 32, PADDED_BYTES = 33 };
    uint8_t digest[PADDED_BYTES] = {0};
    Sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, text.ptr, text.len);
    sha256_end(&hash, digest);
    strbuf_put(out, STR("'sha256-"));
    for (size_t i = 0; i < PADDED_BYTES; i += 3) {
        uint32_t bits = (uint32_t)(digest[i] << 16 | digest[i + 1] << 8 | digest[i + 2]);
        bool is_last = i + 3 > DIGEST_BYTES;
        for (int shift = 18; shift >= (is_last ? 6 : 0); shift -= 6)
            strbuf_put_char(out, digits[bits >> shift & 63]);
    }
    strbuf_put(out, STR("='"));
}

void api_page_init(ApiPage *page) {
    Str html = {(const char *)embedded_page.data, embedded_page.size};
    StrBuf policy = STRBUF(page->policy);
    strbuf_put(&policy, STR("default-src 'none'; script-src "));
    put_hash(&policy, block(html, STR("<script type=\"module\">"), STR("</script>")));
    strbuf_put(&policy, STR("; style-src "));
    put_hash(&policy, block(html, STR("<style>"), STR("</style>")));
    strbuf_put(&policy, STR("; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                            "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types "
                            "'none'"));
    assert(!policy.truncated);
    const HttpHeader headers[API_PAGE_HEADERS] = {
        {STR("Content-Security-Policy"), strbuf_str(&policy)},
        {STR("X-Content-Type-Options"), STR("nosniff")},
        {STR("Referrer-Policy"), STR("no-referrer")},
        {STR("Cross-Origin-Opener-Policy"), STR("same-origin")},
        {STR("Cross-Origin-Resource-Policy"), STR("same-origin")},
    };
    for (uint32_t i = 0; i < API_PAGE_HEADERS; i++)
        page->headers[i] = headers[i];
    page->file = (ApiFile){
        .path = "/",
        .content_type = "text/html; charset=utf-8",
        .data = embedded_page.data,
        .size = embedded_page.size,
        .open = true,
        .headers = page->headers,
        .n_headers = API_PAGE_HEADERS,
    };
}
