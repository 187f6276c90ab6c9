// The inputs that the fuzzers of patterns, vocabularies, texts and messages found worth keeping, and changes
// of them.
#include "fuzz_targets.h"
#include "runner.h"

static uint32_t mutations(void) {
    return test_is_sanitized() ? 10 : 100;
}

TEST(regex_fuzz_corpus) {
    CHECK(fuzz_replay("regex", fuzz_regex, mutations()) >= 20);
}

TEST(tokenizer_json_fuzz_corpus) {
    CHECK(fuzz_replay("tokenizer_json", fuzz_tokenizer_json, mutations()) >= 20);
}

TEST(tokenizer_vocabulary_fuzz_corpus) {
    CHECK(fuzz_replay("vocabulary", fuzz_vocabulary, mutations()) >= 5);
}

TEST(text_fuzz_corpus) {
    CHECK(fuzz_replay("text", fuzz_text, mutations()) >= 20);
}

TEST(template_fuzz_corpus) {
    CHECK(fuzz_replay("template", fuzz_template, mutations()) >= 40);
}

TEST(grammar_fuzz_corpus) {
    CHECK(fuzz_replay("grammar", fuzz_grammar, mutations() / 10) >= 20);
}

TEST(answer_fuzz_corpus) {
    CHECK(fuzz_replay("answer", fuzz_model_answer, mutations()) >= 40);
}

TEST(schema_fuzz_corpus) {
    CHECK(fuzz_replay("schema", fuzz_schema, test_is_sanitized() ? 1 : 10) >= 40);
}
