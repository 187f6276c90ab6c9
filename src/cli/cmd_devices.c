#include "cli/commands.h"
#include "os/os.h"
#include "json/json_writer.h"

// The CPU reference is always there. A build without CUDA says so instead of finding nothing.
int cmd_devices(const Options *o) {
    char text[512];
    StrBuf out = STRBUF(text);
    if (o->json) {
        JsonWriter w = json_writer_begin(&out);
        json_open_object(&w);
        json_member_bool(&w, "cuda_in_build", WORKER_ORCD_CUDA);
        json_key(&w, "devices");
        json_open_array(&w);
        json_open_object(&w);
        json_member_str(&w, "device", STR("cpu"));
        json_member_u64(&w, "threads", os_cpu_count());
        json_close_object(&w);
        json_close_array(&w);
        json_close_object(&w);
        strbuf_put_char(&out, '\n');
    } else {
        if (!WORKER_ORCD_CUDA) strbuf_put(&out, STR("cuda  not in this build\n"));
        strbuf_printf(&out, "cpu   the reference, on %u threads (--device cpu)\n", os_cpu_count());
    }
    return os_write(1, strbuf_str(&out)) ? 0 : 1;
}
