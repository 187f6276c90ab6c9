// Helper processes: what they answer, what their maker sees when they are gone, and that none is left.
#include "runner.h"

#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

// Adds to each number what `context` points to; ends at 0.
static void add(OsHelper *maker, void *context) {
    uint32_t number;
    while (os_helper_receive(maker, &number, sizeof number) && number > 0) {
        number += *(uint32_t *)context;
        if (!os_helper_send(maker, &number, sizeof number)) return;
    }
}

static uint32_t ask(const OsHelper *helper, uint32_t number) {
    uint32_t answer = 0;
    REQUIRE(os_helper_send(helper, &number, sizeof number));
    REQUIRE(os_helper_receive(helper, &answer, sizeof answer));
    return answer;
}

TEST(os_helper_works_on_a_copy) {
    OsHelper helpers[3];
    uint32_t context = 0;
    Error err = {0};
    for (uint32_t i = 0; i < COUNT_OF(helpers); i++) {
        context = 10 * i;
        REQUIRE(os_helper_start(&helpers[i], add, &context, &err));
    }
    context = 1000; // theirs stays
    for (uint32_t i = 0; i < COUNT_OF(helpers); i++) {
        CHECK_INT_EQ(10 * i + 7, ask(&helpers[i], 7));
        CHECK_INT_EQ(10 * i + 8, ask(&helpers[i], 8));
    }
    for (uint32_t i = 0; i < COUNT_OF(helpers); i++)
        os_helper_end(&helpers[i]);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    os_helper_end(&helpers[0]); // once more does nothing
}

TEST(os_helper_is_known_to_be_gone) {
    OsHelper helper;
    uint32_t number = 0;
    Error err = {0};
    REQUIRE(os_helper_start(&helper, add, &number, &err));
    REQUIRE(os_helper_send(&helper, &number, sizeof number)); // it ends by itself
    CHECK(!os_helper_receive(&helper, &number, sizeof number));
    CHECK(!os_helper_send(&helper, &number, sizeof number));
    os_helper_end(&helper);
}

static void look_at(OsHelper *maker, void *fd) {
    bool is_open = fcntl(*(int *)fd, F_GETFD) >= 0 || fcntl(1, F_GETFD) >= 0;
    (void)!os_helper_send(maker, &is_open, sizeof is_open);
}

TEST(os_helper_has_nothing_open) {
    OsHelper helper;
    int fd = open("/dev/null", O_RDONLY);
    bool is_open = true;
    Error err = {0};
    REQUIRE(os_helper_start(&helper, look_at, &fd, &err));
    CHECK(os_helper_receive(&helper, &is_open, sizeof is_open) && !is_open);
    os_helper_end(&helper);
    close(fd);
}

static void work_for_ever(OsHelper *maker, void *context) {
    uint32_t priority = (uint32_t)getpriority(PRIO_PROCESS, 0);
    (void)context;
    os_helper_stay_behind(maker);
    priority = (uint32_t)getpriority(PRIO_PROCESS, 0) - priority;
    if (!os_helper_send(maker, &priority, sizeof priority)) return;
    for (volatile uint32_t i = 0;; i = i + 1) {
    }
}

// What nobody may wait for ends in the middle of its work.
TEST(os_helper_that_stays_behind_ends_with_its_maker) {
    for (int i = 0; i < 3; i++) {
        OsHelper helper;
        uint32_t priority = 0;
        Error err = {0};
        REQUIRE(os_helper_start(&helper, work_for_ever, NULL, &err));
        if (i > 0) CHECK(os_helper_receive(&helper, &priority, sizeof priority));
        if (i > 0) CHECK(priority > 0 || getpriority(PRIO_PROCESS, 0) == 19);
        if (i < 2) os_helper_hang_up(&helper);
        if (i == 0) (void)!os_helper_receive(&helper, &priority, sizeof priority); // sent before, perhaps
        CHECK(i == 2 || !os_helper_receive(&helper, &priority, sizeof priority));
        os_helper_end(&helper);
    }
}
