/* test_model.c: a model directory with good, damaged and misplaced models. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "scratch_folder.h"
#include "nn/model.h"

/* Copies the first `length` bytes of a golden file (all with length 0). */
static void
copy(const char *name, const char *from, size_t length)
{
    uint8_t *bytes = NULL;
    size_t whole;
    d2c_error err;

    CHECK_OK(d2c_file_read(&bytes, &whole, from, 1 << 20, &err), &err);
    CHECK_OK(d2c_file_write(at(name), bytes, length > 0 ? length : whole, &err), &err);
    free(bytes);
}

static void
make_directory(void)
{
    d2c_error err;

    copy("pixel.safetensors", GOLDEN "/sit/pixel.safetensors", 0);
    copy("attached.safetensors", GOLDEN "/sit/attached.safetensors", 0);
    copy("cut.safetensors", GOLDEN "/sit/pixel.safetensors", 1000);
    copy("other.safetensors", GOLDEN "/safetensors/every_dtype.safetensors", 0);
    copy("lonely.safetensors", GOLDEN "/models/tiny-bert/model.safetensors", 0);
    copy("both.safetensors", GOLDEN "/sit/pixel.safetensors", 0);
    copy("bad name.safetensors", GOLDEN "/sit/pixel.safetensors", 0);
    copy(".hidden.safetensors", GOLDEN "/sit/pixel.safetensors", 0);
    CHECK_OK(d2c_file_write(at("notes.txt"), "", 0, &err), &err);
    CHECK_OK(d2c_file_write(at("old.pt"), "", 0, &err), &err);
    CHECK_OK(d2c_make_directory(at("both"), &err), &err);
    CHECK_OK(d2c_make_directory(at("empty"), &err), &err);
    CHECK_OK(d2c_make_directory(at("parts"), &err), &err);
    CHECK_OK(d2c_file_write(at("parts/model.safetensors.index.json"), "{}", 2, &err), &err);
    CHECK(symlink(GOLDEN "/models/tiny-bert", at("tiny-bert")) == 0);
    CHECK_OK(d2c_make_directory(at("torch-bert"), &err), &err);
    copy("torch-bert/config.json", GOLDEN "/models/tiny-bert/config.json", 0);
    copy("torch-bert/vocab.txt", GOLDEN "/models/tiny-bert/vocab.txt", 0);
    copy("torch-bert/tokenizer_config.json", GOLDEN "/models/tiny-bert/tokenizer_config.json", 0);
    copy("torch-bert/pytorch_model.bin", GOLDEN "/torch/tiny-bert.bin", 0);
}

static void
test_names(void)
{
    static const char *const good[] = {"a", "SiT-XL-2", "9.b_c-", "A..b"};
    static const char *const bad[] = {"",    ".",    "..",  ".a",  "-a",       "_a",
                                      "a/b", "../a", "a b", "a\n", "\xc3\xa9", "a\\b"};
    char name[200];
    d2c_error err;
    size_t i;

    for (i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK_OK(d2c_model_name_check(good[i], &err), &err);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(d2c_model_name_check(bad[i], &err) == D2C_INVALID_ARGUMENT);
    memset(name, 'a', sizeof name);
    name[127] = '\0';
    CHECK_OK(d2c_model_name_check(name, &err), &err);
    name[127] = 'a';
    name[128] = '\0';
    CHECK(d2c_model_name_check(name, &err) == D2C_INVALID_ARGUMENT);
}

static const d2c_model_info *
find(const d2c_model_info *list, int count, const char *name)
{
    int i;

    for (i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return NULL;
}

static void
test_list(void)
{
    static const char *const problems[][2] = {
        {"both", "is both \""},
        {"cut", "is not a valid safetensors file"},
        {"empty", "has no file model.safetensors"},
        {"lonely", "needs a folder with config.json"},
        {"old", "file is too short"},
        {"other", "no known kind of model"},
        {"parts", "no \"weight_map\""},
    };
    const d2c_model_info *info;
    d2c_model_info *list = NULL;
    static const char *const bert[] = {
        GOLDEN "/models/tiny-bert/model.safetensors", GOLDEN "/models/tiny-bert/config.json",
        GOLDEN "/models/tiny-bert/tokenizer_config.json", GOLDEN "/models/tiny-bert/vocab.txt"};
    d2c_error err;
    char digest[65];
    int count = 0;
    size_t i;

    CHECK_OK(d2c_model_list(&list, &count, folder, 1, &err), &err);
    CHECK(count == 11);
    for (i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        info = find(list, count, problems[i][0]);
        CHECK(info != NULL && strstr(info->problem, problems[i][1]) != NULL);
    }
    for (i = 1; i < (size_t)count; i++)
        CHECK(strcmp(list[i - 1].name, list[i].name) < 0);
    info = find(list, count, "pixel");
    CHECK(info != NULL && info->problem[0] == '\0' && strcmp(info->kind, "sit") == 0 && info->channels > 0);
    CHECK(info != NULL && info->parameters > 0 && info->classes > 0 && info->embedding > 0);
    info = find(list, count, "tiny-bert");
    CHECK(info != NULL && info->problem[0] == '\0' && strcmp(info->kind, "bert") == 0 &&
          info->embedding == 32);
    CHECK(info != NULL && info->parameters == 36720 && info->channels == 0 && info->classes == 0);
    info = find(list, count, "torch-bert");
    CHECK(info != NULL && info->problem[0] == '\0' && strcmp(info->kind, "bert") == 0 &&
          info->parameters == 36720);
    info = find(list, count, "tiny-bert");
    CHECK_OK(d2c_files_sha256(digest, bert, 4, &err), &err);
    CHECK(info != NULL && strcmp(info->sha256, digest) == 0);
    CHECK_OK(d2c_model_sha256(digest, folder, "pixel", &err), &err);
    CHECK(strcmp(find(list, count, "pixel")->sha256, digest) == 0);
    free(list);
    CHECK_OK(d2c_model_list(&list, &count, folder, 0, &err), &err);
    CHECK(count == 11 && list[0].sha256[0] == '\0');
    free(list);
    CHECK(d2c_model_list(&list, &count, at("none"), 0, &err) == D2C_NOT_FOUND && list == NULL && count == 0);
    CHECK_OK(d2c_model_list(&list, &count, at("empty"), 0, &err), &err);
    CHECK(count == 0);
    free(list);
}

/* The weights of a text encoder are the same from either file. */
static void
test_open_torch(void)
{
    static const char *const names[] = {"tiny-bert", "torch-bert"};
    float embedding[2][8 * 32], mask[8];
    d2c_scratch scratch = {0};
    d2c_backend *be = NULL;
    d2c_model *model;
    d2c_error err;
    int i;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    for (i = 0; i < 2; i++) {
        CHECK_OK(d2c_model_open(&model, be, folder, names[i], D2C_F32, &err), &err);
        if (model == NULL)
            continue;
        CHECK_OK(
            model->family->embed_text(model->network, be, &scratch, embedding[i], mask, "a word", 8, &err),
            &err);
        d2c_model_close(model, be);
    }
    CHECK(memcmp(embedding[0], embedding[1], sizeof embedding[0]) == 0 && embedding[0][0] != 0);
    d2c_scratch_free(&scratch, be);
    d2c_backend_close(be);
}

static void
test_needs(void)
{
    size_t plain, half;
    d2c_error err;

    CHECK_OK(d2c_model_needs(&plain, folder, "tiny-bert", D2C_F32, &err), &err);
    CHECK_OK(d2c_model_needs(&half, folder, "tiny-bert", D2C_BF16, &err), &err);
    CHECK(plain == 4 * 36720 && half == 6 * 36720);
    CHECK(d2c_model_needs(&plain, folder, "cut", D2C_F32, &err) == D2C_BAD_MODEL);
    CHECK(strncmp(err.message, "could not open model \"cut\": ", 28) == 0);
}

static void
test_open(void)
{
    d2c_backend *be = NULL;
    d2c_model *model = NULL;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK_OK(d2c_model_open(&model, be, folder, "pixel", D2C_F32, &err), &err);
    CHECK(model != NULL && d2c_model_sit(model) != NULL && strlen(model->info.sha256) == 64);
    CHECK(model != NULL && d2c_model_bytes(model) >= 4 * (size_t)model->info.parameters);
    d2c_model_close(model, be);
    CHECK_OK(d2c_model_open_known(&model, be, folder, "pixel", "as the caller knows", D2C_F32, &err), &err);
    CHECK(model != NULL && d2c_model_sit(model) != NULL &&
          strcmp(model->info.sha256, "as the caller knows") == 0);
    d2c_model_close(model, be);
    CHECK_OK(d2c_model_open(&model, be, folder, "tiny-bert", D2C_BF16, &err), &err);
    CHECK(model != NULL && d2c_model_sit(model) == NULL && strcmp(model->info.kind, "bert") == 0);
    CHECK(model != NULL && d2c_model_bytes(model) >= 6 * (size_t)(model->info.parameters - 2000));
    d2c_model_close(model, be);

    CHECK(d2c_model_open(&model, be, folder, "none", D2C_F32, &err) == D2C_NOT_FOUND && model == NULL);
    CHECK(strcmp(err.message, "model \"none\" does not exist") == 0 && strstr(err.detail, folder) != NULL);
    CHECK(d2c_model_open(&model, be, folder, "../x", D2C_F32, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_model_open(&model, be, folder, "cut", D2C_F32, &err) == D2C_BAD_MODEL);
    CHECK(strncmp(err.message, "could not open model \"cut\": ", 28) == 0);
    CHECK_OK(d2c_model_open(&model, be, folder, "attached", D2C_F32, &err), &err);
    CHECK(model != NULL && d2c_model_sit(model)->config.text_tokens > 0 && model->text_model[0] == '\0');
    d2c_model_close(model, be);
    CHECK(d2c_model_open(&model, be, folder, "parts", D2C_F32, &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "model.safetensors.index.json") != NULL);
    d2c_backend_close(be);
}

int
main(void)
{
    if (!make_folder())
        return 1;
    make_directory();
    RUN(test_names);
    RUN(test_list);
    RUN(test_open);
    RUN(test_open_torch);
    RUN(test_needs);
    remove_folder();
    return check_report();
}
