/*
 * test_ranks.c: what ranks.h promises: sums in the order of the ranks, gathering, telling all, errors that end all.
 *
 * The same checks run over a fixture's messages, over a device's memory by way of the host's, and by MPI, for which the
 * program starts itself under mpirun with a mode as its argument.
 */
#define _GNU_SOURCE
#include <signal.h>

#include "device.h"
#include "ranks/device.h"
#include "ranks_fixture.h"

static char program[4096];

/* A rank's value: sums of three of them depend on their order in most cases. */
static float
value_of(int rank, int64_t i)
{
    uint32_t x = (uint32_t)i * 2654435761u + (uint32_t)rank * 40503u;

    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return ((float)(x & 0xffff) - 32768.0f) * (rank % 2 == 0 ? 1e-3f : 1.0f + (float)(x >> 28));
}

static float
plain_sum(int size, int64_t i)
{
    float sum = value_of(0, i);
    int r;

    for (r = 1; r < size; r++)
        sum += value_of(r, i);
    return sum;
}

/* The sum of a range on the backend, and nothing beside it. */
static void
check_sum(d2c_ranks *ranks, d2c_backend *be, int64_t count)
{
    float *host = malloc(((size_t)count + 1) * sizeof *host);
    size_t bytes = ((size_t)count + 1) * sizeof *host, room = d2c_ranks_scratch(ranks, count);
    void *data, *scratch;
    d2c_error err;
    int64_t i, wrong = 0;

    for (i = 0; i < count; i++)
        host[i] = value_of(d2c_rank_of(ranks), i);
    host[count] = 12345.0f;
    CHECK_OK(d2c_alloc(be, &data, bytes, D2C_MEMORY_DEVICE), &be->error);
    CHECK_OK(d2c_alloc(be, &scratch, room + 1, D2C_MEMORY_DEVICE), &be->error);
    CHECK_OK(d2c_upload(be, data, host, bytes), &be->error);
    CHECK_OK(d2c_ranks_sum(ranks, be, data, count, scratch, &err), &err);
    CHECK_OK(d2c_download(be, host, data, bytes), &be->error);
    for (i = 0; i < count; i++) {
        float expected = plain_sum(d2c_rank_count(ranks), i);

        wrong += memcmp(&host[i], &expected, sizeof expected) != 0;
    }
    CHECK(wrong == 0 && host[count] == 12345.0f);
    d2c_free(be, scratch, D2C_MEMORY_DEVICE);
    d2c_free(be, data, D2C_MEMORY_DEVICE);
    free(host);
}

/* Ranges shorter than there are ranks, of odd length, and of several passes. */
static void
check_sums(d2c_ranks *ranks, d2c_backend *be)
{
    static const int64_t count[] = {1, 2, 3, 7, 1000, 65537, ((int64_t)5 << 20) + 3};
    size_t i;

    for (i = 0; i < sizeof count / sizeof *count; i++)
        check_sum(ranks, be, count[i]);
}

static void
check_gather(d2c_ranks *ranks)
{
    int32_t all[3 * RANKS_MOST];
    d2c_error err;
    int i, rank = d2c_rank_of(ranks), size = d2c_rank_count(ranks);

    memset(all, 0xff, sizeof all);
    for (i = 0; i < 3; i++)
        all[3 * rank + i] = 100 * rank + i;
    CHECK_OK(d2c_ranks_gather(ranks, all, 3 * sizeof *all, &err), &err);
    for (i = 0; i < 3 * RANKS_MOST; i++)
        CHECK(all[i] == (i < 3 * size ? 100 * (i / 3) + i % 3 : -1));
}

static void
check_broadcast(d2c_ranks *ranks, size_t bytes)
{
    char *data = malloc(bytes + 1);
    int root, size = d2c_rank_count(ranks);
    size_t i, wrong = 0;
    d2c_error err;

    for (root = 0; root < size; root++) {
        for (i = 0; i < bytes; i++)
            data[i] = d2c_rank_of(ranks) == root ? (char)(i * 31 + (size_t)root) : 0;
        CHECK_OK(d2c_ranks_broadcast(ranks, root, data, bytes, &err), &err);
        for (i = 0; i < bytes; i++)
            wrong += data[i] != (char)(i * 31 + (size_t)root);
    }
    CHECK(wrong == 0);
    free(data);
}

/* by: NULL, or what carries messages between devices: "nccl" or "staged". */
static void
check_all(d2c_ranks *ranks, const char *device, const char *by)
{
    d2c_ranks *there;
    d2c_backend *be;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    if (by != NULL && strcmp(by, "staged") == 0)
        CHECK_OK(d2c_ranks_staged(&there, ranks, be, &err), &err);
    else
        CHECK_OK(d2c_ranks_device(&there, ranks, be, &err), &err);
    CHECK(by == NULL || strcmp(there->ops->name, by) == 0);
    CHECK(ranks == NULL || ranks->deaf == (by != NULL && strcmp(by, "nccl") == 0));
    check_sums(there, be);
    check_gather(ranks);
    check_broadcast(ranks, 1);
    check_broadcast(ranks, 100000);
    d2c_ranks_device_close(there, ranks);
    CHECK(ranks == NULL || !ranks->deaf);
    d2c_backend_close(be);
}

static void
work_on(d2c_ranks *ranks, void *device)
{
    check_all(ranks, device, NULL);
}

static void
work_by(d2c_ranks *ranks, void *by)
{
    check_all(ranks, "cuda", by);
}

static void
on_processor(void)
{
    ranks_run(2, work_on, (void *)"cpu");
    ranks_run(3, work_on, (void *)"reference");
    ranks_run(4, work_on, (void *)"cpu");
}

/* On the emulator the host cannot touch device memory. */
static void
on_device(void)
{
    if (!device_available("cuda"))
        return;
    ranks_run(3, work_by, (void *)"staged");
    ranks_run(2, work_by, (void *)"nccl");
    ranks_run(4, work_by, (void *)"nccl");
}

static void
alone(void)
{
    d2c_ranks *ranks;
    d2c_error err;

    CHECK_OK(d2c_ranks_open(&ranks, 1, &err), &err);
    CHECK(ranks == NULL && d2c_rank_of(ranks) == 0 && d2c_rank_count(ranks) == 1);
    CHECK(d2c_ranks_scratch(ranks, 1000) == 0);
    check_all(ranks, "cpu", NULL);
    d2c_ranks_fail(ranks, &err);
    d2c_ranks_close(ranks);
}

/* ---- by MPI ---------------------------------------------------------------------------------------------------- */

/* Runs the program's mode under mpirun; what it printed, and its exit status. */
static int
under_mpirun(const char *launcher, const char *mode, char *output, size_t size)
{
    char command[8192];
    size_t used;
    int status;
    FILE *pipe;

    snprintf(
        command, sizeof command,
        "env ASAN_OPTIONS=detect_leaks=0 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
        "OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none "
        "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none "
        "%s '%s' %s 2>&1",
        launcher, program, mode);
    pipe = popen(command, "r");
    CHECK(pipe != NULL);
    used = fread(output, 1, size - 1, pipe);
    output[used] = '\0';
    status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int
has_mpirun(void)
{
    return system("command -v mpirun >/dev/null") == 0;
}

static d2c_ranks *
join(double patience)
{
    d2c_ranks *ranks = NULL;
    d2c_error err;

    if (d2c_ranks_open(&ranks, patience, &err) != D2C_OK) {
        printf("%s\n", err.message);
        exit(1);
    }
    return ranks;
}

static int
work_by_mpi(void)
{
    d2c_ranks *ranks = join(60);

    CHECK(d2c_rank_count(ranks) == 3 && ranks->node_size == 3 && ranks->node_rank == ranks->rank);
    check_all(ranks, "cpu", NULL);
    d2c_ranks_close(ranks);
    return check_current != 0;
}

/* Rank 1 fails in its own work ("fail", "lack" for want of memory), or stops for good ("stop"); rank 0 says so, and then
 * nobody is left. */
static int
fail_by_mpi(const char *mode)
{
    int silently = strcmp(mode, "stop") == 0;
    d2c_ranks *ranks = join(silently ? 1 : 60);
    float *data = calloc(2000000, sizeof *data), *scratch = malloc(d2c_ranks_scratch(ranks, 2000000));
    d2c_backend *be;
    d2c_error err;
    d2c_status status;

    CHECK_OK(d2c_backend_open(&be, "cpu", 1, &err), &err);
    status = d2c_ranks_sum(ranks, be, data, 2000000, scratch, &err);
    if (ranks->rank == 1 && silently)
        raise(SIGSTOP);
    if (ranks->rank == 1) {
        status = d2c_fail(&err, strcmp(mode, "lack") == 0 ? D2C_NO_MEMORY : D2C_BAD_DATA, "row 7 is made up");
        d2c_detail(&err, "A detail.");
    } else if (status == D2C_OK)
        status = d2c_ranks_sum(ranks, be, data, 2000000, scratch, &err);
    d2c_ranks_fail(ranks, &err);
    printf("rank %d has status %d: %s. %s\n", ranks->rank, (int)status, err.message, err.detail);
    fflush(stdout);
    d2c_ranks_close(ranks);
    return 0;
}

static void
by_mpi(void)
{
    static char output[65536];

    CHECK(under_mpirun("mpirun -n 3", "work", output, sizeof output) == 0);
    if (check_current > 0)
        fputs(output, stderr);
}

static void
error_ends_all(void)
{
    static char output[65536];

    CHECK(under_mpirun("mpirun -n 3", "fail", output, sizeof output) != 0);
    CHECK(strstr(output, "rank 0 has status 2: rank 1: row 7 is made up. A detail.\n") != NULL);
    CHECK(strstr(output, "rank 1 has status") == NULL && strstr(output, "rank 2 has status") == NULL);
    if (check_current > 0)
        fputs(output, stderr);
}

/* What another rank lacks this one could not do with less of: it has an error that nobody tries again. */
static void
lack_of_memory_is_not_shared(void)
{
    static char output[65536];

    CHECK(under_mpirun("mpirun -n 3", "lack", output, sizeof output) != 0);
    CHECK(strstr(output, "rank 0 has status 7: rank 1: row 7 is made up. A detail.\n") != NULL);
    if (check_current > 0)
        fputs(output, stderr);
}

static void
silence_ends_all(void)
{
    static char output[65536];

    CHECK(under_mpirun("mpirun -n 3", "stop", output, sizeof output) != 0);
    CHECK(strstr(output, "rank 0 has status 7: rank 1 has been silent for 1 seconds. ") != NULL ||
          strstr(output, "rank 0 has status 7: rank 2: rank 1 has been silent for 1 seconds. ") != NULL);
    if (check_current > 0)
        fputs(output, stderr);
}

/* Processes that MPI does not join must not take themselves for one each. */
static void
other_counts_are_refused(void)
{
    static char output[65536];

    CHECK(under_mpirun("mpirun -n 1 env OMPI_COMM_WORLD_SIZE=2", "work", output, sizeof output) != 0);
    CHECK(strstr(output, "started as 2 processes, of which MPI sees 1\n") != NULL);
    if (check_current > 0)
        fputs(output, stderr);
}

int
main(int argc, char **argv)
{
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);

    program[length > 0 ? length : 0] = '\0';
    if (argc > 1 && strcmp(argv[1], "work") == 0)
        return work_by_mpi();
    if (argc > 1)
        return fail_by_mpi(argv[1]);
    RUN(on_processor);
    RUN(on_device);
    RUN(alone);
    if (has_mpirun()) {
        RUN(by_mpi);
        RUN(error_ends_all);
        RUN(lack_of_memory_is_not_shared);
        RUN(silence_ends_all);
        RUN(other_counts_are_refused);
    } else
        puts("# nothing by MPI: there is no mpirun");
    return check_report();
}
