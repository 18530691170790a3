/*
 * test_emulator.c: what the emulator of test/emu finds: every breach of CUDA's rules in misuse.cpp.
 *
 * Each is run by a process of its own, for some end it.  A real device has no breaches to offer: nothing is tested.
 */
#include "cuda_fixture.h"

#ifdef __SANITIZE_ADDRESS__
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#define FOUND_BY_ASAN(text) text
#else
#define FOUND_BY_ASAN(text) "result 0"
#endif

/* What the run of a rule's breach says; "result 1000" is a wrong result (EMU_WRONG), others are cudaError_t. */
static const struct {
    const char *rule, *order, *said, *also;
} breaches[] = {
    {"leave before barrier", "0", "result 719", "thread (40, 0, 0) has ended"},
    {"leave before barrier", "5", "result 719", "waits in __syncthreads at test/emu/misuse.cpp:"},
    {"barriers apart", "0", "result 719", "threads meet at different places"},
    {"half a shuffle", "0", "result 719", "thread (16, 0, 0) has ended"},
    {"half a shuffle", "5", "result 719", "waits for its warp at test/emu/misuse.cpp:"},
    {"shuffle and barrier", "0", "result 719", "thread (5, 0, 0) waits for its warp"},
    {"part of mask", "0", "result 719", "among the lanes 0000ffff"},
    {"past the end", "0", FOUND_BY_ASAN("use-after-poison"), FOUND_BY_ASAN("test/emu/misuse.cpp:")},
    {"freed", "0", FOUND_BY_ASAN("use-after-poison"), FOUND_BY_ASAN("test/emu/misuse.cpp:")},
    {"past dynamic shared", "0", FOUND_BY_ASAN("use-after-poison"), FOUND_BY_ASAN("thread (63, 0, 0) runs")},
    {"past static shared", "0", FOUND_BY_ASAN("test/emu/misuse.cpp:"), ""},
    {"host reads device", "0", "", ""},
    {"kernel gets host memory", "0", "result 700", "argument 0 of a kernel"},
    {"copy past the end", "0", "result 1\n", "a copy leaves its block"},
    {"reads fresh memory", "0", "result 1000", ""},
    {"part of warp", "0", "result 9\n", "a block of 33 threads"},
    {"too many threads", "0", "result 9\n", "1024 x 2 x 1 threads"},
    {"too much shared", "0", "result 1\n", "49153 bytes of dynamic shared memory"},
    {"no kernel", "0", "result 98", ""},
    {"forgotten barrier", "0", "result 0", ""},
    {"forgotten barrier", "1", "result 1000", ""},
    {"blocks depend", "0", "result 0", ""},
    {"blocks depend", "1", "result 1000", ""},
    {"forgotten wait", "0", "result 1000", ""},
    {"source changed", "0", "result 1000", ""},
    {"result read early", "0", "result 1000", ""},
};
static size_t breach;

static void
test_breach(void)
{
    static char output[1 << 16];
    int status = run_again("misuse", breaches[breach].rule, "EMU_ORDER", breaches[breach].order, output,
                           sizeof output);
    int found =
        strstr(output, breaches[breach].said) != NULL && strstr(output, breaches[breach].also) != NULL;

    /* Whoever touches the device's memory from the host dies of it. */
    if (breaches[breach].said[0] == '\0')
        found = status != 0 && strstr(output, "result") == NULL;
    CHECK(found);
    if (!found)
        fprintf(stderr, "%s, order %s: status %d\n%s", breaches[breach].rule, breaches[breach].order, status,
                output);
}

static void
misuse(const char *rule)
{
    int result = emu.misuse(rule);

    fflush(stderr);
    printf("result %d\n", result);
    fflush(stdout);
    _exit(0);
}

int
main(int argc, char **argv)
{
    if (!find_library() || !is_emulated())
        return check_report();
    if (argc == 3)
        misuse(argv[2]);
    for (breach = 0; breach < sizeof breaches / sizeof breaches[0]; breach++)
        RUN(test_breach);
    return check_report();
}
