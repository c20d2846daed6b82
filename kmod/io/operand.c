// SPDX-License-Identifier: GPL-2.0
/*
 * What a memory operand is: from its place in a segment to a linear address, and from there to the pieces
 * of guest-physical memory that it consists of.
 *
 * The one thing that is always true of an operand is its own start: segment, offset and length, as the
 * instruction says. The address that the hardware reports with a second-level fault is some byte of
 * it: the first that faulted, which lies in the second page where the first one is mapped. So operands are found
 * by walking the guest's page tables, like the processor, whatever was reported. Nobody else does that: wrap,
 * limit and page are looked at here, for each operand and each element of a string. (Where it begins in its page is
 * asked in the window too: lodge_linear().)
 *
 * vcpu->mutex held, outside the window and SRCU. No other lock.
 */
#include <asm/trapnr.h>

#include "io/io.h"

static u64 linear(struct lodge_vcpu *v, const struct lodge_operand *o)
{
	return lodge_linear(v, o->seg, o->ea, lodge_code_bits(v));
}

/* So many bytes of it lie further on: with addresses of 32 bits that may be at 0. */
static u64 further(struct lodge_vcpu *v, u64 lin, u32 bytes)
{
	return lodge_code_bits(v) == 64 ? lin + bytes : (u32)(lin + bytes);
}

/*
 * How many bytes a segment has from an offset on; 0: none, or not for this access. SDM 3, 5.3. Real mode and
 * virtual-8086 mode have limits, but no rights. What passes the end of a segment of 4 GiB goes on at 0.
 */
static u64 segment_room(struct lodge_vcpu *v, const struct lodge_operand *o, bool write)
{
	const struct kvm_segment *s = &v->st.seg[o->seg];
	bool rights = v->st.cr0 & X86_CR0_PE && !(v->st.rflags & X86_EFLAGS_VM);
	u64 last = s->limit;

	if (rights && (s->unusable || (s->type & 8 ? write || !(s->type & 2) : write && !(s->type & 2))))
		return 0;
	if (rights && !(s->type & 8) && s->type & 4) {		/* expand-down */
		if (o->ea <= last)
			return 0;
		last = s->db ? U32_MAX : 0xffff;
	}
	if (o->ea > last)
		return 0;
	return last == U32_MAX ? U64_MAX : last - o->ea + 1;
}

/** lodge_canonical - whether a linear address is one, in 64-bit code (SDM 1, 3.3.7.1) */
bool lodge_canonical(struct lodge_vcpu *v, u64 lin)
{
	int unused = 64 - (v->st.cr4 & X86_CR4_LA57 ? 57 : 48);

	return (u64)((s64)(lin << unused) >> unused) == lin;
}

/* The segment's checks, and SDM 3, 3.3.7.1 (canonical addresses). False: #GP or #SS is queued. */
static bool allowed(struct lodge_vcpu *v, const struct lodge_operand *o, bool write)
{
	u64 lin = linear(v, o);

	if (lodge_code_bits(v) == 64 ? lodge_canonical(v, lin) && lodge_canonical(v, lin + o->len - 1) :
				       segment_room(v, o, write) >= o->len)
		return true;
	lodge_queue_exception_error(v, o->seg == SEG_SS ? X86_TRAP_SS : X86_TRAP_GP, 0);
	return false;
}

/**
 * lodge_operand_run - how many elements of a string are one piece of memory
 * @v: the vCPU
 * @o: the first of them
 * @addr_size: at whose end offsets go on at 0: 2, 4, 8
 * @dst: they will be written
 * @left: so many elements there are, going upwards
 *
 * Each of them is in the segment, in the page where the first one begins, and whole. A first one that is not so
 * is alone: lodge_operand() says what becomes of it.
 *
 * Return: 1 or more.
 */
u32 lodge_operand_run(struct lodge_vcpu *v, const struct lodge_operand *o, u8 addr_size, bool dst, u64 left)
{
	u64 room = lodge_operand_room(linear(v, o), PAGE_SIZE);

	if (addr_size < 8)
		room = min(room, (1ull << 8 * addr_size) - o->ea);
	if (lodge_code_bits(v) != 64)
		room = min(room, segment_room(v, o, dst));
	return clamp_t(u64, left, 1, max_t(u64, room / o->len, 1));
}

/*
 * The pieces of a linear range, whose data begins at off: of at most 8 bytes, none in two pages. 0, 1: a fault is
 * queued, or an errno.
 */
static int translate(struct lodge_vcpu *v, u64 lin, int off, int len, u32 access, struct lodge_frag *frag, u8 *n)
{
	int begin = off, end = off + len, ret;
	struct lodge_walk_fault f;
	gpa_t gpa;

	while (off < end) {
		u64 at = further(v, lin, off - begin);
		int room = lodge_operand_room(at, end - off);

		ret = lodge_gva_to_gpa(v, at, access, &gpa, &f, false);
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
	struct lodge_operand one = *o;
	int i, ret = 0;

	if (!o->len)
		return 0;
	for (i = 0; i <= o->more && !ret; i++) {
		if (!allowed(v, &one, dst))
			return 1;
		ret = translate(v, linear(v, &one), i * o->len, o->len, access, frag, n);
		one.ea += o->step;
		if (o->wrap < 8)
			one.ea &= (1ull << 8 * o->wrap) - 1;
	}
	return ret;
}
