/* status.c: filling and decorating d2c_error. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Takes off a UTF-8 character of which a cut has left only the first bytes. */
static void
drop_partial_character(char *text)
{
    size_t length = strlen(text), first = length;
    unsigned char lead;

    while (first > 0 && ((unsigned char)text[first - 1] & 0xC0) == 0x80)
        first--;
    lead = first > 0 ? (unsigned char)text[--first] : 0;
    if (lead >= 0xC0 && length - first < (lead >= 0xF0 ? 4u : lead >= 0xE0 ? 3u : 2u))
        text[first] = '\0';
}

/* Formats into text; what does not fit is cut. */
static void
format_text(char *text, size_t size, const char *format, va_list args)
{
    vsnprintf(text, size, format, args);
    drop_partial_character(text);
}

d2c_status
d2c_fail(d2c_error *err, d2c_status status, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return status;
    memset(err, 0, sizeof *err);
    err->status = status;
    va_start(args, format);
    format_text(err->message, sizeof err->message, format, args);
    va_end(args);
    return status;
}

void
d2c_detail(d2c_error *err, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return;
    va_start(args, format);
    format_text(err->detail, sizeof err->detail, format, args);
    va_end(args);
}

void
d2c_hint(d2c_error *err, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return;
    va_start(args, format);
    format_text(err->hint, sizeof err->hint, format, args);
    va_end(args);
}

void
d2c_error_prefix(d2c_error *err, const char *format, ...)
{
    char text[sizeof err->message];
    va_list args;
    size_t used;

    if (err == NULL)
        return;
    va_start(args, format);
    format_text(text, sizeof text, format, args);
    va_end(args);
    used = strlen(text);
    snprintf(text + used, sizeof text - used, ": %s", err->message);
    drop_partial_character(text);
    memcpy(err->message, text, sizeof text);
}

const char *
d2c_status_name(d2c_status status)
{
    static const char *const names[] = {
        [D2C_OK] = "ok",
        [D2C_INVALID_ARGUMENT] = "invalid argument",
        [D2C_BAD_DATA] = "bad data",
        [D2C_BAD_MODEL] = "bad model",
        [D2C_NOT_FOUND] = "not found",
        [D2C_TOO_LARGE] = "too large",
        [D2C_NO_MEMORY] = "out of memory",
        [D2C_IO] = "input or output failed",
        [D2C_UNSUPPORTED] = "unsupported",
        [D2C_CANCELLED] = "cancelled",
        [D2C_DEVICE] = "device failed",
        [D2C_NOT_FINITE] = "not finite",
        [D2C_INTERNAL] = "internal error",
    };

    if ((unsigned)status >= sizeof names / sizeof names[0])
        return "unknown status";
    return names[status];
}
