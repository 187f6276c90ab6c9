#include "base/edit_distance.h"

#include <string.h>

size_t edit_distance(Str a, Str b) {
    // rows[0] is of the letters of `a` so far, rows[1] of one less, rows[2] of two less.
    size_t rows[3][EDIT_DISTANCE_BYTES_MAX];
    if (b.len >= EDIT_DISTANCE_BYTES_MAX) return SIZE_MAX;
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        memmove(rows[1], rows[0], 2 * sizeof rows[0]);
        rows[0][0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            bool same = a.ptr[i - 1] == b.ptr[j - 1];
            size_t best = rows[1][j - 1] + !same;
            best = min_u64(best, min_u64(rows[1][j], rows[0][j - 1]) + 1);
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1])
                best = min_u64(best, rows[2][j - 2] + 1);
            rows[0][j] = best;
        }
    }
    return rows[0][b.len];
}
