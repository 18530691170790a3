-- scores of images with prompts, by a model with a text condition
\getenv folder PG_ABS_SRCDIR
SELECT set_config('test.folder', :'folder' || '/test/golden/image/', false) IS NOT NULL AS ready;
CREATE FUNCTION prompt_golden(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;
SELECT name, kind, problem IS NULL AS usable FROM d2c_models() WHERE name = 'prompt-sit';

-- it depends on image, prompt and seed; the encoder is that of the description, or the one that is named
SELECT s > 0 AS plausible, s = d2c_difficulty_prompt(i, 'a photo of a cat', 'prompt-sit', text_model => 'tiny-bert') AS named,
	s = d2c_difficulty_prompt(i, 'b', 'prompt-sit') AS another_prompt,
	s = d2c_difficulty_prompt(i, 'a photo of a cat', 'prompt-sit', seed => 1) AS another_seed,
	s = d2c_difficulty_prompt(prompt_golden('rgb.png'), 'a photo of a cat', 'prompt-sit') AS another_image
FROM (SELECT i, d2c_difficulty_prompt(i, 'a photo of a cat', 'prompt-sit') AS s FROM prompt_golden('grey.png') i) x;
-- batched: the same values, in order, NULLs in their places
SELECT n, d2c_difficulty_prompt_batched(image, prompt, 'prompt-sit', 4) OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) IS NOT DISTINCT FROM
	d2c_difficulty_prompt(image, prompt, 'prompt-sit', 4) AS same
FROM (VALUES (1, prompt_golden('grey.png'), 'a cat'), (2, NULL, 'a dog'), (3, prompt_golden('rgb.png'), NULL), (4, prompt_golden('444.jpg'), ''),
	(5, prompt_golden('grey.png'), 'a dog')) v (n, image, prompt);

-- what is refused
SELECT d2c_difficulty_prompt(prompt_golden('grey.png'), 'a cat', 'tiny-sit');
SELECT d2c_difficulty_prompt(prompt_golden('grey.png'), 'a cat', 'tiny-sit', text_model => 'tiny-bert');
SELECT d2c_difficulty_prompt(prompt_golden('grey.png'), 'a cat', 'prompt-sit', text_model => 'tiny-sit');
SELECT d2c_difficulty_prompt(prompt_golden('grey.png'), 'a cat', 'prompt-sit', text_model => 'nobody');
SELECT d2c_difficulty_prompt(prompt_golden('grey.png'), 'a cat', 'prompt-sit', 0);
SELECT d2c_difficulty_prompt(prompt_golden('grey.png'), 'a cat', 'prompt-sit', label => 1);
SELECT d2c_difficulty_prompt('not an image', 'a cat', 'prompt-sit');
SELECT d2c_difficulty(prompt_golden('grey.png'), 0, 'prompt-sit');
SELECT d2c_visual_embedding(prompt_golden('grey.png'), 'prompt-sit');
SELECT d2c_difficulty_prompt(NULL, 'a cat', 'prompt-sit') IS NULL AS without_image;
DROP FUNCTION prompt_golden;
