-- images of test/golden, as the engine sees them
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
CREATE FUNCTION golden(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;

SELECT name, (d2c_image_info(golden(name))).* FROM unnest('{grey.png,rgb.png,rgba.png,palette.png,grey16.png,444.jpg,grey.jpg,progressive.jpg,lossless.webp,alpha.webp,one-pixel.png}'::text[]) name;
SELECT d2c_image_info(NULL);
SELECT d2c_image_info('');
SELECT d2c_image_info('not an image');
SELECT d2c_image_info(substr(golden('rgb.png'), 1, 20));

-- thumbnails keep the aspect and are never enlarged
SELECT (d2c_image_info(d2c_thumbnail(golden('large.png'), 50))).*;
SELECT (d2c_image_info(d2c_thumbnail(golden('grey.png'), 500))).*;
SELECT d2c_thumbnail(golden('grey.png'), 0);
SELECT d2c_thumbnail(golden('grey.png'), -1);
SELECT d2c_thumbnail(golden('grey.png'), 100000);
SELECT d2c_thumbnail(substr(golden('large.png'), 1, 400), 50);
SELECT d2c_thumbnail(golden('grey.png'), NULL);

-- equal pictures have equal hashes, near ones near hashes
SELECT d2c_phash(golden('rgb.png')) = d2c_phash(golden('interlaced.png')) AS same_picture;
SELECT bit_count((d2c_phash(golden('lossless.webp')) # d2c_phash(golden('444.jpg')))::bit(64)) <= 4 AS recompressed;
SELECT bit_count((d2c_phash(golden('large.png')) # d2c_phash(golden('grey.png')))::bit(64)) > 8 AS another;
SELECT d2c_phash('\x89504e47');

-- contact sheets
SELECT (d2c_image_info(d2c_contact_sheet(golden(name), name ORDER BY name))).format FROM unnest('{grey.png,rgb.png,444.jpg}'::text[]) name;
SELECT d2c_contact_sheet(golden(name), name, 32 ORDER BY name) = d2c_contact_sheet(golden(name), name, 32 ORDER BY name DESC) AS same FROM unnest('{grey.png,rgb.png}'::text[]) name;
SELECT (d2c_image_info(d2c_contact_sheet(image, NULL, 32))).width < 100 AS one_cell FROM (VALUES (NULL::bytea), (golden('grey.png'))) v (image);
SELECT d2c_contact_sheet(NULL, 'nothing') IS NULL AS empty;
SELECT d2c_contact_sheet(golden('grey.png'), 'x', 0);
SELECT d2c_contact_sheet(golden('grey.png'), 'x', edge) FROM (VALUES (32), (33)) v (edge);
SELECT d2c_contact_sheet('bad', 'x');
-- a sheet that would be too large is refused before any image is decoded
SELECT d2c_contact_sheet('bad', 'x', 4096) FROM generate_series(1, 5);
DROP FUNCTION golden(text);
