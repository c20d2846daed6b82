// SPDX-License-Identifier: GPL-2.0
/*
 * Accesses to the pieces of operands that operand.c has found: each is memory, a device in the kernel, or an exit
 * to userspace.
 *
 * The pieces and their bytes lie in v->mmio, with how far it has come, so that what goes to userspace in the middle
 * goes on at the next KVM_RUN: lodge_access() is called again, from where it was called before. All instructions
 * that are carried out here come this way, those on ports too.
 *
 * vcpu->mutex held, outside the window; SRCU is not, for memory may have to be waited for. No other lock.
 */
#include "core/trace.h"
#include "io/io.h"

/**
 * lodge_mmio_to_user - fill in KVM_EXIT_MMIO
 * @v: the vCPU; also in the window
 * @gpa: where
 * @len: 1 to 8 bytes
 * @write: direction
 * @val: what is written, with zeros behind it
 */
void lodge_mmio_to_user(struct lodge_vcpu *v, gpa_t gpa, u8 len, bool write, u64 val)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = gpa;
	run->mmio.len = len;
	run->mmio.is_write = write;
	if (write)
		memcpy(run->mmio.data, &val, sizeof(val));
	v->stat.mmio_exits++;
}

/**
 * lodge_is_memory - whether an access finds memory
 * @v: the vCPU
 * @gpa: where
 * @write: also writable, for the guest
 */
bool lodge_is_memory(struct lodge_vcpu *v, gpa_t gpa, bool write)
{
	return !lodge_local_hit(v, gpa) && lodge_gpa_is_memory(v, gpa, write);
}

/* The next KVM_RUN after a piece that userspace had. */
static int complete_piece(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	const struct lodge_frag *f = m->writing ? &m->wr[m->cur] : &m->rd[m->cur];

	if (lodge_rip(v) != m->rip)
		return NEXT_ENTER;
	lodge_need(v, LG_ALL);
	if (!m->writing)
		memcpy(m->data + f->off, v->run->mmio.data, f->len);
	m->cur++;
	return m->then(v);
}

/* One piece. 0: done, NEXT_USER, or an errno. */
static int access_piece(struct lodge_vcpu *v, const struct lodge_frag *f, bool write)
{
	u8 *p = v->mmio.data + f->off;
	u64 val = 0;
	int ret;

	if (lodge_is_memory(v, f->gpa, write))
		return write ? lodge_write_gpa(v, f->gpa, p, f->len) :
			       lodge_read_gpa(v, f->gpa, p, f->len);
	if (lodge_local_hit(v, f->gpa))
		return lodge_local_access(v, f->gpa, f->len, p, write);
	ret = write ? lodge_bus_write(v, BUS_MMIO, f->gpa, f->len, p, false) :
		      lodge_bus_read(v, BUS_MMIO, f->gpa, f->len, p, false);
	memcpy(&val, p, f->len);
	trace_kvm_mmio(write, f->len, f->gpa, val);
	if (ret != -EOPNOTSUPP)
		return ret;
	lodge_mmio_to_user(v, f->gpa, f->len, write, val);
	v->mmio.rip = v->st.rip;
	v->complete = complete_piece;
	return NEXT_USER;
}

/**
 * lodge_access - read or write all pieces of v->mmio, from or to its data
 * @v: the vCPU
 * @write: the pieces to be written; else those to be read
 * @then: what goes on at the next KVM_RUN, and calls this again, where NEXT_USER is returned
 *
 * Return: 0, NEXT_USER or an errno.
 */
int lodge_access(struct lodge_vcpu *v, bool write, int (*then)(struct lodge_vcpu *v))
{
	struct lodge_mmio *m = &v->mmio;
	u8 n = write ? m->nwr : m->nrd;
	int ret;

	m->writing = write;
	m->then = then;
	for (; m->cur < n; m->cur++) {
		ret = access_piece(v, write ? &m->wr[m->cur] : &m->rd[m->cur], write);
		if (ret)
			return ret;
	}
	m->cur = 0;
	return 0;
}
