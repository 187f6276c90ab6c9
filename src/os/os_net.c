#include "os/os_net.h"

#include "os/os.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    OS_NET_BACKLOG = 512,
    OS_HOST_BYTES_MAX = 255, // RFC 1035
    OS_POLL_BATCH_MAX = 320,
    // A peer that has vanished without a word (power, cable) is noticed after about a minute of silence, or
    // after half a minute of unacknowledged bytes.
    OS_TCP_KEEPALIVE_IDLE_SECONDS = 30,
    OS_TCP_KEEPALIVE_INTERVAL_SECONDS = 10,
    OS_TCP_KEEPALIVE_PROBES = 3,
    OS_TCP_UNACKNOWLEDGED_MS = 30 * 1000,
};

// ---- addresses ----

// The addresses of host:port, to be freed with freeaddrinfo.
static bool os_net_resolve(Str host, uint16_t port, int flags, struct addrinfo **out, Error *err) {
    char host_text[OS_HOST_BYTES_MAX + 1], port_text[8];
    if (host.len > 1 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = str_slice(host, 1, host.len - 1);
    if (host.len == 0 || host.len > OS_HOST_BYTES_MAX || memchr(host.ptr, 0, host.len)) {
        return error_set(err, ERR_ADDRESS, "\"%.*s\" is not a host name or address", STR_ARG(host));
    }
    memcpy(host_text, host.ptr, host.len);
    host_text[host.len] = 0;
    snprintf(port_text, sizeof port_text, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    int problem = getaddrinfo(host_text, port_text, &hints, out);
    if (problem == 0) return true;
    const char *reason = problem == EAI_SYSTEM ? strerror(errno) : gai_strerror(problem);
    return error_set(err, ERR_ADDRESS, "cannot find the host %s: %s", host_text, reason);
}

static void os_net_set_option(int socket, int level, int option, int value) {
    // These options only improve matters, and a kernel may lack one.
    (void)setsockopt(socket, level, option, &value, sizeof value);
}

static void os_net_tune(int socket) {
    os_net_set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    os_net_set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    os_net_set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, OS_TCP_KEEPALIVE_IDLE_SECONDS);
    os_net_set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, OS_TCP_KEEPALIVE_INTERVAL_SECONDS);
    os_net_set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, OS_TCP_KEEPALIVE_PROBES);
    os_net_set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, OS_TCP_UNACKNOWLEDGED_MS);
}

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} OsNetAddress;

static bool os_net_local_address(int socket, OsNetAddress *out) {
    memset(out, 0, sizeof *out);
    socklen_t size = sizeof *out;
    return getsockname(socket, &out->any, &size) == 0;
}

static bool os_net_is_loopback(const OsNetAddress *address) {
    const struct in6_addr *v6 = &address->v6.sin6_addr;
    if (address->any.sa_family == AF_INET) return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127;
    return address->any.sa_family == AF_INET6 &&
           (IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127));
}

bool os_net_is_on_loopback(int listener) {
    OsNetAddress address;
    return os_net_local_address(listener, &address) && os_net_is_loopback(&address);
}

static uint16_t os_net_local_port(int socket) {
    OsNetAddress address;
    if (!os_net_local_address(socket, &address)) return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

// ---- listening ----

// A listening socket, or -1 with errno.
static int os_net_listen_at(const struct addrinfo *at) {
    int fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) return -1;
    os_net_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, OS_NET_BACKLOG) == 0) return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

bool os_net_listen(Str host, uint16_t port, int *listener, uint16_t *port_out, Error *err) {
    struct addrinfo *addresses;
    if (!os_net_resolve(host, port, AI_PASSIVE, &addresses, err)) return false;
    int fd = -1, reason = 0;
    for (const struct addrinfo *at = addresses; at && fd < 0; at = at->ai_next) {
        fd = os_net_listen_at(at);
        if (fd < 0 && reason == 0) reason = errno;
    }
    freeaddrinfo(addresses);
    if (fd < 0) {
        const char *advice = reason == EADDRINUSE ? "; another process listens there, choose another port"
                             : reason == EACCES   ? "; ports below 1024 need a privilege"
                                                  : "";
        return error_set(err, os_error_code(reason), "cannot listen on %.*s port %u: %s%s", STR_ARG(host),
                         port, strerror(reason), advice);
    }
    *listener = fd;
    *port_out = os_net_local_port(fd);
    return true;
}

OsNetResult os_net_accept(int listener, int *socket) {
    bool from_loopback;
    return os_net_accept_from(listener, socket, &from_loopback);
}

OsNetResult os_net_accept_from(int listener, int *socket, bool *from_loopback) {
    for (;;) {
        OsNetAddress peer;
        socklen_t size = sizeof peer;
        memset(&peer, 0, sizeof peer);
        int fd = accept4(listener, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            os_net_tune(fd);
            *socket = fd;
            *from_loopback = os_net_is_loopback(&peer);
            return OS_NET_OK;
        }
        switch (errno) {
        case EINTR:
        case ECONNABORTED: continue; // that one has gone; perhaps there is another
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM: return OS_NET_EXHAUSTED;
        default: return OS_NET_WOULD_BLOCK;
        }
    }
}

// ---- connecting ----

// 0 or the reason why not.
static int os_net_connect_to(const struct addrinfo *at, uint32_t timeout_ms, int *out) {
    int fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) return errno;
    int reason = connect(fd, at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
    if (reason == EINPROGRESS) {
        socklen_t size = sizeof reason;
        if (!os_net_wait_ready(fd, true, timeout_ms)) {
            reason = ETIMEDOUT;
        } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &size) != 0) {
            reason = errno;
        }
    }
    if (reason != 0) {
        close(fd);
        return reason;
    }
    os_net_tune(fd);
    *out = fd;
    return 0;
}

bool os_net_connect(Str host, uint16_t port, uint32_t timeout_ms, int *socket, Error *err) {
    uint64_t deadline = os_monotonic_ns() / 1000000 + timeout_ms;
    struct addrinfo *addresses;
    if (!os_net_resolve(host, port, 0, &addresses, err)) return false;
    int reason = ETIMEDOUT;
    for (const struct addrinfo *at = addresses; at; at = at->ai_next) {
        uint64_t now = os_monotonic_ns() / 1000000;
        if (now >= deadline) break;
        reason = os_net_connect_to(at, (uint32_t)(deadline - now), socket);
        if (reason == 0) break;
    }
    freeaddrinfo(addresses);
    if (reason == 0) return true;
    return error_set(err, ERR_IO, "cannot connect to %.*s port %u: %s", STR_ARG(host), port,
                     strerror(reason));
}

bool os_net_peer(int socket, OsNetPeer *out, Error *err) {
    socklen_t size = sizeof out->bytes;
    static_assert(sizeof(struct sockaddr_storage) <= sizeof out->bytes, "any address fits");
    if (getpeername(socket, (struct sockaddr *)out->bytes, &size) != 0)
        return error_set(err, ERR_IO, "the other side's address is not known: %s", strerror(errno));
    out->size = size;
    return true;
}

OsNetResult os_net_connect_begin(const OsNetPeer *peer, int *out) {
    const struct sockaddr *address = (const struct sockaddr *)peer->bytes;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return OS_NET_EXHAUSTED;
    os_net_tune(fd);
    if (connect(fd, address, peer->size) == 0 || errno == EINPROGRESS) {
        *out = fd;
        return OS_NET_OK;
    }
    OsNetResult result = errno == EADDRNOTAVAIL || errno == EAGAIN ? OS_NET_EXHAUSTED : OS_NET_BROKEN;
    close(fd);
    return result;
}

bool os_net_connect_end(int socket) {
    int reason = 0;
    socklen_t size = sizeof reason;
    return getsockopt(socket, SOL_SOCKET, SO_ERROR, &reason, &size) == 0 && reason == 0;
}

// By a socket for datagrams, which is connected without a word to the other side.
static bool os_net_own_address_to(const struct addrinfo *at, char out[OS_NET_ADDRESS_BYTES]) {
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    int fd = socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    bool ok = connect(fd, at->ai_addr, at->ai_addrlen) == 0 &&
              getsockname(fd, (struct sockaddr *)&own, &size) == 0 &&
              getnameinfo((const struct sockaddr *)&own, size, out, OS_NET_ADDRESS_BYTES, NULL, 0,
                          NI_NUMERICHOST) == 0;
    close(fd);
    return ok;
}

bool os_net_own_address(Str host, uint16_t port, char out[OS_NET_ADDRESS_BYTES], Error *err) {
    struct addrinfo *addresses;
    if (!os_net_resolve(host, port, 0, &addresses, err)) return false;
    bool found = false;
    for (const struct addrinfo *at = addresses; at && !found; at = at->ai_next)
        found = os_net_own_address_to(at, out);
    freeaddrinfo(addresses);
    return found || error_set(err, ERR_IO, "no address of this machine leads to %.*s", STR_ARG(host));
}

// ---- bytes ----

static OsNetResult os_net_problem(void) {
    return errno == EAGAIN || errno == EWOULDBLOCK ? OS_NET_WOULD_BLOCK : OS_NET_BROKEN;
}

OsNetResult os_net_receive(int socket, void *out, size_t capacity, size_t *received) {
    ssize_t count;
    do {
        count = recv(socket, out, capacity, 0);
    } while (count < 0 && errno == EINTR);
    if (count < 0) return os_net_problem();
    if (count == 0) return OS_NET_ENDED;
    *received = (size_t)count;
    return OS_NET_OK;
}

OsNetResult os_net_send(int socket, Str bytes, size_t *sent) {
    ssize_t count;
    do {
        count = send(socket, bytes.ptr, bytes.len, MSG_NOSIGNAL);
    } while (count < 0 && errno == EINTR);
    if (count < 0) return os_net_problem();
    *sent = (size_t)count;
    return OS_NET_OK;
}

void os_net_shut(int socket) {
    (void)shutdown(socket, SHUT_WR);
}

void os_net_close(int socket) {
    (void)close(socket);
}

bool os_net_wait_ready(int socket, bool for_sending, uint32_t timeout_ms) {
    struct pollfd wait = {.fd = socket, .events = for_sending ? POLLOUT : POLLIN};
    uint64_t deadline = os_monotonic_ns() / 1000000 + timeout_ms;
    for (;;) {
        uint64_t now = os_monotonic_ns() / 1000000;
        int left_ms = now < deadline ? (int)min_u64(deadline - now, INT32_MAX) : 0;
        int ready = poll(&wait, 1, left_ms);
        if (ready > 0) return true;
        if (ready == 0 || errno != EINTR) return false;
    }
}

// ---- the supervisor ----

int os_supervisor_open(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name = getenv("NOTIFY_SOCKET");
    size_t length = name ? strlen(name) : 0;
    if (length < 2 || length >= sizeof address.sun_path || (name[0] != '/' && name[0] != '@')) return 0;
    memcpy(address.sun_path, name, length);
    if (name[0] == '@') address.sun_path[0] = 0; // an abstract name
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (fd > 0 && connect(fd, (const struct sockaddr *)&address, size) == 0) return fd;
    if (fd >= 0) close(fd);
    return 0;
}

void os_supervisor_tell(int supervisor, Str state) {
    if (supervisor) (void)send(supervisor, state.ptr, state.len, MSG_NOSIGNAL);
}

// ---- waiting for many ----

bool os_poll_open(int *poller, Error *err) {
    *poller = epoll_create1(EPOLL_CLOEXEC);
    return *poller >= 0 || error_set(err, ERR_IO, "cannot wait for events: %s", strerror(errno));
}

static bool os_poll_control(int poller, int operation, int fd, uint32_t interest, uint64_t tag) {
    struct epoll_event event = {.data.u64 = tag};
    if (interest & OS_POLL_RECEIVE) event.events |= EPOLLIN;
    if (interest & OS_POLL_SEND) event.events |= EPOLLOUT;
    if (interest & OS_POLL_ENDED) event.events |= EPOLLRDHUP;
    return epoll_ctl(poller, operation, fd, &event) == 0;
}

bool os_poll_add(int poller, int fd, uint32_t interest, uint64_t tag) {
    return os_poll_control(poller, EPOLL_CTL_ADD, fd, interest, tag);
}

bool os_poll_change(int poller, int fd, uint32_t interest, uint64_t tag) {
    return os_poll_control(poller, EPOLL_CTL_MOD, fd, interest, tag);
}

int os_poll_wait(int poller, OsPollEvent *events, int capacity, uint32_t timeout_ms) {
    struct epoll_event found[OS_POLL_BATCH_MAX];
    int most = (int)min_u64((uint64_t)capacity, OS_POLL_BATCH_MAX);
    int count = epoll_wait(poller, found, most, (int)min_u64(timeout_ms, INT32_MAX));
    if (count < 0) return errno == EINTR ? 0 : -1;
    for (int i = 0; i < count; i++) {
        uint32_t flags = found[i].events, events_out = 0;
        if (flags & EPOLLIN) events_out |= OS_POLL_RECEIVE;
        if (flags & EPOLLOUT) events_out |= OS_POLL_SEND;
        if (flags & EPOLLRDHUP) events_out |= OS_POLL_ENDED;
        if (flags & (EPOLLERR | EPOLLHUP)) events_out |= OS_POLL_BROKEN;
        events[i] = (OsPollEvent){.tag = found[i].data.u64, .events = events_out};
    }
    return count;
}

bool os_timer_open(int *timer, Error *err) {
    *timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return *timer >= 0 || error_set(err, ERR_IO, "cannot make a timer: %s", strerror(errno));
}

void os_timer_set(int timer, uint64_t monotonic_ns) {
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(monotonic_ns / 1000000000),
                                         .tv_nsec = (long)(monotonic_ns % 1000000000)}};
    (void)timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

// ---- waking ----

bool os_wake_open(int *wake, Error *err) {
    *wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return *wake >= 0 || error_set(err, ERR_IO, "cannot make an eventfd: %s", strerror(errno));
}

void os_wake_signal(int wake) {
    int saved = errno; // called from signal handlers
    uint64_t one = 1;
    // It fails only when the counter is full, and then the waiting thread is awake anyway.
    ssize_t written = write(wake, &one, sizeof one);
    (void)written;
    errno = saved;
}

void os_wake_clear(int wake) {
    uint64_t count;
    ssize_t got = read(wake, &count, sizeof count);
    (void)got;
}
