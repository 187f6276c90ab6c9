#include "cli/commands.h"
#include "os/os.h"
#include "json/json_writer.h"

#if WORKER_ORCD_CUDA
#include "backend/cuda/devices.h"
#endif

// What a command can compute on. Answers on any machine: the CPU reference is always there, and where there
// is no GPU it says why.

typedef struct {
    JsonWriter json;
    StrBuf out;
    bool as_json;
} Listing;

static void list_cpu(Listing *l) {
    if (!l->as_json) {
        strbuf_printf(&l->out, "cpu     the reference, on %u thread%s; chosen with --device cpu\n",
                      os_cpu_count(), plural_s(os_cpu_count()));
        return;
    }
    json_open_object(&l->json);
    json_member_str(&l->json, "device", STR("cpu"));
    json_member_u64(&l->json, "threads", os_cpu_count());
    json_close_object(&l->json);
}

#if WORKER_ORCD_CUDA
static void list_gpu(Listing *l, const CudaDevice *d) {
    if (!l->as_json) {
        strbuf_printf(&l->out, "cuda %-2d %s, ", d->ordinal, d->name);
        strbuf_put_bytes(&l->out, d->memory_bytes);
        strbuf_printf(&l->out, ", sm_%u, %u multiprocessors", d->sm, d->multiprocessors);
        if (!d->supported) strbuf_printf(&l->out, "; too old: sm_%d or newer is needed", CUDA_SM_MIN);
        strbuf_put_char(&l->out, '\n');
        return;
    }
    json_open_object(&l->json);
    json_member_str(&l->json, "device", STR("cuda"));
    json_member_i64(&l->json, "gpu_device", d->ordinal);
    json_member_str(&l->json, "name", str_from_c(d->name));
    json_member_u64(&l->json, "sm", d->sm);
    json_member_u64(&l->json, "multiprocessors", d->multiprocessors);
    json_member_u64(&l->json, "clock_mhz", d->clock_mhz);
    json_member_u64(&l->json, "l2_bytes", d->l2_bytes);
    json_member_u64(&l->json, "memory_bytes", d->memory_bytes);
    json_member_fixed(&l->json, "memory_gb_per_second", d->memory_gb_per_second, 1);
    json_member_bool(&l->json, "supported", d->supported);
    json_close_object(&l->json);
}

static bool list_gpus(Listing *l, Error *err) {
    Cuda cuda;
    CudaDevice devices[CUDA_DEVICES_MAX];
    uint32_t n_devices = 0;
    if (!cuda_open(&cuda, err)) return false;
    bool ok = cuda_devices_list(&cuda, devices, &n_devices, err);
    for (uint32_t i = 0; i < n_devices; i++)
        list_gpu(l, &devices[i]);
    cuda_close(&cuda);
    return ok;
}
#else
static bool list_gpus(Listing *l, Error *err) {
    (void)l;
    return error_set(err, ERR_NO_DEVICE, BUILD_WITHOUT_CUDA);
}
#endif

int cmd_devices(const Options *o) {
    char text[32 * 1024];
    Error err;
    Listing l = {.as_json = o->json, .out = STRBUF(text)};
    l.json = json_writer_begin(&l.out);
    if (l.as_json) {
        json_open_object(&l.json);
        json_key(&l.json, "devices");
        json_open_array(&l.json);
    }
    bool ok = list_gpus(&l, &err);
    if (!ok && !l.as_json) strbuf_printf(&l.out, "cuda    none: %s\n", err.message);
    list_cpu(&l);
    if (l.as_json) {
        json_close_array(&l.json);
        if (!ok) json_member_str(&l.json, "no_cuda_because", str_from_c(err.message));
        json_close_object(&l.json);
        strbuf_put_char(&l.out, '\n');
    }
    return os_output(strbuf_str(&l.out), &err) ? 0 : cli_report_error(&err);
}
