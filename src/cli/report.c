#include "cli/commands.h"
#include "os/os.h"

// A pipe's reader that has gone got what it wanted: nothing is said.
// The message may quote a file, which may come from anywhere: nothing of it may drive the terminal.
int cli_report_error(const Error *err) {
    char text[ERROR_MESSAGE_BYTES + 64];
    if (err->code == ERR_READER_LEFT) return error_info(err->code)->exit_code;
    StrBuf out = STRBUF(text);
    strbuf_put(&out, STR("worker-orcd: "));
    for (const char *line = err->message, *end; line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        strbuf_put_shown(&out, end ? (Str){line, (size_t)(end - line)} : str_from_c(line));
        if (end) strbuf_put_char(&out, '\n');
    }
    strbuf_put_char(&out, '\n');
    (void)os_write(2, strbuf_str(&out));
    return error_info(err->code)->exit_code;
}
