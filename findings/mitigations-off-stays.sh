#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's linux-binary-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1, on QEMU with an AMD processor's name.
# Input: the kernel's command line has mitigations=off, and later mitigations=auto, as where a boot entry has the one and
#   somebody appends the other.
# Most expect: the last word holds, as with earlier kernels and with most parameters that are given twice (with 6.12
#   it does); the documentation of the parameter says nothing of order.
# Seen: "off" stays: retbleed is "Vulnerable", where with "auto" alone it is mitigated.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${COMPILER[@]}"
get_packages bookworm qemu "${QEMU[@]}"
get_packages trixie-backports kernel linux-binary-7.3.4+deb13-cloud-amd64=7.3.4-1~bpo13+1
make_init <<'C'
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	char line[200] = "no such file";
	FILE *f, *out;

	mount("", "/dev", "devtmpfs", 0, NULL);
	mount("", "/sys", "sysfs", 0, NULL);
	out = fopen("/dev/ttyS0", "w");
	f = fopen("/sys/devices/system/cpu/vulnerabilities/retbleed", "r");
	if (f)
		fgets(line, sizeof(line), f);
	fputs(line, out);
	fclose(out);
	sleep(1);
	reboot(RB_AUTOBOOT);
}
C
# The words of run_linux begin with mitigations=off, where nothing else is said.
linux_words=mitigations=auto
twice=$(run_linux -cpu EPYC-Rome -m 512)
# shellcheck disable=SC2034 # run_linux reads it
linux_mitigations=
once=$(run_linux -cpu EPYC-Rome -m 512)
finding_says "retbleed after off, then auto; after auto alone" "${twice%%:*}; ${once%%:*}" "Vulnerable; Mitigation"
