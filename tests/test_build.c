#include "base/embed.h"
#include "base/version.h"
#include "runner.h"

TEST(build_version_is_set) {
    CHECK(version_text[0] != 0);
}

// The table has embedded_file_count entries, sorted by name, each with its bytes and a zero after them.
TEST(build_embeds_files) {
    CHECK(embedded_files[embedded_file_count].name == NULL);
    for (size_t i = 0; i < embedded_file_count; i++) {
        TEST_CASE_LABEL("%s", embedded_files[i].name);
        CHECK_INT_EQ(0, embedded_files[i].data[embedded_files[i].size]);
        if (i > 0) CHECK(strcmp(embedded_files[i - 1].name, embedded_files[i].name) < 0);
    }
}
