// A run's figures, as text for people and as JSON for programs.
#pragma once

#include "load/run.h"

void report_put_text(StrBuf *out, const LoadConfig *config, const LoadResult *result);
void report_put_json(StrBuf *out, const LoadConfig *config, const LoadResult *result);
// The line that is shown while it runs, without its end: what the last seconds were like. `before` is the
// number of pieces `elapsed_ns` ago.
void report_put_progress(StrBuf *out, const LoadStats *stats, uint64_t before, uint64_t elapsed_ns,
                         uint64_t now_ns);
