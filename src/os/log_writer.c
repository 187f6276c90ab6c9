#include "os/log_writer.h"

void log_writer_init(LogWriter *w, int fd, const Log *log) {
    w->fd = fd;
    w->log = log;
    pthread_mutex_init(&w->lock, NULL);
}

// ---- whoever logs ----

// Room for so many bytes at the end of what waits, for which that is moved to the front if need be.
static bool make_room(LogWriter *w, size_t size) {
    if (size > LOG_QUEUE_BYTES - (w->end - w->begin)) return false;
    if (size > LOG_QUEUE_BYTES - w->end) {
        memmove(w->queue, w->queue + w->begin, w->end - w->begin);
        w->end -= w->begin;
        w->begin = 0;
    }
    return true;
}

bool log_writer_put(void *writer, Str line) {
    LogWriter *w = writer;
    if (!w->has_thread) return os_write_soon(w->fd, line);
    uint32_t length = (uint32_t)line.len;
    pthread_mutex_lock(&w->lock);
    bool fits = w->dropped == 0 && make_room(w, sizeof length + line.len);
    if (fits) {
        memcpy(w->queue + w->end, &length, sizeof length);
        memcpy(w->queue + w->end + sizeof length, line.ptr, line.len);
        w->end += sizeof length + line.len;
    } else {
        w->dropped++;
    }
    pthread_mutex_unlock(&w->lock);
    atomic_fetch_add(&w->put_count, 1);
    os_wake_word(&w->put_count);
    return fits;
}

// ---- the thread that writes ----

// The next line, or, where the queue is empty, the event about those that were dropped. Empty for nothing.
static Str take_line(LogWriter *w, char memory[LOG_LINE_BYTES_MAX]) {
    StrBuf out = strbuf_from_memory(memory, LOG_LINE_BYTES_MAX);
    pthread_mutex_lock(&w->lock);
    uint64_t dropped = w->dropped;
    if (w->begin < w->end) {
        uint32_t length;
        memcpy(&length, w->queue + w->begin, sizeof length);
        strbuf_put(&out, (Str){w->queue + w->begin + sizeof length, length});
        w->begin += sizeof length + length;
    } else if (dropped) {
        w->dropped = 0;
        (void)log_format(w->log, LOG_LINES_DROPPED, &LOG_U64("lines", dropped), 1, &out);
    }
    w->is_writing = out.len > 0;
    pthread_mutex_unlock(&w->lock);
    return strbuf_str(&out);
}

static void *run_log_writer(void *argument) {
    LogWriter *w = argument;
    char memory[LOG_LINE_BYTES_MAX];
    for (;;) {
        uint32_t seen = atomic_load(&w->put_count);
        Str line = take_line(w, memory);
        if (line.len) (void)os_write(w->fd, line); // nobody is left to tell when the log itself is gone
        atomic_fetch_add(&w->written_count, 1);
        os_wake_word(&w->written_count);
        if (line.len == 0) os_wait_word(&w->put_count, seen, UINT32_MAX);
    }
    return NULL;
}

bool log_writer_start(LogWriter *w, Error *err) {
    w->has_thread = true;
    bool ok = os_thread_start(&w->thread, "log", run_log_writer, w, err);
    w->has_thread = ok;
    return ok;
}

bool log_writer_flush(LogWriter *w, uint32_t patience_ms) {
    uint64_t until_ms = os_monotonic_ns() / 1000000 + patience_ms;
    if (!w->has_thread) return true;
    for (;;) {
        uint32_t seen = atomic_load(&w->written_count);
        pthread_mutex_lock(&w->lock);
        bool is_done = w->begin == w->end && !w->is_writing && w->dropped == 0;
        pthread_mutex_unlock(&w->lock);
        uint64_t now_ms = os_monotonic_ns() / 1000000;
        if (is_done || now_ms >= until_ms) return is_done;
        os_wait_word(&w->written_count, seen, (uint32_t)(until_ms - now_ms));
    }
}
