-- images.sql: functions of image files.
-- The engine decodes.  Its functions depend on their arguments and on installed files only; a call with constant
-- arguments may run at plan time, and none belongs in an index, a generated column or a CHECK constraint.

CREATE FUNCTION d2c_image_info(image bytea, OUT format text, OUT width integer, OUT height integer, OUT channels integer)
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION d2c_image_info(bytea) IS
	'what a PNG, JPEG or WebP claims to be: format, width and height in pixels, channels; only its header is read; the engine does it, so not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_thumbnail(image bytea, edge integer) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION d2c_thumbnail(bytea, integer) IS
	'the whole image within edge x edge pixels as PNG, aspect kept, never enlarged; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_phash(image bytea) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION d2c_phash(bytea) IS
	'perceptual hash: 64 signs of the low frequencies of the grey image; near copies differ in few bits, bit_count((a # b)::bit(64)) of them; not for indexes, generated columns or CHECK constraints';

CREATE FUNCTION d2c_contact_sheet_accum(internal, bytea, text) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_contact_sheet_accum(internal, bytea, text) IS
	'support of aggregate d2c_contact_sheet';

CREATE FUNCTION d2c_contact_sheet_accum(internal, bytea, text, integer) RETURNS internal
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_contact_sheet_accum(internal, bytea, text, integer) IS
	'support of aggregate d2c_contact_sheet';

CREATE FUNCTION d2c_contact_sheet_final(internal) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_contact_sheet_final(internal) IS
	'support of aggregate d2c_contact_sheet';

CREATE AGGREGATE d2c_contact_sheet(image bytea, caption text) (
	SFUNC = d2c_contact_sheet_accum,
	STYPE = internal,
	SSPACE = 1048576,
	FINALFUNC = d2c_contact_sheet_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_contact_sheet(bytea, text) IS
	'one PNG of many images with captions, cells of 96 pixels, row by row in the order of ORDER BY inside the call; NULL images are left out';

CREATE AGGREGATE d2c_contact_sheet(image bytea, caption text, edge integer) (
	SFUNC = d2c_contact_sheet_accum,
	STYPE = internal,
	SSPACE = 1048576,
	FINALFUNC = d2c_contact_sheet_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_contact_sheet(bytea, text, integer) IS
	'one PNG of many images with captions, cells of edge pixels, row by row in the order of ORDER BY inside the call; NULL images are left out';
