// SPDX-License-Identifier: GPL-2.0
/*
 * What a memory operand is: from its place in a segment to a linear address, and from there to the pieces
 * of guest-physical memory that it consists of.
 *
 * The one thing that is always true of an operand is its own start: segment, offset and length, as the
 * instruction says. The address that the hardware reports with a second-level fault is some byte of
 * it: the first that faulted, which lies in the second page where the first one is mapped. So operands are found
 * by walking the guest's page tables, like the processor, whatever was reported.
 *
 * vcpu->mutex and vm->srcu held, outside the window. No other lock.
 */
#include <asm/trapnr.h>

#include "io/io.h"

/**
 * lodge_linear - linear address of a memory operand, with the segment's checks
 * @v: the vCPU
 * @seg: SEG_ES..SEG_GS
 * @ea: the offset, already cut to the address size
 * @len: bytes
 * @write: it will be written
 * @lin: the result
 *
 * SDM 3, 5.3 (limits) and 3.3.7.1 (canonical addresses).
 *
 * Return: 0, or 1 with #GP or #SS queued.
 */
int lodge_linear(struct lodge_vcpu *v, int seg, u64 ea, int len, bool write, u64 *lin)
{
	const struct kvm_segment *s = &v->st.seg[seg];
	int bits = lodge_code_bits(v), va_bits;
	u64 last;

	if (bits == 64) {
		*lin = ea + (seg >= SEG_FS ? s->base : 0);
		va_bits = v->st.cr4 & X86_CR4_LA57 ? 57 : 48;
		last = *lin + len - 1;
		if ((u64)((s64)(*lin << (64 - va_bits)) >> (64 - va_bits)) == *lin &&
		    (u64)((s64)(last << (64 - va_bits)) >> (64 - va_bits)) == last)
			return 0;
		goto fault;
	}
	*lin = (u32)(ea + s->base);
	if (!(v->st.cr0 & X86_CR0_PE) || v->st.rflags & X86_EFLAGS_VM)
		return 0;
	last = ea + len - 1;
	if (s->unusable || (s->type & 8 ? write || !(s->type & 2) : write && !(s->type & 2)))
		goto fault;
	if (!(s->type & 8) && s->type & 4) {		/* expand-down */
		if (ea <= s->limit || last > (s->db ? U32_MAX : 0xffff))
			goto fault;
	} else if (last > s->limit) {
		goto fault;
	}
	return 0;
fault:
	lodge_queue_exception_error(v, seg == SEG_SS ? X86_TRAP_SS : X86_TRAP_GP, 0);
	return 1;
}

/* The pieces of a linear range: of at most 8 bytes, none in two pages. 0, 1: a fault is queued, or an errno. */
static int translate(struct lodge_vcpu *v, u64 lin, int len, u32 access, struct lodge_frag *frag, u8 *n)
{
	struct lodge_walk_fault f;
	int off = 0, ret;
	gpa_t gpa;

	while (off < len) {
		int room = lodge_operand_room(lin + off, len - off);

		ret = lodge_gva_to_gpa(v, lin + off, access, &gpa, &f, false);
		if (ret > 0)
			lodge_queue_walk_fault(v, &f);
		if (ret)
			return ret;
		while (room) {
			u8 part = min(room, 8);

			frag[(*n)++] = (struct lodge_frag) { .gpa = gpa, .len = part, .off = off };
			gpa += part;
			off += part;
			room -= part;
		}
	}
	return 0;
}

/**
 * lodge_operand - find all of an operand before any of it is accessed
 * @v: the vCPU
 * @o: what the decoder says; of length 0 where the instruction has none
 * @dst: the segment's rights are asked for a write
 * @writable: the page tables' rights are: also of what is read first and written then
 * @frag: gets the pieces
 * @n: counts them on
 *
 * Return: 0; 1 with a fault queued; -EFAULT where the guest's page tables lie outside of memory.
 */
int lodge_operand(struct lodge_vcpu *v, const struct lodge_operand *o, bool dst, bool writable,
		  struct lodge_frag *frag, u8 *n)
{
	u32 access = (writable ? ACC_WRITE : 0) | (v->st.cpl == 3 ? ACC_USER : 0);
	u64 lin;

	if (!o->len)
		return 0;
	if (lodge_linear(v, o->seg, o->ea, o->len, dst, &lin))
		return 1;
	return translate(v, lin, o->len, access, frag, n);
}
