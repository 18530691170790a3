/* module.c: what PostgreSQL finds when it loads d2c. */
#include "postgres.h"

#include "fmgr.h"
#include "pg/settings.h"

#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "d2c");
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	D2cDefineSettings();
}
