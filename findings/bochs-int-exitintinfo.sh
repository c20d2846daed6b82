#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's bochs 2.7+dfsg-4+deb12u1, model zambezi.
# Input: a 64-bit guest under SVM with nested paging. It executes UD2, whose handler skips that and returns; then it
#   takes a stack that the nested tables do not map, and executes INT 80H: the frame cannot be pushed, and it exits.
# Most expect: EXITINTINFO says that the delivery of a software interrupt, vector 80H, was cut short, so 80000480H
#   (AMD64 Architecture Programmer's Manual, volume 2, 15.7.2, "Intercepts During IDT Interrupt Delivery").
# Seen: 80000306H, the #UD that was delivered and done with before. A hypervisor that delivers again what EXITINTINFO
#   names gives the guest its #UD twice, and does not know whether an INT was lost.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${ASSEMBLER[@]}"
get_packages bookworm bochs bochs=2.7+dfsg-4+deb12u1 bochs-term=2.7+dfsg-4+deb12u1 \
	"${BOCHS_FIRMWARE[@]}"
make_disk HAS_SVM <<'ASM'
	.set	NESTED, 0x60000
main:
	movl	$6, %edi
	movl	$skip, %eax
	call	set_gate
	movl	$0x80, %edi
	movl	$return, %eax
	call	set_gate
	movl	$PML4, %esi			/* the same tables again, but for the second 2 MiB */
	movl	$NESTED, %edi
	movl	$0x3000, %ecx
	rep movsb
	movl	$NESTED + 0x1007, NESTED
	movl	$NESTED + 0x2007, NESTED + 0x1000
	movl	$0, NESTED + 0x2008
	movl	$guest, %edx
	call	make_vmcb
	movl	$1, VMCB + 0x90
	movl	$NESTED, VMCB + 0xb0
	ENTER
	PRINT	"exit "
	HEX	VMCB + 0x70
	PRINT	"at "
	HEX	VMCB + 0x80
	PRINT	"EXITINTINFO "
	HEX	VMCB + 0x88
	jmp	end
guest:
	ud2
	movl	$0x300000, %esp
	int	$0x80
	vmmcall
skip:
	addq	$2, (%rsp)
return:
	iretq
ASM
finding_says "INT 80H interrupted by a nested page fault" "$(run_bochs zambezi)" \
	"exit 400 at 2ffff8 EXITINTINFO 80000306 "
