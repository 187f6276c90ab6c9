#include "text/pretokenizer.h"

#include "text/unicode.h"

// Parts that several patterns share. Ranges of characters beyond ASCII are written as escapes: their glyphs
// do not survive every editor.
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LINE_ENDS_AND_SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER_LIKE "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER_LIKE "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE_WORD "[^\\r\\n\\p{L}\\p{N}]?"
#define CASED_WORD(suffix) \
    BEFORE_WORD UPPER_LIKE "*" LOWER_LIKE "+" suffix "|" BEFORE_WORD UPPER_LIKE "+" LOWER_LIKE "*" suffix
#define CJK_AND_KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define CJK_AND_HANGUL "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define CASED_LETTERS                                                                                 \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"   \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}"             \
    "\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}"   \
    "\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}"   \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}" \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}"  \
    "\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}"  \
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}" \
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}"   \
    "\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"            \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"            \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"  \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}" \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"                \
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"            \
    "\\x{1E900}-\\x{1E943}"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORDS_AND_NUMBERS(numbers) \
    CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LINE_ENDS_AND_SPACES
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"

static const char *const gpt2[PRETOKENIZER_LEVELS_MAX] = {GPT2};
static const char *const digits_then_gpt2[PRETOKENIZER_LEVELS_MAX] = {"\\p{N}", GPT2};
static const char *const llama3[PRETOKENIZER_LEVELS_MAX] = {WORDS_AND_NUMBERS("\\p{N}{1,3}")};
static const char *const qwen2[PRETOKENIZER_LEVELS_MAX] = {WORDS_AND_NUMBERS("\\p{N}")};
static const char *const qwen35[PRETOKENIZER_LEVELS_MAX] = {
    CONTRACTIONS "|" BEFORE_WORD
                 "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINE_ENDS_AND_SPACES,
};
static const char *const gpt4o[PRETOKENIZER_LEVELS_MAX] = {
    CASED_WORD(CONTRACTIONS "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINE_ENDS_AND_SPACES,
};
static const char *const tekken[PRETOKENIZER_LEVELS_MAX] = {
    CASED_WORD("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINE_ENDS_AND_SPACES,
};
static const char *const deepseek_llm[PRETOKENIZER_LEVELS_MAX] = {
    "[\\r\\n]",
    "\\s?[" CASED_LETTERS "]+",
    "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
    "\\s+$",
    CJK_AND_HANGUL,
    "\\p{N}+",
};
static const char *const deepseek_coder[PRETOKENIZER_LEVELS_MAX] = {
    "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK_AND_HANGUL, "\\p{N}",
};
static const char *const deepseek_v3[PRETOKENIZER_LEVELS_MAX] = {
    "\\p{N}{1,3}",
    CJK_AND_KANA,
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINE_ENDS_AND_SPACES,
};
static const char *const falcon[PRETOKENIZER_LEVELS_MAX] = {
    "[\\p{P}\\$\\+<=>\\^~\\|`]+",
    GPT2,
    "[0-9][0-9][0-9]",
};
static const char *const fallback[PRETOKENIZER_LEVELS_MAX] = {
    "[\\p{P}\\$\\+<=>\\^~\\|]+",
    GPT2,
    "\\p{N}+",
    "[0-9][0-9][0-9]",
};
static const char *const bloom[PRETOKENIZER_LEVELS_MAX] = {BLOOM};
static const char *const viking[PRETOKENIZER_LEVELS_MAX] = {BLOOM, "\\p{N}"};
static const char *const seed_coder[PRETOKENIZER_LEVELS_MAX] = {
    CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINE_ENDS_AND_SPACES,
};
static const char *const bailing[PRETOKENIZER_LEVELS_MAX] = {
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|"
    "\\s+(?!\\S)|\\s+",
};

static const char *const jais2[PRETOKENIZER_LEVELS_MAX] = {
    CONTRACTIONS "|" BEFORE_WORD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                 "\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|"
                 "\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}",
};
static const char *const youtu[PRETOKENIZER_LEVELS_MAX] = {
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}"
    "\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+"
    "|" CJK_AND_KANA,
    CASED_WORD(CONTRACTIONS "?") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINE_ENDS_AND_SPACES,
};
static const char *const tiny_aya[PRETOKENIZER_LEVELS_MAX] = {
    "\\d{1,3}(?=(?:\\d{3})*\\b)",
    CASED_WORD(CONTRACTIONS "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINE_ENDS_AND_SPACES,
};
#define NOT_HAN(set) "[" set "&&[^\\p{Han}]]"
#define HAN_UPPER NOT_HAN("\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}")
#define HAN_LOWER NOT_HAN("\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}")
static const char *const kimi_k2[PRETOKENIZER_LEVELS_MAX] = {
    "[\\p{Han}]+|" BEFORE_WORD HAN_UPPER "*" HAN_LOWER "+" CONTRACTIONS "?|" BEFORE_WORD HAN_UPPER
    "+" HAN_LOWER "*" CONTRACTIONS "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LINE_ENDS_AND_SPACES,
};
static const char *const superbpe[PRETOKENIZER_LEVELS_MAX] = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"};
static const char *const minicpm5[PRETOKENIZER_LEVELS_MAX] = {
    "\\p{N}{1,3}",
    WORDS_AND_NUMBERS("\\p{N}+"),
};
static const char *const exaone_moe[PRETOKENIZER_LEVELS_MAX] = {
    CONTRACTIONS "|" BEFORE_WORD
                 "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|"
                 "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
};

// name, patterns, whole_words, adds_bos, nfc
const PretokenizerRow pretokenizer_rows[] = {
    {"a.x-4.0", gpt2, false, false, false},
    {"bailingmoe", bailing, false, false, false},
    {"bailingmoe2", bailing, false, false, false},
    {"bloom", bloom, false, false, false},
    {"chatglm-bpe", llama3, false, false, false},
    {"codeshell", digits_then_gpt2, false, false, false},
    {"cohere2moe", tiny_aya, false, false, false},
    {"command-r", digits_then_gpt2, false, false, false},
    {"dbrx", llama3, false, false, false},
    {"deepseek-coder", deepseek_coder, false, false, false},
    {"deepseek-llm", deepseek_llm, false, false, false},
    {"deepseek-r1-qwen", qwen2, false, false, true},
    {"deepseek-v3", deepseek_v3, false, false, false},
    {"default", fallback, false, false, false},
    {"exaone", digits_then_gpt2, false, false, false},
    {"exaone-moe", exaone_moe, false, false, false},
    {"exaone4", gpt2, false, false, false},
    {"f2llmv2", qwen2, false, false, true},
    {"falcon", falcon, false, false, false},
    {"falcon-h1", llama3, true, true, false},
    {"falcon3", llama3, true, true, false},
    {"gigachat", gpt2, false, false, false},
    {"glm4", llama3, false, false, false},
    {"gpt-2", gpt2, false, false, false},
    {"gpt-4o", gpt4o, true, false, false},
    {"gpt3-finnish", bloom, false, false, false},
    {"granite-docling", gpt2, false, false, false},
    {"grok-2", qwen2, false, false, false},
    {"hunyuan", qwen2, false, false, false},
    {"hunyuan-dense", deepseek_v3, false, false, false},
    {"hy_v4", deepseek_v3, false, false, false},
    {"jais", gpt2, false, false, false},
    {"jais-2", jais2, false, false, false},
    {"joyai-llm", deepseek_v3, false, false, false},
    {"kanana2", gpt4o, false, false, false},
    {"kimi-k2", kimi_k2, false, false, false},
    {"kormo", qwen2, false, false, true},
    {"lfm2", llama3, true, true, false},
    {"llada-moe", bailing, false, false, false},
    {"llama-bpe", llama3, true, true, false},
    {"llama-v3", llama3, true, true, false},
    {"llama3", llama3, true, true, false},
    {"llama4", gpt4o, true, false, false},
    {"megrez", qwen2, false, false, true},
    {"mellum", gpt2, false, false, false},
    {"mellum2", digits_then_gpt2, false, false, false},
    {"midm-2.0", llama3, true, true, false},
    {"minerva-7b", digits_then_gpt2, false, false, false},
    {"minicpm5", minicpm5, true, false, false},
    {"minimax-m2", gpt4o, false, false, false},
    {"mpt", gpt2, false, false, false},
    {"olmo", gpt2, false, false, false},
    {"phi-2", gpt2, false, false, false},
    {"pixtral", llama3, true, true, false},
    {"poro-chat", bloom, false, false, false},
    {"qwen2", qwen2, false, false, true},
    {"qwen35", qwen35, false, false, true},
    {"refact", digits_then_gpt2, false, false, false},
    {"seed-coder", seed_coder, false, false, false},
    {"smaug-bpe", llama3, false, false, false},
    {"smollm", digits_then_gpt2, false, false, false},
    {"solar-open", qwen2, false, false, false},
    {"stablelm2", qwen2, false, false, true},
    {"starcoder", digits_then_gpt2, false, false, false},
    {"superbpe", superbpe, false, false, false},
    {"talkie", gpt4o, false, false, false},
    {"tekken", tekken, true, true, false},
    {"tiny_aya", tiny_aya, false, false, false},
    {"trillion", gpt2, false, false, false},
    {"viking", viking, false, false, false},
    {"youtu", youtu, true, false, false},
};
const uint32_t pretokenizer_row_count = COUNT_OF(pretokenizer_rows);

const PretokenizerRow *pretokenizer_find(Str name) {
    for (uint32_t i = 0; i < pretokenizer_row_count; i++) {
        if (str_eq(name, str_from_c(pretokenizer_rows[i].name))) return &pretokenizer_rows[i];
    }
    return NULL;
}

bool pretokenizer_add(Pretokenizer *p, Str pattern, SplitBehavior behavior, bool is_inverted, Arena *arena,
                      Arena scratch, Error *err) {
    if (p->n_levels == PRETOKENIZER_LEVELS_MAX) {
        return error_set(err, ERR_UNSUPPORTED, "more than %d patterns one after the other",
                         PRETOKENIZER_LEVELS_MAX);
    }
    PretokenizerSplit *level = &p->levels[p->n_levels++];
    level->behavior = behavior;
    level->is_inverted = is_inverted;
    return regex_compile(pattern, arena, scratch, &level->regex, err);
}

bool pretokenizer_compile(const PretokenizerRow *row, Arena *arena, Arena scratch, Pretokenizer *out,
                          Error *err) {
    *out = (Pretokenizer){0};
    for (uint32_t i = 0; i < PRETOKENIZER_LEVELS_MAX && row->patterns[i]; i++) {
        Str pattern = str_from_c(row->patterns[i]);
        if (!pretokenizer_add(out, pattern, SPLIT_ISOLATED, false, arena, scratch, err))
            return error_prefix(err, "pre-tokeniser \"%s\"", row->name);
    }
    return true;
}

uint64_t pretokenizer_scan_bytes(const Pretokenizer *p, uint64_t text_bytes) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < p->n_levels; i++)
        total += regex_scan_bytes(&p->levels[i].regex, text_bytes);
    return total;
}

bool pretokenizer_begin(const Pretokenizer *p, Str text, Arena *arena, PretokenizerScan *scan) {
    *scan = (PretokenizerScan){.pretokenizer = p, .text = text};
    for (uint32_t i = 0; i < p->n_levels; i++) {
        if (!regex_scan_init(&scan->levels[i].scan, &p->levels[i].regex, text.len, arena)) return false;
    }
    return true;
}

static void begin_level(PretokenizerLevel *level, Str text) {
    regex_scan_text(&level->scan, text);
    level->at = 0;
    level->has_match = level->has_held = false;
}

// The next match, maybe an empty one, or what lies before it; false at the end of the level's text.
static inline bool next_stretch(PretokenizerLevel *level, PretokenizerStretch *out) {
    size_t end = level->scan.text.len, at = level->at, from, to;
    if (level->has_match) {
        *out = level->match;
        level->has_match = false;
        level->at = out->to;
        return true;
    }
    if (at == end) return false;
    if (!regex_find(&level->scan, at, &from, &to)) {
        *out = (PretokenizerStretch){at, end, false};
    } else if (from > at) {
        *out = (PretokenizerStretch){at, from, false};
        level->match = (PretokenizerStretch){from, to, true};
        level->has_match = true;
    } else {
        *out = (PretokenizerStretch){from, to, true};
    }
    level->at = out->to;
    return true;
}

// Whether two stretches that follow each other are one piece.
static bool joins(SplitBehavior behavior, bool first_is_match, bool second_is_match) {
    switch (behavior) {
    case SPLIT_MERGED_WITH_PREVIOUS: return !first_is_match && second_is_match;
    case SPLIT_MERGED_WITH_NEXT: return first_is_match && !second_is_match;
    case SPLIT_CONTIGUOUS: return first_is_match == second_is_match;
    case SPLIT_ISOLATED:
    case SPLIT_REMOVED: break;
    }
    return false;
}

// The next piece of the level's text, which is empty where an empty match is one; false at its end.
static bool next_part(const PretokenizerSplit *split, PretokenizerLevel *level, Str *piece) {
    PretokenizerStretch first, second;
    if (level->has_held) first = level->held;
    else if (!next_stretch(level, &first)) return false;
    level->has_held = false;
    bool drops = split->behavior == SPLIT_REMOVED;
    while (drops && first.is_match != split->is_inverted) {
        if (!next_stretch(level, &first)) return false;
    }
    size_t from = first.from;
    while (split->behavior > SPLIT_REMOVED && next_stretch(level, &second)) {
        if (!joins(split->behavior, first.is_match != split->is_inverted,
                   second.is_match != split->is_inverted)) {
            level->held = second;
            level->has_held = true;
            break;
        }
        first = second;
    }
    *piece = str_slice(level->scan.text, from, first.to);
    return true;
}

static bool next_of_text(const PretokenizerSplit *split, PretokenizerLevel *level, Str *piece) {
    do {
        if (!next_part(split, level, piece)) return false;
    } while (piece->len == 0);
    return true;
}

// What the levels before `n_levels` leave in one piece, and so on down to the whole text.
static bool next_of_levels(PretokenizerScan *scan, uint32_t n_levels, Str *piece) {
    if (n_levels == 0) {
        *piece = scan->text;
        scan->text.len = 0;
        return piece->len > 0;
    }
    PretokenizerLevel *level = &scan->levels[n_levels - 1];
    const PretokenizerSplit *split = &scan->pretokenizer->levels[n_levels - 1];
    while (!next_of_text(split, level, piece)) {
        Str text;
        if (!next_of_levels(scan, n_levels - 1, &text)) return false;
        begin_level(level, text);
    }
    return true;
}

bool pretokenizer_next(PretokenizerScan *scan, Str *piece) {
    return next_of_levels(scan, scan->pretokenizer->n_levels, piece);
}
