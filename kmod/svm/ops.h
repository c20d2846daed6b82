/* SPDX-License-Identifier: GPL-2.0 */
/* The back end as main.c chooses it; nobody else names it. */
#ifndef LODGE_SVM_OPS_H
#define LODGE_SVM_OPS_H

#include "core/ops.h"

extern const struct lodge_ops lodge_svm_ops;
#endif
