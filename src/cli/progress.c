#include "cli/progress.h"

#include "os/os.h"

enum { BAR_CELLS = 32, NAME_COLUMNS = 36 };

Progress progress_begin(Str name, bool bar, const Log *log) {
    Progress p = {.name = name, .log = log, .bar = bar, .shown_percent = UINT32_MAX};
    progress_update(&p, 0);
    return p;
}

static void draw(const Progress *p, uint32_t percent) {
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
    if (p->bar && percent != p->shown_percent) draw(p, p->shown_percent = percent);
    for (; p->log && p->next_quarter <= percent; p->next_quarter += 25) {
        log_event(p->log, LOG_MODEL_LOAD_PROGRESS, LOG_U64("percent", p->next_quarter));
    }
}

void progress_end(Progress *p) {
    if (p->bar) (void)os_write(2, STR("\r\x1b[K"));
    p->bar = false;
}
