/*
 * check.h: the unit tests' few words.
 *
 * A test program calls RUN(function) for each test and ends with return check_report(); each test is one pass or one
 * failure, and the last line counts them.
 */
#ifndef D2C_TEST_CHECK_H
#define D2C_TEST_CHECK_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

static int check_passed, check_failed, check_current;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                          \
            check_current++;                                                                                 \
        }                                                                                                    \
    } while (0)

/* The call succeeds; its error is printed otherwise. */
#define CHECK_OK(call, err)                                                                                  \
    do {                                                                                                     \
        if ((call) != D2C_OK) {                                                                              \
            fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call, (err)->message, (err)->detail); \
            check_current++;                                                                                 \
        }                                                                                                    \
    } while (0)

#define CHECK_NEAR(a, b, tolerance)                                                                          \
    do {                                                                                                     \
        double check_a = (a), check_b = (b);                                                                 \
        if (!(fabs(check_a - check_b) <= (tolerance))) {                                                     \
            fprintf(stderr, "%s:%d: %s = %.9g, %s = %.9g\n", __FILE__, __LINE__, #a, check_a, #b, check_b);   \
            check_current++;                                                                                 \
        }                                                                                                    \
    } while (0)

#define RUN(test)                                                                                            \
    do {                                                                                                     \
        check_current = 0;                                                                                   \
        test();                                                                                              \
        if (check_current == 0)                                                                              \
            check_passed++;                                                                                  \
        else {                                                                                               \
            check_failed++;                                                                                  \
            fprintf(stderr, "not ok: %s\n", #test);                                                          \
        }                                                                                                    \
    } while (0)

static inline int
check_report(void)
{
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
