#include "os/os_terminal.h"

#include "os/os.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool os_terminal_begin(OsTerminal *t) {
    struct termios raw;
    *t = (OsTerminal){0};
    if (tcgetattr(0, &t->before) != 0) return false;
    raw = t->before;
    raw.c_iflag &= (tcflag_t) ~(BRKINT | ICRNL | INLCR | IGNCR | INPCK | ISTRIP | IXON);
    raw.c_lflag &= (tcflag_t) ~(ECHO | ICANON | IEXTEN | ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    t->raw = tcsetattr(0, TCSADRAIN, &raw) == 0;
    return t->raw;
}

void os_terminal_end(OsTerminal *t) {
    if (t->raw) (void)tcsetattr(0, TCSADRAIN, &t->before);
    t->raw = false;
}

long os_input_read(char *buffer, size_t size, uint32_t timeout_ms) {
    if (!os_wait_ready(STDIN_FILENO, false, timeout_ms)) return 0;
    ssize_t got = read(STDIN_FILENO, buffer, size);
    if (got > 0) return (long)got;
    return got < 0 && (errno == EINTR || errno == EAGAIN) ? 0 : -1;
}

uint32_t os_terminal_rows(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row ? size.ws_row : 24;
}
