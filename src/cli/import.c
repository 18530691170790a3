/* import.c: d2c import: images into a table. */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "train/database.h"
#include "train/import.h"

typedef struct import_arguments {
    const char *dbname, *images, *labels, *class_names, *folder, *on_error;
    d2c_import_target target;
} import_arguments;

/* Either the two IDX files or the folder. */
static d2c_status
check_arguments(import_arguments *args, d2c_error *err)
{
    if (args->target.table == NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "option \"--table\" is missing");
    if ((args->folder != NULL) == (args->images != NULL) || (args->images != NULL) != (args->labels != NULL))
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "images come either from --folder or from --idx-images and --idx-labels");
    if (args->folder != NULL && args->class_names != NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "the names of a folder's classes are those of its sub-folders");
    args->target.skip_errors = strcmp(args->on_error, "skip") == 0;
    if (!args->target.skip_errors && strcmp(args->on_error, "error") != 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "--on-error is either \"error\" or \"skip\"");
    return D2C_OK;
}

static void
report(const import_arguments *args, const d2c_import_result *result, double seconds)
{
    printf("%lld images imported into %s in %.1f s\n", (long long)result->loaded, args->target.table,
           seconds);
    if (result->skipped == 0)
        return;
    printf("left out: %lld, the first for this reason: %s\n", (long long)result->skipped,
           result->first_skipped.message);
    if (result->first_skipped.detail[0] != '\0')
        printf("DETAIL:  %s\n", result->first_skipped.detail);
}

static d2c_status
import_from(const import_arguments *args, const d2c_import_source *source, d2c_error *err)
{
    d2c_import_result result;
    d2c_progress progress;
    PGconn *conn;
    d2c_status status;

    D2C_TRY(d2c_database_open(&conn, args->dbname, err));
    d2c_progress_start(&progress, "import", "images", 0, source->count);
    status = d2c_import_run(&result, conn, &args->target, source, &progress, err);
    d2c_progress_finish(&progress, NULL);
    PQfinish(conn);
    if (status == D2C_OK)
        report(args, &result, d2c_clock() - progress.started);
    return status;
}

static d2c_status
run_import(const import_arguments *args, d2c_error *err)
{
    d2c_import_source source;
    d2c_import_idx idx;
    d2c_folder folder;
    d2c_status status;

    if (args->folder != NULL) {
        D2C_TRY(d2c_import_folder_open(&folder, &source, args->folder, err));
        status = import_from(args, &source, err);
        d2c_folder_free(&folder);
        return status;
    }
    D2C_TRY(d2c_import_idx_open(&idx, &source, args->images, args->labels, args->class_names, err));
    status = import_from(args, &source, err);
    d2c_import_idx_close(&idx);
    return status;
}

int
d2c_command_import(int argc, char **argv)
{
    import_arguments args = {.on_error = "error", .target = {.create = 1}};
    const d2c_option options[] = {
        {"dbname", D2C_OPTION_TEXT, &args.dbname, 0, 0, "database: a name, a conninfo string or a URI"},
        {"table", D2C_OPTION_TEXT, &args.target.table, 0, 0, "table, or schema.table, to load into"},
        {"create", D2C_OPTION_FLAG, &args.target.create, 0, 0, "make the table when it is missing"},
        {"idx-images", D2C_OPTION_TEXT, &args.images, 0, 0, "IDX file of images, gzipped or not"},
        {"idx-labels", D2C_OPTION_TEXT, &args.labels, 0, 0, "IDX file of their labels"},
        {"class-names", D2C_OPTION_TEXT, &args.class_names, 0, 0,
         "names of the labels 0, 1, ... with commas"},
        {"folder", D2C_OPTION_TEXT, &args.folder, 0, 0, "folder whose sub-folders are the classes"},
        {"split", D2C_OPTION_TEXT, &args.target.split, 0, 0, "value of a column split, such as train"},
        {"on-error", D2C_OPTION_TEXT, &args.on_error, 0, 0,
         "error: a bad image ends the import; skip: it is left out"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    d2c_error err;
    int help;

    if (d2c_options_parse(
            options, "import --table T (--folder DIR | --idx-images F --idx-labels F) [--option value]...",
            argc, argv, &help, &err) != D2C_OK)
        return d2c_command_failed(&err);
    if (help)
        return 0;
    if (check_arguments(&args, &err) != D2C_OK || run_import(&args, &err) != D2C_OK)
        return d2c_command_failed(&err);
    return 0;
}
