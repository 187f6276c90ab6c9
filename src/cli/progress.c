#include "cli/progress.h"

#include "os/os.h"

enum { BAR_CELLS = 32, NAME_COLUMNS = 36, REDRAW_MS = 60, PROMPT_QUIET_MS = 700 };

Progress progress_begin(Str name, bool bar, const Log *log) {
    Progress p = {
        .name = name, .log = log, .bar = bar, .shown_percent = UINT32_MAX, .drawn_ns = os_monotonic_ns()};
    progress_update(&p, 0);
    return p;
}

static void draw(Progress *p, uint32_t percent) {
    uint64_t now_ns = os_monotonic_ns();
    if (percent == p->shown_percent || now_ns - p->drawn_ns < REDRAW_MS * 1000000ull) return;
    p->shown_percent = percent;
    p->drawn_ns = now_ns;
    char line[512];
    StrBuf b = STRBUF(line);
    uint32_t full = percent * BAR_CELLS / 100;
    strbuf_printf(&b, "\r\x1b[K  Loading %.*s  \x1b[36m", (int)min_u64(p->name.len, NAME_COLUMNS),
                  p->name.ptr);
    for (uint32_t i = 0; i < full; i++)
        strbuf_put(&b, STR("━"));
    strbuf_put(&b, STR("\x1b[0m\x1b[2m"));
    for (uint32_t i = full; i < BAR_CELLS; i++)
        strbuf_put(&b, STR("━"));
    strbuf_printf(&b, "\x1b[0m %3u%%", percent);
    (void)os_write(2, strbuf_str(&b));
}

void progress_update(void *progress, uint32_t permille) {
    Progress *p = progress;
    uint32_t percent = permille / 10;
    if (p->report) p->report(p->context, permille);
    if (p->bar) draw(p, percent);
    for (; p->log && p->next_quarter <= percent; p->next_quarter += 25) {
        log_event(p->log, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", p->next_quarter));
    }
}

void progress_end(Progress *p) {
    if (p->bar && p->shown_percent != UINT32_MAX) (void)os_write(2, STR("\r\x1b[K"));
    p->bar = false;
}

PromptProgress prompt_progress_begin(void) {
    return (PromptProgress){.terminal = os_is_terminal(2), .begun_ns = os_monotonic_ns()};
}

void prompt_progress_update(PromptProgress *p, uint64_t n_done, uint64_t n_all) {
    uint64_t now_ns = os_monotonic_ns();
    if (!p->terminal || n_done >= n_all || now_ns - p->begun_ns < PROMPT_QUIET_MS * 1000000ull ||
        now_ns - p->drawn_ns < REDRAW_MS * 1000000ull)
        return;
    p->shown = true;
    p->drawn_ns = now_ns;
    char line[128];
    StrBuf b = STRBUF(line);
    strbuf_printf(&b, "\r\x1b[K  Reading the prompt: %llu of %llu tokens", (unsigned long long)n_done,
                  (unsigned long long)n_all);
    (void)os_write(2, strbuf_str(&b));
}

void prompt_progress_end(PromptProgress *p) {
    if (p->shown) (void)os_write(2, STR("\r\x1b[K"));
    p->shown = false;
}
