/* settings.h: the configuration parameters of d2c. */
#ifndef D2C_PG_SETTINGS_H
#define D2C_PG_SETTINGS_H

#include "postgres.h"

#include "engine/protocol.h"

/* Bytes of images that a window function holds at once (d2c.batch_memory, in kB). */
extern int	d2c_batch_memory;

/* Bytes of features of one group that a selection is made of in the backend (d2c.select_memory, in kB). */
extern int	d2c_select_memory;

/* The operating system user who runs the engine as a service; "": the server's own user, and backends start it. */
extern char *d2c_engine_user;

extern void D2cDefineSettings(void);

/* What the engine's command line and the hello are made from. */
extern void D2cCurrentSettings(d2c_settings *settings);

#endif
