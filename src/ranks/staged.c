/* staged.c: exchanges of a device's memory by way of the host's, for devices that have no way of their own. */
#include <stdlib.h>

#include "ops/backend.h"
#include "ranks/device.h"

typedef struct staged_ranks {
    d2c_ranks base;
    d2c_ranks *host;
    d2c_backend *be;
    d2c_piece *out, *in; /* [size] in the host's memory */
    char *block;         /* that they lie in */
    size_t bytes;
} staged_ranks;

static size_t
total(const staged_ranks *s, const d2c_piece *pieces)
{
    size_t bytes = 0;
    int r;

    for (r = 0; r < s->base.size; r++)
        bytes += r != s->base.rank ? pieces[r].bytes : 0;
    return bytes;
}

/* Makes the pieces' counterparts in the host's memory, which grows where need be. */
static d2c_status
lay_out(staged_ranks *s, const d2c_piece *out, const d2c_piece *in, d2c_error *err)
{
    size_t bytes = total(s, out) + total(s, in), at = 0;
    int r;

    if (bytes > s->bytes) {
        char *grown = realloc(s->block, bytes);

        if (grown == NULL)
            return d2c_fail(err, D2C_NO_MEMORY, "out of memory for messages");
        s->block = grown;
        s->bytes = bytes;
    }
    for (r = 0; r < s->base.size; r++) {
        size_t sent = r != s->base.rank ? out[r].bytes : 0, received = r != s->base.rank ? in[r].bytes : 0;

        s->out[r] = (d2c_piece){s->block + at, sent};
        s->in[r] = (d2c_piece){s->block + at + sent, received};
        at += sent + received;
    }
    return D2C_OK;
}

static d2c_status
exchange(d2c_ranks *ranks, const d2c_piece *out, const d2c_piece *in, d2c_error *err)
{
    staged_ranks *s = (staged_ranks *)ranks;
    int r;

    D2C_TRY(lay_out(s, out, in, err));
    for (r = 0; r < ranks->size; r++)
        if (s->out[r].bytes > 0 && d2c_download(s->be, s->out[r].data, out[r].data, out[r].bytes) != D2C_OK)
            return d2c_backend_error(s->be, err);
    D2C_TRY(s->host->ops->exchange(s->host, s->out, s->in, err));
    for (r = 0; r < ranks->size; r++)
        if (s->in[r].bytes > 0 && d2c_upload(s->be, in[r].data, s->in[r].data, in[r].bytes) != D2C_OK)
            return d2c_backend_error(s->be, err);
    return D2C_OK;
}

static void
fail(d2c_ranks *ranks, const d2c_error *why)
{
    d2c_ranks_fail(((staged_ranks *)ranks)->host, why);
}

static void
close_staged(d2c_ranks *ranks)
{
    staged_ranks *s = (staged_ranks *)ranks;

    free(s->out);
    free(s->block);
    free(s);
}

static const d2c_ranks_ops staged_ops = {
    .size = sizeof staged_ops,
    .version = D2C_RANKS_VERSION,
    .name = "staged",
    .exchange = exchange,
    .fail = fail,
    .close = close_staged,
};

d2c_status
d2c_ranks_staged(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, d2c_error *err)
{
    staged_ranks *s = calloc(1, sizeof *s);

    if (s != NULL)
        s->out = calloc(2 * (size_t)host->size, sizeof *s->out);
    if (s == NULL || s->out == NULL) {
        free(s);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    s->in = s->out + host->size;
    s->base = *host;
    s->base.ops = &staged_ops;
    s->host = host;
    s->be = be;
    *device = &s->base;
    return D2C_OK;
}
