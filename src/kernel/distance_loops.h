/*
 * distance_loops.h
 *		The loops over floats or halves; included by distance_body.h once for each.
 *
 * Parameters, undefined again at the end:
 *
 *	ELEMENT			type of an array's element
 *	NAME(function)	the function's name for this element type
 *	LOAD(p)			LANES elements at p, as floats
 *	ONE(x)			one element, as float
 */
static float
NAME(l2_squared) (const ELEMENT *a, const ELEMENT *b, size_t n)
{
	floats		sum[4] = {{0}, {0}, {0}, {0}};
	size_t		i = 0;
	float		result;

	for (; i + 4 * LANES <= n; i += 4 * LANES)
	{
		for (int k = 0; k < 4; k++)
		{
			floats		d = LOAD(a + i + k * LANES) - LOAD(b + i + k * LANES);

			sum[k] += d * d;
		}
	}
	for (; i + LANES <= n; i += LANES)
	{
		floats		d = LOAD(a + i) - LOAD(b + i);

		sum[0] += d * d;
	}
	result = sum_floats((sum[0] + sum[1]) + (sum[2] + sum[3]));
	for (; i < n; i++)
	{
		float		d = ONE(a[i]) - ONE(b[i]);

		result += d * d;
	}
	return result;
}

static float
NAME(dot) (const ELEMENT *a, const ELEMENT *b, size_t n)
{
	floats		sum[4] = {{0}, {0}, {0}, {0}};
	size_t		i = 0;
	float		result;

	for (; i + 4 * LANES <= n; i += 4 * LANES)
		for (int k = 0; k < 4; k++)
			sum[k] += LOAD(a + i + k * LANES) * LOAD(b + i + k * LANES);
	for (; i + LANES <= n; i += LANES)
		sum[0] += LOAD(a + i) * LOAD(b + i);
	result = sum_floats((sum[0] + sum[1]) + (sum[2] + sum[3]));
	for (; i < n; i++)
		result += ONE(a[i]) * ONE(b[i]);
	return result;
}

static float
NAME(l1) (const ELEMENT *a, const ELEMENT *b, size_t n)
{
	floats		sum[4] = {{0}, {0}, {0}, {0}};
	size_t		i = 0;
	float		result;

	for (; i + 4 * LANES <= n; i += 4 * LANES)
		for (int k = 0; k < 4; k++)
			sum[k] += absolute(LOAD(a + i + k * LANES) - LOAD(b + i + k * LANES));
	for (; i + LANES <= n; i += LANES)
		sum[0] += absolute(LOAD(a + i) - LOAD(b + i));
	result = sum_floats((sum[0] + sum[1]) + (sum[2] + sum[3]));
	for (; i < n; i++)
		result += fabsf(ONE(a[i]) - ONE(b[i]));
	return result;
}

static KernelCosine
NAME(cosine) (const ELEMENT *a, const ELEMENT *b, size_t n)
{
	floats		dot[4] = {{0}, {0}, {0}, {0}};
	floats		norm_a[4] = {{0}, {0}, {0}, {0}};
	floats		norm_b[4] = {{0}, {0}, {0}, {0}};
	size_t		i = 0;
	KernelCosine result;

	for (; i + 4 * LANES <= n; i += 4 * LANES)
	{
		for (int k = 0; k < 4; k++)
		{
			floats		x = LOAD(a + i + k * LANES);
			floats		y = LOAD(b + i + k * LANES);

			dot[k] += x * y;
			norm_a[k] += x * x;
			norm_b[k] += y * y;
		}
	}
	for (; i + LANES <= n; i += LANES)
	{
		floats		x = LOAD(a + i);
		floats		y = LOAD(b + i);

		dot[0] += x * y;
		norm_a[0] += x * x;
		norm_b[0] += y * y;
	}
	result.dot = sum_floats((dot[0] + dot[1]) + (dot[2] + dot[3]));
	result.norm_a = sum_floats((norm_a[0] + norm_a[1]) + (norm_a[2] + norm_a[3]));
	result.norm_b = sum_floats((norm_b[0] + norm_b[1]) + (norm_b[2] + norm_b[3]));
	for (; i < n; i++)
	{
		float		x = ONE(a[i]);
		float		y = ONE(b[i]);

		result.dot += x * y;
		result.norm_a += x * x;
		result.norm_b += y * y;
	}
	return result;
}

#undef ELEMENT
#undef NAME
#undef LOAD
#undef ONE
