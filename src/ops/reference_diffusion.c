/* reference_diffusion.c: interpolation paths and losses. */
#include "ops/reference.h"

#include <math.h>

#include "base/pixel_bits.h"

#define HALF_PI 1.57079632679489661923

/* The variance-preserving path's two constants (willisma/SiT transport/path.py, VPCPlan). */
#define VP_SIGMA_MIN 0.1
#define VP_SIGMA_MAX 20.0

#define COSINE_NORM_MIN 1e-12

/* alpha, sigma and their derivatives at t. */
static void
path_at(double out[4], double t, d2c_path path)
{
    double log_mean, slope;

    switch (path) {
    case D2C_PATH_GVP:
        out[0] = sin(HALF_PI * t);
        out[1] = cos(HALF_PI * t);
        out[2] = HALF_PI * out[1];
        out[3] = -HALF_PI * out[0];
        break;
    case D2C_PATH_VP:
        log_mean = -0.25 * (1 - t) * (1 - t) * (VP_SIGMA_MAX - VP_SIGMA_MIN) - 0.5 * (1 - t) * VP_SIGMA_MIN;
        slope = 0.5 * (1 - t) * (VP_SIGMA_MAX - VP_SIGMA_MIN) + 0.5 * VP_SIGMA_MIN;
        out[0] = exp(log_mean);
        out[1] = sqrt(-expm1(2 * log_mean));
        out[2] = out[0] * slope;
        out[3] = -exp(2 * log_mean) * slope / out[1];
        break;
    default:
        out[0] = t;
        out[1] = 1 - t;
        out[2] = 1;
        out[3] = -1;
        break;
    }
}

d2c_status
d2c_ref_path_coefficients(d2c_backend *be, d2c_tensor coefficient, d2c_tensor t, d2c_path path)
{
    (void)be;
    for (int64_t b = 0; b < t.dim[0]; b++) {
        double value[4];

        path_at(value, ref_get(t, b), path);
        for (int i = 0; i < 4; i++)
            ref_set(coefficient, 4 * b + i, value[i]);
    }
    return D2C_OK;
}

d2c_status
d2c_ref_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
                d2c_tensor coefficient)
{
    int64_t n = x.dim[1];

    (void)be;
    for (int64_t i = 0; i < x.dim[0] * n; i++) {
        int64_t c = i / n * 4;
        double data = ref_get(x, i), drawn = ref_get(noise, i);

        ref_set(xt, i, ref_get(coefficient, c) * data + ref_get(coefficient, c + 1) * drawn);
        if (target.data != NULL)
            ref_set(target, i, ref_get(coefficient, c + 2) * data + ref_get(coefficient, c + 3) * drawn);
    }
    return D2C_OK;
}

d2c_status
d2c_ref_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
                 const d2c_step_record *record)
{
    int64_t n = v.dim[1];

    (void)be;
    for (int64_t b = 0; b < v.dim[0]; b++) {
        double sum = 0;

        for (int64_t i = b * n; i < (b + 1) * n; i++) {
            double error = ref_get(v, i) - ref_get(target, i);

            sum += error * error;
            if (dv.data != NULL)
                ref_set(dv, i, 2 * error / n * record->loss_scale);
        }
        ref_set(loss, b, sum / n);
    }
    return D2C_OK;
}

/* The norm of a row, at least COSINE_NORM_MIN. */
static double
row_norm(d2c_tensor x, int64_t start, int64_t width)
{
    double sum = 0;

    for (int64_t i = start; i < start + width; i++)
        sum += ref_get(x, i) * ref_get(x, i);
    return fmax(sqrt(sum), COSINE_NORM_MIN);
}

/* dz = factor * d cos(z, q) / dz for one row; a row shorter than the least norm is divided by a constant. */
static void
cosine_row_gradient(d2c_tensor dz, d2c_tensor z, d2c_tensor q, int64_t start, double cosine, double factor)
{
    int64_t width = z.dim[2];
    double z_norm = row_norm(z, start, width), q_norm = row_norm(q, start, width);
    double along = z_norm > COSINE_NORM_MIN ? cosine : 0;

    for (int64_t i = start; i < start + width; i++)
        ref_set(dz, i, factor * (ref_get(q, i) / q_norm - along * ref_get(z, i) / z_norm) / z_norm);
}

d2c_status
d2c_ref_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q, float weight,
                    const d2c_step_record *record)
{
    int64_t tokens = z.dim[1], width = z.dim[2];

    (void)be;
    for (int64_t b = 0; b < z.dim[0]; b++) {
        double sum = 0;

        for (int64_t start = b * tokens * width; start < (b + 1) * tokens * width; start += width) {
            double cosine = 0;

            for (int64_t i = start; i < start + width; i++)
                cosine += ref_get(z, i) * ref_get(q, i);
            cosine /= row_norm(z, start, width) * row_norm(q, start, width);
            sum += cosine;
            if (dz.data != NULL)
                cosine_row_gradient(dz, z, q, start, cosine, -(double)weight / tokens * record->loss_scale);
        }
        ref_set(loss, b, -weight * sum / tokens);
    }
    return D2C_OK;
}

/* The bound's term of one element in nats, and its derivative by the fraction. */
static double
bound_term(double *slope, double error, double fraction, double x, const double bound[4])
{
    double range = bound[2] - bound[1], log_variance = bound[1] + range * (fraction + 1) / 2;
    double distance = bound[0] * error, ratio, square, by_log, value;

    if (bound[3] != 0)
        value = d2c_pixel_nats(&by_log, x, distance, log_variance);
    else {
        ratio = exp(bound[1] - log_variance);
        square = distance * distance * exp(-log_variance);
        value = 0.5 * (log_variance - bound[1] - 1 + ratio + square);
        by_log = 0.5 * (1 - ratio - square);
    }
    *slope = by_log * range / 2;
    return value;
}

d2c_status
d2c_ref_dit_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor noise,
                 d2c_tensor x, d2c_tensor bound, const d2c_step_record *record)
{
    int64_t n = noise.dim[1];

    (void)be;
    for (int64_t b = 0; b < noise.dim[0]; b++) {
        double term[4], squares = 0, nats = 0, slope;

        for (int i = 0; i < 4; i++)
            term[i] = ref_get(bound, 4 * b + i);
        for (int64_t i = 0; i < n; i++) {
            int64_t at = 2 * b * n + i;
            double error = ref_get(v, at) - ref_get(noise, b * n + i);

            squares += error * error;
            nats += bound_term(&slope, error, ref_get(v, at + n), ref_get(x, b * n + i), term);
            if (dv.data != NULL) {
                ref_set(dv, at, 2 * error / n * record->loss_scale);
                ref_set(dv, at + n, slope / M_LN2 / n * record->loss_scale);
            }
        }
        ref_set(loss, b, (squares + nats / M_LN2) / n);
    }
    return D2C_OK;
}

d2c_status
d2c_ref_finish_loss(d2c_backend *be, d2c_step_record *record, d2c_tensor loss)
{
    double sum = 0;

    (void)be;
    for (int64_t i = 0; i < loss.dim[0]; i++)
        sum += ref_get(loss, i);
    record->loss = (float)(record->loss + record->loss_scale * sum);
    return D2C_OK;
}
