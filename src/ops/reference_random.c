/* reference_random.c: draws; philox.h has the generator, and its bits are every backend's bits. */
#include "base/philox.h"
#include "ops/reference.h"

/* The four draws of block `block` of row b. */
static d2c_philox_block
row_block(uint64_t seed, d2c_tensor id, d2c_tensor epoch, int purpose, int64_t b, int64_t block)
{
    return d2c_philox(seed, (uint32_t)block, (uint64_t)((const int64_t *)id.data)[b],
                      d2c_philox_stream(((const int64_t *)epoch.data)[b], purpose));
}

d2c_status
d2c_ref_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                    int purpose)
{
    float normal[4];

    (void)be;
    for (int64_t b = 0; b < y.dim[0]; b++)
        for (int64_t i = 0; i < y.dim[1]; i++) {
            if (i % 4 == 0)
                d2c_philox_normal4(normal, row_block(seed, id, epoch, purpose, b, i / 4));
            ref_set(y, b * y.dim[1] + i, normal[i % 4]);
        }
    return D2C_OK;
}

d2c_status
d2c_ref_drop_labels(d2c_backend *be, d2c_tensor kept, d2c_tensor keep, d2c_tensor label, uint64_t seed,
                    d2c_tensor id, d2c_tensor epoch, float probability, int64_t null_label)
{
    (void)be;
    for (int64_t b = 0; b < label.dim[0]; b++) {
        d2c_philox_block block = row_block(seed, id, epoch, D2C_PURPOSE_LABEL_DROP, b, 0);
        int drop = d2c_philox_uniform(block.w[0]) < probability;

        if (kept.data != NULL)
            ((int64_t *)kept.data)[b] = drop ? null_label : ((const int64_t *)label.data)[b];
        if (keep.data != NULL)
            ref_set(keep, b, !drop);
    }
    return D2C_OK;
}
