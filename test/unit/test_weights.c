/* test_weights.c: models in several files, which file of a directory is a model's, and which of a checkpoint's copies. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "scratch_folder.h"
#include "nn/model_files.h"
#include "nn/shards.h"

#define SHARDED GOLDEN "/torch/sharded/"

static void
put_text(const char *name, const char *text)
{
    d2c_error err;

    CHECK_OK(d2c_file_write(at(name), text, strlen(text), &err), &err);
}

static void
put_copy(const char *name, const char *golden)
{
    char path[512];
    uint8_t *bytes = NULL;
    size_t length;
    d2c_error err;

    snprintf(path, sizeof path, GOLDEN "/torch/%s", golden);
    CHECK_OK(d2c_file_read(&bytes, &length, path, 1 << 20, &err), &err);
    CHECK_OK(d2c_file_write(at(name), bytes, length, &err), &err);
    free(bytes);
}

static void
make_inner(const char *name)
{
    d2c_error err;

    CHECK_OK(d2c_make_directory(at(name), &err), &err);
}

static void
make_scratch(void)
{
    if (!make_folder())
        abort();
}

/* ---- several files ----------------------------------------------------------------------------------------------------- */

static void
check_flat(const d2c_weights *weights)
{
    d2c_safetensors *expected;
    d2c_error err;
    int i;

    CHECK_OK(d2c_safetensors_open(&expected, GOLDEN "/torch/flat.expected.safetensors", &err), &err);
    CHECK(d2c_weights_count(weights) == d2c_safetensors_count(expected));
    for (i = 0; i < d2c_safetensors_count(expected); i++) {
        const d2c_st_tensor *theirs = d2c_safetensors_at(expected, i);
        const d2c_st_tensor *ours = d2c_weights_find(weights, theirs->name);

        CHECK(ours != NULL && ours->bytes == theirs->bytes);
        CHECK(ours != NULL && memcmp(ours->data, theirs->data, theirs->bytes) == 0);
    }
    d2c_safetensors_close(expected);
}

static void
the_index_joins_its_files(void)
{
    d2c_weights *weights;
    d2c_error err;

    CHECK_OK(d2c_weights_open(&weights, SHARDED "model.safetensors.index.json", &err), &err);
    check_flat(weights);
    CHECK(d2c_weights_find(weights, "1.weight") == NULL);
    d2c_weights_close(weights);
}

static void
check_index(const char *text, const char *words)
{
    d2c_weights *weights;
    d2c_error err = {.message = ""};

    put_text("index.json", text);
    CHECK(d2c_weights_open(&weights, at("index.json"), &err) == D2C_BAD_MODEL && weights == NULL);
    if (strstr(err.message, words) == NULL && strstr(err.detail, words) == NULL)
        fprintf(stderr, "wanted \"%s\", got: %s (%s)\n", words, err.message, err.detail);
    CHECK(strstr(err.message, words) != NULL || strstr(err.detail, words) != NULL);
}

static void
damaged_indexes_are_told(void)
{
    make_scratch();
    put_copy("one.safetensors", "sharded/model-00001-of-00002.safetensors");
    check_index("{", "no \"weight_map\"");
    check_index("{}", "no \"weight_map\"");
    check_index("{\"weight_map\":[1]}", "no \"weight_map\"");
    check_index("{\"weight_map\":{}}", "no \"weight_map\"");
    check_index("{\"weight_map\":{\"\xff\":\"one.safetensors\"}}", "no UTF-8");
    check_index("{\"weight_map\":{\"0.bias\":7}}", "invalid file of tensor \"0.bias\"");
    check_index("{\"weight_map\":{\"0.bias\":\"../one.safetensors\"}}", "invalid file of tensor \"0.bias\"");
    check_index("{\"weight_map\":{\"0.bias\":\"/etc/passwd\"}}", "invalid file of tensor \"0.bias\"");
    check_index("{\"weight_map\":{\"0.bias\":\".hidden\"}}", "invalid file of tensor \"0.bias\"");
    check_index("{\"weight_map\":{\"0.bias\":\"\"}}", "invalid file of tensor \"0.bias\"");
    check_index("{\"weight_map\":{\"0.bias\":\"a\\\\b\"}}", "invalid file of tensor \"0.bias\"");
    check_index("{\"weight_map\":{\"0.bias\":\"one.safetensors\",\"x\":\"two.safetensors\"}}",
                "file \"two.safetensors\" is missing");
    check_index("{\"weight_map\":{\"0.bias\":\"a\",\"x\":\"b\",\"y\":\"one.safetensors\"}}", "2 are missing");
    check_index("{\"weight_map\":{\"9.bias\":\"one.safetensors\"}}", "has no tensor \"9.bias\"");
    check_index("{\"weight_map\":{\"0.bias\":\"one.safetensors\",\"0.bias\":\"one.safetensors\"}}",
                "tensor \"0.bias\" occurs twice");
    check_index("{\"weight_map\":{\"0.bias\":\"index.json\"}}",
                "index.json\" is not a valid safetensors file");
    remove_folder();
}

/* ---- which file is the model's ------------------------------------------------------------------------------------------ */

static void
check_found(const char *name, const char *file, int in_folder)
{
    d2c_model_files files;
    d2c_error err;

    CHECK_OK(d2c_model_files_find(&files, folder, name, &err), &err);
    if (strcmp(files.path, at(file)) != 0)
        fprintf(stderr, "found \"%s\", not \"%s\"\n", files.path, file);
    CHECK(strcmp(files.path, at(file)) == 0 && (files.folder[0] != '\0') == in_folder);
}

static void
every_name_of_a_file_is_found(void)
{
    static const char *const names[] = {"model.safetensors",
                                        "model.safetensors.index.json",
                                        "diffusion_pytorch_model.safetensors",
                                        "diffusion_pytorch_model.safetensors.index.json",
                                        "pytorch_model.bin",
                                        "pytorch_model.bin.index.json",
                                        "diffusion_pytorch_model.bin"};
    d2c_model_files files;
    d2c_error err;
    char name[128];
    int i;

    make_scratch();
    put_text("a.safetensors", "");
    put_text("b.pt", "");
    put_text("c.pth", "");
    make_inner("d");
    check_found("a", "a.safetensors", 0);
    check_found("b", "b.pt", 0);
    check_found("c", "c.pth", 0);
    CHECK(d2c_model_files_find(&files, folder, "d", &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "has no file model.safetensors") != NULL);
    for (i = 6; i >= 0; i--) { /* each one comes before those that are there */
        snprintf(name, sizeof name, "d/%s", names[i]);
        put_text(name, "");
        check_found("d", name, 1);
    }
    put_text("b.pth", "");
    CHECK(d2c_model_files_find(&files, folder, "b", &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "b.pt\" and \"") != NULL && strstr(err.message, "b.pth\"") != NULL);
    put_text("d.safetensors", "");
    CHECK(d2c_model_files_find(&files, folder, "d", &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "d.safetensors\" and \"") != NULL);
    CHECK(d2c_model_files_find(&files, folder, "e", &err) == D2C_NOT_FOUND);
    remove_folder();
}

static void
names_are_listed_once(void)
{
    d2c_model_name *names;
    d2c_error err;
    int count;

    make_scratch();
    put_text("a.safetensors", "");
    put_text("a.pt", "");
    put_text("b.pth", "");
    put_text("c.txt", "");
    put_text("b.json", "{}");
    make_inner("d");
    CHECK_OK(d2c_model_names(&names, &count, folder, &err), &err);
    CHECK(count == 3 && strcmp(names[0], "a") == 0 && strcmp(names[1], "b") == 0 &&
          strcmp(names[2], "d") == 0);
    free(names);
    CHECK(d2c_model_file_name("x.y.pth") == 3 && d2c_model_file_name(".pt") == 0 &&
          d2c_model_file_name("pt") == 0);
    remove_folder();
}

/* ---- what tells files apart --------------------------------------------------------------------------------------------- */

static void
put_sharded(const char *name)
{
    char path[128];

    make_inner(name);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", name);
    put_copy(path, "sharded/model.safetensors.index.json");
    snprintf(path, sizeof path, "%s/model-00001-of-00002.safetensors", name);
    put_copy(path, "sharded/model-00001-of-00002.safetensors");
    snprintf(path, sizeof path, "%s/model-00002-of-00002.safetensors", name);
    put_copy(path, "sharded/model-00002-of-00002.safetensors");
}

/* The digest is that of the files' bytes in the order of their names, without the index, and of the description behind
 * them. */
static void
a_digest_covers_all_files(void)
{
    static const char *const dit[] = {GOLDEN "/models/tiny-dit.safetensors", GOLDEN "/models/tiny-dit.json"};
    uint8_t *one, *two, *both;
    size_t first, second;
    char wanted[65], digest[65];
    d2c_model_files files;
    d2c_error err;

    CHECK_OK(d2c_file_read(&one, &first, SHARDED "model-00001-of-00002.safetensors", 4096, &err), &err);
    CHECK_OK(d2c_file_read(&two, &second, SHARDED "model-00002-of-00002.safetensors", 4096, &err), &err);
    both = malloc(first + second);
    memcpy(both, one, first);
    memcpy(both + first, two, second);
    d2c_sha256(wanted, both, first + second);
    CHECK_OK(d2c_model_files_find(&files, GOLDEN "/torch", "sharded", &err), &err);
    CHECK_OK(d2c_model_files_sha256(digest, &files, &err), &err);
    CHECK(strcmp(digest, wanted) == 0);
    CHECK_OK(d2c_model_files_find(&files, GOLDEN "/torch", "flat", &err), &err);
    CHECK_OK(d2c_model_files_sha256(digest, &files, &err), &err);
    CHECK_OK(d2c_file_sha256(wanted, GOLDEN "/torch/flat.pt", &err), &err);
    CHECK(strcmp(digest, wanted) == 0);
    CHECK_OK(d2c_model_files_find(&files, GOLDEN "/models", "tiny-dit", &err), &err);
    CHECK_OK(d2c_model_files_sha256(digest, &files, &err), &err);
    CHECK_OK(d2c_files_sha256(wanted, dit, 2, &err), &err);
    CHECK(strcmp(digest, wanted) == 0);
    free(one);
    free(two);
    free(both);
}

/* Whether the identity is another one than before, which is then forgotten. */
static int
has_changed(d2c_model_identity *before, const char *name)
{
    d2c_model_identity now;
    d2c_model_files files;
    d2c_error err;
    int changed;

    CHECK_OK(d2c_model_files_find(&files, folder, name, &err), &err);
    CHECK_OK(d2c_model_files_identity(&now, &files, &err), &err);
    changed = strcmp(now.digest, before->digest) != 0;
    *before = now;
    return changed;
}

static void
a_replaced_file_is_noticed(void)
{
    d2c_model_identity sharded = {""}, single = {""};
    d2c_model_files files;
    char digest[65];
    d2c_error err;

    make_scratch();
    put_sharded("s");
    put_copy("p.pt", "flat.pt");
    CHECK(has_changed(&sharded, "s") && has_changed(&single, "p"));
    CHECK(!has_changed(&sharded, "s") && !has_changed(&single, "p"));
    put_copy("p.pt", "flat.pt");
    CHECK(!has_changed(&sharded, "s") && has_changed(&single, "p"));
    put_copy("s/model-00002-of-00002.safetensors", "sharded/model-00002-of-00002.safetensors");
    CHECK(has_changed(&sharded, "s") && !has_changed(&single, "p"));
    put_copy("s/model.safetensors.index.json", "sharded/model.safetensors.index.json");
    CHECK(has_changed(&sharded, "s"));
    put_text("s/d2c.json", "{}");
    put_text("p.json", "{}");
    CHECK(has_changed(&sharded, "s") && has_changed(&single, "p"));
    put_text("s/vocab.txt", "a");
    put_text("s/other.txt", "a");
    CHECK(has_changed(&sharded, "s") && !has_changed(&single, "p"));
    put_text("s/other.txt", "b");
    CHECK(!has_changed(&sharded, "s"));
    unlink(at("s/model-00001-of-00002.safetensors"));
    CHECK_OK(d2c_model_files_find(&files, folder, "s", &err), &err);
    CHECK(d2c_model_files_identity(&sharded, &files, &err) == D2C_BAD_MODEL);
    CHECK(strcmp(err.message, "file \"model-00001-of-00002.safetensors\" is missing") == 0);
    CHECK(d2c_model_files_sha256(digest, &files, &err) == D2C_BAD_MODEL && digest[0] == '\0');
    remove_folder();
}

/* ---- copies in a checkpoint --------------------------------------------------------------------------------------------- */

static void
check_prefix(const char *name, const char *wanted)
{
    d2c_model_files files;
    const char *prefix;
    d2c_error err;

    CHECK_OK(d2c_model_files_find(&files, folder, name, &err), &err);
    CHECK_OK(d2c_model_files_open(&files, &err), &err);
    prefix = d2c_model_files_prefix(&files, "0.weight");
    CHECK(wanted != NULL ? prefix != NULL && strcmp(prefix, wanted) == 0 : prefix == NULL);
    CHECK(d2c_model_files_prefix(&files, "none") == NULL);
    d2c_model_files_close(&files);
}

static void
the_average_is_used_unless_said_otherwise(void)
{
    d2c_model_files files;
    d2c_error err;

    make_scratch();
    put_copy("flat.pt", "flat.pt");
    put_copy("check.pt", "checkpoint.pt");
    put_copy("nested.pt", "nested.pt");
    check_prefix("flat", "");
    check_prefix("check", "ema.");
    check_prefix("nested", NULL);
    put_text("check.json", "{\"weights\": \"model\"}");
    put_text("flat.json", "{\"weights\": \"model\"}");
    check_prefix("check", "model.");
    check_prefix("flat", "");
    put_text("check.json", "{\"weights\": \"ema\"}");
    check_prefix("check", "ema.");
    put_text("check.json", "{\"weights\": \"best\"}");
    CHECK_OK(d2c_model_files_find(&files, folder, "check", &err), &err);
    CHECK(d2c_model_files_open(&files, &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "invalid \"weights\"") != NULL);
    d2c_model_files_close(&files);
    remove_folder();
}

/* A slip in a description is told, not passed over. */
static void
a_description_says_what_is_known(void)
{
    static const char *const slips[][2] = {{"{\"weight\": \"ema\"}", "\"weight\""},
                                           {"{\"vae\": 1}", "\"vae\""},
                                           {"{\"heads\": \"8\"}", "\"heads\""},
                                           {"{\"kind\": \"sit\", \"Kind\": \"dit\"}", "\"Kind\""}};
    d2c_model_files files;
    d2c_error err;
    size_t i;

    make_scratch();
    put_copy("flat.pt", "flat.pt");
    for (i = 0; i < sizeof slips / sizeof slips[0]; i++) {
        put_text("flat.json", slips[i][0]);
        CHECK_OK(d2c_model_files_find(&files, folder, "flat", &err), &err);
        CHECK(d2c_model_files_open(&files, &err) == D2C_BAD_MODEL &&
              strstr(err.message, slips[i][1]) != NULL);
        d2c_model_files_close(&files);
    }
    put_text("flat.json", "{\"kind\": \"sit\", \"heads\": 8, \"vae\": \"other\"}");
    CHECK_OK(d2c_model_files_find(&files, folder, "flat", &err), &err);
    CHECK_OK(d2c_model_files_open(&files, &err), &err);
    d2c_model_files_close(&files);
    remove_folder();
}

/* ---- holding ------------------------------------------------------------------------------------------------------------ */

static void
who_holds_a_file_keeps_it(void)
{
    d2c_weights *weights;
    const d2c_st_tensor *t;
    float first[15];
    d2c_error err;

    CHECK_OK(d2c_weights_open(&weights, GOLDEN "/torch/flat.pt", &err), &err);
    CHECK(d2c_weights_hold(weights) == weights);
    d2c_weights_close(weights);
    t = d2c_weights_find(weights, "0.weight");
    CHECK_OK(d2c_st_tensor_to_f32(first, t, 15, &err), &err);
    d2c_weights_close(weights);
    d2c_weights_close(NULL);
}

static void
a_missing_file_is_not_found(void)
{
    d2c_weights *weights;
    d2c_error err;

    CHECK(d2c_weights_open(&weights, "/nonexistent/x.pt", &err) == D2C_NOT_FOUND && weights == NULL);
    CHECK(d2c_weights_open(&weights, "/dev/null", &err) == D2C_BAD_MODEL && weights == NULL);
    CHECK(d2c_weights_open(&weights, "/", &err) == D2C_BAD_MODEL && weights == NULL);
}

int
main(void)
{
    RUN(the_index_joins_its_files);
    RUN(damaged_indexes_are_told);
    RUN(every_name_of_a_file_is_found);
    RUN(names_are_listed_once);
    RUN(a_digest_covers_all_files);
    RUN(a_replaced_file_is_noticed);
    RUN(a_description_says_what_is_known);
    RUN(the_average_is_used_unless_said_otherwise);
    RUN(who_holds_a_file_keeps_it);
    RUN(a_missing_file_is_not_found);
    return check_report();
}
