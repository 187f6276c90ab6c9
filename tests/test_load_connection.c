// A connection of the load generator against a server that answers before it has read all.
#include "load/connection.h"
#include "os/os.h"
#include "runner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REQUEST_BYTES = 16 << 20, REPLY_BYTES = 1 << 16 }; // more than the buffers of sockets hold

static void say(int socket, Str text) {
    if (write(socket, text.ptr, text.len) != (ssize_t)text.len) _exit(1);
}

// Accepts a connection, which is on its way.
static int accept_one(int listener) {
    int socket;
    while (os_net_accept(listener, &socket) != OS_NET_OK)
        os_sleep_ms(1);
    return socket;
}

// Says `early`, in two pieces, when the client has filled the buffers; `late` when it has the whole request.
static _Noreturn void serve(int listener, const char *early, const char *late) {
    static char buffer[1 << 16];
    alarm(120);
    int socket = accept_one(listener);
    if (fcntl(socket, F_SETFL, 0) != 0) _exit(1);
    os_sleep_ms(100);
    say(socket, str_slice(str_from_c(early), 0, 10));
    os_sleep_ms(30);
    say(socket, str_from_c(early + 10));
    os_sleep_ms(100);
    for (size_t got = 0; late && got < REQUEST_BYTES;) {
        ssize_t n = read(socket, buffer, sizeof buffer);
        if (n <= 0) _exit(1);
        got += (size_t)n;
    }
    if (late) say(socket, str_from_c(late));
    os_sleep_ms(5000); // the client is done sooner
    _exit(0);
}

TEST(load_connection_is_answered_while_it_sends) {
    static const struct {
        const char *name, *early, *late;
        uint16_t status;
        bool sends_all;
    } rows[] = {
        {"interim", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, true},
        {"refused", "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", NULL, 413, false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        TEST_CASE_LABEL("%s", rows[i].name);
        static char memory[4096], buffer[REPLY_BYTES];
        Str body = {0}, request = {os_reserve(REQUEST_BYTES), REQUEST_BYTES};
        uint16_t port;
        int listener, poller, socket;
        OsNetPeer peer;
        Error err;
        REQUIRE(request.ptr && os_net_listen(STR("127.0.0.1"), 0, &listener, &port, &err));
        REQUIRE(os_net_connect(STR("127.0.0.1"), port, 60000, &socket, &err));
        REQUIRE(os_net_peer(socket, &peer, &err));
        os_net_close(socket);
        os_net_close(accept_one(listener));
        pid_t server = fork();
        REQUIRE(server >= 0);
        if (server == 0) serve(listener, rows[i].early, rows[i].late);
        REQUIRE(os_poll_open(&poller, &err));
        uint64_t n_events = 0, end_ns = os_monotonic_ns() + 4000000000;
        Connection c = connection_new(poller, 0, memory, sizeof memory);
        ConnectionResult result = connection_send(&c, &peer, request);
        while (result == CONNECTION_WAITS && os_monotonic_ns() < end_ns) {
            OsPollEvent event;
            if (os_poll_wait(poller, &event, 1, 100) != 1) continue;
            n_events++;
            result = connection_ready(&c, event.events, buffer, sizeof buffer, &body);
        }
        CHECK_INT_EQ(CONNECTION_GOT, result);
        CHECK_INT_EQ(rows[i].status, c.status);
        CHECK_STR_EQ(i == 0 ? "ok" : "no", body);
        CHECK_INT_EQ(rows[i].sends_all, c.unsent.len == 0);
        CHECK(n_events < 10000); // it does not spin while nothing comes
        connection_finish(&c);
        connection_close(&c);
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
        os_net_close(listener);
        os_net_close(poller);
    }
}
