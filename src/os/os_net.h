// Sockets and waiting for them: TCP, epoll, eventfd. Part of the operating system's header (os/os.h).
//
// A socket is a descriptor, or -1. All sockets are non-blocking and close on exec.
#pragma once

#include "base/base.h"
#include "base/error.h"

typedef enum {
    OS_NET_OK,
    OS_NET_WOULD_BLOCK,
    OS_NET_ENDED,     // the other side has sent all it will
    OS_NET_BROKEN,    // reset, timed out, unreachable
    OS_NET_EXHAUSTED, // no descriptors or memory left: try later
} OsNetResult;

// Host: a name or an address; a name uses the first address that works. Sets *port_out to the port got (for
// port 0). Errors (of os_error_code) name host and port and give the reason.
MUST_CHECK bool os_net_listen(Str host, uint16_t port, int *listener, uint16_t *port_out, Error *err);
OsNetResult os_net_accept(int listener, int *socket);
// The same, and whether the other side's address is a loopback address (127.0.0.0/8, ::1).
OsNetResult os_net_accept_from(int listener, int *socket, bool *from_loopback);
// Whether a listening socket's own address is one.
bool os_net_is_on_loopback(int listener);
// Waits for at most timeout_ms. Errors (ERR_IO) name host and port.
MUST_CHECK bool os_net_connect(Str host, uint16_t port, uint32_t timeout_ms, int *socket, Error *err);

// The address of this machine that a connection to a host would come from, as text and without a port. Sends
// nothing. Errors (ERR_IO) name the host.
enum { OS_NET_ADDRESS_BYTES = 64 };
MUST_CHECK bool os_net_own_address(Str host, uint16_t port, char out[OS_NET_ADDRESS_BYTES], Error *err);

// The other side's address, for further connections that are begun without waiting.
typedef struct {
    uint32_t size;
    _Alignas(8) uint8_t bytes[128];
} OsNetPeer;
MUST_CHECK bool os_net_peer(int socket, OsNetPeer *out, Error *err);
// A socket on its way there, which becomes ready for sending: then os_net_connect_end says whether it is
// connected. OS_NET_EXHAUSTED: no descriptors, ports or memory; OS_NET_BROKEN: refused at once.
OsNetResult os_net_connect_begin(const OsNetPeer *peer, int *socket);
bool os_net_connect_end(int socket);

OsNetResult os_net_receive(int socket, void *out, size_t capacity, size_t *received);
OsNetResult os_net_send(int socket, Str bytes, size_t *sent);
// Sends FIN; receiving stays possible.
void os_net_shut(int socket);
void os_net_close(int socket);
// Waits until the socket is ready for receiving (or sending); false when the time is over.
bool os_net_wait_ready(int socket, bool for_sending, uint32_t timeout_ms);

// ---- the supervisor ----

// A socket to the supervisor that listens at NOTIFY_SOCKET (sd_notify(3)): a path, or an abstract name that
// begins with '@'. 0 where there is none.
int os_supervisor_open(void);
// Tells it of a state such as "READY=1": one datagram. Nothing is done about failures: nobody depends on a
// supervisor that is not there.
void os_supervisor_tell(int supervisor, Str state);

// ---- waiting for many ----

enum {
    OS_POLL_RECEIVE = 1, // bytes, an end, or a new connection
    OS_POLL_SEND = 2,
    OS_POLL_ENDED = 4,  // the other side sent FIN, perhaps after bytes that were not received yet
    OS_POLL_BROKEN = 8, // reported always: the connection is gone in both directions
};

typedef struct {
    uint64_t tag;
    uint32_t events; // OS_POLL_…
} OsPollEvent;

MUST_CHECK bool os_poll_open(int *poller, Error *err);
// Level-triggered; `interest` is made of the first three and may be 0. Closing a descriptor removes it.
MUST_CHECK bool os_poll_add(int poller, int fd, uint32_t interest, uint64_t tag);
bool os_poll_change(int poller, int fd, uint32_t interest, uint64_t tag);
// The number of events; 0 when the time is over or a signal came; -1 when the system refuses.
int os_poll_wait(int poller, OsPollEvent *events, int capacity, uint32_t timeout_ms);

// A descriptor that becomes ready for receiving at a time of os_monotonic_ns, and stays so until it is set
// anew; 0 sets it to never.
MUST_CHECK bool os_timer_open(int *timer, Error *err);
void os_timer_set(int timer, uint64_t monotonic_ns);

// ---- waking a waiting thread ----

// A descriptor that becomes ready for receiving when os_wake_signal is called (any thread, signal handlers
// too).
MUST_CHECK bool os_wake_open(int *wake, Error *err);
void os_wake_signal(int wake);
void os_wake_clear(int wake);
