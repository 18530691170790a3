/*
 * listen.c: the engine's socket, the lock that makes it the only one, and who may connect.
 *
 * The lock is a flock on a file beside the socket: it ends with the process, however that ends.  Whoever holds it owns
 * the socket's name, and may remove what a crashed engine left there.
 */
#define _GNU_SOURCE /* accept4, struct ucred */
#include "engine/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/log.h"

#define BACKLOG 128

/* What the signal handler removes; "" when the socket is not ours. */
static char owned_socket[sizeof((struct sockaddr_un *)0)->sun_path];

d2c_status
d2c_engine_beside(char *path, size_t size, const char *socket_path, const char *suffix, d2c_error *err)
{
    size_t length = strlen(socket_path);

    if (length > 5 && strcmp(socket_path + length - 5, ".sock") == 0)
        length -= 5;
    if (snprintf(path, size, "%.*s%s", (int)length, socket_path, suffix) >= (int)size)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "name of the socket is too long");
    return D2C_OK;
}

static d2c_status
take_lock(d2c_server *server, int *busy, d2c_error *err)
{
    char path[4096];

    D2C_TRY(d2c_engine_beside(path, sizeof path, server->options->socket_path, ".lock", err));
    server->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (server->lock < 0)
        return d2c_fail(err, D2C_IO, "could not open lock file \"%s\": %s", path, strerror(errno));
    if (server->owner != geteuid())
        fchmod(server->lock, 0666); /* later the server may start one of its own */
    *busy = 0;
    if (flock(server->lock, LOCK_EX | LOCK_NB) == 0)
        return D2C_OK;
    if (errno != EWOULDBLOCK)
        return d2c_fail(err, D2C_IO, "could not lock file \"%s\": %s", path, strerror(errno));
    *busy = 1;
    return D2C_OK;
}

static d2c_status
open_listener(d2c_server *server, d2c_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = server->options->socket_path;
    mode_t mask;
    int failed;

    if (strlen(path) >= sizeof address.sun_path)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "name of the socket is too long");
    strcpy(address.sun_path, path);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->listener < 0)
        return d2c_fail(err, D2C_IO, "could not create a socket: %s", strerror(errno));
    unlink(path);
    /* The data directory keeps strangers out, and the peer's user is checked; of a service that another user runs the
     * server must be able to open the socket. */
    mask = umask(server->owner == geteuid() ? 0077 : 0);
    failed = bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0;
    umask(mask);
    if (!failed)
        strcpy(owned_socket, path);
    if (failed || listen(server->listener, BACKLOG) != 0)
        return d2c_fail(err, D2C_IO, "could not listen at \"%s\": %s", path, strerror(errno));
    return D2C_OK;
}

d2c_status
d2c_server_listen(d2c_server *server, int *busy, d2c_error *err)
{
    struct stat info;

    if (stat(".", &info) != 0)
        return d2c_fail(err, D2C_IO, "could not read the data directory: %s", strerror(errno));
    server->owner = info.st_uid;
    D2C_TRY(take_lock(server, busy, err));
    return *busy ? D2C_OK : open_listener(server, err);
}

void
d2c_server_hide(d2c_server *server)
{
    if (server->listener < 0)
        return;
    unlink(owned_socket);
    owned_socket[0] = '\0';
    close(server->listener);
    server->listener = -1;
}

void
d2c_server_release(d2c_server *server)
{
    if (server->listener < 0)
        return;
    d2c_server_hide(server);
    close(server->lock);
}

static void
on_terminate(int number)
{
    (void)number;
    if (owned_socket[0] != '\0')
        unlink(owned_socket);
    _exit(0);
}

void
d2c_server_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_terminate};

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

/* Backends run as the owner of the data directory; the engine's own user is trusted as well. */
static int
peer_is_trusted(const d2c_server *server, int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return 0;
    if (peer.uid == server->owner || peer.uid == geteuid())
        return 1;
    d2c_log(server->log, D2C_LOG_LIMIT, "refused a connection of user ID %d", (int)peer.uid);
    return 0;
}

d2c_connection *
d2c_server_accept(d2c_server *server)
{
    d2c_connection *connection;
    int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            poll(NULL, 0, 10); /* until a client goes; the listener stays readable */
        return NULL;
    }
    connection = peer_is_trusted(server, fd) ? d2c_connection_create(fd) : NULL;
    if (connection == NULL)
        close(fd);
    return connection;
}
