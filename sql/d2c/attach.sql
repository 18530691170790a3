-- attach.sql: embeddings and latents of single values, and their window forms.

CREATE TYPE d2c_embedded_text AS (embedding tensor, mask tensor);
COMMENT ON TYPE d2c_embedded_text IS 'what d2c_text_embedding returns: embedding f32 [tokens, width], mask u8 [tokens]';

CREATE FUNCTION d2c_text_embedding(prompt text, model text, tokens integer DEFAULT 16) RETURNS d2c_embedded_text
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_text_embedding(text, text, integer) IS
	'last hidden state of a text encoder (BERT, T5 or CLIP), f32 [tokens, width], and which tokens the text fills, u8 [tokens]; longer texts are cut, rows beyond the text are zero; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_text_embedding_batched(prompt text, model text, tokens integer DEFAULT 16) RETURNS d2c_embedded_text
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_text_embedding_batched(text, text, integer) IS
	'd2c_text_embedding as a window function that sends many rows at once: OVER ()';

CREATE FUNCTION d2c_visual_embedding(image bytea, model text, tokens integer DEFAULT 0) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_visual_embedding(bytea, text, integer) IS
	'hidden tokens that a model (DINOv2, CLIP, MAE, MoCo v3, or a SiT, DiT or REPA) has of an image, f16 [tokens, width]: the first tokens of them, all when 0; of a model of kind inception f32 [1, 2048], FID''s features; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_visual_embedding_batched(image bytea, model text, tokens integer DEFAULT 0) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_visual_embedding_batched(bytea, text, integer) IS
	'd2c_visual_embedding as a window function that sends many rows at once: OVER ()';

CREATE FUNCTION d2c_latent(image bytea, model text, size integer DEFAULT 256) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_latent(bytea, text, integer) IS
	'posterior that an autoencoder (sd-vae-ft-ema) has of an image, cropped and resized to size x size pixels as ADM does: f32 [2c, size/8, size/8], c channels of mean, then c of standard deviation, not scaled, as REPA''s npy files are; size is a multiple of 8, at most 1024; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_latent_batched(image bytea, model text, size integer DEFAULT 256) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_latent_batched(bytea, text, integer) IS
	'd2c_latent as a window function that sends many rows at once: OVER ()';

CREATE FUNCTION d2c_decode_latent(latent tensor, model text) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_decode_latent(tensor, text) IS
	'PNG that an autoencoder makes of a latent: [c, h, w] not scaled (divide what a diffusion model makes by the scaling factor, 0.18215), or [2c, h, w] as d2c_latent gives it, whose mean is taken; pixels are 127.5 x + 128, cut off, as in SiT; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_decode_latent_batched(latent tensor, model text) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_decode_latent_batched(tensor, text) IS
	'd2c_decode_latent as a window function that sends many rows at once: OVER ()';
