#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Software: Debian's bochs 2.7+dfsg-4+deb12u1, model zambezi (the first AMD processor with SVM that it has).
# Input: one VMRUN of a 64-bit guest without nested paging, with CR2 in the VMCB; the guest reads CR2 and makes VMMCALL.
# Most expect: CR2 is one of the registers that VMRUN loads (AMD64 Architecture Programmer's Manual, volume 2,
#   15.5.1, "Loading Guest State"), so the guest reads what the VMCB has.
# Seen: the guest reads the host's CR2. The exit does store the guest's CR2 in the VMCB, so half of the pair works.
# Exit status: 0 where that is seen, 1 where something else is, 2 where it could not be set up.
# shellcheck source=lib.bash
. "$(dirname "$0")/lib.bash" || exit 2

get_packages bookworm tools "${ASSEMBLER[@]}"
get_packages bookworm bochs bochs=2.7+dfsg-4+deb12u1 bochs-term=2.7+dfsg-4+deb12u1 \
	"${BOCHS_FIRMWARE[@]}"
make_disk HAS_SVM <<'ASM'
main:
	movl	$guest, %edx
	call	make_vmcb
	movl	$0x1111, VMCB + 0x640
	movl	$0x2222, %eax
	movq	%rax, %cr2
	ENTER
	PRINT	"exit "
	HEX	VMCB + 0x70
	PRINT	"guest's CR2 "
	HEX	VMCB + 0x5f8
	jmp	end
guest:
	movq	%cr2, %rax
	vmmcall
ASM
finding_says "guest told CR2 1111 by the VMCB, host has 2222" "$(run_bochs zambezi)" "exit 81 guest's CR2 2222 "
