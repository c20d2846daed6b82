/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random numbers, arguments and code for the fuzzers. LODGE_FUZZ_SEED chooses the sequence;
 * LODGE_FUZZ_SECONDS (12) is the time that a program takes, shared by its subtests.
 */
#ifndef SELFTESTS_RANDOM_H
#define SELFTESTS_RANDOM_H

#include "vm.h"

/* Begins a subtest's sequence, and says which one it is. */
void random_start(u64 variant);

/* The same, without a word: for who makes each case of its number. */
void random_seed(u64 seed);
u64 rnd(void);
u64 below(u64 n);

/* Numbers that are often at the edge of something. */
u64 awkward(void);

/* Changes a few words or bytes. */
void spoil(void *p, size_t size);

/*
 * Code for any mode: instructions that exit, fault or change modes, in random order with random
 * operands. Random bytes do less.
 */
void random_code(u8 *code, size_t size);
void random_bytes(u8 *p, size_t size);

/*
 * Leaves out of a random state what QEMU's emulation of SVM does not survive: the emulator aborts, or the
 * emulated host is lost (docs/testing.md).
 */
void spare_qemu(struct kvm_sregs *s);
void spare_qemu_state(unsigned long set, void *buf);	/* what is about to be set by that ioctl */

/* Microseconds for each of so many subtests; raises the subtest's time limit to fit. */
u64 fuzz_time(int subtests);

/* KVM_RUN with a signal (SIGALRM, see install_kick()) after half a millisecond. */
int run_shortly(struct vcpu *v);

/* Ends the subtest if a fresh VM does not work. */
void check_fresh_vm(void);

#endif
