/* test_vae.c: the autoencoder against diffusers (golden/make_vae.py), and files and folders that are none. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "device.h"
#include "nn/config_json.h"
#include "nn/model.h"
#include "nn/vae.h"
#include "nn/vae_choice.h"

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

/* Opens the file with the config, or with tiny-vae's where it is NULL; "" is no config at all. */
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

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static void
check_message(const d2c_error *err, const char *message)
{
    if (strstr(err->message, message) != NULL)
        return;
    fprintf(stderr, "\"%s\", not \"%s\"\n", err->message, message);
    CHECK(!"the message says why");
}

/* The file must not open, and the message says why. */
static void
check_refused(const char *path, const char *config, d2c_status wanted, const char *message)
{
    d2c_backend *be = NULL;
    d2c_vae *vae;
    d2c_error err = {0};

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK(open_vae(&vae, be, path, config, D2C_F32, &err) == wanted && vae == NULL);
    check_message(&err, message);
    d2c_vae_close(vae, be);
    d2c_backend_close(be);
}

#define CONFIG(widths, more)                                                                                 \
    "{\"block_out_channels\":" widths ",\"layers_per_block\":2,\"norm_num_groups\":4" more "}"
#define GOOD "[4,8,12,12]"

static void
test_bad_config(void)
{
    static const struct {
        const char *text;
        d2c_status status;
        const char *message;
    } bad[] = {
        {"{}", D2C_BAD_MODEL, "no valid \"block_out_channels\""},
        {CONFIG("[4,8,12]", ""), D2C_BAD_MODEL, "does not fit the tensors"},
        {CONFIG("[4,8,12,16]", ""), D2C_BAD_MODEL, "does not fit the tensors"},
        {CONFIG("[4,8,12,\"12\"]", ""), D2C_BAD_MODEL, "no valid \"block_out_channels\""},
        {CONFIG(GOOD, ",\"latent_channels\":8"), D2C_BAD_MODEL, "does not fit the tensors"},
        {CONFIG(GOOD, ",\"in_channels\":1"), D2C_BAD_MODEL, "does not fit the tensors"},
        {CONFIG(GOOD, ",\"out_channels\":-3"), D2C_BAD_MODEL, "no valid \"out_channels\""},
        {CONFIG(GOOD, ",\"scaling_factor\":0"), D2C_BAD_MODEL, "no valid \"scaling_factor\" in the model"},
        {CONFIG(GOOD, ",\"scaling_factor\":\"x\""), D2C_BAD_MODEL,
         "no valid \"scaling_factor\" in the model"},
        {CONFIG(GOOD, ",\"scaling_factor\":1e300"), D2C_BAD_MODEL,
         "no valid \"scaling_factor\" in the model"},
        {CONFIG(GOOD, ",\"shift_factor\":0.1"), D2C_UNSUPPORTED, "unsupported \"shift_factor\""},
        {CONFIG(GOOD, ",\"latents_mean\":[1]"), D2C_UNSUPPORTED, "unsupported \"latents_mean\""},
        {CONFIG(GOOD, ",\"act_fn\":\"relu\""), D2C_UNSUPPORTED, "unsupported \"act_fn\""},
        {CONFIG(GOOD, ",\"_class_name\":\"VQModel\""), D2C_UNSUPPORTED, "unsupported \"_class_name\""},
        {CONFIG(GOOD, ",\"mid_block_add_attention\":false"), D2C_UNSUPPORTED, "\"mid_block_add_attention\""},
        {CONFIG(GOOD, ",\"up_block_types\":[\"AttnUpDecoderBlock2D\"]"), D2C_UNSUPPORTED,
         "\"up_block_types\""},
        {CONFIG(GOOD, ",\"down_block_types\":[7]"), D2C_UNSUPPORTED, "unsupported \"down_block_types\""},
        {"{\"block_out_channels\":" GOOD ",\"layers_per_block\":3}", D2C_BAD_MODEL, "does not fit"},
        {"{\"block_out_channels\":" GOOD ",\"layers_per_block\":2,\"norm_num_groups\":3}", D2C_BAD_MODEL,
         "3 groups do not divide 4 channels"},
        {"{\"block_out_channels\":" GOOD ",\"layers_per_block\":2,\"norm_num_groups\":0}", D2C_BAD_MODEL,
         "no valid \"norm_num_groups\""},
        {"null", D2C_BAD_MODEL, "no valid \"block_out_channels\""},
        {"", D2C_BAD_MODEL, "32 groups do not divide 4 channels"}, /* no config at all */
    };
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_refused(DIFFUSERS, bad[i].text, bad[i].status, bad[i].message);
}

/* A change of the tensors whose names begin so. */
typedef struct damage {
    const char *name;
    enum { DROP, FLAT, FILL_NAN, COPY } what;
    const char *to;
} damage;

/* Writes a file with the damage to the scratch file.  FLAT: as one dimension; COPY: once more, under another
 * name. */
static void
write_damaged(const char *from, const damage *d)
{
    static uint16_t nan_values[64 * 1024];
    d2c_st_item items[300];
    d2c_safetensors *file = NULL;
    d2c_error err;
    int i, count = 0;

    memset(nan_values, 0xff, sizeof nan_values);
    CHECK_OK(d2c_safetensors_open(&file, from, &err), &err);
    for (i = 0; i < d2c_safetensors_count(file) && count < 299; i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);
        int is_it = strncmp(t->name, d->name, strlen(d->name)) == 0;

        if (d->what == DROP && is_it)
            continue;
        items[count] = (d2c_st_item){t->name, t->dtype, t->ndim, {0}, t->data};
        memcpy(items[count].dim, t->dim, sizeof t->dim);
        if (d->what == FLAT && is_it) {
            items[count].ndim = 1;
            items[count].dim[0] = t->count;
        }
        if (d->what == COPY && is_it) {
            items[count + 1] = items[count];
            items[++count].name = d->to;
        }
        if (d->what == FILL_NAN && is_it)
            items[count].data = nan_values;
        count++;
    }
    CHECK_OK(d2c_safetensors_write(scratch_file, items, count, NULL, 0, &err), &err);
    d2c_safetensors_close(file);
}

static void
test_bad_files(void)
{
    static const struct {
        const char *from;
        damage damage;
        const char *message;
    } bad[] = {
        {DIFFUSERS, {"encoder.conv_in.weight", DROP, NULL}, "not those of an autoencoder"},
        {DIFFUSERS,
         {"encoder.down_blocks.0.resnets.0.conv1.weight", DROP, NULL},
         "the autoencoder has no levels"},
        {DIFFUSERS, {"encoder.down_blocks.2.resnets.0.conv1.weight", DROP, NULL}, "does not fit the tensors"},
        {DIFFUSERS, {"encoder.conv_out.weight", DROP, NULL}, "tensor \"encoder.conv_out.weight\" is missing"},
        {DIFFUSERS, {"quant_conv.", DROP, NULL}, "tensor \"quant_conv.weight\" is missing"},
        {DIFFUSERS,
         {"decoder.up_blocks.2.resnets.1.conv2.bias", DROP, NULL},
         "tensor \"decoder.up_blocks.2.resnets.1.conv2.bias\" is missing"},
        {DIFFUSERS,
         {"encoder.mid_block.attentions.0.to_k.weight", DROP, NULL},
         "tensor \"encoder.mid_block.attentions.0.to_k.weight\" is missing"},
        {OLD,
         {"decoder.mid_block.attentions.0.value.bias", DROP, NULL},
         "tensor \"decoder.mid_block.attentions.0.value.bias\" is missing"},
        {COMPVIS,
         {"first_stage_model.decoder.up.0.block.0.nin_shortcut.weight", DROP, NULL},
         "tensor \"first_stage_model.decoder.up.0.block.0.nin_shortcut.weight\" is missing"},
        {COMPVIS,
         {"first_stage_model.encoder.mid.attn_1.q.weight", FLAT, NULL},
         "tensor \"first_stage_model.encoder.mid.attn_1.q.weight\" has the wrong shape"},
        {DIFFUSERS,
         {"encoder.conv_in.weight", FLAT, NULL},
         "tensor \"encoder.conv_in.weight\" has the wrong shape"},
    };
    size_t i;

    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_damaged(bad[i].from, &bad[i].damage);
        check_refused(scratch_file, NULL, D2C_BAD_MODEL, bad[i].message);
    }
}

/* Of a file without config.json the tensors tell that there is more than is computed. */
static void
test_level_attention(void)
{
    static const struct {
        const char *from;
        damage damage;
    } more[] = {
        {DIFFUSERS,
         {"decoder.up_blocks.0.resnets.0.norm1.weight", COPY,
          "decoder.up_blocks.0.attentions.0.group_norm.weight"}},
        {OLD,
         {"encoder.down_blocks.2.resnets.0.norm1.weight", COPY,
          "encoder.down_blocks.2.attentions.0.query.weight"}},
        {COMPVIS,
         {"first_stage_model.decoder.up.0.block.0.norm1.weight", COPY,
          "first_stage_model.decoder.up.0.attn.0.norm.weight"}},
    };
    size_t i;

    for (i = 0; i < sizeof more / sizeof more[0]; i++) {
        write_damaged(more[i].from, &more[i].damage);
        check_refused(scratch_file, NULL, D2C_UNSUPPORTED, "attention in their levels");
    }
}

/* Weights of NaN are found in what they make; the other half of the network still works. */
static void
test_not_finite(void)
{
    static const damage halves[] = {{"encoder.conv_norm_out.weight", FILL_NAN, NULL},
                                    {"decoder.conv_norm_out.weight", FILL_NAN, NULL}};
    static float x[3 * 8 * 8], mean[LATENT], latent[LATENT];
    int i;

    for (i = 0; i < 2; i++) {
        d2c_status encoded = i == 0 ? D2C_NOT_FINITE : D2C_OK, decoded = i == 1 ? D2C_NOT_FINITE : D2C_OK;
        d2c_scratch scratch = {0};
        d2c_backend *be = NULL;
        d2c_vae *vae = NULL;
        d2c_error err;

        write_damaged(DIFFUSERS, &halves[i]);
        CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
        CHECK_OK(open_vae(&vae, be, scratch_file, NULL, D2C_F32, &err), &err);
        CHECK(d2c_vae_encode(vae, be, &scratch, mean, NULL, x, 8, 8, &err) == encoded);
        CHECK(d2c_vae_decode(vae, be, &scratch, x, latent, 1, 1, &err) == decoded);
        memset(x, 0, sizeof x);
        d2c_scratch_free(&scratch, be);
        d2c_vae_close(vae, be);
        d2c_backend_close(be);
    }
}

static void
test_sizes(void)
{
    static const int bad[][2] = {{12, 8}, {8, 12}, {0, 8}, {8, 0}, {-8, 8}, {1032, 8}, {8, 1032}, {4, 4}};
    d2c_scratch scratch = {0};
    d2c_backend *be = NULL;
    d2c_vae *vae = NULL;
    d2c_error err;
    float x[1];
    size_t i;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(open_vae(&vae, be, DIFFUSERS, NULL, D2C_F8, &err), &err);
    CHECK(vae->precision == D2C_BF16);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(d2c_vae_encode(vae, be, &scratch, x, NULL, x, bad[i][0], bad[i][1], &err) ==
              D2C_INVALID_ARGUMENT);
        CHECK(strstr(err.detail, "multiples of 8, at most 1024") != NULL);
    }
    CHECK(d2c_vae_decode(vae, be, &scratch, x, x, 129, 1, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_vae_decode(vae, be, &scratch, x, x, 1, 0, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_vae_decode(vae, be, &scratch, x, x, -1, 1, &err) == D2C_INVALID_ARGUMENT);
    CHECK(scratch.block == NULL);
    d2c_vae_close(vae, be);
    d2c_backend_close(be);
}

/* ---- a single file of the public size -------------------------------------------------------------------------------- */

/* The tensors that tell the configuration, as the public files have them, and no more. */
static void
write_public_shapes(void)
{
    static const struct {
        const char *name;
        int64_t out, in, size;
    } tensors[] = {
        {"encoder.conv_in.weight", 128, 3, 3},
        {"encoder.conv_out.weight", 8, 512, 3},
        {"decoder.conv_in.weight", 512, 4, 3},
        {"decoder.conv_out.weight", 3, 128, 3},
        {"quant_conv.weight", 8, 8, 1},
        {"post_quant_conv.weight", 4, 4, 1},
        {"encoder.down.0.block.0.conv1.weight", 128, 128, 3},
        {"encoder.down.0.block.1.conv1.weight", 128, 128, 3},
        {"encoder.down.1.block.0.conv1.weight", 256, 128, 3},
        {"encoder.down.2.block.0.conv1.weight", 512, 256, 3},
        {"encoder.down.3.block.0.conv1.weight", 512, 512, 3},
        {"decoder.mid.block_1.conv1.weight", 512, 512, 3},
    };
    d2c_st_item items[sizeof tensors / sizeof tensors[0]];
    void *zeros = calloc(512 * 512 * 9, sizeof(uint16_t));
    d2c_error err;
    int i, count = (int)(sizeof tensors / sizeof tensors[0]);

    for (i = 0; i < count; i++)
        items[i] = (d2c_st_item){tensors[i].name,
                                 D2C_ST_F16,
                                 4,
                                 {tensors[i].out, tensors[i].in, tensors[i].size, tensors[i].size},
                                 zeros};
    CHECK_OK(d2c_safetensors_write(scratch_file, items, count, NULL, 0, &err), &err);
    free(zeros);
}

static void
test_single_file(void)
{
    static const int widths[] = {128, 256, 512, 512};
    d2c_backend *be = NULL;
    d2c_weights *file = NULL;
    d2c_vae_config c;
    d2c_vae *vae;
    d2c_error err;

    write_public_shapes();
    CHECK_OK(d2c_weights_open(&file, scratch_file, &err), &err);
    CHECK_OK(d2c_vae_config_read(&c, file, NULL, &err), &err);
    CHECK(c.levels == 4 && memcmp(c.width, widths, sizeof widths) == 0 && c.blocks == 2);
    CHECK(c.groups == 32 && c.latent == 4 && c.in_channels == 3 && c.out_channels == 3);
    CHECK(c.quant && c.post_quant && c.scaling_factor == 0.18215f && d2c_vae_factor(&c) == 8);
    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK(d2c_vae_open(&vae, be, &c, file, D2C_F32, &err) == D2C_BAD_MODEL && vae == NULL);
    CHECK(d2c_vae_check(&c, file, &err) == D2C_BAD_MODEL);
    check_message(&err, "tensor \"encoder.conv_in.bias\" is missing");
    d2c_backend_close(be);
    d2c_weights_close(file);
}

/* ---- as a model ------------------------------------------------------------------------------------------------------ */

static void
test_model(void)
{
    d2c_model *model = NULL;
    d2c_backend *be = NULL;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(d2c_model_open(&model, be, GOLDEN "/models", "tiny-vae", D2C_F32, &err), &err);
    CHECK(strcmp(model->info.kind, "vae") == 0 && model->info.role == D2C_ROLE_AUTOENCODER);
    CHECK(model->info.parameters == 53055 && model->info.channels == 3 && model->info.embedding == 4);
    CHECK(model->info.width == 0 && d2c_model_sit(model) == NULL && d2c_model_bytes(model) > 4 * 53055);
    d2c_model_close(model, be);
    d2c_backend_close(be);
}

/* The description of a single file, which has no config.json, tells its scaling factor. */
static void
test_scale(void)
{
    cJSON *json = cJSON_Parse("{\"scaling_factor\": 0.13025}");
    float scale = 1;
    d2c_error err;

    CHECK_OK(d2c_vae_scale_read(&scale, NULL, &err), &err);
    CHECK(scale == 1);
    CHECK_OK(d2c_vae_scale_read(&scale, json, &err), &err);
    CHECK(scale == 0.13025f);
    cJSON_Delete(json);
}

/* Which autoencoder a model has: what its description says, else the first usual one that is there. */
static void
test_choice(void)
{
    static const char *const usual[] = {"sd-vae", "sd-vae-ft-mse", "sd-vae-ft-ema"};
    static d2c_model model = {.info = {.name = "sit-xl-2", .role = D2C_ROLE_DENOISER, .channels = 4}};
    char folder[] = "/tmp/d2c-choice-XXXXXX", path[3][64], twice[64], name[sizeof(d2c_model_name)];
    d2c_error err;
    int i;

    CHECK(mkdtemp(folder) != NULL);
    CHECK(d2c_takes_latents(&model));
    CHECK(d2c_vae_choose(name, &model, folder, &err) == D2C_NOT_FOUND);
    check_message(&err, "model \"sit-xl-2\" needs an autoencoder");
    CHECK(strstr(err.detail, "sd-vae-ft-ema") != NULL && strstr(err.hint, "\"sit-xl-2.json\"") != NULL);
    for (i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s.safetensors", folder, usual[i]);
        CHECK_OK(d2c_file_write(path[i], "", 0, &err), &err);
        CHECK_OK(d2c_vae_choose(name, &model, folder, &err), &err);
        CHECK(strcmp(name, usual[i]) == 0);
    }
    snprintf(twice, sizeof twice, "%s/sd-vae-ft-ema.pt", folder);
    CHECK_OK(d2c_file_write(twice, "", 0, &err), &err);
    CHECK(d2c_vae_choose(name, &model, folder, &err) == D2C_BAD_MODEL);
    check_message(&err, "model \"sd-vae-ft-ema\" is both");
    unlink(twice);
    strcpy(model.vae, "my-own");
    CHECK_OK(d2c_vae_choose(name, &model, folder, &err), &err);
    CHECK(strcmp(name, "my-own") == 0);
    model.info.channels = 3;
    CHECK(!d2c_takes_latents(&model));
    for (i = 0; i < 3; i++)
        unlink(path[i]);
    rmdir(folder);
}

int
main(void)
{
    int fd = mkstemp(scratch_file);

    if (fd < 0)
        return 1;
    close(fd);
    RUN(test_devices);
    RUN(test_namings);
    RUN(test_bad_config);
    RUN(test_bad_files);
    RUN(test_level_attention);
    RUN(test_not_finite);
    RUN(test_sizes);
    RUN(test_single_file);
    RUN(test_model);
    RUN(test_scale);
    RUN(test_choice);
    unlink(scratch_file);
    return check_report();
}
