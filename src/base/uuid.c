#include "base/uuid.h"

#include "base/hash.h"

void uuid_from_random(const uint8_t random[16], char out[UUID_TEXT_BYTES]) {
    uint8_t bytes[16];
    char hex[33];
    memcpy(bytes, random, sizeof bytes);
    bytes[6] = (uint8_t)((bytes[6] & 0x0F) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3F) | 0x80);
    hex_from_bytes(bytes, sizeof bytes, hex);
    static const uint8_t groups[] = {8, 4, 4, 4, 12};
    const char *from = hex;
    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        memcpy(out, from, groups[i]);
        from += groups[i];
        out += groups[i];
        *out++ = i + 1 < COUNT_OF(groups) ? '-' : '\0';
    }
}
