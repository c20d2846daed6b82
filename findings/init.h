/* SPDX-License-Identifier: GPL-2.0 */
/* What the init of a tiny guest begins and ends with, where that guest is a host of KVM's: make_init() in lib.bash. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static void load(const char *file)
{
	int fd = open(file, O_RDONLY);

	if (fd >= 0)
		syscall(SYS_finit_module, fd, "", 0);
	close(fd);
}

/* KVM is there, and what is written goes to the console. */
static FILE *begin(void)
{
	FILE *out;

	mount("", "/dev", "devtmpfs", 0, NULL);
	out = fopen("/dev/ttyS0", "w");
	setvbuf(out, NULL, _IOFBF, 4096);
	load("/irqbypass.ko");
	load("/ccp.ko");
	load("/kvm.ko");
	load("/kvm-amd.ko");
	return out;
}

/* Off, when the line is out. */
static void end(FILE *out)
{
	fclose(out);
	sleep(1);
	reboot(RB_AUTOBOOT);
}
