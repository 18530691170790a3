/*
 * short.c: a fuzz target as a test: each seed as it is, then with a few bytes changed, cut, doubled or moved, the same ones
 * in every run.  It finds what came back, libFuzzer what is new (make fuzz).
 *
 * The seeds of test_fuzz_NAME are the files of test/golden/NAME/seeds, or of test/golden/NAME where there is no such folder.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 10000 /* of changed inputs */
#define MAX_SEEDS 256
#define MAX_SEED (1 << 18) /* bytes; longer files are no seeds */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

typedef struct seed {
    uint8_t *bytes;
    size_t length;
} seed;

static seed seeds[MAX_SEEDS];
static int seed_count;

static uint64_t
draw(uint64_t below)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static void
add_seed(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(MAX_SEED + 1);
    size_t length = file != NULL && bytes != NULL ? fread(bytes, 1, MAX_SEED + 1, file) : 0;

    if (file != NULL)
        fclose(file);
    if (length > 0 && length <= MAX_SEED && seed_count < MAX_SEEDS)
        seeds[seed_count++] = (seed){bytes, length};
    else
        free(bytes);
}

static int
is_no_dot(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* False when there is no such folder.  Sorted, so that every run is the same. */
static int
add_folder(const char *folder)
{
    struct dirent **entry;
    int count = scandir(folder, &entry, is_no_dot, alphasort), i;

    for (i = 0; i < count; i++) {
        char path[4096];

        snprintf(path, sizeof path, "%s/%s", folder, entry[i]->d_name);
        add_seed(path);
        free(entry[i]);
    }
    if (count >= 0)
        free(entry);
    return count >= 0;
}

static void
add_seeds_of(const char *name)
{
    char folder[4096];

    snprintf(folder, sizeof folder, "test/golden/%s/seeds", name);
    if (add_folder(folder))
        return;
    snprintf(folder, sizeof folder, "test/golden/%s", name);
    add_folder(folder);
}

/* Changes the input in one way; bytes has room for MAX_SEED. */
static size_t
change(uint8_t *bytes, size_t length)
{
    static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff, '0', '"', '[', '{'};
    size_t at = draw(length), other = draw(length), run = 1 + draw(16);

    if (run > length - at)
        run = length - at;
    if (run > length - other)
        run = length - other;
    switch (draw(6)) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << draw(8));
        return length;
    case 1:
        bytes[at] = telling[draw(sizeof telling)];
        return length;
    case 2:
        memmove(bytes + at, bytes + other, run);
        return length;
    case 3:
        memset(bytes + at, telling[draw(sizeof telling)], run);
        return length;
    case 4:
        memmove(bytes + at, bytes + at + run, length - at - run);
        return length - run;
    default:
        if (length + run > MAX_SEED)
            return at + 1;
        memmove(bytes + at + run, bytes + at, length - at);
        return length + run;
    }
}

/* A copy of exactly the input's size, so that a read behind it is seen. */
static void
run_target(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length + (length == 0));

    if (copy == NULL)
        abort();
    memcpy(copy, bytes, length);
    LLVMFuzzerTestOneInput(copy, length);
    free(copy);
}

static void
run_changed(uint8_t *bytes)
{
    const seed *from = &seeds[draw((uint64_t)seed_count)];
    size_t length = from->length, changes = 1 + draw(4);

    memcpy(bytes, from->bytes, length);
    while (changes-- > 0 && length > 0)
        length = change(bytes, length);
    run_target(bytes, draw(8) == 0 ? draw(length + 1) : length);
}

int
main(int argc, char **argv)
{
    const char *name = argc > 0 ? strstr(argv[0], "test_fuzz_") : NULL;
    uint8_t *bytes = malloc(MAX_SEED);
    int i;

    if (name == NULL || bytes == NULL)
        return 1;
    add_seeds_of(name + strlen("test_fuzz_"));
    if (seed_count == 0) {
        printf("0 passed, 1 failed\n");
        return 1;
    }
    for (i = 0; i < seed_count; i++)
        run_target(seeds[i].bytes, seeds[i].length);
    for (i = 0; i < ROUNDS; i++)
        run_changed(bytes);
    for (i = 0; i < seed_count; i++)
        free(seeds[i].bytes);
    free(bytes);
    printf("1 passed, 0 failed\n");
    return 0;
}
