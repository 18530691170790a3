/* scratch_folder.h: a folder of a test's own under /tmp. */
#ifndef D2C_TEST_SCRATCH_FOLDER_H
#define D2C_TEST_SCRATCH_FOLDER_H

#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[64];

/* A file of the scratch folder; the newest two results stay. */
static inline const char *
at(const char *name)
{
    static char path[2][320];
    static int turn;

    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* Makes the scratch folder; 0 when it cannot be made. */
static inline int
make_folder(void)
{
    snprintf(folder, sizeof folder, "/tmp/d2c-test-XXXXXX");
    return mkdtemp(folder) != NULL;
}

/* Removes it with all that is in it. */
static inline void
remove_folder(void)
{
    char *const roots[] = {folder, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    FTSENT *entry;

    while (tree != NULL && (entry = fts_read(tree)) != NULL)
        if (entry->fts_info != FTS_D)
            remove(entry->fts_path);
    if (tree != NULL)
        fts_close(tree);
}

#endif
