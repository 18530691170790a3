/* test_vae.c: the autoencoder against diffusers (golden/make_vae.py), and files and folders that are none. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "device.h"
#include "nn/config_json.h"
#include "nn/vae.h"

#define FOLDER GOLDEN "/models/tiny-vae"
#define DIFFUSERS FOLDER "/diffusion_pytorch_model.safetensors"
#define OLD GOLDEN "/vae/old.safetensors"
#define COMPVIS GOLDEN "/vae/compvis.safetensors"
#define IMAGES 5
#define LATENT 4
#define MOST_PIXELS (3 * 64 * 64)

static char scratch_file[] = "/tmp/d2c-vae-XXXXXX";

/* ||a - b|| / ||b|| */
static double
relative_error(const float *a, const float *b, int64_t count)
{
    double difference = 0, norm = 0;
    int64_t i;

    for (i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / norm);
}

static d2c_status
open_vae(d2c_vae **vae, d2c_backend *be, const char *path, const char *config_text, d2c_dtype precision,
         d2c_error *err)
{
    d2c_weights *file = NULL;
    d2c_vae_config config;
    d2c_status status;
    cJSON *json = NULL;

    *vae = NULL;
    if (config_text != NULL)
        json = cJSON_Parse(config_text);
    else
        CHECK_OK(d2c_json_read(&json, FOLDER, "config.json", err), err);
    D2C_TRY(d2c_weights_open(&file, path, err));
    status = d2c_vae_config_read(&config, file, json, err);
    if (status == D2C_OK)
        status = d2c_vae_open(vae, be, &config, file, precision, err);
    d2c_weights_close(file);
    cJSON_Delete(json);
    return status;
}

/* The tensor "index.part" of the golden. */
static const d2c_st_tensor *
golden(const d2c_safetensors *file, int index, const char *part)
{
    char name[32];

    snprintf(name, sizeof name, "%d.%s", index, part);
    return d2c_safetensors_find(file, name);
}

/* The image `index` encodes and its latent decodes to what the golden says; channels of a deviation are compared one by
 * one, because they differ by orders of magnitude. */
static void
check_image(const d2c_vae *vae, d2c_backend *be, d2c_scratch *scratch, const d2c_safetensors *file, int index,
            double tolerance)
{
    static float mean[LATENT * 64], deviation[LATENT * 64], decoded[MOST_PIXELS];
    const d2c_st_tensor *x = golden(file, index, "x"), *m = golden(file, index, "mean");
    const float *wanted = (const float *)golden(file, index, "std")->data;
    int64_t area = m->dim[1] * m->dim[2];
    d2c_error err;
    int c;

    CHECK(x->count <= MOST_PIXELS && m->dim[0] == LATENT && area <= 64);
    CHECK_OK(d2c_vae_encode(vae, be, scratch, mean, deviation, (const float *)x->data, (int)x->dim[1],
                            (int)x->dim[2], &err),
             &err);
    CHECK(relative_error(mean, (const float *)m->data, m->count) < tolerance);
    for (c = 0; c < LATENT; c++)
        CHECK(relative_error(deviation + c * area, wanted + c * area, area) < tolerance);
    CHECK_OK(d2c_vae_decode(vae, be, scratch, decoded, (const float *)golden(file, index, "latent")->data,
                            (int)m->dim[1], (int)m->dim[2], &err),
             &err);
    CHECK(relative_error(decoded, (const float *)golden(file, index, "decoded")->data, x->count) < tolerance);
}

static void
check_file(const char *path, const char *device, d2c_dtype precision, double tolerance, int images)
{
    d2c_scratch scratch = {0};
    d2c_safetensors *file = NULL;
    d2c_backend *be = NULL;
    d2c_vae *vae = NULL;
    d2c_error err;
    int i;

    CHECK_OK(d2c_safetensors_open(&file, GOLDEN "/vae/expected.safetensors", &err), &err);
    CHECK(d2c_safetensors_count(file) == 5 * IMAGES);
    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    CHECK_OK(open_vae(&vae, be, path, NULL, precision, &err), &err);
    CHECK(d2c_vae_factor(&vae->config) == 8 && vae->config.scaling_factor == 0.25f);
    for (i = 0; i < images; i++)
        check_image(vae, be, &scratch, file, i, tolerance);
    d2c_scratch_free(&scratch, be);
    d2c_vae_close(vae, be);
    d2c_backend_close(be);
    d2c_safetensors_close(file);
}

static void
check_f32(const char *device)
{
    check_file(DIFFUSERS, device, D2C_F32, 1e-5, IMAGES);
}

/* torch's own bf16 autocast is off by up to 0.020 on these images. */
static void
check_bf16(const char *device)
{
    if (device_has_bf16(device))
        check_file(DIFFUSERS, device, D2C_BF16, 3e-2, IMAGES);
}

static void
test_devices(void)
{
    ON_EVERY_DEVICE(check_f32);
    ON_EVERY_DEVICE(check_bf16);
}

static void
test_namings(void)
{
    check_file(OLD, "reference", D2C_F32, 1e-5, 1);
    check_file(COMPVIS, "reference", D2C_F32, 1e-5, 1);
}

int
main(void)
{
    RUN(test_devices);
    RUN(test_namings);
    (void)scratch_file;
    return check_report();
}
