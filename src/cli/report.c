#include "base/utf8.h"
#include "cli/commands.h"
#include "os/os.h"

// A pipe's reader that has gone got what it wanted: nothing is said.
// The message may quote a file, which may come from anywhere: nothing of it may drive the terminal.
int cli_report_error(const Error *err) {
    char text[ERROR_MESSAGE_BYTES + 64];
    if (err->code == ERR_READER_LEFT) return error_info(err->code)->exit_code;
    StrBuf out = STRBUF(text);
    strbuf_put(&out, STR("worker-orcd: "));
    for (Str s = str_from_c(err->message); s.len;) {
        uint32_t cp;
        size_t length = utf8_decode(s, &cp);
        bool shown = length && (cp == '\n' || !utf8_is_control(cp));
        strbuf_put(&out, shown ? str_slice(s, 0, length) : STR("?"));
        s = str_slice(s, length ? length : 1, s.len);
    }
    strbuf_put_char(&out, '\n');
    (void)os_write(2, strbuf_str(&out));
    return error_info(err->code)->exit_code;
}
