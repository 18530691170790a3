/* progress.c: the bar of progress.h. */
#include "base/progress.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_WIDTH 24
#define BAR_LEAST 4
#define TERMINAL_INTERVAL 0.1
#define PLAIN_INTERVAL 10.0

double
d2c_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Seconds as m:ss or h:mm:ss. */
static void
format_duration(char *text, size_t size, double seconds)
{
    long s = seconds > 0 ? (long)(seconds + 0.5) : 0;

    if (s >= 3600)
        snprintf(text, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, size, "%ld:%02ld", s / 60, s % 60);
}

/* "title 120/600 images, 31.5 images/s, 0:15 left, note", or in brief "120/600, 0:15 left, note"; the time taken once all
 * is done. */
static void
format_line(char *text, size_t size, const d2c_progress *p, double now, const char *note, int brief)
{
    double elapsed = now - p->started;
    double rate = elapsed > 0 ? (double)(p->done - p->from) / elapsed : 0;
    char duration[32], total[32] = "", speed[96] = "";

    if (p->total > 0)
        snprintf(total, sizeof total, "/%lld", (long long)p->total);
    if (!brief)
        snprintf(speed, sizeof speed, " %s, %.4g %s/s", p->unit, rate, p->unit);
    if (p->total > p->done && rate > 0)
        format_duration(duration, sizeof duration, (double)(p->total - p->done) / rate);
    else
        format_duration(duration, sizeof duration, elapsed);
    snprintf(text, size, "%s%s%lld%s%s, %s%s%s%s", brief ? "" : p->title, brief ? "" : " ",
             (long long)p->done, total, speed, duration, p->total > p->done && rate > 0 ? " left" : "",
             note != NULL ? ", " : "", note != NULL ? note : "");
}

static int
terminal_columns(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

/* The bar has the columns that the text leaves; the text is cut where it does not fit even alone. */
static void
print_bar(const d2c_progress *p, const char *line, int columns)
{
    char bar[BAR_WIDTH + 1];
    int width = columns - (int)strlen(line) - 4;
    int full;

    if (width < BAR_LEAST) {
        fprintf(stderr, "\r%.*s\033[K", columns > 1 ? columns - 1 : 0, line);
        fflush(stderr);
        return;
    }
    width = width < BAR_WIDTH ? width : BAR_WIDTH;
    full = p->total > 0 ? (int)((double)p->done / (double)p->total * width) : 0;
    if (full < 0 || full > width)
        full = full < 0 ? 0 : width;
    memset(bar, ' ', (size_t)width);
    memset(bar, '#', (size_t)full);
    bar[width] = '\0';
    fprintf(stderr, "\r[%s] %s\033[K", bar, line);
    fflush(stderr);
}

void
d2c_progress_start(d2c_progress *progress, const char *title, const char *unit, int64_t from, int64_t total)
{
    memset(progress, 0, sizeof *progress);
    progress->title = title;
    progress->unit = unit;
    progress->from = progress->done = from;
    progress->total = total;
    progress->started = d2c_clock();
    progress->printed = progress->started;
    progress->terminal = isatty(STDERR_FILENO);
}

static void
print_now(d2c_progress *progress, double now, const char *note)
{
    int columns = progress->terminal ? terminal_columns() : INT_MAX;
    char line[512];

    format_line(line, sizeof line, progress, now, note, 0);
    if ((int)strlen(line) >= columns)
        format_line(line, sizeof line, progress, now, note, 1);
    progress->printed = now;
    if (progress->terminal)
        print_bar(progress, line, columns);
    else
        fprintf(stderr, "%s\n", line);
}

void
d2c_progress_update(d2c_progress *progress, int64_t done, const char *note)
{
    double now = d2c_clock();

    progress->done = done;
    if (now - progress->printed >= (progress->terminal ? TERMINAL_INTERVAL : PLAIN_INTERVAL))
        print_now(progress, now, note);
}

void
d2c_progress_finish(d2c_progress *progress, const char *note)
{
    print_now(progress, d2c_clock(), note);
    if (progress->terminal)
        fputc('\n', stderr);
}
