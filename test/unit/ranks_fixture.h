/* ranks_fixture.h: several ranks as processes of one test, whose messages go through memory that they share. */
#ifndef D2C_TEST_RANKS_FIXTURE_H
#define D2C_TEST_RANKS_FIXTURE_H

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "ranks/ranks.h"

#define RANKS_MOST 4
#define RANKS_MESSAGE ((size_t)8 << 20)

typedef struct ranks_world {
    pthread_barrier_t meeting;
    size_t bytes[RANKS_MOST][RANKS_MOST]; /* [from][to] */
    char message[RANKS_MOST][RANKS_MOST][RANKS_MESSAGE];
} ranks_world;

typedef struct ranks_fixture {
    d2c_ranks base;
    ranks_world *world;
    int exchanges;
} ranks_fixture;

/* A message that is not as long as the receiver thinks is an error of the test. */
static inline d2c_status
ranks_exchange(d2c_ranks *ranks, const d2c_piece *out, const d2c_piece *in, d2c_error *err)
{
    ranks_fixture *f = (ranks_fixture *)ranks;
    ranks_world *w = f->world;
    int me = ranks->rank, wrong = 0, r;

    f->exchanges++;
    for (r = 0; r < ranks->size; r++)
        if (r != me && out[r].bytes <= RANKS_MESSAGE) {
            w->bytes[me][r] = out[r].bytes;
            if (out[r].bytes > 0)
                memcpy(w->message[me][r], out[r].data, out[r].bytes);
        }
    pthread_barrier_wait(&w->meeting);
    for (r = 0; r < ranks->size; r++)
        if (r != me && w->bytes[r][me] != in[r].bytes)
            wrong = 1;
        else if (r != me && in[r].bytes > 0)
            memcpy(in[r].data, w->message[r][me], in[r].bytes);
    pthread_barrier_wait(&w->meeting);
    return wrong ? d2c_fail(err, D2C_INTERNAL, "rank %d got other bytes than it expected", me) : D2C_OK;
}

static inline void
ranks_fail(d2c_ranks *ranks, const d2c_error *why)
{
    (void)ranks;
    (void)why;
}

static inline void
ranks_close(d2c_ranks *ranks)
{
    (void)ranks;
}

static const d2c_ranks_ops ranks_fixture_ops = {sizeof ranks_fixture_ops, D2C_RANKS_VERSION, "fixture",
                                                ranks_exchange,           ranks_fail,        ranks_close};

/* Runs the work in `size` processes, each with its rank; what fails there fails here. */
static inline void
ranks_run(int size, void (*work)(d2c_ranks *ranks, void *closure), void *closure)
{
    ranks_world *world =
        mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pthread_barrierattr_t shared;
    pid_t child[RANKS_MOST];
    int r, status;

    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&world->meeting, &shared, (unsigned)size);
    fflush(NULL);
    for (r = 0; r < size; r++)
        if ((child[r] = fork()) == 0) {
            ranks_fixture f = {{&ranks_fixture_ops, r, size, r, size, 0, 0}, world, 0};

            check_current = 0;
            work(&f.base, closure);
            exit(check_current != 0);
        }
    for (r = 0; r < size; r++) {
        CHECK(waitpid(child[r], &status, 0) == child[r]);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    munmap(world, sizeof *world);
}

#endif
