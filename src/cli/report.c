#include "cli/commands.h"
#include "os/os.h"

int cli_report_error(const Error *err) {
    char text[ERROR_MESSAGE_BYTES + 64];
    StrBuf out = STRBUF(text);
    strbuf_printf(&out, "worker-orcd: %s\n", err->message);
    (void)os_write(2, strbuf_str(&out));
    return error_info(err->code)->exit_code;
}
