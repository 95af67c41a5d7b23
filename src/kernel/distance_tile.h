/*
 * distance_tile.h
 *		Sums for all pairs of two small sets of vectors; included by distance_body.h.
 *
 * A block of two by four pairs is computed at once: every element loaded is
 * used several times, which is what makes this faster than pair by pair.
 */

/* One block of rows x columns, both constants where this is inlined. */
static inline __attribute__((always_inline)) void
tile_block(const float *a, const float *b, size_t n, float *out, size_t out_stride,
		   const int rows, const int columns, const bool squares)
{
	floats		sum[2][4] = {0};
	float		rest[2][4] = {0};
	size_t		i = 0;

	for (; i + LANES <= n; i += LANES)
	{
		floats		x[2];

		for (int r = 0; r < rows; r++)
			x[r] = load_f32(a + r * n + i);
		for (int c = 0; c < columns; c++)
		{
			floats		y = load_f32(b + c * n + i);

			for (int r = 0; r < rows; r++)
			{
				floats		d = x[r] - y;

				sum[r][c] += squares ? d * d : x[r] * y;
			}
		}
	}
	for (; i < n; i++)
	{
		for (int r = 0; r < rows; r++)
		{
			for (int c = 0; c < columns; c++)
			{
				float		d = a[r * n + i] - b[c * n + i];

				rest[r][c] += squares ? d * d : a[r * n + i] * b[c * n + i];
			}
		}
	}
	for (int r = 0; r < rows; r++)
		for (int c = 0; c < columns; c++)
			out[r * out_stride + c] = sum_floats(sum[r][c]) + rest[r][c];
}

static inline __attribute__((always_inline)) void
tile(const float *a, size_t rows, const float *b, size_t columns, size_t n, float *out, const bool squares)
{
	for (size_t r = 0; r < rows; r += 2)
	{
		size_t		c = 0;

		if (r + 1 == rows)
		{
			for (; c < columns; c++)
				tile_block(a + r * n, b + c * n, n, out + r * columns + c, columns, 1, 1, squares);
			break;
		}
		for (; c + 4 <= columns; c += 4)
			tile_block(a + r * n, b + c * n, n, out + r * columns + c, columns, 2, 4, squares);
		for (; c < columns; c++)
			tile_block(a + r * n, b + c * n, n, out + r * columns + c, columns, 2, 1, squares);
	}
}

static void
dot_tile(const float *a, size_t rows, const float *b, size_t columns, size_t n, float *out)
{
	tile(a, rows, b, columns, n, out, false);
}

static void
l2_squared_tile(const float *a, size_t rows, const float *b, size_t columns, size_t n, float *out)
{
	tile(a, rows, b, columns, n, out, true);
}
