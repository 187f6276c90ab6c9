// The multiprocessors' clock beside measured times (cuda_clock.h), and what bench measures for seconds.
#include "runner.h"

#if WORKER_ORCD_CUDA

#include "arch_models.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_clock.h"
#include "emulated_gpu.h"
#include "model_pair.h"
#include "os/os.h"
#include "program_checks.h"

TEST(cuda_clock_makes_programs) {
    static const uint32_t sms[] = {75, 80, 90};
    Arena arena = os_arena(64 << 20);
    for (size_t i = 0; i < COUNT_OF(sms); i++) {
        JitProgram program;
        TEST_CASE_LABEL("sm %u", sms[i]);
        cuda_clock_program(4, &arena, &program);
        programs_check(&program, 1, sms[i], &arena);
    }
}

// A GPU that has the kernels of emulated_model_llama: each of its multiprocessors counts 1,500 MHz.
static ModelPair *open_llama(void) {
    emulated_gpu_load(90, 2);
    BackendOptions options = {.n_slots = 1,
                              .max_rows = ARCH_MODEL_PROMPT,
                              .kv_texts = 1,
                              .kv_text_tokens = 4 * ARCH_MODEL_TOKENS,
                              .n_threads = 1,
                              .jit_cache = "",
                              .model_path = "llama",
                              .jit_compiler = &emulated_gpu_compiler};
    return model_pair_open(arch_model_build(arch_model_named("llama")), &options);
}

static void check_stages(Backend *gpu, double mhz) {
    StageTime times[STAGE_TIMES_MAX];
    uint32_t n = 0;
    double step_us;
    Error err = {0};
    if (!cuda_backend_time_prefill(gpu, 8, 1, 1, times, &n, &step_us, &err)) FAIL("%s", err.message);
    CHECK(n > 4);
    for (uint32_t i = 0; i < n; i++)
        CHECK_NEAR(mhz, times[i].clock_mhz, 1e-6);
}

TEST_SLOW(emulated_clock_is_beside_times, 180) {
    ModelPair *p = open_llama();
    SustainedProducts products;
    Error err = {0};
    check_stages(p->gpu, 0); // it was not opened
    CHECK(cuda_clock_begin(p->gpu, &err) && cuda_clock_end(p->gpu, &err));
    CHECK_NEAR(0, cuda_clock_take(p->gpu), 0);
    REQUIRE(cuda_clock_open(p->gpu, &err));
    check_stages(p->gpu, 1500);
    CHECK(cuda_clock_begin(p->gpu, &err) && cuda_clock_end(p->gpu, &err));
    CHECK_NEAR(1500, cuda_clock_take(p->gpu), 1e-6);
    CHECK_NEAR(0, cuda_clock_take(p->gpu), 0); // the time since is none
    if (!cuda_backend_sustain_products(p->gpu, 8, 1e-3, &products, &err)) FAIL("%s", err.message);
    CHECK_NEAR(1500, products.clock_mhz, 1e-6);
    CHECK(products.microseconds > 0 && products.library_us <= 0); // there is no library in the build
    model_pair_close(p);
}

#endif
