#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's qemu-system-x86 1:7.2+dfsg-7+deb12u18+b3, its translator (TCG), processor qemu64.
# Input: 32-bit code switches on PAE paging with four PDPTEs, of which the first is present and has no other bit below
#   12; it reads memory through it and switches paging off again.
# Most expect: the PDPTE is as it was. Processors read the four at MOV to CR3 and never write them; bit 5, the accessed
#   bit of the other levels, is reserved in them (Intel SDM, volume 3, 4.4.1, "PDPTE Registers";
#   AMD64 Architecture Programmer's Manual, volume 2, 5.2.3, "PAE Paging").
# Seen: bit 5 is set in memory. A hypervisor that checks the PDPTEs of such a guest finds a reserved bit set.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${ASSEMBLER[@]}"
get_packages bookworm qemu qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3 seabios=1.16.2-1
make_disk HAS_MAIN32 <<'ASM'
	.code32
main32:
	movl	$PML4 + 0x2001, PAGES	/* the directory that 64-bit mode uses too */
	movl	$PAGES, %eax
	movl	%eax, %cr3
	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	%cr0, %eax
	orl	$0x80000000, %eax
	movl	%eax, %cr0
	jmp	1f
1:	movl	0x7c00, %ecx
	andl	$0x7fffffff, %eax
	movl	%eax, %cr0
	ret
	.code64
main:
	PRINT	"PDPTE "
	HEX	PAGES
	jmp	end
ASM
finding_says "PDPTE that was 22001" "$(run_qemu -cpu qemu64 -drive "format=raw,file=$finding_tmp/disk")" "PDPTE 22021 "
