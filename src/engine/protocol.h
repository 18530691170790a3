/*
 * protocol.h: what a PostgreSQL backend and the engine say to each other.
 *
 * A UNIX stream socket; both ends are on one machine and of one build, so numbers are in the machine's own order.  The
 * client sends frames {d2c_frame, payload}; each gets one reply frame with the same id, in any order.  Many may be
 * under way.  A client that closes its connection has its queued work dropped: that is how a query is cancelled.
 * This header is all that d2c.so shares with libd2c; it needs nothing but libc.
 *
 * Payloads are built from: u32, i64, f64, string (u32 length, bytes, no terminator), bytes (the same), tensor (u32 dtype
 * as in the SQL type and in d2c_dtype: 0 f32, 1 bf16, 3 u8, 4 f16; u32 ndim, i64 dims[ndim], bytes data).  A reply with
 * status D2C_OK carries what is stated; any other status carries string message, string detail, string hint.
 */
#ifndef D2C_ENGINE_PROTOCOL_H
#define D2C_ENGINE_PROTOCOL_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

#define D2C_PROTOCOL_MAGIC 0x31633264u /* "d2c1" */
#define D2C_FRAME_LIMIT (1024u * 1024u * 1024u - 1024u)

typedef struct d2c_frame {
    uint32_t magic;
    uint32_t length; /* of the payload, at most D2C_FRAME_LIMIT */
    uint32_t kind;   /* d2c_request; in a reply, the request's */
    uint32_t status; /* d2c_status; 0 in a request */
    uint64_t id;
} d2c_frame;

typedef enum d2c_request {
    /* string build id, string settings -> string build id, string device, string precision, i64 pid.  First frame of
     * every connection (only STOP and STATUS may come without).  D2C_UNSUPPORTED when the build ids or settings differ:
     * the engine has then given up its socket, so that the client can start another in its place. */
    D2C_REQUEST_HELLO = 1,
    /* string model, bytes image, i64 label, u32 T, i64 seed, u32 curve, string vae ("": the model's own)
     *    -> u32 n, f64[n]: the mean, or the T errors */
    D2C_REQUEST_DIFFICULTY = 2,
    /* string model, tensor latent [C, H, W] f32, i64 label, u32 T, i64 seed, u32 curve -> as above */
    D2C_REQUEST_DIFFICULTY_LATENT = 3,
    /* bytes image -> string format, u32 width, u32 height, u32 channels */
    D2C_REQUEST_IMAGE_INFO = 4,
    /* bytes image, u32 edge -> bytes PNG */
    D2C_REQUEST_THUMBNAIL = 5,
    /* bytes image -> i64 */
    D2C_REQUEST_PHASH = 6,
    /* u32 edge, u32 columns (0: automatic), u32 count, count * (bytes image, string caption) -> bytes PNG */
    D2C_REQUEST_CONTACT_SHEET = 7,
    /* string model, string prompt, u32 tokens -> tensor embedding [tokens, W] f32, tensor mask [tokens] u8 */
    D2C_REQUEST_TEXT_EMBEDDING = 8,
    /* string model, bytes image, u32 tokens (0: all of the model's) -> tensor [tokens, W] f16, or f32 of families
     * that say so */
    D2C_REQUEST_VISUAL_EMBEDDING = 9,
    /* string model, tensor x [C, H, W] f32, f64 t, the model's own, i64 label (-1: null class)
     *    -> tensor [C, H, W] f32; DiT's has 2 C channels */
    D2C_REQUEST_DENOISE = 10,
    /* two moments: u32 width, i64 n, f64 mean[width], f64 covariance[width * width] -> f64 distance */
    D2C_REQUEST_FRECHET = 11,
    /* -> u32 count, count * (string name, string kind, i64 parameters, u32 width, u32 height, u32 channels,
     *    u32 classes, u32 embedding, string sha256, u32 loaded, string problem) */
    D2C_REQUEST_MODELS = 12,
    /* -> u32 count, count * (string name, string value) */
    D2C_REQUEST_STATUS = 13,
    /* -> nothing; the engine then ends at once */
    D2C_REQUEST_STOP = 14,
    /* string model -> string sha256, string kind, u32 width, u32 height, u32 channels, u32 classes, u32 embedding,
     *    string device, string precision, string build id, string vae ("": it takes none, or there is none): what a result
     *    table records */
    D2C_REQUEST_PROVENANCE = 15,
    /* string vae, bytes image, u32 size -> tensor [2 C, size/factor, size/factor] f32: mean, then deviation */
    D2C_REQUEST_LATENT = 20,
    /* string vae, tensor [C or 2 C, H, W] f32, whose first C channels count -> bytes PNG */
    D2C_REQUEST_DECODE_LATENT = 21,
    /* string model, bytes image, i64 label, u32 T, i64 seed, u32 curve, string vae ("": the model's own), string prompt,
     * string text model ("": the model's own) -> as DIFFICULTY */
    D2C_REQUEST_DIFFICULTY_PROMPT = 22,
    /* u32 method (select/features.h), u32 n, u32 count, u32 width, f32 features[count, width] in the order of ids
     *    -> u32 n, u32 rows[n] that are picked, in the order they are */
    D2C_REQUEST_SELECT = 30
} d2c_request;

/*
 * An engine that leaves in good order (idle, or replaced by another) first sends this frame, with id 0 and no payload:
 * it has begun none of the requests that it has not answered, so they may be sent to its successor.  A connection that
 * ends without it is a crash or a stop.
 */
#define D2C_GOODBYE 0xffffu

/* Where the engine listens, seen from the data directory; the log and the lock lie beside it. */
#define D2C_SOCKET_PATH "pg_stat_tmp/d2c.sock"
#define D2C_LOG_PATH "pg_stat_tmp/d2c.log"

/* What a server hands to the engine that it starts: its death pipe, and a pipe that takes the report below. */
#define D2C_DEATH_FD 3
#define D2C_REPORT_FD 4

/* The report: one of these bytes, then message, detail and hint, each with its terminator: why for FAILED, and for READY, if
 * anything, what the session should notice; for EXEC_FAILED an int errno. */
#define D2C_REPORT_READY 'R'
#define D2C_REPORT_BUSY 'B' /* another engine holds the lock */
#define D2C_REPORT_FAILED 'F'
#define D2C_REPORT_EXEC_FAILED 'X'

/* The settings of an engine; two with the same text below answer alike. */
typedef struct d2c_settings {
    const char *model_directory;
    const char *device;    /* "auto", "cpu", "cuda", "cuda:N" */
    const char *precision; /* "auto", "f32", "bf16", "fp8" */
    int64_t threads;       /* 0: the cores less one, on a GPU at most 8 */
    int64_t idle_timeout;  /* seconds; 0: never leaves */
    int64_t memory_limit;  /* MiB for models; 0: half of the machine's, or 80 % of the GPU's */
    int64_t max_image_pixels;
} d2c_settings;

#define D2C_SETTINGS_SIZE 2048

/* The settings in words, as the hello carries them. */
static inline void
d2c_settings_text(char text[D2C_SETTINGS_SIZE], const d2c_settings *settings)
{
    snprintf(text, D2C_SETTINGS_SIZE,
             "device=%s precision=%s threads=%lld idle_timeout=%lld memory_limit=%lld max_image_pixels=%lld "
             "model_directory=%s",
             settings->device, settings->precision, (long long)settings->threads,
             (long long)settings->idle_timeout, (long long)settings->memory_limit,
             (long long)settings->max_image_pixels, settings->model_directory);
}

/* Reads a payload; after a read past the end `bad` is set and every value is zero or empty. */
typedef struct d2c_reader {
    const char *at, *end;
    int bad;
} d2c_reader;

static inline const char *
d2c_read_raw(d2c_reader *reader, size_t length)
{
    const char *start = reader->at;

    if (reader->bad || (size_t)(reader->end - reader->at) < length) {
        reader->bad = 1;
        return NULL;
    }
    reader->at += length;
    return start;
}

static inline uint32_t
d2c_read_u32(d2c_reader *reader)
{
    const char *at = d2c_read_raw(reader, sizeof(uint32_t));
    uint32_t value = 0;

    if (at != NULL)
        memcpy(&value, at, sizeof value);
    return value;
}

static inline int64_t
d2c_read_i64(d2c_reader *reader)
{
    const char *at = d2c_read_raw(reader, sizeof(int64_t));
    int64_t value = 0;

    if (at != NULL)
        memcpy(&value, at, sizeof value);
    return value;
}

static inline double
d2c_read_f64(d2c_reader *reader)
{
    const char *at = d2c_read_raw(reader, sizeof(double));
    double value = 0;

    if (at != NULL)
        memcpy(&value, at, sizeof value);
    return value;
}

/* A string or bytes: the address inside the payload and the length; NULL and 0 when the payload is too short. */
static inline const char *
d2c_read_bytes(d2c_reader *reader, size_t *length)
{
    uint32_t n = d2c_read_u32(reader);
    const char *at = d2c_read_raw(reader, n);

    *length = at != NULL ? n : 0;
    return at;
}

#endif
