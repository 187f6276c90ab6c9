#include "text/tokenizer.h"

bool tokenizer_from_json(Str json, Arena *arena, Arena scratch, Tokenizer **out, Error *err) {
    (void)json;
    (void)arena;
    (void)scratch;
    *out = NULL;
    return error_set(err, ERR_UNSUPPORTED, "a tokenizer.json is not supported: use a vocabulary in a GGUF");
}
