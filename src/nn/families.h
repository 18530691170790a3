/* families.h: every family of family.h; one file each, NETWORK_family.c. */
#ifndef D2C_NN_FAMILIES_H
#define D2C_NN_FAMILIES_H

#include "nn/family.h"

extern const d2c_family d2c_family_sit;
extern const d2c_family d2c_family_dit;
extern const d2c_family d2c_family_repa;
extern const d2c_family d2c_family_bert;
extern const d2c_family d2c_family_vae;

#endif
