# shellcheck shell=bash disable=SC2154,SC2034
# SPDX-License-Identifier: GPL-2.0
#
# The Intel host: a Haswell with VT-x, EPT, unrestricted guest and VPID, in Bochs.
HOST_KVM=kvm-intel
HOST_MODEL=corei7_haswell_4770
# shellcheck source=bochs.sh
. "$LAB_DIR/hosts/bochs.sh"
