/* engine_start.h: starting the engine from a backend. */
#ifndef D2C_PG_ENGINE_START_H
#define D2C_PG_ENGINE_START_H

#include "postgres.h"

/*
 * Starts the engine and waits for its report.  True: it listens.  False: another one is starting or running already.
 * Raises an error with the reason when it could not start.
 */
extern bool D2cStartEngine(void);

#endif
