/*
 * fuzz_image.c: any bytes through the decoders, and what decodes through the operations on images.
 *
 *    make fuzz && build/fuzz/fuzz_image CORPUS test/golden/image     (the golden files are the seeds)
 */
#include <stdlib.h>

#include "image/image.h"

#define PIXEL_LIMIT (1 << 18)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* What the header promises is what is decoded. */
static void
check_promise(const d2c_image *image, const d2c_image_info *info)
{
    if (image->width != info->width || image->height != info->height ||
        (image->channels != 1) != (info->channels > 2))
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    d2c_image_info info;
    d2c_image image, crop;
    d2c_error err;
    uint64_t hash;
    d2c_status probed = d2c_image_probe(&info, bytes, length, &err);

    if (d2c_image_decode(&image, bytes, length, 0, PIXEL_LIMIT, &err) == D2C_OK) {
        if (probed != D2C_OK)
            abort();
        check_promise(&image, &info);
        if (d2c_image_adm_crop(&crop, &image, 16, &err) == D2C_OK)
            d2c_image_free(&crop);
        if (d2c_image_phash(&hash, &image, &err) != D2C_OK)
            abort();
        d2c_image_free(&image);
    }
    if (d2c_image_decode(&image, bytes, length, length % 2 ? 1 : 3, PIXEL_LIMIT, &err) == D2C_OK)
        d2c_image_free(&image);
    return 0;
}
