// SPDX-License-Identifier: GPL-2.0
/*
 * A VM's state as a stream of records, and the ioctls for it: LODGE_GET_STATE, LODGE_SET_STATE, LODGE_FREEZE_STATE.
 *
 * Each class of state is a row of one table: how large its record is, and how it is read and set. They are set by the
 * functions of KVM's own ioctls, or by ones of the same room, so that what these refuse is refused here too. The
 * order of the rows is that of the stream, and one in which they can be set: CPUID before what depends on it, the
 * TSC before deadlines, LAPICs before what could send to them, and last the IOAPIC, for it alone cannot be put
 * back without memory.
 *
 * A stream is set whole or not at all. It is copied once; its frame is checked before anything is touched; then the state
 * is frozen as it stands (frozen.c), and brought back where a value is refused.
 *
 * vm->slots_lock, and the vCPUs stopped. One reading of the host's TSC stands for all of a stream, so that clocks which are
 * equal stay so.
 */
#include <linux/lodge.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "cpu/cpu.h"
#include "host/compat.h"
#include "irqchip/irqchip.h"
#include "pv/pv.h"
#include "record.h"
#include "run.h"

#define CPUID_ENTRY	(LODGE_CPUID_WORDS * sizeof(u32))
#define STREAM_MAX	SZ_16M
#define SMALL		3900

struct record_class {
	u16 class;
	u16 size;	/* of its record; with a unit: at least, and more by so many units */
	u16 unit;
	lodge_vcpu_ioctl *ioc_get, *ioc_set;
	/* Otherwise: bytes, 0 where there is no such thing; and 0 or an errno. */
	int (*get)(struct lodge_vm *vm, struct lodge_vcpu *v, void *buf, u64 now);
	int (*set)(struct lodge_vm *vm, struct lodge_vcpu *v, void *buf, u32 len, u64 now);
};

#define GET(name) static int get_##name(struct lodge_vm *vm, struct lodge_vcpu *v, void *buf, u64 now)
#define SET(name) static int set_##name(struct lodge_vm *vm, struct lodge_vcpu *v, void *buf, u32 len, u64 now)

/* -- a vCPU's -- */

GET(cpuid)
{
	u32 i;

	for (i = 0; i < v->cpuid_nent; i++)
		memcpy(buf + i * CPUID_ENTRY, &v->cpuid_ent[i], CPUID_ENTRY);
	return i * CPUID_ENTRY;
}

GET(tsc)
{
	*(struct lodge_state_tsc *)buf = (struct lodge_state_tsc) { .tsc = now + v->tsc_offset, .khz = v->tsc_khz };
	return sizeof(struct lodge_state_tsc);
}

SET(tsc)
{
	const struct lodge_state_tsc *t = buf;

	if (t->reserved || !t->khz || lodge_ioc_set_tsc_khz(v, NULL, t->khz))
		return -EINVAL;
	lodge_tsc_give(v, t->tsc - now);
	return 0;
}

GET(xcr0)
{
	*(u64 *)buf = v->fpu.xcr0;
	return lodge_fpu_host.xcr0 ? sizeof(u64) : 0;
}

SET(xcr0)
{
	if (!lodge_fpu_host.xcr0)
		return -EINVAL;
	return v->fpu.xcr0 != *(u64 *)buf && lodge_set_xcr0(v, *(u64 *)buf) ? -EINVAL : 0;
}

/* The registers of the page, which has one every 16 bytes. The ids of x2APIC are the vCPU's own. */
GET(lapic)
{
	struct lodge_state_lapic *l = buf;

	if (!v->lapic)
		return 0;
	lodge_lapic_get_regs(v, l->regs, 1);
	l->tsc_deadline = lodge_lapic_tsc_deadline(v, true);
	l->ext_vector = v->ext_vector;
	l->reserved = 0;
	return sizeof(*l);
}

SET(lapic)
{
	const struct lodge_state_lapic *l = buf;

	if (!v->lapic || l->reserved || l->ext_vector < -1 || l->ext_vector > 255)
		return -EINVAL;
	lodge_lapic_set_regs(v, l->regs, 1);
	lodge_lapic_set_tsc_deadline(v, l->tsc_deadline);
	v->ext_vector = l->ext_vector;
	return 0;
}

SET(cpuid)
{
	return lodge_cpuid_give(v, buf, len / CPUID_ENTRY);
}

GET(xsave)
{
	return lodge_get_compact(v, buf);
}

SET(xsave)
{
	return lodge_set_compact(v, buf, len);
}

GET(msrs)
{
	return lodge_get_kept_msrs(v, buf) * sizeof(struct kvm_msr_entry);
}

SET(msrs)
{
	return lodge_set_kept_msrs(v, buf, len / sizeof(struct kvm_msr_entry));
}

/* -- the VM's -- */

static int pics(struct lodge_vm *vm, struct kvm_pic_state *s, bool set)
{
	if (!vm->pic)
		return -ENXIO;
	lodge_pic_state(vm, 0, 2, s, set);
	return 0;
}

GET(clock)
{
	*(struct lodge_state_clock *)buf = (struct lodge_state_clock) {
		.ns = lodge_pv_clock_at(vm, &now), .wall_clock_msr = READ_ONCE(vm->wall_msr),
	};
	return sizeof(struct lodge_state_clock);
}

SET(clock)
{
	const struct lodge_state_clock *c = buf;

	lodge_pv_clock_set(vm, now, c->ns);
	WRITE_ONCE(vm->wall_msr, c->wall_clock_msr);
	return 0;
}

GET(routes)
{
	const struct lodge_state_route *r;
	u32 len = lodge_get_routes(vm, &r) * sizeof(*r);

	memcpy(buf, r, len);
	return len;
}

SET(routes)
{
	return lodge_set_routes(vm, buf, len / sizeof(struct lodge_state_route));
}

GET(pics)
{
	return pics(vm, buf, false) ? 0 : 2 * sizeof(struct kvm_pic_state);
}

SET(pics)
{
	return pics(vm, buf, true);
}

GET(pit)
{
	return lodge_ioc_get_pit2(vm, buf, 0) ? 0 : sizeof(struct kvm_pit_state2);
}

SET(pit)
{
	return lodge_ioc_set_pit2(vm, buf, 0);
}

GET(ioapic)
{
	return vm->ioapic ? lodge_ioapic_state(vm, buf, false) ?: sizeof(struct kvm_ioapic_state) : 0;
}

SET(ioapic)
{
	return vm->ioapic ? lodge_ioapic_state(vm, buf, true) : -ENXIO;
}

#define OF(name) .get = get_##name, .set = set_##name
#define IOC(name) .ioc_get = lodge_get_##name, .ioc_set = lodge_set_##name

static const struct record_class classes[] = {
	{ LODGE_STATE_CPUID, 0, CPUID_ENTRY, OF(cpuid) },
	{ LODGE_STATE_TSC, sizeof(struct lodge_state_tsc), OF(tsc) },
	{ LODGE_STATE_SREGS, sizeof(struct kvm_sregs2), IOC(sregs2) },
	{ LODGE_STATE_REGS, sizeof(struct kvm_regs), IOC(regs) },
	{ LODGE_STATE_XCR0, sizeof(u64), OF(xcr0) },
	{ LODGE_STATE_XSAVE, 168, 8, OF(xsave) },
	{ LODGE_STATE_MSRS, 0, sizeof(struct kvm_msr_entry), OF(msrs) },
	{ LODGE_STATE_DEBUGREGS, sizeof(struct kvm_debugregs), IOC(debugregs) },
	{ LODGE_STATE_MP_STATE, sizeof(struct kvm_mp_state), IOC(mp_state) },
	{ LODGE_STATE_LAPIC, sizeof(struct lodge_state_lapic), OF(lapic) },
	{ LODGE_STATE_EVENTS, sizeof(struct kvm_vcpu_events), IOC(events) },
	{ LODGE_STATE_ROUTING, 0, sizeof(struct lodge_state_route), OF(routes) },
	{ LODGE_STATE_PICS, 2 * sizeof(struct kvm_pic_state), OF(pics) },
	{ LODGE_STATE_PIT, sizeof(struct kvm_pit_state2), OF(pit) },
	{ LODGE_STATE_CLOCK, sizeof(struct lodge_state_clock), OF(clock) },
	{ LODGE_STATE_IOAPIC, sizeof(struct kvm_ioapic_state), OF(ioapic) },
};

/* What a stream that was written once consists of does not change. */
static inline void frozen_sizes(void)
{
	BUILD_BUG_ON(sizeof(struct lodge_state_arg) != 24 || sizeof(struct lodge_state_head) != 24);
	BUILD_BUG_ON(sizeof(struct lodge_state_record) != 16 || sizeof(struct lodge_state_tsc) != 16);
	BUILD_BUG_ON(sizeof(struct lodge_state_lapic) != 272 || sizeof(struct lodge_state_route) != 20);
	BUILD_BUG_ON(sizeof(struct lodge_state_clock) != 16 || sizeof(struct kvm_sregs2) != 320);
	BUILD_BUG_ON(sizeof(struct kvm_regs) != 144 || sizeof(struct kvm_vcpu_events) != 64);
	BUILD_BUG_ON(CPUID_ENTRY != 28 || sizeof(struct kvm_pit_state2) != 112 || sizeof(struct kvm_debugregs) != 128);
	BUILD_BUG_ON(sizeof(struct kvm_pic_state) != 16 || sizeof(struct kvm_ioapic_state) != 216);
	BUILD_BUG_ON(sizeof(struct kvm_msr_entry) != 16 || sizeof(struct kvm_mp_state) != 4);
	BUILD_BUG_ON(SMALL + LODGE_KEPT_MSRS * sizeof(struct kvm_msr_entry) > 8000 || LODGE_MAX_CPUID * CPUID_ENTRY > 8000);
}

static bool of_vm(const struct record_class *c)
{
	return c->class >= LODGE_STATE_ROUTING;
}

/* -- memory of a stream, or of a part -- */

#define KEPT_ROOM	SZ_64K		/* so much of it waits for the next call; more is for this one alone */

struct lodge_stream {
	size_t room;
	u64 words[];
};

static struct lodge_stream *take_stream(struct lodge_vm *vm, size_t room)
{
	struct lodge_stream *s = xchg(&vm->spare_stream, NULL);

	if (s && s->room >= room)
		return s;
	kvfree(s);
	s = kvmalloc(struct_size(s, words, DIV_ROUND_UP(room, 8)), GFP_KERNEL_ACCOUNT);
	if (s)
		s->room = room;
	return s;
}

static void leave_stream(struct lodge_vm *vm, struct lodge_stream *s)
{
	kvfree(s && s->room <= KEPT_ROOM ? xchg(&vm->spare_stream, s) : s);
}

/** lodge_state_spares_free - what was kept for the next call goes; nobody has the VM any more */
void lodge_state_spares_free(struct lodge_vm *vm)
{
	kvfree(vm->spare_stream);
	if (vm->spare_frozen)
		lodge_frozen_put(vm->spare_frozen);
}

/* -- reading -- */

struct writer {
	void *buf;		/* what userspace has not got yet */
	u32 used, records;
	u64 total, room;
	void __user *to;
};

static int flush(struct writer *w)
{
	int ret = 0;

	if (w->total + w->used <= w->room && lodge_words_to_user(w->to + w->total, w->buf, w->used))
		ret = -EFAULT;
	w->total += w->used;
	w->used = 0;
	return ret;
}

static int write_record(struct writer *w, struct lodge_vm *vm, struct lodge_vcpu *v, const struct record_class *c, u64 now)
{
	struct lodge_state_record *r;
	u32 len = c->size;

	if ((c->class == LODGE_STATE_CPUID || c->class == LODGE_STATE_ROUTING || w->used > SMALL) && flush(w))
		return -EFAULT;
	r = w->buf + w->used;
	if (c->ioc_get)
		c->ioc_get(v, r + 1, LODGE_ALL_EVENTS);
	else
		len = c->get(vm, v, r + 1, now);
	if (!len)
		return 0;
	*r = (struct lodge_state_record) {
		.class = c->class, .version = 1, .id = v ? v->id : LODGE_STATE_VM, .len = len,
	};
	while (len & 7)
		((u8 *)(r + 1))[len++] = 0;
	w->used += sizeof(*r) + len;
	w->records++;
	return 0;
}

static int write_all(struct writer *w, struct lodge_vm *vm, struct lodge_vcpu *v, u64 now)
{
	const struct record_class *c;
	int ret = 0;

	for (c = classes; !ret && c < classes + ARRAY_SIZE(classes); c++)
		if (of_vm(c) == !v)
			ret = write_record(w, vm, v, c, now);
	return ret;
}

static int write_stream(struct writer *w, struct lodge_vm *vm)
{
	struct lodge_state_head head = { .magic = LODGE_STATE_MAGIC, .version = LODGE_STATE_VERSION };
	u64 now = lodge_tsc_ordered();
	struct lodge_vcpu *v;
	struct kvm_mp_state mp;
	int i, ret = 0;

	lodge_for_each_vcpu(i, v, vm)
		if (v->complete)
			return -EBUSY;
	w->total = sizeof(head);
	lodge_for_each_vcpu(i, v, vm) {
		lodge_settle_access(v);
		lodge_get_mp_state(v, &mp, 0);		/* INIT and SIPI change all else */
		if (test_bit(REQ_PV_EOI, &v->requests))
			lodge_pv_eoi_settle(v);
		ret = write_all(w, vm, v, now);
		if (ret)
			return ret;
	}
	ret = write_all(w, vm, NULL, now) ?: flush(w);
	head.len = w->total;
	head.count = w->records;
	if (!ret && w->total <= w->room && copy_to_user(w->to, &head, sizeof(head)))
		ret = -EFAULT;
	return ret;
}

static int stopped(struct lodge_vm *vm)
{
	int ret;

	mutex_lock(&vm->slots_lock);
	ret = lodge_stop_vcpus(vm);
	if (ret)
		mutex_unlock(&vm->slots_lock);
	return ret;
}

static void go(struct lodge_vm *vm)
{
	lodge_go_vcpus(vm);
	mutex_unlock(&vm->slots_lock);
}

/**
 * lodge_ioc_get_state - LODGE_GET_STATE
 * @vm: the VM
 * @buf: struct lodge_state_arg
 * @arg: unused
 *
 * Return: 0; -E2BIG with len set to what it takes; -EBUSY: a vCPU is in an ioctl, or has an access that only KVM_RUN
 * completes; -EINVAL for flags, -EFAULT, -ENOMEM.
 */
int lodge_ioc_get_state(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_state_arg *s = buf;
	struct writer w = { .room = s->len, .to = (void __user *)s->data };
	const struct lodge_state_route *routes;
	struct lodge_stream *stream;
	size_t size = 8000;	/* SMALL and any record, or that of a whole CPUID */
	int ret;

	frozen_sizes();
	if (s->flags || s->reserved)
		return -EINVAL;
	ret = stopped(vm);
	if (ret)
		return ret;
	size = max(size, lodge_get_routes(vm, &routes) * sizeof(*routes)) + sizeof(struct lodge_state_record) + 8;
	stream = take_stream(vm, size);
	if (stream)
		w.buf = stream->words;
	ret = stream ? write_stream(&w, vm) : -ENOMEM;
	go(vm);
	leave_stream(vm, stream);
	if (ret)
		return ret;
	s->len = w.total;
	return w.total <= w.room ? 0 : -E2BIG;
}

/* -- setting -- */

/* A vCPU's classes are numbered from 1 on, the VM's from LODGE_STATE_ROUTING on. */
static const struct record_class *find_class(u16 class)
{
	u32 i = class - 1;

	BUILD_BUG_ON(ARRAY_SIZE(classes) != LODGE_STATE_EVENTS + LODGE_STATE_IOAPIC + 1 - LODGE_STATE_ROUTING);
	if (class >= LODGE_STATE_ROUTING)
		i = class - LODGE_STATE_ROUTING + LODGE_STATE_EVENTS;
	else if (class > LODGE_STATE_EVENTS)
		return NULL;
	return i < ARRAY_SIZE(classes) ? &classes[array_index_nospec(i, ARRAY_SIZE(classes))] : NULL;
}

static int set_record(struct lodge_vm *vm, struct lodge_vcpu *v, const struct record_class *c,
		      struct lodge_state_record *r, u64 now)
{
	if (c->set)
		return c->set(vm, v, r + 1, r->len, now);
	/* Whatever was on its way to userspace belongs to what was there before. */
	if (c->class == LODGE_STATE_REGS) {
		v->complete = NULL;
		v->complete_regs = NULL;
	}
	return c->ioc_set(v, r + 1, LODGE_ALL_EVENTS);
}

/* The frame of one record, of which so many bytes are there: what it takes with its padding, or an errno. */
static s64 record_size(const struct lodge_state_record *r, u64 left)
{
	u64 len;

	if (left < sizeof(*r) || r->flags & ~(u32)LODGE_STATE_OPTIONAL)
		return -EINVAL;
	len = sizeof(*r) + ALIGN((u64)r->len, 8);
	if (len > left || (r->len & 7 && ((u64 *)((void *)r + len))[-1] >> (r->len & 7) * 8))
		return -EINVAL;
	return len;
}

/* The class of a record that may stand here; NULL: it is to be skipped; ERR_PTR. */
static const struct record_class *class_of(const struct lodge_state_record *r, struct lodge_vcpu *v)
{
	const struct record_class *c = find_class(r->class);

	if (!c || r->version != 1)
		return r->flags & LODGE_STATE_OPTIONAL ? NULL : ERR_PTR(-EOPNOTSUPP);
	if (of_vm(c) != !v || r->len < c->size || (c->unit ? (r->len - c->size) % c->unit : r->len - c->size))
		return ERR_PTR(-EINVAL);
	return c;
}

/* The vCPU of that id, from the @i-th on; NULL: there is none. */
static struct lodge_vcpu *vcpu_of(struct lodge_vm *vm, u32 id, u32 *i)
{
	while (*i < vm->nvcpus && vm->vcpus[*i]->id != id)
		++*i;
	return *i < vm->nvcpus ? vm->vcpus[*i] : NULL;
}

/* All records in turn: whose they are, of what class, how long. */
static int check_records(struct lodge_vm *vm, const struct lodge_state_head *head)
{
	const struct record_class *c;
	const struct lodge_state_record *r;
	struct lodge_vcpu *v = NULL;
	u64 pos = sizeof(*head);
	u32 n, i = 0, last = 0, id = 0;
	s64 size;

	for (n = 0; pos < head->len; n++, pos += size) {
		r = (const void *)head + pos;
		size = record_size(r, head->len - pos);
		if (size < 0)
			return size;
		if (!n || r->id != id) {
			id = r->id;
			last = 0;
			v = vcpu_of(vm, id, &i);
			if (!v && id != LODGE_STATE_VM)
				return -EINVAL;
		}
		if (r->class <= last)
			return -EINVAL;
		last = r->class;
		c = class_of(r, v);
		if (IS_ERR(c))
			return PTR_ERR(c);
	}
	return n == head->count ? 0 : -EINVAL;
}

/* Those of them that are known, set. */
static int set_records(struct lodge_vm *vm, struct lodge_state_head *head, u64 now)
{
	struct lodge_state_record *r = (void *)(head + 1);
	const struct record_class *c;
	struct lodge_vcpu *v = NULL;
	u32 n, i = 0, id = LODGE_STATE_VM;
	int ret;

	for (n = head->count; n; n--, r = (void *)(r + 1) + ALIGN(r->len, 8)) {
		if (r->id != id) {
			id = r->id;
			v = vcpu_of(vm, id, &i);
		}
		c = r->version == 1 ? find_class(r->class) : NULL;
		ret = c ? set_record(vm, v, c, r, now) : 0;
		if (ret)
			return ret;
	}
	return 0;
}

static int set_stream(struct lodge_vm *vm, struct lodge_state_head *head, u64 len)
{
	struct lodge_frozen *before;
	int ret;

	if (head->magic != LODGE_STATE_MAGIC || head->len != len || head->reserved)
		return -EINVAL;
	if (head->version != LODGE_STATE_VERSION)
		return -EOPNOTSUPP;
	ret = check_records(vm, head);
	if (ret)
		return ret;
	before = lodge_freeze_spare(vm);
	if (IS_ERR(before))
		return PTR_ERR(before);
	ret = set_records(vm, head, lodge_tsc_ordered());
	if (ret)
		lodge_thaw(vm, before);
	lodge_frozen_spare(vm, before);
	return ret;
}

/* The clock may have been set since: what guests have in their time pages is written anew. */
static int set_frozen(struct lodge_vm *vm, int fd)
{
	struct lodge_frozen *f = lodge_frozen_of(fd);
	struct lodge_vcpu *v;
	int i, ret;

	if (IS_ERR(f))
		return PTR_ERR(f);
	ret = stopped(vm);
	if (!ret) {
		ret = lodge_thaw(vm, f);
		lodge_for_each_vcpu(i, v, vm)
			if (!ret)
				lodge_set_request(v, REQ_CLOCK);
		go(vm);
	}
	lodge_frozen_put(f);
	return ret;
}

/**
 * lodge_ioc_set_state - LODGE_SET_STATE
 * @vm: the VM
 * @buf: struct lodge_state_arg
 * @arg: unused
 *
 * Return: 0, or an errno: nothing has changed. -EBUSY: a vCPU is in an ioctl; -EOPNOTSUPP: a version, or a class that is not
 * optional, is unknown; -EINVAL: the stream is malformed, or not of such a VM, or a value is refused; -E2BIG,
 * -ENXIO as the ioctls of a class; -EBADF, -EINVAL for the fd; -EFAULT, -ENOMEM.
 */
int lodge_ioc_set_state(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct lodge_state_arg *s = buf;
	struct lodge_stream *stream;
	int ret;

	if (s->flags & ~LODGE_STATE_FROZEN || s->reserved)
		return -EINVAL;
	if (s->flags & LODGE_STATE_FROZEN)
		return s->len || s->data > INT_MAX ? -EINVAL : set_frozen(vm, s->data);
	if (s->len < sizeof(struct lodge_state_head) || s->len > STREAM_MAX || s->len & 7)
		return -EINVAL;
	stream = take_stream(vm, s->len);
	if (!stream)
		return -ENOMEM;
	ret = lodge_words_from_user(stream->words, (void __user *)s->data, s->len) ?: stopped(vm);
	if (!ret) {
		ret = set_stream(vm, (void *)stream->words, s->len);
		go(vm);
	}
	leave_stream(vm, stream);
	return ret;
}

/** lodge_ioc_freeze_state - LODGE_FREEZE_STATE: an fd; -EBUSY as LODGE_GET_STATE; -EINVAL for an argument, -ENOMEM, -EMFILE */
int lodge_ioc_freeze_state(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	struct lodge_frozen *f;
	int ret;

	if (arg)
		return -EINVAL;
	ret = stopped(vm);
	if (ret)
		return ret;
	f = lodge_freeze(vm);
	go(vm);
	return IS_ERR(f) ? PTR_ERR(f) : lodge_frozen_fd(f);
}
