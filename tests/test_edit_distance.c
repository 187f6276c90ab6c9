// How far names are apart, by hand.
#include "base/edit_distance.h"
#include "runner.h"

TEST(base_edit_distance) {
    static const struct {
        const char *a, *b;
        size_t distance;
    } rows[] = {
        {"", "", 0},
        {"port", "port", 0},
        {"prot", "port", 1},
        {"por", "port", 1},
        {"pport", "port", 1},
        {"pord", "port", 1},
        {"", "port", 4},
        {"port", "", 4},
        {"abcd", "badc", 2},
        {"ca", "abc", 3},
        {"kitten", "sitting", 3},
        {"a", "0123456789012345678901234567890123456789012345678", SIZE_MAX},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s, %s", rows[i].a, rows[i].b);
        CHECK(rows[i].distance == edit_distance(str_from_c(rows[i].a), str_from_c(rows[i].b)));
    }
}
