/*
 * fid.h: FID, sFID, Inception Score, precision and recall of samples against real images, as the network of inception.h
 * sees them.
 *
 * FID and sFID: Frechet distances of the pool3 features and of the spatial ones, covariances unbiased (N - 1), all images
 * of both sources.  Inception Score: of all samples, by consecutive parts of 5000.  Precision and recall: third nearest
 * neighbours among at most `neighbours` images of each source, drawn evenly by their position.
 *
 * Numbers are comparable only at one number of samples, one input variant and the same real images.
 */
#ifndef D2C_EVAL_FID_H
#define D2C_EVAL_FID_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_fid_setting {
    const char *directory, *model; /* of kind inception */
    const char *device;            /* as d2c_backend_choose takes it */
    int threads;                   /* of the CPU; 0: all cores */
    int64_t neighbours;
} d2c_fid_setting;

typedef struct d2c_fid {
    int64_t real_count, sample_count;
    int64_t real_neighbours, sample_neighbours; /* images that precision and recall looked at */
    int parts;                                  /* of the samples, for the Inception Score */
    double fid, sfid, inception_score, precision, recall;
    char notice[512]; /* d2c_backend_choose's */
} d2c_fid;

/* Sources as for d2c_each_image.  Memory does not grow with their size: about 300 MB with two threads, 15 MB for each
 * further one, and 8 KB for each of the neighbours of each source. */
d2c_status d2c_evaluate_fid(d2c_fid *result, const d2c_fid_setting *setting, PGconn *conn, const char *real,
                            const char *samples, d2c_error *err);

#endif
