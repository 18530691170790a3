-- text form
SELECT 'f32:[1,2.5,-3]'::tensor, '[1,2]'::tensor, ' BF16: [1]'::tensor;
SELECT 'bf16:[[1,2],[3,4]]'::tensor, 'f16:[[[0.1]]]'::tensor, 'u8:[0,255]'::tensor;
SELECT ' f16:[ 1 , 2 ] '::tensor, '[NaN,Infinity,-inf,-0]'::tensor, 'f16:[65504,-65519,6e-8,1e-9]'::tensor;
SELECT 'f32:[0.1,3.4028235e38,1e-45,16777216]'::tensor;
SELECT 'f32:[0.1,1e-45]'::tensor::text::tensor = 'f32:[0.1,1e-45]'::tensor AS lossless;
SELECT '[[[[[[[[1,2]]]]]]]]'::tensor;

SELECT ''::tensor;
SELECT '[]'::tensor;
SELECT 'f16:'::tensor;
SELECT 'f64:[1]'::tensor;
SELECT '1,2'::tensor;
SELECT '[1,2'::tensor;
SELECT '[1,,2]'::tensor;
SELECT '[1,2]]'::tensor;
SELECT '[1,2] x'::tensor;
SELECT '[1 2]'::tensor;
SELECT '[[1,2],[3]]'::tensor;
SELECT '[[1],2]'::tensor;
SELECT '[1,[2]]'::tensor;
SELECT '[a]'::tensor;
SELECT '[[[[[[[[[1]]]]]]]]]'::tensor;
SELECT '[1e39]'::tensor;
SELECT '[1e-60]'::tensor;
SELECT 'f16:[65520]'::tensor;
SELECT 'bf16:[3.38e38]'::tensor;
SELECT 'bf16:[3.4028235e38]'::tensor;
SELECT 'u8:[256]'::tensor;
SELECT 'u8:[1.5]'::tensor;
SELECT ('[' || repeat('1,', 100) || 'x]')::tensor;

-- the type modifier
CREATE TABLE tensor_test (id int PRIMARY KEY, any_type tensor, half tensor(f16), byte tensor(U8));
SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'tensor_test'::regclass AND attnum > 1 ORDER BY attnum;
INSERT INTO tensor_test VALUES (1, '[1,2]', '[1.0001,2]', '[1,2]'), (2, 'u8:[[7]]', 'u8:[[7]]', 'f16:[[7]]'), (3, NULL, NULL, NULL);
SELECT * FROM tensor_test ORDER BY id;
INSERT INTO tensor_test VALUES (4, '[1]', '[70000]', '[1]');
INSERT INTO tensor_test VALUES (4, '[1]', '[1]', '[-1]');
INSERT INTO tensor_test VALUES (4, '[1]', '[1]', '[NaN]');
INSERT INTO tensor_test VALUES (4, ARRAY[1,2], ARRAY[1.5,2.5]::real[], ARRAY[[1,2],[3,4]]::float8[]);
SELECT * FROM tensor_test WHERE id = 4;
SELECT '[1]'::tensor(f64);
SELECT '[1]'::tensor(f16, f32);
SELECT '[70000]'::tensor(f16);
SELECT '[1.5]'::tensor(u8), '[2.5]'::tensor(u8);

-- arrays and bytea
SELECT ARRAY[[1,2,3],[4,5,6]]::tensor, ARRAY[0.1,0.2]::real[]::tensor(f16), ARRAY[1e-300,2]::float8[]::tensor;
SELECT ARRAY[1e300]::float8[]::tensor;
SELECT ARRAY[70000]::tensor(f16);
SELECT ARRAY['Infinity']::float8[]::tensor;
SELECT ARRAY[1,NULL]::tensor;
SELECT '{}'::int[]::tensor;
SELECT 'f16:[[1,2],[3,4]]'::tensor::real[], 'u8:[1]'::tensor::float8[], array_length('[[1,2]]'::tensor::real[], 2);
SELECT '[[[[[[[1]]]]]]]'::tensor::real[];
SELECT 'f16:[[1,2]]'::tensor::bytea, 'f16:[[1,2]]'::tensor::bytea::tensor, 'f16:[1]'::tensor::bytea::tensor(f32);
SELECT ''::bytea::tensor;
SELECT '\x01000100'::bytea::tensor;
SELECT '\x02000100000000010000803f'::bytea::tensor;
SELECT '\x01000101000000010000803f'::bytea::tensor;
SELECT '\x01020100000000010000803f'::bytea::tensor;
SELECT '\x0100000000000001'::bytea::tensor;
SELECT '\x010009000000000100000001000000010000000100000001000000010000000100000001000000010000803f'::bytea::tensor;
SELECT '\x01000100000000000000803f'::bytea::tensor;
SELECT '\x01000100ffffffff0000803f'::bytea::tensor;
SELECT '\x010001007fffffff0000803f'::bytea::tensor;
SELECT '\x010002007fffffff7fffffff'::bytea::tensor;
SELECT '\x0100010000000001000080'::bytea::tensor;
SELECT '\x01000100000000010000803f00'::bytea::tensor;

-- every damaged byte is an error or another tensor, never a crash
DO $$
DECLARE
	good bytea := 'f16:[[1,2],[3,4]]'::tensor::bytea;
	refused int := 0;
	t tensor;
BEGIN
	FOR i IN 0 .. length(good) - 1 LOOP
		FOR b IN 0 .. 255 LOOP
			BEGIN
				t := set_byte(good, i, b)::tensor;
				PERFORM t::text;
			EXCEPTION WHEN data_exception OR program_limit_exceeded OR protocol_violation THEN
				refused := refused + 1;
			END;
		END LOOP;
	END LOOP;
	RAISE NOTICE '% refused', refused;
END $$;

-- equality and hash
SELECT '[1,2]'::tensor = '[1,2]', '[1,2]'::tensor = '[[1,2]]', '[1]'::tensor = 'f16:[1]', '[0]'::tensor <> '[-0]', '[NaN]'::tensor = '[NaN]';
SELECT count(*), t::text FROM (VALUES ('[1,2]'::tensor), ('[1,2]'), ('f16:[1,2]')) v (t) GROUP BY t ORDER BY 2;
SELECT count(DISTINCT d2c_tensor_hash_extended(t, 1)), count(*) FROM (VALUES ('[1,2]'::tensor), ('[1,2]'), ('[2,1]')) v (t);
-- an order of bytes: the element type first, then the dimensions, then little-endian numbers
SELECT count(DISTINCT t), count(*) FROM (VALUES ('[1,2]'::tensor), ('[1,2]'), ('[2,1]'), (NULL)) v (t);
SELECT t FROM (VALUES ('u8:[2]'::tensor), ('[1,2]'), ('u8:[1,2]'), ('[[2]]'), ('u8:[1]'), ('[1]'), ('bf16:[1]')) v (t) ORDER BY t;
SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a >= b AS ge, a > b AS gt, d2c_tensor_cmp(a, b) < 0 AS less
	FROM (VALUES ('u8:[1]'::tensor, 'u8:[2]'::tensor), ('u8:[2]', 'u8:[2]'), ('u8:[3]', 'u8:[2]')) v (a, b);
CREATE TABLE tensor_order AS SELECT i AS id, ('u8:[' || i % 50 || ']')::tensor AS t FROM generate_series(1, 100) i;
CREATE INDEX tensor_order_t ON tensor_order (t);
SET enable_seqscan = off;
SELECT id FROM tensor_order WHERE t = 'u8:[7]' ORDER BY id;
SELECT count(*) FROM tensor_order WHERE t >= 'u8:[10]' AND t < 'u8:[20]';
RESET enable_seqscan;
DROP TABLE tensor_order;
CREATE TEMP TABLE tensor_unique (t tensor UNIQUE);
INSERT INTO tensor_unique VALUES ('[1]'), ('[2]'), ('[1]');
SELECT a.id, b.id FROM tensor_test a JOIN tensor_test b ON a.any_type = b.any_type ORDER BY 1;

-- shape, parts, mean, cosine, summary
SELECT d2c_shape('[[1,2,3]]'), d2c_dtype('bf16:[1]'), d2c_shape(NULL);
SELECT d2c_slice('[[1,2,3],[4,5,6]]', 0, 1, 1), d2c_slice('[[1,2,3],[4,5,6]]', -1, 1, 2), d2c_slice('u8:[1,2,3]', 0, 0, 3);
SELECT d2c_slice('[1,2]', 1, 0, 1);
SELECT d2c_slice('[1,2]', -2, 0, 1);
SELECT d2c_slice('[1,2]', 0, 1, 2);
SELECT d2c_slice('[1,2]', 0, -1, 1);
SELECT d2c_slice('[1,2]', 0, 0, 0);
SELECT d2c_slice('[1,2]', 0, 2147483647, 2147483647);
SELECT d2c_mean('[[1,2,3],[4,5,6]]', 0), d2c_mean('u8:[[1,2,3],[4,5,6]]', 1), d2c_mean('f16:[1,2]', 0), d2c_mean('[[[1,2],[3,4]],[[5,6],[7,8]]]', 1);
SELECT d2c_mean('[1]', 1);
SELECT d2c_mean('[[1,2,3],[4,5,6],[9,9,9]]', 0, '[1,1,0]'), d2c_mean('[[1,2,3],[4,5,6]]', -1, 'u8:[0,1,1]'), d2c_mean('[[1,2]]', 0, '[0]'), d2c_mean('[1,2]', 0, NULL);
SELECT d2c_mean('[[1,2]]', 0, '[1,1]');
SELECT d2c_mean('[[1,2]]', 1, '[[1,1]]');
SELECT d2c_mean('[[1,2]]', 1, '[1,0.5]');
SELECT d2c_mean('[[1,2]]', 2, '[1,1]');
SELECT d2c_cosine('[1,0]', '[0,1]'), d2c_cosine('[3,4]', 'f16:[3,4]'), d2c_cosine('[1,2]', '[-1,-2]')::real, d2c_cosine('[0,0]', '[1,1]');
SELECT d2c_cosine('[1,2]', '[1,2,3]');
SELECT d2c_cosine('[1,2]', '[[1,2]]');
SELECT d2c_summary(array_fill(300000000::real, ARRAY[100000])::tensor), d2c_summary('[300000000,300000032]');
SELECT d2c_summary('f16:[[1,2],[3,4]]'), d2c_summary('[NaN,1]'), d2c_summary('[Infinity]');

-- large values: stored out of line, the header alone read back
INSERT INTO tensor_test SELECT 5, array_agg(i)::tensor FROM generate_series(1, 10000) i;
SELECT d2c_shape(any_type), d2c_dtype(any_type), d2c_summary(any_type), pg_column_size(any_type) FROM tensor_test WHERE id = 5;
SELECT any_type::text::tensor = any_type, any_type::bytea::tensor = any_type, any_type::real[]::tensor = any_type FROM tensor_test WHERE id = 5;
DROP TABLE tensor_test;

-- the casts' functions called with a modifier that no type has
SELECT d2c_tensor_from_array('{1}'::integer[], 77, false);
SELECT d2c_tensor_coerce('[1]', 77, false);
