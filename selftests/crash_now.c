// SPDX-License-Identifier: GPL-2.0
/*
 * crash_now BZIMAGE INITRD COMMAND-LINE: crash, and let this kernel take over. For the test that guests
 * which run meanwhile leave no CPU in a state the next kernel cannot use.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int kernel, initrd, trigger;

	if (argc != 4) {
		fprintf(stderr, "usage: crash_now BZIMAGE INITRD COMMAND-LINE\n");
		return 2;
	}
	kernel = open(argv[1], O_RDONLY | O_CLOEXEC);
	initrd = open(argv[2], O_RDONLY | O_CLOEXEC);
	trigger = open("/proc/sysrq-trigger", O_WRONLY);
	if (kernel < 0 || initrd < 0 ||
	    syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3],
		    KEXEC_FILE_ON_CRASH) || write(trigger, "c", 1) != 1)
		fprintf(stderr, "crash_now: %s\n", strerror(errno));
	return 1;
}
