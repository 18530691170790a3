/* decode_webp.c: still WebP images, lossy and lossless, by libwebp. */
#include "image/codec.h"

#include <string.h>

#include <webp/decode.h>

static d2c_status
fail_webp(VP8StatusCode code, d2c_error *err)
{
    d2c_status status = code == VP8_STATUS_OUT_OF_MEMORY         ? D2C_NO_MEMORY
                        : code == VP8_STATUS_UNSUPPORTED_FEATURE ? D2C_UNSUPPORTED
                                                                 : D2C_BAD_DATA;

    d2c_fail(err, status, "%s WebP image", status == D2C_BAD_DATA ? "invalid" : "cannot decode");
    if (code == VP8_STATUS_NOT_ENOUGH_DATA || code == VP8_STATUS_SUSPENDED)
        d2c_detail(err, "The file is truncated.");
    return status;
}

/* libwebp takes a file whose last chunk is cut when the pixels before it are whole; the RIFF size tells. */
static d2c_status
check_riff(const uint8_t *bytes, size_t length, d2c_error *err)
{
    uint64_t size =
        (uint64_t)bytes[4] | (uint64_t)bytes[5] << 8 | (uint64_t)bytes[6] << 16 | (uint64_t)bytes[7] << 24;

    return size + 8 > length ? fail_webp(VP8_STATUS_NOT_ENOUGH_DATA, err) : D2C_OK;
}

d2c_status
d2c_webp_probe(d2c_image_info *info, const uint8_t *bytes, size_t length, d2c_error *err)
{
    WebPBitstreamFeatures features;
    VP8StatusCode code = WebPGetFeatures(bytes, length, &features);

    if (code != VP8_STATUS_OK)
        return fail_webp(code, err);
    if (features.has_animation)
        return d2c_fail(err, D2C_UNSUPPORTED, "animated WebP images are not supported");
    d2c_image_describe(info, "webp", features.width, features.height, features.has_alpha ? 4 : 3);
    return D2C_OK;
}

d2c_status
d2c_webp_decode(d2c_image *image, const uint8_t *bytes, size_t length, int64_t pixel_limit, d2c_error *err)
{
    d2c_image_info info;
    WebPDecoderConfig config;
    VP8StatusCode code;

    D2C_TRY(d2c_webp_probe(&info, bytes, length, err));
    D2C_TRY(check_riff(bytes, length, err));
    D2C_TRY(d2c_image_check_size(info.width, info.height, pixel_limit, err));
    if (!WebPInitDecoderConfig(&config))
        return d2c_fail(err, D2C_UNSUPPORTED, "libwebp's version is not the one that d2c was built with");
    D2C_TRY(d2c_image_allocate(image, info.width, info.height, 3, err));
    config.output.colorspace = MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = image->pixels;
    config.output.u.RGBA.stride = info.width * 3;
    config.output.u.RGBA.size = (size_t)info.width * (size_t)info.height * 3;
    code = WebPDecode(bytes, length, &config);
    WebPFreeDecBuffer(&config.output);
    if (code == VP8_STATUS_OK)
        return D2C_OK;
    d2c_image_free(image);
    return fail_webp(code, err);
}
