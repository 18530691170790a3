/* reference_norm.c: layer norms, their modulation by a condition, and the gated residual. */
#include "ops/reference.h"

#include <math.h>

/* Mean and 1/deviation of the row of `width` elements that starts at `start`. */
static void
row_statistics(double *mean, double *inverse, d2c_tensor x, int64_t start, int64_t width, double eps)
{
    double sum = 0, square = 0;

    for (int64_t c = 0; c < width; c++)
        sum += ref_get(x, start + c);
    *mean = sum / width;
    for (int64_t c = 0; c < width; c++) {
        double centred = ref_get(x, start + c) - *mean;

        square += centred * centred;
    }
    *inverse = 1 / sqrt(square / width + eps);
}

/* Element i of row r, normalised with the row's kept statistics. */
static double
normalised(d2c_tensor x, d2c_tensor stat, int64_t r, int64_t i)
{
    return (ref_get(x, i) - ref_get(stat, 2 * r)) * ref_get(stat, 2 * r + 1);
}

/* What reaches x through the normalisation of one row: 1/deviation * (g - mean(g) - xhat * mean(g * xhat)), where
 * g = dy * (1 + scale) or dy * gamma; factor gives that factor of column c. */
typedef struct row_gradient {
    double mean, projected;
} row_gradient;

static row_gradient
gather_row(d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor factor, int64_t factor_start, double plus,
           int64_t r, int64_t width)
{
    row_gradient g = {0, 0};

    for (int64_t c = 0; c < width; c++) {
        int64_t i = r * width + c;
        double f = factor.data != NULL ? plus + ref_get(factor, factor_start + c) : 1;

        g.mean += ref_get(dy, i) * f / width;
        g.projected += ref_get(dy, i) * f * normalised(x, stat, r, i) / width;
    }
    return g;
}

static double
row_element(row_gradient g, double through, d2c_tensor x, d2c_tensor stat, int64_t r, int64_t i)
{
    return ref_get(stat, 2 * r + 1) * (through - g.mean - normalised(x, stat, r, i) * g.projected);
}

d2c_status
d2c_ref_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor shift,
                         d2c_tensor scale, float eps)
{
    int64_t tokens = x.dim[1], width = x.dim[2];

    (void)be;
    for (int64_t r = 0; r < x.dim[0] * tokens; r++) {
        int64_t b = r / tokens;
        double mean, inverse;

        row_statistics(&mean, &inverse, x, r * width, width, eps);
        ref_set(stat, 2 * r, mean);
        ref_set(stat, 2 * r + 1, inverse);
        for (int64_t c = 0; c < width; c++)
            ref_set(y, r * width + c,
                    (ref_get(x, r * width + c) - mean) * inverse *
                            (1 + ref_get(scale, b * scale.stride[0] + c)) +
                        ref_get(shift, b * shift.stride[0] + c));
    }
    return D2C_OK;
}

d2c_status
d2c_ref_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale, d2c_tensor dy,
                          d2c_tensor x, d2c_tensor stat, d2c_tensor scale)
{
    int64_t tokens = x.dim[1], width = x.dim[2];

    (void)be;
    for (int64_t b = 0; b < x.dim[0]; b++)
        for (int64_t c = 0; c < width; c++) {
            double shift_sum = 0, scale_sum = 0;

            for (int64_t r = b * tokens; r < (b + 1) * tokens; r++) {
                shift_sum += ref_get(dy, r * width + c);
                scale_sum += ref_get(dy, r * width + c) * normalised(x, stat, r, r * width + c);
            }
            ref_set(dshift, b * dshift.stride[0] + c, shift_sum);
            ref_set(dscale, b * dscale.stride[0] + c, scale_sum);
        }
    for (int64_t r = 0; r < x.dim[0] * tokens; r++) {
        int64_t start = r / tokens * scale.stride[0];
        row_gradient g = gather_row(dy, x, stat, scale, start, 1, r, width);

        for (int64_t c = 0; c < width; c++) {
            double through = ref_get(dy, r * width + c) * (1 + ref_get(scale, start + c));

            ref_add(dx, r * width + c, row_element(g, through, x, stat, r, r * width + c));
        }
    }
    return D2C_OK;
}

d2c_status
d2c_ref_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate)
{
    int64_t tokens = x.dim[1], width = x.dim[2];

    (void)be;
    for (int64_t r = 0; r < x.dim[0] * tokens; r++)
        for (int64_t c = 0; c < width; c++)
            ref_add(x, r * width + c,
                    ref_get(gate, r / tokens * gate.stride[0] + c) * ref_get(y, r * width + c));
    return D2C_OK;
}

d2c_status
d2c_ref_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx, d2c_tensor y,
                               d2c_tensor gate)
{
    int64_t tokens = dx.dim[1], width = dx.dim[2];

    (void)be;
    for (int64_t b = 0; b < dx.dim[0]; b++)
        for (int64_t c = 0; c < width; c++) {
            double sum = 0;

            for (int64_t r = b * tokens; r < (b + 1) * tokens; r++) {
                sum += ref_get(dx, r * width + c) * ref_get(y, r * width + c);
                ref_set(dy, r * width + c,
                        ref_get(gate, b * gate.stride[0] + c) * ref_get(dx, r * width + c));
            }
            ref_set(dgate, b * dgate.stride[0] + c, sum);
        }
    return D2C_OK;
}

d2c_status
d2c_ref_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor gamma,
                          d2c_tensor beta, float eps)
{
    int64_t width = x.dim[1];

    (void)be;
    for (int64_t r = 0; r < x.dim[0]; r++) {
        double mean, inverse;

        row_statistics(&mean, &inverse, x, r * width, width, eps);
        if (stat.data != NULL) {
            ref_set(stat, 2 * r, mean);
            ref_set(stat, 2 * r + 1, inverse);
        }
        for (int64_t c = 0; c < width; c++) {
            double value = (ref_get(x, r * width + c) - mean) * inverse;

            if (gamma.data != NULL)
                value = value * ref_get(gamma, c) + ref_get(beta, c);
            ref_set(y, r * width + c, value);
        }
    }
    return D2C_OK;
}

d2c_status
d2c_ref_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta, d2c_tensor dy,
                           d2c_tensor x, d2c_tensor stat, d2c_tensor gamma)
{
    int64_t width = x.dim[1];

    (void)be;
    for (int64_t c = 0; dgamma.data != NULL && c < width; c++) {
        double gamma_sum = 0, beta_sum = 0;

        for (int64_t r = 0; r < x.dim[0]; r++) {
            gamma_sum += ref_get(dy, r * width + c) * normalised(x, stat, r, r * width + c);
            beta_sum += ref_get(dy, r * width + c);
        }
        ref_add(dgamma, c, gamma_sum);
        ref_add(dbeta, c, beta_sum);
    }
    for (int64_t r = 0; r < x.dim[0]; r++) {
        row_gradient g = gather_row(dy, x, stat, gamma, 0, 0, r, width);

        for (int64_t c = 0; c < width; c++) {
            double through = ref_get(dy, r * width + c) * (gamma.data != NULL ? ref_get(gamma, c) : 1);

            ref_set(dx, r * width + c, row_element(g, through, x, stat, r, r * width + c));
        }
    }
    return D2C_OK;
}

d2c_status
d2c_ref_rmsnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, float eps)
{
    int64_t width = x.dim[1];

    (void)be;
    for (int64_t r = 0; r < x.dim[0]; r++) {
        double square = 0;

        for (int64_t c = 0; c < width; c++)
            square += ref_get(x, r * width + c) * ref_get(x, r * width + c);
        for (int64_t c = 0; c < width; c++)
            ref_set(y, r * width + c,
                    ref_get(x, r * width + c) / sqrt(square / width + eps) * ref_get(gamma, c));
    }
    return D2C_OK;
}
