/*
 * status.h: how libd2c reports failure.
 *
 * Every function that can fail returns a d2c_status and takes a d2c_error * as its last argument (NULL is
 * allowed).  The library never exits, aborts or prints.  Texts follow PostgreSQL's style guide: the message is
 * one line without capital or period, detail and hint are sentences.
 */
#ifndef D2C_BASE_STATUS_H
#define D2C_BASE_STATUS_H

typedef enum d2c_status {
    D2C_OK = 0,
    D2C_INVALID_ARGUMENT, /* the caller's value is outside the documented range */
    D2C_BAD_DATA,         /* an image, tensor or row is damaged or not what it claims to be */
    D2C_BAD_MODEL,        /* a model file is damaged, incomplete or of the wrong kind */
    D2C_NOT_FOUND,        /* no such model, file or row */
    D2C_TOO_LARGE,        /* over a stated limit */
    D2C_NO_MEMORY,
    D2C_IO,          /* the operating system or the database refused; may succeed later */
    D2C_UNSUPPORTED, /* valid, but not for this build, device or model */
    D2C_CANCELLED,
    D2C_DEVICE,     /* the accelerator failed */
    D2C_NOT_FINITE, /* a NaN or an infinity where a number is needed */
    D2C_INTERNAL    /* a bug of ours */
} d2c_status;

typedef struct d2c_error {
    d2c_status status;
    char message[320];
    char detail[512];
    char hint[320];
} d2c_error;

/* Fills *err with status and message, empties detail and hint, returns status. */
d2c_status d2c_fail(d2c_error *err, d2c_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Add a detail or a hint to an error that d2c_fail has filled. */
void d2c_detail(d2c_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
void d2c_hint(d2c_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the message, for the name of the file or row that the callee did not know. */
void d2c_error_prefix(d2c_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The status in words, for logs. */
const char *d2c_status_name(d2c_status status);

/* Returns the failure of a call from the function that made it. */
#define D2C_TRY(call)                                                                                        \
    do {                                                                                                     \
        d2c_status d2c_try_status = (call);                                                                  \
        if (d2c_try_status != D2C_OK)                                                                        \
            return d2c_try_status;                                                                           \
    } while (0)

#endif
