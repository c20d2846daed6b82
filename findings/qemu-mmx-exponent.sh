#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3, its translator (TCG), processor qemu64.
# Input: 64-bit code puts 1.0 into the first register of the x87 and then a quadword into the MMX register that is the
#   same one, MM7; FXSAVE shows the register's upper 16 bits.
# Most expect: ffff. What writes an MMX register sets sign and exponent of the x87 register to ones, so that x87 code that
#   comes by it finds no number (Intel SDM, volume 1, 9.2.2, "MMX Registers", and volume 3, 13.2; AMD64 Architecture
#   Programmer's Manual, volume 1, 5.3.5).
# Seen: 3fff, the exponent of the 1.0 that was there: together with the quadword that is another number.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${ASSEMBLER[@]}"
get_packages bookworm qemu qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3 seabios=1.16.2-1
# shellcheck disable=SC2119 # nothing of its choices is wanted
make_disk <<'ASM'
main:
	movq	%cr0, %rax
	andl	$~0xc, %eax		/* EM, TS */
	orl	$2, %eax		/* MP */
	movq	%rax, %cr0
	movq	%cr4, %rax
	orl	$0x200, %eax		/* OSFXSR */
	movq	%rax, %cr4
	fninit
	fld1
	movq	0x7c00, %mm7
	fxsave	PAGES
	movzwl	PAGES + 32 + 7 * 16 + 8, %eax
	movl	%eax, PAGES + 0x400
	PRINT	"sign and exponent "
	HEX	PAGES + 0x400
	jmp	end
ASM
finding_says "an x87 register, written as MM7" \
	"$(run_qemu -cpu qemu64 -drive "format=raw,file=$finding_tmp/disk")" "sign and exponent 3fff "
