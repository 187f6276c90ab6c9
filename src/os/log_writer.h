// Writes log lines by a thread of its own, so that a reader that has stopped (a full pipe, a halted terminal,
// a disk that hangs) holds up nobody who logs.
//
// A line goes into a queue of LOG_QUEUE_BYTES. Where it does not fit it is dropped, and so are all that
// follow until the queue has run empty; then an event says how many they were (LOG_LINES_DROPPED). So the
// lines that are written stand in order, and the event stands where the others are missing. Each line is one
// write, and no mode of the descriptor is changed: other processes may write to the same pipe.
//
// Threads: log_writer_put may be called by any; the others by the one that owns the writer.
#pragma once

#include "base/log.h"
#include "os/os.h"

enum { LOG_QUEUE_BYTES = 256 * 1024 };

typedef struct {
    int fd;
    const Log *log; // how the event about dropped lines is written
    bool has_thread;
    OsThread thread;
    pthread_mutex_t lock; // for what follows; held for as long as a line is copied
    size_t begin, end;    // of what waits: a length (uint32_t) and the line, each
    uint64_t dropped;     // lines since the queue was full
    bool is_writing;      // the thread has taken something out that is not written yet
    _Atomic uint32_t put_count, written_count;
    char queue[LOG_QUEUE_BYTES];
} LogWriter;

// *writer is zero before. Until log_writer_start, lines are written by whoever logs, with a patience of
// milliseconds: a program that cannot start says why.
void log_writer_init(LogWriter *writer, int fd, const Log *log);
MUST_CHECK bool log_writer_start(LogWriter *writer, Error *err);
// A Log's `write`: a whole line. False when it was dropped.
bool log_writer_put(void *writer, Str line);
// Waits until all is written, at most `patience_ms`: for the end of the program. The thread goes on.
bool log_writer_flush(LogWriter *writer, uint32_t patience_ms);
