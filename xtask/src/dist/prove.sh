# What is done to the package in a machine of its own. Each step is one line of the report: "ok" or "FAIL", and what it is.
exec 2>&1
port=/dev/virtio-ports/report
unit=recorder.service
export DEBIAN_FRONTEND=noninteractive

say() { echo "$*" >$port; }

# ok WHAT COMMAND...: the command must succeed.
ok() {
    what=$1
    shift
    if output=$("$@" 2>&1); then
        say "ok   $what"
    else
        say "FAIL $what (exit code $?)"
        {
            echo "$output" | tail -n 30
            journalctl --unit $unit --lines 15 --no-pager --output short-monotonic
        } | sed 's/^/       /' >$port
    fi
}

# within SECONDS COMMAND...: the command must succeed within some time.
within() {
    left=$1
    shift
    while ! "$@" >/dev/null 2>&1; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        sleep 1
    done
}

property() { systemctl show --property="$1" --value $unit; }
is_active() { [ "$(systemctl is-active $unit)" = active ]; }
has_dump() { recorder list --json | grep -q "\"rule\":\"$1\""; }
# A dump of the rule $1 verifies and knows of the program $2.
dump_tells() {
    for file in $(recorder list --json | grep "\"rule\":\"$1\"" | sed 's/.*"path":"\([^"]*\)".*/\1/'); do
        recorder verify "$file" && recorder show --json "$file" | grep -q "\"$2\"" && return
    done
    return 1
}
# Says for how long nothing was recorded before a dump of the rule $1 was written.
gap() {
    recorder list --json | grep "\"rule\":\"$1\"" | sed -n 's/.*nothing was recorded for \([^"]*\) after it.*/\1/p'
}
# Runs a program under a name that nothing else has.
mark() {
    cp /bin/true "/tmp/$1"
    "/tmp/$1"
    sleep 2
}

say "kernel $(uname -r), systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')"

ok "the package installs" dpkg -i /prove/first.deb
ok "the service is active" within 150 is_active
ok "it is enabled" systemctl is-enabled $unit
runs_as() { [ "$(ps -o user= -p "$(property MainPID)")" = recorder ]; }
ok "it runs as a user of its own" runs_as
status_text() { property StatusText | grep -q '^recording; .*nothing lost'; }
ok "systemd shows what it does" within 90 status_text
say "     status: $(property StatusText)"
say "     since boot: $(systemctl show --property=ActiveEnterTimestampMonotonic --value $unit) us; memory $(property MemoryCurrent)"
say "     exposure: $(systemd-analyze security $unit 2>/dev/null | tail -n 1)"
gives_up_all() { ! journalctl --unit $unit --no-pager | grep -q 'need not\|does not need'; }
ok "each thread gives up what it has no use for" gives_up_all
locks_all() { [ "$(awk '/VmLck/ {print $2}' "/proc/$(property MainPID)/status")" -ge 65536 ]; }
ok "its memory is locked" locks_all
ok "the agent answers" recorder status
ok "the doctor finds nothing that fails" recorder doctor
recorder doctor | grep -v '^pass' | sed 's/^/     /' >$port
ok "the self-test passes" recorder selftest
ok "the manual is there" test -s /usr/share/man/man5/recorder.toml.5.gz

echo '# mine' >>/etc/recorder/recorder.toml
mkdir -p /etc/recorder/recorder.toml.d
printf '[host]\nenvironment = "proof"\n' >/etc/recorder/recorder.toml.d/proof.toml
mark before-upgrade
pid=$(property MainPID)
ok "the next package takes its place" dpkg -i /prove/next.deb
is_another() { is_active && [ "$(property MainPID)" != "$pid" ]; }
ok "another agent runs" within 150 is_another
ok "the ring of the first is kept" within 90 dump_tells recorder-restart before-upgrade
say "     the gap of the upgrade: $(gap recorder-restart)"
mine() { grep -q '^# mine$' /etc/recorder/recorder.toml; }
ok "what the administrator wrote is kept" mine
in_place() { recorder config show | grep -q proof; }
ok "and holds" in_place

mark before-death
pid=$(property MainPID)
[ "$pid" -gt 1 ] && kill -KILL "$pid"
ok "an agent that is killed is started again" within 150 is_another
ok "its ring is kept" within 90 dump_tells recorder-died before-death
say "     the gap of its death: $(gap recorder-died)"

mkdir -p /run/systemd/system/$unit.d
printf '[Service]\nWatchdogSec=3s\n' >/run/systemd/system/$unit.d/watchdog.conf
systemctl daemon-reload
systemctl restart $unit
within 150 is_active
sleep 12
mark before-hang
pid=$(property MainPID)
still() { is_active && [ "$(property NRestarts)" = 0 ]; }
ok "the watchdog is content while it records" still
[ "$pid" -gt 1 ] && kill -STOP "$pid"
ok "one that hangs is started again" within 150 is_another
by_watchdog() { journalctl --unit $unit | grep -q "Failed with result 'watchdog'"; }
ok "by the watchdog" by_watchdog
ok "its ring is kept, too" within 90 dump_tells recorder-died before-hang
rm -r /run/systemd/system/$unit.d
systemctl daemon-reload
systemctl restart $unit
within 150 is_active

# Swap that grows, with no failure at all: what is kept in memory of a cgroup that may have little of it.
cat >/etc/recorder/recorder.toml.d/swap.toml <<'END'
[[rule]]
name = "swap-growth"
event = "sample.system"
when = '''
memory.swap_total_bytes > 0 &&
(previous.memory.swap_free_bytes - memory.swap_free_bytes) * 100.0 / memory.swap_total_bytes > 4.0'''
END
dd if=/dev/zero of=/tmp/swap bs=1M count=64
chmod 600 /tmp/swap
/sbin/mkswap /tmp/swap
ok "there is swap" /sbin/swapon /tmp/swap
ok "a rule is taken in" recorder reload
sleep 5
quiet() { ! has_dump swap-growth; }
ok "swap that does not grow is nothing" quiet
fill() { systemd-run --scope -p MemoryMax=16M dd if=/dev/zero of=/dev/shm/fill bs=1M count=48; }
ok "a cgroup is swapped out" fill
ok "swap that grows is an incident" within 60 has_dump swap-growth
say "     $(recorder list | grep swap-growth | tail -n 1)"
swapped() {
    file=$(recorder list --json | grep '"rule":"swap-growth"' | sed 's/.*"path":"\([^"]*\)".*/\1/')
    recorder verify "$file" && recorder show --json "$file" | grep -q swap_free_bytes
}
ok "its dump verifies and has the samples" swapped
rm /dev/shm/fill
/sbin/swapoff /tmp/swap

ok "the package is removed" dpkg -r recorder
gone() { ! is_active && ! pgrep -x recorder; }
ok "the service is gone" gone
ok "the dumps and the configuration stay" test -d /var/lib/recorder/dumps -a -f /etc/recorder/recorder.toml
ok "it is purged" dpkg -P recorder
left() {
    found=$(find / -xdev \( -path /proc -o -path /prove -o -path /sys -o -path /var/log -o -path /var/lib/apt \
        -o -path /tmp \) -prune -o -name '*recorder*' -print)
    [ -z "$found" ] || { echo "$found"; return 1; }
}
ok "nothing is left" left
failed_units() { [ -z "$(systemctl --failed --no-legend $unit)" ]; }
ok "systemd knows it no more" failed_units
say proved
systemctl poweroff --force
