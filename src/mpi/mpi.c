/*
 * mpi.c: the exchanges of ranks.h by MPI, in a library of its own (libd2c_mpi.so) that is opened where processes were
 * started together.
 *
 * Only messages from one process to another are used.  A wait asks, besides, for news of an error elsewhere, and pauses
 * between its questions: the processor is then free for the ranks that still compute.
 */
#define _GNU_SOURCE
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ranks/ranks.h"

#define TAG 1
#define YIELDS 200           /* questions before the pauses begin */
#define PAUSE 50000          /* nanoseconds */
#define LAST_WORDS 300000000 /* nanoseconds */
#define DEAF_PATIENCE 10     /* seconds */

typedef struct mpi_ranks {
    d2c_ranks base;
    MPI_Comm data, news;
    MPI_Request *request; /* [2 * size] receives, then sends */
    MPI_Status *status;   /* [2 * size] of the same; MPICH's "ignore" is an address that compilers warn of */
    double patience;
    int failed; /* some process has failed, or is silent: there are no more exchanges */
    int told;   /* the others know */
} mpi_ranks;

static d2c_status
check(int code, const char *doing, d2c_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;

    if (code == MPI_SUCCESS)
        return D2C_OK;
    MPI_Error_string(code, text, &length);
    d2c_fail(err, D2C_IO, "MPI could not %s", doing);
    d2c_detail(err, "%s", text);
    return D2C_IO;
}

#define TRY_MPI(call, doing) D2C_TRY(check((call), (doing), err))

static void
pause_after(int questions)
{
    struct timespec moment = {0, PAUSE};

    if (questions < YIELDS)
        sched_yield();
    else
        nanosleep(&moment, NULL);
}

/* ---- news of an error ------------------------------------------------------------------------------------------ */

/* The error that another rank has told, as this one's own; but that this one has no memory would be something to retry. */
static d2c_status
read_news(mpi_ranks *m, const MPI_Status *from, d2c_error *err)
{
    d2c_error news;
    d2c_status status;

    TRY_MPI(MPI_Recv(&news, sizeof news, MPI_BYTE, from->MPI_SOURCE, TAG, m->news, MPI_STATUS_IGNORE),
            "receive");
    m->failed = 1;
    status = news.status != D2C_NO_MEMORY ? news.status : D2C_IO;
    d2c_fail(err, status, "%.*s", (int)sizeof news.message - 1, news.message);
    d2c_detail(err, "%.*s", (int)sizeof news.detail - 1, news.detail);
    d2c_hint(err, "%.*s", (int)sizeof news.hint - 1, news.hint);
    d2c_error_prefix(err, "rank %d", from->MPI_SOURCE);
    return status;
}

static d2c_status
ask_for_news(mpi_ranks *m, d2c_error *err)
{
    MPI_Status from;
    int there;

    TRY_MPI(MPI_Iprobe(MPI_ANY_SOURCE, TAG, m->news, &there, &from), "ask for messages");
    return there ? read_news(m, &from, err) : D2C_OK;
}

/* The memory of the messages stays: they may be on their way when this process ends. */
static void
tell(mpi_ranks *m, const d2c_error *why)
{
    d2c_error *copy = malloc(sizeof *copy);
    MPI_Request request;
    int r;

    if (copy == NULL)
        return;
    *copy = *why;
    for (r = 0; r < m->base.size; r++)
        if (r != m->base.rank &&
            MPI_Isend(copy, sizeof *copy, MPI_BYTE, r, TAG, m->news, &request) == MPI_SUCCESS)
            MPI_Request_free(&request);
}

/* Rank 0 ends this process in the meantime, for which the launcher asks first: there is nothing left to do before.
 * Questions keep the messages going that have not left yet. */
static void
wait_for_the_end(const mpi_ranks *m)
{
    double start = MPI_Wtime(), patience = m->patience;
    int there, questions;

    if (m->base.deaf && patience > DEAF_PATIENCE)
        patience = DEAF_PATIENCE;
    signal(SIGTERM, SIG_DFL);
    for (questions = 0; MPI_Wtime() - start < patience; questions++) {
        MPI_Iprobe(MPI_ANY_SOURCE, TAG, m->news, &there, MPI_STATUS_IGNORE);
        pause_after(questions);
    }
}

static void
fail(d2c_ranks *ranks, const d2c_error *why)
{
    mpi_ranks *m = (mpi_ranks *)ranks;

    m->failed = 1;
    if (m->told++)
        return;
    tell(m, why);
    if (ranks->rank != 0)
        wait_for_the_end(m);
}

/* ---- exchanges ------------------------------------------------------------------------------------------------- */

static d2c_status
post(mpi_ranks *m, const d2c_piece *out, const d2c_piece *in, d2c_error *err)
{
    int size = m->base.size, r;

    for (r = 0; r < 2 * size; r++)
        m->request[r] = MPI_REQUEST_NULL;
    for (r = 0; r < size; r++)
        if (r != m->base.rank && in[r].bytes > 0)
            TRY_MPI(MPI_Irecv(in[r].data, (int)in[r].bytes, MPI_BYTE, r, TAG, m->data, &m->request[r]),
                    "receive");
    for (r = 0; r < size; r++)
        if (r != m->base.rank && out[r].bytes > 0)
            TRY_MPI(
                MPI_Isend(out[r].data, (int)out[r].bytes, MPI_BYTE, r, TAG, m->data, &m->request[size + r]),
                "send");
    return D2C_OK;
}

/* Names the first rank that nothing has come from, or gone to. */
static d2c_status
silent(mpi_ranks *m, d2c_error *err)
{
    int r = -1, done = 1;

    while (done && r < 2 * m->base.size - 1)
        MPI_Test(&m->request[++r], &done, MPI_STATUS_IGNORE);
    if (done)
        return D2C_OK;
    d2c_fail(err, D2C_IO, "rank %d has been silent for %g seconds", r % m->base.size, m->patience);
    d2c_hint(err, "--rank-timeout gives it more time; --resume latest goes on from the newest checkpoint.");
    return D2C_IO;
}

static d2c_status
wait_for_all(mpi_ranks *m, d2c_error *err)
{
    double start = MPI_Wtime();
    int done = 0, questions;

    for (questions = 0;; questions++) {
        TRY_MPI(MPI_Testall(2 * m->base.size, m->request, &done, m->status), "exchange messages");
        if (done)
            return D2C_OK;
        if (questions % 16 == 15)
            D2C_TRY(ask_for_news(m, err));
        if (MPI_Wtime() - start > m->patience)
            return silent(m, err);
        pause_after(questions);
    }
}

/* Nothing more is to be written where the caller's memory is. */
static void
give_up(mpi_ranks *m)
{
    int r;

    m->failed = 1;
    for (r = 0; r < m->base.size; r++)
        if (m->request[r] != MPI_REQUEST_NULL && MPI_Cancel(&m->request[r]) == MPI_SUCCESS)
            MPI_Request_free(&m->request[r]);
}

static d2c_status
exchange(d2c_ranks *ranks, const d2c_piece *out, const d2c_piece *in, d2c_error *err)
{
    mpi_ranks *m = (mpi_ranks *)ranks;
    d2c_status status;

    if (m->failed)
        return d2c_fail(err, D2C_CANCELLED, "the other processes have ended");
    status = post(m, out, in, err);
    if (status == D2C_OK)
        status = wait_for_all(m, err);
    if (status != D2C_OK)
        give_up(m);
    return status;
}

/* ---- beginning and end ----------------------------------------------------------------------------------------- */

/* A launcher that hears of the abort before it has read what was printed, throws that away: the reason of the abort. */
static void
end_all(void)
{
    struct timespec moment = {0, LAST_WORDS};

    nanosleep(&moment, NULL);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void
close_mpi(d2c_ranks *ranks)
{
    mpi_ranks *m = (mpi_ranks *)ranks;

    if (m->failed)
        end_all();
    MPI_Comm_free(&m->data);
    MPI_Comm_free(&m->news);
    MPI_Finalize();
    free(m->request);
    free(m->status);
    free(m);
}

static const d2c_ranks_ops mpi_ops = {
    .size = sizeof mpi_ops,
    .version = D2C_RANKS_VERSION,
    .name = "mpi",
    .exchange = exchange,
    .fail = fail,
    .close = close_mpi,
};

static d2c_status
count_node(mpi_ranks *m, d2c_error *err)
{
    MPI_Comm node;

    TRY_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
            "find the machine's ranks");
    MPI_Comm_rank(node, &m->base.node_rank);
    MPI_Comm_size(node, &m->base.node_size);
    MPI_Comm_free(&node);
    return D2C_OK;
}

static d2c_status
join(mpi_ranks *m, d2c_error *err)
{
    int level;

    TRY_MPI(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), "start");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &m->base.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &m->base.size);
    D2C_TRY(count_node(m, err));
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &m->data), "open a channel");
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &m->news), "open a channel");
    m->request = malloc(2 * (size_t)m->base.size * sizeof(MPI_Request));
    m->status = malloc(2 * (size_t)m->base.size * sizeof(MPI_Status));
    return m->request != NULL && m->status != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

__attribute__((visibility("default"))) d2c_status d2c_mpi_ranks(d2c_ranks **ranks, double patience,
                                                                d2c_error *err);

d2c_status
d2c_mpi_ranks(d2c_ranks **ranks, double patience, d2c_error *err)
{
    mpi_ranks *m = calloc(1, sizeof *m);

    *ranks = NULL;
    if (m == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    m->patience = patience;
    m->base.ops = &mpi_ops;
    if (join(m, err) != D2C_OK) {
        free(m->request);
        free(m->status);
        free(m);
        return err != NULL ? err->status : D2C_IO;
    }
    *ranks = &m->base;
    return D2C_OK;
}
