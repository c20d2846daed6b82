# SPDX-License-Identifier: GPL-2.0
# For the lab alone (selftests/lab/lsm): one program under two names, with the abstraction and without it.
include <tunables/global>

profile lodge_with /with/pass_fds {
  include <abstractions/lodge>
  /with/pass_fds mr,
  /sys/** r,
  @{PROC}/** r,
}
profile lodge_without /without/pass_fds {
  /without/pass_fds mr,
  /sys/** r,
  @{PROC}/** r,
}
