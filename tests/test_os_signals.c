// Stop signals at the moments where a program that looks at their count and then sleeps would miss them.
#include "os/os.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

// The end of a pipe that nothing is read from, or of one that is full.
static int idle_pipe(bool full) {
    int ends[2];
    static const char bytes[4096];
    REQUIRE(pipe(ends) == 0);
    if (!full) return ends[0];
    REQUIRE(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    while (write(ends[1], bytes, sizeof bytes) > 0) {
    }
    REQUIRE(errno == EAGAIN && fcntl(ends[1], F_SETFL, 0) == 0);
    return ends[1];
}

TEST(os_signals_before_a_wait_end_it) {
    int fd = idle_pipe(false);
    os_install_stop_signals(-1);
    CHECK(!os_wait_ready(fd, false, 0));
    CHECK_INT_EQ(0, os_stop_signals());
    raise(SIGTERM); // behind the caller's look at the count
    CHECK(!os_wait_ready(fd, false, UINT32_MAX));
    CHECK_INT_EQ(1, os_stop_signals());
}

static char state_of(pid_t process) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    FILE *file = fopen(path, "r");
    if (file && fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 0;
    if (file) fclose(file);
    return state;
}

TEST(os_signals_during_a_wait_end_it) {
    int fd = idle_pipe(false);
    pid_t waits = getpid();
    os_install_stop_signals(-1);
    pid_t sender = fork();
    REQUIRE(sender >= 0);
    if (sender == 0) {
        while (state_of(waits) != 'S') // it sleeps
            os_sleep_ms(1);
        kill(waits, SIGINT);
        _exit(0);
    }
    CHECK(!os_wait_ready(fd, false, UINT32_MAX));
    CHECK_INT_EQ(1, os_stop_signals());
    CHECK_INT_EQ(sender, waitpid(sender, NULL, 0));
}

// Signals that come together are one, whichever they are; a later one ends the process.
TEST(os_signals_together_are_one) {
    int status = 0;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        os_install_stop_signals(-1);
        raise(SIGINT);
        raise(SIGINT);
        raise(SIGTERM);
        if (os_stop_signals() != 1) _exit(1);
        os_sleep_ms(250);
        raise(SIGTERM);
        _exit(2);
    }
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

// A reader that has stopped holds nobody up, and one that reads gets all, also after a stop signal.
TEST(os_signals_end_a_write_that_nobody_takes) {
    static char bytes[10000];
    int full = idle_pipe(true), file = open(test_tmp_path("out"), O_RDWR | O_CREAT, 0600);
    Error err = {0};
    os_install_stop_signals(-1);
    raise(SIGTERM);
    REQUIRE(dup2(full, STDOUT_FILENO) == STDOUT_FILENO);
    CHECK(!os_output(STR("text"), &err));
    CHECK_INT_EQ(ERR_CANCELLED, err.code);
    REQUIRE(dup2(file, STDOUT_FILENO) == STDOUT_FILENO);
    CHECK(os_output((Str){bytes, sizeof bytes}, &err));
    CHECK_INT_EQ(sizeof bytes, lseek(file, 0, SEEK_END));
}
