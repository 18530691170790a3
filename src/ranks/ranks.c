/* ranks.c: joining the other processes, and what is written once on top of their exchanges. */
#include "ranks/ranks.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "base/library.h"

/* What libd2c_mpi.so exports. */
#define MPI_LIBRARY "libd2c_mpi.so"
#define MPI_SYMBOL "d2c_mpi_ranks"
typedef d2c_status (*mpi_ranks_open)(d2c_ranks **ranks, double patience, d2c_error *err);

#define PART ((size_t)64 << 20) /* bytes of a broadcast's message: MPI counts in ints */

/* ---- joining --------------------------------------------------------------------------------------------------- */

/* A number that a launcher left in the environment; 0 when there is none. */
static int
environment_number(const char *name)
{
    const char *text = getenv(name);

    return text != NULL ? atoi(text) : 0;
}

/* How many processes were started together: Open MPI, what speaks PMI (MPICH, Intel MPI), Slurm with either. */
static int
started_together(void)
{
    int count = environment_number("OMPI_COMM_WORLD_SIZE");

    if (count == 0)
        count = environment_number("PMI_SIZE");
    if (count == 0 && (getenv("PMIX_RANK") != NULL || getenv("PMI_RANK") != NULL))
        count = environment_number("SLURM_STEP_NUM_TASKS");
    return count;
}

static d2c_status
no_library(int count, d2c_error *err)
{
    d2c_fail(err, D2C_UNSUPPORTED, "started as %d processes, but MPI is not available", count);
    d2c_detail(err, "%s", dlerror());
    d2c_hint(err, "Build d2c where mpicc is installed, or start one process.");
    return D2C_UNSUPPORTED;
}

/* The launcher and the library must be of one MPI: processes that do not know each other would all write one run. */
static d2c_status
check(d2c_ranks **ranks, int count, d2c_error *err)
{
    int version = (*ranks)->ops->version, size = (*ranks)->size;

    if (version == D2C_RANKS_VERSION && size == count && size <= D2C_RANKS_LIMIT)
        return D2C_OK;
    (*ranks)->ops->close(*ranks);
    *ranks = NULL;
    if (version != D2C_RANKS_VERSION)
        return d2c_fail(err, D2C_UNSUPPORTED, "%s belongs to another version of d2c", MPI_LIBRARY);
    if (size > D2C_RANKS_LIMIT)
        return d2c_fail(err, D2C_TOO_LARGE, "%d processes are more than %d", size, D2C_RANKS_LIMIT);
    d2c_fail(err, D2C_INVALID_ARGUMENT, "started as %d processes, of which MPI sees %d", count, size);
    d2c_hint(err, "Start them with the mpirun of the MPI that d2c was built with.");
    return D2C_INVALID_ARGUMENT;
}

/* The library stays loaded, as MPI does not survive being unloaded; its own plugins look for its symbols globally. */
d2c_status
d2c_ranks_open(d2c_ranks **ranks, double patience, d2c_error *err)
{
    int count = started_together();
    char path[PATH_MAX];
    mpi_ranks_open open;
    void *library;

    *ranks = NULL;
    if (count <= 1)
        return D2C_OK;
    D2C_TRY(d2c_library_path(path, MPI_LIBRARY, err));
    library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL)
        return no_library(count, err);
    *(void **)&open = dlsym(library, MPI_SYMBOL);
    if (open == NULL)
        return d2c_fail(err, D2C_UNSUPPORTED, "\"%s\" is not a library of d2c", path);
    D2C_TRY(open(ranks, patience, err));
    return check(ranks, count, err);
}

/* Nobody leaves before all have come; who has failed meets nobody any more, which ends all. */
void
d2c_ranks_close(d2c_ranks *ranks)
{
    char *all;

    if (ranks == NULL)
        return;
    all = calloc((size_t)ranks->size, 1);
    if (all != NULL)
        d2c_ranks_gather(ranks, all, 1, NULL);
    free(all);
    ranks->ops->close(ranks);
}

void
d2c_ranks_fail(d2c_ranks *ranks, const d2c_error *why)
{
    if (ranks != NULL)
        ranks->ops->fail(ranks, why);
}

/* ---- on top of exchanges --------------------------------------------------------------------------------------- */

d2c_status
d2c_ranks_gather(d2c_ranks *ranks, void *all, size_t bytes, d2c_error *err)
{
    d2c_piece *out, *in;
    d2c_status status;
    int r;

    if (d2c_rank_count(ranks) == 1)
        return D2C_OK;
    out = calloc(2 * (size_t)ranks->size, sizeof *out);
    if (out == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    in = out + ranks->size;
    for (r = 0; r < ranks->size; r++) {
        out[r] = (d2c_piece){(char *)all + (size_t)ranks->rank * bytes, bytes};
        in[r] = (d2c_piece){(char *)all + (size_t)r * bytes, bytes};
    }
    status = ranks->ops->exchange(ranks, out, in, err);
    free(out);
    return status;
}

/* One message of a broadcast. */
static d2c_status
broadcast_part(d2c_ranks *ranks, int root, d2c_piece part, d2c_error *err)
{
    d2c_piece *out = calloc(2 * (size_t)ranks->size, sizeof *out), *in = out + ranks->size;
    d2c_status status;
    int r;

    if (out == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (r = 0; r < ranks->size && ranks->rank == root; r++)
        out[r] = part;
    if (ranks->rank != root)
        in[root] = part;
    status = ranks->ops->exchange(ranks, out, in, err);
    free(out);
    return status;
}

d2c_status
d2c_ranks_broadcast(d2c_ranks *ranks, int root, void *data, size_t bytes, d2c_error *err)
{
    size_t at;

    if (d2c_rank_count(ranks) == 1)
        return D2C_OK;
    for (at = 0; at < bytes; at += PART)
        D2C_TRY(broadcast_part(ranks, root,
                               (d2c_piece){(char *)data + at, bytes - at < PART ? bytes - at : PART}, err));
    return D2C_OK;
}
