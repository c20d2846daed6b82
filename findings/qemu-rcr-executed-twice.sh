#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3, its translator (TCG), processor qemu64.
# Input: 64-bit code with CF clear executes RCR by 14 on a doubleword of memory, 2000h, on a page that may be read and not
#   written. The page fault's handler lets it be written and returns. The same on a page that may be written for comparison.
# Most expect: 0 in both. A fault comes before anything of the instruction has changed, so that it can be executed
#   once more, with CF clear (Intel SDM, volume 3, 6.5, "Exception Classifications"; AMD64 Architecture Programmer's Manual, volume 2, 8.1.3).
# Seen: 40000 where there was a fault: CF has been set by the attempt, and the second one rotates it in. What a
#   program that is demand-paged, forked or migrated comes to depends on its page faults.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${ASSEMBLER[@]}"
get_packages bookworm qemu qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3 seabios=1.16.2-1
# shellcheck disable=SC2119 # nothing of its choices is wanted
make_disk <<'ASM'
	.set	ENTRY, PML4 + 0x2000 + 2 * 8	/* of the 2 MiB page at 400000 */
main:
	movq	%cr0, %rax
	orl	$0x10000, %eax			/* WP */
	movq	%rax, %cr0
	movl	$14, %edi
	movl	$let_write, %eax
	call	set_gate
	movl	$0x2000, 0x400000
	movl	$0x2000, 0x400010
	clc
	rcrl	$14, 0x400010
	andl	$~2, ENTRY
	invlpg	0x400000
	clc
	rcrl	$14, 0x400000
	movl	0x400010, %eax
	movl	%eax, PAGES
	movl	0x400000, %eax
	movl	%eax, PAGES + 8
	PRINT	"without a fault "
	HEX	PAGES
	PRINT	"with one "
	HEX	PAGES + 8
	jmp	end
let_write:
	orl	$2, ENTRY
	invlpg	0x400000
	addq	$8, %rsp			/* the error code */
	iretq
ASM
finding_says "RCR of memory" \
	"$(run_qemu -cpu qemu64 -drive "format=raw,file=$finding_tmp/disk")" "without a fault 0 with one 40000 "
