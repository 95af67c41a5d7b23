/*
 * tap.h
 *		Results of a test without a server, as TAP: a line for each, the plan at the end.
 */
#ifndef TEST_TAP_H
#define TEST_TAP_H

#include <stdbool.h>
#include <stdio.h>

static int	tap_tests = 0;
static int	tap_failures = 0;

static void
ok(bool good, const char *what)
{
	printf("%sok %d - %s\n", good ? "" : "not ", ++tap_tests, what);
	tap_failures += !good;
}

/* What main() returns. */
static int
tap_done(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures != 0;
}

#endif							/* TEST_TAP_H */
