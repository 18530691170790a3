/* families.h: every family of family.h; one file each, NETWORK_family.c. */
#ifndef D2C_NN_FAMILIES_H
#define D2C_NN_FAMILIES_H

#include "nn/family.h"

extern const d2c_family d2c_family_sit;
extern const d2c_family d2c_family_bert;
extern const d2c_family d2c_family_vae;
extern const d2c_family d2c_family_dinov2;
extern const d2c_family d2c_family_clip_vision;
extern const d2c_family d2c_family_mae;
extern const d2c_family d2c_family_mocov3;
extern const d2c_family d2c_family_t5;
extern const d2c_family d2c_family_clip_text;
extern const d2c_family d2c_family_inception;

#endif
