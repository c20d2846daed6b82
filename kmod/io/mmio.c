// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions whose memory operand is not memory.
 *
 * Fast: in the window, a plain load or store within one page. The second-level fault has given the
 * physical address, so only the opcode, the size and the register are needed. It reaches the
 * LAPIC, fast in-kernel devices, or fills in v->run for userspace.
 *
 * Slow: everything else that decode.c knows (strings, read-modify-write, vector moves (vector.c), operands that
 * cross a page). Operands are cut into fragments (operand.c), and each fragment is memory, an in-kernel device or
 * an exit to userspace (access.c). All reads come first, then the instruction is computed, then all writes. State lies
 * in v->mmio, so an exit to userspace in the middle goes on where it was at the next KVM_RUN;
 * registers and RIP change only at the end. A repeated string instruction is done one element a
 * time: the guest runs it again for the next one, and interrupts come in between.
 *
 * vcpu->mutex held; outside the window vm->srcu too.
 */
#include <linux/mm.h>
#include <asm/trapnr.h>

#include "core/trace.h"
#include "io/io.h"

/* The bytes at RIP: from the hardware where it gives them, else fetched. As lodge_fetch(). */
static int insn_bytes(struct lodge_vcpu *v, u8 *buf, struct lodge_walk_fault *f, bool atomic)
{
	const struct lodge_exit *x = &v->exit;

	if (x->fault.nbytes) {
		memcpy(buf, x->fault.bytes, 15);
		return x->fault.nbytes;
	}
	return lodge_fetch(v, buf, 15, f, atomic);
}

static u64 rip_after(struct lodge_vcpu *v, u8 len, int bits)
{
	u64 rip = v->st.rip + len;

	return bits == 64 ? rip : (u32)rip;
}

/* -- fast: one access, in the window -- */

static void complete_load(struct lodge_vcpu *v)
{
	u64 val;

	if (lodge_rip(v) != v->mmio.rip)
		return;
	memcpy(&val, v->run->mmio.data, sizeof(val));	/* of which opsize bytes count */
	lodge_insn_load(v->mmio.fast, v->regs, val);
	lodge_advance_rip(v, v->mmio.next_rip);
}

static void complete_store(struct lodge_vcpu *v)
{
	if (lodge_rip(v) == v->mmio.rip)
		lodge_advance_rip(v, v->mmio.next_rip);
}

/*
 * The instruction at RIP, decoded: mostly it is one that was here before, with the same bytes. NULL
 * where it has to be looked for outside the window, or is unknown.
 */
static const struct lodge_decoded *decoded(struct lodge_vcpu *v)
{
	struct lodge_walk_fault f;
	struct lodge_decoded *d;
	const u8 *code = NULL;
	u64 first, last, lin;
	u8 bytes[15];
	int bits;

	lodge_need(v, LG_RIP | LG_RFLAGS | LG_CR | LG_CS);
	bits = lodge_code_bits(v);
	lin = bits == 64 ? v->st.rip : (u32)(v->st.rip + v->st.seg[SEG_CS].base);
	if (!v->exit.fault.nbytes)
		code = lodge_code(v, lin, v->st.cr0, v->st.cr3, v->st.cr4, v->st.efer);
	if (unlikely(!code)) {
		if (insn_bytes(v, bytes, &f, true) != sizeof(bytes))
			return NULL;
		code = bytes;
	}
	first = READ_ONCE(*(const u64 *)code);
	last = READ_ONCE(*(const u64 *)(code + 7));
	d = &v->decoded[array_index_nospec((lin ^ lin >> 3) & (LODGE_DECODED - 1), LODGE_DECODED)];
	if (likely(!((d->bytes[0] ^ first) | (d->bytes[1] ^ last)) && d->bits == bits))
		return d;
	memcpy(bytes, &first, 8);	/* read once: the guest may be writing there */
	memcpy(bytes + 7, &last, 8);
	d->bits = 0;
	if (lodge_decode(bytes, sizeof(bytes), bits, &d->insn))
		return NULL;
	d->bytes[0] = first;
	d->bytes[1] = last;
	d->bits = bits;
	return d;
}

static int access_fast(struct lodge_vcpu *v, gpa_t gpa, int len, u64 *val, bool write)
{
	if (lodge_local_hit(v, gpa))
		return lodge_local_access(v, gpa, len, val, write);
	return write ? lodge_bus_write(v, BUS_MMIO, gpa, len, val, true) :
		       lodge_bus_read(v, BUS_MMIO, gpa, len, val, true);
}

/*
 * The hardware reports the first byte that faulted. At a page's first bytes that may be one in the middle of an
 * operand, which begins in the page before, in memory.
 */
static bool begins(struct lodge_vcpu *v, const struct lodge_decoded *d, gpa_t gpa)
{
	u64 ea = lodge_insn_address(&d->insn, v->regs, v->mmio.next_rip);

	return !((lodge_linear(v, d->insn.seg, ea, d->bits) ^ gpa) & ~PAGE_MASK);
}

/**
 * lodge_mmio_fast - try to finish a device access without leaving the window
 * @v: the vCPU
 * @fault_gpa: the address that the hardware reported; not memory
 *
 * Return: NEXT_ENTER, NEXT_USER, or NEXT_HANDLE when it takes the slow way: nothing has changed.
 */
enum lodge_next lodge_mmio_fast(struct lodge_vcpu *v, gpa_t fault_gpa)
{
	const struct lodge_decoded *d = decoded(v);
	const struct lodge_insn *insn = &d->insn;
	gpa_t gpa = fault_gpa;	/* the operand's own start, where it is not asked for */
	u64 val = 0;
	int ret;

	if (unlikely(!d || !(insn->flags & LODGE_INSN_PLAIN)) || offset_in_page(gpa) + insn->opsize > PAGE_SIZE)
		return NEXT_HANDLE;
	lodge_need(v, LG_RSP);
	v->mmio.next_rip = rip_after(v, insn->len, d->bits);
	if (offset_in_page(gpa) + 1 < insn->opsize && unlikely(!begins(v, d, gpa)))
		return NEXT_HANDLE;
	if (insn->flags & LODGE_INSN_WRITES)
		val = lodge_insn_store(insn, v->regs);
	ret = access_fast(v, gpa, insn->opsize, &val, insn->flags & LODGE_INSN_WRITES);
	if (ret == -EAGAIN)
		return NEXT_HANDLE;
	v->mmio.rip = v->st.rip;
	v->mmio.fast = insn;
	v->dirty |= LG_RSP;
	if (ret == -EOPNOTSUPP) {
		lodge_mmio_to_user(v, gpa, insn->opsize, insn->flags & LODGE_INSN_WRITES, val);
		v->complete_regs = insn->flags & LODGE_INSN_WRITES ? complete_store : complete_load;
		return NEXT_USER;
	}
	if (!(insn->flags & LODGE_INSN_WRITES))
		lodge_insn_load(insn, v->regs, val);
	lodge_advance_rip(v, v->mmio.next_rip);
	return NEXT_ENTER;
}

/* -- slow: whatever the decoder knows -- */

/* What is read and what is written: all of it is found before anything is accessed. */
static int operands(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	const struct lodge_insn *i = &m->insn;
	struct lodge_operand src, dst;
	int ret;
	u8 n;

	lodge_insn_operands(i, v->regs, m->next_rip, &src, &dst);
	ret = lodge_operand(v, &src, false, i->flags & LODGE_INSN_RMW, m->rd, &m->nrd);
	if (ret)
		return ret;
	if (i->op != OP_CMPS)
		return lodge_operand(v, &dst, true, true, m->wr, &m->nwr);
	n = m->nrd;
	ret = lodge_operand(v, &dst, false, false, m->rd, &m->nrd);
	for (; n < m->nrd; n++)
		m->rd[n].off += LODGE_CMPS_OTHER;
	return ret;
}

/* What is read from the operand becomes what is written. False: #DE. */
static bool compute(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;

	if (m->insn.flags & LODGE_INSN_SSE || m->insn.op >= OP_LOAD_MXCSR) {
		lodge_vector_insn(v);
		return true;
	}
	if (!lodge_insn_compute(&m->insn, v->regs, lodge_own_flags(v), m->next_rip, m->data))
		return false;
	if (m->insn.op >= OP_STORE_SREG)
		lodge_system_store(v);
	return true;
}

/* A near jump to where no code can be: #GP, before anything is written. */
static bool jumps_astray(struct lodge_vcpu *v)
{
	const struct lodge_mmio *m = &v->mmio;
	u64 target;

	if (m->insn.op == OP_CALL)
		target = m->next_rip + m->insn.imm;
	else if (m->insn.op == OP_JMP_MEM || m->insn.op == OP_CALL_MEM || m->insn.op == OP_RET)
		memcpy(&target, m->data, sizeof(target));
	else
		return false;
	return lodge_code_bits(v) == 64 && !lodge_canonical(v, target);
}

/* Go on from wherever the instruction is. NEXT_ENTER when it is done. */
static int proceed(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	u64 rip;
	int ret;

	if (!m->writing) {
		ret = lodge_access(v, false, proceed);
		if (ret)
			return ret;
		lodge_need(v, LG_RFLAGS | LG_RSP);
		ret = lodge_system_load(v);
		if (ret)
			return ret == 1 ? NEXT_ENTER : ret;
		if (jumps_astray(v)) {
			lodge_queue_exception_error(v, X86_TRAP_GP, 0);
			return NEXT_ENTER;
		}
		if (!compute(v)) {
			lodge_queue_exception(v, X86_TRAP_DE);
			return NEXT_ENTER;
		}
		m->writing = true;
	}
	ret = lodge_access(v, true, proceed);
	if (ret)
		return ret;
	lodge_touch(v, LG_RFLAGS | LG_RSP);
	rip = m->next_rip;
	if (!lodge_insn_commit(&m->insn, v->regs, &v->st.rflags, &rip, m->data)) {
		lodge_end_of_element(v);
		return NEXT_ENTER;
	}
	lodge_system_commit(v, rip);
	return NEXT_ENTER;
}

/**
 * lodge_handle_mmio - a second-level fault where there is no memory
 * @v: the vCPU
 *
 * The address that the hardware reported is not asked for: it is one of the operand's, which are found anew.
 *
 * Return: NEXT_ENTER, NEXT_USER (also with KVM_EXIT_INTERNAL_ERROR for an instruction that the
 * decoder does not know), or an errno.
 */
enum lodge_next lodge_handle_mmio(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	struct lodge_walk_fault f;
	u8 bytes[15];
	int n, ret;

	lodge_need(v, LG_ALL);
	v->stat.insn_emulation++;
	n = insn_bytes(v, bytes, &f, false);
	if (n < 0)
		return lodge_no_bytes(v, n);
	if (n == 0) {
		lodge_queue_walk_fault(v, &f);
		return NEXT_ENTER;
	}
	memset(m, 0, sizeof(*m));
	ret = lodge_decode(bytes, n, lodge_code_bits(v), &m->insn);
	if (ret == -LODGE_DECODE_TRUNCATED) {
		/* The hardware gives no bytes of a second page. */
		n = lodge_fetch(v, bytes, 15, &f, false);
		if (n < 0)
			return lodge_no_bytes(v, n);
		ret = lodge_decode(bytes, n, lodge_code_bits(v), &m->insn);
		/* Not there any more: running the instruction says what the guest gets for it. */
		if (ret == -LODGE_DECODE_TRUNCATED)
			return NEXT_ENTER;
	}
	if (ret == -LODGE_DECODE_INVALID) {
		lodge_queue_exception(v, X86_TRAP_UD);
		return NEXT_ENTER;
	}
	if (ret)
		return lodge_emulation_failed(v);
	m->next_rip = rip_after(v, m->insn.len, lodge_code_bits(v));
	if (lodge_code_bits(v) != 64)
		m->insn.stack_size = v->st.seg[SEG_SS].db ? 4 : 2;
	ret = operands(v);
	if (ret)
		return ret < 0 ? ret : NEXT_ENTER;
	return proceed(v);
}
