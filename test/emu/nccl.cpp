/*
 * nccl.cpp: NCCL's messages between processes.  From each rank to each other one goes a pipe in a folder, whose name is the
 * group's id; a group's messages wait in the stream's queue like a kernel, then run all at once, as they may depend on
 * each other.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "internal.h"
#include "nccl.h"

struct ncclComm {
    int rank, size;
    std::vector<int> to, from; /* descriptors by rank; -1: its own */
};

typedef struct message {
    bool sends;
    char *data;
    size_t left;
    int fd;
} message;

static thread_local int depth;
static thread_local std::vector<message> pending;
static thread_local cudaStream_t pending_stream;

static int
open_pipe(const ncclUniqueId &id, int from, int to)
{
    std::string path = std::string(id.internal) + "/" + std::to_string(from) + "-" + std::to_string(to);

    if (mkfifo(path.c_str(), 0600) != 0 && errno != EEXIST)
        return -1;
    return open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

/* Reads or writes as much as goes at once; false when the pipe is broken. */
static bool
advance(message &m)
{
    ssize_t done = m.sends ? write(m.fd, m.data, m.left) : read(m.fd, m.data, m.left);

    if (done < 0)
        return errno == EAGAIN || errno == EINTR;
    m.data += done;
    m.left -= (size_t)done;
    return true;
}

static void
run(std::vector<message> messages)
{
    emu_open_memory open;
    bool waiting = true;

    while (waiting) {
        std::vector<pollfd> polled;

        for (message &m : messages) {
            if (m.left > 0 && !advance(m)) {
                emu_complain("a message between ranks is lost");
                emu_lose(cudaErrorUnknown);
                return;
            }
            if (m.left > 0)
                polled.push_back({m.fd, (short)(m.sends ? POLLOUT : POLLIN), 0});
        }
        waiting = !polled.empty();
        if (waiting)
            poll(polled.data(), polled.size(), 1000);
    }
}

ncclResult_t
ncclGetUniqueId(ncclUniqueId *id)
{
    strcpy(id->internal, "/tmp/d2c-nccl-XXXXXX");
    return mkdtemp(id->internal) != NULL ? ncclSuccess : ncclSystemError;
}

/* Everyone has opened every pipe before the folder goes. */
static ncclResult_t
meet(ncclComm_t comm, const ncclUniqueId &id)
{
    std::vector<message> messages;
    char mine = 1;
    std::vector<char> theirs(comm->size);

    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank) {
            messages.push_back({true, &mine, 1, comm->to[r]});
            messages.push_back({false, &theirs[r], 1, comm->from[r]});
        }
    run(messages);
    for (int r = 0; r < comm->size && comm->rank == 0; r++)
        for (int other = 0; other < comm->size; other++)
            unlink(
                (std::string(id.internal) + "/" + std::to_string(r) + "-" + std::to_string(other)).c_str());
    if (comm->rank == 0)
        rmdir(id.internal);
    return ncclSuccess;
}

ncclResult_t
ncclCommInitRank(ncclComm_t *made, int ranks, ncclUniqueId id, int rank)
{
    emu_entry entry;
    ncclComm_t comm = new ncclComm{rank, ranks, std::vector<int>(ranks, -1), std::vector<int>(ranks, -1)};

    for (int r = 0; r < ranks; r++) {
        if (r == rank)
            continue;
        comm->to[r] = open_pipe(id, rank, r);
        comm->from[r] = open_pipe(id, r, rank);
        if (comm->to[r] < 0 || comm->from[r] < 0)
            return ncclSystemError;
    }
    *made = comm;
    return meet(comm, id);
}

ncclResult_t
ncclCommDestroy(ncclComm_t comm)
{
    for (int r = 0; r < comm->size; r++)
        if (r != comm->rank) {
            close(comm->to[r]);
            close(comm->from[r]);
        }
    delete comm;
    return ncclSuccess;
}

const char *
ncclGetErrorString(ncclResult_t result)
{
    return result == ncclSuccess ? "no error" : result == ncclInvalidArgument ? "invalid argument" : "error";
}

ncclResult_t
ncclGroupStart(void)
{
    depth++;
    return ncclSuccess;
}

ncclResult_t
ncclGroupEnd(void)
{
    emu_entry entry;
    std::vector<message> messages;

    if (depth == 0)
        return ncclInvalidUsage;
    if (--depth > 0)
        return ncclSuccess;
    messages.swap(pending);
    if (messages.empty())
        return ncclSuccess;
    return emu_queue(pending_stream, [messages] { run(messages); }) == cudaSuccess ? ncclSuccess
                                                                                   : ncclInternalError;
}

/* Messages outside a group would wait for each other: d2c has none. */
static ncclResult_t
put(bool sends, char *data, size_t count, ncclDataType_t type, int rank, ncclComm_t comm, cudaStream_t stream)
{
    emu_entry entry;

    if (depth == 0 || type != ncclUint8 || rank < 0 || rank >= comm->size || rank == comm->rank)
        return ncclInvalidUsage;
    if (emu_place_of(data, count) != EMU_DEVICE)
        return ncclInvalidArgument;
    pending.push_back({sends, data, count, sends ? comm->to[rank] : comm->from[rank]});
    pending_stream = stream;
    return ncclSuccess;
}

ncclResult_t
ncclSend(const void *data, size_t count, ncclDataType_t type, int to, ncclComm_t comm, cudaStream_t stream)
{
    return put(true, (char *)data, count, type, to, comm, stream);
}

ncclResult_t
ncclRecv(void *data, size_t count, ncclDataType_t type, int from, ncclComm_t comm, cudaStream_t stream)
{
    return put(false, (char *)data, count, type, from, comm, stream);
}
