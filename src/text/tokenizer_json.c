#include "text/tokenizer.h"
bool tokenizer_from_json(Str json, Arena *arena, Arena scratch, Tokenizer **out, Error *err) {
    (void)json;
    (void)arena;
    (void)scratch;
    (void)out;
    return error_set(err, ERR_UNSUPPORTED, "no");
}
