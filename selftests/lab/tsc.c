// SPDX-License-Identifier: GPL-2.0
/*
 * Prints the time stamp counter. On a host booted with --icount that is the number of instructions
 * retired so far, so that a shell script can say what a command cost.
 */
#include <stdio.h>

int main(void)
{
	unsigned int lo, hi;

	asm volatile("lfence; rdtsc" : "=a" (lo), "=d" (hi));
	printf("%llu\n", (unsigned long long)hi << 32 | lo);
	return 0;
}
