#!/bin/busybox sh
# The first and only process that a guest starts by itself: makes a host of it, runs what /recorder/plan says, powers off.
# What it says goes through a port of its own: a serial line would take seconds for each megabyte.

/bin/busybox mkdir -p /proc /sys /dev /run /tmp /etc /root /mnt /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/tmp

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777,size=75% tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs tracing /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
for controller in memory pids io cpu; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
ip link set lo up
hostname guest

while read -r module; do
    insmod "/modules/$module.ko"
done </modules/load
mount -t configfs config /sys/kernel/config

# The port appears a moment after its driver.
for _ in 0 1 2 3 4 5 6 7 8 9; do
    [ -e /dev/vport0p1 ] && break
    mdev -s
    sleep 0.1
done
exec 3>/dev/vport0p1
say() { echo "guest: $*" >&3; }

export RECORDER_VM=1 RECORDER_VM_FIELDS=/tmp/fields RECORDER_BIN=/recorder/release/recorder RECORDER_VENV=/none
export RECORDER_FIXTURES=/recorder/fixtures RECORDER_KILL_ROUNDS=12
cd /root || exit 1
say "kernel $(uname -r)"
say "doctor"
$RECORDER_BIN doctor --json >&3 2>&1
$RECORDER_BIN rules fields | while read -r type _; do
    $RECORDER_BIN rules fields "$type" | sed "s/ .*//; s/^/guest: known $type /" >&3
done
while read -r test filter; do
    read -r start _ </proc/uptime
    say "begin $test"
    # shellcheck disable=SC2086 # the filter is words
    timeout -s KILL "$(cat /recorder/patience)" /recorder/release/deps/$test --test-threads=1 $filter >&3 2>&3 </dev/null
    code=$?
    read -r end _ </proc/uptime
    # What the events of this file had, with it: its part of the report says all.
    [ -e "$RECORDER_VM_FIELDS" ] && sort -u "$RECORDER_VM_FIELDS" | sed 's/^/guest: field /' >&3
    say "end $test $code $start $end"
    # One that hung has left its agents.
    kill -KILL -1
    # Tests that fail keep their agent's files, each a ring large: they must not fail the next ones.
    find /tmp -mindepth 1 -maxdepth 1 -exec rm -rf {} +
done </recorder/plan
say "done"
sync
poweroff -f
