// SPDX-License-Identifier: GPL-2.0
/*
 * IN, OUT, INS and OUTS.
 *
 * IN and OUT are finished in the window when an in-kernel device or an ioeventfd answers; otherwise
 * v->run is filled in right there and the instruction completes on the next KVM_RUN. RIP stays at the instruction
 * until then, as with KVM: userspace that sets other registers meanwhile has the last word.
 *
 * String forms go to userspace in batches: with REP and upwards, the elements that end in the page where the first
 * one begins; otherwise, and where an element crosses into the next page, one. What the hardware does not say about
 * them (address size, segment) is in their prefixes. The page where the memory operand begins is checked before the
 * port is read, so a page fault there costs no input (SDM 1, 19.4.2).
 *
 * vcpu->mutex held; outside the window vm->srcu too.
 */
#include "core/trace.h"
#include "io/io.h"

static void *pio_data(struct lodge_vcpu *v)
{
	return v->pio_data;
}

static u64 addr_mask(u8 addr_size)
{
	return addr_size >= 8 ? ~0ull : (1ull << addr_size * 8) - 1;
}

/* Write a register of which only the low addr_size bytes count. */
static void put_reg(struct lodge_vcpu *v, int r, u64 val, u8 addr_size)
{
	if (addr_size == 2)
		v->regs[r] = (v->regs[r] & ~0xffffull) | (val & 0xffff);
	else
		v->regs[r] = val & addr_mask(addr_size);
}

static void put_ax(struct lodge_vcpu *v, const void *data, u8 size)
{
	if (size == 4)
		v->regs[R_AX] = READ_ONCE(*(const u32 *)data);
	else if (size == 2)
		*(u16 *)&v->regs[R_AX] = READ_ONCE(*(const u16 *)data);
	else
		*(u8 *)&v->regs[R_AX] = READ_ONCE(*(const u8 *)data);
}

static void to_user(struct lodge_vcpu *v, u16 port, u32 count)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = v->pio.in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = v->pio.size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = LODGE_PIO_PAGE * PAGE_SIZE;
	v->pio.count = count;
	v->pio.rip = v->st.rip;
}

/* The next KVM_RUN after an IN or OUT that went to userspace. */
static void complete_port(struct lodge_vcpu *v)
{
	if (lodge_rip(v) != v->pio.rip)
		return;
	if (v->pio.in)
		put_ax(v, pio_data(v), v->pio.size);
	lodge_advance_rip(v, v->pio.next_rip);
}

static u64 next_rip(struct lodge_vcpu *v)
{
	const struct lodge_exit *x = &v->exit;

	return x->io.next_rip ? x->io.next_rip : lodge_rip(v) + x->len;
}

static enum lodge_next simple(struct lodge_vcpu *v, bool window)
{
	const u16 port = v->exit.io.port;
	const u8 size = v->exit.io.size;
	int ret;

	v->pio.val = v->regs[R_AX];
	if (v->exit.io.flags & IO_IN)
		ret = lodge_bus_read(v, BUS_PIO, port, size, &v->pio.val, window);
	else
		ret = lodge_bus_write(v, BUS_PIO, port, size, &v->pio.val, window);
	if (ret == -EAGAIN)
		return NEXT_HANDLE;
	trace_kvm_pio(!(v->exit.io.flags & IO_IN), port, size, 1, v->pio.val);
	if (likely(ret == -EOPNOTSUPP)) {
		v->pio.in = v->exit.io.flags & IO_IN;
		v->pio.size = size;
		v->pio.next_rip = next_rip(v);
		if (!v->pio.in)
			*(u32 *)pio_data(v) = v->pio.val;	/* of which size bytes count */
		to_user(v, port, 1);
		v->complete_regs = complete_port;
		return NEXT_USER;
	}
	if (v->exit.io.flags & IO_IN)
		put_ax(v, &v->pio.val, size);
	lodge_advance_rip(v, next_rip(v));
	return NEXT_ENTER;
}

/* Registers after count elements; RIP moves on when no repetition is left. */
static void string_done(struct lodge_vcpu *v, u32 count)
{
	const struct lodge_pio *p = &v->pio;
	int r = p->in ? R_DI : R_SI;
	s64 step = (s64)count * p->size;

	put_reg(v, r, v->regs[r] + (v->st.rflags & X86_EFLAGS_DF ? -step : step), p->addr_size);
	if (p->rep)
		put_reg(v, R_CX, v->regs[R_CX] - count, p->addr_size);
	if (!p->rep || !(v->regs[R_CX] & addr_mask(p->addr_size)))
		lodge_advance_rip(v, p->next_rip);
}

static int complete_string(struct lodge_vcpu *v)
{
	struct lodge_pio *p = &v->pio;
	struct lodge_walk_fault f;
	int ret;

	if (lodge_rip(v) != p->rip)
		return NEXT_ENTER;
	lodge_need(v, LG_ALL);
	if (p->in) {
		ret = lodge_write_gva(v, p->gva, pio_data(v), p->count * p->size,
				      ACC_WRITE | (v->st.cpl == 3 ? ACC_USER : 0), &f);
		if (ret < 0)
			return ret;
		if (ret) {
			lodge_queue_walk_fault(v, &f);
			return NEXT_ENTER;
		}
	}
	string_done(v, p->count);
	return NEXT_ENTER;
}

/* Elements of this batch: they must lie in one page and fit the data page. */
static u32 batch(struct lodge_vcpu *v, u64 lin, u64 left)
{
	u32 room = lodge_operand_room(lin, PAGE_SIZE) / v->pio.size;

	if (!v->pio.rep || v->st.rflags & X86_EFLAGS_DF || room == 0)
		return 1;
	return min_t(u64, left, room);
}

static int string_prefixes(struct lodge_vcpu *v, int *seg)
{
	const struct lodge_exit *x = &v->exit;
	struct lodge_walk_fault f;
	struct lodge_strio s;
	u8 bytes[15];
	int n;

	v->pio.addr_size = x->io.addr_size;
	*seg = x->io.flags & IO_IN ? SEG_ES : x->io.seg;
	if (x->io.addr_size && *seg != 0xff)
		return 0;
	n = lodge_fetch(v, bytes, sizeof(bytes), &f, false);
	if (n < 0)
		return n;
	if (n == 0) {
		lodge_queue_walk_fault(v, &f);
		return 1;
	}
	if (lodge_decode_strio(bytes, n, lodge_code_bits(v), &s))
		return 1;	/* the guest changed its code: run what is there now */
	v->pio.addr_size = s.addr_size;
	if (!(x->io.flags & IO_IN))
		*seg = s.seg;
	return 0;
}

/* In-kernel devices take string accesses one by one. False: no device, it is userspace's. */
static bool string_device(struct lodge_vcpu *v, u16 port, u32 count, u8 *data)
{
	const struct lodge_pio *p = &v->pio;
	u32 i;

	for (i = 0; i < count; i++, data += p->size) {
		int ret = p->in ? lodge_bus_read(v, BUS_PIO, port, p->size, data, false) :
				  lodge_bus_write(v, BUS_PIO, port, p->size, data, false);

		if (ret && i == 0)
			return false;
	}
	return true;
}

static noinline int string(struct lodge_vcpu *v)
{
	const struct lodge_exit *x = &v->exit;
	struct lodge_pio *p = &v->pio;
	struct lodge_walk_fault f;
	u32 user, count;
	int seg, ret;
	u64 left, ea;
	gpa_t gpa;

	lodge_need(v, LG_ALL);
	ret = string_prefixes(v, &seg);
	if (ret)
		return ret < 0 ? ret : NEXT_ENTER;
	p->in = x->io.flags & IO_IN;
	p->size = x->io.size;
	p->rep = x->io.flags & IO_REP;
	p->next_rip = next_rip(v);
	left = p->rep ? v->regs[R_CX] & addr_mask(p->addr_size) : 1;
	if (!left) {
		lodge_advance_rip(v, p->next_rip);
		return NEXT_ENTER;
	}
	ea = v->regs[p->in ? R_DI : R_SI] & addr_mask(p->addr_size);
	if (lodge_linear(v, seg, ea, p->size, p->in, &p->gva))
		return NEXT_ENTER;
	count = batch(v, p->gva, left);
	user = v->st.cpl == 3 ? ACC_USER : 0;
	if (p->in)
		ret = lodge_gva_to_gpa(v, p->gva, ACC_WRITE | user, &gpa, &f, false);
	else
		ret = lodge_read_gva(v, p->gva, pio_data(v), count * p->size, user, &f);
	if (ret < 0)
		return ret;
	if (ret) {
		lodge_queue_walk_fault(v, &f);
		return NEXT_ENTER;
	}
	trace_kvm_pio(!p->in, x->io.port, p->size, count, 0);
	if (string_device(v, x->io.port, count, pio_data(v))) {
		p->rip = v->st.rip;
		p->count = count;
		return complete_string(v);
	}
	to_user(v, x->io.port, count);
	v->complete = complete_string;
	return NEXT_USER;
}

/**
 * lodge_handle_io - EXIT_IO
 * @v: the vCPU
 * @window: called with IRQs off: string forms and slow devices have to wait
 */
enum lodge_next lodge_handle_io(struct lodge_vcpu *v, bool window)
{
	if (likely(!(v->exit.io.flags & IO_STRING)))
		return simple(v, window);
	return window ? NEXT_HANDLE : string(v);
}
