/* test_base.c: status, arena, Philox against Random123's known answers, files and their digests. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/philox.h"
#include "base/progress.h"
#include "check.h"
#include "scratch_folder.h"

static void
test_status(void)
{
    d2c_error err;
    char expected[400];
    char *filler = expected + 8;
    /* Room for 319 bytes: a character of 2, 3 and 4 bytes fits whole or not at all. */
    static const size_t cut[] = {319, 316, 317, 318, 319, 317, 318, 319};
    int i;

    CHECK(d2c_fail(&err, D2C_BAD_DATA, "row %d", 7) == D2C_BAD_DATA);
    d2c_detail(&err, "Detail %s.", "one");
    d2c_hint(&err, "Hint.");
    d2c_error_prefix(&err, "table \"%s\"", "t");
    CHECK(err.status == D2C_BAD_DATA && strcmp(err.message, "table \"t\": row 7") == 0);
    CHECK(strcmp(err.detail, "Detail one.") == 0 && strcmp(err.hint, "Hint.") == 0);
    d2c_fail(&err, D2C_IO, "again");
    CHECK(err.detail[0] == '\0' && err.hint[0] == '\0');

    memset(filler, 'x', 391);
    filler[391] = '\0';
    d2c_fail(&err, D2C_IO, "%s", filler);
    CHECK(strlen(err.message) == sizeof err.message - 1);
    d2c_error_prefix(&err, "p");
    CHECK(strncmp(err.message, "p: xxx", 6) == 0 && strlen(err.message) == sizeof err.message - 1);

    for (i = 0; i < 8; i++) {
        d2c_fail(&err, D2C_IO, "%.*s\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 310 + i, filler);
        CHECK(strlen(err.message) == cut[i]);
    }
    CHECK(d2c_fail(NULL, D2C_IO, "nobody listens") == D2C_IO);
    d2c_detail(NULL, "x");
    d2c_hint(NULL, "x");
    d2c_error_prefix(NULL, "x");
    CHECK(strcmp(d2c_status_name(D2C_TOO_LARGE), "too large") == 0);
    CHECK(strcmp(d2c_status_name((d2c_status)99), "unknown status") == 0);
}

/* The same calls on a planning arena and on memory of the size it planned. */
static size_t
allocate_some(d2c_arena *arena)
{
    static const size_t sizes[] = {1, 255, 256, 257, 0, 1000};
    char *block, *last = NULL;
    size_t i, mark;

    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        block = d2c_arena_alloc(arena, sizes[i]);
        CHECK(block != NULL && (uintptr_t)block % D2C_ARENA_ALIGN == 0);
        CHECK(last == NULL || block >= last);
        if (arena->base != NULL)
            memset(block, (int)i, sizes[i]);
        last = block;
    }
    mark = d2c_arena_mark(arena);
    CHECK(d2c_arena_alloc(arena, 5000) != NULL);
    d2c_arena_release(arena, mark);
    CHECK(d2c_arena_alloc(arena, 100) != NULL);
    return arena->peak;
}

static void
test_arena(void)
{
    d2c_arena plan = {0}, run = {0};
    d2c_error err;

    run.capacity = allocate_some(&plan);
    CHECK(run.capacity == 256 * (1 + 1 + 1 + 2 + 0 + 4) + 5120);
    CHECK_OK(d2c_arena_check(&plan, &err), &err);
    run.base = aligned_alloc(D2C_ARENA_ALIGN, run.capacity);
    CHECK(run.base != NULL && allocate_some(&run) == run.capacity && run.used == plan.used);
    CHECK_OK(d2c_arena_check(&run, &err), &err);
    CHECK(d2c_arena_alloc(&run, run.capacity) == NULL);
    CHECK(d2c_arena_alloc(&run, 1) == NULL); /* once failed, always failed */
    CHECK(d2c_arena_check(&run, &err) == D2C_NO_MEMORY);
    free(run.base);
}

static void
test_arena_overflow(void)
{
    d2c_arena plan = {0};
    size_t result;
    d2c_error err;

    CHECK(d2c_arena_alloc(&plan, SIZE_MAX) == NULL);
    CHECK(d2c_arena_check(&plan, &err) == D2C_NO_MEMORY);
    plan = (d2c_arena){0};
    CHECK(d2c_arena_alloc(&plan, SIZE_MAX / 2) != NULL);
    CHECK(d2c_arena_alloc(&plan, SIZE_MAX / 2 + 1) == NULL);
    CHECK(d2c_size_mul(&result, SIZE_MAX / 2, 3) != 0 && d2c_size_add(&result, SIZE_MAX, 1) != 0);
    CHECK(d2c_size_mul(&result, 6, 7) == 0 && result == 42);
}

/* Random123's kat_vectors for philox4x32-10: counter, key, result. */
static void
test_philox_known(void)
{
    static const uint32_t known[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
         0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    size_t i;

    for (i = 0; i < 3; i++) {
        const uint32_t *k = known[i];
        d2c_philox_block b = d2c_philox((uint64_t)k[5] << 32 | k[4], k[0], (uint64_t)k[2] << 32 | k[1], k[3]);

        CHECK(memcmp(b.w, k + 6, sizeof b.w) == 0);
    }
    CHECK(d2c_philox_stream(3, D2C_PURPOSE_NOISE) == 3 * 256 + D2C_PURPOSE_NOISE);
}

/* Every u that can occur: logarithm, sine and cosine against libm in double precision. */
static void
test_philox_functions(void)
{
    double worst_log = 0, worst_trig = 0;
    uint32_t k;

    for (k = 1; k <= 1u << 24; k += k < 1u << 16 || k > (1u << 24) - 70000 ? 1 : 61) {
        float u = (float)k * 0x1p-24f, s, c;
        double exact = log((double)u), error = fabs((double)d2c_philox_log(u) - exact);
        double angle = 2 * M_PI * ((double)(k - 1) * 0x1p-24);

        if (exact != 0)
            error /= fabs(exact);
        worst_log = fmax(worst_log, error);
        d2c_philox_sincos(&s, &c, (float)(k - 1) * 0x1p-24f);
        worst_trig = fmax(worst_trig, fmax(fabs((double)s - sin(angle)), fabs((double)c - cos(angle))));
    }
    CHECK(worst_log < 1.5e-7);
    CHECK(worst_trig < 1.2e-7);
}

/* Moments and tails of 4 million normals, each within five standard deviations of its expectation. */
static void
test_philox_normal(void)
{
    const int blocks = 1 << 20, n = 4 * blocks;
    double sum[5] = {0}, pairs = 0, beyond[5] = {0}, root = sqrt(n);
    float x[4];
    int i, j, k;

    for (i = 0; i < blocks; i++) {
        d2c_philox_normal4(x, d2c_philox(42, (uint32_t)i, 7, d2c_philox_stream(0, D2C_PURPOSE_TEST)));
        pairs += x[0] * x[1] + x[2] * x[3];
        for (j = 0; j < 4; j++) {
            double power = 1;

            for (k = 1; k <= 4; k++)
                sum[k] += power *= x[j];
            for (k = 1; k <= 4; k++)
                beyond[k] += fabsf(x[j]) > (float)k;
        }
    }
    CHECK_NEAR(sum[1] / n, 0, 5 / root);
    CHECK_NEAR(sum[2] / n, 1, 5 * sqrt(2) / root);
    CHECK_NEAR(sum[3] / n, 0, 5 * sqrt(15) / root);
    CHECK_NEAR(sum[4] / n, 3, 5 * sqrt(96) / root);
    CHECK_NEAR(pairs / (n / 2), 0, 5 / sqrt(n / 2));
    for (k = 1; k <= 4; k++) {
        double p = erfc(k / sqrt(2.0));

        CHECK_NEAR(beyond[k] / n, p, 5 * sqrt(p * (1 - p)) / root);
    }
}

/* Words at their ends give finite numbers: u = 2^-24 is the farthest normal, u = 1 is 0. */
static void
test_philox_ends(void)
{
    d2c_philox_block low = {{0, 0, 0xffffffff, 0xffffffff}};
    float x[4];
    int i;

    d2c_philox_normal4(x, low);
    for (i = 0; i < 4; i++)
        CHECK(isfinite(x[i]));
    CHECK_NEAR(x[0], sqrt(48 * log(2)), 1e-5);
    CHECK(x[1] == 0 && x[2] == 0 && x[3] == 0);
    CHECK(d2c_philox_uniform(0xffffffff) < 1.0f && d2c_philox_uniform(0xff) == 0.0f);
}

/* A draw is a function of its counter: any order gives the same, and each part of the counter matters. */
static void
test_philox_order(void)
{
    d2c_philox_block forward[64], b;
    int i;

    for (i = 0; i < 64; i++)
        forward[i] = d2c_philox(9, (uint32_t)i % 8, (uint64_t)i / 8 << 30, 5);
    for (i = 63; i >= 0; i--) {
        b = d2c_philox(9, (uint32_t)i % 8, (uint64_t)i / 8 << 30, 5);
        CHECK(memcmp(&b, &forward[i], sizeof b) == 0);
        CHECK(i == 0 || memcmp(&forward[i], &forward[i - 1], sizeof b) != 0);
    }
    b = d2c_philox((uint64_t)9 << 32, 0, 0, 5);
    CHECK(memcmp(&b, &forward[0], sizeof b) != 0);
    b = d2c_philox(9, 0, 0, 6);
    CHECK(memcmp(&b, &forward[0], sizeof b) != 0);
}

static void
test_file(void)
{
    uint8_t *bytes = NULL;
    struct stat info;
    size_t length = 9;
    d2c_error err;
    mode_t mask = umask(022);

    CHECK_OK(d2c_file_write(at("a"), "abc", 3, &err), &err);
    umask(mask);
    CHECK(stat(at("a"), &info) == 0 && (info.st_mode & 0777) == 0644);
    CHECK_OK(d2c_file_read(&bytes, &length, at("a"), 3, &err), &err);
    CHECK(length == 3 && bytes != NULL && memcmp(bytes, "abc", 4) == 0);
    free(bytes);
    CHECK(d2c_file_read(&bytes, &length, at("a"), 2, &err) == D2C_TOO_LARGE && bytes == NULL);
    CHECK(d2c_file_read(&bytes, &length, at("none"), 2, &err) == D2C_NOT_FOUND);
    CHECK(strstr(err.message, "none\": No such file or directory") != NULL);
    CHECK(d2c_file_read(&bytes, &length, folder, 100, &err) == D2C_INVALID_ARGUMENT);
    CHECK_OK(d2c_file_write(at("a"), "", 0, &err), &err);
    CHECK_OK(d2c_file_read(&bytes, &length, at("a"), 0, &err), &err);
    CHECK(length == 0 && bytes != NULL && bytes[0] == 0);
    free(bytes);
    unlink(at("a"));
}

/* FIPS 180-2's examples, and a file of more than one buffer. */
static void
test_sha256(void)
{
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char million_a[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    char *many = malloc(3000000), digest[65], of_file[65];
    d2c_error err;

    d2c_sha256(digest, "abc", 3);
    CHECK(strcmp(digest, abc) == 0);
    memset(many, 'a', 3000000);
    d2c_sha256(digest, many, 1000000);
    CHECK(strcmp(digest, million_a) == 0);
    d2c_sha256(digest, many, 3000000);
    CHECK_OK(d2c_file_write(at("b"), many, 3000000, &err), &err);
    CHECK_OK(d2c_file_sha256(of_file, at("b"), &err), &err);
    CHECK(strcmp(digest, of_file) == 0);
    CHECK(d2c_file_sha256(of_file, at("none"), &err) == D2C_NOT_FOUND && of_file[0] == '\0');
    unlink(at("b"));
    free(many);
}

static void
test_make_directory(void)
{
    struct stat info;
    d2c_error err;

    CHECK_OK(d2c_make_directory(at("x//y/z/"), &err), &err);
    CHECK(stat(at("x/y/z"), &info) == 0 && S_ISDIR(info.st_mode));
    CHECK_OK(d2c_make_directory(at("x/y/z"), &err), &err);
    CHECK_OK(d2c_file_write(at("x/file"), "", 0, &err), &err);
    CHECK(d2c_make_directory(at("x/file/y"), &err) == D2C_IO);
    CHECK(strstr(err.message, "could not create directory") != NULL);
    unlink(at("x/file"));
    rmdir(at("x/y/z"));
    rmdir(at("x/y"));
    rmdir(at("x"));
}

static void
test_clock(void)
{
    double a = d2c_clock(), b = d2c_clock();

    CHECK(a > 0 && b >= a);
}

int
main(void)
{
    if (!make_folder())
        return 1;
    RUN(test_status);
    RUN(test_arena);
    RUN(test_arena_overflow);
    RUN(test_philox_known);
    RUN(test_philox_functions);
    RUN(test_philox_normal);
    RUN(test_philox_ends);
    RUN(test_philox_order);
    RUN(test_file);
    RUN(test_sha256);
    RUN(test_make_directory);
    RUN(test_clock);
    remove_folder();
    return check_report();
}
