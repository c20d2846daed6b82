/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Devices and the accesses to them: the bus (bus.c), port and memory accesses that userspace may have to
 * complete (pio.c, mmio.c, access.c), and the instructions that make them (decode.c, skip.c).
 */
#ifndef LODGE_IO_H
#define LODGE_IO_H

#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>

#include "core/core.h"
#include "io/decode.h"
#include "mem/mem.h"

#define LODGE_PIO_PAGE		1	/* of the vCPU's mmap: data of KVM_EXIT_IO */
#define LODGE_COALESCED_PAGE	2	/* the coalesced-MMIO ring: KVM_CAP_COALESCED_MMIO's value */

/* bus.c: the device bus */
enum { BUS_PIO, BUS_MMIO };
struct lodge_iodev {
	u64 base;
	u32 len;		/* bytes of address space; 0: it has none, and takes nothing */
	bool any_len;		/* it takes whatever begins at base, of any length, and no more */
	bool uncounted;		/* not against the limit of devices */
	bool fast;		/* read and write may be called with IRQs off, in the window */
	/* 0: done; -EOPNOTSUPP: not mine, look further. len is 1, 2, 4 or 8. v may be NULL. */
	int (*read)(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, void *val);
	int (*write)(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val);
	void *owner;
	void (*destroy)(struct lodge_iodev *d);	/* when the VM goes; may be NULL */
};
int lodge_bus_add(struct lodge_vm *vm, int bus, struct lodge_iodev *d);	/* slots_lock held; -ENOSPC, -ENOMEM */
void lodge_bus_del(struct lodge_vm *vm, int bus, struct lodge_iodev *d);/* slots_lock held; synchronizes: d may be freed after */
void lodge_bus_free(struct lodge_vm *vm);
int lodge_bus_access(struct lodge_vcpu *v, int bus, u64 addr, int len, void *val, bool write, bool window);

/* In the window or not. -EOPNOTSUPP: no device; -EAGAIN: window, and the device is not fast. */
static inline int lodge_bus_read(struct lodge_vcpu *v, int bus, u64 addr, int len, void *val, bool window)
{
	return rcu_access_pointer(v->vm->bus[bus]) ?
	       lodge_bus_access(v, bus, addr, len, val, false, window) : -EOPNOTSUPP;
}

static inline int lodge_bus_write(struct lodge_vcpu *v, int bus, u64 addr, int len, const void *val, bool window)
{
	return rcu_access_pointer(v->vm->bus[bus]) ?
	       lodge_bus_access(v, bus, addr, len, (void *)val, true, window) : -EOPNOTSUPP;
}

/* The vCPU's own device (v->local: the LAPIC's page) answers there, before memory and the bus. */
static inline bool lodge_local_hit(const struct lodge_vcpu *v, gpa_t gpa)
{
	return v->local && gpa - v->local->base < v->local->len;
}

static inline int lodge_local_access(struct lodge_vcpu *v, gpa_t gpa, int len, void *val, bool write)
{
	return write ? v->local->write(v->local, v, gpa, len, val) :
		       v->local->read(v->local, v, gpa, len, val);
}

struct page *lodge_coalesced_page(struct lodge_vm *vm);
lodge_vm_ioctl lodge_ioc_coalesced_add, lodge_ioc_coalesced_del;

/* pio.c */
enum lodge_next lodge_handle_io(struct lodge_vcpu *v, bool window);

/* mmio.c */
enum lodge_next lodge_handle_mmio(struct lodge_vcpu *v);
enum lodge_next lodge_mmio_fast(struct lodge_vcpu *v, gpa_t fault_gpa);	/* a plain load or store, in the window */

/* vector.c: v->mmio's instruction, where it is on registers of the FPU */
void lodge_vector_insn(struct lodge_vcpu *v);

/* system.c: v->mmio's instruction, where it is on segments, tables or RFLAGS */
void lodge_system_store(struct lodge_vcpu *v);
int lodge_system_load(struct lodge_vcpu *v);
void lodge_system_commit(struct lodge_vcpu *v, u64 rip);

/* access.c: an operand's pieces, carried out. 0: done, NEXT_USER (then @then goes on), or an errno. */
void lodge_mmio_to_user(struct lodge_vcpu *v, gpa_t gpa, u8 len, bool write, u64 val);
bool lodge_is_memory(struct lodge_vcpu *v, gpa_t gpa, bool write);
int lodge_access(struct lodge_vcpu *v, bool write, int (*then)(struct lodge_vcpu *v));

/* operand.c: what a memory operand is */
bool lodge_canonical(struct lodge_vcpu *v, u64 lin);
u32 lodge_operand_run(struct lodge_vcpu *v, const struct lodge_operand *o, u8 addr_size, bool dst, u64 left);
int lodge_operand(struct lodge_vcpu *v, const struct lodge_operand *o, bool dst, bool writable,
		  struct lodge_frag *frag, u8 *n);

/* The linear address of an offset: in 64-bit code FS and GS alone have a base, elsewhere addresses end at 4 GiB. */
static inline u64 lodge_linear(struct lodge_vcpu *v, u8 seg, u64 ea, int bits)
{
	if (bits != 64 || seg >= SEG_FS) {
		lodge_need(v, LG_SEG);
		ea += v->st.seg[array_index_nospec(seg, SEG_COUNT)].base;
	}
	return bits == 64 ? ea : (u32)ea;
}

/* So many of len bytes from an address on lie in its page: an operand is one piece within a page only. */
static inline u32 lodge_operand_room(u64 addr, u32 len)
{
	return min_t(u32, len, PAGE_SIZE - offset_in_page(addr));
}

/* skip.c: the instruction that exited */
enum lodge_next lodge_internal_error(struct lodge_vcpu *v, u32 suberror);	/* fills run */
enum lodge_next lodge_emulation_failed(struct lodge_vcpu *v);
enum lodge_next lodge_no_bytes(struct lodge_vcpu *v, int err);
int lodge_find_len(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next);
bool lodge_skip_insn(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next);
int lodge_find_cr(struct lodge_vcpu *v);		/* the same; sets v->exit.cr.insn */
int lodge_find_operand(struct lodge_vcpu *v, u8 opcode, u8 *gpr);	/* may sleep; sets v->exit.len */

/* Length of the instruction that just exited, which must be of this kind; 0: *next is what to return. */
static inline int lodge_insn_len(struct lodge_vcpu *v, enum lodge_skip kind, enum lodge_next *next)
{
	return likely(v->exit.len) ? v->exit.len : lodge_find_len(v, kind, next);
}
#endif
