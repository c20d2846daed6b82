// SPDX-License-Identifier: GPL-2.0
/*
 * Moves between a device's memory and the registers of the FPU: x87 control words, MMX, SSE and AVX.
 *
 * Outside the window the registers lie in the vCPU's XSAVE area, in standard format (cpu/fpu.c). A component whose bit
 * in XSTATE_BV is clear is in its initial state, whatever the area holds there; it is made so, and its bit set, before
 * a register of it is changed. SDM volume 1, chapter 13 and section 9.5 (MMX).
 *
 * vcpu->mutex held, outside the window. No locks.
 */
#include <linux/mm.h>
#include <asm/fpu/types.h>

#include "host/host.h"
#include "io/io.h"

enum { X87, SSE, AVX, ZMM_HIGH = 6 };	/* components */

/* A vector register's part in a component of 16 times size bytes. NULL: it is zero, and need not be changed. */
static u8 *part(struct lodge_vcpu *v, int component, int size, bool change)
{
	struct xregs_state *area = v->fpu.area;
	u8 *regs = component == SSE ? (u8 *)area->i387.xmm_space :
				      (u8 *)area + lodge_host_cpuid(0xd, component).ebx;

	if (!(v->fpu.xcr0 & BIT(component)) && component != SSE)
		return NULL;
	if (!(area->header.xfeatures & BIT(component))) {
		if (!change)
			return NULL;
		memset(regs, 0, 16 * size);
		area->header.xfeatures |= BIT(component);
	}
	return regs + size * (v->mmio.insn.reg & 15);
}

static void clear(u8 *reg, int size)
{
	if (reg)
		memset(reg, 0, size);
}

static void load(struct lodge_vcpu *v)
{
	const struct lodge_insn *i = &v->mmio.insn;
	u8 *low = part(v, SSE, 16, true), *high;

	if (i->op == OP_SSE_MERGE) {
		memcpy(low + (i->high ? 8 : 0), v->mmio.data, 8);
		return;
	}
	memset(low, 0, 16);
	memcpy(low, v->mmio.data, min_t(u8, i->opsize, 16));
	if (!(i->flags & LODGE_INSN_VEX))
		return;
	high = part(v, AVX, 16, i->opsize == 32);
	if (i->opsize == 32 && high)
		memcpy(high, v->mmio.data + 16, 16);
	else
		clear(high, 16);
	clear(part(v, ZMM_HIGH, 32, false), 32);
}

static void store(struct lodge_vcpu *v)
{
	const struct lodge_insn *i = &v->mmio.insn;
	const u8 *low = part(v, SSE, 16, false), *high = i->opsize == 32 ? part(v, AVX, 16, false) : NULL;

	memset(v->mmio.data, 0, i->opsize);
	if (low)
		memcpy(v->mmio.data, low + (i->high ? 8 : 0), min_t(u8, i->opsize, 16));
	if (high)
		memcpy(v->mmio.data + 16, high, 16);
}

static struct fxregs_state *x87(struct lodge_vcpu *v)
{
	struct xregs_state *area = v->fpu.area;
	struct fxregs_state *fx = &area->i387;

	if (!(area->header.xfeatures & BIT(X87))) {
		fx->cwd = 0x37f;
		fx->swd = 0;
		fx->twd = 0;
		fx->fop = 0;
		fx->rip = 0;
		fx->rdp = 0;
		memset(fx->st_space, 0, sizeof(fx->st_space));
		area->header.xfeatures |= BIT(X87);
	}
	return fx;
}

/*
 * MMX register n is the physical one of that number; the area has them as seen from the top of the stack, which an
 * MMX instruction sets to 0. All of them are in use then.
 */
static void mmx_move(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	struct fxregs_state *fx = x87(v);
	u8 old[sizeof(fx->st_space)], top = fx->swd >> 11 & 7, *reg;
	int n;

	memcpy(old, fx->st_space, sizeof(old));
	for (n = 0; n < 8; n++)
		memcpy((u8 *)fx->st_space + 16 * ((n + top) & 7), old + 16 * n, 16);
	fx->swd &= ~(7 << 11);
	fx->twd = 0xff;
	reg = (u8 *)fx->st_space + 16 * (m->insn.reg & 7);
	if (m->insn.op == OP_MMX_STORE) {
		memcpy(m->data, reg, m->insn.opsize);
		return;
	}
	memset(reg, 0, 8);
	memcpy(reg, m->data, m->insn.opsize);
	memset(reg + 8, 0xff, 2);	/* sign and exponent */
}

/**
 * lodge_vector_insn - do what v->mmio's instruction says with the FPU's registers
 * @v: the vCPU; its mmio.data is what was read, or gets what has to be written
 */
void lodge_vector_insn(struct lodge_vcpu *v)
{
	struct lodge_mmio *m = &v->mmio;
	u32 val;

	switch (m->insn.op) {
	case OP_SSE_LOAD: case OP_SSE_MERGE:
		load(v);
		return;
	case OP_SSE_STORE:
		store(v);
		return;
	case OP_MMX_LOAD: case OP_MMX_STORE:
		mmx_move(v);
		return;
	case OP_LOAD_MXCSR:
		memcpy(&v->fpu.area->i387.mxcsr, m->data, sizeof(v->fpu.area->i387.mxcsr));
		return;
	case OP_STORE_FCW:
		val = x87(v)->cwd;
		break;
	case OP_STORE_FSW:
		val = x87(v)->swd;
		break;
	default:
		val = v->fpu.area->i387.mxcsr;
		break;
	}
	memcpy(m->data, &val, sizeof(val));
}
