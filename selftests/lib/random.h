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
 * In QEMU's emulation of SVM, an exit from a guest with EFER.LME but without CR4.PAE and paging
 * leaves the host with the guest's CR0, which no host survives; and it aborts when a 32-bit guest comes
 * from ring 3 to ring 0 and the TSS is a busy one, as it has to be.
 */
void spare_qemu(struct kvm_sregs *s);

/* Microseconds for each of so many subtests; raises the subtest's time limit to fit. */
u64 fuzz_time(int subtests);

/* KVM_RUN with a signal (SIGALRM, see install_kick()) after half a millisecond. */
int run_shortly(struct vcpu *v);

/* Ends the subtest if a fresh VM does not work. */
void check_fresh_vm(void);

#endif
