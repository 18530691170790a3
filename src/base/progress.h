/* progress.h: a progress bar on a terminal, a plain line now and then elsewhere; to stderr. */
#ifndef D2C_BASE_PROGRESS_H
#define D2C_BASE_PROGRESS_H

#include <stdint.h>

typedef struct d2c_progress {
    const char *title, *unit;
    int64_t from, total, done;
    double started, printed; /* seconds of d2c_clock */
    int terminal;
} d2c_progress;

double d2c_clock(void); /* monotonic seconds */
/* from: what an earlier run has done already; the rate is of what comes after it. */
void d2c_progress_start(d2c_progress *progress, const char *title, const char *unit, int64_t from, int64_t total);
/* note: free text behind the bar (loss, data-wait), or NULL. */
void d2c_progress_update(d2c_progress *progress, int64_t done, const char *note);
void d2c_progress_finish(d2c_progress *progress, const char *note);

#endif
