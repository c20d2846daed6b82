/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The instruction decoder's interface. No kernel headers: the unit tests, the fuzzer and the
 * runner build the same files.
 *
 * The steps of an instruction: lodge_decode(); lodge_insn_operands() for what is read and written
 * where; the reads; lodge_insn_compute(); the writes; lodge_insn_commit(). For plain loads and
 * stores (LODGE_INSN_PLAIN) lodge_insn_load() and lodge_insn_store() are all there is to do.
 */
#ifndef LODGE_IO_DECODE_H
#define LODGE_IO_DECODE_H

#include "core/insn.h"

int lodge_decode(const u8 *bytes, unsigned int n, int bits, struct lodge_insn *out);
int lodge_insn_skip_len(const u8 *bytes, unsigned int n, int bits, enum lodge_skip kind);
int lodge_decode_mov_cr(const u8 *bytes, unsigned int n, int bits, u8 opcode, u8 *gpr);
int lodge_decode_cr0(const u8 *bytes, unsigned int n, int bits, struct lodge_cr_insn *out);
int lodge_decode_strio(const u8 *bytes, unsigned int n, int bits, struct lodge_strio *out);

void lodge_insn_load(const struct lodge_insn *i, u64 *regs, u64 val);
u64 lodge_insn_store(const struct lodge_insn *i, const u64 *regs);
u64 lodge_insn_address(const struct lodge_insn *i, const u64 *regs, u64 next_rip);
void lodge_insn_operands(const struct lodge_insn *i, const u64 *regs, u64 next_rip,
			 struct lodge_operand *src, struct lodge_operand *dst);
bool lodge_insn_compute(const struct lodge_insn *i, const u64 *regs, u64 rflags, u64 next_rip, u8 *data);
bool lodge_insn_commit(const struct lodge_insn *i, u64 *regs, u64 *rflags, u64 *rip, const u8 *data);
#endif
