// Progress while a model loads: a bar on a terminal (not for loads that are over in a blink), log events at
// 0, 25, 50, 75 and 100% otherwise.
#pragma once

#include "base/log.h"

typedef struct {
    Str name;       // of what is loading
    const Log *log; // NULL for no events
    bool bar;
    uint64_t drawn_ns;                                // when the bar was drawn last
    uint32_t shown_percent;                           // on it; UINT32_MAX before it is drawn
    uint32_t next_quarter;                            // the next event's percentage
    void (*report)(void *context, uint32_t permille); // is told everything; may be NULL
    void *context;
} Progress;

Progress progress_begin(Str name, bool bar, const Log *log);
// A BackendProgressFn; `progress` is a Progress.
void progress_update(void *progress, uint32_t permille);
// Takes the bar away.
void progress_end(Progress *p);

// Progress of a long prompt: a line on standard error where that is a terminal, once it takes longer than a
// blink.
typedef struct {
    bool terminal, shown;
    uint64_t begun_ns, drawn_ns;
} PromptProgress;

PromptProgress prompt_progress_begin(void);
void prompt_progress_update(PromptProgress *p, uint64_t n_done, uint64_t n_all);
// Takes the line away.
void prompt_progress_end(PromptProgress *p);
