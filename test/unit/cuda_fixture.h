/*
 * cuda_fixture.h: the library of the CUDA backend that lies beside the test program, and the program run again.
 *
 * The library is the emulator's or a real device's; the emulator's has controls (test/emu/emu.h).
 */
#ifndef D2C_TEST_CUDA_FIXTURE_H
#define D2C_TEST_CUDA_FIXTURE_H

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static char program[PATH_MAX];

/* The emulator's; all NULL on a real device. */
static struct {
    void (*set_memory)(size_t bytes);
    void (*fail_launch)(long n, int error);
    long (*launches)(void);
    void (*set_order)(unsigned long seed);
    int (*misuse)(const char *rule);
} emu;

static inline int
is_emulated(void)
{
    return emu.launches != NULL;
}

/* Whether work waits until the host does; in other orders it may have run. */
static inline int
is_deferred(void)
{
    return is_emulated() && getenv("EMU_EAGER") == NULL && getenv("EMU_ORDER") == NULL;
}

static inline void
find_control(void *library, const char *name, void **control)
{
    *control = dlsym(library, name);
}

/* 0 when it cannot be opened, which is a failure: it is built with the tests. */
static inline int
find_library(void)
{
    char path[PATH_MAX + 32];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    void *library;

    if (length <= 0)
        abort();
    program[length] = '\0';
    snprintf(path, sizeof path, "%.*s/libd2c_cuda.so", (int)(strrchr(program, '/') - program), program);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        check_failed++;
        return 0;
    }
    find_control(library, "emu_set_memory", (void **)&emu.set_memory);
    find_control(library, "emu_fail_launch", (void **)&emu.fail_launch);
    find_control(library, "emu_launches", (void **)&emu.launches);
    find_control(library, "emu_set_order", (void **)&emu.set_order);
    find_control(library, "emu_misuse", (void **)&emu.misuse);
    return 1;
}

/* Runs the program with a mode, its argument and one of the emulator's settings; what it wrote goes to output.  Its exit
 * status, or 128 and the signal. */
static inline int
run_again(const char *mode, const char *argument, const char *variable, const char *value, char *output,
          size_t size)
{
    const struct rlimit no_core = {0, 0};
    size_t used = 0;
    ssize_t got;
    int ends[2], status = 0;
    pid_t child;

    fflush(NULL);
    if (pipe(ends) != 0 || (child = fork()) < 0)
        return -1;
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        unsetenv("EMU_EAGER");
        unsetenv("EMU_ORDER");
        setenv(variable, value, 1);
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        execl(program, program, mode, argument, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    while ((got = read(ends[0], output + used, size - 1 - used)) > 0)
        used += (size_t)got;
    output[used] = '\0';
    close(ends[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void
check_again(const char *mode, const char *argument, const char *variable, const char *value)
{
    static char output[1 << 16];
    int status = run_again(mode, argument, variable, value, output, sizeof output);

    CHECK(status == 0);
    if (status != 0)
        fprintf(stderr, "%s with %s=%s:\n%s", mode, variable, value, output);
}

#endif
