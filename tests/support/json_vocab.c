#include "json_vocab.h"

#include "base/strbuf.h"
#include "base/utf8.h"
#include "text/byte_level.h"

static void put_token(StrBuf *b, Str text, uint32_t *id) {
    strbuf_put(b, *id ? STR(",\"") : STR("\""));
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\') strbuf_put_char(b, '\\');
        strbuf_put_char(b, text.ptr[i]);
    }
    strbuf_printf(b, "\":%u", (*id)++);
}

static void put_vocab(StrBuf *b, const JsonVocab *v) {
    uint32_t id = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[8];
        StrBuf token = STRBUF(text);
        if (v->characters) strbuf_printf(&token, "<0x%02X>", byte);
        else token.len = utf8_encode(byte_level_char((uint8_t)byte), text);
        put_token(b, strbuf_str(&token), &id);
    }
    if (v->characters) put_token(b, STR("\xE2\x96\x81"), &id);
    for (char c = 'a'; v->characters && c <= 'z'; c++)
        put_token(b, (Str){&c, 1}, &id);
    Str rest = str_from_c(v->tokens);
    while (rest.len) {
        size_t end = 0;
        while (end < rest.len && rest.ptr[end] != ' ')
            end++;
        put_token(b, str_slice(rest, 0, end), &id);
        rest = str_slice(rest, end < rest.len ? end + 1 : end, rest.len);
    }
}

static void put_member(StrBuf *b, const char *key, const char *value) {
    if (value) strbuf_printf(b, "\"%s\":%s,", key, value);
}

Str json_vocab_write(const JsonVocab *v, Arena *arena) {
    StrBuf b = strbuf_begin_in_arena(arena);
    strbuf_put_char(&b, '{');
    put_member(&b, "added_tokens", v->added_tokens);
    put_member(&b, "normalizer", v->normalizer);
    put_member(&b, "pre_tokenizer", v->pre_tokenizer);
    put_member(&b, "post_processor", v->post_processor);
    put_member(&b, "decoder", v->decoder);
    strbuf_printf(&b, "\"model\":{\"type\":\"BPE\",%s\"vocab\":{", v->options ? v->options : "");
    put_vocab(&b, v);
    strbuf_printf(&b, "},\"merges\":%s}}", v->merges ? v->merges : "[]");
    return strbuf_end_in_arena(&b, arena);
}

// clang-format off
#define SPECIAL(id, text) "{\"id\":" #id ",\"content\":\"" text "\",\"special\":true}"
#define SPECIAL_RSTRIP(id, text) "{\"id\":" #id ",\"content\":\"" text "\",\"special\":true,\"rstrip\":true}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define SPACES_AND_BYTES                                                                  \
    "{\"type\":\"Sequence\",\"decoders\":["                                               \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"}," \
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"                                    \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
#define BOS(id, text)                                                                                      \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"" text "\",\"type_id\":0}}," \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"" text "\":{\"id\":\"" text        \
    "\",\"ids\":[" #id "],\"tokens\":[\"" text "\"]}}}"

const JsonVocab json_vocab_samples[JSON_VOCAB_SAMPLES] = {
    {.tokens = "us er user th the",
     .merges = "[\"u s\",\"e r\",[\"us\",\"er\"],[\"t\",\"h\"],\"th e\"]",
     .added_tokens = "[" SPECIAL(261, "<|im_start|>") "," SPECIAL(262, "<|im_end|>") ","
                     "{\"id\":263,\"content\":\"<think>\",\"special\":false,\"normalized\":true}]",
     .normalizer = "{\"type\":\"NFC\"}",
     .pre_tokenizer = BYTE_LEVEL,
     .decoder = BYTE_LEVEL},
    {.options = "\"ignore_merges\":true,",
     .tokens = "in the",
     .merges = "[\"i n\"]",
     .added_tokens = "[" SPECIAL(258, "<|begin_of_text|>") "," SPECIAL(259, "<|start_header_id|>") ","
                     SPECIAL(260, "<|end_header_id|>") "," SPECIAL(261, "<|eot_id|>") "]",
     .pre_tokenizer =
         "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
         "\"[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":"
         "\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":"
         "false}]}",
     .decoder = BYTE_LEVEL,
     .post_processor = BOS(258, "<|begin_of_text|>")},
    {.characters = true,
     .options = "\"byte_fallback\":true,\"fuse_unk\":true,",
     .tokens = "th the \xE2\x96\x81the er",
     .merges = "[\"t h\",\"th e\",[\"\xE2\x96\x81\",\"the\"],\"e r\"]",
     .added_tokens = "[" SPECIAL(287, "<s>") "," SPECIAL_RSTRIP(288, "<|user|>") ","
                     SPECIAL_RSTRIP(289, "<|assistant|>") "," SPECIAL_RSTRIP(290, "<|system|>") ","
                     SPECIAL_RSTRIP(291, "<|end|>") "]",
     .normalizer =
         "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xE2\x96\x81\"},"
         "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\xE2\x96\x81\"}]}",
     .decoder = SPACES_AND_BYTES,
     .post_processor = BOS(287, "<s>")},
    {.characters = true,
     .options = "\"byte_fallback\":true,",
     .tokens = "in \xE2\x96\x81in",
     .merges = "[\"i n\",\"\xE2\x96\x81 in\"]",
     .added_tokens =
         "[" SPECIAL(285, "<bos>") "," SPECIAL(286, "<start_of_turn>") "," SPECIAL(287, "<end_of_turn>") "]",
     .pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"first\","
                      "\"split\":false}",
     .decoder = SPACES_AND_BYTES,
     .post_processor = BOS(285, "<bos>")},
};
