#include "http/http_parser.h"

#include "http/http_chars.h"

// *( size [";" extension] CR LF data CR LF ) "0" [";" extension] CR LF *( trailer CR LF ) CR LF
// (RFC 9112, section 7.1)
typedef enum {
    CHUNK_SIZE,
    CHUNK_BLANKS, // between the size and ';'
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_LAST_LF,
    CHUNK_END,
} ChunkState;

static bool chunk_fault(const HttpChunkedDecoder *d, uint16_t status, const char *message, HttpFault *fault) {
    *fault = (HttpFault){.status = status, .position = (uint32_t)d->coded_bytes, .message = message};
    return false;
}

// One more byte of what is read only to be dropped.
static bool chunk_ignore(HttpChunkedDecoder *d, uint8_t c, HttpFault *fault) {
    if (!http_is_value_char(c)) return chunk_fault(d, 400, "a control character in a chunked body", fault);
    if (++d->ignored_bytes <= HTTP_CHUNK_IGNORED_BYTES_MAX) return true;
    return chunk_fault(d, 431, "chunk extensions and trailers of more than 8 KiB", fault);
}

static bool chunk_take_size(HttpChunkedDecoder *d, uint8_t c, HttpFault *fault) {
    int digit = http_hex_digit(c);
    if (digit >= 0) {
        if (d->size_digits == 16) return chunk_fault(d, 400, "a chunk size of more than 16 digits", fault);
        d->size_digits++;
        d->chunk_left = d->chunk_left << 4 | (uint64_t)digit;
        return true;
    }
    if (d->size_digits == 0) return chunk_fault(d, 400, "expected a chunk size", fault);
    uint64_t most = d->body_bytes_max ? d->body_bytes_max : HTTP_BODY_BYTES_MAX;
    if (d->chunk_left > most - d->body_bytes) {
        chunk_fault(d, 413, "the body is too large", fault);
        fault->limit = most;
        return false;
    }
    if (c == '\r') {
        d->state = CHUNK_SIZE_LF;
    } else if (c == ';') {
        d->state = CHUNK_EXTENSION;
    } else if (http_is_blank((char)c)) {
        d->state = CHUNK_BLANKS;
    } else {
        return chunk_fault(d, 400, "a chunk size is hexadecimal digits alone", fault);
    }
    return true;
}

static bool chunk_take_trailer(HttpChunkedDecoder *d, uint8_t c, HttpFault *fault) {
    if (c == '\r' && (d->line_has_colon || d->line_bytes == 0)) {
        d->state = d->line_bytes == 0 ? CHUNK_LAST_LF : CHUNK_TRAILER_LF;
        return true;
    }
    if (!d->line_has_colon && c == ':' && d->line_bytes > 0) {
        d->line_has_colon = true;
    } else if (!d->line_has_colon && !http_is_token_char(c)) {
        return chunk_fault(d, 400, "a malformed trailer line", fault);
    }
    d->line_bytes++;
    return chunk_ignore(d, c, fault);
}

// A byte that must be this one, and the state after it.
static bool chunk_expect(HttpChunkedDecoder *d, uint8_t c, char expected, ChunkState next, HttpFault *fault) {
    if (c != (uint8_t)expected) return chunk_fault(d, 400, "expected CR LF in a chunked body", fault);
    d->state = (uint8_t)next;
    return true;
}

// Every byte but those of the data.
static bool chunk_take_byte(HttpChunkedDecoder *d, uint8_t c, HttpFault *fault) {
    switch ((ChunkState)d->state) {
    case CHUNK_SIZE: return chunk_take_size(d, c, fault);
    case CHUNK_BLANKS:
        if (c == ';') d->state = CHUNK_EXTENSION;
        if (c != ';' && !http_is_blank((char)c)) {
            return chunk_fault(d, 400, "a chunk size is hexadecimal digits alone", fault);
        }
        return chunk_ignore(d, c, fault);
    case CHUNK_EXTENSION:
        if (c == '\r') return chunk_expect(d, c, '\r', CHUNK_SIZE_LF, fault);
        return chunk_ignore(d, c, fault);
    case CHUNK_SIZE_LF: {
        ChunkState next = d->chunk_left ? CHUNK_DATA : CHUNK_TRAILER;
        d->size_digits = 0;
        return chunk_expect(d, c, '\n', next, fault);
    }
    case CHUNK_DATA_CR: return chunk_expect(d, c, '\r', CHUNK_DATA_LF, fault);
    case CHUNK_DATA_LF: return chunk_expect(d, c, '\n', CHUNK_SIZE, fault);
    case CHUNK_TRAILER: return chunk_take_trailer(d, c, fault);
    case CHUNK_TRAILER_LF:
        d->line_bytes = 0;
        d->line_has_colon = false;
        return chunk_expect(d, c, '\n', CHUNK_TRAILER, fault);
    case CHUNK_LAST_LF: return chunk_expect(d, c, '\n', CHUNK_END, fault);
    case CHUNK_DATA:
    case CHUNK_END: break;
    }
    return true;
}

HttpParse http_decode_chunked(HttpChunkedDecoder *d, char *to, const char *from, size_t size,
                              size_t *consumed, size_t *written, HttpFault *fault) {
    *consumed = *written = 0;
    while (*consumed < size && d->state != CHUNK_END) {
        size_t step = 1;
        if (d->state == CHUNK_DATA) {
            step = (size_t)min_u64(d->chunk_left, size - *consumed);
            memmove(to + *written, from + *consumed, step);
            *written += step;
            d->body_bytes += step;
            d->chunk_left -= step;
            if (d->chunk_left == 0) d->state = CHUNK_DATA_CR;
        } else if (!chunk_take_byte(d, (uint8_t)from[*consumed], fault)) {
            return HTTP_PARSE_BAD;
        }
        *consumed += step;
        d->coded_bytes += step;
    }
    return d->state == CHUNK_END ? HTTP_PARSE_DONE : HTTP_PARSE_INCOMPLETE;
}
