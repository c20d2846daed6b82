# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# A newer Intel host: a Skylake-X with PML, TSC scaling, AVX-512 and what APICv takes, in Bochs 3.0.
HOST_KVM=kvm-intel
HOST_MODEL=corei7_skylake_x
HOST_BOCHS=3.0
# shellcheck source=bochs.sh
. "$LAB_DIR/hosts/bochs.sh"
