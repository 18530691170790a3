/* frechet.h: the Frechet distance between two Gaussians, the measure behind FID. */
#ifndef D2C_EVAL_FRECHET_H
#define D2C_EVAL_FRECHET_H

#include "base/status.h"

/*
 * |mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)); means [width], covariances [width, width],
 * symmetric. Singular covariances are as good as others.  D2C_NOT_FINITE for NaN or infinity, D2C_BAD_DATA
 * for a matrix that is not a covariance: not symmetric, or with an eigenvalue clearly below zero.
 */
d2c_status d2c_frechet(double *distance, int width, const double *mean1, const double *cov1,
                       const double *mean2, const double *cov2, d2c_error *err);

#endif
