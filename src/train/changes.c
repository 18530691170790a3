/* changes.c: whether the rows are still those that a checkpoint was trained on. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/database.h"
#include "train/together.h"

/* The name of a state of the rows: sha256 of both digests. */
static void
name_of(char name[65], const char *digest, const char *content)
{
    char text[1024];
    int length = snprintf(text, sizeof text, "%s %s", digest, content);

    d2c_sha256(name, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

static void
path_of(char *path, size_t size, const d2c_train *train)
{
    snprintf(path, size, "%s/rows.hash", train->folder);
}

/* The first row that differs from those of the checkpoint; "" when it cannot be told. */
static void
first_change(const d2c_train *train, char *id, size_t size)
{
    char path[D2C_RUN_PATH + 16], name[65];
    PGconn *connection;
    int64_t place;

    id[0] = '\0';
    if (train->table->content == NULL)
        return;
    path_of(path, sizeof path, train);
    name_of(name, train->head.table_digest, train->head.content);
    place = d2c_content_first_change(train->table->content, path, name);
    if (place < 0 || d2c_database_open(&connection, train->setting->conninfo, NULL) != D2C_OK)
        return;
    d2c_table_id_at(train->table, connection, place, id, size);
    PQfinish(connection);
}

static d2c_status
changed(const d2c_train *train, const char *what, const char *hint, d2c_error *err)
{
    char id[D2C_BATCH_ID];

    first_change(train, id, sizeof id);
    d2c_fail(err, D2C_INVALID_ARGUMENT, "the rows are not those that checkpoint \"%s\" was trained on",
             train->resumed);
    if (id[0] != '\0')
        d2c_detail(err, "What differs: %s. The first row, in order of the ids, is %.70s.", what, id);
    else
        d2c_detail(err, "What differs: %s.", what);
    d2c_hint(err, "%s", hint);
    return D2C_INVALID_ARGUMENT;
}

/* Ids and labels must be the same, for they decide which row comes when; contents may be accepted as they are. */
static d2c_status
compare(const d2c_train *train, d2c_error *err)
{
    const d2c_table *table = train->table;
    char what[256];

    if (strcmp(train->head.table_digest, table->digest) != 0)
        return changed(train, "ids or labels", "Restore the rows, or start afresh under another --name.",
                       err);
    if (table->content_digest == NULL || train->head.content[0] == '\0') {
        d2c_notice(train,
                   "whether images and embeddings have changed is not known: --content-digest is or was off");
        return D2C_OK;
    }
    d2c_content_differences(what, sizeof what, table->content_digest, train->head.content,
                            table->latents ? "latent" : "image");
    if (what[0] == '\0')
        return D2C_OK;
    if (!train->setting->accept_changed_rows)
        return changed(train, what,
                       "Restore the rows, start afresh under another --name, or go on with "
                       "--accept-changed-rows, which is no longer exact.",
                       err);
    d2c_notice(train, "the run is no longer exact from here on: rows have changed (%s)", what);
    return D2C_OK;
}

/* A table that was made as a selection, and is it no more, is trained on as any other. */
static void
forget_selection(d2c_train *train, int64_t others)
{
    const d2c_selection *selection = train->table->selection;

    if (selection->id == 0)
        d2c_notice(
            train,
            "selection \"%s\", as which the table was made, is not there: the run does not refer to it",
            selection->name);
    else
        d2c_notice(
            train,
            "the table is not selection \"%s\", as which it was made: the run does not refer to it (%" PRId64
            " rows gone, %" PRId64 " changed, %" PRId64 " others)",
            selection->name, selection->gone, selection->changed, others);
    d2c_selection_free(train->table->selection);
    train->table->selection = NULL;
}

d2c_status
d2c_train_check_selection(d2c_train *train, d2c_error *err)
{
    const d2c_selection *selection = train->table->selection;
    int64_t others, wrong;

    if (selection == NULL)
        return D2C_OK;
    wrong = selection->gone + selection->changed;
    others = train->table->rows - (selection->items - selection->gone);
    if (train->setting->table.selection == NULL) {
        if (selection->id == 0 || wrong > 0 || others != 0)
            forget_selection(train, others);
        return D2C_OK;
    }
    if (wrong > 0 && !train->setting->accept_changed_rows) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "the rows are not those of selection \"%s\"", selection->name);
        d2c_detail(err,
                   "Of its %" PRId64 " rows %" PRId64 " are gone, %" PRId64
                   " have another label or image. The first, in order of the ids, is %.70s.",
                   selection->items, selection->gone, selection->changed, selection->first);
        d2c_hint(err, "Restore them, select anew, or train on what there is with --accept-changed-rows.");
        return D2C_INVALID_ARGUMENT;
    }
    if (wrong > 0)
        d2c_notice(train, "%" PRId64 " rows of selection \"%s\" are gone, %" PRId64 " changed",
                   selection->gone, selection->name, selection->changed);
    return D2C_OK;
}

d2c_status
d2c_train_check_rows(d2c_train *train, d2c_error *err)
{
    char path[D2C_RUN_PATH + 16], name[65];

    if (train->resumed[0] != '\0' && d2c_train_speaks(train))
        D2C_TRY(compare(train, err));
    if (train->table->content == NULL)
        return D2C_OK;
    path_of(path, sizeof path, train);
    name_of(name, train->table->digest, train->table->content_digest);
    if (d2c_train_speaks(train))
        D2C_TRY(d2c_content_save(train->table->content, path, name, err));
    d2c_content_seal(train->table->content, !train->setting->accept_changed_rows);
    return D2C_OK;
}
