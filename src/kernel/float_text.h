/*
 * float_text.h
 *		Decimal text to float.
 */
#ifndef KERNEL_FLOAT_TEXT_H
#define KERNEL_FLOAT_TEXT_H

#include <stdbool.h>

/*
 * What strtof(text) reads in the C locale, white space at the start aside, and
 * the address behind it; "text" itself when there is no number.  "end" is the
 * address of the terminating zero byte.  *in_range is false where strtof
 * reports ERANGE: *value is then infinite or too small for a normal float.
 */
extern const char *kernel_parse_float(const char *text, const char *end, float *value, bool *in_range);

#endif							/* KERNEL_FLOAT_TEXT_H */
